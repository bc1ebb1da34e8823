"""Charts: what all of them share, and volumes over time with intervals, categories, treatments and growth curve."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CATEGORY_COLOURS = {
    "CR": "#009E73",
    "PR": "#56B4E9",
    "MR": "#A6D5F0",
    "SD": "#C8CCD1",
    "PD": "#D55E00",
    "NE": "#FFFFFF",
    "baseline": "#1B1F24",
}
"""Okabe and Ito's colours; every mark also holds its letters."""

WIDTH = 1100
LEFT, RIGHT, TOP = 64, 24, 44
CHIP, GAP = 38, 9
"""Width of a category's chip, and the least between two dates under a chart, in pixels."""
Place = Callable[[float], float]
"""From days or millilitres to pixels."""
INK, SOFT, LINE = "#1b1f24", "#57606a", "#d8dee4"


class Point(NamedTuple):
    """A volume in ml at so many days since the first visit, or at a visit's number; ends of its interval, if known."""

    x: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """One region over time as it was measured, and its curve, with ends where that is a prediction."""

    name: str
    colour: str
    points: tuple[Point, ...]
    curve: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Mark:
    """The category of a visit; ``words`` are shown when pointed at."""

    x: float
    category: str
    status: str
    words: str


def volume_chart(
    series: Sequence[Series],
    *,
    ticks: Sequence[tuple[float, str]],
    marks: Sequence[Mark] = (),
    events: Sequence[tuple[float, str]] = (),
    across: Sequence[float] = (),
    height: int = 300,
) -> str:
    """One chart as SVG.

    Args:
        series: at least one, each with a point.
        ticks: place and name of each visit.
        marks: categories, in a row above the chart.
        events: place and name of each treatment; each begins a band.
        across: places the axis has to hold besides, so that charts of other series line up.
        height: of the drawing, in pixels.
    """
    points = [point for entry in series for point in (*entry.points, *entry.curve)]
    xs = [*across, *(point.x for point in points), *(x for x, _ in events)]
    low_x, high_x = min(xs), max(xs)
    span = (high_x - low_x) or 1.0
    tops = [point.value if point.high is None else point.high for point in points]
    # An interval that is open far upwards must not flatten everything else.
    most = max(p.value for s in series for p in s.points)
    top = max(min(max(tops), 2.2 * most), 0.1)
    step = nice_step(top)
    top_value = step * math.ceil(top / step)
    bottom = height - 34

    def px(x: float) -> float:
        return LEFT + 14 + (x - low_x) / span * (WIDTH - LEFT - RIGHT - 28)

    def py(value: float) -> float:
        return bottom - min(max(value, 0.0), top_value) / top_value * (bottom - TOP)

    shades, names = _bands(events, px, bottom)
    parts = [*shades]
    for number in range(round(top_value / step) + 1):
        y = py(number * step)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{LINE}"/>')
        parts.append(text(LEFT - 8, y + 4, f"{number * step:g}", anchor="end", colour=SOFT))
    parts += names
    parts += [_tick(px(x), height - 12, name) for x, name in spaced(ticks, px)]
    for entry in series:
        parts += _series(entry, px, py, top_value)
    places = apart([px(mark.x) for mark in marks], CHIP + 2)
    wide = min([CHIP, *(right - left - 2 for left, right in pairwise(places))])
    parts += [_mark(mark, place, px(mark.x), wide) for mark, place in zip(marks, places, strict=True)]
    return svg(parts, height, _alt(series))


def nice_step(top: float, *, count: int = 4) -> float:
    """A round step that divides ``0..top`` into about ``count`` parts."""
    raw = top / count
    power = 10 ** math.floor(math.log10(raw))
    return float(next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999))


def spaced(ticks: Sequence[tuple[float, str]], px: Place) -> list[tuple[float, str]]:
    """Ticks whose words do not run into each other; the last always stays."""
    kept: list[tuple[float, str]] = []
    free = math.inf
    for x, words in reversed(ticks):
        half = breadth(words) / 2
        middle = min(max(px(x), half), WIDTH - half)
        if middle + half + GAP <= free:
            kept.append((x, words))
            free = middle - half
    return kept[::-1]


def breadth(words: str, size: int = 13) -> float:
    """Pixels that words take at most: of the fonts a page is shown and printed in, DejaVu Sans is the widest."""
    return 0.64 * size * len(words)


def _tick(x: float, y: float, words: str) -> str:
    """Words under a visit, kept inside the drawing in any font."""
    half = breadth(words) / 2
    if x < half:
        return text(0, y, words, anchor="start")
    return text(WIDTH, y, words, anchor="end") if x > WIDTH - half else text(x, y, words)


def apart(places: Sequence[float], least: float) -> list[float]:
    """Places from left to right moved as little as keeps them ``least`` apart and in the drawing, closer where many."""
    low, high = CHIP / 2 + 1, WIDTH - CHIP / 2 - 1
    least = min(least, (high - low) / max(len(places) - 1, 1))
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least) if moved else max(place, low))
    for number, place in reversed(list(enumerate(moved))):
        moved[number] = min(place, high - least * (len(moved) - 1 - number))
    return moved


def _alt(series: Sequence[Series]) -> str:
    return "Volume over time: " + "; ".join(
        f"{entry.name} " + ", ".join(f"{point.value:.1f}" for point in entry.points) + " ml" for entry in series
    )


