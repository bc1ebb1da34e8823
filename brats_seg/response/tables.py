"""Measurements and clinical events from tables, those of a whole cohort too; measurements back to tables.

Tables come as rows with their line numbers, from :func:`brats_seg.files.text_table.read_table`; the command line reads
the files. Formats:

* measurements: ``patient,visit,date,lesion,compartment,long_mm,short_mm,volume_ml``, one row per lesion and visit.
  Diameters or volume may be left out. A lesion that is gone has zeros; one without a row was not measured. A visit at
  which nothing is seen is one row with an empty ``lesion``; with a compartment it is meant for that one alone, and
  with ``volume_ml`` too it gives what is seen in specks too small to be lesions. Instead of ``date`` a column ``days``
  may hold offsets; without either, the order of the rows is that of the visits. Optional: ``measurable`` (yes or no,
  from the image), ``part_of`` (the lesion this one split from), ``not_assessable`` (why a compartment cannot be seen,
  in a row without a lesion).
* clinical events: ``patient,date,event,value``.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from brats_seg.core.errors import InputError
from brats_seg.core.study import Patient
from brats_seg.core.tables import DAY_ZERO, Calendar, Columns, TableRow, dated, number_in, when_in
from brats_seg.response.criteria import Compartment
from brats_seg.response.history import (
    MAX_DIAMETER_MM,
    MAX_STEROID_MG,
    MAX_VOLUME_ML,
    ClinicalEvent,
    ClinicalStatus,
    EventKind,
    LesionMeasurement,
    PatientHistory,
    VisitMeasurements,
    refuse_lookalikes,
)
from brats_seg.response.lesion_sums import size_of

SIZES = ("long_mm", "short_mm", "volume_ml")
MEASUREMENT_COLUMNS = ("patient", "visit", "date", "days", "lesion", "compartment", *SIZES)
_OPTIONAL_COLUMNS = ("measurable", "part_of", "not_assessable")
_PLACE_ALIASES = {"patient_id": "patient", "subject": "patient", "subject_id": "patient", "participant_id": "patient"}
_PLACE_ALIASES |= {"session": "visit", "session_id": "visit", "timepoint": "visit", "acq_time": "date"}
_PLACE_ALIASES |= {"scan_date": "date", "study_date": "date", "day": "days"}
MEASUREMENT_TABLE = Columns(
    expected="patient,visit,date,lesion,compartment,long_mm,short_mm,volume_ml",
    needed=(("patient",), ("visit",), ("date", "days"), ("lesion",), ("compartment",), ("long_mm", "volume_ml")),
    known=(*MEASUREMENT_COLUMNS, *_OPTIONAL_COLUMNS),
    aliases={
        **_PLACE_ALIASES,
        **{"region": "compartment", "lesion_id": "lesion", "volume_cc": "volume_ml", "volume_cm3": "volume_ml"},
        **{"long_axis_mm": "long_mm", "short_axis_mm": "short_mm", "long_diameter_mm": "long_mm"},
        **{"short_diameter_mm": "short_mm"},
    },
    numbers={"long_mm": MAX_DIAMETER_MM, "short_mm": MAX_DIAMETER_MM, "volume_ml": MAX_VOLUME_ML},
)
CLINICAL_TABLE = Columns(
    expected="patient,date,event,value",
    needed=(("patient",), ("date", "days"), ("event",)),
    known=("patient", "date", "days", "event", "value"),
    aliases=_PLACE_ALIASES,
    numbers={"value": MAX_STEROID_MG},
)
E = TypeVar("E", bound=StrEnum)
_YES_NO = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False, "y": True, "n": False}
_SYNONYMS = {
    **dict.fromkeys(("et", "ce", "cet", "contrastenhancing"), "enhancing"),
    **dict.fromkeys(("wt", "flair", "t2flair", "nce"), "non_enhancing"),
    **dict.fromkeys(("resection", "operation"), "surgery"),
    **{"rtend": "radiotherapy_end", "improved": "better", "deteriorated": "worse", "unchanged": "stable"},
}
"""Values without case, spaces and signs."""
LEAST_ML = 0.05
"""Below it, rounding alone makes sizes contradict each other."""
_IMPOSSIBLE, _DOUBTFUL = 100.0, 20.0
"""How far a volume may be from that of an ellipsoid with the lesion's diameters: a rim is thin, a sheet is tall."""


