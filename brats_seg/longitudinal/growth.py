"""How fast a tumour grows: rates, curves and the next visit, each with an interval or a reason why there is none.

* Specific growth rate, ``ln(V2 / V1) / (t2 - t1)`` per day (Mehrara, Cancer Res 2007;67:3970, who show why it is to be
  preferred to the doubling time ``ln 2 / SGR``: that one is skewed, and undefined at equal volumes).
* Velocity of diametric expansion: slope of the mean tumour diameter ``(2 V)^(1/3)`` against time, mm per year
  (Mandonnet, Ann Neurol 2003;53:524). Meant for low-grade glioma on T2/FLAIR volume before treatment. The exact
  diameter of a sphere, ``(6 V / pi)^(1/3)``, is 1.55 % smaller. Classes: Pallud, Neuro Oncol 2013;15:595.
* Curves: :mod:`brats_seg.longitudinal.growth_models`.

A known measurement error is a coefficient of variation of the volume; without one, scatter is taken from the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from scipy import stats

from brats_seg.longitudinal.growth_models import PERFECT_LOG_SD, Curve, Floats, Model, fit_curve
from brats_seg.longitudinal.history import EventKind, PatientHistory

DAYS_PER_YEAR = 365.25
FIT_FROM_VISITS = 3
CHOICE_FROM_VISITS = 5
"""With n visits, k parameters and a scatter of the data, AICc needs n > k + 2."""
GOMPERTZ_FROM_VISITS = 6
DEFAULT_LEVEL = 0.95
BAD_FIT_P = 0.05
RUNS_FROM_VISITS = 6
VELOCITY_CLASSES_MM_PER_YEAR = (4.0, 8.0, 12.0)
"""Prognostic limits of Pallud 2013: below 4, 4 to 8, 8 to 12, 12 and more."""
TREATMENTS = (EventKind.SURGERY, EventKind.TREATMENT_START, EventKind.RADIOTHERAPY_END)


@dataclass(frozen=True)
class Refusal:
    """A number that is not given.

    Attributes:
        what: its name.
        reason: why it cannot be given, in words.
    """

    what: str
    reason: str


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: in ``unit``.
        unit: for example ``1/day``.
        low: lower end; None where nothing is known about the error.
        high: upper end.
        level: nominal coverage of the interval.
        note: how it was found, in words.
    """

    value: float
    unit: str
    low: float | None
    high: float | None
    level: float
    note: str


@dataclass(frozen=True)
class ResidualCheck:
    """Whether a curve describes the visits.

    Attributes:
        scatter_percent: relative scatter of the volumes around the curve.
        chi_square_p: chance of so much scatter from measurement error alone; None where the error is not known.
        runs_p: chance of so few changes of sign in a row of residuals; None below six visits.
        passed: whether neither chance is below 5 %.
        note: in words.
    """

    scatter_percent: float
    chi_square_p: float | None
    runs_p: float | None
    passed: bool
    note: str


@dataclass(frozen=True, eq=False)
class GrowthFit:
    """The chosen curve.

    Attributes:
        curve: parameters and residuals.
        first_day: day of the first visit, to which the curve's time refers.
        last_day: day of the last visit.
        aicc: of every curve that was compared; empty where none were.
        refused: curves that were not fitted, and why.
        check: of the residuals.
        log_sd: scatter expected of one further measurement, in log volume.
        freedom: degrees of freedom of that scatter; None where the measurement error is known.
        note: how the curve was chosen, in words.
    """

    curve: Curve
    first_day: float
    last_day: float
    aicc: dict[Model, float]
    refused: tuple[Refusal, ...]
    check: ResidualCheck
    log_sd: float
    freedom: int | None
    note: str


