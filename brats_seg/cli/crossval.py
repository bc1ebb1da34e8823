"""``brats-seg crossval``: train one model a fold, evaluate every study out of fold; resumable."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import given_besides, say, training_run
from brats_seg.cli.options import add, add_training
from brats_seg.core.errors import UsageError

if TYPE_CHECKING:
    from brats_seg.train.crossval import FoldModels
    from brats_seg.train.data import PackedStudy
    from brats_seg.train.distributed import World
    from brats_seg.train.judge import Judgement
    from brats_seg.train.loop import Sources
    from brats_seg.train.recipe import Recipe
    from brats_seg.train.splits import Split


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "crossval",
        help="cross-validate: how good is a model trained on these studies?",
        description="Splits patients into folds (RUN/split.json), trains one model a fold, and judges every study by "
        "the model that did not see it: RUN/results holds tables, a page and what to put into a model's card. "
        "Thresholds and temperature of a fold are fitted on the other folds, a study's volume intervals on all other "
        "studies. A run that was stopped goes on with --resume.",
    )
    parser.add_argument("config", type=Path, metavar="RECIPE", help="YAML file, see configs/")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="number of folds (default: 5)")
    parser.add_argument(
        "--only",
        type=int,
        action="append",
        metavar="K",
        help="only fold K (from 0); repeatable, and two or more are judged alone",
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="RUN",
        help="start each fold from the weights of the same fold of another cross-validation, whose split is taken; or "
        "from a run of train that has seen none of the studies, such as one on phantoms",
    )
    add(parser, "tta")
    parser.add_argument("--subsets", action="store_true", help="also judge with every set of missing sequences (slow)")
    add_training(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train what is missing, then judge."""
    with training_run(arguments, mark="split.json"):
        return _crossval(arguments)


@dataclass(frozen=True)
class _Job:
    """What was asked for, and what it is about.

    Attributes:
        beside: what every fold trains on besides.
        split: which studies each fold keeps out.
    """

    arguments: argparse.Namespace
    packs: list[PackedStudy]
    beside: Sources
    config: Recipe
    split: Split
    progress: bool

    @property
    def run(self) -> Path:
        """The run folder."""
        folder: Path = self.arguments.output
        return folder

    @property
    def all_folds(self) -> Sequence[int]:
        """The numbers of the folds."""
        return range(len(self.split.folds))

    @property
    def folds(self) -> Sequence[int]:
        """The folds to train."""
        return sorted(set(self.arguments.only or self.all_folds))

    @property
    def judged(self) -> Sequence[int]:
        """The folds to judge: what is fitted for one comes from others, so that one alone cannot be judged."""
        return self.folds if len(self.folds) > 1 else self.all_folds

    @property
    def models(self) -> FoldModels:
        """Models of the folds."""
        from brats_seg.models.engine import choose_engine
        from brats_seg.train.crossval import FoldModels

        given = self.arguments
        return FoldModels(self.config, self.split, self.run, given.tta, choose_engine("torch", given.device)[1])


def _crossval(arguments: argparse.Namespace) -> int:
    import torch

    from brats_seg.train.config import check_given
    from brats_seg.train.crossval import check_models
    from brats_seg.train.distributed import join
    from brats_seg.train.recipe import read_recipe

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    until = None if arguments.stop_after_s is None else time.monotonic() + arguments.stop_after_s
    config = read_recipe(arguments.config).with_precision(arguments.precision)
    config.named_card  # noqa: B018 - said before hours of training
    check_given(list(config.stages.values()), **given_besides(arguments))
    _check_only(arguments)
    with join(arguments.device, os.environ) as world:
        job = _open(arguments, config, world)
        if not _train(job, config, world, until) or not world.is_first:
            return 0
    check_models(config, job.split, job.run, job.judged)
    _judge(job)
    return 0


def _check_only(arguments: argparse.Namespace) -> None:
    wrong = [k for k in arguments.only or () if not 0 <= k < arguments.folds]
    if wrong:
        raise UsageError(f"--only {wrong[0]}: folds are numbered from 0 to {arguments.folds - 1}")


