"""Fold models that are there already: judged anew as they are, or with scans prepared otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats_seg.core.errors import ModelError
from brats_seg.models.assemble import copy_model
from brats_seg.models.card import CARD, ModelBundle, find_model, read_bundle
from brats_seg.models.ensemble import settings_key
from brats_seg.train.splits import Split


def fold_folder(run: Path, fold: int) -> Path:
    """Where a fold keeps its stages, its model and its outputs."""
    return run / f"fold{fold}"


def held_model(place: Path, fold: int) -> ModelBundle:
    """The model of a fold of a finished run, or of a folder of fold models.

    Raises:
        ModelError: if it is not there.
    """
    folder = fold_folder(place, fold)
    return find_model(str(folder if (folder / CARD).is_file() else folder / "model"))


def prepared_as(place: Path) -> dict[str, Any]:
    """How scans are prepared for the models of a folder, which is the same for all of them.

    Raises:
        ModelError: if it is not, or there is no model.
    """
    folds = sum(1 for _ in place.glob("fold*"))
    first, *others = (held_model(place, fold).card for fold in range(max(folds, 1)))
    for other in others:
        if settings_key(other.prepare) != settings_key(first.prepare):
            raise ModelError(
                f"models {first.name} and {other.name} in {place} prepare studies differently; "
                "judge models that belong together"
            )
    return dict(first.prepare)


def copy_models(place: Path, split: Split, run: Path, prepare: Mapping[str, Any]) -> None:
    """Put the models of another folder into a run folder, to be judged there.

    Args:
        place: folder of fold models, or a finished run.
        split: which studies each of them kept out.
        run: the run folder; models that are there already are kept.
        prepare: how scans are prepared for them there.

    Raises:
        ModelError: if a model has seen a study that its fold keeps out, a file is damaged, or the run folder holds
            other models.
    """
    sources = [held_model(place, fold) for fold in range(len(split.folds))]
    _check_kept_out(sources, split)
    for fold, source in enumerate(sources):
        folder = fold_folder(run, fold) / "model"
        if (folder / CARD).is_file():
            _check_same(read_bundle(folder), source, prepare)
        else:
            copy_model(source, replace(source.card, prepare=prepare), folder)


def _check_kept_out(sources: Sequence[ModelBundle], split: Split) -> None:
    for source, kept_out in zip(sources, split.folds, strict=True):
        known = sorted(set(source.card.seen) & set(kept_out))
        if known or not source.card.seen:
            why = f"was trained on {known[0]}" if known else "does not say what it was trained on"
            raise ModelError(f"model {source.card.name} {why}; it cannot be judged by the studies it should not know")


def _check_same(held: ModelBundle, source: ModelBundle, prepare: Mapping[str, Any]) -> None:
    stages = [[stage.decides() for stage in bundle.card.stages] for bundle in (held, source)]
    if stages[0] != stages[1] or settings_key(held.card.prepare) != settings_key(prepare):
        raise ModelError(f"{held.folder} is another model than the one to be judged; choose another run folder")
