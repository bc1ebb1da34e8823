"""The page of a cohort: who responded, for how long, how much; made of every patient's ``course.json``."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from brats_seg.core.course import Course, CourseResponse
from brats_seg.core.words import counted, visit_named
from brats_seg.report.charts import nice_step
from brats_seg.report.html import DISCLAIMER
from brats_seg.report.pages import CATEGORY_COLOURS, SOFT, WIDTH, drawing, page
from brats_seg.report.tables import change
from brats_seg.report.timeline_words import CATEGORY_WORDS, EVENT_WORDS

_ROW = 26
_NARROW = 30
"""Bars of fewer pixels carry no words."""
_MOST_NAMED = 12
"""Lines that are named at their end; more would run into each other."""
_LEFT, _RIGHT = 190, 30


def render_cohort(courses: Sequence[Course], failed: Sequence[tuple[str, str]]) -> str:
    """The whole page.

    Args:
        failed: name of each patient that could not be followed, and why.
    """
    ordered = sorted(courses, key=lambda course: (-_length(course), course.patient))
    undated = sum(_length(course) == 0 for course in courses)
    left_out = f" Without dates, and so not shown: {undated}." if undated else ""
    drawings = [
        ("Swimmer", "One bar a patient from the first visit to the last; marks are the response of each visit by "
         f"volume, dashed where preliminary; dashed lines are treatments.{left_out}", swimmer(ordered)),
        ("Waterfall", "Best change of the judged volume against baseline, by patient.", waterfall(courses)),
        ("Spider", f"Change of the judged volume against baseline over time.{left_out}", spider(courses)),
    ]  # fmt: skip
    return page(
        "cohort.html.j2",
        disclaimer=DISCLAIMER,
        headline=_headline(courses, failed),
        drawings=[entry for entry in drawings if entry[2]],
        legend=[(name, CATEGORY_WORDS[name], colour) for name, colour in CATEGORY_COLOURS.items()],
        courses=sorted(courses, key=lambda course: course.patient),
        of_episodes=_of_episodes,
        best_change=_best_change,
        failed=[
            *(f"{patient}: {why}" for patient, why in failed),
            *(f"{course.patient}, {visit_named(entry.visit)}: {entry.reason}"
              for course in courses for entry in course.stopped),
        ],
    )  # fmt: skip


def swimmer(courses: Sequence[Course]) -> Markup:
    """Bars of time with the category of every visit; empty where no patient has dates."""
    dated = [course for course in courses if _length(course) > 0]
    if not dated:
        return Markup("")
    longest = max(_length(course) for course in dated)
    bars = []
    for number, course in enumerate(dated):
        events = [
            (min(max(event.days_since_first, 0), longest), f"{EVENT_WORDS[event.event]} {event.date}")
            for event in course.events
            if event.event in EVENT_WORDS and event.days_since_first is not None
        ]
        days = {visit.visit: visit.days_since_first or 0 for visit in course.visits}
        visits = [(days[row.visit], row) for row in course.overall("volume")]
        bars.append((_short(course.patient), 12 + number * _ROW, _length(course), events, visits))
    bottom = 12 + len(dated) * _ROW
    told = (f"{c.patient} " + ", ".join(row.category for row in c.overall("volume")) for c in dated)
    alt = "Swimmer plot: " + "; ".join(told)
    return drawing("swimmer.svg.j2", bottom + 40, alt, bars=bars, axis=_axis(longest, bottom))


def waterfall(courses: Sequence[Course]) -> Markup:
    """A bar for each patient's best change; empty where there is none."""
    found = [(best, course) for course in courses if (best := _best_change(course)) is not None]
    if not found:
        return Markup("")
    found.sort(key=lambda entry: -entry[0])
    top, bottom = 26, 270
    bests = [best for best, _ in found]
    high, low = max(25.0, *(min(best, 200.0) for best in bests)), min(-70.0, *bests)
    # Progression is judged against the smallest volume and not against baseline, so that it has no line here.
    partial = sorted({float(course.partial_volume_percent) for _, course in found})
    limits = [(0.0, "0 %"), *((value, f"PR from {value:+.0f} %") for value in partial)]
    return drawing(
        "waterfall.svg.j2",
        360,
        "Waterfall plot: " + "; ".join(f"{course.patient} {best:+.0f} %" for best, course in found),
        left=_LEFT,
        right=WIDTH - _RIGHT,
        bottom=bottom,
        wide=(WIDTH - _LEFT - _RIGHT) / len(found),
        narrow=_NARROW,
        py=lambda value: top + (high - min(value, high)) / (high - low) * (bottom - top),
        limits=[(limit, words) for limit, words in limits if low <= limit <= high],
        bars=[(best, course.patient, _best_category(course)) for best, course in found],
        change=change,
        short=_short,
    )