def _open(arguments: argparse.Namespace, config: Recipe, world: World) -> _Job:
    """Pack the studies and draw the split where that is still to be done."""
    from brats_seg.train.crossval import open_split
    from brats_seg.train.pack import open_packs

    shown = world.is_first and not arguments.quiet and sys.stderr.isatty()
    run = arguments.output
    prepare = config.stages["coarse"].prepare
    packs, beside = world.in_turn(
        lambda: open_packs(
            arguments.data,
            run / "packs",
            prepare,
            auxiliary=arguments.auxiliary,
            teacher=arguments.teacher,
            cubes=arguments.cubes,
            progress=shown,
        )
    )
    split = world.in_turn(lambda: open_split(packs, config, arguments.folds, run, start=arguments.init))
    if world.is_first:
        for line in split.kept_together:
            say(f"kept in one fold: {line}", quiet=arguments.quiet)
    return _Job(arguments, packs, beside, config, split, shown)


def _train(job: _Job, config: Recipe, world: World, until: float | None) -> bool:
    """Whether all folds are finished."""
    from brats_seg.train.crossval import fold_folder, fold_stages, fold_start
    from brats_seg.train.recipe import train_stages
    from brats_seg.train.state import is_complete

    init = job.arguments.init
    sources = replace(job.beside, phantoms=job.run / "phantoms")

    for fold in job.folds:
        if world.is_first:
            say(f"fold {fold}: {len(job.split.folds[fold])} studies kept out", quiet=job.arguments.quiet)
        if not train_stages(
            job.packs,
            fold_stages(config, job.split, fold),
            fold_folder(job.run, fold),
            start=None if init is None else fold_start(init, job.packs, job.split.folds[fold]),
            sources=sources,
            world=world,
            until=until,
            tell=lambda text: say(text, quiet=job.arguments.quiet or not world.is_first),
            progress=job.progress,
        ):
            break
    left = [
        fold
        for fold in job.judged
        for name, stage in config.stages.items()
        if not is_complete(fold_folder(job.run, fold) / name, stage)
    ]
    if left and world.is_first:
        numbers = ", ".join(map(str, dict.fromkeys(left)))
        say(f"not finished: fold {numbers}. Go on with --resume.", quiet=job.arguments.quiet)
    return not left


def _judge(job: _Job) -> None:
    from brats_seg.train.results import judge_folds

    given = job.arguments
    judgement, folder = judge_folds(
        job.packs,
        job.models,
        job.judged,
        subsets=given.subsets,
        title=f"Cross-validation of {given.config.stem}, {given.folds} folds",
        progress=job.progress,
    )
    say(_text(judgement, folder), quiet=given.quiet)


def _text(judgement: Judgement, folder: Path) -> str:
    from brats_seg.train.judge import interval_summary

    summary = judgement.evaluation.summary
    lines = [f"{len(judgement.evaluation.case_ids)} studies, each judged by a model that did not see it"]
    pick: Callable[[str, str, str], Any] = lambda subset, region, metric: summary[  # noqa: E731 - a row by its keys
        (summary["subset"] == subset) & (summary["region"] == region) & (summary["metric"] == metric)
    ].iloc[0]
    for subset in dict.fromkeys(summary["subset"]):
        for region in judgement.evaluation.regions.names:
            dice, distance = (pick(subset, region, metric) for metric in ("dice", "hd95_mm"))
            lines.append(
                f"  {subset}: {region} Dice {dice['mean']:.4f} ({dice['low']:.3f} to {dice['high']:.3f}), "
                f"median HD95 {distance['median']:.2f} mm"
            )
    for row in interval_summary(judgement.intervals).to_dict("records"):
        lines.append(f"  {row['region']}: intervals cover {row['covered']} of {row['studies']}")
    for row in judgement.calibration.to_dict("records"):
        lines.append(
            f"  {row['region']}: ECE {row['ece']:.4f}, without temperature {row['ece_without_temperature']:.4f}"
        )
    lines.append(f"  look at: {folder / 'evaluation.html'}")
    return "\n".join(lines)
