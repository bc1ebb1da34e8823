"""One phantom: a study, its label map, and the truth that goes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Affine, Floats, Grid, Volume, box_corners
from brats_seg.core.labels import DEFAULT_SCHEMA, Structure
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.phantom.acquire import AcquisitionConfig, Body, acquire, draw_texture
from brats_seg.phantom.anatomy import AnatomyConfig, Person, draw_person, make_anatomy
from brats_seg.phantom.fields import Field, support
from brats_seg.phantom.grown import GrownBody, describe, volumes_ml
from brats_seg.phantom.kinds import LesionScript, LesionState, edema_ml
from brats_seg.phantom.rasterise import TumourFractions, draw_edema_field, tumour_fractions
from brats_seg.phantom.resample import resample_box
from brats_seg.phantom.seeding import grow
from brats_seg.phantom.tumour import Lesion, TumourConfig, TumourKind, draw_lesions


def _brats_affine() -> Affine:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = 239.0
    return affine


BRATS_GRID = Grid((240, 240, 155), _brats_affine())
"""The grid of every BraTS study before 2024: SRI24 space, 1 mm, LPS."""
BRATS_CENTRE_MM = (-119.5, 106.0, 76.0)
"""Where brains lie on it (centre of the brain's box, median of public studies)."""
PLACING_MM = 2.0
"""Voxels of the grid on which a place for the tumour is looked for."""


@dataclass(frozen=True)
class PhantomConfig:
    """Everything about a phantom but chance.

    Attributes:
        study_id: name of the study.
        grid: of the label map and of every sequence that has no other; tumours of :func:`make_phantom` are
            labelled here.
        sequence_grids: grids of single sequences. That of T1CE must be ``grid`` where T1CE is acquired.
        brain_centre_mm: RAS+; None for the place brains have on the BraTS grid, or the middle of another grid.
        anatomy: how brains differ.
        tumour: what grows.
        acquisition: the scanner.
    """

    study_id: str = "phantom"
    grid: Grid = BRATS_GRID
    sequence_grids: Mapping[MRSequence, Grid] = field(default_factory=dict)
    brain_centre_mm: tuple[float, float, float] | None = None
    anatomy: AnatomyConfig = field(default_factory=AnatomyConfig)
    tumour: TumourConfig = field(default_factory=TumourConfig)
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
        truth: volume in ml by region and structure: ``WT, TC, ET, NCR, ED``, of grown tumours ``RC`` too.
        fractions: share of each voxel of the label map's grid by structure, float32. A resection cavity is among
            them where there is one; the label map, whose schema has no number for it, shows background there.
        description: how it was made and how each truth is known; plain values.
    """

    study: Study
    labels: Volume
    truth: Mapping[str, float]
    fractions: Mapping[Structure, Volume]
    description: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Patient:
    """A body with its lesions; can be scanned any number of times.

    Attributes:
        body: tissue, tumour, texture.
        lesions: with formulas for their volumes; empty where the tumour was grown.
        truth: as in :class:`Phantom`.
        description: as in :class:`Phantom`.
    """

    body: Body
    lesions: tuple[Lesion, ...]
    truth: Mapping[str, float]
    description: Mapping[str, Any]


def make_phantom(config: PhantomConfig, rng: np.random.Generator) -> Phantom:
    """Make one phantom; the same configuration and generator state give the same phantom.

    Raises:
        InputError: if the tumour asked for fits nowhere, or the configuration contradicts itself.
    """
    patient_rng, scan_rng = rng.spawn(2)
    return scan_patient(make_patient(config, patient_rng), config, scan_rng)


def make_patient(config: PhantomConfig, rng: np.random.Generator) -> Patient:
    """A brain, its tumour and the truth about it."""
    person_rng, tumour_rng, edema_rng, texture_rng = rng.spawn(4)
    person = draw_person(config.anatomy, config.centre_mm(), person_rng)
    if config.tumour.kind.is_grown:
        return _grown_patient(config, person, tumour_rng, texture_rng)
    lesions: tuple[Lesion, ...] = ()
    if config.tumour.kind is not TumourKind.NONE:
        coarse = make_anatomy(person, box_grid(person, PLACING_MM))
        lesions = draw_lesions(config.tumour, coarse, tumour_rng)
    grid = body_grid(config, person)
    share = config.tumour.mass_effect
    anatomy = make_anatomy(person, grid, pushes=[lesion.push(share) for lesion in lesions] if share > 0 else ())
    edema = draw_edema_field(lesions, anatomy, config.tumour, edema_rng)
    fractions = tumour_fractions(lesions, anatomy, field=edema)
    enhancing = config.tumour.kind is not TumourKind.LOW_GRADE
    body = Body(anatomy, fractions, draw_texture(anatomy, texture_rng), enhancing)
    truth, known_by = _truth(lesions, fractions, edema_is_body=edema is None)
    description = {
        "generator": "brats_seg.phantom, nested bodies in MNI152 anatomy",
        "kind": config.tumour.kind.value,
        "brain_ml": float(anatomy.brain.sum()) * grid.voxel_ml,
        "brain_centre_mm": config.centre_mm().tolist(),
        "atrophy": person.atrophy,
        "mass_effect": config.tumour.mass_effect if lesions else 0.0,
        "volume_ml": dict(truth),
        "volume_known_by": known_by,
        "lesions": [lesion.to_dict() for lesion in lesions],
    }
    return Patient(body, lesions, truth, description)


def _grown_patient(
    config: PhantomConfig, person: Person, tumour_rng: np.random.Generator, texture_rng: np.random.Generator
) -> Patient:
    """A patient whose lesions grew in the tissue."""
    scripts = draw_scripts(config.tumour, tumour_rng)
    tumour = grow(person, scripts, tumour_rng)
    grid = body_grid(config, person)
    scene = tumour.scene([script.states[0] for script in scripts], grid)
    truth = volumes_ml(scene, range(len(scripts)))
    description = {
        "generator": "brats_seg.phantom, growth in MNI152 anatomy",
        "kind": config.tumour.kind.value,
        "brain_ml": float(scene.anatomy.brain.sum()) * grid.voxel_ml,
        "brain_centre_mm": config.centre_mm().tolist(),
        "atrophy": person.atrophy,
        "least_determinant_of_push": None if scene.flow is None else scene.flow.least_determinant,
        "volume_ml": dict(truth),
        "volume_known_by": dict.fromkeys(truth, "fractions"),
        "lesions": [{**row, "volume_ml": volumes_ml(scene, [number])} for number, row in enumerate(describe(tumour))],
    }
    return Patient(scene.body(draw_texture(scene.anatomy, texture_rng)), (), truth, description)


def draw_scripts(config: TumourConfig, rng: np.random.Generator) -> tuple[LesionScript, ...]:
    """Lesions of one visit for the kinds that are grown; ``core_volume_ml`` is the sum of them all.

    A resected tumour had that core; what is left of it is 3 to 15 %.
    """
    total = float(np.exp(rng.uniform(*np.log(config.core_volume_ml))))
    enhancing = 1 - float(rng.uniform(*config.necrotic_share))
    width = float(rng.uniform(*config.edema_mm))
    if config.kind is TumourKind.RESECTED:
        state = LesionState(
            total * float(rng.uniform(0.03, 0.15)), 0.95, edema_ml(total, width) / 2, total, "resection"
        )
        return (LesionScript("L1", TumourKind.HIGH_GRADE, (state,)),)
    if config.kind is TumourKind.MENINGIOMA:
        return (LesionScript("L1", config.kind, (LesionState(total, 1.0, edema_ml(total, width) / 2),)),)
    volumes = sorted(total * rng.dirichlet(np.full(int(rng.integers(2, 7)), 1.5)), reverse=True)
    return tuple(
        LesionScript(
            f"L{number + 1}",
            config.kind,
            (LesionState(float(ml), enhancing if ml > 1 else 1.0, edema_ml(float(ml), width * min(ml, 1))),),
        )
        for number, ml in enumerate(volumes)
        if ml > 0.02
    )


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
    fractions = {
        structure: resample_box(values, tumour.grid, config.grid)
        for structure, values in (
            (Structure.NCR, tumour.necrosis),
            (Structure.ED, tumour.edema),
            (Structure.ET, tumour.enhancing),
        )
    }
    if isinstance(patient.body, GrownBody) and patient.body.cavity is not None:
        fractions[Structure.RC] = resample_box(patient.body.cavity, tumour.grid, config.grid)
    acquisition = asdict(config.acquisition)
    acquisition["slice_mm"] = {s.value: list(values) for s, values in config.acquisition.slice_mm.items()}
    acquisition["sequences"] = [s.value for s in config.acquisition.sequences]
    return Phantom(
        study,
        Volume(label_map(fractions), config.grid),
        patient.truth,
        {structure: Volume(values, config.grid) for structure, values in fractions.items()},
        {**patient.description, "study_id": config.study_id, "acquisition": acquisition},
    )


def label_map(fractions: Mapping[Structure, Field]) -> NDArray[np.uint8]:
    """uint8 in the numbers of BraTS 2023: each nested region where it fills at least half of the voxel."""
    parts = [fractions[structure] for structure in (Structure.NCR, Structure.ET, Structure.ED)]
    labels = np.zeros(parts[0].shape, np.uint8)
    box = support(np.logical_or.reduce([part > 0 for part in parts]))
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
    """The grid a body is made on: voxels of the label map's where these are 1 mm, else 1 mm RAS."""
    grid = config.grid
    if np.abs(np.array(grid.spacing_mm) - 1).max() > 0.01:
        return box_grid(person, 1.0)
    low, high = person.box_mm
    corners = grid.to_voxel(box_corners(low, high))
    first = np.floor(corners.min(0)).astype(int)
    affine = np.array(grid.affine)
    affine[:3, 3] = grid.to_world(first)
    x, y, z = (int(n) for n in np.ceil(corners.max(0)).astype(int) - first + 1)
    return Grid((x, y, z), affine)


def box_grid(person: Person, spacing_mm: float) -> Grid:
    """RAS voxels around a person's brain."""
    low, high = person.box_mm
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = low
    x, y, z = (int(n) for n in np.ceil((high - low) / spacing_mm) + 1)
    return Grid((x, y, z), affine)


def _truth(
    lesions: tuple[Lesion, ...], fractions: TumourFractions, *, edema_is_body: bool
) -> tuple[dict[str, float], dict[str, str]]:
    """Volumes by region and structure, and whether each is from a formula or from exact fractions.

    Formulas hold for bodies that lie in the brain and do not meet: cores always, since their place was chosen so;
    edema where it is a single body. What the brain's edge cut, and what follows tissue, is summed.
    """
    voxel_ml = fractions.grid.voxel_ml

    def summed(values: Field) -> float:
        return float(values.sum(dtype=np.float64)) * voxel_ml

    core = "formula" if fractions.cut_ml == 0 else "fractions"
    edema = "formula" if core == "formula" and (not lesions or (edema_is_body and len(lesions) == 1)) else "fractions"
    if core == "formula":
        core_ml = sum(lesion.core.volume_ml for lesion in lesions)
        necrosis_ml = sum((lesion.necrosis or lesion.core).volume_ml for lesion in lesions)
    else:
        core_ml, necrosis_ml = summed(fractions.necrosis + fractions.enhancing), summed(fractions.necrosis)
    whole_ml = sum(lesion.edema.volume_ml for lesion in lesions) if edema == "formula" else summed(fractions.whole)
    truth = {
        "WT": float(whole_ml),
        "TC": float(core_ml),
        "ET": float(core_ml - necrosis_ml),
        "NCR": float(necrosis_ml),
        "ED": float(whole_ml - core_ml),
    }
    return truth, {"WT": edema, "TC": core, "ET": core, "NCR": core, "ED": edema}
