"""The outline of a sampled lesion on one slice, and chords of it.

**Where the edge is.** Between a voxel inside and its neighbour outside the edge lies half-way between their
centres. Joined up, these *mid-edge points* are the marching-squares contour at one half (diagonal neighbours
are joined). A flat face is then where it is on average, a single voxel is as long as its spacing, and a chord
of a convex object is never more than one voxel too long, because each end lies half a voxel from a centre inside.
Mean error of the longest diameter in voxels, by where the edge is put (60 random positions and turns each, 8 to 60
voxels long; the worst single errors in brackets):

=============  ======================  =====================  ======================
edge           discs                   ellipses 2:1           rectangles 2:1
=============  ======================  =====================  ======================
voxel centres  -0.3 to -0.1 (-0.7)     -0.9 to -0.5 (-1.7)    -1.0 (-1.9)
mid-edge       +0.6 to +0.9 (+0.9)     +0.0 to +0.4 (+0.9)    -0.2 to -0.1 (-1.0)
voxel corners  +1.0 to +1.3 (+1.3)     +0.4 to +0.8 (+1.1)    +0.3 (+1.2)
=============  ======================  =====================  ======================

Mid-edge is the one that stays within a voxel for all of them. What remains on discs comes from taking the longest of
many nearly equal directions; their perpendicular diameter is within 0.2 voxels on average.

Points are ``(..., 2)`` in voxels of the slice (row, column); lengths are in millimetres through ``to_mm``, the 2x2
matrix that turns a step in voxels into one in millimetres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Mask

Points = NDArray[np.float64]

TIE_MM = 1e-6
"""Lengths closer than this are equal; rounding of the affine stays below it."""
SAMPLE_VOXELS = 0.5
"""Distance of the samples at which a chord is held against a cavity."""

CAVITY_EDGE = 0.57
"""A little above one half: between mid-edge points interpolation curves, up to 0.5625 on the straight outline."""

_CELL = 4.0
"""Side of the cells, in voxels, in which pairs of points are tried together."""

_TOP, _RIGHT, _BOTTOM, _LEFT = (0.0, 0.5), (0.5, 1.0), (1.0, 0.5), (0.5, 0.0)
_SEGMENTS: dict[int, tuple[tuple[tuple[float, float], tuple[float, float]], ...]] = {
    1: ((_LEFT, _TOP),),
    2: ((_TOP, _RIGHT),),
    3: ((_LEFT, _RIGHT),),
    4: ((_RIGHT, _BOTTOM),),
    5: ((_LEFT, _BOTTOM), (_TOP, _RIGHT)),
    6: ((_TOP, _BOTTOM),),
    7: ((_LEFT, _BOTTOM),),
    8: ((_LEFT, _BOTTOM),),
    9: ((_TOP, _BOTTOM),),
    10: ((_LEFT, _TOP), (_RIGHT, _BOTTOM)),
    11: ((_RIGHT, _BOTTOM),),
    12: ((_LEFT, _RIGHT),),
    13: ((_TOP, _RIGHT),),
    14: ((_LEFT, _TOP),),
}
"""Edge pieces in the square between four voxel centres; bits 1, 2, 4, 8 stand for the centre at
(0, 0), (0, 1), (1, 1) and (1, 0) being inside. In 5 and 10 the two inside are joined."""

_FIRST_PIECE, _SECOND_PIECE = (
    np.array([_SEGMENTS.get(code, ())[k : k + 1] or ((_TOP, _TOP),) for code in range(16)])[:, 0] for k in (0, 1)
)


@dataclass(frozen=True, eq=False)
class Chord:
    """A straight line between two points of the outline.

    Attributes:
        ends: ``(2, 2)`` in voxels.
    """

    length_mm: float
    ends: Points


def outline_segments(mask: Mask) -> Points:
    """Straight pieces of the outline of a 2D mask, ``(N, 2, 2)``: piece, end, coordinate in voxels."""
    padded = np.pad(mask, 1).astype(np.uint8)
    code = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, 1:] + 8 * padded[1:, :-1]
    rows, columns = np.nonzero((code != 0) & (code != 15))
    codes = code[rows, columns]
    corners = np.stack([rows, columns], axis=1) - 1.0
    saddles = np.isin(codes, (5, 10))
    return np.concatenate(
        [corners[:, None, :] + _FIRST_PIECE[codes], corners[saddles][:, None, :] + _SECOND_PIECE[codes[saddles]]]
    )


def farthest_pairs(points: Points, to_mm: Points) -> list[Chord]:
    """The longest chords between any two points, all that are equally long.

    Args:
        points: ``(N, 2)`` in voxels, at least one full voxel outline.
    """
    hull = points if len(points) <= 16 else _hull(points)
    first, second = np.triu_indices(len(hull), 1)
    lengths = np.linalg.norm((hull[first] - hull[second]) @ to_mm.T, axis=1)
    longest = float(lengths.max())
    return [
        Chord(longest, np.stack([hull[first[k]], hull[second[k]]])) for k in np.flatnonzero(lengths >= longest - TIE_MM)
    ]


def _hull(points: Points) -> Points:
    """Corners of the convex hull, by Andrew's monotone chain (Inf Process Lett 1979;9:216).

    Loading scipy.spatial takes longer than all hulls of a study.
    """
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    is_next = np.diff(ordered[:, 0]) > 0
    ordered = ordered[np.r_[True, is_next] | np.r_[is_next, True]]  # what lies inside its row is no corner
    corners: list[list[float]] = []
    for way in (ordered, ordered[::-1]):
        chain: list[list[float]] = []
        for point in way.tolist():
            while len(chain) > 1 and not _turns_left(chain[-2], chain[-1], point):
                chain.pop()
            chain.append(point)
        corners += chain[:-1]  # the last one begins the way back
    return np.array(corners)


def _turns_left(a: list[float], b: list[float], c: list[float]) -> bool:
    """Whether the way from a through b to c turns to the left."""
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])


def longest_free_pairs(points: Points, to_mm: Points, cavity: Mask, *, at_least_mm: float) -> list[Chord]:
    """As :func:`farthest_pairs`, among the chords that do not cross ``cavity``.

    Every pair is a candidate, for with an obstacle the longest chord need not end on the convex hull. They are tried
    from long to short until one is free.

    Args:
        at_least_mm: shorter chords are not looked for.

    Returns:
        Equally long free chords; empty if none is as long as ``at_least_mm``.
    """
    first, second = _promising_pairs(points, to_mm, cavity, at_least_mm)
    lengths = np.linalg.norm((points[first] - points[second]) @ to_mm.T, axis=1)
    wanted = np.flatnonzero(lengths >= at_least_mm - TIE_MM)
    order = wanted[np.argsort(-lengths[wanted], kind="stable")]
    start, size = 0, 512
    while start < len(order):
        chunk = order[start : start + size]
        free = chunk[~crosses(points[first[chunk]], points[second[chunk]], cavity)]
        if free.size:
            longest = float(lengths[free[0]])
            tied = order[np.abs(lengths[order] - longest) <= TIE_MM]
            tied = tied[~crosses(points[first[tied]], points[second[tied]], cavity)]
            return [Chord(longest, np.stack([points[first[k]], points[second[k]]])) for k in tied]
        start, size = start + size, size * 4
    return []


def _promising_pairs(
    points: Points, to_mm: Points, cavity: Mask, at_least_mm: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of points that may be joined by a free chord of at least ``at_least_mm``; only sure failures are left out.

    Points are gathered in square cells. Every line between two cells stays within one cell radius of the line between
    their middles; where that one runs deeper than this inside the cavity, all of them cross.
    """
    cells, cell = np.unique(np.floor(points / _CELL), axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    middles = (cells + 0.5) * _CELL
    radius = _CELL / math.sqrt(2)
    a, b = np.triu_indices(len(cells))
    reach_mm = 2 * radius * float(np.linalg.norm(to_mm, 2))
    near_enough = np.linalg.norm((middles[a] - middles[b]) @ to_mm.T, axis=1) + reach_mm >= at_least_mm - TIE_MM
    a, b = a[near_enough], b[near_enough]
    # The rest of the margin: a sample lies off its voxel's centre, interpolation looks at four voxels
    # around a point (together 3 sqrt(2) / 2), and samples are apart.
    depth = ndimage.distance_transform_edt(np.pad(cavity, 1))[1:-1, 1:-1]
    deep = depth > radius + 1.5 * math.sqrt(2) + SAMPLE_VOXELS
    if deep.any():
        passing = ~crosses(middles[a], middles[b], deep, step_voxels=_CELL / 2)
        a, b = a[passing], b[passing]
    by_cell = np.argsort(cell, kind="stable")
    counts = np.bincount(cell, minlength=len(cells))
    begins = np.cumsum(counts) - counts
    sizes = counts[a] * counts[b]
    pair = np.repeat(np.arange(len(a)), sizes)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row, column = np.divmod(within, counts[b][pair])
    return by_cell[begins[a][pair] + row], by_cell[begins[b][pair] + column]


def crosses(starts: Points, ends: Points, cavity: Mask, *, step_voxels: float = SAMPLE_VOXELS) -> NDArray[np.bool_]:
    """Whether each line from ``starts`` to ``ends``, both ``(N, 2)`` in voxels, enters ``cavity``.

    Inside the cavity means that its mask, interpolated linearly between voxel centres, exceeds
    :data:`CAVITY_EDGE`, so that a chord along the common edge does not cross. Lines are held against it at samples at
    most ``step_voxels`` apart.
    """
    steps = ends - starts
    counts = np.maximum(1, np.ceil(np.linalg.norm(steps, axis=1) / step_voxels)).astype(np.intp)
    blocked = np.zeros(len(starts), np.bool_)
    left = np.arange(len(starts))
    padded = _padded(cavity)
    # Middle first, then outwards: most lines that cross do so there, and need no further samples.
    turn, width, last = 0, 1, int(counts.max(initial=0))
    while turn < last and left.size:
        turns = np.arange(turn, turn + width)
        offsets = np.where(turns % 2, (turns + 1) // 2, -(turns // 2))
        share = ((counts[left, None] - 1) // 2 + offsets + 0.5) / counts[left, None]
        samples = starts[left, None, :] + steps[left, None, :] * share[:, :, None]
        # Shares outside 0..1 are turns a short line does not have.
        hit = (_inside(samples, padded) & (share > 0) & (share < 1)).any(axis=1)
        blocked[left[hit]] = True
        turn, width = turn + width, width * 2
        left = left[~hit & (counts[left] > turn)]
    return blocked


def longest_perpendicular(segments: Points, chord: Chord, to_mm: Points, cavity: Mask | None) -> Chord:
    """The longest chord of an outline at right angles to ``chord``, from outer edge to outer edge.

    Between two neighbouring corners of the outline a parallel line's length changes linearly, so one of
    the lines through a corner is the longest. On each, the chord runs from its first to its last meeting with
    the outline, across whatever lies between except ``cavity``.

    Args:
        segments: pieces of the outline, ``(N, 2, 2)`` in voxels.
    """
    ends_mm = chord.ends @ to_mm.T
    along = (ends_mm[1] - ends_mm[0]) / np.linalg.norm(ends_mm[1] - ends_mm[0])
    frame = np.stack([along, np.array([-along[1], along[0]])])
    rotated = segments @ to_mm.T @ frame.T
    lines = np.unique(np.round(rotated[:, :, 0] / TIE_MM)) * TIE_MM
    line, height = _meetings(rotated, lines)
    middle = float((ends_mm @ along).mean())
    back = np.linalg.inv(frame @ to_mm).T
    # A run of meetings is what one chord may span: all of a line, or all between two crossings of the cavity.
    begins = np.diff(line, prepend=-1) > 0
    if cavity is not None and cavity.any():
        points = np.stack([lines[line], height], axis=1) @ back
        begins[1:] |= crosses(points[:-1], points[1:], cavity)
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(line)) - 1
    extents = height[last] - height[first]
    tied = np.flatnonzero(extents >= extents.max() - TIE_MM)
    best = tied[np.argmin(np.abs(lines[line[first[tied]]] - middle))]
    at = lines[line[first[best]]]
    ends = np.array([[at, height[first[best]]], [at, height[last[best]]]]) @ back
    return Chord(float(extents[best]), ends)


def _meetings(rotated: Points, lines: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Where upright lines meet the pieces of an outline: line and height, sorted by line, then height."""
    left, right = rotated[:, 0, :], rotated[:, 1, :]
    swap = left[:, :1] > right[:, :1]
    left, right = np.where(swap, right, left), np.where(swap, left, right)
    # Lines are sorted, so the ones a piece spans are neighbours; a line through a corner, or along an
    # upright piece, meets it at the corner itself.
    begin = np.searchsorted(lines, left[:, 0] + TIE_MM, side="right")
    end = np.searchsorted(lines, right[:, 0] - TIE_MM, side="left")
    spans = np.maximum(end - begin, 0)
    piece = np.repeat(np.arange(len(left)), spans)
    line = np.arange(len(piece)) - np.repeat(np.cumsum(spans) - spans, spans) + begin[piece]
    share = (lines[line] - left[piece, 0]) / (right[piece, 0] - left[piece, 0])
    heights = [left[piece, 1] + share * (right[piece, 1] - left[piece, 1])]
    on_lines = [line]
    for corner in (left, right):
        on_lines.append(np.clip(np.searchsorted(lines, corner[:, 0] - TIE_MM), 0, len(lines) - 1))
        heights.append(corner[:, 1])
    line, height = np.concatenate(on_lines), np.concatenate(heights)
    order = np.lexsort((height, line))
    return line[order], height[order]


def _padded(mask: Mask) -> NDArray[np.float32]:
    """The mask as numbers with two voxels of margin, as :func:`_inside` wants it."""
    return np.pad(mask, 2).astype(np.float32)


def _inside(points: Points, padded: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether the interpolated mask exceeds :data:`CAVITY_EDGE` at points ``(..., 2)`` in voxels of the unpadded mask.

    Points farther outside than the margin are taken to its edge, where the mask is 0.
    """
    limits = np.array(padded.shape) - 2
    shifted = np.clip(points + 2, 0, limits)
    base = shifted.astype(np.intp)
    rest_row, rest_column = np.moveaxis(shifted - base, -1, 0)
    corner = base[..., 0] * padded.shape[1] + base[..., 1]
    flat = padded.ravel()
    upper = flat[corner] * (1 - rest_column) + flat[corner + 1] * rest_column
    corner += padded.shape[1]
    lower = flat[corner] * (1 - rest_column) + flat[corner + 1] * rest_column
    result: NDArray[np.bool_] = upper * (1 - rest_row) + lower * rest_row > CAVITY_EDGE
    return result
