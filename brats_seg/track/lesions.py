"""One table of lesions over all visits: components measured on each visit's own grid, named in the common space.

Components are found where they were measured, on the visit's own grid, and carried to the common space by their
numbers. There a lesion is what hangs together within :data:`JOIN_MM`, so that a rim that voxels break here and join
there stays one lesion; volumes and diameters remain those of the visit's own grid, where its pieces are measured
together. Components up to :data:`SPECK_ML` that stand alone are counted in the volumes and are no lesions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Affine, Grid, Mask, Volume, apply_affine, box_corners
from brats_seg.core.labels import Region
from brats_seg.core.visit import Diameters, Lesion, Visit
from brats_seg.imaging.register import resample
from brats_seg.track.match import LesionState, Relation, match_lesions
from brats_seg.volumetrics.lesions import box_of, component_numbers
from brats_seg.volumetrics.measure import joined_measure
from brats_seg.volumetrics.volumes import dilate_box

SPECK_ML = 0.05
"""The size up to which the lesion-wise evaluation of BraTS 2023 leaves glioma lesions out (50 mm3)."""

JOIN_MM = 2.0
"""Components this close in the common space are one lesion: two voxels, what alignment and resampling leave open."""

ROOM_VOXELS = 3
"""Around the region in the common space, so that it can be widened and nothing is lost to rounding."""


@dataclass(frozen=True)
class LesionRow:
    """One lesion at one visit.

    Attributes:
        region: name of the region it is a lesion of.
        lesion: name, kept over all visits; its letter is the first of the region's.
        relation: what became of it since the visit before.
        partner: the lesion it merged into or split from.
        part_of: the lesion whose sum it belongs to.
        volume_ml: on the visit's own grid; 0 where it is gone or merged into another.
        long_mm: longest diameter of all its pieces together.
        measurable: whether RANO calls it measurable.
        pieces: number of components on the visit's own grid.
        centroid_mm: RAS+ mm of its largest piece in the visit's scanner; None where there is none.
        touches_border: whether it reaches the edge of the image.
        side: of its largest piece, as :attr:`~brats_seg.core.visit.Lesion.side` says it.
        components: numbers of its components in the visit's own table of lesions.
    """

    visit: int
    region: str
    lesion: str
    relation: Relation
    partner: str
    part_of: str
    volume_ml: float
    long_mm: float
    short_mm: float
    measurable: bool
    pieces: int
    centroid_mm: tuple[float, float, float] | None
    touches_border: bool
    side: str = ""
    components: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class _Side:
    """One region of one visit, as matching needs it.

    Attributes:
        mask: ``(X, Y, Z)`` on ``grid``.
        matrix: 4x4, RAS+ mm of the common space to RAS+ mm of the visit.
        measure: diameters of pieces that are one lesion, a mask like ``mask``, and whether they are measurable.
    """

    mask: Mask
    grid: Grid
    lesions: tuple[Lesion, ...]
    matrix: Affine
    measure: Callable[[Mask], tuple[Diameters, bool]]


@dataclass(frozen=True)
class RegionCourse:
    """One region through all visits.

    Attributes:
        rows: by visit, every lesion known by then.
        specks_ml: by visit, what stands alone and is too small to be a lesion.
    """

    rows: tuple[LesionRow, ...]
    specks_ml: tuple[float, ...]

    def at(self, visit: int) -> tuple[LesionRow, ...]:
        """Rows of one visit."""
        return tuple(row for row in self.rows if row.visit == visit)


def follow_region(
    region: Region, given: Sequence[Visit], matrices: Sequence[Affine], common: Grid, *, plane: str | None = None
) -> RegionCourse:
    """Name the lesions of a region over all visits.

    Args:
        given: visits in order of time.
        matrices: of each visit, 4x4, RAS+ mm of the common space to RAS+ mm of the visit.
        common: the space to match in.
        plane: to measure diameters on; None for the one each grid suggests.
    """
    visits = [
        _Side(
            mask=visit.segmentation.region_mask(region),
            grid=visit.segmentation.labels.grid,
            lesions=visit.measurements.lesions_of(region),
            matrix=matrix,
            measure=joined_measure(visit.segmentation, region, gap_mm=JOIN_MM, plane=plane),
        )
        for visit, matrix in zip(given, matrices, strict=True)
    ]
    common = _part_with_lesions(visits, common)
    numbered = [component_numbers(visit.mask, visit.lesions) for visit in visits]
    carried = [_carry(visit, own, common) for visit, own in zip(visits, numbered, strict=True)]
    matching = match_lesions([mask for mask, _ in carried], common.spacing_mm)
    rows: list[LesionRow] = []
    specks = []
    for index, (visit, (mask, numbers)) in enumerate(zip(visits, carried, strict=True)):
        pieces = _pieces(numbers, matching.labels[index], mask)
        used = {number for found in pieces.values() for number in found}
        specks.append(sum(lesion.volume_ml for lesion in visit.lesions if lesion.number not in used))
        by_number = {lesion.number: lesion for lesion in visit.lesions}
        for state in matching.states[index]:
            found = [by_number[number] for number in sorted(pieces.get(state.component, ()))]
            together = _together(visit, numbered[index], found) if found else None
            rows.append(_row(index, region.name, state, found, together))
    return RegionCourse(tuple(rows), tuple(specks))


def _part_with_lesions(visits: Sequence[_Side], common: Grid) -> Grid:
    """The part of the common space that holds the region at any visit, with room to widen it: a tenth of a head."""
    points = []
    for visit in visits:
        if not visit.lesions:
            continue
        low, high = box_of(visit.lesions)
        corners = box_corners(low - 0.5, high + 0.5)
        points.append(common.to_voxel(apply_affine(np.linalg.inv(visit.matrix), visit.grid.to_world(corners))))
    if not points:
        return Grid((1, 1, 1), common.affine)
    places = np.concatenate(points)
    # Beyond the space itself, too, which is as large as the first visit's field of view.
    start = np.floor(places.min(axis=0)).astype(int) - ROOM_VOXELS
    stop = np.ceil(places.max(axis=0)).astype(int) + ROOM_VOXELS + 1
    affine = np.array(common.affine)
    affine[:3, 3] = common.to_world(start)
    x, y, z = (int(n) for n in stop - start)
    return Grid((x, y, z), affine)


def _carry(visit: _Side, numbers: NDArray[np.int32], common: Grid) -> tuple[Mask, NDArray[np.int32]]:
    """The region in the common space, widened by half of :data:`JOIN_MM`, and the components' numbers."""
    moved = resample(Volume(numbers, visit.grid), common, matrix=visit.matrix, order="nearest").data.astype(np.int32)
    moved = _whole_pieces(moved)
    wide = dilate_box(moved > 0, (1, 1, 1))  # half of JOIN_MM is one voxel
    labels, count = ndimage.label(wide, structure=np.ones((3, 3, 3)))
    volumes = {lesion.number: lesion.volume_ml for lesion in visit.lesions}
    keep = np.zeros(count + 1, bool)
    for component, found in _pieces(moved, labels, wide).items():
        keep[component] = sum(volumes[number] for number in found) > SPECK_ML
    keep[0] = False
    mask = keep[labels]
    return mask, np.where(mask, moved, 0).astype(np.int32)


