"""Rows of text tables, the numbers and days in their cells, and rows written as text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from brats_seg.core.errors import InputError

DAY_ZERO = date(1900, 1, 1)
"""Stands for day 0 where only day offsets are known."""
MAX_OFFSET_DAYS = 40_000
EARLIEST_YEAR = 1800
"""Shifted dates of anonymised data lie before 1925, as BIDS asks; earlier than this they are mistyped."""
_MOST_DAYS_AHEAD = 366
_YEARS = range(EARLIEST_YEAR, 2201)
_SPREADSHEET_DAYS = range(20_000, 80_000)
"""Dates from 1954 to 2119 as spreadsheets count them."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_DAY = re.compile(
    r"(?P<year>\d{4})(?P<by>[-_./]?)(?P<month>\d\d)(?P=by)(?P<day>\d\d)"
    r"(?:[T ](?P<time>\d\d:\d\d(?::\d\d)?)(?:\.\d*)?(?P<zone>Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)


class Calendar(StrEnum):
    """What is known of when visits were; where it is no date, :data:`DAY_ZERO` and the days since stand for it."""

    DATES = "dates"
    DAYS = "day offsets"
    ORDER = "no dates"


def say(day: date | None, calendar: Calendar) -> str:
    """A date, ``day 35``, or nothing where only the order is known."""
    if day is None or calendar is Calendar.ORDER:
        return ""
    return day.isoformat() if calendar is Calendar.DATES else f"day {(day - DAY_ZERO).days}"


def dated(day: date | None, calendar: Calendar) -> dict[str, str]:
    """The columns ``date`` and ``days``: one of them where it is known."""
    return {
        "date": day.isoformat() if day and calendar is Calendar.DATES else "",
        "days": str((day - DAY_ZERO).days) if day and calendar is Calendar.DAYS else "",
    }


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        table: name of the file, for messages.
        line: its line in the file, the header being line 1; for messages.
        cells: text by column, without surrounding spaces; what is not there is empty.
    """

    table: str
    line: int
    cells: Mapping[str, str]

    def fail(self, message: str) -> InputError:
        """An error that names this line."""
        return InputError(f"{self.table}, line {self.line}: {message}")

    def get(self, column: str) -> str:
        """Text of a column; empty where the table has no such column."""
        return self.cells.get(column, "")


@dataclass(frozen=True)
class Columns:
    """What a kind of table may hold.

    Attributes:
        expected: the columns, as a message shows them.
        needed: groups of which a table needs at least one column each.
        known: every column that is read.
        aliases: other names of columns; they count where the column itself is not there.
        numbers: columns whose cells are numbers, and the largest each can hold.
    """

    expected: str
    needed: tuple[tuple[str, ...], ...]
    known: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)


def csv_text(
    columns: Sequence[str], rows: Iterable[Mapping[str, object]], *, delimiter: str = ",", unknown: str = ""
) -> str:
    """A table as text, commas between its cells if nothing else is asked for; booleans are true and false."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (row.get(column) for column in columns)
        writer.writerow([unknown if c is None else str(c).lower() if isinstance(c, bool) else str(c) for c in cells])
    return stream.getvalue()


def number_in(row: TableRow, column: str) -> float | None:
    """The number of a cell; None where it is empty.

    Raises:
        InputError: if it is none.
    """
    text = row.get(column)
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise row.fail(f"{column} is {text!r}, which is not a number. Leave it empty if it was not measured.")
    return float(text)


def when_in(row: TableRow) -> date | int | None:
    """The date of a row, or its day offset (column ``days``, or a small number as ``date``); None without either.

    A time with a zone gives the date in UTC, so that scans stay in their order.

    Raises:
        InputError: if it is neither, or could be a year.
    """
    for column in ("date", "days"):
        text = row.get(column)
        if not text:
            continue
        if re.fullmatch(r"[+-]?\d{1,5}(?:\.0*)?", text, re.ASCII):
            return _offset(row, column, int(float(text)))
        if column == "days":
            raise row.fail(f"days is {text!r}, which is no whole number of days since day 0")
        return _date(row, text)
    return None


def _offset(row: TableRow, column: str, days: int) -> int:
    if column == "date" and days in _YEARS:
        raise row.fail(f"date is {days}, which could be a year or a day offset. Write a date, or a column days.")
    if column == "date" and days in _SPREADSHEET_DAYS:
        raise row.fail(f"date is {days}, as a spreadsheet counts days. Format the column as dates like 2024-01-31.")
    if abs(days) > MAX_OFFSET_DAYS:
        raise row.fail(f"day {days} is more than a life away from day 0. Correct it.")
    return days


def _date(row: TableRow, text: str) -> date:
    try:
        day = day_in(text)
    except ValueError:
        day = None
    if day is None:
        raise row.fail(f"date {text!r} is not a date of the form 2024-01-31, nor a whole number of days since day 0")
    if day.year < EARLIEST_YEAR or day > latest_day():
        raise row.fail(f"the date {text} lies {'in the future' if day > latest_day() else 'too far back'}. Correct it.")
    return day


def latest_day() -> date:
    """The last day that a date can mean; one beyond is mistyped, or shifted to hide whose it is."""
    return datetime.now(UTC).date() + timedelta(days=_MOST_DAYS_AHEAD)


def day_in(text: str) -> date | None:
    """The date of a text such as ``2024-01-31``, ``20240131`` or ``2024-01-31 08:00:00``; None where it is none.

    Raises:
        ValueError: if it looks like one and there is no such day.
    """
    found = _DAY.fullmatch(text)
    if found is None:
        return None
    day = date(int(found["year"]), int(found["month"]), int(found["day"]))
    if not found["zone"]:
        return day
    return datetime.fromisoformat(f"{day}T{found['time']}{found['zone']}").astimezone(UTC).date()
