"""What a DICOM report tells of a visit: its regions, and the lesions of each that has several."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.regions import CAVITY
from brats_seg.core.visit import Lesion, RegionVolume, Visit
from brats_seg.files.dicom_codes import CODES, Code, code_of
from brats_seg.files.dicom_seg import Segment, tracking_uid
from brats_seg.files.dicom_sr import Finding
from brats_seg.volumetrics.lesions import component_numbers

LEAST_ML = 0.05
"""Smaller ones of several lesions are in the tables alone."""
MOST = 20
"""Lesions of a region that are told, the largest: every one is a mask of the whole field of view."""


def findings_of(visit: Visit, patient: str, exam: str) -> tuple[Finding, ...]:
    """Every region of a visit with its lesions.

    Args:
        visit: the visit.
        patient: what its visits share; regions are tracked by it.
        exam: what no other visit has; lesions have no name yet that would last longer.
    """
    return tuple(
        finding
        for row in visit.measurements.volumes
        if row.is_told and row.region in (*visit.segmentation.regions.names, CAVITY.abbreviation)
        for finding in _of_region(visit, row, patient, exam)
    )


def _of_region(visit: Visit, row: RegionVolume, patient: str, exam: str) -> Iterator[Finding]:
    label, code, colour, mask = _looks(visit, row.region)
    lesions = visit.measurements.lesions_of(row.region)
    alone = lesions[0] if len(lesions) == 1 else None
    yield Finding(
        Segment(label, code, colour, row.region, tracking_uid(patient, row.region)),
        mask,
        row.volume_ml,
        interval_ml=None if row.low_ml is None or row.high_ml is None else (row.low_ml, row.high_ml),
        diameters_mm=() if alone is None else _diameters_mm(alone),
        side="" if alone is None else alone.side,
    )
    if alone is not None:
        return
    numbers = component_numbers(mask, lesions)
    for lesion in [one for one in lesions if one.volume_ml >= LEAST_ML][:MOST]:
        name = f"{row.region} lesion {lesion.number}"
        yield Finding(
            Segment(f"{label}, lesion {lesion.number}", code, colour, name, tracking_uid(exam, name)),
            numbers == lesion.number,
            lesion.volume_ml,
            diameters_mm=_diameters_mm(lesion),
            side=lesion.side,
        )


def _looks(visit: Visit, region: str) -> tuple[str, Code, str, NDArray[np.bool_]]:
    """Title, code, colour and mask of a region, or of the resection cavity."""
    segmentation = visit.segmentation
    if region in segmentation.regions.names:
        known = segmentation.regions[region]
        return known.title, code_of(known), known.colour, segmentation.region_mask(known)
    cavity = segmentation.schema.structure_mask(segmentation.labels.data, CAVITY)
    return CAVITY.value, CODES[CAVITY], CAVITY.colour, cavity


def _diameters_mm(lesion: Lesion) -> tuple[float, float]:
    return lesion.diameters.long_mm, lesion.diameters.short_mm
