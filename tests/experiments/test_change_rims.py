"""The paired measurement of a rim of enhancement around a necrotic core, with edema outside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from brats_seg.core.grid import Grid, Volume
from brats_seg.phantom.fields import smooth_noise
from brats_seg.phantom.objects import Blob, Ellipsoid, draw_waves, sphere
from brats_seg.track.boundary_shift.change import LesionChange, measure_change
from brats_seg.track.boundary_shift.frame import LesionScan
from experiments.change.rims import hollowed, label_like, shares
from experiments.change.study import edge_volume_ml

pytestmark = pytest.mark.slow

SIDE = 52
TISSUE, EDEMA, RIM, CORE = 100.0, 90.0, 140.0, 70.0
NOISE = 4.0


@dataclass(frozen=True)
class Look:
    """What one visit is like; texture belongs to the patient and stays."""

    outer_mm: float = 24.0
    inner_mm: float = 14.0
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rim: float = RIM
    core: float = CORE
    gain: float = 1.0
    mask_mm: float = 0.0
    centre_mm: tuple[float, float, float] = (0.3, -0.4, 0.2)
    core_centre_mm: tuple[float, float, float] = (0.9, -0.1, -0.2)


@cache
def textures(place: tuple[float, float, float]) -> list[np.ndarray]:
    """Patterns of the patient's tissue where it lies shifted by ``place``."""
    patient = np.random.default_rng(0)
    patterns = [smooth_noise((SIDE, SIDE, SIDE), width, patient) for width in (2.5, 8.0, 1.5)]
    return [ndimage.shift(pattern, place, order=3, mode="nearest") for pattern in patterns]


def visit(look: Look, seed: int) -> LesionScan:
    """A hollow ball in edema, seen by a scanner in whose frame the patient lies shifted by ``place``."""
    shape = (SIDE, SIDE, SIDE)
    affine = np.eye(4)
    affine[:3, 3] = -(SIDE - 1) / 2
    grid = Grid(shape, affine)
    shifted = np.array(affine)
    shifted[:3, 3] -= look.place
    seen = Grid(shape, shifted)  # the scanner's voxels in the patient
    outer, inner = sphere(look.centre_mm, look.outer_mm), sphere(look.core_centre_mm, look.inner_mm)
    whole, core = outer.sample_fractions(seen), inner.sample_fractions(seen)
    edema = sphere(look.centre_mm, 40.0).sample_fractions(seen, supersampling=2) - whole
    moved = textures(look.place)
    signal = TISSUE + 4 * moved[0] + 6 * moved[1] + (EDEMA - TISSUE) * edema
    signal += (whole - core) * (look.rim - TISSUE + 5 * moved[2]) + core * (look.core - TISSUE)
    image = ndimage.gaussian_filter(signal, 0.5) + NOISE * np.random.default_rng(seed).standard_normal(shape)
    hollow = sphere(look.core_centre_mm, look.inner_mm - look.mask_mm).sample_mask(seen)
    mask = sphere(look.centre_mm, look.outer_mm + look.mask_mm).sample_mask(seen) & ~hollow
    return LesionScan(Volume((look.gain * image).astype(np.float32), grid), mask, np.ones(shape, np.bool_), core=hollow)


def true_ml(look: Look) -> float:
    return float(np.pi / 6000 * (look.outer_mm**3 - look.inner_mm**3))


def between(first: Look, second: Look) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = np.subtract(second.place, first.place)
    return matrix


FIRST = Look(place=(0.3, -0.2, 0.45))
SECOND = Look(place=(-0.4, 0.1, -0.3), gain=2.7, mask_mm=0.6)


@pytest.fixture(scope="module")
def before() -> LesionScan:
    return visit(FIRST, 1)


GROWN = replace(SECOND, outer_mm=25.0)


@pytest.fixture(scope="module")
def after() -> LesionScan:
    return visit(GROWN, 2)


@pytest.fixture(scope="module")
def grown(before: LesionScan, after: LesionScan) -> LesionChange:
    return measure_change(before, after, matrix=between(FIRST, GROWN))


@pytest.mark.parametrize(
    ("outer_mm", "inner_mm"),
    [(24.0, 14.0), (24.0, 13.0), (23.0, 15.0)],
    ids=["neither", "inner", "both thinner"],
)
def test_both_borders_make_the_change(before: LesionScan, outer_mm: float, inner_mm: float) -> None:
    look = replace(SECOND, outer_mm=outer_mm, inner_mm=inner_mm)
    check_change(measure_change(before, visit(look, 2), matrix=between(FIRST, look)), look)


def test_the_outer_border_alone_makes_the_change(grown: LesionChange) -> None:
    check_change(grown, GROWN)


