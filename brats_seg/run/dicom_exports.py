"""A visit as DICOM objects; imported where they are written alone, because highdicom takes a second to load."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from pathlib import Path

import numpy as np

import brats_seg
from brats_seg.core.labels import CAVITY
from brats_seg.core.visit import Lesion, RegionVolume, Visit
from brats_seg.files.dicom_codes import CODES, code_of
from brats_seg.files.dicom_pdf import encapsulated_pdf
from brats_seg.files.dicom_reference import Maker, Reference, reference_of, save
from brats_seg.files.dicom_seg import Segment, seg_of_tissues
from brats_seg.files.dicom_sr import Finding, report_of
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.files.rtstruct import rtstruct_of
from brats_seg.report.pdf import pdf_of
from brats_seg.run.options import SegmentOptions
from brats_seg.track.follow import Followed
from brats_seg.volumetrics.lesions import component_numbers

LEAST_ML = 0.05
"""Smaller ones of several lesions are in the tables alone."""
MOST = 10
"""Lesions of a region that are told, the largest: every one is a mask of the whole field of view."""


def write_objects(visit: Visit, files: DicomTimepoint, wanted: Set[str], options: SegmentOptions, folder: Path) -> None:
    """Write those of ``seg``, ``labelmap``, ``lesions`` and ``rtstruct`` that are wanted.

    Raises:
        OutputError: if one cannot be written.
    """
    segmentation, name = visit.segmentation, visit.segmentation.study_id
    reference, maker = _reference_of(files, options), _maker_of(visit)
    patient = reference.patient(files.id.removesuffix(f"_{files.label}") if files.label else "")
    for kind in sorted(wanted & {"seg", "labelmap"}):
        made = seg_of_tissues(segmentation, reference, maker, patient=patient, label_map=kind == "labelmap")
        save(made, folder / f"{name}_{kind}.dcm")
    if "lesions" in wanted:
        _write_report(findings_of(visit, patient, reference.exam), reference, maker, folder / name)
    if "rtstruct" in wanted:
        save(rtstruct_of(segmentation, reference, maker), folder / f"{name}_rtstruct.dcm")


def write_pdf(visit: Visit, files: DicomTimepoint, page: str, options: SegmentOptions, folder: Path) -> None:
    """Write the report as a DICOM document.

    Raises:
        OutputError: if it cannot be written.
    """
    made = encapsulated_pdf(pdf_of(page), _reference_of(files, options), _maker_of(visit))
    save(made, folder / f"{visit.segmentation.study_id}_report.dcm")


def write_followed(course: Followed, options: SegmentOptions, folder: Path) -> None:
    """Write the report of every visit that was segmented on DICOM, with the names lesions keep over the visits.

    Raises:
        OutputError: if it cannot be written.
    """
    for index, visit in enumerate(course.visits):
        files = visit.timepoint
        if isinstance(files, DicomTimepoint) and visit.by_model:
            reference = _reference_of(files, options)
            found = _followed_findings(course, index, reference.patient(course.patient.id))
            _write_report(found, reference, _maker_of(visit), folder / files.id)


def _write_report(findings: tuple[Finding, ...], reference: Reference, maker: Maker, stem: Path) -> None:
    """Write ``…_lesions.dcm`` and ``…_sr.dcm``."""
    masks, report = report_of(findings, reference, maker)
    save(masks, stem.with_name(f"{stem.name}_lesions.dcm"))
    save(report, stem.with_name(f"{stem.name}_sr.dcm"))


def _reference_of(files: DicomTimepoint, options: SegmentOptions) -> Reference:
    return reference_of(files.series(options.reference_among(files.files)))


def _maker_of(visit: Visit) -> Maker:
    model = visit.record.model
    return Maker(str(model.get("name", "")), str(model.get("version", "")), brats_seg.__version__)


def findings_of(visit: Visit, patient: str, exam: str) -> tuple[Finding, ...]:
    """What a report tells of a visit: its regions, and the lesions of each that is followed and has several.

    Args:
        patient: what its visits share; regions are tracked by it.
        exam: what no other visit has; lesions have no name yet that would last longer.
    """
    followed = (*(region.name for region in visit.segmentation.regions.followed), CAVITY.name)
    found = []
    for row in _told(visit):
        whole, lesions = _whole(visit, row, patient), visit.measurements.lesions_of(row.region)
        if len(lesions) == 1:
            (lesion,) = lesions
            whole = replace(whole, diameters_mm=_diameters_mm(lesion), side=lesion.side)
        found.append(whole)
        if len(lesions) < 2 or row.region not in followed:
            continue
        numbers = component_numbers(whole.mask, lesions)
        for lesion in [one for one in lesions if one.volume_ml >= LEAST_ML][:MOST]:
            label, name = f"{whole.segment.label}, lesion {lesion.number}", f"{row.region} lesion {lesion.number}"
            segment = replace(whole.segment, label=label, tracking=name, of=exam)
            mask, diameters_mm = numbers == lesion.number, _diameters_mm(lesion)
            found.append(Finding(segment, mask, lesion.volume_ml, diameters_mm=diameters_mm, side=lesion.side))
    return tuple(found)


def _followed_findings(course: Followed, index: int, patient: str) -> tuple[Finding, ...]:
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


def _diameters_mm(lesion: Lesion) -> tuple[float, float]:
    return lesion.diameters.long_mm, lesion.diameters.short_mm
