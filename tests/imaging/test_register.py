"""Registration finds motions that are known, says so where there is nothing to find, and interpolates once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from heads import dice, head_grid, head_image, points_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_scans import read, scan_of
from scipy import ndimage
from scipy.spatial.transform import Rotation
from strategies import ORIENTATIONS, affine_of, grids

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.scans import RigidMotion, Study
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.brain import head_mask
from brats_seg.imaging.itk import from_itk, to_itk
from brats_seg.imaging.pooling import block_means
from brats_seg.imaging.register import RegistrationConfig, check_registration, register_rigid, resample
from brats_seg.phantom.fields import resample_box
from brats_seg.phantom.grids import grid_around
from brats_seg.phantom.skull import add_skull, draw_skull

pytestmark = pytest.mark.slow  # registrations take a second each

T1, T1CE, T2, FLAIR = SEQUENCES
THICK = (2.0, 2.0, 5.0)
QUICK = RegistrationConfig(samples=(5_000, 8_000, 20_000), iterations=(50, 30, 20))
"""Enough for small heads; those of real ones are registered as users' are."""


def motion(rotation_deg: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """4x4 RAS+ mm: turned about the world's origin, then shifted."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


def about(matrix: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same motion about another centre."""
    there, back = np.eye(4), np.eye(4)
    there[:3, 3], back[:3, 3] = centre, -centre
    return there @ matrix @ back


def moved(volume: Volume, matrix: NDArray[np.float64], grid: Grid | None = None) -> Volume:
    """The head as it looks after the motion ``matrix``, on ``grid``."""
    return resample(volume, grid or volume.grid, matrix=np.linalg.inv(matrix))


def with_noise(volume: Volume, share: float, seed: int = 0) -> Volume:
    """Rician noise, as a share of the brightest tissue."""
    rng = np.random.default_rng(seed)
    sigma = share * float(np.percentile(volume.data, 99))
    noisy = np.hypot(volume.data + rng.normal(0, sigma, volume.data.shape), rng.normal(0, sigma, volume.data.shape))
    return volume.with_data(noisy.astype(np.float32))


def error_mm(found: NDArray[np.float64], true: NDArray[np.float64], head: Volume) -> float:
    """Mean distance inside the head between where two motions take a point."""
    points = head.grid.to_world(np.argwhere(head_mask(head))[::53])
    difference = (found - true)[:3]
    return float(np.linalg.norm(points @ difference[:, :3].T + difference[:, 3], axis=1).mean())


def thick_grid(grid: Grid, spacing_mm: tuple[float, float, float]) -> Grid:
    """The same field of view in other voxels."""
    old = np.array(grid.spacing_mm)
    factors = np.array(spacing_mm) / old
    shape = tuple(int(n // f) for n, f in zip(grid.shape, factors, strict=True))
    affine = grid.affine @ np.diag([*factors, 1.0])
    affine[:3, 3] = grid.to_world((factors - 1) / 2)
    return Grid((shape[0], shape[1], shape[2]), affine)


# --- to SimpleITK and back ------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(grid=grids(max_side=7), seed=st.integers(0, 99))
def test_a_volume_survives_the_way_to_simpleitk_and_back(grid: Grid, seed: int) -> None:
    data = np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32)
    image = to_itk(Volume(data, grid))
    back = from_itk(image)
    np.testing.assert_array_equal(back.data, data)
    np.testing.assert_allclose(back.affine, grid.affine, atol=1e-9)
    last = [n - 1 for n in grid.shape]
    point = np.array(image.TransformIndexToPhysicalPoint(last)) * (-1, -1, 1)
    np.testing.assert_allclose(point, grid.to_world(last), atol=1e-6)
    assert image.GetPixel(*last) == data[tuple(last)]


@settings(max_examples=15, deadline=None)
@given(grid=grids(max_side=6))
def test_a_simpleitk_image_survives_the_way_back(grid: Grid) -> None:
    image = to_itk(Volume(np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape), grid))
    again = to_itk(from_itk(image))
    assert again.GetSize() == image.GetSize() and again.GetPixelID() == image.GetPixelID()
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(again, name)(), getattr(image, name)(), atol=1e-9)


# --- resampling ------------------------------------------------------------


def test_the_matrix_leads_from_the_target_to_the_source() -> None:
    grid = Grid((12, 12, 12), np.diag([2.0, 2.0, 2.0, 1.0]))
    data = np.zeros(grid.shape, np.float32)
    data[5, 6, 7] = 1
    result = resample(Volume(data, grid), grid, matrix=motion((0, 0, 0), (4.0, 0, -2.0))).data
    assert np.argwhere(result > 0.5).tolist() == [[3, 6, 8]]


