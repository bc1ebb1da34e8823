"""Response of one patient as values: the answer for each visit, the episodes, and what follows from both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Any

from brats_seg.core.tables import Calendar, csv_text, dated, say
from brats_seg.response.criteria import Compartment, Criteria
from brats_seg.response.history import ClinicalEvent, LesionMeasurement

OVERALL = "overall"
"""Name of the row that combines the compartments."""
UNDATED = "dates of the visits"
GUESS = "a guess"
RESPONSE_COLUMNS = (
    *("patient", "visit", "date", "days", "criteria", "compartment", "measure", "category", "status"),
    *("percent_from_baseline", "percent_from_nadir", "reasons", "missing", "reader"),
)
SEPARATOR = "; "
"""Between several reasons or missing facts in one cell."""


class Category(StrEnum):
    """Response category of one visit."""

    BASELINE = "baseline"
    CR = "CR"
    PR = "PR"
    MR = "MR"
    SD = "SD"
    PD = "PD"
    NE = "NE"


class Measure(StrEnum):
    """How size is measured."""

    PLANAR = "2d"
    VOLUME = "volume"

    @property
    def words(self) -> str:
        """What is summed, for reasons in words."""
        return "sum of products" if self is Measure.PLANAR else "volume"

    @property
    def unit(self) -> str:
        """Unit of the sum."""
        return "mm2" if self is Measure.PLANAR else "ml"

    def size(self, lesion: LesionMeasurement) -> float | None:
        """Size of a lesion in this measure; None where it was not measured this way."""
        return lesion.product_mm2 if self is Measure.PLANAR else lesion.volume_ml


@dataclass(frozen=True)
class Look:
    """Something a reader has to look at.

    Attributes:
        about: what it is about, to tell repeated ones at later visits.
    """

    about: str
    words: str


BEST_FIRST = (Category.CR, Category.PR, Category.MR, Category.SD, Category.PD)
"""Categories of visits that could be judged."""


class Status(StrEnum):
    """Whether later visits bear an answer out; empty where no confirmation applies."""

    NONE = ""
    PRELIMINARY = "preliminary"
    CONFIRMED = "confirmed"
    REFUTED = "refuted"


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
class Response:
    """The answer for one visit, compartment and measure; one row of the responses table.

    It is filled step by step: by the numbers alone (:mod:`.visit_assessment`), with clinical facts (:mod:`.clinical`),
    with what later visits confirm (:mod:`.confirmation`), and at last with whose it is (:mod:`.assess`).

    Attributes:
        status: preliminary, confirmed, refuted, or none where no confirmation applies.
        percent_from_baseline: signed change of the sum; None where undefined and in overall rows.
        percent_from_nadir: the same against the smallest sum of the visits before.
        reasons: which rule and which numbers, in words.
        absent: whether the compartment holds nothing, now and at every visit since baseline.
        size: the sum; None where it was not measured.
        nadir: index, within its episode, of the visit with the smallest sum before.
        grown: whether growth of the sum, and nothing else, makes it progression.
        by_decline: whether a clinical decline, and no image, makes it progression.
        compartment: ``enhancing``, ``non_enhancing`` or ``overall``.
    """

    category: Category
    status: Status = Status.NONE
    percent_from_baseline: float | None = None
    percent_from_nadir: float | None = None
    reasons: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    looks: tuple[Look, ...] = ()
    absent: bool = False
    size: float | None = None
    nadir: int | None = None
    grown: bool = False
    growth_percent: float | None = None
    by_decline: bool = False
    patient: str = ""
    visit: str = ""
    day: date = date.min
    calendar: Calendar = Calendar.DATES
    criteria: str = ""
    compartment: str = OVERALL
    measure: Measure = Measure.PLANAR

    @property
    def when(self) -> str:
        """Its date or day offset, or the visit where neither is known."""
        return say(self.day, self.calendar) or self.visit

    @property
    def decided_by(self) -> str:
        """The first rule that was met, without the category; empty where none is named."""
        found = [reason for reason in self.reasons if f"{self.category}: " in reason]
        return found[0].split(f"{self.category}: ", 1)[1] if found else ""

    def to_row(self) -> dict[str, str]:
        """Its row of the responses table as text, columns as :data:`RESPONSE_COLUMNS`."""
        return {
            "patient": self.patient,
            "visit": self.visit,
            **dated(self.day, self.calendar),
            "criteria": self.criteria,
            "compartment": self.compartment,
            "measure": self.measure.value,
            "category": self.category.value,
            "status": self.status.value,
            "percent_from_baseline": signed_percent(self.percent_from_baseline),
            "percent_from_nadir": signed_percent(self.percent_from_nadir),
            "reasons": SEPARATOR.join(self.reasons),
            "missing": SEPARATOR.join(self.missing),
            "reader": SEPARATOR.join(look.words for look in self.looks),
        }

    def to_dict(self) -> dict[str, Any]:
        """The same with numbers and lists, for JSON."""
        return {
            **self.to_row(),
            "percent_from_baseline": self.percent_from_baseline,
            "percent_from_nadir": self.percent_from_nadir,
            "reasons": list(self.reasons),
            "missing": list(self.missing),
            "reader": [look.words for look in self.looks],
        }


def signed_percent(value: float | None) -> str:
    """``+25.00``, ``-50.00``, ``+0.00``, or empty where undefined."""
    return "" if value is None else f"{round(value, 2) + 0.0:+.2f}"


@dataclass(frozen=True)
class Episode:
    """Visits judged against one baseline.

    Attributes:
        baseline: index of the baseline visit.
        last: index of the last visit judged against it.
        why: how the baseline was chosen, in words.
        since: day from which a clinical decline belongs to this episode: of its baseline or its treatment.
        cause: the event that set it; None where the first visit was taken for want of an event.
        judged_before: whether the baseline visit is also the last visit of the episode before (the scan before a
            new treatment), whose category it keeps.
        disease_reason: given, or how it was chosen, in words.
    """

    baseline: int
    last: int
    why: str
    since: date
    cause: ClinicalEvent | None = None
    judged_before: bool = False
    visit: str = ""
    day: date = date.min
    when: str = ""
    disease: Disease = Disease.MIXED
    disease_reason: str = ""


@dataclass(frozen=True)
class Responses:
    """All answers for one patient.

    Attributes:
        episodes: in order of time; at least one.
        rows: by visit, measure and compartment.
        notes: what was decided or could not be judged about the whole course, in words.
    """

    patient: str
    criteria: Criteria
    episodes: tuple[Episode, ...]
    rows: tuple[Response, ...]
    notes: tuple[str, ...] = ()

    @property
    def disease(self) -> Disease:
        """Which compartments are judged in the latest episode."""
        return self.episodes[-1].disease

    @property
    def disease_reason(self) -> str:
        """How that was chosen, in words."""
        return self.episodes[-1].disease_reason

    def overall(self, measure: Measure, episode: int | None = None) -> tuple[Response, ...]:
        """Overall rows of one measure, in order of time; of one episode those after its baseline."""
        rows = tuple(row for row in self.rows if row.compartment == OVERALL and row.measure is measure)
        if episode is None:
            return rows
        chosen = self.episodes[episode]
        return rows[chosen.baseline + 1 : chosen.last + 1]

    def latest(self, measure: Measure) -> int:
        """Index of the latest episode in which any visit got a category; the last one if none did."""
        judged = [
            number
            for number in range(len(self.episodes))
            if any(row.category in BEST_FIRST for row in self.overall(measure, number))
        ]
        return judged[-1] if judged else len(self.episodes) - 1

    def best(self, measure: Measure, episode: int | None = None) -> Response | None:
        """The best overall answer of an episode, of the latest judged one where None; None if there was none.

        A confirmed response goes before one that waits for its confirmation; among equals the earliest. One that was
        not kept, or that no scan of its episode confirmed, counts as stable disease where the criteria say so.
        """
        number = self.latest(measure) if episode is None else episode
        rows = [row for row in self.overall(measure, number) if row.category in BEST_FIRST]
        is_open = number == len(self.episodes) - 1
        counted = [self._as_counted(row, is_open) for row in rows]
        counted = [row for row in counted if row.status is not Status.REFUTED]
        return min(counted, key=_rank) if counted else None

    def _as_counted(self, row: Response, is_open: bool) -> Response:
        """A row as the best response counts it."""
        unconfirmed = row.status is Status.REFUTED or (row.status is Status.PRELIMINARY and not is_open)
        response = row.category in (Category.CR, Category.PR)
        if not (response and unconfirmed and self.criteria.unconfirmed_response_is_stable.value):
            return row
        reason = f"{row.category} that no later scan confirmed counts as stable disease"
        return replace(row, category=Category.SD, status=Status.NONE, reasons=(reason, *row.reasons))

    def progression(self, measure: Measure, episode: int | None = None) -> Response | None:
        """The first overall progression of an episode that was not refuted: its date is the date of progression.

        Of the latest judged episode where None. One that is still preliminary is returned only if no other follows.
        """
        number = self.latest(measure) if episode is None else episode
        found = [
            row
            for row in self.overall(measure, number)
            if row.category is Category.PD and row.status is not Status.REFUTED
        ]
        certain = [row for row in found if row.status is not Status.PRELIMINARY]
        return certain[0] if certain else (found[0] if found else None)

    def why_unjudged(self, measure: Measure, episode: int) -> str:
        """Why no visit of an episode got a category; empty where one did, or none follows the baseline."""
        rows = self.overall(measure, episode)
        if not rows or any(row.category in BEST_FIRST for row in rows):
            return ""
        return f"cannot be judged: {rows[0].reasons[0]}"

    def reader_needed(self, episode: int) -> tuple[tuple[Response, Look], ...]:
        """What a reader has to look at, each thing once, as it was at the latest visit of an episode."""
        latest: dict[str, tuple[Response, Look]] = {}
        for measure in Measure:
            for row in self.overall(measure, episode):
                for look in row.looks:
                    if look.about not in latest or latest[look.about][0].day < row.day:
                        latest[look.about] = (row, look)
        return tuple(latest.values())

    def episode_to_dict(self, number: int) -> dict[str, Any]:
        """One episode with its best response, its progression and what a reader has to look at, as plain values."""
        episode = self.episodes[number]
        return {
            "baseline": episode.when,
            "visit": episode.visit,
            "why": episode.why,
            "disease": episode.disease.value,
            "disease_reason": episode.disease_reason,
            "best": {measure.value: _answer(self.best(measure, number)) for measure in Measure},
            "progression": {measure.value: _answer(self.progression(measure, number)) for measure in Measure},
            "unjudged": {measure.value: self.why_unjudged(measure, number) for measure in Measure},
            "reader_needed": [
                {"visit": row.visit, "when": row.when, "words": look.words} for row, look in self.reader_needed(number)
            ],
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything about the patient as plain values, for JSON."""
        return {
            "patient": self.patient,
            "criteria": self.criteria.label,
            "notes": list(self.notes),
            "episodes": [self.episode_to_dict(number) for number in range(len(self.episodes))],
            "responses": [row.to_dict() for row in self.rows],
        }


def responses_csv(assessments: Iterable[Responses]) -> str:
    """The responses table as comma-separated text."""
    return csv_text(RESPONSE_COLUMNS, [row.to_row() for assessment in assessments for row in assessment.rows])


def responses_json(assessments: Sequence[Responses], *, warnings: Sequence[str] = ()) -> str:
    """The same as JSON, with the criteria tables in force, each episode, and warnings about the tables."""
    tables = {assessment.criteria.label: assessment.criteria.table() for assessment in assessments}
    patients = [assessment.to_dict() for assessment in assessments]
    whole = {"warnings": list(warnings), "criteria": tables, "patients": patients}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _answer(row: Response | None) -> dict[str, str] | None:
    if row is None:
        return None
    known = {"category": row.category.value, "status": row.status.value}
    return {"visit": row.visit, "when": row.when, **known, "decided_by": row.decided_by}


def _rank(row: Response) -> tuple[int, date]:
    """Confirmed complete and partial responses, then those that wait, then the rest."""
    order = BEST_FIRST.index(row.category)
    waits = row.category in (Category.CR, Category.PR) and row.status is Status.PRELIMINARY
    return (order + 2 if waits else order if order < 2 else order + 2, row.day)
