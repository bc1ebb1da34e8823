"""Plots of the measurement report, and pictures of phantoms; PNG bytes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from brats_seg.core.labels import BLUE, BLUISH_GREEN, ORANGE, REDDISH_PURPLE, VERMILLION
from brats_seg.models.card import regions_of
from brats_seg.report.charts import png_of, tidy

_COLOURS = (BLUE, VERMILLION, BLUISH_GREEN, ORANGE, REDDISH_PURPLE)
_SOFT = "#57606a"


def bias_plot(summary: pd.DataFrame) -> bytes:
    """Bias of the volume by object, one panel for masks and one for shares of voxels; bars are standard errors."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    objects = list(dict.fromkeys(summary["object"]))
    for axis, (name, title, limit) in zip(
        panels, (("mask", "from masks", 1.0), ("pv", "partial-volume-aware", 0.3)), strict=True
    ):
        groups = list(summary.groupby(["voxel_mm", "orientation"], sort=False))
        for index, ((voxel, orientation), part) in enumerate(groups):
            places = np.array([objects.index(o) for o in part["object"]]) + 0.7 * (
                index / max(len(groups) - 1, 1) - 0.5
            )
            axis.errorbar(
                places,
                part[f"{name}_bias_percent"],
                yerr=part[f"{name}_bias_error_percent"],
                fmt="o" if orientation == "straight" else "D",
                color=_COLOURS[index // 2 % len(_COLOURS)],
                markersize=4,
                linewidth=1,
                markerfacecolor="white" if orientation == "any" else None,
                label=f"{voxel} mm, {orientation}",
            )
        axis.axhspan(-limit, limit, color="#d8dee4", alpha=0.5, linewidth=0)
        axis.axhline(0, color=_SOFT, linewidth=0.6)
        axis.set_xticks(range(len(objects)), objects, rotation=40, ha="right", fontsize=8)
        axis.set_ylabel("bias of the volume, %", fontsize=9)
        axis.set_title(f"{title} (band: {limit:g} %)", fontsize=10)
        tidy(axis)
    panels[1].legend(fontsize=7, frameon=False, ncols=2)
    return png_of(figure)


def noise_plot(summary: pd.DataFrame) -> bytes:
    """Bias and spread of the partial-volume-aware volume against size, by noise, one panel for each voxel size."""
    voxels = list(dict.fromkeys(summary["voxel_mm"]))
    figure = Figure(figsize=(3.6 * len(voxels), 3.3), layout="constrained")
    for axis, voxel in zip(np.atleast_1d(figure.subplots(1, len(voxels), sharey=True)), voxels, strict=True):
        part = summary[summary["voxel_mm"] == voxel]
        for colour, (noise, rows) in zip(_COLOURS, part.groupby("noise", sort=True), strict=False):
            size = rows["object"].str.extract(r"([\d.]+)")[0].astype(float)
            axis.errorbar(
                size,
                rows["pv_bias_percent"],
                yerr=rows["pv_sd_percent"],
                fmt="o-",
                color=colour,
                markersize=4,
                linewidth=1,
                label=f"noise {noise:g}",
            )
        axis.axhline(0, color=_SOFT, linewidth=0.6)
        axis.set_title(f"{voxel} mm", fontsize=10)
        axis.set_xlabel("diameter, mm", fontsize=9)
        tidy(axis)
        axis.legend(fontsize=7, frameon=False)
    figure.axes[0].set_ylabel("error of the volume, %: mean and sd", fontsize=9)
    return png_of(figure)


def agreement_plot(trials: pd.DataFrame) -> bytes:
    """Found against true volume of every scan, one panel for each region, on logarithmic axes."""
    figure = Figure(figsize=(10.5, 3.7), layout="constrained")
    for axis, region in zip(figure.subplots(1, len(regions_of())), regions_of(), strict=True):
        part = trials[(trials["region"] == region.name) & (trials["true_ml"] > 0)]
        for colour, (condition, rows) in zip(_COLOURS, part.groupby("condition", sort=False), strict=False):
            axis.plot(
                rows["true_ml"], rows["found_ml"].clip(lower=0.05), "o", color=colour, markersize=4, label=condition
            )
        if len(part):
            ends = [max(float(part["true_ml"].min()) / 1.5, 0.05), float(part["true_ml"].max()) * 1.5]
            axis.plot(ends, ends, color=_SOFT, linewidth=0.8)
        axis.set(xscale="log", yscale="log")
        axis.set_title(f"{region.name}, {region.title}", fontsize=10)
        axis.set_xlabel("true volume, ml", fontsize=9)
        tidy(axis)
    figure.axes[0].set_ylabel("found, ml (0.05: nothing)", fontsize=9)
    figure.axes[-1].legend(fontsize=7, frameon=False)
    return png_of(figure)


def repeat_plot(trials: pd.DataFrame) -> bytes:
    """Difference of two scans of the same patient, in percent of their mean, against the true volume."""
    twice = trials[trials["condition"] != "fresh"]
    figure = Figure(figsize=(10.5, 3.5), layout="constrained")
    for axis, region in zip(figure.subplots(1, len(regions_of()), sharey=True), regions_of(), strict=True):
        part = twice[twice["region"] == region.name]
        for colour, (condition, rows) in zip(_COLOURS, part.groupby("condition", sort=False), strict=False):
            wide = rows.pivot(index="patient", columns="scan", values="found_ml")
            size = rows.groupby("patient")["true_ml"].first()
            mean = wide.mean(axis=1)
            shown = mean > 0
            axis.plot(
                size[shown], (100 * (wide[2] - wide[1]) / mean)[shown], "o", color=colour, markersize=4, label=condition
            )
        axis.axhline(0, color=_SOFT, linewidth=0.6)
        axis.axvline(5, color=_SOFT, linewidth=0.6, linestyle=":")
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())  # over less than two decades they run into one another
        axis.set_title(f"{region.name}, {region.title}", fontsize=10)
        axis.set_xlabel("true volume, ml", fontsize=9)
        tidy(axis)
    figure.axes[0].set_ylabel("second minus first scan, %", fontsize=9)
    figure.axes[-1].legend(fontsize=7, frameon=False)
    return png_of(figure)
