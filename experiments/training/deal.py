"""Deal studies that came later out to the folds of an earlier split, whose studies stay where they are.

python experiments/training/deal.py PACKS SPLIT.json -o NEW.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from brats_seg.train.data import load_packs
from brats_seg.train.splits import draw_split, write_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packs", type=Path)
    parser.add_argument("split", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    before = json.loads(given.split.read_text(encoding="utf-8"))
    split = draw_split(load_packs(given.packs), len(before["folds"]), seed=before["seed"], dealt=before["folds"])
    write_split(split, given.out)
    for old, new in zip(before["folds"], split.folds, strict=True):
        print(f"{len(new)} studies, new: {', '.join(sorted(set(new) - set(old)))}")


if __name__ == "__main__":
    main()
