"""The plane between the halves of a brain, found by the symmetry of its outline.

A tumour shifts the midline inside the brain and hardly the skull around it, so the outline of the whole brain is what
is mirrored onto itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Floats, Grid
from brats_seg.core.visit import Midplane
from brats_seg.imaging.pooling import block_means

_STEP_MM = 5.0
"""Distance of the points that are compared; their smoothed outline is finer than that."""
_TURNS_DEG = (-20.0, -10.0, 0.0, 10.0, 20.0)
"""Turns about S and about A from which the search begins with the best."""
_FIRST_STEPS = np.array([[0, 0, 0], [6, 0, 0], [0, 6, 0], [0, 0, 3]], np.float64)
"""From the best of them: turns in degrees and a shift in mm."""
_SETTLED, _SETTLED_SHARE, _MOST_STEPS = 0.1, 1e-5, 80
"""Where the search ends: corners that lie so near (degrees, mm) and cover so much alike, or so many steps."""
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
    x, y, z = (max(round(_STEP_MM / spacing), 1) for spacing in grid.spacing_mm)
    density, size = block_means(brain.astype(np.float32), (x, y, z)), np.array([x, y, z])
    points = grid.to_world((np.argwhere(density > 0.5) + 0.5) * size - 0.5)
    if not len(points):
        return None
    centre = points.mean(axis=0)
    to_block = np.linalg.inv(grid.affine)[:3, :3] / size[:, None]
    blocks = (grid.to_voxel(points) + 0.5) / size - 0.5

    def uncovered(parameters: NDArray[np.float64]) -> float:
        normal, offset_mm = _plane(parameters, centre)
        places = blocks - 2 * np.outer(points @ normal - offset_mm, to_block @ normal)
        covered = ndimage.map_coordinates(density, places.T, order=1, mode="constant")
        return -float(np.minimum(covered, 1.0).mean())

    start = min((np.array([s, a, 0.0]) for s in _TURNS_DEG for a in _TURNS_DEG), key=uncovered)
    found, least = _least(uncovered, start + _FIRST_STEPS)
    normal, offset_mm = _plane(found, centre)
    if -least < _MIN_OVERLAP or np.abs(found[:2]).max() > _MAX_TURN_DEG:
        return None
    return Midplane((float(normal[0]), float(normal[1]), float(normal[2])), float(offset_mm), -least)


def _least(of: Callable[[Floats], float], corners: Floats) -> tuple[Floats, float]:
    """Where a function is least and what it is there, by Nelder and Mead (1965) from the corners of a simplex.

    As scipy.optimize does it, which takes longer to import than a study's search takes.
    """
    values = np.array([of(corner) for corner in corners])
    for _ in range(_MOST_STEPS):
        order = np.argsort(values)
        corners, values = corners[order], values[order]
        if np.ptp(values) <= _SETTLED_SHARE and np.abs(corners[1:] - corners[0]).max() <= _SETTLED:
            break
        step = corners[:-1].mean(axis=0) - corners[-1]
        place = corners[-1] + 2 * step
        value, worst = of(place), values[-1]
        if value < values[0]:
            farther = place + step
            place, value = min((place, value), (farther, of(farther)), key=lambda found: found[1])
        elif value >= values[-2]:
            worst = min(worst, value)
            place = corners[-1] + (1.5 if value < values[-1] else 0.5) * step
            value = of(place)
        if value <= worst:
            corners[-1], values[-1] = place, value
        else:
            corners[1:] = (corners[0] + corners[1:]) / 2
            values[1:] = [of(corner) for corner in corners[1:]]
    best = int(np.argmin(values))
    return corners[best], float(values[best])


def _plane(parameters: NDArray[np.float64], centre: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Unit normal towards the patient's right and offset, from turns about S and A in degrees and a shift in mm."""
    about_s, about_a = np.radians(parameters[:2])
    normal = np.array([np.cos(about_s) * np.cos(about_a), np.sin(about_s) * np.cos(about_a), np.sin(about_a)])
    return normal, float(normal @ centre) + float(parameters[2])
