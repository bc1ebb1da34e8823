"""Measure what tells two sequences of one head from two heads.

``python -m experiments.registration.pairs STUDIES... -o OUT.tsv``

STUDIES are skull-stripped studies of four sequences, on voxels of 1 mm of one space. Each pair of sequences is compared
as ``check_consistency`` does it, over cells of 4 mm and of 2 mm, of one study and of two (each and the next one given):
as they are, and with all sequences put together to slices of 5 mm and interpolated back inside their outlines.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Volume
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.files.find import find_studies
from brats_seg.files.load import load_study
from brats_seg.imaging.brain import foreground, solid
from brats_seg.imaging.joining import CELL_MM, FINE_CELL_MM, MIN_AGREEMENT, MIN_PROMINENCE
from brats_seg.imaging.pooling import block_means
from brats_seg.imaging.structure import Borders, compare, directions

COLUMNS = ("heads", "slices_mm", "first", "second", "pair", "agreement", "prominence")
SLICES = (1, 5)
Pairs = dict[tuple[MRSequence, int, float], Borders]


def in_slices(values: NDArray[np.float32], slice_mm: int) -> NDArray[np.float32]:
    """Means over slices along the last axis, of 1 mm, interpolated linearly between their middles."""
    if slice_mm == 1:
        return values
    means = ndimage.uniform_filter1d(values, slice_mm, axis=2)[:, :, slice_mm // 2 :: slice_mm]
    places = np.clip((np.arange(values.shape[2]) - slice_mm // 2) / slice_mm, 0, means.shape[2] - 1)
    low = places.astype(int)
    share = (places - low).astype(np.float32)
    mixed: NDArray[np.float32] = means[:, :, low] * (1 - share)
    mixed += means[:, :, np.minimum(low + 1, means.shape[2] - 1)] * share
    return mixed


def borders_of(volume: Volume, slice_mm: int, cell_mm: float) -> Borders:
    """Directions of the borders of a sequence on voxels of 1 mm."""
    there = foreground(volume)
    inside = volume.with_data(there).to_ras().data
    values = np.where(inside, volume.to_ras().data, 0).astype(np.float32)
    high = float(np.percentile(values[inside], 99.5))
    values = np.where(inside, in_slices(np.minimum(values, high), slice_mm), 0).astype(np.float32)
    side = round(cell_mm)
    share = block_means(inside.astype(np.float32), (side,) * 3)
    means = block_means(values, (side,) * 3) / np.maximum(share, np.float32(0.05))
    cells = (float(side),) * 3
    return Borders(directions(means.astype(np.float32), solid(share > 0.5), cells), cells)


def measured(folder: Path) -> tuple[str, Pairs]:
    """A study's name and the borders of its sequences, in every kind of slices and cells."""
    (files,) = find_studies(folder)
    study = load_study(files)
    kinds = [(s, slices, cell) for s in SEQUENCES for slices in SLICES for cell in (CELL_MM, FINE_CELL_MM)]
    return files.id, {(s, slices, cell): borders_of(study.images[s], slices, cell) for s, slices, cell in kinds}


def rows_of(heads: str, first: tuple[str, Pairs], second: tuple[str, Pairs]) -> Iterator[list[str]]:
    """One line for each pair of sequences, the earlier one of the first study."""
    for slices in SLICES:
        for a, b in combinations(SEQUENCES, 2):
            coarse, fine = (
                compare(first[1][a, slices, cell], second[1][b, slices, cell]) for cell in (CELL_MM, FINE_CELL_MM)
            )
            assert coarse is not None
            assert fine is not None
            numbers = (f"{coarse.excess:.3f}", f"{fine.prominence:.2f}")
            yield [heads, str(slices), first[0], second[0], f"{a.title}-{b.title}", *numbers]


def main() -> None:
    """Measure every study and every two that follow one another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    arguments = parser.parse_args()
    rows: list[list[str]] = []
    before: tuple[str, Pairs] | None = None
    for folder in arguments.studies:
        study = measured(folder)
        rows += rows_of("one", study, study)
        if before is not None:
            rows += [*rows_of("two", before, study), *rows_of("two", study, before)]
        before = study
        lines = ["\t".join(row) for row in (COLUMNS, *rows)]
        arguments.output.write_text("\n".join(lines) + "\n")
    print("| pair | slices | one head: agree less | and do not stand out | two: agree as much | or stand out |")
    for pair in dict.fromkeys(row[4] for row in rows):
        for slices in map(str, SLICES):
            one, two = (
                np.array([row[5:] for row in rows if row[0] == heads and row[1] == slices and row[4] == pair], float)
                for heads in ("one", "two")
            )
            less = one[:, 0] < MIN_AGREEMENT
            most = two[:, 0] >= MIN_AGREEMENT
            print(
                f"| {pair} | {slices} mm | {less.sum()} of {len(one)} | {(less & (one[:, 1] < MIN_PROMINENCE)).sum()} "
                f"| {most.sum()} of {len(two)} | {(most | (two[:, 1] >= MIN_PROMINENCE)).sum()} |"
            )


if __name__ == "__main__":
    main()