def check_change(found: LesionChange, look: Look) -> None:
    truth = true_ml(look) - true_ml(FIRST)
    assert found.trusted, found.reasons
    assert abs(found.masks_ml - truth) > 0.5  # the masks were made so
    assert found.change_ml.value == pytest.approx(truth, abs=0.12)  # 2 % of the volume
    assert found.change_ml.low <= truth <= found.change_ml.high
    assert found.first_ml == pytest.approx(true_ml(FIRST), rel=0.05)
    assert found.rim_mm == pytest.approx((FIRST.outer_mm - FIRST.inner_mm) / 2, abs=1.0)


def test_exchanging_the_visits_changes_the_sign_and_nothing_else(
    before: LesionScan, after: LesionScan, grown: LesionChange
) -> None:
    back = measure_change(after, before, matrix=between(GROWN, FIRST))
    assert back.change_ml.value == pytest.approx(-grown.change_ml.value, rel=1e-3)
    assert back.first_ml == pytest.approx(grown.second_ml, rel=1e-3)


def test_brightness_of_rim_and_core_may_change(before: LesionScan) -> None:
    look = replace(SECOND, rim=RIM + 8, core=CORE + 8)
    found = measure_change(before, visit(look, 3), matrix=between(FIRST, look))
    assert found.trusted, found.reasons
    assert found.change_ml.value == pytest.approx(0, abs=0.12)


def test_a_hole_in_the_mask_is_a_core(before: LesionScan, after: LesionScan, grown: LesionChange) -> None:
    untold = measure_change(replace(before, core=None), replace(after, core=None), matrix=between(FIRST, GROWN))
    assert untold.change_ml.value == pytest.approx(grown.change_ml.value, rel=1e-6)


def test_one_scan_alone(before: LesionScan) -> None:
    assert edge_volume_ml(before) == pytest.approx(true_ml(FIRST), rel=0.05)


def test_edema_given_as_another_lesion_hides_the_border(before: LesionScan) -> None:
    after = visit(SECOND, 2)
    hidden = [
        replace(scan, others=ndimage.binary_dilation(scan.mask | scan.core, iterations=6) & ~scan.mask)
        for scan in (before, after)
    ]
    found = measure_change(*hidden, matrix=between(FIRST, SECOND))
    assert any("of the border lies in brain" in reason for reason in found.reasons)


def test_a_core_that_came_to_be_is_said(before: LesionScan) -> None:
    look = replace(SECOND, outer_mm=24.0, inner_mm=8.0, core_centre_mm=(5.0, 0.0, 0.0))
    late = visit(look, 2)
    early = replace(before, mask=before.mask | before.core, core=np.zeros_like(before.mask))
    found = measure_change(early, late, matrix=between(FIRST, look))
    assert any("core changed beyond recognition" in reason for reason in found.reasons)


def test_thin_rims_lose_nothing() -> None:
    first = Look(inner_mm=24 - 2 * 2.5, core_centre_mm=(0.3, -0.4, 0.2))
    second = replace(first, outer_mm=25.0)
    found = measure_change(visit(first, 1), visit(second, 2), matrix=np.eye(4))
    assert found.trusted, found.reasons
    assert found.change_ml.value == pytest.approx(true_ml(second) - true_ml(first), rel=0.04)


def test_a_rim_too_thin_is_said() -> None:
    first, second = (
        Look(inner_mm=21.0, core_centre_mm=(0.3, -0.4, 0.2)),
        Look(outer_mm=24.5, inner_mm=21.0, core_centre_mm=(0.3, -0.4, 0.2)),
    )
    found = measure_change(visit(first, 1), visit(second, 2), matrix=np.eye(4))
    assert any("mm thick" in reason for reason in found.reasons)


def test_phantom_rims_have_the_volume_they_say() -> None:
    rng = np.random.default_rng(3)
    waves = draw_waves(0.2, rng)
    course = [Blob(Ellipsoid((0.2, 0.1, -0.3), (radius,) * 3, np.eye(3)), waves) for radius in (10.0, 10.5)]
    rims = hollowed(
        course, np.array([0.5, -0.5]), thickness_mm=4.0, off_centre=0.3, irregularity=0.2, gaps=False, rng=rng
    )
    affine = np.eye(4)
    affine[:3, 3] = -20
    grid = Grid((41, 41, 41), affine)
    for rim, radius, hollow in zip(rims, (10.0, 10.5), (6.5, 6.0), strict=True):
        enhancing, core = shares(rim, grid)
        assert rim.volume_ml == pytest.approx(4 / 3000 * np.pi * (radius**3 - hollow**3))
        assert enhancing.sum() / 1000 == pytest.approx(rim.volume_ml, rel=2e-3)
        assert core.sum() / 1000 == pytest.approx(4 / 3000 * np.pi * hollow**3, rel=2e-3)
        mask = enhancing >= 0.5
        labelled = label_like(mask, enhancing, core)
        assert not (labelled & mask).any()
        assert (labelled == (core >= 0.5)).mean() > 0.99
