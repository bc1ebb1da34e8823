"""Bringing fields to another grid by integrating over its voxels."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage

from brats_seg.core.grid import Affine, Floats, Grid, apply_affine, box_corners
from brats_seg.imaging.boxes import Box, bounding_box
from brats_seg.imaging.restore import as_copy, copy_voxels
from brats_seg.phantom.fields import Field, Span


def resample_box(values: Field, source: Grid, target: Grid, *, matrix: Affine | None = None) -> Field:
    """Mean of a linearly interpolated field over each voxel of another grid; 0 outside.

    Args:
        values: on ``source``.
        source: grid of ``values``.
        matrix: 4x4, from RAS+ mm of the target to RAS+ mm of the source; identity if None.

    Returns:
        ``target.shape`` float32. Where the grids share their voxels, these are copied unchanged.
    """
    step = _step(source, target, matrix)
    if (same := as_copy(step)) is not None:
        copied: Field = copy_voxels(values[None], target, *same)[0]
        return copied
    spacing = min(source.spacing_mm)
    counts = [max(int(np.ceil(side / spacing - 0.25)), 1) for side in target.spacing_mm]
    offsets = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    result = np.zeros(target.shape, np.float32)
    filled = bounding_box(values)
    box = None if filled is None else _reached(filled, step, target.shape)
    if box is None:
        return result
    total = result[box]  # elsewhere is nothing but the field's 0
    part = np.empty(total.shape, np.float32)
    first = step[:3, 3] + step[:3, :3] @ np.array([s.start for s in box])
    for offset in itertools.product(*offsets):
        origin = first + step[:3, :3] @ np.array(offset)
        ndimage.affine_transform(
            values, step[:3, :3], origin, output_shape=total.shape, output=part, order=1, mode="constant", cval=0.0
        )
        total += part
    total /= float(np.prod(counts))
    return result


def reached_box(source: Grid, target: Grid, *, matrix: Affine | None = None) -> Span | None:
    """The box of the target outside which :func:`resample_box` gives 0 whatever the field; None if that is all."""
    x, y, z = (slice(0, n) for n in source.shape)
    return _reached((x, y, z), _step(source, target, matrix), target.shape)


def cropped(grid: Grid, box: Span) -> Grid:
    """The grid of a box of voxels."""
    affine = np.array(grid.affine)
    affine[:3, 3] = grid.to_world([s.start for s in box])
    x, y, z = (s.stop - s.start for s in box)
    return Grid((x, y, z), affine)


def _step(source: Grid, target: Grid, matrix: Affine | None) -> Floats:
    """4x4, target voxels to source voxels."""
    step: Floats = np.linalg.inv(source.affine) @ (np.eye(4) if matrix is None else matrix) @ target.affine
    return step


def _reached(filled: Box, step: Floats, shape: tuple[int, int, int]) -> Span | None:
    """Target voxels that touch a box of source voxels, or what interpolation makes of it one voxel farther."""
    low, high = np.array([s.start for s in filled]) - 1, np.array([s.stop for s in filled])
    corners = apply_affine(np.linalg.inv(step), box_corners(low, high))
    first = np.maximum(np.floor(corners.min(0) - 0.5).astype(int), 0)
    stop = np.minimum(np.ceil(corners.max(0) + 0.5).astype(int) + 1, shape)
    if (first >= stop).any():
        return None
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
    return x, y, z
