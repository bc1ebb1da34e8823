"""A picture of a phantom visit; PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from brats_seg.core.grid import Floats, Volume
from brats_seg.core.labels import LabelSchema
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.models.card import regions_of
from brats_seg.report.canvas import Canvas, outlines, png_bytes
from brats_seg.report.slices import AXIAL, View, cut, nearest_voxel, window_of

_PANEL_PX, _TITLE_PX = 320, 32
_AIR_SHARE, _HEAD_SHARE = 0.08, 0.02
"""Brighter than this share of the grey levels is head, in rows that hold so much of it; noise in the air is not."""
_MARGIN = 6
"""Voxels around the head."""


def visit_picture(images: Mapping[MRSequence, Volume], labels: Volume, schema: LabelSchema) -> bytes:
    """The sequences of a visit beside each other, on the axial slice that shows most tumour; radiological sides.

    Contours are drawn on sequences that lie on the label map's grid; a sequence that is not there is left black.
    """
    marked = labels.to_ras()
    counts = (marked.data > 0).sum(axis=(0, 1))
    x, y, z = ((n - 1) / 2 for n in marked.grid.shape)
    place_mm = marked.grid.to_world([x, y, float(np.argmax(counts)) if counts.any() else z])
    canvas = Canvas(len(SEQUENCES) * _PANEL_PX, _TITLE_PX + _PANEL_PX)
    for number, sequence in enumerate(SEQUENCES):
        left = number * _PANEL_PX
        canvas.text(sequence.title, left + _PANEL_PX / 2, _TITLE_PX / 2, size_px=18, align="cc")
        if sequence in images:
            _draw(canvas, images[sequence].to_ras(), marked, schema, place_mm=place_mm, left=left)
        else:
            canvas.text("not there", left + _PANEL_PX / 2, _TITLE_PX + _PANEL_PX / 2, size_px=18, align="cc")
    return png_bytes(canvas.render())


def _draw(canvas: Canvas, volume: Volume, marked: Volume, schema: LabelSchema, *, place_mm: Floats, left: int) -> None:
    """The slice of a sequence through a place, cut to the head."""
    grid, window = volume.grid, window_of(volume.data)
    index = nearest_voxel(grid.to_voxel(place_mm), grid.shape)[2]
    head = volume.data[:, :, index] > window.low + _AIR_SHARE * (window.high - window.low)
    start, stop = [0, 0, 0], list(grid.shape)
    for axis in (0, 1):
        filled = np.flatnonzero(head.mean(axis=1 - axis) > _HEAD_SHARE)
        if filled.size:
            start[axis] = max(int(filled[0]) - _MARGIN, 0)
            stop[axis] = min(int(filled[-1]) + 1 + _MARGIN, stop[axis])
    longest_mm = max((stop[axis] - start[axis]) * grid.spacing_mm[axis] for axis in (0, 1))
    view = View((start[0], start[1], 0), (stop[0], stop[1], stop[2]), grid.spacing_mm, _PANEL_PX / longest_mm)
    width, height = view.size_px(AXIAL)
    corner = left + (_PANEL_PX - width) // 2, _TITLE_PX + (_PANEL_PX - height) // 2
    picture = view.crop(cut(volume.data, AXIAL, index), AXIAL)
    canvas.image(window.grey(view.stretch(picture, AXIAL)), *corner)
    if grid.same_as(marked.grid):
        found = view.crop(cut(marked.data, AXIAL, index), AXIAL)
        for region in regions_of():
            lines = [view.pixels_of(line, AXIAL) + corner for line in outlines(schema.region_mask(found, region))]
            canvas.lines(lines, region.colour, width_px=1.5)
