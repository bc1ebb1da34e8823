"""Which curve of volume against time describes a patient's visits, how well, and what the next visit would measure.

A relative measurement error makes the logarithm of volume scatter evenly, so all curves are fitted there by weighted
least squares and can be compared with each other by AICc (Hurvich & Tsai, Biometrika 1989;76:297) from five visits, the
Gompertz curve from six; below that the exponential is fitted without choice, and below three visits nothing is.

* exponential: ``ln V = a + b t``.
* linear radius: the diameter grows evenly, ``ln V = 3 ln(d + g t) + const`` (Mandonnet, Ann Neurol 2003;53:524).
* Gompertz: growth that slows towards a limit, ``ln V = A (1 - exp(-k t)) + B exp(-k t)`` with V from exp(B) to exp(A)
  (Laird, Br J Cancer 1964;18:490).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from brats_seg.core.grid import Floats
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
GOMPERTZ_RATES = (0.05, 20.0)
"""Range of ``k`` times the observed time in which a curve can be told from a straight line and from a step."""
GOMPERTZ_GRID = 40
"""Rates tried before the search proper; steps of a factor 1.17."""
PERFECT_LOG_SD = 1e-6
"""Scatter below which a fit counts as perfect; smaller differences are rounding."""


class Model(StrEnum):
    """Growth curve."""

    EXPONENTIAL = "exponential"
    LINEAR_RADIUS = "linear radius"
    GOMPERTZ = "Gompertz"

    @property
    def parameters(self) -> int:
        """Number of free parameters of the curve."""
        return 3 if self is Model.GOMPERTZ else 2


@dataclass(frozen=True, eq=False)
class Curve:
    """A fitted curve.

    Attributes:
        parameters: exponential ``(a, b)``; linear radius ``(d mm, g mm/day)``; Gompertz ``(A, B, ln k)``.
        covariance: of the parameters, for residuals of weight 1.
        residuals: observed minus fitted log volume, by visit.
        weighted_square_sum: of the residuals, each divided by its expected scatter (1 where unknown).
    """

    model: Model
    parameters: Floats
    covariance: Floats
    residuals: Floats
    weighted_square_sum: float

    def log_volume(self, day: float) -> float:
        """Logarithm of the volume in ml on a day (days since the first visit)."""
        return float(predictions(self.model, self.parameters, np.array([day]))[0])

    def leverage(self, day: float) -> float:
        """Variance of the fitted log volume on a day, for residuals of weight 1."""
        gradient = _gradient(self.model, self.parameters, day)
        return float(gradient @ self.covariance @ gradient)


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
        doubts: the scatter around the curve in words, and after it whatever speaks against the curve.
    """

    curve: Curve
    first_day: float
    last_day: float
    aicc: dict[Model, float]
    refused: dict[str, str]
    log_sd: float
    freedom: int | None
    note: str
    doubts: tuple[str, ...]

    @property
    def describes_the_visits(self) -> bool:
        """Whether so much scatter, and so few changes of its sign, each have a chance of 5 % or more."""
        return len(self.doubts) == 1


def fit_growth(
    days: Sequence[float] | None, volumes_ml: Sequence[float], *, cv: float | None = None
) -> GrowthFit | Refusal:
    """The curve that describes the visits best: exponential with 3 or 4 visits, the lowest AICc from 5 on.

    Args:
        days: of the visits, increasing; None where no dates are known.
        volumes_ml: of the same visits, of one phase (see :func:`~brats_seg.track.growth.phases`).
        cv: known coefficient of variation of one volume; None takes the scatter from the data.
    """
    if refusal := unusable(days, volumes_ml, at_least=FIT_FROM_VISITS):
        return refusal
    time, logs = days_since_first(days), np.log(np.asarray(volumes_ml, dtype=np.float64))
    count = len(time)
    sd = known_sd(count, cv)
    curves, refused = _curves(time, logs, np.ones(count) if sd is None else sd)
    if not curves:
        return Refusal("; ".join(f"{model}: {reason}" for model, reason in refused.items()))
    scores = {model: _aicc(curve, count, known=cv is not None) for model, curve in curves.items()}
    curve = curves[min(curves, key=lambda model: (scores[model], model.parameters))]
    choice = count >= CHOICE_FROM_VISITS
    freedom = count - curve.model.parameters
    scatter = math.sqrt(float(np.sum(curve.residuals**2)) / freedom)
    first_day = float(np.asarray(days, dtype=np.float64)[0])
    return GrowthFit(
        curve=curve,
        first_day=first_day,
        last_day=first_day + float(time[-1]),
        aicc=scores if choice else {},
        refused=refused,
        log_sd=log_sd_of(cv) if cv is not None else scatter,
        freedom=None if cv is not None else freedom,
        note=f"lowest AICc of {', '.join(curves)}"
        if choice
        else f"no choice of curve below {CHOICE_FROM_VISITS} visits",
        doubts=_doubts(curve, scatter, freedom, known=cv is not None),
    )


