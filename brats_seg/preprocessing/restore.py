"""Moving arrays between the network's grid and the patient's own, both ways.

Where both grids put voxels at the same places (a study stored in any orientation at 1 mm), this is
copying and nothing is interpolated; elsewhere it is one linear or nearest interpolation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.volume import Array, Grid

EXACT_TOLERANCE = 1e-3
"""Voxels whose centres agree to this fraction of a voxel are the same voxel."""


def move(array: Array, source: Grid, target: Grid, *, order: int = 1) -> Array:
    """Values of ``array`` at the voxel centres of another grid; 0 outside its field of view.

    Args:
        array: ``(X, Y, Z)`` or ``(C, X, Y, Z)`` on ``source``.
        source: grid of the array.
        target: grid of the result.
        order: 1 for images and probabilities, 0 for labels.

    Returns:
        Array of the same type and number of channels on ``target``.
    """
    matrix = np.linalg.inv(source.affine) @ target.affine  # target voxel -> source voxel
    exact = _as_copy(matrix)
    channels = array if array.ndim == 4 else array[None]
    if exact is not None:
        result = _copy(channels, target, *exact)
    else:
        inside = _field_of_view(source, matrix, target)
        result = np.stack([_interpolate(channel, matrix, target, order) * inside for channel in channels])
    return result if array.ndim == 4 else result[0]


def _as_copy(matrix: NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
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


def _copy(
    channels: Array, target: Grid, axes: tuple[int, ...], signs: tuple[int, ...], offsets: tuple[int, ...]
) -> Array:
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


def _interpolate(channel: Array, matrix: NDArray[np.float64], target: Grid, order: int) -> Array:
    moved: Array = ndimage.affine_transform(
        channel, matrix[:3, :3], matrix[:3, 3], output_shape=target.shape, order=order, mode="nearest"
    )
    return moved


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
