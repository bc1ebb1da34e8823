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

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.grid import Floats, Grid, Volume, box_corners, grid_between
from brats_seg.core.labels import DEFAULT_SCHEMA, Structure
from brats_seg.core.plain import plain
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.boxes import bounding_box
from brats_seg.phantom.acquire import AcquisitionConfig, Body, acquire, draw_texture
from brats_seg.phantom.anatomy import AnatomyConfig, Person, draw_person
from brats_seg.phantom.fields import Field, resample_box
from brats_seg.phantom.grown import GrownTumour
from brats_seg.phantom.script import Course
from brats_seg.phantom.seeding import grow
from brats_seg.phantom.truth import VisitTruth, visit_truth

BRATS_GRID = Grid((240, 240, 155), np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]))
"""The grid of every BraTS study before 2024: SRI24 space, 1 mm, LPS."""
BRATS_CENTRE_MM = (-119.5, 106.0, 76.0)
"""Where brains lie on it (centre of the brain's box, median of public studies)."""


@dataclass(frozen=True)
class PhantomConfig:
    """Everything about a phantom but chance.

    Attributes:
        grid: of the label map and of every sequence that has no other.
        sequence_grids: grids of single sequences. That of T1CE must be ``grid`` where T1CE is acquired.
        brain_centre_mm: RAS+; None for the place brains have on the BraTS grid, or the middle of another grid.
    """

    study_id: str = "phantom"
    grid: Grid = BRATS_GRID
    sequence_grids: Mapping[MRSequence, Grid] = field(default_factory=dict)
    brain_centre_mm: tuple[float, float, float] | None = None
    anatomy: AnatomyConfig = field(default_factory=AnatomyConfig)
    acquisition: AcquisitionConfig = field(default_factory=AcquisitionConfig)

    def centre_mm(self) -> Floats:
        """Where the brain's centre goes, RAS+."""
        if self.brain_centre_mm is not None:
            return np.array(self.brain_centre_mm)
        if self.grid.same_as(BRATS_GRID):
            return np.array(BRATS_CENTRE_MM)
        return self.grid.to_world((np.array(self.grid.shape) - 1) / 2)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A study whose truth is known.

    Attributes:
        study: four sequences, skull-stripped.
        labels: uint8 in the numbers of BraTS 2023, on the grid of the configuration.
        truth: volume in ml by region and structure: ``WT, TC, ET, NCR, ED, RC``.
        fractions: share of each voxel of the label map's grid by structure, float32. A resection cavity is among
            them where there is one; the label map, whose schema has no number for it, shows background there.
        description: how it was made; plain values.
    """

    study: Study
    labels: Volume
    truth: Mapping[str, float]
    fractions: Mapping[Structure, Volume]
    description: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Patient:
    """A body and the truth about it; can be scanned any number of times."""

    body: Body
    truth: Mapping[str, float]
    description: Mapping[str, Any]


_BRAIN, _GROWTH, _TEXTURE, _SCAN = range(4)
"""What the first number of a key of the patient's chance means."""


@dataclass(frozen=True, eq=False)
class VisitPhantom:
    """One visit: a phantom as :func:`~brats_seg.phantom.course.scan_patient` gives, and its truth by lesion."""

    phantom: Phantom
    truth: VisitTruth


@dataclass(frozen=True, eq=False)
class GrownCourse:
    """A patient's lesions, grown to their largest, and the brain; from :func:`grow_course`, reused for every visit."""

    course: Course
    tumour: GrownTumour


def _chance(course: Course, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(course.seed, spawn_key=key))


def grow_course(course: Course, config: PhantomConfig) -> GrownCourse:
    """Make the anatomy, find a place for each lesion and let it grow; seconds.

    Args:
        config: place of the brain and anatomy.

    Raises:
        InputError: if the lesions fit nowhere in this brain.
    """
    person = draw_person(config.anatomy, config.centre_mm(), _chance(course, _BRAIN))
    return GrownCourse(course, grow(person, course.lesions, _chance(course, _GROWTH)))


