"""The growth table of the timeline page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brats_seg.report.timeline_words import EVENT_WORDS


def growth_rows(growth: Sequence[Mapping[str, Any]], order: Sequence[str]) -> list[dict[str, str]]:
    """One row for each region and phase of several visits between treatments, regions in the order of the page."""
    rows = []
    for entry in growth:
        if len(entry["visits"]) < 2:
            continue
        rows.append(
            {
                "region": entry["region"],
                "visits": f"{entry['visits'][0]} to {entry['visits'][-1]}" + _after(entry["begins_after"]),
                "rate": _estimate(entry["specific_growth_rate"], "% a day", 100),
                "doubling": _estimate(entry["doubling_time"], "days", 1),
                "velocity": _estimate(entry["velocity_of_diametric_expansion"], "mm a year", 1),
                "fit": entry["fit"]["model"] or f"not given: {entry['fit']['refused']}",
                "prediction": _estimate(entry["prediction"], "ml", 1)
                + (
                    f" on day {entry['prediction']['day_since_first_visit']:.0f}"
                    if entry["prediction"]["value"] is not None
                    else ""
                ),
            }
        )
    return sorted(rows, key=lambda row: order.index(row["region"]))


def _after(event: str | None) -> str:
    """The treatment a phase begins after, in the words of the page."""
    if not event:
        return ""
    kind, _, when = event.partition(" ")
    return f", after {EVENT_WORDS.get(kind, kind)} {when}"


def _estimate(value: Mapping[str, Any], unit: str, factor: float) -> str:
    if value["value"] is None:
        return f"not given: {value['refused']}"
    words = f"{_short(factor * value['value'])} {unit}"
    if value["low"] is not None:
        words += f" ({_short(factor * value['low'])} to {_short(factor * value['high'])})"
    return words.replace("-", "\u2212")


def _short(value: float) -> str:
    """Three figures, and never an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}" if 0 < abs(value) < 0.001 else f"{value:.3g}"


def growth_refusal(growth: Sequence[Mapping[str, Any]]) -> str:
    """The reason why nothing at all can be said about growth; empty where something can."""
    parts = ("specific_growth_rate", "doubling_time", "velocity_of_diametric_expansion", "prediction", "fit")
    reasons: set[str] = {entry[part].get("refused", "") for entry in growth for part in parts}
    if len(reasons) == 1:
        return str(reasons.pop())
    return "" if any(len(entry["visits"]) > 1 for entry in growth) else "no phase between treatments has two visits"
