"""Which sequences show one head in one place, and which lie mirrored, shifted or are somebody else's.

Borders inside the brain have the same direction in every sequence, better than where one is shifted or mirrored
(:mod:`brats_seg.imaging.structure`): of means over cells of about 4 mm, in doubt over cells of 2 mm, where folds are
seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from brats_seg.core.grid import Array, Mask, Singles, Volume
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.boxes import box_or_all
from brats_seg.imaging.brain import background_value, solid
from brats_seg.imaging.pooling import block_means
from brats_seg.imaging.shape import Cells
from brats_seg.imaging.structure import Agreement, Borders, compare, compare_flips, directions

Pair = tuple[MRSequence, MRSequence]

CELL_MM = 4.0

MIN_AGREEMENT = 0.14
"""Least excess of agreement (:class:`Agreement`) of sequences of one head with the one it agrees with best. Measured
on 30 studies: 0.15 and more, for another patient's sequence up to 0.17, below 0.14 in 97 of 100."""

FINE_CELL_MM = 2.0
MIN_PROMINENCE = 7.0
"""Where agreement is less, so far must it stand out over finer cells (:class:`Agreement`). Each pair of 25 studies by
itself, as they are and in slices of 5 mm: 7.8 and more in 294 of 300, 2.3 to 3.0 in six, of a T2 whose slices moved
against one another. Another patient's sequence: at most 6.6 in 1176 pairs (``experiments/registration``)."""

SURE_AGREEMENT = 0.25
"""From here on mirror images need not be tried: brains are symmetric, but mirrored ones reach 0.22 only."""

MIRRORED_GAIN = 1.2
"""A mirror image must agree so many times as well. Measured: at most 0.75 times, for sequences stored right."""

MAX_SHIFT_MM = 4.0
"""Displacement of the best agreement that counts. Measured: 2.4 mm at most, 1.5 in all studies but one; scans moved by
5 mm show 4.3 and more."""

_FLIPPED_WORDS: Mapping[tuple[int, ...], str] = {
    (0,): "mirrored left to right",
    (1,): "mirrored back to front",
    (2,): "upside down (mirrored bottom to top)",
    (0, 1): "turned by 180 degrees, left to right and back to front",
    (0, 2): "turned by 180 degrees, left to right and upside down",
    (1, 2): "turned by 180 degrees, back to front and upside down",
    (0, 1, 2): "mirrored along all three axes",
}


class Fault(NamedTuple):
    """Why scans are not of one head in one place, in words with numbers."""

    kind: Literal["other", "mirrored", "shifted"]
    words: str


class Pictures:
    """Every sequence as means over cells along right, anterior and superior axes, cut to the box around the brain."""

    def __init__(
        self,
        images: Mapping[MRSequence, Volume],
        brain: Mask,
        shown: Mapping[MRSequence, Mask],
        cell_mm: float = CELL_MM,
    ) -> None:
        self.present = [sequence for sequence in SEQUENCES if sequence in images]
        frame = images[self.present[0]].with_data(brain).to_ras()
        spacing = frame.grid.spacing_mm
        x, y, z = (max(round(cell_mm / size), 1) for size in spacing)
        self.cell_mm: Cells = (x * spacing[0], y * spacing[1], z * spacing[2])
        self.cell_ml = float(np.prod(self.cell_mm)) / 1000
        self.outline: dict[MRSequence, Mask] = {}
        self.values: dict[MRSequence, Singles] = {}
        box = box_or_all(frame.data)
        for sequence in self.present:
            volume = images[sequence]
            there = volume.with_data(shown[sequence]).to_ras().data[box]
            share = block_means(there.astype(np.float32), (x, y, z))
            self.outline[sequence] = solid(share > 0.5)
            values = _clipped(volume.to_ras().data[box], there, background_value(volume))
            means = block_means(values, (x, y, z)) / np.maximum(share, np.float32(0.05))
            self.values[sequence] = means.astype(np.float32, copy=False)

    def union(self, sequences: Iterable[MRSequence]) -> Mask:
        """Cells that any of the sequences shows."""
        result: Mask = np.any([self.outline[sequence] for sequence in sequences], axis=0)
        return result

    def borders(self) -> dict[MRSequence, Borders]:
        """Directions of borders of every sequence."""
        return {
            s: Borders(directions(self.values[s], self.outline[s], self.cell_mm), self.cell_mm) for s in self.present
        }


