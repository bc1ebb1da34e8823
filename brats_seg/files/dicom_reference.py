"""What a DICOM object takes over from the series it is made of: whose it is, and the images it points at.

The identity of a patient goes from one DICOM file to the other here, and nowhere else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, config
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat, validate_value

from brats_seg.core.errors import OutputError
from brats_seg.core.grid import Grid
from brats_seg.files.dicom import DicomSeries, stack_of
from brats_seg.files.dicom_file import parse
from brats_seg.files.dicom_header import MR_CLASSES, Plane
from brats_seg.files.output import atomic_write

_TEXT = "PatientID PatientName IssuerOfPatientID StudyID AccessionNumber ReferringPhysicianName StudyDescription"
_FORMAL = "PatientBirthDate PatientSex StudyDate StudyTime PatientIdentityRemoved LossyImageCompression"
"""Attributes whose values DICOM prescribes; others than those are left empty."""
_AS_THEY_ARE = "SpecificCharacterSet DeidentificationMethod PositionReferenceIndicator"
_REQUIRED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
"""May be empty, and must be there (type 2)."""
_MR_IMAGE = next(iter(MR_CLASSES))
MANUFACTURER = "brats_seg"
"""Of the objects written; DICOM wants one."""


@dataclass(frozen=True)
class Maker:
    """What made an object.

    Attributes:
        name: of the model.
        version: of the model.
        program: version of this program.
    """

    name: str
    version: str
    program: str


@dataclass(frozen=True, eq=False)
class Reference:
    """A series that new objects are made of.

    Attributes:
        planes: its images, from the first slice to the last.
        images: for each of them a header without pixels, with all that new objects take over; an image of a file with
            many frames has a UID of its own, which :meth:`settle` replaces.
        places: by the UID of such an image, SOP Class UID, SOP Instance UID and frame number from 1; empty where each
            image is a file.
    """

    grid: Grid
    planes: tuple[Plane, ...]
    images: tuple[Dataset, ...]
    places: dict[str, tuple[str, str, int]]

    def patient(self, otherwise: str = "") -> str:
        """What the visits of a patient share: Patient ID, where there is none ``otherwise``, else the exam alone."""
        return str(self.images[0].PatientID) or otherwise or self.exam

    @property
    def exam(self) -> str:
        """Study Instance UID."""
        return str(self.images[0].StudyInstanceUID)

    @property
    def number(self) -> int:
        """Series Number; 0 where there is none."""
        return int(self.images[0].get("SeriesNumber") or 0)

    def around(self, mask: NDArray[np.bool_]) -> tuple[Reference, slice]:
        """The part of the series with a mask ``(X, Y, Z)`` on it, two slices at least, and which slices these are."""
        there = np.flatnonzero(mask.any(axis=(0, 1)))
        first, last = (int(there[0]), int(there[-1])) if there.size else (len(self.planes) // 2,) * 2
        first, last = (first - 1, last) if first == last > 0 else (first, max(last, first + 1))
        part = slice(first, last + 1)
        step = np.eye(4)
        step[2, 3] = first
        grid = Grid((*self.grid.shape[:2], last + 1 - first), self.grid.affine @ step)
        return replace(self, grid=grid, planes=self.planes[part], images=self.images[part]), part

    @property
    def files(self) -> list[Dataset]:
        """The header of each file once, without pixels."""
        if not self.places:
            return list(self.images)
        found: dict[str, Dataset] = {}
        for image in self.images:
            kind, uid, _ = self.places[image.SOPInstanceUID]
            if uid not in found:
                found[uid] = deepcopy(image)
                found[uid].SOPClassUID, found[uid].SOPInstanceUID = kind, uid
        return list(found.values())

    @property
    def identity(self) -> Dataset:
        """Patient and study."""
        found = Dataset()
        for keyword in (*f"{_TEXT} {_FORMAL} {_AS_THEY_ARE}".split(), "StudyInstanceUID"):
            if keyword in self.images[0] and keyword != "LossyImageCompression":
                found.add(self.images[0][keyword])
        return found

    def pointer(self, image: Dataset) -> Dataset:
        """An item that refers to one of the images, at its file and where that has many frames at its frame."""
        kind, uid, frame = self.places.get(image.SOPInstanceUID, (image.SOPClassUID, image.SOPInstanceUID, 0))
        number = {"ReferencedFrameNumber": frame} if frame else {}
        return item(ReferencedSOPClassUID=kind, ReferencedSOPInstanceUID=uid, **number)

    def settle(self, made: Dataset) -> None:
        """Let a new object point at the frames of its source files, each file once in lists of files."""
        if not self.places:
            return
        for element in made:
            if element.VR != "SQ":
                continue
            kept: dict[tuple[str, int], Dataset] = {}
            for number, entry in enumerate(element.value):
                frame = self._point(entry)
                self.settle(entry)
                pointed_at = str(entry.get("ReferencedSOPInstanceUID", ""))
                # Lists of files share their items, so that one may point at its file already.
                kept.setdefault((pointed_at, frame) if pointed_at else ("", number), entry)
            if len(kept) < len(element.value):
                element.value = list(kept.values())

    def _point(self, entry: Dataset) -> int:
        """Let an item of a list point at a file, or where it stands for one frame at that; returns the frame, or 0."""
        place = self.places.get(str(entry.get("ReferencedSOPInstanceUID", "")))
        if place is None:
            return 0
        entry.ReferencedSOPClassUID, entry.ReferencedSOPInstanceUID, frame = place
        if "PurposeOfReferenceCodeSequence" not in entry:
            return 0
        entry.ReferencedFrameNumber = frame
        return frame


def reference_of(series: DicomSeries) -> Reference:
    """A series as new objects need it; its pixels are not decoded.

    Raises:
        InputError: as :func:`~brats_seg.files.dicom.stack_of`, or if its first file cannot be read.
    """
    grid, planes = stack_of(series)
    shared = _shared(parse(planes[0].source.read()), series)
    kind = str(shared.SOPClassUID)
    shared.SOPClassUID = _MR_IMAGE
    places: dict[str, tuple[str, str, int]] = {}
    images = []
    for plane in planes:
        image = Dataset()
        image.update(shared)
        image.SOPInstanceUID = plane.sop or generate_uid()
        if kind != _MR_IMAGE:
            image.SOPInstanceUID = generate_uid()
            places[image.SOPInstanceUID] = (kind, plane.sop, plane.frame + 1)
        image.Rows, image.Columns = plane.shape
        image.ImagePositionPatient = [DSfloat(value, auto_format=True) for value in plane.position]
        image.ImageOrientationPatient = [DSfloat(value, auto_format=True) for value in planes[0].orientation]
        image.PixelSpacing = [DSfloat(value, auto_format=True) for value in planes[0].spacing]
        image.SliceThickness = DSfloat(grid.spacing_mm[2], auto_format=True)
        images.append(image)
    return Reference(grid, planes, tuple(images), places)


def _shared(header: Dataset, series: DicomSeries) -> Dataset:
    """What all images of a series have in common."""
    shared = Dataset()
    for keyword in f"{_TEXT} {_FORMAL} {_AS_THEY_ARE}".split():
        element = header.get(keyword) and header[keyword]
        if not element:
            continue
        if keyword in _FORMAL:
            try:
                validate_value(element.VR, str(element.value), config.RAISE)
            except ValueError:
                continue
        shared.add(element)
    for keyword in _REQUIRED:
        if keyword not in shared:
            setattr(shared, keyword, "")
    shared.Modality, shared.SOPClassUID = "MR", header.SOPClassUID
    shared.StudyInstanceUID, shared.SeriesInstanceUID = header.StudyInstanceUID, series.uid
    if series.number is not None:
        shared.SeriesNumber = series.number
    # Without one, positions mean something within the series alone, which this says as well.
    shared.FrameOfReferenceUID = header.get("FrameOfReferenceUID") or generate_uid(entropy_srcs=[series.uid])
    return shared


def item(**values: object) -> Dataset:
    """An item of a sequence, by the keywords of its attributes."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def empty_file(kind: str, uid: str) -> FileDataset:
    """A file of a SOP Class with this SOP Instance UID, and nothing in it."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID = meta.MediaStorageSOPClassUID = UID(kind)
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = UID(uid)
    return made


def new_object(reference: Reference, maker: Maker, kind: str, modality: str, *, number: int, title: str) -> Dataset:
    """An object of the patient and study of a series, in a series of its own, which highdicom has no class for.

    Args:
        kind: SOP Class UID.
        modality: of its series.
        number: added to the number of the series, gives the number of its own.
        title: of its series.
    """
    made = empty_file(kind, generate_uid())
    made.update(reference.identity)
    made.Modality = modality
    made.SeriesInstanceUID, made.SeriesNumber = generate_uid(), reference.number + number
    made.SeriesDescription, made.InstanceNumber = f"{title} ({MANUFACTURER})", 1
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, maker.name
    made.SoftwareVersions = maker.program
    return made


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Tell of a header that no object can be made of; warnings of the libraries are kept quiet.

    Raises:
        OutputError: if one cannot be made.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ValueError, TypeError, AttributeError, LookupError, NotImplementedError) as error:
        raise OutputError(
            f"the {what} cannot be made of this series' header ({type(error).__name__}). Pass --no-dicom to write "
            "NIfTI alone."
        ) from error


def save(made: Dataset, path: Path) -> None:
    """Write an object, all or nothing.

    Raises:
        OutputError: if it cannot be written.
    """
    with writing(path.name), atomic_write(path) as stream:
        made.save_as(stream, enforce_file_format=True)
