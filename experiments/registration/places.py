"""Whose fault it is where registration and BraTS differ: ``python -m experiments.registration.places STUDIES...``.

STUDIES are folders of BraTS studies. T1, T2 and FLAIR are laid on T1CE as they are, without any motion. Printed are how
far that answer lies from BraTS's place in the mean of the brain, and what a measure that registration does not use says
of both: along the way from BraTS's place (0) to the answer (1) and beyond, the share of the way at which the directions
of borders agree best (the square of the cosine between gradients, weighted by both, inside the brain). Places halfway
between voxels are compared only, for interpolation smooths. Then every other sequence is laid on T2 too, and how far
the way round misses its start says what registration's own errors are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats_seg.core.grid import Affine, Volume
from brats_seg.core.study import MRSequence
from brats_seg.files.find import find_studies
from brats_seg.files.load import load_study
from brats_seg.imaging.boxes import bounding_box, cropped
from brats_seg.imaging.brain import brain_mask
from brats_seg.imaging.register import register_rigid, resample
from brats_seg.segment.strip import NEAR_BRAIN_MM
from experiments.registration.known_motion import MOVED, distance

SHARES = (-0.75, -0.25, 0.25, 0.75, 1.25, 1.75)
SMOOTH_MM = 1.5
INNER_MM = 4.0
Mask = NDArray[np.bool_]


def part_of(matrix: Affine, share: float, centre_mm: NDArray[np.float64]) -> Affine:
    """A share of a rigid motion: of its turn about a place, and of the shift of that place."""
    turn = Rotation.from_matrix(matrix[:3, :3]).as_rotvec()
    result = np.eye(4)
    result[:3, :3] = Rotation.from_rotvec(share * turn).as_matrix()
    shift = matrix[:3, :3] @ centre_mm + matrix[:3, 3] - centre_mm
    result[:3, 3] = centre_mm + share * shift - result[:3, :3] @ centre_mm
    return result


def gradients(volume: Volume, inside: Mask) -> NDArray[np.float32]:
    """``(3, N)`` of the smoothed image, inside the brain."""
    sigma = [SMOOTH_MM / side for side in volume.grid.spacing_mm]
    parts = [
        ndimage.gaussian_filter(volume.data.astype(np.float32), sigma, order=[int(a == axis) for a in range(3)])[inside]
        for axis in range(3)
    ]
    return np.stack(parts)


def agreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean square of the cosine between gradients, weighted by both."""
    weight = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
    product = (one * other).sum(0)
    return float((product**2 / np.maximum(weight, 1e-9)).sum() / weight.sum())


def best_share(moving: Volume, fixed: Volume, matrix: Affine, inside: Mask, centre_mm: NDArray[np.float64]) -> float:
    """At which share of a motion borders agree best, by a parabola."""
    box = bounding_box(inside, margin=round(INNER_MM))
    assert box is not None  # a brain is deeper than that
    fixed, inside = cropped(fixed, box), inside[box]
    wanted = gradients(fixed, inside)
    values = []
    for share in SHARES:
        moved = resample(moving, fixed.grid, matrix=part_of(matrix, share, centre_mm), order="bspline", fill=0.0)
        values.append(agreement(wanted, gradients(moved, inside)))
    curve = np.polyfit(SHARES, values, 2)
    return float(-curve[1] / (2 * curve[0])) if curve[0] < 0 else float("nan")


def main() -> None:
    """Print a line for each sequence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="+", type=Path)
    arguments = parser.parse_args()
    print("study", "sequence", "apart_mm", "best_share", "round_mm", sep="\t")
    for folder in arguments.studies:
        for files in find_studies(folder):
            study = load_study(files)
            fixed, brain = study.images[MRSequence.T1CE], brain_mask(study.images)
            outside = ndimage.distance_transform_edt(~brain, sampling=fixed.grid.spacing_mm)
            inside = ndimage.distance_transform_edt(brain, sampling=fixed.grid.spacing_mm) > INNER_MM
            near: Mask = outside <= NEAR_BRAIN_MM
            points = fixed.grid.to_world(np.argwhere(brain)[::997])
            found = {s: register_rigid(study.images[s], fixed, fixed_mask=near).matrix for s in MOVED}
            for sequence, matrix in found.items():
                apart = distance(matrix, np.eye(4), points)
                share = best_share(study.images[sequence], fixed, matrix, inside, points.mean(0))
                missed = ""
                if sequence is not MRSequence.T2:
                    on_t2 = register_rigid(study.images[sequence], study.images[MRSequence.T2], fixed_mask=near).matrix
                    missed = f"{distance(on_t2 @ found[MRSequence.T2], matrix, points):.3f}"
                print(study.id, sequence.title, f"{apart:.3f}", f"{share:.2f}", missed, sep="\t", flush=True)


if __name__ == "__main__":
    main()
