"""Moving arrays between the network's grid and the patient's own, both ways.

Where both grids put voxels at the same places (a study stored in any orientation at 1 mm), this is
copying and nothing is interpolated; elsewhere it is one linear or nearest interpolation, of values the
mean over a voxel that is larger than those it is taken from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Array, Grid, box_corners
from brats_seg.imaging.boxes import bounding_box
from brats_seg.imaging.pooling import block_means

EXACT_TOLERANCE = 1e-3
"""Voxels whose centres agree to this fraction of a voxel are the same voxel."""


COARSER_BY = 0.05
"""A voxel longer than those of the source by this share is averaged over; below it one sample in its middle will do."""


def move(array: Array, source: Grid, target: Grid, *, order: int = 1) -> Array:
    """Values of ``array`` in the voxels of another grid; 0 outside its field of view.

    A value is the mean over the target's voxel where that is larger than the source's: sampled at its centre alone,
    a probability would depend on where the centres of thick slices happen to lie.

    Args:
        array: ``(X, Y, Z)`` or ``(C, X, Y, Z)`` on ``source``.
        order: 1 for images and probabilities; 0 for labels, which are taken at the centre.

    Returns:
        Array of the same type and number of channels on ``target``.
    """
    parts = _parts(source, target) if order > 0 else (1, 1, 1)
    channels = array if array.ndim == 4 else array[None]
    result = np.zeros((len(channels), *target.shape), channels.dtype)
    box = _reached(channels, source, target)
    if box is not None:
        fine = _divided(_cropped(target, box), parts)
        for place, values in zip(result, _samples(channels, source, fine, order), strict=True):
            place[box] = block_means(values, parts)
    return result if array.ndim == 4 else result[0]


def _samples(channels: Array, source: Grid, target: Grid, order: int) -> Iterator[Array]:
    """Values at the voxel centres of another grid, one channel after the other: fine grids are large."""
    matrix = np.linalg.inv(source.affine) @ target.affine  # target voxel -> source voxel
    exact = as_copy(matrix)
    if exact is not None:
        yield from (copy_voxels(channel[None], target, *exact)[0] for channel in channels)
        return
    inside = _field_of_view(source, matrix, target)
    for channel in channels:
        values: Array = ndimage.affine_transform(
            channel, matrix[:3, :3], matrix[:3, 3], output_shape=target.shape, order=order, mode="nearest"
        )
        values *= inside
        yield values


def _reached(channels: Array, source: Grid, target: Grid) -> tuple[slice, slice, slice] | None:
    """The part of the target that anything but zero can reach; None if there is no such part."""
    found = bounding_box(np.logical_or.reduce([channel != 0 for channel in channels]))
    if found is None:
        return None
    low, high = (np.array([getattr(side, end) for side in found]) for end in ("start", "stop"))
    corners = target.to_voxel(source.to_world(box_corners(low - 1.0, high)))  # a voxel more on every side
    first = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    last = np.minimum(np.ceil(corners.max(axis=0)), np.array(target.shape) - 1).astype(int)
    if (last < first).any():
        return None
    x, y, z = (slice(int(start), int(stop) + 1) for start, stop in zip(first, last, strict=True))
    return x, y, z


def _cropped(grid: Grid, box: tuple[slice, slice, slice]) -> Grid:
    shift = np.eye(4)
    shift[:3, 3] = [side.start for side in box]
    x, y, z = (side.stop - side.start for side in box)
    return Grid((x, y, z), grid.affine @ shift)


def _parts(source: Grid, target: Grid) -> tuple[int, int, int]:
    """Into how many parts each side of the target's voxels is cut, so that none is longer than a source voxel."""
    steps = np.linalg.inv(source.affine)[:3, :3] @ target.affine[:3, :3]
    x, y, z = (max(math.ceil(length - COARSER_BY), 1) for length in np.linalg.norm(steps, axis=0))
    return x, y, z


def _divided(grid: Grid, parts: tuple[int, int, int]) -> Grid:
    """The grid with every voxel cut into equal parts along its sides."""
    scale = np.diag([*(1 / n for n in parts), 1.0])
    scale[:3, 3] = [(1 / n - 1) / 2 for n in parts]
    x, y, z = (size * n for size, n in zip(grid.shape, parts, strict=True))
    return Grid((x, y, z), grid.affine @ scale)


def as_copy(matrix: NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """(target axis, sign, offset) of each source axis if the matrix only permutes, flips and shifts."""
    linear, shift = matrix[:3, :3], matrix[:3, 3]
    rounded = np.round(linear)
    if (
        np.abs(linear - rounded).max() > EXACT_TOLERANCE / 100
        or np.abs(shift - np.round(shift)).max() > EXACT_TOLERANCE
    ):
        return None
    if not (np.abs(rounded).sum(axis=0) == 1).all() or not (np.abs(rounded).sum(axis=1) == 1).all():
        return None
    axes = tuple(int(np.argmax(np.abs(row))) for row in rounded)
    signs = tuple(int(rounded[i, axis]) for i, axis in enumerate(axes))
    return axes, signs, tuple(int(v) for v in np.round(shift))


def copy_voxels(
    channels: Array, target: Grid, axes: tuple[int, ...], signs: tuple[int, ...], offsets: tuple[int, ...]
) -> Array:
    """Voxels of ``(C, X, Y, Z)`` at the places that :func:`as_copy` gives; 0 elsewhere."""
    result = np.zeros((len(channels), *target.shape), channels.dtype)
    read: list[slice] = []
    write: list[slice] = [slice(None)] * 3
    for size, axis, sign, offset in zip(channels.shape[1:], axes, signs, offsets, strict=True):
        # source index = sign * target index + offset
        ends = sorted(((0 - offset) * sign, (size - 1 - offset) * sign))
        first, last = max(ends[0], 0), min(ends[1], target.shape[axis] - 1)
        if last < first:
            return result  # the grids do not overlap
        write[axis] = slice(first, last + 1)
        a, b = sign * first + offset, sign * last + offset
        read.append(slice(a, b + 1) if sign > 0 else slice(a, b - 1 if b > 0 else None, -1))
    part = channels[(slice(None), *read)]
    order = np.argsort(axes)
    result[(slice(None), *write)] = np.transpose(part, (0, *(int(i) + 1 for i in order)))
    return result


def _field_of_view(source: Grid, matrix: NDArray[np.float64], target: Grid) -> NDArray[np.uint8]:
    """1 where a target voxel's centre lies within a source voxel, the outermost half voxel included.

    Stopping at the outermost centres would lose the first and last slice of a thick-slice study to rounding.
    """
    inside: NDArray[np.uint8] = ndimage.affine_transform(
        np.ones(source.shape, np.uint8),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target.shape,
        order=0,
        mode="grid-constant",
        cval=0,
    )
    return inside
