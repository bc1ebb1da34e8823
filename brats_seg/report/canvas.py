"""A sheet of pixels with grey pictures, coloured lines and words.

Drawn by Pillow: one figure of a plotting library would take longer to load than all pictures of a report to draw.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_FINE = 4
"""Lines are drawn this much larger and made smaller again, which smooths their edges."""
_DASH, _DASH_GAP = 2.4, 1.4
"""In widths of the line."""
_STROKE_SHARE = 0.08
"""Of a letter's size, black around it where words stand on a picture."""
JPEG_QUALITY = 86
TEXT_COLOUR = "#E8E8E8"


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed lines around a mask ``(rows, columns)``, half-way between inside and outside pixels.

    Returns:
        For each line its points ``(N, 2)`` as row and column; lines of holes included.
    """
    if not mask.any():
        return []
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    padded, start = np.pad(part, 1).astype(np.float64), (rows[0] - 1, columns[0] - 1)
    return [np.asarray(line)[:, ::-1] + start for line in contour_generator(z=padded).lines(0.5)]


class Canvas:
    """A black sheet to draw on; what is drawn later lies above."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._sheet = Image.new("RGB", (width, height))
        self._pen = ImageDraw.Draw(self._sheet)

    def image(self, grey: NDArray[np.uint8], left: int, top: int) -> None:
        """Put a grey picture ``(rows, columns)`` down with its upper left corner there."""
        self._sheet.paste(Image.fromarray(grey), (left, top))

    def box(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        self._pen.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)

    def lines(
        self, lines: Sequence[NDArray[np.float64]], colour: str, *, width_px: float, dashed: bool = False
    ) -> None:
        """Lines, each of points ``(N, 2)`` right and down in pixels."""
        if not lines:
            return
        points = np.concatenate(lines)
        left, top = np.floor(points.min(axis=0) - width_px).astype(int)
        right, bottom = np.ceil(points.max(axis=0) + width_px).astype(int)
        cover = Image.new("L", ((right - left) * _FINE, (bottom - top) * _FINE))
        pen = ImageDraw.Draw(cover)
        for line in lines:
            for part in _dashes(line, width_px) if dashed else (line,):
                # Whole pixels, and the same ones where the last digits of a place differ.
                fine = np.floor(np.round((part - (left, top)) * _FINE, 3))
                if tuple(fine[0]) > tuple(fine[-1]):  # a line is the same from either end
                    fine = fine[::-1]
                pen.line(fine.ravel().tolist(), fill=255, width=round(width_px * _FINE))
        self._sheet.paste(colour, (int(left), int(top)), cover.reduce(_FINE))

    def text(
        self,
        words: str,
        x: float,
        y: float,
        *,
        size_px: float,
        align: str = "lt",
        colour: str = TEXT_COLOUR,
        outlined: bool = False,
    ) -> None:
        """Words at a point; ``align`` is l, c or r and then t, c or b: the side of the words that touches it."""
        anchor = {"l": "l", "c": "m", "r": "r"}[align[0]] + {"t": "a", "c": "m", "b": "d"}[align[1]]
        stroke = round(size_px * _STROKE_SHARE) if outlined else 0
        font = _font(round(size_px))
        self._pen.text((x, y), words, fill=colour, font=font, anchor=anchor, stroke_width=stroke, stroke_fill="black")

    def render(self) -> NDArray[np.uint8]:
        """The finished sheet ``(height, width, 3)``."""
        return np.asarray(self._sheet)


def _dashes(line: NDArray[np.float64], width_px: float) -> Iterator[NDArray[np.float64]]:
    """Parts of a line of points ``(N, 2)`` that are drawn where it is dashed."""
    along = np.concatenate([[0.0], np.hypot(*np.diff(line, axis=0).T).cumsum()])
    for start in np.arange(0.0, along[-1], (_DASH + _DASH_GAP) * width_px):
        stop = start + _DASH * width_px
        places = np.concatenate([[start], along[(along > start) & (along < stop)], [min(stop, along[-1])]])
        yield np.stack([np.interp(places, along, line[:, axis]) for axis in (0, 1)], axis=1)


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which knows the letters of most languages; it comes with matplotlib, which is not loaded."""
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf", size_px)


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A picture ``(rows, columns, 3)`` as PNG; compressed lightly, for it is mostly noise."""
    return _encoded(pixels, "PNG", compress_level=1)


def jpeg_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A picture ``(rows, columns, 3)`` as JPEG, with colour at full resolution so that thin lines stay crisp."""
    return _encoded(pixels, "JPEG", quality=JPEG_QUALITY, subsampling=0)


def _encoded(pixels: NDArray[np.uint8], kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()
