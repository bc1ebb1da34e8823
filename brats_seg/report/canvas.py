"""A sheet of pixels with grey pictures, coloured lines and words, drawn once.

Grey levels are put together by numpy; lines and words are drawn by one matplotlib figure with a single pair of axes
for the whole sheet, which is what makes dozens of pictures fast.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib.image
import numpy as np
from contourpy import contour_generator
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

_DPI = 64
"""A power of two, so that pixels divided by it and multiplied again are whole numbers."""
_POINTS_PER_PX = 72 / _DPI
JPEG_QUALITY = 86
TEXT_COLOUR = "#E8E8E8"


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed lines around a mask ``(rows, columns)``, half-way between inside and outside pixels.

    Returns:
        For each line its points ``(N, 2)`` as row and column; lines of holes included.
    """
    if not mask.any():
        return []
    padded = np.pad(mask, 1).astype(np.float64)
    return [np.asarray(line)[:, ::-1] - 1 for line in contour_generator(z=padded).lines(0.5)]


@dataclass
class Canvas:
    """A black sheet to draw on.

    Attributes:
        width: pixels.
        height: pixels.
    """

    width: int
    height: int
    _pixels: NDArray[np.uint8] = field(init=False)
    _figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        self._pixels = np.zeros((self.height, self.width, 3), np.uint8)
        self._figure = Figure(figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI, facecolor="none")
        self._axes = self._figure.add_axes((0, 0, 1, 1), frameon=False)
        self._axes.set_axis_off()
        self._axes.set_xlim(0, self.width)
        self._axes.set_ylim(self.height, 0)

    def image(self, grey: NDArray[np.uint8], left: int, top: int) -> None:
        """Put a grey picture ``(rows, columns)`` down with its upper left corner there."""
        rows, columns = grey.shape
        self._pixels[top : top + rows, left : left + columns] = grey[:, :, None]

    def box(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        self._axes.add_patch(Rectangle((left, top), width, height, color=colour, linewidth=0))

    def lines(
        self, lines: Sequence[NDArray[np.float64]], colour: str, *, width_px: float, dashed: bool = False
    ) -> None:
        """Lines, each of points ``(N, 2)`` right and down in pixels."""
        if lines:
            style = (0, (2.4, 1.4)) if dashed else "solid"
            self._axes.add_collection(
                LineCollection(list(lines), colors=colour, linewidths=width_px * _POINTS_PER_PX, linestyles=[style]),
                autolim=False,
            )

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
        across = {"l": "left", "c": "center", "r": "right"}[align[0]]
        down = {"t": "top", "c": "center", "b": "bottom"}[align[1]]
        effects = [withStroke(linewidth=size_px * 0.16, foreground="black")] if outlined else None
        self._axes.text(
            x,
            y,
            words,
            fontsize=size_px * _POINTS_PER_PX,
            ha=across,
            va=down,
            color=colour,
            path_effects=effects,
            parse_math=False,
        )

    def render(self) -> NDArray[np.uint8]:
        """The finished sheet ``(height, width, 3)``: lines and words laid over the grey pictures.

        The figure itself is transparent; showing the pictures through matplotlib would resample them, which takes
        ten times as long.
        """
        canvas = FigureCanvasAgg(self._figure)
        canvas.draw()
        drawn = np.asarray(canvas.buffer_rgba())
        sheet = self._pixels.copy()
        covered = drawn[:, :, 3] > 0
        over = drawn[covered].astype(np.float32)
        share = over[:, 3:] / 255.0
        sheet[covered] = np.rint(over[:, :3] * share + sheet[covered] * (1 - share)).astype(np.uint8)
        return sheet


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A picture ``(rows, columns, 3)`` as PNG; compressed lightly, for it is mostly noise."""
    stream = io.BytesIO()
    matplotlib.image.imsave(stream, np.ascontiguousarray(pixels), format="png", pil_kwargs={"compress_level": 3})
    return stream.getvalue()


def jpeg_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A picture ``(rows, columns, 3)`` as JPEG, with colour at full resolution so that thin lines stay crisp."""
    stream = io.BytesIO()
    options = {"quality": JPEG_QUALITY, "subsampling": 0}
    matplotlib.image.imsave(stream, np.ascontiguousarray(pixels), format="jpg", pil_kwargs=options)
    return stream.getvalue()
