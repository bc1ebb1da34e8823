"""The page and the tables of an explored data set: one HTML file without scripts or outside resources, CSV, record."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from brats_seg.core.study import SEQUENCES
from brats_seg.evaluate.evaluate import frame_to_csv
from brats_seg.explore.facts import Exploration, StudyFacts, enhancing_share
from brats_seg.explore.figures import intensity_plots, place_plots, volume_plots
from brats_seg.files.output import file_hashes, write_text
from brats_seg.files.tables import write_json
from brats_seg.imaging.likeness import LIKE_FROM
from brats_seg.models.record import versions
from brats_seg.report.pages import DISCLAIMER, numbers, plot, section, sections_page, soft, table

PAGE = "explore.html"
_NUMBERS = ("minimum", "maximum", "background", "median", "p99", "variation", "levels", "saturated_share", "head_ml")
"""Of each scan, as they are called there and in the table."""


def write_exploration(found: Exploration, folder: Path) -> None:
    """Write page, tables and record into a folder.

    Raises:
        OutputError: if something cannot be written.
    """
    for name, frame in tables(found).items():
        write_text(folder / f"{name}.csv", frame_to_csv(frame))
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
        "findings": pd.DataFrame([vars(f) for f in found.findings], columns=["study", "severity", "kind", "text"]),
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
        **{f"{region.name.lower()}_ml": volumes.get(region) for region in study.regions},
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
        **{name: getattr(scan, name) for name in _NUMBERS},
        "sha256": scan.sha256,
    }


def exploration_html(found: Exploration) -> str:
    """The whole page."""
    sections = [_numbers(found), _findings(found)]
    if found.studies:
        intensities = plot(intensity_plots(found.studies), "Contrast and variation of each scan by sequence")
        labelled = any(study.volumes_ml() for study in found.studies)
        sections += [
            _inventory(found),
            *([_labels(found), _places(found)] if labelled else []),
            section("Intensities", intensities),
            _alike(found),
            _studies(found),
        ]
    return sections_page(f"Data set {found.name}", DISCLAIMER, sections)


def _numbers(found: Exploration) -> Markup:
    shown = {
        "studies": len(found.studies),
        "patients": len({study.patient for study in found.studies}),
        "with a label map": sum(study.labels is not None for study in found.studies),
        "with all four sequences": sum(len(study.scans) == len(SEQUENCES) for study in found.studies),
        "broken": len(found.broken),
        "deserve a look": len(found.findings) - len(found.broken),
    }
    return numbers(shown)


def _findings(found: Exploration) -> Markup:
    if not found.findings:
        return section("Findings", Markup("<p>Nothing is broken, and nothing stands out.</p>"))
    rows = [
        [
            f.study,
            Markup('<span class="bad">broken</span>') if f.severity == "broken" else "look",
            f.kind,
            f.text,
        ]
        for f in found.findings
    ]
    return section("Findings", table(["study", "", "kind", "what"], rows))


def _inventory(found: Exploration) -> Markup:
    sequences = [
        [s.title, str(sum(s in x.scans for x in found.studies)), str(sum(s in x.missing for x in found.studies))]
        for s in SEQUENCES
    ]
    grids = Counter(s.first_scan.grid.describe() for s in found.studies if s.first_scan is not None)
    return section(
        "Inventory and geometry",
        table(["sequence", "read", "no file"], sequences),
        table(["grid", "studies"], [[g, str(n)] for g, n in grids.most_common()]),
    )


def _labels(found: Exploration) -> Markup:
    schemas = list({s.schema.name: s.schema for s in found.studies if s.schema is not None}.values())
    values = Counter(
        (study.schema.name, number)
        for study in found.studies
        if study.labels is not None and study.schema is not None
        for number in study.labels.counts
    )
    meaning = [
        [f"{schema.name}: {number}", schema.values[number].title, str(values[schema.name, number])]
        for schema in schemas
        for number in sorted(schema.values)
    ]
    volumes = [study.volumes_ml() for study in found.studies if study.volumes_ml()]
    rows = []
    for region in volumes[0]:
        column = np.array([row[region] for row in volumes])
        points = [f"{value:.2f}" for value in np.quantile(column, [0.0, 0.25, 0.5, 0.75, 1.0])]
        rows.append([f"{region.name}, {region.title}", *points, str(int((column == 0).sum()))])
    small = sum(min(row.values()) < 2.0 for row in volumes)
    note = f"{small} of {len(volumes)} have less than 2 ml of a region, where Dice weighs a speck like a tumour."
    head = ["volume, ml", "smallest", "quarter", "median", "three quarters", "largest", "without"]
    return section(
        "Labels and volumes",
        table(["number", "meaning", "studies"], meaning),
        table(head, rows),
        soft(note),
        plot(volume_plots(found.studies), "Volume by region, and share of the core that enhances"),
    )


def _places(found: Exploration) -> Markup:
    note = "In the box around each head, all boxes laid over each other; the largest share along each line of sight."
    return section(
        "Where tumours lie",
        soft(note),
        plot(place_plots(found.studies), "Heat map of tumour places from three sides"),
    )


def _alike(found: Exploration) -> Markup:
    if not found.likenesses:
        return Markup("")
    rows = [
        [p.first, p.second, f"{p.correlation:.2f}", "same" if p.same_patient else "another"] for p in found.likenesses
    ]
    note = (
        f"Correlation of the fine structure of their scans; from {LIKE_FROM:g} on two studies of different patients "
        "count as the same head and are reported as broken."
    )
    head = ["study", "most alike", "correlation", "patient"]
    return section("Most alike pairs", soft(note), table(head, rows))


def _studies(found: Exploration) -> Markup:
    rows = []
    for study in found.studies:
        volumes = study.volumes_ml()
        cells = [f"{volumes[r]:.2f}" if volumes else "–" for r in study.regions]
        share = enhancing_share(volumes) if volumes else math.nan
        grid = study.first_scan.grid.describe() if study.first_scan is not None else "–"
        rows.append(
            [
                study.id,
                ", ".join(s.title for s in SEQUENCES if s in study.scans) or "–",
                grid,
                "–" if study.labels is None else ", ".join(map(str, sorted(study.labels.counts))) or "none",
                *cells,
                f"{share:.2f}" if math.isfinite(share) else "–",
            ]
        )
    names = found.studies[0].regions.names
    head = ["study", "sequences", "grid", "labels", *(f"{name} ml" for name in names), "enhancing"]
    return section("Every study", table(head, rows))
