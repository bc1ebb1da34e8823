"""The truth about a phantom patient as the response engine reads it, and answers held against it.

The engine that judges measurements also judges the exact volumes and diameters of the phantom's bodies, so that a
difference between the two answers comes from segmentation, alignment, matching and measurement alone; the engine
itself is held against written histories in ``tests/response/test_rano_histories.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from brats_seg.phantom.kinds import TumourKind
from brats_seg.response.assess import assess
from brats_seg.response.criteria import RANO2, Compartment, Criteria
from brats_seg.response.history import (
    ClinicalEvent,
    EventKind,
    LesionMeasurement,
    PatientHistory,
    VisitMeasurements,
)
from brats_seg.response.responses import OVERALL, Category, Measure, Response, Responses, Status

FAR_POINTS = 10.0
"""A visit counts as far from a threshold where the true change is more than so many percentage points from each."""
DAYS_AFTER_SURGERY = 2
DAYS_AFTER_RADIOTHERAPY = 28
"""From the treatment that a phantom's script names to the visit after it."""


@dataclass(frozen=True)
class Compared:
    """One visit's true answer and the answer from measurements; one row of the table.

    Attributes:
        patient: name.
        visit: name.
        measure: ``2d`` or ``volume``.
        true: category from the exact numbers.
        true_status: preliminary, confirmed, refuted or empty.
        found: category from measurements; ``missing`` where the visit has none.
        found_status: as ``true_status``.
        points: distance of the true numbers from the nearest threshold, in percentage points; of measurability, in
            percent of the diameter.
    """

    patient: str
    visit: str
    measure: str
    true: str
    true_status: str
    found: str
    found_status: str
    points: float

    @property
    def agrees(self) -> bool:
        """Whether the categories are the same."""
        return self.true == self.found

    @property
    def is_far(self) -> bool:
        """Whether the truth is more than :data:`FAR_POINTS` from any threshold."""
        return self.points > FAR_POINTS


def events_of(days: Sequence[date], treatments: Sequence[str]) -> tuple[ClinicalEvent, ...]:
    """Clinical events that a phantom's script stands for.

    The first visit is marked as baseline, as the phantom's own truth has it; a resection starts anew.

    Args:
        days: of the visits.
        treatments: what was done before each, in the script's words; empty for nothing.
    """
    events = []
    if treatments[0] != "resection":
        events.append(ClinicalEvent(days[0], EventKind.BASELINE))
    for day, words in list(zip(days, treatments, strict=True))[1:]:
        if words == "resection":
            events.append(ClinicalEvent(day - timedelta(days=DAYS_AFTER_SURGERY), EventKind.SURGERY))
        elif words:
            events.append(ClinicalEvent(day - timedelta(days=DAYS_AFTER_RADIOTHERAPY), EventKind.RADIOTHERAPY_END))
    return tuple(events)


def true_history(
    patient: str,
    visits: Sequence[Mapping[str, Any]],
    kinds: Mapping[str, TumourKind],
    events: Sequence[ClinicalEvent],
) -> PatientHistory:
    """Exact lesions of every visit.

    Args:
        patient: name.
        visits: the truth of each visit as plain values (:meth:`brats_seg.phantom.truth.VisitTruth.to_dict`).
        kinds: of the lesions, by id; diameters are those of enhancement, in low-grade lesions those of T2/FLAIR.
        events: clinical events.
    """
    measured = []
    for visit in visits:
        lesions = []
        for lesion in visit["lesions"]:
            low_grade = kinds[lesion["lesion"]] is TumourKind.LOW_GRADE
            volumes = lesion["volume_ml"]
            lesions += _true_lesion(lesion, Compartment.ENHANCING, volumes["ET"], measured=not low_grade)
            lesions += _true_lesion(lesion, Compartment.NON_ENHANCING, volumes["WT"], measured=low_grade)
        label = f"ses-{str(visit['visit']).removeprefix('ses-')}"
        measured.append(VisitMeasurements(label, date.fromisoformat(visit["day"]), tuple(lesions)))
    return PatientHistory(patient, tuple(measured), tuple(events))


