from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation_masks import box
from scipy.special import expit

from brats_seg.core.errors import InputError
from brats_seg.evaluate.calibration import (
    brier_score,
    count_calibration,
    expected_calibration_error,
    fit_temperature,
    reliability_curve,
)
from brats_seg.imaging.boxes import widened


def test_known_answers():
    # Bin 0.2..0.3: mean 0.25, one of four true. Bin 0.8..0.9: mean 0.85, one of two true.
    p = np.array([0.24, 0.25, 0.25, 0.26, 0.84, 0.86])
    y = np.array([True, False, False, False, True, False])
    counts = count_calibration(p, y, bins=10)
    assert expected_calibration_error(counts) == pytest.approx(2 / 6 * 0.35)
    assert brier_score(counts) == pytest.approx((0.76**2 + 2 * 0.25**2 + 0.26**2 + 0.16**2 + 0.86**2) / 6)
    curve = reliability_curve(counts)
    assert len(curve) == 10
    assert [curve[2][key] for key in ("voxels", "mean_probability", "observed")] == [4, pytest.approx(0.25), 0.25]
    assert [curve[8][key] for key in ("low", "high", "observed")] == [0.8, 0.9, 0.5]
    assert curve[0]["voxels"] == 0
    assert math.isnan(curve[0]["observed"])


def test_certain_and_right_is_perfect_and_certain_and_wrong_is_worst():
    y = np.array([[True, False], [True, True]])
    right, wrong = count_calibration(y.astype(float), y), count_calibration(1.0 - y, y)
    assert (expected_calibration_error(right), brier_score(right)) == (0.0, 0.0)
    assert (expected_calibration_error(wrong), brier_score(wrong)) == (1.0, 1.0)
    assert right.voxels[-1] == 3


def test_counts_of_parts_add_up_to_the_whole():
    chance = np.random.default_rng(3)
    p = chance.random(1000)
    y = chance.random(1000) < p
    whole = count_calibration(p, y)
    parts = count_calibration(p[:300], y[:300]) + count_calibration(p[300:], y[300:])
    assert np.array_equal(parts.voxels, whole.voxels)
    assert expected_calibration_error(parts) == pytest.approx(expected_calibration_error(whole))
    assert brier_score(parts) == pytest.approx(brier_score(whole))
    # Probabilities that are right have an ECE of sampling error only, and a Brier score of E[p (1 - p)] = 1/6.
    assert expected_calibration_error(whole) < 0.06
    assert brier_score(whole) == pytest.approx(1 / 6, abs=0.02)


def test_nothing_to_judge_is_undefined():
    counts = count_calibration([], [])
    assert math.isnan(expected_calibration_error(counts))
    assert math.isnan(brier_score(counts))


def test_what_is_no_probability_is_refused():
    for p in ([1.2], [-0.1], [math.nan]):
        with pytest.raises(InputError, match=r"0\.\.1"):
            count_calibration(p, [True])
    with pytest.raises(InputError, match="2 probabilities do not fit 1"):
        count_calibration([0.1, 0.2], [True])


def test_temperature_known_answer():
    """Logits of 2 and -2, right three times in four, should say 3/4: T = 2 / ln 3."""
    logits = np.array([2.0] * 4 + [-2.0] * 4)
    truth = np.array([True] * 3 + [False] + [False] * 3 + [True])
    temperature = fit_temperature(logits, truth)
    assert temperature == pytest.approx(2 / math.log(3), rel=1e-3)
    assert expit(2.0 / temperature) == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_temperature_is_recovered(true_temperature):
    chance = np.random.default_rng(5)
    logits = chance.normal(0, 3, 40000)
    truth = chance.random(40000) < expit(logits / true_temperature)
    temperature = fit_temperature(logits, truth)
    assert temperature == pytest.approx(true_temperature, rel=0.05)
    before = expected_calibration_error(count_calibration(expit(logits), truth))
    after = expected_calibration_error(count_calibration(expit(logits / temperature), truth))
    assert after < 0.02
    assert true_temperature == 1.0 or after < before


@pytest.mark.parametrize(
    ("logits", "truth", "message"),
    [
        ([1.0, 2.0], [True, True], "inside and outside"),
        ([1.0, math.inf], [True, False], "finite"),
        ([1.0], [True, False], "do not fit"),
        ([3.0, -3.0], [True, False], "no temperature"),
        ([-3.0, 3.0], [True, False], "no temperature"),
    ],
)
def test_temperature_that_cannot_be_found_is_refused(logits, truth, message):
    with pytest.raises(InputError, match=message):
        fit_temperature(logits, truth)


def test_band_reaches_equally_far_in_millimetres():
    band = widened(box(((20, 10, 10), (1, 1, 1))), (1.0, 1.0, 4.0), 9.0)
    reach = [np.flatnonzero(band.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    assert [(int(r[0]), int(r[-1])) for r in reach] == [(11, 29), (1, 19), (8, 12)]
    assert band[20, 10, 10]
    assert not band[11, 9, 10]
    assert not widened(box(), (1.0, 1.0, 1.0), 10.0).any()
