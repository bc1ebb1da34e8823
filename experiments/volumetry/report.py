"""The measurement report as a page and as Markdown for the repository."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from brats_seg.core.errors import InputError
from brats_seg.evaluate.evaluate import frame_to_csv
from brats_seg.files.output import file_hashes, write_text
from brats_seg.files.tables import write_json
from brats_seg.models.record import versions
from brats_seg.report.pages import DISCLAIMER, number, numbers, plot, section, sections_page, soft, table
from experiments.volumetry.figures import agreement_plot, bias_plot, noise_plot, repeat_plot
from experiments.volumetry.repeat_table import repeatability_csv
from experiments.volumetry.verify import Verification

OBJECT_COLUMNS: Mapping[str, str] = {
    "object": "object",
    "voxel_mm": "voxels, mm",
    "orientation": "orientation",
    "counted": "masks",
    "mask_bias_percent": "bias of masks, %",
    "mask_bias_error_percent": "standard error, %",
    "mask_sd_percent": "sd of one, %",
    "samples": "scans in full",
    "pv_bias_percent": "bias, partial-volume-aware, %",
    "pv_bias_error_percent": "standard error, %",
    "pv_sd_percent": "sd of one, %",
    "diameter_bias_mm": "bias of the longest diameter, mm",
}
NOISE_COLUMNS: Mapping[str, str] = {
    "object": "object",
    "voxel_mm": "voxels, mm",
    "noise": "noise / signal",
    "samples": "samples",
    "mask_bias_percent": "bias of masks, %",
    "mask_sd_percent": "sd, %",
    "pv_bias_percent": "bias, partial-volume-aware, %",
    "pv_sd_percent": "sd, %",
}
CHANGE_COLUMNS: Mapping[str, str] = {
    "object": "object",
    "voxel_mm": "voxels, mm",
    "pairs": "pairs",
    "mask_bias_mm": "bias of masks, mm",
    "mask_p95_mm": "95 % below, mm",
    "pv_bias_mm": "bias, partial-volume-aware, mm",
    "pv_p95_mm": "95 % below, mm",
}
PAIRED_COLUMNS: Mapping[str, str] = {
    "condition": "scans",
    "size_mm": "lesion, mm",
    "pairs": "pairs",
    "masks_p95_mm": "two masks: 95 % below, mm",
    "single_p95_mm": "two by partial volume, mm",
    "paired_p95_mm": "both images at once, mm",
    "paired_bias_mm": "its bias, mm",
    "paired_within": "its share within 0.1 mm",
    "coverage": "interval covers",
}
ACCURACY_COLUMNS: Mapping[str, str] = {
    "condition": "scan",
    "region": "region",
    "size": "true volume",
    "scans": "scans",
    "dice_mean": "Dice, mean",
    "dice_median": "Dice, median",
    "bias_percent": "volume bias, %",
    "median_error_percent": "median, %",
    "absolute_error_percent": "mean size of error, %",
    "missed": "missed",
}
REPEAT_COLUMNS: Mapping[str, str] = {
    "condition": "scan",
    "region": "region",
    "size": "true volume",
    "pairs": "pairs",
    "cv_percent": "wCV, %",
    "cv_low_percent": "from",
    "cv_high_percent": "to",
    "coefficient_percent": "repeatability coefficient, %",
    "lost": "lost",
}
_DECIMALS = {
    **dict.fromkeys(("samples", "counted", "pairs", "scans", "missed", "lost"), 0),
    "size_mm": 0,
    **dict.fromkeys(("masks_p95_mm", "single_p95_mm", "paired_p95_mm", "paired_bias_mm"), 3),
    **dict.fromkeys(("dice_mean", "dice_median"), 3),
    **dict.fromkeys(("mask_bias_mm", "mask_p95_mm", "pv_bias_mm", "pv_p95_mm", "pv_bias_percent"), 3),
    **dict.fromkeys(("mask_bias_percent", "mask_bias_error_percent", "pv_bias_error_percent", "pv_sd_percent"), 3),
    **dict.fromkeys(("bias_percent", "median_error_percent", "absolute_error_percent"), 1),
    **dict.fromkeys(("cv_percent", "cv_low_percent", "cv_high_percent", "coefficient_percent"), 1),
}

OBJECT_NOTE = (
    "Every object without noise, along the axes (straight) or turned at random (any), all 48 storage orders by "
    "turns. In each orientation the mask is counted at positions spread evenly over a voxel; bias is the mean error, "
    "its standard error comes from the means of the orientations, and sd is how much a single scan differs by luck."
)
NOISE_NOTE = (
    "Balls in images with Rician noise, outlined by the level half-way between object and surroundings; noise as a "
    "share of the surroundings' signal, the object twice as bright."
)
CHANGE_NOTE = (
    "Balls that grew by 1 mm in diameter, each visit outlined on its own at its own position and turn, noise 0.05: the "
    "error of the difference of two equivalent diameters."
)
PAIRED_NOTE = (
    "Irregular lesions in whole brains that grew or shrank by 1 mm, scanned twice with new place, tilt, bias field, "
    "contrast and noise, imperfect masks: error of the change of the equivalent diameter. Both images at once: "
    "`track/boundary_shift/change.py`, which knows nothing of the truth."
)
ACCURACY_NOTE = (
    "Phantoms the model never saw: fresh ones on the grid of BraTS, and the same patients turned and moved at random "
    "under each condition. Slices are axial."
)
REPEAT_NOTE = (
    "Two scans of one patient with new noise, place and tilt; and with another scanner besides, unless both "
    "are from the same scanner. wCV is the within-subject coefficient of variation with its 95 % interval; two scans "
    "of an unchanged tumour differ by more than the repeatability coefficient in one case of twenty. Lost: pairs in "
    "which one scan found nothing."
)


GIVEN_NOTE = (
    "The same scans with the true outline, put on the grid of each, in place of the model's: digitisation alone."
)


@dataclass(frozen=True)
class Section:
    """One table of the report.

    Attributes:
        title: heading.
        note: what was done, in Markdown.
        table: name in :attr:`.Verification.tables`.
        columns: what is shown, with titles.
        plot: draws a picture above the table, from the table named beside it; None for none.
        shows: what the picture shows, in words.
    """

    title: str
    note: str
    table: str
    columns: Mapping[str, str]
    plot: tuple[Callable[[pd.DataFrame], bytes], str] | None = None
    shows: str = ""


SECTIONS = (
    Section(
        "Reference objects: bias of the volume",
        OBJECT_NOTE,
        "object_bias",
        OBJECT_COLUMNS,
        (bias_plot, "object_bias"),
        "Bias of the volume by object, voxel size and orientation",
    ),
    Section(
        "Noise",
        NOISE_NOTE,
        "noise_bias",
        NOISE_COLUMNS,
        (noise_plot, "noise_bias"),
        "Error of the volume by size and noise",
    ),
    Section("Change of 1 mm: balls", CHANGE_NOTE, "change_error", CHANGE_COLUMNS),
    Section("Change of 1 mm: lesions in brains", PAIRED_NOTE, "paired_change", PAIRED_COLUMNS),
    Section(
        "The whole pipeline: accuracy",
        ACCURACY_NOTE,
        "accuracy",
        ACCURACY_COLUMNS,
        (agreement_plot, "trials"),
        "Found against true volume by region",
    ),
    Section(
        "The whole pipeline: repeatability",
        REPEAT_NOTE,
        "repeatability",
        REPEAT_COLUMNS,
        (repeat_plot, "trials"),
        "Difference of two scans against the true volume",
    ),
    Section("The true outline: repeatability", GIVEN_NOTE, "repeatability_given", REPEAT_COLUMNS),
)
TOO_MUCH = 1e4
"""A percentage beyond this, the upper end of an interval from one pair, is shown as not known."""
PAGE = "phantom_verify.html"
REPEATABILITY_FILE = "repeatability_table.csv"
"""In the form of the data file of :mod:`brats_seg.track.repeatability`."""
MARKDOWN = "phantom_results.md"


def write_verification(found: Verification, folder: Path) -> None:
    """Tables, page, Markdown and record.

    Raises:
        OutputError: if something cannot be written.
    """
    for name, frame in found.tables.items():
        write_text(folder / f"{name}.csv", frame_to_csv(frame))
    _write_repeatability(found, folder / REPEATABILITY_FILE)
    write_text(folder / PAGE, verification_html(found))
    write_text(folder / MARKDOWN, markdown(found))
    record = {
        "versions": versions(),
        "model": dict(found.model),
        "seed": found.seed,
        "size": found.size.name,
        "checks": [vars(check) for check in found.checks()],
        "outputs": file_hashes(folder),
    }
    write_json(record, folder / "run.json")


def _write_repeatability(found: Verification, path: Path) -> None:
    """The table of measurement error, where enough was scanned twice for one."""
    try:
        text = repeatability_csv(found.tables["trials"], model=f"{found.model['name']} {found.model['version']}")
    except InputError:  # a quick look has too few pairs
        return
    write_text(path, text)


def verification_html(found: Verification) -> str:
    """The whole page."""
    lead = f"{DISCLAIMER} Everything here was computed from objects of known volume."
    parts = [
        numbers(
            {
                "object samples": len(found.tables["objects"]),
                "pipeline scans": len(found.tables["trials"]) // 3,
                "model": f"{found.model['name']} {found.model['version']}",
                "seed": found.seed,
            }
        ),
        section("Targets", _checks_html(found)),
        *(_section_html(found, part) for part in SECTIONS),
    ]
    return sections_page("How far to trust a number: measured on phantoms", lead, parts)


def _section_html(found: Verification, part: Section) -> Markup:
    drawn = []
    if part.plot is not None:
        draw, source = part.plot
        drawn.append(plot(draw(found.tables[source]), part.shows))
    note = soft(part.note.replace("`", ""))
    return section(part.title, note, *drawn, _table(found, part.table, part.columns))


def _table(found: Verification, name: str, titles: Mapping[str, str]) -> Markup:
    frame = found.tables[name]
    if len(frame) == 0:
        return soft("Nothing was measured.")
    columns = [name for name in titles if pd.api.types.is_float_dtype(frame[name])]
    shown = frame.assign(**{name: frame[name].where(frame[name].abs() < TOO_MUCH) for name in columns})
    rows = [[_cell(row[column], _DECIMALS.get(column, 2)) for column in titles] for _, row in shown.iterrows()]
    return table(list(titles.values()), rows)


def _cell(value: Any, decimals: int) -> str:
    if isinstance(value, float) and value.is_integer() and decimals == 0:
        return str(int(value))
    return number(value if not hasattr(value, "item") else value.item(), decimals)


def _checks_html(found: Verification) -> Markup:
    words = {True: Markup('<span class="good">met</span>'), False: Markup('<span class="bad">not met</span>'), None: ""}
    rows = [[c.what, c.target, c.measured, words[c.is_met]] for c in found.checks()]
    return table(["what", "target", "measured", ""], rows)


def markdown(found: Verification) -> str:
    """The report as Markdown, for the repository."""
    words = {True: "met", False: "not met", None: ""}
    targets = [[c.what, c.target, c.measured, words[c.is_met]] for c in found.checks()]
    patients = found.size.trials.patients
    lines = [
        "# Measured on phantoms",
        "",
        f"`python -m experiments.volumetry -o OUT --seed {found.seed}"
        + (" --quick`" if found.size.name == "quick" else "`")
        + f", model {found.model['name']} {found.model['version']} ({str(found.model['sha256'])[:12]}). "
        f"{len(found.tables['objects'])} samples of reference objects, {patients} fresh phantoms, "
        f"{found.size.trials.repeated} of them twice under {len(found.size.trials.conditions)} conditions each.",
        "",
        *_rows(["what", "target", "measured", ""], targets),
    ]
    for part in SECTIONS:
        frame = found.tables[part.table]
        lines += ["", f"## {part.title}", "", part.note, ""]
        if len(frame):
            lines += _rows(list(part.columns.values()), [_cells(row, part.columns) for _, row in frame.iterrows()])
    return "\n".join(lines) + "\n"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body]


def _cells(row: pd.Series[Any], columns: Mapping[str, str]) -> list[str]:
    return [_text(row[column], _DECIMALS.get(column, 2)) for column in columns]


def _text(value: Any, decimals: int) -> str:
    if isinstance(value, str):
        return value
    number = float(value)
    return f"{number:.{decimals}f}" if math.isfinite(number) and abs(number) < TOO_MUCH else "-"
