"""The brain is what is not background in any sequence, and a skull is seen however the background looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from heads import dice, head_grid, head_image, points_of
from real_scans import read, scan_of

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.brain import (
    background_value,
    brain_mask,
    check_skull_stripped,
    foreground,
    head_mask,
    measure_background,
    solid,
)

T1, T1CE, T2, FLAIR = SEQUENCES
TRUE_BRAIN_ML = 4 / 3 * np.pi * 38 * 44 * 36 / 1000


def skull_head(grid: Grid, *, scale: float = 1.0, background: float = 0.0) -> Volume:
    """A brain in 7 mm of dark bone and 6 mm of bright scalp; ``scale`` makes the whole head smaller."""
    points = points_of(grid) / scale
    radius = np.linalg.norm(points / (68.0, 82.0, 66.0), axis=-1) * 66.0
    texture = 1 + 0.1 * np.sin(points[..., 0] / 9) * np.cos(points[..., 1] / 11)
    image = np.where(radius < 66, 400 * texture, 0.0)
    image[(radius >= 66) & (radius < 73)] = 8.0
    image[(radius >= 73) & (radius < 79)] = 700.0
    return Volume((image + background).astype(np.float32), grid)


BIG = head_grid(spacing_mm=(3.0, 3.0, 3.0), field_mm=(210.0, 240.0, 204.0))


# --- background and foreground ------------------------------------------------------------


@pytest.mark.parametrize("background", [0.0, 31.0, -1.7, -500.0, 20_000.0])
def test_any_constant_background_gives_the_same_brain(background: float) -> None:
    image = head_image(head_grid(), T1, background=background)
    assert background_value(image) == np.float32(background)
    mask = brain_mask({T1: image})
    np.testing.assert_array_equal(mask, brain_mask({T1: head_image(head_grid(), T1)}))
    assert mask.sum() * image.grid.voxel_ml == pytest.approx(TRUE_BRAIN_ML, rel=0.01)


def test_negative_tissue_is_foreground() -> None:
    image = head_image(head_grid(), T1)
    scored = image.with_data(np.where(image.data > 0, (image.data - 420) / 60, 0).astype(np.float32))
    inside = brain_mask({T1: image})
    assert (scored.data[inside] < 0).any()
    # A score of exactly 0 on the surface cannot be told from background; inside, the filling closes it.
    assert dice(brain_mask({T1: scored}), inside) > 0.999


def test_a_background_off_by_rounding_is_background() -> None:
    image = head_image(head_grid(), T1)
    dust = np.random.default_rng(0).uniform(-0.3, 0.3, image.data.shape).astype(np.float32)
    dust[[0, 0, -1, -1], [0, -1, 0, -1], :] = 0
    off = image.with_data(image.data + np.where(image.data == 0, dust, 0))
    np.testing.assert_array_equal(foreground(off), foreground(image))


def test_one_hot_voxel_does_not_hide_the_brain() -> None:
    image = head_image(head_grid(), T1)
    data = np.array(image.data)
    data[26, 28, 25] = 1e7
    np.testing.assert_array_equal(brain_mask({T1: image.with_data(data)}), brain_mask({T1: image}))


def test_holes_are_filled_and_islands_left_out() -> None:
    image = head_image(head_grid(), T1)
    data = np.array(image.data)
    data[24:28, 26:30, 22:26] = 0
    data[1:3, 1:3, 1:3] = 200
    np.testing.assert_array_equal(brain_mask({T1: image.with_data(data)}), brain_mask({T1: image}))


def test_sequences_that_cover_parts_make_a_whole_together() -> None:
    image = head_image(head_grid(), T1)
    upper, lower = np.array(image.data), np.array(image.data)
    upper[:, :, :22] = 0
    lower[:, :, 25:] = 0
    mask = brain_mask({T1: image.with_data(upper), FLAIR: image.with_data(lower)})
    np.testing.assert_array_equal(mask, brain_mask({T1: image}))


def test_no_brain_is_an_error_that_names_the_sequences() -> None:
    empty = head_image(head_grid(), T1).with_data(np.full(head_grid().shape, 7.0, np.float32))
    with pytest.raises(InputError, match="T1, FLAIR hold a single value"):
        brain_mask({T1: empty, FLAIR: empty})
    with pytest.raises(ValueError, match="no image"):
        brain_mask({})


def test_sequences_on_different_grids_are_refused() -> None:
    small = head_grid(field_mm=(90.0, 100.0, 90.0))
    with pytest.raises(InputError, match=r"FLAIR has \(45, 50, 45\) voxels"):
        brain_mask({T1: head_image(head_grid(), T1), FLAIR: head_image(small, FLAIR)})


def test_solid_keeps_the_largest_piece_and_only_closes_what_is_closed() -> None:
    mask = np.zeros((12, 12, 12), bool)
    mask[2:9, 2:9, 2:9] = True
    whole = mask.copy()
    mask[4:6, 4:6, 4:6] = False  # enclosed
    mask[10, 10, 10] = True  # an island
    np.testing.assert_array_equal(solid(mask), whole)
    mask[4, 4, 2:6] = False  # now open to the outside
    assert not solid(mask)[4, 4, 4]
    assert not solid(np.zeros((4, 4, 4), bool)).any()
    assert solid(np.ones((4, 4, 4), bool)).all()


def test_a_head_is_outlined_in_noise_as_on_a_clean_background() -> None:
    clean = skull_head(BIG)
    rng = np.random.default_rng(4)
    noisy = np.hypot(clean.data + rng.normal(0, 8, clean.data.shape), rng.normal(0, 8, clean.data.shape))
    rounded = clean.with_data(np.maximum(noisy - 10, 0).round().astype(np.float32))  # half of the air reads 0
    for volume in (clean.with_data(noisy.astype(np.float32)), rounded):
        assert dice(head_mask(volume), head_mask(clean)) > 0.94


# --- is it stripped? ------------------------------------------------------------


@pytest.mark.parametrize("background", [0.0, -1.0, 31.0])
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_brain_on_any_constant_background_is_stripped(sequence: MRSequence, background: float) -> None:
    check = check_skull_stripped(head_image(head_grid(), sequence, background=background), sequence)
    assert check.is_stripped
    assert sequence.title in check.evidence and f"value {background:g}" in check.evidence


def test_a_tightly_cropped_brain_and_a_slab_of_it_are_stripped() -> None:
    image = head_image(head_grid(), T1)
    box = np.argwhere(image.data != 0)
    low, high = box.min(axis=0), box.max(axis=0) + 1
    tight = image.crop(tuple(low.tolist()), tuple(high.tolist()))
    assert check_skull_stripped(tight, T1).is_stripped
    slab = tight.crop((0, 0, 10), (*tight.grid.shape[:2], 24))
    assert check_skull_stripped(slab, T1).is_stripped


def test_a_skull_is_seen_by_its_size_and_by_its_bone() -> None:
    check = check_skull_stripped(skull_head(BIG), T1)
    assert not check.is_stripped
    assert "2200 ml" in check.evidence


@pytest.mark.parametrize("background", [0.0, 50.0])
def test_a_small_head_on_a_clean_background_is_seen_by_its_bone_alone(background: float) -> None:
    check = check_skull_stripped(skull_head(BIG, scale=0.8, background=background), T2)
    size_ml = float(check.evidence.split("measures ")[1].split(" ml")[0])
    assert size_ml < 2000, "the size would pass for a brain"
    assert not check.is_stripped


def in_noise(volume: Volume, share: float, seed: int = 5) -> Volume:
    """The magnitude of a complex signal with noise in both channels, a share of the brightest tissue."""
    rng = np.random.default_rng(seed)
    sigma = share * float(np.percentile(volume.data, 98))
    real, imaginary = (rng.normal(0, sigma, volume.data.shape) for _ in range(2))
    return volume.with_data(np.hypot(volume.data + real, imaginary).astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.001, 0.05])
def test_noise_around_a_brain_is_background_and_around_a_head_hides_no_skull(share: float) -> None:
    clean = {s: head_image(head_grid(), s) for s in SEQUENCES}
    noisy = {s: in_noise(volume, share, seed) for seed, (s, volume) in enumerate(clean.items())}
    assert measure_background(noisy[T1]).spread > 0
    assert dice(brain_mask(noisy), brain_mask(clean)) > 0.97
    for sequence, volume in noisy.items():
        check = check_skull_stripped(volume, sequence)
        assert check.is_stripped and "with noise" in check.evidence
    for scale in (1.0, 0.8):
        assert not check_skull_stripped(in_noise(skull_head(BIG, scale=scale), share), T1).is_stripped


def test_a_standardised_brain_on_its_own_mean_is_stripped() -> None:
    """What other programs' preprocessing writes: scores with 0 outside, on both sides of it inside."""
    for sequence in SEQUENCES:
        image = head_image(head_grid(), sequence)
        inside = image.data > 0
        scores = (image.data - image.data[inside].mean()) / image.data[inside].std()
        assert check_skull_stripped(image.with_data(np.where(inside, scores, 0)), sequence).is_stripped
        on_mean = image.with_data(np.where(inside, image.data, image.data[inside].mean()))
        assert check_skull_stripped(on_mean, sequence).is_stripped


