"""The coil's inhomogeneity: what was put in comes out, and nothing else moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heads import head_grid, head_image, head_study
from numpy.typing import NDArray

from brats_seg.core.errors import InputError
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES
from brats_seg.imaging.bias import FLOOR, LIFT, without_bias
from brats_seg.imaging.settings import PrepareConfig
from brats_seg.segment.prepare import _take_out_bias, prepare

FLAIR = SEQUENCES[3]
PLAIN = PrepareConfig(spacing_mm=2.0, divisor=8)
CORRECTED = replace(PLAIN, bias_corrected=("flair",))


def coil(shape: tuple[int, ...], strength: float) -> NDArray[np.float64]:
    """Sensitivity that falls from one corner to the other, its logarithm from ``strength`` to minus that."""
    slopes = [np.linspace(-1, 1, n) for n in shape]
    return np.exp(strength * sum(np.meshgrid(*slopes, indexing="ij")) / 3)


def ball(n: int = 80) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Two tissues in many patches, as z-scores, in a ball of half a head's size at 2 mm."""
    at = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2] * 3, indexing="ij"))
    inside = (at**2).sum(axis=0) < (0.45 * n) ** 2
    tissue = np.sin(at[0] / 2.5) * np.sin(at[1] / 3) * np.sin(at[2] / 2) > 0
    noise = np.random.default_rng(0).normal(0, 0.1, inside.shape)
    return np.where(inside, np.where(tissue, 0.8, -0.8) + noise, 0).astype(np.float32), inside


def test_a_field_that_was_put_in_is_taken_out() -> None:
    flat, inside = ball()
    field = coil(flat.shape, 0.35)
    seen = np.where(inside, (flat + LIFT) * field - LIFT, 0).astype(np.float32)
    found = without_bias(seen, inside, spacing_mm=2.0)
    left = np.log((found + LIFT) / (flat + LIFT))[inside]
    assert np.log(field[inside]).std() > 0.08
    assert left.std() < 0.2 * np.log(field[inside]).std()


def test_a_flat_scan_stays_flat_and_what_is_outside_stays() -> None:
    flat, inside = ball()
    outside = np.where(inside, flat, np.float32(7))
    found = without_bias(outside, inside, spacing_mm=2.0)
    assert np.array_equal(found[~inside], outside[~inside])
    assert np.log((found + LIFT) / (flat + LIFT))[inside].std() < 0.01


def test_values_far_below_the_mean_do_not_break_it() -> None:
    flat, inside = ball(40)
    flat[inside & (np.random.default_rng(1).random(flat.shape) < 0.01)] = -30
    found = without_bias(flat, inside, spacing_mm=4.0)
    assert np.isfinite(found).all()
    assert found.min() > FLOOR / 3 - LIFT


def test_too_little_to_estimate_from_is_said() -> None:
    with pytest.raises(InputError, match="too little"):
        without_bias(np.ones((9, 9, 9), np.float32), np.ones((9, 9, 9), bool), spacing_mm=2.0)


def test_only_what_the_settings_name_is_corrected_and_it_is_said() -> None:
    study = head_study(head_grid())
    plain, corrected = prepare(study, config=PLAIN), prepare(study, config=CORRECTED)
    assert np.array_equal(plain.array[:3], corrected.array[:3])
    assert not np.array_equal(plain.array[3], corrected.array[3])
    inside = corrected.array[3] != 0
    assert corrected.array[3][inside].mean() == pytest.approx(0, abs=1e-3)
    assert corrected.array[3][inside].std() == pytest.approx(1, abs=1e-3)
    assert next(line for line in corrected.record.decisions if "N4" in line).startswith(
        "FLAIR: N4 bias field correction"
    )
    assert not [line for line in plain.record.decisions if "N4" in line]


@pytest.mark.slow
def test_a_head_under_a_stronger_coil_looks_more_alike_afterwards() -> None:
    grid = head_grid()
    study = head_study(grid)
    image = head_image(grid, FLAIR)
    shaded = Study("head", {**study.images, FLAIR: image.with_data(image.data * coil(grid.shape, 0.5))})
    before, after = (
        np.abs(prepare(study, config=config).array[3] - prepare(shaded, config=config).array[3]).mean()
        for config in (PLAIN, CORRECTED)
    )
    assert after < 0.5 * before


def test_a_slab_too_thin_for_a_field_is_left_as_it_is_and_that_is_said() -> None:
    flat, _ = ball(60)
    array = np.zeros((4, *flat.shape), np.float32)
    array[3, :, :, 28:32] = flat[:, :, 28:32]
    before, decisions, warnings = array.copy(), [], []
    _take_out_bias(array, CORRECTED, SEQUENCES, decisions, warnings)
    assert np.array_equal(array, before)
    assert "keeps its bias field" in warnings[0] and not decisions


@pytest.mark.parametrize("levels", [2, 3])
def test_hardly_any_grey_levels_give_numbers_or_a_word(levels: int) -> None:
    flat, inside = ball(60)
    steps = np.round((flat + 1) / 2 * (levels - 1)).astype(np.float32)
    try:
        found = without_bias(steps, inside, spacing_mm=3.0)
    except InputError as error:
        assert "grey levels" in str(error)
    else:
        assert np.isfinite(found).all()


def test_a_study_without_the_sequence_is_prepared_all_the_same() -> None:
    study = head_study(head_grid(), sequences=SEQUENCES[:3])
    assert np.array_equal(prepare(study, config=PLAIN).array, prepare(study, config=CORRECTED).array)


def test_a_sequence_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="t1, t1ce, t2, flair"):
        PrepareConfig(bias_corrected=("flare",))
