"""Whether what changes nothing about a patient changes the volumes.

    python experiments/unchanged.py STUDY... [--only field,noise]

Every STUDY, a folder of scans, is segmented as it is and once for each change: half of the slices without tumour cut
away at both ends (field), 20 voxels of background around it (padded), moved by whole voxels in the array (moved),
stored the other way round (flipped), intensities in other units (scaled) and with an offset (offset), and 1 % noise
(noise). Prints a Markdown row for each, with a mark where a volume leaves the limits: WT 3 % or 0.2 ml, TC and ET 6 %
or 0.3 ml, and never to zero.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from brats_seg.core.grid import Array, Grid, Volume
from brats_seg.core.scans import Study
from brats_seg.core.visit import Visit
from brats_seg.files.find import find_study
from brats_seg.files.load import load_study
from brats_seg.imaging.boxes import bounding_box
from brats_seg.run.options import SegmentOptions
from brats_seg.run.segment import open_predictor, segment_study

LIMITS = {"WT": (0.03, 0.2), "TC": (0.06, 0.3), "ET": (0.06, 0.3)}
"""Share of the volume, and ml, either of which a volume may change by."""
EDGE = 20
"""Voxels."""
NOISE = 0.01
"""Standard deviation, as a share of the 99th percentile of the head."""


def padded(volume: Volume) -> Volume:
    """With background around it; every voxel stays where it is."""
    data = np.pad(volume.data, EDGE)
    affine = np.array(volume.grid.affine)
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, float(EDGE))
    x, y, z = data.shape
    return Volume(data, Grid((x, y, z), affine))


def half_field(volume: Volume, tumour: Array) -> Volume:
    """Without half of the slices below the tumour, and half of those above it."""
    axis = [target for target, _ in volume.grid.axis_order].index(2)
    box = bounding_box(tumour)
    if box is None:
        return volume
    start, stop = [0, 0, 0], list(volume.grid.shape)
    start[axis], stop[axis] = box[axis].start // 2, (box[axis].stop + volume.grid.shape[axis]) // 2
    return volume.crop((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def noisy(volume: Volume) -> Volume:
    """With noise inside the head, the same in every run."""
    head = volume.data != 0
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(volume.data).tobytes()))
    noise = rng.normal(0, NOISE * np.percentile(volume.data[head], 99), volume.data.shape)
    return volume.with_data(np.where(head, volume.data + noise, 0).astype(np.float32))


CHANGES: dict[str, Callable[[Volume, Array], Volume]] = {
    "field": half_field,
    "padded": lambda volume, _: padded(volume),
    "moved": lambda volume, _: volume.with_data(np.roll(volume.data, 3, axis=0)),
    "flipped": lambda volume, _: volume.flip(0),
    "scaled": lambda volume, _: volume.with_data(volume.data * np.float32(3.7)),
    "offset": lambda volume, _: volume.with_data(volume.data + np.float32(50)),
    "noise": lambda volume, _: noisy(volume),
}


def volumes(visit: Visit) -> dict[str, float]:
    return {region: visit.measurements.volume(region).volume_ml for region in LIMITS}


def is_kept(region: str, before: float, after: float) -> bool:
    """Whether a volume in ml stays within the limits."""
    share, ml = LIMITS[region]
    return abs(after - before) <= max(share * before, ml) and (after > 0 or before <= ml)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--only", default=",".join(CHANGES))
    given = parser.parse_args()
    options = SegmentOptions(report=False)
    predictor = open_predictor(options)
    print("| study | change | WT, ml | TC, ml | ET, ml |\n|---|---|---|---|---|", flush=True)
    for folder in given.studies:
        study = replace(load_study(find_study(folder)), sha256={})
        first = segment_study(study, options=options, predictor=predictor)
        before, tumour = volumes(first), first.segmentation.labels.data
        print_row(study, "as it is", before, before)
        for name in given.only.split(","):
            images = {sequence: CHANGES[name](volume, tumour) for sequence, volume in study.images.items()}
            other = segment_study(replace(study, images=images), options=options, predictor=predictor)
            print_row(study, name, before, volumes(other))


def print_row(study: Study, name: str, before: dict[str, float], after: dict[str, float]) -> None:
    cells = [f"{after[r]:.2f}{'' if is_kept(r, before[r], after[r]) else ' (**changed**)'}" for r in before]
    print(f"| {study.id} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
