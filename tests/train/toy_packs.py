"""Packed studies small enough to train on in a test: a bright ball is the tumour."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from brats_seg.train.config import AugmentConfig
from brats_seg.train.data import LEVELS_PER_STD, PackedStudy

UNALTERED = AugmentConfig(**{entry.name: 0.0 for entry in fields(AugmentConfig) if isinstance(entry.default, float)})
"""Samples are cut and nothing else."""


def toy_pack(name: str, *, centre: tuple[int, int, int] = (22, 26, 20), seed: int = 0) -> PackedStudy:
    """A brain of noise, 44x52x40 voxels, with necrosis 1 in enhancing tumour 3 in edema 2 around ``centre``."""
    shape = (44, 52, 40)
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    brain = sum(((axis - (n - 1) / 2) / (n / 2)) ** 2 for axis, n in zip(axes, shape, strict=True)) < 1
    away = np.sqrt(sum((axis - c) ** 2.0 for axis, c in zip(axes, centre, strict=True)))
    labels = np.zeros(shape, np.uint8)
    for radius, number in ((12, 2), (8, 3), (4, 1)):
        labels[(away < radius) & brain] = number
    image = rng.normal(0.0, 0.3, (4, *shape))
    image[2:] += 2.0 * (labels > 0)
    image[1] += 2.5 * (labels == 3) - 1.0 * (labels == 1)
    levels = np.where(brain, np.clip(np.round(image * LEVELS_PER_STD), -127, 127), 0)
    levels[:, brain & (levels == 0).all(axis=0)] = 1  # the brain holds no voxel that looks like air
    return PackedStudy(name, levels.astype(np.int8), labels)


def toy_packs() -> list[PackedStudy]:
    return [toy_pack("a"), toy_pack("b", centre=(30, 20, 24), seed=1)]
