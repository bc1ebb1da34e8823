"""Parts of exactly known volume, cut from fields."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid
from brats_seg.phantom.partition import CELLS, Level, Partition

SHAPE = (40, 36, 32)
WHOLE = (slice(0, 40), slice(0, 36), slice(0, 32))


def distance_to(centre: tuple[float, float, float]) -> np.ndarray:
    points = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
    return np.linalg.norm(points - np.array(centre), axis=-1).astype(np.float32)


def fresh(spacing: float = 1.0) -> Partition:
    return Partition(Grid(SHAPE, np.diag([spacing] * 3 + [1.0])), np.ones(SHAPE, np.bool_))


def test_a_ball_has_the_volume_asked_for_and_the_radius_that_goes_with_it() -> None:
    partition = fresh()
    radius = partition.claim(1, Level(distance_to((20.2, 17.7, 15.9)), WHOLE), 9.0)
    assert partition.volume_ml(1) == pytest.approx(9.0, abs=1 / CELLS / 1000)
    assert radius == pytest.approx(np.cbrt(3 * 9000 / (4 * np.pi)), rel=0.002)
    fractions = partition.fractions(1)
    assert fractions.sum(dtype=np.float64) / 1000 == pytest.approx(9.0, abs=1e-4)
    assert ((fractions > 0) & (fractions < 1)).sum() > 1000


def test_parts_share_no_cell() -> None:
    partition = fresh(2.0)
    first, second = Level(distance_to((16, 18, 16)), WHOLE), Level(distance_to((24, 18, 16)), WHOLE)
    partition.claim(1, first, 30.0)
    partition.claim(2, second, 30.0)
    partition.claim(3, first, 10.0, within=1)
    for part, volume_ml in ((1, 20.0), (2, 30.0), (3, 10.0)):
        assert partition.volume_ml(part) == pytest.approx(volume_ml, abs=0.01)  # fields this symmetric tie
    total = partition.fractions(1) + partition.fractions(2) + partition.fractions(3)
    assert total.max() <= 1 + 1e-6
    np.testing.assert_allclose(total, partition.fractions(1, 2, 3), atol=1e-6)
    touched = (partition.fractions(2) > 0) & (partition.fractions(1, 3) > 0)
    assert touched.any()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 8.0), st.floats(0.1, 0.9))
def test_any_field_gives_any_volume(seed: int, volume_ml: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    values = (distance_to((20, 18, 16)) + rng.normal(0, 1.0, SHAPE)).astype(np.float32)
    partition = fresh()
    box = (slice(5, 38), slice(3, 36), slice(2, 30))
    partition.claim(1, Level(values[box], box), volume_ml)
    partition.claim(2, Level(distance_to((25.1, 18.2, 16.3)), WHOLE), share * volume_ml, within=1)
    assert partition.volume_ml(1, 2) == pytest.approx(volume_ml, abs=2e-4)
    assert partition.volume_ml(2) == pytest.approx(share * volume_ml, abs=5e-4)
    outside = np.ones(SHAPE, np.bool_)
    outside[box] = False
    assert not partition.fractions(1, 2)[outside].any()


def test_within_a_part_its_own_box_is_enough() -> None:
    values = (distance_to((24, 18, 16)) + np.random.default_rng(3).normal(0, 0.5, SHAPE)).astype(np.float32)
    found = []
    for tight in (False, True):
        partition = fresh()
        partition.claim(1, Level(distance_to((20.2, 17.7, 15.9)), WHOLE), 4.0)
        box = partition.span(1) if tight else WHOLE
        assert not tight or all(s.stop - s.start < 24 for s in box)
        threshold = partition.claim(2, Level(values[box], box), 1.5, within=1)
        found.append((threshold, partition.volume_ml(2), partition.fractions(2)))
    assert found[0][:2] == found[1][:2]
    np.testing.assert_array_equal(found[0][2], found[1][2])


def test_what_is_not_allowed_stays_free() -> None:
    allowed = np.zeros(SHAPE, np.bool_)
    allowed[:20] = True
    partition = Partition(Grid(SHAPE, np.eye(4)), allowed)
    partition.claim(1, Level(distance_to((20, 18, 16)), WHOLE), 5.0)
    assert partition.volume_ml(1) == pytest.approx(5.0, abs=1e-4)
    assert not partition.fractions(1)[20:].any()
    with pytest.raises(InputError, match="room for"):
        partition.claim(2, Level(distance_to((20, 18, 16)), WHOLE), 20.0)


def test_nothing_is_claimed_for_nothing() -> None:
    partition = fresh()
    assert partition.claim(1, Level(distance_to((20, 18, 16)), WHOLE), 0.0) == -np.inf
    assert partition.volume_ml(1) == 0


def test_slices_hold_the_cells_of_their_middle_plane() -> None:
    partition = fresh()
    radius = partition.claim(1, Level(distance_to((20.0, 18.0, 16.0)), WHOLE), 6.0)
    planes = partition.cell_slices(2, 1)
    for number, points in planes.items():
        half = np.sqrt(max(radius**2 - (number - 16.0) ** 2, 0))
        assert np.linalg.norm(points - (20.0, 18.0), axis=1).max() == pytest.approx(half, abs=0.3)
    assert set(planes) == set(range(16 - int(radius), 17 + int(radius)))
