"""``brats-seg train``: train one stage of a model from a YAML configuration; resumable."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from brats_seg.cli.common import device_name, say
from brats_seg.core.errors import EXIT_INTERRUPTED, OutputError


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "train",
        help="train a network on labelled studies",
        description="DATASET is a folder of labelled studies, which are packed into RUN/packs first, or a folder of "
        "packs. A run that was stopped goes on with --resume and ends where an unbroken one ends.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file, see configs/")
    parser.add_argument("--data", type=Path, required=True, metavar="DATASET", help="labelled studies, or packs")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        help="replace a value of CONFIG, such as steps=300 or augment.transplant=0; repeatable",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN")
    parser.add_argument("--init", type=Path, metavar="WEIGHTS", help="safetensors file to start from")
    parser.add_argument(
        "--coarse", type=Path, metavar="RUN", help="run folder of the coarse stage, for a fine stage that hears it"
    )
    parser.add_argument("--device", default="cpu", type=device_name, help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--stop-after-s", type=float, metavar="S", help="leave with a checkpoint after S seconds")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors, show no progress")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Pack where needed, then train."""
    if (arguments.output / "config.yaml").exists() and not arguments.resume:
        # Said before packing, which takes minutes.
        raise OutputError(f"{arguments.output} holds a run already. Pass --resume to go on with it, or another -o.")
    try:
        weights = _train(arguments)
    except KeyboardInterrupt:
        words = "stopped; the last checkpoint is whole, go on with --resume"
        print(f"brats-seg: {words}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        from brats_seg.io.output import explain

        raise explain(error, f"the run folder {arguments.output}") from error
    say(f"weights: {weights}", quiet=arguments.quiet)
    return 0


def _train(arguments: argparse.Namespace) -> Path:
    import torch

    from brats_seg.training.config import train_config
    from brats_seg.training.distributed import join
    from brats_seg.training.loop import train
    from brats_seg.training.pack import open_dataset
    from brats_seg.training.runs import read_yaml, with_settings

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = train_config(with_settings(read_yaml(arguments.config), arguments.set or ()))
    shown = not arguments.quiet and sys.stderr.isatty()
    cache = arguments.output / "packs"
    with join(arguments.device, os.environ) as world:
        # the first packs, then the others read what it packed
        packs = open_dataset(arguments.data, cache, config.prepare, progress=shown) if world.is_first else []
        world.wait()
        return train(
            packs or open_dataset(arguments.data, cache, config.prepare, progress=False),
            config,
            arguments.output,
            world=world,
            resume=arguments.resume,
            init=arguments.init,
            coarse=arguments.coarse,
            stop_after_s=arguments.stop_after_s,
            progress=shown,
        )
