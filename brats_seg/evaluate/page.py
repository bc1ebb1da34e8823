"""The page of an evaluation: one HTML file without scripts or outside resources."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from brats_seg.core.regions import REGIONS
from brats_seg.core.words import counted
from brats_seg.evaluate.evaluate import Evaluation
from brats_seg.evaluate.figures import bland_altman_plots, box_plots, reliability_plots, snapshot_picture
from brats_seg.evaluate.statistics import MIN_FOR_INTERVAL, MIN_FOR_TEST

DISCLAIMER = "Research software, not a medical device."

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

_STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --wash: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 15px/1.5 system-ui, Roboto, Arial, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 24px; }
h1 { margin: 0; font-size: 1.5rem; }
h3 { margin: 16px 0 0; font-size: 1rem; }
h2 { margin: 32px 0 8px; font-size: 1.15rem; }
p { margin: 4px 0; max-width: 75ch; }
.soft { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 8px 0; }
th, td { padding: 4px 14px 4px 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-size: .8125rem; vertical-align: bottom; white-space: normal; }
tr.first td, tr.first th { border-top: 2px solid var(--line); }
small { color: var(--soft); }
img { max-width: 100%; height: auto; display: block; }
.plot img { min-width: 720px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: 16px; }
figure { margin: 0; }
figcaption { font-size: .875rem; color: var(--soft); overflow-wrap: anywhere; }
"""


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
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{counted(count, "case")}. {DISCLAIMER}</p>',
        _listed("To know before reading the figures", warnings),
        _listed("Left out", left_out),
        _summary(evaluation),
        _distribution(evaluation) if count > 1 else "",
        _comparison(evaluation, comparison) if comparison is not None else "",
        _agreement(evaluation) if count > 1 else "",
        _detection(evaluation),
        _calibration(evaluation) if len(evaluation.calibration) else "",
        _worst(evaluation),
        _cases(evaluation),
        _methods(evaluation),
    ]
    return page(title, _STYLE, sections)


def page(title: str, style: str, sections: Iterable[str]) -> str:
    """A self-contained HTML page; sections that are empty are left out.

    Args:
        title: plain text.
        style: CSS.
        sections: HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def number(value: Any, decimals: int = 3) -> str:
    """A number for people: fixed decimals, whole numbers as they are, a dash for what is not defined."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    return escape(str(value))


def _with_interval(value: float, low: float, high: float, decimals: int) -> str:
    """A number, and its interval where there is one; a dash where there is no number."""
    if not math.isfinite(value):
        return number(value)
    if not math.isfinite(low):
        return number(value, decimals)
    return f"{number(value, decimals)} <small>({number(low, decimals)} to {number(high, decimals)})</small>"


def _decimals(metric: str) -> int:
    return 2 if metric.endswith(("_mm", "_ml")) else 1 if metric.endswith("percent") else 3


def _summary(evaluation: Evaluation) -> str:
    """Mean with interval and median, metrics down and regions across, for each subset."""
    words = f"Mean with its {100 * evaluation.settings.level:g} % interval, from drawing patients again (bootstrap)."
    if int(evaluation.summary["patients"].max()) < MIN_FOR_INTERVAL:
        words = f"Mean; fewer than {MIN_FOR_INTERVAL} patients give no interval."
    parts = [_soft(words)]
    regions = [region.abbreviation for region in REGIONS if region.abbreviation in set(evaluation.summary["region"])]
    head = ["", *(f"{region} {what}" for region in regions for what in ("mean", "median"))]
    for subset, table in evaluation.summary.groupby("subset", sort=False):
        count = int(table["cases"].max())
        if count == 0:
            continue
        rows = []
        for metric, block in table.groupby("metric", sort=False):
            if metric in {"reference_ml", "predicted_ml"} or not block["cases"].any():
                continue
            decimals = _decimals(str(metric))
            cells = [METRIC_TITLES[str(metric)]]
            for _, row in block.iterrows():
                some = f" <small>of {row['cases']}</small>" if row["cases"] < count else ""
                cells.append(_with_interval(row["mean"], row["low"], row["high"], decimals) + some)
                cells.append(number(row["median"], decimals))
            rows.append(cells)
        parts.append(f"<h3>{escape(str(subset))}: {counted(count, 'case')}</h3>")
        parts += [_table(head, rows), *map(_soft, empty_words(table))]
    return _section("Scores", *parts)


def empty_words(summary: pd.DataFrame) -> list[str]:
    """How much of a mean comes from cases without the region in both maps, which count as perfect.

    Args:
        summary: rows of one subset.
    """
    dice = summary[(summary["metric"] == "dice") & (summary["both_empty"] > 0)]
    return [
        f"{row['region']}: in {row['both_empty']} of {row['cases']} cases neither map holds any, which counts as "
        f"Dice 1; without them the mean Dice is {number(_without_empty(row))}."
        for _, row in dice.iterrows()
    ]


