"""Small heads made of ellipsoids, for tests of preparation; nothing here is anatomy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from strategies import affine_of

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES, MRSequence

RADII_MM = np.array([38.0, 44.0, 36.0])
"""Half axes of the brain: 252 ml, just above the least that counts as a head."""

TUMOUR_MM = np.array([12.0, -9.0, 6.0])
_LEVELS = dict(zip(SEQUENCES, ((420.0, -60.0), (460.0, 240.0), (300.0, 130.0), (350.0, 210.0)), strict=True))


def head_grid(
    orientation: str = "RAS",
    *,
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    field_mm: tuple[float, float, float] = (104.0, 112.0, 100.0),
    origin_mm: tuple[float, float, float] | None = None,
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Grid:
    """A grid of a stored orientation around the world's origin; ``spacing`` and ``field`` are along R, A, S."""
    world = ["RL", "AP", "SI"]
    axes = [next(i for i, pair in enumerate(world) if code in pair) for code in orientation]
    size = [max(round(field_mm[axis] / spacing_mm[axis]), 1) for axis in axes]
    spacing = tuple(spacing_mm[axis] for axis in axes)
    affine = affine_of(orientation, spacing, (0.0, 0.0, 0.0), tilt_deg)
    middle = affine[:3, :3] @ ((np.array(size) - 1) / 2)
    affine[:3, 3] = (origin_mm if origin_mm is not None else (0.0, 0.0, 0.0)) - middle
    return Grid((size[0], size[1], size[2]), affine)


def points_of(grid: Grid) -> NDArray[np.float64]:
    """RAS+ millimetres of every voxel, ``(X, Y, Z, 3)``."""
    return grid.to_world(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1))


def head_image(grid: Grid, sequence: MRSequence, *, background: float = 0.0, scale: float = 1.0) -> Volume:
    """One sequence of the head: a brain with smooth, lopsided structure and a lesion; ``scale`` shrinks it."""
    points = points_of(grid) / scale
    level, lesion = _LEVELS[sequence]
    phase = 0.7 * SEQUENCES.index(sequence)
    texture = 1 + 0.12 * np.sin(points[..., 0] / 9 + phase) * np.cos(points[..., 1] / 11) + points[..., 2] / 400
    ventricle = (((points - (-4, 6, 8)) / (9, 14, 8)) ** 2).sum(axis=-1) < 1
    image = level * texture * np.where(ventricle, 0.55, 1.0)
    image = image + lesion * ((((points - TUMOUR_MM) / 12) ** 2).sum(axis=-1) < 1)
    brain = ((points / RADII_MM) ** 2).sum(axis=-1) < 1
    return Volume(np.where(brain, image + background, background).astype(np.float32), grid)


def head_labels(grid: Grid, *, scale: float = 1.0) -> Volume:
    """Nested tumour in the numbers of 2023: edema 2 around enhancing 3 around necrosis 1."""
    distance = np.linalg.norm(points_of(grid) / scale - TUMOUR_MM, axis=-1)
    labels = np.zeros(grid.shape, np.uint8)
    for radius, number in ((17.0, 2), (12.0, 3), (7.0, 1)):
        labels[distance < radius] = number
    return Volume(labels, grid)


def head_study(
    grid: Grid, *, sequences: tuple[MRSequence, ...] = SEQUENCES, background: float = 0.0, scale: float = 1.0
) -> Study:
    """A study whose sequences lie on one grid."""
    return Study("head", {s: head_image(grid, s, background=background, scale=scale) for s in sequences})


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice of two masks that are not both empty."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
