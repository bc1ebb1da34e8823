"""Change of each enhancing lesion from both images at once, beside the difference of its two volumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Affine
from brats_seg.core.labels import Region
from brats_seg.core.scans import RigidMotion
from brats_seg.core.study import MRSequence
from brats_seg.core.visit import Visit
from brats_seg.track.boundary_shift.change import LesionChange, measure_change
from brats_seg.track.boundary_shift.frame import LesionScan
from brats_seg.track.course import ChangeRow
from brats_seg.track.lesions import LesionRow, RegionCourse
from brats_seg.volumetrics.lesions import component_numbers

SEQUENCE = MRSequence.T1CE
"""The method needs a border that stands out: enhancement after contrast, against edema and necrosis alike. The border
of edema does not."""

SMALLEST_ML = 0.5
"""Smaller lesions have too little border to compare; a 10 mm sphere, the least that is measurable."""

MOST_LESIONS = 5
"""The largest so many of a visit are compared, as many as any criteria follow."""


METHOD = 2
"""How a change is measured in two images; raised whenever the same images would give another answer."""


@dataclass(frozen=True)
class PairedChange:
    """A change, and the name of everything it comes from."""

    key: str
    change: LesionChange


def paired_changes(
    visits: Sequence[Visit],
    motions: Sequence[RigidMotion],
    courses: Mapping[str, RegionCourse],
    changes: Sequence[ChangeRow],
    *,
    known: Mapping[str, LesionChange] | None = None,
) -> dict[tuple[str, int, int], PairedChange]:
    """Measure every change of an enhancing lesion that both images can show.

    Args:
        motions: of each visit to the first.
        courses: lesions by region; those of the one that enhances are compared, if there is one.
        changes: what was compared; gives lesion, reference and visit.

    Returns:
        By lesion, index of the reference visit and of the visit. Pairs without T1CE on the grid of both label maps,
        and small lesions, are left out.
    """
    region = visits[0].segmentation.regions.of_compartment("enhancing")
    if region is None:
        return {}
    course = courses[region.name]
    rows = {(row.visit, row.lesion): row for row in course.rows}
    numbers: dict[int, NDArray[np.int32]] = {}
    found: dict[tuple[str, int, int], PairedChange] = {}
    for change in changes:
        key = (change.lesion, change.reference, change.visit)
        if change.region != region.name or not change.lesion or key in found:
            continue
        pair = [(index, rows[index, change.lesion]) for index in (change.reference, change.visit)]
        own = [visits[index] for index, _ in pair]
        if not all(SEQUENCE in visit.sequences and visit.on_grid(SEQUENCE) for visit in own):
            continue
        if not all(_large(row, course) for _, row in pair):
            continue
        matrix = np.asarray(
            motions[change.visit].matrix @ np.linalg.inv(motions[change.reference].matrix), dtype=np.float64
        )
        name = change_key([visit.key for visit in own], [row.components for _, row in pair], matrix)
        if known is not None and name in known:
            found[key] = PairedChange(name, known[name])
            continue
        scans = []
        for index, row in pair:
            if index not in numbers:
                mask = visits[index].segmentation.region_mask(region)
                numbers[index] = component_numbers(mask, visits[index].measurements.lesions_of(region))
            scans.append(_lesion_scan(visits[index], region, np.isin(numbers[index], row.components)))
        found[key] = PairedChange(name, measure_change(scans[0], scans[1], matrix=matrix))
    return found


def _lesion_scan(visit: Visit, region: Region, own: NDArray[np.bool_]) -> LesionScan:
    """One enhancing lesion in its scan.

    Only what enhances could be taken for it. Edema is darker, a surround like any other; so are necrosis,
    non-enhancing core and cavity, but they belong to the lesion's inner border, and their brightness to themselves.
    """
    regions = visit.segmentation.regions
    enhancing = visit.segmentation.region_mask(region)
    surround = np.zeros_like(enhancing)
    if region.inside:  # what lies in the outermost region and not in that around the lesion is its surround
        around, outer = (visit.segmentation.region_mask(r) for r in (regions[region.inside], regions.outer_of(region)))
        surround = outer & ~around
    dark = visit.tumour & ~enhancing & ~surround
    return LesionScan(visit.images[SEQUENCE], own, others=enhancing & ~own, core=dark)


def _large(row: LesionRow, course: RegionCourse) -> bool:
    """Whether a lesion is one of the larger ones of its visit, and large enough."""
    larger = [other for other in course.at(row.visit) if other.volume_ml > row.volume_ml]
    return row.volume_ml >= SMALLEST_ML and len(larger) < MOST_LESIONS


def change_key(visits: Sequence[str], components: Sequence[Sequence[int]], matrix: Affine) -> str:
    """Name of a change that was measured in two images.

    Args:
        visits: keys of the reference visit and of the visit.
        components: numbers of the lesion's components at each.
    """
    content = json.dumps([METHOD, list(visits), [list(numbers) for numbers in components], matrix.tolist()])
    return hashlib.sha256(content.encode()).hexdigest()
