"""Tables and records: volumes and lesions of a study and of all in a folder, ``run.json``.

Millilitres are written with 4 decimals, millimetres with 2, booleans as true and false, what is not known as an
empty field (CSV) or null (JSON). Study ids are checked where studies are found, so that none needs quoting.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from brats_seg.core.errors import OutputError
from brats_seg.core.plain import plain
from brats_seg.core.tables import csv_text
from brats_seg.core.visit import Lesion, Measurements, RegionVolume, RunRecord
from brats_seg.files.output import explain, write_text

VOLUME_COLUMNS = (
    *("study", "scan_date", "region", "volume_ml", "volume_pv_ml", "low_ml", "high_ml"),
    *("level", "lesions", "touches_border", "note"),
)
LESION_COLUMNS = (
    *("study", "scan_date", "region", "lesion", "volume_ml", "x_mm", "y_mm", "z_mm", "side"),
    *("long_mm", "short_mm", "plane", "slice", "measurable", "touches_border"),
)
_COLLECTED = {"volumes": VOLUME_COLUMNS, "lesions": LESION_COLUMNS}
"""Tables of all studies whose results lie in one folder: ``OUT/volumes.csv`` and ``OUT/lesions.csv``."""
_ML_DECIMALS = 4
_MM_DECIMALS = 2


def write_tables(measurements: Measurements, folder: Path) -> None:
    """What every result folder holds: a row per region as CSV and JSON, and per lesion, in RAS+ scanner millimetres.

    Raises:
        OutputError: if they cannot be written.
    """
    volumes = [volume_row(measurements, volume) for volume in measurements.volumes]
    lesions = [lesion_row(measurements, lesion) for lesion in measurements.lesions]
    name = measurements.study_id
    write_text(folder / f"{name}_volumes.csv", csv_text(VOLUME_COLUMNS, volumes))
    write_json({**_head(measurements), "volumes": volumes}, folder / f"{name}_volumes.json")
    write_text(folder / f"{name}_lesions.csv", csv_text(LESION_COLUMNS, lesions))


def write_lesions_json(measurements: Measurements, path: Path) -> None:
    """The lesions of one study, with the axis and the ends of their diameters.

    Raises:
        OutputError: if it cannot be written.
    """
    rows = []
    for lesion in measurements.lesions:
        found = lesion.diameters
        ends = {
            "long_ends_mm": [[_mm(v) for v in end] for end in found.long_ends_mm],
            "short_ends_mm": [[_mm(v) for v in end] for end in found.short_ends_mm],
        }
        extra = {"axis": found.axis, "slices": found.slices, "box": lesion.box, **ends}
        rows.append({**lesion_row(measurements, lesion), **extra})
    write_json({**_head(measurements), "lesions": rows}, path)


def write_json(value: object, path: Path) -> None:
    """Any plain value as indented JSON; enumerations become their value, numpy numbers plain ones.

    Raises:
        OutputError: if it cannot be written.
        TypeError: if it holds a path (outputs name no folder of this computer) or what JSON cannot hold.
    """
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_run(record: RunRecord, path: Path) -> None:
    """The run record; write it last, because it makes the result folder count as finished.

    Raises:
        OutputError: if it cannot be written.
        TypeError: if it holds a path.
    """
    write_json(record, path)


def check_tables(output: Path) -> bool:
    """Whether tables of several studies lie in ``output``.

    Raises:
        OutputError: if a file of that name is something else, which must not be replaced.
    """
    found = [_lines(output / f"{kind}.csv", columns) for kind, columns in _COLLECTED.items()]
    return any(found)


def add_study(output: Path, study: str) -> None:
    """Put a finished study of ``output`` into both tables, in the place of its earlier rows.

    Rows of studies whose results are not there any more are left out.

    Raises:
        OutputError: if a table cannot be read or written.
    """
    for kind, columns in _COLLECTED.items():
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


def volume_row(measurements: Measurements, volume: RegionVolume) -> dict[str, Any]:
    """One row of the volumes table, rounded, in the order of :data:`VOLUME_COLUMNS`."""
    is_told = volume.is_told
    return {
        "study": measurements.study_id,
        "scan_date": measurements.scan_date or None,
        "region": volume.region,
        "volume_ml": _ml(volume.volume_ml if is_told else None),
        "volume_pv_ml": _ml(volume.volume_pv_ml),
        "low_ml": _ml(volume.low_ml),
        "high_ml": _ml(volume.high_ml),
        "level": volume.level,
        "lesions": int(volume.lesions) if is_told else None,
        "touches_border": bool(volume.touches_border) if is_told else None,
        "note": volume.note or None,
    }


def lesion_row(measurements: Measurements, lesion: Lesion) -> dict[str, Any]:
    """One row of the lesions table, rounded, in the order of :data:`LESION_COLUMNS`."""
    x, y, z = lesion.centroid_mm
    return {
        "study": measurements.study_id,
        "scan_date": measurements.scan_date or None,
        "region": lesion.region,
        "lesion": int(lesion.number),
        "volume_ml": _ml(lesion.volume_ml),
        "x_mm": _mm(x),
        "y_mm": _mm(y),
        "z_mm": _mm(z),
        "side": lesion.side or None,
        "long_mm": _mm(lesion.diameters.long_mm),
        "short_mm": _mm(lesion.diameters.short_mm),
        "plane": lesion.diameters.plane,
        "slice": int(lesion.diameters.slice_index),
        "measurable": bool(lesion.measurable),
        "touches_border": bool(lesion.touches_border),
    }


def _head(measurements: Measurements) -> dict[str, Any]:
    return {
        "study": measurements.study_id,
        "spacing_mm": [round(float(s), 6) for s in measurements.spacing_mm],
        "notes": list(measurements.notes),
    }


def _ml(value: float | None) -> float | None:
    return None if value is None else _rounded(value, _ML_DECIMALS)


def _mm(value: float) -> float:
    return _rounded(value, _MM_DECIMALS)


def _rounded(value: float, decimals: int) -> float:
    if not math.isfinite(value):
        raise ValueError(f"a measurement is {value}, which no table can hold")
    # Adding zero turns -0.0 into 0.0.
    return round(float(value), decimals) + 0.0