def _curves(time: Floats, logs: Floats, weights: Floats) -> tuple[dict[Model, Curve], dict[str, str]]:
    """The curves that can be fitted to so many visits, and why the others cannot."""
    curves: dict[Model, Curve] = {}
    refused: dict[str, str] = {}
    for model in Model:
        needed = GOMPERTZ_FROM_VISITS if model is Model.GOMPERTZ else CHOICE_FROM_VISITS
        if model is not Model.EXPONENTIAL and len(time) < needed:
            refused[model.value] = f"{len(time)} visits, needs {needed}"
            continue
        found = fit_curve(model, time, logs, weights)
        if isinstance(found, str):
            refused[model.value] = found
        else:
            curves[model] = found
    return curves, refused


def predict_volume(fit: GrowthFit | Refusal, day: float) -> Estimate | Refusal:
    """Volume in ml that a further visit would measure, with its prediction interval.

    Refused beyond the last visit by more than the visits reach back, where the interval says nothing about what may
    happen, where the residuals show that the curve does not describe the visits, and where the interval reaches beyond
    :data:`MAX_PREDICTED_ML`.
    """
    if isinstance(fit, Refusal):
        return fit
    span = fit.last_day - fit.first_day
    if not fit.last_day < day <= fit.last_day + span:
        return Refusal(f"day {day:g} is not within {span:g} days after the last visit, as far as the visits reach back")
    if not fit.describes_the_visits:
        return Refusal(f"the {fit.curve.model} curve does not describe the visits: {'; '.join(fit.doubts)}")
    centre = fit.curve.log_volume(day - fit.first_day)
    if not math.isfinite(centre):
        return Refusal("the curve reaches a volume of zero before that day")
    variance = fit.curve.leverage(day - fit.first_day)
    # The covariance of a curve fitted with weight 1 is in units of the scatter; with known errors it is absolute.
    spread = math.sqrt(fit.log_sd**2 * (1 + variance) if fit.freedom is not None else fit.log_sd**2 + variance)
    width = quantile(fit.freedom)
    if centre + width * spread > math.log(MAX_PREDICTED_ML):
        return Refusal(f"the upper end of its interval is more than a brain holds ({MAX_PREDICTED_ML:g} ml)")
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


def _doubts(curve: Curve, scatter: float, freedom: int, *, known: bool) -> tuple[str, ...]:
    notes = [f"scatter {100 * scatter:.2g} % around the curve"]
    if known and (chance := float(special.chdtrc(freedom, curve.weighted_square_sum))) < BAD_FIT_P:
        notes.append(f"more than the measurement error explains (p = {chance:.2g})")
    enough = len(curve.residuals) >= RUNS_FROM_VISITS and scatter > PERFECT_LOG_SD
    if enough and (chance := _runs_p(curve.residuals)) < BAD_FIT_P:
        notes.append(f"residuals of one sign follow each other (p = {chance:.2g})")
    return tuple(notes)


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


def predictions(model: Model, parameters: Floats, days: Floats) -> Floats:
    """Log volume in ml at ``days`` since the first visit; ``-inf`` where a linear radius has shrunk to nothing."""
    if model is Model.EXPONENTIAL:
        return _floats(parameters[0] + parameters[1] * days)
    if model is Model.LINEAR_RADIUS:
        diameter = parameters[0] + parameters[1] * days
        with np.errstate(divide="ignore"):
            return _floats(3.0 * np.log(np.maximum(diameter, 0.0)) - math.log(2000.0))
    fading = np.exp(-np.exp(parameters[2]) * days)
    return _floats(parameters[0] * (1.0 - fading) + parameters[1] * fading)


