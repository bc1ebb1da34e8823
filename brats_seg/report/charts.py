"""Charts: what all of them share, and volumes over time with intervals, categories, treatments and growth curve."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

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
Place = Callable[[float], float]
"""From days or millilitres to pixels."""
INK, SOFT, LINE = "#1b1f24", "#57606a", "#d8dee4"


@dataclass(frozen=True)
class Point:
    """A measured volume.

    Attributes:
        x: days since the first visit, or the number of the visit.
        value: millilitres.
        low: lower end of its interval; None where not known.
        high: upper end.
    """

    x: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """One region over time; ``curve`` holds ``(x, value, low, high)``, with ends where it is a prediction."""

    name: str
    colour: str
    points: tuple[Point, ...]
    curve: tuple[tuple[float, float, float | None, float | None], ...] = ()


@dataclass(frozen=True)
class Mark:
    """The category of a visit; ``words`` are shown when pointed at."""

    x: float
    category: str
    status: str
    words: str


@dataclass(frozen=True)
class Event:
    """A treatment or another event at a day."""

    x: float
    words: str


def volume_chart(
    series: Sequence[Series],
    *,
    ticks: Sequence[tuple[float, str]],
    marks: Sequence[Mark] = (),
    events: Sequence[Event] = (),
    across: Sequence[float] = (),
    height: int = 300,
) -> str:
    """One chart as SVG.

    Args:
        series: at least one, each with a point.
        ticks: place and name of each visit.
        marks: categories, in a row above the chart.
        events: treatments; each begins a band.
        across: places the axis has to hold besides, so that charts of other series line up.
        height: of the drawing, in pixels.
    """
    xs = (
        [*across, *(p.x for s in series for p in s.points)]
        + [c[0] for s in series for c in s.curve]
        + [e.x for e in events]
    )
    low_x, high_x = min(xs), max(xs)
    span = (high_x - low_x) or 1.0
    tops = [p.high if p.high is not None else p.value for s in series for p in s.points]
    tops += [c[1] if c[3] is None else c[3] for s in series for c in s.curve]
    # An interval that is open far upwards must not flatten everything else.
    most = max(p.value for s in series for p in s.points)
    step = nice_step(max(min(max(tops), 2.2 * most), 0.1))
    top_value = step * math.ceil(max(min(max(tops), 2.2 * most), 0.1) / step)
    bottom = height - 34

    def px(x: float) -> float:
        return LEFT + 14 + (x - low_x) / span * (WIDTH - LEFT - RIGHT - 28)

    def py(value: float) -> float:
        return bottom - min(max(value, 0.0), top_value) / top_value * (bottom - TOP)

    parts = _bands(events, px, bottom)
    for number in range(round(top_value / step) + 1):
        y = py(number * step)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{LINE}"/>')
        parts.append(text(LEFT - 8, y + 4, f"{number * step:g}", anchor="end", colour=SOFT))
    parts += [_tick(px(x), height - 12, name) for x, name in spaced(ticks, px)]
    for entry in series:
        parts += _series(entry, px, py, top_value)
    parts += [_mark(mark, px(mark.x)) for mark in marks]
    return svg(parts, height, _alt(series))


def nice_step(top: float, *, count: int = 4) -> float:
    """A round step that divides ``0..top`` into about ``count`` parts."""
    raw = top / count
    power = 10 ** math.floor(math.log10(raw))
    return float(next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999))


def spaced(ticks: Sequence[tuple[float, str]], px: Place) -> list[tuple[float, str]]:
    """Ticks whose words do not run into each other; the last always stays."""
    kept: list[tuple[float, str]] = []
    for tick in reversed(ticks):
        if not kept:
            kept.append(tick)
            continue
        room = (len(tick[1]) + len(kept[-1][1])) / 2 * 7.4 + 9
        if px(kept[-1][0]) - px(tick[0]) >= room:
            kept.append(tick)
    return kept[::-1]


def _tick(x: float, y: float, words: str) -> str:
    """Words under a visit, kept inside the drawing."""
    half = len(words) * 3.7
    return text(min(max(x, half + 2), WIDTH - half - 2), y, words)


def _alt(series: Sequence[Series]) -> str:
    return "Volume over time: " + "; ".join(
        f"{entry.name} " + ", ".join(f"{point.value:.1f}" for point in entry.points) + " ml" for entry in series
    )


def _bands(events: Sequence[Event], px: Place, bottom: float) -> list[str]:
    """A band from each event to the next, alternating in shade, with its name at the top."""
    parts = []
    inside = sorted(events, key=lambda event: event.x)
    for number, event in enumerate(inside):
        left = px(event.x)
        right = px(inside[number + 1].x) if number + 1 < len(inside) else WIDTH - RIGHT
        shade = "#eef4fa" if number % 2 == 0 else "#f6f1e8"
        parts.append(
            f'<rect x="{left:.1f}" y="{TOP - 8}" width="{max(right - left, 0):.1f}" height="{bottom - TOP + 8:.1f}" '
            f'fill="{shade}"/><line x1="{left:.1f}" x2="{left:.1f}" y1="{TOP - 8}" y2="{bottom:.1f}" stroke="{SOFT}" '
            'stroke-dasharray="4 3"/>'
        )
        parts.append(text(left + 5, TOP + 6 + 14 * (number % 3), event.words, anchor="start", colour=SOFT, size=12))
    return parts


def _series(entry: Series, across: Place, up: Place, top_value: float) -> list[str]:
    parts = []
    band = [c for c in entry.curve if c[2] is not None and c[3] is not None]
    if band:
        outline = [f"{across(x):.1f},{up(high):.1f}" for x, _, _, high in band if high is not None]
        outline += [f"{across(x):.1f},{up(low):.1f}" for x, _, low, _ in reversed(band) if low is not None]
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


def _mark(mark: Mark, x: float) -> str:
    """A chip with the category's letters; outlined where preliminary, struck through where refuted."""
    colour = CATEGORY_COLOURS.get(mark.category, "#FFFFFF")
    letters = "base" if mark.category == "baseline" else mark.category
    ink = "white" if mark.category in ("PD", "CR", "baseline") else INK
    dashed = ' stroke-dasharray="3 2"' if mark.status == "preliminary" else ""
    strike = f'<line x1="{x - 18:.1f}" x2="{x + 18:.1f}" y1="19" y2="19" stroke="{INK}"/>' * (mark.status == "refuted")
    title = escape(f"{mark.category} {mark.status}: {mark.words}".replace(" :", ":"))
    return (
        f'<g><title>{title}</title><rect x="{x - 19:.1f}" y="7" width="38" height="22" rx="5" fill="{colour}" '
        f'stroke="{INK}"{dashed}/>{text(x, 23, letters, colour=ink, size=13, bold=True)}{strike}</g>'
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
