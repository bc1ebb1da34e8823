"""Packed studies small enough to train on in a test: a bright ball is the tumour."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from brats_seg.train.config import AugmentConfig
from brats_seg.train.data import LEVELS_PER_STD, PackedStudy

UNALTERED = AugmentConfig(**{entry.name: 0.0 for entry in fields(AugmentConfig) if isinstance(entry.default, float)})
"""Samples are cut and nothing else."""


def toy_pack(
    name: str,
    *,
    centre: tuple[int, int, int] = (22, 26, 20),
    seed: int = 0,
    shape: tuple[int, int, int] = (44, 52, 40),
    radii: tuple[int, int, int] = (12, 8, 4),
) -> PackedStudy:
    """A brain of noise with edema 2, enhancing tumour 3 and necrosis 1 in balls of ``radii`` around ``centre``."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    brain = sum(((axis - (n - 1) / 2) / (n / 2)) ** 2 for axis, n in zip(axes, shape, strict=True)) < 1
    away = np.sqrt(sum((axis - c) ** 2.0 for axis, c in zip(axes, centre, strict=True)))
    labels = np.zeros(shape, np.uint8)
    for radius, number in zip(radii, (2, 3, 1), strict=True):
        labels[(away < radius) & brain] = number
    image = rng.normal(0.0, 0.3, (4, *shape))
    image[2:] += 2.0 * (labels > 0)
    image[1] += 2.5 * (labels == 3) - 1.0 * (labels == 1)
    levels = np.where(brain, np.clip(np.round(image * LEVELS_PER_STD), -127, 127), 0)
    levels[:, brain & (levels == 0).all(axis=0)] = 1  # the brain holds no voxel that looks like air
    return PackedStudy(name, levels.astype(np.int8), labels)


def toy_packs() -> list[PackedStudy]:
    return [toy_pack("a"), toy_pack("b", centre=(30, 20, 24), seed=1)]
