"""Plots of an explored data set: words under one picture keep away from those of the next."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from brats_seg.explore import figures


def test_labels_of_neighbouring_heat_maps_stay_apart_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "png_of", lambda figure: drawn.append(figure) or b"")
    figures.place_plots(())
    canvas = FigureCanvasAgg(drawn[0])
    canvas.draw()
    boxes = [
        label.get_window_extent(canvas.get_renderer()) for axis in drawn[0].axes for label in axis.get_xticklabels()
    ]
    assert len(boxes) == 6 and min(box.x0 for box in boxes) >= 0
    assert not any(one.padded(6).overlaps(other.padded(6)) for one, other in combinations(boxes, 2))
