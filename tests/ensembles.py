"""Ensembles of small models, to test with."""

from __future__ import annotations

from dataclasses import replace

from brats_seg.models.assemble import copy_file
from brats_seg.models.card import ModelBundle, Stage, file_sha256, write_card


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
