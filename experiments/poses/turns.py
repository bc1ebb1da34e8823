"""How exactly turns of heads are found: ``python -m experiments.poses.turns STUDIES... [--count 4] [--most 40]``.

STUDIES are folders of skull-stripped studies in atlas space. Each brain is turned by up to ``--most`` degrees about
each axis, ``--count`` times, and what ``find_turn`` says of its reference is compared with what was drawn. That an
atlas lays people's heads a few degrees apart counts as error.
"""

from __future__ import annotations

import argparse
import time
import zlib
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from brats_seg.core.grid import Volume
from brats_seg.files.find import find_studies
from brats_seg.files.load import load_study
from brats_seg.imaging.brain import brain_mask
from brats_seg.imaging.register import resample
from brats_seg.imaging.upright import find_turn
from brats_seg.phantom.grids import grid_around

SIDE_MM = 4.0
REACH_MM = (115.0, 115.0, 115.0)


def main() -> None:
    """Print a line for each turn and what they come to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=4, help="turns of each brain")
    parser.add_argument("--most", type=float, default=40.0, help="degrees about each axis")
    arguments = parser.parse_args()
    errors, doubted, seconds = [], [], []
    for files in (files for folder in arguments.studies for files in find_studies(folder)):
        study = load_study(files)
        reference, brain = study.reference_volume, brain_mask(study.images)
        centre = reference.grid.to_world(np.argwhere(brain)[::97]).mean(0)
        grid = grid_around(centre, REACH_MM, spacing_mm=(SIDE_MM,) * 3, orientation="RAS")
        rng = np.random.default_rng(zlib.crc32(files.id.encode()))
        for angles in rng.uniform(-arguments.most, arguments.most, (arguments.count, 3)):
            drawn = Rotation.from_euler("xyz", angles, degrees=True)
            pose = np.eye(4)
            pose[:3, :3] = drawn.as_matrix()
            pose[:3, 3] = centre - pose[:3, :3] @ centre
            inside = resample(reference.with_data(brain), grid, matrix=pose, order="nearest").data > 0
            values = np.maximum(resample(reference, grid, matrix=pose).data, np.float32(1e-3))
            began = time.process_time()
            turn = find_turn(Volume(np.where(inside, values, np.float32(0)), grid))
            seconds.append(time.process_time() - began)
            errors.append(np.degrees((Rotation.from_matrix(turn.rotation) * drawn.inv()).magnitude()))
            doubted.append(bool(turn.doubt))
            print(f"{files.id}\t{np.degrees(drawn.magnitude()):.1f}\t{errors[-1]:.1f}\t{turn.doubt}", flush=True)
    relied = np.array(errors)[~np.array(doubted)]
    print(
        f"{len(errors)} turns, {sum(doubted)} doubted; off by {np.median(relied):.1f} degrees in the median of the "
        f"others, {relied.max():.1f} at most; {np.mean(seconds):.2f} CPU seconds"
    )


if __name__ == "__main__":
    main()
