"""Measurements and clinical events from tables, and responses back to tables.

Tables come as rows (mappings of column to value) with their line numbers, from :func:`read_csv` or a data frame; the
command line reads the files. Formats:

* measurements: ``patient,visit,date,lesion,compartment,long_mm,short_mm,volume_ml``, one row per lesion and visit; a
  visit at which nothing is seen is one row with an empty ``lesion``; empty numbers mean not measured that way.
  A row with an empty ``lesion``, a compartment and ``volume_ml`` gives what is seen in specks too small to be lesions.
  Optional: ``measurable`` (yes or no, from the image) and ``part_of`` (the lesion this one split from).
* clinical events: ``patient,date,event,value``.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, TypeVar

from brats_seg.core.errors import InputError
from brats_seg.longitudinal.criteria import Compartment
from brats_seg.longitudinal.history import (
    DAY_ZERO,
    Calendar,
    ClinicalEvent,
    ClinicalStatus,
    EventKind,
    LesionMeasurement,
    PatientHistory,
    VisitMeasurements,
    at_line,
)
from brats_seg.longitudinal.rano import ResponseAssessment, ResponseRow
from brats_seg.longitudinal.reading import Measure

MEASUREMENT_COLUMNS = ("patient", "visit", "date", "lesion", "compartment", "long_mm", "short_mm", "volume_ml")
CLINICAL_COLUMNS = ("patient", "date", "event", "value")
RESPONSE_COLUMNS = (
    "patient",
    "visit",
    "date",
    "days",
    "criteria",
    "compartment",
    "measure",
    "category",
    "status",
    "percent_from_baseline",
    "percent_from_nadir",
    "reasons",
    "missing",
    "reader",
)
SEPARATOR = "; "
"""Between several reasons or missing facts in one cell."""

E = TypeVar("E", bound=StrEnum)
_YES_NO = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False, "": None}


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        table: name of the file, for messages.
        line: its line in the file, the header being line 1; for messages.
        cells: text by column, without surrounding spaces.
    """

    table: str
    line: int
    cells: Mapping[str, str]

    def fail(self, message: str) -> InputError:
        """An error that names this line."""
        return InputError(f"{self.table}, {at_line(self.line)}{message}")


def read_csv(text: str, columns: Sequence[str], *, name: str) -> list[TableRow]:
    """Rows of a comma-separated table that must have some columns; further columns are kept.

    Args:
        text: the file's text; a byte-order mark is ignored.
        columns: names that must be there, in any order.
        name: of the file, for messages.

    Raises:
        InputError: if columns are missing or a row has more cells than the header.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    header = [cell.strip() for cell in next(reader, [])]
    _check_header(header, columns, name)
    rows = []
    for cells in _cells(reader, name):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise InputError(
                f"{name}, line {reader.line_num}: {len(cells)} cells under {len(header)} columns. "
                "Quote cells that contain a comma."
            )
        rows.append(TableRow(name, reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
    if not rows:
        raise InputError(f"{name} has a header and no rows")
    return rows


def _cells(reader: Iterable[list[str]], name: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(f"{name} is not a comma-separated table: {error}. Save it as CSV (UTF-8).") from error


def rows_of(records: Iterable[Mapping[str, Any]], columns: Sequence[str], *, name: str) -> list[TableRow]:
    """The same from records, for example ``frame.to_dict("records")``; NaN and None are empty.

    Raises:
        InputError: if columns are missing.
    """
    rows = []
    for line, record in enumerate(records, start=2):
        _check_header(list(record), columns, name)
        rows.append(TableRow(name, line, {key: _cell(value) for key, value in record.items()}))
    if not rows:
        raise InputError(f"{name} has no rows")
    return rows


def _cell(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN and NaT are the values unequal to themselves
        return ""
    if isinstance(value, date):
        return value.strftime("%Y-%m-%d")
    return str(value).strip()


def _check_header(header: Sequence[str], columns: Sequence[str], name: str) -> None:
    absent = [column for column in columns if column not in header]
    if absent:
        hint = "Save it with commas" if len(header) == 1 and ";" in header[0] else "Add them to the first line"
        raise InputError(
            f"{name} lacks the column{'s' * (len(absent) > 1)} {', '.join(absent)}; its first line is "
            f"{','.join(header) or 'empty'}. {hint}; expected: {','.join(columns)}."
        )
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise InputError(f"{name} has the column {', '.join(twice)} twice. Keep one.")


def histories(measurements: Sequence[TableRow], clinical: Sequence[TableRow] = ()) -> list[PatientHistory]:
    """Checked histories of all patients, in the order of the measurements table.

    Raises:
        InputError: naming the line of whatever does not make sense, also a clinical event of a patient or a lesion
            part that was never measured.
    """
    by_patient: dict[str, dict[str, list[TableRow]]] = {}
    for row in measurements:
        for column in ("patient", "visit"):
            if not row.cells[column]:
                raise row.fail(f"{column} is empty")
        by_patient.setdefault(row.cells["patient"], {}).setdefault(row.cells["visit"], []).append(row)
    events: dict[str, list[ClinicalEvent]] = {}
    for row in clinical:
        if row.cells["patient"] not in by_patient:
            raise row.fail(
                f"the clinical table names patient {row.cells['patient']!r}, who has no measurements. "
                "Correct the name, or remove the row."
            )
        events.setdefault(row.cells["patient"], []).append(_event(row))
    result = []
    for patient, visits in by_patient.items():
        measured = tuple(_visit(visit, rows) for visit, rows in visits.items())
        with _naming(clinical[0].table if clinical else measurements[0].table):
            result.append(PatientHistory(patient, measured, tuple(events.get(patient, ()))))
    return result


@contextlib.contextmanager
def _naming(table: str) -> Iterator[None]:
    """Put the table's name before errors that know only a line."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{table}, {error}" if str(error).startswith("line ") else str(error)) from None