def histories(measurements: Sequence[TableRow], clinical: Sequence[TableRow] = ()) -> list[PatientHistory]:
    """Checked histories of all patients, in the order of the measurements table.

    Args:
        measurements: rows of a table of :data:`MEASUREMENT_TABLE`.
        clinical: rows of a table of :data:`CLINICAL_TABLE`.

    Raises:
        InputError: naming the line of whatever does not make sense, also a clinical event of a patient or a lesion
            part that was never measured, and names that differ only in case, spaces or a decimal.
    """
    by_patient: dict[str, dict[str, list[TableRow]]] = {}
    for row in measurements:
        for column in ("patient", "visit"):
            if not row.get(column):
                raise row.fail(f"{column} is empty")
        by_patient.setdefault(row.get("patient"), {}).setdefault(row.get("visit"), []).append(row)
    table = measurements[0].table
    with _naming(table):
        refuse_lookalikes(((row.get("patient"), f"line {row.line}: ") for row in measurements), "patient", where="")
    events: dict[str, list[TableRow]] = {}
    for row in clinical:
        if row.get("patient") not in by_patient:
            raise row.fail(
                f"the clinical table names patient {row.get('patient')!r}, who has no measurements. "
                "Correct the name, or remove the row."
            )
        events.setdefault(row.get("patient"), []).append(row)
    return [_history(patient, visits, events.get(patient, ())) for patient, visits in by_patient.items()]


def _history(patient: str, visits: Mapping[str, Sequence[TableRow]], events: Sequence[TableRow]) -> PatientHistory:
    measured = [rows[0] for rows in visits.values()]
    calendar = _calendar(patient, measured)
    with _naming(measured[0].table):
        places = ((row.get("visit"), f"line {row.line}: ") for row in measured)
        refuse_lookalikes(places, "visit", where=f"patient {patient}: ")
        found = tuple(
            _visit(visit, rows, DAY_ZERO + timedelta(days=number) if calendar is Calendar.ORDER else None)
            for number, (visit, rows) in enumerate(visits.items())
        )
        history = PatientHistory(patient, found, calendar=calendar)
    if events and calendar is Calendar.ORDER:
        raise events[0].fail(f"patient {patient} has visits without dates, so that a date here means nothing. Give the "
                             "visits their dates.")  # fmt: skip
    if not events:
        return history
    with _naming(events[0].table):
        return PatientHistory(patient, found, tuple(_event(row, calendar) for row in events), calendar)


def _calendar(patient: str, rows: Sequence[TableRow]) -> Calendar:
    """What the visits of a patient are dated by."""
    whens = [when_in(row) for row in rows]
    known = [when for when in whens if when is not None]
    if not known:
        return Calendar.ORDER
    if len(known) < len(whens):
        raise rows[whens.index(None)].fail(
            f"the visit has no date, and other visits of patient {patient} have. Fill it in, or leave all out."
        )
    if len({isinstance(when, date) for when in known}) > 1:
        raise rows[0].fail(f"patient {patient} has dates and day offsets mixed. Give one or the other for all visits.")
    return Calendar.DATES if isinstance(known[0], date) else Calendar.DAYS


def _day(row: TableRow, calendar: Calendar) -> date:
    when = when_in(row)
    if isinstance(when, date) is (calendar is Calendar.DATES) and when is not None:
        return when if isinstance(when, date) else DAY_ZERO + timedelta(days=when)
    given = row.get("date") or row.get("days")
    if calendar is Calendar.DATES:
        raise row.fail(f"date {given!r} is not a date of the form 2024-01-31, as the visits of the patient have")
    raise row.fail(f"date is {given!r}, but the visits of the patient have day offsets. Give whole days since the same "
                   "day 0, for example 35.")  # fmt: skip


