"""The sentences of the timeline page: the answer, what changed, what to know before it is used, and how it grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brats_seg.core.course import Course, CourseChange, CourseResponse
from brats_seg.core.words import listed, side_words
from brats_seg.report.tables import change, ml, mm, sentence, signed

CATEGORY_WORDS = {
    "CR": "complete response",
    "PR": "partial response",
    "MR": "minor response",
    "SD": "stable disease",
    "PD": "progression",
    "NE": "cannot be judged",
    "baseline": "baseline",
}
EVENT_WORDS = {
    "radiotherapy_end": "end of radiotherapy",
    "surgery": "surgery",
    "treatment_start": "treatment",
    "baseline": "baseline",
}
VERDICT_WORDS = {
    "yes": "larger than measurement error",
    "no": "not larger than measurement error",
    "not known": "measurement error not known",
}
MOST_NEW = 3
TELLING_PERCENT = 40.0
"""Growth of a region that is not judged, from which the first sentence names it: that of a progression by volume."""
FACT_WORDS = {
    "radiotherapy_end": "end of radiotherapy",
    "steroid_mg": "steroid dose",
    "clinical_status": "clinical status",
    "treatment_start": "start of treatment",
}


def headline(course: Course, leading: str) -> str:
    """The last visit's answer in one sentence: what decided it, and what grew all the same; first, if so, that there is
    no tumour to follow."""
    answer = _answer(course, leading)
    return f"No tumour found at any visit; {answer}" if course.is_free else answer


def _answer(course: Course, leading: str) -> str:
    row = answers(course)[-1]
    words = CATEGORY_WORDS[row.category]
    status = f", {row.status}" if row.status else ""
    way = "by volume" if row.measure == "volume" else "by two diameters"
    if row.category == "baseline":
        alone = len(course.visits) == 1
        return f"{row.visit}: baseline" + (", and no other visit to compare with it" if alone else "")
    reason = _with_side(course, row)
    line = f"{row.visit}: {words} ({row.category}{status})" + (f": {reason}" if reason else f" {way}")
    grown = grown_beside(course, leading) if row.category != "PD" else []
    return f"{line}; but {listed(grown)}" if grown else line


def _with_side(course: Course, row: CourseResponse) -> str:
    """What decided an answer, with the side of the lesion it names."""
    reason = str(row.decided_by or (row.reasons.split("; ")[0] if row.category == "NE" else ""))
    for lesion in course.lesions:
        name = f"{lesion.lesion} ("
        if lesion.visit == row.visit and lesion.side and f" {name}" in f" {reason}":
            return reason.replace(name, f"{name}{side_words(lesion.side)}, ", 1)
    return reason


def grown_beside(course: Course, leading: str) -> list[str]:
    """Regions beside the judged one that certainly grew by :data:`TELLING_PERCENT` until the last visit, in words."""
    found = []
    for region in course.regions:
        row = course.change(answers(course)[-1].visit, region.name, "nadir")
        if region.name == leading or row is None or row.larger_than_error == "no" or row.change_ml <= 0:
            continue
        if row.percent is None or row.percent >= TELLING_PERCENT:
            size = f"{row.percent:+.0f} %, " if row.percent is not None else ""
            before, now = ml(row.reference_ml), ml(row.volume_ml)
            found.append(f"the {region.title} grew ({size}{before} to {now} ml since {row.reference})")
    return found


def answers(course: Course) -> list[CourseResponse]:
    """Overall answers of every visit: by diameters, or by volume where diameters cannot be judged anywhere."""
    planar = course.overall("2d")
    judged = any(row.category not in ("NE", "baseline") for row in planar)
    return planar if judged else course.overall("volume")


def details(course: Course, leading: str) -> list[str]:
    """What changed until the last visit, one sentence for each visit it is compared with."""
    lines = []
    last = answers(course)[-1]
    other = next(row for row in course.overall() if row.visit == last.visit and row.measure != last.measure)
    if other.category != last.category:
        way = "volume" if other.measure == "volume" else "two diameters"
        status = f", {other.status}" if other.status else ""
        lines.append(f"By {way}: {CATEGORY_WORDS[other.category]} ({other.category}{status}).")
    for row, against in _compared(course, last.visit, leading):
        lines.append(f"{leading} {_change_words(row)} against {against}.")
    lines += [f"New lesion {words}." for words in _new_lesions(course, last)]
    looks = [look for episode in course.episodes[-1:] for look in episode.reader_needed]
    lines += [f"A reader is needed: {look.words}." for look in looks if look.visit == last.visit]
    bright = course.bright
    enhancing = course.change(last.visit, bright, "nadir") if bright else None
    if leading != bright and enhancing is not None and enhancing.larger_than_error == "yes":
        lines.append(f"{bright} {_change_words(enhancing)} against the smallest so far ({enhancing.reference}).")
    return lines


def _new_lesions(course: Course, last: CourseResponse) -> list[str]:
    """Lesions that are new at the last visit and not named as what decided, the largest first."""
    rows = [row for row in course.lesions if row.visit == last.visit and row.relation == "new"]
    named = f" {_with_side(course, last)}"
    rows = sorted((row for row in rows if f" {row.lesion} (" not in named), key=lambda row: -row.volume_ml)
    words = []
    for row in rows[:MOST_NEW]:
        side = f", {side_words(row.side)}" if row.side else ""
        size = f"{mm(row.long_mm)} × {mm(row.short_mm)} mm, {ml(row.volume_ml)} ml"
        words.append(f"{row.lesion} ({row.region}{side}, {size})")
    return words


def _compared(course: Course, visit: str, region: str, lesion: str = "") -> list[tuple[CourseChange, str]]:
    """Changes of a region or a lesion, one for each visit it is compared with, and that visit in words."""
    names = {"baseline": "baseline", "nadir": "the smallest so far", "last": "the visit before"}
    found: dict[str, tuple[CourseChange, list[str]]] = {}
    for against, words in names.items():
        row = course.change(visit, region, against, lesion)
        if row is not None:
            found.setdefault(row.reference, (row, []))[1].append(words)
    return [(row, f"{listed(words)} ({reference})") for reference, (row, words) in found.items()]


def _change_words(row: CourseChange) -> str:
    size = f"{signed(row.change_ml)} ml"
    if row.percent is not None:
        size = f"{change(row.percent)} ({size})"
    return f"{size}, {VERDICT_WORDS[row.larger_than_error]},"


def paired_rows(course: Course) -> list[dict[str, str | None]]:
    """Changes until the last visit that were measured in both images at once, beside the difference of the volumes."""
    label = course.visits[-1].visit
    measured = [row for row in course.changes if row.visit == label and row.paired_ml is not None]
    rows = []
    for lesion in dict.fromkeys(row.lesion for row in measured):
        for row, against in _compared(course, label, course.bright, lesion):
            if row.paired_ml is None:
                continue
            leads = row.leading == "images"
            rows.append(
                {
                    "lesion": lesion,
                    "against": against,
                    "volumes": _with_interval(row.change_ml, row.low_ml, row.high_ml),
                    "volumes_verdict": row.larger_than_error,
                    "images": _with_interval(row.paired_ml, row.paired_low_ml, row.paired_high_ml),
                    "images_verdict": row.paired_larger_than_error if leads else f"not used: {row.paired_note}",
                    "leads": "both images" if leads else "volumes",
                }
            )
    return rows


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"{signed(value)} ml"
    return f"{signed(value)} ml ({signed(low)} to {signed(high)})"


def warnings(course: Course, leading: str) -> list[str]:
    """What to know before the numbers are used."""
    lines = [sentence(words) for words in course.warnings]
    lines += [f"Visit {entry.visit} was left out: {entry.reason}" for entry in course.stopped]
    if course.dating == "no dates":
        lines.append("No dates are known: rates, confirmation and windows of time are not given.")
    lines += course.visit_warnings
    lines += _doubt(course, leading)
    if leading == course.bright and answers(course)[-1].category in ("CR", "PR") and grown_beside(course, leading):
        lines.append(
            "Enhancement became less while the tumour grew: treatment against vessels and steroids can do that without "
            "a response (pseudoresponse). Look at FLAIR."
        )
    last = answers(course)[-1].missing
    facts = [
        FACT_WORDS.get(item, item)
        for item in last.split("; ")
        if item and "not validated" not in item and "specks" not in item and item != "dates of the visits"
    ]
    if facts:
        lines.append(f"Not known, so a radiographic category only: {', '.join(facts)}.")
    return lines


def _doubt(course: Course, leading: str) -> list[str]:
    """That an answer rests on a change which may be measurement error."""
    last = answers(course)[-1]
    against = {"PD": "nadir", "PR": "baseline", "MR": "baseline"}.get(last.category, "")
    row = course.change(last.visit, leading, against)
    if row is None or row.larger_than_error != "no" or "new" in last.reasons.split(";")[0]:
        return []
    return [
        f"{last.visit} is called {last.category} for a change of {leading} that is not larger than measurement "
        "error. Look at the outlines, or confirm it by the next scan."
    ]


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
