"""What is known about one patient over time: measured lesions and clinical events. Values, checked when made."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from itertools import pairwise

from brats_seg.core.errors import InputError
from brats_seg.core.tables import Calendar, say
from brats_seg.response.criteria import Compartment

MAX_DIAMETER_MM = 300.0
MAX_VOLUME_ML = 3000.0
"""Larger than any head; a number beyond is in another unit."""
MAX_STEROID_MG = 200.0
MAX_COURSE_YEARS = 60
"""Visits of one patient further apart are a date mistyped."""


class EventKind(StrEnum):
    """Events of the clinical table."""

    BASELINE = "baseline"
    RADIOTHERAPY_END = "radiotherapy_end"
    SURGERY = "surgery"
    TREATMENT_START = "treatment_start"
    STEROID_MG = "steroid_mg"
    CLINICAL_STATUS = "clinical_status"


class ClinicalStatus(StrEnum):
    """Clinical status against the baseline visit."""

    STABLE = "stable"
    BETTER = "better"
    WORSE = "worse"


@dataclass(frozen=True)
class LesionMeasurement:
    """One lesion at one visit. A lesion with zeros is one that was looked for and is gone.

    Attributes:
        lesion: the identity it keeps through all visits.
        long_mm: longest diameter; None where not measured.
        short_mm: longest perpendicular diameter; None where not measured.
        measurable: what measuring the image said (it knows slices); None to decide by the sizes here.
        part_of: the lesion it split from, whose sum it still belongs to; empty otherwise.
        ancestors: that lesion, and what it split from in turn; filled in by :class:`PatientHistory`.
        line: line of the table it came from, for messages.

    Raises:
        InputError: if a number is negative, not finite, of another unit, or the short diameter exceeds the long one.
    """

    lesion: str
    compartment: Compartment
    long_mm: float | None = None
    short_mm: float | None = None
    volume_ml: float | None = None
    measurable: bool | None = None
    part_of: str = ""
    line: int | None = None
    ancestors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"{at_line(self.line)}lesion {self.lesion!r}"
        if not self.lesion.strip():
            raise InputError(f"{at_line(self.line)}a measured lesion needs a name that it keeps over all visits")
        limits = (("long_mm", MAX_DIAMETER_MM), ("short_mm", MAX_DIAMETER_MM), ("volume_ml", MAX_VOLUME_ML))
        for name, limit in limits:
            check_number(getattr(self, name), name, limit=limit, where=where)
        if (self.long_mm is None) != (self.short_mm is None):
            given = "long_mm" if self.short_mm is None else "short_mm"
            raise InputError(f"{where} has only {given}. Give both diameters, or leave both empty.")
        if self.long_mm is not None and self.short_mm is not None:
            if self.short_mm > self.long_mm:
                raise InputError(
                    f"{where}: short_mm {self.short_mm:g} is longer than long_mm {self.long_mm:g}. Swap the two."
                )
            if self.long_mm > 0 and self.short_mm == 0:
                raise InputError(f"{where}: long_mm is {self.long_mm:g} and short_mm 0. Give 0 for both if it is gone.")
        if self.part_of == self.lesion:
            raise InputError(f"{where} cannot be part of itself; leave part_of empty")

    @property
    def product_mm2(self) -> float | None:
        """Product of the two diameters; None where they were not measured."""
        return None if self.long_mm is None or self.short_mm is None else self.long_mm * self.short_mm

    @property
    def present(self) -> bool:
        """Whether the lesion is seen: some number is above zero, or it is listed without numbers."""
        numbers = [n for n in (self.long_mm, self.volume_ml) if n is not None]
        return not numbers or any(number > 0 for number in numbers)


@dataclass(frozen=True)
class VisitMeasurements:
    """Everything measured at one visit; without any lesion and any mark, nothing was seen.

    A lesion that is known from earlier visits and has no row here was not measured; one with zeros is gone.

    Attributes:
        specks_ml: by compartment, what is seen in pieces too small to be lesions; none where left out.
        not_assessable: compartments that the visit's scans do not show, and why.
        nothing_seen: compartments that were looked at and hold no lesion.

    Raises:
        InputError: if a lesion is listed twice in one compartment.
    """

    visit: str
    day: date
    lesions: tuple[LesionMeasurement, ...] = ()
    specks_ml: Mapping[Compartment, float] = field(default_factory=dict)
    not_assessable: Mapping[Compartment, str] = field(default_factory=dict)
    nothing_seen: frozenset[Compartment] = frozenset()

    def __post_init__(self) -> None:
        if not self.visit.strip():
            raise InputError("a visit needs a name")
        seen: dict[tuple[Compartment, str], LesionMeasurement] = {}
        for lesion in self.lesions:
            key = (lesion.compartment, lesion.lesion)
            if key in seen:
                first = f" (first in line {seen[key].line})" if seen[key].line is not None else ""
                raise InputError(
                    f"{at_line(lesion.line)}lesion {lesion.lesion!r} ({lesion.compartment}) is listed twice at visit "
                    f"{self.visit}{first}. Give one row per lesion and visit."
                )
            seen[key] = lesion

    def of(self, compartment: Compartment) -> tuple[LesionMeasurement, ...]:
        """Lesions of one compartment that are seen; none where it cannot be assessed."""
        return tuple(lesion for lesion in self.listed(compartment) if lesion.present)

    def listed(self, compartment: Compartment) -> tuple[LesionMeasurement, ...]:
        """Rows of one compartment, also of lesions that are gone; none where it cannot be assessed."""
        if compartment in self.not_assessable:
            return ()
        return tuple(lesion for lesion in self.lesions if lesion.compartment is compartment)

    def specks_in(self, compartment: Compartment) -> float:
        """Ml in specks; none where the compartment cannot be assessed."""
        return 0.0 if compartment in self.not_assessable else self.specks_ml.get(compartment, 0.0)

    def is_empty(self, compartment: Compartment) -> bool:
        """Whether a compartment was looked at and nothing was seen: so marked, or no row at all."""
        if compartment in self.not_assessable:
            return False
        return compartment in self.nothing_seen or not (self.lesions or self.nothing_seen)


@dataclass(frozen=True)
class ClinicalEvent:
    """One row of the clinical table.

    Attributes:
        steroid_mg: daily dexamethasone dose from that day on; only for :attr:`EventKind.STEROID_MG`.
        status: only for :attr:`EventKind.CLINICAL_STATUS`.
        line: line of the table it came from, for messages.

    Raises:
        InputError: if a value is missing, negative, or given where none belongs.
    """

    day: date
    kind: EventKind
    steroid_mg: float | None = None
    status: ClinicalStatus | None = None
    line: int | None = None

    def __post_init__(self) -> None:
        where = f"{at_line(self.line)}event {self.kind}"
        if (self.kind is EventKind.STEROID_MG) != (self.steroid_mg is not None):
            raise InputError(f"{where}: a daily dose in mg belongs to steroid_mg events, and to no other")
        if (self.kind is EventKind.CLINICAL_STATUS) != (self.status is not None):
            raise InputError(f"{where}: {', '.join(ClinicalStatus)} belongs to clinical_status events, and to no other")
        check_number(self.steroid_mg, "steroid_mg", limit=MAX_STEROID_MG, where=where)


@dataclass(frozen=True)
class PatientHistory:
    """Visits and events of one patient; both are put in order of their days, and parts learn their ancestors.

    Attributes:
        visits: at least one.
        calendar: whether days are dates, or stand for offsets or for the mere order, counted from
            :data:`~brats_seg.core.tables.DAY_ZERO`.

    Raises:
        InputError: if there is no visit, two visits share a name or a date, names differ only in case, spaces or a
            decimal, a part belongs to no measured lesion, a ``baseline`` event fits no visit, or two events of one
            kind contradict each other on one day.
    """

    patient: str
    visits: tuple[VisitMeasurements, ...]
    events: tuple[ClinicalEvent, ...] = ()
    calendar: Calendar = Calendar.DATES

    def __post_init__(self) -> None:
        if not self.visits:
            raise InputError(f"patient {self.patient} has no visit")
        _no_repeats(self.patient, (visit.visit for visit in self.visits), "two visits are called")
        _no_repeats(self.patient, (self.say(visit.day) for visit in self.visits), "two visits have the date")
        refuse_lookalikes(((visit.visit, "") for visit in self.visits), "visit", where=f"patient {self.patient}: ")
        kinds = list(EventKind)
        visits = _with_ancestors(self.patient, sorted(self.visits, key=lambda visit: visit.day))
        object.__setattr__(self, "visits", visits)
        object.__setattr__(
            self, "events", tuple(sorted(self.events, key=lambda event: (event.day, kinds.index(event.kind))))
        )
        self._check_dates()
        values: dict[tuple[date, EventKind], ClinicalEvent] = {}
        for event in self.events:
            other = values.setdefault((event.day, event.kind), event)
            if (other.steroid_mg, other.status) != (event.steroid_mg, event.status):
                raise InputError(
                    f"{at_line(event.line)}patient {self.patient}: two different values of {event.kind} on "
                    f"{self.say(event.day)}. Keep one."
                )

    def _check_dates(self) -> None:
        days = [visit.day for visit in self.visits]
        for one, other in pairwise(days):
            if (other - one).days > MAX_COURSE_YEARS * 365.25:
                raise InputError(
                    f"patient {self.patient}: visits of {self.say(one)} and {self.say(other)} lie more than "
                    f"{MAX_COURSE_YEARS} years apart. Correct one."
                )
        for event in self.events:
            if event.kind is EventKind.BASELINE and event.day not in days:
                raise InputError(
                    f"{at_line(event.line)}patient {self.patient}: baseline {self.say(event.day)} is the date of no "
                    f"visit (visits: {', '.join(self.say(day) for day in days)}). Give the date of the baseline visit."
                )

    def say(self, day: date) -> str:
        """A day in the words the visits were dated in: a date, ``day 35``, or the visit's name."""
        visit = next((visit.visit for visit in self.visits if visit.day == day), "no visit")
        return say(day, self.calendar) or visit

    def spoken(self, text: str) -> str:
        """A sentence without days that only stand for offsets or for the order."""
        if self.calendar is Calendar.DATES:
            return text
        for day in {*(visit.day for visit in self.visits), *(event.day for event in self.events)}:
            text = text.replace(day.isoformat(), self.say(day))
        return text

    def days_of(self, kind: EventKind) -> tuple[date, ...]:
        """Dates of one kind of event, earliest first."""
        return tuple(event.day for event in self.events if event.kind is kind)

    def last_before(self, kind: EventKind, day: date) -> ClinicalEvent | None:
        """The latest event of a kind on or before a day."""
        fitting = [event for event in self.events if event.kind is kind and event.day <= day]
        return fitting[-1] if fitting else None


