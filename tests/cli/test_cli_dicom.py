"""DICOM on the command line: an exam in the place of NIfTI files, and nothing of the patient in what comes out."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from cli_studies import Outcome, entries, scan, texts, write_nifti
from heads import head_grid

sys.path.append(str(Path(__file__).resolve().parents[1] / "files"))

from dicom_files import TIMES, Exam, datasets, write, write_study
from hostile_dicom import KINDS
from meningioma import write_meningioma
from test_dicom_pdf import needed_module, pages_of
from test_dicom_seg import errors_of

from brats_seg.cli import main
from brats_seg.core.grid import Volume
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.run.workers import Workers

Cli = Callable[..., Outcome]
SECRETS = (b"Mustermann", b"Jane", b"PAT-170017")


GRID = head_grid("LPS", spacing_mm=(3.0, 3.0, 5.0))


def whole_numbers(sequence: MRSequence) -> Volume:
    """Finer than tissues differ, and with noise, or sequences look exchanged or alike."""
    image = scan(sequence, GRID)
    noise = np.random.default_rng(SEQUENCES.index(sequence)).normal(0.0, 60.0, GRID.shape)
    return image.with_data(np.where(image.data > 0, np.rint(8 * image.data + noise), 0))


@pytest.fixture(scope="module")
def drawn_exam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICOM exam of four sequences; not to be changed."""
    return write_study(tmp_path_factory.mktemp("drawn") / "exam", {s: whole_numbers(s) for s in SEQUENCES})


@pytest.fixture
def exam(drawn_exam: Path, tmp_path: Path) -> Path:
    """A DICOM exam of four sequences that a test may change."""
    return Path(shutil.copytree(drawn_exam, tmp_path / "in" / "exam"))


def set_attributes(folder: Path, **values: object) -> None:
    for path in folder.rglob("IM*"):
        image = pydicom.dcmread(path)
        for name, value in values.items():
            setattr(image, name, value)
        image.save_as(path)


@pytest.mark.slow
def test_check_says_which_series_is_which_sequence_and_why(cli: Cli, exam: Path) -> None:
    outcome = cli("check", exam)
    assert outcome.code == 0
    assert "T1CE   series 3" in outcome.out
    assert "sure: description: t1 mprage sag km; TR 2000" in outcome.out
    row = cli("check", exam, "--json").json["studies"][0]
    assert row["files"] == {"t1": "series 2", "t1ce": "series 3", "t2": "series 4", "flair": "series 5"}
    assert [series["used_as"] for series in row["series"]] == ["t1", "t1ce", "t2", "flair"]
    assert row["series"][3]["confidence"] == "sure"
    assert not any(secret.decode() in outcome.out + outcome.err for secret in SECRETS)


@pytest.mark.slow
def test_segment_gives_what_it_gives_for_the_same_scans_as_nifti(segment: Cli, exam: Path, out: Path) -> None:
    case = exam.with_name("case")
    for sequence in SEQUENCES:
        volume = whole_numbers(sequence)
        write_nifti(volume.data.astype(np.float32), volume.affine, case / f"case_{sequence.value}.nii.gz")
    assert segment(exam).code == 0
    assert segment(case).code == 0
    one, other = (nib.load(out / name / f"{name}_dseg.nii.gz") for name in ("exam", "case"))
    assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    assert np.array_equal(one.affine, other.affine)
    written = texts(out / "exam")
    assert b"2024-01-31" in written["run.json"]
    assert b"T1CE is series 3" in written["run.json"]
    assert names_the_patient(out) == []


@pytest.mark.slow
def test_segment_resumes_a_dicom_study_wherever_its_files_lie(segment: Cli, exam: Path) -> None:
    assert segment(exam, "--resume").code == 0
    moved = exam.rename(exam.with_name("elsewhere"))
    for number, path in enumerate(sorted(moved.rglob("IM*"))):
        path.rename(moved / f"{number}.dcm")
    assert "kept" in segment(moved, "--id", "exam", "--resume").out


