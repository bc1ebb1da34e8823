from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation_masks import box, mask_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError
from brats_seg.evaluate.overlap import (
    BRATS_2023,
    EmptyMaskPolicy,
    count_voxels,
    dice,
    precision,
    sensitivity,
    specificity,
    volume_error_ml,
    volume_error_percent,
)
from brats_seg.imaging.boxes import bounding_box, enclosing_box

EMPTY = box()
REFERENCE = box(((5, 5, 5), (4, 4, 4)))  # 64 voxels
PREDICTION = box(((6, 5, 5), (4, 4, 2)))  # 32 voxels, 24 of them in the reference


def test_known_answers():
    counts = count_voxels(PREDICTION, REFERENCE)
    assert (counts.true_positive, counts.false_positive, counts.false_negative) == (24, 8, 40)
    assert counts.true_negative == 40 * 20 * 20 - 72
    assert dice(counts) == 2 * 24 / (32 + 64)
    assert sensitivity(counts) == 24 / 64
    assert precision(counts) == 24 / 32
    assert specificity(counts) == (16000 - 72) / (16000 - 72 + 8)
    assert volume_error_ml(counts, 0.002) == pytest.approx(-0.064)
    assert volume_error_percent(counts) == -50.0


def test_voxels_cropped_away_count_as_true_negatives():
    whole = count_voxels(PREDICTION, REFERENCE)
    cropped = count_voxels(PREDICTION[:20], REFERENCE[:20], outside=20 * 20 * 20)
    assert cropped == whole


def test_both_empty():
    counts = count_voxels(EMPTY, EMPTY)
    assert [f(counts) for f in (dice, sensitivity, precision, specificity)] == [1.0, 1.0, 1.0, 1.0]
    assert volume_error_percent(counts) == 0.0


def test_empty_prediction():
    counts = count_voxels(EMPTY, REFERENCE)
    assert (dice(counts), sensitivity(counts)) == (0.0, 0.0)
    assert math.isnan(precision(counts))
    assert volume_error_percent(counts) == -100.0


def test_empty_reference():
    counts = count_voxels(PREDICTION, EMPTY)
    assert (dice(counts), precision(counts)) == (0.0, 0.0)
    assert math.isnan(sensitivity(counts))
    assert math.isnan(volume_error_percent(counts))


def test_specificity_without_background_is_undefined():
    full = np.ones((2, 2, 2), bool)
    assert math.isnan(specificity(count_voxels(full, full)))


def test_the_policy_decides_and_says_so():
    policy = EmptyMaskPolicy("other", 0.7, 0.2, 1.0, 373.12866)
    assert dice(count_voxels(EMPTY, EMPTY), policy=policy) == 0.7
    assert dice(count_voxels(EMPTY, REFERENCE), policy=policy) == 0.2
    assert "373.129 mm" in policy.describe()
    assert "374 mm" in BRATS_2023.describe()


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match=r"\(40, 20, 20\).*\(39, 20, 20\)"):
        count_voxels(EMPTY, EMPTY[:39])


@given(mask_pairs)
@settings(max_examples=40, deadline=None)
def test_dice_is_symmetric_and_bounded(pair):
    a, b = pair
    forward, back = count_voxels(a, b), count_voxels(b, a)
    assert dice(forward) == dice(back)
    assert 0 <= dice(forward) <= 1
    assert (dice(forward) == 1) == bool((a == b).all())
    assert precision(forward) == sensitivity(back) or math.isnan(precision(forward))
    assert forward.true_positive + forward.false_positive + forward.false_negative + forward.true_negative == a.size


@given(mask_pairs, st.sampled_from([0, 1, 2]))
@settings(max_examples=20, deadline=None)
def test_counts_do_not_change_when_both_are_flipped(pair, axis):
    a, b = pair
    assert count_voxels(np.flip(a, axis), np.flip(b, axis)) == count_voxels(a, b)


def test_boxes():
    assert bounding_box(EMPTY) is None
    assert bounding_box(REFERENCE) == (slice(5, 9),) * 3
    assert bounding_box(REFERENCE, margin=6) == (slice(0, 15),) * 3
    assert bounding_box(box(((38, 18, 0), (2, 1, 1))), margin=3) == (slice(35, 40), slice(15, 20), slice(0, 4))
    both = enclosing_box([(slice(5, 9),) * 3, (slice(2, 3),) * 3], (40, 20, 10), margin=2)
    assert both == (slice(0, 11), slice(0, 11), slice(0, 10))
