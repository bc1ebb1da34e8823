"""A patient over time: visits with dates, lesions that grow, shrink, come and go, and the truth about each.

How it is used::

    course = draw_course(rng, PatientKind.GLIOMA, visits=4, patient_id="phantom-001")   # chance; takes no time
    grown = grow_course(course, config)                                                 # once per patient
    for index in range(len(course.visits)):
        visit = make_visit(course, index, config, grown=grown)                          # no chance: same every time
        visit.phantom.study, visit.phantom.labels, visit.phantom.description
        visit.truth.rows()                                                              # one row per lesion

The brain, the places of the lesions and the texture of the tissue are the same at every visit; what the script says
of volumes comes true to within a few 125ths of a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.grid import Grid, grid_between
from brats_seg.phantom.acquire import AcquisitionConfig, draw_texture
from brats_seg.phantom.anatomy import Person, draw_person
from brats_seg.phantom.grown import GrownTumour, describe
from brats_seg.phantom.make import Patient, Phantom, PhantomConfig, body_grid, scan_patient
from brats_seg.phantom.script import Course
from brats_seg.phantom.seeding import grow
from brats_seg.phantom.truth import VisitTruth, visit_truth

_BRAIN, _GROWTH, _TEXTURE, _SCAN = range(4)
"""What the first number of a key of the patient's chance means."""


@dataclass(frozen=True, eq=False)
class VisitPhantom:
    """One visit: a phantom as :func:`~brats_seg.phantom.make.scan_patient` gives, and its truth by lesion."""

    phantom: Phantom
    truth: VisitTruth


@dataclass(frozen=True, eq=False)
class GrownCourse:
    """A patient's lesions, grown to their largest, and the brain; from :func:`grow_course`, reused for every visit."""

    course: Course
    tumour: GrownTumour


def _chance(course: Course, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(course.seed, spawn_key=key))


def grow_course(course: Course, config: PhantomConfig | None = None) -> GrownCourse:
    """Make the anatomy, find a place for each lesion and let it grow; seconds.

    Args:
        config: place of the brain and anatomy.

    Raises:
        InputError: if the lesions fit nowhere in this brain.
    """
    config = config or PhantomConfig()
    person = draw_person(config.anatomy, config.centre_mm(), _chance(course, _BRAIN))
    return GrownCourse(course, grow(person, course.lesions, _chance(course, _GROWTH)))


def make_visit(
    course: Course,
    index: int,
    config: PhantomConfig | None = None,
    *,
    grown: GrownCourse | None = None,
    study_id: str | None = None,
) -> VisitPhantom:
    """One visit, scanned with parameters drawn for it.

    Args:
        index: of the visit, from 0.
        config: as for :func:`grow_course`; grids of sequences and the scanner may differ from visit to visit.
        grown: from :func:`grow_course` with the same anatomy and place; made if None.
        study_id: None for ``<patient>_<visit label>``.

    Raises:
        UsageError: if there is no such visit.
        InputError: if ``grown`` is of another course or another place.
    """
    config = config or PhantomConfig()
    if not 0 <= index < len(course.visits):
        raise UsageError(f"{course.patient_id} has visits 0 to {len(course.visits) - 1}, not {index}")
    grown = grown or grow_course(course, config)
    if grown.course != course:
        raise InputError(f"grown lesions of {grown.course.patient_id} were passed for another course")
    if np.abs(grown.tumour.person.centre_mm - config.centre_mm()).max() > 1e-6:
        raise InputError(
            f"the brain was made at {grown.tumour.person.centre_mm.tolist()} mm and is asked for at "
            f"{config.centre_mm().tolist()} mm; pass the same brain_centre_mm to every visit"
        )
    scan_rng = _chance(course, _SCAN, index)
    acquisition = draw_scanner(config.acquisition, scan_rng)
    name = study_id if study_id is not None else f"{course.patient_id}_{course.visits[index].label}"
    config = replace(config, acquisition=acquisition, study_id=name)
    patient, truth = patient_at(grown, index, config)
    return VisitPhantom(scan_patient(patient, config, scan_rng), truth)


def draw_scanner(base: AcquisitionConfig, rng: np.random.Generator) -> AcquisitionConfig:
    """A scanner like ``base``, with noise, coil and blur up to half as strong again or a third weaker."""
    noise, bias, blur = np.exp(rng.uniform(np.log(2 / 3), np.log(1.5), 3))
    return replace(
        base,
        noise=base.noise * float(noise),
        bias=base.bias * float(bias),
        blur_mm=base.blur_mm * float(blur),
    )


def patient_at(grown: GrownCourse, index: int, config: PhantomConfig) -> tuple[Patient, VisitTruth]:
    """The patient as at a visit, who can be scanned any number of times, and the truth by lesion."""
    course = grown.course
    grid = _steady_grid(config, grown.tumour.person)
    scene = grown.tumour.scene(course.states(index), grid)
    truth = visit_truth(course, index, scene)
    body = scene.body(draw_texture(scene.anatomy, _chance(course, _TEXTURE)))
    visit = course.visits[index]
    description = {
        "generator": "brats_seg.phantom, growth in MNI152 anatomy",
        "kind": course.kind.value,
        "story": course.story.value,
        "patient": course.patient_id,
        "visit": visit.label,
        "date": visit.day.isoformat(),
        "treatment": visit.treatment,
        "brain_ml": float(scene.anatomy.brain.sum()) * grid.voxel_ml,
        "brain_centre_mm": config.centre_mm().tolist(),
        "atrophy": grown.tumour.person.atrophy,
        "least_determinant_of_push": None if scene.flow is None else scene.flow.least_determinant,
        "volume_ml": dict(truth.volume_ml),
        "volume_known_by": dict.fromkeys(truth.volume_ml, "fractions"),
        "seeds": describe(grown.tumour),
        "lesions": truth.to_dict()["lesions"],
    }
    return Patient(body, truth.volume_ml, description), truth


def _steady_grid(config: PhantomConfig, person: Person) -> Grid:
    """The grid the body is made on. Where the label map's lies askew, one that does not change with it is taken."""
    directions = np.abs(config.grid.affine[:3, :3]) / np.array(config.grid.spacing_mm)
    if directions.max(0).min() > 1 - 1e-6:
        return body_grid(config, person)
    return grid_between(*person.box_mm, 1.0)
