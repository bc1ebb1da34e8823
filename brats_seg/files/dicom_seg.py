"""Masks as DICOM segmentations (SEG), frame by frame on the images of the series they were drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from highdicom.seg import Segmentation as SegObject
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Array
from brats_seg.core.visit import Segmentation
from brats_seg.files.dicom_codes import BRAIN, CATEGORY, Code, tissue_code
from brats_seg.files.dicom_reference import MANUFACTURER, Maker, Reference, writing

SEG_SERIES = 1000
"""Added to the number of the series they were drawn on, gives the number of theirs."""


@dataclass(frozen=True)
class Segment:
    """One mask of a segmentation.

    Attributes:
        colour: ``#RRGGBB``.
        tracking: name that stays the same over the visits of a patient.
        of: whose thing is tracked: what all visits of a patient share.
    """

    label: str
    code: Code
    colour: str
    tracking: str
    of: str

    @property
    def uid(self) -> str:
        """Unique identifier that stays the same likewise."""
        return tracking_uid(self.of, self.tracking)


def tracking_uid(patient: str, name: str) -> str:
    """The same for the same thing in the same patient, whenever and wherever it is made."""
    return str(generate_uid(entropy_srcs=["brats_seg", patient, name]))


def tissues(segmentation: Segmentation, patient: str) -> tuple[Segment, ...]:
    """The tissues of a label map in the order of their numbers, also those that were not found."""
    return tuple(Segment(s.title, tissue_code(s), s.colour, s.name, patient) for s in segmentation.schema.structures)


def seg_of_tissues(
    segmentation: Segmentation, reference: Reference, maker: Maker, *, patient: str, label_map: bool = False
) -> SegObject:
    """The label map as a segmentation, one segment a tissue.

    Args:
        segmentation: on the grid of the reference.
        reference: the series it was drawn on.
        patient: what stays the same over the visits of a patient.
        label_map: as a Label Map Segmentation, which not every program reads yet, instead of a binary one.

    Raises:
        InputError: if it lies on another grid.
        OutputError: if none can be made of the header of the series.
    """
    numbers = sorted(segmentation.schema.values)
    place = np.zeros(max(numbers) + 1, np.uint8)
    place[numbers] = np.arange(1, len(numbers) + 1)
    labels = segmentation.labels
    if not labels.grid.same_as(reference.grid):
        raise InputError("the label map does not lie on the grid of the series it is to be written for")
    part, slices = reference.around(labels.data > 0)
    array = place[labels.data[:, :, slices]]
    return seg_of(array, tissues(segmentation, patient), part, maker, label_map=label_map)


def seg_of(
    array: Array,
    segments: Sequence[Segment],
    reference: Reference,
    maker: Maker,
    *,
    title: str = "Brain tumour tissues",
    label_map: bool = False,
    number: int = SEG_SERIES,
) -> SegObject:
    """A segmentation.

    Args:
        array: ``(X, Y, Z)`` of segment numbers from 1, or ``(X, Y, Z, S)`` bool where segments overlap.
        segments: in the order of their numbers.
        reference: the series, on whose grid the array lies.
        title: of the series.
        label_map: as a Label Map Segmentation.
        number: added to the number of the series.

    Raises:
        OutputError: if none can be made of the header of the series.
    """
    order = (2, 1, 0, 3)[: array.ndim]
    with writing("DICOM segmentation"):
        made = SegObject(
            source_images=reference.images,
            pixel_array=np.ascontiguousarray(array.transpose(order)),
            segmentation_type="LABELMAP" if label_map else "BINARY",
            segment_descriptions=_descriptions(segments, maker),
            series_instance_uid=generate_uid(),
            series_number=reference.number + number,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            software_versions=maker.program,
            device_serial_number=maker.program,
            content_label="TUMOUR",
            content_description=title,
            series_description=f"{title} ({MANUFACTURER})",
        )
        made.ContentCreatorName = ""  # may be empty, and must be there
        reference.settle(made)
    return made


def _descriptions(segments: Sequence[Segment], maker: Maker) -> list[SegmentDescription]:
    described = []
    for number, segment in enumerate(segments, start=1):
        one = SegmentDescription(
            segment_number=number,
            segment_label=segment.label,
            segmented_property_category=coded(CATEGORY),
            segmented_property_type=coded(segment.code),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm(maker),
            tracking_uid=segment.uid,
            tracking_id=segment.tracking,
            anatomic_regions=[coded(BRAIN)],
            display_color=CIELabColor.from_string(segment.colour),
        )
        described.append(one)
    return described


def algorithm(maker: Maker) -> AlgorithmIdentificationSequence:
    """The model, as DICOM names algorithms."""
    return AlgorithmIdentificationSequence(
        name=maker.name, family=codes.DCM.ArtificialIntelligence, version=maker.version, source=MANUFACTURER
    )


def coded(code: Code) -> Any:
    """A code as highdicom takes it."""
    return CodedConcept(code.value, code.scheme, code.meaning)
