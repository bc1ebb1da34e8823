"""Plots and pictures of an evaluation, each as PNG bytes. Drawn without pyplot, so nothing global changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brats_seg.core.labels import Region
from brats_seg.core.regions import RegionSet
from brats_seg.evaluate.cases import Snapshot
from brats_seg.report.canvas import Canvas, outlines, png_bytes
from brats_seg.report.charts import png_of, tidy
from brats_seg.report.pages import INK, SOFT
from brats_seg.report.slices import AXIAL, View, cut, head_box

_BOX_LEGEND = "box: quartiles; whiskers: 1.5 times the quartile range; every case is a dot"
_PICTURE_PX, _WORDS_PX = 380, 32
_MARGIN_MM = 8.0


def box_plots(cases: pd.DataFrame, metrics: Mapping[str, str], among: RegionSet) -> bytes:
    """Box plots by region, one panel for each metric, with every case as a dot."""
    figure = Figure(figsize=(3.3 * len(metrics), 3.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(metrics)))
    regions = _regions(cases, among)
    # Dots are spread by their rank and not by chance, so that the same table gives the same picture.
    for axis, (metric, title) in zip(axes, metrics.items(), strict=True):
        values = [_finite(cases, region, metric) for region in regions]
        boxes = axis.boxplot(values, widths=0.6, showfliers=False, patch_artist=True, medianprops={"color": INK})
        for box, region in zip(boxes["boxes"], regions, strict=True):
            box.set(facecolor=region.colour, alpha=0.55, edgecolor=SOFT)
        for place, column in enumerate(values, 1):
            spread = place + 0.16 * (np.arange(len(column)) * 0.618 % 1 - 0.5)
            axis.plot(spread, column, ".", color=INK, markersize=3.5, alpha=0.6)
        axis.set_xticks(range(1, len(regions) + 1), [region.name for region in regions])
        axis.set_title(title, fontsize=10, color=INK)
        if metric.endswith("_mm"):
            _stretch_small_distances(axis)
        tidy(axis)
    figure.supxlabel(_BOX_LEGEND, x=0.99, ha="right", fontsize=7, color=SOFT)
    return png_of(figure)


def bland_altman_plots(cases: pd.DataFrame, agreement: pd.DataFrame, among: RegionSet) -> bytes:
    """Difference of volumes against their mean, one panel for each region."""

    def draw(axis: Axes, region: Region) -> None:
        part = cases[cases["region"] == region.name]
        mean = (part["reference_ml"] + part["predicted_ml"]) / 2
        axis.plot(
            mean,
            part["volume_error_ml"],
            "o",
            color=region.colour,
            markeredgecolor=INK,
            markersize=5,
        )
        row = agreement[agreement["region"] == region.name].iloc[0]
        for column, style in (("bias_ml", "-"), ("lower_limit_ml", "--"), ("upper_limit_ml", "--")):
            if np.isfinite(row[column]):
                axis.axhline(row[column], color=SOFT, linestyle=style, linewidth=1)
        axis.axhline(0, color=SOFT, linewidth=0.5)
        axis.set_xlabel("mean volume, ml", fontsize=8)
        axis.set_ylabel("predicted - reference, ml", fontsize=8)

    return _by_region(draw, _regions(agreement, among))


def reliability_plots(reliability: pd.DataFrame, among: RegionSet) -> bytes:
    """Observed share against predicted probability, one panel for each region."""

    def draw(axis: Axes, region: Region) -> None:
        part = reliability[(reliability["region"] == region.name) & (reliability["voxels"] > 0)]
        axis.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle="--")
        axis.plot(part["mean_probability"], part["observed"], "o-", color=INK, markersize=4, linewidth=1.2)
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axis.set_xlabel("predicted probability", fontsize=8)
        axis.set_ylabel("share in the reference", fontsize=8)

    return _by_region(draw, _regions(reliability, among))


def snapshot_picture(snapshot: Snapshot, regions: RegionSet) -> bytes:
    """Reference and prediction side by side, patient's right on the left, cut to the tumour's surroundings."""
    spacing_mm = (*snapshot.pixel_mm, 1.0)
    shown = snapshot.reference | snapshot.prediction | (snapshot.background > 0).astype(np.uint8)
    start, stop = head_box(shown[..., None], 0, margin_mm=_MARGIN_MM, spacing_mm=spacing_mm)
    view = View(start, stop, spacing_mm, _PICTURE_PX / ((stop[0] - start[0]) * spacing_mm[0]))
    width, height = view.size_px(AXIAL)
    canvas = Canvas(2 * width, height + 2 * _WORDS_PX)
    for left, title, bits in ((0, "reference", snapshot.reference), (width, "prediction", snapshot.prediction)):
        background, inside = (view.crop(cut(part[..., None], AXIAL, 0), AXIAL) for part in (snapshot.background, bits))
        corner = left, _WORDS_PX
        canvas.image(view.stretch(background, AXIAL).astype(np.uint8), *corner)
        for bit, region in enumerate(regions):
            lines = [view.pixels_of(line, AXIAL) + corner for line in outlines((inside >> bit & 1) > 0)]
            canvas.lines(lines, region.colour, width_px=max(3.2 - 0.7 * bit, 1.0))
        canvas.text(title, left + width / 2, _WORDS_PX / 2, size_px=16, align="cc")
    for place, region in enumerate(regions, 1):
        x, y = place * 2 * width / (len(regions) + 1), height + 1.5 * _WORDS_PX
        canvas.text(region.name, x, y, size_px=16, align="cc", colour=region.colour)
    return png_bytes(canvas.render())


def _regions(table: pd.DataFrame, among: RegionSet) -> list[Region]:
    """Regions a table has rows of."""
    return [region for region in among if region.name in set(table["region"])]


def _by_region(draw: Callable[[Axes, Region], None], regions: Sequence[Region]) -> bytes:
    figure = Figure(figsize=(3.3 * len(regions), 3.2), layout="constrained")
    for axis, region in zip(np.atleast_1d(figure.subplots(1, len(regions))), regions, strict=True):
        draw(axis, region)
        axis.set_title(f"{region.name}, {region.title}", fontsize=10, color=INK)
        tidy(axis)
    return png_of(figure)


def _finite(cases: pd.DataFrame, region: Region, metric: str) -> np.ndarray:
    values = cases.loc[cases["region"] == region.name, metric].to_numpy(np.float64)
    found: np.ndarray = values[np.isfinite(values)]
    return found


def _stretch_small_distances(axis: Axes) -> None:
    """Linear to 10 mm and logarithmic beyond, so that a penalty of 374 mm does not flatten everything else."""
    axis.set_yscale("symlog", linthresh=10, linscale=2)
    axis.set_ylim(bottom=0)
    ticks = [0, 2, 5, 10, 20, 50, 100, 374]
    axis.set_yticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
