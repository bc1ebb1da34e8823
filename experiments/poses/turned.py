"""What the pose of the head costs: ``python -m experiments.poses.turned STUDIES... -o OUT.tsv --cases CASE...``.

STUDIES are folders of labelled, skull-stripped studies in atlas space. A case is a kind, then how the head is turned:
nothing for up to 20 degrees about each axis, drawn with the study's name, or an axis and degrees, as in
``scanner:R30``; it is shifted by up to 20 mm along each axis too. The kinds:

- ``header``: the voxels as they are, all four headers turned and shifted alike.
- ``resampled``: the skull-stripped scans interpolated once, by cubic splines, onto turned voxels of 1 mm.
- ``slices``: the skull-stripped scans, put together to slices of 5 mm along turned axes, one grid for all.
- ``scanner``: the phantoms' skull around the brain, four grids of 5 mm slices, each tilted and shifted for itself, the
  head moved between the sequences by 2 mm and 2 degrees without any header telling of it; written as a DICOM exam.

``+upright`` after ``scanner`` tells the extraction how the head is turned, so that the network sees it upright in
the one interpolation there is: more than an alignment to an atlas could reach. ``+level`` tells it only where the plane
between the halves of the brain lies, and leaves the head nodding. ``+own`` leaves the head in its own axes.

Each case is segmented as ``segment`` does. Written are Dice against the expert's label carried to the native grid, of
the untouched study's probabilities carried there (``clean``) and of what was found; the volumes of both; how far the
networks saw the head turned; and, with skull, Dice of the brain and the largest error of the registration in the brain.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Grid, Volume
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES, MRSequence, Timepoint
from brats_seg.core.visit import Segmentation, Visit
from brats_seg.evaluate.overlap import count_voxels, dice
from brats_seg.files.dicom_mr import write_exam
from brats_seg.files.find import find_studies
from brats_seg.files.label_map import read_mask
from brats_seg.files.load import load_study
from brats_seg.imaging import upright
from brats_seg.imaging.brain import brain_mask
from brats_seg.imaging.register import resample
from brats_seg.imaging.restore import move
from brats_seg.imaging.upright import Turn
from brats_seg.models.card import regions_of
from brats_seg.phantom.fields import resample_box
from brats_seg.phantom.grids import grid_around, rotation_of, small_turn
from brats_seg.run.options import SegmentOptions
from brats_seg.run.segment import open_predictor, segment_study
from brats_seg.segment import strip as stripping
from brats_seg.segment.postprocess import region_masks
from brats_seg.segment.predict import Predictor
from experiments.brain.dura import real_head
from experiments.registration.known_motion import distance

MOST_DEG, MOST_MM = 20.0, 20.0
"""The head is turned about each axis, and shifted along it, by up to so much."""
MOVED_DEG, MOVED_MM = 2.0, 2.0
"""Standard deviations of how the head moves about and along each axis between two sequences."""
THICK = (1.0, 1.0, 5.0)
FINE = (1.0, 1.0, 1.0)
AROUND_MM = 22.0
"""Field of view around the brain: the scalp lies within."""
KINDS = ("header", "resampled", "slices", "scanner")
REGIONS = ("WT", "TC", "ET")
COLUMNS = (
    *("study", "case", "turned_deg", "shifted_mm"),
    *(f"{region}_{what}" for region in REGIONS for what in ("clean", "found", "difference")),
    *(f"{region}_ml_{what}" for region in REGIONS for what in ("expert", "clean", "found")),
    *("seen_deg", "brain", "laid_mm", "refused", "cpu_s"),
)


@dataclass(frozen=True)
class Case:
    """What is done to a study.

    Attributes:
        name: as it was given.
        kind: one of :data:`KINDS`.
        angles_deg: about R, A and S; None where they are drawn.
        told: what the extraction is told of how the head is turned: ``upright`` all, ``level`` the midplane,
            ``own`` to leave it alone; empty where it finds out for itself.
    """

    name: str
    kind: str
    angles_deg: tuple[float, float, float] | None
    told: str

    @classmethod
    def read(cls, text: str) -> Case:
        """A case as it is written on the command line."""
        rest, _, told = text.partition("+")
        kind, _, turn = rest.partition(":")
        if kind not in KINDS or told not in ("", "upright", "level", "own") or (told and kind != "scanner"):
            raise argparse.ArgumentTypeError(f"{text} is no case")
        if not turn:
            return cls(text, kind, None, told)
        x, y, z = (float(turn[1:]) if turn[0] == axis else 0.0 for axis in "RAS")
        return cls(text, kind, (x, y, z), told)

    def pose(self, study_id: str, centre_mm: NDArray[np.float64]) -> Affine:
        """4x4, RAS+ mm of the scanner to those of the study; the head lies about the scanner's origin."""
        rng = np.random.default_rng(zlib.crc32(study_id.encode()))
        a, b, c = (float(v) for v in rng.uniform(-MOST_DEG, MOST_DEG, 3))
        shift = rng.uniform(-MOST_MM, MOST_MM, 3)
        matrix = np.eye(4)
        matrix[:3, :3] = rotation_of(self.angles_deg or (a, b, c))
        matrix[:3, 3] = centre_mm - matrix[:3, :3] @ shift
        return matrix


