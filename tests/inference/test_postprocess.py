"""From probabilities to labels: thresholds, specks, doubtful enhancement, and the way to the patient's grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import affine_of
from tiny_studies import noise_study

from brats_seg.core.labels import REGIONS, SCHEMAS, Region
from brats_seg.core.results import Probabilities
from brats_seg.core.study import MRSequence, PreparationRecord, PreparedStudy
from brats_seg.core.volume import Grid
from brats_seg.inference.postprocess import (
    drop_coreless,
    drop_satellites,
    drop_small,
    enhancement,
    region_masks,
    risen,
    segment,
    to_native,
)
from brats_seg.models.bundle import PostprocessConfig
from brats_seg.preprocessing.restore import move

SCHEMA = SCHEMAS["brats2023"]
EVERYTHING = PostprocessConfig(min_component_ml=0.0)


def probabilities(shape: tuple[int, int, int] = (16, 16, 16)) -> np.ndarray:
    return np.zeros((3, *shape), np.float32)


def labels_of(array: np.ndarray, config: PostprocessConfig) -> tuple[np.ndarray, tuple[str, ...]]:
    shape = (array.shape[1], array.shape[2], array.shape[3])
    prepared = noise_study(shape)
    found, notes = segment(Probabilities(array, prepared.grid), prepared, SCHEMA, config)
    return found.labels.data, notes


def test_thresholds_are_inclusive_and_each_region_has_its_own() -> None:
    array = probabilities()
    array[:, 2] = np.array([0.5, 0.29, 0.0])[:, None, None]
    array[:, 5] = np.array([0.9, 0.3, 0.69])[:, None, None]
    array[:, 8] = np.array([0.9, 0.9, 0.7])[:, None, None]
    array[:, 11] = np.array([0.499, 0.499, 0.499])[:, None, None]
    labels, notes = labels_of(array, replace(EVERYTHING, thresholds=(0.5, 0.3, 0.7)))
    assert [int(labels[x, 4, 4]) for x in (2, 5, 8, 11)] == [2, 1, 3, 0]
    assert notes == ()


def test_specks_are_dropped_with_what_they_hold() -> None:
    array = probabilities()
    array[:, 1:3, 1:3, 1:3] = 0.9  # 8 voxels: 0.008 ml
    array[:, 8:14, 8:14, 8:14] = 0.9  # 216 voxels
    labels, notes = labels_of(array, PostprocessConfig(min_component_ml=0.1))
    assert np.count_nonzero(labels) == 216
    assert labels[1, 1, 1] == 0
    assert notes == ("1 specks under 0.1 ml were dropped",)


def test_a_component_of_exactly_the_least_size_stays() -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[0, 0, :3] = mask[4, 4, :4] = True
    kept, dropped = drop_small(mask, 3)
    assert (int(kept.sum()), dropped) == (7, 0)
    kept, dropped = drop_small(mask, 3.5)
    assert (int(kept.sum()), dropped) == (4, 1)


def test_corners_connect() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    kept, dropped = drop_small(mask, 2)
    assert (int(kept.sum()), dropped) == (2, 0)


def test_dropping_from_nothing() -> None:
    kept, dropped = drop_small(np.zeros((4, 4, 4), bool), 10)
    assert not kept.any()
    assert dropped == 0


def test_doubtful_enhancement_becomes_core() -> None:
    array = probabilities()
    array[:2, 4:12, 4:12, 4:12] = 0.9
    array[2, 6:8, 6:8, 6:8] = 0.9  # 0.008 ml
    kept, notes = labels_of(array, replace(EVERYTHING, min_enhancing_ml=0.008))
    assert (np.count_nonzero(kept == 3), notes) == (8, ())
    labels, notes = labels_of(array, replace(EVERYTHING, min_enhancing_ml=0.009))
    assert not (labels == 3).any()
    assert (labels[6:8, 6:8, 6:8] == 1).all()
    assert len(notes) == 1
    assert "0.01 ml of doubtful enhancement" in notes[0]


def test_no_enhancement_needs_no_note() -> None:
    labels, notes = labels_of(probabilities(), PostprocessConfig(min_enhancing_ml=1.0))
    assert not labels.any()
    assert notes == ()


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.float32, (3, 5, 5, 5), elements=st.floats(0, 1, width=32)))
def test_labels_are_nested_whatever_the_probabilities_and_thresholds(array: np.ndarray) -> None:
    prepared = noise_study((5, 5, 5))
    config = replace(EVERYTHING, thresholds=(0.6, 0.4, 0.2))
    found, _ = segment(Probabilities(array, prepared.grid), prepared, SCHEMA, config)
    whole, core, enhancing = (found.region_mask(region) for region in REGIONS)
    assert not (core & ~whole).any()
    assert not (enhancing & ~core).any()
    np.testing.assert_array_equal(whole, array[0] >= np.float32(0.6))


def test_sizes_are_millilitres_on_any_grid() -> None:
    prepared = noise_study((8, 8, 8))
    grid = Grid((8, 8, 8), affine_of("RAS", (2, 2, 5)))  # 0.02 ml a voxel
    array = probabilities((8, 8, 8))
    array[0, 2:4, 2:4, 2:4] = 0.9  # 8 voxels, 0.16 ml
    for least, expected in ((0.15, 8), (0.17, 0)):
        found, _ = segment(Probabilities(array, grid), prepared, SCHEMA, PostprocessConfig(min_component_ml=least))
        assert np.count_nonzero(found.labels.data) == expected


def test_what_was_missing_is_kept() -> None:
    prepared = noise_study((8, 8, 8), present=(MRSequence.T2, MRSequence.FLAIR))
    held = Probabilities(probabilities((8, 8, 8)), prepared.grid)
    found, _ = segment(held, prepared, SCHEMA, EVERYTHING)
    assert found.missing == (MRSequence.T1, MRSequence.T1CE)
    assert found.probabilities is held
    assert found.study_id == "tiny"


def test_labels_are_written_in_the_numbers_asked_for() -> None:
    array = probabilities((8, 8, 8))
    array[:, 2:6, 2:6, 2:6] = 0.9
    prepared = noise_study((8, 8, 8))
    found, _ = segment(Probabilities(array, prepared.grid), prepared, SCHEMAS["brats2021"], EVERYTHING)
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
    moved = to_native(Probabilities(array, small.grid), prepared)
    assert moved.grid is native
    for voxel in [(0, 0, 0), (3, 2, 1), (7, 6, 5)]:
        x, y, z = (round(v) for v in small.grid.to_voxel(native.to_world(voxel)))
        np.testing.assert_array_equal(moved.array[(slice(None), *voxel)], array[:, x, y, z])
    assert sorted(moved.region(Region.WT).ravel()) == sorted(array[0].ravel())


def test_what_has_no_core_is_dropped_unless_it_is_the_largest() -> None:
    whole = np.zeros((20, 6, 6), bool)
    whole[0:8], whole[10:13], whole[16:19] = True, True, True
    core = np.zeros(whole.shape, np.float32)
    core[17, 3, 3] = 0.4
    kept, dropped = drop_coreless(whole, core, 0.3)
    assert dropped == 3 * 36
    assert kept[0:8].all() and not kept[10:13].any() and kept[16:19].all()
    assert drop_coreless(whole, core, 0.5)[1] == 6 * 36
    assert drop_coreless(whole, core, 0.0)[1] == 0
    assert drop_coreless(np.zeros_like(whole), core, 0.3)[1] == 0


def tumour_with_satellites() -> np.ndarray:
    """A core of 8x8x8, and in the same tumour one voxel of it, 2x2x2 and 4x4x4; another tumour with a core of 2x2x2."""
    array = probabilities((40, 16, 16))
    array[0, 1:28, 1:15, 1:15] = array[0, 32:39, 4:12, 4:12] = 0.9
    array[1, 2:10, 2:10, 2:10] = 0.5
    array[1:, 12, 4, 4] = array[1:, 15:17, 4:6, 4:6] = array[1:, 20:24, 4:8, 4:8] = 0.45
    array[1:, 34:36, 6:8, 6:8] = 0.45
    return array


def test_small_doubtful_cores_beside_a_larger_one_are_edema() -> None:
    config = PostprocessConfig(min_component_ml=0.0, thresholds=(0.5, 0.4, 0.4), min_satellite_ml=0.064)
    masks, notes = region_masks(tumour_with_satellites(), 0.001, config)
    assert int(masks[Region.TC].sum()) == 8**3 + 4**3 + 2**3  # the other tumour's only core stays, however small
    assert int(masks[Region.ET].sum()) == 4**3 + 2**3
    assert int(masks[Region.WT].sum()) == 27 * 14 * 14 + 7 * 8 * 8
    assert notes == ("0.009 ml of doubtful core, in spots under 0.064 ml beside a larger core, were counted as edema",)
    all_kept, none = region_masks(tumour_with_satellites(), 0.001, replace(config, min_satellite_ml=0.0))
    assert int(all_kept[Region.TC].sum()) == 8**3 + 4**3 + 2**3 + 2**3 + 1
    assert none == ()


def test_small_cores_that_the_model_is_sure_of_stay() -> None:
    array = tumour_with_satellites()
    array[1, 15, 4, 4] = 0.6  # of eight voxels one is sure
    config = PostprocessConfig(min_component_ml=0.0, thresholds=(0.5, 0.4, 0.4), min_satellite_ml=1.0)
    masks, _ = region_masks(array, 0.001, config)
    assert int(masks[Region.TC].sum()) == 8**3 + 2**3 + 2**3
    assert masks[Region.TC][15:17, 4:6, 4:6].all() and not masks[Region.TC][20:24].any()
    core = np.zeros((6, 6, 6), bool)
    assert drop_satellites(core, core, core.astype(np.float32), min_voxels=9, probability=0.6) == (core, 0)


def test_a_small_tumour_without_a_core_goes_even_as_the_largest() -> None:
    whole, core = np.zeros((24, 24, 24), np.bool_), np.zeros((24, 24, 24), np.float32)
    whole[2:12, 2:12, 2:12] = True
    assert drop_coreless(whole, core, 0.5, largest_from=1000)[1] == 0
    assert drop_coreless(whole, core, 0.5, largest_from=1001)[1] == 1000
    core[5, 5, 5] = 0.6
    assert drop_coreless(whole, core, 0.5, largest_from=1001)[1] == 0
    array = np.stack([whole.astype(np.float32), np.zeros_like(core), np.zeros_like(core)])
    masks, notes = region_masks(array, 0.001, PostprocessConfig(min_core_probability=0.5, min_coreless_ml=5.0))
    assert not masks[Region.WT].any()
    assert notes == (
        "1.0 ml of edema-like signal, without a core, was not counted as tumour: white matter disease looks like that",
    )


def rising_study(rise: float) -> tuple[np.ndarray, PreparedStudy]:
    """A cube called enhancing; its signal is the same in T1 and T1CE, but for ``rise`` standard deviations."""
    prepared = noise_study((16, 16, 16))
    array = prepared.array.copy()
    array[1] = array[0]
    array[1, 4:10, 4:10, 4:10] += rise
    found = probabilities()
    found[:, 4:10, 4:10, 4:10] = 0.9
    return found, replace(prepared, array=array)


@pytest.mark.parametrize(("rise", "enhances"), [(0.0, False), (0.29, False), (0.31, True), (2.0, True)])
def test_what_does_not_rise_from_t1_to_t1ce_does_not_enhance(rise: float, enhances: bool) -> None:
    array, prepared = rising_study(rise)
    config = replace(EVERYTHING, min_enhancement=0.3)
    found, notes = segment(Probabilities(array, prepared.grid), prepared, SCHEMA, config)
    assert found.region_mask(Region.ET).any() == enhances
    assert np.count_nonzero(found.region_mask(Region.TC)) == 6**3
    assert len(notes) == (not enhances)
    if not enhances:
        assert notes[0].startswith(
            "0.22 ml that look like enhancement rise from T1 to T1CE hardly more than the tumour"
        )


def test_enhancement_is_judged_on_the_grid_results_are_written_on() -> None:
    array, prepared = rising_study(1.0)
    thick = Grid((16, 16, 4), prepared.grid.affine @ np.diag([1.0, 1.0, 4.0, 1.0]))
    config = replace(EVERYTHING, min_enhancement=0.3)
    for rise, study in ((1.0, prepared), (0.0, rising_study(0.0)[1])):
        moved = Probabilities(move(array, prepared.grid, thick), thick)
        found, _ = segment(moved, study, SCHEMA, config)
        assert found.region_mask(Region.ET).any() == (rise > 0)


def test_what_rises_no_more_than_the_rest_of_the_tumour_does_not_enhance() -> None:
    whole, enhancing = np.zeros((8, 8, 8), np.bool_), np.zeros((8, 8, 8), np.bool_)
    whole[1:7, 1:7, 1:7] = True
    enhancing[2:4, 2:4, 2:4] = True
    for rest, expected in ((0.0, 1.0), (0.8, 0.2), (-0.5, 1.5)):
        rise = np.where(enhancing, 1.0, rest)
        assert risen(enhancing, whole, rise) == pytest.approx(expected)
    rise = np.zeros(whole.shape)
    rise[2:4, 2:4, 2] = 3.0  # half of what is called enhancing
    assert risen(enhancing, whole, rise) == pytest.approx(3.0)
    rise[2:4, 2:4, 2] = 0.0
    rise[2, 2, 2] = 3.0  # one bright voxel of eight makes no enhancement of it all
    assert risen(enhancing, whole, rise) < 1.0
    assert risen(enhancing, enhancing, np.ones(whole.shape)) == pytest.approx(1.0)
    assert risen(np.zeros_like(whole), whole, np.zeros(whole.shape)) == np.inf


def test_enhancement_cannot_be_doubted_without_t1() -> None:
    array, prepared = rising_study(0.0)
    without = replace(prepared, present=tuple(s for s in prepared.present if s is not MRSequence.T1))
    assert enhancement(without) is None
    config = replace(EVERYTHING, min_enhancement=0.3)
    found, notes = segment(Probabilities(array, prepared.grid), without, SCHEMA, config)
    assert found.region_mask(Region.ET).any() and notes == ()
