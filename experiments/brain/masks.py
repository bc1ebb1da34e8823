"""Measure the brain that is found in heads against masks: ``python -m experiments.brain.masks FOLDER... -o OUT.tsv``.

Each FOLDER holds one study with skull. A file ``*_SEQUENCE_brainmask.nii.gz`` in it is the mask on the grid of that
sequence, ``*_desc-brain_mask.nii.gz`` one on the grid of the reference, ``*_dseg.nii.gz`` the tumour. Without any, the
heads are phantoms ``--first`` to ``--first + --count - 1``, of every kind of tumour, each sequence on a grid of its
own, mostly of thick slices, and moved a little; the truth is where each sequence shows brain before the skull is put
around it. Written are, for each sequence with a mask: Dice; the largest piece that is missing after opening by 3 mm;
how much of the tumour is lost; and how long it took.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.scans import Study
from brats_seg.core.study import MRSequence
from brats_seg.files.find import find_study
from brats_seg.files.load import load_study
from brats_seg.files.nifti import read_label_map
from brats_seg.imaging.brain import with_skull
from brats_seg.imaging.register import resample
from brats_seg.models.brain import open_brain_networks
from brats_seg.phantom.course import make_visit
from brats_seg.phantom.dataset import DatasetOptions, draw_patient, visit_config
from brats_seg.phantom.script import PatientKind
from brats_seg.phantom.skull import add_skull, draw_skull
from brats_seg.segment.strip import StrippedStudy, strip

OPENED_MM = 3.0
SEED = 27
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Known:
    """A head whose brain is known.

    Attributes:
        study: with skull.
        brains: by sequence, not 0 where there is brain.
        tumour: not 0 where there is tumour, on the grid of the reference; None where it is not known.
    """

    study: Study
    brains: dict[MRSequence, Volume]
    tumour: Volume | None


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


def of_folder(folder: Path) -> Known:
    """A study with the masks that lie beside it."""
    study = load_study(find_study(folder))
    brains = {}
    for sequence in study.present:
        own = next(iter(folder.rglob(f"*_{sequence.value}_brainmask.nii.gz")), None)
        if own is None and sequence is study.reference_sequence:
            own = next(iter(folder.rglob("*_desc-brain_mask.nii.gz")), None)
        if own is not None:
            brains[sequence] = read_label_map(own)
    tumour = next(iter(folder.rglob("*_dseg.nii.gz")), None)
    return Known(study, brains, None if tumour is None else read_label_map(tumour))


def phantom(number: int) -> Known:
    """The phantom of a number, from 1."""
    options = DatasetOptions(seed=SEED, visits=1, kind=PatientKind.MIXED, space="native", skull=True)
    name = f"phantom-{number:02d}"
    config = replace(visit_config(options, number, 0), study_id=name)
    made = make_visit(draw_patient(options, number), 0, config).phantom
    brains = {sequence: volume.with_data(volume.data > 0) for sequence, volume in made.study.images.items()}
    rng = np.random.default_rng([SEED, number])
    return Known(add_skull(made.study, draw_skull(rng), rng, tumour=made.labels), brains, made.labels)


def rows_of(known: Known) -> Iterator[str]:
    """A line for each sequence that has a mask."""
    study = known.study
    began = time.process_time()
    stripped = strip(study, with_skull(study), open_brain_networks)
    seconds = time.process_time() - began
    for sequence, mask in known.brains.items():
        truth, grid = mask.data > 0, mask.grid
        found = on_scan(stripped, sequence, grid)
        dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
        lost = ""
        if known.tumour is not None and sequence is study.reference_sequence:
            labels = known.tumour.data > 0
            lost = f"{float((labels & ~found).sum()) * grid.voxel_ml:.2f} of {labels.sum() * grid.voxel_ml:.1f}"
        values = (study.id, sequence.title, f"{dice:.4f}", f"{missing_ml(found, truth, grid):.2f}", lost)
        sides = "x".join(f"{side:.1f}" for side in grid.spacing_mm)
        yield "\t".join((*values, f"{stripped.rim_ml:.2f}", stripped.source, f"{seconds:.1f}", sides))


def main() -> None:
    """Measure every head."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    arguments = parser.parse_args()
    if not arguments.output.exists():
        head = "study\tsequence\tdice\tmissing_ml\ttumour_lost_ml\trim_ml\tsource\tcpu_s\tvoxel_mm"
        arguments.output.write_text(head + "\n")
    numbers = range(arguments.first, arguments.first + arguments.count)
    heads = map(of_folder, arguments.folders) if arguments.folders else map(phantom, numbers)
    for known in heads:
        for row in rows_of(known):
            print(row, flush=True)
            with arguments.output.open("a") as table:
                table.write(row + "\n")


if __name__ == "__main__":
    main()
