"""Mass effect: invertible, smooth, bounded by the skull, and as much as was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid
from brats_seg.phantom.anatomy import Anatomy
from brats_seg.phantom.flow import BrainSpace, Mass, exponential, least_determinant

SPACING = 2.0


@pytest.fixture(scope="module")
def ball() -> Anatomy:
    """A ball of tissue with a ball of CSF in it to the right of its middle."""
    shape = (72, 72, 72)
    affine = np.diag([SPACING] * 3 + [1.0])
    affine[:3, 3] = -SPACING * 35.5
    grid = Grid(shape, affine)
    points = grid.to_world(np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1))
    brain = np.linalg.norm(points, axis=-1) < 65
    csf = (brain & (np.linalg.norm(points - (25, 0, 0), axis=-1) < 12)).astype(np.float32)
    return Anatomy(grid, csf, csf, np.zeros_like(csf), brain - csf, brain)


def fine_points(reach: float, centre: tuple[float, float, float]) -> tuple[np.ndarray, float]:
    axis = np.arange(-reach, reach + 1e-9, 1.0)
    return np.array(centre) + np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1), 1.0


def test_it_pushes_outwards_and_as_much_as_was_asked(ball: Anatomy) -> None:
    flow = BrainSpace(ball).push([Mass((-20.0, 0.0, 0.0), 10.0, 12.0)])
    points, step = fine_points(26, (-20.0, 0.0, 0.0))
    origin = flow.origin_mm(points)
    gradient = np.stack([np.stack(np.gradient(origin[..., k], step), -1) for k in range(3)], -2)
    determinant = np.linalg.det(gradient)
    assert determinant.min() > 0
    away = np.linalg.norm(points - (-20.0, 0.0, 0.0), axis=-1)
    inside = away < 24
    # tissue now in this ball came from a volume that is smaller by what was pushed out of it
    pushed_ml = (1 - determinant[inside]).sum() / 1000
    assert pushed_ml == pytest.approx(12.0, rel=0.06)
    moved_out = ((points - origin) * (points - (-20.0, 0.0, 0.0))).sum(-1)[(away > 8) & inside]
    assert (moved_out > 0).mean() > 0.99


def test_csf_gives_way_and_the_skull_does_not(ball: Anatomy) -> None:
    space = BrainSpace(ball)
    flow = space.push([Mass((0.0, 0.0, 0.0), 8.0, 15.0)])
    points = ball.grid.to_world(np.argwhere(ball.brain))
    origin = flow.origin_mm(points)
    voxels = np.moveaxis(ball.grid.to_voxel(origin), -1, 0)
    csf_ml = ndimage.map_coordinates(ball.csf, voxels, order=1).sum() * SPACING**3 / 1000
    before_ml = float(ball.csf.sum()) * SPACING**3 / 1000
    assert csf_ml < before_ml - 2
    rim = np.linalg.norm(points, axis=1) > 62
    outwards = points[rim] / np.linalg.norm(points[rim], axis=1, keepdims=True)
    crossing = np.abs(((points - origin)[rim] * outwards).sum(1))
    assert np.quantile(crossing, 0.99) < 1.0


@pytest.mark.parametrize("pushed_ml", [1.0, 8.0, 20.0])
def test_it_never_folds(ball: Anatomy, pushed_ml: float) -> None:
    radius = 0.85 * np.cbrt(3 * 1000 * pushed_ml / (4 * np.pi))
    masses = [Mass((-20.0, 5.0, 0.0), radius, pushed_ml), Mass((15.0, -20.0, 10.0), 0.7 * radius, pushed_ml / 3)]
    flow = BrainSpace(ball).push(masses)
    assert flow.least_determinant > 0
    assert least_determinant(flow.backward / 4.0) == pytest.approx(flow.least_determinant)


def test_masses_out_of_place_or_proportion_are_refused(ball: Anatomy) -> None:
    space = BrainSpace(ball)
    with pytest.raises(InputError, match="outside the brain"):
        space.push([Mass((300.0, 0.0, 0.0), 5.0, 1.0)])
    with pytest.raises(InputError, match="fold the tissue"):
        space.push([Mass((-20.0, 0.0, 0.0), 5.0, 80.0)])
    with pytest.raises(ValueError, match="nothing is pushed"):
        space.push([])


def test_the_exponential_of_a_constant_is_a_shift_and_of_its_negative_the_way_back() -> None:
    velocity = np.zeros((3, 12, 12, 12))
    velocity[0] = 0.7
    np.testing.assert_allclose(exponential(velocity), velocity, atol=1e-12)
    assert least_determinant(velocity) == pytest.approx(1.0)
    swirl = np.zeros((3, 24, 24, 24))
    x, y, _ = np.meshgrid(*[np.arange(24) - 11.5] * 3, indexing="ij")
    fade = np.exp(-(x**2 + y**2) / 30)
    swirl[0], swirl[1] = -0.3 * y * fade, 0.3 * x * fade
    there, back = exponential(swirl), exponential(-swirl)
    places = np.stack(np.meshgrid(*[np.arange(24.0)] * 3, indexing="ij")) + there
    returned = places + np.stack([ndimage.map_coordinates(part, places, order=1, mode="nearest") for part in back])
    start = np.stack(np.meshgrid(*[np.arange(24.0)] * 3, indexing="ij"))
    assert np.abs(returned - start)[:, 2:-2, 2:-2, 2:-2].max() < 0.05
    assert np.abs(there).max() > 0.5


def test_a_fold_is_found() -> None:
    folded = np.zeros((3, 8, 8, 8))
    folded[1, :, 4] = -1.5
    assert least_determinant(folded) < 0
