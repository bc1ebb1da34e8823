from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError
from brats_seg.evaluate.statistics import bootstrap_interval, compare_paired, holm


def chance(seed=7):
    return np.random.default_rng(seed)


def test_bootstrap_is_repeatable_and_near_theory():
    values = chance(1).normal(10, 2, 400)
    first = bootstrap_interval(values, generator=chance())
    assert first == bootstrap_interval(values, generator=chance())
    assert first != bootstrap_interval(values, generator=chance(8))
    half = 1.96 * values.std() / math.sqrt(400)
    assert first.value == values.mean()
    assert first.low == pytest.approx(values.mean() - half, abs=0.03)
    assert first.high == pytest.approx(values.mean() + half, abs=0.03)


def test_bootstrap_of_few_values():
    for count in (1, 2, 4):
        few = bootstrap_interval([0.5] * count, generator=chance())
        assert few.value == 0.5
        assert math.isnan(few.low)
        assert math.isnan(few.high)
    enough = bootstrap_interval([0.1, 0.2, 0.3, 0.4, 0.5], generator=chance())
    assert 0.1 < enough.low < enough.value < enough.high < 0.5
    assert math.isnan(bootstrap_interval([], generator=chance()).value)
    with pytest.raises(InputError, match="finite"):
        bootstrap_interval([0.1, math.nan], generator=chance())


def test_bootstrap_draws_as_many_samples_as_asked():
    class Counting:
        drawn = 0

        def integers(self, low, high, size):
            self.drawn += size[0]
            return np.zeros(size, int)

    counting = Counting()
    bootstrap_interval(np.arange(5.0), generator=counting, resamples=1000)
    assert counting.drawn == 1000


def test_level_widens_the_interval():
    values = np.arange(30.0)
    narrow, wide = (bootstrap_interval(values, generator=chance(), level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_paired_comparison_known_answers():
    result = compare_paired([0.5] * 6, [0.6, 0.7, 0.8, 0.5, 0.5, 0.5], generator=chance())
    assert (result.count, result.wins, result.losses) == (6, 3, 0)
    assert result.mean_difference == pytest.approx(0.1)
    assert result.effect_size == 1.0
    # Three differences of one sign: two of the eight sign patterns are as extreme.
    assert result.p_value == pytest.approx(2 / 8)


def test_too_few_patients_are_not_tested():
    """Whatever they score; and visits of one patient are no patients."""
    first, second = np.zeros(5), np.linspace(0.1, 0.5, 5)
    assert math.isnan(compare_paired(first, second, generator=chance()).p_value)
    visits = [f"patient{k // 3}" for k in range(15)]
    repeated = compare_paired(np.zeros(15), np.repeat(second, 3), generator=chance(), patients=visits)
    assert math.isnan(repeated.p_value)
    assert not math.isnan(repeated.low)  # of five patients


def test_intervals_are_over_patients():
    """Ten visits of each patient, all alike, tell no more than one of each."""
    values = chance(3).normal(0.8, 0.1, 12)
    plain = bootstrap_interval(values, generator=chance())
    patients = [f"p{k:02d}" for k in range(12) for _ in range(10)]
    visits = bootstrap_interval(np.repeat(values, 10), generator=chance(), patients=patients)
    assert (visits.value, visits.low, visits.high) == pytest.approx((plain.value, plain.low, plain.high))
    taken_for_patients = bootstrap_interval(np.repeat(values, 10), generator=chance())
    assert taken_for_patients.high - taken_for_patients.low < 0.5 * (plain.high - plain.low)
    few = bootstrap_interval(np.repeat(values, 10), generator=chance(), patients=["one"] * 120)
    assert math.isnan(few.low)
    with pytest.raises(InputError, match="each value needs its patient"):
        bootstrap_interval(values, generator=chance(), patients=["one"])


def test_effect_size_is_the_difference_of_rank_sums():
    # Ranks 1, 2, 3, 4 with signs +, +, -, +: (1 + 2 + 4 - 3) / 10.
    result = compare_paired(np.zeros(6), [0.1, 0.2, -0.3, 0.4, 0, 0], generator=chance())
    assert result.effect_size == pytest.approx(0.4)
    swapped = compare_paired([0.1, 0.2, -0.3, 0.4, 0, 0], np.zeros(6), generator=chance())
    assert swapped.effect_size == pytest.approx(-0.4)
    assert swapped.p_value == pytest.approx(result.p_value)


def test_equal_models_do_not_differ():
    result = compare_paired([0.3, 0.9] * 3, [0.3, 0.9] * 3, generator=chance())
    assert (result.p_value, result.effect_size, result.mean_difference) == (1.0, 0.0, 0.0)


def test_paired_comparison_refuses_what_is_not_paired():
    for first, second in (([1, 2], [1]), ([], [])):
        with pytest.raises(InputError, match="same cases"):
            compare_paired(first, second, generator=chance())
    with pytest.raises(InputError, match="finite"):
        compare_paired([1.0], [math.nan], generator=chance())


def test_holm_known_answers():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(InputError, match="between 0 and 1"):
        holm([0.1, math.nan])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_holm_never_lowers_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    assert max(corrected) <= min(1.0, len(p_values) * max(p_values))
    pairs = sorted(zip(p_values, corrected, strict=True))
    assert [c for _, c in pairs] == sorted(corrected)