@dataclass(frozen=True, eq=False)
class Posed:
    """A study in its pose.

    Attributes:
        images: as ``segment`` gets them.
        native: grid of the reference.
        poses: by sequence, RAS+ mm of the scan to those of the study.
        brain: ``(X, Y, Z)`` of the native grid, the true one; None where it is there to be seen.
    """

    images: Mapping[MRSequence, Volume]
    native: Grid
    poses: Mapping[MRSequence, Affine]
    brain: NDArray[np.bool_] | None = None

    @property
    def seen(self) -> Grid:
        """The native grid, placed in the study's space."""
        return placed(self.native, self.poses[reference_of(self.images)])


def reference_of(images: Mapping[MRSequence, Volume]) -> MRSequence:
    """On whose grid results are written."""
    return Study("", images).reference_sequence


def inverse(matrix: Affine) -> Affine:
    """The way back of a motion."""
    return np.asarray(np.linalg.inv(matrix), np.float64)


def placed(grid: Grid, matrix: Affine) -> Grid:
    """The grid after a motion."""
    return Grid(grid.shape, matrix @ grid.affine)


def turned_header(study: Study, pose: Affine) -> Posed:
    """The voxels as they are, the headers turned."""
    back = inverse(pose)
    images = {s: Volume(v.data, placed(v.grid, back)) for s, v in study.images.items()}
    return Posed(images, images[reference_of(images)].grid, dict.fromkeys(images, pose))


def resampled(study: Study, brain: NDArray[np.bool_], pose: Affine) -> Posed:
    """The skull-stripped scans on turned voxels of 1 mm."""
    space = study.reference_volume.grid
    grid = grid_over(space, brain, pose, FINE)
    shares = resample(Volume(brain.astype(np.float32), space), grid, matrix=pose, order="bspline", fill=0.0).data
    inside = shares >= 0.5
    images = {}
    for sequence, volume in study.images.items():
        values = resample(volume, grid, matrix=pose, order="bspline", fill=0.0).data
        images[sequence] = Volume(without_rim(values, shares, inside), grid)
    return Posed(images, grid, dict.fromkeys(images, pose))


def in_slices(study: Study, brain: NDArray[np.bool_], pose: Affine) -> Posed:
    """The skull-stripped scans in thick slices, all on one grid."""
    space = study.reference_volume.grid
    grid = grid_over(space, brain, pose, THICK)
    shares = resample_box(brain.astype(np.float32), space, grid, matrix=pose)
    images = {}
    for sequence, volume in study.images.items():
        values = resample_box(volume.data.astype(np.float32), space, grid, matrix=pose)
        images[sequence] = Volume(without_rim(values, shares, shares >= 0.5), grid)
    return Posed(images, grid, dict.fromkeys(images, pose))


