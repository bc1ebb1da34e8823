"""Intervals: hand-made quantiles, their promise on simulated studies, and their way through a model card."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError, ModelError
from brats_seg.volumetrics.intervals import (
    IntervalModel,
    ambiguous_volume_ml,
    conformal_quantile,
    doubt_unit,
    fit_intervals,
    nonconformity,
)
from tests.volumetrics.objects import grid_of

VOLUMES = st.floats(0, 500)


def test_ambiguous_volume_by_hand() -> None:
    grid = grid_of(spacing_mm=(1, 2, 5), extent_mm=10)
    probability = np.zeros(grid.shape, np.float32)
    probability.flat[:5] = (0.5, 0.25, 0.05, 0.96, 0.9)
    # 4 p (1 - p) is 1, 0.75 and 0.36; 0.05 and 0.96 are no doubt; a voxel is 0.01 ml.
    assert ambiguous_volume_ml(probability, grid) == pytest.approx((1 + 0.75 + 0.36) * 0.01, rel=1e-6)
    assert ambiguous_volume_ml(np.full(grid.shape, 0.04), grid) == 0


def test_quantile_counts_the_new_study_in() -> None:
    scores = [0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6]
    assert conformal_quantile(scores, level=0.9) == 0.9
    assert conformal_quantile(scores, level=0.5) == 0.5
    assert conformal_quantile(list(range(1, 39)), level=0.9) == 36
    with pytest.raises(InputError, match="at least 9 studies to be fitted, not 8"):
        conformal_quantile(scores[:8], level=0.9)


@settings(max_examples=100)
@given(VOLUMES, VOLUMES, st.floats(0, 20))
def test_interval_holds_the_volume(volume_ml: float, ambiguous_ml: float, scale: float) -> None:
    ends = IntervalModel({"WT": scale}).interval("WT", volume_ml, ambiguous_ml)
    assert ends is not None
    assert 0 <= ends[0] <= volume_ml <= ends[1]
    wider = IntervalModel({"WT": scale}).interval("WT", volume_ml, ambiguous_ml + 1)
    assert wider is not None
    assert wider[0] <= ends[0]
    assert wider[1] >= ends[1]


@settings(max_examples=50)
@given(VOLUMES, VOLUMES, VOLUMES)
def test_truth_with_score_q_lies_on_the_end(true_ml: float, volume_ml: float, ambiguous_ml: float) -> None:
    """The interval is the set of truths whose score does not exceed the scale."""
    score = nonconformity(true_ml, volume_ml, ambiguous_ml)
    ends = IntervalModel({"WT": score}).interval("WT", volume_ml, ambiguous_ml)
    assert ends is not None
    assert min(abs(true_ml - end) for end in ends) <= 1e-6 * (1 + true_ml)


def test_empty_prediction_has_an_upper_end_above_zero() -> None:
    low, high = IntervalModel({"ET": 0.7}).interval("ET", 0.0, 0.0) or (math.nan, math.nan)
    assert low == 0
    assert high == pytest.approx(0.5 * (2**0.7 - 1))


def test_large_sharp_tumour_is_uncertain_by_boundary_layers() -> None:
    low, high = IntervalModel({"WT": 0.5}).interval("WT", 100.0, 4.0) or (math.nan, math.nan)
    assert high - 100 == pytest.approx(0.5 * 4, rel=0.15)
    assert 100 - low == pytest.approx(0.5 * 4, rel=0.15)


def test_region_without_scale_is_not_known() -> None:
    assert IntervalModel({"WT": 1.0}).interval("RC", 3.0, 1.0) is None


def simulate(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Studies whose error grows with their doubt, with heavy tails; one in ten predictions is empty."""
    rng = np.random.default_rng(seed)
    predicted = rng.lognormal(2.5, 1.2, count) * (rng.random(count) > 0.1)
    ambiguous = rng.lognormal(0.5, 0.7, count)
    unit = np.array([doubt_unit(v, a) for v, a in zip(predicted, ambiguous, strict=True)])
    true = np.maximum((predicted + 0.5) * np.exp(0.6 * unit * rng.standard_t(4, count)) - 0.5, 0)
    return true, predicted, ambiguous


def test_new_studies_are_covered_as_promised() -> None:
    covered = []
    for seed in range(20):
        true, predicted, ambiguous = simulate(60, seed)
        model = fit_intervals({"WT": true.tolist()}, {"WT": predicted.tolist()}, {"WT": ambiguous.tolist()})
        for t, v, a in zip(*simulate(300, 1000 + seed), strict=True):
            low, high = model.interval("WT", v, a) or (math.nan, math.nan)
            covered.append(low <= t <= high)
    assert 0.88 <= np.mean(covered) <= 0.95


def test_fitted_studies_are_covered_as_counted() -> None:
    true, predicted, ambiguous = simulate(38, 7)
    model = fit_intervals({"ET": true.tolist()}, {"ET": predicted.tolist()}, {"ET": ambiguous.tolist()})
    ends = [model.interval("ET", v, a) for v, a in zip(predicted, ambiguous, strict=True)]
    inside = sum(low - 1e-9 <= t <= high + 1e-9 for t, (low, high) in zip(true, ends, strict=True))  # type: ignore[misc]
    assert inside == 36
    assert model.studies["ET"] == 38


def test_through_a_model_card() -> None:
    model = IntervalModel({"WT": 0.4, "ET": 1.25}, 0.3, 0.8, {"WT": 38, "ET": 30})
    assert IntervalModel.from_dict(json.loads(json.dumps(model.to_dict()))) == model


@pytest.mark.parametrize(
    "change",
    [
        {"scales": {"WT": -1}},
        {"scales": {"WT": "wide"}},
        {"scales": 3},
        {"floor_ml": 0},
        {"level": 1},
        {"level": None},
        {"extra": 1},
    ],
)
def test_damaged_card_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="interval"):
        IntervalModel.from_dict({**IntervalModel({"WT": 1.0}).to_dict(), **change})


def test_missing_key_is_refused() -> None:
    with pytest.raises(ModelError, match="floor_ml"):
        IntervalModel.from_dict({"scales": {}, "level": 0.9})


@pytest.mark.parametrize(
    ("true", "predicted", "ambiguous", "message"),
    [
        ({"WT": [1.0]}, {"ET": [1.0]}, {"WT": [1.0]}, "same regions"),
        ({"WT": [1.0, 2.0]}, {"WT": [1.0]}, {"WT": [1.0, 2.0]}, r"\[2, 1, 2\]"),
        ({"WT": [-1.0]}, {"WT": [1.0]}, {"WT": [1.0]}, "negative"),
        ({"WT": [1.0]}, {"WT": [math.nan]}, {"WT": [1.0]}, "not finite"),
        ({"WT": [1.0]}, {"WT": [1.0]}, {"WT": [1.0]}, "at least 9"),
    ],
)
def test_fit_refuses(true: dict, predicted: dict, ambiguous: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError, match=message):
        fit_intervals(true, predicted, ambiguous)
