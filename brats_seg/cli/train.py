"""``brats-seg train``: train a model's stages from one recipe; resumable."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats_seg.cli.common import given_besides, say, training_run
from brats_seg.cli.options import add_training


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "train",
        help="train the stages of a model on labelled studies",
        description="DATASET is a folder of labelled studies, which are packed into RUN/packs first, or a folder of "
        "packs. Each stage of RECIPE is trained in its folder of RUN, the fine one on what the coarse one finds. A run "
        "that was stopped goes on with --resume and ends where an unbroken one ends.",
    )
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
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Pack where needed, then train."""
    with training_run(arguments, mark="coarse/config.yaml"):
        _train(arguments)
    return 0


def _train(arguments: argparse.Namespace) -> None:
    import torch

    from brats_seg.train.config import check_given
    from brats_seg.train.distributed import join
    from brats_seg.train.pack import open_packs
    from brats_seg.train.recipe import read_recipe, train_stages
    from brats_seg.train.runs import WEIGHTS
    from brats_seg.train.start import start_folder

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    until = None if arguments.stop_after_s is None else time.monotonic() + arguments.stop_after_s
    recipe = read_recipe(arguments.recipe, arguments.set or ()).with_precision(arguments.precision)
    check_given(list(recipe.stages.values()), **given_besides(arguments))
    with join(arguments.device, os.environ) as world:
        shown = world.is_first and not arguments.quiet and sys.stderr.isatty()
        packs, sources = world.in_turn(
            lambda: open_packs(
                arguments.data,
                arguments.output / "packs",
                recipe.stages["coarse"].prepare,
                auxiliary=arguments.auxiliary,
                teacher=arguments.teacher,
                cubes=arguments.cubes,
                progress=shown,
            )
        )
        is_done = train_stages(
            packs,
            recipe.stages,
            arguments.output,
            start=None if arguments.init is None else start_folder(arguments.init),
            sources=replace(sources, phantoms=arguments.output / "phantoms"),
            world=world,
            until=until,
            tell=lambda text: say(text, quiet=arguments.quiet or not world.is_first),
            progress=shown,
        )
        quiet = arguments.quiet or not world.is_first
    for name in recipe.stages if is_done else ():
        say(f"weights: {arguments.output / name / WEIGHTS}", quiet=quiet)
    if not is_done:
        say("not finished; go on with --resume", quiet=quiet)
