"""Judge the networks kept here of a recipe's folds, without training: figures, and what is fitted on outputs.

    python experiments/training/judge.py RECIPE --data PACKS -o RUN [--subsets] [--against OTHERS] [--model MODEL]

The networks are ``foldK/STAGE.safetensors.xz`` beside the recipe (``glioma_0.8.0.yaml``), the split is ``split.json``.
``RUN/results`` is as ``brats-seg crossval`` writes it, and ``brats-seg models assemble --crossval RUN`` takes it.
OTHERS is a run with outputs for the same studies (``earlier.py``), to which the same is fitted; ``RUN/comparison.csv``
holds the paired differences. MODEL has the networks that are shipped, which learnt from all studies, with a card of
what was measured and fitted here.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from brats_seg.evaluate.evaluate import compare_evaluations, frame_to_csv
from brats_seg.files.output import write_text
from brats_seg.models.assemble import write_model
from brats_seg.models.card import card_from_dict, find_model
from brats_seg.models.rules import PostprocessConfig
from brats_seg.train.crossval import FoldModels, fold_folder
from brats_seg.train.data import load_packs
from brats_seg.train.export import card_values, crossvalidated
from brats_seg.train.judge import interval_summary, judge, judge_folds
from brats_seg.train.recipe import Recipe, read_recipe
from brats_seg.train.splits import SPLIT, read_split


def unpack_fold(kept: Path, recipe: Recipe, folder: Path) -> None:
    """Make a model folder of a fold's networks."""
    with TemporaryDirectory() as place:
        weights = {}
        for stage in recipe.stages:
            weights[stage] = Path(place) / f"{stage}.safetensors"
            with lzma.open(kept / f"{stage}.safetensors.xz") as packed, weights[stage].open("wb") as plain:
                shutil.copyfileobj(packed, plain)
        _assemble(weights, card_values(recipe.stages, recipe.named_card), folder, onnx=False)


def judged_model(shipped: Path, recipe: Recipe, judged: Path, folder: Path) -> None:
    """Make a model folder of the networks in another, with what judging the folds measured and fitted."""
    values = crossvalidated(card_values(recipe.stages, recipe.named_card), judged)
    _assemble({stage: shipped / f"{stage}.onnx" for stage in recipe.stages}, values, folder, onnx=True)


def _assemble(weights: Mapping[str, Path], values: Mapping[str, Any], folder: Path, *, onnx: bool) -> None:
    write_model(weights, card_from_dict(values, where="the recipe's card"), folder, onnx=onnx)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="packs of all studies")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--subsets", action="store_true", help="also with every set of missing sequences (slow)")
    parser.add_argument("--against", type=Path, metavar="OTHERS", help="run whose outputs to compare with")
    parser.add_argument("--model", type=Path, help="also give the shipped networks a card of this")
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
        packs, FoldModels(recipe, split, given.out), folds, with_subsets=given.subsets, title=title
    )
    summary = judgement.evaluation.summary
    print(summary[summary["metric"] == "dice"].to_string(index=False))
    if given.against is not None:
        files = [[fold_folder(given.against, k) / "outputs" / f"{i}.npz" for i in split.folds[k]] for k in folds]
        others = judge(files, PostprocessConfig())
        write_text(given.out / "others.csv", others.evaluation.to_csv()["summary"])
        rng = np.random.default_rng(0)
        comparison = compare_evaluations(others.evaluation, judgement.evaluation, generator=rng)
        write_text(given.out / "comparison.csv", frame_to_csv(comparison))
        print(interval_summary(others.intervals).to_string(index=False))
        print(comparison.to_string(index=False))
    if given.model is not None:
        judged_model(find_model("glioma").folder, recipe, given.out, given.model)
    print(f"look at: {folder / 'evaluation.html'}")


if __name__ == "__main__":
    main()
