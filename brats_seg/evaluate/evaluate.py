"""Judge a whole set of predictions: tables of cases, lesions, means, agreement, detection and calibration."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brats_seg.core.errors import InputError
from brats_seg.core.plain import plain
from brats_seg.core.regions import RegionSet
from brats_seg.evaluate.calibration import (
    CalibrationCounts,
    brier_score,
    expected_calibration_error,
    reliability_curve,
)
from brats_seg.evaluate.cases import CasePair, EvaluationSettings, RegionScore, Snapshot, evaluate_case
from brats_seg.evaluate.lesionwise import LesionScore
from brats_seg.evaluate.overlap import Counts, count_voxels
from brats_seg.evaluate.statistics import (
    MIN_FOR_INTERVAL,
    bland_altman,
    bootstrap_interval,
    compare_paired,
    detection_rates,
    holm,
    icc_2_1,
)
from brats_seg.files.visit_names import patient_of

CASE_COLUMNS = tuple(field.name for field in dataclasses.fields(RegionScore))
LESION_COLUMNS = ("case", "region", *(field.name for field in dataclasses.fields(LesionScore)))
SUMMARY_METRICS = CASE_COLUMNS[2:16]
"""Columns of the table of cases that are averaged."""

COUNTED_AS_MISSED = (
    *("dice", "hd95_mm", "hd95_brats2023_mm", "nsd_1mm", "sensitivity", "lesionwise_dice", "lesionwise_hd95_mm"),
)
"""Metrics of a study without a prediction, as if nothing had been found in it."""

LOWER_IS_BETTER = frozenset({"hd95_mm", "hd95_brats2023_mm", "average_distance_mm", "lesionwise_hd95_mm"})

_RATES = ("accuracy", "precision", "recall", "specificity", "f1")
_SUMMARY_COLUMNS = (
    *("subset", "region", "metric", "cases", "patients", "both_empty", "mean", "low", "high"),
    *("median", "q1", "q3", "min", "max"),
)
ALL_CASES = "all"
UNSEEN_CASES = "not trained on"
MISSING_AS_ZERO = "all, missing predictions as 0"
_AGREEMENT_COLUMNS = (
    *("region", "cases", "bias_ml", "bias_low_ml", "bias_high_ml", "bias_percent", "deviation_ml"),
    *("lower_limit_ml", "upper_limit_ml", "icc", "icc_low", "icc_high"),
)
_DETECTION_COLUMNS = (
    *("what", "region", "true_positive", "false_positive", "false_negative", "true_negative"),
    *(f"{rate}{end}" for rate in _RATES for end in ("", "_low", "_high")),
)
_CALIBRATION_COLUMNS = ("region", "voxels", "ece", "brier")
_RELIABILITY_COLUMNS = ("region", "low", "high", "voxels", "mean_probability", "observed")
_COMPARISON_COLUMNS = (
    *("metric", "region", "cases", "left_out", "first_mean", "second_mean", "mean_difference", "low", "high"),
    *("wins", "losses", "p_value", "p_holm", "effect_size", "better"),
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All tables of one evaluation; every column's unit is in its name.

    Attributes:
        cases: one row for each case and region, columns :data:`CASE_COLUMNS`.
        lesions: one row for each lesion of the reference, also those too small to count.
        summary: mean with bootstrap interval and quartiles, by subset, region and metric.
        agreement: of volumes, by region: Bland-Altman and ICC(2,1); NaN below 2 cases.
        detection: of tumour by study and by lesion, with Wilson intervals.
        calibration: ECE and Brier score by region; no rows without probabilities.
        reliability: points of the reliability curve; no rows without probabilities.
        snapshots: pictures of the worst cases, worst first.
        missing: studies with a reference and no prediction that could be judged.
    """

    cases: pd.DataFrame
    lesions: pd.DataFrame
    summary: pd.DataFrame
    agreement: pd.DataFrame
    detection: pd.DataFrame
    calibration: pd.DataFrame
    reliability: pd.DataFrame
    snapshots: tuple[Snapshot, ...]
    settings: EvaluationSettings
    regions: RegionSet
    missing: tuple[str, ...] = ()

    @property
    def case_ids(self) -> list[str]:
        """Cases in the order they came."""
        return list(dict.fromkeys(self.cases["case"]))

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by name; the names serve as file names."""
        names = ("cases", "lesions", "summary", "agreement", "detection", "calibration", "reliability")
        return {name: getattr(self, name) for name in names}

    def to_csv(self) -> dict[str, str]:
        """Content of a CSV file for each table that has rows; what is not defined is an empty field."""
        return {name: frame_to_csv(frame) for name, frame in self.tables().items() if len(frame)}

    def to_json(self) -> str:
        """Settings and every table as JSON; what is not defined is null."""
        tables = {name: frame_records(frame) for name, frame in self.tables().items()}
        content = {"settings": plain(self.settings), "missing": list(self.missing), **tables}
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


def evaluate_pairs(
    pairs: Iterable[CasePair],
    *,
    generator: np.random.Generator,
    settings: EvaluationSettings | None = None,
    missing: Callable[[], Sequence[str]] = tuple,
) -> Evaluation:
    """Score every case, one after the other, and summarise.

    Args:
        pairs: may be lazy: a case's volumes are let go before the next is asked for.
        generator: source of chance for the bootstrap; the same seed gives the same intervals.
        missing: studies with a reference and no prediction; asked for after the last pair.

    Raises:
        InputError: if there is no case, a case comes twice, or a label map does not fit its schema.
    """
    settings = settings or EvaluationSettings()
    rows: list[RegionScore] = []
    lesions: list[dict[str, Any]] = []
    calibration: dict[str, CalibrationCounts] = {}
    regions: RegionSet | None = None
    snapshots: list[Snapshot] = []
    seen: set[str] = set()
    for pair in pairs:
        if pair.case in seen:
            raise InputError(f"case {pair.case} comes twice; every case needs its own id")
        seen.add(pair.case)
        if regions not in (None, pair.regions):
            raise InputError(
                f"case {pair.case} is of other regions ({', '.join(pair.regions.names)}) than those before it"
            )
        regions = pair.regions
        scores = evaluate_case(pair, settings=settings)
        rows += scores.regions
        lesions += [
            {"case": pair.case, "region": region, **dataclasses.asdict(lesion)}
            for region, found in scores.lesions.items()
            for lesion in found
        ]
        for region, counts in scores.calibration.items():
            calibration[region] = calibration[region] + counts if region in calibration else counts
        snapshots = sorted([*snapshots, scores.snapshot], key=lambda s: s.mean_dice)[: settings.worst_cases]
    if regions is None:
        raise InputError("there is no pair of prediction and reference to evaluate")
    cases = _frame([dataclasses.asdict(row) for row in rows], CASE_COLUMNS)
    left_out = tuple(missing())
    return Evaluation(
        cases=cases,
        lesions=_frame(lesions, LESION_COLUMNS),
        summary=summarise(cases, regions, generator=generator, settings=settings, missing=left_out),
        agreement=_agreement(cases, settings.level),
        detection=_detection(cases, settings),
        calibration=_calibration(calibration),
        reliability=_reliability(calibration),
        snapshots=tuple(snapshots),
        settings=settings,
        regions=regions,
        missing=left_out,
    )


def summarise(
    cases: pd.DataFrame,
    regions: RegionSet,
    *,
    generator: np.random.Generator,
    settings: EvaluationSettings,
    missing: Sequence[str] = (),
) -> pd.DataFrame:
    """Mean with bootstrap interval over patients, median, quartiles and range of each metric in each region.

    Given for all cases, and where these are others for those with at least ``large_enhancing_ml`` of enhancing tumour
    in the reference (a missed speck of enhancement counts as much as a missed tumour), for those the model was not
    trained on, and for all with what has no prediction counted as found empty, as the challenges do.
    ``both_empty`` counts cases where neither map holds the region, each of which counts as a perfect score.
    """
    rows = []
    for subset, table in _subsets(cases, regions, settings, missing).items():
        for region in _regions(table):
            part = table[table["region"] == region]
            empty = (part["reference_ml"] == 0) & (part["predicted_ml"] == 0)
            for metric in SUMMARY_METRICS:
                kept = part[np.isfinite(part[metric].to_numpy(np.float64))]
                row = _summary_row(kept, metric, generator, settings) | {"both_empty": int(empty[kept.index].sum())}
                rows.append({"subset": subset, "region": region, "metric": metric, **row})
    return _frame(rows, _SUMMARY_COLUMNS)


def _regions(cases: pd.DataFrame) -> list[str]:
    """Regions that at least one case was judged in, in the order of the case that was judged in most."""
    count = cases["case"].map(cases["case"].value_counts()).to_numpy()
    return list(dict.fromkeys(cases["region"].iloc[np.argsort(-count, kind="stable")]))


def _subsets(
    cases: pd.DataFrame, regions: RegionSet, settings: EvaluationSettings, missing: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Tables of cases by name, all of them first; those that repeat it are left out."""
    bright = regions.of_compartment("enhancing")
    enhancing = cases[cases["region"] == (bright and bright.name)].set_index("case")["reference_ml"]
    large = set(enhancing.index[enhancing >= settings.large_enhancing_ml])
    trained_on = cases["trained_on"].isin([True])
    some = {
        f"enhancing >= {settings.large_enhancing_ml:g} ml": cases[cases["case"].isin(large)],
        UNSEEN_CASES: cases[~trained_on],
    }
    subsets = {ALL_CASES: cases} | {name: part for name, part in some.items() if 0 < len(part) < len(cases)}
    if missing:
        nothing = settings.policy.overlap_one_empty, settings.policy.distance_one_empty_mm
        scores = {m: nothing[m in LOWER_IS_BETTER] for m in COUNTED_AS_MISSED}
        rows = [{"case": c, "region": r, **scores} for c in missing for r in _regions(cases)]
        subsets[MISSING_AS_ZERO] = pd.DataFrame([*cases.to_dict("records"), *rows], columns=list(cases.columns))
    return subsets


