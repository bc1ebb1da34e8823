"""A visit as DICOM objects; imported where they are written alone, because highdicom takes a second to load."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import brats_seg
from brats_seg.core.visit import Visit
from brats_seg.files.dicom_pdf import encapsulated_pdf
from brats_seg.files.dicom_reference import Maker, Reference, reference_of, save
from brats_seg.files.dicom_seg import seg_of_tissues
from brats_seg.files.dicom_sr import Finding, report_of
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.files.rtstruct import rtstruct_of
from brats_seg.report.pdf import pdf_of
from brats_seg.run.findings import findings_of, followed_findings
from brats_seg.run.options import SegmentOptions
from brats_seg.track.follow import Followed


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
            found = followed_findings(course, index, reference.patient(course.patient.id))
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
