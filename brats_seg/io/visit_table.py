"""Tables that say which visits a patient has and when: ``visits.csv`` and the ``sessions.tsv`` of BIDS."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.study import SEQUENCES, MRSequence

TABLE_NAME = "visits.csv"
COLUMNS = "visit,date,t1,t1ce,t2,flair[,segmentation][,patient]"
_ALIASES = {"t1n": "t1", "t1c": "t1ce", "t1gd": "t1ce", "t2w": "t2", "t2f": "flair", "session_id": "visit"}
_ALIASES |= {"acq_time": "date", "seg": "segmentation", "mask": "segmentation", "subject": "patient", "day": "days"}
_EMPTY = frozenset({"", "n/a", "na", "nan", "none", "-"})
_EARLIEST_YEAR = 1900
MAX_OFFSET_DAYS = 40_000


@dataclass(frozen=True)
class When:
    """A date, or a number of days since some day 0.

    Attributes:
        day: None where only an offset is known.
        offset: days; None where a date is known.
    """

    day: date | None
    offset: int | None

    @property
    def words(self) -> str:
        """``2024-01-31`` or ``day 35``."""
        return self.day.isoformat() if self.day is not None else f"day {self.offset}"


@dataclass(frozen=True)
class TableVisit:
    """One row of a table of visits.

    Attributes:
        table: name of the file, for messages.
        visit: name of the visit.
        patient: empty where the table has one patient.
        when: None where it does not say.
        scans: path by sequence; may be empty.
        segmentation: path of a label map, or None.
    """

    table: str
    visit: str
    patient: str
    when: When | None
    scans: Mapping[MRSequence, Path]
    segmentation: Path | None

    @property
    def has_files(self) -> bool:
        """Whether the row names files, and not only a date."""
        return bool(self.scans) or self.segmentation is not None


def parse_when(text: str) -> When | None:
    """A date that a name says (``2024-01-31``, ``2024_01_31``, ``20240131``), or None."""
    found = re.fullmatch(r"(?:ses-)?((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)", text, re.IGNORECASE)
    if not found:
        return None
    try:
        return When(date(int(found.group(1)), int(found.group(2)), int(found.group(3))), None)
    except ValueError:
        return None


def read_visit_table(path: Path) -> tuple[TableVisit, ...]:
    """The rows of ``visits.csv``; files are looked for beside the table.

    Raises:
        InputError: naming the line of what is wrong: a file that is not there, a date that is none, a visit twice.
    """
    rows = _rows(path)
    result: list[TableVisit] = []
    seen: dict[tuple[str, str], int] = {}
    for line, cells in rows:
        where = f"{path.name}, line {line}"
        visit, patient = cells.get("visit", ""), cells.get("patient", "")
        if not visit:
            raise InputError(f"{where}: the visit has no name. Give each visit one, such as ses-01.")
        if (patient, visit) in seen:
            raise InputError(f"{where}: visit {visit} is there twice (first in line {seen[patient, visit]}). Keep one.")
        seen[patient, visit] = line
        scans = {s: _file(path, cells[s.value], f"{where}, {s.value}") for s in SEQUENCES if cells.get(s.value)}
        mask = cells.get("segmentation", "")
        result.append(
            TableVisit(
                table=path.name,
                visit=visit,
                patient=patient,
                when=_when(cells, where),
                scans=scans,
                segmentation=_file(path, mask, f"{where}, segmentation") if mask else None,
            )
        )
    with_files = [row for row in result if row.has_files]
    if with_files and len(with_files) < len(result):
        row = next(row for row in result if not row.has_files)
        raise InputError(f"{path.name}: visit {row.visit} names no file, and others do. Fill in its scans.")
    if len({bool(row.patient) for row in result}) > 1:
        raise InputError(f"{path.name}: some rows name a patient and some do not. Fill in the column for all.")
    return tuple(result)


def read_sessions(path: Path) -> dict[str, When]:
    """Dates by session of a ``sessions.tsv`` (``acq_time``, else ``days``), or of a table with ``visit`` and ``date``.

    Sessions without a date are left out.

    Raises:
        InputError: if it is no such table, or a date is none.
    """
    result = {}
    for line, cells in _rows(path):
        when = _when(cells, f"{path.name}, line {line}")
        if cells.get("visit") and when is not None:
            result[cells["visit"]] = when
    return result


def read_table_text(path: Path) -> str:
    """The text of a table.

    Raises:
        UsageError: if it is a folder.
        InputError: if it cannot be read, or is no text in UTF-8.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the table itself")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not a text table in UTF-8. Save it as CSV (UTF-8).") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _when(cells: Mapping[str, str], where: str) -> When | None:
    for column in ("date", "days"):
        text = cells.get(column, "")
        if not text:
            continue
        if re.fullmatch(r"[+-]?\d{1,5}(?:\.0*)?", text):
            days = int(float(text))
            if abs(days) > MAX_OFFSET_DAYS:
                raise InputError(f"{where}: day {days} is more than a life away from day 0. Correct it.")
            return When(None, days)
        return When(_day(text, where), None)
    return None


def _day(text: str, where: str) -> date:
    plain = text.split("T", maxsplit=1)[0].split(" ", maxsplit=1)[0]
    found = parse_when(plain)
    day = found.day if found is not None else None
    if day is None:
        try:
            day = date.fromisoformat(plain)
        except ValueError:
            raise InputError(
                f"{where}: {text!r} is not a date of the form 2024-01-31, nor a whole number of days since day 0"
            ) from None
    if day.year < _EARLIEST_YEAR:
        raise InputError(f"{where}: the date {text} lies before {_EARLIEST_YEAR}. Correct it.")
    return day


def _file(table: Path, text: str, where: str) -> Path:
    path = Path(text)
    path = path if path.is_absolute() else table.parent / path
    if path.is_dir():
        raise InputError(f"{where}: {text} is a folder, not a file. Name the scan itself.")
    if not path.is_file():
        raise InputError(f"{where}: there is no file {text}. Paths are meant from the table's own folder.")
    return path


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells by column, names in lower case and their usual form."""
    text = read_table_text(path)
    head = text.split("\n", 1)[0]
    mark = max("\t,;", key=head.count)
    reader = csv.reader(io.StringIO(text), delimiter=mark)
    header = [_ALIASES.get(cell.strip().lower(), cell.strip().lower()) for cell in next(reader, [])]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if "visit" not in header or twice:
        wrong = f"has the column {twice[0]} twice" if twice else "has no column visit"
        raise InputError(f"{path.name} {wrong} (its first line: {head.strip()[:80]!r}); expected: {COLUMNS}.")
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise InputError(
                f"{path.name}, line {reader.line_num}: {len(cells)} cells under {len(header)} columns. "
                "Quote cells that contain the separator."
            )
        values = (("" if cell.strip().lower() in _EMPTY else cell.strip()) for cell in cells)
        rows.append((reader.line_num, dict(zip(header, values, strict=True))))
    if not rows:
        raise InputError(f"{path.name} has a header and no rows")
    return rows