def _without_empty(row: pd.Series) -> float:
    rest = row["cases"] - row["both_empty"]
    return float((row["mean"] * row["cases"] - row["both_empty"]) / rest) if rest else math.nan


def _listed(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return _section(title, "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>")


def _distribution(evaluation: Evaluation) -> str:
    plot = _plot(box_plots(evaluation.cases, _BOXES), "Box plots of Dice and distances by region")
    return _section("Distribution", plot)


def _comparison(evaluation: Evaluation, comparison: pd.DataFrame) -> str:
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
    return _section("Two models compared", _soft(note), _table(head, rows))


def better_words(row: pd.Series) -> str:
    """Which of two models is better by one row of a comparison."""
    if not math.isfinite(row["p_value"]):
        return f"not tested: fewer than {MIN_FOR_TEST} patients"
    return f"{row['better']} is better" if row["better"] else "no difference shown"


def _agreement(evaluation: Evaluation) -> str:
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
    plot = _plot(bland_altman_plots(evaluation.cases, evaluation.agreement), "Bland-Altman plots of volume by region")
    return _section("Agreement of volumes", _table(head, rows), plot)


def _detection(evaluation: Evaluation) -> str:
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
    return _section("Detection", _soft(note), _table(head, rows))


def _calibration(evaluation: Evaluation) -> str:
    rows = [
        [row["region"], number(row["ece"]), number(row["brier"]), f"{row['voxels']:,}"]
        for _, row in evaluation.calibration.iterrows()
    ]
    note = f"In the tumour and the {evaluation.settings.band_mm:g} mm around it."
    plot = _plot(reliability_plots(evaluation.reliability), "Reliability curves by region")
    return _section("Calibration", _soft(note), _table(["", "ECE", "Brier score", "voxels"], rows), plot)


def _worst(evaluation: Evaluation) -> str:
    if not evaluation.snapshots:
        return ""
    figures = "".join(
        f"<figure>{_image(snapshot_picture(shot), f'Reference and prediction of {shot.case}')}<figcaption>"
        f"{escape(shot.case)}: mean Dice {shot.mean_dice:.3f}, slice at {shot.height_mm:.0f} mm</figcaption></figure>"
        for shot in evaluation.snapshots
    )
    note = "By mean Dice over the regions, worst first, on the slice that differs most. Patient's right is on the left."
    return _section("Worst cases", _soft(note), f'<div class="pictures">{figures}</div>')


def _cases(evaluation: Evaluation) -> str:
    """Every case and region, the worst case first."""
    order = evaluation.cases.groupby("case")["dice"].mean().sort_values(kind="stable").index
    grouped = dict(iter(evaluation.cases.groupby("case")))
    rows, first = [], []
    for case in order:
        for index, (_, row) in enumerate(grouped[case].iterrows()):
            first.append(index == 0)
            cells = [number(row[key], _decimals(key)) for key in _CASE_COLUMNS]
            rows.append([escape(str(case)) if index == 0 else "", row["region"], *cells])
    head = ["case", "region", *(METRIC_TITLES[key] for key in _CASE_COLUMNS)]
    return _section("Every case", _table(head, rows, first=first))


def _methods(evaluation: Evaluation) -> str:
    settings = evaluation.settings
    lines = [
        settings.policy.describe(),
        settings.lesionwise.describe(),
        "HD95 is the larger of the two directed 95th percentiles: over surface voxels, and (BraTS 2023) over the area "
        "of the surface between voxels. The share of the surface within 1 mm is by area.",
    ]
    return _section("How it was computed", *(_soft(line) for line in lines))


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, first: Sequence[bool] = ()) -> str:
    """A table of ready-made cells; ``first`` marks rows that begin a group."""
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = []
    for index, row in enumerate(rows):
        mark = ' class="first"' if index < len(first) and first[index] else ""
        body.append(f"<tr{mark}>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>")
    return (
        f'<div class="scroll"><table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n'
        + "\n".join(body)
        + "\n</tbody></table></div>"
    )


def _plot(png: bytes, alt: str) -> str:
    """A wide plot, which scrolls on a narrow screen instead of shrinking until nothing can be read."""
    return f'<div class="scroll plot">{_image(png, alt)}</div>'


def _image(png: bytes, alt: str) -> str:
    source = base64.b64encode(png).decode("ascii")
    return f'<img alt="{escape(alt, quote=True)}" src="data:image/png;base64,{source}">'