@settings(max_examples=25, deadline=None)
@given(source=grids(min_side=8, max_side=12), target=grids(max_side=8), tilt=st.floats(-30, 30))
def test_linear_interpolation_reproduces_a_ramp(source: Grid, target: Grid, tilt: float) -> None:
    ramp = np.array([0.7, -0.4, 0.2])
    volume = Volume((points_of(source) @ ramp).astype(np.float32), source)
    matrix = motion((tilt, 0, 5), (3, -2, 1))
    result = resample(volume, target, matrix=matrix, fill=np.nan).data
    points = points_of(target) @ matrix[:3, :3].T + matrix[:3, 3]
    voxels = source.to_voxel(points)
    inside = ((voxels >= 0) & (voxels <= np.array(source.shape) - 1)).all(axis=-1)
    np.testing.assert_allclose(result[inside], (points @ ramp)[inside], atol=1e-2)
    beyond = ((voxels < -0.51) | (voxels > np.array(source.shape) - 0.49)).any(axis=-1)
    assert np.isnan(result[beyond]).all()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_labels_return_unchanged_from_ras_in_every_orientation(orientation: str) -> None:
    rng = np.random.default_rng(3)
    native = Grid((13, 17, 11), affine_of(orientation, origin_mm=(31.5, -20.25, 7.0)))
    smooth = ndimage.gaussian_filter(rng.normal(size=native.shape), 1.5)
    labels = Volume(np.digitize(smooth, np.percentile(smooth, (50, 70, 90))).astype(np.uint8), native)
    there = resample(labels, labels.to_ras().grid, order="nearest")
    assert there.grid.orientation == "RAS"
    back = resample(there, native, order="nearest")
    assert back.data.dtype == np.uint8
    np.testing.assert_array_equal(back.data, labels.data)


@pytest.mark.parametrize("tilt", [(0.0, 0.0, 0.0), (17.0, 0.0, -9.0), (-6.0, 12.0, 20.0)])
def test_a_smooth_region_returns_from_a_grid_half_a_voxel_off(tilt: tuple[float, float, float]) -> None:
    """Linear there and back, cut at one half: a 32 mm ball keeps a Dice of 0.98, worst case of offset included."""
    native = Grid((40, 40, 40), affine_of("LPI", tilt_deg=tilt))
    centre = native.to_world((19.5, 19.5, 19.5))
    ball = Volume((np.linalg.norm(points_of(native) - centre, axis=-1) < 16).astype(np.float32), native)
    between = Grid((56, 56, 56), affine_of("RAS", origin_mm=tuple(centre - 28)))
    back = resample(resample(ball, between), native)
    assert dice(back.data > 0.5, ball.data > 0.5) >= 0.98


def test_interpolation_says_what_lies_outside() -> None:
    grid = Grid((6, 6, 6), np.eye(4))
    far = Grid((4, 4, 4), affine_of("RAS", origin_mm=(50.0, 0, 0)))
    image = Volume(np.full(grid.shape, 31.0, np.float32), grid)
    assert (resample(image, far).data == 31).all(), "the background of this scan is 31"
    assert (resample(image, far, fill=-1).data == -1).all()
    labels = image.with_data(np.full(grid.shape, 4, np.uint8))
    assert (resample(labels, far, order="nearest").data == 0).all()


def test_nearest_keeps_the_type_and_the_others_give_float32() -> None:
    grid = Grid((6, 6, 6), np.eye(4))
    for dtype in (bool, np.uint8, np.int16, np.int32, np.float64):
        volume = Volume(np.ones(grid.shape, dtype), grid)
        assert resample(volume, grid, order="nearest").data.dtype == dtype
    for order in ("linear", "bspline"):
        assert resample(volume, grid, order=order).data.dtype == np.float32  # type: ignore[arg-type]


# --- known motions ------------------------------------------------------------

MOTIONS = [((15.0, 0.0, 0.0), (0.0, 0.0, 20.0)), ((-8.0, 9.0, 8.0), (-12.0, 11.0, 11.0))]


@pytest.mark.parametrize(
    ("rotation", "shift", "spacing"), [(*MOTIONS[0], (2.0, 2.0, 2.0)), (*MOTIONS[1], THICK)], ids=["cubes", "slices"]
)
def test_a_known_motion_of_a_made_head_is_found(
    rotation: tuple[float, float, float], shift: tuple[float, float, float], spacing: tuple[float, float, float]
) -> None:
    field = (150.0, 150.0, 150.0)
    fixed = head_image(head_grid("LPS", field_mm=field), T1CE)
    true = motion(rotation, shift)
    moving = with_noise(
        moved(head_image(head_grid(field_mm=field), FLAIR), true, head_grid(spacing_mm=spacing, field_mm=field)), 0.02
    )
    found = register_rigid(moving, fixed, config=QUICK)
    assert error_mm(found.matrix, true, fixed) <= 1.0
    assert found.rotation_deg == pytest.approx(
        np.degrees(Rotation.from_euler("xyz", rotation, degrees=True).magnitude()), abs=1.5
    )
    assert found.translation_mm == pytest.approx(np.linalg.norm(shift), abs=1.5)
    check_registration(found, FLAIR, T1CE, moving.grid, fixed.grid)


