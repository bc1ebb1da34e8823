"""A patient's course from measurements: history for the response engine, changes, surgery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

from brats_seg.longitudinal.criteria import Compartment, Criteria
from brats_seg.longitudinal.history import (
    ClinicalEvent,
    EventKind,
    LesionMeasurement,
    PatientHistory,
    VisitMeasurements,
)
from brats_seg.longitudinal.lesion_course import COMPARTMENTS, RegionCourse
from brats_seg.longitudinal.rano import Disease, ResponseAssessment, assess
from brats_seg.longitudinal.repeatability import Change, Measured, change_between

NOT_VALIDATED = "segmentation not validated after treatment"
UNDATED = "dates of the visits"
REGIONS = ("WT", "TC", "ET")
FOLLOWED = ("ET", "WT")
"""Regions whose lesions are followed one by one."""

_UNDATED_START = date(1900, 1, 1)
TREATED_BY = (EventKind.SURGERY, EventKind.RADIOTHERAPY_END)
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
        by_model: whether the label map was made by this program's model, and not given.
        knows_treatment: whether the model was trained on scans after treatment.
        not_assessable: compartments that the visit's scans do not show, and why.
    """

    label: str
    day: date | None
    volumes_ml: Mapping[str, float]
    slice_mm: float
    by_model: bool
    knows_treatment: bool = False
    not_assessable: Mapping[Compartment, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """As the table of measurement errors names it."""
        return "model" if self.by_model else "given"

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
        extent_percent: removed share; None where there was nothing.
    """

    day: date
    before: int
    after: int
    region: str
    before_ml: float
    residual_ml: float
    extent_percent: float | None


def history_of(
    patient: str,
    visits: Sequence[VisitVolumes],
    courses: Mapping[str, RegionCourse],
    events: Sequence[ClinicalEvent],
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
        day = visit.day if dated and visit.day is not None else _UNDATED_START + timedelta(days=index)
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
    return PatientHistory(patient, tuple(measured), tuple(events))


def judge(
    history: PatientHistory,
    visits: Sequence[VisitVolumes],
    courses: Mapping[str, RegionCourse],
    criteria: Criteria,
    *,
    disease: Disease | None = None,
    day_words: Mapping[date, str] | None = None,
) -> ResponseAssessment:
    """Response of every visit, with what the images themselves leave open added to ``missing``.

    Args:
        history: what is judged.
        visits: volumes by visit.
        courses: lesions of the followed regions.
        criteria: the table to judge by.
        disease: which compartments; None chooses by the baseline.
        day_words: what to write for days that only stand in for unknown ones.
    """
    assessment = assess(history, criteria, disease=disease)
    notes = {visit.label: _open_questions(index, visit, visits, courses, history) for index, visit in enumerate(visits)}
    words = day_words or {}
    rows = tuple(
        replace(
            row,
            reasons=tuple(spoken(reason, words) for reason in row.reasons),
            missing=tuple(spoken(item, words) for item in dict.fromkeys((*row.missing, *notes[row.visit]))),
        )
        for row in assessment.rows
    )
    baselines = tuple((day, spoken(why, words)) for day, why in assessment.baselines)
    return replace(assessment, rows=rows, baselines=baselines)


def spoken(text: str, day_words: Mapping[date, str]) -> str:
    """A sentence without days that only stand in for unknown ones."""
    for stand_in, shown in day_words.items():
        text = text.replace(stand_in.isoformat(), shown)
    return text


def treated_before(history: PatientHistory, day: date) -> str:
    """The surgery or radiotherapy a visit comes after, in words; a visit on the day itself comes before it."""
    eve = day - timedelta(days=1)
    events = [event for kind in TREATED_BY if (event := history.last_before(kind, eve)) is not None]
    return ", ".join(f"{event.kind.value} {event.day}" for event in events)


def _open_questions(
    index: int,
    visit: VisitVolumes,
    visits: Sequence[VisitVolumes],
    courses: Mapping[str, RegionCourse],
    history: PatientHistory,
) -> list[str]:
    notes = []
    if visit.day is None:
        notes.append(UNDATED)
    elif visit.by_model and not visit.knows_treatment and (after := treated_before(history, visit.day)):
        notes.append(f"{NOT_VALIDATED} ({after})")
    specks = {region: courses[region].specks_ml[index] for region in FOLLOWED}
    for region, volume_ml in specks.items():
        if volume_ml > 0:
            notes.append(f"{volume_ml:.2f} ml of {region} in specks too small to be lesions are not judged")
    if len({seen.by_model for seen in visits}) > 1:
        notes.append("label maps of several origins are compared")
    return notes


def changes_of(visits: Sequence[VisitVolumes], courses: Mapping[str, RegionCourse], baseline: int) -> list[ChangeRow]:
    """Change of every region and lesion against baseline, nadir since baseline, and the visit before.

    Args:
        visits: in order of time.
        courses: lesions of the followed regions.
        baseline: index of the visit that counts as baseline.
    """
    series: list[tuple[str, str, dict[int, float]]] = [
        (region, "", {index: visit.volumes_ml[region] for index, visit in enumerate(visits)}) for region in REGIONS
    ]
    for region in FOLLOWED:
        by_lesion: dict[str, dict[int, float]] = {}
        for row in courses[region].rows:
            by_lesion.setdefault(row.lesion, {})[row.visit] = row.volume_ml
        series += [(region, lesion, volumes) for lesion, volumes in by_lesion.items()]
    rows = []
    for index in range(1, len(visits)):
        for region, lesion, volumes in series:
            if index not in volumes:
                continue
            for against, reference in _references(index, volumes, baseline).items():
                change = change_between(
                    visits[reference].measured(volumes[reference]), visits[index].measured(volumes[index])
                )
                rows.append(ChangeRow(index, region, lesion, against, reference, change))
    return rows


def _references(index: int, volumes: Mapping[int, float], baseline: int) -> dict[str, int]:
    """Visits a volume is compared with; a lesion that came later is compared with its first visit as baseline."""
    earlier = [visit for visit in volumes if visit < index]
    if not earlier:
        return {}
    since = [visit for visit in earlier if visit >= baseline]
    if not since:
        return {"last": earlier[-1]}
    return {"baseline": since[0], "nadir": min(since, key=lambda visit: (volumes[visit], visit)), "last": earlier[-1]}


def resections_of(visits: Sequence[VisitVolumes], events: Sequence[ClinicalEvent]) -> list[Resection]:
    """Residual volume and extent of resection of every surgery with a visit before and after."""
    found = []
    for event in events:
        days = [visit.day for visit in visits]
        if event.kind is not EventKind.SURGERY or any(day is None for day in days):
            continue
        before = [index for index, day in enumerate(days) if day is not None and day <= event.day]
        after = [index for index, day in enumerate(days) if day is not None and day > event.day]
        if not before or not after:
            continue
        for region in REGIONS:
            volume, residual = visits[before[-1]].volumes_ml[region], visits[after[0]].volumes_ml[region]
            extent = 100 * (volume - residual) / volume if volume > 0 else None
            found.append(Resection(event.day, before[-1], after[0], region, volume, residual, extent))
    return found


def baseline_index(assessment: ResponseAssessment, history: PatientHistory) -> int:
    """Index of the last baseline; 0 where no visit qualifies."""
    if not assessment.baselines:
        return 0
    day = assessment.baselines[-1][0]
    return next(index for index, visit in enumerate(history.visits) if visit.day == day)


def judged_region(disease: Disease) -> str:
    """The region whose growth and pictures lead: enhancing tumour, or the whole tumour where it does not enhance."""
    return "WT" if disease is Disease.NON_ENHANCING else "ET"
