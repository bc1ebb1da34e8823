"""What a PACS, planning systems and 3D Slicer read, beside the NIfTI of a result."""

from __future__ import annotations

from pathlib import Path

import brats_seg
from brats_seg.core.errors import InputError
from brats_seg.core.study import REFERENCE_PREFERENCE, Study, Timepoint
from brats_seg.core.visit import Visit
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.run.options import SegmentOptions


def check_exports(files: Study | Timepoint, options: SegmentOptions) -> None:
    """See whether what is asked for can be written, before anything is computed.

    Raises:
        InputError: if DICOM is asked for and the scans are none.
    """
    asked = ["--dicom"] * bool(options.dicom) + [f"--also {name}" for name in options.also]
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
    files, name = visit.timepoint, visit.segmentation.study_id
    if not isinstance(files, DicomTimepoint):
        return
    wanted = [*(["seg"] if options.dicom is not False else []), *options.also]
    if not wanted:
        return
    # highdicom takes a second to load, which scans in NIfTI need not wait for.
    from brats_seg.files.dicom_reference import reference_of, save  # noqa: PLC0415
    from brats_seg.files.dicom_seg import Maker, seg_of_tissues  # noqa: PLC0415

    reference = reference_of(
        files.series(options.reference or next(s for s in REFERENCE_PREFERENCE if s in files.files))
    )
    maker = Maker.of(visit.record.model, brats_seg.__version__)
    patient = reference.patient(files.id.removesuffix(f"_{files.label}") if files.label else "")
    for kind in ("seg", "labelmap"):
        if kind in wanted:
            made = seg_of_tissues(visit.segmentation, reference, maker, patient=patient, label_map=kind == "labelmap")
            save(made, folder / f"{name}_{kind}.dcm")
