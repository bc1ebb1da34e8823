"""How much volumes change where slices without tumour were not scanned: no change is what a reader expects.

    python experiments/training/slabs.py RUN... --data PACKS [--margin-mm 10]

Of the studies a run kept out, all slices further from the tumour than the margin are cut away and what is left is
normalised anew, as preparation would. Prints a Markdown table: Dice before and after within the slices that are left,
and the change of the volume found there. RUN is a run of one stage, as for score.py.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from score import CPU, open_scored

from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.evaluate.overlap import count_voxels, dice
from brats_seg.models.card import regions_of
from brats_seg.train.data import LEVELS_PER_STD, PackedStudy
from brats_seg.train.prior import predict_pack

LEAST_ML = 1.0
"""Of a region found before; the change of less says nothing."""


def near_tumour(pack: PackedStudy, margin: int) -> tuple[PackedStudy, slice]:
    """The study as if only the axial slices at most ``margin`` from its tumour had been scanned, and which they are."""
    slices = np.flatnonzero((pack.labels > 0).any(axis=(0, 1)))
    kept = slice(max(int(slices[0]) - margin, 0), int(slices[-1]) + margin + 1)
    image = pack.image[..., kept].astype(np.float32)
    head = (image != 0).any(axis=0)
    for channel in image:
        std = channel[head].std()
        if std > 0:
            channel[head] = (channel[head] - channel[head].mean()) / std * LEVELS_PER_STD
    levels = np.clip(np.rint(image), -127, 127).astype(np.int8)
    return replace(pack, image=levels, labels=pack.labels[..., kept]), kept


def compare(run: Path, data: Path, margin: int) -> NDArray[np.float64]:
    """Dice before, Dice after and relative change of the volume ``(studies, 3, 3 regions)`` of those kept out."""
    network, coarse, config, packs = open_scored(run, data)
    rows = []
    for pack in packs:
        slab, kept = near_tumour(pack, margin)
        whole = predict_pack(network, pack, config, CPU, coarse=coarse).numpy()[..., kept] >= 0.5
        alone = predict_pack(network, slab, config, CPU, coarse=coarse).numpy() >= 0.5
        row = []
        for before, after, region in zip(whole, alone, regions_of(), strict=True):
            truth = DEFAULT_SCHEMA.region_mask(slab.labels, region)
            change = after.sum() / before.sum() - 1 if before.sum() >= 1000 * LEAST_ML else np.nan
            row.append([dice(count_voxels(before, truth)), dice(count_voxels(after, truth)), change])
        rows.append(np.transpose(row))
    return np.array(rows, np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--margin-mm", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| run | region | Dice, whole head | Dice, slab | change of volume: mean | mean size | largest |")
    print("|" + "---|" * 7)
    for run in given.runs:
        found = compare(run, given.data, given.margin_mm)
        for number, region in enumerate(regions_of()):
            before, after, change = found[:, :, number].T
            change = change[np.isfinite(change)]
            size = np.abs(change)
            print(
                f"| {run} | {region.name} | {before.mean():.3f} | {after.mean():.3f} | {change.mean():+.1%} | "
                f"{size.mean():.1%} | {size.max():.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
