"""Longest in-plane diameter of a lesion and the longest one perpendicular to it, as RANO measures.

- **Plane.** Axial, as RANO measures, whatever the order of the array; another only where the slices were clearly
  acquired so: where they are :data:`CLEARLY_THICKER` times as far apart as axial ones would be. A course is measured
  on one plane, which its caller gives.
- **Slice.** The one with the largest product of both diameters. The slice with the longest diameter can be a narrow
  one: where several are nearly as long, voxels of another size choose another, and the product jumps. Of seven
  enhancing lesions of 130 to 1380 mm², each resampled to 20 nearly isotropic spacings of 0.7 to 1.4 mm in three storage
  orders, six were off their median by more than 8 %. On the slice of the largest product three are: two of 13 to
  14 mm, for which half a voxel is as much, and one whose pieces hang together at some spacings only.
- **Chord.** A straight line from outer edge to outer edge, so it may cross necrosis and other tissue that the
  lesion encloses or bends around, but never a cavity. The perpendicular is the longest actual line at
  exactly 90 degrees (to rounding) to the long one, not the width of a box.
- **Parts.** Parts of a lesion that are separate on a slice are measured one by one, unless ``bridge`` tissue
  (necrosis between the arcs of an enhancing rim) joins them on that slice.
- **Ties.** Of equally long diameters of a slice the one with the longer perpendicular counts, and of equal products
  the one that lies farther right, anterior, superior: the answer does not depend on how the array is stored.

All slices and all directions are searched: slices are tried in the order of an upper bound on their product, and
those whose bound is below the best found cannot win. RANO: Wen 2010 (doi:10.1200/JCO.2009.26.3541), Wen 2023
(doi:10.1200/JCO.23.01059).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Grid, Mask
from brats_seg.core.visit import Diameters
from brats_seg.imaging.boxes import bounding_box
from brats_seg.volumetrics.outline import (
    TIE_MM,
    Chord,
    Points,
    farthest_pairs,
    longest_free_pairs,
    longest_perpendicular,
    outline_segments,
)

PLANES = ("sagittal", "coronal", "axial")
"""By the world axis that is normal to them: right, anterior, superior."""
AXIAL = PLANES[2]

CLEARLY_THICKER = 2.0
"""So many times the spacing of axial slices tells slices of another plane. Volumes of nearly equal spacings are all
measured axially, so that a scan that was stored or acquired otherwise gives the same diameters."""

_EQUAL_SHARE = 0.01
"""Spacings that differ by less than this share count as equal."""

_DIRECTIONS = 32
"""Directions, evenly over half a turn, whose widths bound a slice's diameters."""

_TIE_MM2 = 1e-4
"""Products closer than this are equal."""

_IN_PLANE = np.zeros((3, 3, 3), np.bool_)
_IN_PLANE[1] = True

Point = tuple[float, float, float]
_Ends = list[float]
_Section = tuple[bytes, bytes, bytes]
"""A part of a slice, the cavity there, and a chord."""


def measuring_plane(grid: Grid) -> str:
    """The plane diameters are measured on: axial, unless slices lie clearly further apart along another axis."""
    by_world = {target: grid.spacing_mm[axis] for axis, (target, _) in enumerate(grid.axis_order)}
    coarsest = max(by_world.values())
    if coarsest < CLEARLY_THICKER * by_world[2]:
        return AXIAL
    return PLANES[max(target for target, spacing in by_world.items() if spacing * (1 + _EQUAL_SHARE) >= coarsest)]


def measuring_axis(grid: Grid, plane: str) -> int:
    """Array axis normal to a plane."""
    return [target for target, _ in grid.axis_order].index(PLANES.index(plane))


