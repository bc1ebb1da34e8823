"""Foreign weights to a model folder: a state dict with a small description, or a bundle of the MONAI model zoo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from brats_seg.core.errors import ModelError
from brats_seg.core.study import SEQUENCES
from brats_seg.exchange.state import check_fits, read_state_dict
from brats_seg.models.assemble import write_model
from brats_seg.models.card import CARD_FORMAT, ModelBundle, ModelCard, card_from_dict, regions_of

NOT_STATED = "not stated"
OWN_KEYS = ("architecture", "network", "spacing_mm", "sequences", "regions", "axes")
"""Keys of a description beside those of a model card."""

REQUIRED = frozenset({"name", "architecture", "knows_treated_brains"})
"""Keys a description cannot do without: nothing else tells them."""

WORDS: Mapping[str, Any] = {
    "version": "imported",
    "description": "imported weights",
    "licence": NOT_STATED,
    "trained_on": NOT_STATED,
    "task": "regions",
    "schemas": ["brats2023", "brats2021"],
    "criteria": ["rano2", "rano-hgg", "rano-lgg", "mrano"],
    "held_out": [],
    "limits": ["Imported weights; how accurate they are was not measured here."],
    "citations": [],
    "accuracy": {},
    "prepare": {},
    "postprocess": {},
    "intervals": None,
}
"""What a card says where the description is silent."""


def import_weights(weights: Path, described: Mapping[str, Any], folder: Path, *, where: str) -> ModelBundle:
    """Write a model folder of one network that looks at the whole brain.

    Args:
        weights: state dict, safetensors or PyTorch.
        described: ``name``, ``architecture`` and ``knows_treated_brains``, and what differs from the defaults:
            ``network`` (its configuration), ``spacing_mm``, ``sequences`` and ``regions`` (names in the order of its
            channels; regions of the model that comes with the package, or a set of its own as a card has it), ``axes``
            (see :class:`~brats_seg.models.layout.Layout`), and the keys of a
            :class:`~brats_seg.models.card.ModelCard` but ``stages``.
        folder: an empty folder.
        where: name of the description, for messages.

    Raises:
        ModelError: if the description makes no model, or the weights are not those of its network.
    """
    card = card_from_description(described, where=where)
    (stage,) = card.stages
    state = read_state_dict(weights)
    check_fits(state, stage.architecture, stage.network, where=weights.name)
    return write_model({stage.name: state}, card, folder)


def card_from_description(described: Mapping[str, Any], *, where: str) -> ModelCard:
    """A card of one stage, ``coarse``, from the description of :func:`import_weights`.

    Raises:
        ModelError: if keys are missing, unknown or of the wrong kind.
    """
    known = {*OWN_KEYS, *(entry.name for entry in fields(ModelCard))} - {"stages"}
    unknown, missing = sorted(map(str, set(described) - known)), sorted(REQUIRED - set(described))
    if unknown or missing:
        raise ModelError(f"{where} describes no model: missing {missing}, unknown {unknown}; known: {sorted(known)}")
    listed = described.get("regions", list(regions_of().names))
    regions = listed if isinstance(listed, Mapping) else regions_of().to_dict()
    sequences = described.get("sequences", [sequence.value for sequence in SEQUENCES])
    stage = {
        "name": "coarse",
        "spacing_mm": described.get("spacing_mm", 1.0),
        "network": described.get("network", {}),
        "files": {},
        "architecture": described["architecture"],
        "layout": {
            "sequences": sequences,
            "regions": () if isinstance(listed, Mapping) else listed,
            "axes": described.get("axes", "RAS"),
        },
    }
    words = {key: value for key, value in described.items() if key not in OWN_KEYS}
    names = [s.value for s in SEQUENCES if s.value in sequences] if isinstance(sequences, list | tuple) else sequences
    if not isinstance(listed, Mapping) and "postprocess" not in words:
        words["postprocess"] = {"rules": [{"rule": "require_core", "region": "WT", "core": "TC"}]}
    own = {"sequences": names, "regions": regions, "format": CARD_FORMAT, "stages": [stage]}
    card = card_from_dict({**WORDS, **words, **own}, where=where)
    (only,) = card.stages
    return replace(card, stages=(replace(only, network=asdict(only.shape)),))
