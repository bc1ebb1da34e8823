"""Integration over voxels of another grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.grid import Grid, Volume
from brats_seg.phantom.fields import cropped, expand, reached_box, resample_box, smooth_noise
from brats_seg.phantom.objects import sphere
from tests.strategies import ORIENTATIONS, affine_of

SOURCE = Grid((30, 32, 28), affine_of("RAS", (1, 1, 1), (-15, -16, -14)))
BALL = sphere((0.5, 1.0, -1.0), 16.0).sample_fractions(SOURCE)


def test_same_grid_is_copied_unchanged():
    np.testing.assert_array_equal(resample_box(BALL, SOURCE, SOURCE), BALL)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(ORIENTATIONS), st.tuples(*[st.integers(-6, 6)] * 3))
def test_turned_and_moved_by_whole_voxels_is_a_copy(orientation, shift):
    values = np.random.default_rng(0).random(SOURCE.shape, dtype=np.float32)
    affine = affine_of(orientation)
    shape = (25, 33, 29)
    centre = SOURCE.to_world((15, 16, 14)) + np.array(shift)
    affine[:3, 3] = centre - affine[:3, :3] @ np.array((12, 16, 14))
    target = Grid(shape, affine)
    result = Volume(resample_box(values, SOURCE, target), target)
    for voxel in np.random.default_rng(1).integers(0, shape, (50, 3)):
        there = np.round(SOURCE.to_voxel(target.to_world(voxel))).astype(int)
        inside = (there >= 0).all() and (there < SOURCE.shape).all()
        assert result.data[tuple(voxel)] == (values[tuple(there)] if inside else 0)


@pytest.mark.parametrize("spacing", [(1, 1, 5), (0.8, 0.8, 3), (2, 2, 2)])
def test_integration_keeps_volume_and_centroid(spacing):
    affine = affine_of("LPI", spacing, (0, 0, 0), (6, -4, 9))
    shape = tuple(int(34 / s) for s in spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    target = Grid(shape, affine)
    result = resample_box(BALL, SOURCE, target)
    assert result.sum(dtype=np.float64) * target.voxel_ml == pytest.approx(np.pi * 16**3 / 6000, rel=0.01)
    voxels = np.argwhere(result > 0)
    centroid = np.average(target.to_world(voxels), axis=0, weights=result[tuple(voxels.T)])
    np.testing.assert_allclose(centroid, (0.5, 1.0, -1.0), atol=0.1)


def test_only_what_a_field_reaches_is_computed_and_nothing_is_lost():
    affine = affine_of("PSR", (0.9, 0.9, 3.0), (3, -2, 1), (12, 7, -9))
    target = Grid((70, 80, 24), affine)
    affine[:3, 3] = SOURCE.to_world((15, 16, 14)) - affine[:3, :3] @ ((np.array(target.shape) - 1) / 2)
    target = Grid(target.shape, affine)
    whole = resample_box(BALL, SOURCE, target)
    box = reached_box(SOURCE, target)
    assert box is not None and whole[box].size < 0.5 * whole.size
    np.testing.assert_allclose(resample_box(BALL, SOURCE, cropped(target, box)), whole[box], atol=1e-5)
    # a field that is never 0 is computed everywhere, so the difference of two shows what the box left out
    filled = resample_box(BALL + 1, SOURCE, target) - resample_box(np.ones_like(BALL), SOURCE, target)
    np.testing.assert_allclose(filled, whole, atol=1e-5)
    assert whole.sum(dtype=np.float64) * target.voxel_ml == pytest.approx(np.pi * 16**3 / 6000, rel=0.01)


def test_a_field_out_of_reach_leaves_nothing():
    affine = affine_of("LPS", (1.0, 1.0, 3.0), (500, 0, 0), (0, 5, 0))
    far = Grid((20, 20, 10), affine)
    assert reached_box(SOURCE, far) is None
    assert not resample_box(BALL, SOURCE, far).any()
    assert not resample_box(np.zeros_like(BALL), SOURCE, far).any()


def test_movement_moves_the_image():
    matrix = np.eye(4)
    matrix[:3, 3] = (0.5, 0, 0)  # the tissue seen at x lies at x + 0.5 in the body, so the ball appears at -0.5
    result = resample_box(BALL, SOURCE, SOURCE, matrix=matrix)
    voxels = np.argwhere(result > 0)
    centroid = np.average(SOURCE.to_world(voxels), axis=0, weights=result[tuple(voxels.T)])
    np.testing.assert_allclose(centroid, (0.0, 1.0, -1.0), atol=0.02)


def test_expand_is_linear_interpolation():
    x, y, z = np.meshgrid(np.arange(5), np.arange(4), np.arange(4), indexing="ij")
    lattice = (2 * x + 3 * y - z).astype(np.float32)
    fine = expand(lattice, (13, 10, 9), 3)
    u, v, w = np.meshgrid(np.arange(13), np.arange(10), np.arange(9), indexing="ij")
    np.testing.assert_allclose(fine, (2 * u + 3 * v - w) / 3, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.7, 3.0, 8.0])
def test_noise_has_unit_variance_and_the_width_asked_for(sigma):
    noise = smooth_noise((64, 64, 64), sigma, np.random.default_rng(2))
    assert noise.std() == pytest.approx(1, abs=1e-3)
    assert noise.mean() == pytest.approx(0, abs=1e-3)
    lag = max(round(sigma), 1)
    measured = float((noise[lag:] * noise[:-lag]).mean())
    assert measured == pytest.approx(np.exp(-((lag / sigma) ** 2) / 4), abs=0.2)
