"""What cross-validation says for the card of a model trained on all its studies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from brats_seg.core.errors import ModelError
from brats_seg.models.card import find_model, regions_of
from brats_seg.train.splits import SPLIT

RESULTS = "results"


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
