"""DICOM series as volumes: exact geometry and values, and every hostile kind refused."""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import dcm2niix
import gdcm
import nibabel as nib
import numpy as np
import pytest
from dicom_files import TIMES, Exam, datasets, set_pixels, write, write_study
from hostile_dicom import KINDS, SHAPE, sound_exam
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.study import MRSequence
from brats_seg.files import dicom_file
from brats_seg.files.dicom import read_series, series_sha256
from brats_seg.files.dicom_choice import choose
from brats_seg.files.dicom_series import DicomExam, find_exams
from brats_seg.files.dicom_sources import sources

FLAIR = TIMES[MRSequence.FLAIR]


def oblique(orientation: str = "LPS", *, slices: int = 13) -> Volume:
    """Noise on an oblique grid with three different spacings, stored in an orientation."""
    axes = [next(i for i, pair in enumerate(("RL", "AP", "SI")) if code in pair) for code in orientation]
    signs = [1 if code in "RAS" else -1 for code in orientation]
    turn = nib.eulerangles.euler2mat(0.3, -0.1, 0.2)
    affine = np.eye(4)
    for axis, (world, sign, spacing) in enumerate(zip(axes, signs, (4.5, 5.25, 5.5), strict=True)):
        affine[:3, axis] = turn[:, world] * sign * spacing
    affine[:3, 3] = (31.5, -70.25, 12.0)
    data = np.random.default_rng(1).integers(0, 4000, (14, 12, slices)).astype(np.float32)
    return Volume(data, Grid(data.shape, affine))


def only_series(place: Path) -> Volume:
    exam = only_exam(place)
    assert len(exam.series) == 1
    return read_series(exam.series[0]).volume


def only_exam(place: Path) -> DicomExam:
    exams = find_exams(place)
    assert len(exams) == 1
    return exams[0]


def assert_same(found: Volume, expected: Volume) -> None:
    """The same values at the same places, however they are stored."""
    found, expected = found.to_ras(), expected.to_ras()
    assert found.grid.same_as(expected.grid, tolerance_mm=1e-3)
    assert np.array_equal(found.data, expected.data)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PSR", "ASL", "LSP"])
def test_a_shuffled_oblique_series_lies_where_dcm2niix_puts_it(tmp_path: Path, orientation: str) -> None:
    volume = oblique(orientation)
    place = write(datasets(volume, Exam(), attributes=FLAIR), tmp_path / "dicom")
    subprocess.run([dcm2niix.bin, "-f", "x", "-o", tmp_path, place], check=True, capture_output=True)
    other = nib.load(tmp_path / "x.nii")
    found = only_series(place)
    assert_same(found, volume)
    assert_same(found, Volume.from_affine(np.asarray(other.dataobj), other.affine))


@pytest.mark.parametrize("syntax", ["JPEG2000Lossless", "JPEGLosslessProcess14_1", "JPEGLSLossless", "RLELossless"])
def test_lossless_compression_is_read_exactly(tmp_path: Path, syntax: str) -> None:
    volume = oblique()
    place = write(datasets(volume, Exam(), attributes=FLAIR), tmp_path)
    for path in place.iterdir():
        _compress(path, getattr(gdcm.TransferSyntax, syntax))
    assert_same(only_series(place), volume)


def _compress(path: Path, syntax: int) -> None:
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def test_an_enhanced_image_of_many_frames(tmp_path: Path) -> None:
    from highdicom.legacy import LegacyConvertedEnhancedMRImage

    volume = oblique("PSR")
    images = datasets(volume, Exam(), attributes=FLAIR)
    for image in images:
        for name in ("AccessionNumber", "StudyTime", "StudyID", "PatientBirthDate", "PatientSex"):
            setattr(image, name, "")
        image.ReferringPhysicianName = image.PositionReferenceIndicator = ""
        image.ContentDate, image.ContentTime, image.AcquisitionNumber = "20240131", "101010", 1
    np.random.default_rng(0).shuffle(images)
    enhanced = LegacyConvertedEnhancedMRImage(images, generate_uid(), 7, generate_uid(), 1)
    enhanced.save_as(tmp_path / "IM1")
    assert_same(only_series(tmp_path), volume)
    assert MRSequence.FLAIR in choose(only_exam(tmp_path).series, {}).chosen


