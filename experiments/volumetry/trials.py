"""The whole pipeline held against phantoms: accuracy on fresh ones, repeatability on scans taken twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from brats_seg.core.grid import Grid
from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.core.visit import Visit
from brats_seg.evaluate.overlap import count_voxels, dice
from brats_seg.models.card import regions_of
from brats_seg.phantom.acquire import AcquisitionConfig
from brats_seg.phantom.course import BRATS_GRID, Patient, Phantom, PhantomConfig, scan_patient
from brats_seg.phantom.grids import BRAIN_REACH_MM, grid_around, small_turn
from brats_seg.run.options import SegmentOptions
from brats_seg.run.segment import segment_study
from brats_seg.segment.predict import Predictor
from experiments.volumetry.nested import NestedConfig, make_patient

CORE_ML = (1.0, 60.0)
"""Range of the tumour core's volume, log-uniform."""
LOW_GRADE_EVERY = 5
"""One in so many patients has a tumour that does not enhance."""
USUAL_NOISE = AcquisitionConfig().noise


@dataclass(frozen=True)
class Condition:
    """How a patient is scanned twice.

    Attributes:
        name: for tables.
        slice_mm: thickness of the axial slices; 1 mm in their plane.
        noise: as in :class:`AcquisitionConfig`.
        same_scanner: both scans with the same coil, contrast and slice profile: new are noise and position alone.
    """

    name: str
    slice_mm: float = 1.0
    noise: float = USUAL_NOISE
    same_scanner: bool = False


SAME_SCANNER = Condition("1 mm, same scanner", same_scanner=True)
CONDITIONS = (
    Condition("1 mm"),
    Condition("3 mm slices", slice_mm=3.0),
    Condition("5 mm slices", slice_mm=5.0),
    SAME_SCANNER,  # last, so that the others are what they were before there was this one
)


@dataclass(frozen=True)
class TrialSize:
    """How much is scanned.

    Attributes:
        patients: fresh patients, scanned once as the shipped model's training studies were.
        repeated: how many of them are scanned twice under each condition.
        conditions: see :class:`Condition`.
    """

    patients: int = 20
    repeated: int = 6
    conditions: tuple[Condition, ...] = CONDITIONS


QUICK = TrialSize(patients=2, repeated=1, conditions=(SAME_SCANNER,))


def run_trials(size: TrialSize, predictor: Predictor, rng: np.random.Generator) -> pd.DataFrame:
    """Scan and segment.

    Args:
        size: how much.
        predictor: the model.
        rng: chance of everything.

    Returns:
        One row for each scan and region: patient, condition (``fresh`` for the single scans on the BraTS grid), slice
        thickness, noise, number of the scan, true volume, volume of the true label map, found volumes and Dice.
    """
    rows: list[dict[str, Any]] = []
    for number, child in enumerate(rng.spawn(size.patients), start=1):
        conditions = size.conditions if number <= size.repeated else ()
        rows += run_patient(number, conditions, predictor, child)
    return pd.DataFrame(rows)


def run_patient(
    number: int,
    conditions: Sequence[Condition],
    predictor: Predictor,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Scan one patient as fresh, then twice under each condition, and segment; rows as of :func:`run_trials`."""
    patient_rng, fresh_rng, twice_rng = rng.spawn(3)
    name = f"phantom-{number:03d}"
    config = PhantomConfig(study_id=name)
    tumour = NestedConfig(enhances=number % LOW_GRADE_EVERY != 0, core_volume_ml=CORE_ML)
    patient = make_patient(config, patient_rng, tumour=tumour)
    rows = _scan(patient, config, Condition("fresh"), predictor=predictor, number=1, rng=fresh_rng)
    for condition in conditions:
        scanner = int(twice_rng.spawn(1)[0].integers(2**63)) if condition.same_scanner else None
        for scan in (1, 2):
            scan_rng = twice_rng.spawn(1)[0]
            turned = replace(config, grid=_position(config, condition, scan_rng))
            rows += _scan(patient, turned, condition, predictor=predictor, number=scan, rng=scan_rng, scanner=scanner)
    return rows


def _position(config: PhantomConfig, condition: Condition, rng: np.random.Generator) -> Grid:
    """A grid that lies in the head as chance has it."""
    return grid_around(
        config.centre_mm() + rng.uniform(-3, 3, 3),
        BRAIN_REACH_MM,
        spacing_mm=(1.0, 1.0, condition.slice_mm),
        turn_deg=small_turn(rng),
    )


def _scan(
    patient: Patient,
    config: PhantomConfig,
    condition: Condition,
    *,
    predictor: Predictor,
    number: int,
    rng: np.random.Generator,
    scanner: int | None = None,
) -> list[dict[str, Any]]:
    """Scan once and segment; with the seed of a ``scanner``, ``rng`` is the chance of the noise alone."""
    config = replace(config, acquisition=replace(config.acquisition, noise=condition.noise))
    if scanner is None:
        phantom = scan_patient(patient, config, rng)
    else:
        phantom = scan_patient(patient, config, np.random.default_rng(scanner), noise_rng=rng)
    result = segment_study(phantom.study, options=SegmentOptions(report=False), predictor=predictor)
    head = {
        "patient": config.study_id,
        "kind": patient.description["kind"],
        "condition": condition.name,
        "grid": "BraTS" if config.grid.same_as(BRATS_GRID) else "turned",
        "slice_mm": condition.slice_mm,
        "noise": condition.noise,
        "scan": number,
    }
    return [{**head, **row} for row in _regions(phantom, result)]


def _regions(phantom: Phantom, result: Visit) -> list[dict[str, Any]]:
    truth = phantom.labels
    rows = []
    for region in regions_of():
        expected = DEFAULT_SCHEMA.region_mask(truth.data, region)
        found = result.segmentation.region_mask(region)
        row = result.measurements.volume(region)
        true_ml = phantom.truth[region.name]
        rows.append(
            {
                "region": region.name,
                "true_ml": true_ml,
                "label_map_ml": float(expected.sum()) * truth.grid.voxel_ml,
                "found_ml": row.volume_ml,
                "found_pv_ml": row.volume_pv_ml,
                "error_percent": 100 * (row.volume_ml / true_ml - 1) if true_ml > 0 else float("nan"),
                "dice": dice(count_voxels(found, expected)),
            }
        )
    return rows