@dataclass(frozen=True)
class Phase:
    """Visits between two treatments.

    Attributes:
        first: index of the first visit.
        last: index of the last visit.
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
    level: float = DEFAULT_LEVEL,
) -> Estimate | Refusal:
    """Slope of ln V against time, per day; of two visits the difference.

    Args:
        days: of the visits, increasing, from any origin; None where no dates are known.
        volumes_ml: of the same visits.
        cv: known coefficient of variation of one volume; None takes the scatter from three visits or more.
        level: coverage of the interval.
    """
    what = "specific growth rate"
    if refusal := _unusable(what, days, volumes_ml, at_least=2):
        return refusal
    time, logs = _time(days), np.log(np.asarray(volumes_ml, dtype=np.float64))
    slope, half = _slope(time, logs, _known_sd(len(time), cv), level)
    source = f"known measurement error of {cv:.1%}" if cv is not None else "scatter of the visits"
    note = f"slope of ln V over {len(time)} visits, interval from the {source}" if half is not None else (
        "difference of two visits, no interval: the measurement error is not known"
    )  # fmt: skip
    return _estimate(slope, half, "1/day", level, note)


def doubling_time(rate: Estimate | Refusal) -> Estimate | Refusal:
    """``ln 2 / SGR`` in days, refused unless the tumour certainly grows."""
    what = "doubling time"
    if isinstance(rate, Refusal):
        return Refusal(what, rate.reason)
    if rate.value <= 0:
        return Refusal(what, f"the tumour does not grow ({rate.value:+.3g} per day)")
    if rate.low is None or rate.high is None:
        note = f"ln 2 / SGR; {rate.note}"
        return Estimate(math.log(2) / rate.value, "days", None, None, rate.level, note)
    if rate.low <= 0:
        return Refusal(
            what, f"growth is not certain: the interval of the rate, {rate.low:+.3g} to {rate.high:+.3g}, includes 0"
        )
    ends = math.log(2) / rate.high, math.log(2) / rate.low
    return Estimate(math.log(2) / rate.value, "days", *ends, rate.level, f"ln 2 / SGR; {rate.note}")


def diametric_velocity(
    days: Sequence[float] | None,
    volumes_ml: Sequence[float],
    *,
    cv: float | None = None,
    level: float = DEFAULT_LEVEL,
) -> Estimate | Refusal:
    """Velocity of diametric expansion in mm per year: slope of the mean tumour diameter against time.

    Volumes of zero are allowed here unless ``cv`` is given (a relative error of nothing means nothing).
    """
    what = "velocity of diametric expansion"
    if refusal := _unusable(what, days, volumes_ml, at_least=2, positive=cv is not None):
        return refusal
    years = _time(days) / DAYS_PER_YEAR
    diameters = np.array([mean_tumour_diameter_mm(volume) for volume in volumes_ml])
    sd = None if cv is None else diameters * log_sd_of(cv) / 3.0
    slope, half = _slope(years, diameters, sd, level)
    note = f"slope of (2V)^(1/3) over {len(years)} visits; meant for low-grade glioma before treatment"
    return _estimate(slope, half, "mm/year", level, note)


def velocity_class(velocity: Estimate) -> str:
    """Prognostic class of Pallud 2013, for untreated low-grade glioma: ``<4``, ``4-8``, ``8-12`` or ``>=12`` mm/year."""
    low, middle, high = VELOCITY_CLASSES_MM_PER_YEAR
    if velocity.value < low:
        return f"<{low:g}"
    if velocity.value < middle:
        return f"{low:g}-{middle:g}"
    return f"{middle:g}-{high:g}" if velocity.value < high else f">={high:g}"


def fit_growth(
    days: Sequence[float] | None, volumes_ml: Sequence[float], *, cv: float | None = None
) -> GrowthFit | Refusal:
    """The curve that describes the visits best: exponential with 3 or 4 visits, the lowest AICc from 5 on.

    Args:
        days: of the visits, increasing; None where no dates are known.
        volumes_ml: of the same visits, of one phase (see :func:`phases_of`).
        cv: known coefficient of variation of one volume; None takes the scatter from the data.
    """
    what = "growth curve"
    if refusal := _unusable(what, days, volumes_ml, at_least=FIT_FROM_VISITS):
        return refusal
    time, logs = _time(days), np.log(np.asarray(volumes_ml, dtype=np.float64))
    count = len(time)
    sd = _known_sd(count, cv)
    weights = np.ones(count) if sd is None else sd
    curves: dict[Model, Curve] = {}
    refused: list[Refusal] = []
    for model in Model:
        needed = GOMPERTZ_FROM_VISITS if model is Model.GOMPERTZ else CHOICE_FROM_VISITS
        if model is not Model.EXPONENTIAL and count < needed:
            refused.append(Refusal(model.value, f"{count} visits, needs {needed}"))
            continue
        found = fit_curve(model, time, logs, weights)
        if isinstance(found, str):
            refused.append(Refusal(model.value, found))
        else:
            curves[model] = found
    if not curves:
        return Refusal(what, "; ".join(f"{item.what}: {item.reason}" for item in refused))
    scores = {model: _aicc(curve, count, known=cv is not None) for model, curve in curves.items()}
    chosen = min(curves, key=lambda model: (scores[model], model.parameters))
    choice = count >= CHOICE_FROM_VISITS
    note = f"lowest AICc of {', '.join(curves)}" if choice else f"no choice of curve below {CHOICE_FROM_VISITS} visits"
    return _fit(curves[chosen], time, cv, aicc=scores if choice else {}, refused=tuple(refused), note=note,
                first_day=float(np.asarray(days, dtype=np.float64)[0]))  # fmt: skip


def predict_volume(fit: GrowthFit | Refusal, day: float, *, level: float = DEFAULT_LEVEL) -> Estimate | Refusal:
    """Volume in ml that a further visit would measure, with its prediction interval.

    Refused beyond the last visit by more than the visits reach back, where the interval says nothing about what may
    happen, and where the residuals show that the curve does not describe the visits.
    """
    what = "prediction"
    if isinstance(fit, Refusal):
        return Refusal(what, fit.reason)
    span = fit.last_day - fit.first_day
    if not fit.last_day < day <= fit.last_day + span:
        return Refusal(
            what, f"day {day:g} is not within {span:g} days after the last visit, as far as the visits reach back"
        )
    if not fit.check.passed:
        return Refusal(what, f"the {fit.curve.model} curve does not describe the visits: {fit.check.note}")
    centre = fit.curve.log_volume(day - fit.first_day)
    if not math.isfinite(centre):
        return Refusal(what, "the curve reaches a volume of zero before that day")
    variance = fit.curve.leverage(day - fit.first_day)
    # The covariance of a curve fitted with weight 1 is in units of the scatter; with known errors it is absolute.
    spread = math.sqrt(fit.log_sd**2 * (1 + variance) if fit.freedom is not None else fit.log_sd**2 + variance)
    quantile = _quantile(level, fit.freedom)
    low, high = math.exp(centre - quantile * spread), math.exp(centre + quantile * spread)
    return Estimate(math.exp(centre), "ml", low, high, level, f"{fit.curve.model} curve, {fit.note}")


def phases_of(history: PatientHistory) -> tuple[Phase, ...]:
    """Visits between treatments; a visit on the day of a treatment belongs to the phase before it."""
    return phases(
        [visit.day for visit in history.visits],
        [(event.day, event.kind.value) for event in history.events if event.kind in TREATMENTS],
    )


def phases(days: Sequence[date], treatments: Sequence[tuple[date, str]]) -> tuple[Phase, ...]:
    """Runs of visits with no treatment between them.

    Args:
        days: of the visits, increasing.
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