def test_an_enhanced_image_says_its_times_in_functional_groups(tmp_path: Path) -> None:
    volume = oblique()
    images = datasets(volume, Exam())
    enhanced = images[0]
    enhanced.SOPClassUID = enhanced.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    enhanced.NumberOfFrames = len(images)
    shared = {
        "PixelMeasuresSequence": {"PixelSpacing": images[0].PixelSpacing},
        "PlaneOrientationSequence": {"ImageOrientationPatient": images[0].ImageOrientationPatient},
        "MRTimingAndRelatedParametersSequence": {"RepetitionTime": 9000.0, "FlipAngle": 150.0},
        "MREchoSequence": {"EffectiveEchoTime": 110.0},
        "MRModifierSequence": {"InversionTimes": 2500.0},
    }
    enhanced.SharedFunctionalGroupsSequence = [_functional_group(shared)]
    enhanced.PerFrameFunctionalGroupsSequence = [
        _functional_group({"PlanePositionSequence": {"ImagePositionPatient": image.ImagePositionPatient}})
        for image in reversed(images)
    ]
    enhanced.PixelData = b"".join(image.PixelData for image in reversed(images))
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(enhanced, name)
    enhanced.save_as(tmp_path / "IM1")
    assert_same(only_series(tmp_path), volume)
    reading = choose(only_exam(tmp_path).series, {}).chosen[MRSequence.FLAIR]
    assert reading.evidence == ("TR 9000, TE 110, TI 2500 ms",)


def _functional_group(macros: dict[str, dict[str, Any]]) -> Dataset:
    group = Dataset()
    for name, values in macros.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(group, name, [item])
    return group


def test_signed_and_scaled_values_and_rubbish_in_unused_bits(tmp_path: Path) -> None:
    volume = oblique()
    images = datasets(volume, Exam(), slope=0.5, attributes=FLAIR)
    for image in images:
        values = image.pixel_array.astype(np.int16) - 100
        image.RescaleIntercept = 50.0
        set_pixels(image, ((values & 0x3FFF) | 0x4000).astype(np.int16))
        image.BitsStored, image.HighBit = 14, 13
    assert_same(only_series(write(images, tmp_path)), volume)


def test_a_series_reads_the_same_from_folders_archives_and_beside_anything(tmp_path: Path) -> None:
    exam = sound_exam(tmp_path / "exam")
    with zipfile.ZipFile(tmp_path / "exam.zip", "w") as archive:
        for number, path in enumerate(sorted(exam.rglob("IM*"), reverse=True)):
            archive.write(path, f"export/{number}")
    for name, content in (("report.pdf", b"%PDF-1.4"), ("notes.txt", b"DICM"), (".hidden", b"\0" * 128 + b"DICM")):
        (exam / name).write_bytes(content)
    known = [series_sha256(series) for series in only_exam(exam).series]
    assert [series_sha256(series) for series in only_exam(tmp_path / "exam.zip").series] == known
    assert [read_series(series).sha256 for series in only_exam(tmp_path / "exam.zip").series] == known
    (exam / "copy").mkdir()
    shutil.copy(next(exam.rglob("IM*3")), exam / "copy" / "again")
    assert [series_sha256(series) for series in only_exam(exam).series] == known


def test_echoes_directions_and_time_points_of_one_series_are_apart(tmp_path: Path) -> None:
    exam, uid = Exam(), generate_uid()
    parts = {
        "echo": [datasets(oblique(), exam, attributes={**FLAIR, "EchoTime": te}) for te in (20.0, 90.0)],
        "direction": [datasets(oblique(o), exam, attributes=FLAIR) for o in ("LPS", "PSR", "LSP")],
        "time point": [datasets(oblique(), exam, attributes={"TemporalPositionIdentifier": n}) for n in (1, 2)],
        "acquisition": [datasets(oblique(), exam, attributes={"AcquisitionNumber": n}) for n in (1, 2)],
    }
    for what, stacks in parts.items():
        images = [image for stack in stacks for image in stack]
        for image in images:
            image.SeriesInstanceUID = uid
        series = only_exam(write(images, tmp_path / what)).series
        assert [one.part for one in series] == [f"{what} {n}" for n in range(1, len(stacks) + 1)]
        assert all(len(one.planes) == 13 for one in series)


def test_interleaved_acquisitions_are_one_stack(tmp_path: Path) -> None:
    volume = oblique()
    images = datasets(volume, Exam(), attributes=FLAIR)
    for number, image in enumerate(images):
        image.AcquisitionNumber = 1 + number % 2
    assert_same(only_series(write(images, tmp_path)), volume)


def test_missing_slices_are_counted_and_placed(tmp_path: Path) -> None:
    images = datasets(oblique(), Exam(), attributes=FLAIR)
    del images[7:9]
    series = only_exam(write(images, tmp_path)).series[0]
    with pytest.raises(
        InputError, match=r"2 slices missing: slices 7 and 8 of 11 lie 16\.50 mm apart, others 5\.50 mm"
    ):
        read_series(series)


