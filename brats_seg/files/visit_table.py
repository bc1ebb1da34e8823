"""Tables that say which visits a patient has and when: ``visits.csv`` and the ``sessions.tsv`` of BIDS."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.study import SEQUENCES, Timepoint
from brats_seg.core.tables import Columns, TableRow, day_in, when_in
from brats_seg.files.text_table import read_table_file

TABLE_NAME = "visits.csv"
COLUMNS = Columns(
    expected="visit,date,t1,t1ce,t2,flair[,segmentation][,patient]",
    needed=(("visit",),),
    known=("visit", "date", "days", "patient", "segmentation", *(sequence.value for sequence in SEQUENCES)),
    aliases={
        **{"t1n": "t1", "t1w": "t1", "t1c": "t1ce", "t1gd": "t1ce", "t2w": "t2", "t2f": "flair"},
        **{"session_id": "visit", "session": "visit", "acq_time": "date", "day": "days"},
        **{"seg": "segmentation", "mask": "segmentation", "subject": "patient", "patient_id": "patient"},
        **{"participant_id": "patient"},
    },
)
_SESSIONS = Columns(
    "session_id,acq_time",
    COLUMNS.needed,
    ("visit", "date", "days", "patient"),
    {**COLUMNS.aliases, "days_since_baseline": "days"},
)
_SCANS = Columns("filename,acq_time", (("filename",),), ("filename", "date"), {"acq_time": "date"})


@dataclass(frozen=True)
class FoundVisit:
    """One visit as a table or names tell it, before its id, date and label map are settled.

    Attributes:
        patient: empty where neither says whose it is.
        scans: None where there are none.
        mask: a label map, or None.
        when: None where nothing says it.
        error: what is wrong with it, where that stops its own patient alone.
        folder: that it lies in; None in a table.
    """

    patient: str
    label: str
    scans: Timepoint | None = None
    mask: Path | None = None
    when: date | int | None = None
    error: InputError | None = None
    folder: Path | None = None

    @property
    def has_files(self) -> bool:
        """Whether files are known, and not only a date."""
        return self.scans is not None or self.mask is not None


def parse_when(text: str) -> date | None:
    """A date that a name says (``2024-01-31``, ``2024_01_31``, ``20240131``), or None."""
    plain = re.sub(r"^ses-", "", text, flags=re.IGNORECASE)
    if not re.match(r"(?:18|19|20)\d\d", plain) or len(plain) > len("2024-01-31"):
        return None
    try:
        return day_in(plain)
    except ValueError:
        return None


def read_visit_table(path: Path) -> tuple[tuple[FoundVisit, ...], tuple[str, ...]]:
    """The rows of ``visits.csv``, and its columns that are not read; files are looked for beside the table.

    In a table of several patients, a row that is wrong keeps its error, so that it stops no other patient.

    Raises:
        InputError: naming the line of what is wrong: a file that is not there, a date that is none, a visit twice.
    """
    table = read_table_file(path, COLUMNS)
    several = len({row.get("patient") for row in table.rows}) > 1
    result: list[FoundVisit] = []
    seen: dict[tuple[str, str], int] = {}
    for row in table.rows:
        try:
            result.append(_visit(path, row, seen))
        except InputError as error:
            if not several or not row.get("patient"):
                raise
            result.append(FoundVisit(row.get("patient"), row.get("visit"), error=error))
    sound = [visit for visit in result if visit.error is None]
    without = [visit.label for visit in sound if not visit.has_files]
    if without and len(without) < len(sound):
        raise InputError(f"{path.name}: visit {without[0]} names no file, and others do. Fill in its scans.")
    if len({bool(row.patient) for row in result}) > 1:
        raise InputError(f"{path.name}: some rows name a patient and some do not. Fill in the column for all.")
    return tuple(result), table.unused


def _visit(path: Path, row: TableRow, seen: dict[tuple[str, str], int]) -> FoundVisit:
    visit, patient = row.get("visit"), row.get("patient")
    if not visit:
        raise row.fail("the visit has no name. Give each visit one, such as ses-01.")
    if (patient, visit) in seen:
        raise row.fail(f"visit {visit} is there twice (first in line {seen[patient, visit]}). Keep one.")
    seen[patient, visit] = row.line
    when = when_in(row)
    scans = {sequence: _file(path, row, sequence.value) for sequence in SEQUENCES if row.get(sequence.value)}
    mask = _file(path, row, "segmentation") if row.get("segmentation") else None
    return FoundVisit(patient, visit, Timepoint(visit, scans) if scans else None, mask, when)


def read_sessions(path: Path) -> dict[str, date | int]:
    """Dates by session of a ``sessions.tsv`` (``acq_time``, else ``days``), or of a table with ``visit`` and ``date``.

    Sessions without a date are left out.

    Raises:
        InputError: if it is no such table, or a date is none.
    """
    return _sessions(read_table_file(path, _SESSIONS).rows)


def _sessions(rows: Iterable[TableRow]) -> dict[str, date | int]:
    return {row.get("visit"): when for row in rows if (when := when_in(row)) is not None and row.get("visit")}


def bids_dates(place: Path, patient: str, visits: Sequence[tuple[str, Path | None]]) -> dict[str, date | int]:
    """Dates by visit where BIDS and habit keep them.

    Read are the first there of ``sub-X_sessions.tsv``, ``sessions.tsv`` and ``visits.csv`` in the patient's folder, a
    ``sessions.tsv`` of the whole data set with ``participant_id``, and the ``scans.tsv`` of each session.

    Raises:
        InputError: if such a table is damaged, or a date is none.
    """
    homes = [place / patient, *(folder.parent for _, folder in visits if folder is not None), place]
    own = [
        home / name for home in dict.fromkeys(homes) for name in (f"{patient}_sessions.tsv", "sessions.tsv", TABLE_NAME)
    ]
    for path in own:
        if not path.is_file() or path == place / TABLE_NAME:
            continue
        rows = read_table_file(path, _SESSIONS).rows
        if any(row.get("patient") for row in rows):
            rows = tuple(row for row in rows if row.get("patient").removeprefix("sub-") == patient.removeprefix("sub-"))
        elif path.parent == place and place.resolve().name != patient and any((place / patient).glob("*")):
            continue
        if found := _sessions(rows):
            return found
    result: dict[str, date | int] = {}
    for label, folder in visits:
        for path in sorted(folder.glob("*_scans.tsv")) if folder is not None else ():
            whens = [when_in(row) for row in read_table_file(path, _SCANS).rows]
            days = [when for when in whens if isinstance(when, date)]
            if days:
                result[label] = min(days)
    return result


def _file(table: Path, row: TableRow, column: str) -> Path:
    text = row.get(column)
    path = table.parent / text  # which is the text alone where that is absolute
    if "\\" in text and not path.exists():
        path = table.parent / text.replace("\\", "/")  # as a table written on Windows has it
    if path.is_dir():
        raise row.fail(f"{column}: {text} is a folder, not a file. Name the scan itself.")
    if not path.is_file():
        raise row.fail(f"{column}: there is no file {text}. Paths are meant from the table's own folder.")
    return path
