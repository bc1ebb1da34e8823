"""How fast a tumour grows: rates, curves and the next visit, each with an interval or a reason why there is none.

* Specific growth rate, ``ln(V2 / V1) / (t2 - t1)`` per day (Mehrara, Cancer Res 2007;67:3970, who show why it is to be
  preferred to the doubling time ``ln 2 / SGR``: that one is skewed, and undefined at equal volumes).
* Velocity of diametric expansion: slope of the mean tumour diameter ``(2 V)^(1/3)`` against time, mm per year
  (Mandonnet, Ann Neurol 2003;53:524). Meant for low-grade glioma on T2/FLAIR volume before treatment. The exact
  diameter of a sphere, ``(6 V / pi)^(1/3)``, is 1.55 % smaller. Classes: Pallud, Neuro Oncol 2013;15:595.
* Curves and prediction: :mod:`brats_seg.track.growth_fit`.

A known measurement error is a coefficient of variation of the volume; without one, scatter is taken from the data.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
from scipy import special

from brats_seg.core.grid import Floats
from brats_seg.response.history import EventKind

DAYS_PER_YEAR = 365.25
LEVEL = 0.95
VELOCITY_CLASSES_MM_PER_YEAR = (4.0, 8.0, 12.0)
"""Prognostic limits of Pallud 2013: below 4, 4 to 8, 8 to 12, 12 and more."""
MIN_SPAN_DAYS = 14.0
"""No rate from visits that span less: place, slices and hydration then weigh more than growth. The program's choice."""
TREATMENTS = (EventKind.SURGERY, EventKind.RADIOTHERAPY_END, EventKind.TREATMENT_START)


@dataclass(frozen=True)
class Refusal:
    """A number that is not given."""

    reason: str


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        unit: for example ``1/day``.
        low: lower end; None where nothing is known about the error.
        level: nominal coverage of the interval.
    """

    value: float
    unit: str
    low: float | None
    high: float | None
    level: float
    note: str


@dataclass(frozen=True)
class Phase:
    """Visits between two treatments.

    Attributes:
        why: what ended the phase before, in words; empty for the first phase.
    """

    first: int
    last: int
    why: str


def log_sd_of(cv: float) -> float:
    """Standard deviation of ln V for a coefficient of variation of V (log-normal)."""
    return math.sqrt(math.log1p(cv * cv))


def mean_tumour_diameter_mm(volume_ml: float) -> float:
    """Mandonnet's mean tumour diameter, ``(2 V)^(1/3)`` with V in mm3."""
    return math.cbrt(2000.0 * volume_ml)


def sphere_diameter_mm(volume_ml: float) -> float:
    """Diameter of the sphere of that volume, ``(6 V / pi)^(1/3)``."""
    return math.cbrt(6000.0 * volume_ml / math.pi)


def specific_growth_rate(
    days: Sequence[float] | None,
    volumes_ml: Sequence[float],
    *,
    cv: float | None = None,
) -> Estimate | Refusal:
    """Slope of ln V against time, per day; of two visits the difference.

    Args:
        days: of the visits, increasing, from any origin; None where no dates are known.
        volumes_ml: of the same visits.
        cv: known coefficient of variation of one volume; None takes the scatter from three visits or more.
    """
    if refusal := unusable(days, volumes_ml, at_least=2):
        return refusal
    time, logs = days_since_first(days), np.log(np.asarray(volumes_ml, dtype=np.float64))
    slope, half = _slope(time, logs, known_sd(len(time), cv))
    source = f"known measurement error of {cv:.1%}" if cv is not None else "scatter of the visits"
    note = f"slope of ln V over {len(time)} visits, interval from the {source}" if half is not None else (
        "difference of two visits, no interval: the measurement error is not known"
    )  # fmt: skip
    return _estimate(slope, half, "1/day", note)


def doubling_time(rate: Estimate | Refusal) -> Estimate | Refusal:
    """``ln 2 / SGR`` in days, refused unless the tumour certainly grows."""
    if isinstance(rate, Refusal):
        return rate
    if rate.value <= 0:
        return Refusal(f"the tumour does not grow ({100 * rate.value:+.3g} % a day)")
    if rate.low is None or rate.high is None:
        return Refusal("growth is not certain: the measurement error is not known")
    if rate.low <= 0:
        interval = f"{100 * rate.low:+.3g} to {100 * rate.high:+.3g} % a day"
        return Refusal(f"growth is not certain: the interval of the rate, {interval}, includes 0")
    ends = math.log(2) / rate.high, math.log(2) / rate.low
    return Estimate(math.log(2) / rate.value, "days", *ends, rate.level, f"ln 2 / SGR; {rate.note}")


