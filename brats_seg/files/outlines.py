"""Outlines of a mask on a slice as closed polygons, for formats that know nothing else.

They run along the edges of voxels, :data:`INSET` within. Programs fill polygons in two ways, where the centre of a
voxel lies inside or from the rounded corners on; either way the mask comes out as it was.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Mask

Pair = tuple[int, int]
INSET = 0.005
"""In voxels: enough that corners round to the voxels of the mask, and no loss of area."""


class _Corner(NamedTuple):
    """A corner of a voxel that an outline passes.

    Attributes:
        at: between voxels; ``(i, j)`` lies at ``(i - 0.5, j - 0.5)``.
        inward: where the mask lies, as a step.
    """

    at: Pair
    inward: Pair


def outlines(mask: Mask) -> list[NDArray[np.float64]]:
    """Polygons ``(N, 2)`` of a mask ``(X, Y)``, in voxels, one for each part whose voxels share a side.

    A hole is reached over a bridge of no width, which is walked there and back: the "keyhole" of DICOM PS3.3,
    C.8.8.6.3.
    """
    if not mask.any():
        return []
    parts, count = ndimage.label(mask)
    loops: list[list[list[_Corner]]] = [[] for _ in range(count + 1)]
    for inside, loop in _loops(mask):
        loops[int(parts[inside])].append(loop)
    polygons = [_without_straight(_joined(found)) for found in loops[1:]]
    return [np.array([np.add(c.at, np.multiply(c.inward, INSET)) - 0.5 for c in polygon]) for polygon in polygons]


def _loops(mask: Mask) -> list[tuple[Pair, list[_Corner]]]:
    """Every closed walk along edges with the mask on its left, and a voxel of the mask beside it."""
    after = _edges(mask)
    found = []
    while after:
        at = min(after)
        step = next(iter(after[at]))
        inside = after[at][step]
        corners, steps = [], []
        while step in after.get(at, ()):
            corners.append(at)
            steps.append(step)
            del after[at][step]
            if not after[at]:
                del after[at]
            at = at[0] + step[0], at[1] + step[1]
            ways = after.get(at, ())
            # Where voxels meet at a corner alone the way turns left, and stays on the same voxel.
            step = next((way for way in (_left(step), step, (step[1], -step[0])) if way in ways), step)
        inward = [_inward(before, step) for before, step in zip([steps[-1], *steps[:-1]], steps, strict=True)]
        found.append((inside, [_Corner(*pair) for pair in zip(corners, inward, strict=True)]))
    return found


def _left(step: Pair) -> Pair:
    return -step[1], step[0]


def _inward(before: Pair, after: Pair) -> Pair:
    """From a corner into the mask, of the steps to it and from it."""
    (a, b), (c, d) = _left(before), _left(after)
    return (a, b) if before == after else (a + c, b + d)


def _edges(mask: Mask) -> dict[Pair, dict[Pair, Pair]]:
    """By corner, the steps that lead on from it, each with the voxel on its left."""
    padded = np.pad(mask, 1)
    # Neighbour that is outside, the corner to start from, the step.
    sides = (((0, -1), (0, 0), (1, 0)), ((1, 0), (1, 0), (0, 1)), ((0, 1), (1, 1), (-1, 0)), ((-1, 0), (0, 1), (0, -1)))
    after: dict[Pair, dict[Pair, Pair]] = {}
    for (dx, dy), (cx, cy), step in sides:
        outside = ~padded[1 + dx : 1 + dx + mask.shape[0], 1 + dy : 1 + dy + mask.shape[1]]
        for i, j in np.argwhere(mask & outside).tolist():
            after.setdefault((i + cx, j + cy), {})[step] = (i, j)
    return after


def _joined(loops: list[list[_Corner]]) -> list[_Corner]:
    """The outer loop of a part with its holes, those on the left first, each joined to what lies left of it."""
    outer, *holes = sorted(loops, key=min)  # the outer one begins on the left of all
    for hole in holes:
        start = hole.index(min(hole))
        i, j = hole[start].at
        gate = max((n for n, c in enumerate(outer) if c.at[1] == j and c.at[0] <= i), key=lambda n: outer[n].at[0])
        outer = [*outer[: gate + 1], *hole[start:], *hole[: start + 1], *outer[gate:]]
    return outer


def _without_straight(loop: list[_Corner]) -> list[_Corner]:
    """Corners where the way turns."""
    around = zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True)
    return [corner for before, corner, after in around if _towards(before, corner) != _towards(corner, after)]


def _towards(one: _Corner, other: _Corner) -> Pair:
    return int(np.sign(other.at[0] - one.at[0])), int(np.sign(other.at[1] - one.at[1]))
