from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from evaluation_masks import box, mask_pairs, spacings
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from surfel_geometry import area_vectors

from brats_seg.core.errors import InputError
from brats_seg.evaluate.surface import (
    CORNERS,
    area_surface_distances,
    average_surface_distance_mm,
    hd95_brats2023_mm,
    hd95_mm,
    neighbour_codes,
    normalised_surface_distance,
    surfel_areas_mm2,
    voxel_surface_distances,
)

ONE = (1.0, 1.0, 1.0)
EMPTY = box()
MAKERS = (voxel_surface_distances, area_surface_distances)


def code_of(*corners):
    return sum(1 << CORNERS.index(corner) for corner in corners)


# The surface between eight voxels: pieces worked out with pencil and paper, on cubic and on long voxels.
PIECES = {
    "one corner: a triangle": (
        [(0, 0, 0)],
        lambda x, y, z: math.sqrt((x * y) ** 2 + (y * z) ** 2 + (x * z) ** 2) / 8,
    ),
    "two along z: a rectangle": ([(0, 0, 0), (0, 0, 1)], lambda x, y, z: z * math.hypot(x, y) / 2),
    "two across a face: two triangles": (
        [(0, 0, 0), (0, 1, 1)],
        lambda x, y, z: math.sqrt((x * y) ** 2 + (y * z) ** 2 + (x * z) ** 2) / 4,
    ),
    "a face: a rectangle": ([(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)], lambda x, y, z: y * z),
    "two opposite edges: two rectangles": (
        [(0, 0, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1)],
        lambda x, y, z: z * math.hypot(x, y),
    ),
}


@pytest.mark.parametrize("spacing_mm", [ONE, (1.0, 2.0, 3.0), (0.5, 0.7, 6.0)])
@pytest.mark.parametrize("name", PIECES)
def test_area_of_a_piece(name, spacing_mm):
    corners, expected = PIECES[name]
    assert surfel_areas_mm2(spacing_mm)[code_of(*corners)] == pytest.approx(expected(*spacing_mm), rel=1e-12)


def test_area_of_bent_pieces_on_cubic_voxels():
    areas = surfel_areas_mm2(ONE)
    # Three corners of a face: a right triangle with legs of 1 parallel to the face, then a plane trapezium
    # with sides of sqrt(2) and sqrt(1/2), sqrt(6)/4 high, bends away: triangles of sqrt(3)/4 and sqrt(3)/8.
    bent = 0.5 + 3 * math.sqrt(3) / 8
    assert areas[code_of((0, 0, 0), (0, 1, 0), (1, 0, 0))] == pytest.approx(bent)
    # A corner and its three neighbours: a regular hexagon with sides of sqrt(1/2).
    hexagon = 3 * math.sqrt(3) / 4
    assert areas[code_of((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))] == pytest.approx(hexagon)


@pytest.mark.parametrize("spacing_mm", [ONE, (1.0, 2.0, 3.0)])
def test_area_table_is_that_of_the_geometry(spacing_mm):
    x, y, z = spacing_mm
    codes, vectors = map(np.array, zip(*area_vectors(), strict=True))
    sizes = np.linalg.norm(vectors * (y * z, x * z, x * y), axis=1)
    assert np.array_equal(surfel_areas_mm2(spacing_mm), np.bincount(codes, weights=sizes, minlength=256))


def test_area_table_is_complete():
    areas = surfel_areas_mm2((1.0, 2.0, 3.0))
    assert areas.shape == (256,)
    assert areas[0] == areas[255] == 0
    assert (areas[1:255] > 0).all()
    assert np.allclose(areas, areas[::-1]), "a mask and its complement have the same surface"


