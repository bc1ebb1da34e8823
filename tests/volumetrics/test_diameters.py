"""Diameters against known objects, against plain enumeration, and under every way of storing the same voxels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import ConvexHull

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.visit import Diameters
from brats_seg.volumetrics.diameters import measure_diameters, measuring_axis, measuring_plane
from brats_seg.volumetrics.lesions import is_measurable
from brats_seg.volumetrics.outline import CAVITY_EDGE, crosses, outline_segments
from tests.strategies import grids
from tests.volumetrics.objects import (
    box,
    edge_points_slow,
    ellipsoid,
    enters_slow,
    grid_of,
    longest_slow,
    perpendicular_slow,
    shifts,
    sphere,
    turn_in_plane,
    world_points,
)

ONE_MM = grid_of(extent_mm=64)
GRIDS = {
    "1 mm": grid_of("LPS", extent_mm=40),
    "1 mm oblique": grid_of("PIR", (1, 1, 1), (12, -9, 17), extent_mm=44),
    "axial 1x1x5 mm": grid_of("LPS", (0.9, 0.9, 5), (4, -7, 12), extent_mm=50),
    "sagittal 4 mm": grid_of("ASL", (1.1, 0.8, 4), (-10, 5, 8), extent_mm=50),
    "coronal 3 mm": grid_of("RSA", (0.7, 0.7, 3), (9, 9, 9), extent_mm=44),
}


def flat(rows: np.ndarray) -> np.ndarray:
    """A 2D mask as the middle one of three axial slices."""
    mask = np.zeros((*rows.shape, 3), bool)
    mask[:, :, 1] = rows
    return mask


def flat_grid(rows: np.ndarray, spacing_mm: tuple[float, float] = (1.0, 1.0)) -> Grid:
    x, y = rows.shape
    return Grid((x, y, 3), np.diag([*spacing_mm, max(spacing_mm), 1.0]))


def ends_of(diameters: Diameters) -> tuple[np.ndarray, np.ndarray]:
    return np.array(diameters.long_ends_mm), np.array(diameters.short_ends_mm)


def assert_consistent(found: Diameters, grid: Grid) -> None:
    """Ends are as far apart as the lengths say, at right angles, on the slice."""
    long, short = ends_of(found)
    assert np.linalg.norm(long[1] - long[0]) == pytest.approx(found.long_mm)
    assert np.linalg.norm(short[1] - short[0]) == pytest.approx(found.short_mm)
    cosine = (long[1] - long[0]) @ (short[1] - short[0]) / (found.long_mm * found.short_mm)
    assert abs(cosine) < 1e-5
    indices = grid.to_voxel(np.concatenate([long, short]))
    np.testing.assert_allclose(indices[:, found.axis], found.slice_index, atol=1e-6)


def axis_of(grid: Grid) -> int:
    return measuring_axis(grid, measuring_plane(grid))


@pytest.mark.parametrize(
    ("stored", "spacing_mm", "plane", "axis"),
    [
        ("LPS", (1, 1, 1), "axial", 2),
        ("SAR", (1, 1, 1), "axial", 0),
        ("RAS", (1.02, 1, 1), "axial", 2),
        ("ASR", (0.9, 0.5, 0.9), "axial", 1),
        ("RAS", (1.9, 1, 1), "axial", 2),
        ("RAS", (1, 1, 5), "axial", 2),
        ("RAS", (5, 1, 1), "sagittal", 0),
        ("SRA", (1, 2, 1), "sagittal", 1),
        ("RAS", (1, 5, 5), "axial", 2),
        ("RAS", (5, 5, 1), "coronal", 1),
    ],
)
def test_the_plane_is_axial_unless_slices_are_clearly_thicker_elsewhere(
    stored: str, spacing_mm: tuple[float, float, float], plane: str, axis: int
) -> None:
    grid = grid_of(stored, spacing_mm)
    assert (measuring_plane(grid), axis_of(grid)) == (plane, axis)
    found = measure_diameters(sphere(9.0)(world_points(grid)), grid)
    assert (found.plane, found.axis) == (plane, axis)
    assert measure_diameters(sphere(9.0)(world_points(grid)), grid, plane="coronal").plane == "coronal"


@pytest.mark.parametrize("name", GRIDS)
def test_sphere_within_one_voxel(name: str) -> None:
    grid = GRIDS[name]
    axis = axis_of(grid)
    voxel_mm = max(s for a, s in enumerate(grid.spacing_mm) if a != axis)
    points = world_points(grid)
    for radius, shift in zip((4.0, 9.0, 15.0), shifts(grid, 3), strict=True):
        found = measure_diameters(sphere(radius)(points - shift), grid)
        offset = abs(grid.to_voxel(shift)[axis] - found.slice_index) * grid.spacing_mm[axis]
        on_slice = 2 * np.sqrt(radius**2 - offset**2)
        assert abs(found.long_mm - on_slice) <= voxel_mm
        assert abs(found.short_mm - on_slice) <= voxel_mm
        assert abs(found.long_mm - 2 * radius) <= voxel_mm + (2 * radius - on_slice)
        assert_consistent(found, grid)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("angle_deg", [0.0, 17.0, 45.0, 71.0])
def test_ellipsoid_and_box_within_one_voxel(name: str, angle_deg: float) -> None:
    grid = GRIDS[name]
    axis = axis_of(grid)
    voxel_mm = max(s for a, s in enumerate(grid.spacing_mm) if a != axis)
    turn = turn_in_plane(grid, axis, angle_deg)
    points = world_points(grid)
    middle = grid.to_voxel((0, 0, 0))
    # The object's middle lies on a slice, anywhere in the plane.
    step = np.round(middle) - middle + 0.4 * (np.arange(3) != axis)
    points = points - grid.affine[:3, :3] @ step
    found = measure_diameters(ellipsoid((15, 9, 11), turn)(points), grid)
    assert abs(found.long_mm - 30) <= voxel_mm
    assert abs(found.short_mm - 18) <= voxel_mm
    found = measure_diameters(box((24, 12, 3 * grid.spacing_mm[axis]), turn)(points), grid)
    assert abs(found.long_mm - np.hypot(24, 12)) <= voxel_mm
    # The perpendicular to a rectangle's diagonal runs from corner side to corner side: 12 / cos(atan(12 / 24)).
    assert abs(found.short_mm - 12 / np.cos(np.arctan(0.5))) <= 1.5 * voxel_mm


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.4, 2.5), st.floats(0.4, 2.5), st.sampled_from([0.15, 0.5, 0.9]))
def test_against_all_pairs_and_walked_lines(seed: int, row_mm: float, column_mm: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random((13, 11)), rng.uniform(0, 1.5))
    rows = noise > np.quantile(noise, share)
    grid = flat_grid(rows, (row_mm, column_mm))
    everything = flat(np.ones_like(rows))
    found = measure_diameters(flat(rows), grid, bridge=everything)
    assert found.long_mm == pytest.approx(longest_slow(flat(rows), grid, 2))
    assert_consistent(found, grid)
    ends = grid.to_voxel(found.long_ends_mm)[:, :2]
    # Interpolation between voxel centres bulges over the straight outline: it is 0.44 to 0.56 there, so a little
    # above every walked line is inside the outline, and a little below every line inside is walked.
    spacing = np.array([row_mm, column_mm])
    assert found.short_mm >= perpendicular_slow(rows, ends, spacing, level=0.565) - 1e-6
    assert found.short_mm <= perpendicular_slow(rows, ends, spacing, level=0.435) + 0.1
    assert found.short_mm <= found.long_mm + 1e-6


@pytest.mark.parametrize("angle_deg", [0.0, 30.0, 60.0])
def test_perpendicular_of_smooth_shapes_is_what_walking_lines_finds(angle_deg: float) -> None:
    rows = ellipsoid((11, 7, 5), (0, 0, angle_deg))(world_points(grid_of(extent_mm=27)))[:, :, 13]
    grid = flat_grid(rows)
    found = measure_diameters(flat(rows), grid)
    slow = perpendicular_slow(rows, grid.to_voxel(found.long_ends_mm)[:, :2], np.ones(2))
    assert found.short_mm == pytest.approx(slow, abs=0.25)


@settings(max_examples=12, deadline=None)
@given(grids(min_side=4, max_side=9), st.integers(0, 2**32 - 1), st.booleans())
def test_answer_does_not_depend_on_storage(grid: Grid, seed: int, with_cavity: bool) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random(grid.shape), 1)
    values = (noise > np.quantile(noise, 0.6)).astype(np.uint8)
    if with_cavity:
        values[noise < np.quantile(noise, 0.15)] = 2
    volume = Volume(values, grid)

    def measure(stored: Volume) -> Diameters:
        return measure_diameters(stored.data == 1, stored.grid, cavity=stored.data == 2)

    expected = measure(volume)
    axes = tuple(int(a) for a in rng.permutation(3))
    other = volume.flip(int(rng.integers(3))).permute((axes[0], axes[1], axes[2]))
    found = measure(other)
    assert (found.long_mm, found.short_mm) == pytest.approx((expected.long_mm, expected.short_mm), abs=1e-4)
    assert found.slices == expected.slices
    assert axes[found.axis] == expected.axis
    ends = [sorted(ends_of(diameters)[0].round(3).tolist()) for diameters in (found, expected)]
    np.testing.assert_allclose(*ends, atol=2e-3)


def test_empty_mask() -> None:
    found = measure_diameters(np.zeros((5, 5, 5), bool), grid_of(extent_mm=5))
    assert (found.long_mm, found.short_mm, found.slices) == (0, 0, 0)


def test_single_voxel_is_as_long_as_its_spacing() -> None:
    rows = np.zeros((5, 5), bool)
    rows[2, 3] = True
    found = measure_diameters(flat(rows), flat_grid(rows, (0.5, 0.8)))
    assert (found.long_mm, found.short_mm) == pytest.approx((0.8, 0.5))
    assert found.slice_index == 1
    assert found.slices == 1


def test_part_of_a_grid_is_measured_where_it_lies() -> None:
    grid = grid_of("LPS", (1, 1, 2), (5, 6, 7), extent_mm=30)
    mask = ellipsoid((9, 5, 6))(world_points(grid))
    whole = measure_diameters(mask, grid)
    part = measure_diameters(mask[3:, 2:28, 1:], grid, start=(3, 2, 1))
    assert part == whole


def test_the_slice_of_the_largest_product_is_measured() -> None:
    mask = np.zeros((40, 40, 3), bool)
    mask[2:38, 2:6, 0] = True
    mask[2:30, 2:22, 1] = True
    found = measure_diameters(mask, Grid(mask.shape, np.eye(4)))
    assert found.slice_index == 1
    assert found.long_mm == pytest.approx(np.hypot(28, 20), abs=1)


def test_a_thin_rim_measures_the_same_on_twenty_grids() -> None:
    """Its narrow upper half is as long as the wide lower one, so that the voxels decide which slice is longest."""
    rng = np.random.default_rng(5)
    products, are_measurable = [], set()
    for voxel_mm in np.geomspace(0.7, 1.4, 20):
        sides = voxel_mm * rng.uniform(0.95, 1.05, 3)
        grid = grid_of("PSR", (sides[0], sides[1], sides[2]), extent_mm=34)
        points = world_points(grid) - shifts(grid, 1, seed=int(rng.integers(1000)))

        def within(inset_mm: float, points: np.ndarray = points) -> np.ndarray:
            lower = ellipsoid((9 - inset_mm, 6.5 - inset_mm, 6 - inset_mm))(points - (0, 0, -4))
            return lower | ellipsoid((9.2 - inset_mm, 4 - inset_mm, 6 - inset_mm))(points - (0, 0, 4))

        core = within(2.5)
        found = measure_diameters(within(0) & ~core, grid, bridge=core)
        products.append(found.long_mm * found.short_mm)
        are_measurable.add(is_measurable(found, grid.spacing_mm[found.axis]))
    middle = float(np.median(products))
    assert middle == pytest.approx(18 * 13, rel=0.1)
    assert np.abs(np.array(products) / middle - 1).max() <= 0.08
    assert are_measurable == {True}


def test_rim_is_measured_from_outer_edge_to_outer_edge() -> None:
    points = world_points(ONE_MM)
    core = sphere(9)(points)
    rim = sphere(14)(points) & ~core
    solid = measure_diameters(rim | core, ONE_MM)
    for bridge in (None, core):
        assert measure_diameters(rim, ONE_MM, bridge=bridge) == solid


def test_broken_rim_is_joined_by_its_necrosis_only() -> None:
    rows = np.hypot(*np.mgrid[-15:16, -15:16]) <= 14
    core = np.hypot(*np.mgrid[-15:16, -15:16]) <= 9
    core |= rows & (np.abs(np.mgrid[-15:16, -15:16][1]) <= 2)
    rim = rows & ~core
    grid = flat_grid(rows)
    assert ndimage.label(rim)[1] == 2
    joined = measure_diameters(flat(rim), grid, bridge=flat(core))
    assert joined.long_mm == pytest.approx(measure_diameters(flat(rows), grid).long_mm, abs=1)
    apart = measure_diameters(flat(rim), grid)
    assert apart.long_mm < joined.long_mm - 0.5
    left = rim & (np.mgrid[-15:16, -15:16][1] < 0)
    assert apart.long_mm == pytest.approx(measure_diameters(flat(left), grid).long_mm)


def test_half_ring_chord_runs_over_tissue_but_not_over_a_cavity() -> None:
    y, x = np.mgrid[-22:23, -22:23]
    distance = np.hypot(y, x)
    half = (distance <= 20) & (distance > 12) & (y >= 0)
    hollow = distance <= 12
    grid = flat_grid(half)
    over_tissue = measure_diameters(flat(half), grid)
    assert over_tissue.long_mm == pytest.approx(40, abs=1.1)
    beside = measure_diameters(flat(half), grid, cavity=flat(hollow))
    # The longest line in a ring touches the hollow: 2 sqrt(20^2 - 12^2) = 32; it fits into the half ring.
    assert beside.long_mm == pytest.approx(32, abs=1.5)
    assert_consistent(beside, grid)
    for ends in ends_of(beside):
        a, b = grid.to_voxel(ends)[:, :2]
        assert not enters_slow(a, b, hollow, level=0.9)


def test_wall_of_a_cavity_is_measured_across_the_wall() -> None:
    # 4 x 30 mm wall along a cavity, another one beyond it, joined at one end: a U.
    rows = np.zeros((30, 20), bool)
    rows[:, :4] = rows[:, 16:] = True
    rows[26:] = True
    hollow = np.zeros_like(rows)
    hollow[:26, 4:16] = True
    found = measure_diameters(flat(rows), flat_grid(rows), cavity=flat(hollow))
    # From the foot of a wall to its top, across its width: the mid-edge points are (29.5, 0) and (-0.5, 3).
    assert found.long_mm == pytest.approx(np.hypot(30, 3), abs=1)
    assert found.short_mm < 21
    assert measure_diameters(flat(rows), flat_grid(rows)).long_mm == pytest.approx(np.hypot(30, 19), abs=1)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_cavity_against_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random((12, 12)), 1.2)
    rows = noise > np.quantile(noise, 0.5)
    hole = noise < np.quantile(noise, 0.25)
    grid = flat_grid(rows)
    found = measure_diameters(flat(rows), grid, bridge=flat(~rows & ~hole), cavity=flat(hole))
    parts, count = ndimage.label(~hole, np.ones((3, 3)))
    # Lines are tried at samples half a voxel apart, so one that only dips into the cavity may pass. It lies between
    # the longest of its part that never dips beyond the edge and the longest that never comes near a voxel's centre.
    limits = [
        [longest_slow(flat(rows & (parts == k)), grid, 2, flat(hole), level=level) for level in (CAVITY_EDGE, 0.97)]
        for k in range(1, count + 1)
    ]
    assert any(strict - 1e-6 <= found.long_mm <= lenient + 1e-6 for strict, lenient in limits)
    for ends in ends_of(found):
        a, b = grid.to_voxel(ends)[:, :2]
        assert not enters_slow(a, b, hole, level=0.97)


def test_large_cavity_finds_what_trying_every_pair_finds() -> None:
    """Pairs are left out by cells; none of those left out may be free."""
    y, x = np.mgrid[-24:25, -24:25]
    rows = (np.hypot(y, x) <= 23) & (np.hypot(y - 3, x) > 15)
    hole = np.hypot(y - 3, x) <= 15
    points = edge_points_slow(rows)
    first, second = np.triu_indices(len(points), 1)
    free = ~crosses(points[first], points[second], hole)
    longest = np.linalg.norm(points[first] - points[second], axis=1)[free].max()
    assert measure_diameters(flat(rows), flat_grid(rows), cavity=flat(hole)).long_mm == pytest.approx(longest)


def test_outline_is_closed_and_has_the_area_of_its_voxels() -> None:
    rows = np.random.default_rng(3).random((20, 20)) < 0.6
    segments = outline_segments(rows)
    ends, counts = np.unique(segments.reshape(-1, 2), axis=0, return_counts=True)
    assert (counts == 2).all()
    assert {tuple(p) for p in ends} == {tuple(p) for p in edge_points_slow(rows)}


def test_edge_is_the_least_biased_of_three() -> None:
    """The table of the module: centres are too short on boxes by a voxel, corners too long on discs by one."""
    errors: dict[str, list[float]] = {"centre": [], "edge": [], "corner": []}
    rng = np.random.default_rng(1)
    for _ in range(30):
        turn = (0, 0, float(rng.uniform(0, 180)))
        shift = (*rng.uniform(-0.5, 0.5, 2), 0)
        points = world_points(grid_of(extent_mm=41))[:, :, 20:21] - shift
        for shape, truth in ((ellipsoid((15, 15, 15)), 30), (box((30, 15, 9), turn), np.hypot(30, 15))):
            rows = shape(points)[:, :, 0]
            centres = np.argwhere(rows).astype(float)
            corners = np.concatenate([centres + step for step in itertools.product((-0.5, 0.5), repeat=2)])
            for name, candidates in (("centre", centres), ("edge", edge_points_slow(rows)), ("corner", corners)):
                top = candidates[ConvexHull(candidates).vertices]
                lengths = np.linalg.norm(top[:, None] - top[None], axis=-1)
                errors[name].append(float(lengths.max() - truth))
    worst = {name: float(np.abs(values).max()) for name, values in errors.items()}
    assert worst["edge"] <= 1.05
    assert worst["edge"] < worst["corner"]
    assert worst["edge"] < worst["centre"]
    assert abs(np.mean(errors["edge"])) < 0.5