def _with_ancestors(patient: str, visits: Iterable[VisitMeasurements]) -> tuple[VisitMeasurements, ...]:
    """Visits whose parts know all lesions they come from, however often those split."""
    visits = tuple(visits)
    parents: dict[tuple[Compartment, str], str] = {}
    for compartment in Compartment:
        rows = [lesion for visit in visits for lesion in visit.lesions if lesion.compartment is compartment]
        names = {lesion.lesion for lesion in rows}
        where = f"patient {patient}, {compartment}: "
        refuse_lookalikes(((lesion.lesion, at_line(lesion.line)) for lesion in rows), "lesion", where=where)
        for lesion in rows:
            if lesion.part_of and lesion.part_of not in names:
                raise InputError(
                    f"{at_line(lesion.line)}lesion {lesion.lesion!r} is part of {lesion.part_of!r}, which is measured "
                    f"at no visit of patient {patient}. Correct part_of, or add the rows of {lesion.part_of!r}."
                )
            key = (compartment, lesion.lesion)
            parents[key] = parents.get(key) or lesion.part_of
    return tuple(
        replace(visit, lesions=tuple(replace(item, ancestors=_ancestors(item, parents)) for item in visit.lesions))
        for visit in visits
    )


def _ancestors(lesion: LesionMeasurement, parents: Mapping[tuple[Compartment, str], str]) -> tuple[str, ...]:
    found: list[str] = []
    parent = lesion.part_of
    while parent:
        if parent == lesion.lesion or parent in found:
            names = ", ".join(sorted({lesion.lesion, *found}))
            raise InputError(f"{at_line(lesion.line)}lesions {names} are parts of each other. Correct part_of.")
        found.append(parent)
        parent = parents[lesion.compartment, parent]
    return tuple(found)


