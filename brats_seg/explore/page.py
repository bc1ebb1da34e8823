"""The page and the tables of an explored data set: one HTML file without scripts or outside resources, CSV, record."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brats_seg.core.regions import REGIONS, Region
from brats_seg.core.study import SEQUENCES
from brats_seg.evaluate.evaluate import frame_to_csv
from brats_seg.evaluate.page import page
from brats_seg.explore.facts import Exploration, StudyFacts, enhancing_share
from brats_seg.explore.figures import intensity_plots, place_plots, volume_plots
from brats_seg.files.output import file_hashes, write_text
from brats_seg.files.write import write_json
from brats_seg.imaging.likeness import LIKE_FROM
from brats_seg.run import versions

PAGE = "explore.html"
DISCLAIMER = "Research software, not a medical device."

_STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --bad: #b02a1a; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 15px/1.5 system-ui, Roboto, Arial, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 24px; }
h1 { margin: 0; font-size: 1.5rem; }
h2 { margin: 32px 0 8px; font-size: 1.15rem; }
p { margin: 4px 0; max-width: 75ch; }
.soft { color: var(--soft); font-size: .875rem; }
.broken { color: var(--bad); font-weight: 600; }
.scroll { overflow-x: auto; }
.numbers { display: flex; flex-wrap: wrap; gap: 8px 40px; margin: 16px 0; padding: 0; list-style: none; }
.numbers b { display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.numbers li { color: var(--soft); font-size: .875rem; }
.numbers b { color: var(--ink); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 8px 0; }
th, td { padding: 4px 16px 4px 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-size: .8125rem; vertical-align: bottom; }
td.n, th.n { text-align: right; white-space: nowrap; }
td:first-child { overflow-wrap: anywhere; min-width: 11rem; }
img { max-width: 100%; height: auto; display: block; }
.plot img { min-width: 720px; }
"""


def write_exploration(found: Exploration, folder: Path) -> None:
    """Write page, tables and record into a folder.

    Raises:
        OutputError: if something cannot be written.
    """
    for name, table in tables(found).items():
        write_text(folder / f"{name}.csv", frame_to_csv(table))
    write_text(folder / PAGE, exploration_html(found))
    record = {
        "versions": versions(),
        "studies": {s.id: {q.value: scan.sha256 for q, scan in s.scans.items()} for s in found.studies},
        "broken": len(found.broken),
        "outputs": file_hashes(folder),
    }
    write_json(record, folder / "run.json")


def tables(found: Exploration) -> dict[str, pd.DataFrame]:
    """Tables by name: studies, scans, findings and the most alike pairs; units are in the names of columns."""
    scans = [_scan_row(study, sequence) for study in found.studies for sequence in SEQUENCES if sequence in study.scans]
    like = [(p.first, p.second, p.correlation, p.same_patient) for p in found.likenesses]
    return {
        "studies": pd.DataFrame([_study_row(study) for study in found.studies]),
        "scans": pd.DataFrame(scans),
        "findings": pd.DataFrame([f.row() for f in found.findings], columns=["study", "severity", "kind", "text"]),
        "likenesses": pd.DataFrame(like, columns=["first", "second", "correlation", "same_patient"]),
    }


def _study_row(study: StudyFacts) -> dict[str, Any]:
    volumes = study.volumes_ml()
    labels = study.labels
    return {
        "study": study.id,
        "patient": study.patient,
        "sequences": " ".join(s.value for s in SEQUENCES if s in study.scans),
        "missing": " ".join(s.value for s in study.missing),
        "on_one_grid": study.is_aligned,
        "skull_stripped": study.skull_stripped,
        "label_values": "" if labels is None else " ".join(map(str, sorted(labels.counts))),
        "schema": "" if study.schema is None else study.schema.name,
        **{f"{r.abbreviation.lower()}_ml": volumes.get(r) for r in REGIONS},
        "enhancing_share": enhancing_share(volumes) if volumes else None,
        "label_outside_head_share": None if labels is None else labels.outside_share,
    }


def _scan_row(study: StudyFacts, sequence: Any) -> dict[str, Any]:
    scan = study.scans[sequence]
    grid = scan.grid
    return {
        "study": study.id,
        "sequence": sequence.value,
        "shape": "x".join(map(str, grid.shape)),
        **{f"spacing_{axis}_mm": s for axis, s in zip("xyz", grid.spacing_mm, strict=True)},
        "orientation": grid.orientation,
        "minimum": scan.minimum,
        "maximum": scan.maximum,
        "background": scan.background,
        "median": scan.median,
        "p99": scan.p99,
        "variation": scan.variation,
        "levels": scan.levels,
        "saturated_share": scan.saturated_share,
        "head_ml": scan.head_ml,
        "sha256": scan.sha256,
    }


def exploration_html(found: Exploration) -> str:
    """The whole page."""
    title = f"Data set {found.name}"
    labelled = any(study.volumes_ml() for study in found.studies)
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{DISCLAIMER}</p>',
        _numbers(found),
        _findings(found),
        _inventory(found),
        _labels(found) if labelled else "",
        _places(found) if labelled else "",
        _section(
            "Intensities", _plot(intensity_plots(found.studies), "Contrast and variation of each scan by sequence")
        ),
        _alike(found),
        _studies(found),
    ]
    return page(title, _STYLE, sections)


