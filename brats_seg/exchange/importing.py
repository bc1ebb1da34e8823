"""Foreign weights to a model folder: a state dict with a small description, or a bundle of the MONAI model zoo.

What a bundle does (``brats_mri_segmentation`` first of all) is taken from its own files: order of channels from
``metadata.json``, network and preparation from ``inference.json``. What cannot be repeated here is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import yaml

from brats_seg.core.errors import ModelError
from brats_seg.core.study import SEQUENCES
from brats_seg.exchange.monai_bundle import OWN_CARD
from brats_seg.exchange.state import check_fits, read_state_dict
from brats_seg.models.assemble import write_model
from brats_seg.models.card import CARD_FORMAT, ModelBundle, ModelCard, card_from_dict, regions_of
from brats_seg.networks.registry import SEGRESNET

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
            (see :class:`~brats_seg.models.stage.Layout`), and the keys of a
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


WEIGHTS = Path("models", "model.pt")
METADATA = Path("configs", "metadata.json")

_CHANNELS: Mapping[str, str] = {
    **dict.fromkeys(("t1", "t1n", "t1w"), "t1"),
    **dict.fromkeys(("t1c", "t1ce", "t1gd", "t1post"), "t1ce"),
    **dict.fromkeys(("t2", "t2w"), "t2"),
    **dict.fromkeys(("flair", "t2f", "t2flair"), "flair"),
    **dict.fromkeys(("wt", "wholetumor", "wholetumour"), "WT"),
    **dict.fromkeys(("tc", "tumorcore", "tumourcore"), "TC"),
    **dict.fromkeys(("et", "enhancingtumor", "enhancingtumour"), "ET"),
}
"""Channel names in letters and digits alone, lower case."""

_MONAI_DEFAULTS: Mapping[str, Any] = {
    "spatial_dims": 3,
    "init_filters": 8,
    "in_channels": 1,
    "out_channels": 2,
    "dropout_prob": None,
    "use_conv_final": True,
    "blocks_down": (1, 2, 2, 4),
    "blocks_up": (1, 1, 1),
    "upsample_mode": "nontrainable",
}
"""Arguments of MONAI's SegResNet where a bundle is silent."""

_HARMLESS = frozenset({"LoadImage", "EnsureChannelFirst", "EnsureType", "ToTensor", "CastToType"})
"""Transforms that change no value and no voxel's place."""

UNCROPPED_VOXELS = 512
"""A margin larger than any head's field of view: the network sees the volume uncropped, as its authors' tool shows it.
Group normalisation counts the background in, so cropping would change every value."""


def import_bundle(source: Path, folder: Path) -> ModelBundle:
    """Write a model folder of a MONAI bundle.

    Args:
        source: the bundle's folder, with ``configs`` and ``models/model.pt``.
        folder: an empty folder.

    Raises:
        ModelError: if it is no bundle, its weights are missing or wrong, or it does what cannot be repeated here.
    """
    if not (source / METADATA).is_file():
        raise ModelError(
            f"{source} is no MONAI bundle: it has no {METADATA.as_posix()}. "
            "Pass the bundle's folder, or a weights file with --card."
        )
    weights = source / WEIGHTS
    if not weights.is_file():
        raise ModelError(
            f"{source.name} has no {WEIGHTS.as_posix()}, the weights. Bundles are published without; fetch them first "
            f"(python -m monai.bundle download_large_files --bundle_path {source})."
        )
    if (source / "configs" / OWN_CARD).is_file():
        return _import_own(source, folder)
    return import_weights(weights, describe_bundle(source), folder, where=f"{source.name}/configs")


def _import_own(source: Path, folder: Path) -> ModelBundle:
    """A bundle that this program wrote, back to the model it was made from."""
    card = card_from_dict(_read(source / "configs" / OWN_CARD), where=f"{source.name}/configs/{OWN_CARD}")
    state = read_state_dict(source / WEIGHTS)
    states: dict[str, dict[str, Any]] = {}
    for stage in card.stages:
        prefix = f"stages.{stage.key}."
        states[stage.key] = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        check_fits(states[stage.key], stage.architecture, stage.network, where=f"{WEIGHTS.name} ({stage.key})")
    return write_model(states, card, folder)


