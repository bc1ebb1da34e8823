"""Lesions named over visits: native volumes, common names."""

from __future__ import annotations

import numpy as np
import pytest
from glioma import ET, REGIONS, WT
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import SCHEMAS, Region
from brats_seg.core.study import Timepoint
from brats_seg.core.visit import RunRecord, Segmentation, Visit
from brats_seg.track.lesions import (
    SPECK_ML,
    RegionCourse,
    follow_region,
)
from brats_seg.track.match import Relation
from brats_seg.volumetrics.lesions import component_numbers
from brats_seg.volumetrics.measure import measure_segmentation

SHAPE = (60, 60, 40)
COMMON = Grid(SHAPE, np.eye(4))
SHIFT = np.array(
    [[1.0, 0, 0, 6], [0, 1, 0, -4], [0, 0, 1, 3], [0, 0, 0, 1]]
)  # common to visit: the head lies elsewhere in this scanner


def balls(*found: tuple[tuple[float, float, float], float], grid: Grid = COMMON) -> NDArray[np.bool_]:
    points = grid.to_world(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1))
    mask = np.zeros(grid.shape, bool)
    for centre, radius in found:
        mask |= np.linalg.norm(points - centre, axis=-1) <= radius
    return mask


def visit(
    mask: NDArray[np.bool_],
    *,
    grid: Grid = COMMON,
    necrosis: NDArray[np.bool_] | None = None,
) -> Visit:
    labels = Volume(np.where(mask, 3, 0 if necrosis is None else necrosis).astype(np.uint8), grid)
    segmentation = Segmentation("v", labels, SCHEMAS["brats2023"], REGIONS)
    return Visit(Timepoint("v", {}), segmentation, measure_segmentation(segmentation), RunRecord("v", {}))


def follow(
    visits: list[Visit], common: Grid = COMMON, *, matrix: NDArray[np.float64] | None = None, region: Region = ET
) -> RegionCourse:
    """The lesions over all visits; ``matrix`` is that of the last."""
    matrices = [*[np.eye(4)] * (len(visits) - 1), np.eye(4) if matrix is None else matrix]
    return follow_region(region, visits, matrices, common, plane="axial")


def table(course: RegionCourse) -> list[dict[str, str]]:
    last = max(row.visit for row in course.rows)
    return [{row.lesion: row.relation.value for row in course.at(index)} for index in range(last + 1)]


A, B = ((15.0, 20.0, 20.0), 6.0), ((42.0, 20.0, 20.0), 4.0)


def test_volumes_are_those_of_the_visits_own_grid() -> None:
    thick = Grid((60, 60, 10), np.diag([1.0, 1.0, 4.0, 1.0]))
    masks = [balls(A, B), balls(A, B, grid=thick)]
    course = follow([visit(masks[0]), visit(masks[1], grid=thick)])
    assert table(course) == [{"E1": "first", "E2": "first"}, {"E1": "same", "E2": "same"}]
    for index, mask in enumerate(masks):
        voxel_ml = (COMMON, thick)[index].voxel_ml
        assert sum(row.volume_ml for row in course.at(index)) == pytest.approx(mask.sum() * voxel_ml)


def test_a_moved_head_keeps_its_lesions() -> None:
    moved = [(tuple(np.array(centre) + SHIFT[:3, 3]), radius) for centre, radius in (A, B)]
    course = follow([visit(balls(A, B)), visit(balls(*moved))], matrix=SHIFT)
    assert table(course)[1] == {"E1": "same", "E2": "same"}
    assert course.at(1)[0].centroid_mm == pytest.approx(np.array(A[0]) + SHIFT[:3, 3], abs=0.1)


def test_new_gone_and_returned() -> None:
    course = follow([visit(balls(A)), visit(balls(A, B)), visit(balls(B)), visit(balls(A, B))])
    assert table(course) == [
        {"E1": "first"},
        {"E1": "same", "E2": "new"},
        {"E1": "gone", "E2": "same"},
        {"E1": "returned", "E2": "same"},
    ]
    assert [row.volume_ml > 0 for row in course.rows if row.lesion == "E1"] == [True, True, False, True]


def test_merging_and_splitting() -> None:
    left, right, bridge = ((20.0, 20.0, 20.0), 6.0), ((36.0, 20.0, 20.0), 6.0), ((28.0, 20.0, 20.0), 4.0)
    visits = [visit(balls(left, right)), visit(balls(left, right, bridge)), visit(balls(left, right))]
    course = follow(visits)
    relations = [set(row.values()) for row in table(course)]
    assert relations == [{"first"}, {"same", "merged"}, {"same", "split"}]
    whole = next(row for row in course.at(1) if row.relation is Relation.SAME)
    assert whole.volume_ml == pytest.approx(balls(left, right, bridge).sum() / 1000)