@pytest.mark.slow
def test_open_series_stop_and_are_chosen_with_an_option(
    segment: Cli, cli: Cli, exam: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_attributes(exam / "SE002", SeriesDescription="T1 BRAVO")
    set_attributes(exam / "SE003", SeriesDescription="T1 BRAVO", ContrastBolusAgent="")
    monkeypatch.setattr("brats_seg.run.identify.identify", lambda *_: {})  # as of images that do not tell
    for command in (cli, segment):
        outcome = command("check", exam) if command is cli else command(exam)
        assert outcome.code == 3
        assert "--sequence t1ce=2" in outcome.err
    assert entries(out) == []
    assert segment(exam, "--sequence", "t1=2", "--sequence", "t1ce=3").code == 0
    assert cli("check", exam, "--sequence", "t1=2", "--sequence", "t1ce=none").code == 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--sequence", "t1ce"), "t1ce=5"),
        (("--sequence", "pd=5"), "t1ce=5"),
        (("--sequence", "t1=2", "--sequence", "t1=3"), "twice"),
    ],
)
def test_a_choice_of_series_that_is_none(cli: Cli, exam: Path, options: tuple[str, ...], word: str) -> None:
    outcome = cli("check", exam, *options)
    assert outcome.code == 2
    assert word in outcome.err


@pytest.mark.slow
def test_a_choice_of_series_is_for_one_dicom_exam(cli: Cli, exam: Path, case: Path) -> None:
    assert cli("check", case, "--sequence", "t1=2").code == 2
    assert cli("check", exam, case, "--sequence", "t1=2").code == 2
    assert "there are 2, 3, 4, 5" in cli("check", exam, "--sequence", "t1=9").err


@pytest.mark.slow
def test_prepare_takes_an_exam_and_says_which_series_it_used(cli: Cli, exam: Path, out: Path) -> None:
    outcome = cli("prepare", exam, "-o", out, "-v")
    assert outcome.code == 0, outcome
    assert "T1CE is series 3" in outcome.out
    assert b"T1CE is series 3" in texts(out / "exam")["run.json"]
    assert {f"exam_{sequence.value}.nii.gz" for sequence in SEQUENCES} <= set(entries(out / "exam"))
    assert names_the_patient(out) == []


@pytest.mark.slow
def test_several_exams_of_a_patient_are_studies_named_by_date(cli: Cli, exam: Path) -> None:
    later = {MRSequence.T1: whole_numbers(MRSequence.T1)}
    write_study(exam / "later", later, exam=Exam(date="20240501"))
    found = [row["study"] for row in cli("check", exam, "--json").json["studies"]]
    assert found == ["exam_2024-01-31", "exam_2024-05-01"]
    write_study(exam / "again", later, exam=Exam(date="20240501"))
    found = [row["study"] for row in cli("check", exam, "--json").json["studies"]]
    assert found == ["exam_2024-01-31", "exam_2024-05-01_2", "exam_2024-05-01_3"]


@pytest.mark.slow
def test_dicom_patients_beside_nifti_patients_are_not_lost(cli: Cli, exam: Path, case: Path) -> None:
    assert exam.parent == case.parent
    assert sorted(row["study"] for row in cli("check", exam.parent, "--json").json["studies"]) == ["case", "exam"]


@pytest.mark.slow
def test_a_folder_called_like_its_patient_needs_an_id(cli: Cli, exam: Path) -> None:
    named = exam.rename(exam.with_name("Mustermann_2024"))
    outcome = cli("check", named)
    assert outcome.code == 3
    assert "--id" in outcome.err
    assert cli("check", named, "--id", "case1").code == 0


@pytest.mark.slow
def test_an_archive_is_a_study(cli: Cli, exam: Path) -> None:
    archive = shutil.make_archive(str(exam), "zip", exam)
    assert cli("check", archive, "--json").json["studies"][0]["study"] == "exam"


def test_dicom_beside_too_few_nifti_scans_is_not_passed_over(cli: Cli, exam: Path) -> None:
    note = "DICOM scans beside the NIfTI files were not read"
    for sequence in SEQUENCES:
        drawn = scan(sequence, GRID)
        write_nifti(drawn.data.astype(np.float32), drawn.affine, exam / f"exam_{sequence.value}.nii.gz")
        told = cli("check", exam).out
        assert (note in told) == (sequence is not SEQUENCES[-1])  # all four are what a conversion leaves there


