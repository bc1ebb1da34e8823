"""Longest in-plane diameter of a lesion and the longest one perpendicular to it, as RANO measures.

- **Plane.** Normal to the coarsest spacing, which is how the slices were acquired; axial where spacings agree
  to within 1 % (:data:`ISOTROPIC_TOLERANCE`).
- **Slice.** The one with the longest diameter; both diameters are taken on it.
- **Chord.** A straight line from outer edge to outer edge, so it may cross necrosis and other tissue that the
  lesion encloses or bends around, but never a cavity. The perpendicular is the longest actual line at
  exactly 90 degrees (to rounding) to the long one, not the width of a box.
- **Parts.** Parts of a lesion that are separate on a slice are measured one by one, unless ``bridge`` tissue
  (necrosis between the arcs of an enhancing rim) joins them on that slice.
- **Ties.** Of equally long diameters the one with the longer perpendicular counts, then the one that lies
  farther right, anterior, superior: the answer does not depend on how the array is stored.

All slices and all directions are searched: slices are tried in the order of an upper bound on their diameter, and
those whose bound is below the best found cannot win. RANO: Wen 2010 (doi:10.1200/JCO.2009.26.3541), Wen 2023
(doi:10.1200/JCO.23.01059).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.results import Diameters
from brats_seg.core.volume import Grid
from brats_seg.volumetrics.outline import (
    TIE_MM,
    Chord,
    Points,
    farthest_pairs,
    longest_free_pairs,
    longest_perpendicular,
    outline_segments,
)
from brats_seg.volumetrics.volumes import Mask, bounding_box

ISOTROPIC_TOLERANCE = 0.01
"""Spacings that differ by less than this share count as equal."""

_WORLD_PREFERENCE = (2, 1, 0)
"""Normals preferred among equal spacings: superior (axial slices), anterior, right."""

_DIRECTIONS = 32
"""Directions whose widths bound a slice's diameter; it is at most the widest / cos(90 degrees / 32), 0.12 % more."""

_IN_PLANE = np.zeros((3, 3, 3), np.bool_)
_IN_PLANE[1] = True

Point = tuple[float, float, float]


def measuring_axis(grid: Grid) -> int:
    """Array axis normal to the measuring plane: the coarsest spacing, superior first among equals."""
    coarsest = max(grid.spacing_mm)
    world = [target for target, _ in grid.axis_order]
    equal = [axis for axis in range(3) if grid.spacing_mm[axis] * (1 + ISOTROPIC_TOLERANCE) >= coarsest]
    return min(equal, key=lambda axis: _WORLD_PREFERENCE.index(world[axis]))


@dataclass(frozen=True, eq=False)
class _Stack:
    """A lesion cut out and turned so that its slices come first.

    Attributes:
        lesion: ``(S, H, W)``.
        parts: the same shape, numbers of the parts that are measured together; unique over all slices.
        cavity: the same shape, or None.
        axis: array axis the slices were along.
        start: index of the first voxel in the full grid, slices first.
        grid: the full grid.
        to_mm: 2x2, in-plane voxel steps to millimetres.
    """

    lesion: Mask
    parts: NDArray[np.int32]
    cavity: Mask | None
    axis: int
    start: tuple[int, int, int]
    grid: Grid
    to_mm: Points

    def to_world(self, slice_index: int, points: Points) -> tuple[Point, ...]:
        """RAS+ millimetres of in-plane points ``(N, 2)`` of one slice."""
        stacked = np.column_stack([np.full(len(points), float(slice_index)), points]) + np.array(self.start)
        world = self.grid.to_world(np.insert(stacked[:, 1:], self.axis, stacked[:, 0], axis=1))
        return tuple((float(x), float(y), float(z)) for x, y, z in world)


def measure_diameters(
    mask: Mask,
    grid: Grid,
    *,
    start: tuple[int, int, int] = (0, 0, 0),
    bridge: Mask | None = None,
    cavity: Mask | None = None,
) -> Diameters:
    """Longest in-plane diameter and its longest perpendicular, in millimetres.

    Args:
        mask: one lesion, ``(X, Y, Z)`` bool: the whole grid or a part of it.
        grid: the whole grid.
        start: index in the grid of the first voxel of ``mask``.
        bridge: same shape; tissue that joins parts of the lesion on a slice.
        cavity: same shape; what chords must not cross. Voxels of the lesion itself do not count as cavity.

    Returns:
        Lengths 0, ends at the origin and 0 slices for an empty mask.
    """
    axis = measuring_axis(grid)
    stack = _cut_out(mask, grid, axis, start, bridge, cavity)
    if stack is None:
        nowhere = (0.0, 0.0, 0.0)
        return Diameters(0.0, 0.0, axis, 0, (nowhere, nowhere), (nowhere, nowhere), 0)
    number, slice_index, long, short = _best(stack)
    del number
    long_world, short_world = (stack.to_world(slice_index, chord.ends) for chord in (long, short))
    return Diameters(
        long_mm=long.length_mm,
        short_mm=short.length_mm,
        axis=axis,
        slice_index=slice_index + stack.start[0],
        long_ends_mm=(long_world[0], long_world[1]),
        short_ends_mm=(short_world[0], short_world[1]),
        slices=int(stack.lesion.any(axis=(1, 2)).sum()),
    )
