"""Grids on which phantoms and objects are scanned: any voxel size, storage order and tilt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from brats_seg.core.errors import UsageError
from brats_seg.core.grid import Grid
from brats_seg.core.study import MRSequence

Triple = tuple[float, float, float]

MAX_VOXELS = 2**28
HEAD_REACH_MM: Triple = (92.0, 112.0, 104.0)
"""A head with scalp lies within this of the brain's centre, right, anterior and superior; the neck does not."""
BRAIN_REACH_MM: Triple = (80.0, 98.0, 82.0)
"""A brain lies within this of its centre."""
_WORLD = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
_TILT_DEG = 4.0
_THICK_MM = (3.0, 3.6, 4.0, 5.0)


def directions_of(orientation: str) -> NDArray[np.float64]:
    """3x3, its columns are the RAS+ directions of the array's axes.

    Raises:
        UsageError: if the letters name no orientation.
    """
    codes = orientation.upper()
    if len(codes) != 3 or {_WORLD[code][0] for code in codes if code in _WORLD} != {0, 1, 2}:
        raise UsageError(
            f"--orientation {orientation!r} is none; it names one of R/L, A/P and S/I each, such as RAS or LPS"
        )
    result = np.zeros((3, 3))
    for axis, code in enumerate(codes):
        world, sign = _WORLD[code]
        result[world, axis] = sign
    return result


def rotation_of(angles_deg: Triple) -> NDArray[np.float64]:
    """3x3: about the right axis first, then the anterior, then the superior one."""
    matrix: NDArray[np.float64] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    return matrix


def axial_axis(grid: Grid) -> int:
    """The array axis nearest to superior."""
    return next(axis for axis, (world, _) in enumerate(grid.axis_order) if world == 2)


def slice_axis(grid: Grid) -> int:
    """The array axis across the slices: of the largest voxel side, else of the axial direction."""
    spacing = grid.spacing_mm
    if max(spacing) > 1.05 * min(spacing):
        return int(np.argmax(spacing))
    return axial_axis(grid)


def grid_around(
    centre_mm: ArrayLike,
    reach_mm: ArrayLike,
    *,
    spacing_mm: Triple,
    orientation: str = "LPS",
    turn_deg: Triple = (0, 0, 0),
) -> Grid:
    """A grid whose middle voxel has its centre at a place.

    Args:
        centre_mm: RAS+.
        reach_mm: how far the grid reaches to each side along right, anterior and superior, before it is turned.
        spacing_mm: voxel sides along the array's axes.
        orientation: where these point, for example ``LPS``.
        turn_deg: see :func:`rotation_of`.

    Raises:
        UsageError: if the orientation is none, or the grid would be too large to handle.
    """
    plain = directions_of(orientation)
    spacing = np.array(spacing_mm, np.float64)
    half = np.ceil(np.abs(np.asarray(reach_mm, np.float64) @ plain) / spacing - 1e-9).astype(int)
    x, y, z = (int(n) for n in 2 * half + 1)
    if x * y * z > MAX_VOXELS:
        raise UsageError(f"a grid of {x}x{y}x{z} voxels is too large; choose larger voxels or a smaller object")
    affine = np.eye(4)
    affine[:3, :3] = (rotation_of(turn_deg) @ plain) * spacing
    affine[:3, 3] = np.asarray(centre_mm, np.float64) - affine[:3, :3] @ half
    return Grid((x, y, z), affine)


def small_turn(rng: np.random.Generator, deviation_deg: float = _TILT_DEG) -> Triple:
    """Angles as heads lie in scanners."""
    a, b, c = (float(v) for v in deviation_deg * rng.standard_normal(3))
    return a, b, c


def native_grids(centre_mm: ArrayLike, reach_mm: ArrayLike, rng: np.random.Generator) -> dict[MRSequence, Grid]:
    """Grids as a clinical protocol has them: T1CE in 3D at 1 mm, the others in 3D or as thick axial slices.

    Args:
        centre_mm: of the brain, RAS+.
        reach_mm: what the grids hold to each side of it.
        rng: chance of thickness, matrix, tilt and small shifts of the field of view.
    """
    reach = np.asarray(reach_mm, np.float64)
    place = np.asarray(centre_mm, np.float64)
    fine: Triple = (1.0, 1.0, 1.0)
    grids = {
        MRSequence.T1CE: grid_around(
            place + rng.uniform(-0.5, 0.5, 3), reach, spacing_mm=fine, orientation="PSR", turn_deg=small_turn(rng)
        )
    }
    in_plane: Mapping[MRSequence, float] = {MRSequence.T1: 0.9, MRSequence.T2: 0.7, MRSequence.FLAIR: 0.9}
    for sequence, side in in_plane.items():
        is_volume = sequence is not MRSequence.T2 and rng.random() < 0.35
        spacing = fine if is_volume else (side, side, float(rng.choice(_THICK_MM)))
        grids[sequence] = grid_around(
            place + rng.uniform(-2, 2, 3),
            reach,
            spacing_mm=spacing,
            orientation="PSR" if is_volume else "LPS",
            turn_deg=small_turn(rng),
        )
    return grids
