"""Heads around brains: layers in their order, brain untouched, and preprocessing notices them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.brain import check_skull_stripped
from brats_seg.phantom.skull import Layer, Skull, add_skull, draw_skull, head_layers
from brats_seg.segment.prepare import prepare

RADII_MM = np.array([66.0, 84.0, 60.0])


def brain_grid(spacing_mm: float = 4.0) -> Grid:
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = [-105, -125, -125]
    x, y, z = (round(side / spacing_mm) for side in (213, 252, 237))
    return Grid((x, y, z), affine)


def brain_mask(grid: Grid) -> np.ndarray:
    points = grid.to_world(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1))
    mask = ((points / RADII_MM) ** 2).sum(-1) < 1
    mask &= ~((np.abs(points[..., 0]) < 3) & (points[..., 2] > 20))  # the furrow between the halves
    return mask


@pytest.fixture(scope="module")
def study() -> Study:
    grid, rng = brain_grid(), np.random.default_rng(0)
    mask = brain_mask(grid)
    images = {}
    for sequence in SEQUENCES:
        values = np.where(mask, rng.normal(100, 20, grid.shape).clip(5), 0)
        images[sequence] = Volume(values.astype(np.float32), grid)
    return Study("case", images)


@pytest.fixture(scope="module")
def skull() -> Skull:
    return draw_skull(np.random.default_rng(1))


def test_the_layers_lie_in_their_order_and_fill_what_they_should(skull: Skull) -> None:
    grid = brain_grid()
    brain = brain_mask(grid)
    shares = head_layers(brain, grid, skull)
    total = sum(shares.values())
    assert not total[brain].any()
    assert total.max() <= 1 + 1e-5
    up = [round(v) for v in grid.to_voxel([30, 0, 0])]
    column = {layer: share[up[0], up[1], up[2] :] for layer, share in shares.items()}
    heights = {layer: float(np.average(np.arange(len(c)), weights=c)) for layer, c in column.items() if c.sum() > 0}
    order = (Layer.FLUID, Layer.BONE, Layer.FAT, Layer.SKIN)
    assert [heights[layer] for layer in order] == sorted(heights[layer] for layer in order)
    bone_mm = (column[Layer.BONE].sum() + column[Layer.MARROW].sum()) * grid.spacing_mm[2]
    assert bone_mm == pytest.approx(skull.inner_mm + skull.marrow_mm + skull.outer_mm, rel=0.6)
    eyes_ml = float(shares[Layer.EYE].sum()) * grid.voxel_ml
    assert eyes_ml == pytest.approx(2 * np.pi / 6 * skull.eye_mm**3 / 1000, rel=0.15)


def test_the_furrow_between_the_halves_holds_fluid_and_no_bone(skull: Skull) -> None:
    grid = brain_grid()
    shares = head_layers(brain_mask(grid), grid, skull)
    x, y, z = (round(v) for v in grid.to_voxel([0, 0, 40]))
    assert shares[Layer.FLUID][x, y, z] == pytest.approx(1)


@pytest.mark.slow
def test_no_fluid_lies_over_tumour_that_reaches_the_surface(skull: Skull) -> None:
    grid = brain_grid(3.0)
    brain = brain_mask(grid)
    points = grid.to_world(np.argwhere(np.ones(grid.shape, bool))).reshape(*grid.shape, 3)

    def fluid_over(tumour_mm: list[float], there_mm: list[float]) -> float:
        tumour = (np.linalg.norm(points - tumour_mm, axis=-1) < 12) & brain
        shares = head_layers(brain, grid, replace(skull, fluid_mm=4.0), tumour=tumour)
        x, y, z = (round(v) for v in grid.to_voxel(there_mm))
        return float(shares[Layer.FLUID][x : x + 5, y, z].sum())

    beside = [66.0, 0.0, 0.0]
    alone = fluid_over([0.0, 30.0, -20.0], beside)  # deep in the brain
    assert alone > 0.8
    assert fluid_over([60.0, 0.0, 0.0], beside) < 0.5 * alone
    assert fluid_over([60.0, 0.0, 0.0], [-78.0, 0.0, 0.0]) > 0.8


@pytest.mark.slow
def test_the_brain_keeps_its_values_and_the_same_seed_gives_the_same_head(study: Study, skull: Skull) -> None:
    first, second = (add_skull(study, skull, np.random.default_rng(2)) for _ in range(2))
    for sequence in SEQUENCES:
        before, after = study.images[sequence], first.images[sequence]
        inside = before.data != 0
        np.testing.assert_array_equal(after.data[inside], before.data[inside])
        assert np.isfinite(after.data).all() and (after.data >= 0).all()
        np.testing.assert_array_equal(after.data, second.images[sequence].data)


@pytest.mark.slow
@pytest.mark.parametrize("air", [0.0, 0.02])
def test_preprocessing_notices_the_skull_on_every_sequence(study: Study, skull: Skull, air: float) -> None:
    head = add_skull(study, replace(skull, air_noise=air), np.random.default_rng(3))
    for sequence in SEQUENCES:
        assert check_skull_stripped(study.images[sequence], sequence).is_stripped
        assert not check_skull_stripped(head.images[sequence], sequence).is_stripped
    with pytest.raises(InputError, match="does not look skull-stripped"):
        prepare(head)


@pytest.mark.parametrize("seed", range(4))
def test_every_drawn_head_is_noticed(study: Study, seed: int) -> None:
    one = replace(study, images={MRSequence.T1: study.images[MRSequence.T1]})
    head = add_skull(one, draw_skull(np.random.default_rng(seed)), np.random.default_rng(seed))
    assert not check_skull_stripped(head.images[MRSequence.T1], MRSequence.T1).is_stripped


def test_its_record_is_plain(skull: Skull) -> None:
    record = json.loads(json.dumps(skull.to_dict()))
    assert 1 <= record["fluid_mm"] <= 4 and len(record["eyes_mm"]) == 2


def test_an_empty_image_is_refused(skull: Skull) -> None:
    empty = Study("e", {MRSequence.T1: Volume(np.zeros(brain_grid().shape, np.float32), brain_grid())})
    with pytest.raises(InputError, match="no brain"):
        add_skull(empty, skull, np.random.default_rng(0))
