"""Which part of each voxel belongs to what: level sets of smooth fields, cut into cells of a fifth of a voxel.

A part is where a field, linearly interpolated between voxel centres, is below a threshold that is found so that the
part has exactly the volume asked for. Parts are claimed one after the other, so they never overlap. Voxels no
border passes are kept whole; only the others are cut, so the work grows with the surfaces.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid
from brats_seg.imaging.boxes import bounding_box
from brats_seg.phantom.fields import Field, Span

SIDE = 5
"""Cells along each side of a voxel."""
CELLS = SIDE**3
FREE = 0
"""Owner of what nobody has claimed."""
_OUTSIDE = 255
_STEPS = np.array(list(itertools.product((-1, 0, 1), repeat=3)))

Index = NDArray[np.intp]


@lru_cache(maxsize=1)
def _weights() -> Field:
    """``(27, 125)``: what each neighbour contributes to the centre of each cell, trilinear."""
    offset = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    line = np.stack([np.maximum(-offset, 0), 1 - np.abs(offset), np.maximum(offset, 0)])
    weights: Field = np.einsum("ai,bj,ck->abcijk", line, line, line).reshape(27, CELLS).astype(np.float32)
    return weights


class Level:
    """A field in a box of a grid, ready to be cut at a threshold."""

    def __init__(self, values: Field, box: Span) -> None:
        """Take the field of a box; outside the box nothing is below any threshold."""
        self.values = values
        self.box = box
        self.start = np.array([s.start for s in box])
        self.lowest: Field = ndimage.minimum_filter(values, 3, mode="nearest")
        self.highest: Field = ndimage.maximum_filter(values, 3, mode="nearest")
        self._padded = np.pad(values, 1, mode="edge")

    def cells(self, voxels: Index) -> Field:
        """``(N, 3)`` voxels of the box to ``(N, 125)`` interpolated values."""
        shape = self._padded.shape
        strides = np.array([shape[1] * shape[2], shape[2], 1])
        flat = ((voxels + 1) @ strides)[:, None] + (_STEPS @ strides)[None, :]
        result: Field = self._padded.ravel()[flat] @ _weights()
        return result


class Partition:
    """Owners of voxels and of cells of voxels on one grid."""

    def __init__(self, grid: Grid, allowed: NDArray[np.bool_]) -> None:
        """Start with everything free where ``allowed``, and nothing to be had elsewhere."""
        self.grid = grid
        self.owner = np.where(allowed, FREE, _OUTSIDE).astype(np.uint8)
        self._row = np.full(grid.shape, -1, np.int32)
        self._cells = np.zeros((0, CELLS), np.uint8)
        self._voxels = np.zeros((0, 3), np.intp)
        self._counts: NDArray[np.int64] | None = None

    def claim(self, part: int, level: Level, volume_ml: float, *, within: int = FREE) -> float:
        """Give ``part`` the lowest of ``within``, as much as asked for.

        Args:
            part: 1 to 254, not yet used.
            level: how the part grows.
            volume_ml: to be claimed; nothing happens for 0.
            within: whose cells are taken.

        Returns:
            The threshold.

        Raises:
            InputError: if there is not so much of ``within``.
        """
        wanted = round(volume_ml / self.grid.voxel_ml * CELLS)
        if wanted <= 0:
            return -np.inf
        owner, row = self.owner[level.box], self._row[level.box]
        whole = (owner == within) & (row < 0)
        rows = row[row >= 0]
        cut = np.argwhere(row >= 0)
        cut_values = level.cells(cut)[self._cells[rows] == within]
        available = int(whole.sum()) * CELLS + len(cut_values)
        if available < wanted:
            raise InputError(
                f"there is room for {available / CELLS * self.grid.voxel_ml:.1f} ml where {volume_ml:.1f} ml of tumour "
                "or edema should go. Ask for a smaller tumour, or fewer of them."
            )
        threshold = self._threshold(level, whole, cut_values, wanted)
        self._cut(level, whole & (level.lowest <= threshold) & (level.highest > threshold))
        self._take(part, level, threshold, within)
        return threshold

    def _threshold(self, level: Level, whole: NDArray[np.bool_], cut_values: Field, wanted: int) -> float:
        """The value below which ``wanted`` cells lie: a bracket from voxel centres, then an exact rank in it."""
        centres = np.sort(level.values[whole])
        margin = 0.1
        while True:
            low, high = _bracket(centres, cut_values, wanted, margin)
            sure = whole & (level.highest <= low)
            near = whole & ~sure & (level.lowest <= high)
            count = int(sure.sum()) * CELLS
            values = np.concatenate([level.cells(np.argwhere(near)).ravel(), cut_values])
            rank = wanted - count
            if 0 < rank <= len(values):
                value = float(np.partition(values, rank - 1)[rank - 1])
                if low <= value <= high:
                    return value
            margin *= 3

    def _cut(self, level: Level, where: NDArray[np.bool_]) -> None:
        """Make cells of these voxels of a level's box."""
        new = np.argwhere(where) + level.start
        self._row[tuple(new.T)] = len(self._voxels) + np.arange(len(new))
        self._cells = np.concatenate([self._cells, np.repeat(self.owner[tuple(new.T)][:, None], CELLS, axis=1)])
        self._voxels = np.concatenate([self._voxels, new])

    def _take(self, part: int, level: Level, threshold: float, within: int) -> None:
        owner, row = self.owner[level.box], self._row[level.box]
        owner[(owner == within) & (row < 0) & (level.highest <= threshold)] = part
        voxels = np.argwhere(row >= 0)
        rows = row[row >= 0]
        cells = self._cells[rows]
        cells[(level.cells(voxels) <= threshold) & (cells == within)] = part
        self._cells[rows] = cells
        self._counts = None

    def fractions(self, *parts: int) -> Field:
        """Share of each voxel that belongs to any of the parts."""
        result = (np.isin(self.owner, parts) & (self._row < 0)).astype(np.float32)
        result[tuple(self._voxels.T)] = np.isin(self._cells, parts).mean(1)
        return result

    def volume_ml(self, *parts: int) -> float:
        """Exact volume of the parts."""
        if self._counts is None:  # the same for every part until the next claim
            whole = np.bincount(self.owner[self._row < 0], minlength=_OUTSIDE + 1) * CELLS
            self._counts = whole + np.bincount(self._cells.ravel(), minlength=_OUTSIDE + 1)
        return sum(int(self._counts[part]) for part in parts) / CELLS * self.grid.voxel_ml

    def span(self, part: int) -> Span:
        """The box around what a part has, and a voxel more; the whole grid if it has nothing."""
        here = self.owner == part
        here[tuple(self._voxels[(self._cells == part).any(1)].T)] = True
        box = bounding_box(here)
        if box is None:
            return slice(0, here.shape[0]), slice(0, here.shape[1]), slice(0, here.shape[2])
        x, y, z = (slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(box, here.shape, strict=True))
        return x, y, z

    def cell_slices(self, axis: int, *parts: int) -> dict[int, NDArray[np.float64]]:
        """Cells of the parts in the middle plane of each slice, as in-plane points in voxels.

        Returns:
            By slice ``(N, 2)`` points, the axes that are left in their order. Of voxels that belong to the parts
            as a whole the four corner cells stand for all.
        """
        offset = (np.arange(SIDE) + 0.5) / SIDE - 0.5
        cells = np.stack(np.meshgrid(offset, offset, offset, indexing="ij"), -1).reshape(CELLS, 3)
        middle = np.abs(cells[:, axis]) < 1e-9
        corners = middle & (np.abs(np.delete(cells, axis, 1)) > 0.5 - 0.6 / SIDE).all(1)
        whole = np.argwhere(np.isin(self.owner, parts) & (self._row < 0))
        hit = np.isin(self._cells[:, middle], parts)
        voxel, cell = np.nonzero(hit)
        points = np.concatenate(
            [
                (whole[:, None, :] + cells[corners]).reshape(-1, 3),
                self._voxels[voxel] + cells[middle][cell],
            ]
        )
        numbers = np.round(points[:, axis]).astype(int)
        plane = np.delete(points, axis, 1)
        order = np.argsort(numbers, kind="stable")
        slices, first = np.unique(numbers[order], return_index=True)
        return dict(zip(slices.tolist(), np.split(plane[order], first[1:]), strict=True)) if len(slices) else {}


def _bracket(centres: Field, cut_values: Field, wanted: int, margin: float) -> tuple[float, float]:
    """Values that ``wanted`` cells lie between, give or take a share and a few voxels."""
    values = np.concatenate([centres, cut_values])
    weights = np.concatenate([np.full(len(centres), CELLS), np.ones(len(cut_values), int)])
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    spare = margin * wanted + 40 * CELLS * margin * 10
    low = np.searchsorted(total, wanted - spare)
    high = np.searchsorted(total, wanted + spare)
    first = float(values[order[low]]) if wanted > spare else -np.inf
    last = float(values[order[high]]) if high < len(order) else np.inf
    return first, last
