"""Sequences that do not belong together, or do not show a whole brain, are named; those that do are left in peace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from heads import head_grid, head_study
from mixed_scans import Images, changed, flagged_share, mix_ups, moved, part
from real_scans import scan_of, study_of
from scipy import ndimage
from small_phantom import phantom

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Array, Grid, Volume
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.brain import brain_mask
from brats_seg.imaging.consistency import Consistency, check_consistency
from brats_seg.imaging.joining import MIN_AGREEMENT
from brats_seg.imaging.placing import coincides, place_by_header
from brats_seg.imaging.settings import PrepareConfig
from brats_seg.segment.prepare import prepare

T1, T1CE, T2, FLAIR = SEQUENCES


def judged(images: Images) -> Consistency:
    return check_consistency(images, brain_mask(images))


def kinds(images: Images) -> set[str]:
    return {entry.kind for entry in judged(images).found}


@pytest.mark.slow
def test_a_phantom_is_consistent_and_mixed_up_ones_are_named() -> None:
    """Those kinds of which :func:`test_what_is_wrong_is_said` has none."""
    images, donor = phantom(1), phantom(2)
    consistency = judged(images)
    assert not consistency.found and consistency.fits
    for mixed in mix_ups(images, donor, np.random.default_rng(3), voxel_mm=2):
        if mixed.kind in {"other patient", "turned", "partial"}:
            assert judged(mixed.make()).found, mixed.name


@pytest.mark.parametrize(
    ("mixed", "kind", "words"),
    [
        (lambda i: changed(i, [FLAIR], lambda d: np.flip(d, 0)), "mirrored", "FLAIR lies against T1, T1CE and T2 mirr"),
        (
            lambda i: changed(i, [T2], lambda d: moved(d, 1, 6)),
            "shifted",
            "T2 lies against T1, T1CE and FLAIR 11 mm off",
        ),
        (lambda i: changed(i, [T1], lambda d: part(d, 0, 0.45, low=True)), "coverage", "as if it were missing"),
        (lambda i: changed(i, SEQUENCES, lambda d: part(d, 0, 0.5, low=True)), "cut", "in a plane of"),
        (
            lambda i: {s: Volume.from_affine(v.data, v.affine @ np.diag([0.7, 0.7, 0.7, 1.0])) for s, v in i.items()},
            "volume",
            "voxel sizes",
        ),
        (
            lambda i: changed(i, [FLAIR], lambda d: (d > 0) * np.random.default_rng(0).normal(100, 30, d.shape)),
            "other",
            "FLAIR does not show the same anatomy",
        ),
        (lambda i: {**i, T1: i[T1CE].with_data(i[T1CE].data * 1.01)}, "copy", "T1 and T1CE are one image"),
        (lambda i: {s: v.with_data(v.data[:, ::-1]) for s, v in i.items()}, "axes", "broader in front"),
        (lambda i: {s: v.with_data(v.data[..., ::-1]) for s, v in i.items()}, "axes", "front lies lower"),
    ],
)
@pytest.mark.slow
def test_what_is_wrong_is_said(mixed: object, kind: str, words: str) -> None:
    images = mixed(phantom(1))  # type: ignore[operator]
    consistency = judged(images)
    found = [entry for entry in consistency.found if entry.kind == kind]
    assert found and words in found[0].text
    assert not consistency.fits or kind in {"coverage", "cut", "volume"}
    assert consistency.is_usual_size == (kind not in {"volume", "cut"})


@pytest.mark.slow
def test_a_sequence_of_half_a_brain_is_left_out_and_one_of_two_thirds_used() -> None:
    for share, present in ((0.45, (T1CE, T2, FLAIR)), (0.7, SEQUENCES)):
        images = changed(phantom(1), [T1], lambda d, share=share: part(d, 2, share, low=False))
        prepared = prepare(Study("half", images), config=PrepareConfig(spacing_mm=2.0))
        assert prepared.present == present
        assert bool(prepared.array[0].any()) == (T1 in present)
        assert "T1 covers" in prepared.record.warnings[0]
        assert prepared.record.consistency["coverage"]["t1"] < 0.95


def weak_pair(*, same_head: bool) -> Images:
    """Two sequences with little in common at the scale of 4 mm; the folds below it are those of one head, or not."""
    rng, shape, affine = np.random.default_rng(0), (80, 96, 78), np.diag([2.0, 2.0, 2.0, 1.0])
    places = np.stack(np.meshgrid(*[2 * np.arange(n) - n for n in shape], indexing="ij"), -1)
    brain = ((places / (68, 86, 66)) ** 2).sum(-1) < 1

    def texture(voxels: float) -> Array:
        drawn: Array = ndimage.gaussian_filter(rng.standard_normal(shape), voxels)
        return drawn / drawn.std()

    folds = texture(1.2)
    images = {}
    for sequence in (T1CE, FLAIR):
        own = folds if same_head or sequence is T1CE else texture(1.2)
        values = 1000 + 100 * (own + 3 * texture(4.0))
        images[sequence] = Volume(np.where(brain, values, 0).astype(np.float32), Grid(shape, affine))
    return images


@pytest.mark.slow
def test_two_sequences_that_agree_little_are_one_heads_where_their_folds_are() -> None:
    one, two = judged(weak_pair(same_head=True)), judged(weak_pair(same_head=False))
    assert max(one.agreement.values()) < MIN_AGREEMENT
    assert "other" not in {entry.kind for entry in one.found}
    assert "other" in {entry.kind for entry in two.found}


@pytest.mark.slow
def test_a_real_t1ce_and_flair_that_agree_little_are_one_heads_and_anothers_flair_is_not(real_data: Path) -> None:
    mine, donor = (real_data / "training" / f"Brats18_TCIA02_{n}_1" for n in ("370", "606"))
    t1ce, flair, other = scan_of(mine, T1CE), scan_of(mine, FLAIR), scan_of(donor, FLAIR)
    one = judged({T1CE: t1ce, FLAIR: flair})
    assert one.agreement[T1CE, FLAIR] < MIN_AGREEMENT
    assert one.fits
    assert "other" in kinds({T1CE: t1ce, FLAIR: flair.with_data(other.data)})


def test_one_image_under_two_names_is_refused_naming_both() -> None:
    images = head_study(head_grid()).images
    copied = images[T1CE].with_data(np.round(images[T1CE].data / 2))
    with pytest.raises(InputError, match=r"^T1 and T1CE are one image \(correlation"):
        prepare(Study("copy", {**images, T1: copied}), config=PrepareConfig(spacing_mm=2.0))


def test_hot_voxels_hardly_move_the_scores_and_are_said() -> None:
    images = head_study(head_grid()).images
    config = PrepareConfig(spacing_mm=2.0)
    clean = prepare(Study("a", images), config=config)
    hot = images[T2].data.copy()
    places = np.argwhere(hot > 0)
    hot[tuple(np.random.default_rng(0).choice(places, len(places) // 300, replace=False).T)] *= 100
    prepared = prepare(Study("a", {**images, T2: images[T2].with_data(hot)}), config=config)
    assert np.median(np.abs(prepared.array[2] - clean.array[2])[clean.brain]) < 0.15
    assert any("T2 is far brighter than tissue" in words for words in prepared.record.warnings)


def test_scans_of_one_space_are_copied_by_their_headers_not_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brats_seg.segment.prepare.register_rigid", None)
    images = head_study(head_grid("LPS")).images
    nx, ny, nz = images[T2].grid.shape
    nudged = images[FLAIR].affine.copy()
    nudged[0, 3] += 0.02
    other: dict[MRSequence, Volume] = {
        **images,
        T2: images[T2].crop((3, 2, 1), (nx - 2, ny - 3, nz - 1)).flip(0).permute((2, 0, 1)),
        FLAIR: Volume.from_affine(images[FLAIR].data, nudged),
    }
    assert not other[T2].grid.same_as(images[T2].grid)
    config = PrepareConfig(spacing_mm=2.0)
    plain, placed = (prepare(Study("a", entry), config=config) for entry in (images, other))
    np.testing.assert_allclose(placed.array, plain.array, atol=1e-5)
    assert set(placed.record.resampled) == {T2, FLAIR} and not placed.record.registrations
    np.testing.assert_array_equal(place_by_header(other[T2], images[T2].grid).data, images[T2].data)


@pytest.mark.parametrize(("voxels", "expected"), [(0.02, True), (0.4, True), (0.6, False), (7.0, True), (7.3, False)])
def test_grids_coincide_by_whole_voxels_or_less_than_half_of_one(voxels: float, expected: bool) -> None:
    grid = head_grid("LPS")
    moved_by = grid.affine.copy()
    moved_by[:3, 3] += grid.affine[:3, 1] * voxels
    assert coincides(Volume.from_affine(np.zeros(grid.shape), moved_by).grid, grid) is expected


OF_ANATOMY = {"other patient", "mirrored", "shifted", "turned", "half, all"}


@pytest.mark.slow
def test_real_studies_and_their_mix_ups(real_data: Path) -> None:
    """Two studies that chose no limit; every kind of mix-up whose limits are those of anatomy once."""
    names = ("Brats18_CBICA_ATB_1", "BraTS2021_01477")
    first, second = (study_of(real_data / "studies" / name) for name in names)
    for images in (first, second):
        assert not judged(images).found
    mixed = [m for m in mix_ups(first, second, np.random.default_rng(1), voxel_mm=2) if m.kind in OF_ANATOMY]
    shares = flagged_share([(m.kind, bool(judged(m.make()).found)) for m in mixed])
    assert set(shares) == OF_ANATOMY
    assert sum(flagged for flagged, _ in shares.values()) >= sum(count for _, count in shares.values()) - 1, shares
