"""``brats-seg train``: train a model's stages from one recipe; resumable."""

from __future__ import annotations

import argparse
from pathlib import Path

from brats_seg.cli.options import add_training
from brats_seg.cli.training import open_recipe, open_training, run_folder

HELP = "train the stages of a model on labelled studies"
DESCRIPTION = (
    "DATASET is a folder of labelled studies, which are packed into RUN/packs first, or a folder of "
    "packs. Each stage of RECIPE is trained in its folder of RUN, the fine one on what the coarse one finds. A run "
    "that was stopped goes on with --resume and ends where an unbroken one ends."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file, see configs/")
    parser.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        help="replace a value of RECIPE in every stage, such as augment.transplant=0, or in one, such as "
        "fine.steps=300; repeatable",
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="FOLDER",
        help="start from the weights of a run of train, of a fold (RUN/fold0), or of a model, such as glioma: the "
        "first of each stage; the recipe must keep out no study that these know",
    )
    add_training(parser)


def run(arguments: argparse.Namespace) -> int:
    """Pack where needed, then train."""
    with run_folder(arguments, mark="coarse/config.yaml") as folder:
        recipe = open_recipe(arguments, arguments.recipe, arguments.set or ())
        from brats_seg.train.runs import WEIGHTS, start_folder

        with open_training(arguments, recipe) as training:
            start = None if arguments.init is None else start_folder(arguments.init)
            is_done = training.train(recipe.stages, folder, start)
        for name in recipe.stages if is_done else ():
            training.tell(f"weights: {folder / name / WEIGHTS}")
        if not is_done:
            training.tell("not finished; go on with --resume")
    return 0
