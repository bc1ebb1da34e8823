"""A patient's course from measurements: history for the response engine, changes, surgery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from brats_seg.core.course import CourseResection
from brats_seg.core.errors import UsageError
from brats_seg.core.tables import DAY_ZERO, Calendar, say
from brats_seg.core.visit import Visit
from brats_seg.response.assess import assess
from brats_seg.response.criteria import Compartment, Criteria
from brats_seg.response.history import (
    ClinicalEvent,
    EventKind,
    LesionMeasurement,
    PatientHistory,
    VisitMeasurements,
)
from brats_seg.response.responses import Category, Disease, Measure, Responses
from brats_seg.track.growth import TREATMENTS
from brats_seg.track.lesions import RegionCourse
from brats_seg.track.repeatability import GIVEN, Change, Measured, change_between

NOT_VALIDATED = "segmentation not validated after treatment"
MOST_DAYS_TO_SURGERY = 56
"""A scan further away shows growth, too, and not surgery alone. The program's choice."""
ML_DECIMALS, MM_DECIMALS = 4, 2
"""As in tables, so that the response can be found again from the table of measurements."""


def rounded(value: float, decimals: int = ML_DECIMALS) -> float:
    """A number as the tables have it; never minus zero."""
    return round(float(value), decimals) + 0.0


def measured(visit: Visit, volume_ml: float) -> Measured:
    """A volume of a visit with what decides its error."""
    return Measured(volume_ml, max(visit.measurements.spacing_mm), visit.model or GIVEN)


def _treated_unseen(visit: Visit, history: PatientHistory) -> str:
    """The treatment before a visit whose model was trained on none, in words; empty where that is not so."""
    day = visit.timepoint.day
    if day is None or not visit.by_model or visit.record.model.get("knows_treated_brains"):
        return ""
    return treated_before(history, day)


@dataclass(frozen=True)
class ChangeRow:
    """One change; one row of the table of changes.

    Attributes:
        region: region, or the region of the lesion.
        lesion: its name; empty for the whole region.
        against: ``baseline``, ``nadir`` or ``last``.
        reference: index of the visit compared with.
    """

    visit: int
    region: str
    lesion: str
    against: str
    reference: int
    change: Change


def history_of(
    patient: str,
    visits: Sequence[Visit],
    courses: Mapping[str, RegionCourse],
    events: Sequence[ClinicalEvent],
    *,
    calendar: Calendar = Calendar.DATES,
) -> PatientHistory:
    """What the response engine reads. Visits without dates get consecutive days, which confirm and delay nothing."""
    regions = visits[0].segmentation.regions
    dated = all(visit.timepoint.day is not None for visit in visits)
    found = []
    for index, visit in enumerate(visits):
        lesions = [
            LesionMeasurement(
                lesion=row.lesion,
                compartment=Compartment(region.compartment),
                long_mm=round(row.long_mm, MM_DECIMALS),
                short_mm=round(row.short_mm, MM_DECIMALS),
                volume_ml=round(row.volume_ml, ML_DECIMALS),
                measurable=row.measurable,
                part_of=row.part_of,
            )
            for region in regions.followed
            for row in courses[region.name].at(index)
        ]
        day = visit.timepoint.day if dated else None
        specks = {Compartment(r.compartment): courses[r.name].specks_ml[index] for r in regions.followed}
        found.append(
            VisitMeasurements(
                visit.label,
                DAY_ZERO + timedelta(days=index) if day is None else day,
                tuple(lesions),
                specks_ml={compartment: round(size, ML_DECIMALS) for compartment, size in specks.items() if size > 0},
                not_assessable=_not_assessable(visit),
            )
        )
    return PatientHistory(patient, tuple(found), tuple(events), calendar if dated else Calendar.ORDER)


def _not_assessable(visit: Visit) -> dict[Compartment, str]:
    """Compartments that a visit does not show, or no region is followed as, and why."""
    regions, found = visit.segmentation.regions, {}
    for compartment in Compartment:
        region = regions.of_compartment(compartment)
        why = f"no region of {regions.name} is followed as {compartment}" if region is None else visit.unseen(region)
        if why:
            found[compartment] = why
    return found


def judge(
    history: PatientHistory,
    visits: Sequence[Visit],
    courses: Mapping[str, RegionCourse],
    criteria: Criteria,
    *,
    disease: Disease | None = None,
) -> Responses:
    """Response of every visit, with what the images themselves leave open added to ``missing``.

    Args:
        disease: which compartments; None lets the criteria choose for each episode, where both are followed.

    Raises:
        UsageError: if no region is followed as a compartment that was asked for.
    """
    followed = visits[0].segmentation.regions.followed
    reason = "given"
    if disease is None and len(followed) == 1:
        disease, reason = Disease(followed[0].compartment), f"{followed[0].name} alone is followed"
    unfollowed = set(disease.compartments if disease else ()) - {region.compartment for region in followed}
    if unfollowed:
        names = " and ".join(f"{region.name} as {region.compartment}" for region in followed)
        raise UsageError(f"disease {disease} cannot be judged: the model's regions are followed {names} alone")
    assessment = assess(history, criteria, disease=disease, reason=reason)
    notes = {visit.label: _open_questions(index, visits, courses, history) for index, visit in enumerate(visits)}
    spoken = {label: [history.spoken(note) for note in found] for label, found in notes.items()}
    rows = (replace(row, missing=tuple(dict.fromkeys((*row.missing, *spoken[row.visit])))) for row in assessment.rows)
    return replace(assessment, rows=tuple(rows))


