"""The template every brain is made from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from brats_seg.core.grid import grid_between
from brats_seg.phantom.anatomy import AnatomyConfig, depth_mm, draw_person, load_template, make_anatomy


@pytest.mark.slow
def test_the_template_holds_what_nilearn_loads() -> None:
    """Cut to a box around the brain, and CSF what neither map claims."""
    from nilearn import datasets  # seconds, of every process that collects tests

    template = load_template()
    image = datasets.load_mni152_template()
    first = np.round(template.grid.affine[:3, 3] - image.affine[:3, 3]).astype(int)
    box = tuple(slice(a, a + n) for a, n in zip(first, template.grid.shape, strict=True))
    brain = np.asarray(image.dataobj) > 0
    np.testing.assert_array_equal(template.depth_mm > 0, brain[box])
    assert brain.sum() == brain[box].sum()
    grey, white = (
        np.where(brain, np.asarray(load().dataobj, np.float32), 0)[box]
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    total = np.maximum(np.where(brain[box], np.clip(1 - grey - white, 0, 1), 0) + grey + white, 1e-6)
    np.testing.assert_array_equal(template.grey, grey / total)
    np.testing.assert_array_equal(template.white, white / total)


@pytest.mark.slow
def test_a_brain_is_as_large_as_an_adults() -> None:
    person = draw_person(AnatomyConfig(), np.zeros(3), np.random.default_rng(1))
    anatomy = make_anatomy(person, grid_between(*person.box_mm, 4.0))
    assert 1000 < anatomy.brain.sum() * anatomy.grid.voxel_ml < 2000


@pytest.mark.parametrize("sides", [(18, 12, 10), (17, 12, 10)])
@pytest.mark.parametrize("mirrored", [True, False])
def test_depth_is_the_distance_to_the_outside(sides: tuple[int, int, int], mirrored: bool) -> None:
    body = np.zeros(sides, np.bool_)
    body[2:-2, 2:-2, 1:-1] = True
    body[7:-7, :5] = False  # a furrow in the middle
    if not mirrored:
        body[3, 6, 5] = False
    np.testing.assert_array_equal(depth_mm(body), ndimage.distance_transform_edt(body).astype(np.float32))
