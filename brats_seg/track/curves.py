"""Curves of tumour volume against time, fitted in the logarithm of volume.

A relative measurement error makes the logarithm of volume scatter evenly, so all curves are fitted there by weighted
least squares and can be compared with each other by AICc (Hurvich & Tsai, Biometrika 1989;76:297).

* exponential: ``ln V = a + b t``.
* linear radius: the diameter grows evenly, ``ln V = 3 ln(d + g t) + const`` (Mandonnet, Ann Neurol 2003;53:524).
* Gompertz: growth that slows towards a limit, ``ln V = A (1 - exp(-k t)) + B exp(-k t)`` with V from exp(B) to exp(A)
  (Laird, Br J Cancer 1964;18:490).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from brats_seg.core.grid import Floats

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
