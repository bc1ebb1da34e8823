"""The page of a phantom data set: what is in it, and pictures of a sample; and what such pages share."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume
from brats_seg.core.regions import DEFAULT_SCHEMA, REGIONS
from brats_seg.evaluate.page import number, page
from brats_seg.files.find import find_study
from brats_seg.files.nifti import read_label_map, read_volume
from brats_seg.files.write import read_schema_sidecar
from brats_seg.phantom.acquire import THREADS
from brats_seg.phantom.picture import visit_picture

PICTURES = 8
"""Visits shown on the page."""
STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --bad: #b02a1a; --good: #1a7f37; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 15px/1.5 system-ui, Roboto, Arial, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 24px; }
h1 { margin: 0; font-size: 1.5rem; }
h2 { margin: 32px 0 8px; font-size: 1.15rem; }
p { margin: 4px 0; max-width: 75ch; }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
.bad { color: var(--bad); font-weight: 600; }
.good { color: var(--good); font-weight: 600; }
.scroll { overflow-x: auto; }
.numbers { display: flex; flex-wrap: wrap; gap: 8px 40px; margin: 16px 0; padding: 0; list-style: none; }
.numbers b { display: block; color: var(--ink); font-size: 1.6rem; line-height: 1.2; }
.numbers li { color: var(--soft); font-size: .875rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 8px 0; }
th, td { padding: 4px 16px 4px 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-size: .8125rem; vertical-align: bottom; }
td.n, th.n { text-align: right; white-space: nowrap; }
figure { margin: 16px 0; }
img { max-width: 100%; height: auto; display: block; }
.plot img { min-width: 720px; }
"""


