"""Labelled cubes of further patients at the 1 mm of prepared studies: one file for ``brats-seg train --cubes``.

    python experiments/training/cubes.py READER -o cubes.npz

READER is a Python file with ``cubes()``, which yields a patient, an image ``(4, x, y, z)`` of z-scores over the whole
brain (T1, T1CE, T2, FLAIR) and a label ``(x, y, z)`` (1 necrosis, 2 edema, 4 enhancing), axes towards left, posterior
and superior, voxels of 1.875 x 1.875 x 1.211 mm.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from programs import load_function
from scipy import ndimage

from brats_seg.core.labels import DEFAULT_SCHEMA, SCHEMAS
from brats_seg.models.card import regions_of
from brats_seg.train.data import LEVELS_PER_STD, write_arrays

VOXEL_MM = (1.875, 1.875, 1.211)


def at_1_mm(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """A cube at 1 mm, linear, axes towards right, anterior and superior; no further than its outer voxels' centres."""
    sides = [int((n - 1) * mm) + 1 for n, mm in zip(volume.shape, VOXEL_MM, strict=True)]
    # centred, so that both ends are cut alike
    starts = [((n - 1) - (side - 1) / mm) / 2 for n, side, mm in zip(volume.shape, sides, VOXEL_MM, strict=True)]
    scale = [1 / mm for mm in VOXEL_MM]
    made = ndimage.affine_transform(volume, scale, offset=starts, output_shape=tuple(sides), order=1)
    return np.ascontiguousarray(made[::-1, ::-1])


def prepared(image: NDArray[np.float32], label: NDArray[np.uint8]) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """Image in grey levels and label in the default schema, both at 1 mm."""
    brain = at_1_mm((image != 0).any(axis=0).astype(np.float32)) >= 0.5
    levels = np.stack([np.clip(np.rint(at_1_mm(channel) * LEVELS_PER_STD), -127, 127) for channel in image])
    numbers = SCHEMAS["brats2021"].convert(label, DEFAULT_SCHEMA)
    masks = {r: at_1_mm(DEFAULT_SCHEMA.region_mask(numbers, r).astype(np.float32)) >= 0.5 for r in regions_of()}
    return (levels * brain).astype(np.int8), regions_of().compose(masks, DEFAULT_SCHEMA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    patients, images, labels = [], [], []
    for patient, image, label in load_function(given.reader, "cubes")():
        levels, numbers = prepared(image, label)
        patients.append(patient)
        images.append(levels)
        labels.append(numbers)
    arrays = {"images": np.stack(images), "labels": np.stack(labels), "patients": np.array(patients)}
    write_arrays(given.out, arrays)
    print(f"{given.out}: {len(patients)} cubes {labels[0].shape} of {len(set(patients))} patients")


if __name__ == "__main__":
    main()
