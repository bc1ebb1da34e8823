"""A run folder: opened for training, read again, and started from.

Whoever goes on from weights knows the studies that these know, so a run says which it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from brats_seg.core.errors import InputError, ModelError, OutputError, UsageError
from brats_seg.core.plain import plain
from brats_seg.files.output import write_text
from brats_seg.imaging.likeness import same_head
from brats_seg.models.card import CARD, find_model, read_bundle
from brats_seg.models.torch_engine import read_weights
from brats_seg.train.config import TrainConfig, train_config
from brats_seg.train.data import PackedStudy

STAGES = ("coarse", "fine")
"""In the order they are trained; the name of each is that of its folder in a run."""
CONFIG = "config.yaml"
WEIGHTS = "weights.safetensors"
SEEN = "seen.json"
"""Which studies a run trains on, so that nobody judges its network by one of them."""


def open_run(run: Path, config: TrainConfig, *, resume: bool) -> None:
    """Create a run folder, or make sure it holds the same run.

    Raises:
        OutputError: if it holds another run, or any and ``resume`` is not given.
    """
    held = run / CONFIG
    if not held.exists():
        run.mkdir(parents=True, exist_ok=True)
        write_text(held, yaml.safe_dump(plain(config), sort_keys=False))
        return
    if not resume:
        raise OutputError(f"{run} holds a run already; pass --resume to go on with it, or choose another folder")
    before = held_config(run)
    if before != config:
        changed = sorted(key for key, value in vars(before).items() if getattr(config, key) != value)
        raise OutputError(f"{run} was started with other settings for {changed}; a resumed run must keep them")


def with_known_steps(config: TrainConfig, run: Path) -> TrainConfig:
    """The settings with the steps of a run that was started already, where they are as many as fit into the time."""
    if config.steps > 0 or not (run / CONFIG).is_file():
        return config
    return replace(config, steps=held_config(run).steps)


def held_config(run: Path) -> TrainConfig:
    """The configuration that a run folder holds, trained or not; errors as for :func:`read_yaml`."""
    return train_config(read_yaml(run / CONFIG))


def read_run_config(run: Path) -> TrainConfig:
    """Configuration of a run folder.

    Raises:
        ModelError: if the folder is no run, or it has no weights yet.
    """
    for name in (CONFIG, WEIGHTS):
        if not (run / name).is_file():
            raise ModelError(f"{run} is no run folder with trained weights: {name} is not there")
    return held_config(run)


def write_seen(run: Path, studies: Mapping[str, bytes]) -> None:
    """Record the studies a run trains on, by id and fingerprint.

    Raises:
        OutputError: if the run was begun on others, whose weights it holds.
    """
    if (run / SEEN).exists():
        before = {study: fingerprint for fingerprint, study in read_seen(run).items()}
        changed = sorted(study for study in {*before, *studies} if before.get(study) != studies.get(study))
        if changed:
            raise OutputError(
                f"{run} was begun on other scans or labels of {', '.join(changed[:5])} ({len(changed)} in all); its "
                "weights are of those. Choose another run folder, or remove this one."
            )
    held = {study: fingerprint.hex() for study, fingerprint in studies.items()}
    write_text(run / SEEN, json.dumps(held, indent=1) + "\n")


def read_seen(run: Path) -> dict[bytes, str]:
    """The studies a run was trained on: fingerprint to id.

    Raises:
        ModelError: if the run does not say, or cannot be read.
    """
    try:
        held = json.loads((run / SEEN).read_text(encoding="utf-8"))
        return {bytes.fromhex(fingerprint): study for study, fingerprint in held.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{run} does not say which studies it was trained on ({SEEN}): {error}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping.

    Raises:
        InputError: if it cannot be read or holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path.name} must hold keys and values")
    return values


def with_settings(values: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The values of a configuration with some of them replaced, for an experiment without a file of its own.

    Args:
        values: as read from YAML.
        settings: such as ``steps=300`` or ``augment.transplant=0``; what follows the ``=`` is YAML.

    Raises:
        UsageError: if a setting is not of that form.
    """
    made = dict(values)
    for setting in settings:
        name, equals, text = setting.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {setting}: {text!r} is not a YAML value") from error
        outer, dot, inner = name.strip().partition(".")
        if not equals or not outer or (dot and not inner):
            raise UsageError(f"--set {setting}: write KEY=VALUE, such as steps=300 or augment.transplant=0")
        made[outer] = {**(made.get(outer) or {}), inner: value} if dot else value
    return made


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a weights file into a network of the same shape.

    Raises:
        ModelError: if the file is damaged or its tensors do not fit.
    """
    try:
        network.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise ModelError(f"{path.name} does not fit the network of the configuration: {error}") from error


BEFORE = "before.json"
"""In a run folder: the studies that the weights it started from know; ``null`` where these do not say."""
SCANS = "scans"
"""The mark of a study that a run knows: :meth:`~brats_seg.train.data.PackedStudy.fingerprint`, hexadecimal."""

Known = Mapping[str, Mapping[str, str]]
"""Study id to marks by which it is known again: :data:`SCANS`, or as a model's card has it the fingerprint of each
sequence."""


def start_folder(place: Path) -> Path:
    """The folder of weights to start from: a path, or the name of an installed model.

    Raises:
        ModelError: if there is neither.
    """
    return place if place.is_dir() else find_model(str(place)).folder


def start_weights(start: Path, stage: str) -> Path | None:
    """Weights of a stage in a run folder, or in a folder with a model's weights; None where there are none of it."""
    for path in (start / f"{stage}.onnx", start / f"{stage}.safetensors", start / stage / WEIGHTS):
        if path.is_file():
            return path
    return None