def test_an_exam_whose_series_lie_beside_another_patient_s_is_not_torn_apart(tmp_path: Path) -> None:
    mine = Exam(patient="1")
    for name in ("SE001", "SE002"):
        sound_exam(tmp_path / "case" / name, exam=mine)
    assert len(find_exams(tmp_path / "case")) == 1
    sound_exam(tmp_path / "case" / "SE003", exam=Exam(patient="2"))
    with pytest.raises(InputError, match=r"2 patients.*SE001 and SE002"):
        find_exams(tmp_path / "case")


def test_two_patients_are_apart_where_each_has_a_folder(tmp_path: Path) -> None:
    sound_exam(tmp_path / "a" / "x", exam=Exam(patient="1"))
    sound_exam(tmp_path / "b", exam=Exam(patient="2", date="20240201"))
    sound_exam(tmp_path / "b" / "later", exam=Exam(patient="2", date="20240501"))
    exams = find_exams(tmp_path)
    assert [(exam.name, str(exam.day)) for exam in exams] == [
        ("a", "2024-01-31"),
        ("b", "2024-02-01"),
        ("b", "2024-05-01"),
    ]


@pytest.mark.parametrize(
    ("folder", "exam", "named"),
    [
        ("mustermann_2024", Exam(name="Mustermann^Erika"), True),
        ("case-PAT-170017", Exam(name="Mustermann^Erika"), True),
        ("case1", Exam(name="Mustermann^Erika"), False),
        ("PAT-170017", Exam(name="PAT-170017"), False),
        ("PAT-170017", Exam(name=""), False),
    ],
)
def test_a_folder_named_after_its_patient_is_noticed(tmp_path: Path, folder: str, exam: Exam, named: bool) -> None:
    assert only_exam(sound_exam(tmp_path / folder, exam=exam)).names_its_patient is named


def read_everything(place: Path) -> None:
    for exam in find_exams(place):
        if exam.fault is not None:
            raise exam.fault
        choice = choose(exam.series, {})
        if choice.question:
            raise InputError(choice.question)
        for reading in choice.chosen.values():
            read_series(reading.series)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exam of two series; not to be changed."""
    return sound_exam(tmp_path_factory.mktemp("sound") / "exam")


@pytest.mark.parametrize(
    "name", [name if n % 3 == 0 else pytest.param(name, marks=pytest.mark.slow) for n, name in enumerate(KINDS)]
)
def test_hostile_files_are_refused(
    sound: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_file, "MAX_FILE_BYTES", 2**24)  # which no bomb need be larger than
    make, word = KINDS[name]
    place = Path(shutil.copytree(sound, tmp_path / "exam"))
    make(place)
    before = sorted(tmp_path.rglob("*"))
    capfd.readouterr()
    began, taken = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as error:
        read_everything(place)
    assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert "Mustermann" not in str(error.value)
    assert "PAT-170017" not in str(error.value)
    assert capfd.readouterr().err == ""
    assert time.monotonic() - began < 60
    # of the whole process, so that what other tests took before does not count
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - taken < 2 * 2**20
    assert sorted(tmp_path.rglob("*")) == before


def test_the_exam_that_is_spoilt_is_sound(sound: Path) -> None:
    assert len(KINDS) >= 50
    read_everything(sound)


def test_a_study_of_four_sequences(tmp_path: Path) -> None:
    scans = {
        sequence: Volume(oblique(slices=12).data + n, oblique(slices=12).grid) for n, sequence in enumerate(MRSequence)
    }
    chosen = choose(only_exam(write_study(tmp_path, scans)).series, {}).chosen
    for sequence, scan in scans.items():
        assert_same(read_series(chosen[sequence].series).volume, scan)


def test_links_to_folders_are_followed_and_never_in_a_circle(tmp_path: Path) -> None:
    """As of a store that keeps the files elsewhere, and of a folder that links to itself and to what is above it."""
    store = sound_exam(tmp_path / "store" / "exam")
    place = tmp_path / "in" / "exam"
    place.mkdir(parents=True)
    for name in ("first", "again"):
        (place / name).symlink_to(store, target_is_directory=True)
    (place / "series").symlink_to(next(path for path in store.iterdir() if path.is_dir()), target_is_directory=True)
    (store / "back").symlink_to(tmp_path / "store", target_is_directory=True)
    (place / "self").symlink_to(place, target_is_directory=True)
    (place / "above").symlink_to(tmp_path, target_is_directory=True)
    found, direct = (list(sources(folder)) for folder in (place, store))
    assert len(found) == len(direct) == 2 * SHAPE[2]
    (linked,), (plain,) = find_exams(place), find_exams(store)
    assert [len(series.planes) for series in linked.series] == [len(series.planes) for series in plain.series]
