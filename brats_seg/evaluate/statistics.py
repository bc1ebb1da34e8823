"""How sure a mean or a share is, whether two models differ, and whether two measurements agree.

Bootstrap, Wilson, Wilcoxon, effect size, Holm; Bland-Altman and the intraclass correlation ICC(2,1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from brats_seg.core.errors import InputError
from brats_seg.evaluate.overlap import Counts


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the same cases.

    Attributes:
        mean_difference: mean of second minus first.
        low: lower end of its bootstrap interval.
        high: upper end.
        wins: cases where the second is larger.
        losses: cases where it is smaller.
        p_value: two-sided Wilcoxon signed-rank test; 1 where none differs, NaN below :data:`MIN_FOR_TEST` patients.
        effect_size: matched-pairs rank-biserial correlation, -1 to 1; positive where the second is larger.
    """

    count: int
    mean_difference: float
    low: float
    high: float
    wins: int
    losses: int
    p_value: float
    effect_size: float


MIN_FOR_INTERVAL = 5
"""Patients below which a mean gets no interval: drawn again and again they give back themselves."""
MIN_FOR_TEST = 6
"""Patients below which two models are not tested: five that all agree give p 0.0625."""


def bootstrap_interval(
    values: ArrayLike,
    *,
    generator: np.random.Generator,
    patients: Sequence[str] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Mean with its percentile bootstrap interval (Efron, Ann Stat 1979;7:1), patients drawn with replacement.

    Visits of one patient are alike, so they are drawn together (the cluster bootstrap; Field & Welsh, J R Stat Soc B
    2007;69:369).

    Args:
        values: ``(N,)``, one for each case.
        patients: whose each is; None where every case is a patient.
        generator: source of chance; the same seed gives the same interval.
        resamples: how many samples are drawn.
        level: coverage the interval aims at; it is a little too narrow for fewer than about 20 cases.

    Returns:
        All NaN without values; no ends of fewer than :data:`MIN_FOR_INTERVAL` patients.

    Raises:
        InputError: if a value is not finite.
    """
    sample = np.asarray(values, np.float64)
    if sample.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    if sample.ndim != 1 or not np.isfinite(sample).all():
        raise InputError("a bootstrap interval needs a list of finite values; leave out cases without one")
    sums, counts = _by_patient(sample, patients)
    if sums.size < MIN_FOR_INTERVAL:
        return Interval(float(sample.mean()), math.nan, math.nan)
    means = []
    for start in range(0, resamples, 256):
        drawn = generator.integers(0, sums.size, (min(256, resamples - start), sums.size))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(sample.mean()), float(low), float(high))


def _by_patient(
    sample: NDArray[np.float64], patients: Sequence[str] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of the values of each patient, and how many they are."""
    if patients is None:
        return sample, np.ones_like(sample)
    if len(patients) != sample.size:
        raise InputError(f"{sample.size} values of {len(patients)} patients; each value needs its patient")
    _, group = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    counts: NDArray[np.float64] = np.bincount(group).astype(np.float64)
    return np.bincount(group, weights=sample).astype(np.float64), counts


def compare_paired(
    first: ArrayLike,
    second: ArrayLike,
    *,
    generator: np.random.Generator,
    patients: Sequence[str] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
) -> PairedComparison:
    """Compare two models patient by patient; visits of one patient count by their mean difference.

    The test is Wilcoxon's signed-rank test (Biometrics Bull 1945;1:80), cases without a difference left out;
    the effect size is the matched-pairs rank-biserial correlation (Kerby 2014, doi:10.2466/11.IT.3.1):
    the rank sum in favour of the second minus that in favour of the first, divided by the sum of all ranks.

    Args:
        first: ``(N,)`` scores of the first model.
        second: ``(N,)`` scores of the second model on the same cases.
        patients: whose each case is; None where every case is a patient.
        generator: source of chance for the interval of the mean difference.
        resamples: how many bootstrap samples are drawn.
        level: coverage the interval aims at.

    Raises:
        InputError: if the lengths differ, there is no case, or a value is not finite.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size == 0:
        raise InputError(f"two models are compared on the same cases, at least one, not on {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("a paired comparison needs finite scores; leave out cases where one has none")
    differences = b - a
    interval = bootstrap_interval(differences, generator=generator, patients=patients, resamples=resamples, level=level)
    sums, counts = _by_patient(differences, patients)
    changed = (sums / counts)[sums != 0]
    p_value, effect = (1.0, 0.0) if sums.size >= MIN_FOR_TEST else (math.nan, 0.0)
    if changed.size:
        effect = _rank_biserial(changed)
        if sums.size >= MIN_FOR_TEST:
            p_value = float(stats.wilcoxon(changed).pvalue)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return PairedComparison(a.size, interval.value, interval.low, interval.high, wins, losses, p_value, effect)


def detection_rates(counts: Counts, *, level: float = 0.95, has_negatives: bool = True) -> dict[str, Interval]:
    """Accuracy, precision, recall, specificity and F1 of yes-or-no decisions, with Wilson intervals.

    F1 is no share of independent trials, but 2 J / (1 + J) of the share J = TP / (TP + FP + FN), and rises
    with it: the ends of its interval are the ends of J's interval, converted.

    Args:
        counts: decisions against the truth, of studies or of lesions.
        level: coverage the intervals aim at.
        has_negatives: False for lesions, since nobody can count those that are not there: their accuracy is J, and
            their specificity NaN.
    """
    tp, fp, fn, tn = counts.true_positive, counts.false_positive, counts.false_negative, counts.true_negative
    share = wilson_interval(tp, tp + fp + fn, level=level)
    return {
        "accuracy": wilson_interval(tp + tn, tp + fp + fn + tn, level=level),
        "precision": wilson_interval(tp, tp + fp, level=level),
        "recall": wilson_interval(tp, tp + fn, level=level),
        "specificity": wilson_interval(tn if has_negatives else 0, (tn + fp) if has_negatives else 0, level=level),
        "f1": Interval(*(2 * j / (1 + j) for j in (share.value, share.low, share.high))),
    }


def wilson_interval(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Score interval of a share (Wilson, J Am Stat Assoc 1927;22:209); NaN for no trials.

    Raises:
        InputError: if the counts are impossible or the level is not between 0 and 1.
    """
    if not 0 <= successes <= trials:
        raise InputError(f"{successes} successes in {trials} trials is impossible")
    if not 0 < level < 1:
        raise InputError(f"the level of an interval lies between 0 and 1, not {level:g}")
    if trials == 0:
        return Interval(math.nan, math.nan, math.nan)
    found = stats.binomtest(successes, trials)
    ends = found.proportion_ci(level, method="wilson")
    return Interval(successes / trials, float(ends.low), float(ends.high))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for having made several tests (Holm, Scand J Stat 1979;6:65), in the same order.

    Raises:
        InputError: if one is not between 0 and 1.
    """
    values = np.asarray(p_values, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"p values lie between 0 and 1, not {list(p_values)}")
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    steps = values[order] * np.arange(len(values), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in corrected]


def _rank_biserial(differences: NDArray[np.float64]) -> float:
    ranks = stats.rankdata(np.abs(differences))
    return float((ranks[differences > 0].sum() - ranks[differences < 0].sum()) / ranks.sum())


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
