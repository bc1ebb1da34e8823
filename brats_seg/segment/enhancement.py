"""How far T1CE exceeds T1, in units of how much the two differ anyway in tissue near the tumour."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.scans import PreparedStudy
from brats_seg.core.study import MRSequence
from brats_seg.imaging.boxes import bounding_box
from brats_seg.volumetrics.volumes import dilate_box

NEAR_MM = (3.0, 12.0)
"""Tissue near the tumour: so far from it. All of it lies in the cut of a cross-validation's case."""
MIN_TISSUE = 500
"""Voxels of it that a scatter can be measured on."""
MIN_SCATTER = 0.02
"""In standard deviations of the brain; less is no noise but a drawing."""
UPPER = 0.9
"""Share of what enhances that is darker than what counts as its brightest (:func:`risen`)."""
TRIM = 2.5
"""Deviations beyond which tissue is no part of the line: vessels enhance."""


def enhancement(prepared: PreparedStudy, whole: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """How much brighter T1CE is than T1 makes expect, ``(X, Y, Z)``, in units of its scatter in tissue near the tumour.

    What T1 makes expect is a straight line through that tissue, so that neither the scans' own scales nor what else is
    in the file matters. Without T1, the tissue's median takes its place. 0 beyond tissue near the tumour.

    Returns:
        None without T1CE, without a tumour, or where hardly any tissue is near it.
    """
    close, far = (round(mm / min(prepared.grid.spacing_mm)) for mm in NEAR_MM)
    box = bounding_box(whole, margin=far)
    if MRSequence.T1CE not in prepared.present or box is None:
        return None
    inside, seen = whole[box], prepared.channel(MRSequence.T1CE)[box]
    tissue = dilate_box(inside, (far,) * 3) & ~dilate_box(inside, (close,) * 3) & prepared.brain[box] & (seen != 0)
    with_t1 = MRSequence.T1 in prepared.present
    before = prepared.channel(MRSequence.T1)[box] if with_t1 else seen  # without T1 nothing of it is subtracted
    if with_t1:
        tissue &= before != 0
    if np.count_nonzero(tissue) < MIN_TISSUE:
        return None
    expected = _line(before[tissue], seen[tissue]) if with_t1 else (0.0, 0.0)
    excess = seen - np.float32(expected[0]) * before
    middle, scatter = _spread(excess[tissue])
    result = np.zeros(whole.shape, np.float32)
    result[box] = (excess - np.float32(middle)) / np.float32(max(scatter, MIN_SCATTER))
    return result


def risen(enhancing: NDArray[np.bool_], rest: NDArray[np.bool_], rise: NDArray[np.floating[Any]]) -> float:
    """By how much the brightest of what enhances rises more than the rest of the tumour does.

    The brightest, and not all of it: a mask of true enhancement holds much that hardly enhances beside what does.

    Args:
        rest: ``(X, Y, Z)`` mask of the tumour around it.
        rise: ``(X, Y, Z)`` of :func:`enhancement`.

    Returns:
        The upper decile of what enhances less the median of the rest, or of the tissue near the tumour (0) where there
        is no rest; infinite for an empty mask, which nothing speaks against.
    """
    if not enhancing.any():
        return float("inf")
    around = rise[rest]
    return float(np.quantile(rise[enhancing], UPPER)) - (float(np.median(around)) if around.size else 0.0)


def _line(before: NDArray[np.float32], seen: NDArray[np.float32]) -> tuple[float, float]:
    """Slope and height of the line through most of the tissue; least squares, outliers left out and fitted again."""
    kept = np.ones(len(before), np.bool_)
    slope, height = 0.0, 0.0
    for _ in range(4):
        x, y = before[kept].astype(np.float64), seen[kept].astype(np.float64)
        variance = float(x.var())
        slope = float(((x - x.mean()) * (y - y.mean())).mean()) / variance if variance > 0 else 0.0
        height = float(y.mean()) - slope * float(x.mean())
        left = seen - slope * before - height
        middle, scatter = _spread(left[kept])
        kept = np.abs(left - middle) <= TRIM * max(scatter, MIN_SCATTER)
    return slope, height


def _spread(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Median, and the standard deviation that the quartiles of a normal distribution stand for."""
    low, middle, high = (float(v) for v in np.quantile(values, (0.25, 0.5, 0.75)))
    return middle, (high - low) / 1.349
