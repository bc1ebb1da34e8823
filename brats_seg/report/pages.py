"""HTML pages from one template: self-contained, without scripts of others or outside resources.

A page is made of parts that are escaped already (:class:`markupsafe.Markup`); plain text in cells and lines is
escaped as it is put in.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from brats_seg.core.words import side_words
from brats_seg.report.tables import change, interval, ml, mm, plain, reservations, short_hash, signed

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

INK, SOFT, LINE = "#1b1f24", "#57606a", "#d8dee4"
WIDTH = 1100
"""Of a drawing, in pixels."""
DISCLAIMER = "Research software, not a medical device."
NO_NUMBER = "–"
_NUMBER = re.compile(r"[-+]?[\d,.]+( \(.+\))?( of \d+)?|–|")
"""Cells of a column that is aligned to the right: a number, with its interval or its total, a dash, or nothing."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "category_colours": CATEGORY_COLOURS,
        "ink": INK,
        "soft": SOFT,
        "line": LINE,
        "width": WIDTH,
    }
    environment.filters |= {"ml": ml, "mm": mm, "change": change, "signed": signed, "side": side_words, "plain": plain}
    environment.filters |= {"interval": interval, "reservations": reservations, "short_hash": short_hash}
    environment.filters |= {"f1": lambda value: f"{value:.1f}"}
    return environment


def page(template: str, **context: Any) -> str:
    """A template filled in; all text is escaped, and a value that is not there is an error."""
    return _environment().get_template(template).render(**context) + "\n"


def drawing(template: str, height: float, alt: str, **context: Any) -> Markup:
    """A drawing as wide as the page, of a template; ``alt`` is for those who cannot see it."""
    lines = page(template, height=f"{height:.0f}", alt=alt, **context).splitlines()
    return Markup("".join(line.strip() for line in lines))


def sections_page(title: str, lead: str, parts: Iterable[Markup]) -> str:
    """A page of sections, one below the other; empty ones are left out."""
    return page("sections.html.j2", title=title, lead=lead, parts=[part for part in parts if part])


def _macro(name: str, *arguments: Any) -> Markup:
    return Markup(getattr(_environment().get_template("macros.html.j2").module, name)(*arguments).strip())


def section(title: str, *parts: Markup, wide: bool = False) -> Markup:
    """Parts under a heading; what is ``wide`` is printed across."""
    return _macro("section", title, [part for part in parts if part], wide)


def soft(text: str) -> Markup:
    """A quiet paragraph."""
    return Markup('<p class="soft">{}</p>').format(text)


def listed(title: str, lines: Sequence[str]) -> Markup:
    """A section that is a list; nothing without lines."""
    return section(title, _macro("listed", lines)) if lines else Markup("")


def numbers(shown: Mapping[str, Any]) -> Markup:
    """Large numbers in a row, with what they count below."""
    return _macro("numbers", shown)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, grouped: bool = False) -> Markup:
    """A table; columns of numbers are aligned to the right.

    Args:
        rows: cells, as text or ready-made.
        grouped: rows whose first cell is not empty begin a group.
    """
    cells = [[cell if isinstance(cell, Markup) else escape(cell) for cell in row] for row in rows]
    right = [all(_NUMBER.fullmatch(row[column].striptags()) for row in cells) for column in range(len(head))]
    return _macro("table", head, cells, [bool(cells) and is_right for is_right in right], grouped)


def figure(picture: bytes, alt: str, caption: str = "") -> Markup:
    """A PNG picture with words below."""
    return _macro("figure", png_source(picture), alt, caption)


def plot(picture: bytes, alt: str) -> Markup:
    """A wide PNG plot, which scrolls on a narrow screen instead of shrinking until nothing can be read."""
    return _macro("plot", png_source(picture), alt)


def png_source(picture: bytes) -> str:
    """A PNG picture as it stands in a page."""
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")


def number(value: Any, decimals: int = 3) -> str:
    """A number for people: fixed decimals, whole numbers as they are, a dash for what is not defined."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NO_NUMBER
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)
