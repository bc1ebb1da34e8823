"""Making a model folder out of trained stages: networks, checksums, card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats_seg.core.errors import OutputError
from brats_seg.models.card import ModelBundle, ModelCard, file_sha256, write_card
from brats_seg.models.onnx_file import onnx_file
from brats_seg.models.stage import Stage
from brats_seg.models.torch_engine import build_network, read_weights, stage_network


def assemble(
    weights: Mapping[str, Path],
    stages: Mapping[str, Mapping[str, Any]],
    card: ModelCard,
    folder: Path,
    *,
    onnx: bool = True,
) -> ModelBundle:
    """Write a model folder.

    Args:
        weights: stage name to safetensors file.
        stages: stage name to ``spacing_mm`` and ``network``.
        card: everything but the stages, which are filled in.
        folder: where to write; must not hold a model.
        onnx: write each network whole, for OpenVINO and PyTorch; else the weights alone, for PyTorch.

    Raises:
        OutputError: if the folder exists.
    """
    if folder.exists():
        raise OutputError(f"{folder} exists; choose another folder for the model")
    folder.mkdir(parents=True)
    built: list[Stage] = []
    for name in (n for n in ("coarse", "fine") if n in weights):
        stage = Stage(name, float(stages[name]["spacing_mm"]), stages[name]["network"], files={})
        if onnx:
            target = folder / f"{name}.onnx"
            _write_network(stage, read_weights(weights[name]), target)
        else:
            target = folder / f"{name}.safetensors"
            copy_file(weights[name], target)
        built.append(replace(stage, files={target.name: file_sha256(target)}))
    finished = replace(card, stages=tuple(built))
    write_card(finished, folder)
    return ModelBundle(finished, folder)


def write_model(states: Mapping[str, Mapping[str, Any]], card: ModelCard, folder: Path) -> ModelBundle:
    """Write a model folder of networks whose tensors are in memory.

    Args:
        states: key of a stage to tensors by name.
        card: with its stages; their checksums are filled in.
        folder: an empty folder.
    """
    built: list[Stage] = []
    for stage in card.stages:
        target = folder / f"{stage.key}.onnx"
        _write_network(stage, states[stage.key], target)
        built.append(replace(stage, files={target.name: file_sha256(target)}))
    finished = replace(card, stages=tuple(built))
    write_card(finished, folder)
    return ModelBundle(finished, folder)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file whole or not at all; a link of the target's name is replaced, and not written through."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)


def _write_network(stage: Stage, state: Mapping[str, Any], path: Path) -> None:
    network = stage_network(stage)
    network.load_state_dict(dict(state))
    path.write_bytes(onnx_file(network.eval(), channels(stage)))


def network_file(bundle: ModelBundle, stage: Stage) -> bytes:
    """The stage's network as the content of an ONNX file: the model's own, or made of its weights.

    Raises:
        ModelError: if the weights are damaged or do not fit the card.
    """
    if stage.weights.endswith(".onnx"):
        return bundle.file(stage, stage.weights).read_bytes()
    return onnx_file(build_network(bundle, stage), channels(stage))


def channels(stage: Stage) -> dict[str, str]:
    """What a network's file says of its input and output."""
    layout = stage.layout
    behind = f",{','.join(layout.regions)} of the coarse stage" if stage.is_cascaded else ""
    return {
        "spacing_mm": f"{stage.spacing_mm:g}",
        "input_channels": ",".join(layout.sequences) + behind,
        "output_channels": ",".join(layout.regions),
        "axes": layout.axes,
    }