def test_an_archive_of_nifti_files_is_to_be_unpacked(cli: Cli, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "P1.zip", "w") as archive:
        archive.writestr("P1/P1_t1.nii.gz", b"")
    done = cli("check", tmp_path / "P1.zip")
    assert done.code == 3 and "unpack" in done.err


@pytest.mark.slow
def test_explore_reads_exams(cli: Cli, exam: Path, out: Path) -> None:
    outcome = cli("explore", exam, "-o", out, "--json")
    assert outcome.code == 0
    assert outcome.json["studies"] == 1, outcome.json


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patient with two exams, the later one before the other; not to be changed."""
    place = tmp_path_factory.mktemp("drawn") / "P7"
    whole = {sequence: whole_numbers(sequence) for sequence in SEQUENCES}
    for day, shift in (("20240201", 1), ("20240115", 0)):
        scans = {s: v.with_data(v.data + shift * (v.data > 0)) for s, v in whole.items()}
        write_study(place / f"x{shift}", scans, exam=Exam(date=day))
    return place


DAYS = ("2024-01-15", "2024-02-01")


@pytest.fixture(scope="module")
def tracked(patient: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``track`` makes of both in one process; not to be changed."""
    out = tmp_path_factory.mktemp("tracked") / "out"
    assert main(["track", str(patient), "-o", str(out), "--model", str(model), "--no-report"]) == 0
    return out


@pytest.mark.slow
def test_track_dates_visits_by_their_exams(tracked: Path) -> None:
    course = json.loads((tracked / "P7" / "course.json").read_text())
    assert [visit["visit"] for visit in course["visits"]] == list(DAYS)
    assert names_the_patient(tracked) == []
    places = {day: tracked / "segmentations" / f"P7_{day}" for day in DAYS}
    named = [
        *[[s.TrackingUID for s in dcm(place / f"{place.name}_seg.dcm").SegmentSequence] for place in places.values()],
        *[[s.TrackingUID for s in dcm(tracked / "P7" / f"P7_{day}_lesions.dcm").SegmentSequence] for day in DAYS],
    ]
    assert named[0] == named[1]
    assert named[2] == named[3]
    names = [s.TrackingID for s in dcm(tracked / "P7" / "P7_2024-01-15_lesions.dcm").SegmentSequence]
    assert names == ["WT", "W1", "TC", "ET", "E1"]
    assert dcm(places[DAYS[0]] / "P7_2024-01-15_seg.dcm").PatientID == Exam().patient
    assert not (places[DAYS[0]] / "P7_2024-01-15_sr.dcm").exists()


class SentToOthers(Executor):
    """In the place of processes: everything is sent, and done here."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        future: Future[Any] = Future()
        future.set_result(pickle.loads(pickle.dumps(function(*arguments))))
        return future


@pytest.fixture
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("workers", "cohort"):
        monkeypatch.setattr(f"brats_seg.run.{module}.open_workers", lambda *_: nullcontext(Workers(SentToOthers)))


@pytest.mark.slow
@pytest.mark.usefixtures("nobody_else")
def test_several_processes_take_dicom_exams(segment: Cli, patient: Path, model: Path, tracked: Path, out: Path) -> None:
    done = segment(patient, "--jobs", "2", "--no-dicom", "--json")
    assert done.code == 0, done
    again = out.parent / "again"
    options = ("--model", str(model), "--jobs", "2", "--no-report", "--no-dicom")
    assert main(["track", str(patient), "-o", str(again), *options]) == 0
    assert not [*out.rglob("*.dcm"), *again.rglob("*.dcm")]
    names = [f"P7_{day}" for day in DAYS]
    assert sorted(row["study"] for row in done.json["results"]) == names
    for name in names:
        file = f"{name}/{name}_dseg.nii.gz"
        found = [np.asarray(nib.load(place / file).dataobj) for place in (out, again / "segmentations")]
        expected = np.asarray(nib.load(tracked / "segmentations" / file).dataobj)
        assert expected.any() and all(np.array_equal(one, expected) for one in found)
    for name in ("responses.csv", "volumes.csv", "change.csv"):
        assert (again / "P7" / name).read_text() == (tracked / "P7" / name).read_text()


def names_the_patient(folder: Path) -> list[str]:
    """Files but DICOM with something of the patient's identity in their content or name."""
    found = [name for name in texts(folder) if any(secret.decode() in name for secret in SECRETS)]
    others = {name: content for name, content in texts(folder).items() if not name.endswith(".dcm")}
    return found + [name for name, content in others.items() if any(secret in content for secret in SECRETS)]


