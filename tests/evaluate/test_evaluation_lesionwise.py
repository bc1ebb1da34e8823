"""One hand-made case for every branch of the challenge's lesion-wise scores."""

from __future__ import annotations

import cc3d
import numpy as np
import pytest
from evaluation_masks import SHAPE, box
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.evaluate.lesionwise import LESIONWISE_SETTINGS, score_lesions
from brats_seg.evaluate.overlap import count_voxels, dice
from brats_seg.evaluate.surface import area_surface_distances, hd95_brats2023_mm

GLI, MEN, MET = (LESIONWISE_SETTINGS[task] for task in ("GLI", "MEN", "MET"))
ONE = (1.0, 1.0, 1.0)
EMPTY = box()
CUBE = ((4, 8, 8), (4, 4, 4))  # 64 mm3
FAR = ((30, 8, 8), (4, 4, 4))
SPECK = ((30, 8, 8), (1, 1, 1))


def scored(prediction, reference, *, task=GLI, spacing_mm=ONE):
    return score_lesions(prediction, reference, spacing_mm, settings=task)


def test_settings_of_each_task():
    table = {name: (s.dilation_iterations, s.smallest_mm3) for name, s in LESIONWISE_SETTINGS.items()}
    assert table == {"GLI": (3, 50), "SSA": (3, 50), "PED": (3, 50), "MEN": (1, 50), "MET": (1, 2)}


def test_perfect():
    result = scored(box(CUBE, FAR), box(CUBE, FAR))
    assert (result.dice, result.hd95_mm) == (1.0, 0.0)
    assert (result.true_positives, result.false_negatives, result.false_positives) == (2, 0, 0)


def test_both_empty():
    result = scored(EMPTY, EMPTY)
    assert (result.dice, result.hd95_mm, result.lesions) == (1.0, 0.0, ())


def test_empty_prediction_misses_every_lesion():
    result = scored(EMPTY, box(CUBE, FAR))
    assert (result.dice, result.hd95_mm) == (0.0, 374.0)
    assert (result.true_positives, result.false_negatives, result.false_positives) == (0, 2, 0)


def test_empty_reference_makes_every_component_false():
    result = scored(box(CUBE, SPECK), EMPTY)
    assert (result.dice, result.hd95_mm) == (0.0, 374.0)
    assert result.false_positives == 2


def test_a_missed_lesion_counts_as_much_as_one_found():
    result = scored(box(CUBE), box(CUBE, FAR))
    assert (result.dice, result.hd95_mm) == (0.5, 187.0)
    missed = result.lesions[1]
    assert (missed.found, missed.components, missed.dice, missed.hd95_mm) == (False, 0, 0.0, 374.0)


def test_a_false_component_counts_however_small():
    result = scored(box(CUBE, SPECK), box(CUBE))
    assert (result.dice, result.hd95_mm) == (0.5, 187.0)
    assert result.false_positives == 1


def test_missed_and_false_together():
    result = scored(box(SPECK), box(CUBE))
    assert (result.dice, result.hd95_mm) == (0.0, 374.0)
    assert (result.false_negatives, result.false_positives) == (1, 1)


@pytest.mark.parametrize(("task", "gap", "lesions"), [(GLI, 6, 1), (GLI, 7, 2), (MEN, 2, 1), (MEN, 3, 2)])
def test_lesions_joined_by_dilation_are_one(task, gap, lesions):
    """Each side grows by ``dilation_iterations`` voxels; the two meet in a gap twice as wide."""
    neighbour = ((8 + gap, 8, 8), (4, 4, 4))
    result = scored(box(CUBE), box(CUBE, neighbour), task=task)
    assert len(result.lesions) == lesions
    # One lesion of 128 voxels, half of it found; or one found and one missed.
    assert result.dice == pytest.approx(2 * 64 / (64 + 128) if lesions == 1 else 0.5)
    assert result.lesions[0].volume_mm3 == (128.0 if lesions == 1 else 64.0)


def test_joined_lesions_keep_their_undilated_voxels():
    neighbour = ((12, 8, 8), (4, 4, 4))
    result = scored(box(CUBE, neighbour), box(CUBE, neighbour))
    assert result.lesions[0].volume_mm3 == 128.0
    assert result.lesions[0].components == 2
    assert (result.dice, result.hd95_mm) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("task", "size", "spacing_mm", "kept"),
    [
        (GLI, (5, 5, 2), ONE, False),  # 50 mm3
        (GLI, (17, 3, 1), ONE, True),  # 51 mm3
        (GLI, (5, 5, 1), (1.0, 1.0, 2.0), False),  # 50 mm3 in 25 voxels
        (GLI, (13, 2, 1), (1.0, 1.0, 2.0), True),  # 52 mm3 in 26 voxels
        (GLI, (5, 5, 2), (1.0, 1.0, 1.0 + 1e-9), False),  # an oblique affine's spacing is not exact
        (MET, (2, 1, 1), ONE, False),  # 2 mm3
        (MET, (3, 1, 1), ONE, True),  # 3 mm3
    ],
)
def test_small_lesions_are_dropped(task, size, spacing_mm, kept):
    result = scored(EMPTY, box(((4, 8, 8), size)), task=task, spacing_mm=spacing_mm)
    assert result.lesions[0].kept is kept
    assert (result.dice, result.hd95_mm) == ((0.0, 374.0) if kept else (1.0, 0.0))
    assert result.false_negatives == int(kept)