def without_rim(
    values: NDArray[np.float32], shares: NDArray[np.float32], inside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Values of the brain alone, where voxels at its outline hold some of the 0 around it."""
    result = np.zeros_like(values)
    result[inside] = np.maximum(values[inside] / shares[inside], 1e-3)
    return result


def scanned(files: Timepoint, pose: Affine) -> Posed:
    """The head with skull as a scanner would have it."""
    head = real_head(files, SEQUENCES)
    space = head.study.reference_volume.grid
    rng = np.random.default_rng([1, zlib.crc32(files.id.encode())])
    reference = reference_of(head.study.images)
    images, poses = {}, {}
    for sequence in SEQUENCES:
        turn, shift = MOVED_DEG * rng.standard_normal(3), MOVED_MM * rng.standard_normal(3)
        motion = np.eye(4)
        if sequence is not reference:
            motion[:3, :3] = Rotation.from_rotvec(np.radians(turn)).as_matrix()
            motion[:3, 3] = shift
        poses[sequence] = pose @ motion
        tilt = small_turn(rng)
        grid = grid_over(space, head.brain, poses[sequence], THICK, tilt=tilt, off_mm=rng.uniform(-2, 2, 3))
        values = resample_box(head.study.images[sequence].data, space, grid, matrix=poses[sequence])
        images[sequence] = Volume(values, grid)
    native = images[reference].grid
    brain = resample_box(head.brain.astype(np.float32), space, native, matrix=poses[reference]) >= 0.5
    return Posed(images, native, poses, brain)


def grid_over(
    space: Grid,
    brain: NDArray[np.bool_],
    pose: Affine,
    spacing_mm: tuple[float, float, float],
    *,
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0),
    off_mm: NDArray[np.float64] | None = None,
) -> Grid:
    """A grid of the scanner that holds the head, tilted and off its middle as given."""
    points = placed(space, inverse(pose)).to_world(np.argwhere(brain)[::97])
    low, high = points.min(0), points.max(0)
    middle = (low + high) / 2 + (np.zeros(3) if off_mm is None else off_mm)
    return grid_around(middle, (high - low) / 2 + AROUND_MM, spacing_mm=spacing_mm, turn_deg=tilt)


def levelled(pose: Affine) -> Affine:
    """Of a pose the smallest turn that lays the midplane of the head upright."""
    across = pose[0, :3]  # the normal of the midplane in the scanner
    axis = np.cross(across, [1.0, 0.0, 0.0])
    angle = np.arctan2(np.linalg.norm(axis), across[0])
    level = np.eye(4)
    level[:3, :3] = Rotation.from_rotvec(angle * axis / max(float(np.linalg.norm(axis)), 1e-9)).as_matrix()
    return level


@contextmanager
def known_pose(case: Case, pose: Affine) -> Iterator[None]:
    """The extraction lays the head upright, or level, or not, where the case says so."""

    def told(brain: Volume) -> Turn:
        known = levelled(pose) if case.told == "level" else pose
        return Turn(known[:3, :3] @ brain.affine[:3, :3] / brain.grid.spacing_mm, "")

    far_deg = {"": upright.FAR_DEG, "own": np.inf}.get(case.told, -np.inf)
    find_turn = told if case.told in ("upright", "level") else upright.find_turn
    with mock.patch.object(upright, "FAR_DEG", far_deg), mock.patch.object(stripping, "find_turn", find_turn):
        yield


def segmented(case: Case, posed: Posed, study_id: str, options: SegmentOptions, predictor: Predictor) -> Visit:
    """As ``segment`` does it: with skull from DICOM."""
    if case.kind != "scanner":
        return segment_study(Study(study_id, posed.images), options=options, predictor=predictor)
    with tempfile.TemporaryDirectory() as folder:
        exam = Path(folder) / study_id
        write_exam(posed.images, exam, patient="POSED", day=date(2024, 1, 31))
        return segment_study(exam, options=options, predictor=predictor)


def rows_of(files: Timepoint, cases: list[Case], options: SegmentOptions, predictor: Predictor) -> Iterator[list[str]]:
    """One line for each case."""
    assert files.labels is not None
    study = replace(load_study(files), sha256={})
    brain = brain_mask(study.images)
    space = study.reference_volume.grid
    centre = space.to_world(np.argwhere(brain)[::97]).mean(0)
    clean = segment_study(study, options=options, predictor=predictor)
    expert = read_mask(files.labels, "auto", files.id, regions_of).segmentation
    for case in cases:
        began = time.process_time()
        pose = case.pose(files.id, centre)
        if case.kind == "header":
            posed = turned_header(study, pose)
        elif case.kind == "scanner":
            posed = scanned(files, pose)
        else:
            posed = (resampled if case.kind == "resampled" else in_slices)(study, brain, pose)
        angle = np.degrees(Rotation.from_matrix(pose[:3, :3]).magnitude())
        shift = np.linalg.norm(inverse(pose)[:3] @ [*centre, 1])
        row: dict[str, Any] = {"study": files.id, "case": case.name, "turned_deg": angle, "shifted_mm": shift}
        try:
            with known_pose(case, pose):
                found = segmented(case, posed, files.id, options, predictor)
            seen = pose @ np.array(found.record.preparation["network"]["affine"])
            row["seen_deg"] = np.degrees(Rotation.from_matrix(seen[:3, :3]).magnitude())
            row |= {**accuracy(expert, clean, found, posed, predictor), **geometry(found, posed, space, brain)}
        except InputError as error:
            row["refused"] = str(error).replace("\t", " ")
        row["cpu_s"] = time.process_time() - began
        yield [f"{v:.4f}" if isinstance(v := row.get(name, ""), float) else str(v) for name in COLUMNS]


def accuracy(expert: Segmentation, clean: Visit, found: Visit, posed: Posed, predictor: Predictor) -> dict[str, float]:
    """Dice of both answers on the native grid, and volumes."""
    regions, config = predictor.bundle.card.regions, predictor.bundle.card.postprocess
    before = clean.segmentation.probabilities
    assert before is not None
    carried = region_masks(np.minimum(move(before.array, before.grid, posed.seen), 1), regions, config)
    row: dict[str, float] = {}
    for name in REGIONS:
        region = regions[name]
        label = expert.region_mask(region)
        truth = move(label.astype(np.float32), expert.labels.grid, posed.seen) >= 0.5
        one = dice(count_voxels(carried[region], truth))
        other = dice(count_voxels(found.segmentation.region_mask(region), truth))
        row |= {f"{name}_clean": one, f"{name}_found": other, f"{name}_difference": other - one}
        row[f"{name}_ml_expert"] = float(label.sum()) * expert.labels.grid.voxel_ml
        row[f"{name}_ml_clean"] = float(clean.measurements.volume(name).volume_ml)
        row[f"{name}_ml_found"] = float(found.measurements.volume(name).volume_ml)
    return row


def geometry(found: Visit, posed: Posed, space: Grid, brain: NDArray[np.bool_]) -> dict[str, float]:
    """Dice of the brain, and how far in the mean of the brain the worst sequence was laid from its place."""
    if posed.brain is None or found.brain is None:
        return {}
    pose = posed.poses[reference_of(posed.images)]
    points = placed(space, inverse(pose)).to_world(np.argwhere(brain)[::997])
    errors = [
        distance(motion.matrix, inverse(posed.poses[sequence]) @ pose, points)
        for sequence, motion in found.motions.items()
    ]
    return {"brain": dice(count_voxels(found.brain.data > 0, posed.brain)), "laid_mm": max(errors)}


def main() -> None:
    """Measure every study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--cases", nargs="+", required=True, type=Case.read)
    arguments = parser.parse_args()
    if not arguments.output.exists():
        arguments.output.write_text("\t".join(COLUMNS) + "\n")
    options = SegmentOptions(report=False)
    predictor = open_predictor(options)
    for folder in arguments.studies:
        for files in find_studies(folder):
            for row in rows_of(files, arguments.cases, options, predictor):
                print("\t".join(row), flush=True)
                with arguments.output.open("a") as table:
                    table.write("\t".join(row) + "\n")


if __name__ == "__main__":
    main()