def fit_curve(model: Model, days: Floats, log_volumes: Floats, log_sd: Floats) -> Curve | str:
    """Weighted least squares fit.

    Args:
        days: since the first visit, increasing.
        log_volumes: logarithm of the volume in ml.
        log_sd: expected scatter of each, or ones where unknown.

    Returns:
        The curve, or the reason why it cannot be fitted, in words.
    """
    if model is Model.EXPONENTIAL:
        parameters = _line(days, log_volumes, log_sd)
    elif model is Model.LINEAR_RADIUS:
        parameters = _linear_radius(days, log_volumes, log_sd)
        if parameters[0] <= 0 or parameters[0] + parameters[1] * days[-1] <= 0:
            return "the diameter would reach zero within the visits"
    else:
        found = _gompertz(days, log_volumes, log_sd)
        if found is None:
            return "growth does not slow down measurably within the visits"
        parameters = found
    jacobian = np.array([_gradient(model, parameters, float(day)) for day in days]) / log_sd[:, None]
    normal = jacobian.T @ jacobian
    if not np.isfinite(normal).all() or np.linalg.cond(normal) > 1e14:
        return "the visits do not determine the curve"
    residuals = log_volumes - predictions(model, parameters, days)
    return Curve(model, parameters, _floats(np.linalg.inv(normal)), residuals, float(np.sum((residuals / log_sd) ** 2)))


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _line(days: Floats, values: Floats, sd: Floats) -> Floats:
    design = np.stack([np.ones_like(days), days], axis=1) / sd[:, None]
    return _floats(np.linalg.lstsq(design, values / sd, rcond=None)[0])


def _linear_radius(days: Floats, log_volumes: Floats, sd: Floats) -> Floats:
    diameters = _floats(np.exp((log_volumes + math.log(2000.0)) / 3.0))
    start = _line(days, diameters, diameters * sd)
    if start[0] <= 0 or start[0] + start[1] * days[-1] <= 0:
        start = _floats([float(diameters.mean()), 0.0])

    def misfit(parameters: Floats) -> Floats:
        # A diameter is kept above a micrometre, so that the search can pass a bad step and come back.
        safe = np.maximum(parameters[0] + parameters[1] * days, 1e-3)
        return _floats((3.0 * np.log(safe) - math.log(2000.0) - log_volumes) / sd)

    def derivative(parameters: Floats) -> Floats:
        safe = np.maximum(parameters[0] + parameters[1] * days, 1e-3)
        return _floats(np.stack([3.0 / safe, 3.0 * days / safe], axis=1) / sd[:, None])

    scale = max(abs(float(start[0])), 1e-3)
    found = optimize.least_squares(
        misfit, start, derivative, x_scale=[scale, scale / max(days[-1], 1.0)], xtol=1e-12, ftol=1e-12, gtol=1e-12
    )
    return _floats(found.x)


def _gompertz(days: Floats, log_volumes: Floats, sd: Floats) -> Floats | None:
    """For each ``k`` the curve is linear in A and B, so only ``k`` is searched; None if it runs to its bounds."""
    low, high = (math.log(bound / days[-1]) for bound in GOMPERTZ_RATES)

    def solve(log_rate: float) -> tuple[float, Floats]:
        fading = np.exp(-math.exp(log_rate) * days)
        design = np.stack([1.0 - fading, fading], axis=1) / sd[:, None]
        ends = _floats(np.linalg.solve(design.T @ design, design.T @ (log_volumes / sd)))
        return float(np.sum((design @ ends - log_volumes / sd) ** 2)), ends

    grid = np.linspace(low, high, GOMPERTZ_GRID)
    best = int(np.argmin([solve(float(rate))[0] for rate in grid]))
    if best in (0, len(grid) - 1):
        return None
    bracket = (float(grid[best - 1]), float(grid[best + 1]))
    found = optimize.minimize_scalar(lambda rate: solve(rate)[0], bounds=bracket, method="bounded",
                                     options={"xatol": 1e-8})  # fmt: skip
    ends = solve(float(found.x))[1]
    return _floats([ends[0], ends[1], float(found.x)])


def _gradient(model: Model, parameters: Floats, day: float) -> Floats:
    """Derivative of the log volume by each parameter."""
    if model is Model.EXPONENTIAL:
        return np.array([1.0, day])
    if model is Model.LINEAR_RADIUS:
        diameter = parameters[0] + parameters[1] * day
        return np.array([3.0 / diameter, 3.0 * day / diameter])
    rate = math.exp(parameters[2])
    fading = math.exp(-rate * day)
    return np.array([1.0 - fading, fading, (parameters[0] - parameters[1]) * rate * day * fading])
