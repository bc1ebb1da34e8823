"""Brains that lie turned: the template they are laid upright by, stretched, with a tumour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Grid, Volume
from brats_seg.imaging.register import resample
from brats_seg.imaging.upright import read_template
from brats_seg.phantom.grids import grid_around, rotation_of

STRETCHED = (0.88, 0.95, 0.92)
"""Sides of a head against the template's."""


def turned_head(
    angles_deg: tuple[float, float, float], *, header: NDArray[np.float64] | None = None, contrast: float = -1.0
) -> Volume:
    """The brain of a smaller head of another shape, with a tumour and the contrast of T2 (1 for T1), on its grid."""
    template = read_template()
    grid = grid_around((5, -9, 12), (105, 115, 105), spacing_mm=(4, 4, 4), orientation="RAS")
    pose = np.eye(4)
    pose[:3, :3] = np.diag(1 / np.array(STRETCHED)) @ rotation_of(angles_deg)
    pose[:3, 3] = (0, -20, 5) - pose[:3, :3] @ (12, -20, 4)
    brain = (
        resample(Volume((template.data > 0).astype(np.float32), template.grid), grid, matrix=pose, fill=0).data > 0.5
    )
    values = 300 + contrast * resample(template, grid, matrix=pose, fill=0).data
    points = grid.to_world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    values[np.linalg.norm(points - (40, 5, 30), axis=-1) < 22] = 330
    values += np.random.default_rng(0).normal(0, 10, grid.shape)
    data = np.where(brain, np.maximum(values, 1), 0).astype(np.float32)
    return Volume(data, grid if header is None else Grid(grid.shape, header @ grid.affine))
