"""Digital reference objects: bodies whose volume a formula gives, sampled on any grid.

A mask holds the voxels whose centre lies inside; averaged over sub-voxel shifts its volume is unbiased. A
fraction is the share of each voxel that lies inside, from a regular sub-lattice in the voxels the surface may
cross; all other voxels are decided by their distance to the surface, so the work grows with the surface only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Floats, Grid, box_corners

Point = Sequence[float] | Floats
"""Three numbers."""
Span = tuple[slice, slice, slice]

_CHUNK_POINTS = 500_000


class Shape(ABC):
    """A solid in RAS+ millimetres with a known volume."""

    @property
    @abstractmethod
    def volume_ml(self) -> float:
        """Exact volume."""

    @abstractmethod
    def level_mm(self, points_mm: Floats) -> Floats:
        """``(..., 3)`` points to ``(...)``: negative inside, and never farther from 0 than the surface is away."""

    @abstractmethod
    def bounds_mm(self) -> tuple[Floats, Floats]:
        """Lower and upper corner of a box around the solid."""

    def sample_mask(self, grid: Grid) -> NDArray[np.bool_]:
        """``grid.shape`` bool: voxels whose centre lies inside."""
        mask = np.zeros(grid.shape, np.bool_)
        box = _voxel_box(self, grid)
        if box is not None:
            mask[box] = self.level_mm(points_of(grid, box)) <= 0
        return mask

    def sample_fractions(self, grid: Grid, *, supersampling: int = 5) -> NDArray[np.float32]:
        """``grid.shape`` float32 in 0..1: share of each voxel inside the solid.

        Args:
            grid: where to sample; need not contain the whole solid.
            supersampling: sub-points along the shortest side of a voxel; longer sides get more in proportion.
        """
        fractions = np.zeros(grid.shape, np.float32)
        box = _voxel_box(self, grid)
        if box is None:
            return fractions
        cubes = _cubes(grid, box)
        level = self.level_mm(points_of(cubes))
        reach = float(np.linalg.norm(cubes.spacing_mm)) / 2  # centre to corner of a cube
        part = (level < 0).astype(np.float32)
        undecided = np.argwhere(np.abs(level) <= reach)
        part[tuple(undecided.T)] = inside_shares(
            lambda points: self.level_mm(points) <= 0, cubes, undecided, supersampling=supersampling
        )
        fractions[box] = _mean_of_blocks(part, fractions[box].shape)
        return fractions


def _cubes(grid: Grid, box: Span) -> Grid:
    """The voxels of a box, long ones cut into near cubes: fewer of those than of long voxels are on the surface."""
    first, stop = (np.array([getattr(side, end) for side in box]) for end in ("start", "stop"))
    ratios = np.array(grid.spacing_mm) / min(grid.spacing_mm)
    parts = np.where(np.abs(ratios - np.round(ratios)) < 1e-6, np.round(ratios), 1.0)  # so sub-points stay the same
    affine = np.array(grid.affine)
    affine[:3, :3] /= parts
    affine[:3, 3] = grid.to_world(first + (1 / parts - 1) / 2)
    x, y, z = (int(n) for n in (stop - first) * parts)
    return Grid((x, y, z), affine)


def _mean_of_blocks(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Mean of equal blocks, as many along each axis as ``shape`` says."""
    pairs = [part for n, count in zip(values.shape, shape, strict=True) for part in (count, n // count)]
    result: NDArray[np.float32] = values.reshape(pairs).mean((1, 3, 5))
    return result


def inside_shares(
    inside: Callable[[Floats], NDArray[np.bool_]], grid: Grid, voxels: NDArray[np.intp], *, supersampling: int = 5
) -> NDArray[np.float32]:
    """Share of each voxel for which ``inside`` holds.

    Args:
        inside: ``(..., 3)`` RAS+ mm to ``(...)`` bool.
        voxels: ``(N, 3)`` indices.
        supersampling: sub-points along the shortest side of a voxel.

    Returns:
        ``(N,)`` float32.
    """
    offsets = _sub_offsets(grid, supersampling) @ grid.affine[:3, :3].T
    result = np.zeros(len(voxels), np.float32)
    step = max(_CHUNK_POINTS // len(offsets), 1)
    for first in range(0, len(voxels), step):
        centres = grid.to_world(voxels[first : first + step])
        result[first : first + step] = inside(centres[:, None, :] + offsets).mean(1)
    return result


def _sub_offsets(grid: Grid, supersampling: int) -> Floats:
    """``(M, 3)`` offsets in voxels, the centres of equal sub-cells."""
    if supersampling < 1:
        raise ValueError(f"supersampling must be at least 1, not {supersampling}")
    shortest = min(grid.spacing_mm)
    counts = [max(round(supersampling * spacing / shortest), supersampling) for spacing in grid.spacing_mm]
    axes = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def _voxel_box(shape: Shape, grid: Grid) -> Span | None:
    low, high = shape.bounds_mm()
    corners = box_corners(low, high)
    voxels = grid.to_voxel(corners)
    first = np.maximum(np.floor(voxels.min(0)).astype(int) - 1, 0)
    stop = np.minimum(np.ceil(voxels.max(0)).astype(int) + 2, grid.shape)
    if (first >= stop).any():
        return None
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
    return x, y, z


def points_of(grid: Grid, box: tuple[slice, ...] | None = None) -> Floats:
    """RAS+ mm of the voxels of a grid, or of a box of it: ``(X, Y, Z, 3)``."""
    axes = [np.arange(s.start, s.stop) for s in box] if box else [np.arange(n) for n in grid.shape]
    return grid.to_world(np.stack(np.meshgrid(*axes, indexing="ij"), -1))


def _positive(name: str, *values: float) -> None:
    if min(values) <= 0:
        raise ValueError(f"{name} must be positive, not {values}")


@dataclass(frozen=True, eq=False)
class Ellipsoid(Shape):
    """A rotated ellipsoid, ``4/3 pi a b c``.

    Attributes:
        centre_mm: RAS+.
        radii_mm: half axes.
        rotation: 3x3, its columns are the directions of the half axes.
    """

    centre_mm: Point
    radii_mm: Point
    rotation: Floats = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        _positive("radii_mm", *self.radii_mm)

    @property
    def volume_ml(self) -> float:
        """``4/3 pi a b c``."""
        return float(4 / 3 * np.pi * np.prod(self.radii_mm) / 1000)

    def unit_points(self, points_mm: Floats) -> Floats:
        """``(..., 3)`` points in the frame in which the ellipsoid is the unit ball."""
        unit: Floats = (points_mm - np.array(self.centre_mm)) @ self.rotation / np.array(self.radii_mm)
        return unit

    def level_mm(self, points_mm: Floats) -> Floats:
        """Unit radius minus 1, times the shortest half axis: its gradient is at most 1."""
        level: Floats = (np.linalg.norm(self.unit_points(points_mm), axis=-1) - 1) * min(self.radii_mm)
        return level

    def bounds_mm(self) -> tuple[Floats, Floats]:
        """The tight box: ``sqrt(sum_j (R_ij r_j)^2)`` to either side."""
        half = np.linalg.norm(self.rotation * np.array(self.radii_mm), axis=1)
        return np.array(self.centre_mm) - half, np.array(self.centre_mm) + half


def sphere(centre_mm: Point, diameter_mm: float) -> Ellipsoid:
    """A ball of this diameter."""
    radius = diameter_mm / 2
    return Ellipsoid(centre_mm, (radius, radius, radius))


@dataclass(frozen=True, eq=False)
class Box(Shape):
    """A rotated box.

    Attributes:
        centre_mm: RAS+.
        sides_mm: edge lengths.
        rotation: 3x3, its columns are the directions of the edges.
    """

    centre_mm: Point
    sides_mm: Point
    rotation: Floats = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        _positive("sides_mm", *self.sides_mm)

    @property
    def volume_ml(self) -> float:
        """Product of the edges."""
        return float(np.prod(self.sides_mm) / 1000)

    def level_mm(self, points_mm: Floats) -> Floats:
        """Signed distance inside, largest distance to a face plane outside (a lower bound)."""
        local = np.abs((points_mm - np.array(self.centre_mm)) @ self.rotation) - np.array(self.sides_mm) / 2
        level: Floats = local.max(-1)
        return level

    def bounds_mm(self) -> tuple[Floats, Floats]:
        """The tight box around the rotated one."""
        half = np.abs(self.rotation) @ (np.array(self.sides_mm) / 2)
        return np.array(self.centre_mm) - half, np.array(self.centre_mm) + half


@dataclass(frozen=True, eq=False)
class Shell(Shape):
    """What an outer solid has more than an inner one that lies wholly inside it."""

    outer: Shape
    inner: Shape

    def __post_init__(self) -> None:
        if self.inner.volume_ml >= self.outer.volume_ml:
            raise ValueError(
                f"the hollow ({self.inner.volume_ml:g} ml) must be smaller than the solid ({self.outer.volume_ml:g} ml)"
            )

    @property
    def volume_ml(self) -> float:
        """Outer minus inner volume."""
        return self.outer.volume_ml - self.inner.volume_ml

    def level_mm(self, points_mm: Floats) -> Floats:
        """Inside the outer and outside the inner solid."""
        return np.maximum(self.outer.level_mm(points_mm), -self.inner.level_mm(points_mm))

    def bounds_mm(self) -> tuple[Floats, Floats]:
        """Those of the outer solid."""
        return self.outer.bounds_mm()


@dataclass(frozen=True, eq=False)
class Pair(Shape):
    """Two solids that do not touch, which is the caller's to see to."""

    first: Shape
    second: Shape

    @property
    def volume_ml(self) -> float:
        """Sum of both volumes."""
        return self.first.volume_ml + self.second.volume_ml

    def level_mm(self, points_mm: Floats) -> Floats:
        """Inside either."""
        return np.minimum(self.first.level_mm(points_mm), self.second.level_mm(points_mm))

    def bounds_mm(self) -> tuple[Floats, Floats]:
        """A box around both."""
        (low_a, high_a), (low_b, high_b) = self.first.bounds_mm(), self.second.bounds_mm()
        return np.minimum(low_a, low_b), np.maximum(high_a, high_b)


@dataclass(frozen=True, eq=False)
class Waves:
    """A smooth function on directions, ``1 + sum_i a_i cos(k_i . u + phase_i)``, scaled so that its mean cube is 1.

    Attributes:
        vectors: ``(K, 3)`` wave vectors; length 3 makes about one bump to a side.
        amplitudes: ``(K,)``; their sum stays below 0.6, so that the function is positive.
        phases: ``(K,)`` radians.
        scale: what the mean cube asks for; computed.
    """

    vectors: Floats
    amplitudes: Floats
    phases: Floats
    scale: float = field(init=False, default=1.0)

    def __post_init__(self) -> None:
        if np.abs(self.amplitudes).sum() > 0.6:
            raise ValueError(f"the amplitudes sum to {np.abs(self.amplitudes).sum():.2f}; 0.6 is the most")
        nodes, weights = np.polynomial.legendre.leggauss(32)
        turn = np.arange(64) * 2 * np.pi / 64
        ring = np.sqrt(1 - nodes**2)[:, None]
        height = np.broadcast_to(nodes[:, None], (32, 64))
        directions = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], -1)
        mean_cube = float((weights @ (self(directions) ** 3).mean(1)) / 2)
        object.__setattr__(self, "scale", mean_cube ** (-1 / 3))

    def __call__(self, directions: Floats) -> Floats:
        """``(..., 3)`` unit vectors to ``(...)`` values around 1."""
        result = np.ones(directions.shape[:-1])
        for vector, amplitude, phase in zip(self.vectors, self.amplitudes, self.phases, strict=True):
            result += amplitude * np.cos(directions @ vector + phase)
        return result * self.scale

    @property
    def low(self) -> float:
        """No value is smaller."""
        return float((1 - np.abs(self.amplitudes).sum()) * self.scale)

    @property
    def high(self) -> float:
        """No value is larger."""
        return float((1 + np.abs(self.amplitudes).sum()) * self.scale)

    @property
    def slope(self) -> float:
        """No change per radian is larger."""
        return float((np.abs(self.amplitudes) * np.linalg.norm(self.vectors, axis=1)).sum() * self.scale)


def draw_waves(irregularity: float, rng: np.random.Generator, *, finest: float = 6.0) -> Waves:
    """Bumps of several sizes; their sum of amplitudes is ``irregularity``; ``finest`` radians of phase per radius."""
    count = 6
    directions = rng.standard_normal((count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    frequency = rng.uniform(2.0, finest, count)
    amplitudes = rng.uniform(0.5, 1.0, count) / frequency
    return Waves(
        directions * frequency[:, None],
        amplitudes * (irregularity / amplitudes.sum()),
        rng.uniform(0, 2 * np.pi, count),
    )


NO_WAVES = Waves(np.zeros((0, 3)), np.zeros(0), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Blob(Shape):
    """An ellipsoid with a wavy surface and exactly the ellipsoid's volume.

    In the frame where the ellipsoid is the unit ball its surface is ``r(u)``, and the volume of a star-shaped
    solid is the integral of ``r(u)^3 / 3`` over directions; :class:`Waves` scales ``r`` so that this is 4/3 pi.

    Attributes:
        ellipsoid: the solid without waves.
    """

    ellipsoid: Ellipsoid
    waves: Waves = NO_WAVES

    @property
    def volume_ml(self) -> float:
        """``4/3 pi a b c``."""
        return self.ellipsoid.volume_ml

    def relative_radius(self, points_mm: Floats) -> Floats:
        """``(..., 3)`` to ``(...)``: 0 at the centre, 1 on the surface, growing linearly outwards."""
        unit = self.ellipsoid.unit_points(points_mm)
        radius = np.linalg.norm(unit, axis=-1)
        result: Floats = radius / self.waves(unit / np.maximum(radius, 1e-12)[..., None])
        return result

    def level_mm(self, points_mm: Floats) -> Floats:
        """Radius minus surface, divided by the steepest it can be."""
        unit = self.ellipsoid.unit_points(points_mm)
        radius = np.linalg.norm(unit, axis=-1)
        surface = self.waves(unit / np.maximum(radius, 1e-12)[..., None])
        steepest = 1 + self.waves.slope / self.waves.low
        level: Floats = (radius - surface) * (min(self.ellipsoid.radii_mm) / steepest)
        return level

    def bounds_mm(self) -> tuple[Floats, Floats]:
        """The ellipsoid's box, grown to the highest wave."""
        low, high = self.ellipsoid.bounds_mm()
        centre = np.array(self.ellipsoid.centre_mm)
        return centre + (low - centre) * self.waves.high, centre + (high - centre) * self.waves.high


def pair_of_spheres(centre_mm: Point, diameters_mm: tuple[float, float], distance_mm: float) -> Pair:
    """Two balls whose centres lie ``distance_mm`` apart along the left-right axis around ``centre_mm``.

    Raises:
        ValueError: if they would touch.
    """
    if distance_mm <= sum(diameters_mm) / 2:
        raise ValueError(f"balls of {diameters_mm} mm touch at a distance of {distance_mm:g} mm")
    x, y, z = centre_mm
    half = distance_mm / 2
    return Pair(sphere((x - half, y, z), diameters_mm[0]), sphere((x + half, y, z), diameters_mm[1]))
