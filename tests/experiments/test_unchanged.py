"""Changes that change nothing about a patient: what lies where, and what counts as kept."""

from __future__ import annotations

import numpy as np
import pytest

from brats_seg.core.grid import Grid, Volume
from experiments.unchanged import CHANGES, is_kept

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


@pytest.mark.parametrize("name", ["field", "padded", "flipped"])
def test_every_voxel_that_is_left_stays_where_it_is(name: str) -> None:
    rng = np.random.default_rng(1)
    before = Volume(rng.random((9, 8, 30)).astype(np.float32), Grid((9, 8, 30), AFFINE))
    tumour = np.zeros(before.grid.shape, np.uint8)
    tumour[3:5, 3:5, 10:14] = 1
    after = CHANGES[name](before, tumour)
    for index in ((3, 3, 10), (4, 4, 13), (0, 0, 12)):
        there = np.rint(after.grid.to_voxel(before.grid.to_world(index))).astype(int)
        assert after.data[tuple(there)] == before.data[index]
    if name == "field":
        assert after.grid.shape == (9, 8, 17)  # 5 of the 10 below are gone, 8 of the 16 above


def test_what_stays_within_the_limits_is_kept() -> None:
    assert is_kept("WT", 100.0, 102.9) and not is_kept("WT", 100.0, 103.1)
    assert is_kept("ET", 1.0, 0.75) and not is_kept("ET", 1.0, 0.69)
    assert is_kept("ET", 0.2, 0.0) and not is_kept("ET", 5.0, 0.0)
