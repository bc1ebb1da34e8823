"""Which way up pictures are, and where a millimetre lands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.grid import Volume
from brats_seg.report.canvas import Canvas, outlines
from brats_seg.report.slices import (
    AXIAL,
    CORONAL,
    PLANES,
    SAGITTAL,
    View,
    cut,
    head_box,
    nearest_voxel,
    spread,
    window_of,
)


@pytest.mark.parametrize(
    ("plane", "voxel", "corner"),
    [
        (AXIAL, (0, 4, 2), (0, -1)),  # left front: picture's upper right
        (AXIAL, (3, 0, 2), (-1, 0)),  # right back: lower left
        (CORONAL, (0, 2, 5), (0, -1)),  # left top: upper right
        (SAGITTAL, (2, 4, 5), (0, 0)),  # front top: upper left
        (SAGITTAL, (2, 0, 0), (-1, -1)),  # back bottom: lower right
    ],
)
def test_pictures_follow_the_radiological_convention(plane, voxel, corner):
    data = np.zeros((4, 5, 6))
    data[voxel] = 1
    picture = cut(data, plane, voxel[plane.normal])
    assert picture[corner] == 1
    assert picture.sum() == 1


def test_marks_agree_with_the_directions_of_the_picture():
    names = {0: ("L", "R"), 1: ("P", "A"), 2: ("I", "S")}
    for plane in PLANES:
        left, right, top, bottom = plane.marks
        assert (right, left) == names[plane.across]
        assert (bottom, top) == names[plane.up]


def test_anisotropic_voxels_keep_their_shape():
    view = View((0, 0, 0), (10, 20, 4), (1.0, 0.5, 5.0), 3.0)
    assert view.size_px(AXIAL) == (30, 30)
    assert view.size_px(CORONAL) == (30, 60)
    assert view.stretch(np.ones((4, 10)), CORONAL).shape == (60, 30)


@given(
    st.tuples(*[st.integers(2, 9)] * 3),
    st.tuples(*[st.floats(0.4, 6)] * 3),
    st.floats(0.8, 6),
    st.sampled_from(PLANES),
    st.data(),
)
@settings(max_examples=40, deadline=None)
def test_lines_land_where_the_voxel_is_drawn(shape, spacing, scale, plane, data):
    voxel = [data.draw(st.integers(0, n - 1)) for n in shape]
    mask = np.zeros(shape, bool)
    mask[tuple(voxel)] = True
    view = View((0, 0, 0), shape, spacing, scale)
    picture = view.crop(cut(mask, plane, voxel[plane.normal]), plane)
    (line,) = [view.pixels_of(points, plane) for points in outlines(picture)]
    centre = (line.min(axis=0) + line.max(axis=0)) / 2
    np.testing.assert_allclose(centre, view.to_px([voxel], plane)[0], atol=1e-6)
    width_mm = np.ptp(line, axis=0) / scale
    np.testing.assert_allclose(width_mm, [spacing[plane.across], spacing[plane.up]], rtol=1e-6)


def test_a_crop_shows_the_voxels_of_its_box():
    data = np.arange(6 * 7 * 8).reshape(6, 7, 8)
    view = View((1, 2, 3), (4, 6, 8), (1, 1, 1), 1.0)
    np.testing.assert_array_equal(view.crop(cut(data, AXIAL, 5), AXIAL), cut(data[1:4, 2:6], AXIAL, 5))
    np.testing.assert_array_equal(view.crop(cut(data, SAGITTAL, 2), SAGITTAL), cut(data[:, 2:6, 3:8], SAGITTAL, 2))


def test_stretching_by_whole_numbers_is_linear_between_voxel_centres():
    view = View((0, 0, 0), (2, 1, 1), (2.0, 1.0, 1.0), 1.0)
    picture = view.stretch(np.array([[10.0, 20.0]]), AXIAL)
    np.testing.assert_allclose(picture, [[10.0, 12.5, 17.5, 20.0]])


def test_windows_of_ordinary_and_odd_volumes():
    data = np.zeros((20, 20, 20), np.float32)
    data[5:15, 5:15, 5:15] = np.linspace(100, 200, 1000).reshape(10, 10, 10)
    window = window_of(data)
    assert 99 < window.low < 103
    assert 197 < window.high <= 200
    assert 0 < window.head_above < 100
    assert window.grey(np.array([0.0, window.high], np.float32)).tolist() == [0, 255]
    for odd in (np.zeros((3, 3, 3)), np.full((3, 3, 3), 7.0)):
        assert window_of(odd).grey(odd[0].astype(np.float32)).max() == 0


def test_head_box_has_a_margin_in_millimetres_and_stays_inside():
    data = np.zeros((40, 40, 10))
    data[10:20, 2:30, 4:6] = 1
    start, stop = head_box(data, 0.5, margin_mm=6, spacing_mm=(1.0, 2.0, 3.0))
    assert start == (4, 0, 2)
    assert stop == (26, 33, 8)
    assert head_box(data * 0, 0.5, margin_mm=6, spacing_mm=(1.0, 2.0, 3.0)) == ((0, 0, 0), (40, 40, 10))


def test_nearest_voxel_is_the_same_on_a_flipped_grid():
    volume = Volume.from_affine(np.zeros((9, 9, 9)), np.diag([0.7, 1.1, 1.3, 1]))
    point = volume.grid.to_world((4.5, 2.5, 6.5))
    twin = volume.flip(0).flip(2).to_ras()
    assert nearest_voxel(twin.grid.to_voxel(point), (9, 9, 9)) == (5, 3, 7)
    assert nearest_voxel(volume.grid.to_voxel(point), (9, 9, 9)) == (5, 3, 7)
    assert nearest_voxel((-3, 100, 4.2), (9, 9, 9)) == (0, 8, 4)


def test_spread_covers_both_ends():
    assert spread(3, 5, 14) == (3, 4, 5)
    assert spread(0, 100, 3) == (0, 50, 100)
    assert spread(7, 7, 14) == (7,)
    assert len(spread(0, 99, 14)) == 14


def test_outlines_run_between_inside_and_outside_and_round_holes():
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    mask[4, 4] = False
    outer, hole = sorted(outlines(mask), key=lambda line: -np.ptp(line[:, 0]))
    assert (outer.min(), outer.max()) == (1.5, 6.5)
    assert (hole.min(), hole.max()) == (3.5, 4.5)
    assert outlines(np.zeros((3, 3), bool)) == []
    (edge,) = outlines(np.ones((3, 3), bool))
    assert (edge.min(), edge.max()) == (-0.5, 2.5)


@pytest.mark.parametrize("size", [(101, 67), (640, 333), (2349, 1611)])
def test_a_sheet_has_the_size_asked_for_and_draws_over_pictures(size):
    canvas = Canvas(*size)
    canvas.image(np.full((20, 30), 77, np.uint8), 10, 40)
    canvas.box(50, 20, 10, 10, "#112233")
    sheet = canvas.render()
    assert sheet.shape == (size[1], size[0], 3)
    assert sheet[59, 39].tolist() == [77, 77, 77]
    assert sheet[60, 40].tolist() == [0, 0, 0]
    assert sheet[25, 55].tolist() == [0x11, 0x22, 0x33]
