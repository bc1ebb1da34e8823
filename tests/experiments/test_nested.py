"""Phantoms whose cores have a formula for their volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from brats_seg.core.errors import InputError
from brats_seg.core.labels import Structure
from brats_seg.phantom.anatomy import draw_person, make_anatomy
from brats_seg.phantom.course import Phantom, body_grid
from experiments.volumetry.nested import NestedConfig, draw_edema_field, draw_lesion, make_phantom, tumour_fractions
from tests.phantom.small_phantoms import T1CE_ALONE as SMALL

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("coarse_brains")]  # whole phantoms take seconds

TUMOUR = NestedConfig(core_volume_ml=(3, 4), edema_mm=(3, 5))


def fraction_ml(phantom: Phantom, structure: Structure) -> float:
    volume = phantom.fractions[structure]
    return float(volume.data.sum(dtype=np.float64)) * volume.grid.voxel_ml


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(SMALL, np.random.default_rng(6), tumour=TUMOUR)


def test_truth_is_the_formula_and_the_fractions_hold_it(phantom: Phantom) -> None:
    lesion = phantom.description["lesions"][0]
    assert phantom.truth["TC"] == pytest.approx(4 / 3 * np.pi * np.prod(lesion["radii_mm"]) / 1000, rel=1e-4)
    assert phantom.description["volume_known_by"]["TC"] == "formula"
    for structure in (Structure.NCR, Structure.ED, Structure.ET):
        assert fraction_ml(phantom, structure) == pytest.approx(phantom.truth[structure.name], rel=0.003)
    assert phantom.truth["WT"] == pytest.approx(phantom.truth["TC"] + phantom.truth["ED"])
    assert phantom.truth["TC"] == pytest.approx(phantom.truth["ET"] + phantom.truth["NCR"])


def test_centroid_is_where_the_description_says(phantom: Phantom) -> None:
    core = phantom.fractions[Structure.NCR].data + phantom.fractions[Structure.ET].data
    voxels = np.argwhere(core > 0)
    centroid = np.average(phantom.labels.grid.to_world(voxels), axis=0, weights=core[tuple(voxels.T)])
    centre = np.array(phantom.description["lesions"][0]["centre_mm"])
    assert np.linalg.norm(centroid - centre) < 4  # waves move the centroid off the centre a little


def test_low_grade_does_not_enhance() -> None:
    low = make_phantom(SMALL, np.random.default_rng(1), tumour=replace(TUMOUR, enhances=False))
    assert low.truth["ET"] == 0 and low.truth["NCR"] == low.truth["TC"] > 0
    assert set(np.unique(low.labels.data)) == {0, 1, 2}


def test_edema_volume_does_not_hang_on_the_supersampling() -> None:
    person = draw_person(SMALL.anatomy, SMALL.centre_mm(), np.random.default_rng(6))
    anatomy = make_anatomy(person, body_grid(SMALL, person))
    lesion = draw_lesion(TUMOUR, anatomy, np.random.default_rng(7))
    field = draw_edema_field(lesion, anatomy, np.random.default_rng(8))
    coarse, fine = (tumour_fractions(lesion, anatomy, field, supersampling=n) for n in (3, 6))
    assert fine.edema.sum(dtype=np.float64) > 1000
    assert coarse.edema.sum(dtype=np.float64) == pytest.approx(fine.edema.sum(dtype=np.float64), rel=0.003)


def test_a_tumour_larger_than_a_hemisphere_is_refused() -> None:
    with pytest.raises(InputError, match="no place in this brain"):
        make_phantom(SMALL, np.random.default_rng(0), tumour=NestedConfig(core_volume_ml=(150, 151)))
