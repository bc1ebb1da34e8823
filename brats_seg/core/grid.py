"""Grids and volumes: an array that never travels without its place in the scanner.

Convention of the whole project: arrays are ``(X, Y, Z)`` (channels first where there are any), the
affine is 4x4 float64 and maps voxel indices to RAS+ millimetres. LPS and ``zyx`` exist only in adapters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brats_seg.core.errors import InputError

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Affine = NDArray[np.float64]

_AXIS_CODES = (("L", "R"), ("P", "A"), ("I", "S"))
MAX_SHEAR = 1e-2
"""Largest cosine between two voxel axes that still counts as a rectangular grid."""


def apply_affine(matrix: NDArray[np.floating[Any]], points: ArrayLike) -> NDArray[np.float64]:
    """Points ``(..., 3)`` after a 4x4 transform."""
    result: NDArray[np.float64] = np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return result


def box_corners(low: ArrayLike, high: ArrayLike) -> NDArray[Any]:
    """The eight corners ``(8, 3)`` of the box between two points."""
    result: NDArray[Any] = np.array(np.meshgrid(*zip(np.asarray(low), np.asarray(high), strict=True))).reshape(3, -1).T
    return result


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie.

    Attributes:
        affine: 4x4 voxel-to-RAS+ matrix in millimetres, float64, read-only.

    Raises:
        InputError: if the shape is not three positive numbers, or the affine is not finite, has a
            zero spacing, is singular or sheared.
    """

    shape: tuple[int, int, int]
    affine: Affine

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"a grid needs three positive sizes, not {self.shape}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError(f"the affine is not a finite 4x4 matrix: {affine.tolist()}")
        if not np.allclose(affine[3], (0, 0, 0, 1)):
            raise InputError(f"the last row of the affine is {affine[3].tolist()}, not [0, 0, 0, 1]")
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if (spacing < 1e-6).any():
            raise InputError(f"a voxel spacing is zero: {spacing.round(6).tolist()} mm")
        axes = affine[:3, :3] / spacing
        if abs(np.linalg.det(axes)) < 1e-3:
            raise InputError("the affine is singular: its voxel axes do not span space")
        if np.abs(axes.T @ axes - np.eye(3)).max() > MAX_SHEAR:
            raise InputError("the affine is sheared: its voxel axes are not at right angles")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of voxel centres along each array axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @cached_property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size of the field of view along each array axis."""
        x, y, z = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return x, y, z

    @cached_property
    def axis_order(self) -> tuple[tuple[int, int], ...]:
        """For each array axis, the world axis it runs along (0 R, 1 A, 2 S) and its sign.

        The assignment takes the largest cosine first, so oblique grids get the closest cardinal axes.
        """
        cosines = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        result: dict[int, tuple[int, int]] = {}
        left = np.abs(cosines).copy()
        for _ in range(3):
            world, axis = np.unravel_index(int(np.argmax(left)), left.shape)
            result[int(axis)] = (int(world), 1 if cosines[world, axis] >= 0 else -1)
            left[world, :] = -1
            left[:, axis] = -1
        return tuple(result[axis] for axis in range(3))

    @property
    def orientation(self) -> str:
        """Direction each array axis points to, for example ``RAS`` or ``LPS``."""
        return "".join(_AXIS_CODES[world][int(sign > 0)] for world, sign in self.axis_order)

    def to_world(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """Voxel indices ``(..., 3)`` to RAS+ millimetres ``(..., 3)``."""
        return apply_affine(self.affine, voxels)

    def to_voxel(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """RAS+ millimetres ``(..., 3)`` to fractional voxel indices ``(..., 3)``."""
        return apply_affine(np.linalg.inv(self.affine), points_mm)

    def corners(self) -> NDArray[Any]:
        """Voxel indices ``(8, 3)`` of the outermost voxels."""
        return box_corners((0, 0, 0), np.array(self.shape) - 1)

    def offset_mm(self, other: Grid) -> float:
        """Largest distance between equal corners of two grids of the same shape.

        Raises:
            ValueError: if the shapes differ, because then no corners correspond.
        """
        if self.shape != other.shape:
            raise ValueError(f"grids of different shape have no offset: {self.shape} and {other.shape}")
        corners = self.corners()
        return float(np.linalg.norm(self.to_world(corners) - other.to_world(corners), axis=1).max())

    def same_as(self, other: Grid, *, tolerance_mm: float = 0.01) -> bool:
        """Whether both grids put every voxel at the same place, to within ``tolerance_mm``."""
        return self.shape == other.shape and self.offset_mm(other) <= tolerance_mm

    def describe(self) -> str:
        """For messages: ``240x240x155, 1 x 1 x 1 mm, LPS``."""
        sizes = "x".join(str(n) for n in self.shape)
        return f"{sizes}, {' x '.join(f'{s:.3g}' for s in self.spacing_mm)} mm, {self.orientation}"


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values and the grid they lie on.

    Attributes:
        data: ``(X, Y, Z)`` array; set read-only, so that two holders cannot surprise each other.

    Raises:
        InputError: if array and grid differ in shape.
    """

    data: Array
    grid: Grid

    def __post_init__(self) -> None:
        if self.data.shape != self.grid.shape:
            raise InputError(f"array of shape {self.data.shape} does not fit the grid {self.grid.describe()}")
        data = self.data.view()
        data.setflags(write=False)
        object.__setattr__(self, "data", data)

    @classmethod
    def from_affine(cls, data: Array, affine: ArrayLike) -> Volume:
        """A volume from an array ``(X, Y, Z)`` and its 4x4 RAS+ affine in mm."""
        if data.ndim != 3:
            raise InputError(f"a volume has three dimensions, not {data.ndim} (shape {data.shape})")
        x, y, z = data.shape
        return cls(data, Grid((x, y, z), np.asarray(affine, dtype=np.float64)))

    @property
    def affine(self) -> Affine:
        """4x4 voxel-to-RAS+ matrix in mm."""
        return self.grid.affine

    def with_data(self, data: Array) -> Volume:
        """Other values on the same grid."""
        return Volume(data, self.grid)

    def flip(self, axis: int) -> Volume:
        """The same volume stored the other way round along ``axis``; every voxel stays where it is."""
        step = np.eye(4)
        step[axis, axis] = -1
        step[axis, 3] = self.grid.shape[axis] - 1
        return Volume.from_affine(np.flip(self.data, axis), self.affine @ step)

    def permute(self, axes: tuple[int, int, int]) -> Volume:
        """The same volume with its array axes in another order; every voxel stays where it is."""
        return Volume.from_affine(np.transpose(self.data, axes), self.affine @ np.eye(4)[:, [*axes, 3]])

    def to_ras(self) -> Volume:
        """The same voxels, stored so that array axes run closest to right, anterior and superior."""
        order = self.grid.axis_order
        axes = tuple(next(i for i, (world, _) in enumerate(order) if world == target) for target in range(3))
        volume = self.permute((axes[0], axes[1], axes[2]))
        for axis, (_, sign) in enumerate(volume.grid.axis_order):
            if sign < 0:
                volume = volume.flip(axis)
        return volume

    def crop(self, start: tuple[int, int, int], stop: tuple[int, int, int]) -> Volume:
        """The box ``[start, stop)`` in voxels; it must lie inside."""
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        for a, b, n in zip(start, stop, self.grid.shape, strict=True):
            if not 0 <= a < b <= n:
                raise ValueError(f"box {start} to {stop} does not lie inside {self.grid.shape}")
        step = np.eye(4)
        step[:3, 3] = start
        return Volume.from_affine(self.data[box], self.affine @ step)


def grid_between(low_mm: ArrayLike, high_mm: ArrayLike, spacing_mm: float) -> Grid:
    """RAS voxels from one corner to another or beyond, both RAS+ mm."""
    low = np.asarray(low_mm, np.float64)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = low
    x, y, z = (int(n) for n in np.ceil((np.asarray(high_mm) - low) / spacing_mm) + 1)
    return Grid((x, y, z), affine)
