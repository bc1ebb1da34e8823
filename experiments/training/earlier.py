"""What glioma 0.7.0 says about studies that its networks kept out, to judge other networks against.

    python experiments/training/earlier.py CHECKOUT --data PACKS -o RUN

CHECKOUT is one of commit 3c60536 with its fold networks, ``brats_seg/models/crossval`` (two pairs a fold) and
``crossval_fresh`` (one). For each study of the folds of ``split.json`` that have networks here, the three pairs that
kept it out are averaged; a study that none of them saw takes those of the first folds. ``RUN/foldK/outputs`` is for
``judge.py --against RUN``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from brats_seg.models.card import ModelBundle, file_sha256, find_model, write_card
from brats_seg.models.stage import Stage
from brats_seg.segment.predict import Predictor
from brats_seg.train.crossval import fold_folder, predict_case, write_case
from brats_seg.train.data import load_packs
from brats_seg.train.splits import SPLIT, read_split

HERE = Path(__file__).resolve().parent
PLACES = ("crossval", "crossval", "crossval_fresh")
"""Of the members of the mean."""


def mean_of_three(networks: Path, folds: dict[str, int], folder: Path) -> ModelBundle:
    """A model folder with the pairs of one combination of folds, and the card of a coarse-to-fine pair for each."""
    folder.mkdir(parents=True, exist_ok=True)
    card = find_model("glioma").card
    first = [stage for stage in card.stages if stage.member == 1]
    stages: list[Stage] = []
    for member, place in enumerate(PLACES, start=1):
        for stage in first:
            held = replace(stage, member=member, files={})
            name = held.key if place == "crossval" else stage.name
            target = folder / f"{held.key}.safetensors"
            shutil.copy(networks / place / f"fold{folds[place]}" / f"{name}.safetensors", target)
            stages.append(replace(held, files={target.name: file_sha256(target)}))
    made = replace(card, stages=tuple(stages), seen=(), fingerprints={})
    write_card(made, folder)
    return find_model(str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="packs of all studies")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    packs = load_packs(given.data)
    by_id = {pack.id: pack for pack in packs}
    networks = given.checkout / "brats_seg" / "models"
    kept_out = {
        place: {
            study: k
            for k, ids in enumerate(json.loads((networks / place / SPLIT).read_text())["folds"])
            for study in ids
        }
        for place in set(PLACES)
    }
    split = read_split(HERE / SPLIT, packs)
    for fold, studies in enumerate(split.folds):
        if not fold_folder(HERE, fold).is_dir():
            continue
        outputs = fold_folder(given.out, fold) / "outputs"
        outputs.mkdir(parents=True, exist_ok=True)
        alike = defaultdict(list)
        for study in studies:
            alike[tuple((place, kept_out[place].get(study, 0)) for place in sorted(kept_out))].append(study)
        for folds, chosen in sorted(alike.items()):
            folder = given.out / "models" / "_".join(str(k) for _, k in folds)
            predictor = Predictor(mean_of_three(networks, dict(folds), folder), engine="torch")
            for study in chosen:
                if not (outputs / f"{study}.npz").exists():
                    write_case(predict_case(predictor, by_id[study]), outputs / f"{study}.npz")


if __name__ == "__main__":
    main()