def _bands(events: Sequence[tuple[float, str]], px: Place, bottom: float) -> tuple[list[str], list[str]]:
    """A band from each event to the next, alternating in shade, and its name at the top, which nothing may cover."""
    parts, names = [], []
    inside = sorted(events, key=lambda event: event[0])
    for number, (x, words) in enumerate(inside):
        left = px(x)
        right = px(inside[number + 1][0]) if number + 1 < len(inside) else WIDTH - RIGHT
        shade = "#eef4fa" if number % 2 == 0 else "#f6f1e8"
        parts.append(
            f'<rect x="{left:.1f}" y="{TOP - 8}" width="{max(right - left, 0):.1f}" height="{bottom - TOP + 8:.1f}" '
            f'fill="{shade}"/><line x1="{left:.1f}" x2="{left:.1f}" y1="{TOP - 8}" y2="{bottom:.1f}" stroke="{SOFT}" '
            'stroke-dasharray="4 3"/>'
        )
        cut = left + 5 + breadth(words, 12) > WIDTH
        place, anchor = (left - 5, "end") if cut else (left + 5, "start")
        names.append(text(place, TOP + 14 + 14 * (number % 3), words, anchor=anchor, colour=SOFT, size=12))
    return parts, names


def _series(entry: Series, across: Place, up: Place, top_value: float) -> list[str]:
    parts = []
    band = [(x, low, high) for x, _, low, high in entry.curve if low is not None and high is not None]
    if band:
        outline = [f"{across(x):.1f},{up(high):.1f}" for x, _, high in band]
        outline += [f"{across(x):.1f},{up(low):.1f}" for x, low, _ in reversed(band)]
        parts.append(f'<polygon points="{" ".join(outline)}" fill="{entry.colour}" fill-opacity=".22"/>')
    if entry.curve:
        path = " ".join(f"{across(x):.1f},{up(value):.1f}" for x, value, _, _ in entry.curve)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{entry.colour}" stroke-width="2" stroke-dasharray="6 5"/>'
        )
    line = " ".join(f"{across(point.x):.1f},{up(point.value):.1f}" for point in entry.points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{entry.colour}" stroke-width="2.5"/>')
    for point in entry.points:
        x = across(point.x)
        if point.low is not None and point.high is not None:
            parts.append(_whisker(entry.colour, x, up(point.low), up(point.high), goes_on=point.high > top_value))
        interval = "" if point.low is None or point.high is None else f" ({point.low:.2f} to {point.high:.2f})"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{up(point.value):.1f}" r="4.5" fill="{entry.colour}" stroke="white">'
            f"<title>{escape(entry.name)} {point.value:.2f} ml{interval}</title></circle>"
        )
    return parts


def _whisker(colour: str, x: float, low: float, high: float, *, goes_on: bool) -> str:
    """An interval; an arrow instead of a bar where it goes on above the chart."""
    end = f"M{x - 5:.1f} {high + 7:.1f}L{x:.1f} {high:.1f}l5 7" if goes_on else f"M{x - 5:.1f} {high:.1f}h10"
    return (
        f'<path d="{end}M{x:.1f} {high:.1f}V{low:.1f}M{x - 5:.1f} {low:.1f}h10" stroke="{colour}" '
        'stroke-width="1.5" fill="none"/>'
    )


def _mark(mark: Mark, x: float, at: float, wide: float) -> str:
    """A chip with the category's letters at ``x``; outlined where preliminary, struck through where refuted.

    A line leads to its visit ``at`` another place.
    """
    colour = CATEGORY_COLOURS.get(mark.category, "#FFFFFF")
    letters = "base" if mark.category == "baseline" else mark.category
    ink = "white" if mark.category in ("PD", "CR", "baseline") else INK
    dashed = ' stroke-dasharray="3 2"' if mark.status == "preliminary" else ""
    strike = f'<line x1="{x - wide / 2 + 1:.1f}" x2="{x + wide / 2 - 1:.1f}" y1="19" y2="19" stroke="{INK}"/>' * (
        mark.status == "refuted"
    )
    led = f'<path d="M{x:.1f} 29L{at:.1f} {TOP - 8}" stroke="{SOFT}"/>' if abs(x - at) > 1 else ""
    title = escape(f"{mark.category} {mark.status}: {mark.words}".replace(" :", ":"))
    size = max(round(13 * wide / CHIP), 6)
    return (
        f'<g><title>{title}</title>{led}<rect x="{x - wide / 2:.1f}" y="7" width="{wide:.1f}" height="22" rx="5" '
        f'fill="{colour}" stroke="{INK}"{dashed}/>{text(x, 23, letters, colour=ink, size=size, bold=True)}{strike}</g>'
    )


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "middle",
    colour: str = INK,
    size: int = 13,
    bold: bool = False,
    slant: float = 0.0,
) -> str:
    """Words at a place of a drawing; ``slant`` turns them, in degrees, so that long ones fit under a bar."""
    weight = ' font-weight="600"' if bold else ""
    turned = f' transform="rotate({slant:g} {x:.1f} {y:.1f})"' if slant else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"{weight}{turned}>'
        f"{escape(words)}</text>"
    )


def svg(parts: Sequence[str], height: float, alt: str) -> str:
    """A drawing as wide as the page."""
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(alt)}">{"".join(parts)}</svg>'


def tidy(axis: Axes) -> None:
    """The house style of a plot: no box, quiet ticks, a faint grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, colors=SOFT)
    axis.grid(axis="y", linewidth=0.4, color=LINE)
    axis.set_axisbelow(True)


def png_of(figure: Figure) -> bytes:
    """A figure as PNG bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # Without the software's name the same data give the same bytes whatever matplotlib drew them.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