def _clipped(data: Array, there: Mask, background: float) -> Singles:
    """Values above the background, 0 outside; a few hot voxels must not spoil the means of their cells."""
    values: Singles = np.where(there, np.asarray(data, np.float32) - np.float32(background), np.float32(0))
    inside = values[there][::17]
    if inside.size == 0:
        return values
    low, middle, high = (float(v) for v in np.percentile(inside, (2, 50, 98)))
    np.clip(values, min(3 * low - 2 * middle, 0), max(3 * high - 2 * middle, 0), out=values)
    return values


@dataclass(frozen=True)
class Joined:
    """Which sequences show one head.

    Attributes:
        main: the largest group of sequences that agree.
        edges: agreement of every pair with enough brain in common.
        faults: what is wrong with each group of other sequences.
    """

    main: tuple[MRSequence, ...]
    edges: Mapping[Pair, Agreement]
    faults: Mapping[tuple[MRSequence, ...], Fault]


def join(small: Pictures, prominence: Callable[[Pair], float]) -> Joined:
    """Link the sequences by the pairs that agree best (a maximum spanning tree), and cut where even those do not."""
    borders = small.borders() if len(small.present) > 1 else {}
    every = {pair: compare(borders[pair[0]], borders[pair[1]]) for pair in combinations(borders, 2)}
    edges = {pair: agreement for pair, agreement in every.items() if agreement is not None}
    # A pair with too little brain in common says nothing: it links, after all others.
    order = sorted(edges, key=lambda pair: -edges[pair].excess) + [pair for pair in every if pair not in edges]
    tree = _spanning(order, small.present)
    kept = [pair for pair in tree if pair not in edges or not _fault(edges[pair], pair, borders, prominence)]
    groups = _groups(kept, small.present)
    main = max(groups, key=len)
    faults: dict[tuple[MRSequence, ...], Fault] = {}
    for other in groups:
        if other is main:
            continue
        across = [pair for pair in edges if len({pair[0] in main, pair[1] in main}) == 2 and set(pair) & set(other)]
        pair = max(across, key=lambda entry: edges[entry].best)
        fault = _fault(edges[pair], pair, borders, prominence)
        faults[other] = fault or Fault("other", f"borders agree by {edges[pair].excess:.2f} at most")
    return Joined(main, edges, faults)


def _spanning(order: Sequence[Pair], present: Sequence[MRSequence]) -> list[Pair]:
    """The first pairs, in an order, that link everything without a circle."""
    tree: list[Pair] = []
    for a, b in order:
        if not any(a in group and b in group for group in _groups(tree, present)):
            tree.append((a, b))
    return tree


def _groups(links: Sequence[Pair], present: Sequence[MRSequence]) -> list[tuple[MRSequence, ...]]:
    """Sequences that are linked, each group in the usual order."""
    group = {sequence: {sequence} for sequence in present}
    for a, b in links:
        merged = group[a] | group[b]
        group.update(dict.fromkeys(merged, merged))
    return list(dict.fromkeys(tuple(s for s in present if s in group[sequence]) for sequence in present))


def _fault(
    agreement: Agreement, pair: Pair, borders: Mapping[MRSequence, Borders], prominence: Callable[[Pair], float]
) -> Fault | None:
    """Why two scans are not of one head in one place, with numbers; None if they are."""
    if agreement.excess < SURE_AGREEMENT:
        mirrored = list(compare_flips(borders[pair[0]], borders[pair[1]]))
        axes, best = max(mirrored, key=lambda entry: entry[1].best, default=((), agreement))
        if best.best >= max(MIRRORED_GAIN * agreement.best, MIN_AGREEMENT):
            as_stored = f"borders agree by {best.best:.2f} then, and by {agreement.excess:.2f} as stored"
            return Fault("mirrored", f"{_FLIPPED_WORDS[axes]}: {as_stored}")
    if agreement.distance_mm >= MAX_SHIFT_MM and agreement.best >= MIN_AGREEMENT:
        as_stored = f"borders agree by {agreement.best:.2f} there, and by {agreement.excess:.2f} as stored"
        return Fault("shifted", f"{agreement.distance_mm:.0f} mm off: {as_stored}")
    if agreement.excess < MIN_AGREEMENT and prominence(pair) < MIN_PROMINENCE:
        of_one_head = f"those of one head by {MIN_AGREEMENT:g} or {MIN_PROMINENCE:g}"
        found = f"borders agree by {agreement.excess:.2f} and stand out by {prominence(pair):.1f}"
        return Fault("other", f"{found}, {of_one_head}")
    return None
