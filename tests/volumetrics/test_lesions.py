"""Components, their order and place, and RANO's limits to the tenth of a millimetre."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.visit import Diameters
from brats_seg.volumetrics.diameters import measure_diameters
from brats_seg.volumetrics.lesions import count_lesions, find_lesions, is_measurable
from tests.strategies import grids
from tests.volumetrics.objects import grid_of

NOWHERE = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def diameters(long_mm: float, short_mm: float, slices: int = 2) -> Diameters:
    return Diameters(long_mm, short_mm, "axial", 2, 0, NOWHERE, NOWHERE, slices)


@pytest.mark.parametrize(
    ("long_mm", "short_mm", "slices", "thickness_mm", "expected"),
    [
        (10.0, 10.0, 2, 1.0, True),
        (10.0 - 1e-12, 10.0, 2, 1.0, True),
        (30.0, 9.99, 2, 1.0, False),
        (9.99, 9.99, 9, 1.0, False),
        (30.0, 20.0, 1, 1.0, False),
        (10.0, 10.0, 2, 5.0, True),
        (30.0, 10.5, 2, 5.5, False),
        (30.0, 11.0, 2, 5.5, True),
        (0.0, 0.0, 0, 1.0, False),
    ],
)
def test_measurable(long_mm: float, short_mm: float, slices: int, thickness_mm: float, expected: bool) -> None:
    assert is_measurable(diameters(long_mm, short_mm, slices), thickness_mm) is expected


def test_two_lesions_by_hand() -> None:
    grid = grid_of("LPS", (1, 2, 3), (8, 3, -5), extent_mm=60)
    mask = np.zeros(grid.shape, bool)
    mask[0, 5, 5] = mask[1, 6, 6] = True  # joined by a corner
    mask[20:31, 8:14, 4:7] = True
    large, small = find_lesions(mask, grid, region="ET")
    assert (large.number, small.number, small.region) == (1, 2, "ET")
    assert large.volume_ml == pytest.approx(11 * 6 * 3 * 6 / 1000)
    assert large.box == ((20, 8, 4), (30, 13, 6))
    np.testing.assert_allclose(large.centroid_mm, grid.to_world((25, 10.5, 5)))
    assert not large.touches_border
    # Mid-edge corners of a rectangle of 11 x 6 voxels of 1 x 2 mm: (-0.5, 0) to (10.5, 5) and (0, -0.5) to (10, 5.5).
    assert large.diameters.long_mm == pytest.approx(max(np.hypot(11, 10), np.hypot(10, 12)))
    assert large.diameters.slices == 3
    assert large.measurable
    assert small.volume_ml == pytest.approx(2 * 6 / 1000)
    assert small.touches_border
    assert not small.measurable
    assert count_lesions(mask) == 2


def test_empty_and_full() -> None:
    grid = grid_of(extent_mm=4)
    empty = np.zeros(grid.shape, bool)
    assert find_lesions(empty, grid, region="WT") == ()
    assert count_lesions(empty) == 0
    (lesion,) = find_lesions(~empty, grid, region="WT")
    assert lesion.touches_border
    assert lesion.volume_ml == pytest.approx(0.064)


def test_part_of_a_grid_is_measured_where_it_lies() -> None:
    grid = grid_of("PIR", (1, 1.5, 2), (5, 6, 7), extent_mm=30)
    mask = np.random.default_rng(0).random(grid.shape) < 0.03
    mask[0] = False
    part = find_lesions(mask[1:, 2:, :], grid, region="WT", start=(1, 2, 0))
    mask[:, :2] = False
    whole = find_lesions(mask, grid, region="WT")
    assert len(part) == len(whole) > 100
    for a, b in zip(part, whole, strict=True):
        assert (a.number, a.box, a.touches_border, a.measurable) == (b.number, b.box, b.touches_border, b.measurable)
        np.testing.assert_allclose(a.centroid_mm, b.centroid_mm)
        np.testing.assert_allclose(a.diameters.long_ends_mm, b.diameters.long_ends_mm)
        assert a.diameters.short_mm == pytest.approx(b.diameters.short_mm)


@settings(max_examples=15, deadline=None)
@given(grids(min_side=4, max_side=9), st.integers(0, 2**32 - 1))
def test_lesions_do_not_depend_on_storage(grid: Grid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = Volume(rng.random(grid.shape) < 0.08, grid)
    axes = tuple(int(a) for a in rng.permutation(3))
    other = volume.flip(int(rng.integers(3))).permute((axes[0], axes[1], axes[2]))
    here = find_lesions(volume.data, volume.grid, region="WT")
    there = find_lesions(other.data, other.grid, region="WT")
    assert len(here) == len(there) == ndimage.label(volume.data, np.ones((3, 3, 3)))[1]
    for a, b in zip(here, there, strict=True):
        assert a.volume_ml == pytest.approx(b.volume_ml)
        np.testing.assert_allclose(a.centroid_mm, b.centroid_mm, atol=1e-6)
        assert a.diameters.long_mm == pytest.approx(b.diameters.long_mm)
        assert a.touches_border == b.touches_border
    volumes = [lesion.volume_ml for lesion in here]
    assert volumes == sorted(volumes, reverse=True)


def test_hundreds_of_lesions_are_fast() -> None:
    grid = grid_of(extent_mm=90)
    mask = np.zeros(grid.shape, bool)
    mask[::15, ::15, ::15] = True
    mask = ndimage.binary_dilation(mask, iterations=2)
    start = time.process_time()
    found = find_lesions(mask, grid, region="WT")
    elapsed_s = time.process_time() - start
    assert len(found) == 216
    assert elapsed_s < 3


def test_crumbs_are_measured_as_they_are_wherever_they_lie() -> None:
    """Once a shape, so that thousands cost little, and the same as one by one."""
    grid = Grid((60, 50, 40), np.array([[0, -1.1, 0, 3], [0.9, 0, 0, -7], [0, 0, 1.3, 11], [0, 0, 0, 1]]))
    mask = np.random.default_rng(3).random(grid.shape) < 0.01
    found = find_lesions(mask, grid, region="ET")
    assert len(found) > 500
    for lesion in found[:: len(found) // 25]:
        own = np.zeros(mask.shape, bool)
        low, high = lesion.box
        box = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
        own[box] = mask[box]
        if own.sum() * grid.voxel_ml != pytest.approx(lesion.volume_ml):
            continue  # another one reaches into its box
        alone = measure_diameters(own, grid)
        assert (lesion.diameters.long_mm, lesion.diameters.short_mm) == pytest.approx((alone.long_mm, alone.short_mm))
        assert lesion.diameters.slice_index == alone.slice_index
        np.testing.assert_allclose(lesion.diameters.long_ends_mm, alone.long_ends_mm, atol=1e-3)


def test_thousands_of_crumbs_take_no_time() -> None:
    mask = np.zeros((150, 150, 150), bool)
    mask[5:-5:9, 5:-5:9, 5:-5:9] = True
    began = time.process_time()
    found = find_lesions(mask, Grid(mask.shape, np.eye(4)), region="ET")
    assert len(found) == 16**3 and time.process_time() - began < 3.0
    assert {(lesion.diameters.long_mm, lesion.diameters.slices) for lesion in found} == {(1.0, 1)}
