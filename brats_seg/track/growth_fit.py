"""Which growth curve describes a patient's visits, how well, and what the next visit would measure.

Curves are compared by AICc (Hurvich & Tsai, Biometrika 1989;76:297) from five visits, the Gompertz curve from six;
below that the exponential is fitted without choice, and below three visits nothing is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from brats_seg.core.grid import Floats
from brats_seg.track.curves import PERFECT_LOG_SD, Curve, Model, fit_curve
from brats_seg.track.growth import (
    LEVEL,
    Estimate,
    Refusal,
    days_since_first,
    known_sd,
    log_sd_of,
    quantile,
    unusable,
)

MAX_PREDICTED_ML = 1500.0
"""About the volume of a brain; an interval that reaches beyond says nothing."""
FIT_FROM_VISITS = 3
CHOICE_FROM_VISITS = 5
"""With n visits, k parameters and a scatter of the data, AICc needs n > k + 2."""
GOMPERTZ_FROM_VISITS = 6
RUNS_FROM_VISITS = 6
BAD_FIT_P = 0.05


@dataclass(frozen=True)
class ResidualCheck:
    """Whether a curve describes the visits.

    Attributes:
        chi_square_p: chance of so much scatter from measurement error alone; None where the error is not known.
        runs_p: chance of so few changes of sign in a row of residuals; None below six visits.
        passed: whether neither chance is below 5 %.
        note: in words.
    """

    chi_square_p: float | None
    runs_p: float | None
    passed: bool
    note: str


@dataclass(frozen=True, eq=False)
class GrowthFit:
    """The chosen curve.

    Attributes:
        first_day: day of the first visit, to which the curve's time refers.
        aicc: of every curve that was compared; empty where none were.
        refused: curves that were not fitted, and why.
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


def fit_growth(
    days: Sequence[float] | None, volumes_ml: Sequence[float], *, cv: float | None = None
) -> GrowthFit | Refusal:
    """The curve that describes the visits best: exponential with 3 or 4 visits, the lowest AICc from 5 on.

    Args:
        days: of the visits, increasing; None where no dates are known.
        volumes_ml: of the same visits, of one phase (see :func:`~brats_seg.track.growth.phases`).
        cv: known coefficient of variation of one volume; None takes the scatter from the data.
    """
    what = "growth curve"
    if refusal := unusable(what, days, volumes_ml, at_least=FIT_FROM_VISITS):
        return refusal
    time, logs = days_since_first(days), np.log(np.asarray(volumes_ml, dtype=np.float64))
    count = len(time)
    sd = known_sd(count, cv)
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


def predict_volume(fit: GrowthFit | Refusal, day: float) -> Estimate | Refusal:
    """Volume in ml that a further visit would measure, with its prediction interval.

    Refused beyond the last visit by more than the visits reach back, where the interval says nothing about what may
    happen, where the residuals show that the curve does not describe the visits, and where the interval reaches beyond
    :data:`MAX_PREDICTED_ML`.
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
    width = quantile(fit.freedom)
    if centre + width * spread > math.log(MAX_PREDICTED_ML):
        return Refusal(what, f"the upper end of its interval is more than a brain holds ({MAX_PREDICTED_ML:g} ml)")
    low, high = math.exp(centre - width * spread), math.exp(centre + width * spread)
    return Estimate(math.exp(centre), "ml", low, high, LEVEL, f"{fit.curve.model} curve, {fit.note}")


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
    chi_square_p = float(special.chdtrc(freedom, curve.weighted_square_sum)) if known else None
    enough = len(curve.residuals) >= RUNS_FROM_VISITS and scatter > PERFECT_LOG_SD
    runs_p = _runs_p(curve.residuals) if enough else None
    notes = [f"scatter {100 * scatter:.2g} % around the curve"]
    if chi_square_p is not None and chi_square_p < BAD_FIT_P:
        notes.append(f"more than the measurement error explains (p = {chi_square_p:.2g})")
    if runs_p is not None and runs_p < BAD_FIT_P:
        notes.append(f"residuals of one sign follow each other (p = {runs_p:.2g})")
    return ResidualCheck(chi_square_p, runs_p, len(notes) == 1, "; ".join(notes))


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
