"""How a head is turned is found by a template of the brain, or doubted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from turned_heads import turned_head

from brats_seg.imaging import upright
from brats_seg.imaging.upright import find_turn
from brats_seg.phantom.grids import rotation_of


@pytest.mark.slow
@pytest.mark.parametrize("angles_deg", [(26.0, 0.0, 0.0), (10.0, -25.0, 20.0), (8.0, 5.0, -6.0)])
def test_the_turn_of_a_head_is_found(angles_deg: tuple[float, float, float]) -> None:
    turn = find_turn(turned_head(angles_deg))
    drawn = Rotation.from_matrix(rotation_of(angles_deg))
    assert np.degrees((Rotation.from_matrix(turn.rotation) * drawn.inv()).magnitude()) < 3
    assert turn.is_far == (np.degrees(drawn.magnitude()) > 15)
    assert turn.doubt == ""


def test_the_turn_is_that_on_the_grid_and_not_in_the_scanner() -> None:
    header = np.eye(4)
    header[:3, :3] = rotation_of((25.0, 10.0, -20.0))
    np.testing.assert_allclose(find_turn(turned_head((0, 0, 0), header=header)).rotation, np.eye(3), atol=0.05)


def test_a_turn_that_the_midplane_does_not_bear_out_is_doubted() -> None:
    head = turned_head((0.0, 0.0, 25.0))
    half = head.data.copy()
    half[: half.shape[0] // 2] = 0
    assert find_turn(head.with_data(half)).doubt


@pytest.mark.slow
def test_a_template_that_covers_too_little_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upright, "MIN_COVERED", 0.99)
    assert "covers only" in find_turn(turned_head((25.0, 0.0, 0.0))).doubt
    assert find_turn(turned_head((0.0, 0.0, 0.0))).doubt == ""
