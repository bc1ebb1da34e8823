"""Alignment of visits: known motions found, the tumour ignored, both directions alike, wrong scans refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from heads import head_grid, head_image, head_labels
from real_scans import read
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Grid, Volume
from brats_seg.core.plain import from_plain, plain
from brats_seg.core.scans import RigidMotion
from brats_seg.core.study import MRSequence
from brats_seg.imaging.refine import rigid_power
from brats_seg.imaging.register import rotation_deg
from brats_seg.imaging.similarity import local_correlation
from brats_seg.track.align import (
    NO_MOTION,
    SAME_PERSON_ACROSS,
    SAME_PERSON_FROM,
    HeadScan,
    align_visits,
    common_grid,
    mean_displacement_mm,
    rigid_mean,
)

GRID = head_grid(spacing_mm=(1.5, 1.5, 1.5))
POINTS = np.random.default_rng(0).uniform(-35, 35, (500, 3))


def motion(turn_deg: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


def scan(
    name: str, moved: Affine | None = None, *, grid: Grid = GRID, sequence: MRSequence = MRSequence.T1CE
) -> HeadScan:
    """The head, moved as a rigid body, seen on a grid."""
    matrix = np.eye(4) if moved is None else moved
    seen = Grid(grid.shape, np.linalg.inv(matrix) @ grid.affine)
    image, labels = head_image(seen, sequence), head_labels(seen)
    return HeadScan(name, sequence, Volume(image.data, grid), labels.data > 0)


MOVED = motion((6.0, -4.0, 8.0), (7.0, -5.0, 4.0))


@pytest.fixture(scope="module")
def found() -> RigidMotion:
    return align_visits(scan("2", MOVED), scan("1"))


@pytest.mark.slow
def test_a_known_motion_is_found(found: RigidMotion) -> None:
    assert mean_displacement_mm(found.matrix, MOVED, POINTS) < 0.3
    assert found.rotation_deg == pytest.approx(rotation_deg(MOVED), abs=0.5)
    assert found.by == "brain" and found.overlap > 0.95 and found.uncertainty_mm < 0.3
    assert found.is_one_person and found.likeness > 0.5


@pytest.mark.slow
def test_swapping_the_visits_inverts_the_transform(found: RigidMotion) -> None:
    back = align_visits(scan("1"), scan("2", MOVED))
    assert mean_displacement_mm(np.linalg.inv(back.matrix), found.matrix, POINTS) < 0.01


@pytest.mark.slow
def test_a_tumour_that_changed_does_not_pull() -> None:
    moved = scan("2", MOVED)
    wide = ndimage.binary_dilation(moved.tumour, iterations=4)
    data = np.where(wide & (moved.volume.data > 0), 40.0, moved.volume.data).astype(np.float32)
    changed = replace(moved, volume=moved.volume.with_data(data), tumour=wide)
    found = align_visits(changed, scan("1"))
    # The made-up head is smooth, so that little is left to hold on to beside its tumour.
    assert mean_displacement_mm(found.matrix, MOVED, POINTS) < 1.0


@pytest.mark.slow
def test_thick_slices_and_another_sequence() -> None:
    thick = head_grid(spacing_mm=(1.5, 1.5, 4.0))
    found = align_visits(scan("2", MOVED, grid=thick), scan("1"))
    assert mean_displacement_mm(found.matrix, MOVED, POINTS) < 0.6
    other = align_visits(scan("2", MOVED, sequence=MRSequence.T2), scan("1"))
    assert mean_displacement_mm(other.matrix, MOVED, POINTS) < 1.5


@pytest.mark.slow
def test_noise_is_refused_with_a_reason() -> None:
    rng = np.random.default_rng(1)
    inside = scan("1").volume.data > 0
    noise = np.where(inside, rng.uniform(100, 900, inside.shape), 0).astype(np.float32)
    wrong = HeadScan("2", MRSequence.T1CE, Volume(noise, GRID))
    with pytest.raises(InputError, match=r"visit 2") as caught:
        align_visits(wrong, scan("1"))
    assert "\n" not in str(caught.value)


def test_the_halves_meet_in_the_middle() -> None:
    to_moving = rigid_power(MOVED, 0.5)
    to_fixed = np.linalg.inv(to_moving)
    assert np.allclose(to_moving @ np.linalg.inv(to_fixed), MOVED, atol=1e-9)
    assert mean_displacement_mm(to_fixed, np.eye(4), POINTS) == pytest.approx(
        mean_displacement_mm(to_moving, np.eye(4), POINTS), rel=0.2
    )


def test_the_mean_of_two_motions_is_unchanged_by_inversion() -> None:
    one, other = motion((10, 0, 0), (1, 2, 3)), motion((0, 12, 5), (-4, 0, 2))
    mean = rigid_mean(one, other)
    assert np.allclose(np.linalg.inv(mean), rigid_mean(np.linalg.inv(one), np.linalg.inv(other)))
    assert np.allclose(mean, rigid_mean(other, one))
    assert np.allclose(rigid_power(mean, 0.5) @ rigid_power(mean, 0.5), mean)


def test_an_alignment_reads_back_from_json() -> None:
    found = replace(NO_MOTION, matrix=MOVED, likeness=0.7)
    again = from_plain(RigidMotion, json.loads(json.dumps(plain(found))))
    assert np.array_equal(again.matrix, found.matrix)
    assert plain(again) == plain(found)


def test_the_common_space_holds_the_head() -> None:
    grid = common_grid(scan("1").volume)
    head = GRID.to_world(np.argwhere(scan("1").volume.data > 0))
    voxels = grid.to_voxel(head)
    assert (voxels > 0).all() and (voxels < np.array(grid.shape) - 1).all()
    assert grid.spacing_mm == (1.0, 1.0, 1.0) and grid.orientation == "RAS"


def test_a_mask_of_another_shape_is_a_defect() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        replace(scan("1"), tumour=np.zeros((3, 3, 3), bool))


def test_one_person_is_told_from_another() -> None:
    """The folds of a brain are its own: another scanner, contrast and tumour leave them; another brain has others."""
    rng = np.random.default_rng(2)
    folds = [ndimage.gaussian_filter(rng.standard_normal(GRID.shape), 2.0) for _ in range(2)]
    head = scan("1").volume.data

    def folded(which: int, contrast: float = 1.0, noise: float = 0.0) -> Volume:
        pattern = contrast * folds[which] / folds[which].std() + noise * rng.standard_normal(GRID.shape)
        return Volume(np.where(head > 0, 300 + 60 * pattern, 0).astype(np.float32), GRID)

    inside = head > 0
    one = folded(0).data
    assert local_correlation(one, folded(0, contrast=-0.6, noise=0.2).data, inside, 5) > SAME_PERSON_FROM
    assert local_correlation(one, folded(1).data, inside, 5) < SAME_PERSON_ACROSS
    assert np.isnan(local_correlation(one, one, np.zeros_like(inside), 5))
    assert not replace(NO_MOTION, likeness=0.1).is_one_person and replace(NO_MOTION, likeness=0.6).is_one_person
    assert NO_MOTION.is_one_person, "nothing was compared"


def visits_of(study: str, sequence: str) -> list[HeadScan]:
    root = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    folders = sorted((root / "longitudinal" / study).glob("*")) or [root / study]
    files = [next(iter(folder.glob(f"*_{sequence}.nii.gz")), None) for folder in folders]
    if None in files:
        pytest.skip("the shared data are not here")
    return [HeadScan(f.parent.name, MRSequence(sequence), read(f, step=2)) for f in files if f is not None]


@pytest.mark.slow
def test_two_real_visits_are_one_person_and_two_people_are_not() -> None:
    first, second = visits_of("MS-patient01", "flair")
    assert align_visits(second, first).likeness > 0.45
    one, other = (visits_of(f"studies/{name}", "t1ce")[0] for name in ("BraTS2021_01477", "BraTS2021_01481"))
    assert not align_visits(other, one).is_one_person
