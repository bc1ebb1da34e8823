"""Growth: exact curves give their parameters back, intervals cover as often as they say, refusals say why."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.track.growth import (
    DAYS_PER_YEAR,
    Estimate,
    Phase,
    Refusal,
    diametric_velocity,
    doubling_time,
    log_sd_of,
    mean_tumour_diameter_mm,
    phases,
    specific_growth_rate,
    sphere_diameter_mm,
    velocity_class,
)
from brats_seg.track.growth_fit import GrowthFit, Model, _runs_p, fit_growth, predict_volume

DAYS = [0.0, 60.0, 130.0, 200.0, 280.0, 350.0, 430.0, 500.0]
RATE = 0.004


def exponential(days: list[float], rate: float = RATE) -> list[float]:
    return [5.0 * math.exp(rate * day) for day in days]


def linear(days: list[float]) -> list[float]:
    """12 mm growing by 8 mm a year."""
    return [(12.0 + 8.0 * day / DAYS_PER_YEAR) ** 3 / 2000.0 for day in days]


def gompertz(days: list[float]) -> list[float]:
    """From 1 towards 50 ml, ``k`` = 0.006 per day."""
    return [math.exp(math.log(50.0) * (1 - math.exp(-0.006 * day))) for day in days]


def given_value(result: Estimate | Refusal) -> Estimate:
    assert isinstance(result, Estimate), result
    return result


def fitted(result: GrowthFit | Refusal) -> GrowthFit:
    assert isinstance(result, GrowthFit), result
    return result


def refused(result: object) -> str:
    assert isinstance(result, Refusal), result
    return result.reason


@pytest.mark.parametrize("visits", [2, 3, 8])
def test_rate_of_an_exact_exponential(visits: int) -> None:
    rate = given_value(specific_growth_rate(DAYS[:visits], exponential(DAYS[:visits]), cv=0.05))
    assert rate.value == pytest.approx(RATE, rel=1e-12)
    assert given_value(doubling_time(rate)).value == pytest.approx(math.log(2) / RATE)


def test_interval_of_two_visits_by_hand() -> None:
    """Var ln(V2/V1) is twice the variance of ln V: half width 1.96 * sqrt(2) * sigma / dt."""
    rate = given_value(specific_growth_rate([10, 110], [4.0, 8.0], cv=0.1))
    half = 1.959964 * math.sqrt(2) * log_sd_of(0.1) / 100
    assert rate.value == pytest.approx(math.log(2) / 100)
    assert (rate.low, rate.high) == pytest.approx((rate.value - half, rate.value + half))
    assert log_sd_of(0.1) == pytest.approx(0.09975, abs=1e-5)


def test_two_visits_without_a_known_error_have_no_interval() -> None:
    rate = given_value(specific_growth_rate([0, 100], [4.0, 8.0]))
    assert rate.low is None
    assert "no interval" in rate.note
    assert "error is not known" in refused(doubling_time(rate))


@pytest.mark.parametrize("visits", [3, 5])
def test_intervals_from_scatter_and_known_error_cover(visits: int) -> None:
    """Nominal 95 % intervals cover the truth in 90 to 99 % of 200 (issue 5)."""
    rng = np.random.default_rng(11)
    days = DAYS[:visits]
    hits = {"known": 0, "scatter": 0, "velocity": 0}
    for _ in range(200):
        noise = np.exp(rng.normal(0, log_sd_of(0.05), (2, visits)))
        volumes = list(np.array(exponential(days)) * noise[0])
        known = given_value(specific_growth_rate(days, volumes, cv=0.05))
        scatter = given_value(specific_growth_rate(days, volumes))
        velocity = given_value(diametric_velocity(days, list(np.array(linear(days)) * noise[1]), cv=0.05))
        for name, estimate, truth in (("known", known, RATE), ("scatter", scatter, RATE), ("velocity", velocity, 8.0)):
            assert estimate.low is not None
            assert estimate.high is not None
            hits[name] += estimate.low <= truth <= estimate.high
    assert all(180 <= count <= 198 for count in hits.values()), hits


@pytest.mark.parametrize(("cv", "curve"), [(None, exponential), (0.05, exponential), (0.05, linear), (0.05, gompertz)])
def test_prediction_intervals_cover(cv: float | None, curve: object) -> None:
    rng = np.random.default_rng(5)
    hits = total = 0
    for _ in range(80):
        noise = np.exp(rng.normal(0, log_sd_of(0.05), len(DAYS)))
        volumes = np.array(curve(DAYS)) * noise  # type: ignore[operator]
        prediction = predict_volume(fit_growth(DAYS[:-1], list(volumes[:-1]), cv=cv), DAYS[-1])
        if isinstance(prediction, Refusal):
            continue
        assert prediction.low is not None
        assert prediction.high is not None
        total += 1
        hits += prediction.low <= volumes[-1] <= prediction.high
    assert total >= 60, "refusals are the exception"
    assert 0.85 <= hits / total <= 0.995, hits / total


def test_doubling_time_is_guarded() -> None:
    assert "does not grow" in refused(doubling_time(specific_growth_rate([0, 100], [4.0, 4.0], cv=0.05)))
    assert "does not grow" in refused(doubling_time(specific_growth_rate([0, 100], [4.0, 3.0], cv=0.05)))
    assert "includes 0" in refused(doubling_time(specific_growth_rate([0, 100], [4.0, 4.1], cv=0.05)))
    assert "dates" in refused(doubling_time(specific_growth_rate(None, [4.0, 4.1])))
    sure = given_value(doubling_time(specific_growth_rate([0, 100], [4.0, 8.0], cv=0.05)))
    assert sure.low is not None
    assert sure.high is not None
    assert sure.low < 100 < sure.high


def test_diameters() -> None:
    assert mean_tumour_diameter_mm(4.0) == pytest.approx(20.0)
    assert sphere_diameter_mm(4 / 3 * math.pi) == pytest.approx(20.0), "a sphere of 10 mm radius has 4.19 ml"
    assert mean_tumour_diameter_mm(7.0) / sphere_diameter_mm(7.0) == pytest.approx(1.0155, abs=1e-4)


def test_velocity_of_a_diameter_that_grows_evenly() -> None:
    for visits in (2, 8):
        velocity = given_value(diametric_velocity(DAYS[:visits], linear(DAYS[:visits]), cv=0.05))
        assert velocity.value == pytest.approx(8.0)
        assert velocity.unit == "mm/year"
    assert given_value(diametric_velocity([0, 365.25], [0.0, 4.0])).value == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-1, 3.99, "<4"), (4, 7.9, "4-8"), (8, 11, "8-12"), (12, 40, ">=12"), (3.9, 4.1, None), (-5091, 6887, None)],
)
def test_velocity_classes_of_pallud_need_an_interval_within_one(low: float, high: float, expected: str | None) -> None:
    assert velocity_class(Estimate((low + high) / 2, "mm/year", low, high, 0.95, "")) == expected
    assert velocity_class(Estimate((low + high) / 2, "mm/year", None, None, 0.95, "")) is None


def test_no_rate_from_days_and_no_doubling_without_an_error() -> None:
    assert "span 3 days" in refused(specific_growth_rate([0, 1, 3], [2.0, 2.1, 2.2], cv=0.05))
    assert "span 3 days" in refused(diametric_velocity([0, 3], [2.0, 2.1]))
    assert "span 3 days" in refused(fit_growth([0, 1, 3], [2.0, 2.1, 2.2]))
    assert "error is not known" in refused(doubling_time(specific_growth_rate([0, 60], [2.1, 2.101])))


def test_a_prediction_that_may_be_more_than_a_brain_is_refused() -> None:
    assert "more than a brain" in refused(predict_volume(fit_growth([0, 30, 60], [5.0, 20.0, 16.0]), 100))


@pytest.mark.parametrize(("curve", "model"), [(exponential, Model.EXPONENTIAL), (linear, Model.LINEAR_RADIUS),
                                              (gompertz, Model.GOMPERTZ)])  # fmt: skip
@pytest.mark.parametrize("cv", [None, 0.02])
def test_the_curve_that_made_the_data_is_chosen_and_its_parameters_come_back(
    curve: object, model: Model, cv: float | None
) -> None:
    volumes = curve(DAYS)  # type: ignore[operator]
    fit = fitted(fit_growth(DAYS, volumes, cv=cv))
    assert fit.curve.model is model
    expected = {
        Model.EXPONENTIAL: (math.log(5.0), RATE),
        Model.LINEAR_RADIUS: (12.0, 8.0 / DAYS_PER_YEAR),
        Model.GOMPERTZ: (math.log(50.0), 0.0, math.log(0.006)),
    }[model]
    assert tuple(fit.curve.parameters) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    prediction = given_value(predict_volume(fit, 560.0))
    assert prediction.value == pytest.approx(curve([560.0])[0], rel=1e-5)  # type: ignore[operator]


def test_origin_of_time_does_not_matter() -> None:
    noisy = [
        value * factor for value, factor in zip(linear(DAYS), [1.02, 0.97, 1.01, 1, 0.99, 1.03, 1, 0.98], strict=True)
    ]
    first = given_value(predict_volume(fit_growth(DAYS, noisy), 560.0))
    later = given_value(predict_volume(fit_growth([day + 738000 for day in DAYS], noisy), 738560.0))
    assert first.value == pytest.approx(later.value, rel=1e-6)
    assert first.high == pytest.approx(later.high, rel=1e-6)


def test_too_few_visits_are_refused_with_the_number_needed() -> None:
    assert refused(specific_growth_rate([0], [1.0])) == "1 visit, needs 2"
    assert refused(fit_growth(DAYS[:2], exponential(DAYS[:2]))) == "2 visits, needs 3"
    four = fitted(fit_growth(DAYS[:4], linear(DAYS[:4])))
    assert four.curve.model is Model.EXPONENTIAL
    assert four.aicc == {}
    assert "no choice of curve below 5 visits" in four.note
    five = fitted(fit_growth(DAYS[:5], linear(DAYS[:5])))
    assert set(five.aicc) == {Model.EXPONENTIAL, Model.LINEAR_RADIUS}
    assert five.refused["Gompertz"] == "5 visits, needs 6"
    assert set(fitted(fit_growth(DAYS[:6], gompertz(DAYS[:6]))).aicc) == set(Model)


def test_aicc_by_hand() -> None:
    """2k + 2k(k+1)/(n-k-1); an unknown scatter is one parameter more and adds n ln(RSS/n), floored where perfect."""
    known = fitted(fit_growth(DAYS[:6], exponential(DAYS[:6]), cv=0.05)).aicc[Model.EXPONENTIAL]
    scatter = fitted(fit_growth(DAYS[:6], exponential(DAYS[:6]))).aicc[Model.EXPONENTIAL]
    assert known == pytest.approx(4 + 12 / 3)
    assert scatter == pytest.approx(6 * math.log(1e-12) + 6 + 24 / 2)


def test_an_exponential_has_no_gompertz_limit() -> None:
    fit = fitted(fit_growth(DAYS, exponential(DAYS)))
    assert "slow down" in fit.refused["Gompertz"]


def test_without_dates_nothing_is_invented() -> None:
    for result in (specific_growth_rate(None, [1, 2]), diametric_velocity(None, [1, 2]), fit_growth(None, [1, 2, 3])):
        assert refused(result) == "the dates of the visits are not known"
    assert "dates" in refused(predict_volume(fit_growth(None, [1, 2, 3]), 10))


def test_zero_volume_is_refused() -> None:
    assert "0 ml at visit 2" in refused(specific_growth_rate([0, 50, 100], [1.0, 0.0, 1.0]))
    assert "0 ml at visit 1" in refused(fit_growth([0, 50, 100], [0.0, 0.5, 1.0]))


@pytest.mark.parametrize(("days", "volumes"), [([0, 0], [1, 2]), ([5, 1], [1, 2]), ([0, 1], [1]), ([0, 1], [1, -2])])
def test_nonsense_is_a_defect_of_the_caller(days: list[float], volumes: list[float]) -> None:
    with pytest.raises(ValueError):
        specific_growth_rate(days, volumes)
    with pytest.raises(ValueError, match="coefficient of variation"):
        specific_growth_rate([0, 30], [1, 2], cv=0.0)


def test_prediction_reaches_no_further_than_the_visits_do_back() -> None:
    fit = fit_growth(DAYS, exponential(DAYS), cv=0.05)
    assert isinstance(predict_volume(fit, 1000.0), Estimate)
    assert "not within 500 days" in refused(predict_volume(fit, 1000.5))
    assert "not within" in refused(predict_volume(fit, 500.0))


def test_a_curve_that_does_not_describe_the_visits_predicts_nothing() -> None:
    volumes = [5.0, 9.0, 4.0, 9.0, 4.5, 10.0, 4.0, 9.0]
    fit = fitted(fit_growth(DAYS, volumes, cv=0.05))
    assert not fit.describes_the_visits
    assert float(fit.doubts[1].split("p = ")[1].rstrip(")")) < 1e-6
    assert "does not describe the visits" in refused(predict_volume(fit, 560.0))
    assert fitted(fit_growth(DAYS, volumes)).describes_the_visits, "alternating signs are many runs, not few"


def test_residuals_of_one_sign_in_a_row_are_noticed() -> None:
    """A tumour that shrinks and then grows, without a treatment date between: no curve bends that way."""
    days = [float(60 * i) for i in range(12)]
    volumes = [math.exp(0.3 * abs(i - 5.5)) for i in range(12)]
    fit = fitted(fit_growth(days, volumes))
    assert "residuals of one sign" in refused(predict_volume(fit, 700.0))


def test_chance_of_runs_by_hand() -> None:
    """Of the 70 orders of four plus and four minus, 2 have two runs and 2 + 6 have at most three."""
    plus, minus = [1.0] * 4, [-1.0] * 4
    assert _runs_p(np.array(plus + minus)) == pytest.approx(2 / 70)
    assert _runs_p(np.array([1.0, *minus, 1.0, 1.0, 1.0])) == pytest.approx(8 / 70)
    assert _runs_p(np.array([1.0, -1.0] * 4)) == pytest.approx(1.0)


def test_phases_end_at_treatments() -> None:
    days = [date(2024, month, 1) for month in (1, 3, 5, 7, 9)]
    treatments = [(date(2024, 7, 1), "treatment_start"), (date(2024, 2, 1), "surgery"), (date(2025, 1, 1), "surgery")]
    assert phases(days, treatments) == (
        Phase(0, 0, ""),
        Phase(1, 3, "surgery 2024-02-01"),
        Phase(4, 4, "treatment_start 2024-07-01"),
    )
    assert phases([], []) == ()


@settings(max_examples=40, deadline=None)
@given(
    rate=st.floats(-0.02, 0.02),
    start=st.floats(0.1, 100),
    gaps=st.lists(st.floats(10, 200), min_size=2, max_size=6),
    factor=st.floats(0.1, 10),
)
def test_rate_does_not_depend_on_the_unit_of_volume(
    rate: float, start: float, gaps: list[float], factor: float
) -> None:
    days = list(np.cumsum([0.0, *gaps]))
    volumes = [start * math.exp(rate * day) for day in days]
    one = given_value(specific_growth_rate(days, volumes, cv=0.05))
    other = given_value(specific_growth_rate(days, [volume * factor for volume in volumes], cv=0.05))
    assert one.value == pytest.approx(rate, abs=1e-9)
    assert other.value == pytest.approx(one.value, abs=1e-9)
