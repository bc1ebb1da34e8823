"""Response assessment: one state machine for every set of criteria.

For each episode (:mod:`.episodes`), compartment and measure it reads every visit's numbers (:mod:`.reading`), takes
the clinical facts into account (:mod:`.facts`) and settles what later visits confirm or refute (:mod:`.settle`);
compartments are then combined into the patient's overall category. All thresholds are rows of
:mod:`.criteria`; changing a row changes the answer and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from brats_seg.longitudinal.criteria import Compartment, Criteria
from brats_seg.longitudinal.episodes import Episode, episodes_of
from brats_seg.longitudinal.facts import facts_at, with_facts
from brats_seg.longitudinal.history import PatientHistory, VisitMeasurements
from brats_seg.longitudinal.reading import Category, Course, Measure, Reading, is_measurable, read_visit
from brats_seg.longitudinal.settle import Answer, Status, settle

OVERALL = "overall"
"""Name of the row that combines the compartments."""

_BEST_FIRST = (Category.CR, Category.PR, Category.MR, Category.SD, Category.PD)


class Disease(StrEnum):
    """Which compartments are judged."""

    ENHANCING = "enhancing"
    NON_ENHANCING = "non_enhancing"
    MIXED = "mixed"

    @property
    def compartments(self) -> tuple[Compartment, ...]:
        """Compartments that are judged."""
        if self is Disease.MIXED:
            return (Compartment.ENHANCING, Compartment.NON_ENHANCING)
        return (Compartment(self.value),)


@dataclass(frozen=True)
class ResponseRow:
    """The answer for one visit, measure and compartment; one row of the responses table.

    Attributes:
        patient: the patient's id.
        visit: name of the visit.
        day: its date.
        criteria: name of the criteria.
        compartment: ``enhancing``, ``non_enhancing`` or ``overall``.
        measure: two-dimensional or volume.
        category: the answer.
        status: preliminary, confirmed, refuted, or none where no confirmation applies.
        percent_from_baseline: signed; None where undefined and in overall rows.
        percent_from_nadir: signed, against the smallest sum of the visits before; None likewise.
        reasons: which rule and which numbers, in words.
        missing: facts that were not known.
    """

    patient: str
    visit: str
    day: date
    criteria: str
    compartment: str
    measure: Measure
    category: Category
    status: Status
    percent_from_baseline: float | None
    percent_from_nadir: float | None
    reasons: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class ResponseAssessment:
    """All answers for one patient.

    Attributes:
        patient: the patient's id.
        criteria: the table in force.
        disease: which compartments were judged.
        disease_reason: given, or how it was chosen, in words.
        baselines: date of each baseline, and how it was chosen.
        rows: by visit, measure and compartment.
    """

    patient: str
    criteria: Criteria
    disease: Disease
    disease_reason: str
    baselines: tuple[tuple[date, str], ...]
    rows: tuple[ResponseRow, ...]

    def overall(self, measure: Measure) -> tuple[ResponseRow, ...]:
        """Overall rows of one measure, in order of time."""
        return tuple(row for row in self.rows if row.compartment == OVERALL and row.measure is measure)

    def best(self, measure: Measure) -> ResponseRow | None:
        """The best overall answer that was not refuted; the earliest confirmed one among equals; None if none was."""
        judged = [
            row for row in self.overall(measure) if row.category in _BEST_FIRST and row.status is not Status.REFUTED
        ]
        ranked = sorted(
            judged, key=lambda row: (_BEST_FIRST.index(row.category), row.status is Status.PRELIMINARY, row.day)
        )
        return ranked[0] if ranked else None

    def progression(self, measure: Measure) -> ResponseRow | None:
        """The first overall progression that was not refuted: its date is the date of progression.

        One that is still preliminary is returned only if no other follows.
        """
        found = [
            row for row in self.overall(measure) if row.category is Category.PD and row.status is not Status.REFUTED
        ]
        certain = [row for row in found if row.status is not Status.PRELIMINARY]
        return certain[0] if certain else (found[0] if found else None)


def assess(history: PatientHistory, criteria: Criteria, *, disease: Disease | None = None) -> ResponseAssessment:
    """Judge every visit of one patient.

    Args:
        history: measurements and clinical events.
        criteria: the table to judge by.
        disease: which compartments are judged; None chooses ``enhancing`` where the baseline has measurable
            enhancing disease, else ``non_enhancing``.
    """
    episodes = episodes_of(history, criteria)
    first = history.visits[episodes[0].baseline if episodes else 0]
    chosen, why = (disease, "given") if disease is not None else _default_disease(first, criteria)
    note = f"disease {chosen} ({why})"
    rows: list[ResponseRow] = []
    tables = {measure: _answers(history, criteria, episodes, chosen, measure) for measure in Measure}
    for index, visit in enumerate(history.visits):
        for measure in Measure:
            for name, answers in tables[measure].items():
                answer = answers[index]
                if answer.category is Category.BASELINE:
                    answer = replace(answer, reasons=(*answer.reasons, note))
                rows.append(_row(history.patient, visit, answer, criteria=criteria, compartment=name, measure=measure))
    baselines = tuple((history.visits[episode.baseline].day, episode.why) for episode in episodes)
    return ResponseAssessment(history.patient, criteria, chosen, why, baselines, tuple(rows))


def _default_disease(baseline: VisitMeasurements, criteria: Criteria) -> tuple[Disease, str]:
    if any(is_measurable(lesion, criteria) for lesion in baseline.of(Compartment.ENHANCING)):
        return Disease.ENHANCING, f"chosen: measurable enhancing disease at {baseline.visit}"
    return Disease.NON_ENHANCING, f"chosen: no measurable enhancing disease at {baseline.visit}"


def _answers(
    history: PatientHistory, criteria: Criteria, episodes: Sequence[Episode], disease: Disease, measure: Measure
) -> dict[str, list[Answer]]:
    """Answers of every visit by compartment and overall."""
    judged = {
        compartment: _judge(history, criteria, episodes, compartment=compartment, measure=measure, disease=disease)
        for compartment in disease.compartments
    }
    table: dict[str, list[Answer]] = {}
    for compartment in Compartment:
        if compartment in judged:
            table[compartment.value] = judged[compartment]
        else:
            answer = Answer(Category.NE, reasons=(f"not judged in {disease} disease",))
            table[compartment.value] = [answer] * len(history.visits)
    table[OVERALL] = [
        combine({compartment: answers[index] for compartment, answers in judged.items()})
        for index in range(len(history.visits))
    ]
    return table


def _judge(
    history: PatientHistory,
    criteria: Criteria,
    episodes: Sequence[Episode],
    *,
    compartment: Compartment,
    measure: Measure,
    disease: Disease,
) -> list[Answer]:
    """Answers of every visit in one compartment and measure."""
    before = Answer(Category.NE, reasons=("before baseline",) if episodes else ("no scan qualifies as baseline",))
    answers = [before] * len(history.visits)
    for episode in episodes:
        visits = history.visits[episode.baseline : episode.last + 1]
        course = Course(criteria, compartment, measure, visits, watch_enhancing=disease is Disease.NON_ENHANCING)
        readings = [_baseline_reading(course, episode)]
        facts = [facts_at(history, day=visit.day, baseline=visits[0].day) for visit in visits]
        for index in range(1, len(visits)):
            reading = read_visit(course, index)
            readings.append(with_facts(reading, facts[index], criteria) if course.is_measured(index) else reading)
        settled = settle(readings, visits, criteria, [fact.days_since_radiotherapy for fact in facts])
        first = replace(settled[0], missing=facts[0].missing)
        if episode.judged_before:
            old = answers[episode.baseline]
            first = replace(old, reasons=(*old.reasons, f"also the baseline from here on: {episode.why}"))
        answers[episode.baseline : episode.last + 1] = [first, *settled[1:]]
    return answers


def _baseline_reading(course: Course, episode: Episode) -> Reading:
    targets = ", ".join(course.targets) or "no measurable disease"
    value = course.sum_at(0)
    shown = f", {course.measure.words} {value:g} {course.measure.unit}" if value is not None and course.targets else ""
    reasons = [f"baseline: {episode.why}", f"targets: {targets}{shown}"]
    thresholds = course.criteria.rows()
    changed = [name for name, row in thresholds.items() if row.source.startswith("changed;")]
    reasons += [f"changed row {name}: {thresholds[name].value}" for name in changed]
    return Reading(Category.BASELINE, reasons=tuple(reasons))


def combine(answers: Mapping[Compartment, Answer]) -> Answer:
    """The overall answer from the compartments that are judged.

    RANO 2.0 for mixed tumours (Wen 2023): PD in either is PD; PR or MR with SD is PR or MR; CR with SD, MR or PR is SD,
    MR or PR; PR with MR, which it leaves open, is PR. A compartment that cannot be judged leaves only PD certain.
    """
    missing = tuple(dict.fromkeys(item for answer in answers.values() for item in answer.missing))
    if len(answers) == 1:
        (only,) = answers.values()
        return replace(only, percent_from_baseline=None, percent_from_nadir=None)
    category = _combined_category([answer.category for answer in answers.values()])
    deciding = {name: answer for name, answer in answers.items() if answer.category is category}
    reasons = [", ".join(f"{name} {answer.category}" for name, answer in answers.items()) + f": overall {category}"]
    reasons += [f"{name}: {reason}" for name, answer in deciding.items() for reason in answer.reasons]
    return Answer(category, _combined_status(tuple(deciding.values())), None, None, tuple(reasons), missing)


def _combined_category(categories: Sequence[Category]) -> Category:
    present = set(categories)
    if len(present) == 1 or Category.PD in present:
        return Category.PD if Category.PD in present else categories[0]
    if Category.NE in present or Category.BASELINE in present:
        return Category.NE
    rest = present - {Category.CR}
    return next(category for category in _BEST_FIRST if category in rest)


def _combined_status(deciding: Sequence[Answer]) -> Status:
    """For PD the surest of the deciding compartments, for a response the least sure."""
    statuses = [answer.status for answer in deciding]
    surest_first = (Status.NONE, Status.CONFIRMED, Status.PRELIMINARY, Status.REFUTED)
    ranked = sorted(statuses, key=surest_first.index)
    if deciding[0].category is Category.PD:
        return ranked[0]
    return ranked[-1]


def _row(
    patient: str, visit: VisitMeasurements, answer: Answer, *, criteria: Criteria, compartment: str, measure: Measure
) -> ResponseRow:
    return ResponseRow(
        patient=patient,
        visit=visit.visit,
        day=visit.day,
        criteria=criteria.name,
        compartment=compartment,
        measure=measure,
        category=answer.category,
        status=answer.status,
        percent_from_baseline=answer.percent_from_baseline,
        percent_from_nadir=answer.percent_from_nadir,
        reasons=answer.reasons,
        missing=answer.missing,
    )