def _whole_pieces(moved: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers in the common space, each in one piece: where resampling broke one, its largest piece stays."""
    labels: NDArray[Any] = cc3d.connected_components(np.array(moved, order="C"), connectivity=26)
    if not labels.any():
        return moved
    inside = labels > 0
    counts = np.bincount(labels[inside])
    number_of = np.zeros(len(counts), np.int32)
    number_of[labels[inside]] = moved[inside]
    largest: dict[int, int] = {}
    for component in np.argsort(counts[1:])[::-1] + 1:
        largest.setdefault(int(number_of[component]), int(component))
    keep = np.zeros(len(counts), bool)
    keep[list(largest.values())] = True
    keep[0] = False
    return np.where(keep[labels], moved, 0).astype(np.int32)


def _pieces(numbers: NDArray[np.int32], labels: NDArray[np.int32], mask: Mask) -> dict[int, set[int]]:
    """Numbers of the visit's own components inside each component of the common space."""
    inside = mask & (numbers > 0)
    result: dict[int, set[int]] = {}
    if inside.any():
        width = int(numbers.max()) + 1
        # Each pair as one number: rows take thirty times as long to sort.
        pairs = np.unique(labels[inside].astype(np.int64) * width + numbers[inside])
        for component, number in zip(*(part.tolist() for part in np.divmod(pairs, width)), strict=True):
            if component:
                result.setdefault(component, set()).add(number)
    return result


def _together(visit: _Side, numbers: NDArray[np.int32], found: Sequence[Lesion]) -> tuple[Diameters, bool]:
    """Diameters of the pieces of one lesion; specks that belong to it make no difference, and cost nothing."""
    large = [lesion for lesion in found if lesion.volume_ml > SPECK_ML] or found
    return visit.measure(np.isin(numbers, [lesion.number for lesion in large]))


def _row(
    index: int,
    region: str,
    state: LesionState,
    found: Sequence[Lesion],
    together: tuple[Diameters, bool] | None,
) -> LesionRow:
    largest = max(found, key=lambda lesion: lesion.volume_ml, default=None)
    letter = region[0]
    return LesionRow(
        visit=index,
        region=region,
        lesion=_renamed(state.lesion, letter),
        relation=state.relation,
        partner=_renamed(state.partner, letter),
        part_of=_renamed(state.part_of, letter),
        volume_ml=sum(lesion.volume_ml for lesion in found),
        long_mm=together[0].long_mm if together else 0.0,
        short_mm=together[0].short_mm if together else 0.0,
        measurable=together is not None and together[1],
        pieces=len(found),
        centroid_mm=largest.centroid_mm if largest else None,
        touches_border=any(lesion.touches_border for lesion in found),
        side=largest.side if largest else "",
        components=tuple(lesion.number for lesion in found),
    )


def _renamed(name: str, letter: str) -> str:
    return letter + name[1:] if name else ""