def test_adding_a_visit_changes_nothing_before() -> None:
    visits = [visit(balls(A, B)), visit(balls(B)), visit(balls(A, B, ((30.0, 45.0, 20.0), 5.0)))]
    short, long = follow(visits[:2]), follow(visits)
    assert short.rows == long.rows[: len(short.rows)]


def test_specks_are_counted_and_are_no_lesions() -> None:
    mask = balls(A)
    mask[50, 50, 30:33] = True
    course = follow([visit(balls(A)), visit(mask)])
    assert table(course)[1] == {"E1": "same"}
    assert course.specks_ml == pytest.approx((0.0, 0.003))


def test_pieces_a_voxel_apart_are_one_lesion() -> None:
    mask = balls(A)
    mask[15, :, :] = False  # a gap of one voxel cuts it in two
    course = follow([visit(mask)])
    assert [(row.lesion, row.pieces) for row in course.rows] == [("E1", 2)]
    assert course.rows[0].volume_ml == pytest.approx(mask.sum() / 1000)


def test_the_pieces_of_a_rim_are_measured_together() -> None:
    """A rim around necrosis that one plane of voxels breaks keeps its diameters."""
    centre = (30.0, 30.0, 20.0)
    inside, outside = balls((centre, 12.0)), balls((centre, 16.0))
    broken = outside & ~inside
    broken[34] = False
    course = follow([visit(outside & ~inside, necrosis=inside), visit(broken, necrosis=inside)])
    whole, pieces = course.rows
    assert (whole.pieces, pieces.pieces) == (1, 2) and pieces.measurable
    assert (pieces.long_mm, pieces.short_mm) == pytest.approx((whole.long_mm, whole.short_mm), rel=0.03)


@pytest.mark.parametrize("gap_mm", [1.0, 2.0])
def test_two_pieces_of_one_lesion_do_not_grow_by_touching(gap_mm: float) -> None:
    near, apart = balls(((22.0, 30.0, 20.0), 9.0)), ((38.0 + gap_mm, 30.0, 20.0), 6.0)
    course = follow([visit(near | balls(apart)), visit(near | balls(apart, ((32.0, 30.0, 20.0), 4.0)))], COMMON)
    first, second = course.rows
    assert (first.pieces, second.pieces) == (2, 1)
    assert first.long_mm * first.short_mm == pytest.approx(second.long_mm * second.short_mm, rel=0.08)


def test_a_lesion_outside_the_first_field_of_view_is_a_lesion() -> None:
    low = Grid((60, 60, 18), COMMON.affine)
    course = follow([visit(balls(A)[:, :, :18], grid=low), visit(balls(A, ((30, 30, 32), 5)))], low)
    assert table(course)[1] == {"E1": "same", "E2": "new"}
    assert course.at(1)[1].volume_ml == pytest.approx(balls(((30, 30, 32), 5)).sum() / 1000)
    assert max(course.specks_ml) == 0


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(
    centre=st.tuples(*(st.floats(-40, 90),) * 3),
    radius=st.floats(1.0, 6.0),
    seed=st.integers(0, 99),
    shift=st.floats(-9, 9),
)
def test_no_more_than_a_speck_is_called_one(
    centre: tuple[float, float, float], radius: float, seed: int, shift: float
) -> None:
    """Wherever it lies and however the head moved: every component is in a lesion, or too small for one."""
    grid = Grid((45, 45, 45), np.diag([1.0, 1.0, 1.0, 1.0]))
    grid = Grid(grid.shape, grid.affine + np.array([[0, 0, 0, c - 22] for c in centre] + [[0] * 4]))
    speckled = np.random.default_rng(seed).random(grid.shape) < 2e-4
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    seen = visit(balls((centre, radius), grid=grid) | speckled, grid=grid)
    course = follow([visit(balls(A)), seen], matrix=matrix)
    lesions = seen.measurements.lesions_of(ET)
    used = {number for row in course.at(1) for number in row.components}
    assert all(lesion.number in used for lesion in lesions if lesion.volume_ml > SPECK_ML)
    left = sum(lesion.volume_ml for lesion in lesions if lesion.number not in used)
    assert course.specks_ml[1] == pytest.approx(left)


def test_nothing_anywhere() -> None:
    course = follow([visit(balls()), visit(balls())], region=WT)
    assert course.rows == () and course.specks_ml == (0, 0)


def test_components_carry_the_numbers_of_the_table() -> None:
    mask = balls(A, B)
    one = visit(mask)
    numbers = component_numbers(mask, one.measurements.lesions_of(ET))
    assert numbers[15, 20, 20] == 1 and numbers[42, 20, 20] == 2
    assert np.array_equal(numbers > 0, mask)