def treated_before(history: PatientHistory, day: date) -> str:
    """The treatment a visit comes after, in words; a visit on the day itself comes before it."""
    eve = day - timedelta(days=1)
    events = [event for kind in TREATMENTS if (event := history.last_before(kind, eve)) is not None]
    return ", ".join(f"{event.kind.value} {event.day}" for event in events)


def untrained_for(visits: Sequence[Visit], history: PatientHistory) -> str:
    """Which visits come after a treatment that the model was not trained on, as a warning; empty where none does."""
    found = {visit.label: history.spoken(after) for visit in visits if (after := _treated_unseen(visit, history))}
    if not found:
        return ""
    after = list(found.values())[-1]
    return (
        f"the model was trained on scans before treatment alone, and {', '.join(found)} came after it ({after}): look "
        "at the outlines before you use these numbers"
    )


def _open_questions(
    index: int, visits: Sequence[Visit], courses: Mapping[str, RegionCourse], history: PatientHistory
) -> list[str]:
    notes = []
    if after := _treated_unseen(visits[index], history):
        notes.append(f"{NOT_VALIDATED} ({after})")
    for region, course in courses.items():
        if (volume_ml := course.specks_ml[index]) > 0:
            notes.append(f"{volume_ml:.2f} ml of {region} in specks too small to be lesions are not judged")
    if len({seen.model for seen in visits}) > 1:
        notes.append("label maps of several origins are compared")
    return notes


def changes_of(
    visits: Sequence[Visit], courses: Mapping[str, RegionCourse], baselines: Sequence[int | None]
) -> list[ChangeRow]:
    """Change of every region and lesion against baseline, nadir since baseline, and the visit before.

    What the scans of a visit do not show is compared with nothing.

    Args:
        baselines: of each visit, the index of the visit that counts as its baseline; None before any.
    """
    regions = visits[0].segmentation.regions
    seen = {r.name: [n for n, visit in enumerate(visits) if not visit.unseen(r)] for r in regions}
    series: list[tuple[str, str, dict[int, float]]] = [
        (region, "", {n: visits[n].measurements.volume(region).volume_ml for n in numbers})
        for region, numbers in seen.items()
    ]
    for region, course in courses.items():
        by_lesion: dict[str, dict[int, float]] = {}
        for row in course.rows:
            if row.visit in seen[region]:
                by_lesion.setdefault(row.lesion, {})[row.visit] = row.volume_ml
        series += [(region, lesion, volumes) for lesion, volumes in by_lesion.items()]
    rows = []
    for index in range(1, len(visits)):
        for region, lesion, volumes in series:
            if index not in volumes:
                continue
            for against, reference in _references(index, volumes, baselines[index]).items():
                pair = (measured(visits[n], volumes[n]) for n in (reference, index))
                rows.append(ChangeRow(index, region, lesion, against, reference, change_between(*pair)))
    return rows


def _references(index: int, volumes: Mapping[int, float], baseline: int | None) -> dict[str, int]:
    """Visits a volume is compared with; a lesion that came later is compared with its first visit as baseline."""
    earlier = [visit for visit in volumes if visit < index]
    if not earlier:
        return {}
    since = [visit for visit in earlier if baseline is not None and visit >= baseline]
    if not since:
        return {"last": earlier[-1]}
    return {"baseline": since[0], "nadir": min(since, key=lambda visit: (volumes[visit], visit)), "last": earlier[-1]}


def resections_of(
    visits: Sequence[Visit], events: Sequence[ClinicalEvent], dating: Calendar = Calendar.DATES
) -> list[CourseResection]:
    """Residual volume and extent of resection of every surgery with a visit before and after.

    The extent is given only from scans within :data:`MOST_DAYS_TO_SURGERY` that no other surgery separates.
    """
    days = [visit.timepoint.day for visit in visits if visit.timepoint.day is not None]
    surgeries = [event.day for event in events if event.kind is EventKind.SURGERY]
    found = []
    for surgery in surgeries if len(days) == len(visits) else []:
        before = [index for index, day in enumerate(days) if day <= surgery]
        after = [index for index, day in enumerate(days) if day > surgery]
        if not before or not after:
            continue
        first, second = before[-1], after[0]
        others = [day for day in surgeries if day != surgery and days[first] <= day < days[second]]
        for region in visits[first].segmentation.regions:
            volume, residual = (visits[n].measurements.volume(region).volume_ml for n in (first, second))
            note = visits[first].unseen(region) or visits[second].unseen(region)
            note = note or _far_from_surgery(surgery, days[first], days[second], others)
            extent = 100 * (volume - residual) / volume if volume > 0 and not note else None
            labels, amounts = (visits[first].label, visits[second].label), (rounded(volume), rounded(residual))
            share = None if extent is None else rounded(extent, 2)
            found.append(CourseResection(say(surgery, dating), region.name, *labels, *amounts, share, note))
    return found


def _far_from_surgery(surgery: date, before: date, after: date, others: Sequence[date]) -> str:
    """Why two scans do not tell what a surgery removed; empty where they do."""
    if others:
        return "another surgery lies between the two scans"
    waited = {"before": (surgery - before).days, "after": (after - surgery).days}
    late = [f"{days} days {when}" for when, days in waited.items() if days > MOST_DAYS_TO_SURGERY]
    return f"scanned {' and '.join(late)} the surgery, {MOST_DAYS_TO_SURGERY} at most" if late else ""


def baselines_of(assessment: Responses) -> list[int | None]:
    """Of each visit, the index of the baseline of its own episode; a visit that only begins one has none."""
    starts = [episode.baseline for episode in assessment.episodes]
    return [
        None if row.category is Category.BASELINE else max((start for start in starts if start < index), default=None)
        for index, row in enumerate(assessment.overall(Measure.PLANAR))
    ]
