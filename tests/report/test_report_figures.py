"""Pictures of made-up patients: the right way round, in the right colours, the same for every storage order."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from glioma import REGIONS
from PIL import Image
from report_studies import grid_volume, make_result, stored_as

from brats_seg.core.labels import SCHEMAS
from brats_seg.core.study import MRSequence
from brats_seg.report.figures import STRIP_SLICES, report_pictures
from brats_seg.report.scene import main_lesion, measured_lesion, scene_of
from brats_seg.report.slices import AXIAL, CORONAL


def decode(data):
    """Pixels 0 to 255 of an encoded picture."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int16)


def where_colour(pixels, name, tolerance=70):
    """Rows and columns of pixels near a region's colour."""
    colour = [int(REGIONS.colours[name][i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere(np.abs(pixels[..., :3] - colour).sum(axis=-1) < tolerance)


def axial_part(result, picture):
    return decode(picture.data)[: scene_of(result).view.size_px(AXIAL)[1]]


@pytest.fixture(scope="module")
def result():
    return make_result()


@pytest.fixture(scope="module")
def pictures(result):
    return report_pictures(result)


@pytest.mark.slow
def test_overlay_is_a_png_with_every_regions_colour(full_panels, result):
    data = report_pictures(result).overlay
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = decode(data)
    assert pixels.shape[1] > 2000
    for name in ("WT", "TC", "ET"):
        assert len(where_colour(pixels[::2, ::2], name, 20)) > 50


def test_pictures_decode_and_have_the_size_they_say(pictures):
    for picture in (*pictures.planes, *pictures.strip, pictures.diameters):
        assert decode(picture.data).shape == (picture.height, picture.width, 3)
        assert picture.alt
    assert [picture.title for picture in pictures.planes] == ["T1", "T1CE", "T2", "FLAIR"]
    assert pictures.strip_sequence == "T1CE"
    assert 4 <= len(pictures.strip) <= STRIP_SLICES
    assert len({picture.alt for picture in pictures.strip}) == len(pictures.strip)


@pytest.mark.parametrize(("x_mm", "is_on_image_right"), [(-22.0, True), (22.0, False)])
def test_the_patients_left_is_on_the_right_of_the_picture(x_mm, is_on_image_right):
    result = make_result(lesions=(((x_mm, 30.0, 6.0), (15.0, 12.0, 12.0)),))
    pixels = axial_part(result, report_pictures(result).planes[0])
    found = where_colour(pixels, "WT")
    assert (found[:, 1].mean() > pixels.shape[1] / 2) == is_on_image_right
    assert found[:, 0].mean() < pixels.shape[0] / 2  # 30 mm in front of the middle


def test_outline_surrounds_the_lesion_at_the_scale_of_the_view(result, pictures):
    found = where_colour(axial_part(result, pictures.planes[1]), "WT")
    width_mm = np.ptp(found[:, 1]) / scene_of(result).view.px_per_mm
    assert width_mm == pytest.approx(36, abs=3.5)  # 2 * 18 mm, voxels of 2 mm


@pytest.mark.parametrize(
    ("axes", "flips"), [((0, 1, 2), (0, 1)), ((2, 0, 1), ()), ((1, 2, 0), (2,)), ((0, 1, 2), (0, 1, 2))]
)
def test_storage_order_does_not_change_a_single_pixel(result, pictures, axes, flips):
    twin = stored_as(result, axes, flips)
    assert twin.segmentation.labels.grid.orientation != "RAS"
    others = report_pictures(twin)
    assert [p.data for p in others.planes] == [p.data for p in pictures.planes]
    assert [p.data for p in others.strip] == [p.data for p in pictures.strip]
    assert others.diameters.data == pictures.diameters.data
    assert others.overlay == pictures.overlay


def test_thick_slices_keep_the_heads_proportions():
    base = grid_volume((110, 140, 20), (1.0, 1.0, 5.0)).flip(0).flip(1)
    assert base.grid.orientation == "LPS"
    result = make_result(base=base)
    width, height = scene_of(result).view.size_px(CORONAL)
    assert height / width == pytest.approx(98 / 110, rel=0.06)  # head 96 mm high, 110 mm wide, margins cut by the edge
    pixels = axial_part(result, report_pictures(result).planes[1])
    found = where_colour(pixels, "WT")
    assert np.ptp(found[:, 1]) / np.ptp(found[:, 0]) == pytest.approx(36 / 30, rel=0.1)
    assert found[:, 1].mean() < pixels.shape[1] / 2  # the lesion is on the right side of the patient


def test_a_missing_sequence_is_an_empty_panel_and_its_regions_are_dashed(result):
    partial = make_result(missing=(MRSequence.T1CE,))
    pictures = report_pictures(partial)
    panel = decode(pictures.planes[1].data)
    assert pictures.planes[1].alt == "T1CE: not available."
    assert np.median(panel) == 26
    assert (panel > 200).any()  # the words
    assert not len(where_colour(panel, "WT"))
    assert pictures.strip_sequence == "FLAIR"
    whole = [len(where_colour(decode(report_pictures(r).planes[0].data), "ET", 40)) for r in (result, partial)]
    assert whole[1] < 0.85 * whole[0]
    assert measured_lesion(partial).region == "WT"
    assert measured_lesion(result).region == "ET"


def test_no_tumour_shows_the_middle_of_the_head_without_lines():
    result = make_result(lesions=())
    assert main_lesion(result) is None
    scene = scene_of(result)
    np.testing.assert_allclose(scene.grid.to_world(scene.focus), 0, atol=2.1)
    pictures = report_pictures(result)
    assert pictures.diameters is None
    assert len(pictures.strip) > 8
    for picture in (*pictures.planes, *pictures.strip):
        assert not any(len(where_colour(decode(picture.data), name, 40)) for name in ("WT", "TC", "ET"))
    assert report_pictures(result).overlay.startswith(b"\x89PNG")


def test_a_label_map_without_images_is_drawn_alone(result):
    alone = replace(result, images={})
    pictures = report_pictures(alone)
    assert [picture.title for picture in pictures.planes] == ["Label map"]
    assert len(where_colour(decode(pictures.planes[0].data), "WT")) > 100
    assert pictures.strip_sequence == ""
    assert report_pictures(alone).overlay.startswith(b"\x89PNG")


def test_a_cavity_has_its_own_lines(result):
    schema = SCHEMAS["brats2024"]
    labels = np.where(result.segmentation.labels.data == 1, 4, result.segmentation.labels.data).astype(np.uint8)
    segmentation = replace(result.segmentation, labels=result.segmentation.labels.with_data(labels), schema=schema)
    after = replace(result, segmentation=segmentation)
    assert scene_of(after).drawn == ("WT", "TC", "ET", "RC")
    assert len(where_colour(axial_part(after, report_pictures(after).planes[0]), "RC", 40)) > 30
    assert scene_of(result).drawn == ("WT", "TC", "ET")


def test_the_diameters_are_drawn_as_long_as_they_are(result):
    diameters = measured_lesion(result).diameters
    dark = {s: image.with_data(np.zeros(image.grid.shape, np.float32)) for s, image in result.images.items()}
    pixels = decode(report_pictures(replace(result, images=dark)).diameters.data)
    side = pixels.shape[0]
    px_per_mm = side / (diameters.long_mm + 2 * 22.0)  # the close-up's margin is 22 mm
    white = pixels[70 : side - 70, 70 : side - 70].min(axis=-1) > 200  # without letters and scale bar
    longest_row, longest_column = white.sum(axis=1).max(), white.sum(axis=0).max()
    assert longest_row / px_per_mm == pytest.approx(diameters.long_mm, rel=0.08)  # along x, as the lesion is
    assert longest_column / px_per_mm == pytest.approx(diameters.short_mm, rel=0.08)


def test_a_lesion_without_diameters_has_no_close_up(result):
    zero = replace(measured_lesion(result).diameters, long_mm=0.0)
    lesions = tuple(replace(lesion, diameters=zero) for lesion in result.measurements.lesions)
    assert (
        report_pictures(replace(result, measurements=replace(result.measurements, lesions=lesions))).diameters is None
    )


def test_images_on_another_grid_are_refused(result):
    shifted = result.images[MRSequence.T2].crop((1, 0, 0), (64, 80, 56))
    with pytest.raises(ValueError, match=r"T2 lies on 63x80x56.*label map on 64x80x56"):
        report_pictures(replace(result, images={**result.images, MRSequence.T2: shifted}))


def test_a_lesion_outside_the_head_box_is_still_shown(result):
    dark = {s: image.with_data(np.zeros(image.grid.shape, np.float32)) for s, image in result.images.items()}
    scene = scene_of(replace(result, images=dark))
    assert all(a <= f < b for a, f, b in zip(scene.view.start, scene.focus, scene.view.stop, strict=True))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 1), (40, 3, 300)])
def test_odd_shapes_do_not_fail(shape):
    result = make_result(base=grid_volume(shape, (1.0, 1.0, 1.0)), lesions=(((0.0, 0.0, 0.0), (3.0, 3.0, 3.0)),))
    assert report_pictures(result).overlay.startswith(b"\x89PNG")
    assert report_pictures(result).planes
