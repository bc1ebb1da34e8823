"""Measurements as a structured report: the numbers, what they are of, and a header without an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from test_dicom import oblique
from test_dicom_seg import MAKER, errors_of, series_of

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.study import Timepoint
from brats_seg.core.visit import RunRecord, Segmentation, Visit
from brats_seg.files.dicom_reference import Reference, reference_of, save
from brats_seg.files.dicom_sr import report_of
from brats_seg.models.card import regions_of
from brats_seg.run.dicom_exports import findings_of
from brats_seg.volumetrics.measure import measure_segmentation


def two_lesions(grid: Grid) -> Visit:
    """One whole tumour with two enhancing lesions in it, and nothing else."""
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:12, 2:10, 2:11], labels[3:6, 3:6, 3:6], labels[8:11, 3:8, 6:10] = 2, 3, 3
    segmentation = Segmentation("case", Volume(labels, grid), SCHEMAS["brats2023"], regions_of("glioma"))
    found = measure_segmentation(segmentation)
    rows = [replace(row, low_ml=1.0, high_ml=100.0) if row.region == "WT" else row for row in found.volumes]
    measurements = replace(found, volumes=tuple(rows))
    return Visit(Timepoint("case", {}), segmentation, measurements, RunRecord("case", {}))


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    return reference_of(series_of(oblique(), tmp_path / "in"))


def write_report(visit: Visit, reference: Reference, place: Path) -> hd.sr.MeasurementReport:
    findings = findings_of(visit, reference.patient(), reference.exam)
    masks, report = report_of(findings, reference, MAKER)
    save(masks, place / "lesions.dcm")
    save(report, place / "sr.dcm")
    assert errors_of(place / "lesions.dcm") == errors_of(place / "sr.dcm") == []
    return hd.sr.srread(place / "sr.dcm").content


def value_of(group: hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations, name: object) -> float | None:
    found = group.get_measurements(name=name)
    return float(found[0].value) if found else None


@pytest.mark.slow
def test_volumes_and_diameters_of_every_region_and_lesion(tmp_path: Path, reference: Reference) -> None:
    visit = two_lesions(reference.grid)
    groups = write_report(visit, reference, tmp_path).get_volumetric_roi_measurement_groups()
    by_name = {group.tracking_identifier: group for group in groups}
    # The core has two parts as well, which nobody follows.
    assert list(by_name) == [
        *("WT", "TC", "ET", "ET lesion 1", "ET lesion 2"),
    ]
    for row in visit.measurements.volumes:
        if row.region in by_name:
            assert value_of(by_name[row.region], codes.SCT.Volume) == pytest.approx(1000 * row.volume_ml, abs=1e-3)
    for lesion in visit.measurements.lesions_of("ET"):
        group = by_name[f"ET lesion {lesion.number}"]
        assert value_of(group, codes.SCT.Volume) == pytest.approx(1000 * lesion.volume_ml, abs=1e-3)
        assert value_of(group, codes.SCT.LongAxis) == pytest.approx(lesion.diameters.long_mm, abs=1e-3)
        assert value_of(group, codes.SCT.ShortAxis) == pytest.approx(lesion.diameters.short_mm, abs=1e-3)
        assert group.finding_type.value == "86049000"
    assert value_of(by_name["WT"], codes.SCT.LongAxis) is not None
    assert value_of(by_name["ET"], codes.SCT.LongAxis) is None


@pytest.mark.slow
def test_each_measurement_refers_to_the_mask_it_was_made_on(tmp_path: Path, reference: Reference) -> None:
    groups = write_report(two_lesions(reference.grid), reference, tmp_path).get_volumetric_roi_measurement_groups()
    masks = hd.seg.segread(tmp_path / "lesions.dcm")
    for group in groups:
        referred = group.referenced_segment[0]
        (number,) = referred.referenced_segment_numbers
        assert referred.referenced_sop_instance_uid == masks.SOPInstanceUID
        description = masks.get_segment_description(number)
        assert (description.tracking_id, description.tracking_uid) == (group.tracking_identifier, group.tracking_uid)
        voxels = masks.get_volume(segment_numbers=[number]).array.sum()
        expected_mm3 = float(voxels) * reference.grid.voxel_ml * 1000
        assert value_of(group, codes.SCT.Volume) == pytest.approx(expected_mm3, rel=1e-5)


def test_nothing_found_is_said_too(tmp_path: Path, reference: Reference) -> None:
    visit = two_lesions(reference.grid)
    empty = visit.segmentation.labels.with_data(np.zeros_like(visit.segmentation.labels.data))
    nothing = replace(visit.segmentation, labels=empty)
    none = replace(visit, segmentation=nothing, measurements=measure_segmentation(nothing))
    groups = write_report(none, reference, tmp_path).get_volumetric_roi_measurement_groups()
    assert [value_of(group, codes.SCT.Volume) for group in groups] == [0.0, 0.0, 0.0]


def test_the_report_is_the_patients_and_names_its_evidence(tmp_path: Path, reference: Reference) -> None:
    write_report(two_lesions(reference.grid), reference, tmp_path)
    made = pydicom.dcmread(tmp_path / "sr.dcm")
    assert made.PatientID == "PAT-170017"
    referred = {
        item.ReferencedSOPInstanceUID
        for series in made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    images = map(pydicom.dcmread, (tmp_path / "in").iterdir())
    with_tumour = {image.SOPInstanceUID for image in images if 2 < image.InstanceNumber <= 11}
    assert referred == with_tumour | {pydicom.dcmread(tmp_path / "lesions.dcm").SOPInstanceUID}
