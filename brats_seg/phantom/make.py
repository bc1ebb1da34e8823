"""One scan of a phantom patient: a study, its label map, and the truth that goes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Affine, Floats, Grid, Volume, box_corners, grid_between
from brats_seg.core.labels import DEFAULT_SCHEMA, Structure
from brats_seg.core.plain import plain
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.boxes import bounding_box
from brats_seg.phantom.acquire import AcquisitionConfig, Body, acquire
from brats_seg.phantom.anatomy import AnatomyConfig, Person
from brats_seg.phantom.fields import Field
from brats_seg.phantom.resample import resample_box


def _brats_affine() -> Affine:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = 239.0
    return affine


BRATS_GRID = Grid((240, 240, 155), _brats_affine())
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
    """A body and the truth about it; can be scanned any number of times.

    Attributes:
        body: tissue, tumour, texture.
    """

    body: Body
    truth: Mapping[str, float]
    description: Mapping[str, Any]


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
    """The grid a body is made on: voxels of the label map's where these are 1 mm, else 1 mm RAS."""
    grid = config.grid
    if np.abs(np.array(grid.spacing_mm) - 1).max() > 0.01:
        return grid_between(*person.box_mm, 1.0)
    low, high = person.box_mm
    corners = grid.to_voxel(box_corners(low, high))
    first = np.floor(corners.min(0)).astype(int)
    affine = np.array(grid.affine)
    affine[:3, 3] = grid.to_world(first)
    x, y, z = (int(n) for n in np.ceil(corners.max(0)).astype(int) - first + 1)
    return Grid((x, y, z), affine)
