"""Recipes: one YAML file with what every stage of a model is trained by, and their training one after the other.

A recipe holds ``stages`` (``coarse``, or ``coarse`` and ``fine``, with the settings of each), ``every`` (settings of
all stages), ``card`` (a file beside it with what the model's card says) and ``seed`` (of a cross-validation's split).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brats_seg.core.errors import InputError, ModelError, UsageError
from brats_seg.train.config import TrainConfig, train_config
from brats_seg.train.data import PackedStudy
from brats_seg.train.distributed import ALONE, World
from brats_seg.train.loop import NOTHING_ELSE, Sources, record_seen, train
from brats_seg.train.runs import (
    BEFORE,
    STAGES,
    WEIGHTS,
    Known,
    known_among,
    known_by,
    open_run,
    read_yaml,
    record_start,
    start_weights,
    with_known_steps,
    with_settings,
)
from brats_seg.train.state import is_complete


@dataclass(frozen=True)
class Recipe:
    """What a model is trained by.

    Attributes:
        stages: training settings by stage, in the order they are trained.
        card: YAML file with the words of the model's card; None where the recipe names none.
        seed: of the split of a cross-validation.
    """

    stages: Mapping[str, TrainConfig]
    card: Path | None = None
    seed: int = 0

    @property
    def named_card(self) -> Path:
        """The card's file.

        Raises:
            UsageError: if the recipe names none.
        """
        if self.card is None:
            raise UsageError("the recipe names no card, which a model needs; add one, such as card: glioma_card.yaml")
        return self.card

    def with_precision(self, precision: str | None) -> Recipe:
        """The recipe with another arithmetic in every stage, where one is named."""
        if precision is None:
            return self
        stages = {name: replace(stage, precision=precision) for name, stage in self.stages.items()}
        return replace(self, stages=stages)


def read_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        settings: values to replace, such as ``steps=300`` in every stage, ``fine.steps=300`` or
            ``coarse.augment.flip=0``; what follows the ``=`` is YAML.

    Raises:
        UsageError: if keys are unknown or missing, or the stages do not go together.
        InputError: if the file cannot be read.
    """
    values = read_yaml(path)
    unknown = sorted(set(values) - {"stages", "every", "card", "seed"})
    if unknown:
        raise UsageError(f"{path.name}: unknown keys {unknown}; a recipe has stages, and may have every, card and seed")
    if "stages" not in values:
        raise UsageError(f"{path.name} has no stages; a recipe holds the settings of coarse, and of fine, under stages")
    held, seed = values["stages"], values.get("seed", 0)
    if not isinstance(held, dict) or tuple(held) not in (STAGES[:1], STAGES):
        names = list(held) if isinstance(held, dict) else held
        raise UsageError(f"{path.name}: stages are {names}; coarse, or coarse and fine, work")
    if not isinstance(seed, int):
        raise UsageError(f"{path.name}: seed is {seed!r}; choose a whole number")
    stages = {name: train_config(_stage_values(name, values, settings)) for name in held}
    if len({config.prepare for config in stages.values()}) > 1:
        raise UsageError(f"{path.name}: its stages prepare studies differently and cannot work together")
    card = values.get("card")
    return Recipe(stages, None if card is None else path.parent / str(card), seed)


def _stage_values(stage: str, values: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Plain settings of one stage: what holds for every stage, its own, and what replaces both."""
    others = set(STAGES) - {stage}
    own = [s.removeprefix(f"{stage}.") for s in settings if s.partition(".")[0].strip() not in others]
    made: dict[str, Any] = {**(values.get("every") or {}), **(values["stages"][stage] or {}), "stage": stage}
    return with_settings(made, own)


def train_stages(
    packs: Sequence[PackedStudy],
    stages: Mapping[str, TrainConfig],
    run: Path,
    *,
    start: Path | None = None,
    sources: Sources = NOTHING_ELSE,
    world: World = ALONE,
    until: float | None = None,
    tell: Callable[[str], object] = lambda _: None,
    progress: bool = True,
) -> bool:
    """Train stages one after the other, each in its folder of ``run``, going on where they were left.

    Args:
        packs: every study, those that are kept out included.
        stages: settings by stage, in order.
        start: folder with weights to start from instead of chance, a run or a model; a stage it does not have starts
            from chance.
        sources: what the run builds on besides.
        world: where to train, and with which other processes.
        until: leave at this :func:`time.monotonic`, with a checkpoint.
        tell: gets a line for the user, how long a step takes.

    Returns:
        Whether all are finished.

    Raises:
        InputError: if ``start`` has weights of none of the stages.
        UsageError: if these know a study that a stage keeps out.
        ModelError: if a stage that is finished built on another coarse stage than there is.
    """
    init = {name: None if start is None else start_weights(start, name) for name in stages}
    if start is not None and not any(init.values()):
        names = " or ".join(f"{name}.safetensors, {name}/{WEIGHTS}" for name in stages)
        raise InputError(f"{start} holds no {names} to start from")
    known = None if start is None else _known_to(start, packs, stages, tell)
    for name, asked in stages.items():
        folder = run / name
        stage = with_known_steps(asked, folder)
        if is_complete(folder, stage):
            open_run(folder, stage, resume=True)  # which refuses other settings
            record_seen(packs, stage, sources, folder)  # and this other studies
            continue
        began, stop = time.monotonic(), until
        if world.decide(until is not None and until <= began):
            return False
        if until is not None and stage.steps == 0:  # the stages to come get as much
            stop = began + (until - began) / (len(stages) - list(stages).index(name))
        coarse = run / STAGES[0] if stage.is_cascaded else None
        if init[name] is not None and world.is_first and not (folder / BEFORE).exists():
            record_start(known, folder)
        train(
            packs,
            stage,
            folder,
            sources=replace(sources, init=init[name], coarse=coarse),
            world=world,
            resume=True,
            until=stop,
            tell=tell,
            progress=progress,
        )
        if not is_complete(folder, stage):
            return False
    return True


def _known_to(
    start: Path, packs: Sequence[PackedStudy], stages: Mapping[str, TrainConfig], tell: Callable[[str], object]
) -> Known | None:
    """The studies that weights to start from know, none of which may be kept out; None where they do not say."""
    kept_out = {study for stage in stages.values() for study in stage.validation}
    try:
        known = known_by(start)
    except ModelError as error:
        if kept_out:
            tell(f"warning: {error}; what is found in the studies that are kept out may be too good")
        return None
    seen = known_among([pack for pack in packs if pack.id in kept_out], known)
    if seen:
        raise UsageError(
            f"{start} was trained on {seen[0]}, which the recipe keeps out to validate on ({len(seen)} such studies in "
            "all); start from other weights, or keep out others"
        )
    return known
