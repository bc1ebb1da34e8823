"""Layouts: what a network was trained with, and back."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.study import SEQUENCES
from brats_seg.models.stage import Arrangement, Layout

SEQUENCE_NAMES = tuple(sequence.value for sequence in SEQUENCES)
REGION_NAMES = ("WT", "TC", "ET")


def arrangement(**layout: Any) -> Arrangement:
    return Arrangement(Layout(**layout).of(SEQUENCE_NAMES, REGION_NAMES), SEQUENCE_NAMES, REGION_NAMES)


arrangements = st.builds(
    arrangement,
    sequences=st.sampled_from(list(permutations(SEQUENCE_NAMES))),
    regions=st.sampled_from(list(permutations(REGION_NAMES))),
    axes=st.sampled_from(["".join(letters) for letters in product("RL", "AP", "SI")]),
)


def test_the_default_is_the_order_of_the_card() -> None:
    assert arrangement().changes_nothing
    assert arrangement().layout.sequences == SEQUENCE_NAMES
    array = np.random.default_rng(0).normal(size=(4, 3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(arrangement().arrange(array), array)


def test_each_channel_lands_where_the_network_expects_it() -> None:
    layout = arrangement(sequences=("flair", "t1", "t1ce", "t2"), regions=("ET", "WT", "TC"), axes="LAI")
    array = np.zeros((4, 2, 3, 4), np.float32)
    array[:, 0, 0, 0] = [1, 2, 3, 4]  # t1, t1ce, t2, flair at the left, posterior, inferior corner
    arranged = layout.arrange(array)
    assert arranged[:, 1, 0, 3].tolist() == [4, 1, 2, 3]
    assert np.count_nonzero(arranged) == 4
    assert arranged.flags["C_CONTIGUOUS"]
    answer = np.zeros((3, 2, 3, 4), np.float32)
    answer[:, 1, 0, 3] = [30, 10, 20]  # ET, WT, TC at the same corner, as the network sees it
    assert layout.restore(answer)[:, 0, 0, 0].tolist() == [10, 20, 30]


def test_channels_beyond_the_sequences_keep_their_place() -> None:
    layout = arrangement(sequences=("t1ce", "t1", "t2", "flair"))
    array = np.arange(7, dtype=np.float32).reshape(7, 1, 1, 1)
    assert layout.arrange(array).ravel().tolist() == [1, 0, 2, 3, 4, 5, 6]


@settings(max_examples=60, deadline=None)
@given(arrangements)
def test_a_network_that_does_nothing_to_voxels_leaves_them_in_place(layout: Arrangement) -> None:
    array = np.random.default_rng(0).normal(size=(4, 2, 3, 4)).astype(np.float32)
    arranged = layout.arrange(array)
    by_name = {name: arranged[i] for i, name in enumerate(layout.layout.sequences)}
    stand_in = {"WT": "flair", "TC": "t2", "ET": "t1ce"}  # a "network" that answers with one of its inputs
    answer = np.stack([by_name[stand_in[region]] for region in layout.layout.regions])
    found = layout.restore(answer)
    for i, region in enumerate(REGION_NAMES):
        np.testing.assert_array_equal(found[i], array[SEQUENCE_NAMES.index(stand_in[region])])


@pytest.mark.parametrize(
    "wrong",
    [
        {"sequences": ("t1", "t1ce", "t2")},
        {"sequences": ("t1", "t1", "t2", "flair")},
        {"sequences": ("t1", "t1c", "t2", "flair")},
        {"sequences": "t1"},
        {"sequences": (1, 2, 3, 4)},
        {"regions": ("WT", "TC")},
        {"regions": ("wt", "tc", "et")},
        {"axes": "RA"},
        {"axes": "ARS"},
        {"axes": 3},
    ],
)
def test_names_that_make_no_order_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        arrangement(**wrong)