def folds(grid: Grid) -> dict[MRSequence, Volume]:
    """A brain of fine and wide folds in two sequences."""
    rng = np.random.default_rng(3)
    brain = head_image(grid, T1CE).data > 0
    parts = [ndimage.gaussian_filter(rng.standard_normal(grid.shape), width / 1.5) * width**1.5 for width in (2.0, 6.0)]
    anatomy = sum(parts) / np.std(sum(parts))
    values = {T1CE: 300 + 80 * anatomy, T2: 300 - 60 * anatomy + 25 * anatomy**2}
    return {s: Volume(np.where(brain, data.clip(1), 0).astype(np.float32), grid) for s, data in values.items()}


def test_thick_slices_are_laid_alike_whichever_scan_is_moved() -> None:
    """Values between thick slices, were they interpolated, would pull the answer across the slices (0.06 mm here)."""
    grid = head_grid(spacing_mm=(1.5, 1.5, 1.5))
    folded = folds(grid)
    fixed, image = (with_noise(folded[sequence], 0.02, seed) for seed, sequence in enumerate((T1CE, T2)))
    step = np.diag([1.0, 1.0, 4.0, 1.0])
    step[2, 3] = 1.5
    thick = Volume.from_affine(block_means(image.data, (1, 1, 4)), image.affine @ step)
    config = RegistrationConfig(samples=(5_000, 8_000, 100_000), iterations=(50, 30, 25))
    there, back = (register_rigid(*pair, config=config).matrix for pair in ((thick, fixed), (fixed, thick)))
    assert error_mm(there, np.eye(4), fixed) < 0.05
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-6)


def test_two_scans_of_thick_slices_with_skull_meet_at_the_brain() -> None:
    """The search was led away from where it should end (24 mm here) by gradients smoothed over the slices' 6 mm."""
    grid, rng = head_grid(spacing_mm=(1.5, 1.5, 1.5), field_mm=(150.0, 160.0, 150.0)), np.random.default_rng(1)
    bare = folds(grid)
    brain = (bare[T1CE].data > 0).astype(np.float32)
    head = add_skull(Study("head", bare), draw_skull(rng), rng).images
    true, spacing, reach = motion((2, -3, 2), (-2, 3, -2)), (1.5, 1.5, 6.0), (60, 65, 60)
    one = grid_around((0, 0, 0), reach, spacing_mm=spacing)
    other = grid_around((1, 1, 1), reach, spacing_mm=spacing, turn_deg=(3, 4, -2))
    fixed = Volume(resample_box(head[T1CE].data, grid, one), one)
    moving = Volume(resample_box(head[T2].data, grid, other, matrix=np.linalg.inv(true)), other)
    near = resample_box(brain, grid, one) > 0.5
    found = register_rigid(moving, fixed, fixed_mask=ndimage.binary_dilation(near), config=QUICK)
    assert error_mm(found.matrix, true, fixed.with_data(near.astype(np.float32))) < 0.2


def test_the_same_images_give_the_same_numbers() -> None:
    fixed = head_image(head_grid(), T1CE)
    moving = with_noise(moved(head_image(head_grid(), T2), motion((5, 0, 0), (4, 0, 2))), 0.02)
    short = RegistrationConfig(levels_mm=(8.0, 4.0), samples=(2000, 4000), iterations=(20, 20))
    first, second = (register_rigid(moving, fixed, config=short) for _ in range(2))
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert first.mutual_information == second.mutual_information and first.overlap == second.overlap


def test_a_slab_is_laid_where_it_belongs() -> None:
    fixed = head_image(head_grid(), T1CE)
    true = motion((4, -3, 6), (5, -4, 3))
    whole = moved(head_image(head_grid(), FLAIR), true)
    slab = whole.crop((0, 0, 18), (*whole.grid.shape[:2], 36))
    found = register_rigid(slab, fixed, config=QUICK)
    assert error_mm(found.matrix, true, fixed) <= 2.0
    assert found.overlap > 0.9


