"""``OUT/volumes.csv`` and ``OUT/lesions.csv``: the tables of all studies whose results lie in one folder."""

from __future__ import annotations

import csv
from pathlib import Path

from brats_seg.core.errors import OutputError
from brats_seg.files.output import explain, write_text
from brats_seg.files.tables import LESION_COLUMNS, VOLUME_COLUMNS

_TABLES = {"volumes": VOLUME_COLUMNS, "lesions": LESION_COLUMNS}


def check_tables(output: Path) -> bool:
    """Whether tables of several studies lie in ``output``.

    Raises:
        OutputError: if a file of that name is something else, which must not be replaced.
    """
    found = [_lines(output / f"{kind}.csv", columns) for kind, columns in _TABLES.items()]
    return any(found)


def add_study(output: Path, study: str) -> None:
    """Put a finished study of ``output`` into both tables, in the place of its earlier rows.

    Rows of studies whose results are not there any more are left out.

    Raises:
        OutputError: if a table cannot be read or written.
    """
    for kind, columns in _TABLES.items():
        header, *rows = _lines(output / study / f"{study}_{kind}.csv", columns)
        table = output / f"{kind}.csv"
        others = [line for line in _lines(table, columns)[1:] if line.partition(",")[0] != study]
        there = [line for line in others if (output / line.partition(",")[0]).is_dir()]
        write_text(table, "\n".join([header, *there, *rows]) + "\n")


def volume_rows(output: Path) -> list[dict[str, str]]:
    """The rows of the table of volumes.

    Raises:
        OutputError: if it cannot be read.
    """
    return list(csv.DictReader(_lines(output / "volumes.csv", VOLUME_COLUMNS)))


def _lines(table: Path, columns: tuple[str, ...]) -> list[str]:
    """Lines of a table with its header first; none where there is no file."""
    try:
        lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        failed = error if isinstance(error, OSError) else OSError(0, "it is no text")
        raise explain(failed, f"the table {table}") from error
    if lines and lines[0] != ",".join(columns):
        raise OutputError(
            f"{table} is not a table of this version of the program, and would be replaced. Move it, or choose "
            "another folder with -o."
        )
    return lines
