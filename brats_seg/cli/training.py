"""What ``train`` and ``crossval`` share: the folder of a run, its recipe, its studies and how they are trained on."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from brats_seg.cli.common import complain, say
from brats_seg.core.errors import OutputError

if TYPE_CHECKING:
    from brats_seg.train.config import TrainConfig
    from brats_seg.train.data import PackedStudy
    from brats_seg.train.distributed import World
    from brats_seg.train.loop import Sources
    from brats_seg.train.recipe import Recipe


@contextmanager
def run_folder(arguments: argparse.Namespace, *, mark: str) -> Iterator[Path]:
    """Refuse a folder that holds a run, or no data, and say what a run that breaks off leaves behind.

    Raises:
        OutputError: if there is a run already and ``--resume`` is not given, or the folder cannot be written.
        InputError: if there is no data.
        KeyboardInterrupt: passed on once it was said how to go on.
    """
    from brats_seg.files.folders import require_filled

    folder: Path = arguments.output
    if (folder / mark).exists() and not arguments.resume:
        # Said before packing, which takes minutes.
        raise OutputError(f"{folder} holds a run already. Pass --resume to go on with it, or another -o.")
    require_filled(arguments.data)
    try:
        yield folder
    except KeyboardInterrupt:
        complain("stopped; the last checkpoint is whole, go on with --resume")
        raise
    except OSError as error:
        from brats_seg.files.output import explain

        raise explain(error, f"the run folder {folder}") from error


def open_recipe(arguments: argparse.Namespace, path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe, if it fits what was passed besides; sets the number of threads.

    Raises:
        InputError: if it is none.
        UsageError: if what was passed adds nothing, or is lacking.
    """
    import torch

    from brats_seg.train.config import check_given
    from brats_seg.train.recipe import read_recipe

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    recipe = read_recipe(path, changes).with_precision(arguments.precision)
    besides = {name: bool(getattr(arguments, name)) for name in ("auxiliary", "teacher", "cubes")}
    check_given(list(recipe.stages.values()), **besides)
    return recipe


@dataclass(frozen=True)
class Training:
    """Studies that are packed, and what every stage is trained with.

    Attributes:
        beside: what is trained on besides the studies.
        until: seconds of a clock that never goes back, from when on no step begins; None for never.
        is_shown: whether to show progress bars.
    """

    arguments: argparse.Namespace
    recipe: Recipe
    packs: list[PackedStudy]
    beside: Sources
    world: World
    until: float | None
    is_shown: bool

    def tell(self, text: str) -> None:
        """Print a line, once where several processes train."""
        say(text, quiet=self.arguments.quiet or not self.world.is_first)

    def train(self, stages: Mapping[str, TrainConfig], folder: Path, start: Path | None) -> bool:
        """Train stages in a folder; whether they are finished."""
        from brats_seg.train.recipe import train_stages

        return train_stages(
            self.packs,
            stages,
            folder,
            start=start,
            sources=replace(self.beside, phantoms=self.arguments.output / "phantoms"),
            world=self.world,
            until=self.until,
            tell=self.tell,
            progress=self.is_shown,
        )


@contextmanager
def open_training(arguments: argparse.Namespace, recipe: Recipe) -> Iterator[Training]:
    """The studies of a run, packed where that is still to be done."""
    from brats_seg.train.distributed import join
    from brats_seg.train.pack import open_packs

    until = None if arguments.stop_after_s is None else time.monotonic() + arguments.stop_after_s
    with join(arguments.device, os.environ) as world:
        shown = world.is_first and not arguments.quiet and sys.stderr.isatty()
        packs, beside = world.in_turn(
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
        yield Training(arguments, recipe, packs, beside, world, until, shown)
