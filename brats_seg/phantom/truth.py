"""The truth about a visit: volumes, diameters and growth of each lesion, and the response category by construction.

Categories follow from the script's volumes, not from a measurement: response at -65 %, progression at +40 % of the
volume (RANO 2.0: Wen et al., J Clin Oncol 2023;41:5187, doi:10.1200/JCO.23.01059), from the first visit (after surgery
the first after it) and from the smallest volume since then. What is measured is contrast enhancement, in low-grade
glioma what T2 and FLAIR show (van den Bent et al., Lancet Oncol 2011;12:583, doi:10.1016/S1470-2045(11)70057-2). A new
lesion is progression if it is measurable: 10 mm in two perpendicular directions. What becomes of a category later
(confirmation, pseudoprogression) is for the script's ``event`` to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError, distance

from brats_seg.core.grid import Floats
from brats_seg.core.plain import plain
from brats_seg.phantom.grids import axial_axis
from brats_seg.phantom.grown import CORE_PARTS, EDEMA, ENHANCING, VOLUME_NAMES, GrownScene, part_number, volumes_ml
from brats_seg.phantom.kinds import LesionState, TumourKind
from brats_seg.phantom.partition import SIDE
from brats_seg.phantom.script import Course

RESPONSE_SHARE = 0.35
"""At most so much of the baseline volume is left in a partial response."""
PROGRESSION_SHARE = 1.40
"""At least so much of the smallest volume is progression."""
MEASURABLE_MM = 10.0
"""Both diameters of a measurable lesion reach it."""

Cell = str | float | int | None
COLUMNS = (
    *("visit", "date", "days", "lesion", "event", "component", "x_mm", "y_mm", "z_mm"),
    *(f"{name}_ml" for name in VOLUME_NAMES),
    *("long_mm", "short_mm", "growth_per_day", "doubling_days", "category", "reason"),
)
"""Of the table of truth, in order."""


@dataclass(frozen=True)
class LesionTruth:
    """One lesion at one visit. ``None`` where a number does not exist (no volume before, no change).

    Attributes:
        component: number of the connected core it is part of; lesions that merged share one. 0 if absent.
        centre_mm: centroid of the core, RAS+.
        volume_ml: by ``WT`` (its share of the edema included), ``TC``, ``ET``, ``NCR``, ``ED``, ``RC``.
        long_mm: longest axial diameter of what is measured, from outer edge to outer edge.
        short_mm: longest line perpendicular to it on the same slice.
        growth_per_day: specific growth rate of the core since the visit before, ``ln(V1/V0)/days``.
        doubling_days: ``ln 2 / growth_per_day``; None where the core did not grow.
    """

    lesion: str
    component: int
    centre_mm: tuple[float, float, float] | None
    volume_ml: Mapping[str, float]
    long_mm: float
    short_mm: float
    growth_per_day: float | None
    doubling_days: float | None
    event: str

    @property
    def is_measurable(self) -> bool:
        """Both diameters reach 10 mm."""
        return min(self.long_mm, self.short_mm) >= MEASURABLE_MM


@dataclass(frozen=True)
class VisitTruth:
    """The truth about one visit.

    Attributes:
        index: from 0.
        days: since the first visit.
        lesions: one entry per lesion of the course, absent ones too.
        volume_ml: of all lesions together.
        category: ``baseline``, ``CR``, ``PR``, ``SD`` or ``PD``, by volume.
        reason: the rule and the numbers, in words.
    """

    visit: str
    day: date
    index: int
    days: int
    lesions: tuple[LesionTruth, ...]
    volume_ml: Mapping[str, float]
    category: str
    reason: str

    def rows(self) -> list[dict[str, Cell]]:
        """One flat row per lesion, and one with lesion ``all``; the same keys in every row."""
        empty: dict[str, Cell] = dict.fromkeys(COLUMNS)
        when: dict[str, Cell] = {"visit": self.visit, "date": self.day.isoformat(), "days": self.days}
        verdict: dict[str, Cell] = {"lesion": "all", "category": self.category, "reason": self.reason}
        rows = [{**empty, **when, **_lesion_cells(lesion)} for lesion in self.lesions]
        return [*rows, {**empty, **when, **verdict, **_volume_cells(self.volume_ml)}]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a truth file."""
        lesions = [{**plain(lesion), "is_measurable": lesion.is_measurable} for lesion in self.lesions]
        return {**plain(self), "lesions": lesions}