def _unusable(
    what: str,
    days: Sequence[float] | None,
    volumes_ml: Sequence[float],
    *,
    at_least: int,
    positive: bool = True,
) -> Refusal | None:
    if days is None:
        return Refusal(what, "the dates of the visits are not known")
    if len(days) != len(volumes_ml):
        raise ValueError(f"{len(days)} days and {len(volumes_ml)} volumes")
    if any(later <= earlier for earlier, later in zip(days, days[1:], strict=False)):
        raise ValueError(f"days must increase: {list(days)}")
    if len(days) < at_least:
        return Refusal(what, f"{len(days)} visit{'s' * (len(days) != 1)}, needs {at_least}")
    if not all(math.isfinite(volume) and volume >= 0 for volume in volumes_ml):
        raise ValueError(f"volumes are 0 or more: {list(volumes_ml)}")
    if positive and min(volumes_ml) <= 0:
        return Refusal(
            what, f"the volume is 0 ml at visit {list(volumes_ml).index(0) + 1}; a rate needs more than that"
        )
    return None


def _time(days: Sequence[float] | None) -> Floats:
    values = np.asarray(days, dtype=np.float64)
    result: Floats = values - values[0]
    return result


def _known_sd(count: int, cv: float | None) -> Floats | None:
    if cv is None:
        return None
    if not cv > 0:
        raise ValueError(f"a coefficient of variation is above 0, not {cv}")
    return np.full(count, log_sd_of(cv))


