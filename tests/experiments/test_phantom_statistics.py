"""Repeatability and accuracy from tables: known answers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError
from experiments.volumetry.statistics import (
    accuracy_table,
    region_order,
    repeatability,
    repeatability_table,
)
from experiments.volumetry.trials import SAME_SCANNER
from experiments.volumetry.verify import _bias_check, _repeat_checks, _scanner_checks


def test_a_known_spread_is_found() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(5, 50, 4000)
    first, second = (true * np.exp(0.05 * rng.standard_normal(4000)) for _ in range(2))
    found = repeatability(first, second)
    assert found.cv_percent == pytest.approx(5.0, rel=0.03)
    assert found.cv_low_percent < 5.0 < found.cv_high_percent
    assert found.coefficient_percent == pytest.approx(1.96 * math.sqrt(2) * found.cv_percent)
    beyond = np.abs(np.log(first / second)) * 100 > found.coefficient_percent
    assert float(beyond.mean()) == pytest.approx(0.05, abs=0.012)


def test_one_pair_by_hand() -> None:
    found = repeatability([10.0], [11.0])
    variance = math.log(1.1) ** 2 / 2
    assert found.cv_percent == pytest.approx(100 * math.sqrt(math.exp(variance) - 1))
    assert found.cv_high_percent > 10 * found.cv_percent  # one pair says little


@given(st.lists(st.floats(1, 100), min_size=2, max_size=10), st.floats(0.01, 100))
@settings(deadline=None)
def test_units_do_not_matter(values: list[float], factor: float) -> None:
    other = values[::-1]
    scaled = repeatability(np.array(values) * factor, np.array(other) * factor)
    assert scaled.cv_percent == pytest.approx(repeatability(values, other).cv_percent, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("pair", [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0]), ([math.nan], [1.0])])
def test_what_has_no_logarithm_is_refused(pair: tuple[list[float], list[float]]) -> None:
    with pytest.raises(InputError):
        repeatability(*pair)


def trials() -> pd.DataFrame:
    rows = []
    for patient, true_ml, first, second in (("a", 10.0, 11.0, 11.0), ("b", 30.0, 30.0, 33.0), ("c", 2.0, 0.0, 2.0)):
        for region in ("ET", "WT"):
            rows.append(("fresh", patient, 1, region, true_ml, true_ml, 0.9))
            rows.append(("5 mm", patient, 1, region, true_ml, first, 0.8))
            rows.append(("5 mm", patient, 2, region, true_ml, second, 0.6))
    frame = pd.DataFrame(rows, columns=["condition", "patient", "scan", "region", "true_ml", "found_ml", "dice"])
    frame["error_percent"] = 100 * (frame["found_ml"] / frame["true_ml"] - 1)
    return frame


def test_the_table_of_repeatability_counts_what_was_lost() -> None:
    table = repeatability_table(trials())
    assert set(table["condition"]) == {"5 mm"}
    whole = table[(table["region"] == "ET") & (table["size"] == "all")].iloc[0]
    assert (whole["pairs"], whole["lost"]) == (2, 1)
    expected = repeatability([11.0, 30.0], [11.0, 33.0])
    assert whole["cv_percent"] == pytest.approx(expected.cv_percent)
    small = table[(table["region"] == "ET") & (table["size"] == "under 5 ml")].iloc[0]
    assert (small["pairs"], small["lost"]) == (0, 1)


def test_the_target_is_about_noise_and_position_alone() -> None:
    usual, same = trials(), trials()
    same["condition"] = same["condition"].replace("5 mm", SAME_SCANNER.name)
    same.loc[same["true_ml"] == 30.0, "found_ml"] = [30.0, 30.0, 30.3] * 2
    table = region_order(repeatability_table(pd.concat([usual, same[same["condition"] != "fresh"]])))
    whole, core, _ = _repeat_checks(table, "by the model")
    assert whole.is_met and whole.measured.startswith("1 mm, same scanner: 0.5 % (")
    assert core.measured == "not measured" and core.is_met is None
    other, *_ = _scanner_checks(table, "by the model")
    assert other.is_met is None and other.measured.startswith("5 mm: 4.8 % (")
    missed, *_ = _repeat_checks(table.assign(cv_percent=2.01), "by the model")
    assert missed.is_met is False


def test_the_table_of_accuracy() -> None:
    table = accuracy_table(trials())
    row = table[(table["condition"] == "5 mm") & (table["region"] == "WT") & (table["size"] == "5 to 20 ml")].iloc[0]
    assert (row["scans"], row["missed"]) == (2, 0)
    assert row["dice_mean"] == pytest.approx(0.7)
    assert row["bias_percent"] == pytest.approx(10.0)
    everything = table[(table["condition"] == "5 mm") & (table["region"] == "WT") & (table["size"] == "all")].iloc[0]
    assert everything["missed"] == 1
    assert next(iter(region_order(table)["region"])) == "WT"


@pytest.mark.parametrize(
    ("biases", "errors", "expected"),
    [
        ((0.1, -0.2), (0.1, 0.1), True),
        ((0.1, -2.0), (0.1, 0.1), False),
        ((0.1, -1.5), (0.1, 0.5), None),
        ((0.1, 0.2), (0.1, 2.0), None),
    ],
)
def test_a_bias_is_within_its_target_only_where_there_are_samples_enough(biases, errors, expected) -> None:
    rows = {"object": "ball", "voxel_mm": "1x1x1", "orientation": "any"}
    table = pd.DataFrame({"mask_bias_percent": biases, "mask_bias_error_percent": errors}).assign(**rows, samples=8)
    assert _bias_check(table, "mask", "from masks", 1.0).is_met is expected