def describe_bundle(source: Path) -> dict[str, Any]:
    """The description :func:`~brats_seg.exchange.importing.import_weights` takes, from a bundle's own files.

    Raises:
        ModelError: if a file is missing or says what cannot be repeated here.
    """
    metadata = _read(source / METADATA)
    inference = _read(_inference_file(source))
    where = source.name
    network = _network(inference.get("network_def"), where)
    axes, spacing_mm = _preparation(inference.get("preprocessing"), where)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(metadata.get("name") or source.resolve().name)).strip("_") or "bundle"
    published = [f"{key} {value}" for key, value in _mapping(metadata.get("eval_metrics")).items()]
    return {
        "name": name,
        "architecture": SEGRESNET,
        "network": network,
        "sequences": _channels(metadata, "inputs", where),
        "regions": _channels(metadata, "outputs", where),
        "axes": axes,
        "spacing_mm": spacing_mm,
        "version": str(metadata.get("version", "not stated")),
        "description": str(metadata.get("description", "a MONAI bundle")),
        "licence": f"see the licence files of the bundle ({metadata.get('copyright', 'copyright not stated')})",
        "trained_on": str(metadata.get("data_source", "not stated")),
        "knows_treated_brains": False,  # no bundle of MONAI has a field for it
        "citations": [str(entry) for entry in metadata.get("references", [])],
        "accuracy": {"published with the bundle, not measured here": ", ".join(published) or "nothing"},
        "limits": [
            *filter(None, [str(metadata.get("intended_use", ""))]),
            "Trained with all four sequences; with one missing it was never tested.",
            "Regions are nested here (ET within TC within WT), where the bundle's own program lets ET lie anywhere.",
        ],
        "prepare": {
            "spacing_mm": spacing_mm,
            "percentiles": [0.0, 100.0],
            "divisor": 2 ** len(network["blocks_up"]),
            "margin": UNCROPPED_VOXELS,
        },
        "postprocess": {},
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ModelError(f"{path.name} of the bundle is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path.name} of the bundle holds no keys and values")
    return values


def _inference_file(source: Path) -> Path:
    for suffix in ("json", "yaml", "yml"):
        path = source / "configs" / f"inference.{suffix}"
        if path.is_file():
            return path
    raise ModelError(f"{source.name} has no configs/inference.json, which says what network it is. Copy it whole.")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _channels(metadata: Mapping[str, Any], side: str, where: str) -> list[str]:
    """Names of the input or output channels in the order of ``network_data_format``."""
    ports = list(_mapping(_mapping(metadata.get("network_data_format")).get(side)).values())
    channels = _mapping(_mapping(ports[0]).get("channel_def")) if len(ports) == 1 else {}
    numbered = {str(number): str(name) for number, name in channels.items()}
    if not numbered or sorted(numbered) != sorted(str(n) for n in range(len(numbered))):
        raise ModelError(
            f"{METADATA.name} of {where} does not number its {side} (network_data_format, channel_def), so their order "
            "is not known. Pass its weights file with --card, which says the order."
        )
    names = [numbered[str(n)] for n in range(len(numbered))]
    plain = ["".join(filter(str.isalnum, name)).lower() for name in names]
    unknown = [name for name, key in zip(names, plain, strict=True) if key not in _CHANNELS]
    if unknown:
        raise ModelError(
            f"{METADATA.name} of {where} names {side} that are not known here: {', '.join(unknown)}. It has to take "
            "T1, T1c, T2 and FLAIR, and to give whole tumour, tumour core and enhancing tumour."
        )
    return [_CHANNELS[key] for key in plain]


def _network(defined: Any, where: str) -> dict[str, Any]:
    """Keys of a :class:`~brats_seg.networks.segresnet.SegResNetConfig` from ``network_def``."""
    values = dict(_mapping(defined))
    target = str(values.pop("_target_", "nothing"))
    if target.rpartition(".")[2] != "SegResNet":
        raise ModelError(
            f"{where} is a {target.rpartition('.')[2]}; of MONAI's networks only SegResNet is known here (network_def)"
        )
    clever = [key for key, value in values.items() if isinstance(value, str) and value.startswith(("$", "@", "%"))]
    unknown = sorted(set(values) - set(_MONAI_DEFAULTS))
    if clever or unknown:
        what = f"holds expressions ({', '.join(clever)})" if clever else f"sets {', '.join(unknown)}"
        raise ModelError(
            f"network_def of {where} {what}, which is not understood here. Write the network into a description and "
            "pass models/model.pt with --card."
        )
    full = {**_MONAI_DEFAULTS, **values}
    for key in ("spatial_dims", "use_conv_final"):
        if full.pop(key) != _MONAI_DEFAULTS[key]:
            raise ModelError(f"network_def of {where} has {key} {values[key]}; only {_MONAI_DEFAULTS[key]} is known")
    full["dropout_prob"] = full["dropout_prob"] or 0.0
    full["upsample_mode"] = str(full["upsample_mode"]).lower()
    return {key: list(value) if isinstance(value, tuple) else value for key, value in full.items()}


def _preparation(defined: Any, where: str) -> tuple[str, float]:
    """Axes and spacing the bundle brings scans to; refuses what :func:`describe_bundle` does not repeat."""
    transforms = _mapping(defined).get("transforms")
    if not isinstance(transforms, Sequence) or isinstance(transforms, str):
        raise ModelError(f"{where} does not list how it prepares scans (inference: preprocessing, transforms)")
    axes, spacing_mm, is_normalised = "LPS", 1.0, False  # BraTS files lie along LPS axes at 1 mm
    for entry in map(_mapping, transforms):
        name = str(entry.get("_target_", "nothing")).rpartition(".")[2].removesuffix("d")
        if name == "Orientation":
            axes = str(entry.get("axcodes"))
        elif name == "Spacing" and _isotropic(entry.get("pixdim")) is not None:
            spacing_mm = _isotropic(entry.get("pixdim")) or spacing_mm
        elif name == "NormalizeIntensity" and entry.get("nonzero") is True and entry.get("channel_wise") is True:
            is_normalised = "subtrahend" not in entry and "divisor" not in entry
        elif name not in _HARMLESS:
            raise ModelError(f"{where} prepares scans with {name} in a way that is not repeated here")
    if not is_normalised:
        raise ModelError(
            f"{where} does not normalise each channel within its non-zero voxels, and nothing else is known"
        )
    return axes, spacing_mm


def _isotropic(pixdim: Any) -> float | None:
    """The voxel size, if it is the same along all axes."""
    if not isinstance(pixdim, list) or len(pixdim) != 3 or len(set(map(str, map(float, pixdim)))) != 1:
        return None
    return float(pixdim[0])