def _volume_cells(volume_ml: Mapping[str, float]) -> dict[str, Cell]:
    return {f"{name}_ml": round(volume_ml[name], 5) for name in VOLUME_NAMES}


def _lesion_cells(lesion: LesionTruth) -> dict[str, Cell]:
    x, y, z = lesion.centre_mm or (None, None, None)
    return {
        **{column: getattr(lesion, column) for column in COLUMNS if hasattr(lesion, column)},
        **_volume_cells(lesion.volume_ml),
        **{"x_mm": x, "y_mm": y, "z_mm": z},
    }


def visit_truth(course: Course, index: int, scene: GrownScene) -> VisitTruth:
    """Everything that is known about a visit."""
    shares = [
        scene.partition.fractions(*(part_number(number, part) for part in CORE_PARTS))
        for number in range(len(course.lesions))
    ]
    components = _components(shares)
    lesions = tuple(
        _lesion_truth(
            course, index, number, scene, component=components[number], centre_mm=_centre(scene, shares[number])
        )
        for number in range(len(course.lesions))
    )
    total = {name: float(sum(lesion.volume_ml[name] for lesion in lesions)) for name in VOLUME_NAMES}
    category, reason = categorise(course, index, {lesion.lesion for lesion in lesions if lesion.is_measurable})
    visit = course.visits[index]
    return VisitTruth(visit.label, visit.day, index, course.days(0, index), lesions, total, category, reason)


def _lesion_truth(
    course: Course,
    index: int,
    number: int,
    scene: GrownScene,
    *,
    component: int,
    centre_mm: tuple[float, float, float] | None,
) -> LesionTruth:
    script = course.lesions[number]
    volumes = volumes_ml(scene, [number])
    measured = (*CORE_PARTS, EDEMA) if script.kind is TumourKind.LOW_GRADE else (ENHANCING,)
    long_mm, short_mm = diameters_mm(scene, [part_number(number, part) for part in measured])
    rate = None
    if index > 0:
        before, now = script.states[index - 1].core_ml, script.states[index].core_ml
        if min(before, now) > 0:
            rate = math.log(now / before) / course.days(index - 1, index)
    return LesionTruth(
        lesion=script.id,
        component=component,
        centre_mm=centre_mm,
        volume_ml=volumes,
        long_mm=round(long_mm, 3),
        short_mm=round(short_mm, 3),
        growth_per_day=rate,
        doubling_days=math.log(2) / rate if rate is not None and rate > 1e-9 else None,
        event=script.states[index].event,
    )


def _components(shares: Sequence[NDArray[np.float32]]) -> list[int]:
    """Number of the connected core (26 neighbours, voxels at least half filled) of each lesion; 0 if it has none."""
    if not shares:
        return []
    total = shares[0].copy()
    for share in shares[1:]:
        total += share
    named, found = ndimage.label(total >= 0.5, np.ones((3, 3, 3)))
    result = []
    for share in shares:
        here = share > 0
        weights = np.bincount(named[here], share[here], found + 1)
        if share.any() and weights[1:].sum() == 0:  # too small to fill half of any voxel
            found += 1
            result.append(found)
        else:
            result.append(int(np.argmax(weights[1:])) + 1 if share.any() else 0)
    return result


def _centre(scene: GrownScene, share: NDArray[np.float32]) -> tuple[float, float, float] | None:
    voxels = np.argwhere(share > 0)
    if len(voxels) == 0:
        return None
    points = scene.partition.grid.to_world(voxels)
    x, y, z = (round(float(v), 3) for v in np.average(points, axis=0, weights=share[tuple(voxels.T)]))
    return x, y, z


