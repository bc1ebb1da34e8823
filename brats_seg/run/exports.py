"""What a PACS, planning systems and 3D Slicer read, beside the NIfTI of a result."""

from __future__ import annotations

from pathlib import Path

import brats_seg
from brats_seg.core.errors import InputError
from brats_seg.core.study import REFERENCE_PREFERENCE, Study, Timepoint
from brats_seg.core.visit import Visit
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.run.options import SegmentOptions

_FOR_ANY_SCAN = "seg.nrrd"


def check_exports(files: Study | Timepoint, options: SegmentOptions) -> None:
    """See whether what is asked for can be written, before anything is computed.

    Raises:
        InputError: if DICOM is asked for and the scans are none.
    """
    asked = ["--dicom"] * bool(options.dicom)
    asked += [f"--also {name}" for name in options.also if name != _FOR_ANY_SCAN]
    if asked and not isinstance(files, DicomTimepoint):
        raise InputError(
            f"{asked[0]} writes for a DICOM series, and the scans of {files.id} are NIfTI. Pass the DICOM exam, or "
            f"leave {asked[0]} away."
        )


def write_exports(visit: Visit, options: SegmentOptions, folder: Path) -> None:
    """Write DICOM where the scans are DICOM, and what else was asked for.

    Args:
        visit: the result.
        options: that it was made with.
        folder: the result folder.

    Raises:
        OutputError: if it cannot be written.
    """
    name = visit.segmentation.study_id
    if _FOR_ANY_SCAN in options.also:
        from brats_seg.files.seg_nrrd import write_seg_nrrd  # noqa: PLC0415

        write_seg_nrrd(visit.segmentation, folder / f"{name}.seg.nrrd")
    wanted = {"seg", "lesions"} if options.dicom is not False else set()
    wanted |= set(options.also) - {_FOR_ANY_SCAN}
    if wanted and isinstance(visit.timepoint, DicomTimepoint):
        _write_dicom(visit, visit.timepoint, wanted, options, folder)


def _write_dicom(visit: Visit, files: DicomTimepoint, wanted: set[str], options: SegmentOptions, folder: Path) -> None:
    # highdicom takes a second to load, which scans in NIfTI need not wait for.
    from brats_seg.files.dicom_reference import reference_of, save  # noqa: PLC0415
    from brats_seg.files.dicom_seg import Maker, seg_of_tissues  # noqa: PLC0415
    from brats_seg.files.dicom_sr import report_of, seg_of_findings  # noqa: PLC0415
    from brats_seg.files.rtstruct import rtstruct_of  # noqa: PLC0415
    from brats_seg.run.findings import findings_of  # noqa: PLC0415

    segmentation, name = visit.segmentation, visit.segmentation.study_id
    sequence = options.reference or next(s for s in REFERENCE_PREFERENCE if s in files.files)
    reference, maker = reference_of(files.series(sequence)), Maker.of(visit.record.model, brats_seg.__version__)
    patient = reference.patient(files.id.removesuffix(f"_{files.label}") if files.label else "")
    for kind in sorted(wanted & {"seg", "labelmap"}):
        made = seg_of_tissues(segmentation, reference, maker, patient=patient, label_map=kind == "labelmap")
        save(made, folder / f"{name}_{kind}.dcm")
    if "lesions" in wanted:
        findings = findings_of(visit, patient, reference.exam)
        masks = seg_of_findings(findings, reference, maker)
        save(masks, folder / f"{name}_lesions.dcm")
        save(report_of(findings, masks, reference, maker), folder / f"{name}_sr.dcm")
    if "rtstruct" in wanted:
        save(rtstruct_of(segmentation, reference, maker), folder / f"{name}_rtstruct.dcm")