@dataclass(frozen=True, eq=False)
class _Stack:
    """A lesion cut out and turned so that its slices come first.

    Attributes:
        lesion: ``(S, H, W)``.
        parts: the same shape, numbers of the parts that are measured together; unique over all slices.
        start: index of the first voxel in the full grid, slices first.
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
    plane: str | None = None,
) -> Diameters:
    """Longest in-plane diameter and its longest perpendicular, in millimetres.

    Args:
        mask: one lesion, ``(X, Y, Z)`` bool: the whole grid or a part of it.
        start: index in the grid of the first voxel of ``mask``.
        bridge: same shape; tissue that joins parts of the lesion on a slice.
        cavity: same shape; what chords must not cross. Voxels of the lesion itself do not count as cavity.
        plane: to measure on; None for :func:`measuring_plane`.

    Returns:
        Lengths 0, ends at the origin and 0 slices for an empty mask.
    """
    plane = plane or measuring_plane(grid)
    axis = measuring_axis(grid, plane)
    stack = _cut_out(mask, grid, axis=axis, start=start, bridge=bridge, cavity=cavity)
    if stack is None:
        nowhere = (0.0, 0.0, 0.0)
        return Diameters(0.0, 0.0, plane, axis, 0, (nowhere, nowhere), (nowhere, nowhere), 0)
    slice_index, long, short = _best(stack)
    long_world, short_world = (stack.to_world(slice_index, chord.ends) for chord in (long, short))
    return Diameters(
        long_mm=long.length_mm,
        short_mm=short.length_mm,
        plane=plane,
        axis=axis,
        slice_index=slice_index + stack.start[0],
        long_ends_mm=(long_world[0], long_world[1]),
        short_ends_mm=(short_world[0], short_world[1]),
        slices=int(stack.lesion.any(axis=(1, 2)).sum()),
    )


def _cut_out(
    mask: Mask, grid: Grid, *, axis: int, start: tuple[int, int, int], bridge: Mask | None, cavity: Mask | None
) -> _Stack | None:
    """The lesion's bounding box and one voxel around it, slices first; None for an empty mask."""
    # A cavity just outside the lesion's box still bounds the chords that run along its edge.
    box = bounding_box(mask, margin=1)
    if box is None:
        return None

    def turned(array: Mask) -> Mask:
        return np.ascontiguousarray(np.moveaxis(array[box], axis, 0))

    lesion = turned(mask)
    joined = lesion if bridge is None else lesion | turned(bridge)
    parts, _ = ndimage.label(joined, structure=_IN_PLANE)
    forbidden = None if cavity is None else turned(cavity) & ~lesion
    first = [offset + side.start for offset, side in zip(start, box, strict=True)]
    first.insert(0, first.pop(axis))
    in_plane = np.delete(grid.affine[:3, :3], axis, axis=1)
    to_mm = np.linalg.cholesky(in_plane.T @ in_plane).T.astype(np.float64)
    return _Stack(
        lesion=lesion,
        parts=np.asarray(parts, np.int32),
        cavity=forbidden if forbidden is not None and forbidden.any() else None,
        axis=axis,
        start=(first[0], first[1], first[2]),
        grid=grid,
        to_mm=to_mm,
    )


def _edge_points(stack: _Stack) -> tuple[Points, NDArray[np.intp], NDArray[np.int32]]:
    """Mid-edge points of all slices: ``(N, 2)`` in voxels, their slice, their part; sorted by part."""
    points: list[Points] = []
    slices: list[NDArray[np.intp]] = []
    parts: list[NDArray[np.int32]] = []
    for direction in (1, 2):
        margin = [(0, 0), (0, 0), (0, 0)]
        margin[direction] = (1, 1)
        padded = np.moveaxis(np.pad(stack.lesion, margin), direction, 0)
        numbers = np.moveaxis(stack.parts, direction, 0)
        edge, second, third = np.nonzero(padded[1:] ^ padded[:-1])
        outer = padded[edge, second, third]
        # The voxel inside is the one after the edge where the one before is outside, and the other way round.
        inner = np.where(outer, edge - 1, edge)
        parts.append(numbers[inner, second, third])
        slices.append(second)
        other = third.astype(np.float64)
        pair = (edge - 0.5, other) if direction == 1 else (other, edge - 0.5)
        points.append(np.stack(pair, axis=1))
    part = np.concatenate(parts)
    order = np.argsort(part, kind="stable")
    return np.concatenate(points)[order], np.concatenate(slices)[order], part[order]


