from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError
from brats_seg.evaluation.statistics import bootstrap_interval, compare_paired, holm


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
    single = bootstrap_interval([0.5], generator=chance())
    assert (single.value, single.low, single.high) == (0.5, 0.5, 0.5)
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
    bootstrap_interval([1.0, 2.0], generator=counting, resamples=1000)
    assert counting.drawn == 1000


def test_level_widens_the_interval():
    values = np.arange(30.0)
    narrow, wide = (bootstrap_interval(values, generator=chance(), level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_paired_comparison_known_answers():
    result = compare_paired([0.5, 0.5, 0.5, 0.5], [0.6, 0.7, 0.8, 0.5], generator=chance())
    assert (result.count, result.wins, result.losses) == (4, 3, 0)
    assert result.mean_difference == pytest.approx(0.15)
    assert result.effect_size == 1.0
    # Three differences of one sign: two of the eight sign patterns are as extreme.
    assert result.p_value == pytest.approx(2 / 8)


def test_effect_size_is_the_difference_of_rank_sums():
    # Ranks 1, 2, 3, 4 with signs +, +, -, +: (1 + 2 + 4 - 3) / 10.
    result = compare_paired(np.zeros(4), [0.1, 0.2, -0.3, 0.4], generator=chance())
    assert result.effect_size == pytest.approx(0.4)
    swapped = compare_paired([0.1, 0.2, -0.3, 0.4], np.zeros(4), generator=chance())
    assert swapped.effect_size == pytest.approx(-0.4)
    assert swapped.p_value == pytest.approx(result.p_value)


def test_equal_models_do_not_differ():
    result = compare_paired([0.3, 0.9], [0.3, 0.9], generator=chance())
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
