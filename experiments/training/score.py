"""Dice of runs on the studies they kept out, and their paired differences to the first run.

    python experiments/training/score.py RUN... --data PACKS

Prints a Markdown table: mean Dice at a threshold of one half (both masks empty 1, one empty 0), of all studies and of
those with 2 ml of enhancement or more, and the mean difference to the first run with its 95 % bootstrap interval over
studies. RUN is a run of one stage; a fine one finds its coarse stage beside itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.models.card import regions_of
from brats_seg.networks.attention_unet import AttentionUNet
from brats_seg.train.config import TrainConfig
from brats_seg.train.data import PackedStudy, load_packs
from brats_seg.train.prior import CoarseStage, open_coarse, validate
from brats_seg.train.runs import WEIGHTS, load_weights, read_run_config
from brats_seg.train.state import saved_step

CPU = torch.device("cpu")
ENHANCING_ML = 2.0


def open_scored(run: Path, data: Path) -> tuple[AttentionUNet, CoarseStage | None, TrainConfig, list[PackedStudy]]:
    """A run's network, the coarse stage of its cascade, its settings, and the studies it kept out."""
    config = read_run_config(run)
    network = AttentionUNet(config.network).eval()
    load_weights(network, run / WEIGHTS)
    coarse = open_coarse(run.with_name("coarse"), config, CPU) if config.is_cascaded else None
    return network, coarse, config, [pack for pack in load_packs(data) if pack.id in config.validation]


def scores_of(run: Path, data: Path) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of the studies a run kept out: which have 2 ml of enhancement or more, and their Dice ``(studies, 3)``."""
    network, coarse, config, packs = open_scored(run, data)
    rows = [validate(network, [pack], config, CPU, coarse=coarse) for pack in packs]
    large = [DEFAULT_SCHEMA.region_mask(pack.labels, regions_of()["ET"]).sum() / 1000 >= ENHANCING_ML for pack in packs]
    lines = [f"{pack.id},{','.join(f'{value:.4f}' for value in row)}" for pack, row in zip(packs, rows, strict=True)]
    header = ",".join(["case", *(region.name for region in regions_of())])
    (run / "scores.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return np.array(large), np.array(rows)


def row_of(
    name: str, step: int, large: NDArray[np.bool_], dice: NDArray[np.float64], first: NDArray[np.float64]
) -> str:
    """A row of the table."""
    means = [f"{value:.3f}" for part in (dice, dice[large]) for value in part.mean(axis=0)]
    gain = dice - first
    drawn = np.random.default_rng(0).integers(len(gain), size=(4000, len(gain)))
    low, high = np.quantile(gain[drawn].mean(axis=1), (0.025, 0.975), axis=0)
    gains = [f"{m:+.3f} ({a:+.3f} to {b:+.3f})" for m, a, b in zip(gain.mean(axis=0), low, high, strict=True)]
    return " | ".join(["", name, str(step), f"{len(dice)}", *means, *gains, ""]).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| run | steps | studies | WT | TC | ET | WT of >= 2 ml ET | TC | ET | difference in WT | TC | ET |")
    print("|" + "---|" * 12)
    first = None
    for run in given.runs:
        large, dice = scores_of(run, given.data)
        first = dice if first is None else first
        print(row_of(run.name, saved_step(run), large, dice, first), flush=True)


if __name__ == "__main__":
    main()