def _upper_bounds(points: Points, starts: NDArray[np.intp], to_mm: Points) -> NDArray[np.float64]:
    """For each part, a product in mm² that no chord of it and its perpendicular exceed.

    In a direction at an angle d from one tried, a part is at most as wide as its width there and sin d of the width
    across together.
    """
    angles = np.arange(_DIRECTIONS) * (math.pi / _DIRECTIONS)
    heights = points @ (to_mm.T @ np.stack([np.cos(angles), np.sin(angles)]))
    widths = np.maximum.reduceat(heights, starts, axis=0) - np.minimum.reduceat(heights, starts, axis=0)
    across = np.roll(widths, _DIRECTIONS // 2, axis=1)
    turned = math.sin(math.pi / 2 / _DIRECTIONS)
    bounds: NDArray[np.float64] = ((widths + turned * across) * (across + turned * widths)).max(axis=1)
    return bounds


def _best(stack: _Stack) -> tuple[int, Chord, Chord]:
    """Slice, long and short chord that win under the rules of the module's description."""
    points, slices, part = _edge_points(stack)
    starts = np.flatnonzero(np.r_[True, np.diff(part) > 0])
    stops = np.r_[starts[1:], len(part)]
    bounds = _upper_bounds(points, starts, stack.to_mm)
    # Slices with a cavity come last: their bound says little and their search is the costly one.
    hollow = np.zeros(len(starts), np.bool_)
    if stack.cavity is not None:
        hollow |= np.any(stack.cavity[slices[starts]], axis=(1, 2))
    known: dict[_Section, tuple[Chord, Chord]] = {}
    ranked: list[tuple[float, _Ends, tuple[int, Chord, Chord]]] = []
    largest = 0.0
    for k in np.lexsort((-bounds, hollow)):
        if bounds[k] < largest - _TIE_MM2:
            continue
        index = int(slices[starts[k]])
        # The perpendicular is no longer than the chord.
        chords = _long_chords(points[starts[k] : stops[k]], stack, index, math.sqrt(largest))
        for long, short in _crossed(stack, index, int(part[starts[k]]), chords, known):
            product = long.length_mm * short.length_mm
            largest = max(largest, product)
            ranked.append((product, _ends(stack, index, long), (index, long, short)))
    tied = [entry for entry in ranked if entry[0] >= largest - _TIE_MM2]
    return max(tied, key=lambda entry: entry[1])[2]


def _long_chords(points: Points, stack: _Stack, index: int, at_least_mm: float) -> list[Chord]:
    """The longest chords of one part on one slice; with a cavity there, those that do not cross it.

    Empty where they are shorter than ``at_least_mm``.
    """
    chords = farthest_pairs(points, stack.to_mm)
    if chords[0].length_mm < at_least_mm - TIE_MM:
        return []
    cavity = None if stack.cavity is None else stack.cavity[index]
    if cavity is None or not cavity.any():
        return chords
    return longest_free_pairs(points, stack.to_mm, cavity, at_least_mm=at_least_mm)


def _crossed(
    stack: _Stack, index: int, part: int, chords: list[Chord], known: dict[_Section, tuple[Chord, Chord]]
) -> list[tuple[Chord, Chord]]:
    """Equally long chords of a part of a slice with their perpendiculars: those whose perpendicular is the longest."""
    region = stack.lesion[index] & (stack.parts[index] == part)
    cavity = None if stack.cavity is None else stack.cavity[index]
    segments = outline_segments(region)
    pairs = []
    for chord in chords:
        # Slices of a cylinder are all alike: one perpendicular serves them all.
        key = (region.tobytes(), b"" if cavity is None else cavity.tobytes(), chord.ends.tobytes())
        if key not in known:
            short = longest_perpendicular(segments, chord, stack.to_mm, cavity)
            # It is longer beside a cavity, where long chords are looked for between mid-edge points only.
            is_longer = short.length_mm > chord.length_mm + TIE_MM
            long, short = (short, chord) if is_longer else (chord, short)
            known[key] = long, Chord(min(short.length_mm, long.length_mm), short.ends)
        pairs.append(known[key])
    longest = max((short.length_mm for _, short in pairs), default=0.0)
    return [pair for pair in pairs if pair[1].length_mm >= longest - TIE_MM]


def _ends(stack: _Stack, index: int, chord: Chord) -> _Ends:
    """Where a chord ends, the end farther right, anterior, superior first."""
    return [round(value, 3) for end in sorted(stack.to_world(index, chord.ends), reverse=True) for value in end]
