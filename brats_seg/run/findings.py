"""What a DICOM report tells of a visit: its regions, and the lesions of each that is followed and has several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from brats_seg.core.labels import CAVITY
from brats_seg.core.visit import Lesion, RegionVolume, Visit
from brats_seg.files.dicom_codes import CODES, code_of
from brats_seg.files.dicom_seg import Segment
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
        patient: what its visits share; regions are tracked by it.
        exam: what no other visit has; lesions have no name yet that would last longer.
    """
    return tuple(finding for row in _told(visit) for finding in _of_region(visit, row, patient, exam))


def followed_findings(course: Followed, index: int, patient: str) -> tuple[Finding, ...]:
    """Every region of a visit of a course, and its lesions by the names they keep over all visits."""
    visit = course.visits[index]
    found = []
    for row in _told(visit):
        whole = _whole(visit, row, patient)
        found.append(whole)
        if row.region not in course.lesions:
            continue
        numbers = component_numbers(whole.mask, visit.measurements.lesions_of(row.region))
        rows = [lesion for lesion in course.lesions[row.region].at(index) if lesion.components]
        for lesion in sorted(rows, key=lambda one: -one.volume_ml)[:MOST]:
            label = f"{whole.segment.label}, lesion {lesion.lesion}"
            segment = replace(whole.segment, label=label, tracking=lesion.lesion)
            mask, diameters_mm = np.isin(numbers, lesion.components), (lesion.long_mm, lesion.short_mm)
            found.append(Finding(segment, mask, lesion.volume_ml, diameters_mm=diameters_mm, side=lesion.side))
    return tuple(found)


def _told(visit: Visit) -> list[RegionVolume]:
    regions = (*visit.segmentation.regions.names, CAVITY.name)
    return [row for row in visit.measurements.volumes if row.is_told and row.region in regions]


def _whole(visit: Visit, row: RegionVolume, patient: str) -> Finding:
    """A region, or the resection cavity."""
    segmentation = visit.segmentation
    if row.region in segmentation.regions.names:
        region = segmentation.regions[row.region]
        segment = Segment(region.title, code_of(region), region.colour, row.region, patient)
        mask = segmentation.region_mask(region)
    else:
        segment = Segment(CAVITY.title, CODES[CAVITY], CAVITY.colour, row.region, patient)
        mask = segmentation.schema.structure_mask(segmentation.labels.data, CAVITY)
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
    numbers = component_numbers(whole.mask, lesions)
    for lesion in [one for one in lesions if one.volume_ml >= LEAST_ML][:MOST]:
        label, name = f"{whole.segment.label}, lesion {lesion.number}", f"{row.region} lesion {lesion.number}"
        segment = replace(whole.segment, label=label, tracking=name, of=exam)
        mask, diameters_mm = numbers == lesion.number, _diameters_mm(lesion)
        yield Finding(segment, mask, lesion.volume_ml, diameters_mm=diameters_mm, side=lesion.side)


def _diameters_mm(lesion: Lesion) -> tuple[float, float]:
    return lesion.diameters.long_mm, lesion.diameters.short_mm
