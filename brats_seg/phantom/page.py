"""The page of a phantom data set: what is in it, and pictures of a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from markupsafe import Markup

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume
from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.files.find import find_study
from brats_seg.files.nifti import read_label_map, read_volume
from brats_seg.files.sidecar import read_schema_sidecar
from brats_seg.models.card import regions_of
from brats_seg.phantom.acquire import THREADS
from brats_seg.phantom.picture import visit_picture
from brats_seg.report.pages import DISCLAIMER, figure, number, numbers, section, sections_page, soft, table

PICTURES = 8
"""Visits shown on the page."""


def dataset_html(output: Path, truths: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """The page of a data set.

    Args:
        settings: as in :meth:`~brats_seg.phantom.dataset.DatasetOptions.settings`.
    """
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
        numbers(shown),
        Markup("<p>{}</p>").format(words),
        section("Pictures", soft(_LEGEND), *_pictures(output, truths)),
        section("Kinds", _counts(Counter(truth["kind"] for truth in truths), "kind")),
        section("Defects", _counts(defects, "defect")) if defects else Markup(""),
        section("Every visit", _visits(truths)),
    ]
    return sections_page("Phantom patients", f"No real person's data. {DISCLAIMER}", parts)


_LEGEND = (
    "The axial slice with most tumour; the patient's right is on the left. Contours: whole tumour (blue), tumour core "
    "(yellow), enhancing tumour (red), on sequences that lie on the label map's grid."
)


def _pictures(output: Path, truths: Sequence[Mapping[str, Any]]) -> Iterable[Markup]:
    """Visits evenly spread over the data set, the first patient's first."""
    count = len(truths)
    first = [i for i, truth in enumerate(truths) if truth["patient"] == truths[0]["patient"]][: PICTURES // 2]
    spread = [round(i * (count - 1) / max(PICTURES - 1, 1)) for i in range(PICTURES)]
    chosen = sorted(dict.fromkeys([*first, *spread][: PICTURES + len(first)]))[:PICTURES] if count else []
    for index in chosen:
        yield _figure(output, truths[index])


def _figure(output: Path, truth: Mapping[str, Any]) -> Markup:
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
    volumes = ", ".join(f"{r.name} {float(truth['truth_ml'].get(r.name, 0)):.2f} ml" for r in regions_of())
    words = [f"{truth['study']}, {truth['date']}, {truth['kind']}: {volumes}"]
    words += [f"{defect['defect']} ({', '.join(defect['sequences'])})" for defect in truth["defects"]]
    words += [f"{name} cannot be read" for name in unreadable]
    return figure(png, truth["study"], "; ".join(words))


def _readable(path: Path) -> Volume | None:
    """A scan; None where its file is damaged."""
    try:
        return read_volume(path)
    except InputError:
        return None


def _counts(counts: Mapping[str, int], name: str) -> Markup:
    return table([name, "visits"], sorted(counts.items()))


def _visits(truths: Sequence[Mapping[str, Any]]) -> Markup:
    regions = [region.name for region in regions_of()]
    rows = [
        [
            *(truth["study"], truth["date"], truth["kind"]),
            *(number(float(truth["truth_ml"].get(region, 0.0)), 2) for region in regions),
            ", ".join(defect["defect"] for defect in truth["defects"]),
        ]
        for truth in truths
    ]
    return table(["study", "date", "kind", *(f"{region} ml" for region in regions), "defect"], rows)
