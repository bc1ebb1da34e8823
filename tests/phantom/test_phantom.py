"""Whole phantoms: the truth, the images and the label map belong together."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from glioma import REGIONS

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid
from brats_seg.core.labels import DEFAULT_SCHEMA, Structure
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.phantom.acquire import AcquisitionConfig
from brats_seg.phantom.contrast import Tissue
from brats_seg.phantom.course import BRATS_GRID, Phantom, PhantomConfig, grow_course, patient_at, scan_patient
from brats_seg.phantom.kinds import LesionScript, LesionState, TumourKind
from brats_seg.phantom.script import Course, PatientKind, Story, VisitScript
from tests.phantom.small_phantoms import SMALL
from tests.strategies import affine_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("coarse_brains")]  # whole phantoms take seconds

CONFIG = PhantomConfig(study_id="p1", anatomy=SMALL.anatomy)
"""A small brain on the grid of BraTS."""

_T = Tissue
MEASURED_Z = {
    #             T1     T1CE   T2     FLAIR
    _T.NECROSIS: (-0.31, -0.67, 1.91, 2.12),
    _T.EDEMA: (0.12, -0.09, 0.94, 1.89),
    _T.ENHANCING: (0.01, 2.09, 1.08, 2.15),
}
"""Measured on 14 public BraTS studies (2018, 2021, 2023) by the expert labels: median over studies of each class's
median z-score within the brain, values clipped at percentiles 0.1 and 99.9."""


def centroid_mm(phantom: Phantom) -> np.ndarray:
    """Centroid of the tumour core's fractions."""
    core = phantom.fractions[Structure.NCR].data + phantom.fractions[Structure.ET].data
    voxels = np.argwhere(core > 0)
    return np.average(phantom.labels.grid.to_world(voxels), axis=0, weights=core[tuple(voxels.T)])


def fraction_ml(phantom: Phantom, structure: Structure) -> float:
    volume = phantom.fractions[structure]
    return float(volume.data.sum(dtype=np.float64)) * volume.grid.voxel_ml


@pytest.fixture(scope="module")
def patient():
    visits, lesion = VisitScript("01", date(2024, 1, 15)), LesionState(3.5, 0.6, 4.0)
    script = LesionScript("L1", TumourKind.HIGH_GRADE, (lesion,))
    course = Course("p", 6, PatientKind.HIGH_GRADE, Story.STABLE, (visits,), (script,))
    return patient_at(grow_course(course, CONFIG), 0, CONFIG)[0]


@pytest.fixture(scope="module")
def phantom(patient):
    return scan_patient(patient, CONFIG, np.random.default_rng(2))


def test_looks_like_a_brats_study(phantom):
    assert phantom.study.id == "p1"
    assert phantom.study.present == SEQUENCES
    assert phantom.study.is_aligned
    assert phantom.labels.grid.same_as(BRATS_GRID)
    assert phantom.labels.data.dtype == np.uint8
    masks = [volume.data > 0 for volume in phantom.study.images.values()]
    for volume, mask in zip(phantom.study.images.values(), masks, strict=True):
        assert volume.data.dtype == np.float32
        assert (volume.data[~mask] == 0).all() and np.isfinite(volume.data).all()
        np.testing.assert_array_equal(mask, masks[0])
    assert not phantom.labels.data[~masks[0]].any()


def test_labels_agree_with_the_truth(phantom):
    DEFAULT_SCHEMA.check(phantom.labels.data)
    for region in REGIONS:
        measured = DEFAULT_SCHEMA.region_mask(phantom.labels.data, region).sum() / 1000
        assert measured == pytest.approx(phantom.truth[region.name], rel=0.06)


def test_fractions_sum_to_one_in_the_brain(patient):
    total = sum(patient.body.tissues().values())
    brain = patient.body.anatomy.brain
    np.testing.assert_allclose(total[brain], 1, atol=1e-4)
    assert not total[~brain].any()


def test_tissues_are_ordered_as_in_patients(patient, phantom):
    fractions = {tissue: values > 0.95 for tissue, values in patient.body.tissues().items()}
    noiseless = replace(CONFIG, acquisition=AcquisitionConfig(noise=0.01, contrast_jitter=0))
    scan = scan_patient(patient, noiseless, np.random.default_rng(3))
    grid = patient.body.grid
    offset = np.round(BRATS_GRID.to_voxel(grid.to_world((0, 0, 0)))).astype(int)

    def median(sequence: MRSequence, tissue: Tissue) -> float:
        voxels = np.argwhere(fractions[tissue]) + offset
        voxels = voxels[((voxels >= 0) & (voxels < BRATS_GRID.shape)).all(1)]
        return float(np.median(scan.study.images[sequence].data[tuple(voxels.T)]))

    t1, t1ce, t2, flair = (lambda tissue, s=s: median(s, tissue) for s in SEQUENCES)
    assert t1(Tissue.CSF) < t1(Tissue.GREY) < t1(Tissue.WHITE)
    assert t2(Tissue.WHITE) < t2(Tissue.GREY) < t2(Tissue.EDEMA) < t2(Tissue.CSF)
    assert flair(Tissue.CSF) < flair(Tissue.WHITE) < flair(Tissue.GREY) < flair(Tissue.EDEMA)
    assert t1ce(Tissue.ENHANCING) > 1.15 * max(t1ce(Tissue.WHITE), t1ce(Tissue.NECROSIS), t1ce(Tissue.EDEMA))
    assert t1(Tissue.ENHANCING) < t1(Tissue.WHITE)  # the rim is bright only after contrast agent
    assert t1ce(Tissue.NECROSIS) < t1ce(Tissue.WHITE)


