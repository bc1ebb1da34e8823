"""The page of an evaluation: one HTML file without scripts or outside resources."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup

from brats_seg.core.words import counted
from brats_seg.evaluate.evaluate import Evaluation
from brats_seg.evaluate.figures import bland_altman_plots, box_plots, reliability_plots, snapshot_picture
from brats_seg.evaluate.statistics import MIN_FOR_INTERVAL, MIN_FOR_TEST
from brats_seg.report.pages import DISCLAIMER, figure, listed, number, plot, section, sections_page, soft, table

METRIC_TITLES: Mapping[str, str] = {
    "dice": "Dice",
    "hd95_mm": "HD95, mm",
    "hd95_brats2023_mm": "HD95 BraTS 2023, mm",
    "nsd_1mm": "surface within 1 mm",
    "average_distance_mm": "average distance, mm",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "reference_ml": "reference, ml",
    "predicted_ml": "predicted, ml",
    "volume_error_ml": "volume error, ml",
    "volume_error_percent": "volume error, %",
    "lesionwise_dice": "lesion-wise Dice",
    "lesionwise_hd95_mm": "lesion-wise HD95, mm",
    "lesions": "lesions",
    "lesions_found": "found",
    "lesions_missed": "missed",
    "lesions_false": "false",
}
"""Column of the table of cases to its heading."""

_BOXES = {name: METRIC_TITLES[name] for name in ("dice", "hd95_mm", "nsd_1mm", "lesionwise_dice")}
_CASE_COLUMNS = (
    *("dice", "hd95_mm", "hd95_brats2023_mm", "nsd_1mm", "sensitivity", "precision", "reference_ml", "predicted_ml"),
    *("lesionwise_dice", "lesionwise_hd95_mm", "lesions", "lesions_missed", "lesions_false"),
)


def evaluation_html(
    evaluation: Evaluation,
    *,
    title: str,
    comparison: pd.DataFrame | None = None,
    warnings: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> str:
    """The whole page.

    Args:
        evaluation: what :func:`brats_seg.evaluate.evaluate.evaluate_pairs` returned.
        title: heading, for example the names of the two folders.
        comparison: table of :func:`brats_seg.evaluate.evaluate.compare_evaluations`, if two models were compared.
        warnings: what a reader has to know before the figures, one sentence each.
        left_out: studies that are not in the figures, and why, one sentence each.
    """
    count = len(evaluation.case_ids)
    sections = [
        listed("To know before reading the figures", warnings),
        listed("Left out", left_out),
        _summary(evaluation),
        _distribution(evaluation) if count > 1 else Markup(""),
        _comparison(evaluation, comparison) if comparison is not None else Markup(""),
        _agreement(evaluation) if count > 1 else Markup(""),
        _detection(evaluation),
        _calibration(evaluation) if len(evaluation.calibration) else Markup(""),
        _worst(evaluation),
        _cases(evaluation),
        _methods(evaluation),
    ]
    return sections_page(title, f"{counted(count, 'case')}. {DISCLAIMER}", sections)


def _with_interval(value: float, low: float, high: float, decimals: int) -> str:
    """A number, and its interval where there is one; a dash where there is no number."""
    if not math.isfinite(value):
        return number(value)
    if not math.isfinite(low):
        return number(value, decimals)
    between = f"({number(low, decimals)} to {number(high, decimals)})"
    return Markup("{} <small>{}</small>").format(number(value, decimals), between)


def _decimals(metric: str) -> int:
    return 2 if metric.endswith(("_mm", "_ml")) else 1 if metric.endswith("percent") else 3


def _summary(evaluation: Evaluation) -> Markup:
    """Mean with interval and median, metrics down and regions across, for each subset."""
    words = f"Mean with its {100 * evaluation.settings.level:g} % interval, from drawing patients again (bootstrap)."
    if int(evaluation.summary["patients"].max()) < MIN_FOR_INTERVAL:
        words = f"Mean; fewer than {MIN_FOR_INTERVAL} patients give no interval."
    parts = [soft(words)]
    regions = [name for name in evaluation.regions.names if name in set(evaluation.summary["region"])]
    head = ["", *(f"{region} {what}" for region in regions for what in ("mean", "median"))]
    for subset, means in evaluation.summary.groupby("subset", sort=False):
        count = int(means["cases"].max())
        if count == 0:
            continue
        rows = []
        for metric, block in means.groupby("metric", sort=False):
            if metric in {"reference_ml", "predicted_ml"} or not block["cases"].any():
                continue
            decimals = _decimals(str(metric))
            cells = [METRIC_TITLES[str(metric)]]
            for _, row in block.iterrows():
                some = Markup(" <small>of {}</small>").format(row["cases"]) if row["cases"] < count else ""
                mean = _with_interval(row["mean"], row["low"], row["high"], decimals)
                cells.append(Markup("{}{}").format(mean, some))
                cells.append(number(row["median"], decimals))
            rows.append(cells)
        parts.append(Markup("<h3>{}: {}</h3>").format(subset, counted(count, "case")))
        parts += [table(head, rows), *map(soft, empty_words(means))]
    return section("Scores", *parts)


def empty_words(summary: pd.DataFrame) -> list[str]:
    """How much of a mean comes from cases without the region in both maps, which count as perfect."""
    dice = summary[(summary["metric"] == "dice") & (summary["both_empty"] > 0)]
    return [
        f"{row['region']}: in {row['both_empty']} of {row['cases']} cases neither map holds any, which counts as "
        f"Dice 1; without them the mean Dice is {number(_without_empty(row))}."
        for _, row in dice.iterrows()
    ]


def _without_empty(row: pd.Series) -> float:
    rest = row["cases"] - row["both_empty"]
    return float((row["mean"] * row["cases"] - row["both_empty"]) / rest) if rest else math.nan


def _distribution(evaluation: Evaluation) -> Markup:
    drawn = plot(box_plots(evaluation.cases, _BOXES, evaluation.regions), "Box plots of Dice and distances by region")
    return section("Distribution", drawn)


def _comparison(evaluation: Evaluation, comparison: pd.DataFrame) -> Markup:
    rows = [
        [
            f"{METRIC_TITLES[row['metric']]}, {row['region']}",
            *(number(row[key], _decimals(row["metric"])) for key in ("first_mean", "second_mean", "mean_difference")),
            f"{number(row['low'], _decimals(row['metric']))} to {number(row['high'], _decimals(row['metric']))}"
            if math.isfinite(row["low"])
            else number(None),
            *(number(row[key], 4) for key in ("p_value", "p_holm")),
            number(row["effect_size"], 2),
            number(row["cases"]),
            better_words(row),
        ]
        for _, row in comparison.iterrows()
    ]
    level = f"{100 * evaluation.settings.level:g} %"
    head = ["", "first", "second", "difference", f"{level} interval", "p", "p, Holm", "effect size", "cases", "better"]
    note = (
        "Second minus first on the same cases. Wilcoxon signed-rank test over patients, corrected over the regions "
        "(Holm); effect size is the matched-pairs rank-biserial correlation, positive where the second model's numbers "
        "are larger."
    )
    return section("Two models compared", soft(note), table(head, rows))


def better_words(row: pd.Series) -> str:
    """Which of two models is better by one row of a comparison."""
    if not math.isfinite(row["p_value"]):
        return f"not tested: fewer than {MIN_FOR_TEST} patients"
    return f"{row['better']} is better" if row["better"] else "no difference shown"


def _agreement(evaluation: Evaluation) -> Markup:
    rows = [
        [
            row["region"],
            _with_interval(row["bias_ml"], row["bias_low_ml"], row["bias_high_ml"], 2),
            number(row["bias_percent"], 1),
            f"{number(row['lower_limit_ml'], 2)} to {number(row['upper_limit_ml'], 2)}",
            _with_interval(row["icc"], row["icc_low"], row["icc_high"], 3),
        ]
        for _, row in evaluation.agreement.iterrows()
    ]
    head = ["", "bias, ml", "bias, %", "limits of agreement, ml", "ICC(2,1)"]
    png = bland_altman_plots(evaluation.cases, evaluation.agreement, evaluation.regions)
    drawn = plot(png, "Bland-Altman plots of volume by region")
    return section("Agreement of volumes", table(head, rows), drawn)


def _detection(evaluation: Evaluation) -> Markup:
    rates = ("accuracy", "precision", "recall", "specificity", "f1")
    rows = []
    for _, row in evaluation.detection.iterrows():
        cells = [f"{row['region']} by {row['what']}"]
        for key in ("true_positive", "false_positive", "false_negative", "true_negative"):
            cells.append(number(None if pd.isna(row[key]) else int(row[key])))
        cells += [_with_interval(row[rate], row[f"{rate}_low"], row[f"{rate}_high"], 2) for rate in rates]
        rows.append(cells)
    head = ["", "found", "false", "missed", "rightly none", "accuracy", "precision", "recall", "specificity", "F1"]
    note = (
        f"A study is called positive with more than {evaluation.settings.tumour_from_ml:g} ml. Lesions have no true "
        "negatives; their accuracy is found / (found + false + missed). Wilson intervals."
    )
    return section("Detection", soft(note), table(head, rows))


def _calibration(evaluation: Evaluation) -> Markup:
    rows = [
        [row["region"], number(row["ece"]), number(row["brier"]), f"{row['voxels']:,}"]
        for _, row in evaluation.calibration.iterrows()
    ]
    note = f"In the tumour and the {evaluation.settings.band_mm:g} mm around it."
    drawn = plot(reliability_plots(evaluation.reliability, evaluation.regions), "Reliability curves by region")
    return section("Calibration", soft(note), table(["", "ECE", "Brier score", "voxels"], rows), drawn)


def _worst(evaluation: Evaluation) -> Markup:
    if not evaluation.snapshots:
        return Markup("")
    figures = [
        figure(
            snapshot_picture(shot, evaluation.regions),
            f"Reference and prediction of {shot.case}",
            f"{shot.case}: mean Dice {shot.mean_dice:.3f}, slice at {shot.height_mm:.0f} mm",
        )
        for shot in evaluation.snapshots
    ]
    note = "By mean Dice over the regions, worst first, on the slice that differs most. Patient's right is on the left."
    return section("Worst cases", soft(note), Markup('<div class="grid">{}</div>').format(Markup("").join(figures)))


def _cases(evaluation: Evaluation) -> Markup:
    """Every case and region, the worst case first."""
    order = evaluation.cases.groupby("case")["dice"].mean().sort_values(kind="stable").index
    grouped = dict(iter(evaluation.cases.groupby("case")))
    rows = []
    for case in order:
        for index, (_, row) in enumerate(grouped[case].iterrows()):
            cells = [number(row[key], _decimals(key)) for key in _CASE_COLUMNS]
            rows.append([str(case) if index == 0 else "", row["region"], *cells])
    head = ["case", "region", *(METRIC_TITLES[key] for key in _CASE_COLUMNS)]
    return section("Every case", table(head, rows, grouped=True), wide=True)


def _methods(evaluation: Evaluation) -> Markup:
    settings = evaluation.settings
    lines = [
        settings.policy.describe(),
        settings.lesionwise.describe(),
        "HD95 is the larger of the two directed 95th percentiles: over surface voxels, and (BraTS 2023) over the area "
        "of the surface between voxels. The share of the surface within 1 mm is by area.",
    ]
    return section("How it was computed", *(soft(line) for line in lines))
