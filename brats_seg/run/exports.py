"""What a PACS, planning systems and 3D Slicer read, beside the NIfTI of a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import brats_seg
from brats_seg.core.errors import InputError
from brats_seg.core.scans import Study
from brats_seg.core.study import Timepoint
from brats_seg.core.visit import Visit
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.run.options import SegmentOptions, check_report

if TYPE_CHECKING:
    from brats_seg.files.dicom_reference import Maker, Reference
    from brats_seg.files.dicom_sr import Finding
    from brats_seg.track.follow import Followed

_FOR_ANY_SCAN = "seg.nrrd"


def check_exports(files: Study | Timepoint, options: SegmentOptions) -> None:
    """See whether what is asked for can be written, before anything is computed.

    Raises:
        UsageError: as :func:`~brats_seg.run.options.check_report`.
        InputError: if DICOM is asked for and the scans are none, or as :func:`~brats_seg.run.options.check_report`.
    """
    check_report(options)
    asked = ["--dicom"] * bool(options.dicom)
    asked += [f"--also {name}" for name in options.also if name != _FOR_ANY_SCAN]
    if asked and not isinstance(files, DicomTimepoint):
        raise InputError(
            f"{asked[0]} writes for a DICOM series, and the scans of {files.id} are NIfTI. Pass the DICOM exam, or "
            f"leave {asked[0]} away."
        )


def write_exports(visit: Visit, options: SegmentOptions, folder: Path) -> None:
    """Write DICOM where the scans are DICOM, and what else was asked for.

    Raises:
        OutputError: if it cannot be written.
    """
    name = visit.segmentation.study_id
    if _FOR_ANY_SCAN in options.also:
        from brats_seg.files.seg_nrrd import write_seg_nrrd  # noqa: PLC0415

        write_seg_nrrd(visit.segmentation, folder / f"{name}.seg.nrrd")
    wanted = {"seg"} if options.dicom is not False else set()
    wanted |= {"lesions"} if wanted and options.named else set()
    wanted |= set(options.also) - {_FOR_ANY_SCAN, "pdf"}
    if wanted and isinstance(visit.timepoint, DicomTimepoint):
        _write_dicom(visit, visit.timepoint, wanted, options, folder)


def _write_dicom(visit: Visit, files: DicomTimepoint, wanted: set[str], options: SegmentOptions, folder: Path) -> None:
    # highdicom takes a second to load, which scans in NIfTI need not wait for.
    from brats_seg.files.dicom_reference import save  # noqa: PLC0415
    from brats_seg.files.dicom_seg import seg_of_tissues  # noqa: PLC0415
    from brats_seg.files.rtstruct import rtstruct_of  # noqa: PLC0415
    from brats_seg.run.findings import findings_of  # noqa: PLC0415

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


def write_document(visit: Visit, page: str, options: SegmentOptions, folder: Path) -> None:
    """Write the report as a DICOM document where that was asked for.

    Args:
        visit: the result.
        page: its report.
        options: that it was made with.
        folder: the result folder.

    Raises:
        OutputError: if it cannot be written.
    """
    if "pdf" not in options.also or not isinstance(visit.timepoint, DicomTimepoint):
        return
    from brats_seg.files.dicom_pdf import encapsulated_pdf  # noqa: PLC0415 - highdicom
    from brats_seg.files.dicom_reference import save  # noqa: PLC0415
    from brats_seg.report.pdf import pdf_of  # noqa: PLC0415 - an extra

    made = encapsulated_pdf(pdf_of(page), _reference_of(visit.timepoint, options), _maker_of(visit))
    save(made, folder / f"{visit.segmentation.study_id}_report.dcm")


def write_followed(course: Followed, options: SegmentOptions, folder: Path) -> None:
    """Write the DICOM report of every visit that was segmented on DICOM, with the names lesions keep over the visits.

    Raises:
        OutputError: if it cannot be written.
    """
    if options.dicom is False:
        return
    for index, visit in enumerate(course.visits):
        files = visit.timepoint
        if isinstance(files, DicomTimepoint) and visit.by_model:
            from brats_seg.run.findings import followed_findings  # noqa: PLC0415 - highdicom

            reference = _reference_of(files, options)
            found = followed_findings(course, index, reference.patient(course.patient.id))
            _write_report(found, reference, _maker_of(visit), folder / files.id)


def _write_report(findings: Sequence[Finding], reference: Reference, maker: Maker, stem: Path) -> None:
    """Write ``…_lesions.dcm`` and ``…_sr.dcm``."""
    from brats_seg.files.dicom_reference import save  # noqa: PLC0415 - highdicom
    from brats_seg.files.dicom_sr import report_of  # noqa: PLC0415

    masks, report = report_of(findings, reference, maker)
    save(masks, stem.with_name(f"{stem.name}_lesions.dcm"))
    save(report, stem.with_name(f"{stem.name}_sr.dcm"))


def _reference_of(files: DicomTimepoint, options: SegmentOptions) -> Reference:
    from brats_seg.files.dicom_reference import reference_of  # noqa: PLC0415 - highdicom

    return reference_of(files.series(options.reference_among(files.files)))


def _maker_of(visit: Visit) -> Maker:
    from brats_seg.files.dicom_reference import Maker  # noqa: PLC0415 - highdicom

    return Maker.of(visit.record.model, brats_seg.__version__)
