"""Measure how well known motion is found: ``python -m experiments.registration.known_motion STUDIES... -o OUT.tsv``.

STUDIES are folders of studies whose sequences lie on one another: BraTS, or phantoms of ``--space atlas``. Every other
sequence is laid on T1CE after its header was turned by up to 30 degrees and shifted by up to 30 mm; every second one
was put together to slices of 4 mm before. Written are the mean distance in the brain of where its voxels were brought
and where they belong, mutual information and overlap, and whether the registration was refused. BraTS's own
registration counts as right, so its errors are in these: the image is registered without having been moved too, and
written are how far that answer lies from this one (what the motion costs) and from where BraTS has it. Where thick
slices are more than 0.5 mm off, their own thin ones are registered unmoved as well: how far that answer lies from this
one and from BraTS's place. ``--skull`` puts the phantoms' skull around each brain first. Without STUDIES the heads are
phantoms of ``experiments/brain/dura.py``, from ``--first`` on ``--count`` of them.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Volume, apply_affine
from brats_seg.core.scans import RigidMotion, Study
from brats_seg.core.study import MRSequence
from brats_seg.files.find import find_studies
from brats_seg.files.load import load_study
from brats_seg.imaging.brain import brain_mask
from brats_seg.imaging.consistency import check_consistency
from brats_seg.imaging.pooling import block_means
from brats_seg.imaging.register import check_registration, register_rigid, resample
from brats_seg.segment.strip import MISPLACED, NEAR_BRAIN_MM, lay_on
from experiments.brain.dura import phantom, real_heads

MOST_MM, MOST_DEG = 30.0, 30.0
TOLERATED_MM = 0.5
THICK = 4
MOVED = (MRSequence.T1, MRSequence.T2, MRSequence.FLAIR)
COLUMNS = (
    "study",
    "sequence",
    "slices",
    "turned_deg",
    "shifted_mm",
    "error_mm",
    "information",
    "overlap",
    "refused",
    "apart_mm",
    "unmoved_error_mm",
    "from_thin_mm",
    "thin_error_mm",
)


def drawn(rng: np.random.Generator, centre_mm: NDArray[np.float64]) -> tuple[Affine, float, float]:
    """A motion about a place, its angle and its shift."""
    axis, way = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
    degrees, shift = float(rng.uniform(0, MOST_DEG)), float(rng.uniform(0, MOST_MM))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
    matrix[:3, 3] = centre_mm - matrix[:3, :3] @ centre_mm + shift * way
    return matrix, degrees, shift


def thick(volume: Volume) -> Volume:
    """Means of some slices along the third axis."""
    data = block_means(np.asarray(volume.data, np.float32), (1, 1, THICK))
    step = np.diag([1.0, 1.0, THICK, 1.0])
    step[2, 3] = (THICK - 1) / 2
    return Volume.from_affine(data, volume.affine @ step)


def rows_of(study: Study, brain: NDArray[np.bool_]) -> Iterator[list[str]]:
    """One line for each sequence that was moved."""
    fixed = study.images[MRSequence.T1CE]
    near = ndimage.distance_transform_edt(~brain, sampling=fixed.grid.spacing_mm) <= NEAR_BRAIN_MM
    points = fixed.grid.to_world(np.argwhere(brain)[::997])
    rng = np.random.default_rng(zlib.crc32(study.id.encode()))
    for sequence in MOVED:
        matrix, degrees, shift = drawn(rng, points.mean(0))
        is_thick = bool(rng.random() < 0.5)
        if sequence not in study.images:
            continue
        image = thick(study.images[sequence]) if is_thick else study.images[sequence]
        moving = Volume.from_affine(image.data, matrix @ image.affine)
        found = lay_on(moving, fixed, near)
        refused = refusal(found, moving, fixed, sequence, brain)
        error = distance(found.matrix, matrix, points)
        unmoved = register_rigid(image, fixed, fixed_mask=near).matrix
        beside = [distance(found.matrix, matrix @ unmoved, points), distance(unmoved, np.eye(4), points)]
        if is_thick and error > TOLERATED_MM:
            thin = register_rigid(study.images[sequence], fixed, fixed_mask=near).matrix
            beside += [distance(found.matrix, matrix @ thin, points), distance(thin, np.eye(4), points)]
        facts = (degrees, shift, error, found.mutual_information, found.overlap)
        yield [
            study.id,
            sequence.title,
            "thick" if is_thick else "thin",
            *(f"{value:.3f}" for value in facts),
            refused,
            *(f"{value:.3f}" for value in beside),
            *[""] * (4 - len(beside)),
        ]


def distance(one: Affine, other: Affine, points: NDArray[np.float64]) -> float:
    """Mean distance of where two motions bring points, mm."""
    return float(np.linalg.norm(apply_affine(one, points) - apply_affine(other, points), axis=-1).mean())


def refusal(found: RigidMotion, moving: Volume, fixed: Volume, sequence: MRSequence, brain: NDArray[np.bool_]) -> str:
    """What a registration is refused for, in a word; ``no`` where it is not."""
    try:
        check_registration(found, sequence, MRSequence.T1CE, moving.grid, fixed.grid)
    except InputError:
        return "registration"
    laid = resample(moving, fixed.grid, matrix=found.matrix, fill=0.0)
    images = {MRSequence.T1CE: fixed, sequence: laid}
    within = {s: v.with_data(np.where(brain, v.data, np.float32(0))) for s, v in images.items()}
    kinds = [entry.kind for entry in check_consistency(within, brain).found if entry.kind in MISPLACED]
    return kinds[0] if kinds else "no"


def main() -> None:
    """Measure every study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--skull", action="store_true")
    arguments = parser.parse_args()
    if not arguments.output.exists():
        arguments.output.write_text("\t".join((*COLUMNS, "cpu_s")) + "\n")
    numbers = range(arguments.first, arguments.first + arguments.count)
    phantoms = ((head.study, head.brain) for head in map(phantom, numbers))
    for study, brain in heads(arguments.studies, arguments.skull) if arguments.studies else phantoms:
        began = time.process_time()
        for row in rows_of(study, brain):
            line = "\t".join((*row, f"{time.process_time() - began:.0f}"))
            print(line, flush=True)
            with arguments.output.open("a") as table:
                table.write(line + "\n")


def heads(folders: list[Path], with_skull: bool) -> Iterator[tuple[Study, NDArray[np.bool_]]]:
    """Studies with the brain in them."""
    for folder in folders:
        if with_skull:
            yield from ((head.study, head.brain) for head in real_heads(folder))
            continue
        for files in find_studies(folder):
            study = load_study(files)
            yield study, brain_mask(study.images)


if __name__ == "__main__":
    main()
