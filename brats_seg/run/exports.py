"""What a PACS, planning systems and 3D Slicer read, beside the NIfTI of a result."""

from __future__ import annotations

from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.scans import Study
from brats_seg.core.study import Timepoint
from brats_seg.core.visit import Visit
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.run.options import SegmentOptions, check_report

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
        from brats_seg.run.dicom_exports import write_objects  # noqa: PLC0415 - heavy

        write_objects(visit, visit.timepoint, wanted, options, folder)
