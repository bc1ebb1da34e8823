"""Making a model folder out of trained stages: weights, OpenVINO export, checksums, card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats_seg.core.errors import OutputError
from brats_seg.models.card import ModelBundle, ModelCard, Stage, file_sha256, write_card


def assemble(
    weights: Mapping[str, Path],
    stages: Mapping[str, Mapping[str, Any]],
    card: ModelCard,
    folder: Path,
    *,
    openvino: bool = True,
) -> ModelBundle:
    """Write a model folder.

    Args:
        weights: stage name to safetensors file.
        stages: stage name to ``spacing_mm`` and ``network``.
        card: everything but the stages, which are filled in.
        folder: where to write; must not hold a model.
        openvino: also export each stage for OpenVINO.

    Raises:
        OutputError: if the folder exists.
    """
    if folder.exists():
        raise OutputError(f"{folder} exists; choose another folder for the model")
    folder.mkdir(parents=True)
    built: list[Stage] = []
    for name in (n for n in ("coarse", "fine") if n in weights):
        target = folder / f"{name}.safetensors"
        copy_file(weights[name], target)
        stage = Stage(
            name=name,
            spacing_mm=float(stages[name]["spacing_mm"]),
            network=stages[name]["network"],
            files={target.name: file_sha256(target)},
        )
        built.append(_export(ModelBundle(replace(card, stages=(*built, stage)), folder), stage) if openvino else stage)
    finished = replace(card, stages=tuple(built))
    write_card(finished, folder)
    return ModelBundle(finished, folder)


def write_model(states: Mapping[str, Mapping[str, Any]], card: ModelCard, folder: Path) -> ModelBundle:
    """Write a model folder of networks whose tensors are in memory, without exports.

    Args:
        states: key of a stage to tensors by name.
        card: with its stages; their checksums are filled in.
        folder: an empty folder.
    """
    from safetensors.torch import save_file  # noqa: PLC0415 - imports torch

    built: list[Stage] = []
    for stage in card.stages:
        target = folder / f"{stage.key}.safetensors"
        save_file(dict(states[stage.key]), target)
        built.append(replace(stage, files={target.name: file_sha256(target)}))
    finished = replace(card, stages=tuple(built))
    write_card(finished, folder)
    return ModelBundle(finished, folder)


def copy_model(source: ModelBundle, card: ModelCard, folder: Path) -> ModelBundle:
    """Write a model folder of the networks of another model, each file held against its checksum, under a new card.

    Args:
        source: the model.
        card: with the stages of the model.
        folder: where to write; made where it is not there.

    Raises:
        ModelError: if a file is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stage in source.card.stages:
        for name in stage.files:
            copy_file(source.file(stage, name), folder / name)
    write_card(card, folder)
    return ModelBundle(card, folder)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file whole or not at all; a link of the target's name is replaced, and not written through."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)


def _export(bundle: ModelBundle, stage: Stage) -> Stage:
    from brats_seg.models.torch_engine import build_network  # noqa: PLC0415 - heavy

    xml = bundle.folder / f"{stage.name}.xml"
    save_openvino(build_network(bundle, stage), xml)
    files = {**stage.files, **{path.name: file_sha256(path) for path in (xml, xml.with_suffix(".bin"))}}
    return replace(stage, files=files)


def save_openvino(network: Any, xml: Path) -> None:
    """Write a PyTorch network as OpenVINO files: ``xml`` and the ``.bin`` beside it, weights in half precision."""
    import openvino  # noqa: PLC0415 - heavy

    from brats_seg.models.torch_engine import convert_network  # noqa: PLC0415 - heavy

    openvino.save_model(convert_network(network), xml, compress_to_fp16=True)
