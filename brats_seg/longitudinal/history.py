"""What is known about one patient over time: measured lesions and clinical events. Values, checked when made."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from brats_seg.core.errors import InputError
from brats_seg.longitudinal.criteria import Compartment

MAX_DIAMETER_MM = 300.0
MAX_VOLUME_ML = 3000.0
"""Larger than any head; a number beyond is in another unit."""
MAX_STEROID_MG = 200.0


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
        compartment: enhancing or non-enhancing.
        long_mm: longest diameter; None where not measured.
        short_mm: longest perpendicular diameter; None where not measured.
        volume_ml: None where not measured.
        measurable: what measuring the image said (it knows slices); None to decide by the sizes here.
        part_of: the lesion it split from, whose sum it still belongs to; empty otherwise.
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
    """Everything measured at one visit; without lesions nothing was seen.

    Attributes:
        visit: name of the visit.
        day: date of the scan.
        lesions: in any order.
        specks_ml: by compartment, what is seen in pieces too small to be lesions; none where left out.
        not_assessable: compartments that the visit's scans do not show, and why.

    Raises:
        InputError: if a lesion is listed twice in one compartment.
    """

    visit: str
    day: date
    lesions: tuple[LesionMeasurement, ...] = ()
    specks_ml: Mapping[Compartment, float] = field(default_factory=dict)
    not_assessable: Mapping[Compartment, str] = field(default_factory=dict)

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
        if compartment in self.not_assessable:
            return ()
        return tuple(lesion for lesion in self.lesions if lesion.compartment is compartment and lesion.present)


@dataclass(frozen=True)
class ClinicalEvent:
    """One row of the clinical table.

    Attributes:
        day: date of the event.
        kind: what happened.
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
    """Visits and events of one patient; both are put in order of their dates.

    Attributes:
        patient: the patient's id.
        visits: at least one.
        events: clinical events; may be empty.

    Raises:
        InputError: if there is no visit, two visits share a name or a date, a ``baseline`` event fits no visit, or
            two events of one kind contradict each other on one day.
    """

    patient: str
    visits: tuple[VisitMeasurements, ...]
    events: tuple[ClinicalEvent, ...] = ()

    def __post_init__(self) -> None:
        if not self.visits:
            raise InputError(f"patient {self.patient} has no visit")
        _no_repeats(self.patient, (visit.visit for visit in self.visits), "two visits are called")
        _no_repeats(self.patient, (visit.day.isoformat() for visit in self.visits), "two visits have the date")
        object.__setattr__(self, "visits", tuple(sorted(self.visits, key=lambda visit: visit.day)))
        object.__setattr__(self, "events", tuple(sorted(self.events, key=lambda event: event.day)))
        days = [visit.day for visit in self.visits]
        values: dict[tuple[date, EventKind], ClinicalEvent] = {}
        for event in self.events:
            if event.kind is EventKind.BASELINE and event.day not in days:
                raise InputError(
                    f"{at_line(event.line)}patient {self.patient}: baseline {event.day} is the date of no visit "
                    f"(visits: {', '.join(day.isoformat() for day in days)}). Give the date of the baseline visit."
                )
            other = values.setdefault((event.day, event.kind), event)
            if (other.steroid_mg, other.status) != (event.steroid_mg, event.status):
                raise InputError(
                    f"{at_line(event.line)}patient {self.patient}: two different values of {event.kind} on "
                    f"{event.day}. Keep one."
                )

    def days_of(self, kind: EventKind) -> tuple[date, ...]:
        """Dates of one kind of event, earliest first."""
        return tuple(event.day for event in self.events if event.kind is kind)

    def last_before(self, kind: EventKind, day: date) -> ClinicalEvent | None:
        """The latest event of a kind on or before a day."""
        fitting = [event for event in self.events if event.kind is kind and event.day <= day]
        return fitting[-1] if fitting else None


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