def _slope(x: Floats, y: Floats, sd: Floats | None, level: float) -> tuple[float, float | None]:
    """Weighted slope and half the width of its interval (None for two points of unknown error)."""
    weights = np.ones_like(x) if sd is None else 1.0 / sd**2
    centred = x - np.average(x, weights=weights)
    spread = float(np.sum(weights * centred**2))
    slope = float(np.sum(weights * centred * y) / spread)
    if sd is not None:
        return slope, _quantile(level, None) / math.sqrt(spread)
    freedom = len(x) - 2
    if freedom < 1:
        return slope, None
    residuals = y - np.mean(y) - slope * centred
    return slope, _quantile(level, freedom) * math.sqrt(float(np.sum(residuals**2)) / freedom / spread)


def _quantile(level: float, freedom: int | None) -> float:
    upper = 0.5 + level / 2.0
    return float(stats.norm.ppf(upper) if freedom is None else stats.t.ppf(upper, freedom))


def _estimate(value: float, half: float | None, unit: str, level: float, note: str) -> Estimate:
    low, high = (None, None) if half is None else (value - half, value + half)
    return Estimate(value, unit, low, high, level, note)


def _aicc(curve: Curve, count: int, *, known: bool) -> float:
    """AIC with the small-sample term; a scatter taken from the data counts as one more parameter."""
    parameters = curve.model.parameters + (0 if known else 1)
    if known:
        misfit = curve.weighted_square_sum
    else:
        misfit = count * math.log(max(curve.weighted_square_sum / count, PERFECT_LOG_SD**2))
    room = count - parameters - 1
    return misfit + 2 * parameters + (2 * parameters * (parameters + 1) / room if room > 0 else math.inf)


def _fit(
    curve: Curve,
    time: Floats,
    cv: float | None,
    *,
    aicc: dict[Model, float],
    refused: tuple[Refusal, ...],
    note: str,
    first_day: float,
) -> GrowthFit:
    freedom = len(time) - curve.model.parameters
    scatter = math.sqrt(float(np.sum(curve.residuals**2)) / freedom)
    log_sd = log_sd_of(cv) if cv is not None else scatter
    return GrowthFit(
        curve=curve,
        first_day=first_day,
        last_day=first_day + float(time[-1]),
        aicc=aicc,
        refused=refused,
        check=_check(curve, scatter, freedom, known=cv is not None),
        log_sd=log_sd,
        freedom=None if cv is not None else freedom,
        note=note,
    )


def _check(curve: Curve, scatter: float, freedom: int, *, known: bool) -> ResidualCheck:
    chi_square_p = float(stats.chi2.sf(curve.weighted_square_sum, freedom)) if known else None
    enough = len(curve.residuals) >= RUNS_FROM_VISITS and scatter > PERFECT_LOG_SD
    runs_p = _runs_p(curve.residuals) if enough else None
    notes = [f"scatter {100 * scatter:.2g} % around the curve"]
    if chi_square_p is not None and chi_square_p < BAD_FIT_P:
        notes.append(f"more than the measurement error explains (p = {chi_square_p:.2g})")
    if runs_p is not None and runs_p < BAD_FIT_P:
        notes.append(f"residuals of one sign follow each other (p = {runs_p:.2g})")
    return ResidualCheck(100 * scatter, chi_square_p, runs_p, len(notes) == 1, "; ".join(notes))


def _runs_p(residuals: Floats) -> float:
    """Chance of at most so many runs of equal sign in a random order (Wald & Wolfowitz 1940, exact)."""
    signs = residuals > 0
    ups, downs = int(signs.sum()), int((~signs).sum())
    if not ups or not downs:
        return 1.0
    runs = 1 + int(np.sum(signs[1:] != signs[:-1]))
    total = math.comb(ups + downs, ups)
    ways = 0
    for count in range(2, runs + 1):
        half = count // 2
        if count % 2 == 0:
            ways += 2 * math.comb(ups - 1, half - 1) * math.comb(downs - 1, half - 1)
        else:
            ways += math.comb(ups - 1, half) * math.comb(downs - 1, half - 1)
            ways += math.comb(ups - 1, half - 1) * math.comb(downs - 1, half)
    return ways / total
