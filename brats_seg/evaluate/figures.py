"""Plots and pictures of an evaluation, each as PNG bytes. Drawn without pyplot, so nothing global changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brats_seg.core.labels import Region
from brats_seg.core.regions import RegionSet
from brats_seg.evaluate.snapshot import Picture, Snapshot
from brats_seg.report.charts import INK, SOFT, png_of, tidy

_BOX_LEGEND = "box: quartiles; whiskers: 1.5 times the quartile range; every case is a dot"


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
    rows, columns = _window(snapshot)
    figure = Figure(figsize=(7.2, 3.8), layout="constrained", facecolor="black")
    aspect = snapshot.pixel_mm[1] / snapshot.pixel_mm[0]
    for axis, title, bits in zip(
        figure.subplots(1, 2), ("reference", "prediction"), (snapshot.reference, snapshot.prediction), strict=True
    ):
        axis.imshow(_upright(snapshot.background)[rows, columns], cmap="gray", vmin=0, vmax=255, aspect=aspect)
        for bit, region in enumerate(regions):
            mask = (_upright(bits)[rows, columns] >> bit & 1).astype(float)
            if mask.any() and not mask.all():
                axis.contour(mask, levels=[0.5], colors=[region.colour], linewidths=[max(2.2 - 0.5 * bit, 0.7)])
        axis.set_title(title, fontsize=10, color="white")
        axis.set_axis_off()
    legend = [Line2D([], [], color=r.colour, linewidth=2.5, label=r.name) for r in regions]
    figure.legend(handles=legend, loc="outside lower center", ncols=3, fontsize=8, frameon=False, labelcolor="white")
    return png_of(figure)


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


def _window(snapshot: Snapshot) -> tuple[slice, slice]:
    """Rows and columns of the upright picture around anything drawn, with a margin for orientation."""
    drawn = _upright(snapshot.reference | snapshot.prediction | (snapshot.background > 0).astype(np.uint8))
    sides = []
    for axis in (1, 0):
        hit = np.flatnonzero(drawn.any(axis=axis))
        length = drawn.shape[1 - axis]
        sides.append(slice(max(hit[0] - 8, 0), min(hit[-1] + 9, length)) if hit.size else slice(0, length))
    return sides[0], sides[1]


def _upright(picture: Picture) -> Picture:
    """``(X, Y)`` in RAS to rows from front to back and columns from the patient's right to left."""
    turned: Picture = picture[::-1, ::-1].T
    return turned


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
