"""What a DICOM report tells of a visit: its regions, and the lesions of each that is followed and has several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.labels import CAVITY
from brats_seg.core.visit import Lesion, RegionVolume, Visit
from brats_seg.files.dicom_codes import CODES, Code, code_of
from brats_seg.files.dicom_seg import Segment, tracking_uid
from brats_seg.files.dicom_sr import Finding
from brats_seg.volumetrics.lesions import component_numbers

if TYPE_CHECKING:
    from brats_seg.track.follow import Followed

LEAST_ML = 0.05
"""Smaller ones of several lesions are in the tables alone."""
MOST = 10
"""Lesions of a region that are told, the largest: every one is a mask of the whole field of view."""


def findings_of(visit: Visit, patient: str, exam: str) -> tuple[Finding, ...]:
    """Every region of a visit with its lesions.

    Args:
        visit: the visit.
        patient: what its visits share; regions are tracked by it.
        exam: what no other visit has; lesions have no name yet that would last longer.
    """
    return tuple(finding for row in _told(visit) for finding in _of_region(visit, row, patient, exam))


def followed_findings(course: Followed, index: int, patient: str) -> tuple[Finding, ...]:
    """Every region of a visit of a course, and its lesions by the names they keep over all visits."""
    visit = course.visits[index]
    found = []
    for row in _told(visit):
        found.append(_whole(visit, row, patient))
        if row.region not in course.lesions:
            continue
        label, code, colour, mask = _looks(visit, row.region)
        numbers = component_numbers(mask, visit.measurements.lesions_of(row.region))
        rows = [lesion for lesion in course.lesions[row.region].at(index) if lesion.components]
        for lesion in sorted(rows, key=lambda one: -one.volume_ml)[:MOST]:
            segment = Segment(
                f"{label}, lesion {lesion.lesion}", code, colour, lesion.lesion, tracking_uid(patient, lesion.lesion)
            )
            found.append(
                Finding(
                    segment,
                    np.isin(numbers, lesion.components),
                    lesion.volume_ml,
                    diameters_mm=(lesion.long_mm, lesion.short_mm),
                    side=lesion.side,
                )
            )
    return tuple(found)


def _told(visit: Visit) -> list[RegionVolume]:
    regions = (*visit.segmentation.regions.names, CAVITY.name)
    return [row for row in visit.measurements.volumes if row.is_told and row.region in regions]


def _whole(visit: Visit, row: RegionVolume, patient: str) -> Finding:
    label, code, colour, mask = _looks(visit, row.region)
    segment = Segment(label, code, colour, row.region, tracking_uid(patient, row.region))
    interval_ml = None if row.low_ml is None or row.high_ml is None else (row.low_ml, row.high_ml)
    return Finding(segment, mask, row.volume_ml, interval_ml=interval_ml)


def _of_region(visit: Visit, row: RegionVolume, patient: str, exam: str) -> Iterator[Finding]:
    whole = _whole(visit, row, patient)
    lesions = visit.measurements.lesions_of(row.region)
    if len(lesions) == 1:
        yield replace(whole, diameters_mm=_diameters_mm(lesions[0]), side=lesions[0].side)
        return
    yield whole
    if row.region not in (*(region.name for region in visit.segmentation.regions.followed), CAVITY.name):
        return
    label, code, colour, mask = _looks(visit, row.region)
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
    return CAVITY.title, CODES[CAVITY], CAVITY.colour, cavity


def _diameters_mm(lesion: Lesion) -> tuple[float, float]:
    return lesion.diameters.long_mm, lesion.diameters.short_mm
