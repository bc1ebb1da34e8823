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


def write_model(
    weights: Mapping[str, Path | Mapping[str, Any]], card: ModelCard, folder: Path, *, onnx: bool = True
) -> ModelBundle:
    """Write a model folder.

    Args:
        weights: key of a stage to the file of its weights (``.safetensors`` or ``.onnx``), or to tensors by name.
        card: with its stages; their files are filled in.
        folder: made where it is not there.
        onnx: write each network whole, for OpenVINO and PyTorch; else copy the files of weights, for PyTorch alone.

    Raises:
        OutputError: if the folder holds anything.
        ModelError: if a file is damaged.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists; choose another folder for the model")
    folder.mkdir(parents=True, exist_ok=True)
    built: list[Stage] = []
    for stage in card.stages:
        held = weights[stage.key]
        if isinstance(held, Path) and not onnx:
            target = folder / f"{stage.key}.safetensors"
            copy_file(held, target)
        else:
            target = folder / f"{stage.key}.onnx"
            network = stage_network(stage)
            network.load_state_dict(read_weights(held) if isinstance(held, Path) else dict(held))
            target.write_bytes(onnx_file(network.eval(), channels(stage)))
        built.append(replace(stage, files={target.name: file_sha256(target)}))
    finished = replace(card, stages=tuple(built))
    write_card(finished, folder)
    return ModelBundle(finished, folder)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file whole or not at all; a link of the target's name is replaced, and not written through."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)


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
