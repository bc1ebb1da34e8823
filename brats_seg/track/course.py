"""A patient's course from measurements: history for the response engine, changes, surgery."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

from brats_seg.core.tables import DAY_ZERO, Calendar
from brats_seg.response.assess import assess
from brats_seg.response.criteria import Compartment, Criteria
from brats_seg.response.history import (
    ClinicalEvent,
    EventKind,
    LesionMeasurement,
    PatientHistory,
    VisitMeasurements,
)
from brats_seg.response.responses import Category, Disease, Responses
from brats_seg.track.lesions import COMPARTMENTS, RegionCourse
from brats_seg.track.repeatability import GIVEN, Change, Measured, change_between

NOT_VALIDATED = "segmentation not validated after treatment"
REGIONS = ("WT", "TC", "ET")
FOLLOWED = ("ET", "WT")
"""Regions whose lesions are followed one by one."""

MOST_DAYS_TO_SURGERY = 56
"""A scan further away shows growth, too, and not surgery alone. The program's choice."""
TREATED_BY = (EventKind.SURGERY, EventKind.RADIOTHERAPY_END, EventKind.TREATMENT_START)
ML_DECIMALS, MM_DECIMALS = 4, 2
"""As in tables, so that the response can be found again from the table of measurements."""


@dataclass(frozen=True)
class VisitVolumes:
    """What was measured at one visit, on its own grid.

    Attributes:
        label: name of the visit.
        day: date; None where it is not known.
        volumes_ml: by region and structure.
        slice_mm: largest spacing of the grid.
        model: name and version of the model that made the label map; empty where it was given.
        knows_treatment: whether the model was trained on scans after treatment.
        not_assessable: compartments that the visit's scans do not show, and why.
    """

    label: str
    day: date | None
    volumes_ml: Mapping[str, float]
    slice_mm: float
    model: str
    knows_treatment: bool = False
    not_assessable: Mapping[Compartment, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """As the table of measurement errors names it."""
        return self.model or GIVEN

    def unseen(self, region: str) -> str:
        """Why the visit does not show a region; empty where it does. What enhances decides the core, too."""
        compartment = Compartment.NON_ENHANCING if region == "WT" else Compartment.ENHANCING
        is_told = not math.isnan(self.volumes_ml.get(region, 0.0))
        return self.not_assessable.get(compartment, "") or ("" if is_told else f"the label map does not tell {region}")

    def measured(self, volume_ml: float) -> Measured:
        """A volume of this visit with what decides its error."""
        return Measured(volume_ml, self.slice_mm, self.source)


@dataclass(frozen=True)
class ChangeRow:
    """One change; one row of the table of changes.

    Attributes:
        visit: index of the visit.
        region: region, or the region of the lesion.
        lesion: its name; empty for the whole region.
        against: ``baseline``, ``nadir`` or ``last``.
        reference: index of the visit compared with.
        change: the difference and its interval.
    """

    visit: int
    region: str
    lesion: str
    against: str
    reference: int
    change: Change


@dataclass(frozen=True)
class Resection:
    """What surgery removed, from the last visit before and the first after.

    Attributes:
        day: of the surgery.
        before: index of the visit before.
        after: index of the visit after.
        region: which.
        before_ml: volume before.
        residual_ml: volume after.
        extent_percent: removed share; None where there was nothing, or the scans do not tell it.
        note: why they do not tell it.
    """

    day: date
    before: int
    after: int
    region: str
    before_ml: float
    residual_ml: float
    extent_percent: float | None
    note: str = ""


def history_of(
    patient: str,
    visits: Sequence[VisitVolumes],
    courses: Mapping[str, RegionCourse],
    events: Sequence[ClinicalEvent],
    *,
    calendar: Calendar = Calendar.DATES,
) -> PatientHistory:
    """What the response engine reads. Visits without dates get consecutive days, which confirm and delay nothing."""
    dated = all(visit.day is not None for visit in visits)
    measured = []
    for index, visit in enumerate(visits):
        lesions = []
        for region, compartment in COMPARTMENTS.items():
            for row in courses[region].at(index):
                lesions.append(
                    LesionMeasurement(
                        lesion=row.lesion,
                        compartment=compartment,
                        long_mm=round(row.long_mm, MM_DECIMALS),
                        short_mm=round(row.short_mm, MM_DECIMALS),
                        volume_ml=round(row.volume_ml, ML_DECIMALS),
                        measurable=row.measurable,
                        part_of=row.part_of,
                    )
                )
        day = visit.day if dated and visit.day is not None else DAY_ZERO + timedelta(days=index)
        specks = {compartment: courses[region].specks_ml[index] for region, compartment in COMPARTMENTS.items()}
        measured.append(
            VisitMeasurements(
                visit.label,
                day,
                tuple(lesions),
                specks_ml={compartment: round(size, ML_DECIMALS) for compartment, size in specks.items() if size > 0},
                not_assessable=visit.not_assessable,
            )
        )
    return PatientHistory(patient, tuple(measured), tuple(events), calendar if dated else Calendar.ORDER)


def judge(
    history: PatientHistory,
    visits: Sequence[VisitVolumes],
    courses: Mapping[str, RegionCourse],
    criteria: Criteria,
    *,
    disease: Disease | None = None,
) -> Responses:
    """Response of every visit, with what the images themselves leave open added to ``missing``.

    Args:
        history: what is judged.
        visits: volumes by visit.
        courses: lesions of the followed regions.
        criteria: the table to judge by.
        disease: which compartments; None lets the criteria choose for each episode.
    """
    assessment = assess(history, criteria, disease=disease)
    notes = {visit.label: _open_questions(index, visit, visits, courses, history) for index, visit in enumerate(visits)}
    spoken = {label: [history.spoken(note) for note in found] for label, found in notes.items()}
    rows = (replace(row, missing=tuple(dict.fromkeys((*row.missing, *spoken[row.visit])))) for row in assessment.rows)
    return replace(assessment, rows=tuple(rows))


def treated_before(history: PatientHistory, day: date) -> str:
    """The treatment a visit comes after, in words; a visit on the day itself comes before it."""
    eve = day - timedelta(days=1)
    events = [event for kind in TREATED_BY if (event := history.last_before(kind, eve)) is not None]
    return ", ".join(f"{event.kind.value} {event.day}" for event in events)


def untrained_for(visits: Sequence[VisitVolumes], history: PatientHistory) -> str:
    """Which visits come after a treatment that the model was not trained on, as a warning; empty where none does."""
    found = {
        visit.label: history.spoken(after)
        for visit in visits
        if visit.day and visit.model and not visit.knows_treatment and (after := treated_before(history, visit.day))
    }
    if not found:
        return ""
    after = list(found.values())[-1]
    return (
        f"the model was trained on scans before treatment alone, and {', '.join(found)} came after it ({after}): look "
        "at the outlines before you use these numbers"
    )


def _open_questions(
    index: int,
    visit: VisitVolumes,
    visits: Sequence[VisitVolumes],
    courses: Mapping[str, RegionCourse],
    history: PatientHistory,
) -> list[str]:
    notes = []
    if visit.day and visit.model and not visit.knows_treatment and (after := treated_before(history, visit.day)):
        notes.append(f"{NOT_VALIDATED} ({after})")
    specks = {region: courses[region].specks_ml[index] for region in FOLLOWED}
    for region, volume_ml in specks.items():
        if volume_ml > 0:
            notes.append(f"{volume_ml:.2f} ml of {region} in specks too small to be lesions are not judged")
    if len({seen.model for seen in visits}) > 1:
        notes.append("label maps of several origins are compared")
    return notes


def changes_of(
    visits: Sequence[VisitVolumes], courses: Mapping[str, RegionCourse], baselines: Sequence[int | None]
) -> list[ChangeRow]:
    """Change of every region and lesion against baseline, nadir since baseline, and the visit before.

    What the scans of a visit do not show is compared with nothing.

    Args:
        visits: in order of time.
        courses: lesions of the followed regions.
        baselines: of each visit, the index of the visit that counts as its baseline; None before any.
    """
    series: list[tuple[str, str, dict[int, float]]] = [
        (region, "", {n: visit.volumes_ml[region] for n, visit in enumerate(visits) if not visit.unseen(region)})
        for region in REGIONS
    ]
    for region in FOLLOWED:
        by_lesion: dict[str, dict[int, float]] = {}
        for row in courses[region].rows:
            if visits[row.visit].unseen(region):
                continue
            by_lesion.setdefault(row.lesion, {})[row.visit] = row.volume_ml
        series += [(region, lesion, volumes) for lesion, volumes in by_lesion.items()]
    rows = []
    for index in range(1, len(visits)):
        for region, lesion, volumes in series:
            if index not in volumes:
                continue
            for against, reference in _references(index, volumes, baselines[index]).items():
                change = change_between(
                    visits[reference].measured(volumes[reference]), visits[index].measured(volumes[index])
                )
                rows.append(ChangeRow(index, region, lesion, against, reference, change))
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


def resections_of(visits: Sequence[VisitVolumes], events: Sequence[ClinicalEvent]) -> list[Resection]:
    """Residual volume and extent of resection of every surgery with a visit before and after.

    The extent is given only from scans within :data:`MOST_DAYS_TO_SURGERY` that no other surgery separates.
    """
    days = [visit.day for visit in visits if visit.day is not None]
    surgeries = [event.day for event in events if event.kind is EventKind.SURGERY]
    found = []
    for surgery in surgeries if len(days) == len(visits) else []:
        before = [index for index, day in enumerate(days) if day <= surgery]
        after = [index for index, day in enumerate(days) if day > surgery]
        if not before or not after:
            continue
        first, second = before[-1], after[0]
        others = [day for day in surgeries if day != surgery and days[first] <= day < days[second]]
        for region in REGIONS:
            volume, residual = visits[first].volumes_ml[region], visits[second].volumes_ml[region]
            note = visits[first].unseen(region) or visits[second].unseen(region)
            note = note or _far_from_surgery(surgery, days[first], days[second], others)
            extent = 100 * (volume - residual) / volume if volume > 0 and not note else None
            found.append(Resection(surgery, first, second, region, volume, residual, extent, note))
    return found


def _far_from_surgery(surgery: date, before: date, after: date, others: Sequence[date]) -> str:
    """Why two scans do not tell what a surgery removed; empty where they do."""
    if others:
        return "another surgery lies between the two scans"
    waited = {"before": (surgery - before).days, "after": (after - surgery).days}
    late = [f"{days} days {when}" for when, days in waited.items() if days > MOST_DAYS_TO_SURGERY]
    return f"scanned {' and '.join(late)} the surgery, {MOST_DAYS_TO_SURGERY} at most" if late else ""


def baseline_index(assessment: Responses, history: PatientHistory) -> int:
    """Index of the last baseline; 0 where no visit qualifies."""
    if not assessment.baselines:
        return 0
    day = assessment.baselines[-1][0]
    return next(index for index, visit in enumerate(history.visits) if visit.day == day)


def baselines_of(assessment: Responses, history: PatientHistory) -> list[int | None]:
    """Of each visit, the index of the baseline of its own episode; a visit that only begins one has none."""
    days = [visit.day for visit in history.visits]
    starts = [days.index(day) for day, _ in assessment.baselines]
    opening = {row.visit for row in assessment.rows if row.category is Category.BASELINE}
    found: list[int | None] = []
    for index, visit in enumerate(history.visits):
        earlier = [start for start in starts if start < index]
        found.append(earlier[-1] if earlier and visit.visit not in opening else None)
    return found


def judged_region(disease: Disease) -> str:
    """The region whose growth and pictures lead: enhancing tumour, or the whole tumour where it does not enhance."""
    return "WT" if disease is Disease.NON_ENHANCING else "ET"