def _numbers(found: Exploration) -> str:
    shown = {
        "studies": len(found.studies),
        "patients": len({study.patient for study in found.studies}),
        "with a label map": sum(study.labels is not None for study in found.studies),
        "with all four sequences": sum(len(study.scans) == len(SEQUENCES) for study in found.studies),
        "broken": len(found.broken),
        "deserve a look": len(found.findings) - len(found.broken),
    }
    items = "".join(f"<li><b>{value}</b>{escape(name)}</li>" for name, value in shown.items())
    return f'<ul class="numbers">{items}</ul>'


def _findings(found: Exploration) -> str:
    if not found.findings:
        return _section("Findings", "<p>Nothing is broken, and nothing stands out.</p>")
    rows = [
        [
            escape(f.study),
            '<span class="broken">broken</span>' if f.severity == "broken" else "look",
            f.kind,
            escape(f.text),
        ]
        for f in found.findings
    ]
    return _section("Findings", _table(["study", "", "kind", "what"], rows))


def _inventory(found: Exploration) -> str:
    sequences = [
        [s.title, str(sum(s in x.scans for x in found.studies)), str(sum(s in x.missing for x in found.studies))]
        for s in SEQUENCES
    ]
    grids = Counter(s.first_scan.grid.describe() for s in found.studies if s.first_scan is not None)
    return _section(
        "Inventory and geometry",
        _table(["sequence", "read", "no file"], sequences, numbers=(1, 2)),
        _table(["grid", "studies"], [[escape(g), str(n)] for g, n in grids.most_common()], numbers=(1,)),
    )


def _labels(found: Exploration) -> str:
    schemas = list({s.schema.name: s.schema for s in found.studies if s.schema is not None}.values())
    values = Counter(
        (study.schema.name, number)
        for study in found.studies
        if study.labels is not None and study.schema is not None
        for number in study.labels.counts
    )
    meaning = [
        [f"{schema.name}: {number}", escape(schema.values[number].value), str(values[schema.name, number])]
        for schema in schemas
        for number in sorted(schema.values)
    ]
    volumes = [study.volumes_ml() for study in found.studies if study.volumes_ml()]
    rows = []
    for region in REGIONS:
        column = np.array([row[region] for row in volumes])
        points = [f"{value:.2f}" for value in np.quantile(column, [0.0, 0.25, 0.5, 0.75, 1.0])]
        rows.append([f"{region.abbreviation}, {region.value}", *points, str(int((column == 0).sum()))])
    small = sum(row[Region.ET] < 2.0 for row in volumes)
    note = (
        f"{small} of {len(volumes)} have less than 2 ml of enhancing tumour, where Dice weighs a speck like a tumour."
    )
    head = ["volume, ml", "smallest", "quarter", "median", "three quarters", "largest", "without"]
    return _section(
        "Labels and volumes",
        _table(["number", "meaning", "studies"], meaning, numbers=(2,)),
        _table(head, rows, numbers=range(1, 7)),
        f'<p class="soft">{note}</p>',
        _plot(volume_plots(found.studies), "Volume by region, and share of the core that enhances"),
    )


def _places(found: Exploration) -> str:
    note = "In the box around each head, all boxes laid over each other; the largest share along each line of sight."
    return _section(
        "Where tumours lie",
        f'<p class="soft">{note}</p>',
        _plot(place_plots(found.studies), "Heat map of tumour places from three sides"),
    )


def _alike(found: Exploration) -> str:
    if not found.likenesses:
        return ""
    rows = [
        [escape(p.first), escape(p.second), f"{p.correlation:.2f}", "same" if p.same_patient else "another"]
        for p in found.likenesses
    ]
    note = (
        f"Correlation of the fine structure of their scans; from {LIKE_FROM:g} on two studies of different patients "
        "count as the same head and are reported as broken."
    )
    head = ["study", "most alike", "correlation", "patient"]
    return _section("Most alike pairs", f'<p class="soft">{note}</p>', _table(head, rows, numbers=(2,)))


def _studies(found: Exploration) -> str:
    rows = []
    for study in found.studies:
        volumes = study.volumes_ml()
        cells = [f"{volumes[r]:.2f}" if volumes else "–" for r in REGIONS]
        share = enhancing_share(volumes) if volumes else math.nan
        grid = study.first_scan.grid.describe() if study.first_scan is not None else "–"
        rows.append(
            [
                escape(study.id),
                ", ".join(s.title for s in SEQUENCES if s in study.scans) or "–",
                escape(grid),
                "–" if study.labels is None else ", ".join(map(str, sorted(study.labels.counts))) or "none",
                *cells,
                f"{share:.2f}" if math.isfinite(share) else "–",
            ]
        )
    head = ["study", "sequences", "grid", "labels", "WT ml", "TC ml", "ET ml", "ET / TC"]
    return _section("Every study", _table(head, rows, numbers=range(4, 8)))


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()) -> str:
    """A table of ready-made cells; ``numbers`` are the columns aligned to the right."""
    right = set(numbers)
    mark = [' class="n"' if i in right else "" for i in range(len(head))]
    header = "".join(f"<th{mark[i]}>{escape(cell)}</th>" for i, cell in enumerate(head))
    body = "\n".join("<tr>" + "".join(f"<td{mark[i]}>{c}</td>" for i, c in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _plot(png: bytes, alt: str) -> str:
    source = base64.b64encode(png).decode("ascii")
    image = f'<img alt="{escape(alt, quote=True)}" src="data:image/png;base64,{source}">'
    return f'<div class="scroll plot">{image}</div>'
