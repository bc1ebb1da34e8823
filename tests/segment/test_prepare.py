"""Preparation: the network sees the same thing however a study is stored, and every mask finds its way back."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from heads import TUMOUR_MM, dice, head_grid, head_image, head_labels, head_study, points_of
from strategies import ORIENTATIONS

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.scans import PreparedStudy, Study
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.restore import move
from brats_seg.imaging.settings import PrepareConfig
from brats_seg.segment import prepare as module
from brats_seg.segment.prepare import images_on_reference, prepare

TWO_MM = PrepareConfig(spacing_mm=2.0, divisor=8)
"""Full-size heads at a coarse spacing: the same code on an eighth of the voxels."""

HALF = 0.5
"""Half-size heads at 1 mm, for tests that lower the least size of a head."""

SMALL = PrepareConfig(divisor=8)
T1, T1CE, T2, FLAIR = SEQUENCES


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_BRAIN_ML", 1.0)


@cache
def whole() -> Study:
    return head_study(head_grid())


def half_grid(orientation: str = "RAS", spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Grid:
    return head_grid(orientation, spacing_mm=spacing_mm, field_mm=(52.0, 56.0, 50.0))


def half_study(orientation: str = "RAS", spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Study:
    return head_study(half_grid(orientation, spacing_mm), scale=HALF)


@cache
def straight_half() -> PreparedStudy:
    """The half-size study stored along RAS axes; only called where heads may be of any size."""
    return prepare(half_study(), config=SMALL)


def there_and_back(labels: Volume, prepared: PreparedStudy) -> tuple[np.ndarray, np.ndarray]:
    """The expert's numbers taken to the network's grid and back, as numbers and as region probabilities."""
    inner = move(labels.data, labels.grid, prepared.grid, order=0)
    regions = np.stack([np.isin(inner, numbers) for numbers in ((1, 2, 3), (1, 3), (3,))]).astype(np.float32)
    return move(inner, prepared.grid, labels.grid, order=0), move(regions, prepared.grid, labels.grid, order=1)


@pytest.fixture(scope="module")
def plain() -> PreparedStudy:
    return prepare(whole(), config=TWO_MM)


def assert_same_array(a: PreparedStudy, b: PreparedStudy, *, tolerance: float = 0.0) -> None:
    assert a.array.shape == b.array.shape
    np.testing.assert_allclose(a.array, b.array, atol=tolerance)
    np.testing.assert_array_equal(a.brain, b.brain)


@pytest.mark.parametrize("orientation", ORIENTATIONS[::9])
def test_every_orientation_gives_the_same_array_and_the_label_comes_back(orientation: str, any_size: None) -> None:
    straight = straight_half()
    grid = half_grid(orientation)
    prepared = prepare(half_study(orientation), config=SMALL)
    assert_same_array(prepared, straight)
    assert prepared.grid.same_as(straight.grid, tolerance_mm=1e-4)
    assert prepared.record.native.same_as(grid, tolerance_mm=1e-9)
    labels = head_labels(grid, scale=HALF)
    numbers, regions = there_and_back(labels, prepared)
    np.testing.assert_array_equal(numbers, labels.data)  # Dice 1 for every structure
    np.testing.assert_array_equal(regions[2] >= 0.5, labels.data == 3)


@pytest.mark.parametrize("orientation", ["LPS", "PIR", "SLA"])
def test_labels_come_back_from_thick_slices(orientation: str, any_size: None) -> None:
    grid = half_grid(orientation, (1.0, 1.0, 5.0))
    prepared = prepare(half_study(orientation, (1.0, 1.0, 5.0)), config=SMALL)
    assert prepared.grid.spacing_mm == pytest.approx((1, 1, 1))
    assert any("resampled" in words for words in prepared.record.decisions)
    labels = head_labels(grid, scale=HALF)
    numbers, regions = there_and_back(labels, prepared)
    for number in (1, 2, 3):
        assert dice(numbers == number, labels.data == number) >= 0.95
    assert dice(regions[0] >= 0.5, labels.data > 0) >= 0.95


def test_a_brain_cut_by_the_first_and_last_thick_slice_keeps_its_label(any_size: None) -> None:
    whole = half_grid("LPS", (1.0, 1.0, 5.0))
    image = {s: head_image(whole, s, scale=HALF) for s in SEQUENCES}
    labels = head_labels(whole, scale=HALF)
    first, last = 4, 7  # four slices through the tumour
    cut = (slice(None), slice(None), slice(first, last))
    assert all((labels.data[..., z] > 0).any() for z in (first, last - 1))
    study = Study("slab", {s: v.crop((0, 0, first), (*whole.shape[:2], last)) for s, v in image.items()})
    prepared = prepare(study, config=SMALL)
    part = Volume(labels.data[cut], study.reference_volume.grid)
    numbers, regions = there_and_back(part, prepared)
    assert dice(numbers > 0, part.data > 0) >= 0.95
    assert dice(regions[0] >= 0.5, part.data > 0) >= 0.95


def test_an_oblique_study_keeps_its_angle_and_its_label(any_size: None) -> None:
    grid = head_grid("LPS", spacing_mm=(1, 1, 1), field_mm=(52, 56, 50), tilt_deg=(8, -12, 5))
    prepared = prepare(head_study(grid, scale=HALF), config=SMALL)
    assert prepared.grid.orientation == "RAS"
    labels = head_labels(grid, scale=HALF)
    numbers, _ = there_and_back(labels, prepared)
    np.testing.assert_array_equal(numbers, labels.data)


def test_each_sequence_has_mean_0_and_deviation_1_in_the_brain_and_0_outside(plain: PreparedStudy) -> None:
    for channel in plain.array:
        inside = channel[plain.brain]
        assert inside.mean() == pytest.approx(0, abs=1e-4)
        assert inside.std() == pytest.approx(1, abs=1e-4)
        assert not channel[~plain.brain].any()
    assert plain.array.dtype == np.float32
    assert plain.present == SEQUENCES
    assert [words[:24] for words in plain.record.warnings] == ["the brain measures 246 ml"[:24]]
    assert all(side % 8 == 0 for side in plain.grid.shape)


def test_the_record_says_how_to_undo_the_intensities(plain: PreparedStudy) -> None:
    image = head_image(head_grid(), T2)
    moved = move(image.data, image.grid, plain.grid, order=1)
    kept = plain.record.intensity[T2]
    back = plain.array[SEQUENCES.index(T2)] * kept["std"] + kept["mean"]
    inside = plain.brain & (moved >= kept["low"]) & (moved <= kept["high"])
    np.testing.assert_allclose(back[inside], moved[inside], rtol=1e-4)


def test_places_are_kept(plain: PreparedStudy) -> None:
    """The lesion, brightest on T1CE, lies where it was put, in scanner millimetres."""
    points = points_of(plain.grid)
    bright = plain.array[SEQUENCES.index(T1CE)] > 1.5
    assert bright.sum() > 500
    np.testing.assert_allclose(points[bright].mean(axis=0), TUMOUR_MM, atol=1.0)


def test_the_brain_is_the_ellipsoid_it_was_made_of(plain: PreparedStudy) -> None:
    expected_ml = 4 / 3 * np.pi * 38 * 44 * 36 / 1000
    assert plain.brain.sum() * plain.grid.voxel_ml == pytest.approx(expected_ml, rel=0.01)


@pytest.mark.parametrize("present", [(T2, FLAIR), (T1CE,)])
def test_missing_sequences_are_zero_and_named(present: tuple[MRSequence, ...], plain: PreparedStudy) -> None:
    prepared = prepare(head_study(head_grid(), sequences=present), config=TWO_MM)
    for channel, sequence in enumerate(SEQUENCES):
        if sequence in present:
            np.testing.assert_array_equal(prepared.array[channel], plain.array[channel])
        else:
            assert not prepared.array[channel].any()
            assert any(sequence.title in words and "missing" in words for words in prepared.record.warnings)
    assert prepared.present == present


def test_scaling_the_intensities_changes_nothing(plain: PreparedStudy) -> None:
    study = whole()
    scaled = replace(study, images={s: v.with_data(v.data * np.float32(0.004)) for s, v in study.images.items()})
    assert_same_array(prepare(scaled, config=TWO_MM), plain, tolerance=2e-4)


@pytest.mark.parametrize(("background", "spacing_mm"), [(-3.7, (2.0, 2.0, 2.0)), (31.0, (2.0, 2.0, 5.0))])
def test_a_background_other_than_zero_changes_nothing(
    background: float, spacing_mm: tuple[float, float, float]
) -> None:
    grid = head_grid("LPS", spacing_mm=spacing_mm)
    zero = prepare(head_study(grid), config=TWO_MM)
    shifted = prepare(head_study(grid, background=background), config=TWO_MM)
    assert_same_array(shifted, zero, tolerance=2e-3)
    for sequence in SEQUENCES:
        assert shifted.record.intensity[sequence]["mean"] == pytest.approx(
            zero.record.intensity[sequence]["mean"] + background, rel=1e-3
        )
    assert any(f"{background:g} outside the head" in words for words in shifted.record.decisions)


def test_a_study_whose_z_score_made_air_negative_is_read_like_the_raw_one(plain: PreparedStudy) -> None:
    """Brain values on both sides of zero, background at the bottom: zero is then a tissue like any other."""
    study = whole()
    images = {}
    for sequence, volume in study.images.items():
        inside = volume.data[volume.data != 0]
        images[sequence] = volume.with_data(((volume.data - inside.mean()) / inside.std()).astype(np.float32))
    assert_same_array(prepare(replace(study, images=images), config=TWO_MM), plain, tolerance=1e-3)


def test_one_sequence_with_another_background_does_not_disturb_the_others(plain: PreparedStudy) -> None:
    study = whole()
    images = dict(study.images) | {FLAIR: head_image(head_grid(), FLAIR, background=-1.0)}
    assert_same_array(prepare(replace(study, images=images), config=TWO_MM), plain, tolerance=1e-3)


def test_grids_apart_by_rounding_are_not_registered(plain: PreparedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args: object, **_options: object) -> None:
        raise AssertionError("registered")

    monkeypatch.setattr(module, "register_rigid", never)
    study = whole()
    shifted = study.images[T2].affine.copy()
    shifted[:3, 3] += 0.004
    images = dict(study.images) | {T2: Volume(study.images[T2].data, Grid(head_grid().shape, shifted))}
    prepared = prepare(replace(study, images=images), config=TWO_MM)
    assert_same_array(prepared, plain)
    assert prepared.record.resampled == ()
    assert images_on_reference(replace(study, images=images), prepared.record).keys() == set(SEQUENCES)


@pytest.mark.slow
def test_a_sequence_on_another_grid_is_registered_and_interpolated_once() -> None:
    """FLAIR was acquired with other slices and its header is 6 mm off; its lesion must land on the T1CE lesion."""
    background = -1.0
    grid = head_grid("RAS")
    other = head_grid("LPS", spacing_mm=(2.0, 2.0, 3.0))
    lying = other.affine.copy()
    lying[:3, 3] += (6.0, 0.0, 0.0)
    flair = Volume(head_image(other, FLAIR, background=background).data, Grid(other.shape, lying))
    study = Study("moved", {T1CE: head_image(grid, T1CE), FLAIR: flair})
    prepared = prepare(study, config=TWO_MM)
    found = prepared.record.registrations[FLAIR]
    assert found.translation_mm == pytest.approx(6, abs=1.5)
    assert found.rotation_deg < 3
    assert found.overlap > 0.9
    assert prepared.record.resampled == (FLAIR,)
    assert any("FLAIR" in words and "registered to T1CE" in words for words in prepared.record.decisions)
    reference = prepare(head_study(grid, sequences=(T1CE, FLAIR)), config=TWO_MM)
    inner = np.linalg.norm(points_of(prepared.grid) / (30, 36, 28), axis=-1) < 1
    channel = SEQUENCES.index(FLAIR)
    pair = np.corrcoef(prepared.array[channel][inner], _on(reference, prepared)[channel][inner])
    assert pair[0, 1] > 0.9
    assert not prepared.array[channel][~prepared.brain].any()
    pictures = images_on_reference(study, prepared.record)
    assert all(volume.grid.same_as(grid) for volume in pictures.values())
    assert pictures[FLAIR].data[0, 0, 0] == pytest.approx(background)


def _on(prepared: PreparedStudy, other: PreparedStudy) -> np.ndarray:
    return move(prepared.array, prepared.grid, other.grid, order=1)


def with_skull(study: Study) -> Study:
    rng = np.random.default_rng(0)
    images = {}
    for sequence, volume in study.images.items():
        noise = rng.rayleigh(8.0, volume.data.shape).astype(np.float32)
        radius = np.linalg.norm(points_of(volume.grid) / (50, 55, 48), axis=-1)
        scalp = (radius < 1) & (radius > 0.92)  # between it and the brain, bone gives no signal
        images[sequence] = volume.with_data(volume.data + noise + scalp * np.float32(300))
    return replace(study, images=images)


def test_a_scan_with_its_skull_is_refused_unless_forced() -> None:
    study = with_skull(head_study(head_grid(), sequences=(T1CE, FLAIR)))
    with pytest.raises(InputError, match=r"T1CE of head does not look skull-stripped.*--force") as caught:
        prepare(study, config=TWO_MM)
    assert caught.value.exit_code == 3
    forced = prepare(study, config=TWO_MM, force=True)
    assert sum("--force was given" in words for words in forced.record.warnings) == 2


def test_a_constant_image_is_refused() -> None:
    study = head_study(head_grid(), sequences=(T1CE, FLAIR))
    for value in (0.0, 7.0):
        flat = study.images[FLAIR].with_data(np.full(head_grid().shape, value, np.float32))
        with pytest.raises(InputError) as caught:
            prepare(replace(study, images=dict(study.images) | {FLAIR: flat}), config=TWO_MM)
        assert f"FLAIR of head holds a single value, {value:g}" in str(caught.value)
    silhouette = study.images[FLAIR].with_data((study.images[FLAIR].data > 0).astype(np.float32))
    with pytest.raises(InputError, match="FLAIR holds a single value inside the brain"):
        prepare(replace(study, images=dict(study.images) | {FLAIR: silhouette}), config=TWO_MM)


def test_a_head_too_small_is_refused() -> None:
    with pytest.raises(InputError, match="only 32 ml of head is not background"):
        prepare(half_study(), config=SMALL)


def test_a_slab_counts_only_where_it_covers(plain: PreparedStudy) -> None:
    """A sequence that covers two thirds of the brain is normalised by what it shows and 0 elsewhere."""
    study = whole()
    data = study.images[T2].data.copy()
    data[..., :20] = 0
    prepared = prepare(
        replace(study, images=dict(study.images) | {T2: study.images[T2].with_data(data)}), config=TWO_MM
    )
    channel = prepared.array[SEQUENCES.index(T2)]
    shown = channel[channel != 0]
    assert shown.mean() == pytest.approx(0, abs=1e-3)
    assert shown.std() == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(prepared.brain, plain.brain)
    assert 0.6 < shown.size / prepared.brain.sum() < 0.8
    assert "T2 covers 66%" in prepared.record.warnings[0]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"percentiles": (99.0, 1.0)}, {"percentiles": (0.0, 101.0)}, {"spacing_mm": 0.0}, {"divisor": 0}),
        *({"spacing_mm": True}, {"spacing_mm": float("nan")}, {"margin": 1.5}, {"percentiles": ("a", "b")}),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        PrepareConfig(**wrong)  # type: ignore[arg-type]


def test_preparing_the_same_study_twice_gives_the_same_numbers(plain: PreparedStudy) -> None:
    assert_same_array(prepare(head_study(head_grid()), config=TWO_MM), plain)


@pytest.mark.slow
def test_a_real_study_and_its_label_come_back(real_study: Path) -> None:
    from brats_seg.files.find import find_study
    from brats_seg.files.load import load_study
    from brats_seg.files.nifti import read_label_map

    files = find_study(real_study)
    assert files.labels is not None
    labels = read_label_map(files.labels)
    prepared = prepare(load_study(files))
    assert 800 < prepared.brain.sum() * prepared.grid.voxel_ml < 2000
    assert all(side % 32 == 0 for side in prepared.grid.shape)
    numbers, _ = there_and_back(labels, prepared)
    np.testing.assert_array_equal(numbers, labels.data)