def _visit(visit: str, rows: Sequence[TableRow]) -> VisitMeasurements:
    first = rows[0]
    day = _day(first)
    for row in rows:
        if _day(row) != day:
            raise row.fail(f"visit {visit} of {row.cells['patient']} has two dates, {day} (line {first.line}) and "
                           f"{_day(row)}. Give a visit one date.")  # fmt: skip
    empty = [row for row in rows if not row.cells["lesion"]]
    specks = {}
    for row in empty:
        filled = [column for column in ("long_mm", "short_mm", "volume_ml") if row.cells[column]]
        if filled == ["volume_ml"] and row.cells["compartment"]:
            specks[_choice(row, "compartment", Compartment)] = _number(row, "volume_ml") or 0.0
        elif filled:
            raise row.fail(f"{', '.join(filled)} without a lesion. Name the lesion as at the other visits.")
    lesions = tuple(_lesion(row) for row in rows if row.cells["lesion"])
    blanket = [row for row in empty if not row.cells["compartment"]]
    if blanket and lesions:
        raise blanket[0].fail(
            f"visit {visit} has an empty row (nothing seen) and lesions too. Remove one or the other."
        )
    for row in empty:
        compartment = row.cells["compartment"] if not row.cells["volume_ml"] else ""
        if compartment and any(
            lesion.compartment is _choice(row, "compartment", Compartment) for lesion in lesions if lesion.present
        ):
            raise row.fail(f"visit {visit} has an empty row for {compartment} and {compartment} lesions too")
    with _naming(first.table):
        seen = {lesion.compartment for lesion in lesions if lesion.present}
        marked = {_choice(row, "compartment", Compartment) for row in empty if row.cells["compartment"]}
        return VisitMeasurements(visit, day, lesions, specks_ml=specks, nothing_seen=frozenset(marked - seen))


def _lesion(row: TableRow) -> LesionMeasurement:
    measurable = row.cells.get("measurable", "").lower()
    if measurable not in _YES_NO:
        raise row.fail(f"measurable is {measurable!r}; write yes, no, or leave it empty")
    with _naming(row.table):
        return LesionMeasurement(
            lesion=row.cells["lesion"],
            compartment=_choice(row, "compartment", Compartment),
            long_mm=_number(row, "long_mm"),
            short_mm=_number(row, "short_mm"),
            volume_ml=_number(row, "volume_ml"),
            measurable=_YES_NO[measurable],
            part_of=row.cells.get("part_of", ""),
            line=row.line,
        )


def _event(row: TableRow) -> ClinicalEvent:
    kind = _choice(row, "event", EventKind)
    value = row.cells["value"]
    steroid = status = None
    if kind is EventKind.STEROID_MG:
        if not value:
            raise row.fail("steroid_mg needs the daily dexamethasone dose in mg as its value (0 for none)")
        steroid = _number(row, "value")
    elif kind is EventKind.CLINICAL_STATUS:
        status = _choice(row, "value", ClinicalStatus)
    with _naming(row.table):
        return ClinicalEvent(_day(row), kind, steroid, status, row.line)


