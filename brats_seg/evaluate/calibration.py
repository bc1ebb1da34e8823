"""Do probabilities mean what they say: reliability curve, ECE, Brier score, temperature scaling.

Counts are kept in bins that add up, so a whole data set is judged without holding its voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from brats_seg.core.errors import InputError

BINS = 15
"""Bins of equal width between 0 and 1 (Guo et al., ICML 2017, use 15)."""

TEMPERATURE_RANGE = (0.02, 50.0)
"""Temperatures tried. One at either end means that there is none to find."""


@dataclass(frozen=True, eq=False)
class CalibrationCounts:
    """Voxels by predicted probability.

    Attributes:
        voxels: ``(B,)`` voxels in each bin.
        probability_sum: ``(B,)`` sum of their probabilities.
        positives: ``(B,)`` how many are in the reference.
        squared_error_sum: sum of (probability - truth)^2 over all voxels.
    """

    voxels: NDArray[np.int64]
    probability_sum: NDArray[np.float64]
    positives: NDArray[np.int64]
    squared_error_sum: float

    def __add__(self, other: CalibrationCounts) -> CalibrationCounts:
        return CalibrationCounts(
            self.voxels + other.voxels,
            self.probability_sum + other.probability_sum,
            self.positives + other.positives,
            self.squared_error_sum + other.squared_error_sum,
        )


def count_calibration(probability: ArrayLike, truth: ArrayLike, *, bins: int = BINS) -> CalibrationCounts:
    """Sort voxels into bins of equal width.

    Args:
        probability: any shape, 0 to 1.
        truth: the same shape, boolean.
        bins: number of bins; a probability of exactly 1 belongs to the last.

    Raises:
        InputError: if the shapes differ or a probability is not between 0 and 1.
    """
    p = np.asarray(probability, np.float64).ravel()
    y = np.asarray(truth, np.bool_).ravel()
    if p.shape != y.shape:
        raise InputError(f"{p.size} probabilities do not fit {y.size} truths")
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        raise InputError(f"probabilities lie in 0..1, not in {p.min():g}..{p.max():g}")
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    return CalibrationCounts(
        voxels=np.bincount(index, minlength=bins).astype(np.int64),
        probability_sum=np.bincount(index, weights=p, minlength=bins).astype(np.float64),
        positives=np.bincount(index[y], minlength=bins).astype(np.int64),
        squared_error_sum=float(np.square(p - y).sum()),
    )


def expected_calibration_error(counts: CalibrationCounts) -> float:
    """Mean gap between predicted probability and observed share, each bin weighted by its voxels (ECE).

    Naeini et al., AAAI 2015. NaN without voxels.
    """
    total = int(counts.voxels.sum())
    if total == 0:
        return math.nan
    return float(np.abs(counts.probability_sum - counts.positives).sum()) / total


def brier_score(counts: CalibrationCounts) -> float:
    """Mean squared gap between probability and truth, 0 to 1 (Brier, Mon Weather Rev 1950;78:1). NaN without voxels."""
    total = int(counts.voxels.sum())
    return counts.squared_error_sum / total if total else math.nan


def reliability_curve(counts: CalibrationCounts) -> list[dict[str, float]]:
    """Predicted probability against observed share.

    Returns:
        Of each bin its edges ``low`` and ``high``, its ``voxels``, and of these ``mean_probability`` and ``observed``,
        the share in the reference; both NaN where it has none.
    """
    bins = len(counts.voxels)
    curve = []
    for i, (n, total, positives) in enumerate(
        zip(counts.voxels, counts.probability_sum, counts.positives, strict=True)
    ):
        mean, observed = (float(total / n), float(positives / n)) if n else (math.nan, math.nan)
        point = {"low": i / bins, "high": (i + 1) / bins, "voxels": int(n)}
        curve.append({**point, "mean_probability": mean, "observed": observed})
    return curve


def fit_temperature(logits: ArrayLike, truth: ArrayLike) -> float:
    """The temperature T for which ``sigmoid(logit / T)`` fits the truth best (Guo et al., ICML 2017).

    Minimises the mean negative log-likelihood over log T; it is convex in 1 / T, so there is one minimum.
    Fit it on cases that the network was not trained on and that are not scored with it.

    Args:
        logits: any shape, not infinite.
        truth: the same shape, boolean.

    Raises:
        InputError: if the shapes differ, a logit is not finite, only one class is there, or the logits
            separate the classes perfectly or not at all, so that no temperature is best.
    """
    x = np.asarray(logits, np.float64).ravel()
    y = np.asarray(truth, np.bool_).ravel()
    if x.shape != y.shape:
        raise InputError(f"{x.size} logits do not fit {y.size} truths")
    if not np.isfinite(x).all():
        raise InputError("a temperature needs finite logits; clip probabilities before taking their logit")
    if y.all() or not y.any():
        raise InputError("a temperature needs voxels inside and outside the tumour; take cases that have both")
    # -log p(truth) = log(1 + exp(-margin / T)) with the margin positive where the logit has the right sign.
    margin = np.where(y, x, -x)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -margin / math.exp(log_temperature)).mean())

    low, high = (math.log(t) for t in TEMPERATURE_RANGE)
    best = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5}).x)
    if best - low < 1e-3 or high - best < 1e-3:
        raise InputError(
            f"no temperature between {TEMPERATURE_RANGE[0]:g} and {TEMPERATURE_RANGE[1]:g} is best: the logits "
            "separate tumour and background perfectly, or not at all. Fit on more cases that were not trained on."
        )
    return math.exp(best)
