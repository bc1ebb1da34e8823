"""Repeatability and accuracy from tables of trials.

The within-subject coefficient of variation comes from the logarithms of two measurements of the same thing:
``s_w^2 = mean(d^2) / 2`` with ``d`` the difference of logarithms, ``wCV = sqrt(exp(s_w^2) - 1)`` (Quan and Shih,
Biometrics 1996;52:1195, doi:10.2307/2532835). Two measurements differ by more than the repeatability coefficient
``1.96 sqrt(2) wCV`` in one case of twenty by chance (Raunig et al., Stat Methods Med Res 2015;24:27,
doi:10.1177/0962280214537344); its interval is that of a variance, chi-squared with one degree for each pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from brats_seg.core.errors import InputError
from brats_seg.models.card import regions_of

SIZES_ML: tuple[tuple[str, float, float], ...] = (
    ("under 5 ml", 0.0, 5.0),
    ("5 to 20 ml", 5.0, 20.0),
    ("over 20 ml", 20.0, math.inf),
    ("5 ml or more", 5.0, math.inf),
    ("all", 0.0, math.inf),
)
"""Classes of the true volume; the last two overlap the others."""
LEVEL = 0.95


@dataclass(frozen=True)
class Repeatability:
    """How much two measurements of the same thing differ.

    Attributes:
        pairs: number of pairs.
        cv_percent: within-subject coefficient of variation.
        cv_low_percent: lower end of its 95 % interval.
        cv_high_percent: upper end.
        coefficient_percent: repeatability coefficient.
    """

    pairs: int
    cv_percent: float
    cv_low_percent: float
    cv_high_percent: float
    coefficient_percent: float


def repeatability(first: ArrayLike, second: ArrayLike) -> Repeatability:
    """From pairs of positive measurements.

    Args:
        first: ``(N,)``.
        second: ``(N,)``, of the same things in the same order.

    Raises:
        InputError: if there is no pair, sizes differ, or a value is not positive.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise InputError(f"repeatability needs two equally long rows of measurements, not {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all() and (a > 0).all() and (b > 0).all()):
        raise InputError("repeatability needs positive measurements; leave out pairs in which something was not found")
    total = float((np.log(a / b) ** 2).sum() / 2)
    ends = stats.chi2.ppf([0.5 + LEVEL / 2, 0.5 - LEVEL / 2], a.size)
    low, high = (_cv_percent(total / float(end)) for end in ends)
    middle = _cv_percent(total / a.size)
    return Repeatability(int(a.size), middle, low, high, 1.96 * math.sqrt(2) * middle)


def _cv_percent(variance: float) -> float:
    """Infinite where it is beyond any number, as the upper end of one pair that differs a thousandfold is."""
    return 100 * math.sqrt(math.expm1(variance)) if variance < 700 else math.inf


def repeatability_table(trials: pd.DataFrame, *, column: str = "found_ml") -> pd.DataFrame:
    """By condition, region and size, from scans taken twice.

    Pairs in which one scan found nothing cannot be put into a logarithm: they are counted in ``lost`` and left out.
    """
    twice = trials[trials["condition"] != "fresh"]
    rows: list[dict[str, Any]] = []
    numbers = [field.name for field in fields(Repeatability)]
    for (condition, region), part in twice.groupby(["condition", "region"], sort=False):
        wide = part.pivot(index="patient", columns="scan", values=column).join(
            part.groupby("patient")["true_ml"].first()
        )
        for size, low, high in SIZES_ML:
            chosen = wide[(wide["true_ml"] >= low) & (wide["true_ml"] < high) & (wide["true_ml"] > 0)]
            usable = chosen[(chosen[1] > 0) & (chosen[2] > 0)]
            if len(chosen) == 0:
                continue
            row: dict[str, Any] = {
                "condition": condition,
                "region": region,
                "size": size,
                "lost": len(chosen) - len(usable),
            }
            if len(usable):
                row |= vars(repeatability(usable[1], usable[2]))
            else:
                row |= {"pairs": 0}
            rows.append(row)
    return pd.DataFrame(rows, columns=["condition", "region", "size", "lost", *numbers])


def accuracy_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Dice and volume error by condition, region and size; the fresh scans come first."""
    rows: list[dict[str, Any]] = []
    for (condition, region), whole in trials.groupby(["condition", "region"], sort=False):
        for size, low, high in SIZES_ML:
            part = whole[(whole["true_ml"] >= low) & (whole["true_ml"] < high)]
            if len(part) == 0:
                continue
            error = part["error_percent"].dropna()
            rows.append(
                {
                    "condition": condition,
                    "region": region,
                    "size": size,
                    "scans": len(part),
                    "dice_mean": float(part["dice"].mean()),
                    "dice_median": float(part["dice"].median()),
                    "bias_percent": _mean(error),
                    "median_error_percent": float(error.median()) if len(error) else math.nan,
                    "absolute_error_percent": _mean(error.abs()),
                    "missed": int((part["true_ml"].gt(0) & part["found_ml"].eq(0)).sum()),
                }
            )
    return pd.DataFrame(rows)


def _mean(values: Sequence[float] | pd.Series) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def region_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the regions, else as they were."""
    order = {region.name: index for index, region in enumerate(regions_of())}
    return table.sort_values("region", key=lambda column: column.map(order), kind="stable")