def _day(row: TableRow) -> date:
    text = row.cells["date"]
    try:
        if len(text) != len("2024-01-31"):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise row.fail(f"date {text!r} is not a date of the form 2024-01-31") from None


def _number(row: TableRow, column: str) -> float | None:
    text = row.cells[column]
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        hint = "Use a decimal point" if "," in text else "Leave it empty if it was not measured"
        raise row.fail(f"{column} is {text!r}, which is not a number. {hint}.") from None


def _choice(row: TableRow, column: str, kind: type[E]) -> E:
    text = row.cells[column]
    try:
        return kind(text)
    except ValueError:
        raise row.fail(f"{column} is {text!r}; it must be one of: {', '.join(kind)}") from None


def response_record(row: ResponseRow) -> dict[str, str]:
    """One row of the responses table as text, columns as :data:`RESPONSE_COLUMNS`."""
    return {
        "patient": row.patient,
        "visit": row.visit,
        "date": row.when if row.calendar is Calendar.DATES else "",
        "days": str((row.day - DAY_ZERO).days) if row.calendar is Calendar.DAYS else "",
        "criteria": row.criteria,
        "compartment": row.compartment,
        "measure": row.measure.value,
        "category": row.category.value,
        "status": row.status.value,
        "percent_from_baseline": signed_percent(row.percent_from_baseline),
        "percent_from_nadir": signed_percent(row.percent_from_nadir),
        "reasons": SEPARATOR.join(row.reasons),
        "missing": SEPARATOR.join(row.missing),
        "reader": SEPARATOR.join(look.words for look in row.looks),
    }


def signed_percent(value: float | None) -> str:
    """``+25.00``, ``-50.00``, ``+0.00``, or empty where undefined."""
    return "" if value is None else f"{round(value, 2) + 0.0:+.2f}"


def responses_csv(assessments: Iterable[ResponseAssessment]) -> str:
    """The responses table as comma-separated text."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, RESPONSE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for assessment in assessments:
        writer.writerows(response_record(row) for row in assessment.rows)
    return stream.getvalue()


def responses_json(assessments: Sequence[ResponseAssessment], *, warnings: Sequence[str] = ()) -> str:
    """The same as JSON, with the criteria tables in force, each episode, and warnings about the tables."""
    tables = {assessment.criteria.label: assessment.criteria.table() for assessment in assessments}
    patients = [
        {
            "patient": assessment.patient,
            "criteria": assessment.criteria.label,
            "notes": list(assessment.notes),
            "episodes": [episode_record(assessment, number) for number in range(len(assessment.episodes))],
            "responses": [_json_row(row) for row in assessment.rows],
        }
        for assessment in assessments
    ]
    whole = {"warnings": list(warnings), "criteria": tables, "patients": patients}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def episode_record(assessment: ResponseAssessment, number: int) -> dict[str, Any]:
    """One episode with its best response, its progression and what a reader has to look at, as plain values."""
    episode = assessment.episodes[number]
    looks = assessment.reader_needed(number)
    return {
        "baseline": episode.when,
        "visit": episode.visit,
        "why": episode.why,
        "disease": episode.disease.value,
        "disease_reason": episode.disease_reason,
        "best": {measure.value: _answer(assessment.best(measure, number)) for measure in Measure},
        "progression": {measure.value: _answer(assessment.progression(measure, number)) for measure in Measure},
        "reader_needed": [{"visit": row.visit, "when": row.when, "words": look.words} for row, look in looks],
    }


def _answer(row: ResponseRow | None) -> dict[str, str] | None:
    if row is None:
        return None
    known = {"category": row.category.value, "status": row.status.value}
    return {"visit": row.visit, "when": row.when, **known, "decided_by": row.decided_by}


def _json_row(row: ResponseRow) -> dict[str, Any]:
    record: dict[str, Any] = dict(response_record(row))
    record["percent_from_baseline"] = row.percent_from_baseline
    record["percent_from_nadir"] = row.percent_from_nadir
    record["reasons"], record["missing"] = list(row.reasons), list(row.missing)
    record["reader"] = [look.words for look in row.looks]
    return record
