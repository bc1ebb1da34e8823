"""Make the template that lays turned heads upright: ``python -m experiments.poses.template OUT.nii.gz STUDIES...``.

The brain of MNI152 as nilearn carries it, in voxels of 4 mm, turned to lie as brains of BraTS do: by the mean turn
between it and the labelled, skull-stripped studies in atlas space below STUDIES, which is printed with its scatter.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from brats_seg.core.grid import Grid, Volume
from brats_seg.files.find import find_studies
from brats_seg.files.load import load_study
from brats_seg.imaging.brain import brain_mask
from brats_seg.imaging.pooling import block_means
from brats_seg.imaging.upright import register_upright

SIDE = 4
"""Voxels of 1 mm along each side of a block."""
BRIGHTEST = 255


def small_template() -> Volume:
    """MNI152's brain in 8 bits, 0 around it."""
    from nilearn import datasets

    image = datasets.load_mni152_template(resolution=1)
    data = np.asarray(image.dataobj, np.float32)
    sizes = (SIDE, SIDE, SIDE)
    share = block_means((data > 0).astype(np.float32), sizes)
    values = np.where(share >= 0.5, block_means(data, sizes) / np.maximum(share, 0.5), 0)
    step = np.diag([SIDE, SIDE, SIDE, 1.0])
    step[:3, 3] = (SIDE - 1) / 2
    return Volume.from_affine(np.round(values / values.max() * BRIGHTEST).astype(np.uint8), image.affine @ step)


def turned(template: Volume, rotation: Rotation) -> Volume:
    """The template turned about the origin."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.as_matrix()
    return Volume(template.data, Grid(template.grid.shape, matrix @ template.affine))


def main() -> None:
    """Write the template."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("studies", nargs="+", type=Path)
    arguments = parser.parse_args()
    template = small_template()
    brains = []
    for files in (files for folder in arguments.studies for files in find_studies(folder)):
        study = load_study(files)
        brain = brain_mask(study.images)
        reference = study.reference_volume
        brains.append(reference.with_data(np.where(brain, np.maximum(reference.data, 1e-3), 0).astype(np.float32)))
    found = Rotation.from_matrix([register_upright(brain, template).matrix[:3, :3] for brain in brains])
    mean = found.mean()
    left = np.degrees((found * mean.inv()).magnitude())
    print(
        f"turned by {mean.as_euler('xyz', degrees=True).round(2).tolist()} degrees about R, A, S; the {len(brains)} "
        f"studies differ from it by {np.median(left):.1f} in the median, {left.max():.1f} at most"
    )
    template = turned(template, mean.inv())
    nib.save(nib.Nifti1Image(template.data, template.affine), arguments.output)


if __name__ == "__main__":
    main()
