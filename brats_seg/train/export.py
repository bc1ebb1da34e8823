"""From run folders to a model: what a card needs is read from the runs themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from brats_seg.core.errors import ModelError
from brats_seg.models.assemble import assemble
from brats_seg.models.card import CARD_FORMAT, ModelBundle, card_from_dict, file_sha256
from brats_seg.train.card import crossvalidated
from brats_seg.train.config import TrainConfig
from brats_seg.train.prior import PRIORS, cascaded_on
from brats_seg.train.runs import WEIGHTS, read_run_config, read_seen, read_yaml
from brats_seg.train.start import card_marks, known_before


def assemble_runs(
    runs: Mapping[str, Path],
    card_file: Path,
    folder: Path,
    *,
    onnx: bool = True,
    crossval: Path | None = None,
) -> ModelBundle:
    """Make a model folder from one run folder per stage and a YAML file with the card's words.

    Args:
        runs: stage name to run folder.
        card_file: what the card says that no run knows.
        folder: where to write; must not exist.
        onnx: write each network whole, for OpenVINO and PyTorch; else the weights alone, for PyTorch.
        crossval: run folder of the cross-validation of the same recipe, for figures and for what is fitted on outputs.

    Raises:
        ModelError: if a run was trained as another stage, the runs prepare studies differently, or with ``crossval``
            one does not say what it was trained on.
    """
    configs = {name: read_run_config(run) for name, run in runs.items()}
    for name, config in configs.items():
        if config.stage != name:
            raise ModelError(f"{runs[name]} was trained as stage {config.stage}, not {name}")
    if len({config.prepare for config in configs.values()}) > 1:
        raise ModelError("the stages were trained on differently prepared studies and cannot work together")
    if "fine" in runs:
        _check_cascade(runs, configs["fine"])
    values = card_values(configs, card_file)
    if crossval is not None:
        values = crossvalidated(values, crossval)
        # the runs may have been given more studies than were cross-validated
        seen = {study for run in runs.values() for study in read_seen(run).values()} | set(values["seen"])
        own = {study: values["fingerprints"].get(study, {}) for study in seen}
        values |= card_marks(own, known_before(runs.values()))
    card = card_from_dict(values, where=card_file.name)
    weights = {name: run / WEIGHTS for name, run in runs.items()}
    return assemble(weights, {stage["name"]: stage for stage in values["stages"]}, card, folder, onnx=onnx)


def card_values(stages: Mapping[str, TrainConfig], card_file: Path) -> dict[str, Any]:
    """What a card says before anything was measured: the words of a YAML file, preparation, networks."""
    made = [
        {"name": name, "spacing_mm": stage.spacing_mm, "network": asdict(stage.network), "files": {}}
        for name, stage in stages.items()
    ]
    prepare = asdict(next(iter(stages.values())).prepare)
    return {**read_yaml(card_file), "format": CARD_FORMAT, "prepare": prepare, "stages": made}


def _check_cascade(runs: Mapping[str, Path], fine: TrainConfig) -> None:
    """Refuse a cascaded fine stage without the coarse stage that it was trained on."""
    if not fine.is_cascaded:
        return
    if "coarse" not in runs:
        raise ModelError(f"{runs['fine']} takes the probabilities of a coarse stage; pass its run too")
    if cascaded_on(runs["fine"] / PRIORS) != file_sha256(runs["coarse"] / WEIGHTS):
        raise ModelError(f"{runs['fine']} was trained on what other weights than those of {runs['coarse']} say")
