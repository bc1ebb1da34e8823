"""Bringing fields to another grid by integrating over its voxels."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.volume import Affine, Grid
from brats_seg.phantom.fields import Field

Floats = NDArray[np.float64]


def resample_box(values: Field, source: Grid, target: Grid, *, matrix: Affine | None = None) -> Field:
    """Mean of a linearly interpolated field over each voxel of another grid; 0 outside.

    Args:
        values: on ``source``.
        source: grid of ``values``.
        target: grid of the result.
        matrix: 4x4, from RAS+ mm of the target to RAS+ mm of the source; identity if None.

    Returns:
        ``target.shape`` float32. Where the grids share their voxels, these are copied unchanged.
    """
    step = np.linalg.inv(source.affine) @ (np.eye(4) if matrix is None else matrix) @ target.affine
    copied = _copy_aligned(values, step, target.shape)
    if copied is not None:
        return copied
    spacing = min(source.spacing_mm)
    counts = [max(int(np.ceil(side / spacing - 0.25)), 1) for side in target.spacing_mm]
    offsets = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    total = np.zeros(target.shape, np.float32)
    part = np.empty(target.shape, np.float32)
    for offset in itertools.product(*offsets):
        origin = step[:3, 3] + step[:3, :3] @ np.array(offset)
        ndimage.affine_transform(
            values, step[:3, :3], origin, output_shape=target.shape, output=part, order=1, mode="constant", cval=0.0
        )
        total += part
    total /= float(np.prod(counts))
    return total


def _copy_aligned(values: Field, step: Floats, shape: tuple[int, int, int]) -> Field | None:
    """The field itself where the grids differ by whole voxels and turned axes only; else None."""
    turned = np.round(step[:3, :3])
    start = np.round(step[:3, 3])
    if np.abs(step[:3, :3] - turned).max() > 1e-6 or np.abs(step[:3, 3] - start).max() > 1e-4:
        return None
    if not ((np.abs(turned).sum(0) == 1).all() and (np.abs(turned).sum(1) == 1).all()):
        return None
    axes = [int(np.argmax(np.abs(turned[:, axis]))) for axis in range(3)]
    here, there = [], []
    for axis, origin in enumerate(axes):
        sign, first, size = int(turned[origin, axis]), int(start[origin]), values.shape[origin]
        ends = sorted((-sign * first, sign * (size - 1 - first)))  # target indices of the source's two ends
        low, high = max(ends[0], 0), min(ends[1], shape[axis] - 1)
        if low > high:
            return np.zeros(shape, np.float32)
        here.append(slice(low, high + 1))
        a, b = sign * low + first, sign * high + first
        there.append(slice(a, b + 1) if sign > 0 else slice(a, b - 1 if b > 0 else None, -1))
    result = np.zeros(shape, np.float32)
    result[tuple(here)] = np.transpose(values, axes)[tuple(there)]
    return result
