"""Measurements as a DICOM structured report: TID 1500, a measurement group for each region and lesion (TID 1411)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom import sr
from highdicom.seg import Segmentation as SegObject
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from brats_seg.files.dicom_codes import BRAIN, CATEGORY
from brats_seg.files.dicom_reference import MANUFACTURER, Maker, Reference, writing
from brats_seg.files.dicom_seg import SEG_SERIES, Segment, coded, seg_of, tracking_uid

LESIONS_SERIES, SR_SERIES = SEG_SERIES + 1000, SEG_SERIES + 2000
"""Added to the number of the series they are about, give the numbers of theirs."""


@dataclass(frozen=True, eq=False)
class Finding:
    """What is measured: a region, one of its lesions, or both in one where a region has a single lesion.

    Attributes:
        mask: ``(X, Y, Z)`` bool.
        interval_ml: the volume is expected in; None where nothing is known of it.
        diameters_mm: the longest diameter and the longest one across; none where they were not measured.
        side: ``left``, ``right`` or ``both``; empty where it is not known.
    """

    segment: Segment
    mask: NDArray[np.bool_]
    volume_ml: float
    interval_ml: tuple[float, float] | None = None
    diameters_mm: tuple[float, ...] = ()
    side: str = ""


def report_of(
    findings: Sequence[Finding], reference: Reference, maker: Maker
) -> tuple[SegObject, sr.Comprehensive3DSR]:
    """The masks that measurements refer to, as one segmentation whose segments lie within each other, and the report.

    Args:
        findings: with masks on the grid of the reference.
        reference: the series they were drawn on.

    Raises:
        OutputError: if none can be made of the header of the series.
    """
    part, slices = reference.around(np.logical_or.reduce([finding.mask for finding in findings]))
    array = np.stack([finding.mask[:, :, slices] for finding in findings], axis=-1)
    segments = [finding.segment for finding in findings]
    masks = seg_of(array, segments, part, maker, title="Brain tumour lesions", number=LESIONS_SERIES)
    return masks, _report(findings, masks, part, maker)


def _report(findings: Sequence[Finding], masks: SegObject, reference: Reference, maker: Maker) -> sr.Comprehensive3DSR:
    with writing("DICOM structured report"):
        observer = sr.ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=tracking_uid("", maker.program), name=MANUFACTURER, model_name=maker.name
            ),
        )
        content = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=observer),
            procedure_reported=codes.LN.BrainMRI,
            title=codes.DCM.ImagingMeasurementReport,
            imaging_measurements=[
                _group(finding, masks, number, reference, maker) for number, finding in enumerate(findings, start=1)
            ],
        )
        return sr.Comprehensive3DSR(
            evidence=[*reference.files, masks],
            content=content[0],
            series_instance_uid=generate_uid(),
            series_number=reference.number + SR_SERIES,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            is_complete=True,
            series_description=f"Brain tumour measurements ({MANUFACTURER})",
        )


def _group(finding: Finding, masks: SegObject, number: int, reference: Reference, maker: Maker) -> Any:
    segment = finding.segment
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=segment.uid, identifier=segment.tracking),
        referenced_segment=sr.ReferencedSegment(
            masks.SOPClassUID,
            masks.SOPInstanceUID,
            number,
            source_series=sr.SourceSeriesForSegmentation(reference.images[0].SeriesInstanceUID),
        ),
        finding_type=coded(segment.code),
        finding_category=coded(CATEGORY),
        algorithm_id=sr.AlgorithmIdentification(maker.name, maker.version),
        finding_sites=[_site(finding.side)],
        measurements=_measurements(finding),
    )


def _site(side: str) -> Any:
    sides = {"left": codes.SCT.Left, "right": codes.SCT.Right, "both": codes.SCT.RightAndLeft}
    return sr.FindingSite(coded(BRAIN), laterality=sides.get(side))


def _measurements(finding: Finding) -> list[Any]:
    """Volume in mm3 with the interval it is expected in, and diameters in mm, for whose ends TID 1411 has no room."""
    around = None
    if finding.interval_ml is not None:
        low_ml, high_ml = finding.interval_ml
        around = sr.MeasurementProperties(
            upper_measurement_uncertainty=round(1000 * (high_ml - finding.volume_ml), 3),
            lower_measurement_uncertainty=round(1000 * (finding.volume_ml - low_ml), 3),
        )
    volume_mm3 = round(1000 * finding.volume_ml, 3)
    found = [sr.Measurement(codes.SCT.Volume, volume_mm3, codes.UCUM.CubicMillimeter, properties=around)]
    names = (codes.SCT.LongAxis, codes.SCT.ShortAxis)
    return found + [
        sr.Measurement(name, round(length_mm, 3), codes.UCUM.Millimeter)
        for name, length_mm in zip(names, finding.diameters_mm, strict=False)
    ]
