"""The page of a cohort: who responded, for how long, how much; made of every patient's ``course.json``."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from brats_seg.core.course import Answer, Course, CourseResponse
from brats_seg.core.words import counted, visit_named
from brats_seg.report.charts import CATEGORY_COLOURS, INK, LINE, SOFT, WIDTH, nice_step, svg, text
from brats_seg.report.html import DISCLAIMER
from brats_seg.report.pages import page
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
        drawings=[(title, words, Markup(drawing)) for title, words, drawing in drawings if drawing],
        legend=[(name, CATEGORY_WORDS[name], colour) for name, colour in CATEGORY_COLOURS.items()],
        rows=[_row(course) for course in sorted(courses, key=lambda course: course.patient)],
        failed=[
            *(f"{patient}: {why}" for patient, why in failed),
            *(f"{course.patient}, {visit_named(entry.visit)}: {entry.reason}"
              for course in courses for entry in course.stopped),
        ],
    )  # fmt: skip


def swimmer(courses: Sequence[Course]) -> str:
    """Bars of time with the category of every visit; empty where no patient has dates."""
    dated = [course for course in courses if _length(course) > 0]
    if not dated:
        return ""
    longest = max(_length(course) for course in dated)
    scale = (WIDTH - _LEFT - _RIGHT) / longest
    parts = []
    for number, course in enumerate(dated):
        y = 12 + number * _ROW
        parts.append(text(_LEFT - 12, y + 13, _short(course.patient), anchor="end"))
        parts.append(
            f'<rect x="{_LEFT}" y="{y + 4}" width="{_length(course) * scale:.1f}" height="10" rx="3" fill="#e3e8ee"/>'
        )
        for event in course.events:
            if event.event in EVENT_WORDS and event.days_since_first is not None:
                x = _LEFT + min(max(event.days_since_first, 0), longest) * scale
                parts.append(
                    f'<path d="M{x:.1f} {y - 2}v22" stroke="{INK}" stroke-width="1.5" stroke-dasharray="3 2">'
                    f"<title>{escape(EVENT_WORDS[event.event])} {escape(event.date)}</title></path>"
                )
        days = {visit.visit: visit.days_since_first for visit in course.visits}
        for row in course.overall("volume"):
            x = _LEFT + (days[row.visit] or 0) * scale
            parts.append(_dot(x, y + 9, row))
    bottom = 12 + len(dated) * _ROW
    parts += _axis(longest, scale, bottom)
    return svg(parts, bottom + 40, "Swimmer plot: " + "; ".join(_alt(course) for course in dated))


def waterfall(courses: Sequence[Course]) -> str:
    """A bar for each patient's best change; empty where there is none."""
    found = [(best, course) for course in courses if (best := _best_change(course)) is not None]
    if not found:
        return ""
    found.sort(key=lambda entry: -entry[0])
    height, top, bottom = 360, 26, 270
    bests = [best for best, _ in found]
    high, low = max(25.0, *(min(best, 200.0) for best in bests)), min(-70.0, *bests)
    width = (WIDTH - _LEFT - _RIGHT) / len(found)

    def py(value: float) -> float:
        return top + (high - min(value, high)) / (high - low) * (bottom - top)

    parts = []
    # Progression is judged against the smallest volume and not against baseline, so that it has no line here.
    partial = sorted({float(course.partial_volume_percent) for _, course in found})
    for limit, words in ((0.0, "0 %"), *((value, f"PR from {value:+.0f} %") for value in partial)):
        if low <= limit <= high:
            parts.append(
                f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{py(limit):.1f}" y2="{py(limit):.1f}" stroke="{SOFT}" '
                f'stroke-dasharray="{"0" if limit == 0 else "4 3"}"/>'
            )
            parts.append(text(_LEFT - 12, py(limit) + 4, words, anchor="end", colour=SOFT))
    for number, (best, course) in enumerate(found):
        x = _LEFT + number * width
        y, base = py(best), py(0)
        parts.append(
            f'<rect x="{x + width * 0.12:.1f}" y="{min(y, base):.1f}" width="{width * 0.76:.1f}" '
            f'height="{max(abs(y - base), 1):.1f}" fill="{CATEGORY_COLOURS[_best_category(course)]}" stroke="{INK}" '
            f'stroke-width=".5"><title>{escape(course.patient)} {best:+.0f} %</title></rect>'
        )
        if width >= _NARROW:
            above = min(y, base) - 5 if best >= 0 else max(y, base) + 15
            parts.append(text(x + width / 2, above, change(best), size=12))
            parts.append(text(x + width / 2, bottom + 26, _short(course.patient), anchor="end", size=12, slant=-30))
    alt = "; ".join(f"{course.patient} {best:+.0f} %" for best, course in found)
    return svg(parts, height, f"Waterfall plot: {alt}")


