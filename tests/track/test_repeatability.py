"""Measurement error from the table, and the verdict on a change."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brats_seg.models.card import find_model
from brats_seg.track import repeatability
from brats_seg.track.repeatability import (
    QUANTILE,
    SMALLEST_ML,
    Measured,
    Row,
    change_between,
    error_words,
    table,
    volume_cv,
)

ROWS = tuple(Row("m 1", *values) for values in ((1, 1.0, 0.2), (1, 100.0, 0.1), (5, 1.0, 0.4), (5, 100.0, 0.2)))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeatability, "table", lambda: ROWS)


VOLUMES = st.floats(0.0, 400.0)


@pytest.mark.usefixtures("rows")
def test_between_the_entries_it_is_linear_in_log_volume_and_thickness() -> None:
    assert volume_cv(10.0, 1.0, source="m 1") == pytest.approx(0.15)
    assert volume_cv(10.0, 3.0, source="m 1") == pytest.approx((0.15 + 0.3) / 2)


@pytest.mark.usefixtures("rows")
def test_beyond_the_entries_it_is_constant() -> None:
    found = [volume_cv(*where, source="m 1") for where in ((0.001, 0.5), (1.0, 1.0), (500.0, 9.0))]
    assert found == [0.2, 0.2, 0.2]


def test_the_error_of_a_model_that_was_not_measured_is_not_known() -> None:
    assert volume_cv(10.0, 1.0, source="m 2") is None
    change = change_between(Measured(5.0, 1.0, "mine 1.0"), Measured(9.0, 1.0, "given"))
    assert (change.change_ml, change.of_before(change.change_ml)) == (4.0, 80.0)
    assert (change.low_ml, change.high_ml, change.larger_than_error) == (None, None, None)
    assert Measured(5.0, 1.0, "mine 1.0").interval == (None, None)
    assert error_words("mine 1.0") == "not known for mine 1.0"


def test_the_error_of_the_shipped_model_is_known() -> None:
    card = find_model("glioma").card
    assert "repeatability of glioma" in error_words(f"{card.name} {card.version}")
    assert Measured(5.0, 1.0, f"{card.name} {card.version}").sd_ml is not None


def test_equal_volumes_differ_by_the_repeatability_coefficient() -> None:
    volume = 10.0
    limit = QUANTILE * math.sqrt(2) * volume_cv(volume, 1.0, source="given") * volume
    before = Measured(volume, 1.0, "given")
    # Near the limit the larger volume's own error decides; well away from it the coefficient does.
    assert not change_between(before, Measured(volume + 0.9 * limit, 1.0, "given")).larger_than_error
    assert change_between(before, Measured(volume + 1.5 * limit, 1.0, "given")).larger_than_error


@given(before=VOLUMES, now=VOLUMES)
def test_swapping_the_visits_changes_the_sign_and_nothing_else(before: float, now: float) -> None:
    one, other = Measured(before, 1.0, "glioma 0.6.0"), Measured(now, 3.0, "given")
    there, back = change_between(one, other), change_between(other, one)
    assert there.change_ml == pytest.approx(-back.change_ml)
    assert there.low_ml is not None and there.high_ml is not None and back.low_ml is not None
    assert (there.low_ml, there.high_ml) == pytest.approx((-(back.high_ml or 0.0), -back.low_ml))
    assert there.larger_than_error == back.larger_than_error
    assert there.larger_than_error == (not there.low_ml <= 0 <= there.high_ml)


def test_nothing_before_has_no_percentage_but_a_verdict() -> None:
    change = change_between(Measured(0.0, 1.0, "given"), Measured(5.0, 1.0, "given"))
    assert change.of_before(change.change_ml) is None and change.larger_than_error
    assert not change_between(Measured(0.0, 1.0, "given"), Measured(0.0, 1.0, "given")).larger_than_error


def test_an_empty_volume_has_the_error_of_the_smallest() -> None:
    one, other = Measured(0.0, 1.0, "given"), Measured(SMALLEST_ML, 1.0, "given")
    assert one.sd_ml == other.sd_ml and (one.sd_ml or 0) > 0
    low, high = one.interval
    assert low == 0 < (high or 0)


def test_the_table_is_measured_and_plausible() -> None:
    assert {row.source for row in table()} == {"glioma 0.6.0", "glioma 0.8.0", "given"}
    for row in table():
        assert 0 < row.cv < 1 and row.volume_ml > 0 and row.slice_mm > 0
