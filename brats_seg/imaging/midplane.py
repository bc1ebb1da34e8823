"""The plane between the halves of a brain, found by the symmetry of its outline.

A tumour shifts the midline inside the brain and hardly the skull around it, so the outline of the whole brain is what
is mirrored onto itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from brats_seg.core.grid import Grid
from brats_seg.core.visit import Midplane
from brats_seg.imaging.pooling import block_means

_STEP_MM = 5.0
"""Distance of the points that are compared; their smoothed outline is finer than that."""
_TURNS_DEG = (-20.0, -10.0, 0.0, 10.0, 20.0)
"""Turns about S and about A from which the search begins with the best."""
_MAX_TURN_DEG = 40.0
"""Heads lie turned by less against the axes their header names."""
_MIN_OVERLAP = 0.9
"""Share of the brain that its mirrored self covers, below which there is no midplane: half a brain, a slab, a defect.
Whole brains reach 0.93 and more."""


def find_midplane(brain: NDArray[np.bool_], grid: Grid) -> Midplane | None:
    """The midplane of a brain; None where the outline is not symmetrical enough to have one.

    Args:
        brain: ``(X, Y, Z)`` mask of the whole brain.
        grid: its grid; its axes may run anywhere, and lie oblique.
    """
    if not brain.any():
        return None
    density, size = _pooled(brain, grid)
    points = grid.to_world((np.argwhere(density > 0.5) + 0.5) * size - 0.5)
    if not len(points):
        return None
    centre = points.mean(axis=0)

    def uncovered(parameters: NDArray[np.float64]) -> float:
        normal, offset_mm = _plane(parameters, centre)
        mirrored = points - 2 * np.outer(points @ normal - offset_mm, normal)
        places = (grid.to_voxel(mirrored) + 0.5) / size - 0.5
        covered = ndimage.map_coordinates(density, places.T, order=1, mode="constant")
        return -float(np.minimum(covered, 1.0).mean())

    start = min((np.array([s, a, 0.0]) for s in _TURNS_DEG for a in _TURNS_DEG), key=uncovered)
    steps = start + np.array([[0, 0, 0], [6, 0, 0], [0, 6, 0], [0, 0, 3]], np.float64)
    found = optimize.minimize(
        uncovered, start, method="Nelder-Mead",
        options={"initial_simplex": steps, "xatol": 0.1, "fatol": 1e-5, "maxfev": 150},
    )  # fmt: skip
    normal, offset_mm = _plane(found.x, centre)
    if -found.fun < _MIN_OVERLAP or np.abs(found.x[:2]).max() > _MAX_TURN_DEG:
        return None
    return Midplane((float(normal[0]), float(normal[1]), float(normal[2])), float(offset_mm), float(-found.fun))


def _pooled(brain: NDArray[np.bool_], grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Share of brain in blocks of about :data:`_STEP_MM`, and the voxels along each side of a block."""
    x, y, z = (max(round(_STEP_MM / spacing), 1) for spacing in grid.spacing_mm)
    return block_means(brain.astype(np.float32), (x, y, z)), np.array([x, y, z])


def _plane(parameters: NDArray[np.float64], centre: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Unit normal towards the patient's right and offset, from turns about S and A in degrees and a shift in mm."""
    about_s, about_a = np.radians(parameters[:2])
    normal = np.array([np.cos(about_s) * np.cos(about_a), np.sin(about_s) * np.cos(about_a), np.sin(about_a)])
    return normal, float(normal @ centre) + float(parameters[2])