def compare_evaluations(
    first: Evaluation,
    second: Evaluation,
    *,
    generator: np.random.Generator,
    metrics: Sequence[str] = ("dice", "hd95_mm", "lesionwise_dice"),
) -> pd.DataFrame:
    """Compare two models on the same cases, region by region.

    Args:
        first: the model to compare with.
        second: the other; differences are second minus first.
        generator: source of chance for the intervals.
        metrics: columns of the table of cases.

    Returns:
        One row for each metric and region. ``p_holm`` is corrected over the regions of a metric; ``better`` is
        ``first``, ``second`` or empty where ``p_holm`` is not below 1 - level.

    Raises:
        InputError: if the two hold different cases, or a metric is unknown.
    """
    differing = sorted(set(first.case_ids) ^ set(second.case_ids))
    if differing:
        raise InputError(
            f"two models are compared on the same cases, but {', '.join(differing[:5])} "
            f"({len(differing)} in all) are in only one of the two evaluations"
        )
    unknown = [metric for metric in metrics if metric not in SUMMARY_METRICS]
    if unknown:
        raise InputError(f"there is no metric {', '.join(unknown)}; choose from: {', '.join(SUMMARY_METRICS)}")
    rows = []
    for metric in metrics:
        both = [region for region in _regions(first.cases) if region in _regions(second.cases)]
        block = [_comparison_row(first, second, metric, region, generator) for region in both]
        tested = [row for row in block if math.isfinite(row["p_value"])]
        for row, corrected in zip(tested, holm([row["p_value"] for row in tested]), strict=True):
            row["p_holm"] = corrected
            if corrected < 1 - first.settings.level and row["effect_size"] != 0:
                second_is_better = (row["effect_size"] < 0) == (metric in LOWER_IS_BETTER)
                row["better"] = "second" if second_is_better else "first"
        rows += block
    return _frame(rows, _COMPARISON_COLUMNS)


