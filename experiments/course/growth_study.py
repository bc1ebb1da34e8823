"""How well growth is measured: rates over three visits of phantom timelines, and what the intervals hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brats_seg.track.growth import Estimate, log_sd_of, specific_growth_rate
from experiments.course.timelines import VolumeRow

VISITS = 3
GROWN_PERCENT = 60.0
"""True growth from the first to the last of the visits from which on the relative error of a rate is asked for."""
ASKED_ERROR = 0.10


@dataclass(frozen=True)
class RateRow:
    """The growth rate over three visits in a row.

    Attributes:
        patient: name.
        region: ``ET``, or ``WT`` where nothing enhances.
        first: name of the first visit.
        growth_percent: true growth from the first to the last visit.
        true_per_day: slope of the logarithm of the true volumes.
        found_per_day: the same of the measured ones.
    """

    patient: str
    region: str
    first: str
    growth_percent: float
    true_per_day: float
    found_per_day: float

    @property
    def error_per_day(self) -> float:
        """Measured minus true."""
        return self.found_per_day - self.true_per_day

    @property
    def relative_error(self) -> float:
        """Absolute error over the true rate."""
        return abs(self.error_per_day / self.true_per_day) if self.true_per_day else math.inf

    @property
    def is_grown(self) -> bool:
        """Whether the true growth is at least :data:`GROWN_PERCENT`."""
        return self.growth_percent >= GROWN_PERCENT


def growth_rates(volumes: Sequence[VolumeRow]) -> list[RateRow]:
    """Rates over every three visits in a row at which the tumour is there, truly and measured.

    Args:
        volumes: of timelines; ET is followed, or WT in patients in whom nothing ever enhances.
    """
    rows = []
    for patient, own in itertools.groupby(volumes, key=lambda row: row.patient):
        by_region: dict[str, list[VolumeRow]] = {}
        for row in own:
            by_region.setdefault(row.region, []).append(row)
        region = "ET" if any(row.true_ml > 0 for row in by_region["ET"]) else "WT"
        series = by_region[region]
        for start in range(len(series) - VISITS + 1):
            part = series[start : start + VISITS]
            if min(min(row.true_ml, row.found_ml) for row in part) > 0:
                rows.append(_rate(patient, region, part))
    return rows


def _rate(patient: str, region: str, part: Sequence[VolumeRow]) -> RateRow:
    days = [float(row.days) for row in part]
    true, found = (
        specific_growth_rate(days, volumes) for volumes in ([r.true_ml for r in part], [r.found_ml for r in part])
    )
    assert isinstance(true, Estimate) and isinstance(found, Estimate)  # days increase, and volumes are above 0
    growth = 100 * (part[-1].true_ml / part[0].true_ml - 1)
    return RateRow(patient, region, part[0].visit, growth, true.value, found.value)


def interval_coverage(
    rng: np.random.Generator, *, series: int = 200, errors: Sequence[float] = (0.02, 0.05, 0.1, 0.2)
) -> Mapping[float, float]:
    """Share of the 95 % intervals of the specific growth rate that hold the true rate, by known measurement error.

    Args:
        rng: of growth, dates and measurement errors.
        series: courses of three visits for each error.
        errors: coefficients of variation of a volume.
    """
    result = {}
    for cv in errors:
        held = 0
        for _ in range(series):
            days = np.cumsum([0.0, *rng.integers(42, 120, VISITS - 1)])
            rate, start = rng.uniform(-0.01, 0.02), math.exp(rng.uniform(0, 4))
            logs = math.log(start) + rate * days + rng.normal(0, log_sd_of(cv), VISITS)
            found = specific_growth_rate(days.tolist(), np.exp(logs).tolist(), cv=cv)
            assert isinstance(found, Estimate) and found.low is not None and found.high is not None
            held += found.low <= rate <= found.high
        result[cv] = held / series
    return result
