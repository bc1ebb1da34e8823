"""Several models as one, which gives the mean of what they say (Lakshminarayanan et al. 2017, arXiv:1612.01474)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from brats_seg.core.errors import ModelError
from brats_seg.models.assemble import copy_file
from brats_seg.models.card import ModelBundle, Stage, file_sha256, write_card


class Joined(NamedTuple):
    """One stage of an ensemble, and where it comes from."""

    stage: Stage
    source: ModelBundle
    original: Stage


def join_stages(bundles: Sequence[ModelBundle]) -> list[Joined]:
    """The stages of all models, counted anew as members of one ensemble; files keep their names.

    Raises:
        ModelError: if the models prepare studies differently, or have other stages.
    """
    first = bundles[0].card
    names = [stage.name for stage in first.stages if stage.member == 1]
    joined: list[Joined] = []
    for bundle in bundles:
        card = bundle.card
        if settings_key(card.prepare) != settings_key(first.prepare):
            raise ModelError(
                f"models {first.name} and {card.name} prepare studies differently and cannot work together"
            )
        if [stage.name for stage in card.stages if stage.member == 1] != names:
            raise ModelError(f"models {first.name} and {card.name} have not the same stages ({', '.join(names)})")
        before = joined[-1].stage.member if joined else 0
        joined += [Joined(replace(stage, member=before + stage.member), bundle, stage) for stage in card.stages]
    return joined


def settings_key(values: Mapping[str, Any]) -> str:
    """The same for settings in memory, which hold tuples, and those of a file, which hold lists.

    A setting that lists nothing is left out, as it is from the card of a model made before there was such a setting.
    """
    listed = {key: value for key, value in values.items() if value not in ((), [])}
    return json.dumps(listed, sort_keys=True, default=dict)


def add_members(bundle: ModelBundle, other: ModelBundle) -> ModelBundle:
    """Add the networks of another model to a model folder; the card is that of the first, who has seen both's studies.

    Raises:
        ModelError: as :func:`join_stages`, or if a file of the other model is damaged.
    """
    stages: list[Stage] = []
    for stage, source, original in join_stages([bundle, other]):
        if source is bundle:
            stages.append(stage)
            continue
        files: dict[str, str] = {}
        for name in original.files:
            target = bundle.folder / f"{stage.key}.{name.rpartition('.')[2]}"
            copy_file(source.file(original, name), target)
            files[target.name] = file_sha256(target)
        stages.append(replace(stage, files=files))
    seen = tuple(sorted({*bundle.card.seen, *other.card.seen}))
    marks = {**other.card.fingerprints, **bundle.card.fingerprints}
    card = replace(bundle.card, stages=tuple(stages), seen=seen, fingerprints=marks)
    write_card(card, bundle.folder)
    return ModelBundle(card, bundle.folder)