def dcm(path: Path) -> pydicom.Dataset:
    return pydicom.dcmread(path)


@pytest.mark.slow
def test_track_refuses_exams_without_a_date_and_takes_those_of_one_folder(
    cli: Cli, model: Path, exam: Path, out: Path, tmp_path: Path
) -> None:
    t1 = whole_numbers(MRSequence.T1)
    undated = write_study(tmp_path / "undated", {MRSequence.T1: t1}, exam=Exam(date=""))
    assert "Study Date" in cli("track", undated, "-o", out).err
    write(datasets(t1, Exam(date="20240301"), attributes=TIMES[MRSequence.T1]), exam / "second")
    done = cli("track", exam, "-o", out, "--model", model, "--no-report", "--no-dicom", "--json")
    assert done.code == 0
    assert [visit["visit"] for visit in done.json["patients"][0]["visits"]] == ["2024-01-31", "2024-03-01"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cut_in_the_pixels", "two_patients", "missing_slice", "noise_for_jpeg_ls"])
def test_hostile_files_leave_nothing_behind(segment: Cli, tmp_path: Path, out: Path, name: str) -> None:
    from hostile_dicom import sound_exam

    make, word = KINDS[name]
    place = sound_exam(tmp_path / "spoilt")
    make(place)
    outcome = segment(place)
    assert outcome.code == 3
    assert word in outcome.err
    assert outcome.err.count("\n") == 1
    assert entries(out) == []


@pytest.mark.slow
def test_segment_writes_dicom_beside_the_nifti(cli: Cli, segment: Cli, exam: Path, out: Path) -> None:
    outcome = segment(exam, "--also", "labelmap", "--also", "rtstruct", "--also", "seg.nrrd", "-v")
    assert outcome.code == 0
    assert not any(secret.decode() in outcome.out + outcome.err for secret in SECRETS)
    assert names_the_patient(out) == []
    page = (Path(__file__).resolve().parents[2] / "docs" / "outputs.md").read_text()
    names = [name for name in entries(out / "exam") if name.endswith((".dcm", ".nrrd"))]
    kinds = ("labelmap", "lesions", "rtstruct", "seg", "sr")
    assert sorted(names) == ["exam.seg.nrrd", *(f"exam_{kind}.dcm" for kind in kinds)]
    assert all(f"### `{name.replace('exam', '<study>')}`" in page for name in names)
    made = pydicom.dcmread(out / "exam" / "exam_seg.dcm")
    sources = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, (exam / "SE003").iterdir())}
    assert {item.ReferencedSOPInstanceUID for item in made.SourceImageSequence} <= set(sources)
    assert made.PatientName == "Mustermann^Erika"
    found = np.asarray(nib.load(out / "exam" / "exam_dseg.nii.gz").dataobj)
    assert made.pixel_array.sum() == (found > 0).sum()
    measured = [
        cli("measure", out / "exam" / name, "-o", out / "measured" / str(number), "--json").json
        for number, name in enumerate(("exam_dseg.nii.gz", "exam_seg.dcm", "exam_lesions.dcm", "exam.seg.nrrd"))
    ]
    assert measured[0]["volumes_ml"]["ET"] > 0
    assert all(one["volumes_ml"] == measured[0]["volumes_ml"] for one in measured)


