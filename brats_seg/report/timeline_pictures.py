"""The same slice of every visit, aligned, with the outlines of what was found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brats_seg.core.grid import Volume
from brats_seg.core.labels import LabelSchema
from brats_seg.core.regions import RegionSet
from brats_seg.report.canvas import Canvas, jpeg_bytes, outlines
from brats_seg.report.figures import Picture
from brats_seg.report.scene import drawn_mask, drawn_names, line_px
from brats_seg.report.slices import AXIAL, View, Window, cut

_LETTER_PX = 19
_LINE_SHARE = 0.6
"""Lines are thinner than in the report of one study, whose panels are larger."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One axial slice of a visit in the common space.

    Attributes:
        sequence: what the image shows; empty without image.
        image: ``(X, Y, 1)`` RAS; None draws outlines alone.
        window: grey levels.
        labels: ``(X, Y, 1)`` on the same grid.
        schema: meaning of the labels.
    """

    visit: str
    sequence: str
    image: Volume | None
    window: Window | None
    labels: Volume
    schema: LabelSchema
    regions: RegionSet


def picture_of(shown: Slice, *, start: tuple[int, int], stop: tuple[int, int], px_per_mm: float) -> Picture:
    """A slice as a picture.

    Args:
        start: first voxel that is drawn, along x and y.
        stop: voxel after the last.
    """
    grid = shown.labels.grid
    view = View((*start, 0), (*stop, 1), grid.spacing_mm, px_per_mm)
    width, height = view.size_px(AXIAL)
    canvas = Canvas(width, height)
    if shown.image is not None and shown.window is not None:
        picture = view.crop(cut(shown.image.data, AXIAL, 0), AXIAL)
        canvas.image(shown.window.grey(view.stretch(picture, AXIAL)), 0, 0)
    labels = view.crop(cut(shown.labels.data, AXIAL, 0), AXIAL)
    if labels.any():
        for name in drawn_names(shown.regions, shown.schema):
            mask = drawn_mask(name, labels, shown.regions, shown.schema)
            lines = [view.pixels_of(line, AXIAL) for line in outlines(np.asarray(mask))]
            line = line_px(name, shown.regions) * _LINE_SHARE
            canvas.lines(lines, shown.regions.colours[name], width_px=line)
    canvas.text("R", 5, height / 2, size_px=_LETTER_PX, align="lc", outlined=True)
    canvas.text("L", width - 5, height / 2, size_px=_LETTER_PX, align="rc", outlined=True)
    alt = f"Visit {shown.visit}, {shown.sequence or 'label map'}: axial slice with the outlines of the regions found."
    return Picture(jpeg_bytes(canvas.render()), width, height, shown.visit, alt)
