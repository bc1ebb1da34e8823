"""The programs that make what a recipe trains on: sides and sizes stay what they are, volumes name their studies."""

from __future__ import annotations

import cubes
import numpy as np
import pytest
import slabs
import teach
import volumes
from toy_packs import toy_pack

from brats_seg.train.data import LEVELS_PER_STD


def test_a_cube_is_turned_and_resampled_to_1_mm() -> None:
    left, posterior, superior = np.meshgrid(*[np.arange(32.0)] * 3, indexing="ij")
    made = cubes.at_1_mm((left + 100 * posterior + 10_000 * superior).astype(np.float32))
    assert made.shape == (59, 59, 38)
    steps = [float(np.diff(made.mean(axis=tuple({0, 1, 2} - {axis}))).mean()) for axis in range(3)]
    assert steps == pytest.approx([-1 / 1.875, -100 / 1.875, 10_000 / 1.211], rel=1e-3)
    assert made.mean() == pytest.approx(15.5 * 10_101, rel=1e-4)  # cut alike at both ends


def test_a_cubes_label_keeps_its_meaning() -> None:
    label = np.zeros((32, 32, 32), np.uint8)
    label[4:28, 4:28, 4:28], label[8:24, 8:24, 8:24], label[12:20, 12:20, 12:20] = 2, 4, 1
    image = np.ones((4, 32, 32, 32), np.float32)
    levels, numbers = cubes.prepared(image, label)
    assert (levels == 14).all()
    middle = tuple(n // 2 for n in numbers.shape)
    assert numbers[middle] == 1
    assert [int(n) for n in np.unique(numbers)] == [0, 1, 2, 3]
    assert (numbers > 0).sum() == pytest.approx(24**3 * 1.875 * 1.875 * 1.211, rel=0.03)


def test_the_teacher_looks_at_a_study_from_the_other_side_and_is_turned_back() -> None:
    pack = toy_pack("x", centre=(30, 20, 24))

    def program(images: dict[str, np.ndarray]) -> np.ndarray:
        assert (images["t1"][0, 0, 0], images["flair"].min()) == (0.0, 0.0)  # air
        bright = images["flair"] > teach.ABOVE + 1.5
        return np.stack([bright, bright, bright * 0.5]).astype(np.float32)

    found = teach.ask(program, pack)
    assert found.dtype == np.uint8
    assert [int(found[region].max()) for region in range(3)] == [255, 255, 128]
    centre = np.argwhere(found[0] > 0).mean(axis=0)
    assert centre == pytest.approx(np.argwhere(pack.labels > 0).mean(axis=0), abs=1.0)


def test_a_tumour_is_covered_with_the_other_side_unless_that_holds_tumour_too() -> None:
    pack = toy_pack("x", centre=(33, 26, 20))
    pack.labels[pack.labels > 0] = np.where(np.argwhere(pack.labels > 0)[:, 0] > 24, 2, 0)
    bare = volumes.without_tumour(pack)
    assert bare is not None
    assert (bare.labels > 0).sum() < 0.1 * (pack.labels > 0).sum()
    inside = np.argwhere((pack.labels > 0) & (bare.labels == 0))
    assert bare.image[3, *inside.T].mean() < 0.3 * pack.image[3, *inside.T].mean()  # FLAIR is bright no more
    assert volumes.without_tumour(toy_pack("y")) is None  # across the middle


def test_a_shape_comes_to_its_place_and_looks_like_the_donor() -> None:
    host, donor = toy_pack("host"), toy_pack("donor", centre=(30, 20, 24))
    bare = volumes.PackedStudy("host", host.image, np.zeros_like(host.labels), ("host",))
    shape = np.full((6, 5, 4), 3, np.uint8)
    made = volumes.place(bare, volumes.Tumour(shape, np.array([4, -8, 2])), donor, np.random.default_rng(0))
    assert made is not None
    assert made.made_of == ("host", "donor")
    where = np.argwhere(made.labels == 3)
    assert where.min(axis=0).tolist() == [26, 18, 22]
    assert len(where) == shape.size
    assert made.image[1, *where.T].mean() == pytest.approx(donor.image[1][donor.labels == 3].mean(), abs=8)  # T1CE
    far = volumes.Tumour(shape, np.array([400, 0, 0]))
    assert volumes.place(bare, far, donor, np.random.default_rng(0)) is None


def test_a_label_maps_tumour_lies_on_its_own_side() -> None:
    held = np.zeros((128, 128, 128), np.uint8)
    held[80:90, 40:50, 60:70] = 4  # left, anterior of the middle, by the axes of a label map
    tumour = volumes.shape_at_1_mm(held)
    assert tumour is not None
    middle = tumour.start + np.array(tumour.labels.shape) / 2
    left_mm, posterior_mm, superior_mm = 85 * 1.875 - 119.0, 45 * 1.875 - 127.5, 65 * 155 / 128 - 71.0
    assert middle == pytest.approx([-left_mm, -posterior_mm, superior_mm], abs=2.0)
    assert (tumour.labels == 3).sum() == pytest.approx(1000 * 1.875**2 * 155 / 128, rel=0.1)


def test_the_slices_about_a_tumour_are_normalised_by_themselves() -> None:
    pack = toy_pack("x", centre=(22, 26, 24))
    slab, kept = slabs.near_tumour(pack, 2)
    held = np.flatnonzero((pack.labels > 0).any(axis=(0, 1)))
    assert (kept.start, kept.stop) == (held[0] - 2, held[-1] + 3)
    assert slab.image.shape == (4, *slab.labels.shape)
    assert (slab.labels > 0).sum() == (pack.labels > 0).sum()
    inside = slab.image[:, (slab.image != 0).any(axis=0)] / LEVELS_PER_STD
    assert inside.mean(axis=1) == pytest.approx(np.zeros(4), abs=0.02)
    assert inside.std(axis=1) == pytest.approx(np.ones(4), abs=0.02)
