"""Scans whose voxels already coincide with those of another are placed by their headers, never registered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.scans import Study
from brats_seg.imaging.brain import background_value, brain_mask
from brats_seg.imaging.consistency import Consistency, check_consistency
from brats_seg.imaging.register import resample

PARALLEL_VOXELS = 0.1
"""Voxel axes count as parallel and equally long where over a whole side they part by less than this."""

WHOLE_VOXELS = 0.05
"""An offset this close to whole voxels is rounding: values are copied, not interpolated."""

SMALL_VOXELS = 0.5
"""Grids of one shape that lie nearer to each other than this were made to coincide."""


def coincides(grid: Grid, other: Grid) -> bool:
    """Whether two grids lie in one space: voxels at the same places, with another field of view or order of storage at
    most, or the same field of view less than half a voxel off."""
    offset = _offset_voxels(grid, other)
    if offset is None:
        return False
    is_whole = bool(np.abs(offset - np.round(offset)).max() <= WHOLE_VOXELS)
    is_small = sorted(grid.shape) == sorted(other.shape) and bool(np.abs(offset).max() < SMALL_VOXELS)
    return is_whole or is_small


def widened(grid: Grid, other: Grid) -> Grid:
    """The grid with room for the voxels of another, where these are voxels of it; else as it is.

    A file of segments ends where its segments do, which says nothing of where the scan did.
    """
    if not coincides(other, grid):
        return grid
    places = np.round(grid.to_voxel(other.to_world(other.corners())))
    low = np.minimum(places.min(axis=0), 0)
    x, y, z = (np.maximum(places.max(axis=0), np.array(grid.shape) - 1) - low + 1).astype(int).tolist()
    if max(x, y, z) > sum(grid.shape) + sum(other.shape):  # they lie apart
        return grid
    first = np.eye(4)
    first[:3, 3] = low
    return Grid((x, y, z), grid.affine @ first)


def place_by_header(volume: Volume, grid: Grid) -> Volume:
    """A volume on a grid, by their headers alone; values are copied where voxels coincide."""
    offset = _offset_voxels(volume.grid, grid)
    if offset is None or np.abs(offset - np.round(offset)).max() > WHOLE_VOXELS:
        return resample(volume, grid)
    copied = resample(volume, grid, order="nearest", fill=background_value(volume))
    return copied.with_data(copied.data.astype(np.float32, copy=False))


def check_where_placed(study: Study) -> Consistency:
    """Consistency of a study without registering anything.

    Sequences that lie in the reference's space are judged together; of one that does not, only registration can say
    whether it fits, and it is left to it.
    """
    reference = study.reference_volume
    images = {
        sequence: volume if volume.grid.same_as(reference.grid) else place_by_header(volume, reference.grid)
        for sequence, volume in study.images.items()
        if coincides(volume.grid, reference.grid)
    }
    return check_consistency(images, brain_mask(images))


def _offset_voxels(grid: Grid, other: Grid) -> NDArray[np.float64] | None:
    """From the first voxel of ``other`` to the nearest corner of ``grid``, in voxels of ``other``; None if the axes are
    not parallel, or voxels of another size."""
    step = np.linalg.inv(other.affine) @ grid.affine
    turned = np.round(step[:3, :3])
    if not np.array_equal(np.abs(turned).sum(axis=0), [1, 1, 1]) or abs(round(np.linalg.det(turned))) != 1:
        return None
    sides = np.array(grid.shape, np.float64)
    if (np.abs(step[:3, :3] - turned) @ sides).max() > PARALLEL_VOXELS:
        return None
    corners: NDArray[np.float64] = (grid.corners() @ step[:3, :3].T + step[:3, 3]).min(axis=0)
    return corners