def diametric_velocity(
    days: Sequence[float] | None,
    volumes_ml: Sequence[float],
    *,
    cv: float | None = None,
) -> Estimate | Refusal:
    """Velocity of diametric expansion in mm per year: slope of the mean tumour diameter against time.

    Volumes of zero are allowed here unless ``cv`` is given (a relative error of nothing means nothing).
    """
    if refusal := unusable(days, volumes_ml, at_least=2, positive=cv is not None):
        return refusal
    years = days_since_first(days) / DAYS_PER_YEAR
    diameters = np.array([mean_tumour_diameter_mm(volume) for volume in volumes_ml])
    sd = None if cv is None else diameters * log_sd_of(cv) / 3.0
    slope, half = _slope(years, diameters, sd)
    note = f"slope of (2V)^(1/3) over {len(years)} visits; meant for low-grade glioma before treatment"
    return _estimate(slope, half, "mm/year", note)


def velocity_class(velocity: Estimate) -> str | None:
    """Prognostic class of Pallud 2013 (untreated low-grade glioma): ``<4``, ``4-8``, ``8-12`` or ``>=12`` mm/year.

    None where the interval is not known or does not lie within one class.
    """
    if velocity.low is None or velocity.high is None:
        return None
    limits = VELOCITY_CLASSES_MM_PER_YEAR
    names = (f"<{limits[0]:g}", *(f"{a:g}-{b:g}" for a, b in pairwise(limits)), f">={limits[-1]:g}")
    lowest, highest = (bisect_right(limits, end) for end in (velocity.low, velocity.high))
    return names[lowest] if lowest == highest else None


def phases(days: Sequence[date], treatments: Sequence[tuple[date, str]]) -> tuple[Phase, ...]:
    """Runs of visits with no treatment between them.

    Args:
        treatments: day and name of each treatment, in any order.
    """
    found: list[Phase] = []
    first, why = 0, ""
    for index in range(1, len(days)):
        between = [(day, name) for day, name in sorted(treatments) if days[index - 1] <= day < days[index]]
        if between:
            found.append(Phase(first, index - 1, why))
            first, why = index, ", ".join(f"{name} {day}" for day, name in between)
    return (*found, Phase(first, len(days) - 1, why)) if days else ()


def unusable(
    days: Sequence[float] | None,
    volumes_ml: Sequence[float],
    *,
    at_least: int,
    positive: bool = True,
) -> Refusal | None:
    """Why a number cannot be given for these visits; None if it can.

    Raises:
        ValueError: if the visits are out of order or a volume is negative, which is a defect of the caller.
    """
    if days is None:
        return Refusal("the dates of the visits are not known")
    if len(days) != len(volumes_ml):
        raise ValueError(f"{len(days)} days and {len(volumes_ml)} volumes")
    if any(later <= earlier for earlier, later in zip(days, days[1:], strict=False)):
        raise ValueError(f"days must increase: {list(days)}")
    if len(days) < at_least:
        return Refusal(f"{len(days)} visit{'s' * (len(days) != 1)}, needs {at_least}")
    if not all(math.isfinite(volume) and volume >= 0 for volume in volumes_ml):
        raise ValueError(f"volumes are 0 or more: {list(volumes_ml)}")
    if (span := days[-1] - days[0]) < MIN_SPAN_DAYS:
        return Refusal(f"the visits span {span:g} day{'s' * (span != 1)}, needs {MIN_SPAN_DAYS:g}")
    if positive and min(volumes_ml) <= 0:
        return Refusal(f"the volume is 0 ml at visit {list(volumes_ml).index(0) + 1}; a rate needs more than that")
    return None


def days_since_first(days: Sequence[float] | None) -> Floats:
    """Days since the first visit."""
    values = np.asarray(days, dtype=np.float64)
    result: Floats = values - values[0]
    return result


def known_sd(count: int, cv: float | None) -> Floats | None:
    """Scatter of ln V at each visit for a known coefficient of variation; None where it is not known."""
    if cv is None:
        return None
    if not cv > 0:
        raise ValueError(f"a coefficient of variation is above 0, not {cv}")
    return np.full(count, log_sd_of(cv))


def _slope(x: Floats, y: Floats, sd: Floats | None) -> tuple[float, float | None]:
    """Weighted slope and half the width of its interval (None for two points of unknown error)."""
    weights = np.ones_like(x) if sd is None else 1.0 / sd**2
    centred = x - np.average(x, weights=weights)
    spread = float(np.sum(weights * centred**2))
    slope = float(np.sum(weights * centred * y) / spread)
    if sd is not None:
        return slope, quantile(None) / math.sqrt(spread)
    freedom = len(x) - 2
    if freedom < 1:
        return slope, None
    residuals = y - np.mean(y) - slope * centred
    return slope, quantile(freedom) * math.sqrt(float(np.sum(residuals**2)) / freedom / spread)


def quantile(freedom: int | None) -> float:
    """Two-sided quantile of :data:`LEVEL`: normal, or Student's with ``freedom``."""
    upper = 0.5 + LEVEL / 2.0
    return float(special.ndtri(upper) if freedom is None else special.stdtrit(freedom, upper))


def _estimate(value: float, half: float | None, unit: str, note: str) -> Estimate:
    low, high = (None, None) if half is None else (value - half, value + half)
    return Estimate(value, unit, low, high, LEVEL, note)
