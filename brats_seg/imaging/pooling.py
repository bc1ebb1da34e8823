"""Between voxels and blocks of voxels: means over blocks, and linear interpolation back."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Factors = tuple[int, int, int]


def block_means(array: NDArray[np.floating[Any]], factors: Factors) -> NDArray[Any]:
    """``(..., X, Y, Z)`` means over blocks of voxels, zeros after the last voxel where a block is not full."""
    missing = [-n % f for n, f in zip(array.shape[-3:], factors, strict=True)]
    padded = np.pad(array, [(0, 0)] * (array.ndim - 3) + [(0, n) for n in missing]) if any(missing) else array
    total: NDArray[Any] | None = None
    for offsets in product(*map(range, factors)):  # in PyTorch's order: what N4 makes of a mean hangs on its last digit
        x, y, z = (slice(k, None, f) for k, f in zip(offsets, factors, strict=True))
        part = padded[..., x, y, z]
        total = part.copy() if total is None else np.add(total, part, out=total)
    assert total is not None
    means: NDArray[Any] = total / array.dtype.type(math.prod(factors))
    return means


def spread(array: NDArray[np.floating[Any]], factors: Factors) -> NDArray[Any]:
    """``(..., X, Y, Z)`` interpolated linearly between the middles of blocks, level beyond the outermost middles."""
    for axis, factor in zip((-1, -2, -3), reversed(factors), strict=True):
        if factor > 1:
            sides = list(array.shape)
            sides[axis] *= factor
            finer = np.empty(sides, array.dtype)
            along, into = np.moveaxis(array, axis, 0), np.moveaxis(finer, axis, 0)
            steps = np.diff(along, axis=0)
            for k in range(factor):
                shift = array.dtype.type((k + 0.5) / factor - 0.5)
                into[k::factor] = along
                if shift < 0:
                    into[k + factor :: factor] += shift * steps
                else:
                    into[k:-factor:factor] += shift * steps
            array = finer
    return array
