"""Measure the brain that is found in heads against masks: ``python -m experiments.brain.masks FOLDER... -o OUT.tsv``.

Each FOLDER holds one study with skull. A file ``*_SEQUENCE_brainmask.nii.gz`` in it is the mask on the grid of that
sequence, ``*_desc-brain_mask.nii.gz`` one on the grid of the reference, ``*_dseg.nii.gz`` the tumour. Written are, for
each sequence with a mask: Dice; the largest piece that is missing after opening by 3 mm; how much of the tumour is
lost; and how long it took.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.study import MRSequence
from brats_seg.files.find import find_study
from brats_seg.files.load import load_study
from brats_seg.files.nifti import read_label_map
from brats_seg.imaging.brain import with_skull
from brats_seg.imaging.register import resample
from brats_seg.models.brain import open_brain_networks
from brats_seg.segment.strip import StrippedStudy, strip

OPENED_MM = 3.0
Mask = NDArray[np.bool_]


def on_scan(stripped: StrippedStudy, sequence: MRSequence, grid: Grid) -> Mask:
    """The brain that was found, on the grid of a sequence."""
    found = stripped.registrations.get(sequence)
    matrix = None if found is None else np.linalg.inv(found.matrix)
    shares = Volume(stripped.brain.astype(np.float32), stripped.grid)
    return np.asarray(resample(shares, grid, matrix=matrix, fill=0.0).data > 0.5)


def missing_ml(found: Mask, truth: Mask, grid: Grid) -> float:
    """The largest piece of the truth that is not found, after opening."""
    lost = np.pad(truth & ~found, 1)
    deep = ndimage.distance_transform_edt(lost, sampling=grid.spacing_mm) > OPENED_MM
    opened = ndimage.distance_transform_edt(~deep, sampling=grid.spacing_mm) <= OPENED_MM
    labels = cc3d.connected_components(opened & lost, connectivity=26)
    return float(np.bincount(labels.ravel())[1:].max(initial=0)) * grid.voxel_ml


def rows_of(folder: Path) -> list[str]:
    """A line for each sequence that has a mask."""
    study = load_study(find_study(folder))
    began = time.process_time()
    stripped = strip(study, with_skull(study), open_brain_networks)
    seconds = time.process_time() - began
    tumour = next(iter(folder.rglob("*_dseg.nii.gz")), None)
    rows = []
    for sequence in study.present:
        own = next(iter(folder.rglob(f"*_{sequence.value}_brainmask.nii.gz")), None)
        if own is None and sequence is study.reference_sequence:
            own = next(iter(folder.rglob("*_desc-brain_mask.nii.gz")), None)
        if own is None:
            continue
        mask = read_label_map(own)
        truth, grid = mask.data > 0, mask.grid
        found = on_scan(stripped, sequence, grid)
        dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
        lost = ""
        if tumour is not None and sequence is study.reference_sequence:
            labels = read_label_map(tumour).data > 0
            lost = f"{float((labels & ~found).sum()) * grid.voxel_ml:.2f} of {labels.sum() * grid.voxel_ml:.1f}"
        values = (study.id, sequence.title, f"{dice:.4f}", f"{missing_ml(found, truth, grid):.2f}", lost)
        rows.append("\t".join((*values, f"{stripped.rim_ml:.2f}", stripped.source, f"{seconds:.1f}")))
    return rows


def main() -> None:
    """Measure every folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    arguments = parser.parse_args()
    head = "study\tsequence\tdice\tmissing_ml\ttumour_lost_ml\trim_ml\tsource\tcpu_s"
    lines = [head]
    for folder in arguments.folders:
        lines += rows_of(folder)
        print("\n".join(lines[-4:]), flush=True)
        arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
