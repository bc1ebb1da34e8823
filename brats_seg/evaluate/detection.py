"""Is there a tumour, and was it noticed: yes and no per study and per lesion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from brats_seg.core.errors import InputError
from brats_seg.evaluate.statistics import Interval


@dataclass(frozen=True)
class DetectionCounts:
    """Decisions against the truth.

    Attributes:
        true_positive: there and found.
        false_positive: found but not there.
        false_negative: there but not found.
        true_negative: neither; always 0 for lesions, since nobody can count the lesions that are not there.
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int = 0


@dataclass(frozen=True)
class Detection:
    """Quality of a yes-or-no decision.

    Attributes:
        accuracy: (TP + TN) / all. For lesions, without TN, it is the share TP / (TP + FP + FN).
        precision: TP / (TP + FP).
        recall: TP / (TP + FN); sensitivity.
        specificity: TN / (TN + FP); NaN for lesions.
        f1: 2 TP / (2 TP + FP + FN).
    """

    counts: DetectionCounts
    accuracy: Interval
    precision: Interval
    recall: Interval
    specificity: Interval
    f1: Interval


def count_decisions(predicted: Sequence[bool], expected: Sequence[bool]) -> DetectionCounts:
    """Count yes-or-no answers, one for each study.

    Raises:
        InputError: if the two differ in number.
    """
    if len(predicted) != len(expected):
        raise InputError(f"{len(predicted)} answers cannot be compared with {len(expected)} truths, one for each study")
    pairs = [(bool(p), bool(e)) for p, e in zip(predicted, expected, strict=True)]
    return DetectionCounts(
        *(pairs.count(cell) for cell in ((True, True), (True, False), (False, True), (False, False)))
    )


def detection(counts: DetectionCounts, *, level: float = 0.95, has_negatives: bool = True) -> Detection:
    """Accuracy, precision, recall, specificity and F1 with Wilson intervals.

    F1 is no share of independent trials, but 2 J / (1 + J) of the share J = TP / (TP + FP + FN), and rises
    with it: the ends of its interval are the ends of J's interval, converted.

    Args:
        counts: decisions against the truth.
        level: coverage the intervals aim at.
        has_negatives: False for lesions, whose true negatives cannot be counted.
    """
    tp, fp, fn, tn = counts.true_positive, counts.false_positive, counts.false_negative, counts.true_negative
    share = wilson_interval(tp, tp + fp + fn, level=level)
    return Detection(
        counts=counts,
        accuracy=wilson_interval(tp + tn, tp + fp + fn + tn, level=level),
        precision=wilson_interval(tp, tp + fp, level=level),
        recall=wilson_interval(tp, tp + fn, level=level),
        specificity=wilson_interval(tn if has_negatives else 0, (tn + fp) if has_negatives else 0, level=level),
        f1=Interval(*(2 * j / (1 + j) for j in (share.value, share.low, share.high))),
    )


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
