from __future__ import annotations

import math

import numpy as np
import pytest

from brats_seg.core.errors import InputError
from brats_seg.evaluate.statistics import bland_altman, icc_2_1

# Six targets rated by four judges: Shrout and Fleiss, Psychol Bull 1979;86:420, table 2.
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]

# Peak flow of 17 people by two meters, l/min: Bland and Altman, Lancet 1986;327:307, table 1, first readings.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_icc_as_published():
    icc = icc_2_1(JUDGES)
    assert icc.value == pytest.approx(0.29, abs=0.005)
    # From the published mean squares 11.24, 32.49 and 1.02.
    assert icc.value == pytest.approx((11.24 - 1.02) / (11.24 + 3 * 1.02 + 4 * (32.49 - 1.02) / 6), abs=1e-3)
    # The interval that the R package psych documents for this table.
    assert (icc.low, icc.high) == (pytest.approx(0.019, abs=1e-3), pytest.approx(0.761, abs=1e-3))


def test_bland_altman_as_published():
    """Wright minus mini in the paper: mean -2.1, deviation 38.8, and with 2 deviations -79.7 and 75.5."""
    result = bland_altman(MINI, WRIGHT)
    assert result.count == 17
    assert result.bias == pytest.approx(-2.1, abs=0.05)
    assert result.deviation == pytest.approx(38.8, abs=0.05)
    assert result.bias - 2 * result.deviation == pytest.approx(-79.7, abs=0.1)
    assert result.upper_limit == pytest.approx(result.bias + 1.96 * result.deviation)
    assert result.lower_limit == pytest.approx(result.bias - 1.96 * result.deviation)
    # Standard error 9.4 and t = 2.12 with 16 degrees of freedom: -22.0 to 17.8.
    assert (result.bias_low, result.bias_high) == (pytest.approx(-22.0, abs=0.1), pytest.approx(17.8, abs=0.1))
    assert result.bias_percent == pytest.approx(100 * result.bias / np.mean(MINI))


def test_perfect_agreement():
    icc = icc_2_1([[1, 1], [2, 2], [30, 30]])
    assert (icc.value, icc.low, icc.high) == (1.0, 1.0, 1.0)
    assert bland_altman([1, 2, 3], [1, 2, 3]).deviation == 0


def test_a_constant_shift_lowers_absolute_agreement():
    values = np.array([10.0, 20.0, 30.0, 40.0])
    shifted = icc_2_1(np.column_stack([values, values + 10]))
    # Between rows 333.33, between columns 200, nothing else: 333.33 / (333.33 + 2 * 200 / 4).
    assert shifted.value == pytest.approx(1000 / 3 / (1000 / 3 + 100))
    assert shifted.low < shifted.value < shifted.high


def test_icc_does_not_depend_on_order_or_unit():
    values = np.array(JUDGES, float)
    icc = icc_2_1(values)
    other = icc_2_1(1000 * values[::-1, [2, 0, 3, 1]])
    assert (other.value, other.low, other.high) == pytest.approx((icc.value, icc.low, icc.high))


def test_interval_widens_with_its_level():
    narrow, wide = icc_2_1(JUDGES, level=0.8), icc_2_1(JUDGES, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_where_nothing_varies_there_is_no_correlation():
    assert math.isnan(icc_2_1([[5, 5], [5, 5], [5, 5]]).value)
    assert math.isnan(icc_2_1(np.zeros((3, 2))).value)
    assert math.isnan(bland_altman([0, 0], [1, 2]).bias_percent)


@pytest.mark.parametrize("values", [[[1, 2]], [[1], [2]], [1, 2, 3]])
def test_too_little_is_refused(values):
    with pytest.raises(InputError, match="at least 2"):
        icc_2_1(values)


def test_missing_values_and_lengths_are_refused():
    with pytest.raises(InputError, match="finite"):
        icc_2_1([[1, 2], [3, math.nan]])
    with pytest.raises(InputError, match=r"\(2,\) and \(3,\)"):
        bland_altman([1, 2], [1, 2, 3])
