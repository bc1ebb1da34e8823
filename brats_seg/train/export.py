"""From run folders to a model: what a card needs is read from the runs themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from brats_seg.core.errors import ModelError, OutputError
from brats_seg.models.assemble import assemble, copy_model
from brats_seg.models.card import CARD_FORMAT, ModelBundle, card_from_dict, file_sha256
from brats_seg.models.ensemble import add_members
from brats_seg.train.card import crossvalidated
from brats_seg.train.config import TrainConfig
from brats_seg.train.fold_models import held_model
from brats_seg.train.prior import PRIORS, heard_by
from brats_seg.train.runs import WEIGHTS, read_run_config, read_seen, read_yaml
from brats_seg.train.start import card_marks, known_before


def assemble_runs(
    runs: Mapping[str, Path],
    card_file: Path,
    folder: Path,
    *,
    openvino: bool = True,
    crossval: Path | None = None,
    beside: ModelBundle | None = None,
) -> ModelBundle:
    """Make a model folder from one run folder per stage and a YAML file with the card's words.

    Args:
        runs: stage name to run folder.
        card_file: what the card says that no run knows.
        folder: where to write; must not exist.
        openvino: also export for OpenVINO.
        crossval: run folder of the cross-validation of the same recipe, for figures and for what is fitted on outputs.
        beside: model whose networks join those of the runs; the figures are then those of ``crossval --with``.

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
        _check_heard(runs, configs["fine"])
    first = next(iter(configs.values()))
    stages = {
        name: {"name": name, "spacing_mm": c.spacing_mm, "network": c.network.to_dict(), "files": {}}
        for name, c in configs.items()
    }
    values: dict[str, Any] = {
        **read_yaml(card_file),
        "format": CARD_FORMAT,
        "prepare": asdict(first.prepare),
        "stages": list(stages.values()),
    }
    if crossval is not None:
        values = crossvalidated(values, crossval, joined=beside is not None)
        # the runs may have been given more studies than were cross-validated
        seen = {study for run in runs.values() for study in read_seen(run).values()} | set(values["seen"])
        own = {study: values["fingerprints"].get(study, {}) for study in seen}
        values |= card_marks(own, known_before(runs.values()))
    card = card_from_dict(values, where=card_file.name)
    weights = {name: run / WEIGHTS for name, run in runs.items()}
    bundle = assemble(weights, stages, card, folder, openvino=openvino)
    return bundle if beside is None else add_members(bundle, beside)


def renew(networks: ModelBundle, card_file: Path, crossval: Path, folder: Path) -> ModelBundle:
    """Make a model folder of the networks of another model, with what a cross-validation says of such models.

    For networks that stay as they are while something around them changes: how scans are prepared for them, which is
    taken from the models that were cross-validated, or how their outputs become labels.

    Args:
        networks: the model.
        card_file: what the card says that no run knows.
        crossval: finished run folder, see :func:`~brats_seg.train.card.crossvalidated`.
        folder: where to write; must not exist.

    Raises:
        ModelError: if other networks were cross-validated, or a file of the model is damaged.
        OutputError: if the folder exists.
    """
    if folder.exists():
        raise OutputError(f"{folder} exists; choose another folder for the model")
    old = networks.card
    values = {
        **read_yaml(card_file),
        "format": CARD_FORMAT,
        "prepare": held_model(crossval, 0).card.prepare,
        "stages": [asdict(stage) for stage in old.stages],
    }
    values = crossvalidated(values, crossval)
    values["seen"] = sorted({*values["seen"], *old.seen})
    values["fingerprints"] = {**old.fingerprints, **values["fingerprints"]}
    card = card_from_dict(values, where=card_file.name)
    return copy_model(networks, card, folder)


def _check_heard(runs: Mapping[str, Path], fine: TrainConfig) -> None:
    """A fine stage that hears the coarse one must be put together with the one it heard."""
    if not fine.hears_coarse:
        return
    if "coarse" not in runs:
        raise ModelError(f"{runs['fine']} hears a coarse stage; pass its run too")
    if heard_by(runs["fine"] / PRIORS) != file_sha256(runs["coarse"] / WEIGHTS):
        raise ModelError(f"{runs['fine']} was trained on what other weights than those of {runs['coarse']} say")
