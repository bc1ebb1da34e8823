"""Regions as contours (RT Structure Set), for planning systems that read no segmentation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from brats_seg.core.grid import Grid
from brats_seg.core.visit import Segmentation
from brats_seg.files.dicom_reference import Maker, Reference, item, new_object, writing
from brats_seg.files.dicom_seg import SEG_SERIES
from brats_seg.files.outlines import outlines

_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_SERIES = SEG_SERIES + 3000


def rtstruct_of(segmentation: Segmentation, reference: Reference, maker: Maker) -> Dataset:
    """The regions of a label map as contours on the images of a series.

    Args:
        segmentation: on the grid of the reference.
        reference: the series it was drawn on.

    Raises:
        OutputError: if none can be made of the header of the series.
    """
    with writing("RT structure set"):
        made = _empty(reference, maker)
        made.ReferencedFrameOfReferenceSequence = [_frame_of_reference(reference)]
        made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = [], [], []
        for number, region in enumerate(segmentation.regions, start=1):
            mask = segmentation.region_mask(region)
            if not mask.any():
                continue
            made.StructureSetROISequence.append(
                item(
                    ROINumber=number,
                    ReferencedFrameOfReferenceUID=made.FrameOfReferenceUID,
                    ROIName=region.title,
                    ROIGenerationAlgorithm="AUTOMATIC",
                )
            )
            contours = list(_contours(mask, segmentation.labels.grid, reference))
            colour = [int(region.colour[at : at + 2], 16) for at in (1, 3, 5)]
            made.ROIContourSequence.append(
                item(ROIDisplayColor=colour, ReferencedROINumber=number, ContourSequence=contours)
            )
            made.RTROIObservationsSequence.append(
                item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter="")
            )
    return made


def _empty(reference: Reference, maker: Maker) -> Dataset:
    made = new_object(reference, maker, _SOP_CLASS, "RTSTRUCT", number=_SERIES, title="Brain tumour contours")
    now = datetime.now()
    made.FrameOfReferenceUID = reference.images[0].FrameOfReferenceUID
    made.OperatorsName = ""
    made.StructureSetLabel, made.ApprovalStatus = "TUMOUR", "UNAPPROVED"
    made.StructureSetDate, made.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    return made


def _frame_of_reference(reference: Reference) -> Dataset:
    first = reference.images[0]
    series = item(
        SeriesInstanceUID=first.SeriesInstanceUID,
        ContourImageSequence=[reference.pointer(image) for image in reference.images],
    )
    study = item(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _contours(mask: NDArray[np.bool_], grid: Grid, reference: Reference) -> Iterator[Dataset]:
    for place in np.flatnonzero(mask.any(axis=(0, 1))).tolist():
        for polygon in outlines(mask[:, :, place]):
            voxels = np.column_stack([polygon, np.full(len(polygon), float(place))])
            points_mm = grid.to_world(voxels) * (-1.0, -1.0, 1.0)  # RAS to LPS
            yield item(
                ContourImageSequence=[reference.pointer(reference.images[place])],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(polygon),
                ContourData=[f"{value:.4f}" for value in points_mm.ravel()],
            )