def spider(courses: Sequence[Course]) -> Markup:
    """A line for each patient; empty where no patient has dates."""
    found = [(course, points) for course in courses if len(points := _percents(course)) > 1 and _length(course) > 0]
    if not found:
        return Markup("")
    longest = max(day for _, points in found for day, _ in points) or 1
    top, bottom, low, high = 16, 270, -100.0, 200.0
    colours = {**CATEGORY_COLOURS, "NE": SOFT, "SD": SOFT}
    return drawing(
        "spider.svg.j2",
        bottom + 40,
        "Spider plot: " + "; ".join(course.patient for course, _ in found),
        py=lambda value: top + (high - min(value, high)) / (high - low) * (bottom - top),
        lines=[(course.patient, colours[_best_category(course)], points) for course, points in found],
        most_named=_MOST_NAMED,
        longest=longest,
        axis=_axis(longest, bottom),
        short=_short,
    )


def _headline(courses: Sequence[Course], failed: Sequence[tuple[str, str]]) -> str:
    count = len(courses)
    words = f"{counted(count, 'patient')} followed"
    progressed = sum(any(episode.progression["volume"] for episode in course.episodes) for course in courses)
    words += f", {progressed} with progression by volume"
    return words + (f", {len(failed)} failed." if failed else ".")


def _of_episodes(course: Course, what: str, measure: str) -> list[dict[str, str]]:
    """An answer of each treatment episode that has one, with its visit where there are several or it is a date."""
    found = [answer for episode in course.episodes if (answer := getattr(episode, what)[measure])]
    has_visit = what == "progression" or len(found) > 1
    return [
        {"category": a.category, "note": ", ".join(filter(None, (a.visit if has_visit else "", a.status)))}
        for a in found
    ]


def _best_category(course: Course) -> str:
    best = course.best["volume"]
    return best.category if best else "NE"


def _judged(course: Course) -> list[CourseResponse]:
    """Answers by volume for the compartment that is judged."""
    compartment = "non_enhancing" if course.disease == "non_enhancing" else "enhancing"
    return [row for row in course.responses if row.compartment == compartment and row.measure == "volume"]


def _percents(course: Course) -> list[tuple[float, float]]:
    """Days since the first visit and change against baseline of the judged compartment, by volume."""
    days = {visit.visit: visit.days_since_first for visit in course.visits}
    points = []
    for row in _judged(course):
        day, change = days[row.visit], "0" if row.category == "baseline" else row.percent_from_baseline
        if day is not None and change:
            points.append((float(day), float(change)))
    return points


def _best_change(course: Course) -> float | None:
    return min((float(row.percent_from_baseline) for row in _judged(course) if row.percent_from_baseline), default=None)


def _length(course: Course) -> float:
    return float(course.visits[-1].days_since_first or 0)


def _axis(longest: float, bottom: float) -> dict[str, float]:
    step = nice_step(longest, count=6)
    scale = (WIDTH - _LEFT - _RIGHT) / longest
    count = int(longest / step) + 1
    return {"left": _LEFT, "right": WIDTH - _RIGHT, "bottom": bottom, "step": step, "scale": scale, "count": count}


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:21]}…"
