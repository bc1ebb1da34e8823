"""A picture of a phantom visit; PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brats_seg.core.grid import Volume
from brats_seg.core.labels import LabelSchema
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.models.card import regions_of
from brats_seg.report.charts import png_of


def visit_picture(images: Mapping[MRSequence, Volume], labels: Volume, schema: LabelSchema) -> bytes:
    """The sequences of a visit beside each other, on the axial slice that shows most tumour; radiological sides.

    Contours are drawn on sequences that lie on the label map's grid; a sequence that is not there is left black.
    """
    marked = labels.to_ras()
    height_mm = _tumour_height_mm(marked, schema)
    figure = Figure(figsize=(11, 4.0), layout="constrained", facecolor="black")
    for axis, sequence in zip(figure.subplots(1, len(SEQUENCES)), SEQUENCES, strict=True):
        axis.set_axis_off()
        axis.set_title(sequence.title, fontsize=10, color="white")
        if sequence not in images:
            axis.text(0.5, 0.5, "not there", color="white", ha="center", va="center", transform=axis.transAxes)
            continue
        volume = images[sequence].to_ras()
        index = _slice_at(volume, height_mm)
        picture = _upright(volume.data[:, :, index])
        low, high = _window(volume.data)
        spacing = volume.grid.spacing_mm
        axis.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=spacing[1] / spacing[0])
        if volume.grid.same_as(marked.grid):
            _contours(axis, marked.data[:, :, index], schema)
        _zoom(axis, picture > low + 0.08 * (high - low))
    return png_of(figure)


def _zoom(axis: Any, head: NDArray[np.bool_]) -> None:
    """Leave out the empty margin; noise in the air is not counted as head."""
    for along, setter in ((0, axis.set_xlim), (1, axis.set_ylim)):
        filled = np.flatnonzero(head.mean(axis=along) > 0.02)
        if filled.size:
            ends = (float(filled[0]) - 6, float(filled[-1]) + 6)
            setter(ends if along == 0 else ends[::-1])


def _contours(axis: Any, labels: NDArray[Any], schema: LabelSchema) -> None:
    for region in regions_of():
        mask = _upright(schema.region_mask(labels, region)).astype(float)
        if mask.any():
            axis.contour(mask, levels=[0.5], colors=[region.colour], linewidths=0.9)


def _tumour_height_mm(labels: Volume, schema: LabelSchema) -> float:
    """Superior coordinate of the slice with most tumour; of the middle slice where there is none."""
    counts = (labels.data > 0).sum(axis=(0, 1))
    index = int(np.argmax(counts)) if counts.any() else labels.data.shape[2] // 2
    middle = [(n - 1) / 2 for n in labels.data.shape[:2]]
    return float(labels.grid.to_world([*middle, index])[2])


def _slice_at(volume: Volume, height_mm: float) -> int:
    middle = [(n - 1) / 2 for n in volume.data.shape[:2]]
    heights = [float(volume.grid.to_world([*middle, k])[2]) for k in range(volume.data.shape[2])]
    return int(np.argmin(np.abs(np.array(heights) - height_mm)))


def _window(data: NDArray[Any]) -> tuple[float, float]:
    inside = data[::3, ::3, ::3]
    inside = inside[inside != 0]
    if inside.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(inside, (1, 99.7))
    return float(min(low, 0.5 * high)), float(max(high, low + 1e-6))


def _upright(picture: NDArray[Any]) -> NDArray[Any]:
    """``(R, A)`` to rows from front to back and columns from the patient's right to left."""
    return picture[::-1, ::-1].T