def diameters_mm(scene: GrownScene, parts: list[int]) -> tuple[float, float]:
    """Longest axial diameter of some parts together and its longest perpendicular on that slice, to about 0.2 mm.

    Slices run through the middle of the body's voxels, along the axis nearest to superior. Lines may cross what
    the parts enclose or bend around, as RANO's do (Wen et al. 2010, doi:10.1200/JCO.2009.26.3541).
    """
    grid = scene.partition.grid
    axis = axial_axis(grid)
    spacing = np.delete(np.array(grid.spacing_mm), axis)
    cell = float(spacing.mean()) / SIDE
    best, chosen = -1.0, None
    for plane in scene.partition.cell_slices(axis, *parts).values():
        points = plane * spacing
        ends = _farthest(points)
        length = float(np.linalg.norm(ends[1] - ends[0]))
        if length > best:
            best, chosen = length, (points, ends)
    if chosen is None:
        return 0.0, 0.0
    points, ends = chosen
    along = (ends[1] - ends[0]) / best if best > 0 else np.array([1.0, 0.0])
    place, height = points @ along, points @ np.array([-along[1], along[0]])
    bins = np.floor((place - place.min()) / (1.5 * cell)).astype(int)
    top, bottom = np.full(bins.max() + 1, -np.inf), np.full(bins.max() + 1, np.inf)
    np.maximum.at(top, bins, height)
    np.minimum.at(bottom, bins, height)
    return best + cell, float((top - bottom).max()) + cell


def _farthest(points: Floats) -> tuple[Floats, Floats]:
    """The two points that lie farthest apart."""
    candidates = points
    if len(points) > 3:
        try:
            candidates = points[ConvexHull(points).vertices]
        except QhullError:  # all on one line, then the ends of any order along it do
            candidates = points[[int(i) for i in (*points.argmin(0), *points.argmax(0))]]
    apart = distance.squareform(distance.pdist(candidates))
    first, second = np.unravel_index(int(np.argmax(apart)), apart.shape)
    return candidates[first], candidates[second]


def measured_ml(kind: TumourKind, state: LesionState) -> float:
    """What criteria follow: contrast enhancement; in low-grade glioma core and edema."""
    return state.core_ml + state.edema_ml if kind is TumourKind.LOW_GRADE else state.core_ml * state.enhancing_share


def categorise(course: Course, index: int, measurable: set[str]) -> tuple[str, str]:
    """Response category of a visit from the script's volumes, and why.

    Args:
        measurable: ids of the lesions that are measurable at it; only new ones matter.
    """
    totals = [sum(measured_ml(lesion.kind, lesion.states[i]) for lesion in course.lesions) for i in range(index + 1)]
    surgery = [i for i in range(1, index + 1) if any(state.event == "resection" for state in course.states(i))]
    start = surgery[-1] if surgery else 0
    if index == start:
        return "baseline", "the first visit" if start == 0 else "the first visit after resection"
    now, baseline, nadir = totals[index], totals[start], min(totals[start:index])
    numbers = f"{now:.2f} ml, baseline {baseline:.2f} ml, smallest before {nadir:.2f} ml"
    new = [name for name in sorted(measurable) if _is_new(course, index, name)]
    if new:
        return "PD", f"new measurable lesion {', '.join(new)}; {numbers}"
    if now == 0:
        return ("CR", f"nothing is left; {numbers}") if baseline > 0 else ("SD", "there was nothing to measure")
    if now >= PROGRESSION_SHARE * nadir:
        return "PD", f"at least 40 % above the smallest; {numbers}"
    if now <= RESPONSE_SHARE * baseline:
        return "PR", f"at least 65 % below the baseline; {numbers}"
    return "SD", f"between -65 % and +40 %; {numbers}"


def _is_new(course: Course, index: int, name: str) -> bool:
    """Whether a lesion is there for the first time since the beginning."""
    script = next(lesion for lesion in course.lesions if lesion.id == name)
    before = script.states[:index]
    return script.states[index].core_ml > 0 and all(s.core_ml == 0 and s.cavity_ml == 0 for s in before)