def spider(courses: Sequence[Course]) -> str:
    """A line for each patient; empty where no patient has dates."""
    lines = [(course, points) for course in courses if len(points := _percents(course)) > 1 and _length(course) > 0]
    if not lines:
        return ""
    longest = max(day for _, points in lines for day, _ in points) or 1
    scale = (WIDTH - _LEFT - _RIGHT) / longest
    top, bottom, low, high = 16, 270, -100.0, 200.0

    def py(value: float) -> float:
        return top + (high - min(value, high)) / (high - low) * (bottom - top)

    parts = []
    for value in (-100, -50, 0, 50, 100, 200):
        parts.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{py(value):.1f}" y2="{py(value):.1f}" stroke="{LINE}"/>'
        )
        words = "+200 % and more" if value == high else f"{value:+d} %" if value else "0 %"
        parts.append(text(_LEFT - 12, py(value) + 4, words, anchor="end", colour=SOFT))
    for course, points in lines:
        colour = CATEGORY_COLOURS[_best_category(course)]
        colour = SOFT if colour in ("#FFFFFF", "#C8CCD1") else colour
        path = " ".join(f"{_LEFT + day * scale:.1f},{py(percent):.1f}" for day, percent in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"><title>'
            f"{escape(course.patient)}</title></polyline>"
        )
        parts += [
            f'<circle cx="{_LEFT + day * scale:.1f}" cy="{py(percent):.1f}" r="3.5" fill="{colour}"/>'
            for day, percent in points
        ]
        if len(lines) <= _MOST_NAMED:
            day, percent = points[-1]
            inside = day < 0.85 * longest
            x = _LEFT + day * scale + (8 if inside else -8)
            parts.append(text(x, py(percent) - 7, _short(course.patient), anchor="start" if inside else "end",
                               size=12))  # fmt: skip
    parts += _axis(longest, scale, bottom)
    return svg(parts, bottom + 40, "Spider plot: " + "; ".join(course.patient for course, _ in lines))


def _headline(courses: Sequence[Course], failed: Sequence[tuple[str, str]]) -> str:
    count = len(courses)
    words = f"{counted(count, 'patient')} followed"
    progressed = sum(any(episode.progression["volume"] for episode in course.episodes) for course in courses)
    words += f", {progressed} with progression by volume"
    return words + (f", {len(failed)} failed." if failed else ".")


def _row(course: Course) -> dict[str, Any]:
    best_change = _best_change(course)
    return {
        "patient": course.patient,
        "page": f"{course.patient}/{course.patient}_timeline.html",
        "visits": len(course.visits),
        "days": "" if course.visits[-1].days_since_first is None else course.visits[-1].days_since_first,
        "disease": course.disease.replace("_", "-"),
        "best": _of_episodes(course, "best", "2d"),
        "best_volume": _of_episodes(course, "best", "volume"),
        "change": "" if best_change is None else change(best_change),
        "progression": _of_episodes(course, "progression", "volume") or _of_episodes(course, "progression", "2d"),
    }


def _of_episodes(course: Course, what: str, measure: str) -> list[dict[str, str]]:
    """An answer of each treatment episode that has one, with its visit where there are several or it is a date."""
    found = [answer for episode in course.episodes if (answer := getattr(episode, what)[measure])]
    return [_answer(answer, with_visit=what == "progression" or len(found) > 1) for answer in found]


def _answer(answer: Answer, *, with_visit: bool) -> dict[str, str]:
    words = [answer.visit] if with_visit else []
    words += [answer.status] if answer.status else []
    return {"category": answer.category, "note": ", ".join(words)}


def _best_category(course: Course) -> str:
    best = course.best["volume"]
    return best.category if best else "NE"


def _judged(course: Course) -> str:
    return "non_enhancing" if course.disease == "non_enhancing" else "enhancing"


def _percents(course: Course) -> list[tuple[float, float]]:
    """Days since the first visit and change against baseline of the judged compartment, by volume."""
    days = {visit.visit: visit.days_since_first for visit in course.visits}
    points = []
    for row in course.responses:
        if row.compartment != _judged(course) or row.measure != "volume":
            continue
        day = days[row.visit]
        if day is None:
            continue
        if row.category == "baseline":
            points.append((float(day), 0.0))
        elif row.percent_from_baseline:
            points.append((float(day), float(row.percent_from_baseline)))
    return points


def _best_change(course: Course) -> float | None:
    found = [
        float(row.percent_from_baseline)
        for row in course.responses
        if row.compartment == _judged(course) and row.measure == "volume" and row.percent_from_baseline
    ]
    return min(found) if found else None


def _length(course: Course) -> float:
    return float(course.visits[-1].days_since_first or 0)


def _alt(course: Course) -> str:
    return f"{course.patient} " + ", ".join(row.category for row in course.overall("volume"))


def _dot(x: float, y: float, row: CourseResponse) -> str:
    colour = CATEGORY_COLOURS[row.category]
    words = escape(f"{row.visit}: {row.category} {row.status}".strip())
    dashed = ' stroke-dasharray="2 2"' if row.status == "preliminary" else ""
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="8"'
    return f'<circle {place} fill="{colour}" stroke="{INK}"{dashed}><title>{words}</title></circle>'


def _axis(longest: float, scale: float, bottom: float) -> list[str]:
    step = nice_step(longest, count=6)
    parts = [f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom + 4}" y2="{bottom + 4}" stroke="{SOFT}"/>']
    for number in range(int(longest / step) + 1):
        parts.append(text(_LEFT + number * step * scale, bottom + 22, f"{number * step:g}", colour=SOFT))
    parts.append(text(WIDTH - _RIGHT, bottom + 36, "days since the first visit", anchor="end", colour=SOFT))
    return parts


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:21]}…"