@pytest.mark.slow
def test_the_report_is_a_dicom_document_too(segment: Cli, exam: Path, out: Path) -> None:
    needed_module("weasyprint")
    outcome = segment(exam, "--also", "pdf", report=True)
    assert outcome.code == 0, outcome
    made = pydicom.dcmread(out / "exam" / "exam_report.dcm")
    assert made.EncapsulatedDocument.startswith(b"%PDF")
    pages = pages_of(made.EncapsulatedDocument)
    assert len(pages) in (2, 3)
    found = " ".join(pages)
    assert "exam brain tumour segmentation" in pages[0]
    assert "Decided automatically" in found
    assert not any(secret.decode() in found for secret in SECRETS)
    assert made.PatientName == "Mustermann^Erika"
    assert names_the_patient(out) == []
    page = (Path(__file__).resolve().parents[2] / "docs" / "outputs.md").read_text()
    assert "### `<study>_report.dcm`" in page
    assert errors_of(out / "exam" / "exam_report.dcm") == []


def test_a_report_in_pdf_is_refused_before_anything_is_read(
    cli: Cli, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)  # as where it is not installed
    outcome = cli("segment", tmp_path / "nowhere", "-o", out, "--also", "pdf")
    assert outcome.code == 3
    assert outcome.err.count("\n") == 1
    assert "pip install 'brats-seg[pdf]'" in outcome.err
    outcome = cli("segment", tmp_path / "nowhere", "-o", out, "--also", "pdf", "--no-report")
    assert outcome.code == 2
    assert "--no-report" in outcome.err


def test_a_library_that_pdf_needs_is_named_where_it_is_missing(
    cli: Cli, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "weasyprint"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("print('hints of its own')\nraise OSError('cannot load libpango-1.0-0')\n")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "weasyprint", raising=False)
    outcome = cli("segment", tmp_path / "nowhere", "-o", out, "--also", "pdf")
    assert outcome.code == 3
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert "Pango" in outcome.err and "apt-get install libpango-1.0-0" in outcome.err


@pytest.mark.slow
def test_results_lie_on_a_series_that_the_model_looks_at(cli: Cli, exam: Path, tmp_path: Path, out: Path) -> None:
    model = write_meningioma(tmp_path / "model", ("t1", "t2"))
    outcome = cli("segment", exam, "-o", out, "--model", model, "--no-report", "--also", "rtstruct")
    assert outcome.code == 0, outcome
    of_t2 = {dcm(path).SOPInstanceUID for path in (exam / "SE004").iterdir()}
    made = dcm(out / "exam" / "exam_seg.dcm")
    assert {item.ReferencedSOPInstanceUID for item in made.SourceImageSequence} <= of_t2
    assert (out / "exam" / "exam_sr.dcm").is_file() and (out / "exam" / "exam_rtstruct.dcm").is_file()
    for command in ("segment", "prepare"):
        options = ("--model", model) if command == "segment" else ("--sequence", "flair=none")
        outcome = cli(command, exam, "-o", tmp_path / command, "--reference", "flair", *options)
        assert outcome.code in (2, 3)
        assert "FLAIR" in outcome.err
        assert outcome.err.count("\n") == 1


@pytest.mark.slow
def test_segment_writes_no_dicom_where_it_is_not_wanted(segment: Cli, exam: Path, out: Path) -> None:
    assert segment(exam, "--no-dicom").code == 0
    assert not [name for name in entries(out / "exam") if name.endswith(".dcm")]


def test_a_file_for_slicer_needs_no_dicom(segment: Cli, case: Path, out: Path) -> None:
    assert segment(case, "--also", "seg.nrrd").code == 0
    assert (out / "case" / "case.seg.nrrd").is_file()


@pytest.mark.parametrize("options", [("--dicom",), ("--also", "labelmap")])
def test_dicom_for_scans_in_nifti_is_refused(segment: Cli, case: Path, out: Path, options: tuple[str, ...]) -> None:
    outcome = segment(case, *options)
    assert outcome.code == 3
    assert f"leave {' '.join(options)} away" in outcome.err
    assert entries(out) == []
