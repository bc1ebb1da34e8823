"""The last tenths of a millimetre: both visits resampled half-way, and the rigid motion between them by least squares.

Visits show the same sequence, so without brightness and bias field (local mean and spread) they differ by motion,
noise and the disease. The motion is found by Gauss-Newton steps in half-way space, so that both scans are interpolated
alike and neither direction is preferred, with Tukey's biweight, which gives no weight to what truly changed. Idea:
M. Reuter et al., Highly accurate inverse consistent registration: a robust approach, NeuroImage 2010;53:1181
(doi:10.1016/j.neuroimage.2010.07.020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, ndimage

from brats_seg.core.grid import Affine, Floats, Grid, Mask, Volume, apply_affine
from brats_seg.imaging.boxes import box_or_all, cropped
from brats_seg.imaging.register import resample

SPACING_MM = 2.0
"""Voxels of the grids that are compared."""
BLUR_MM = 1.5
"""Standard deviation by which scans are smoothed first, along each axis as far as their voxels have not done it: thick
and thin slices become alike, and linear interpolation accurate."""
LOCAL_MM = 12.0
"""Standard deviation of the neighbourhood by whose mean and spread scans are normalised."""
TUKEY = 4.685
"""Tuning constant of the biweight: 95 % efficiency for normal errors (Holland & Welsch 1977)."""
ITERATIONS = 12
SETTLED_MM = 0.004
"""Iterations end when the head's points move less, in the mean."""
BLOCK_VOXELS = 6
"""Side of the blocks that are dealt out alternately to the two half estimates."""
MIN_VOXELS = 2000
"""Fewer compared voxels do not determine a motion well."""


@dataclass(frozen=True, eq=False)
class Side:
    """One scan ready to be compared: locally normalised on its own RAS grid of :data:`SPACING_MM`.

    Attributes:
        image: normalised brightness, 0 where nothing is compared.
        weight: 0..1, how far a voxel is compared.
    """

    image: Volume
    weight: Volume


def prepare_side(volume: Volume, compared: Mask) -> Side:
    """Smooth, resample to 2 mm and normalise a scan.

    Args:
        compared: ``(X, Y, Z)``, where it is looked at: a brain without its tumour.
    """
    box = box_or_all(compared)
    near = cropped(volume, box)
    data = np.asarray(near.data, dtype=np.float32)
    part = np.asarray(compared[box], dtype=np.float32)
    # A voxel of width d has averaged over d already, which spreads like a normal curve of d / sqrt(12).
    own = np.array(near.grid.spacing_mm) / np.sqrt(12.0)
    sigmas = np.sqrt(np.maximum(BLUR_MM**2 - own**2, 0.0)) / near.grid.spacing_mm
    weight = ndimage.gaussian_filter(part, sigmas)
    smooth = ndimage.gaussian_filter(data * part, sigmas) / np.maximum(weight, 1e-6)
    grid = _grid_around(near.grid.to_world(near.grid.corners()))
    inside = resample(near.with_data(part), grid, fill=0.0).data
    values = resample(near.with_data(smooth.astype(np.float32)), grid, fill=0.0).data
    return Side(Volume(_normalised(values, inside), grid), Volume(inside, grid))


def refine(moving: Side, fixed: Side, start: Affine) -> tuple[Affine, float] | None:
    """Gauss-Newton from a start that is right to a few millimetres; None where too little is compared.

    Args:
        start: 4x4, RAS+ mm of fixed to RAS+ mm of moving.
    """
    matrix = np.array(start, dtype=np.float64)
    for _ in range(ITERATIONS):
        system = _System.at(matrix, moving, fixed)
        if system is None:
            return None
        step = system.solve()
        matrix = system.moved(step)
        if system.mean_motion_mm(step) < SETTLED_MM:
            break
    system = _System.at(matrix, moving, fixed)
    if system is None:
        return None
    one, other = (system.solve(half) for half in (system.halves, ~system.halves))
    return matrix, system.mean_motion_mm(one - other) / 2


