"""Volumes in millilitres from masks and from probabilities, and where a mask lies in its grid.

**Mask volume** is the number of voxels times the size of one. For an object that lies at a random position
on the grid it is unbiased; for one position it is off by the luck of the boundary.

**Partial-volume-aware volume** is the sum of probabilities times the voxel size, over the mask widened by
:data:`REACH_MM`. Where a probability is the share of the voxel that is tumour, the sum is the volume
itself, wherever the boundary falls within its voxels. The widening takes in the outer half of the boundary,
which the mask (threshold one half) leaves out, and leaves away what lies far from the mask: a haze of
1 % over 1.4 litres of brain would otherwise add 14 ml. An empty mask has partial-volume-aware volume 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Grid, Mask
from brats_seg.imaging.boxes import Box, bounding_box, widen_box

REACH_MM = 2.0
"""How far around a mask probabilities are summed; at least one voxel along every axis, so that the
partly filled outer layer of a thick-slice grid is always inside."""


def box_touches_border(box: Box, shape: tuple[int, ...]) -> bool:
    """Whether a box reaches the first or last voxel of the array along any axis."""
    return any(side.start == 0 or side.stop == n for side, n in zip(box, shape, strict=True))


def mask_volume_ml(mask: Mask, grid: Grid) -> float:
    """Voxels of ``mask`` (all of the grid or a part of it) times the voxel size, in millilitres."""
    return float(np.count_nonzero(mask)) * grid.voxel_ml


def reach_voxels(grid: Grid) -> tuple[int, int, int]:
    """:data:`REACH_MM` in whole voxels along each axis, at least one."""
    x, y, z = (max(1, math.floor(REACH_MM / spacing + 0.5)) for spacing in grid.spacing_mm)
    return x, y, z


def dilate_box(mask: Mask, radius: tuple[int, int, int]) -> Mask:
    """``mask`` grown by a box that reaches ``radius`` voxels each way along each axis."""
    grown = mask
    for axis, reach in enumerate(radius):
        source = np.moveaxis(grown, axis, 0)
        target = source.copy()
        for step in range(1, min(reach, source.shape[0] - 1) + 1):
            target[step:] |= source[:-step]
            target[:-step] |= source[step:]
        grown = np.moveaxis(target, 0, axis)
    return grown


def partial_volume_ml(probability: NDArray[np.floating[Any]], mask: Mask, grid: Grid) -> float:
    """Sum of probabilities near a mask times the voxel size, in millilitres.

    Args:
        probability: ``(X, Y, Z)`` in 0..1, the share of each voxel that belongs to the region.
        mask: bool of the same shape; the grid's or a part of it with :data:`REACH_MM` of margin.

    Raises:
        ValueError: if the shapes differ.
    """
    if probability.shape != mask.shape:
        raise ValueError(f"probabilities of shape {probability.shape} do not fit a mask of shape {mask.shape}")
    box = bounding_box(mask)
    if box is None:
        return 0.0
    radius = reach_voxels(grid)
    near = widen_box(box, mask.shape, radius)
    inside = dilate_box(mask[near], radius)
    return float(probability[near].sum(dtype=np.float64, where=inside)) * grid.voxel_ml