def test_z_scores_are_near_those_of_real_tumours(phantom):
    """The network sees z-scores: each tumour class lies within one standard deviation of public studies' median."""
    numbers = {_T.NECROSIS: 1, _T.EDEMA: 2, _T.ENHANCING: 3}
    for channel, sequence in enumerate(SEQUENCES):
        data = phantom.study.images[sequence].data
        brain = data[data > 0]
        for tissue, number in numbers.items():
            z = (np.median(data[phantom.labels.data == number]) - brain.mean()) / brain.std()
            assert z == pytest.approx(MEASURED_Z[tissue][channel], abs=1.0), (sequence, tissue)


def test_description_is_plain_json(phantom):
    again = json.loads(json.dumps(phantom.description))
    assert again["volume_ml"] == dict(phantom.truth)
    assert again["kind"] == "high_grade"


def test_same_patient_scanned_twice_has_one_truth_and_other_noise(patient, phantom):
    flair_alone = replace(CONFIG, acquisition=AcquisitionConfig(sequences=(MRSequence.FLAIR,)))
    second = scan_patient(patient, flair_alone, np.random.default_rng(8))
    np.testing.assert_array_equal(second.labels.data, phantom.labels.data)
    flair, other = phantom.study.images[MRSequence.FLAIR].data, second.study.images[MRSequence.FLAIR].data
    assert not np.array_equal(flair, other)
    assert np.corrcoef(flair[flair > 0], other[flair > 0])[0, 1] > 0.8


def test_two_scans_on_one_scanner_differ_by_noise_alone(patient):
    def scan(noise: float, seed: int) -> np.ndarray:
        config = replace(CONFIG, acquisition=AcquisitionConfig(noise=noise, sequences=(MRSequence.FLAIR,)))
        scanner, chance = (np.random.default_rng(n) for n in (5, seed))
        image = scan_patient(patient, config, scanner, noise_rng=chance).study.images[MRSequence.FLAIR].data
        return image[image > 0].astype(np.float64)

    still, first, second = scan(0.0, 1), scan(0.08, 1), scan(0.08, 2)
    np.testing.assert_array_equal(still, scan(0.0, 2))
    a, b = first - still, second - still
    assert a.std() == pytest.approx(b.std(), rel=0.01)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.01  # nothing in common but what the scan without noise has


def test_thick_slices_in_another_orientation_keep_the_world(patient, phantom):
    affine = affine_of("PSR", (1.0, 1.0, 5.0), (0, 0, 0), (4, -6, 3))
    shape = (200, 180, 36)
    affine[:3, 3] = np.array((-119.5, 106, 76)) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    config = PhantomConfig(grid=Grid(shape, affine), acquisition=AcquisitionConfig(sequences=(MRSequence.T1CE,)))
    thick = scan_patient(patient, config, np.random.default_rng(4))
    assert thick.study.reference_volume.grid.same_as(config.grid)
    np.testing.assert_allclose(centroid_mm(thick), centroid_mm(phantom), atol=0.3)
    assert fraction_ml(thick, Structure.ET) == pytest.approx(phantom.truth["ET"], rel=0.01)
    bright = thick.study.images[MRSequence.T1CE].data
    brain = thick.fractions[Structure.ET].data > 0.9
    assert bright[brain].mean() > 1.2 * bright[bright > 0].mean()


def test_sequences_on_their_own_grids_and_moved(patient):
    own = Grid((120, 120, 30), np.array([[-2.0, 0, 0, 0], [0, -2.0, 0, 225], [0, 0, 5.0, 0], [0, 0, 0, 1]]))
    still = AcquisitionConfig(sequences=(MRSequence.T1CE, MRSequence.FLAIR))
    scans = [
        scan_patient(
            patient,
            PhantomConfig(sequence_grids={MRSequence.FLAIR: own}, acquisition=acquisition),
            np.random.default_rng(4),
        ).study
        for acquisition in (still, replace(still, movement_mm=5.0))
    ]
    assert all(study.missing == (MRSequence.T1, MRSequence.T2) and not study.is_aligned for study in scans)
    assert all(study.images[MRSequence.FLAIR].grid.same_as(own) for study in scans)
    centres = [own.to_world(np.argwhere(study.images[MRSequence.FLAIR].data > 0)).mean(0) for study in scans]
    assert np.linalg.norm(centres[0] - centres[1]) > 2
    masks = [study.images[MRSequence.T1CE].data > 0 for study in scans]
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AcquisitionConfig(noise=-1),
        lambda: AcquisitionConfig(sequences=()),
    ],
)
def test_nonsense_is_refused(make):
    with pytest.raises(InputError):
        make()
