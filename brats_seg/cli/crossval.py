"""``brats-seg crossval``: train one model a fold, evaluate every study out of fold; resumable."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import say
from brats_seg.cli.options import add, add_training
from brats_seg.cli.training import Training, open_recipe, open_training, run_folder
from brats_seg.core.errors import UsageError

if TYPE_CHECKING:
    from brats_seg.train.judge import Judgement
    from brats_seg.train.splits import Split

HELP = "cross-validate: how good is a model trained on these studies?"
DESCRIPTION = (
    "Splits patients into folds (RUN/split.json), trains one model a fold, and judges every study by "
    "the model that did not see it: RUN/results holds tables, a page and what to put into a model's card. "
    "Thresholds and temperature of a fold are fitted on the other folds, a study's volume intervals on all other "
    "studies. A run that was stopped goes on with --resume."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
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


def run(arguments: argparse.Namespace) -> int:
    """Train what is missing, then judge."""
    with run_folder(arguments, mark="split.json") as folder:
        recipe = open_recipe(arguments, arguments.config)
        recipe.named_card  # noqa: B018 - said before hours of training
        for fold in arguments.only or ():
            if not 0 <= fold < arguments.folds:
                raise UsageError(f"--only {fold}: folds are numbered from 0 to {arguments.folds - 1}")
        from brats_seg.train.crossval import check_models, open_split

        chosen = sorted(set(arguments.only or ()))
        # What is fitted for a fold comes from others, so that one alone cannot be judged.
        judged = chosen if len(chosen) > 1 else range(arguments.folds)
        with open_training(arguments, recipe) as training:
            world, packs = training.world, training.packs
            split = world.in_turn(lambda: open_split(packs, recipe, arguments.folds, folder, start=arguments.init))
            for line in split.kept_together:
                training.tell(f"kept in one fold: {line}")
            if not _train(training, split, chosen or judged, judged) or not world.is_first:
                return 0
        check_models(recipe, split, folder, judged)
        _judge(training, split, judged)
    return 0


def _train(training: Training, split: Split, folds: Sequence[int], judged: Sequence[int]) -> bool:
    """Train folds; whether all that are judged are finished."""
    from brats_seg.train.crossval import fold_folder, fold_stages, fold_start
    from brats_seg.train.state import is_complete

    recipe, folder, init = training.recipe, training.arguments.output, training.arguments.init
    for fold in folds:
        training.tell(f"fold {fold}: {len(split.folds[fold])} studies kept out")
        start = None if init is None else fold_start(init, training.packs, split.folds[fold])
        if not training.train(fold_stages(recipe, split, fold), fold_folder(folder, fold), start):
            break
    left = [
        str(fold)
        for fold in judged
        if not all(is_complete(fold_folder(folder, fold) / name, stage) for name, stage in recipe.stages.items())
    ]
    if left:
        training.tell(f"not finished: fold {', '.join(left)}. Go on with --resume.")
    return not left


def _judge(training: Training, split: Split, judged: Sequence[int]) -> None:
    from brats_seg.models.engine import choose_engine
    from brats_seg.train.crossval import FoldModels
    from brats_seg.train.judge import judge_folds

    given = training.arguments
    device = choose_engine("torch", given.device)[1]
    judgement, folder = judge_folds(
        training.packs,
        FoldModels(training.recipe, split, given.output, given.tta, device),
        judged,
        with_subsets=given.subsets,
        title=f"Cross-validation of {given.config.stem}, {given.folds} folds",
        progress=training.is_shown,
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
