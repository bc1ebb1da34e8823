"""Making a model folder out of trained stages: weights, OpenVINO export, checksums, card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats_seg.core.errors import OutputError
from brats_seg.models.bundle import ModelBundle, ModelCard, Stage, file_sha256, write_card
from brats_seg.models.engines import build_network, convert_network


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
        shutil.copyfile(weights[name], target)
        stage = Stage(
            name=name,
            spacing_mm=float(stages[name]["spacing_mm"]),
            network=stages[name]["network"],
            files={target.name: file_sha256(target)},
        )
        built.append(_export(ModelBundle(replace(card, stages=(stage,)), folder), stage) if openvino else stage)
    finished = replace(card, stages=tuple(built))
    write_card(finished, folder)
    return ModelBundle(finished, folder)


def _export(bundle: ModelBundle, stage: Stage) -> Stage:
    import openvino  # noqa: PLC0415 - heavy

    model = convert_network(build_network(bundle, stage))
    xml = bundle.folder / f"{stage.name}.xml"
    openvino.save_model(model, xml, compress_to_fp16=True)
    files = {**stage.files, **{path.name: file_sha256(path) for path in (xml, xml.with_suffix(".bin"))}}
    return replace(stage, files=files)
