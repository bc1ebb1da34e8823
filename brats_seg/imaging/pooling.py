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
    if factors == (1, 1, 1):
        return array
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
    for axis, factor in enumerate(factors, start=-3):
        if factor > 1:
            weights = _interpolation(array.shape[axis], factor).astype(array.dtype)
            # Products of matrices: most of what they add is zeros, in a tenth of the time of strided sums.
            if axis == -1:
                array = array @ weights.T
            elif axis == -2:
                array = weights @ array
            else:
                *outer, x, y, z = array.shape
                array = (weights @ array.reshape(*outer, x, y * z)).reshape(*outer, x * factor, y, z)
    return array


def _interpolation(size: int, factor: int) -> NDArray[np.float64]:
    """``(size * factor, size)`` shares of the blocks along an axis in each of its voxels."""
    places = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    shares: NDArray[np.float64] = np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0)
    return shares
