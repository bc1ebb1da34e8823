"""From run folders to a model: what its card needs is read from the runs, and from a cross-validation of its recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from brats_seg.core.errors import ModelError
from brats_seg.models.assemble import write_model
from brats_seg.models.card import CARD_FORMAT, ModelBundle, card_from_dict, file_sha256, find_model, regions_of
from brats_seg.train.config import TrainConfig
from brats_seg.train.prior import PRIORS, cascaded_on
from brats_seg.train.runs import WEIGHTS, card_marks, known_before, read_run_config, read_seen, read_yaml
from brats_seg.train.splits import SPLIT

RESULTS = "results"
"""Folder of a cross-validation with what was found."""


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
        folder: where to write; must hold nothing.
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
    return write_model({name: run / WEIGHTS for name, run in runs.items()}, card, folder, onnx=onnx)


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


def settings_key(values: Mapping[str, Any]) -> str:
    """The same for settings in memory, which hold tuples, and those of a file, which hold lists.

    A setting that lists nothing is left out, as it is from the card of a model made before there was such a setting.
    """
    listed = {key: value for key, value in values.items() if value not in ((), [])}
    return json.dumps(listed, sort_keys=True, default=dict)


def crossvalidated(values: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Card values with what a cross-validation fitted and measured.

    The numbers are those of models trained on part of the studies; the model they are written for has seen all of
    them, so they are the best that is known of it.

    Args:
        values: the card's other values, with its preparation and its stages.
        run: finished run folder of ``brats-seg crossval``.

    Raises:
        ModelError: if the run is not finished, or cross-validated another network or preparation.
    """
    folder = run / RESULTS
    try:
        fitted = json.loads((folder / "fits.json").read_text(encoding="utf-8"))
        fits, judged_folds = fitted["final"], [int(fold) for fold in fitted["folds"]]
        split = json.loads((run / SPLIT).read_text(encoding="utf-8"))
        summary = pd.read_csv(folder / "summary.csv")
        covered = pd.read_csv(folder / "interval_summary.csv")
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{run} holds no finished cross-validation ({error}); go on with crossval --resume") from error
    cards = [find_model(str(run / f"fold{fold}" / "model")).card for fold in judged_folds]
    judged = cards[0]
    if settings_key(judged.prepare) != settings_key(values["prepare"]):
        raise ModelError(f"{run} cross-validated models that prepare studies differently from the one this card is for")
    for stage in values["stages"]:
        held = judged.stage(stage["name"])
        wanted = (float(stage["spacing_mm"]), settings_key(stage["network"]))
        if held is None or (held.spacing_mm, settings_key(held.network)) != wanted:
            raise ModelError(f"{run} cross-validated another {stage['name']} stage than the one this card is for")
    seen = sorted(study for ids in split["folds"] for study in ids)
    made = {**values, **fits, "seen": seen, "held_out": []}
    made["fingerprints"] = {
        study: marks for card in cards for study, marks in card.fingerprints.items() if study in seen
    }
    subsets = folder / "subsets.csv"
    if subsets.exists():
        table = pd.read_csv(subsets).set_index("sequences")
        made["subsets"] = {
            str(k): {r: round(float(row[r]), 4) for r in regions_of().names} for k, row in table.iterrows()
        }
    count = len(split["folds"])
    part = "" if len(judged_folds) == count else f"{len(judged_folds)} folds of a "
    made["accuracy"] = {
        **_accuracy(summary, f"{part}{count}-fold cross-validation"),
        "volume intervals": "90 %; fitted on the other studies they cover "
        + ", ".join(f"{row['region']} {row['covered']} of {row['studies']}" for row in covered.to_dict("records")),
        **dict(values.get("accuracy", {})),
    }
    return made


def _accuracy(summary: pd.DataFrame, folds: str) -> dict[str, str]:
    """Means and medians by subset of studies, in words."""
    rows: dict[str, str] = {}
    for subset in dict.fromkeys(summary["subset"]):
        part = summary[summary["subset"] == subset]
        dice = part[part["metric"] == "dice"].set_index("region")
        distance = part[part["metric"] == "hd95_mm"].set_index("region")
        whom = f"{int(dice['cases'].max())} studies" + ("" if subset == "all" else f" with {subset}")
        rows[f"mean Dice, {folds}, {whom}"] = ", ".join(
            f"{r} {dice.loc[r, 'mean']:.3f} ({dice.loc[r, 'low']:.3f} to {dice.loc[r, 'high']:.3f})"
            for r in regions_of().names
        )
        rows[f"median HD95, {whom}"] = ", ".join(f"{r} {distance.loc[r, 'median']:.1f} mm" for r in regions_of().names)
    return rows
