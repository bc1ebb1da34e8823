"""What the header of a DICOM file says: whose it is, and of each image where it lies and how it was acquired.

Attributes are called as in DICOM PS3.3. A classic file holds one image; an enhanced one holds many frames, whose
attributes stand in functional groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from brats_seg.files.dicom_file import (
    MAX_SIDE,
    MAX_VOXELS,
    DamagedFileError,
    DicomSource,
    damage_explained,
    legible,
    parse,
)

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

MR_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4": "MR images",
    "1.2.840.10008.5.1.4.1.1.4.1": "enhanced MR images",
    "1.2.840.10008.5.1.4.1.1.4.4": "legacy converted enhanced MR images",
}
"""SOP classes that are read."""
DICOMDIR = "a directory of DICOM files"
OTHER_CLASSES = {
    "1.2.840.10008.1.3.10": DICOMDIR,
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.128": "PET",
    "1.2.840.10008.5.1.4.1.1.7": "secondary captures",
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentations",
    "1.2.840.10008.5.1.4.1.1.481.3": "contours (RTSTRUCT)",
    "1.2.840.10008.5.1.4.1.1.104.1": "PDF documents",
    "1.2.840.10008.5.1.4.1.1.4.2": "MR spectroscopy",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
}
"""Names of SOP classes that often lie beside them; others are called by their modality."""


_READ = """\
SpecificCharacterSet SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality FrameOfReferenceUID
PatientID PatientName PatientIdentityRemoved StudyDate SeriesNumber AcquisitionNumber
AcquisitionDate AcquisitionTime AcquisitionDateTime SeriesDescription ProtocolName BodyPartExamined ImageType
ScanningSequence SequenceVariant MRAcquisitionType SequenceName PulseSequenceName EchoPulseSequence AngioFlag
RepetitionTime EchoTime InversionTime FlipAngle ContrastBolusAgent ContrastBolusVolume ContrastBolusAgentSequence
DiffusionBValue TemporalPositionIdentifier ImagesInAcquisition ImagePositionPatient ImageOrientationPatient
PixelSpacing Rows Columns SamplesPerPixel NumberOfFrames PhotometricInterpretation RescaleSlope RescaleIntercept
SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
"""
"""Attributes that are read; everything else in a header is passed over."""
_OTHER_NAMES = {
    "EchoTime": ("EffectiveEchoTime",),
    "InversionTime": ("InversionTimes",),
    "TemporalPositionIdentifier": ("TemporalPositionIndex",),
    "ImageType": ("FrameType",),
    "SequenceName": ("PulseSequenceName",),
    "AcquisitionTime": ("FrameAcquisitionDateTime", "AcquisitionDateTime"),
    "AcquisitionNumber": ("FrameAcquisitionNumber",),
}
"""What attributes are called in enhanced images."""


@dataclass(frozen=True)
class Acquisition:
    """How images were acquired, as far as their header says; times in ms, angles in degrees.

    Attributes:
        description: series description and protocol name, as typed at the scanner.
        image_type: values of Image Type or Frame Type, upper case.
        scanning: values of Scanning Sequence (SE, GR, IR, EP) or what an enhanced image says of them.
        variant: values of Sequence Variant.
        is_3d: None where the header does not say.
        agent: the contrast agent, as typed; empty where none is named.
        body_part: Body Part Examined.
        is_angiography: Angio Flag.
        b_value: Diffusion b-value in s/mm2; None where there is none.
        acquired: date and time, sortable; empty where the header does not say.
    """

    description: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    scanning: frozenset[str] = frozenset()
    variant: frozenset[str] = frozenset()
    sequence_name: str = ""
    is_3d: bool | None = None
    repetition_time: float | None = None
    echo_time: float | None = None
    inversion_time: float | None = None
    flip_angle: float | None = None
    agent: str = ""
    agent_ml: float | None = None
    body_part: str = ""
    is_angiography: bool = False
    b_value: float | None = None
    acquired: str = ""


@dataclass(frozen=True)
class Identity:
    """Whose images they are, to keep patients and visits apart. Never printed, written or logged.

    Attributes:
        patient: Patient ID.
        name: Patient's Name.
        is_removed: whether the header says that the identity was removed.
        study: Study Instance UID.
        date: Study Date, ``YYYYMMDD``; empty where it is missing.
    """

    patient: str = field(repr=False)
    name: str = field(repr=False)
    is_removed: bool
    study: str
    date: str


@dataclass(frozen=True)
class Plane:
    """One image: where it lies and how its values are scaled.

    Attributes:
        frame: number within the file, from 0.
        sop: SOP Instance UID.
        position: centre of the first voxel, LPS mm.
        orientation: direction of rows (first three) and of columns.
        spacing: between rows and between columns, mm.
        shape: rows and columns.
        scale: rescale slope and intercept.
        temporal: Temporal Position, or None.
        acquisition: Acquisition Number, or None.
        expected: Images in Acquisition, or None.
    """

    source: DicomSource
    frame: int
    sop: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    shape: tuple[int, int]
    scale: tuple[float, float]
    temporal: int | None
    acquisition: int | None
    expected: int | None
    how: Acquisition


@dataclass(frozen=True)
class Header:
    """What one file says.

    Attributes:
        series: Series Instance UID.
        number: Series Number, or None.
        kind: what the file holds where that is no MR image, in words; empty for MR images.
        planes: its images; empty where ``fault`` or ``kind`` says why.
        fault: why its images cannot be used, in words.
    """

    identity: Identity
    series: str
    number: int | None
    kind: str = ""
    planes: tuple[Plane, ...] = ()
    fault: str = ""


def read_header(source: DicomSource) -> Header:
    """The header of one file.

    Raises:
        DamagedFileError: if it cannot be read, or lacks what tells patients, series and images apart.
    """
    raw = source.read()
    with damage_explained():
        return _header(parse(raw, attributes=[_tag(keyword) for keyword in _READ.split()]), source)


def _header(dataset: Dataset, source: DicomSource) -> Header:
    top = _Attributes(dataset)
    sop_class, modality = top.text("SOPClassUID"), legible(top.text("Modality").upper())
    identity = Identity(
        top.text("PatientID"),
        top.text("PatientName"),
        top.text("PatientIdentityRemoved").upper() == "YES",
        legible(top.text("StudyInstanceUID")),
        top.text("StudyDate"),
    )
    series, number = legible(top.text("SeriesInstanceUID")), top.whole("SeriesNumber")
    if sop_class and sop_class not in MR_CLASSES:
        called = "unknown MR objects" if modality == "MR" else modality or "other objects"
        return Header(identity, series, number, kind=OTHER_CLASSES.get(sop_class, called))
    if not sop_class and not modality and not series:
        raise DamagedFileError("its header is cut short or holds nothing that DICOM images must have")
    if modality not in ("MR", ""):
        return Header(identity, series, number, kind=modality)
    if not sop_class:
        raise DamagedFileError("its header does not say what it holds (SOP Class UID is missing)")
    if not series or not identity.study:
        raise DamagedFileError("its header does not say which series it belongs to (a UID is missing)")
    try:
        return Header(identity, series, number, planes=tuple(_planes(top, source)))
    except DamagedFileError as error:
        return Header(identity, series, number, fault=str(error))


def _planes(top: _Attributes, source: DicomSource) -> Iterator[Plane]:
    per_frame = top.items("PerFrameFunctionalGroupsSequence")
    shared = top.items("SharedFunctionalGroupsSequence")[:1]
    claimed = top.whole("NumberOfFrames") or 1
    if per_frame and len(per_frame) != claimed:
        raise DamagedFileError(f"it claims {claimed} frames and describes {len(per_frame)}")
    if claimed > 1 and not per_frame:
        raise DamagedFileError(f"it holds {claimed} frames and does not say where each lies")
    rows, columns = top.whole("Rows") or 0, top.whole("Columns") or 0
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE) or rows * columns * claimed > MAX_VOXELS:
        raise DamagedFileError(f"it claims {columns} x {rows} x {claimed} voxels, which no MR image has")
    if (top.whole("SamplesPerPixel") or 1) != 1:
        raise DamagedFileError("it is a colour image, and scans are grey")
    if top.text("PhotometricInterpretation") not in ("MONOCHROME2", ""):
        raise DamagedFileError(f"its grey values are stored as {legible(top.text('PhotometricInterpretation'))}")
    for number in range(claimed):
        groups = [item for group in (*per_frame[number : number + 1], *shared) for item in top.inside(group)]
        yield _plane(_Attributes(*groups, top.dataset), source, number, (rows, columns))


def _plane(at: _Attributes, source: DicomSource, number: int, shape: tuple[int, int]) -> Plane:
    position, orientation = at.numbers("ImagePositionPatient", 3), at.numbers("ImageOrientationPatient", 6)
    spacing = at.numbers("PixelSpacing", 2)
    for name, values in (("position", position), ("orientation", orientation), ("pixel spacing", spacing)):
        if not values:
            raise DamagedFileError(f"its header lacks the {name} of the image, or it is no number")
    if not all(0.01 <= step <= 50 for step in spacing):
        raise DamagedFileError(f"pixels of {spacing[0]:.4g} x {spacing[1]:.4g} mm are not those of a head scan")
    if max(abs(value) for value in position) > 1e5:
        raise DamagedFileError("its position lies outside any scanner")
    slope, intercept = at.numbers("RescaleSlope", 1) or (1.0,), at.numbers("RescaleIntercept", 1) or (0.0,)
    return Plane(
        source,
        number,
        at.text("SOPInstanceUID"),
        position,
        orientation,
        spacing,
        shape,
        (slope[0] or 1.0, intercept[0]),
        at.whole("TemporalPositionIdentifier"),
        at.whole("AcquisitionNumber"),
        at.whole("ImagesInAcquisition"),
        _acquisition(at),
    )


def _acquisition(at: _Attributes) -> Acquisition:
    echo = {"SPIN": {"SE"}, "GRADIENT": {"GR"}, "BOTH": {"SE", "GR"}}.get(at.text("EchoPulseSequence").upper(), set())
    kind = at.text("MRAcquisitionType").upper()
    agents = [at.text("ContrastBolusAgent")]
    for item in at.items("ContrastBolusAgentSequence"):
        inside = _Attributes(item)
        agents.append(inside.text("CodeMeaning") or "contrast agent")
    day, time = at.text("AcquisitionDate") or at.text("StudyDate"), at.text("AcquisitionTime")
    return Acquisition(
        description=tuple(dict.fromkeys(t for t in (at.text("SeriesDescription"), at.text("ProtocolName")) if t)),
        image_type=tuple(value.upper() for value in at.texts("ImageType")),
        scanning=frozenset(value.upper() for value in at.texts("ScanningSequence")) | frozenset(echo),
        variant=frozenset(value.upper() for value in at.texts("SequenceVariant")),
        sequence_name=at.text("SequenceName"),
        is_3d=None if not kind else kind.startswith("3D"),
        repetition_time=at.number("RepetitionTime"),
        echo_time=at.number("EchoTime"),
        inversion_time=at.number("InversionTime") or None,
        flip_angle=at.number("FlipAngle"),
        agent=" ".join(agent for agent in agents if agent),
        agent_ml=at.number("ContrastBolusVolume"),
        body_part=at.text("BodyPartExamined").upper(),
        is_angiography=at.text("AngioFlag").upper() == "Y",
        b_value=at.number("DiffusionBValue"),
        acquired=time if len(time.split(".")[0]) > 8 else f"{day}{time}" if time else "",
    )


@cache
def _tag(keyword: str) -> BaseTag:
    from pydicom.datadict import tag_for_keyword  # noqa: PLC0415 - only for DICOM
    from pydicom.tag import Tag  # noqa: PLC0415

    return Tag(tag_for_keyword(keyword) or 0)


class _Attributes:
    """Attributes of an image by keyword, looked up in its functional groups first and then in the header."""

    def __init__(self, *datasets: Dataset) -> None:
        self.datasets = datasets
        self.dataset = datasets[-1]

    def value(self, keyword: str) -> Any:
        """The value, or None where it is missing or empty."""
        for name in (keyword, *_OTHER_NAMES.get(keyword, ())):
            for dataset in self.datasets:
                element = dataset.get(_tag(name))
                found = None if element is None else element.value
                if found is not None and not (isinstance(found, str | bytes) and not found):
                    return found
        return None

    def texts(self, keyword: str) -> tuple[str, ...]:
        """The values as text."""
        found = self.value(keyword)
        if found is None or isinstance(found, bytes):
            return ()
        values = [found] if isinstance(found, str) or not hasattr(found, "__iter__") else list(found)
        return tuple(str(value).strip(" \0") for value in values)

    def text(self, keyword: str) -> str:
        """The value as text, at most 400 letters; empty where there is none."""
        found = self.value(keyword)
        return "" if found is None or isinstance(found, bytes) else str(found).strip(" \0")[:400]

    def numbers(self, keyword: str, count: int) -> tuple[float, ...]:
        """So many finite numbers, or nothing."""
        try:
            values = tuple(float(text) for text in self.texts(keyword))
        except ValueError:
            return ()
        return values[:count] if len(values) >= count and all(math.isfinite(value) for value in values) else ()

    def number(self, keyword: str) -> float | None:
        """One number, or None."""
        return next(iter(self.numbers(keyword, 1)), None)

    def whole(self, keyword: str) -> int | None:
        """One whole number, or None."""
        found = self.number(keyword)
        return None if found is None or found != int(found) else int(found)

    def items(self, keyword: str) -> list[Dataset]:
        """Items of a sequence."""
        found = self.value(keyword)
        return [] if found is None or isinstance(found, str | bytes) else list(found)

    def inside(self, group: Dataset) -> list[Dataset]:
        """First item of each sequence in a functional group."""
        return [element.value[0] for element in group if element.VR == "SQ" and len(element.value)]
