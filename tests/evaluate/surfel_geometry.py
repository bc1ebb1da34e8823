"""Area of the surface that passes between eight neighbouring voxels, derived from geometry alone.

Of the corners inside and outside, the fewer are the solid (of four and four, those inside), so a mask and its
complement have the same surface. Where a face shows two solid corners diagonally, the surface separates them. A closed
line of surface vertices that is not plane is triangulated the way that gives the largest area on cubic voxels; the same
triangles are then measured at any spacing.

With these three rules, all 256 areas equal those of the surface-distance code that the BraTS 2023 challenge used, on
cubic and on anisotropic voxels (compared once with release 0.1; neither its table nor its code is used here).
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from brats_seg.evaluate.surface import CORNERS

Corner = tuple[int, int, int]
Point = tuple[float, float, float]
Triangle = tuple[Point, Point, Point]


def area_vectors() -> list[tuple[int, Point]]:
    """Code and area vector, in units of voxels, of every triangle of every code."""
    return [(code, _area_vector(triangle)) for code in range(256) for triangle in _triangles(code)]


def _triangles(code: int) -> list[Triangle]:
    """Triangles of one code in units of voxels."""
    inside = frozenset(corner for bit, corner in enumerate(CORNERS) if code >> bit & 1)
    solid = inside if len(inside) <= 4 else frozenset(CORNERS) - inside
    found: list[Triangle] = []
    for loop in _loops(_segments(solid)):
        ways = _triangulations(loop)
        sums = [sum(math.hypot(*_area_vector(triangle)) for triangle in triangles) for triangles in ways]
        found += ways[int(np.argmax(sums))]
    return found


def _segments(solid: frozenset[Corner]) -> list[tuple[Point, Point]]:
    """Lines the surface draws on the six faces of the cube, each from edge middle to edge middle."""
    segments = []
    for axis, side in itertools.product(range(3), (0, 1)):
        ring = [_on_face(axis, side, u, v) for u, v in ((0, 0), (1, 0), (1, 1), (0, 1))]
        middles = [_middle(ring[i], ring[(i + 1) % 4]) for i in range(4)]
        cut = [i for i in range(4) if (ring[i] in solid) != (ring[(i + 1) % 4] in solid)]
        if len(cut) == 2:
            segments.append((middles[cut[0]], middles[cut[1]]))
        elif len(cut) == 4:
            # Two solid corners on a diagonal: each is cut off by itself, between the edges that meet in it.
            segments += [(middles[i - 1], middles[i]) for i in range(4) if ring[i] in solid]
    return segments


def _on_face(axis: int, side: int, u: int, v: int) -> Corner:
    coordinates = [u, v]
    coordinates.insert(axis, side)
    return coordinates[0], coordinates[1], coordinates[2]


def _middle(a: Corner, b: Corner) -> Point:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2


def _loops(segments: list[tuple[Point, Point]]) -> list[tuple[Point, ...]]:
    """Closed lines: every vertex lies on an edge of the cube, hence on two faces and two segments."""
    neighbours: dict[Point, list[Point]] = {}
    for a, b in segments:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    loops = []
    while neighbours:
        loop = [next(iter(neighbours))]
        following = neighbours.pop(loop[0])[0]
        while following in neighbours:
            before, after = neighbours.pop(following)
            following, last = (after if before == loop[-1] else before), following
            loop.append(last)
        loops.append(tuple(loop))
    return loops


def _triangulations(polygon: tuple[Point, ...]) -> list[tuple[Triangle, ...]]:
    """Every way to fill a polygon with triangles between its own vertices."""
    if len(polygon) < 3:
        return [()]
    ways = []
    for apex in range(1, len(polygon) - 1):
        triangle = (polygon[0], polygon[apex], polygon[-1])
        for left in _triangulations(polygon[: apex + 1]):
            ways += [(*left, triangle, *right) for right in _triangulations(polygon[apex:])]
    return ways


def _area_vector(triangle: Triangle) -> Point:
    """Half the cross product of two sides: as long as the triangle's area, at right angles to it."""
    a, b, c = triangle
    (ux, uy, uz), (vx, vy, vz) = (tuple(q - p for p, q in zip(a, other, strict=True)) for other in (b, c))
    return (uy * vz - uz * vy) / 2, (uz * vx - ux * vz) / 2, (ux * vy - uy * vx) / 2