def known_by(start: Path) -> Known:
    """The studies that the weights in a folder know, those that the weights they started from knew included.

    Raises:
        ModelError: if the folder does not say.
    """
    known: dict[str, Mapping[str, str]] = {}
    if (start / CARD).is_file():
        card = read_bundle(start).card
        known = {study: card.fingerprints.get(study, {}) for study in card.seen}
    runs = [start / stage for stage in STAGES if (start / stage / WEIGHTS).is_file()]
    for run in runs:
        known |= {study: {SCANS: fingerprint.hex()} for fingerprint, study in read_seen(run).items()}
    before = known_before(runs)
    if before is None or not known:
        raise ModelError(f"{start} does not say which studies its weights were trained on")
    return {**before, **known}


def known_before(runs: Iterable[Path]) -> Known | None:
    """The studies that the weights knew which runs started from; None where one of these did not say.

    Raises:
        ModelError: if a run's record of it is damaged.
    """
    known: dict[str, Mapping[str, str]] = {}
    for path in (run / BEFORE for run in runs):
        if not path.is_file():
            continue  # it started from chance
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            if held is None:
                return None
            known |= {str(study): dict(marks) for study, marks in held.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ModelError(f"{path} is damaged ({error}); remove the run and train again") from error
    return known


def record_start(known: Known | None, run: Path) -> None:
    """Keep in a run folder what the weights know that it starts from."""
    run.mkdir(parents=True, exist_ok=True)
    write_text(run / BEFORE, json.dumps(known, indent=1) + "\n")


def known_among(packs: Sequence[PackedStudy], known: Known) -> list[str]:
    """Ids of the studies that are known, whatever they are called: the same scans and label, or the same head.

    A name alone decides only of a study that a card lists without marks.
    """
    unmarked = {study for study, marks in known.items() if not marks}
    scans = {marks[SCANS] for marks in known.values() if SCANS in marks}
    heads = {study: marks for study, marks in known.items() if marks and SCANS not in marks}
    return [
        pack.id
        for pack in packs
        if pack.id in unmarked
        or (scans and pack.fingerprint().hex() in scans)
        or (heads and same_head(pack.heads, heads))
    ]


def card_marks(own: Known, before: Known | None) -> dict[str, Any]:
    """What a card says its networks know, ``seen`` and ``fingerprints``: nothing where their start does not say.

    Args:
        own: studies they were trained on, by the fingerprints of their heads.
        before: what the weights knew that they started from.
    """
    if before is None:
        return {"seen": [], "fingerprints": {}}
    known = {**before, **own}
    heads = {study: {name: mark for name, mark in marks.items() if name != SCANS} for study, marks in known.items()}
    return {"seen": sorted(known), "fingerprints": {study: heads[study] for study in sorted(known) if heads[study]}}
