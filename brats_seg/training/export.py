"""From run folders to a model: what a card needs is read from the runs themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from brats_seg.core.errors import InputError, ModelError
from brats_seg.models.assemble import assemble
from brats_seg.models.bundle import CARD_FORMAT, ModelBundle, card_from_dict
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


def assemble_runs(runs: Mapping[str, Path], card_file: Path, folder: Path, *, openvino: bool = True) -> ModelBundle:
    """Make a model folder from one run folder per stage and a YAML file with the card's words and figures.

    Raises:
        ModelError: if a run was trained as another stage, or the runs prepare studies differently.
    """
    configs = {name: read_run_config(run) for name, run in runs.items()}
    for name, config in configs.items():
        if config.stage != name:
            raise ModelError(f"{runs[name]} was trained as stage {config.stage}, not {name}")
    if len({config.prepare for config in configs.values()}) > 1:
        raise ModelError("the stages were trained on differently prepared studies and cannot work together")
    first = next(iter(configs.values()))
    stages = {
        name: {"name": name, "spacing_mm": c.spacing_mm, "network": c.network.to_dict(), "files": {}}
        for name, c in configs.items()
    }
    values = {
        **read_yaml(card_file),
        "format": CARD_FORMAT,
        "prepare": asdict(first.prepare),
        "stages": list(stages.values()),
    }
    card = card_from_dict(values, where=card_file.name)
    weights = {name: run / "weights.safetensors" for name, run in runs.items()}
    return assemble(weights, stages, card, folder, openvino=openvino)
