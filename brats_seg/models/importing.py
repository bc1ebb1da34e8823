"""Foreign weights to a model folder: a state dict with a small description, or a bundle of the MONAI model zoo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from brats_seg.core.errors import ModelError
from brats_seg.models.assemble import write_model
from brats_seg.models.bundle import CARD_FORMAT, ModelBundle, ModelCard, card_from_dict
from brats_seg.models.layout import REGION_NAMES, SEQUENCE_NAMES
from brats_seg.models.state import check_fits, read_state_dict
from brats_seg.networks.registry import network_config

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
    "held_out": [],
    "limits": ["Imported weights; how accurate they are was not measured here."],
    "citations": [],
    "accuracy": {},
    "prepare": {},
    "postprocess": {},
    "intervals": None,
}
"""What a card says where the description is silent."""

PREPARED_DIVISOR = 32
"""What prepared studies are padded to a multiple of, unless a model's card says otherwise."""

MAX_POOLING = 8
"""Largest step from the spacing of prepared studies to that of a network."""


def import_weights(weights: Path, described: Mapping[str, Any], folder: Path, *, where: str) -> ModelBundle:
    """Write a model folder of one network that looks at the whole brain.

    Args:
        weights: state dict, safetensors or PyTorch.
        described: ``name``, ``architecture`` and ``knows_treated_brains``, and what differs from the defaults:
            ``network`` (its configuration), ``spacing_mm``, ``sequences``, ``regions`` and ``axes`` (see
            :class:`~brats_seg.models.layout.Layout`), and the keys of a
            :class:`~brats_seg.models.bundle.ModelCard` but ``stages``.
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
    unknown, missing = sorted(set(described) - known), sorted(REQUIRED - set(described))
    if unknown or missing:
        raise ModelError(f"{where} describes no model: missing {missing}, unknown {unknown}; known: {sorted(known)}")
    stage = {
        "name": "coarse",
        "spacing_mm": described.get("spacing_mm", 1.0),
        "network": described.get("network", {}),
        "files": {},
        "architecture": described["architecture"],
        "layout": {
            "sequences": described.get("sequences", SEQUENCE_NAMES),
            "regions": described.get("regions", REGION_NAMES),
            "axes": described.get("axes", "RAS"),
        },
    }
    words = {key: value for key, value in described.items() if key not in OWN_KEYS}
    card = card_from_dict({**WORDS, **words, "format": CARD_FORMAT, "stages": [stage]}, where=where)
    return _checked(card, where)


def _checked(card: ModelCard, where: str) -> ModelCard:
    """The card with every key of its network, if the network takes and gives what the project has."""
    (stage,) = card.stages
    try:
        config = network_config(stage.architecture, stage.network)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{where} describes no network: {error}") from error
    if (config.in_channels, config.out_channels) != (len(SEQUENCE_NAMES), len(REGION_NAMES)):
        raise ModelError(
            f"{where}: the network takes {config.in_channels} channels and gives {config.out_channels}; a model of one "
            f"network takes the {len(SEQUENCE_NAMES)} sequences and gives the {len(REGION_NAMES)} regions"
        )
    try:
        spacing_mm, prepared_mm = float(stage.spacing_mm), float(card.prepare.get("spacing_mm", 1.0))
        factor = spacing_mm / prepared_mm
        sides = int(card.prepare.get("divisor", PREPARED_DIVISOR))
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise ModelError(f"{where}: spacing_mm and prepare must hold numbers ({error})") from error
    if not 1 <= factor <= MAX_POOLING or factor != round(factor):
        raise ModelError(
            f"{where}: spacing_mm {spacing_mm:g} must be a whole number of times (1 to {MAX_POOLING}) the "
            f"{prepared_mm:g} mm that studies are prepared to (prepare: spacing_mm)"
        )
    if sides % (config.divisor * round(factor)):
        raise ModelError(
            f"{where}: studies are padded to multiples of {sides} (prepare: divisor), and this network at "
            f"{spacing_mm:g} mm needs multiples of {config.divisor * round(factor)}"
        )
    return replace(card, stages=(replace(stage, spacing_mm=spacing_mm, network=config.to_dict()),))
