"""The page of a phantom data set: what is in it, and pictures of a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Floats, Volume
from brats_seg.core.labels import DEFAULT_SCHEMA, LabelSchema
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.files.find import find_study
from brats_seg.files.nifti import read_label_map, read_volume
from brats_seg.files.sidecar import read_schema_sidecar
from brats_seg.models.card import regions_of
from brats_seg.phantom.acquire import THREADS
from brats_seg.report.canvas import Canvas, outlines, png_bytes
from brats_seg.report.pages import DISCLAIMER, figure, number, numbers, section, sections_page, soft, table
from brats_seg.report.slices import AXIAL, View, cut, nearest_voxel, window_of

PICTURES = 8
"""Visits shown on the page."""
_PANEL_PX, _TITLE_PX = 320, 32
_AIR_SHARE, _HEAD_SHARE = 0.08, 0.02
"""Brighter than this share of the grey levels is head, in rows that hold so much of it; noise in the air is not."""
_MARGIN = 6
"""Voxels around the head."""


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
    png = _visit_picture(images, read_label_map(study.labels), schema)
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


def _visit_picture(images: Mapping[MRSequence, Volume], labels: Volume, schema: LabelSchema) -> bytes:
    """The sequences of a visit beside each other, on the axial slice that shows most tumour; radiological sides.

    Contours are drawn on sequences that lie on the label map's grid; a sequence that is not there is left black.
    """
    marked = labels.to_ras()
    counts = (marked.data > 0).sum(axis=(0, 1))
    x, y, z = ((n - 1) / 2 for n in marked.grid.shape)
    place_mm = marked.grid.to_world([x, y, float(np.argmax(counts)) if counts.any() else z])
    canvas = Canvas(len(SEQUENCES) * _PANEL_PX, _TITLE_PX + _PANEL_PX)
    for place, sequence in enumerate(SEQUENCES):
        left = place * _PANEL_PX
        canvas.text(sequence.title, left + _PANEL_PX / 2, _TITLE_PX / 2, size_px=18, align="cc")
        if sequence in images:
            _draw(canvas, images[sequence].to_ras(), marked, schema, place_mm=place_mm, left=left)
        else:
            canvas.text("not there", left + _PANEL_PX / 2, _TITLE_PX + _PANEL_PX / 2, size_px=18, align="cc")
    return png_bytes(canvas.render())


def _draw(canvas: Canvas, volume: Volume, marked: Volume, schema: LabelSchema, *, place_mm: Floats, left: int) -> None:
    """The slice of a sequence through a place, cut to the head."""
    grid, window = volume.grid, window_of(volume.data)
    index = nearest_voxel(grid.to_voxel(place_mm), grid.shape)[2]
    head = volume.data[:, :, index] > window.low + _AIR_SHARE * (window.high - window.low)
    start, stop = [0, 0, 0], list(grid.shape)
    for axis in (0, 1):
        filled = np.flatnonzero(head.mean(axis=1 - axis) > _HEAD_SHARE)
        if filled.size:
            start[axis] = max(int(filled[0]) - _MARGIN, 0)
            stop[axis] = min(int(filled[-1]) + 1 + _MARGIN, stop[axis])
    longest_mm = max((stop[axis] - start[axis]) * grid.spacing_mm[axis] for axis in (0, 1))
    view = View((start[0], start[1], 0), (stop[0], stop[1], stop[2]), grid.spacing_mm, _PANEL_PX / longest_mm)
    width, height = view.size_px(AXIAL)
    corner = left + (_PANEL_PX - width) // 2, _TITLE_PX + (_PANEL_PX - height) // 2
    picture = view.crop(cut(volume.data, AXIAL, index), AXIAL)
    canvas.image(window.grey(view.stretch(picture, AXIAL)), *corner)
    if grid.same_as(marked.grid):
        found = view.crop(cut(marked.data, AXIAL, index), AXIAL)
        for region in regions_of():
            lines = [view.pixels_of(line, AXIAL) + corner for line in outlines(schema.region_mask(found, region))]
            canvas.lines(lines, region.colour, width_px=1.5)
