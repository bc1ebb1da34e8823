"""Growth of each region in each phase between treatments, and the curve to draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from brats_seg.core.labels import Region
from brats_seg.core.visit import Visit
from brats_seg.response.history import ClinicalEvent
from brats_seg.track.growth import (
    TREATMENTS,
    Estimate,
    Phase,
    Refusal,
    diametric_velocity,
    doubling_time,
    phases,
    specific_growth_rate,
    velocity_class,
)
from brats_seg.track.growth_fit import GrowthFit, fit_growth, predict_volume
from brats_seg.track.repeatability import volume_cv

CURVE_POINTS = 60

CurvePoint = tuple[float, float, float | None, float | None]
"""Day since the first visit, volume in ml, and the ends of its interval where it is a prediction."""


@dataclass(frozen=True, eq=False)
class PhaseGrowth:
    """Growth of one region between two treatments.

    Attributes:
        used: indices of those of its visits whose scans show the region.
        untreated: whether no treatment came before its first visit.
        prediction: the next visit's volume, an interval as long as the last one ahead.
        next_day: days since the first visit for which it is predicted.
        curve: ``(day, volume, low, high)`` along the fit and the prediction.
    """

    region: Region
    phase: Phase
    used: tuple[int, ...]
    untreated: bool
    rate: Estimate | Refusal
    doubling: Estimate | Refusal
    velocity: Estimate | Refusal
    fit: GrowthFit | Refusal
    prediction: Estimate | Refusal
    next_day: float | None
    curve: tuple[CurvePoint, ...]

    def to_dict(self, labels: Sequence[str]) -> dict[str, Any]:
        """Plain values for JSON."""
        velocity = _plain(self.velocity)
        if isinstance(self.velocity, Estimate) and self.untreated and self.region.compartment == "non_enhancing":
            velocity["class_mm_per_year"] = velocity_class(self.velocity)
        return {
            "region": self.region.name,
            "visits": [labels[index] for index in self.used],
            "begins_after": self.phase.why or None,
            "specific_growth_rate": _plain(self.rate),
            "doubling_time": _plain(self.doubling),
            "velocity_of_diametric_expansion": velocity,
            "fit": _plain_fit(self.fit),
            "prediction": {**_plain(self.prediction), "day_since_first_visit": self.next_day},
        }


def growth_of(visits: Sequence[Visit], events: Sequence[ClinicalEvent], region: Region) -> list[PhaseGrowth]:
    """Growth of a region in each phase between treatments; refused, with the reason, where it cannot be known."""
    days = [visit.timepoint.day for visit in visits]
    if any(day is None for day in days):
        unknown = Phase(0, len(visits) - 1, "")
        return [_phase_growth(visits, unknown, None, region, untreated=False)]
    known = [day for day in days if day is not None]
    treatments = [(event.day, event.kind.value) for event in events if event.kind in TREATMENTS]
    offsets = [float((day - known[0]).days) for day in known]
    return [
        _phase_growth(visits, phase, offsets, region, untreated=all(day >= known[phase.first] for day, _ in treatments))
        for phase in phases(known, treatments)
    ]


def _phase_growth(
    visits: Sequence[Visit],
    phase: Phase,
    offsets: Sequence[float] | None,
    region: Region,
    *,
    untreated: bool,
) -> PhaseGrowth:
    used = tuple(index for index in range(phase.first, phase.last + 1) if not visits[index].unseen(region))
    part = [visits[index] for index in used]
    volumes = [visit.measurements.volume(region).volume_ml for visit in part]
    days = None if offsets is None else [offsets[index] for index in used]
    slice_mm = max((max(visit.measurements.spacing_mm) for visit in part), default=1.0)
    positive = [volume for volume in volumes if volume > 0]
    cv = None
    if positive and all(visit.model for visit in part):
        # Of label maps that were given only the error of digitisation is known, so that the visits' scatter is taken.
        middle = math.exp(sum(map(math.log, positive)) / len(positive))
        cv = volume_cv(middle, slice_mm, source=part[0].model)
    rate = specific_growth_rate(days, volumes, cv=cv)
    fit = fit_growth(days, volumes, cv=cv)
    next_day = None if days is None or len(days) < 2 else days[-1] + (days[-1] - days[-2])
    prediction: Estimate | Refusal
    if isinstance(fit, Refusal):
        prediction = fit
    else:
        assert next_day is not None  # no curve is fitted to less than three visits with dates
        prediction = predict_volume(fit, next_day)
    return PhaseGrowth(
        region=region,
        phase=phase,
        used=used,
        untreated=untreated,
        rate=rate,
        doubling=doubling_time(rate),
        velocity=diametric_velocity(days, volumes, cv=cv),
        fit=fit,
        prediction=prediction,
        next_day=next_day,
        curve=_curve(fit, next_day if isinstance(prediction, Estimate) else None),
    )


def _curve(fit: GrowthFit | Refusal, until: float | None) -> tuple[CurvePoint, ...]:
    """The fitted curve, and beyond the last visit its prediction with its interval."""
    if isinstance(fit, Refusal) or not fit.describes_the_visits:
        return ()
    points: list[CurvePoint] = []
    span = fit.last_day - fit.first_day
    for step in range(CURVE_POINTS + 1):
        day = fit.first_day + span * step / CURVE_POINTS
        points.append((day, math.exp(fit.curve.log_volume(day - fit.first_day)), None, None))
    if until is not None:
        for step in range(1, CURVE_POINTS // 3 + 1):
            day = fit.last_day + (until - fit.last_day) * step / (CURVE_POINTS // 3)
            found = predict_volume(fit, day)
            if isinstance(found, Estimate):
                points.append((day, found.value, found.low, found.high))
    return tuple(points)


def _plain(value: Estimate | Refusal) -> dict[str, Any]:
    if isinstance(value, Refusal):
        return {"value": None, "refused": value.reason}
    return {**vars(value)}


def _plain_fit(fit: GrowthFit | Refusal) -> dict[str, Any]:
    if isinstance(fit, Refusal):
        return {"model": None, "refused": fit.reason}
    return {
        "model": fit.curve.model.value,
        "parameters": fit.curve.parameters.tolist(),
        "aicc": {model.value: score if math.isfinite(score) else None for model, score in fit.aicc.items()},
        "not_fitted": fit.refused,
        "check": "; ".join(fit.doubts),
        "describes_the_visits": fit.describes_the_visits,
        "note": fit.note,
    }