def rigid_power(matrix: Affine, power: float) -> Affine:
    """A rigid motion done to a share: the same screw, ``power`` of the way."""
    result = np.real(linalg.expm(power * np.real(linalg.logm(matrix))))
    return np.asarray(result, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _System:
    """The linear equations at one estimate: ``gradient . (shift + turn x place) = difference`` for each voxel."""

    to_fixed: Affine
    to_moving: Affine
    centre: Floats
    places: Floats
    gradients: Floats
    differences: Floats
    weights: Floats
    halves: Mask

    @classmethod
    def at(cls, matrix: Affine, moving: Side, fixed: Side) -> _System | None:
        to_moving = rigid_power(matrix, 0.5)
        to_fixed = np.asarray(np.linalg.inv(to_moving), dtype=np.float64)
        grid = _shared_grid([(fixed, to_fixed), (moving, to_moving)])
        images, weights = [], []
        for side, to_side in ((fixed, to_fixed), (moving, to_moving)):
            images.append(resample(side.image, grid, matrix=to_side, fill=0.0).data.astype(np.float64))
            weights.append(resample(side.weight, grid, matrix=to_side, fill=0.0).data.astype(np.float64))
        both = np.minimum(weights[0], weights[1])
        # The gradient looks one voxel to each side, which must be compared too.
        used = ndimage.minimum_filter(both, 3, mode="constant", cval=0.0) > 0.5
        if used.sum() < MIN_VOXELS:
            return None
        mean = (images[0] + images[1]) / 2
        gradients = np.stack([np.gradient(mean, SPACING_MM, axis=axis)[used] for axis in range(3)], axis=1)
        voxels = np.argwhere(used)
        places = grid.to_world(voxels)
        halves = (voxels // BLOCK_VOXELS).sum(axis=1) % 2 == 0
        differences = (images[0] - images[1])[used]
        return cls(to_fixed, to_moving, places.mean(axis=0), places, gradients, differences, both[used], halves)

    def solve(self, part: Mask | None = None) -> Floats:
        """Shift in mm and turn in radians, half of each for either side; ``part`` leaves out the other voxels."""
        rows = np.concatenate([self.gradients, np.cross(self.places - self.centre, self.gradients)], axis=1)
        differences, weights = self.differences, self.weights
        if part is not None:
            rows, differences, weights = rows[part], differences[part], weights[part]
        step = np.zeros(6)
        for _ in range(3):
            residuals = differences - rows @ step
            spread = 1.4826 * float(np.median(np.abs(residuals - np.median(residuals)))) + 1e-9
            certain = weights * np.maximum(1 - (residuals / (TUKEY * spread)) ** 2, 0) ** 2
            normal = rows.T @ (rows * certain[:, None])
            step = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(6), rows.T @ (certain * differences))
        return step

    def moved(self, step: Floats) -> Affine:
        """The estimate after a step."""
        x, y, z = step[3:]
        twist = np.zeros((4, 4))
        twist[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
        twist[:3, 3] = step[:3] - twist[:3, :3] @ self.centre
        result: Affine = self.to_moving @ linalg.expm(twist) @ np.linalg.inv(self.to_fixed)
        return result

    def mean_motion_mm(self, step: Floats) -> float:
        """How far a step moves the compared points, in the mean."""
        moved = step[:3] + np.cross(step[3:], self.places[::7] - self.centre)
        return float(np.linalg.norm(moved, axis=1).mean())


def _normalised(values: NDArray[np.float32], inside: NDArray[np.float32]) -> NDArray[np.float32]:
    """Brightness above the mean of the neighbourhood, in units of its spread; only what is compared counts."""
    sigma = LOCAL_MM / SPACING_MM
    total = np.maximum(ndimage.gaussian_filter(inside, sigma, truncate=3.0), 1e-3)
    mean = ndimage.gaussian_filter(values * inside, sigma, truncate=3.0) / total
    above = (values - mean) * inside
    spread = np.sqrt(ndimage.gaussian_filter(above**2, sigma, truncate=3.0) / total)
    seen = spread[inside > 0.5]
    floor = 0.3 * float(np.median(seen)) if seen.size else 1.0
    result: NDArray[np.float32] = (above / np.maximum(spread, max(floor, 1e-9))).astype(np.float32)
    return result


def _shared_grid(sides: list[tuple[Side, Affine]]) -> Grid:
    """Around both scans in half-way space; the same whichever is named first."""
    points = []
    for side, to_side in sides:
        grid = side.image.grid
        points.append(apply_affine(np.linalg.inv(to_side), grid.to_world(grid.corners())))
    low = np.max([p.min(axis=0) for p in points], axis=0)
    high = np.min([p.max(axis=0) for p in points], axis=0)
    return _grid_around(np.stack([low, np.maximum(high, low + 4 * SPACING_MM)]))


def _grid_around(points: Floats) -> Grid:
    low, high = points.min(axis=0), points.max(axis=0)
    count = np.ceil((high - low) / SPACING_MM).astype(int) + 1
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    # Centred, so that rounding moves neither end more than the other.
    affine[:3, 3] = (low + high) / 2 - (count - 1) * SPACING_MM / 2
    x, y, z = (int(n) for n in count)
    return Grid((x, y, z), affine)
