"""The paired measurement of change: known changes, symmetry, transitivity, and what it refuses to be trusted with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.imaging.refine import rigid_power
from brats_seg.phantom.fields import smooth_noise
from brats_seg.phantom.objects import sphere
from brats_seg.track.align import rigid_mean
from brats_seg.track.boundary_shift.change import measure_change
from brats_seg.track.boundary_shift.frame import LesionScan, signed_depth
from brats_seg.track.growth import sphere_diameter_mm
from experiments.change.study import edge_volume_ml

SIDE = 46
CONTRAST, NOISE = 40.0, 4.0


def motion(turn_deg=(0.0, 0.0, 0.0), shift_mm=(0.0, 0.0, 0.0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(turn_deg)).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


@dataclass(frozen=True)
class Look:
    """What one visit is like; texture belongs to the patient and stays."""

    diameter_mm: float = 20.0
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)
    contrast: float = CONTRAST
    noise: float = NOISE
    gain: float = 1.0
    slice_mm: float = 1.0
    mask_mm: float = 0.0
    centre_mm: tuple[float, float, float] = (0.3, -0.4, 0.2)


FINE = Grid((2 * SIDE, 2 * SIDE, 2 * SIDE), np.diag([0.5, 0.5, 0.5, 1.0]) @ motion(shift_mm=[-SIDE + 0.5] * 3))


@cache
def textures() -> tuple[np.ndarray, np.ndarray]:
    """Tissue, and the pattern within a lesion; those of one patient."""
    patient = np.random.default_rng(0)
    tissue = 100 + 6 * smooth_noise(FINE.shape, 5.0, patient) + 10 * smooth_noise(FINE.shape, 16.0, patient)
    return tissue, 8 * smooth_noise(FINE.shape, 3.0, patient)


@cache
def ball(centre_mm: tuple[float, float, float], diameter_mm: float) -> np.ndarray:
    """Its share of each fine voxel."""
    return sphere(centre_mm, diameter_mm).sample_fractions(FINE, supersampling=3)


def visit(look: Look, seed: int) -> LesionScan:
    """A ball in textured tissue, seen by a scanner in whose frame the patient lies shifted by ``place``."""
    tissue, pattern = textures()
    signal = tissue + ball(look.centre_mm, look.diameter_mm) * (look.contrast + pattern)
    shape = (SIDE, SIDE, round(SIDE / look.slice_mm))
    spacing = (1.0, 1.0, look.slice_mm)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
    grid = Grid(shape, affine)
    seen = Grid(shape, motion(shift_mm=-np.array(look.place)) @ affine)  # the scanner's voxels in the patient
    signal = ndimage.uniform_filter(signal, [2 * s for s in (1, 1, round(look.slice_mm))])
    voxels = np.moveaxis(FINE.to_voxel(seen.to_world(np.moveaxis(np.indices(shape), 0, -1))), -1, 0)
    image = ndimage.map_coordinates(signal, voxels, order=1, mode="nearest")
    image += look.noise * np.random.default_rng(seed).standard_normal(shape)
    mask = sphere(look.centre_mm, max(look.diameter_mm + look.mask_mm, 1.0)).sample_mask(seen)
    return LesionScan(Volume((look.gain * image).astype(np.float32), grid), mask, np.ones(shape, np.bool_))


SMALL = Look(20.0, place=(0.3, -0.2, 0.45))
LARGE = Look(21.0, place=(-0.4, 0.1, -0.3), gain=3.7, mask_mm=0.6)
BETWEEN = motion(shift_mm=np.subtract(LARGE.place, SMALL.place))


@pytest.fixture(scope="module")
def pair() -> tuple[LesionScan, LesionScan]:
    return visit(SMALL, 1), visit(LARGE, 2)


@pytest.fixture(scope="module")
def change(pair):
    return measure_change(*pair, matrix=BETWEEN)


def true_ml(first: Look, second: Look) -> float:
    return np.pi / 6000 * (second.diameter_mm**3 - first.diameter_mm**3)


def test_a_millimetre_is_measured_to_a_tenth_although_the_masks_are_off(change):
    assert change.trusted, change.reasons
    assert abs(change.masks_mm - 1.0) > 0.3  # the masks were made so
    assert change.diameter_change_mm.value == pytest.approx(1.0, abs=0.1)
    assert change.change_ml.low <= true_ml(SMALL, LARGE) <= change.change_ml.high
    assert change.diameter_change_mm.low <= 1.0 <= change.diameter_change_mm.high
    assert change.second_ml - change.first_ml == pytest.approx(change.change_ml.value, rel=1e-9)
    assert sphere_diameter_mm(change.first_ml) == pytest.approx(20, abs=0.5)
    assert change.area_mm2 == pytest.approx(np.pi * 20.5**2, rel=0.1)
    assert change.contrast_to_noise == pytest.approx(CONTRAST / NOISE, rel=0.4)


def test_exchanging_the_visits_changes_the_sign_and_nothing_else(pair, change):
    back = measure_change(pair[1], pair[0], matrix=np.linalg.inv(BETWEEN))
    assert back.change_ml.value == pytest.approx(-change.change_ml.value, rel=1e-4)
    assert back.change_ml.low == pytest.approx(-change.change_ml.high, rel=1e-4)
    assert back.diameter_change_mm.value == pytest.approx(-change.diameter_change_mm.value, rel=1e-4)
    assert back.first_ml == pytest.approx(change.second_ml, rel=1e-4)
    assert back.masks_ml == -change.masks_ml


@pytest.mark.slow
def test_steps_add_up_to_the_whole(pair, change):
    last_look = Look(22.0, place=(0.1, 0.4, 0.2), gain=0.2, mask_mm=-0.5)
    last = visit(last_look, 3)
    onwards = motion(shift_mm=np.subtract(last_look.place, LARGE.place))
    step = measure_change(pair[1], last, matrix=onwards).change_ml
    whole = measure_change(pair[0], last, matrix=onwards @ BETWEEN).change_ml
    allowed = np.linalg.norm([(found.high - found.low) / 2 for found in (change.change_ml, step, whole)])
    assert change.change_ml.value + step.value == pytest.approx(whole.value, abs=allowed)
    assert whole.value == pytest.approx(true_ml(SMALL, last_look), rel=0.1)


def test_a_small_error_of_the_registration_is_found_and_removed(pair, change):
    off = motion(shift_mm=(0.3, -0.2, 0.25)) @ BETWEEN
    found = measure_change(*pair, matrix=off)
    assert found.trusted, found.reasons
    assert found.shift_mm == pytest.approx(np.linalg.norm((0.3, -0.2, 0.25)), abs=0.12)
    assert found.diameter_change_mm.value == pytest.approx(change.diameter_change_mm.value, abs=0.05)


def test_nothing_happened_is_within_the_interval(pair):
    again = visit(Look(20.0, place=LARGE.place, gain=0.01, mask_mm=0.5), 4)
    found = measure_change(pair[0], again, matrix=BETWEEN)
    assert found.change_ml.low < 0 < found.change_ml.high
    assert found.diameter_change_mm.value == pytest.approx(0, abs=0.1)


def test_three_millimetre_slices(pair):
    thick = visit(Look(20.0, slice_mm=3.0), 5), visit(Look(21.0, place=LARGE.place, slice_mm=3.0), 6)
    found = measure_change(*thick, matrix=motion(shift_mm=LARGE.place))
    assert found.trusted, found.reasons
    assert found.diameter_change_mm.value == pytest.approx(1.0, abs=0.2)


def test_more_noise_makes_a_wider_interval(pair, change):
    noisy = measure_change(visit(Look(20.0, noise=12.0), 1), visit(Look(21.0, noise=12.0), 2), matrix=np.eye(4))
    width = change.change_ml.high - change.change_ml.low
    assert noisy.change_ml.high - noisy.change_ml.low > 1.3 * width
    assert noisy.change_ml.low <= true_ml(SMALL, LARGE) <= noisy.change_ml.high


def test_one_scan_alone(pair):
    assert edge_volume_ml(pair[0]) == pytest.approx(np.pi / 6 * 8, rel=0.05)
    with pytest.raises(InputError, match="mask is empty"):
        edge_volume_ml(LesionScan(pair[0].image, np.zeros_like(pair[0].mask)))


def reasons(first: LesionScan, second: LesionScan, matrix=BETWEEN) -> str:
    found = measure_change(first, second, matrix=matrix)
    assert not found.trusted
    return "; ".join(found.reasons)


def test_new_and_vanished_lesions_are_not_compared(pair):
    first, second = pair
    empty_first, empty_second = (LesionScan(scan.image, np.zeros_like(scan.mask)) for scan in pair)
    assert "is new" in reasons(empty_first, second)
    assert "vanished" in reasons(first, empty_second)
    assert "no lesion" in reasons(empty_first, empty_second)
    found = measure_change(first, empty_second, matrix=BETWEEN)
    assert found.change_ml is None
    assert found.masks_ml == pytest.approx(-first.mask.sum() / 1000)


def test_a_poor_registration_is_said(pair):
    assert "registration is poor" in reasons(*pair, matrix=motion(shift_mm=(1.8, 1.5, -1.0)) @ BETWEEN)


def test_too_little_contrast_is_said():
    faint = visit(Look(20.0, contrast=1.0, noise=12.0), 1), visit(Look(21.0, contrast=1.0, noise=12.0), 2)
    assert "contrast" in reasons(*faint, matrix=np.eye(4))


def test_a_lesion_that_changed_its_brightness_is_said(pair):
    darker = visit(Look(20.0, place=LARGE.place, contrast=0.3 * CONTRAST), 7)
    assert "brightness changed" in reasons(pair[0], darker)


def test_a_lesion_changed_beyond_recognition_is_said(pair):
    assert "beyond recognition" in reasons(pair[0], visit(Look(10.0, place=LARGE.place), 8))


def test_masks_that_contradict_the_images_are_said(pair):
    wrong = visit(Look(20.0, place=LARGE.place, mask_mm=5.0), 9)
    assert "the masks say" in reasons(pair[0], wrong)


def test_a_lesion_without_surround_cannot_be_matched(pair):
    alone = [LesionScan(scan.image, scan.mask, scan.mask) for scan in pair]
    assert "voxels of brain around the lesion" in reasons(*alone)


def test_inputs_that_do_not_belong_together_are_refused(pair):
    first, second = pair
    with pytest.raises(InputError, match="must lie on the image's own grid"):
        LesionScan(first.image, first.mask[:-1])
    with pytest.raises(InputError, match="not finite"):
        LesionScan(first.image.with_data(np.full(first.image.grid.shape, np.nan)), first.mask)
    with pytest.raises(InputError, match="not rigid"):
        measure_change(first, second, matrix=np.diag([1.1, 1, 1, 1]))
    with pytest.raises(InputError, match="finite 4x4"):
        measure_change(first, second, matrix=np.eye(3))


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.floats(-60, 60)] * 3), st.tuples(*[st.floats(-30, 30)] * 3), st.tuples(*[st.floats(-20, 20)] * 3))
def test_half_a_motion_done_twice_is_the_motion(turn, shift, other):
    matrix = motion(turn, shift)
    assert np.allclose(rigid_power(matrix, 0.5) @ rigid_power(matrix, 0.5), matrix, atol=1e-9)
    assert np.allclose(rigid_power(np.linalg.inv(matrix), 0.5), np.linalg.inv(rigid_power(matrix, 0.5)), atol=1e-9)
    near = motion(np.array(turn) + other, shift) @ motion(shift_mm=other)
    mean, back = rigid_mean(matrix, near), rigid_mean(np.linalg.inv(near), np.linalg.inv(matrix))
    assert np.allclose(back, np.linalg.inv(mean), atol=1e-8)
    assert np.allclose(rigid_mean(matrix, matrix), matrix, atol=1e-9)


def test_the_depth_is_zero_on_the_border():
    inside = np.zeros((9, 9, 9), np.bool_)
    inside[3:6] = True
    depth = signed_depth(inside, 2.0)
    assert depth[:, 4, 4].tolist() == [-5, -3, -1, 1, 3, 1, -1, -3, -5]