def test_what_touches_a_dropped_lesion_is_not_false():
    dropped = ((30, 8, 8), (3, 3, 3))
    result = scored(box(CUBE, dropped), box(CUBE, dropped))
    assert (result.dice, result.hd95_mm, result.false_positives) == (1.0, 0.0, 0)
    assert [lesion.kept for lesion in result.lesions] == [True, False]
    assert result.lesions[1].dice == 1.0


@pytest.mark.parametrize(("gap", "found"), [(2, True), (3, False)])
def test_a_component_within_the_dilation_belongs_to_the_lesion(gap, found):
    """GLI looks 3 voxels around a lesion: a gap of 2 voxels is bridged, one of 3 is not."""
    beside = ((8 + gap, 8, 8), (4, 4, 4))
    result = scored(box(beside), box(CUBE))
    assert result.lesions[0].found is found
    assert result.dice == 0.0
    assert result.false_positives == int(not found)
    # Touched, its distance is measured: the cubes' far faces lie 4 + gap apart.
    assert result.hd95_mm == (4.0 + gap if found else 374.0)


@pytest.mark.parametrize(("offset", "found"), [((1, 1, 0), True), ((1, 1, 1), False)])
def test_dilation_has_eighteen_neighbours(offset, found):
    """MET dilates once: across an edge, not across a corner."""
    place = tuple(3 + shift for shift in (4 + offset[0], 8 + offset[1], 8 + offset[2]))
    result = scored(box((place, (1, 1, 1))), box(CUBE), task=MET)
    assert result.lesions[0].found is found


def test_components_have_twenty_six_neighbours():
    diagonal = box(((30, 8, 8), (1, 1, 1)), ((31, 9, 9), (1, 1, 1)))
    assert scored(diagonal, EMPTY).false_positives == 1


def test_all_components_that_touch_a_lesion_are_pooled():
    halves = box(((4, 8, 8), (1, 4, 4)), ((7, 8, 8), (1, 4, 4)))
    result = scored(halves, box(CUBE))
    assert result.lesions[0].components == 2
    assert result.dice == pytest.approx(2 * 32 / (32 + 64))


def test_a_component_touching_two_lesions_serves_both():
    apart = ((18, 8, 8), (4, 4, 4))
    bridge = ((4, 8, 8), (18, 4, 4))  # 288 voxels over both
    result = scored(box(bridge), box(CUBE, apart))
    assert [lesion.components for lesion in result.lesions] == [1, 1]
    assert result.dice == pytest.approx(2 * 64 / (64 + 288))
    assert result.hd95_mm == pytest.approx(14.0)
    assert result.false_positives == 0


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match="shape"):
        scored(EMPTY, EMPTY[:39])


def slow_score(prediction, reference, spacing_mm, task):
    """The published steps over the whole image, one after the other."""
    grow = {"structure": ndimage.generate_binary_structure(3, 2), "iterations": task.dilation_iterations}
    parts = cc3d.connected_components(prediction, connectivity=26)
    joined = cc3d.connected_components(ndimage.binary_dilation(reference, **grow), connectivity=26)
    matched, dices, distances = set(), [], []
    for number in range(1, joined.max() + 1):
        lesion = (joined == number) & reference
        touched = set(np.unique(parts[ndimage.binary_dilation(lesion, **grow)])) - {0}
        matched |= touched
        if lesion.sum() * np.prod(spacing_mm) <= task.smallest_mm3:
            continue
        pooled = np.isin(parts, list(touched))
        dices.append(dice(count_voxels(pooled, lesion)))
        distances.append(hd95_brats2023_mm(area_surface_distances(pooled, lesion, spacing_mm)))
    false = len(set(range(1, parts.max() + 1)) - matched)
    if len(dices) + false == 0:
        return 1.0, 0.0
    return sum(dices) / (len(dices) + false), (sum(distances) + 374 * false) / (len(distances) + false)


places = st.tuples(st.integers(0, 36), st.integers(0, 16), st.integers(0, 16))
sizes = st.tuples(*[st.integers(1, 6)] * 3)
boxes = st.lists(st.tuples(places, sizes), max_size=5)


@given(boxes, boxes, st.sampled_from([GLI, MEN, MET]), st.sampled_from([ONE, (1.0, 0.5, 3.0)]))
@settings(max_examples=30, deadline=None)
def test_crops_change_nothing(found, truth, task, spacing_mm):
    prediction, reference = box(*found), box(*truth)
    result = scored(prediction, reference, task=task, spacing_mm=spacing_mm)
    assert (result.dice, result.hd95_mm) == pytest.approx(slow_score(prediction, reference, spacing_mm, task))


@given(boxes, boxes, st.sampled_from([0, 1, 2]))
@settings(max_examples=15, deadline=None)
def test_flips_change_nothing(found, truth, axis):
    prediction, reference = box(*found, shape=SHAPE), box(*truth, shape=SHAPE)
    result, flipped = scored(prediction, reference), scored(np.flip(prediction, axis), np.flip(reference, axis))
    assert (flipped.dice, flipped.hd95_mm) == pytest.approx((result.dice, result.hd95_mm))
    assert 0 <= result.dice <= 1
    assert result.false_positives == flipped.false_positives
