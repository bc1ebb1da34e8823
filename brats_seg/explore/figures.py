"""Plots of an explored data set, each as PNG bytes. Drawn without pyplot, so nothing global changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brats_seg.core.labels import VERMILLION
from brats_seg.core.study import SEQUENCES
from brats_seg.explore.facts import PLACE_SHAPE, StudyFacts, enhancing_share
from brats_seg.report.charts import png_of, tidy
from brats_seg.report.pages import INK, SOFT

_LEAST_ML = 0.01
"""Where regions without volume are drawn on the logarithmic axis."""


def volume_plots(studies: Sequence[StudyFacts]) -> bytes:
    """Volume of each region on a logarithmic axis, and the share of the core that enhances."""
    figure = Figure(figsize=(9.9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    volumes = [study.volumes_ml() for study in studies if study.volumes_ml()]
    regions = list(volumes[0])
    columns = [np.maximum([row[region] for row in volumes], _LEAST_ML) for region in regions]
    boxes = left.boxplot(columns, widths=0.6, showfliers=False, patch_artist=True, medianprops={"color": INK})
    for box, region in zip(boxes["boxes"], regions, strict=True):
        box.set(facecolor=region.colour, alpha=0.55, edgecolor=SOFT)
    for place, column in enumerate(columns, 1):
        # Spread by rank and not by chance, so that the same data give the same picture.
        spread = place + 0.3 * (np.arange(len(column)) * 0.618 % 1 - 0.5)
        left.plot(spread, column, ".", color=INK, markersize=4, alpha=0.6)
    left.set_yscale("log")
    ticks = [0.01, 0.1, 1, 10, 100]
    left.set_yticks(ticks, ["0", *(f"{tick:g}" for tick in ticks[1:])])
    left.minorticks_off()
    left.set_xticks(range(1, len(regions) + 1), [region.name for region in regions])
    left.set_title("volume, ml", fontsize=10, color=INK)
    shares = [share for share in map(enhancing_share, volumes) if math.isfinite(share)]
    right.hist(shares, bins=20, range=(0, 1), color=VERMILLION, edgecolor="white")
    right.set_title("share of the tumour core that enhances", fontsize=10, color=INK)
    right.set_ylabel("studies", fontsize=8)
    right.yaxis.get_major_locator().set_params(integer=True)
    for axis in (left, right):
        tidy(axis)
    return png_of(figure)


def place_shares(studies: Sequence[StudyFacts]) -> NDArray[np.float64]:
    """Share of the labelled studies whose whole tumour covers each cell of the head's box, :data:`PLACE_SHAPE`."""
    total, count = np.zeros(PLACE_SHAPE), 0
    for study in studies:
        if study.labels is not None and study.labels.places is not None and study.schema is not None:
            total += study.schema.tumour_mask(study.labels.places)
            count += 1
    return total / max(count, 1)


def place_plots(studies: Sequence[StudyFacts]) -> bytes:
    """Where whole tumours lie in the head's box: the largest share along each line of sight."""
    shares = 100 * place_shares(studies)
    views = (
        ("from below", shares.max(axis=2)[::-1].T[::-1], ("right", "left")),
        ("from the front", shares.max(axis=1)[::-1].T[::-1], ("right", "left")),
        ("from the left", shares.max(axis=0)[::-1].T[::-1], ("front", "back")),
    )
    figure = Figure(figsize=(9.9, 4.2), layout="constrained")
    top = max(float(shares.max()), 1.0)
    axes = figure.subplots(1, 3)
    for axis, (title, picture, ends) in zip(axes, views, strict=True):
        drawn = axis.imshow(picture, cmap="magma", vmin=0, vmax=top, interpolation="nearest")
        axis.set_title(title, fontsize=10, color=INK)
        axis.set_xticks([0, picture.shape[1] - 1], ends, fontsize=8, color=SOFT)
        for label, side in zip(axis.get_xticklabels(), ("left", "right"), strict=True):
            label.set_ha(side)  # within its own picture, since centred ones meet those of its neighbours
        axis.set_yticks([])
    bar = figure.colorbar(drawn, ax=list(axes), shrink=0.8)
    bar.set_label("% of studies", fontsize=8)
    return png_of(figure)


def intensity_plots(studies: Sequence[StudyFacts]) -> bytes:
    """Contrast and variation of every scan, one panel for each sequence."""
    figure = Figure(figsize=(9.9, 2.9), layout="constrained")
    for axis, sequence in zip(figure.subplots(1, len(SEQUENCES)), SEQUENCES, strict=True):
        scans = [study.scans[sequence] for study in studies if sequence in study.scans]
        contrast = [scan.p99 / scan.median if scan.median else math.nan for scan in scans]
        axis.plot([scan.variation for scan in scans], contrast, "o", color="#0072B2", markersize=4, alpha=0.7)
        axis.set_title(sequence.title, fontsize=10, color=INK)
        axis.set_xlabel("deviation / mean", fontsize=8)
        tidy(axis)
        if sequence is SEQUENCES[0]:
            axis.set_ylabel("99th percentile / median", fontsize=8)
    return png_of(figure)
