"""Text tables as people and spreadsheets save them: one reader for visits, measurements and clinical events.

Separators are commas, semicolons or tabs; names of columns are read without regard to case, spaces and units in
brackets; ``n/a`` and its like are empty; trailing empty columns and rows are left out. Numbers may have decimal commas
where the comma does not separate columns. What could mean two things is refused with the line it stands in.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.tables import Columns, TableRow

_EMPTY = frozenset({"", "n/a", "#n/a", "na", "nan", "none", "null", "-", "nat"})
_ALIKE = 0.8
_COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+", re.ASCII)


@dataclass(frozen=True)
class Table:
    """A table as read.

    Attributes:
        rows: in the order of the file; at least one.
        unused: names of columns that are not read.
    """

    rows: tuple[TableRow, ...]
    unused: tuple[str, ...] = ()


def read_table_file(path: Path, columns: Columns) -> Table:
    """Rows of the text table in a file; errors as :func:`read_table_text` and :func:`read_table`."""
    return read_table(read_table_text(path), columns, name=path.name)


def read_table_text(path: Path) -> str:
    """The text of a table.

    Raises:
        UsageError: if it is a folder.
        InputError: if it cannot be read, or is no text in UTF-8.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the table itself")
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not a text table in UTF-8. Save it as CSV (UTF-8).") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def read_table(text: str, columns: Columns, *, name: str) -> Table:
    """Rows of a text table.

    Args:
        text: the file's text; a byte-order mark and a first line ``sep=;`` are ignored.
        columns: what the table may hold.
        name: of the file, for messages.

    Raises:
        InputError: if columns are missing, twice there or misspelt, a row has too few or too many cells, or a number
            can be read in two ways.
    """
    text = re.sub(r"\r\n?", "\n", text.removeprefix("\ufeff"))
    told = re.match(r"\s*\"?sep=(.)\"?[^\n]*\n", text, re.IGNORECASE)
    skipped = 0 if told is None else text[: told.end()].count("\n")
    text = text if told is None else text[told.end() :]
    first = next((line for line in text.split("\n") if line.strip()), "")
    mark = told.group(1) if told is not None else max("\t;,", key=first.count)
    lines = _lines(csv.reader(io.StringIO(text), delimiter=mark), name, skipped)
    written = next(lines, (1, []))[1]
    header = _header(written, columns, name)
    rows = [_row(line, cells, header, name=name) for line, cells in lines]
    if not rows:
        raise InputError(f"{name} has a header and no rows")
    unused = [column.strip() for column, known in zip(written, header, strict=True) if column.strip() and not known]
    return Table(tuple(_with_numbers(rows, columns, decimal_comma=mark != ",")), tuple(unused))


def _lines(reader: Iterator[list[str]], name: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with their line."""
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num + skipped, cells  # type: ignore[attr-defined]
    except csv.Error as error:
        raise InputError(f"{name} is not a text table: {error}. Save it as CSV (UTF-8).") from error


def _header(written: Sequence[str], columns: Columns, name: str) -> list[str]:
    """Name of each column as the program calls it; empty for those that are not read."""
    plain = [re.sub(r"[^0-9a-z]+", "_", _clean(cell).casefold()).strip("_") for cell in written]
    names = [cell if cell in columns.known else "" for cell in plain]
    for index, cell in enumerate(plain):
        other = columns.aliases.get(cell, "")
        if not names[index] and other and other not in names:
            names[index] = other
    twice = sorted({column for column in names if column and names.count(column) > 1})
    if twice:
        raise InputError(f"{name} has the column {', '.join(twice)} twice. Keep one.")
    absent = [group for group in columns.needed if not set(group) & set(names)]
    if absent:
        shown = ", ".join(" or ".join(group) for group in absent)
        raise InputError(
            f"{name} lacks the column{'s' * (len(absent) > 1)} {shown}; its first line is "
            f"{','.join(cell.strip() for cell in written)[:120] or 'empty'}. Add them to the first line; expected: "
            f"{columns.expected}."
        )
    for cell, known in zip(plain, names, strict=True):
        free = [column for column in columns.known if column not in names]
        alike = difflib.get_close_matches(cell, free, n=1, cutoff=_ALIKE) if cell and not known else []
        if alike:
            raise InputError(
                f"{name} lacks the column {alike[0]} and has one called {cell!r}. Rename it if it is meant; if not, "
                "call it something else."
            )
    return names


def _row(line: int, cells: Sequence[str], header: Sequence[str], *, name: str) -> TableRow:
    filled = list(cells)
    while len(filled) > len(header) and not filled[-1].strip():
        filled.pop()
    if len(filled) != len(header):
        hint = "Quote cells that contain the separator" if len(filled) > len(header) else "Add the empty cells"
        raise InputError(f"{name}, line {line}: {len(filled)} cells under {len(header)} columns. {hint}.")
    known = {column: _value(cell) for column, cell in zip(header, filled, strict=True) if column}
    return TableRow(name, line, known)


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text.replace("\u00a0", " ")).strip()


def _value(text: str) -> str:
    clean = _clean(text)
    return "" if clean.casefold() in _EMPTY else clean


def _with_numbers(rows: Sequence[TableRow], columns: Columns, *, decimal_comma: bool) -> Iterator[TableRow]:
    """Rows whose numbers have decimal points.

    ``1,250`` is a decimal only where a number of the same table cannot be read otherwise: ``4,5``, or ``12,345`` ml.
    """
    numbers = [(cell, limit) for row in rows for column, limit in columns.numbers.items() if (cell := row.get(column))]
    points = any("." in cell for cell, _ in numbers if cell != ".")
    certain = any(_is_decimal(cell, limit) for cell, limit in numbers)
    for row in rows:
        changed = {}
        for column in set(columns.numbers) & set(row.cells):
            cell = row.cells[column]
            if cell == ".":  # as statistics programs write what is missing
                changed[column] = ""
            elif "," in cell:
                if not _COMMA_NUMBER.fullmatch(cell) or not decimal_comma:
                    raise row.fail(f"{column} is {cell!r}, which is not a number. Use a decimal point, and no commas.")
                if points or not certain:
                    other = cell.replace(",", "")
                    raise row.fail(
                        f"{column} is {cell!r}, which could be {cell.replace(',', '.')} or {other}. Write the numbers "
                        "of the table with decimal points."
                    )
                changed[column] = cell.replace(",", ".")
        yield TableRow(row.table, row.line, {**row.cells, **changed}) if changed else row


def _is_decimal(cell: str, limit: float) -> bool:
    """Whether a comma can be no separator of thousands."""
    if not _COMMA_NUMBER.fullmatch(cell):
        return False
    thousands = re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", cell, re.ASCII)
    return thousands is None or abs(int(cell.replace(",", ""))) > limit
