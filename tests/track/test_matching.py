"""Lesion identities: every scripted case of same, new, gone, split, merged and returned, and their stability."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError
from brats_seg.track.match import Matching, Relation, match_lesions

SHAPE = (48, 16, 8)
Box = tuple[int, int]


def mask(*boxes: Box) -> np.ndarray:
    """Bars along the first axis: (start, stop) in voxels, 4 x 4 across."""
    array = np.zeros(SHAPE, bool)
    for start, stop in boxes:
        array[start:stop, 4:8, 2:6] = True
    return array


def told(matching: Matching) -> list[list[str]]:
    """Per visit ``lesion relation [partner]``."""
    return [[f"{s.lesion} {s.relation} {s.partner}".strip() for s in states] for states in matching.states]


def match(*visits: np.ndarray) -> list[list[str]]:
    return told(match_lesions(visits, (1.0, 1.0, 1.0)))


CASES = {
    "same, grown": ([mask((10, 14)), mask((8, 16))], [["L1 first"], ["L1 same"]]),
    "same, shrunk": ([mask((8, 16)), mask((10, 12))], [["L1 first"], ["L1 same"]]),
    "two lesions, largest first": ([mask((2, 6), (20, 30))] * 2, [["L1 first", "L2 first"], ["L1 same", "L2 same"]]),
    "new": ([mask((2, 10)), mask((2, 10), (30, 34))], [["L1 first"], ["L1 same", "L2 new"]]),
    "gone": ([mask((2, 10), (30, 34)), mask((2, 10))], [["L1 first", "L2 first"], ["L1 same", "L2 gone"]]),
    "gone stays gone": (
        [mask((2, 10), (30, 34)), mask((2, 10)), mask((2, 10))],
        [["L1 first", "L2 first"], ["L1 same", "L2 gone"], ["L1 same", "L2 gone"]],
    ),
    "returned": (
        [mask((2, 10), (30, 34)), mask((2, 10)), mask((2, 10), (31, 33))],
        [["L1 first", "L2 first"], ["L1 same", "L2 gone"], ["L1 same", "L2 returned"]],
    ),
    "split": ([mask((4, 24)), mask((4, 16), (18, 24))], [["L1 first"], ["L1 same", "L1.1 split L1"]]),
    "split in three": (
        [mask((4, 34)), mask((4, 16), (18, 24), (26, 34))],
        [["L1 first"], ["L1 same", "L1.1 split L1", "L1.2 split L1"]],
    ),
    "a part splits again": (
        [mask((4, 34)), mask((4, 14), (16, 34)), mask((4, 14), (16, 28), (30, 34))],
        [["L1 first"], ["L1 same", "L1.1 split L1"], ["L1 same", "L1.1 same", "L1.2 split L1"]],
    ),
    "parts stay themselves": (
        [mask((4, 24)), mask((4, 16), (18, 24)), mask((4, 12), (20, 24))],
        [["L1 first"], ["L1 same", "L1.1 split L1"], ["L1 same", "L1.1 same"]],
    ),
    "merged": (
        [mask((4, 16), (20, 26)), mask((4, 26))],
        [["L1 first", "L2 first"], ["L1 same", "L2 merged L1"]],
    ),
    "stays merged": (
        [mask((4, 16), (20, 26)), mask((4, 26)), mask((4, 28))],
        [["L1 first", "L2 first"], ["L1 same", "L2 merged L1"], ["L1 same", "L2 merged L1"]],
    ),
    "merged and apart again": (
        [mask((4, 16), (20, 26)), mask((4, 26)), mask((4, 14), (20, 26))],
        [["L1 first", "L2 first"], ["L1 same", "L2 merged L1"], ["L1 same", "L2 split L1"]],
    ),
    "merged, then all gone": (
        [mask((4, 16), (20, 26)), mask((4, 26)), mask()],
        [["L1 first", "L2 first"], ["L1 same", "L2 merged L1"], ["L1 gone", "L2 gone"]],
    ),
    "a part merges back": (
        [mask((4, 24)), mask((4, 16), (18, 24)), mask((4, 24))],
        [["L1 first"], ["L1 same", "L1.1 split L1"], ["L1 same", "L1.1 merged L1"]],
    ),
    "a lesion that grows over the place of one that is gone does not merge with it": (
        [mask((2, 20), (24, 28)), mask((2, 20)), mask((2, 30))],
        [["L1 first", "L2 first"], ["L1 same", "L2 gone"], ["L1 same", "L2 gone"]],
    ),
    "a small lesion that grows over the place of a large one that is gone keeps its name": (
        [mask((2, 8), (20, 40)), mask((2, 8)), mask((2, 40))],
        [["L1 first", "L2 first"], ["L1 gone", "L2 same"], ["L1 gone", "L2 same"]],
    ),
    "small and moved by less than the tolerance": ([mask((10, 12)), mask((13, 15))], [["L1 first"], ["L1 same"]]),
    "small and moved by more": ([mask((10, 12)), mask((15, 17))], [["L1 first"], ["L1 gone", "L2 new"]]),
    "a neighbour is not the lesion that is still there": (
        [mask((10, 20)), mask((10, 20), (22, 24))],
        [["L1 first"], ["L1 same", "L2 new"]],
    ),
    "growth that grazes the place of a neighbour is chance": (
        [mask((2, 14), (18, 40)), mask((2, 19), (21, 40))],
        [["L1 first", "L2 first"], ["L1 same", "L2 same"]],
    ),
    "nothing, then something": ([mask(), mask((4, 8))], [[], ["L1 new"]]),
    "nothing at all": ([mask(), mask()], [[], []]),
    "one merges while another splits": (
        [mask((2, 8), (10, 13), (20, 40)), mask((2, 13), (20, 28), (30, 40))],
        [["L1 first", "L2 first", "L3 first"], ["L1 same", "L2 same", "L3 merged L2", "L1.1 split L1"]],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_scripted(case: tuple[list[np.ndarray], list[list[str]]]) -> None:
    visits, expected = case
    assert match(*visits) == expected


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_adding_a_visit_changes_no_earlier_row(case: tuple[list[np.ndarray], list[list[str]]]) -> None:
    visits, _ = case
    whole = match_lesions([*visits, mask((0, 3), (9, 22), (44, 48))], (1.0, 1.0, 1.0))
    part = match_lesions(visits, (1.0, 1.0, 1.0))
    assert whole.states[: len(part.states)] == part.states


@settings(max_examples=25, deadline=None)
@given(seeds=st.lists(st.integers(0, 10_000), min_size=2, max_size=4))
def test_on_random_masks_every_component_has_one_name_and_earlier_rows_stay(seeds: list[int]) -> None:
    visits = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        coarse = rng.random((12, 4, 3)) > 0.75
        visits.append(np.kron(coarse, np.ones((3, 3, 3), bool)))
    matching = match_lesions(visits, (1.0, 1.0, 2.0))
    for index, labels in enumerate(matching.labels):
        owned = sorted(state.component for state in matching.states[index] if state.component)
        assert owned == list(range(1, labels.max() + 1))
        assert np.array_equal(labels > 0, visits[index])
        names = [state.lesion for state in matching.states[index]]
        assert len(set(names)) == len(names)
    part = match_lesions(visits[:-1], (1.0, 1.0, 2.0))
    assert matching.states[: len(part.states)] == part.states


def test_identities_do_not_depend_on_how_arrays_are_stored() -> None:
    visits = [mask((4, 16), (20, 26)), mask((4, 26)), mask((4, 14), (20, 26))]
    flipped = [visit[::-1, :, ::-1].copy() for visit in visits]
    assert match(*visits) == match(*flipped)


def test_sizes_and_parts() -> None:
    matching = match_lesions([mask((4, 24)), mask((4, 16), (18, 24))], (1.0, 1.0, 2.0))
    rows = matching.states[1]
    sizes = [int((matching.labels[1] == row.component).sum()) for row in rows]
    assert [(row.lesion, row.part_of) for row in rows] == [("L1", ""), ("L1.1", "L1")]
    assert sizes == [12 * 16, 6 * 16]
    first = [state for states in matching.states for state in states if state.lesion == "L1"]
    assert [state.relation for state in first] == [Relation.FIRST, Relation.SAME]
    assert (matching.labels[1][20, 5, 3], matching.labels[1][17, 5, 3]) == (rows[1].component, 0)


def test_masks_of_different_spaces_are_refused() -> None:
    with pytest.raises(InputError, match="Align the visits first"):
        match_lesions([np.zeros((4, 4, 4)), np.zeros((4, 4, 5))], (1, 1, 1))
    with pytest.raises(InputError, match="no visit"):
        match_lesions([], (1, 1, 1))
