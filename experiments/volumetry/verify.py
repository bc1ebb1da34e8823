"""The measurement report: volumetrics on reference objects, the whole pipeline on fresh phantoms, against targets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from brats_seg.core.words import counted
from brats_seg.models.card import regions_of
from brats_seg.models.record import model_summary
from brats_seg.segment.predict import Predictor
from experiments.change.study import TARGET_MM, change_study, change_summary
from experiments.volumetry import bench as phantom_bench
from experiments.volumetry import trials as phantom_trials
from experiments.volumetry.bench import (
    BenchSize,
    bench_change,
    bench_noise,
    bench_objects,
    summarise,
    summarise_change,
)
from experiments.volumetry.statistics import (
    accuracy_table,
    region_order,
    repeatability_table,
)
from experiments.volumetry.trials import SAME_SCANNER, TrialSize, run_trials

MASK_TARGET_PERCENT = 1.0
PV_TARGET_PERCENT = 0.3
CV_TARGET_PERCENT = 2.0
CHANGE_TARGET_SHARE = 0.95
CHANGE_SIZE_MM = 20.0
CHANGE_CONDITIONS = ("standard", "3 mm slices")
"""Of :data:`experiments.change.study.CONDITIONS`."""


@dataclass(frozen=True)
class VerifySize:
    """How much is measured.

    Attributes:
        bench: reference objects.
        trials: phantoms through the pipeline.
        change_pairs: lesions of 20 mm seen twice, for the paired measurement of change.
        name: ``full`` or ``quick``, for the report.
    """

    bench: BenchSize = field(default_factory=BenchSize)
    trials: TrialSize = field(default_factory=TrialSize)
    change_pairs: int = 200
    name: str = "full"


QUICK = VerifySize(phantom_bench.QUICK, phantom_trials.QUICK, 3, "quick")


@dataclass(frozen=True)
class Check:
    """One target and what was measured.

    Attributes:
        what: in words.
        target: in words.
        measured: in words with numbers.
        is_met: None where nothing was measured, or too little to say.
    """

    what: str
    target: str
    measured: str
    is_met: bool | None


@dataclass(frozen=True, eq=False)
class Verification:
    """Everything that was measured.

    Attributes:
        size: how much.
        seed: of all chance.
        model: name, version and checksum of the model.
        tables: by name; raw rows in ``objects``, ``noise``, ``change``, ``paired_lesions`` and ``trials``, the rest
            summaries of them.
    """

    size: VerifySize
    seed: int
    model: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]

    def checks(self) -> list[Check]:
        """The targets, each held against what was measured."""
        bias = self.tables["object_bias"]
        return [
            _bias_check(bias, "mask", "from masks", MASK_TARGET_PERCENT),
            _bias_check(bias, "pv", "partial-volume-aware", PV_TARGET_PERCENT),
            _change_check(self.tables["paired_change"]),
            *_repeat_checks(self.tables["repeatability"], "by the model"),
            *_scanner_checks(self.tables["repeatability"], "by the model"),
            *_repeat_checks(self.tables["repeatability_given"], "true outline on each scan's grid"),
            *_dice_checks(self.tables["accuracy"]),
        ]


def verify(size: VerifySize, predictor: Predictor, *, seed: int = 1) -> Verification:
    """Measure everything; nothing is written.

    Args:
        size: how much.
        predictor: the model.
        seed: another set of objects and phantoms for each.
    """
    object_rng, noise_rng, change_rng, trial_rng = np.random.default_rng(seed).spawn(4)
    raw = {
        "objects": bench_objects(size.bench, object_rng),
        "noise": bench_noise(size.bench, noise_rng),
        "change": bench_change(size.bench, change_rng),
        "paired_lesions": change_study(size.change_pairs, seed=seed, conditions=CHANGE_CONDITIONS),
        "trials": run_trials(size.trials, predictor, trial_rng),
    }
    return Verification(size, seed, model_summary(predictor.bundle), {**summaries(raw), **raw})


def summaries(raw: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """What the raw rows of :attr:`Verification.tables` say, by name."""
    trials = raw["trials"]
    return {
        "object_bias": summarise(raw["objects"], ["object", "voxel_mm", "orientation"]),
        "noise_bias": summarise(raw["noise"], ["object", "voxel_mm", "noise"]),
        "change_error": summarise_change(raw["change"]),
        "paired_change": change_summary(raw["paired_lesions"]),
        "accuracy": region_order(accuracy_table(trials)),
        "repeatability": region_order(repeatability_table(trials)),
        "repeatability_given": region_order(repeatability_table(trials, column="label_map_ml")),
    }


def _bias_check(bias: pd.DataFrame, how: str, words: str, target: float) -> Check:
    """Met where every object, voxel and orientation is within the target with its 95 % interval, not met where one is
    beyond it with all of that, undecided between."""
    column, error = f"{how}_bias_percent", f"{how}_bias_error_percent"
    size, chance = bias[column].abs(), stats.t.ppf(0.975, bias["samples"] - 1) * bias[error]
    sure, broken = size + chance <= target, size - chance > target
    row = bias.iloc[int(size.to_numpy().argmax())]
    measured = (
        f"largest {row[column]:+.3f} +- {row[error]:.3f} % ({row['object']}, {row['voxel_mm']} mm, "
        f"{row['orientation']}); median {size.median():.3f} %; of {len(bias)} groups {int(sure.sum())} surely within, "
        f"{int(broken.sum())} surely beyond, the others undecided"
    )
    is_met = False if broken.any() else True if sure.all() else None
    what = f"volume of reference objects {words}, any orientation, 1 to 5 mm slices: bias of every object"
    return Check(what, f"<= {target:g} %", measured, is_met)


def _change_check(table: pd.DataFrame) -> Check:
    rows = table[(table["condition"] == CHANGE_CONDITIONS[0]) & (table["size_mm"] == CHANGE_SIZE_MM)]
    what = f"change of 1 mm in a lesion of {CHANGE_SIZE_MM:g} mm, measured in both images: error <= {TARGET_MM:g} mm"
    target = f"in {CHANGE_TARGET_SHARE:.0%} of pairs"
    if len(rows) == 0:
        return Check(what, target, "not measured", None)
    row = rows.iloc[0]
    words = (
        f"in {row['paired_within']:.0%} of {int(row['pairs'])} pairs, 95 % below {row['paired_p95_mm']:.3f} mm "
        f"(difference of two masks {row['masks_p95_mm']:.3f} mm, by partial volume {row['single_p95_mm']:.3f} mm)"
    )
    return Check(what, target, words, bool(row["paired_within"] >= CHANGE_TARGET_SHARE))


def _repeat_checks(table: pd.DataFrame, source: str) -> list[Check]:
    """New noise and position, nothing else new, which is what the target is about."""
    checks = []
    for name, rows in _repeated(table):
        what = (
            f"{name}, two scans of one phantom (new noise and position), {source}, 5 ml or more: "
            "coefficient of variation of the volume"
        )
        target, usual = f"<= {CV_TARGET_PERCENT:g} %", rows[rows["condition"] == SAME_SCANNER.name]
        if len(usual) == 0:
            checks.append(Check(what, target, "not measured", None))
            continue
        row = usual.iloc[0]
        checks.append(Check(what, target, _repeat_words(row), float(row["cv_percent"]) <= CV_TARGET_PERCENT))
    return checks


def _scanner_checks(table: pd.DataFrame, source: str) -> list[Check]:
    """Coil and contrast new as well, and thick slices."""
    return [
        Check(
            f"{name}, likewise with another scanner, {source}",
            "reported",
            "; ".join(_repeat_words(row) for _, row in others.iterrows()) or "not measured",
            None,
        )
        for name, rows in _repeated(table)
        for others in [rows[rows["condition"] != SAME_SCANNER.name]]
    ]


def _repeated(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """By region, the conditions under which 5 ml or more were measured twice."""
    if len(table) == 0:
        return [(region.name, table) for region in regions_of()]
    usable = table[(table["size"] == "5 ml or more") & (table["pairs"] > 0)]
    return [(region.name, usable[usable["region"] == region.name]) for region in regions_of()]


def _repeat_words(row: pd.Series[Any]) -> str:
    """One condition; the interval only where it says something."""
    count = int(row["pairs"])
    pairs = counted(count, "pair")
    ends = f"{row['cv_low_percent']:.1f} to {row['cv_high_percent']:.1f}, " if row["cv_high_percent"] < 1000 else ""
    return f"{row['condition']}: {row['cv_percent']:.1f} % ({ends}{pairs})"


def _dice_checks(table: pd.DataFrame) -> list[Check]:
    rows = table[(table["condition"] == "fresh") & (table["size"] == "all")]
    words = [
        f"{row['region']} {row['dice_mean']:.3f} (median {row['dice_median']:.3f})"
        for _, row in rows.iterrows()
        if math.isfinite(row["dice_mean"])
    ]
    scans = int(rows["scans"].max()) if len(rows) else 0
    return [Check(f"Dice of the model on {scans} fresh phantoms", "reported", ", ".join(words), None)]
