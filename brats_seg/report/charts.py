"""Charts: what all of them share, and volumes over time with intervals, categories, treatments and growth curve."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from brats_seg.report.pages import LINE, SOFT, WIDTH, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT, RIGHT, TOP = 64, 24, 44
CHIP, GAP = 38, 9
"""Width of a category's chip, and the least between two dates under a chart, in pixels."""
Place = Callable[[float], float]
"""From days or millilitres to pixels."""


class Point(NamedTuple):
    """A volume in ml at so many days since the first visit, or at a visit's number; ends of its interval, if known."""

    x: float
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def has_ends(self) -> bool:
        """Whether both ends of its interval are known."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class Series:
    """One region over time as it was measured, and its curve, with ends where that is a prediction."""

    name: str
    colour: str
    points: tuple[Point, ...]
    curve: tuple[Point, ...] = ()

    @property
    def forecast(self) -> list[Point]:
        """Where the curve predicts."""
        return [point for point in self.curve if point.has_ends]


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
) -> Markup:
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

    def path(points: Sequence[Point], what: str = "value") -> str:
        return " ".join(f"{px(point.x):.1f},{py(getattr(point, what)):.1f}" for point in points)

    begun = sorted(events, key=lambda event: event[0])
    ends = [*(px(x) for x, _ in begun[1:]), WIDTH - RIGHT]
    places = apart([px(mark.x) for mark in marks], CHIP + 2)
    wide = min([CHIP, *(right - left - 2 for left, right in pairwise(places))])
    told = (f"{entry.name} " + ", ".join(f"{point.value:.1f}" for point in entry.points) + " ml" for entry in series)
    return drawing(
        "volumes.svg.j2",
        height,
        "Volume over time: " + "; ".join(told),
        px=px,
        py=py,
        path=path,
        breadth=breadth,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=bottom,
        top_value=top_value,
        levels=[number * step for number in range(round(top_value / step) + 1)],
        bands=[(px(x), right, words) for (x, words), right in zip(begun, ends, strict=False)],
        ticks=spaced(ticks, px),
        series=series,
        marks=list(zip(marks, places, strict=True)),
        wide=wide,
        letters_px=max(round(13 * wide / CHIP), 6),
    )


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
