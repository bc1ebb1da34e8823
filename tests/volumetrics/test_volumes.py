"""Volumes against formulas, partial volumes against fractions, and the helpers against slow twins."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brats_seg.core.grid import Grid
from brats_seg.imaging.boxes import bounding_box, widen_box
from brats_seg.volumetrics.volumes import (
    box_touches_border,
    dilate_box,
    mask_volume_ml,
    partial_volume_ml,
    reach_voxels,
)
from tests.volumetrics.objects import Inside, box, ellipsoid, grid_of, shifts, sphere, world_points

GRIDS = {
    "1 mm": grid_of(extent_mm=32),
    "1x1x5 mm oblique": grid_of("LPS", (1, 1, 5), (10, -15, 20), extent_mm=45),
    "5 mm sagittal": grid_of("ASL", (1, 0.8, 5), (5, 8, -12), extent_mm=45),
}
OBJECTS: dict[str, tuple[Inside, float]] = {
    "sphere": (sphere(10), 4 / 3 * math.pi * 10**3 / 1000),
    "ellipsoid": (ellipsoid((13, 9, 7), (30, 40, 50)), 4 / 3 * math.pi * 13 * 9 * 7 / 1000),
    "box": (box((18, 13, 11), (20, 30, 40)), 18 * 13 * 11 / 1000),
}


@pytest.mark.parametrize("grid_name", GRIDS)
@pytest.mark.parametrize("name", OBJECTS)
def test_mean_volume_over_100_shifts_is_the_formula(grid_name: str, name: str) -> None:
    grid, (inside, true_ml) = GRIDS[grid_name], OBJECTS[name]
    points = world_points(grid)
    volumes = [mask_volume_ml(inside(points - shift), grid) for shift in shifts(grid, 100)]
    assert np.mean(volumes) == pytest.approx(true_ml, rel=0.01)


def fractions_of(grid: Grid, inside: Inside, shift: np.ndarray, parts: int = 4) -> np.ndarray:
    """Share of each voxel inside, from ``parts`` cubed samples of those near the surface."""
    points = world_points(grid) - shift
    shares = inside(points).astype(float)
    near = ndimage.maximum_filter(shares, 5) != ndimage.minimum_filter(shares, 5)
    offsets = itertools.product((np.arange(parts) + 0.5) / parts - 0.5, repeat=3)
    shares[near] = np.mean([inside(points[near] + grid.affine[:3, :3] @ offset) for offset in offsets], axis=0)
    return shares


@pytest.mark.parametrize("grid_name", GRIDS)
@pytest.mark.parametrize("name", ["sphere", "box"])
def test_partial_volume_of_exact_fractions(grid_name: str, name: str) -> None:
    grid, (inside, true_ml) = GRIDS[grid_name], OBJECTS[name]
    errors = []
    for shift in shifts(grid, 3, seed=5):
        fraction = fractions_of(grid, inside, shift)
        # Sampling the fractions has an error of its own; what is left out of the sum has none to hide behind.
        measured = partial_volume_ml(fraction, fraction >= 0.5, grid)
        assert measured == pytest.approx(fraction.sum() * grid.voxel_ml, rel=0.001)
        errors.append(measured / true_ml - 1)
    assert abs(np.mean(errors)) <= 0.003


def test_haze_far_from_the_mask_does_not_add_up() -> None:
    grid = grid_of(extent_mm=60)
    mask = sphere(8)(world_points(grid))
    haze = np.where(mask, 1.0, 0.02)
    shell = ndimage.binary_dilation(mask, np.ones((5, 5, 5), bool)) & ~mask
    expected = (mask.sum() + 0.02 * shell.sum()) / 1000
    assert partial_volume_ml(haze, mask, grid) == pytest.approx(expected)
    assert haze.sum() / 1000 > 2 * expected


def test_partial_volume_of_an_empty_mask_is_zero_and_shapes_must_fit() -> None:
    grid = grid_of(extent_mm=6)
    probability = np.full(grid.shape, 0.4)
    assert partial_volume_ml(probability, np.zeros(grid.shape, bool), grid) == 0
    with pytest.raises(ValueError, match="do not fit"):
        partial_volume_ml(probability, np.zeros((2, 2, 2), bool), grid)


def test_reach_is_at_least_one_voxel() -> None:
    assert reach_voxels(grid_of(spacing_mm=(0.5, 1, 5.5), extent_mm=11)) == (4, 2, 1)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(0, 4)] * 3),
    st.sampled_from([0.0, 0.02, 0.2]),
)
def test_helpers_against_slow_twins(
    seed: int, shape: tuple[int, int, int], radius: tuple[int, int, int], share: float
) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    size = tuple(2 * r + 1 for r in radius)
    np.testing.assert_array_equal(dilate_box(mask, radius), ndimage.maximum_filter(mask, size, mode="constant"))
    found = bounding_box(mask)
    where = np.argwhere(mask)
    if not len(where):
        assert found is None
        return
    low, high = where.min(0), where.max(0)
    assert found == tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
    assert box_touches_border(found, shape) == bool((low == 0).any() or (high == np.array(shape) - 1).any())


def test_box_is_widened_up_to_the_edge() -> None:
    assert widen_box((slice(1, 3), slice(4, 5), slice(0, 6)), (9, 6, 6), (2, 1, 3)) == (
        slice(0, 5),
        slice(3, 6),
        slice(0, 6),
    )


@pytest.mark.parametrize("voxel", [(0, 3, 3), (6, 3, 3), (3, 0, 3), (3, 6, 3), (3, 3, 0), (3, 3, 6)])
def test_each_face_is_a_border(voxel: tuple[int, int, int]) -> None:
    assert not box_touches_border((slice(3, 4),) * 3, (7, 7, 7))
    assert box_touches_border(tuple(slice(n, n + 1) for n in voxel), (7, 7, 7))
