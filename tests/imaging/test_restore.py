"""Moving between grids: copies are exact, everything else is one interpolation at the right places."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from strategies import ORIENTATIONS, affine_of

from brats_seg.core.grid import Grid, Volume
from brats_seg.imaging import restore
from brats_seg.imaging.restore import move
from brats_seg.volumetrics.volumes import partial_volume_ml

FEW = settings(max_examples=40, deadline=None)


def by_voxel(array: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """The slow way: look every voxel of the target up in the source."""
    result = np.zeros(target.shape, array.dtype)
    for voxel in np.ndindex(*target.shape):
        place = np.round(source.to_voxel(target.to_world(voxel))).astype(int)
        if (place >= 0).all() and (place < array.shape).all():
            result[voxel] = array[tuple(place)]
    return result


@st.composite
def copies(draw: st.DrawFn) -> tuple[Grid, Grid]:
    """Two 1 mm grids of any orientation whose voxels coincide, shifted by whole voxels."""
    grids = []
    for _ in range(2):
        shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
        origin = tuple(float(draw(st.integers(-4, 4))) for _ in range(3))
        grids.append(Grid(shape, affine_of(draw(st.sampled_from(ORIENTATIONS)), origin_mm=origin)))  # type: ignore[arg-type]
    return grids[0], grids[1]


@FEW
@given(copies())
def test_grids_that_coincide_are_copied_voxel_by_voxel(pair: tuple[Grid, Grid]) -> None:
    source, target = pair
    array = np.arange(1, np.prod(source.shape) + 1).reshape(source.shape)
    moved = move(array, source, target, order=0)
    np.testing.assert_array_equal(moved, by_voxel(array, source, target))
    channels = move(np.stack([array, -array]), source, target)
    np.testing.assert_array_equal(channels, np.stack([moved, -moved]))


def test_copies_keep_type_and_values_of_labels_and_of_floats() -> None:
    source, target = Grid((4, 5, 6), np.eye(4)), Grid((6, 5, 4), affine_of("SPL", origin_mm=(3, 4, 0)))
    for array in (np.full(source.shape, 200, np.uint8), np.full(source.shape, 0.1, np.float32)):
        moved = move(array, source, target)
        assert moved.dtype == array.dtype
        assert set(np.unique(moved)) == set(np.unique(array))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_there_and_back_in_every_orientation(orientation: str) -> None:
    volume = Volume(np.arange(60, dtype=np.int32).reshape(3, 4, 5), Grid((3, 4, 5), affine_of(orientation)))
    ras = volume.to_ras()
    np.testing.assert_array_equal(move(volume.data, volume.grid, ras.grid), ras.data)
    np.testing.assert_array_equal(move(ras.data, ras.grid, volume.grid), volume.data)


@pytest.mark.parametrize(
    ("tilt", "shift", "spacing"),
    [((3, 0, 0), (0, 0, 0), (1, 1, 1)), ((0, 0, 0), (0.4, 0, 0), (1, 1, 1)), ((4, -6, 3), (0.3, 1, 1), (1, 1.2, 2))],
)
def test_linear_interpolation_is_exact_on_a_linear_image(
    tilt: tuple[float, float, float], shift: tuple[float, float, float], spacing: tuple[float, float, float]
) -> None:
    source = Grid((20, 20, 20), affine_of("LPS", origin_mm=(10, 10, -10)))
    target = Grid((5, 6, 4), affine_of("RAS", spacing, shift, tilt))
    slope = np.array([0.3, -0.2, 0.1])
    voxels = np.stack(np.meshgrid(*[np.arange(20)] * 3, indexing="ij"), axis=-1)
    image = source.to_world(voxels) @ slope + 5
    here = np.stack(np.meshgrid(*[np.arange(n) for n in target.shape], indexing="ij"), axis=-1)
    np.testing.assert_allclose(move(image, source, target), target.to_world(here) @ slope + 5, atol=1e-9)


def test_nearest_interpolation_invents_no_label() -> None:
    source, target = (
        Grid((9, 9, 9), np.eye(4)),
        Grid((8, 8, 8), affine_of("RAS", (1.13, 1.07, 1.1), (0.23, 0.11, 0.07))),
    )
    labels = np.random.default_rng(0).choice([0, 1, 2, 4], source.shape).astype(np.uint8)
    moved = move(labels, source, target, order=0)
    assert moved.dtype == np.uint8
    np.testing.assert_array_equal(moved, by_voxel(labels, source, target))


def test_outside_is_zero() -> None:
    source = Grid((4, 4, 4), np.eye(4))
    ones = np.ones(source.shape, np.float32)
    for origin in ((100, 0, 0), (-100.5, 0, 0)):
        far = Grid((3, 3, 3), affine_of("RAS", origin_mm=origin))
        assert not move(ones, source, far).any()
    partly = move(ones, source, Grid((6, 4, 4), affine_of("RAS", origin_mm=(-2, 0, 0))))
    np.testing.assert_array_equal(partly[:, 0, 0], [0, 0, 1, 1, 1, 1])


def test_grids_a_hair_apart_are_copied_not_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args: object, **_options: object) -> None:
        raise AssertionError("interpolated")

    source = Grid((6, 6, 6), np.eye(4))
    array = np.random.default_rng(0).random(source.shape)
    near = Grid((6, 6, 6), affine_of("RAS", origin_mm=(5e-4, 0, 0)))
    further = Grid((6, 6, 6), affine_of("RAS", origin_mm=(0.01, 0, 0)))
    assert not np.array_equal(move(array, source, further), array)
    monkeypatch.setattr(restore.ndimage, "affine_transform", never)
    np.testing.assert_array_equal(move(array, source, near), array)


def test_a_voxel_at_the_face_survives_a_finer_grid() -> None:
    """Voxel centres of a finer grid lie up to half a voxel outside the outermost centres of a coarse one."""
    coarse = Grid((4, 4, 4), affine_of("RAS", (3, 3, 3), (1, 1, 1)))
    fine = Grid((12, 12, 12), np.eye(4))  # covers the same 12 mm
    moved = move(np.ones(coarse.shape, np.uint8), coarse, fine, order=0)
    assert moved.all()
    assert move(np.ones(coarse.shape, np.float32), coarse, fine, order=1).all()
    assert ndimage.label(moved)[1] == 1


def sphere(radius_mm: float, centre_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    """Share of each voxel of 1 mm within a sphere, to a good approximation."""
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    distance = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(axes, centre_mm, strict=True)))
    return np.clip(0.5 + radius_mm - distance, 0, 1).astype(np.float32)


@pytest.mark.parametrize("tilt", [(0.0, 0.0, 0.0), (0.0, 12.0, 0.0)])
@pytest.mark.parametrize("axis", [0, 2])
def test_a_sphere_keeps_its_volume_wherever_thick_slices_lie(axis: int, tilt: tuple[float, float, float]) -> None:
    source = Grid((44, 44, 44), np.eye(4))
    share = sphere(6.0, (21.6, 22.3, 22.2), source.shape)
    true_ml = 4 / 3 * np.pi * 6**3 / 1000
    spacing = tuple(6.0 if i == axis else 0.9 for i in range(3))
    shape = tuple(8 if i == axis else 44 for i in range(3))
    found = []
    for offset in np.arange(12) * 0.5:
        origin = tuple(offset - 3 if i == axis else 0.4 for i in range(3))
        target = Grid(shape, affine_of("RAS", spacing, origin, tilt))  # type: ignore[arg-type]
        moved = move(share, source, target)
        mask = moved >= 0.45
        found.append((partial_volume_ml(moved, mask, target), mask.sum() * target.voxel_ml))
    partial, labelled = np.array(found).T
    np.testing.assert_allclose(partial, true_ml, rtol=0.05)
    assert partial.mean() == pytest.approx(true_ml, rel=0.02)
    assert labelled.mean() == pytest.approx(true_ml, rel=0.06)
    np.testing.assert_allclose(labelled, true_ml, rtol=0.25)  # whole slices of 6 mm belong or do not


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.integers(1, 5)] * 3), st.integers(0, 2**32 - 1))
def test_a_coarser_voxel_holds_the_mean_of_the_finer_ones(parts: tuple[int, int, int], seed: int) -> None:
    x, y, z = parts
    array = np.random.default_rng(seed).random((2, 2 * x, 2 * y, 2 * z))
    source = Grid((2 * x, 2 * y, 2 * z), np.eye(4))
    target = Grid((2, 2, 2), affine_of("RAS", parts, ((x - 1) / 2, (y - 1) / 2, (z - 1) / 2)))
    blocks = array.reshape(2, 2, x, 2, y, 2, z).mean(axis=(2, 4, 6))
    np.testing.assert_allclose(move(array, source, target), blocks, atol=1e-9)


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.6, 0.5), (0.7, 0.7, 4.0), (2.3, 1.0, 1.0)])
@pytest.mark.parametrize("tilt", [(0.0, 0.0, 0.0), (14.0, -9.0, 21.0)])
def test_only_what_can_be_reached_is_computed_and_nothing_else_changes(
    spacing_mm: tuple[float, float, float], tilt: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(3)
    array = np.zeros((3, 30, 28, 26), np.float32)
    array[:2, 9:17, 4:15, 20:] = rng.random((2, 8, 11, 6))  # up to a face; the third channel stays empty
    source = Grid((30, 28, 26), affine_of("LPS", (1.0, 1.0, 1.0), (3.0, -4.0, 5.0), (0.0, 0.0, 0.0)))
    affine = affine_of("RAS", spacing_mm, (0.0, 0.0, 0.0), tilt)
    affine[:3, 3] = source.to_world((13.0, 10.0, 23.0)) - affine[:3, :3] @ (20.0, 19.0, 6.0)
    target = Grid((40, 38, 12), affine)
    moved = move(array, source, target)
    everything = array + np.float32(1e-30)  # nothing is 0, so nothing can be left out
    assert np.abs(moved - move(everything, source, target)).max() < 1e-6
    assert (moved[:2].reshape(2, -1).max(axis=1) > 0.2).all() and not moved[2].any()


def test_large_grids_are_filled_channel_by_channel() -> None:
    array = np.zeros((3, 60, 60, 40), np.float32)
    array[:, 15:45, 15:45, 10:30] = 0.5
    source = Grid((60, 60, 40), np.diag([1.0, 1.0, 1.0, 1.0]))
    target = Grid((240, 240, 160), np.diag([0.25, 0.25, 0.25, 1.0]))
    tracemalloc.start()
    moved = move(array, source, target)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * moved.nbytes  # three channels at once, and their products, took twice that
    beyond = move(
        array, source, Grid((9, 9, 9), np.array([[1.0, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    )
    assert not beyond.any()
