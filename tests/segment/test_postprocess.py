"""From probabilities to labels: thresholds, doubts as factors, and the way to the patient's grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from glioma import ET, REGIONS, TC, WT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import affine_of
from tiny_studies import noise_study

from brats_seg.core.grid import Grid
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.scans import PreparationRecord, PreparedStudy
from brats_seg.core.study import MRSequence
from brats_seg.core.visit import RegionMaps
from brats_seg.models.rules import PostprocessConfig, RequireCore, RequireEnhancement
from brats_seg.segment.postprocess import (
    LEAST_ENHANCING,
    LEAST_WHOLE,
    enhancement,
    evidence,
    relative_enhancement,
    require_core,
    require_enhancement,
    segment,
    settle,
    to_native,
)

SCHEMA = SCHEMAS["brats2023"]
EVERYTHING = PostprocessConfig()
CORE = RequireCore("WT", "TC", min_ml=5.0)
ENHANCEMENT = RequireEnhancement("ET", min_ml=0.1, rise=(1.0, 4.0))
DOUBTING = PostprocessConfig(thresholds={"WT": 0.45, "TC": 0.4, "ET": 0.45}, rules=(CORE, ENHANCEMENT))


def probabilities(shape: tuple[int, int, int] = (16, 16, 16)) -> np.ndarray:
    return np.zeros((3, *shape), np.float32)


def maps(array: np.ndarray) -> RegionMaps:
    """On voxels of 1 mm."""
    return RegionMaps(array, Grid((array.shape[1], array.shape[2], array.shape[3]), np.eye(4)), REGIONS)


def settle_whole(array: np.ndarray, rule: RequireCore = CORE) -> tuple[np.ndarray, int]:
    return require_core(maps(array), DOUBTING, rule)


def labels_of(array: np.ndarray, config: PostprocessConfig) -> np.ndarray:
    prepared = noise_study((array.shape[1], array.shape[2], array.shape[3]))
    return segment(RegionMaps(array, prepared.grid, REGIONS), prepared, SCHEMA, config).segmentation.labels.data


def test_thresholds_are_inclusive_and_each_region_has_its_own() -> None:
    array = probabilities()
    array[:, 2] = np.array([0.5, 0.29, 0.0])[:, None, None]
    array[:, 5] = np.array([0.9, 0.3, 0.69])[:, None, None]
    array[:, 8] = np.array([0.9, 0.9, 0.7])[:, None, None]
    array[:, 11] = np.array([0.499, 0.499, 0.499])[:, None, None]
    labels = labels_of(array, replace(EVERYTHING, thresholds={"TC": 0.3, "ET": 0.7}))
    assert [int(labels[x, 4, 4]) for x in (2, 5, 8, 11)] == [2, 1, 3, 0]


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.float32, (3, 5, 5, 5), elements=st.floats(0, 1, width=32)), st.sampled_from([EVERYTHING, DOUBTING])
)
def test_a_label_map_is_the_nested_threshold_of_the_probabilities_beside_it(
    array: np.ndarray, config: PostprocessConfig
) -> None:
    prepared = noise_study((5, 5, 5))
    found = segment(RegionMaps(array, prepared.grid, REGIONS), prepared, SCHEMA, config).segmentation
    assert found.probabilities is not None
    inside = np.ones((5, 5, 5), bool)
    for region in REGIONS:
        inside &= found.probabilities.region(region) >= np.float32(config.threshold(region))
        np.testing.assert_array_equal(found.region_mask(region), inside)


def test_what_was_missing_is_kept() -> None:
    prepared = noise_study((8, 8, 8), present=(MRSequence.T2, MRSequence.FLAIR))
    held = RegionMaps(probabilities((8, 8, 8)), prepared.grid, REGIONS)
    outcome = segment(held, prepared, SCHEMA, DOUBTING)
    assert outcome.segmentation.missing == (MRSequence.T1, MRSequence.T1CE)
    assert outcome.segmentation.study_id == "tiny"
    assert (outcome.decisions, outcome.warnings) == ((), ())


def test_labels_are_written_in_the_numbers_asked_for() -> None:
    array = probabilities((8, 8, 8))
    array[:, 2:6, 2:6, 2:6] = 0.9
    prepared = noise_study((8, 8, 8))
    found = segment(RegionMaps(array, prepared.grid, REGIONS), prepared, SCHEMAS["brats2021"], EVERYTHING).segmentation
    assert set(np.unique(found.labels.data)) == {0, 4}


@pytest.mark.parametrize("orientation", ["LPS", "SRA", "RAS"])
def test_probabilities_go_back_to_the_stored_orientation_untouched(orientation: str) -> None:
    small = noise_study((12, 8, 8))
    corner = {"LPS": (11.0, 7.0, 0.0), "SRA": (0.0, 0.0, 0.0), "RAS": (0.0, 0.0, 0.0)}[orientation]
    affine = affine_of(orientation, origin_mm=corner)
    shape = (8, 12, 8) if orientation == "SRA" else (12, 8, 8)
    native = Grid(shape, affine)
    record = PreparationRecord(native=native, network=small.grid)
    prepared = PreparedStudy("tiny", small.array, small.brain, small.present, record)
    array = np.random.default_rng(0).random((3, 12, 8, 8)).astype(np.float32)
    moved = to_native(RegionMaps(array, small.grid, REGIONS), prepared)
    assert moved.grid is native
    for voxel in [(0, 0, 0), (3, 2, 1), (7, 6, 5)]:
        x, y, z = (round(v) for v in small.grid.to_voxel(native.to_world(voxel)))
        np.testing.assert_array_equal(moved.array[(slice(None), *voxel)], array[:, x, y, z])
    assert sorted(moved.region(WT).ravel()) == sorted(array[0].ravel())


def island(size_ml: float, core: float, *, sure: float = 0.9) -> np.ndarray:
    """A tumour with a core, and apart from it a place of edema-like signal that reaches a probability of TC."""
    array = probabilities((40, 24, 24))
    array[0, 2:12, 2:22, 2:22] = 0.95
    array[1, 4:10, 6:18, 6:18] = 0.9
    flat = array[0, 18:38].reshape(-1)
    flat[: round(1000 * size_ml)] = sure
    array[0, 18:38] = flat.reshape(20, 24, 24)
    array[1, 18, 0, 0] = core
    return array


def whole_ml(array: np.ndarray) -> float:
    return float((settle_whole(array)[0][0] >= DOUBTING.threshold(WT)).sum()) / 1000


def test_a_small_place_without_a_core_is_doubted_and_a_large_one_or_one_with_a_core_is_not() -> None:
    doubted, lost = settle_whole(island(2.0, 0.05))
    assert lost == 2000
    np.testing.assert_allclose(doubted[0, 18:38].max(), LEAST_WHOLE * 0.9, rtol=1e-6)
    np.testing.assert_array_equal(doubted[:, :12], island(2.0, 0.05)[:, :12])  # the tumour beside it stays
    assert (doubted[1] <= doubted[0]).all()
    for size_ml, core in ((2.0, 0.8), (8.0, 0.0)):
        kept, lost = settle_whole(island(size_ml, core))
        assert lost == 0
        np.testing.assert_array_equal(kept, island(size_ml, core))
    assert settle_whole(island(2.0, 0.05), replace(CORE, min_ml=0.0))[1] == 0


def test_what_surrounds_a_doubted_place_is_doubted_with_it() -> None:
    array = probabilities((24, 24, 24))
    array[0, 8:16, 8:16, 8:16] = 0.3  # below the threshold
    array[0, 10:14, 10:14, 10:14] = 0.9
    doubted, _ = settle_whole(array)
    assert doubted[0].max() <= 0.9 * LEAST_WHOLE + 1e-6
    assert doubted[0, 8, 8, 8] == pytest.approx(0.3 * LEAST_WHOLE)


@pytest.mark.parametrize("limit", [0.499, 2.499, 4.999, 7.499])
def test_no_size_and_no_probability_of_a_core_is_a_cliff(limit: float) -> None:
    """A voxel more, or a thousandth of probability, changes probabilities by next to nothing."""
    for a, b in (
        (island(limit, 0.05), island(limit + 0.002, 0.05)),
        (island(1.0, limit / 10), island(1.0, (limit + 0.01) / 10)),
    ):
        one, other = (settle_whole(array)[0] for array in (a, b))
        same = (a == b).all(axis=0)
        assert np.abs(one - other)[:, same].max() < 0.005


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 9), st.floats(0, 9), st.floats(0, 1), st.floats(0, 1))
def test_more_core_and_more_volume_never_mean_less_tumour(a: float, b: float, c: float, d: float) -> None:
    less, more = (island(x, y) for x, y in ((min(a, b), min(c, d)), (max(a, b), max(c, d))))
    assert whole_ml(less) <= whole_ml(more)


def test_what_is_not_counted_is_a_warning_from_half_a_millilitre_or_a_tenth_on() -> None:
    few, many = (settle(maps(island(size_ml, 0.05)), DOUBTING) for size_ml in (0.3, 0.6))
    assert few.warnings == () and len(few.decisions) == 1
    assert many.decisions == () and many.warnings[0].startswith(
        "0.6 ml of peritumoral edema-like signal, apart from the tumour"
    )
    alone = island(0.3, 0.05)
    alone[:, :12] = 0
    assert (
        settle(maps(alone), DOUBTING).warnings[0].startswith("0.3 ml of peritumoral edema-like signal, without a core")
    )
    assert settle(maps(probabilities()), DOUBTING)[1:] == ((), ())


def rising_study(height: float, *, scale: float = 1.0, offset: float = 0.0) -> tuple[np.ndarray, PreparedStudy]:
    """A tumour whose middle, called enhancing by 0.5 to 1, is so many deviations of the noise brighter in T1CE."""
    prepared = noise_study((48, 48, 48))
    rng = np.random.default_rng(1)
    array = prepared.array.copy()
    array[1] = 0.6 * array[0] + 0.2 * rng.standard_normal(prepared.brain.shape)
    array[1, 20:28, 20:28, 20:28] += 0.2 * height
    array[1] = np.where(prepared.brain, scale * array[1] + offset, 0)
    found = probabilities((48, 48, 48))
    found[:2, 16:32, 16:32, 16:32] = 0.97
    found[2, 20:28, 20:28, 20:28] = np.linspace(0.5, 1.0, 8)
    return found, replace(prepared, array=array.astype(np.float32))


def enhancing_ml(height: float, config: PostprocessConfig = DOUBTING) -> float:
    array, prepared = rising_study(height)
    found = segment(RegionMaps(array, prepared.grid, REGIONS), prepared, SCHEMA, config)
    return float(found.segmentation.region_mask(ET).sum()) / 1000


def test_enhancement_that_hardly_rises_is_doubted_said_and_not_deleted() -> None:
    array, prepared = rising_study(-1.0)
    found = segment(RegionMaps(array, prepared.grid, REGIONS), prepared, SCHEMA, DOUBTING)
    kept_ml = float(found.segmentation.region_mask(ET).sum()) / 1000
    assert 0.2 < kept_ml < 0.4
    assert found.warnings[0].startswith(
        f"T1CE hardly brighter than T1 here: enhancement doubtful (0.51 ml look like it, {kept_ml:.2g} ml are counted"
    )
    np.testing.assert_allclose(found.probabilities.region(ET), LEAST_ENHANCING * array[2], rtol=1e-5)
    assert found.segmentation.region_mask(TC).sum() == 16**3  # it stays core
    clear = segment(RegionMaps(array, prepared.grid, REGIONS), rising_study(12.0)[1], SCHEMA, DOUBTING)
    assert clear.warnings == () and clear.segmentation.region_mask(ET).sum() == 8**3


def test_the_more_it_rises_the_more_is_counted_without_a_jump() -> None:
    found = [enhancing_ml(height) for height in np.arange(-1, 7, 0.5)]
    steps = np.diff(found)
    assert (steps >= 0).all() and found[0] < found[-1] == 0.512
    assert steps.max() <= 0.129  # two of the eight slices of one probability each


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (40.0, 0.0), (0.1, 3.0)])
def test_the_rise_is_measured_in_the_noise_of_the_tissue_near_the_tumour(scale: float, offset: float) -> None:
    array, prepared = rising_study(6.0, scale=scale, offset=offset)
    whole, bright = array[0] >= 0.5, array[2] >= 0.5
    rise = enhancement(prepared, whole)
    assert rise is not None
    assert relative_enhancement(bright, whole & ~bright, rise) == pytest.approx(6.0 + 1.28, abs=0.4)
    cut = np.index_exp[8:, :40, 4:44]
    part = replace(
        prepared,
        array=prepared.array[(slice(None), *cut)],
        brain=prepared.brain[cut],
        record=PreparationRecord(*[Grid((40, 40, 40), np.eye(4))] * 2),
    )
    inside = enhancement(part, whole[cut])
    assert inside is not None
    np.testing.assert_allclose(inside[whole[cut]], rise[whole], atol=0.6)


def test_without_t1_the_tissue_around_takes_its_place_and_less_is_known() -> None:
    array, prepared = rising_study(3.0)
    without = replace(
        prepared,
        present=tuple(s for s in prepared.present if s is not MRSequence.T1),
        array=prepared.array * np.array([0, 1, 1, 1], np.float32)[:, None, None, None],
    )
    less = segment(RegionMaps(array, prepared.grid, REGIONS), without, SCHEMA, DOUBTING)
    more = segment(RegionMaps(array, prepared.grid, REGIONS), prepared, SCHEMA, DOUBTING)
    counts = [int(found.segmentation.region_mask(ET).sum()) for found in (less, more)]
    assert 0 < counts[0] <= counts[1]
    assert less.warnings[0].startswith(
        "T1CE hardly brighter than the tissue around the tumour here: enhancement doubtful"
    )
    assert enhancement(noise_study((24, 24, 24), present=(MRSequence.T1,)), array[0, :24, :24, :24] >= 0.5) is None


def test_next_to_no_enhancement_is_doubted_with_its_size() -> None:
    factors = []
    for voxels in range(0, 400, 20):
        array = probabilities()
        array[:2, 1:15, 1:15, 1:15] = 0.9
        array[2].reshape(-1)[:0] = 0
        flat = np.zeros(14**3, np.float32)
        flat[:voxels] = 0.9
        array[2, 1:15, 1:15, 1:15] = flat.reshape(14, 14, 14)
        factors.append(require_enhancement(maps(array), DOUBTING, ENHANCEMENT).factor)
    assert factors[0] == 1 and factors[-1] == 1  # none, and enough
    assert factors[1] == pytest.approx(LEAST_ENHANCING, abs=0.02)
    assert (np.diff(factors[1:]) >= 0).all() and np.diff(factors[1:]).max() < 0.06
    assert require_enhancement(maps(array * 0), DOUBTING, ENHANCEMENT).factor == 1


def test_evidence_goes_from_none_to_all() -> None:
    np.testing.assert_allclose(evidence(np.array([-9.0, 1.0, 2.5, 4.0, 99.0, np.inf]), 1.0, 4.0), [0, 0, 0.5, 1, 1, 1])


def test_the_brightest_tenth_counts_against_the_rest() -> None:
    whole, enhancing = np.zeros((8, 8, 8), np.bool_), np.zeros((8, 8, 8), np.bool_)
    whole[1:7, 1:7, 1:7] = True
    enhancing[2:4, 2:4, 2:4] = True
    rest = whole & ~enhancing
    for around, expected in ((0.0, 1.0), (0.8, 0.2), (-0.5, 1.5)):
        assert relative_enhancement(enhancing, rest, np.where(enhancing, 1.0, around)) == pytest.approx(expected)
    rise = np.zeros(whole.shape)
    rise[2:4, 2:4, 2] = 3.0  # half of what is called enhancing
    assert relative_enhancement(enhancing, rest, rise) == pytest.approx(3.0)
    rise[2:4, 2:4, 2] = 0.0
    rise[2, 2, 2] = 3.0  # one bright voxel of eight makes no enhancement of it all
    assert relative_enhancement(enhancing, rest, rise) < 1.0
    assert relative_enhancement(enhancing, np.zeros_like(whole), np.ones(whole.shape)) == pytest.approx(1.0)
    assert relative_enhancement(np.zeros_like(whole), whole, np.zeros(whole.shape)) == np.inf