def refuse_lookalikes(names: Iterable[tuple[str, str]], what: str, *, where: str) -> None:
    """Refuse two names that differ only in case, spaces, leading zeros or a decimal, as spreadsheets leave them.

    Args:
        names: with the place of each in words, such as ``line 3: ``.
        where: they are, in words.

    Raises:
        InputError: naming both.
    """
    first: dict[str, str] = {}
    for name, place in names:
        other = first.setdefault(_folded(name), name)
        if other != name:
            raise InputError(
                f"{place}{where}{what} {name!r} differs from {other!r} only in case, spaces or a decimal. "
                "Write it alike wherever it is the same, and tell it apart by more where it is not."
            )


def _folded(name: str) -> str:
    """``L 01`` and ``l1``, and ``1.0`` and ``1``, become one; ``1-1`` and ``11`` do not."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = re.sub(r"(?<!\d)[\s_-]+|[\s_-]+(?!\d)", "", text.strip())
    text = re.sub(r"[\s_-]+", "-", text)
    text = re.sub(r"^(\d+)[.,]0+$", r"\1", text)
    return re.sub(r"(?<![\d.])0+(?=\d)", "", text)


def at_line(line: int | None) -> str:
    """``line 7: `` for messages, or nothing where the line is not known."""
    return f"line {line}: " if line is not None else ""


def check_number(value: float | None, name: str, *, limit: float, where: str) -> None:
    """Refuse a number that is negative, not finite or beyond ``limit``; None passes.

    Raises:
        InputError: with the value.
    """
    if value is None:
        return
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{where}: {name} is {value:g}; it must be 0 or more. Leave it empty if it was not measured.")
    if value > limit:
        raise InputError(f"{where}: {name} is {value:g}, more than {limit:g}. Is it in another unit?")


def _no_repeats(patient: str, values: Iterable[str], what: str) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise InputError(f"patient {patient}: {what} {value}. Give each visit its own name and its own date.")