@contextlib.contextmanager
def _naming(table: str) -> Iterator[None]:
    """Put the table's name before errors that know only a line."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{table}, {error}" if str(error).startswith("line ") else str(error)) from None


def _visit(visit: str, rows: Sequence[TableRow], order: date | None) -> VisitMeasurements:
    """One visit; ``order`` stands for its date where none is known."""
    first = rows[0]
    for row in rows:
        if when_in(row) != when_in(first):
            raise row.fail(f"visit {visit} of {row.get('patient')} has two dates, {_shown(first)} (line {first.line}) "
                           f"and {_shown(row)}. Give a visit one date.")  # fmt: skip
    when = when_in(first)
    calendar = Calendar.DATES if isinstance(when, date) else Calendar.DAYS
    lesions = tuple(_lesion(row) for row in rows if row.get("lesion"))
    marks = _marks(visit, [row for row in rows if not row.get("lesion")], lesions)
    return VisitMeasurements(visit, order or _day(first, calendar), lesions, **marks)


def _shown(row: TableRow) -> str:
    return row.get("date") or row.get("days") or "none"


def _marks(visit: str, rows: Sequence[TableRow], lesions: Sequence[LesionMeasurement]) -> dict[str, Any]:
    """What rows without a lesion tell of a visit."""
    specks: dict[Compartment, float] = {}
    hidden: dict[Compartment, str] = {}
    empty: set[Compartment] = set()
    for row in rows:
        filled = [column for column in SIZES if row.get(column)]
        compartment = _choice(row, "compartment", Compartment) if row.get("compartment") else None
        there = [lesion for lesion in lesions if lesion.present and compartment in (None, lesion.compartment)]
        if compartment is not None and filled == ["volume_ml"]:
            specks[compartment] = number_in(row, "volume_ml") or 0.0
        elif filled:
            raise row.fail(f"{', '.join(filled)} without a lesion. Name the lesion as at the other visits.")
        elif compartment is not None and row.get("not_assessable"):
            hidden[compartment] = row.get("not_assessable")
        elif compartment is None and lesions:
            raise row.fail(f"visit {visit} has an empty row (nothing seen) and lesions too. Remove one or the other.")
        elif there:
            raise row.fail(f"visit {visit} has an empty row for {compartment} and {compartment} lesions too")
        if compartment is None:
            empty |= set(Compartment)
        elif compartment not in hidden and not there:
            empty.add(compartment)
    return {"specks_ml": specks, "not_assessable": hidden, "nothing_seen": frozenset(empty)}


def _lesion(row: TableRow) -> LesionMeasurement:
    measurable = row.get("measurable").lower()
    if measurable and measurable not in _YES_NO:
        raise row.fail(f"measurable is {measurable!r}; write yes, no, or leave it empty")
    with _naming(row.table):
        lesion = LesionMeasurement(
            lesion=row.get("lesion"),
            compartment=_choice(row, "compartment", Compartment),
            long_mm=number_in(row, "long_mm"),
            short_mm=number_in(row, "short_mm"),
            volume_ml=number_in(row, "volume_ml"),
            measurable=_YES_NO.get(measurable),
            part_of=row.get("part_of"),
            line=row.line,
        )
    ratio = _volume_ratio(lesion)
    if ratio is not None and not 1 / _IMPOSSIBLE <= ratio <= _IMPOSSIBLE:
        sizes = f"{size_of(lesion)} and {lesion.volume_ml:g} ml"
        raise row.fail(f"lesion {lesion.lesion!r} cannot be {sizes}. Are these mm and ml, not cm or mm3?")
    return lesion


def _volume_ratio(lesion: LesionMeasurement) -> float | None:
    """Volume over that of an ellipsoid with the diameters; None where either is unknown or the image was measured."""
    product, volume_ml = lesion.product_mm2, lesion.volume_ml
    if product is None or volume_ml is None or lesion.measurable is not None:
        return None
    expected = math.pi / 6000.0 * product * math.sqrt(product)
    if max(expected, volume_ml) <= LEAST_ML:
        return None
    return volume_ml / expected if expected > 0 else math.inf


def doubts(measured: Sequence[PatientHistory]) -> list[str]:
    """What looks like another unit in a table, in words; it is read as it stands."""
    lesions = [(history, visit, lesion) for history in measured for visit in history.visits for lesion in visit.lesions]
    long_mm = [lesion.long_mm for _, _, lesion in lesions if lesion.long_mm and lesion.measurable is None]
    found = []
    if long_mm and max(long_mm) < 10.0:
        found.append(f"every diameter is below 10 mm (the largest {max(long_mm):g}), so that none is measurable. Are "
                     "they in cm? Give mm.")  # fmt: skip
    found += [words for history in measured for words in _tenfold(history)]
    for history, visit, lesion in lesions:
        ratio = _volume_ratio(lesion)
        if ratio is not None and not 1 / _DOUBTFUL <= ratio <= _DOUBTFUL:
            where = f"patient {history.patient}, visit {visit.visit}, lesion {lesion.lesion}"
            found.append(f"{where}: {size_of(lesion)} and {lesion.volume_ml:g} ml hardly go together. Check both.")
    return found


def _tenfold(history: PatientHistory) -> Iterator[str]:
    """Lesions whose diameters both become ten times smaller or larger from one visit to the next, in words."""
    last: dict[tuple[Compartment, str], tuple[str, LesionMeasurement]] = {}
    for visit in history.visits:
        for lesion in visit.lesions:
            if not (lesion.long_mm and lesion.short_mm) or lesion.measurable is not None:
                continue
            key = (lesion.compartment, lesion.lesion)
            name, before = last.get(key, (visit.visit, lesion))
            last[key] = (visit.visit, lesion)
            ratios = (lesion.long_mm / (before.long_mm or 1.0), lesion.short_mm / (before.short_mm or 1.0))
            if min(lesion.long_mm, before.long_mm or 0.0) < 10.0 and (
                all(7.0 <= ratio <= 14.0 for ratio in ratios) or all(7.0 <= 1 / ratio <= 14.0 for ratio in ratios)
            ):
                yield (f"patient {history.patient}, lesion {lesion.lesion}: {size_of(before)} at {name} and "
                       f"{size_of(lesion)} at {visit.visit}. Is one of them in cm? Give mm.")  # fmt: skip


def _event(row: TableRow, calendar: Calendar) -> ClinicalEvent:
    kind = _choice(row, "event", EventKind)
    value = row.get("value")
    steroid = status = None
    if kind is EventKind.STEROID_MG:
        if not value:
            raise row.fail("steroid_mg needs the daily dexamethasone dose in mg as its value (0 for none)")
        steroid = number_in(row, "value")
    elif kind is EventKind.CLINICAL_STATUS:
        status = _choice(row, "value", ClinicalStatus)
    with _naming(row.table):
        return ClinicalEvent(_day(row, calendar), kind, steroid, status, row.line)


def _choice(row: TableRow, column: str, kind: type[E]) -> E:
    text = row.get(column)
    plain = re.sub(r"[^a-z0-9]|(?:lesion|disease|tumou?r)$", "", text.casefold())
    plain = re.sub(r"[^a-z0-9]", "", _SYNONYMS.get(plain, plain))
    for member in kind:
        if plain == member.value.replace("_", ""):
            return member
    raise row.fail(f"{column} is {text!r}; it must be one of: {', '.join(kind)}")


def measurement_records(history: PatientHistory) -> list[dict[str, Any]]:
    """Rows of a measurements table that gives the same history again."""
    rows: list[dict[str, Any]] = []
    for visit in history.visits:
        head = {"patient": history.patient, "visit": visit.visit, **dated(visit.day, history.calendar)}
        for compartment in Compartment:
            mark = {**head, "compartment": compartment.value}
            lesions = [lesion for lesion in visit.lesions if lesion.compartment is compartment]
            specks_ml = visit.specks_ml.get(compartment)
            if hidden := visit.not_assessable.get(compartment):
                rows.append({**mark, "not_assessable": hidden})
                continue
            if visit.is_empty(compartment) or specks_ml:
                rows.append({**mark, "volume_ml": specks_ml or None})
            rows += [
                {
                    **mark,
                    "lesion": lesion.lesion,
                    **{column: getattr(lesion, column) for column in SIZES},
                    "measurable": {True: "yes", False: "no", None: ""}[lesion.measurable],
                    "part_of": lesion.part_of,
                }
                for lesion in lesions
            ]
    return rows


def split_rows(clinical: Sequence[TableRow], patients: Sequence[str]) -> tuple[list[TableRow], list[TableRow]]:
    """Rows of these patients, and rows of others, as a table of a whole cohort has them.

    Raises:
        InputError: if no row is of these patients, or a name is one of theirs but for its spelling.
    """
    keys = {_spelt(patient): patient for patient in patients}
    own = [row for row in clinical if row.cells["patient"] in patients]
    others = [row for row in clinical if row.cells["patient"] not in patients]
    for row in others:
        name = row.cells["patient"]
        alike = keys.get(_spelt(name))
        if alike is not None:
            raise row.fail(f"patient {name!r} is called {alike!r} among the scans. Spell both alike.")
        if not own:
            raise row.fail(
                f"the clinical table names patient {name!r} and none of those who are here "
                f"({', '.join(patients[:4])}). Correct the names."
            )
    return own, others


def _spelt(name: str) -> str:
    """A name without what is mistyped most: case, separators, and zeros before numbers."""
    return re.sub(r"\d+", lambda number: str(int(number.group())), re.sub(r"[\W_]+", "", name.lower()))


def events_of(patient: Patient, clinical: Sequence[TableRow]) -> tuple[ClinicalEvent, ...]:
    """Events of one patient, checked against the dates of its visits; none where the table has no row of it.

    Args:
        clinical: rows of any patients; where its visits have day offsets, ``date`` is such an offset too.

    Raises:
        InputError: naming the line of a row that fits no visit.
    """
    own = [row for row in clinical if row.cells["patient"] == patient.id]
    if not own:
        return ()
    visits = [
        TableRow("visits", line, {"patient": patient.id, "visit": visit.label, **dated(visit.day, patient.dating)})
        for line, visit in enumerate(patient.visits, start=2)
    ]
    (history,) = histories(visits, own)
    return history.events
