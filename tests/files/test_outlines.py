"""Outlines hold exactly the area of their mask, and the centre of every voxel of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray

from brats_seg.files.outlines import outlines


def area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def inside(polygons: list[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Voxels whose centre lies in a polygon, as programs that fill contours see it."""
    points = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, 2)
    found = np.zeros(shape, bool)
    for polygon in polygons:
        found ^= Polygon(np.vstack([polygon, polygon[:1]])).contains_points(points).reshape(shape)
    return found


@settings(max_examples=100, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_polygons_hold_the_mask_and_nothing_else(mask: NDArray[np.bool_]) -> None:
    polygons = outlines(mask)
    assert sum(map(area, polygons)) == pytest.approx(mask.sum(), rel=0.03)
    assert np.array_equal(inside(polygons, mask.shape), mask)


def test_a_ring_is_one_polygon_with_a_bridge_to_its_hole() -> None:
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    (polygon,) = outlines(ring)
    assert area(polygon) == pytest.approx(24, rel=0.01)
    assert len(polygon) == 4 + 4 + 2  # both squares, and the bridge there and back


def test_nothing_has_no_outline() -> None:
    assert outlines(np.zeros((3, 3), bool)) == []
