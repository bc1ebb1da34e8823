"""Reading real scans for the tests of this room, thinned where a test need not see every voxel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from brats_seg.core.grid import Volume
from brats_seg.core.study import SEQUENCES, MRSequence

NAMES_2023 = dict(zip(SEQUENCES, ("t1n", "t1c", "t2w", "t2f"), strict=True))


def read(path: Path, *, step: int = 1) -> Volume:
    """Every ``step``-th voxel of a NIfTI file, float32."""
    image = nib.load(path)
    data = np.asarray(image.dataobj, dtype=np.float32)[::step, ::step, ::step]
    return Volume.from_affine(data, image.affine @ np.diag([step, step, step, 1.0]))


def scan_of(study: Path, sequence: MRSequence, *, step: int = 1) -> Volume:
    """One sequence of a BraTS study folder of any year."""
    name = study.name
    of_2023 = study / f"{name}-{NAMES_2023[sequence]}.nii.gz"
    return read(of_2023 if of_2023.exists() else study / f"{name}_{sequence.value}.nii.gz", step=step)


def study_of(study: Path, *, step: int = 2) -> dict[MRSequence, Volume]:
    """The four sequences of a BraTS study folder."""
    return {sequence: scan_of(study, sequence, step=step) for sequence in SEQUENCES}
