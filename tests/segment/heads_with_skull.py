"""A head with skull for tests of brain extraction: an ellipsoid brain with a furrow, wrapped by the phantoms' skull."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.phantom.skull import add_skull, draw_skull

SPACING_MM = 3.0
RADII_MM = np.array([66.0, 84.0, 60.0])
TUMOUR_MM = np.array([-38.0, 20.0, 12.0])


def head_grid() -> Grid:
    """The field of view: head and neck."""
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = [-105, -125, -125]
    return Grid((71, 84, 79), affine)


def brain_of(grid: Grid) -> NDArray[np.bool_]:
    """``(X, Y, Z)`` the brain."""
    points = _points(grid)
    brain: NDArray[np.bool_] = ((points / RADII_MM) ** 2).sum(-1) < 1
    return brain & ~((np.abs(points[..., 0]) < 3) & (points[..., 2] > 20))  # the furrow between the halves


@cache
def head() -> Study:
    """Four sequences on one grid, with ventricles, a tumour, skull, scalp and eyes."""
    grid, rng = head_grid(), np.random.default_rng(0)
    points, brain = _points(grid), brain_of(grid)
    ventricle = (((np.abs(points) - (14, 0, 5)) / (8, 30, 10)) ** 2).sum(-1) < 1
    lesion = np.linalg.norm(points - TUMOUR_MM, axis=-1) < 18
    levels = {"t1": (0.5, -0.2), "t1ce": (0.5, 0.7), "t2": (1.8, 0.6), "flair": (0.4, 0.8)}
    images = {}
    for sequence in SEQUENCES:
        fluid, rise = levels[sequence.value]
        values = 100 * np.where(ventricle, fluid, 1.0) * (1 + rise * lesion) + rng.normal(0, 4, grid.shape)
        values *= 1 + 0.15 * np.sin(points[..., 1] / 14) * np.cos(points[..., 2] / 11)
        images[sequence] = Volume(np.where(brain, values.clip(5), 0).astype(np.float32), grid)
    return add_skull(Study("head", images), draw_skull(np.random.default_rng(1)), rng)


def moved(volume: Volume, matrix: NDArray[np.float64]) -> Volume:
    """The same voxels, in a header that says the head lay elsewhere."""
    return Volume(volume.data, Grid(volume.grid.shape, matrix @ volume.grid.affine))


def with_images(study: Study, images: dict[MRSequence, Volume]) -> Study:
    """The study with some sequences exchanged."""
    return Study(study.id, {**study.images, **images})


def _points(grid: Grid) -> NDArray[np.float64]:
    return grid.to_world(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1))