def section(title: str, *parts: str) -> str:
    """A section of ready-made parts."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def soft(text: str) -> str:
    """A quiet paragraph."""
    return f'<p class="soft">{escape(text)}</p>'


def table(frame: pd.DataFrame, *, titles: Mapping[str, str], decimals: Mapping[str, int] | None = None) -> str:
    """A table of some columns of a frame, numbers to the right.

    Args:
        frame: rows.
        titles: column to heading, in order; other columns are left out.
        decimals: of numbers by column; 2 for others.
    """
    places = decimals or {}
    numeric = {column: pd.api.types.is_numeric_dtype(frame[column]) for column in titles}
    mark = {column: ' class="n"' if is_number else "" for column, is_number in numeric.items()}
    header = "".join(f"<th{mark[column]}>{escape(title)}</th>" for column, title in titles.items())
    body = []
    for _, row in frame.iterrows():
        cells = (f"<td{mark[c]}>{_cell(row[c], places.get(c, 2))}</td>" for c in titles)
        body.append(f"<tr>{''.join(cells)}</tr>")
    rows = "\n".join(body)
    return f'<div class="scroll"><table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def _cell(value: Any, decimals: int) -> str:
    if isinstance(value, float) and value.is_integer() and decimals == 0:
        return str(int(value))
    return number(value if not hasattr(value, "item") else value.item(), decimals)


def picture(png: bytes, alt: str, *, wide: bool = True) -> str:
    """An image inside the page."""
    source = base64.b64encode(png).decode("ascii")
    image = f'<img alt="{escape(alt, quote=True)}" src="data:image/png;base64,{source}">'
    return f'<div class="scroll plot">{image}</div>' if wide else image


def numbers(shown: Mapping[str, Any]) -> str:
    """Large numbers in a row, with what they count below."""
    items = "".join(f"<li><b>{escape(str(value))}</b>{escape(name)}</li>" for name, value in shown.items())
    return f'<ul class="numbers">{items}</ul>'


def dataset_html(output: Path, truths: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """The page of a data set.

    Args:
        output: its folder.
        truths: truth of each visit.
        settings: as in :meth:`~brats_seg.phantom.dataset.DatasetOptions.settings`.
    """
    title = "Phantom patients"
    defects = Counter(defect["defect"] for truth in truths for defect in truth["defects"])
    patients = len({truth["patient"] for truth in truths})
    shown = {
        "patients": patients,
        "visits": len(truths),
        "with a defect": sum(defects.values()),
        "seed": settings["seed"],
    }
    space = "one grid, as BraTS before 2024" if settings["space"] == "atlas" else "a grid of its own for each sequence"
    words = f"Computed, not scanned: every volume is known. {space[0].upper()}{space[1:]}"
    words += "; with scalp, fat, skull and eyes." if settings["skull"] else "; skull-stripped."
    parts = [
        f"<h1>{title}</h1>",
        soft("No real person's data. Research software, not a medical device."),
        numbers(shown),
        f"<p>{escape(words)}</p>",
        section("Pictures", soft(_LEGEND), *_pictures(output, truths)),
        section("Kinds", _counts(Counter(truth["kind"] for truth in truths), "kind")),
        section("Defects", _counts(defects, "defect")) if defects else "",
        section("Every visit", _visits(truths)),
    ]
    return page(title, STYLE, parts)


_LEGEND = (
    "The axial slice with most tumour; the patient's right is on the left. Contours: whole tumour (blue), tumour core "
    "(yellow), enhancing tumour (red), on sequences that lie on the label map's grid."
)


def _pictures(output: Path, truths: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Visits evenly spread over the data set, the first patient's first."""
    count = len(truths)
    first = [i for i, truth in enumerate(truths) if truth["patient"] == truths[0]["patient"]][: PICTURES // 2]
    spread = [round(i * (count - 1) / max(PICTURES - 1, 1)) for i in range(PICTURES)]
    chosen = sorted(dict.fromkeys([*first, *spread][: PICTURES + len(first)]))[:PICTURES] if count else []
    for index in chosen:
        yield _figure(output, truths[index])


def _figure(output: Path, truth: Mapping[str, Any]) -> str:
    folder = output / truth["patient"] / truth["study"].rpartition("_")[2] / "anat"
    study = find_study(folder)
    with ThreadPoolExecutor(THREADS) as pool:  # unpacking leaves the interpreter to others
        found = dict(zip(study.files, pool.map(_readable, study.files.values()), strict=True))
    images = {sequence: volume for sequence, volume in found.items() if volume is not None}
    unreadable = [sequence.title for sequence, volume in found.items() if volume is None]
    if study.labels is None:
        raise InputError(f"{truth['study']} has lost its label map; remove its folder and pass --resume")
    schema = read_schema_sidecar(study.labels) or DEFAULT_SCHEMA
    png = visit_picture(images, read_label_map(study.labels), schema)
    volumes = ", ".join(f"{r.abbreviation} {float(truth['truth_ml'].get(r.abbreviation, 0)):.2f} ml" for r in REGIONS)
    words = [f"{truth['study']}, {truth['date']}, {truth['kind']}: {volumes}"]
    words += [f"{defect['defect']} ({', '.join(defect['sequences'])})" for defect in truth["defects"]]
    words += [f"{name} cannot be read" for name in unreadable]
    return f"<figure>{picture(png, truth['study'])}<figcaption>{escape('; '.join(words))}</figcaption></figure>"


def _readable(path: Path) -> Volume | None:
    """A scan; None where its file is damaged."""
    try:
        return read_volume(path)
    except InputError:
        return None


def _counts(counts: Mapping[str, int], name: str) -> str:
    frame = pd.DataFrame(sorted(counts.items()), columns=[name, "visits"])
    return table(frame, titles={name: name, "visits": "visits"}, decimals={"visits": 0})


def _visits(truths: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        {
            "study": truth["study"],
            "date": truth["date"],
            "kind": truth["kind"],
            **{r.abbreviation: float(truth["truth_ml"].get(r.abbreviation, 0.0)) for r in REGIONS},
            "defect": ", ".join(defect["defect"] for defect in truth["defects"]),
        }
        for truth in truths
    ]
    titles = {"study": "study", "date": "date", "kind": "kind"}
    titles |= {r.abbreviation: f"{r.abbreviation} ml" for r in REGIONS} | {"defect": "defect"}
    return table(pd.DataFrame(rows), titles=titles)
