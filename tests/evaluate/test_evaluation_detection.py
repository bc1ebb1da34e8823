from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError
from brats_seg.evaluate.overlap import Counts
from brats_seg.evaluate.statistics import detection_rates, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes, trials, low, high):
    """Worked examples of Newcombe, Stat Med 1998;17:857, method 3."""
    rate = wilson_interval(successes, trials)
    assert (rate.low, rate.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_of_nothing_is_undefined():
    rate = wilson_interval(0, 0)
    assert all(math.isnan(v) for v in (rate.value, rate.low, rate.high))


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 2)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(InputError, match="impossible"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_impossible_levels_are_refused(level):
    with pytest.raises(InputError, match="between 0 and 1"):
        wilson_interval(1, 2, level=level)


@given(st.integers(1, 500), st.data())
@settings(max_examples=40, deadline=None)
def test_wilson_holds_its_estimate_and_mirrors(trials, data):
    successes = data.draw(st.integers(0, trials))
    rate, mirrored = wilson_interval(successes, trials), wilson_interval(trials - successes, trials)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    assert rate.low == pytest.approx(1 - mirrored.high, abs=1e-12)
    wider = wilson_interval(successes, trials, level=0.99)
    assert wider.low <= rate.low
    assert wider.high >= rate.high


def test_rates_of_studies():
    result = detection_rates(Counts(36, 2, 4, 58))
    assert result["accuracy"].value == 94 / 100
    assert result["precision"].value == 36 / 38
    assert result["recall"].value == 36 / 40
    assert result["specificity"].value == 58 / 60
    assert result["f1"].value == pytest.approx(72 / 78)


def test_interval_of_f1_follows_the_share_it_depends_on():
    result = detection_rates(Counts(36, 2, 4, 58))
    share = wilson_interval(36, 42)
    assert result["f1"].low == pytest.approx(2 * share.low / (1 + share.low))
    assert result["f1"].high == pytest.approx(2 * share.high / (1 + share.high))
    assert result["f1"].low < result["f1"].value < result["f1"].high


def test_lesions_have_no_true_negatives():
    result = detection_rates(Counts(6, 2, 2, 0), has_negatives=False)
    assert math.isnan(result["specificity"].value)
    assert result["accuracy"].value == 0.6
    assert result["f1"].value == pytest.approx(12 / 16)


def test_nothing_there_and_nothing_found():
    result = detection_rates(Counts(0, 0, 0, 5))
    assert (result["accuracy"].value, result["specificity"].value) == (1.0, 1.0)
    assert all(math.isnan(rate.value) for rate in (result["precision"], result["recall"], result["f1"]))
