"""Do two measurements of the same volumes agree: Bland-Altman and the intraclass correlation ICC(2,1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from brats_seg.core.errors import InputError
from brats_seg.evaluate.statistics import Interval


@dataclass(frozen=True)
class BlandAltman:
    """Differences between two measurements (Bland and Altman, Lancet 1986;327:307).

    Attributes:
        bias: mean of second minus first, in their unit.
        bias_low: lower end of the bias' interval (Student's t).
        bias_high: upper end.
        deviation: standard deviation of the differences.
        lower_limit: bias - 1.96 deviations, below which 2.5 % of differences are expected.
        upper_limit: bias + 1.96 deviations.
        bias_percent: bias in percent of the mean of the first; NaN where that is 0.
    """

    count: int
    bias: float
    bias_low: float
    bias_high: float
    deviation: float
    lower_limit: float
    upper_limit: float
    bias_percent: float


def bland_altman(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> BlandAltman:
    """Bias and limits of agreement of two measurements of the same things.

    Args:
        first: ``(N,)``, the reference.
        second: ``(N,)``, in the same unit.
        level: coverage the bias' interval aims at.

    Raises:
        InputError: if there are fewer than 2 pairs, the sizes differ or a value is not finite.
    """
    values = _table(np.column_stack(_same_length(first, second)))
    differences = values[:, 1] - values[:, 0]
    count = len(differences)
    bias, deviation = float(differences.mean()), float(differences.std(ddof=1))
    half = float(stats.t.ppf(0.5 + level / 2, count - 1)) * deviation / math.sqrt(count)
    size = float(values[:, 0].mean())
    return BlandAltman(
        count=count,
        bias=bias,
        bias_low=bias - half,
        bias_high=bias + half,
        deviation=deviation,
        lower_limit=bias - 1.96 * deviation,
        upper_limit=bias + 1.96 * deviation,
        bias_percent=100.0 * bias / size if size else math.nan,
    )


def icc_2_1(measurements: ArrayLike, *, level: float = 0.95) -> Interval:
    """Intraclass correlation ICC(2,1): two-way random effects, absolute agreement, single measurement.

    Shrout and Fleiss, Psychol Bull 1979;86:420, called ICC(A,1) by McGraw and Wong, Psychol Methods
    1996;1:30, whose interval (Satterthwaite's degrees of freedom) is used::

        ICC = (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n)

    Args:
        measurements: ``(N, K)``: N things, each measured by the same K raters or methods.
        level: coverage the interval aims at.

    Returns:
        1 for perfect agreement; may be negative. NaN where nothing varies at all.

    Raises:
        InputError: if there are fewer than 2 things or raters, or a value is not finite.
    """
    values = _table(np.asarray(measurements, np.float64))
    n, k = values.shape
    rows, columns, error = _mean_squares(values)
    denominator = rows + (k - 1) * error + k * (columns - error) / n
    # Rounding leaves mean squares of about 1e-16 of the values' own square where nothing varies.
    if denominator <= 1e-12 * float(np.square(values).max()):
        return Interval(math.nan, math.nan, math.nan)
    value = (rows - error) / denominator
    if error <= 1e-12 * rows and columns <= 1e-12 * rows:
        return Interval(1.0, 1.0, 1.0)
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    freedom = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    tail = 0.5 + level / 2
    f_low = float(stats.f.ppf(tail, n - 1, freedom))
    f_high = float(stats.f.ppf(tail, freedom, n - 1))
    mixed = k * columns + (k * n - k - n) * error
    low = n * (rows - f_low * error) / (f_low * mixed + n * rows)
    high = n * (f_high * rows - error) / (mixed + n * f_high * rows)
    return Interval(value, low, high)


def _mean_squares(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean squares between rows, between columns, and of what remains (two-way analysis of variance)."""
    n, k = values.shape
    centred = values - values.mean()
    of_rows = centred.mean(axis=1, keepdims=True)
    of_columns = centred.mean(axis=0, keepdims=True)
    rest = centred - of_rows - of_columns
    rows = k * float(np.square(of_rows).sum()) / (n - 1)
    columns = n * float(np.square(of_columns).sum()) / (k - 1)
    return rows, columns, float(np.square(rest).sum()) / ((n - 1) * (k - 1))


def _same_length(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise InputError(f"two measurements of the same things need equal lengths, not {a.shape} and {b.shape}")
    return a, b


def _table(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 2:
        raise InputError(f"agreement needs at least 2 things measured twice, not a table of {values.shape}")
    if not np.isfinite(values).all():
        raise InputError("agreement needs finite measurements; leave out the pairs where one is missing")
    return values
