"""From a head as it was scanned to an aligned brain, and back to the head's own grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from heads_with_skull import RADII_MM, TUMOUR_MM, brain_of, head, head_grid, moved, with_images
from turned_heads import turned_head

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume, apply_affine
from brats_seg.core.scans import RigidMotion, Study
from brats_seg.core.study import MRSequence
from brats_seg.imaging import upright
from brats_seg.imaging.brain import with_skull
from brats_seg.imaging.register import RegistrationConfig, rotation_deg
from brats_seg.imaging.settings import PrepareConfig
from brats_seg.models.brain import BrainNetworks, open_brain_networks
from brats_seg.phantom.grids import rotation_of
from brats_seg.segment import strip as strip_module
from brats_seg.segment.brain import FoundBrain
from brats_seg.segment.prepare import prepare_stripped
from brats_seg.segment.rim import tumour_at_rim
from brats_seg.segment.strip import StrippedStudy, lay_on, strip
from brats_seg.track.align import NO_MOTION

pytestmark = pytest.mark.slow  # networks run, and heads are registered

T1, T1CE, T2, FLAIR = MRSequence
LEVEL = PrepareConfig(spacing_mm=1.0, divisor=8)


def motion(degrees: float, shift_mm: tuple[float, float, float]) -> np.ndarray:
    """A turn about the patient's long axis and a shift, RAS+ millimetres."""
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = shift_mm
    return matrix


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Voxels of 3 mm, as the made head has, instead of 1 mm, and no search for how an upright head is turned."""
    monkeypatch.setattr(strip_module, "SPACING_MM", 3.0)
    monkeypatch.setattr(strip_module, "find_turn", lambda _: upright.Turn(np.eye(3), ""))


@pytest.fixture(scope="module")
def study() -> Study:
    return head()


@pytest.fixture(scope="module")
def mask() -> Volume:
    grid = head_grid()
    return Volume(brain_of(grid).astype(np.uint8), grid)


def no_networks() -> BrainNetworks:
    raise AssertionError("a mask is there, so no network is needed")


def test_a_moved_sequence_comes_back_and_the_result_lies_on_the_head(study: Study) -> None:
    to_flair = motion(15, (8, -12, 20))
    scans = Study("head", {T1CE: study.images[T1CE], FLAIR: moved(study.images[FLAIR], to_flair)})
    heads = with_skull(scans)
    assert set(heads) == {T1CE, FLAIR}
    stripped = strip(scans, heads, open_brain_networks)
    assert "T1CE" in stripped.source
    assert stripped.grid.spacing_mm == pytest.approx((1, 1, 1))
    corners = brain_of(head_grid()).nonzero()
    points = head_grid().to_world(np.stack(corners, -1)[::97])
    found = apply_affine(stripped.registrations[FLAIR].matrix, points)
    assert np.linalg.norm(found - apply_affine(to_flair, points), axis=-1).mean() < 0.5
    inside = stripped.grid.to_voxel(TUMOUR_MM).round().astype(int)
    assert stripped.brain[tuple(inside)]
    for volume in stripped.study.images.values():
        assert not volume.data[~stripped.brain].any()
        assert volume.data[tuple(inside)] > 0
    prepared = prepare_stripped(stripped, config=LEVEL)
    assert prepared.record.native.same_as(study.reference_volume.grid)
    assert prepared.record.extraction["source"] == stripped.source
    assert set(prepared.record.registrations) == {FLAIR}


def shares_without_top(scan: Volume, networks: object, *, top: float) -> FoundBrain:
    """As networks would find the brain of :func:`head`, but for how sure they are of its upper third."""
    points = scan.grid.to_world(np.argwhere(np.ones(scan.grid.shape, bool))).reshape(*scan.grid.shape, 3)
    shares = np.where(points[..., 2] > 20, top, 0.95) * (((points / RADII_MM) ** 2).sum(-1) < 1)
    return FoundBrain(scan.with_data(shares.astype(np.float32)), 1.0)


def highest_mm(stripped: StrippedStudy) -> float:
    """Where the brain ends above, RAS+."""
    return float(stripped.grid.to_world(np.argwhere(stripped.brain))[:, 2].max())


@pytest.mark.usefixtures("quick")
def test_what_one_sequence_hardly_shows_another_adds(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(scan: Volume, networks: object) -> FoundBrain:
        return shares_without_top(scan, networks, top=0.3 if scan is study.images[T1CE] else 0.9)

    monkeypatch.setattr(strip_module, "find_brain", found)
    monkeypatch.setattr(strip_module, "check_brain", lambda *_, **__: None)
    networks = BrainNetworks(lambda data: data, lambda data: data, "none", "none", {})
    both = Study("head", {s: study.images[s] for s in (T1, T1CE)})
    stripped = strip(both, with_skull(both), lambda: networks)
    assert highest_mm(stripped) > 50 and "T1CE and T1" in stripped.source
    thick = study.images[T1]
    thick = Volume.from_affine(thick.data[:, :, ::2], thick.affine @ np.diag([1, 1, 2, 1]))
    stripped = strip(with_images(both, {T1: thick}), with_skull(both), lambda: networks)
    assert highest_mm(stripped) < 35 and "and" not in stripped.source


@pytest.mark.usefixtures("quick")
def test_a_mask_of_ones_own_is_taken_as_it_is(study: Study, mask: Volume) -> None:
    scans = Study("head", {s: study.images[s] for s in (T1CE, T2)})
    stripped = strip(scans, with_skull(scans), no_networks, mask=mask)
    assert stripped.brain_ml == pytest.approx(mask.data.sum() * mask.grid.voxel_ml, rel=0.02)
    assert stripped.networks == {}


@pytest.mark.usefixtures("quick")
def test_a_mask_that_lies_elsewhere_is_refused(study: Study, mask: Volume) -> None:
    elsewhere = moved(mask, motion(0, (600, 0, 0)))
    with pytest.raises(InputError, match="outside"):
        strip(study, with_skull(study), no_networks, mask=elsewhere)


@pytest.mark.usefixtures("quick")
def test_a_stripped_sequence_lends_its_brain_to_those_with_skull(study: Study, mask: Volume) -> None:
    bare = study.images[T1CE].with_data(study.images[T1CE].data * mask.data)
    scans = Study("head", {T1CE: bare, FLAIR: study.images[FLAIR]})
    heads = with_skull(scans)
    assert set(heads) == {FLAIR}
    stripped = strip(scans, heads, no_networks)
    assert "T1CE" in stripped.source
    assert stripped.brain_ml == pytest.approx(mask.data.sum() * mask.grid.voxel_ml, rel=0.02)


@pytest.mark.usefixtures("quick")
def test_what_is_stripped_and_aligned_stays_as_it_is(study: Study, mask: Volume) -> None:
    bare = Study("head", {s: v.with_data(v.data * mask.data) for s, v in study.images.items()})
    stripped = strip(bare, with_skull(bare), no_networks)
    assert stripped.registrations == {}
    assert stripped.brain_ml == pytest.approx(mask.data.sum() * mask.grid.voxel_ml, rel=0.02)


@pytest.mark.parametrize(("first", "second", "taken"), [(0.2, 0.3, 0.2), (0.1, 0.3, 0.3), (0.1, 0.05, 0.1)])
def test_where_in_doubt_more_starts_are_tried_and_the_better_answer_stays(
    study: Study, first: float, second: float, taken: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(*_: Volume, config: RegistrationConfig | None = None, **__: object) -> RigidMotion:
        return replace(NO_MOTION, mutual_information=second if config is not None and config.is_thorough else first)

    monkeypatch.setattr(strip_module, "register_rigid", register)
    assert lay_on(study.images[FLAIR], study.images[T1CE], None).mutual_information == taken


@pytest.mark.usefixtures("quick")
def test_another_head_is_not_laid_on_this_one(study: Study, mask: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strip_module, "DOUBTFUL_INFORMATION", 0.0)  # no second search, which finds nothing either
    rng = np.random.default_rng(5)
    noise = study.images[FLAIR].with_data(rng.permuted(study.images[FLAIR].data, axis=0))
    scans = Study("head", {T1CE: study.images[T1CE], FLAIR: noise})
    with pytest.raises(InputError, match="FLAIR"):
        strip(scans, dict.fromkeys(scans.images, "skull"), no_networks, mask=mask)


def test_tumour_cut_off_at_the_skull_is_taken_back(study: Study, mask: Volume) -> None:
    fine = Study("head", {s: _enlarged(v) for s, v in study.images.items()})
    brain = _enlarged(mask).data > 0.5
    centres = fine.images[T1].grid.to_world(np.argwhere(np.ones(brain.shape, bool))).reshape(*brain.shape, 3)
    tumour = (np.linalg.norm(centres - (-52, 10, 8), axis=-1) < 16) & brain
    images = dict(fine.images)
    images[FLAIR] = images[FLAIR].with_data(np.where(tumour, np.float32(260), images[FLAIR].data))
    cut = brain & ~(tumour & (centres[..., 0] < -57))
    lost_ml = float((brain & ~cut).sum()) * fine.images[T1].grid.voxel_ml
    assert lost_ml > 0.5
    added = tumour_at_rim(cut, images)
    assert (added & tumour).sum() >= 0.6 * (brain & ~cut).sum()
    assert float((added & ~tumour).sum()) * fine.images[T1].grid.voxel_ml < 1.0
    assert not tumour_at_rim(brain, fine.images).any()


def _enlarged(volume: Volume) -> Volume:
    """Twice as many voxels along each axis."""
    data = volume.data.astype(np.float32).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    step = np.diag([0.5, 0.5, 0.5, 1.0])
    step[:3, 3] = -0.25
    return Volume.from_affine(data, volume.affine @ step)


def _read(path: Path) -> Volume:
    image = nib.load(path)
    return Volume.from_affine(image.get_fdata(dtype=np.float32), image.affine)


@pytest.fixture(scope="module")
def native(real_data: Path) -> tuple[Study, Volume]:
    """T1CE and FLAIR of a patient as they were scanned, and the brain in the space of T1CE."""
    folder = real_data / "native" / "TCGA-FG-6692"
    images = {s: _read(folder / f"TCGA-FG-6692_{s.value}.nii.gz") for s in (T1CE, FLAIR)}
    return Study("native", images), _read(folder / "TCGA-FG-6692_t1ce_brainmask.nii.gz")


def test_a_head_that_lay_far_away_is_found(native: tuple[Study, Volume]) -> None:
    study, mask = native
    flair, reference, near = study.images[FLAIR], study.images[T1CE], mask.data > 0
    points = mask.grid.to_world(np.argwhere(near)[::97])
    straight = lay_on(flair, reference, near).matrix
    turn = motion(30, (25, -5, 15)) @ np.array([[1, 0, 0, 0], [0, 0.94, -0.342, 0], [0, 0.342, 0.94, 0], [0, 0, 0, 1]])
    turn[:3, :3] = np.linalg.svd(turn[:3, :3])[0] @ np.linalg.svd(turn[:3, :3])[2]
    found = lay_on(moved(flair, turn), reference, near).matrix
    assert np.linalg.norm(apply_affine(found, points) - apply_affine(turn @ straight, points), axis=-1).mean() < 0.5


@pytest.mark.usefixtures("quick")
def test_another_persons_sequence_is_refused_after_registration(native: tuple[Study, Volume], real_data: Path) -> None:
    study, mask = native
    other = real_data / "longitudinal" / "MS-patient01" / "study2" / "MS-patient01_study2_flair.nii.gz"
    scans = with_images(study, {FLAIR: _read(other)})
    with pytest.raises(InputError, match="FLAIR"):
        strip(scans, with_skull(scans), no_networks, mask=mask)


def stripped_when_turned(angles_deg: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch) -> StrippedStudy:
    """A brain that counts as a head with skull, with its mask given; on voxels of 2 mm, not 1."""
    monkeypatch.setattr(strip_module, "SPACING_MM", 2.0)
    scans = {T1: turned_head(angles_deg, contrast=1.0)}
    mask = scans[T1].with_data((scans[T1].data > 0).astype(np.uint8))
    return strip(Study("head", scans), dict.fromkeys(scans, "as told"), no_networks, mask=mask)


def test_a_head_that_lies_far_turned_is_laid_upright(monkeypatch: pytest.MonkeyPatch) -> None:
    angles_deg = (-18.0, 11.0, -16.0)
    stripped = stripped_when_turned(angles_deg, monkeypatch)
    seen = rotation_of(angles_deg) @ stripped.grid.affine[:3, :3] / 2
    assert rotation_deg(seen) < 3
    assert stripped.turned_deg == pytest.approx(26, abs=3)
    assert any("laid upright" in decision for decision in stripped.decisions)
    assert stripped.brain_ml == pytest.approx(np.count_nonzero(turned_head(angles_deg).data) * 0.064, rel=0.02)
    assert min(axis.min() for axis in stripped.brain.nonzero()) >= 12 / 2
    prepared = prepare_stripped(stripped, config=replace(LEVEL, spacing_mm=2.0))
    assert prepared.record.native.same_as(turned_head(angles_deg).grid)
    assert prepared.record.extraction["turned_deg"] == pytest.approx(stripped.turned_deg, abs=0.05)


@pytest.mark.parametrize(("angles_deg", "least", "said"), [((8.0, 5.0, -6.0), 0.9, False), ((25.0, 0, 0), 0.99, True)])
def test_a_head_that_lies_about_straight_or_in_doubt_keeps_its_axes(
    angles_deg: tuple[float, float, float], least: float, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upright, "MIN_COVERED", least)
    stripped = stripped_when_turned(angles_deg, monkeypatch)
    np.testing.assert_array_equal(stripped.grid.affine[:3, :3], 2 * np.eye(3))
    assert stripped.turned_deg == 0
    assert any("may lie turned" in decision for decision in stripped.decisions) == said