@pytest.mark.parametrize("turn", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flip", CORNERS)
def test_area_table_turns_with_the_cube(turn, flip):
    areas = surfel_areas_mm2(ONE)
    for code in range(256):
        corners = [CORNERS[bit] for bit in range(8) if code >> bit & 1]
        moved = [tuple(corner[turn[axis]] ^ flip[axis] for axis in range(3)) for corner in corners]
        assert areas[code_of(*moved)] == pytest.approx(areas[code]), corners


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 5), (2, 3, 4)])
@pytest.mark.parametrize("spacing_mm", [ONE, (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("start", [(4, 4, 4), (0, 0, 0)])
def test_area_of_a_box(size, spacing_mm, start):
    """Faces, bevelled edges and cut corners; the edge of the image closes the surface."""
    (a, b, c), (x, y, z) = size, spacing_mm
    faces = 2 * ((a - 1) * (b - 1) * x * y + (b - 1) * (c - 1) * y * z + (a - 1) * (c - 1) * x * z)
    edges = 2 * ((a - 1) * x * math.hypot(y, z) + (b - 1) * y * math.hypot(x, z) + (c - 1) * z * math.hypot(x, y))
    corners = math.sqrt((x * y) ** 2 + (y * z) ** 2 + (x * z) ** 2)
    expected = faces + edges + corners
    if 1 in size:  # a thin box has opposite edges in one neighbourhood: two pieces, the same sum
        assert size[:2] == (1, 1)
        expected = corners + 2 * (c - 1) * z * math.hypot(x, y)
    codes = neighbour_codes(box((start, size), shape=(10, 10, 10)))
    assert surfel_areas_mm2(spacing_mm)[codes].sum() == pytest.approx(expected)


def test_codes_name_the_voxels_around_a_corner():
    codes = neighbour_codes(box(((2, 3, 4), (1, 1, 1)), shape=(6, 6, 6)))
    assert codes.shape == (7, 7, 7)
    assert codes[2, 3, 4] == code_of((1, 1, 1))
    assert codes[3, 4, 5] == code_of((0, 0, 0))
    assert codes[3, 3, 4] == code_of((0, 1, 1))
    assert (codes != 0).sum() == 8


def test_two_voxels_apart_along_a_long_axis():
    a, b = box(((3, 3, 3), (1, 1, 1))), box(((3, 3, 5), (1, 1, 1)))
    spacing_mm = (1.0, 1.0, 3.0)
    voxels, areas = (maker(a, b, spacing_mm) for maker in MAKERS)
    assert hd95_mm(voxels) == 6.0
    # Of the eight corners four face the other voxel, 3 mm away, and four do not, 6 mm away.
    assert sorted(areas.from_prediction_mm) == [3.0] * 4 + [6.0] * 4
    assert hd95_brats2023_mm(areas) == 6.0
    assert average_surface_distance_mm(areas) == pytest.approx(4.5)
    assert average_surface_distance_mm(voxels) == 6.0
    assert normalised_surface_distance(areas, tolerance_mm=3.0) == pytest.approx(0.5)
    assert normalised_surface_distance(areas, tolerance_mm=2.9) == 0.0


@pytest.mark.parametrize(("length", "expected"), [(6, 1.0), (7, 0.0)])
def test_brats_percentile_weighs_with_area(length, expected):
    """A rod one voxel longer than the other: its last four corners hold sqrt(3)/2 of the area.

    The rest of a rod is sqrt(3)/2 at the other end and sqrt(8) on each plane between two voxels, so the end has
    5.5 % of the area of six voxels and 4.6 % of seven. Counting corners alone it would be 14 and 12 %.
    """
    longer, shorter = box(((9, 9, 2), (1, 1, length))), box(((9, 9, 2), (1, 1, length - 1)))
    assert hd95_brats2023_mm(area_surface_distances(longer, shorter, ONE)) == expected
    assert hd95_brats2023_mm(area_surface_distances(shorter, longer, ONE)) == expected


def test_percentile_of_voxels_is_interpolated():
    longer, shorter = box(((5, 9, 9), (20, 1, 1))), box(((5, 9, 9), (19, 1, 1)))
    # Nineteen distances of 0 and one of 1: the 95th percentile lies at rank 0.95 * 19 = 18.05.
    assert hd95_mm(voxel_surface_distances(longer, shorter, ONE)) == pytest.approx(0.05)


def test_hd95_is_the_larger_direction():
    small, large = box(((5, 5, 5), (2, 2, 2))), box(((5, 5, 5), (2, 2, 2)), ((30, 5, 5), (2, 2, 2)))
    assert hd95_mm(voxel_surface_distances(small, large, ONE)) == pytest.approx(25.0)
    assert hd95_mm(voxel_surface_distances(large, small, ONE)) == pytest.approx(25.0)


def test_empty_masks():
    full = box(((5, 5, 5), (3, 3, 3)))
    for maker in MAKERS:
        for reader, both, one in (
            (hd95_mm, 0.0, 374.0),
            (hd95_brats2023_mm, 0.0, 374.0),
            (average_surface_distance_mm, 0.0, 374.0),
            (normalised_surface_distance, 1.0, 0.0),
        ):
            assert reader(maker(EMPTY, EMPTY, ONE)) == both
            assert reader(maker(EMPTY, full, ONE)) == one
            assert reader(maker(full, EMPTY, ONE)) == one


def test_voxel_surface_is_the_mask_without_its_erosion():
    solid = box(((5, 5, 5), (5, 5, 5)))
    assert voxel_surface_distances(solid, solid, ONE).from_prediction_mm.size == 125 - 27
    at_the_edge = box(((0, 5, 5), (5, 5, 5)))
    assert voxel_surface_distances(at_the_edge, solid, ONE).from_prediction_mm.size == 125 - 27


def test_shapes_that_differ_are_refused():
    for maker in MAKERS:
        with pytest.raises(InputError, match="shape"):
            maker(EMPTY, EMPTY[:39], ONE)


def slow_hd95(a, b, spacing_mm):
    """The same by distance transform over the whole image."""
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
    directed = []
    for mine, other in (surfaces, surfaces[::-1]):
        distance = ndimage.distance_transform_edt(~other, sampling=spacing_mm)
        directed.append(np.percentile(distance[mine], 95))
    return max(directed)


@given(mask_pairs, spacings)
@settings(max_examples=40, deadline=None)
def test_trees_and_distance_transforms_agree(pair, spacing_mm):
    a, b = pair
    if a.any() and b.any():
        assert hd95_mm(voxel_surface_distances(a, b, spacing_mm)) == pytest.approx(slow_hd95(a, b, spacing_mm))


@given(mask_pairs, spacings, st.sampled_from([0, 1, 2]))
@settings(max_examples=30, deadline=None)
def test_symmetric_bounded_and_unchanged_by_flips(pair, spacing_mm, axis):
    a, b = pair
    for maker, reader in ((voxel_surface_distances, hd95_mm), (area_surface_distances, hd95_brats2023_mm)):
        forward = maker(a, b, spacing_mm)
        flipped = maker(np.flip(a, axis), np.flip(b, axis), spacing_mm)
        for read in (reader, average_surface_distance_mm, normalised_surface_distance):
            assert read(forward) == pytest.approx(read(maker(b, a, spacing_mm)))
            assert read(forward) == pytest.approx(read(flipped))
        assert 0 <= normalised_surface_distance(forward) <= 1 + 1e-12
        assert average_surface_distance_mm(forward) >= 0
    if a.any() and b.any():
        diagonal = math.dist((0, 0, 0), [n * s for n, s in zip((6, 5, 4), spacing_mm, strict=True)])
        assert hd95_brats2023_mm(forward) <= diagonal
    assert hd95_brats2023_mm(area_surface_distances(a, a, spacing_mm)) == 0
