"""Reference objects: their sampled volume against the formula, on any grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from brats_seg.core.grid import Grid
from brats_seg.phantom.objects import (
    NO_WAVES,
    Blob,
    Box,
    Ellipsoid,
    Shape,
    Shell,
    Waves,
    inside_shares,
    pair_of_spheres,
    sphere,
)
from tests.strategies import affine_of

TURN = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()
BUMPS = Waves(np.array([[3.0, 0, 0], [0, 2.0, 4.0]]), np.array([0.15, 0.1]), np.array([0.3, 1.0]))
SHAPES: dict[str, Shape] = {
    "sphere": sphere((1.3, -2.1, 0.4), 20.0),
    "ellipsoid": Ellipsoid((1.3, -2.1, 0.4), (14.0, 9.0, 7.0), TURN),
    "box": Box((0.2, 0.6, 1.4), (21.0, 15.0, 11.0), TURN),
    "shell": Shell(sphere((0.3, 0.1, 0.2), 24.0), sphere((0.3, 0.1, 0.2), 17.0)),
    "pair": pair_of_spheres((0.0, 1.0, 2.0), (12.0, 15.0), 17.0),
    "blob": Blob(Ellipsoid((0.5, 0.2, 0.1), (12.0, 10.0, 9.0), TURN), BUMPS),
}
FORMULA_ML = {
    "sphere": np.pi * 20**3 / 6 / 1000,
    "ellipsoid": 4 / 3 * np.pi * 14 * 9 * 7 / 1000,
    "box": 21 * 15 * 11 / 1000,
    "shell": np.pi * (24**3 - 17**3) / 6 / 1000,
    "pair": np.pi * (12**3 + 15**3) / 6 / 1000,
    "blob": 4 / 3 * np.pi * 12 * 10 * 9 / 1000,
}


def grid_around(orientation: str, spacing_mm: tuple[float, float, float], tilt_deg=(0.0, 0.0, 0.0), shift_mm=(0, 0, 0)):
    """A grid of 48 mm around the origin."""
    affine = affine_of(orientation, spacing_mm, (0, 0, 0), tilt_deg)
    shape = tuple(int(np.ceil(48 / s)) for s in spacing_mm)
    affine[:3, 3] = np.array(shift_mm) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


@pytest.mark.parametrize("name", SHAPES)
def test_volume_is_the_formula(name):
    assert SHAPES[name].volume_ml == pytest.approx(FORMULA_ML[name], rel=1e-12)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "grid",
    [
        grid_around("RAS", (1, 1, 1)),
        grid_around("LPS", (1, 1, 1), (12, 5, -8)),
        grid_around("PSR", (1, 1, 5), (3, 7, 2)),
    ],
    ids=["ras", "oblique", "thick"],
)
def test_fractions_hold_the_volume(name, grid):
    fractions = SHAPES[name].sample_fractions(grid)
    assert fractions.dtype == np.float32
    assert fractions.min() >= 0 and fractions.max() <= 1
    assert fractions.sum(dtype=np.float64) * grid.voxel_ml == pytest.approx(FORMULA_ML[name], rel=0.003)


@pytest.mark.parametrize("name", SHAPES)
def test_masks_are_unbiased_over_shifts(name):
    rng = np.random.default_rng(5)
    volumes = [
        SHAPES[name].sample_mask(grid).sum() * grid.voxel_ml
        for grid in (grid_around("RAI", (1, 1, 5), (4, 9, 3), rng.uniform(-3, 3, 3)) for _ in range(30))
    ]
    assert np.mean(volumes) == pytest.approx(FORMULA_ML[name], rel=0.01)


@pytest.mark.parametrize("name", SHAPES)
def test_voxels_decided_by_distance_agree_with_brute_force(name):
    grid = grid_around("RAS", (2, 3, 4), (10, 20, 5))
    every = np.argwhere(np.ones(grid.shape, bool))
    brute = inside_shares(lambda p: SHAPES[name].level_mm(p) <= 0, grid, every).reshape(grid.shape)
    np.testing.assert_allclose(SHAPES[name].sample_fractions(grid), brute, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.tuples(st.floats(-25, 25), st.floats(-25, 25), st.floats(-25, 25)), st.sampled_from(sorted(SHAPES)))
def test_level_never_exceeds_the_distance_to_the_surface(point, name):
    shape = SHAPES[name]
    start = np.array(point)
    level = float(shape.level_mm(start))
    directions = np.random.default_rng(0).standard_normal((200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    on_the_way = shape.level_mm(start + directions * (abs(level) * 0.999))
    assert (np.sign(on_the_way) == np.sign(level)).all() or abs(level) < 1e-6


def test_body_outside_the_grid_gives_nothing():
    grid = grid_around("RAS", (1, 1, 1))
    far = sphere((500.0, 0, 0), 10)
    assert not far.sample_mask(grid).any()
    assert not far.sample_fractions(grid).any()


def test_grid_that_cuts_a_ball_in_half():
    grid = grid_around("RAS", (1, 1, 1))
    edge = grid.to_world((-0.5, 23.5, 23.5))
    half = sphere(tuple(edge), 20.0).sample_fractions(grid)
    assert half.sum(dtype=np.float64) / 1000 == pytest.approx(FORMULA_ML["sphere"] / 2, rel=0.003)


def test_waves_change_the_surface_but_not_the_volume():
    plain = Blob(SHAPES["blob"].ellipsoid, NO_WAVES)
    grid = grid_around("RAS", (1, 1, 1))
    wavy, smooth = SHAPES["blob"].sample_mask(grid), plain.sample_mask(grid)
    assert (wavy ^ smooth).sum() > 0.05 * smooth.sum()
    assert wavy.sum() == pytest.approx(smooth.sum(), rel=0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sphere((0, 0, 0), 0),
        lambda: Box((0, 0, 0), (1, -1, 1)),
        lambda: Shell(sphere((0, 0, 0), 10), sphere((0, 0, 0), 11)),
        lambda: pair_of_spheres((0, 0, 0), (10, 12), 11),
        lambda: Waves(np.zeros((1, 3)), np.array([0.7]), np.zeros(1)),
        lambda: sphere((0, 0, 0), 10).sample_fractions(grid_around("RAS", (1, 1, 1)), supersampling=0),
    ],
    ids=["sphere", "box", "shell", "touching", "waves", "supersampling"],
)
def test_impossible_objects_are_refused(make):
    with pytest.raises(ValueError, match=r"must|touch|overlap|amplitudes"):
        make()
