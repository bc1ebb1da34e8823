"""DICOM series with known geometry and values, good and bad, for the tests of this room and of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from brats_seg.core.grid import Volume
from brats_seg.core.study import MRSequence

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
_T1 = {"ScanningSequence": ["GR", "IR"], "SequenceVariant": ["SP", "MP"], "MRAcquisitionType": "3D"}
_SPIN = {"ScanningSequence": "SE", "SequenceVariant": "SK", "MRAcquisitionType": "2D"}
TIMES: Mapping[MRSequence, dict[str, Any]] = {
    MRSequence.T1: {**_T1, "RepetitionTime": 2000.0, "EchoTime": 2.9, "InversionTime": 900.0, "FlipAngle": 9.0},
    MRSequence.T1CE: {
        **_T1,
        "RepetitionTime": 2000.0,
        "EchoTime": 2.9,
        "InversionTime": 900.0,
        "FlipAngle": 9.0,
        "ContrastBolusAgent": "Gadovist",
    },
    MRSequence.T2: {**_SPIN, "RepetitionTime": 5200.0, "EchoTime": 96.0, "FlipAngle": 120.0},
    MRSequence.FLAIR: {**_SPIN, "RepetitionTime": 9000.0, "EchoTime": 110.0, "InversionTime": 2500.0},
}
"""Attributes as scanners write them."""
DESCRIPTIONS = {
    MRSequence.T1: "t1_mprage_sag",
    MRSequence.T1CE: "t1_mprage_sag KM",
    MRSequence.T2: "t2_tse_tra",
    MRSequence.FLAIR: "t2_tirm_tra_dark-fluid",
}


@dataclass
class Exam:
    """What the series of one exam share."""

    patient: str = "PAT-170017"
    name: str = "Mustermann^Erika"
    date: str = "20240131"
    study: str = field(default_factory=generate_uid)
    frame_of_reference: str = field(default_factory=generate_uid)


def datasets(
    volume: Volume, exam: Exam, *, number: int = 1, slope: float = 1.0, attributes: Mapping[str, Any] | None = None
) -> list[FileDataset]:
    """One image a slice along the last axis of an array of whole numbers, in order; attributes go in as they are."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    series = generate_uid()
    result = []
    for place in range(volume.data.shape[2]):
        image = _empty_image(exam, series, number)
        image.InstanceNumber = place + 1
        image.ImagePositionPatient = [round(float(x), 6) for x in (affine @ [0, 0, place, 1])[:3]]
        image.ImageOrientationPatient = [round(float(x), 9) for x in (*directions[:, 0], *directions[:, 1])]
        image.PixelSpacing = [float(spacing[1]), float(spacing[0])]
        image.SliceThickness = float(spacing[2])
        image.RescaleSlope, image.RescaleIntercept = slope, 0.0
        set_pixels(image, np.rint(volume.data[:, :, place].T / slope).astype(np.uint16))
        for name, value in (attributes or {}).items():
            setattr(image, name, value)
        result.append(image)
    return result


def _empty_image(exam: Exam, series: str, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID = meta.MediaStorageSOPClassUID = MR_IMAGE
    image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    image.Modality, image.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M", "NORM"]
    image.PatientID, image.PatientName, image.StudyDate = exam.patient, exam.name, exam.date
    image.StudyInstanceUID, image.FrameOfReferenceUID = exam.study, exam.frame_of_reference
    image.SeriesInstanceUID, image.SeriesNumber = series, number
    image.AcquisitionDate, image.AcquisitionTime = exam.date, f"10{number % 60:02}00.000000"
    image.BodyPartExamined, image.Manufacturer = "HEAD", "SIEMENS"
    return image


def set_pixels(image: Dataset, values: np.ndarray) -> None:
    """Put an image ``(rows, columns)`` of uint16 or int16 into a header, uncompressed."""
    image.Rows, image.Columns = values.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = int(values.dtype.kind == "i")
    image.PixelData = values.tobytes()


def write(
    images: list[FileDataset], folder: Path, *, name: Callable[[int], str] = "IM{:05}".format, shuffled: bool = True
) -> Path:
    """Write images, without an ending and in an order that says nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(3).permutation(len(images)) if shuffled else np.arange(len(images))
    for number, place in enumerate(order):
        images[place].save_as(folder / name(number), enforce_file_format=True)
    return folder


def write_study(
    folder: Path,
    volumes: Mapping[MRSequence, Volume],
    *,
    exam: Exam | None = None,
    described: bool = True,
    attributes: Mapping[str, Any] | None = None,
) -> Path:
    """A DICOM exam of scans of whole numbers, each sequence a series in a folder of its own."""
    exam = exam or Exam()
    for number, (sequence, volume) in enumerate(volumes.items(), start=2):
        written = {**TIMES[sequence], **(attributes or {})}
        if described:
            written["SeriesDescription"] = DESCRIPTIONS[sequence]
        images = datasets(volume, exam, number=number, attributes=written)
        write(images, folder / f"SE{number:03}")
    return folder