def make_visit(
    course: Course,
    index: int,
    config: PhantomConfig,
    *,
    grown: GrownCourse | None = None,
) -> VisitPhantom:
    """One visit, scanned with parameters drawn for it.

    Args:
        index: of the visit, from 0.
        config: as for :func:`grow_course`; grids of sequences and the scanner may differ from visit to visit.
        grown: from :func:`grow_course` with the same anatomy and place; made if None.

    Raises:
        UsageError: if there is no such visit.
        InputError: if ``grown`` is of another course or another place.
    """
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
    config = replace(config, acquisition=acquisition)
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
    grid = body_grid(config, grown.tumour.person)
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
        "seeds": [
            {"id": one.script.id, "kind": one.script.kind.value, "seed_mm": one.centre_mm.round(2).tolist()}
            for one in grown.tumour.lesions
        ],
        "lesions": truth.to_dict()["lesions"],
    }
    return Patient(body, truth.volume_ml, description), truth


def scan_patient(
    patient: Patient,
    config: PhantomConfig,
    rng: np.random.Generator,
    *,
    noise_rng: np.random.Generator | None = None,
) -> Phantom:
    """One scan of a patient: new noise, coil, contrast and movement; same body.

    With a generator of the same state as that of another scan, and one for the noise of this one, coil, contrast and
    movement between sequences are those of the other scan: the same scanner on another day.
    """
    grids = {sequence: config.sequence_grids.get(sequence, config.grid) for sequence in SEQUENCES}
    study = acquire(patient.body, grids, rng, config=config.acquisition, study_id=config.study_id, noise_rng=noise_rng)
    tumour = patient.body.tumour
    fractions = tumour.on(config.grid)
    if patient.body.cavity is not None:
        fractions[Structure.RC] = resample_box(patient.body.cavity, tumour.grid, config.grid)
    return Phantom(
        study,
        Volume(label_map(fractions), config.grid),
        patient.truth,
        {structure: Volume(values, config.grid) for structure, values in fractions.items()},
        {**patient.description, "study_id": config.study_id, "acquisition": plain(config.acquisition)},
    )


def label_map(fractions: Mapping[Structure, Field]) -> NDArray[np.uint8]:
    """uint8 in the numbers of BraTS 2023: each nested region where it fills at least half of the voxel."""
    parts = [fractions[structure] for structure in (Structure.NCR, Structure.ET, Structure.ED)]
    labels = np.zeros(parts[0].shape, np.uint8)
    box = bounding_box(np.logical_or.reduce([part > 0 for part in parts]))
    if box is None:
        return labels
    necrosis, enhancing, edema = (part[box] for part in parts)
    core = necrosis + enhancing
    here = labels[box]
    here[core + edema >= 0.5] = DEFAULT_SCHEMA.number(Structure.ED)
    here[core >= 0.5] = DEFAULT_SCHEMA.number(Structure.ET)
    here[(core >= 0.5) & (necrosis >= 0.5)] = DEFAULT_SCHEMA.number(Structure.NCR)
    return labels


def body_grid(config: PhantomConfig, person: Person) -> Grid:
    """The grid a body is made on: 1 mm RAS, or voxels of the label map's where these are of 1 mm and not askew."""
    grid, spacing = config.grid, np.array(config.grid.spacing_mm)
    if np.abs(spacing - 1).max() > 0.01 or (np.abs(grid.affine[:3, :3]) / spacing).max(0).min() <= 1 - 1e-6:
        return grid_between(*person.box_mm, 1.0)
    low, high = person.box_mm
    corners = grid.to_voxel(box_corners(low, high))
    first = np.floor(corners.min(0)).astype(int)
    affine = np.array(grid.affine)
    affine[:3, 3] = grid.to_world(first)
    x, y, z = (int(n) for n in np.ceil(corners.max(0)).astype(int) - first + 1)
    return Grid((x, y, z), affine)