def test_an_empty_image_is_not_stripped() -> None:
    volume = Volume(np.full((20, 20, 20), 3.0, np.float32), Grid((20, 20, 20), np.eye(4)))
    check = check_skull_stripped(volume, T1)
    assert not check.is_stripped and "holds the value 3" in check.evidence


# --- real scans ------------------------------------------------------------


@pytest.mark.slow
def test_real_stripped_studies_are_found_stripped(real_data: Path) -> None:
    """One sequence of every other study in turn; FLAIR, with its dark fluid, is the hardest and comes twice."""
    turns = (FLAIR, T1, FLAIR, T2)
    for sequence, folder in zip(turns, sorted((real_data / "studies").iterdir())[::2], strict=True):
        check = check_skull_stripped(scan_of(folder, sequence), sequence)
        assert check.is_stripped, f"{folder.name}: {check.evidence}"


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_real_brain_on_a_grey_background_is_stripped_and_whole(real_data: Path, sequence: MRSequence) -> None:
    volume = read(real_data / "negatives" / "MS-patient26" / f"MS-patient26_{sequence.value}.nii.gz")
    assert background_value(volume) > 10
    assert check_skull_stripped(volume, sequence).is_stripped
    assert float(brain_mask({sequence: volume}).sum()) * volume.grid.voxel_ml == pytest.approx(1125, rel=0.02)


@pytest.mark.slow
def test_real_scans_with_skull_are_found_with_skull(real_data: Path) -> None:
    native = real_data / "native" / "TCGA-FG-6692"
    paths = [native / f"TCGA-FG-6692_{sequence.value}.nii.gz" for sequence in SEQUENCES]
    visits = real_data / "longitudinal" / "MS-patient01"
    paths += [visits / f"study{i}" / f"MS-patient01_study{i}_{name}.nii.gz" for i in (1, 2) for name in ("t1", "flair")]
    for path in paths:
        check = check_skull_stripped(read(path), T1)
        assert not check.is_stripped, f"{path.name}: {check.evidence}"
