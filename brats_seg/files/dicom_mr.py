"""Writing scans as DICOM MR images, as a scanner would: for phantoms, whose whole way begins there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import MRImageStorage, generate_uid

from brats_seg.core.grid import Volume
from brats_seg.core.study import MRSequence
from brats_seg.files.dicom_reference import empty_file, save

_LARGEST = 4095
"""Scanners store 12 bits."""
_GRADIENT = {"ScanningSequence": ["GR", "IR"], "SequenceVariant": ["SP", "MP"], "InversionTime": 900.0}
_SPIN = {"ScanningSequence": ["SE"], "SequenceVariant": ["SK"]}
ATTRIBUTES: Mapping[MRSequence, Mapping[str, Any]] = {
    MRSequence.T1: {**_GRADIENT, "RepetitionTime": 2000.0, "EchoTime": 2.9, "SeriesDescription": "T1 native"},
    MRSequence.T1CE: {
        **{**_GRADIENT, "RepetitionTime": 2000.0, "EchoTime": 2.9, "SeriesDescription": "T1 contrast"},
        "ContrastBolusAgent": "gadolinium",
    },
    MRSequence.T2: {**_SPIN, "RepetitionTime": 5200.0, "EchoTime": 96.0, "SeriesDescription": "T2"},
    MRSequence.FLAIR: {
        **{**_SPIN, "RepetitionTime": 9000.0, "EchoTime": 110.0, "InversionTime": 2500.0},
        "SeriesDescription": "T2 FLAIR",
    },
}
"""How each was measured, as headers say it."""


def write_exam(images: Mapping[MRSequence, Volume], folder: Path, *, patient: str, day: date) -> None:
    """Write one exam, a folder for each series; values are scaled to 12 bits.

    Args:
        images: by sequence.
        folder: is made.
        patient: Patient ID and Name; no real person's.
        day: Study Date.

    Raises:
        OutputError: if it cannot be written.
    """
    shared = {
        "PatientID": patient,
        "PatientName": patient,
        "StudyDate": day.strftime("%Y%m%d"),
        "StudyInstanceUID": generate_uid(entropy_srcs=[patient, str(day)]),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=[patient, str(day), "frame"]),
    }
    for number, (sequence, image) in enumerate(images.items(), start=1):
        _write_series(image, {**shared, **ATTRIBUTES[sequence]}, folder / f"series{number}", number)


def _write_series(image: Volume, attributes: Mapping[str, Any], folder: Path, number: int) -> None:
    """One image for each plane along the axis of the thickest voxels."""
    across = int(np.argmax(image.grid.spacing_mm))
    order = [*(axis for axis in range(3) if axis != across), across]
    data = np.transpose(image.data, order).astype(np.float64)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine[:, [*order, 3]]
    step = np.linalg.norm(affine[:3, :3], axis=0)
    along = affine[:3, :3] / step
    stored = np.rint(np.clip(data, 0, None) * (_LARGEST / max(float(data.max()), 1e-9))).astype(np.uint16)
    series = generate_uid(entropy_srcs=[str(attributes["StudyInstanceUID"]), str(number)])
    folder.mkdir(parents=True, exist_ok=True)
    for place in range(stored.shape[2]):
        made = _image(stored[:, :, place].T, generate_uid(entropy_srcs=[series, str(place)]))
        made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = series, number, place + 1
        made.AcquisitionDate = made.SeriesDate = attributes["StudyDate"]
        made.AcquisitionTime = f"10{number:02}00"
        made.ImagePositionPatient = [round(float(x), 6) for x in (affine @ [0, 0, place, 1])[:3]]
        made.ImageOrientationPatient = [round(float(x), 9) for x in (*along[:, 0], *along[:, 1])]
        made.PixelSpacing, made.SliceThickness = [float(step[1]), float(step[0])], float(step[2])
        for name, value in attributes.items():
            setattr(made, name, value)
        save(made, folder / f"{place + 1:04}.dcm")


def _image(pixels: np.ndarray[Any, np.dtype[np.uint16]], uid: str) -> FileDataset:
    """An MR image of ``(rows, columns)`` without place."""
    made = empty_file(MRImageStorage, uid)
    made.Modality, made.ImageType, made.BodyPartExamined = "MR", ["ORIGINAL", "PRIMARY", "M"], "HEAD"
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.PixelData = pixels.tobytes()
    return made
