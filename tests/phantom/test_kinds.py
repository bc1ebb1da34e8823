"""Every kind of tumour looks and lies as it should."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from glioma import TC
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.labels import DEFAULT_SCHEMA, Structure
from brats_seg.core.study import MRSequence
from brats_seg.phantom.anatomy import draw_person, make_anatomy
from brats_seg.phantom.contrast import Tissue
from brats_seg.phantom.course import GrownCourse, body_grid, make_visit
from brats_seg.phantom.grown import CORE_PARTS, EDEMA, GrownScene, GrownTumour, part_number
from brats_seg.phantom.kinds import PROFILES, LesionScript, LesionState, TumourKind, ball_radius_mm, edema_ml
from brats_seg.phantom.script import Course, PatientKind, Story, VisitScript
from brats_seg.phantom.seeding import grow
from brats_seg.phantom.truth import diameters_mm
from tests.phantom.small_phantoms import T1CE_ALONE as SMALL

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("coarse_brains")]  # whole phantoms take seconds


@pytest.fixture(scope="module")
def person():
    return draw_person(SMALL.anatomy, SMALL.centre_mm(), np.random.default_rng(1))


def scene_of(person, *scripts: LesionScript, seed: int = 2) -> tuple[GrownTumour, GrownScene]:
    tumour = grow(person, scripts, np.random.default_rng(seed))
    return tumour, tumour.scene([script.states[0] for script in scripts], body_grid(SMALL, person))


@pytest.fixture(scope="module")
def high(person):
    return scene_of(person, LesionScript("L1", TumourKind.HIGH_GRADE, (LesionState(5.0, 0.6, 4.0),)))


@pytest.fixture(scope="module")
def meningioma(person):
    return scene_of(person, LesionScript("L1", TumourKind.MENINGIOMA, (LesionState(4.0, 1.0, 1.0),)))


@pytest.fixture(scope="module")
def metastases(person):
    scripts = [
        LesionScript(f"L{i}", TumourKind.METASTASES, (LesionState(ml, 0.7 if ml > 1 else 1.0, ml / 2),))
        for i, ml in enumerate((1.2, 0.3, 0.1))
    ]
    return scene_of(person, *scripts)


@pytest.fixture(scope="module")
def resected(person):
    return scene_of(person, LesionScript("L1", TumourKind.HIGH_GRADE, (LesionState(0.6, 0.95, 2.0, 4.0, "resection"),)))


@pytest.fixture(scope="module")
def low(person):
    return scene_of(person, LesionScript("L1", TumourKind.LOW_GRADE, (LesionState(3.5, 0.0, 4.0),)))


@pytest.fixture(scope="module", params=["high", "low", "meningioma", "metastases", "resected"])
def any_grown(request) -> tuple[GrownTumour, GrownScene]:
    return request.getfixturevalue(request.param)


def test_tumour_fractions_are_shares_and_lie_in_the_brain(any_grown) -> None:
    _, any_scene = any_grown
    whole = any_scene.tumour.whole
    assert whole.min() >= 0 and whole.max() <= 1 + 1e-6
    assert not whole[~any_scene.anatomy.brain].any()
    looks = sum(any_scene.tissues.values())
    np.testing.assert_allclose(looks, whole, atol=1e-6)
    assert any_scene.flow is None or any_scene.flow.least_determinant > 0


def test_a_high_grade_glioma_has_a_rim_around_its_necrosis(high) -> None:
    _, scene = high
    necrosis, enhancing = scene.tissues[Tissue.NECROSIS], scene.tumour.enhancing
    volumes = {name: float(values.sum()) / 1000 for name, values in (("n", necrosis), ("e", enhancing))}
    assert volumes["e"] == pytest.approx(3.0, abs=0.01)
    assert volumes["n"] == pytest.approx(1.6, abs=0.01)  # the rest is solid tumour that does not enhance
    assert float(scene.tissues[Tissue.CORE].sum()) / 1000 == pytest.approx(0.4, abs=0.01)
    core = necrosis + enhancing + scene.tissues[Tissue.CORE]
    outside = ndimage.distance_transform_edt(core >= 0.5)
    assert np.average(outside, weights=necrosis) > 1.3 * np.average(outside, weights=enhancing)
    surface = (core >= 0.5) & (outside < 1.5)
    assert (enhancing[surface] > necrosis[surface]).mean() > 0.6


def test_edema_follows_white_matter_and_spares_fluid(high) -> None:
    _, scene = high
    edema = scene.partition.fractions(part_number(0, EDEMA))
    core = scene.partition.fractions(*(part_number(0, part) for part in CORE_PARTS))
    near = (ndimage.distance_transform_edt(core < 0.5) < 8) & scene.anatomy.brain & (core < 0.01)
    white, fluid = near & (scene.anatomy.white > 0.8), near & (scene.anatomy.csf > 0.8)
    assert edema[white].mean() > 3 * edema[fluid].mean()
    assert edema[white].mean() > 1.2 * edema[near & (scene.anatomy.grey > 0.8)].mean()


def test_a_meningioma_sits_on_the_dura_and_pushes_the_brain(meningioma, person) -> None:
    tumour, scene = meningioma
    core = scene.tumour.enhancing
    depth = ndimage.distance_transform_edt(np.pad(scene.anatomy.brain, 1))[1:-1, 1:-1, 1:-1]
    assert ((core > 0.9) & (depth < 1.5)).sum() > 50  # a broad base
    assert scene.tumour.necrosis.sum() == 0
    assert ndimage.label(core >= 0.5, np.ones((3, 3, 3)))[1] == 1
    lesion = tumour.lesions[0]
    assert lesion.inwards @ (SMALL.centre_mm() - lesion.centre_mm) > 0
    below = lesion.centre_mm + lesion.inwards * 1.6 * lesion.script.radius_mm
    assert (below - scene.flow.origin_mm(below[None])[0]) @ lesion.inwards > 1.5  # cortex under it moved inwards
    before = make_anatomy(person, scene.anatomy.grid)
    assert scene.anatomy.csf.sum() < before.csf.sum()


def test_a_glioma_reaches_the_dura_where_asked(person, high) -> None:
    def at_surface(scene: GrownScene) -> int:
        depth = ndimage.distance_transform_edt(np.pad(scene.anatomy.brain, 1))[1:-1, 1:-1, 1:-1]
        core = scene.partition.fractions(*(part_number(0, part) for part in CORE_PARTS))
        return int(((core > 0.5) & (depth < 1.5)).sum())

    script = LesionScript("L1", TumourKind.HIGH_GRADE, (LesionState(5.0, 0.6, 4.0),), at_dura=True)
    assert at_surface(scene_of(person, script)[1]) > 50 > at_surface(high[1])


def test_metastases_are_apart_and_at_the_border_of_grey_and_white(metastases, person) -> None:
    tumour, scene = metastases
    core = scene.tumour.necrosis + scene.tumour.enhancing
    assert ndimage.label(core >= 0.5, np.ones((3, 3, 3)))[1] == 3
    anatomy = make_anatomy(person, scene.anatomy.grid)
    grey, white = (ndimage.gaussian_filter(values, 2.0) for values in (anatomy.grey, anatomy.white))
    both = np.minimum(grey, white)
    voxels = [np.round(scene.anatomy.grid.to_voxel(lesion.centre_mm)).astype(int) for lesion in tumour.lesions]
    found = [float(both[tuple(voxel)]) for voxel in voxels]
    assert min(found) > 0.15
    assert np.mean(found) > 1.2 * both[anatomy.brain].mean()
    small = part_number(2, CORE_PARTS[2])
    assert scene.partition.volume_ml(small) == pytest.approx(0.1, abs=1e-4)


def test_a_cavity_is_fluid_with_a_residual_at_its_wall(resected) -> None:
    _, scene = resected
    cavity = scene.cavity
    assert float(cavity.sum()) / 1000 == pytest.approx(4.0, abs=0.01)
    inside = cavity > 0.999
    assert (scene.anatomy.csf[inside] > 0.99).all()
    np.testing.assert_allclose(
        (scene.anatomy.csf + scene.anatomy.grey + scene.anatomy.white)[scene.anatomy.brain], 1, atol=1e-4
    )
    residual = scene.tumour.enhancing
    assert not (residual[inside] > 0).any()
    assert ndimage.binary_dilation(residual > 0.5, iterations=2)[cavity > 0.5].any()


def test_diameters_of_a_lesion_match_its_cells(high) -> None:
    """Against every cell of every slice, by brute force."""
    _, scene = high
    parts = [part_number(0, part) for part in CORE_PARTS]
    long_mm, short_mm = diameters_mm(scene, parts)
    mask = scene.partition.fractions(*parts) >= 0.5
    longest = 0.0
    for number in np.unique(np.argwhere(mask)[:, 2]):
        points = np.argwhere(mask[:, :, number]).astype(float)
        longest = max(longest, float(np.linalg.norm(points[:, None] - points[None], axis=-1).max()))
    assert long_mm == pytest.approx(longest + 1, abs=1.2)  # centres to edges
    assert 0.4 * long_mm < short_mm <= long_mm + 0.2


def test_profiles_and_balls() -> None:
    assert set(PROFILES) == {
        TumourKind.HIGH_GRADE, TumourKind.LOW_GRADE, TumourKind.METASTASES, TumourKind.MENINGIOMA,
    }  # fmt: skip
    assert 4 / 3 * np.pi * ball_radius_mm(7.0) ** 3 / 1000 == pytest.approx(7.0)
    assert edema_ml(0.0, 10.0) == pytest.approx(0.5 * 4 / 3 * np.pi)
    high, low = PROFILES[TumourKind.HIGH_GRADE].rates, PROFILES[TumourKind.LOW_GRADE].rates
    assert low.white_mm2_per_day / low.per_day > 2 * high.white_mm2_per_day / high.per_day  # a wider front
    assert high.white_mm2_per_day == 5 * high.grey_mm2_per_day


def test_what_does_not_fit_is_refused(person) -> None:
    with pytest.raises(InputError, match="no place in this brain"):
        scene_of(person, LesionScript("L1", TumourKind.HIGH_GRADE, (LesionState(300.0, 0.5),)))
    many = [LesionScript(f"L{i}", TumourKind.METASTASES, (LesionState(0.1, 1.0),)) for i in range(41)]
    with pytest.raises(InputError, match="too many"):
        scene_of(person, *many)


def test_phantoms_hold_their_truth(any_grown) -> None:
    tumour, scene = any_grown
    visits, kind = (VisitScript("01", date(2024, 1, 15)),), PatientKind(tumour.lesions[0].script.kind.value)
    course = Course("p", 3, kind, Story.STABLE, visits, tuple(lesion.script for lesion in tumour.lesions))
    phantom = make_visit(course, 0, SMALL, grown=GrownCourse(course, tumour)).phantom
    assert phantom.description["kind"] == kind.value
    assert set(phantom.truth) == {"WT", "TC", "ET", "NCR", "ED", "RC"}
    assert (phantom.truth["RC"] > 0) is (Structure.RC in phantom.fractions) is (scene.cavity is not None)
    for structure, volume in phantom.fractions.items():
        total = float(volume.data.sum(dtype=np.float64)) / 1000
        assert total == pytest.approx(phantom.truth[structure.name], rel=0.002, abs=0.002)
    measured = DEFAULT_SCHEMA.region_mask(phantom.labels.data, TC).sum() / 1000
    assert measured == pytest.approx(phantom.truth["TC"], rel=0.08)
    bright = phantom.study.images[MRSequence.T1CE].data
    if kind is PatientKind.LOW_GRADE:
        assert phantom.truth["ET"] == 0 and phantom.truth["NCR"] == phantom.truth["TC"] > 0
        assert set(np.unique(phantom.labels.data)) == {0, 1, 2}
    else:
        assert bright[phantom.labels.data == 3].mean() > 1.15 * bright[bright > 0].mean()
