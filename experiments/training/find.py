"""What a model finds in packed studies: cases, as a cross-validation keeps them, to compare another model with.

    python experiments/training/find.py MODEL PACKS NAMES.txt -o OUT

MODEL is the name of a shipped model or a folder; NAMES.txt holds ids, one a line. Cases that are there are kept.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from brats_seg.models.card import find_model
from brats_seg.segment.predict import Predictor
from brats_seg.train.crossval import predict_case, write_case
from brats_seg.train.data import read_pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("packs", type=Path)
    parser.add_argument("names", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    predictor = Predictor(find_model(given.model), engine="torch")
    for name in given.names.read_text(encoding="utf-8").split():
        path = given.out / f"{name}.npz"
        if path.exists():
            continue
        used = time.process_time()
        write_case(predict_case(predictor, read_pack(given.packs / path.name)), path)
        print(f"{name}: {time.process_time() - used:.0f} core-s", flush=True)


if __name__ == "__main__":
    main()
