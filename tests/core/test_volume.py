"""Grids and volumes: what may exist, and that voxels stay where they are whatever is done to the array."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ORIENTATIONS, affine_of, grids

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume

FEW = settings(max_examples=25, deadline=None)
SMALL = grids(min_side=2, max_side=6)


def numbered(grid: Grid) -> Volume:
    """A volume whose every voxel holds another number."""
    return Volume(np.arange(np.prod(grid.shape)).reshape(grid.shape), grid)


def places(volume: Volume) -> dict[int, np.ndarray]:
    """Where each number lies, in millimetres."""
    voxels = np.argwhere(np.ones(volume.data.shape, bool))
    return dict(zip(volume.data.ravel().tolist(), volume.grid.to_world(voxels), strict=True))


def assert_same_places(a: Volume, b: Volume) -> None:
    first, second = places(a), places(b)
    assert first.keys() == second.keys()
    for number, place in first.items():
        np.testing.assert_allclose(second[number], place, atol=1e-6)


@FEW
@given(SMALL, st.integers(0, 2))
def test_flip_turns_the_array_and_leaves_every_voxel_in_its_place(grid: Grid, axis: int) -> None:
    volume = numbered(grid)
    flipped = volume.flip(axis)
    np.testing.assert_array_equal(flipped.data, np.flip(volume.data, axis))
    assert_same_places(volume, flipped)
    assert flipped.flip(axis).grid.same_as(grid, tolerance_mm=1e-6)


@FEW
@given(SMALL, st.permutations([0, 1, 2]))
def test_permute_leaves_every_voxel_in_its_place(grid: Grid, axes: list[int]) -> None:
    volume = numbered(grid)
    permuted = volume.permute((axes[0], axes[1], axes[2]))
    assert permuted.grid.shape == tuple(grid.shape[a] for a in axes)
    assert_same_places(volume, permuted)


@FEW
@given(SMALL)
def test_to_ras_leaves_every_voxel_in_its_place(grid: Grid) -> None:
    volume = numbered(grid)
    ras = volume.to_ras()
    assert ras.grid.orientation == "RAS"
    assert ras.grid.voxel_ml == pytest.approx(grid.voxel_ml)
    assert_same_places(volume, ras)


@FEW
@given(SMALL)
def test_crop_keeps_places(grid: Grid) -> None:
    volume = numbered(grid)
    cropped = volume.crop((1, 0, 1), grid.shape)
    whole = places(volume)
    for number, place in places(cropped).items():
        np.testing.assert_allclose(place, whole[number], atol=1e-6)


@FEW
@given(grids())
def test_voxels_go_to_the_world_and_back(grid: Grid) -> None:
    voxels = np.array([[0.0, 0.0, 0.0], [1.5, 2.0, 3.25]])
    np.testing.assert_allclose(grid.to_voxel(grid.to_world(voxels)), voxels, atol=1e-6)
    sides = np.linalg.norm(np.diff(grid.to_world(np.vstack([np.zeros(3), np.eye(3)])), axis=0)[:1], axis=1)
    assert sides[0] == pytest.approx(grid.spacing_mm[0])
    assert grid.voxel_ml == pytest.approx(np.prod(grid.spacing_mm) / 1000)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_is_read_from_the_affine_even_tilted(orientation: str) -> None:
    assert Grid((3, 4, 5), affine_of(orientation, (1, 2, 3))).orientation == orientation
    assert Grid((3, 4, 5), affine_of(orientation, (1, 2, 3), tilt_deg=(20, -15, 10))).orientation == orientation


def test_known_volume_and_extent() -> None:
    grid = Grid((240, 240, 24), affine_of("LPS", (0.9, 0.9, 6.0)))
    assert grid.spacing_mm == pytest.approx((0.9, 0.9, 6.0))
    assert grid.extent_mm == pytest.approx((216, 216, 144))
    assert grid.voxel_ml == pytest.approx(0.00486)
    assert grid.describe() == "240x240x24, 0.9 x 0.9 x 6 mm, LPS"


def test_offset_is_the_largest_corner_distance() -> None:
    grid = Grid((11, 11, 11), np.eye(4))
    moved = affine_of("RAS", origin_mm=(3, 4, 0))
    assert grid.offset_mm(Grid((11, 11, 11), moved)) == pytest.approx(5.0)
    stretched = affine_of("RAS", (1.1, 1, 1))
    assert grid.offset_mm(Grid((11, 11, 11), stretched)) == pytest.approx(1.0)  # 10 steps of 0.1 mm at the far corner
    assert not grid.same_as(Grid((11, 11, 11), moved))
    assert not grid.same_as(Grid((11, 11, 12), np.eye(4)))
    assert grid.same_as(Grid((11, 11, 11), affine_of("RAS", origin_mm=(0.009, 0, 0))))
    with pytest.raises(ValueError, match="different shape"):
        grid.offset_mm(Grid((11, 11, 12), np.eye(4)))


def spoilt(row: int, column: int, value: float) -> np.ndarray:
    affine = np.eye(4)
    affine[row, column] = value
    return affine


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (spoilt(0, 3, np.nan), "finite"),
        (spoilt(1, 1, np.inf), "finite"),
        (np.eye(3), "4x4"),
        (spoilt(1, 1, 0.0), "zero"),
        (spoilt(3, 0, 1.0), "last row"),
        (spoilt(0, 1, 0.1), "sheared"),
        (np.array([[1, 1, 0, 0], [0, 1e-5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float), "singular"),
    ],
)
def test_affines_that_cannot_be_are_refused(affine: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Grid((4, 4, 4), affine)
    assert caught.value.exit_code == 3


def test_a_shear_of_rounding_size_is_accepted() -> None:
    assert Grid((4, 4, 4), spoilt(0, 1, 0.005)).orientation == "RAS"


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 0), (4, 4, 4, 1), (-1, 4, 4)])
def test_shapes_that_cannot_be_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="three positive sizes"):
        Grid(shape, np.eye(4))  # type: ignore[arg-type]


def test_a_volume_fits_its_grid_and_cannot_be_written_to() -> None:
    with pytest.raises(InputError, match="does not fit"):
        Volume(np.zeros((2, 3, 4)), Grid((4, 3, 2), np.eye(4)))
    with pytest.raises(InputError, match="three dimensions"):
        Volume.from_affine(np.zeros((2, 3, 4, 1)), np.eye(4))
    volume = Volume.from_affine(np.zeros((2, 3, 4)), np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        volume.data[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 2


@pytest.mark.parametrize(("start", "stop"), [((0, 0, 0), (3, 3, 4)), ((-1, 0, 0), (2, 2, 2)), ((1, 1, 1), (1, 2, 2))])
def test_a_crop_must_lie_inside(start: tuple[int, int, int], stop: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="inside"):
        Volume.from_affine(np.zeros((3, 3, 3)), np.eye(4)).crop(start, stop)


def test_all_48_orientations_are_different() -> None:
    assert len(set(ORIENTATIONS)) == 48
    affines = [affine_of(code) for code in ORIENTATIONS]
    assert all(not np.allclose(a, b) for a, b in itertools.combinations(affines, 2))
