"""Analytic objects sampled on grids, and slow, independent oracles for diameters."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats_seg.core.grid import Grid
from tests.strategies import affine_of

Inside = Callable[[np.ndarray], np.ndarray]
"""Points ``(..., 3)`` in mm from the object's centre to whether they are inside."""


def grid_of(
    orientation: str = "RAS",
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
    extent_mm: float = 40.0,
) -> Grid:
    """A grid around the world's origin that is at least ``extent_mm`` wide along each axis."""
    x, y, z = (int(np.ceil(extent_mm / s)) for s in spacing_mm)
    affine = affine_of(orientation, spacing_mm, (0, 0, 0), tilt_deg)
    affine[:3, 3] = -affine[:3, :3] @ (np.array([x, y, z]) - 1) / 2
    return Grid((x, y, z), affine)


def world_points(grid: Grid) -> np.ndarray:
    """``(X, Y, Z, 3)`` RAS+ millimetres of the voxel centres."""
    return grid.to_world(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1))


def ellipsoid(semi_axes_mm: tuple[float, float, float], turn_deg: tuple[float, float, float] = (0, 0, 0)) -> Inside:
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    return lambda points: (((points @ turn) / np.array(semi_axes_mm)) ** 2).sum(-1) < 1


def sphere(radius_mm: float) -> Inside:
    return ellipsoid((radius_mm, radius_mm, radius_mm))


def box(sides_mm: tuple[float, float, float], turn_deg: tuple[float, float, float] = (0, 0, 0)) -> Inside:
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    return lambda points: (np.abs(points @ turn) < np.array(sides_mm) / 2).all(-1)


def shifts(grid: Grid, count: int, seed: int = 0) -> np.ndarray:
    """``(count, 3)`` world shifts of less than a voxel, uniform over one voxel."""
    fractions = np.random.default_rng(seed).uniform(-0.5, 0.5, (count, 3))
    return fractions @ grid.affine[:3, :3].T


def turn_in_plane(grid: Grid, axis: int, angle_deg: float) -> tuple[float, float, float]:
    """Euler angles that put x and y in the plane normal to an array axis, and z along it, turned within the plane."""
    columns = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    normal = columns[:, axis]
    first = columns[:, (axis + 1) % 3]
    frame = np.stack([first, np.cross(normal, first), normal], axis=1)
    frame = frame @ Rotation.from_euler("z", angle_deg, degrees=True).as_matrix()
    x, y, z = Rotation.from_matrix(frame).as_euler("xyz", degrees=True)
    return float(x), float(y), float(z)


def edge_points_slow(mask: np.ndarray) -> np.ndarray:
    """Mid-edge points of a 2D mask, voxel by voxel."""
    points = []
    for row, column in np.argwhere(mask):
        for step_row, step_column in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            r, c = row + step_row, column + step_column
            outside = not (0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and mask[r, c])
            if outside:
                points.append((row + step_row / 2, column + step_column / 2))
    return np.array(points)


def longest_slow(
    mask: np.ndarray, grid: Grid, axis: int, cavity: np.ndarray | None = None, *, level: float = 0.5
) -> float:
    """Longest chord over all slices and all pairs of mid-edge points, in mm, by plain enumeration."""
    best = 0.0
    for index in range(mask.shape[axis]):
        plane = np.take(mask, index, axis)
        points = edge_points_slow(plane)
        if not len(points):
            continue
        world = grid.to_world(np.insert(points, axis, index, axis=1))
        lengths = np.linalg.norm(world[:, None] - world[None], axis=-1)
        if cavity is None:
            best = max(best, float(lengths.max()))
            continue
        hole = np.take(cavity, index, axis)
        for a, b in itertools.combinations(range(len(points)), 2):
            if lengths[a, b] > best and not enters_slow(points[a], points[b], hole, level=level):
                best = float(lengths[a, b])
    return best


def enters_slow(start: np.ndarray, end: np.ndarray, hole: np.ndarray, *, level: float) -> bool:
    """Whether the hole's mask, interpolated between voxel centres, exceeds ``level`` somewhere on a line."""
    count = max(2, int(np.ceil(np.linalg.norm(end - start) / 0.05)))
    samples = start + (end - start) * np.linspace(0, 1, count)[:, None]
    return bool(ndimage.map_coordinates(np.pad(hole, 2).astype(float), samples.T + 2, order=1).max() > level)


def perpendicular_slow(
    mask: np.ndarray, ends: np.ndarray, spacing: np.ndarray, *, step: float = 0.05, level: float = 0.5
) -> float:
    """Longest line of a 2D mask across ``ends`` (voxels), found by walking upright lines through its area."""
    along = (ends[1] - ends[0]) * spacing
    along /= np.linalg.norm(along)
    across = np.array([-along[1], along[0]])
    corners = np.array(list(itertools.product((-1, mask.shape[0]), (-1, mask.shape[1])))) * spacing
    offsets = np.arange((corners @ along).min(), (corners @ along).max(), step)
    heights = np.arange((corners @ across).min(), (corners @ across).max(), step)
    points = (offsets[:, None, None] * along + heights[None, :, None] * across) / spacing
    padded = np.pad(mask, 3).astype(float)
    shifted = np.clip(points + 3, 0, np.array(padded.shape) - 2)
    base = shifted.astype(int)
    rest = shifted - base
    value = sum(
        padded[base[..., 0] + i, base[..., 1] + j] * np.abs(1 - i - rest[..., 0]) * np.abs(1 - j - rest[..., 1])
        for i, j in itertools.product((0, 1), (0, 1))
    )
    inside = value > level
    extents = [heights[np.flatnonzero(row)[[0, -1]]] for row in inside if row.any()]
    return max(float(b - a) for a, b in extents)