def _true_lesion(
    lesion: Mapping[str, Any], compartment: Compartment, volume_ml: float, *, measured: bool
) -> list[LesionMeasurement]:
    if volume_ml <= 0:  # looked for, and not there
        return [LesionMeasurement(lesion["lesion"], compartment, 0.0, 0.0, 0.0)]
    long_mm, short_mm = (lesion["long_mm"], lesion["short_mm"]) if measured and lesion["long_mm"] > 0 else (None, None)
    return [LesionMeasurement(lesion["lesion"], compartment, long_mm, short_mm, volume_ml)]


def compare(truth: PatientHistory, found: Mapping[tuple[str, str], tuple[str, str]]) -> list[Compared]:
    """Answers from measurements held against those from the truth, for every visit after the first baseline.

    Args:
        truth: of the patient.
        found: category and status by visit and measure (``2d``, ``volume``).
    """
    rows = []
    judged = assess(truth, RANO2)
    for measure in Measure:
        answers = judged.overall(measure)
        for index, answer in enumerate(answers):
            if answer.category in (Category.BASELINE, Category.NE):
                continue
            category, status = found.get((answer.visit, measure.value), ("missing", ""))
            points = _points(truth, judged, _settled_at(answers, index), measure)
            rows.append(
                Compared(
                    patient=truth.patient,
                    visit=answer.visit,
                    measure=measure.value,
                    true=answer.category.value,
                    true_status=answer.status.value,
                    found=category,
                    found_status=status,
                    points=points,
                )
            )
    return rows


def _settled_at(answers: Sequence[Response], index: int) -> int:
    """The visit whose numbers decide: of a progression that stands, the visit that began it."""
    if answers[index].category is not Category.PD:
        return index
    first = index
    while first > 0 and answers[first - 1].category is Category.PD and answers[first - 1].status is not Status.REFUTED:
        first -= 1
    return first


def _points(truth: PatientHistory, judged: Responses, index: int, measure: Measure) -> float:
    """Percentage points between the true change of a visit and the nearest threshold."""
    compartments = [c.value for c in judged.disease.compartments]
    label = truth.visits[index].visit
    distances = [_near_measurable(truth, judged, index)]
    for row in judged.rows:
        if (row.visit, row.measure) == (label, measure) and row.compartment in compartments:
            distances += _distances(row, judged.criteria, measure)
    return min(distances)


def _distances(row: Response, criteria: Criteria, measure: Measure) -> list[float]:
    """Of the true percentages from every threshold of the criteria."""
    planar = measure is Measure.PLANAR
    partial = (criteria.partial_2d_percent if planar else criteria.partial_volume_percent).value
    minor = (criteria.minor_2d_percent if planar else criteria.minor_volume_percent).value
    growth = (criteria.progression_2d_percent if planar else criteria.progression_volume_percent).value
    found = []
    base, nadir = row.percent_from_baseline, row.percent_from_nadir
    if base is not None:
        found.append(abs(base - partial))
        if row.category is not Category.CR:
            found.append(base + 100.0)  # what is left of nothing is a complete response
        if minor is not None and Compartment(row.compartment) in criteria.minor_compartments.value:
            found.append(abs(base - minor))
    if nadir is not None:
        found.append(abs(nadir - growth))
    return found or [float("inf")]


def _near_measurable(truth: PatientHistory, judged: Responses, index: int) -> float:
    """Distance of lesions from being measurable, in percent of the limit, where it decides; else infinity.

    It decides about lesions of the baseline, which may be targets, and at the visit about all others.
    """
    limit = RANO2.measurable_diameter_mm.value
    day = truth.visits[index].day
    starts = [
        number for number, visit in enumerate(truth.visits) for episode in judged.episodes if visit.day == episode.day
    ]
    baseline = max((number for number in starts if truth.visits[number].day <= day), default=0)
    compartments = judged.disease.compartments
    targets = {lesion.lesion for lesion in truth.visits[baseline].lesions if (lesion.short_mm or 0.0) >= limit}
    distances = [float("inf")]
    for visit in (baseline, index):
        for lesion in truth.visits[visit].lesions:
            if lesion.compartment not in compartments or lesion.short_mm is None:
                continue
            if visit == baseline or lesion.lesion not in targets:
                distances.append(100.0 * abs(lesion.short_mm / limit - 1.0))
    return min(distances)


def answers_of(assessment: Responses) -> dict[tuple[str, str], tuple[str, str]]:
    """Category and status by visit and measure, for :func:`compare`."""
    return {
        (row.visit, row.measure.value): (row.category.value, row.status.value)
        for row in assessment.rows
        if row.compartment == OVERALL
    }
