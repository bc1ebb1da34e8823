"""Model folders made of others, to test with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from brats_seg.models.assemble import copy_file
from brats_seg.models.card import ModelBundle, ModelCard, file_sha256, write_card
from brats_seg.models.stage import Stage


def add_members(bundle: ModelBundle, other: ModelBundle) -> ModelBundle:
    """Add the networks of another model to a model folder, under the card of the first."""
    last = bundle.card.stages[-1].member
    stages: list[Stage] = list(bundle.card.stages)
    for original in other.card.stages:
        stage = replace(original, member=last + original.member)
        files: dict[str, str] = {}
        for name in original.files:
            target = bundle.folder / f"{stage.key}.{name.rpartition('.')[2]}"
            copy_file(other.file(original, name), target)
            files[target.name] = file_sha256(target)
        stages.append(replace(stage, files=files))
    seen = tuple(sorted({*bundle.card.seen, *other.card.seen}))
    marks = {**other.card.fingerprints, **bundle.card.fingerprints}
    card = replace(bundle.card, stages=tuple(stages), seen=seen, fingerprints=marks)
    write_card(card, bundle.folder)
    return ModelBundle(card, bundle.folder)


def copy_model(source: ModelBundle, card: ModelCard, folder: Path) -> ModelBundle:
    """A model folder with the networks of another model, under a new card."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in source.card.stages:
        for name in stage.files:
            copy_file(source.file(stage, name), folder / name)
    write_card(card, folder)
    return ModelBundle(card, folder)