def frame_to_csv(frame: pd.DataFrame) -> str:
    """Content of a CSV file, six significant digits; what is not defined is an empty field."""
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def frame_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values for JSON; what is not defined is None."""
    return [plain(row) for row in frame.to_dict(orient="records")]


def _frame(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))


def _summary_row(
    cases: pd.DataFrame, metric: str, generator: np.random.Generator, settings: EvaluationSettings
) -> dict[str, float | int]:
    values, patients = cases[metric].to_numpy(np.float64), _patients(cases["case"])
    interval = bootstrap_interval(
        values, generator=generator, patients=patients, resamples=settings.resamples, level=settings.level
    )
    points = np.quantile(values, [0.5, 0.25, 0.75, 0.0, 1.0]) if values.size else np.full(5, math.nan)
    numbers = dict(zip(("median", "q1", "q3", "min", "max"), map(float, points), strict=True))
    counts = {"cases": values.size, "patients": len(set(patients))}
    return {**counts, "mean": interval.value, "low": interval.low, "high": interval.high, **numbers}


def _patients(cases: Iterable[str]) -> list[str]:
    return [patient_of(str(case)) for case in cases]


def _agreement(cases: pd.DataFrame, level: float) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for region in _regions(cases):
        part = cases[cases["region"] == region]
        volumes = part[["reference_ml", "predicted_ml"]].to_numpy(np.float64)
        row: dict[str, Any] = {"region": region, "cases": len(volumes)}
        if len(volumes) >= 2:
            differences = bland_altman(volumes[:, 0], volumes[:, 1], level=level)
            icc = icc_2_1(volumes, level=level)
            row |= {f"{name}_ml": value for name, value in dataclasses.asdict(differences).items()}
            row |= {
                "bias_percent": differences.bias_percent,
                "icc": icc.value,
                "icc_low": icc.low,
                "icc_high": icc.high,
            }
            if len(set(_patients(part["case"]))) < MIN_FOR_INTERVAL:
                row |= dict.fromkeys(("bias_low_ml", "bias_high_ml", "icc_low", "icc_high"), math.nan)
        rows.append(row)
    return _frame(rows, _AGREEMENT_COLUMNS)


def _detection(cases: pd.DataFrame, settings: EvaluationSettings) -> pd.DataFrame:
    rows = []
    for region in _regions(cases):
        part = cases[cases["region"] == region]
        predicted = (part["predicted_ml"] > settings.tumour_from_ml).to_numpy()
        studies = count_voxels(predicted, (part["reference_ml"] > 0).to_numpy())  # a study counts as a voxel would
        found, false, missed = (int(part[f"lesions_{what}"].sum()) for what in ("found", "false", "missed"))
        rows.append(_detection_row("study", region, studies, settings.level))
        rows.append(_detection_row("lesion", region, Counts(found, false, missed, 0), settings.level))
    table = _frame(rows, _DETECTION_COLUMNS)
    if len(set(_patients(cases["case"]))) < MIN_FOR_INTERVAL:
        table[[f"{rate}{end}" for rate in _RATES for end in ("_low", "_high")]] = math.nan
    return table


def _detection_row(what: str, region: str, counts: Counts, level: float) -> dict[str, Any]:
    row: dict[str, Any] = {"what": what, "region": region, **dataclasses.asdict(counts)}
    if what == "lesion":
        row["true_negative"] = None
    for name, rate in detection_rates(counts, level=level, has_negatives=what == "study").items():
        row |= {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}
    return row


def _calibration(counts: dict[str, CalibrationCounts]) -> pd.DataFrame:
    rows = [
        {
            "region": region,
            "voxels": int(values.voxels.sum()),
            "ece": expected_calibration_error(values),
            "brier": brier_score(values),
        }
        for region, values in counts.items()
    ]
    return _frame(rows, _CALIBRATION_COLUMNS)


def _reliability(counts: dict[str, CalibrationCounts]) -> pd.DataFrame:
    rows = [{"region": region, **point} for region, values in counts.items() for point in reliability_curve(values)]
    return _frame(rows, _RELIABILITY_COLUMNS)


def _comparison_row(
    first: Evaluation, second: Evaluation, metric: str, region: str, generator: np.random.Generator
) -> dict[str, Any]:
    values = []
    for evaluation in (first, second):
        part = evaluation.cases[evaluation.cases["region"] == region]
        values.append(part.set_index("case")[metric].reindex(first.case_ids).to_numpy(np.float64))
    both = np.isfinite(values[0]) & np.isfinite(values[1])
    row: dict[str, Any] = {
        "metric": metric,
        "region": region,
        "cases": int(both.sum()),
        "left_out": int((~both).sum()),
        "p_value": math.nan,
        "p_holm": math.nan,
        "better": "",
    }
    if not both.any():
        return row
    a, b = values[0][both], values[1][both]
    settings = first.settings
    patients = _patients(case for case, kept in zip(first.case_ids, both, strict=True) if kept)
    result = compare_paired(
        a, b, generator=generator, patients=patients, resamples=settings.resamples, level=settings.level
    )
    return row | {"first_mean": float(a.mean()), "second_mean": float(b.mean()), **dataclasses.asdict(result)}
