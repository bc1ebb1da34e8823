"""``brats-seg train``: train one stage of a model from a YAML configuration; resumable."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats_seg.cli.common import add_training_options, given_besides, say, training_run


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "train",
        help="train a network on labelled studies",
        description="DATASET is a folder of labelled studies, which are packed into RUN/packs first, or a folder of "
        "packs. A run that was stopped goes on with --resume and ends where an unbroken one ends.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file, see configs/")
    parser.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        help="replace a value of CONFIG, such as steps=300 or augment.transplant=0; repeatable",
    )
    parser.add_argument("--init", type=Path, metavar="WEIGHTS", help="safetensors file to start from")
    parser.add_argument(
        "--coarse", type=Path, metavar="RUN", help="run folder of the coarse stage, for a fine stage that hears it"
    )
    add_training_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Pack where needed, then train."""
    with training_run(arguments.output, mark="config.yaml", resume=arguments.resume):
        weights = _train(arguments)
    say(f"weights: {weights}", quiet=arguments.quiet)
    return 0


def _train(arguments: argparse.Namespace) -> Path:
    import torch

    from brats_seg.training.config import check_given, train_config
    from brats_seg.training.distributed import join
    from brats_seg.training.loop import train
    from brats_seg.training.pack import open_packs
    from brats_seg.training.runs import read_yaml, with_settings

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = train_config(with_settings(read_yaml(arguments.config), arguments.set or ()))
    if arguments.precision:
        config = replace(config, precision=arguments.precision)
    check_given([config], **given_besides(arguments))
    with join(arguments.device, os.environ) as world:
        shown = world.is_first and not arguments.quiet and sys.stderr.isatty()
        cache = arguments.output / "packs"
        packs, beside = world.in_turn(
            lambda: open_packs(
                arguments.data,
                cache,
                config.prepare,
                auxiliary=arguments.auxiliary,
                teacher=arguments.teacher,
                cubes=arguments.cubes,
                progress=shown,
            )
        )
        return train(
            packs,
            config,
            arguments.output,
            sources=replace(beside, init=arguments.init, coarse=arguments.coarse),
            world=world,
            resume=arguments.resume,
            stop_after_s=arguments.stop_after_s,
            progress=shown,
        )