def test_a_mask_leaves_out_what_changed() -> None:
    """Between two visits half of the head moved on its own; only the other half is compared."""
    fixed = head_image(head_grid(), T1)
    true = motion((0, 0, 5), (3, 2, 0))
    still, other = moved(fixed, true), moved(fixed, motion((0, 0, -6), (-9, 9, 8)))
    right = points_of(fixed.grid)[..., 0] > -2
    moving = still.with_data(np.where(right, still.data, other.data))
    masked = register_rigid(moving, fixed, fixed_mask=right, moving_mask=right, config=QUICK)
    plain = register_rigid(moving, fixed, config=QUICK)
    assert error_mm(masked.matrix, true, fixed) < 0.6 < error_mm(plain.matrix, true, fixed)


# --- failures ------------------------------------------------------------


def test_noise_is_refused_with_names_and_advice() -> None:
    fixed = head_image(head_grid(), T1CE)
    noise = fixed.with_data(np.random.default_rng(1).gamma(2, 50, fixed.data.shape).astype(np.float32))
    found = register_rigid(noise, fixed, config=QUICK)
    with pytest.raises(InputError, match=r"FLAIR and T1CE .*52x56x50.*--flair FILE") as caught:
        check_registration(found, FLAIR, T1CE, noise.grid, fixed.grid)
    assert caught.value.exit_code == 3


def test_a_head_whose_inside_is_scrambled_is_refused() -> None:
    fixed = head_image(head_grid(), T1CE)
    data = np.array(fixed.data)
    inside = data > 0
    data[inside] = np.random.default_rng(2).permutation(data[inside])
    found = register_rigid(fixed.with_data(data), fixed, config=QUICK)
    assert found.overlap > 0.9, "the outlines agree, so only the inside can tell"
    with pytest.raises(InputError, match="nothing in common"):
        check_registration(found, FLAIR, T1CE, fixed.grid, fixed.grid)


def test_a_constant_image_is_refused() -> None:
    fixed = head_image(head_grid(), T1CE)
    with pytest.raises(InputError, match="single value"):
        register_rigid(fixed.with_data(np.ones_like(fixed.data)), fixed)


def test_the_refusal_names_the_overlap() -> None:
    grids_ = Grid((512, 512, 24), np.eye(4)), Grid((240, 240, 155), np.eye(4))
    record = RigidMotion(np.eye(4), 0.5, 0.12, 90.0, 3.0)
    with pytest.raises(
        InputError, match=r"visit 2 and visit 1 overlap only 12% .*512x512x24 and 240x240x155"
    ) as caught:
        check_registration(record, "visit 2", "visit 1", *grids_)
    assert "--" not in str(caught.value), "only a sequence has an option of its own"


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels_mm": (2.0, 4.0, 6.0)},
        {"levels_mm": (4.0, 2.0)},
        {"samples": (10, 10, 10)},
        {"bins": 2},
        {"min_step_mm": 0.0},
        {"levels_mm": (), "samples": (), "iterations": ()},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError):
        RegistrationConfig(**wrong)  # type: ignore[arg-type]


# --- real scans ------------------------------------------------------------


def test_a_known_motion_of_a_real_flair_is_found_from_thick_slices(real_study: Path) -> None:
    fixed, flair = (scan_of(real_study, sequence, step=2) for sequence in (T1CE, FLAIR))
    centre = fixed.grid.to_world(np.array(ndimage.center_of_mass(head_mask(fixed))))
    true = about(motion(*MOTIONS[1]), centre)
    thick = flair.with_data(ndimage.uniform_filter1d(flair.data, 3, axis=2))
    moving = with_noise(moved(thick, true, thick_grid(flair.grid, (2.0, 2.0, 6.0))), 0.03)
    found = register_rigid(moving, fixed)
    assert error_mm(found.matrix, true, fixed) <= 1.0
    check_registration(found, FLAIR, T1CE, moving.grid, fixed.grid)


def test_scans_with_skull_and_thick_slices_meet(real_data: Path) -> None:
    """Brain masks made for each sequence alone meet: Dice 0.82 before, 0.98 or more after."""
    prefix = real_data / "native" / "TCGA-FG-6692" / "TCGA-FG-6692_"
    fixed, moving = (read(Path(f"{prefix}{name}.nii.gz")) for name in ("t1ce", "flair"))
    found = register_rigid(moving, fixed)
    check_registration(found, FLAIR, T1CE, moving.grid, fixed.grid)
    masks = [read(Path(f"{prefix}{name}_brainmask.nii.gz")) for name in ("t1ce", "flair")]
    brain = resample(masks[1], fixed.grid, matrix=found.matrix, order="nearest")
    assert dice(brain.data > 0, masks[0].data > 0) > 0.96
    assert found.overlap > 0.93
