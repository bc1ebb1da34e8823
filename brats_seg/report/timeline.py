"""The timeline page of a patient: one HTML file that loads nothing, two A4 pages in print.

It is made of what ``course.json`` and ``growth.json`` hold, so that it shows exactly what the tables say.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from brats_seg.core.course import Course, CourseLesion, CourseVisit
from brats_seg.core.labels import CAVITY, Region
from brats_seg.report.charts import Mark, Point, Series, volume_chart
from brats_seg.report.figures import Picture
from brats_seg.report.html import DISCLAIMER
from brats_seg.report.pages import page
from brats_seg.report.tables import ml, mm
from brats_seg.report.timeline_words import (
    EVENT_WORDS,
    answers,
    details,
    growth_refusal,
    growth_rows,
    headline,
    paired_rows,
    warnings,
)

LINE_LUMINANCE = 0.3
"""Most a line on white may have: contrast 3 to 1, as WCAG 2.1 (1.4.11) wants of graphics."""
MOST_LESIONS = 12
"""Rows of the table of lesions; the rest is in lesions.csv."""
MOST_COLUMNS = 9
"""Visits side by side in it; more would run off the paper."""
SLIDER_SCRIPT = (
    "document.querySelectorAll('.slider input').forEach(function(i){function f(){i.parentNode.style.setProperty("
    "'--cut',i.value+'%')}i.addEventListener('input',f);f()})"
)
"""The page's only script; its checksum in the page's policy lets no other run."""


@dataclass(frozen=True)
class TimelinePictures:
    """Pictures of the page.

    Attributes:
        rows: name of a sequence, and the same slice of each visit shown.
        slider: the baseline and the last visit, large; empty with one visit.
        place: where the slice lies, in words.
    """

    rows: tuple[tuple[str, tuple[Picture, ...]], ...]
    slider: tuple[Picture, ...]
    place: str


def render_timeline(
    course: Course, growth: Sequence[Mapping[str, Any]], pictures: TimelinePictures, *, cohort: str = ""
) -> str:
    """The whole page.

    Args:
        growth: entries of ``growth.json``, each with the points of its ``curve``.
        cohort: where the page of all patients lies; empty without one.
    """
    digest = base64.b64encode(hashlib.sha256(SLIDER_SCRIPT.encode()).digest()).decode()
    regions, leading = course.regions, course.leading
    order = regions.names[::-1]
    return page(
        "timeline.html.j2",
        course=course,
        cohort=cohort,
        disclaimer=DISCLAIMER,
        headline=headline(course, leading),
        details=details(course, leading),
        warnings=warnings(course, leading),
        charts=_charts(course, growth, leading),
        leading=leading,
        regions=[(name, regions.title(name), line_colour(regions[name].colour)) for name in order],
        has_cavity=any(row.region == CAVITY.name and row.volume_ml > 0 for row in course.volumes),
        volumes={(row.visit, row.region): row for row in course.volumes},
        answers={(row.visit, row.measure): row for row in course.overall()},
        when=_when,
        followed=[(region.name, region.title) for region in regions.followed],
        lesions=_lesion_table(course),
        paired=paired_rows(course),
        error_from="; ".join(dict.fromkeys(row.error_from for row in course.changes)) or "not known",
        growth=growth_rows(growth, order),
        growth_refusal=growth_refusal(growth),
        pictures=pictures,
        colours=regions.colours,
        script=Markup(SLIDER_SCRIPT),
        digest=digest,
    )


def line_colour(colour: str) -> str:
    """A colour of the pictures, dark enough for a line on white."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    share = min(1.0, LINE_LUMINANCE / max(luminance, 1e-6)) ** (1 / 2.4)
    return "#" + "".join(f"{round(255 * share * value):02X}" for value in channels)


def _when(visit: CourseVisit) -> str:
    """When a visit was; nothing where its name says so, or where it is not known."""
    return "" if visit.when is None or visit.when in visit.visit else visit.when


def _charts(course: Course, growth: Sequence[Mapping[str, Any]], leading: str) -> list[tuple[str, Markup]]:
    """The judged region with categories, treatments and its growth curve; below it the others."""
    days = {visit.visit: visit.days_since_first for visit in course.visits}
    places = {visit: float(number if day is None else day) for number, (visit, day) in enumerate(days.items())}
    ticks = [(places[v.visit], " · ".join(filter(None, (v.visit, _when(v))))) for v in course.visits]
    events = [
        (float(event.days_since_first), EVENT_WORDS[event.event])
        for event in course.events
        if event.event in EVENT_WORDS and event.event != "baseline" and event.days_since_first is not None
    ]
    marks = [Mark(places[r.visit], r.category, r.status, r.reasons) for r in answers(course)]
    regions = course.regions
    series = {region.name: _series(course, growth, region, places) for region in reversed(regions.regions)}
    # What the label maps do not tell has no points.
    others = [name for name in series if name != leading and series[name].points]
    across = [*places.values(), *(point.x for s in series.values() for point in s.curve)]
    charts = []
    if series[leading].points:
        drawing = volume_chart([series[leading]], ticks=ticks, marks=marks, events=events, across=across, height=330)
        charts.append((f"{leading}, {regions.title(leading)}", drawing))
    if others:
        drawing = volume_chart([series[name] for name in others], ticks=ticks, events=events, across=across, height=230)
        charts.append((" and ".join(f"{name}, {regions.title(name)}" for name in others), drawing))
    return charts


def _series(course: Course, growth: Sequence[Mapping[str, Any]], region: Region, places: Mapping[str, float]) -> Series:
    points = []
    for row in course.volumes:
        if row.region != region.name or math.isnan(row.volume_ml):
            continue
        points.append(Point(places[row.visit], row.volume_ml, row.low_ml, row.high_ml))
    curve = [Point(*point) for entry in growth if entry["region"] == region.name for point in entry["curve"]]
    return Series(region.name, line_colour(region.colour), tuple(points), tuple(curve))


def _lesion_table(course: Course) -> dict[str, Any]:
    """Each lesion's row through time, the largest first."""
    cells: dict[tuple[str, str], dict[str, CourseLesion]] = {}
    for row in course.lesions:
        cells.setdefault((row.region, row.lesion), {})[row.visit] = row
    bright = course.bright
    order = sorted(
        cells, key=lambda key: (key[0] != bright, -max(row.volume_ml for row in cells[key].values()), key[1])
    )
    rows = []
    for region, lesion in order[:MOST_LESIONS]:
        found = cells[region, lesion]
        rows.append(
            {
                "region": region,
                "lesion": lesion,
                "cells": [_lesion_cell(found.get(visit.visit)) for visit in course.visits],
            }
        )
    columns = [slice(first, first + MOST_COLUMNS) for first in range(0, len(course.visits), MOST_COLUMNS)]
    return {"rows": rows, "columns": columns, "left_out": max(len(order) - MOST_LESIONS, 0)}


def _lesion_cell(row: CourseLesion | None) -> dict[str, str]:
    if row is None:
        return {"main": "", "note": ""}
    if not row.pieces:
        partner = f" into {row.partner}" if row.partner and row.relation == "merged" else ""
        return {"main": "\u2013", "note": f"{row.relation}{partner}"}
    note = "" if row.relation in ("first", "same") else row.relation
    if row.relation == "split" and row.partner:
        note = f"split from {row.partner}"
    size = f"{mm(row.long_mm)} × {mm(row.short_mm)} mm"
    return {"main": f"{ml(row.volume_ml)} ml", "note": f"{size}{', ' + note if note else ''}"}
