"""DICOM segmentations: masks identical, frame by frame, to readers of others; headers without an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_files import TIMES, Exam, datasets, write
from pydicom.uid import generate_uid
from test_dicom import assert_same, oblique

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.study import MRSequence
from brats_seg.core.visit import Segmentation
from brats_seg.files.dicom import DicomSeries, read_series
from brats_seg.files.dicom_reference import Maker, reference_of, save
from brats_seg.files.dicom_seg import seg_of_tissues
from brats_seg.files.dicom_series import find_exams
from brats_seg.models.card import regions_of

WHOLE_HEADER = {
    **TIMES[MRSequence.FLAIR],
    **{"PatientBirthDate": "19600101", "PatientSex": "F", "StudyTime": "101010", "StudyID": "1"},
    **{"AccessionNumber": "", "ReferringPhysicianName": "", "PositionReferenceIndicator": ""},
}
MAKER = Maker("glioma", "0.7.1", "0.2.0")


def straight(orientation: str) -> Volume:
    """A volume along the axes of the patient with three different spacings."""
    volume = oblique(orientation)
    axes = [next(i for i, pair in enumerate(("RL", "AP", "SI")) if code in pair) for code in orientation]
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, code, spacing) in enumerate(zip(axes, orientation, (0.5, 0.75, 5.0), strict=True)):
        affine[world, axis] = spacing if code in "RAS" else -spacing
    affine[:3, 3] = (31.5, -70.25, 12.0)
    return Volume(volume.data, Grid(volume.grid.shape, affine))


GEOMETRIES = {
    "axial": straight("LPS"),
    "axial, reversed": straight("LPI"),
    "sagittal": straight("PIL"),
    "coronal": straight("LIP"),
    "oblique": oblique("LPS"),
    "oblique sagittal, reversed": oblique("PSR"),
}


def series_of(volume: Volume, place: Path, **attributes: object) -> DicomSeries:
    write(datasets(volume, Exam(), number=4, attributes={**WHOLE_HEADER, **attributes}), place)
    return find_exams(place)[0].series[0]


def segmentation_on(grid: Grid, schema: str = "brats2023") -> Segmentation:
    """Every number of a schema at random, with two slices that hold nothing."""
    numbers = (0, *SCHEMAS[schema].values)
    labels = np.random.default_rng(2).choice(numbers, grid.shape).astype(np.uint8)
    labels[:, :, :2] = 0
    return Segmentation("case", Volume(labels, grid), SCHEMAS[schema], regions_of("glioma"))


def written(series: DicomSeries, path: Path, *, label_map: bool = False, schema: str = "brats2023") -> Segmentation:
    segmentation = segmentation_on(read_series(series).volume.grid, schema)
    reference = reference_of(series)
    save(seg_of_tissues(segmentation, reference, MAKER, patient=reference.patient(), label_map=label_map), path)
    return segmentation


def by_highdicom(path: Path, number: int) -> Volume:
    volume = hd.seg.segread(path).get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine  # LPS to RAS
    return Volume.from_affine(np.asarray(volume.array, np.uint8), affine)


def needed(program: str) -> str:
    """Path of a program; a test that lacks it skips, and fails in CI, which installs it."""
    found = shutil.which(program) or shutil.which(program, path=Path(sys.executable).parent)
    if found is None:
        message = f"{program} is not installed (apt-get install dicom3tools plastimatch, pip install dcmqi)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def errors_of(path: Path) -> list[str]:
    """What dciodvfy finds wrong."""
    done = subprocess.run([needed("dciodvfy"), path], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.slow
@pytest.mark.parametrize("name", GEOMETRIES)
def test_masks_read_back_identical_frame_by_frame(tmp_path: Path, name: str) -> None:
    volume = GEOMETRIES[name]
    series = series_of(volume, tmp_path / "in")
    segmentation = written(series, tmp_path / "seg.dcm")
    by_dcmqi(tmp_path)
    for number, value in enumerate(sorted(segmentation.schema.values), start=1):
        mask = segmentation.labels.with_data((segmentation.labels.data == value).astype(np.uint8))
        # Slices without tissue are no frames, so that a reader's volume begins at the first slice with some.
        expected = cropped(mask)
        assert_same(cropped(by_highdicom(tmp_path / "seg.dcm", number)), expected)
        other = nib.load(tmp_path / f"out-{number}.nii.gz")
        found = (np.asarray(other.dataobj) > 0).astype(np.uint8)
        assert_same(cropped(Volume.from_affine(found, other.affine)), expected)
    assert errors_of(tmp_path / "seg.dcm") == []
    assert_frames_lie_on_their_images(tmp_path / "seg.dcm", tmp_path / "in", segmentation)


def cropped(mask: Volume) -> Volume:
    found = np.argwhere(mask.data)
    low, high = found.min(0), found.max(0) + 1
    return mask.crop(tuple(map(int, low)), tuple(map(int, high)))


def by_dcmqi(place: Path) -> None:
    """Segments 1.. as ``out-1.nii.gz``."""
    command = [needed("segimage2itkimage"), "--inputDICOM", place / "seg.dcm", "--outputDirectory", place]
    subprocess.run([*command, "--outputType", "nii", "--prefix", "out"], check=True, capture_output=True)


def assert_frames_lie_on_their_images(path: Path, sources: Path, segmentation: Segmentation) -> None:
    """Each frame points at one image, has its position, and holds what the label map holds on it."""
    images = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, sources.iterdir())}
    order = sorted(images.values(), key=lambda image: image.InstanceNumber)
    made = pydicom.dcmread(path)
    values = sorted(segmentation.schema.values)
    assert made.NumberOfFrames == len(made.PerFrameFunctionalGroupsSequence) == 3 * (len(order) - 2)
    affine = segmentation.labels.affine
    for frame, pixels in zip(made.PerFrameFunctionalGroupsSequence, made.pixel_array, strict=True):
        source = images[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        position = [float(x) for x in frame.PlanePositionSequence[0].ImagePositionPatient]
        assert position == [float(x) for x in source.ImagePositionPatient]
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        ras = np.array([-position[0], -position[1], position[2], 1])
        slice_number = round(float((np.linalg.inv(affine) @ ras)[2]))
        labels = segmentation.labels.data[:, :, slice_number].T
        assert np.array_equal(pixels == 1, np.isin(labels, values[number - 1]))


def test_segments_say_what_they_are_and_who_drew_them(tmp_path: Path) -> None:
    series = series_of(oblique(), tmp_path / "in")
    written(series, tmp_path / "seg.dcm", schema="brats2021")
    made = pydicom.dcmread(tmp_path / "seg.dcm")
    source = pydicom.dcmread(next((tmp_path / "in").iterdir()))
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "PatientBirthDate"):
        assert made[keyword].value == source[keyword].value
    assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    types = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in made.SegmentSequence]
    assert [(code.CodeValue, code.CodingSchemeDesignator) for code in types] == [
        ("6574001", "SCT"),
        ("79654002", "SCT"),
        ("86049000", "SCT"),
    ]
    first = hd.seg.segread(tmp_path / "seg.dcm").get_segment_description(3)
    assert first.segment_label == "enhancing tumour"
    assert first.tracking_id == "ET"
    assert first.algorithm_identification.name == "glioma"
    colour = hd.color.CIELabColor.from_dicom_value(first.RecommendedDisplayCIELabValue).to_rgb(clip=True)
    assert np.abs(np.subtract(colour, (0xD5, 0x5E, 0x00))).max() <= 1


def test_tracking_stays_the_same_over_the_visits_of_a_patient(tmp_path: Path) -> None:
    uids = []
    for visit, patient in enumerate(("P-1", "P-1", "P-2")):
        series = series_of(oblique(), tmp_path / f"{visit}", PatientID=patient, StudyInstanceUID=generate_uid())
        written(series, tmp_path / f"{visit}.dcm")
        made = pydicom.dcmread(tmp_path / f"{visit}.dcm")
        uids.append([segment.TrackingUID for segment in made.SegmentSequence])
    assert uids[0] == uids[1]
    assert not set(uids[0]) & set(uids[2])
    assert len(set(uids[0])) == 3


def test_a_label_map_segmentation_on_request(tmp_path: Path) -> None:
    segmentation = written(series_of(oblique(), tmp_path / "in"), tmp_path / "seg.dcm", label_map=True)
    assert pydicom.dcmread(tmp_path / "seg.dcm").SegmentationType == "LABELMAP"
    volume = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    found = Volume.from_affine(np.asarray(volume.array, np.uint8), affine)
    assert_same(cropped(found), cropped(segmentation.labels))


def test_frames_of_an_enhanced_image_are_pointed_at(tmp_path: Path) -> None:
    volume = oblique("PSR")
    images = datasets(volume, Exam(), attributes={**WHOLE_HEADER, "ContentDate": "20240131", "ContentTime": "101010"})
    for image in images:
        image.AcquisitionNumber = 1
    np.random.default_rng(0).shuffle(images)
    enhanced = hd.legacy.LegacyConvertedEnhancedMRImage(images, generate_uid(), 7, generate_uid(), 1)
    (tmp_path / "in").mkdir()
    enhanced.save_as(tmp_path / "in" / "IM1")
    segmentation = written(find_exams(tmp_path / "in")[0].series[0], tmp_path / "seg.dcm")
    made = pydicom.dcmread(tmp_path / "seg.dcm")
    assert [item.ReferencedSOPInstanceUID for item in made.SourceImageSequence] == [enhanced.SOPInstanceUID]
    assert len(made.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1
    for frame in made.PerFrameFunctionalGroupsSequence:
        item = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert item.ReferencedSOPClassUID == enhanced.SOPClassUID
        there = enhanced.PerFrameFunctionalGroupsSequence[item.ReferencedFrameNumber - 1]
        assert (
            there.PlanePositionSequence[0].ImagePositionPatient == frame.PlanePositionSequence[0].ImagePositionPatient
        )
    assert errors_of(tmp_path / "seg.dcm") == []
    expected = segmentation.labels.with_data((segmentation.labels.data == 2).astype(np.uint8))
    assert_same(cropped(by_highdicom(tmp_path / "seg.dcm", 2)), cropped(expected))


def test_a_bare_header_is_enough(tmp_path: Path) -> None:
    """An exam without identity, frame of reference, or with dates that are none."""
    images = datasets(oblique(), Exam(), attributes=TIMES[MRSequence.FLAIR])
    for image in images:
        del image.PatientID, image.PatientName, image.FrameOfReferenceUID
        image.StudyDate = "unknown"
    write(images, tmp_path / "in")
    written(find_exams(tmp_path / "in")[0].series[0], tmp_path / "seg.dcm")
    made = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (str(made.PatientID), str(made.PatientName), made.StudyDate) == ("", "", "")
    assert errors_of(tmp_path / "seg.dcm") == []


def test_nothing_found_is_a_segmentation_too(tmp_path: Path) -> None:
    series = series_of(oblique(), tmp_path / "in")
    reference = reference_of(series)
    empty = segmentation_on(reference.grid)
    nothing = Segmentation(
        "case", empty.labels.with_data(np.zeros_like(empty.labels.data)), empty.schema, empty.regions
    )
    save(seg_of_tissues(nothing, reference, MAKER, patient="P"), tmp_path / "seg.dcm")
    assert not pydicom.dcmread(tmp_path / "seg.dcm").pixel_array.any()
    assert len(pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence) == 3
    assert errors_of(tmp_path / "seg.dcm") == []
