"""Judge the networks kept here of a recipe's folds, without training: figures, and what is fitted on outputs.

    python experiments/training/judge.py experiments/training/glioma_0.8.0.yaml --data PACKS -o RUN [--subsets]

The networks are ``foldK/STAGE.safetensors.xz`` beside the recipe, the split is ``split.json`` there. ``RUN/results`` is
as ``brats-seg crossval`` writes it, and ``brats-seg models assemble --crossval RUN`` takes it.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from brats_seg.models.assemble import assemble
from brats_seg.models.card import card_from_dict
from brats_seg.train.crossval import FoldModels, fold_folder
from brats_seg.train.data import load_packs
from brats_seg.train.export import card_values
from brats_seg.train.recipe import Recipe, read_recipe
from brats_seg.train.results import judge_folds
from brats_seg.train.splits import SPLIT, read_split


def unpack_fold(kept: Path, recipe: Recipe, folder: Path) -> None:
    """Make a model folder of a fold's networks."""
    values = card_values(recipe.stages, recipe.named_card)
    with TemporaryDirectory() as place:
        weights = {}
        for stage in recipe.stages:
            weights[stage] = Path(place) / f"{stage}.safetensors"
            with lzma.open(kept / f"{stage}.safetensors.xz") as packed, weights[stage].open("wb") as plain:
                shutil.copyfileobj(packed, plain)
        stages = {stage["name"]: stage for stage in values["stages"]}
        assemble(weights, stages, card_from_dict(values, where=recipe.named_card.name), folder, onnx=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="packs of all studies")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--subsets", action="store_true", help="also with every set of missing sequences (slow)")
    given = parser.parse_args()
    recipe, packs = read_recipe(given.recipe), load_packs(given.data)
    place = given.recipe.parent
    split = read_split(place / SPLIT, packs)
    given.out.mkdir(parents=True, exist_ok=True)
    shutil.copy(place / SPLIT, given.out / SPLIT)
    folds = [fold for fold in range(len(split.folds)) if fold_folder(place, fold).is_dir()]
    for fold in folds:
        model = fold_folder(given.out, fold) / "model"
        if not model.exists():
            model.parent.mkdir(exist_ok=True)
            unpack_fold(fold_folder(place, fold), recipe, model)
    title = f"{given.recipe.stem}, {len(folds)} of {len(split.folds)} folds"
    judgement, folder = judge_folds(
        packs, FoldModels(recipe, split, given.out), folds, subsets=given.subsets, title=title
    )
    summary = judgement.evaluation.summary
    print(summary[summary["metric"] == "dice"].to_string(index=False))
    print(f"look at: {folder / 'evaluation.html'}")


if __name__ == "__main__":
    main()
