"""Reading what training wrote: a run folder's configuration and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from brats_seg.core.errors import InputError, ModelError, UsageError
from brats_seg.training.config import TrainConfig, train_config


def read_run_config(run: Path) -> TrainConfig:
    """Configuration of a run folder.

    Raises:
        ModelError: if the folder is no run, or it has no weights yet.
    """
    for name in ("config.yaml", "weights.safetensors"):
        if not (run / name).is_file():
            raise ModelError(f"{run} is no run folder with trained weights: {name} is not there")
    return train_config(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")))


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
    """Load a safetensors file into a network of the same shape.

    Raises:
        ModelError: if the file is damaged or its tensors do not fit.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path.name} cannot be read as weights: {error}") from error
    try:
        network.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:
        raise ModelError(f"{path.name} does not fit the network of the configuration: {error}") from error
