"""``brats-seg segment`` on good studies: what is written, what is printed, which options do what."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import socket
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_studies import GRID, Outcome, change, entries, scan, texts, write_case, write_scan
from heads import TUMOUR_MM, head_grid, points_of
from real_scans import study_of

from brats_seg.core.errors import ModelError
from brats_seg.core.study import SEQUENCES, MRSequence, Timepoint
from brats_seg.files.output import OutputFolder
from brats_seg.imaging.identify import IdentityWarning
from brats_seg.models.names import ENGINES
from brats_seg.run import segment as studies
from brats_seg.volumetrics.intervals import IntervalModel

FILES = (
    "{0}_dseg.json {0}_dseg.nii.gz {0}_dseg.tsv {0}_lesions.csv {0}_overlay.png {0}_probseg.json {0}_probseg.nii.gz "
    "{0}_report.html {0}_volumes.csv {0}_volumes.json run.json visit.json"
)
VOLUMES = "study,scan_date,region,volume_ml,volume_pv_ml,low_ml,high_ml,level,lesions,touches_border,note"
LESIONS = (
    "study,scan_date,region,lesion,volume_ml,x_mm,y_mm,z_mm,side,long_mm,short_mm,plane,slice,measurable,touches_border"
)
MISSING_NOTE = "estimate: not assessable without T1CE"


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def run_json(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: Path, drawn_case: Path) -> tuple[Path, Outcome]:
    """One complete run with everything written, by the default engine, and no network to be reached."""
    from contextlib import redirect_stderr, redirect_stdout

    from brats_seg.cli import main

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the program reached for the network")

    root = tmp_path_factory.mktemp("whole")
    shutil.copytree(drawn_case, root / "secret-user" / "case")
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        arguments = ["segment", root / "secret-user" / "case", "-o", root / "out", "--model", model]
        code = main([str(a) for a in arguments])
    return root / "out" / "case", Outcome(code, stdout.getvalue(), stderr.getvalue())


def test_every_file_is_there_under_its_name(whole: tuple[Path, Outcome]) -> None:
    folder, outcome = whole
    assert outcome.code == 0
    assert entries(folder) == sorted(FILES.format("case").split())
    assert entries(folder.parent)[0] == "case"
    assert sum("/" not in entry for entry in entries(folder.parent)) == 1


def test_nothing_but_the_result_is_printed(whole: tuple[Path, Outcome]) -> None:
    folder, outcome = whole
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert lines[0].startswith("case: done in ")
    for line, name in zip(lines[1:4], ("whole tumour (WT)", "tumour core (TC)", "enhancing tumour (ET)"), strict=True):
        assert line.strip().startswith(name)
        assert " ml" in line
    assert lines[-1] == f"  report: {folder / 'case_report.html'}"


def test_label_map_lies_on_the_reference_files_grid(whole: tuple[Path, Outcome]) -> None:
    folder, _ = whole
    image = nib.load(folder / "case_dseg.nii.gz")
    assert image.get_data_dtype() == np.uint8
    reference = nib.load(folder.parents[1] / "secret-user" / "case" / "case_t1ce.nii.gz")
    assert np.array_equal(image.affine, reference.affine)
    assert image.shape == reference.shape == GRID.shape
    labels = np.asarray(image.dataobj)
    assert np.mean(labels[labels > 0] == 3) > 0.99
    assert np.array_equal(labels > 0, np.linalg.norm(points_of(GRID) - TUMOUR_MM, axis=-1) < 12)
    sidecar = json.loads((folder / "case_dseg.json").read_text())
    assert sidecar["LabelSchema"] == "brats2023"
    assert sidecar["Labels"]["3"]["Abbreviation"] == "ET"
    assert sidecar["Algorithm"]["name"] == "small"
    assert (folder / "case_dseg.tsv").read_text().startswith("index\tname\tabbreviation\tcolor\tmapping\n")


def test_probabilities_are_4d_in_0_to_1_with_their_label_map(whole: tuple[Path, Outcome]) -> None:
    folder, _ = whole
    image = nib.load(folder / "case_probseg.nii.gz")
    values = image.get_fdata()
    assert image.shape == (*GRID.shape, 3)
    assert 0.0 <= values.min() < 0.01
    assert 0.99 < values.max() <= 1.0
    assert json.loads((folder / "case_probseg.json").read_text())["LabelMap"] == ["WT", "TC", "ET"]


def test_tables_have_the_columns_and_agree_with_the_mask(whole: tuple[Path, Outcome]) -> None:
    folder, _ = whole
    assert (folder / "case_volumes.csv").read_text().splitlines()[0] == VOLUMES
    assert (folder / "case_lesions.csv").read_text().splitlines()[0] == LESIONS
    volumes = {row["region"]: row for row in rows_of(folder / "case_volumes.csv")}
    labels = np.asarray(nib.load(folder / "case_dseg.nii.gz").dataobj)
    expected_ml = np.count_nonzero(labels == 3) * 27 / 1000
    assert float(volumes["ET"]["volume_ml"]) == pytest.approx(expected_ml, abs=1e-3)
    assert set(volumes) == {"WT", "TC", "ET", "NCR", "ED"}
    assert {row["study"] for row in volumes.values()} == {"case"}
    as_json = {row["region"]: row for row in json.loads((folder / "case_volumes.json").read_text())["volumes"]}
    assert as_json["ET"]["volume_ml"] == float(volumes["ET"]["volume_ml"])
    lesions = rows_of(folder / "case_lesions.csv")
    assert {row["region"] for row in lesions} == {"WT", "TC", "ET"}
    assert {row["side"] for row in lesions} == {"right"} and {row["scan_date"] for row in lesions} == {""}
    # the diameter of the sphere, within a voxel
    assert float(lesions[0]["long_mm"]) == pytest.approx(24, abs=4.5)


def test_run_json_holds_what_made_the_result(whole: tuple[Path, Outcome]) -> None:
    import hashlib

    folder, _ = whole
    run = run_json(folder)
    assert run["study_id"] == "case"
    assert {"brats_seg", "python", "numpy", "torch", "monai", "openvino", "SimpleITK"} <= set(run["versions"])
    assert run["model"]["name"] == "small"
    assert len(run["model"]["sha256"]) == 64
    assert run["device"] == "cpu"
    assert run["engine"] == "onnxruntime"
    scans = folder.parents[1] / "secret-user" / "case"
    for sequence in SEQUENCES:
        held = run["inputs"][sequence.value]
        assert held["sha256"] == hashlib.sha256((scans / f"case_{sequence.value}.nii.gz").read_bytes()).hexdigest()
        assert "35x37x33" in held["grid"]
    assert {"read", "prepare", "coarse", "restore", "measure", "write", "report"} <= set(run["timings_s"])
    assert all(seconds >= 0 for seconds in run["timings_s"].values())
    assert run["peak_memory_mib"] > 50
    assert run["preparation"]["native"]["orientation"] == "LPS"
    assert run["preparation"]["network"]["orientation"] == "RAS"
    assert any("grid of T1CE" in line for line in run["decisions"])
    assert any("onnxruntime on cpu" in line for line in run["decisions"])
    assert run["warnings"] == []
    assert run["settings"]["labels"] == "auto"
    assert set(run["outputs"]) == set(FILES.format("case").split()) - {"run.json"}
    for name, sha in run["outputs"].items():
        assert sha == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_no_output_holds_a_path_or_a_file_name_of_this_machine(whole: tuple[Path, Outcome]) -> None:
    folder, _ = whole
    held = texts(folder)
    assert len(held) == 12
    for name, raw in held.items():
        for secret in (b"secret-user", str(folder.parents[2]).encode(), b"case_t1", b"case_flair", b"/root", b"/tmp"):
            assert secret not in raw, (name, secret)


def test_page_says_when_it_was_made_and_by_what(whole: tuple[Path, Outcome]) -> None:
    folder, _ = whole
    page, run = (folder / "case_report.html").read_text(), run_json(folder)
    made = run["made"].replace("T", " ")[:16]
    version = run["versions"]["brats_seg"]
    assert f"Date of the scan not known; page made on {made} by brats_seg {version} with model small" in page
    assert "<td>right</td>" in page and "right, measurable by RANO" in page


def test_measuring_a_result_again_gives_the_same_sides(whole: tuple[Path, Outcome], cli, tmp_path: Path) -> None:
    folder, _ = whole
    assert cli("measure", folder / "case_dseg.nii.gz", "-o", tmp_path).code == 0
    again = {row["region"]: row["side"] for row in rows_of(tmp_path / "case" / "case_lesions.csv")}
    assert again == {row["region"]: row["side"] for row in rows_of(folder / "case_lesions.csv")}


@pytest.mark.slow
def test_bids_sessions_date_the_tables_and_the_page(segment, tmp_path: Path, drawn_case: Path, out: Path) -> None:
    place = tmp_path / "in" / "sub-1" / "ses-2" / "anat"
    place.mkdir(parents=True)
    shutil.copy(drawn_case / "case_flair.nii.gz", place / "sub-1_ses-2_FLAIR.nii.gz")
    (tmp_path / "in" / "sub-1" / "sub-1_sessions.tsv").write_text("session_id\tacq_time\nses-2\t2024-02-29T08:00:00\n")
    assert segment(tmp_path / "in", report=True).code == 0
    folder = out / "sub-1_ses-2"
    assert {row["scan_date"] for row in rows_of(folder / "sub-1_ses-2_volumes.csv")} == {"2024-02-29"}
    assert run_json(folder)["scan_date"] == "2024-02-29"
    assert "Scan of 2024-02-29; page made on" in (folder / "sub-1_ses-2_report.html").read_text()


def test_report_is_one_self_contained_file(whole: tuple[Path, Outcome]) -> None:
    page = (whole[0] / "case_report.html").read_text()
    assert "http-equiv" not in page or "refresh" not in page
    assert 'src="http' not in page
    assert "<script" not in page
    assert "data:image/" in page


def test_json_is_all_of_stdout(segment, case: Path, out: Path) -> None:
    outcome = segment(case, "--json")
    assert outcome.code == 0
    assert outcome.err == ""
    result = outcome.json["results"][0]
    assert result["study"] == "case"
    assert result["folder"] == str(out / "case")
    assert result["volumes_ml"]["ET"] == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.1)
    assert outcome.json["failed"] == []


def test_quiet_prints_nothing_and_verbose_prints_decisions(segment, case: Path, out: Path) -> None:
    assert segment(case, "-q") == Outcome(0, "", "")
    (case / "notes_localizer.nii.gz").write_bytes(b"")
    outcome = segment(case, "-v", "--overwrite")
    assert "decided: results are written on the grid of T1CE" in outcome.out
    assert "prepare: " in outcome.out
    assert "not used: notes_localizer.nii.gz" in outcome.out


def test_no_report_writes_neither_page_nor_picture(segment, case: Path, out: Path) -> None:
    outcome = segment(case)
    assert outcome.code == 0
    assert not [name for name in entries(out) if name.endswith((".html", ".png"))]
    assert f"results: {out / 'case'}" in outcome.out


def test_no_tumour_is_said(segment, case: Path, out: Path, blind_model: Path) -> None:
    outcome = segment(case, "--model", blind_model, report=True)
    assert outcome.code == 0
    assert "no tumour found" in outcome.out
    assert not np.asarray(nib.load(out / "case" / "case_dseg.nii.gz").dataobj).any()
    assert rows_of(out / "case" / "case_lesions.csv") == []
    assert "o tumour" in (out / "case" / "case_report.html").read_text()


def test_labels_brats2021_writes_4_for_enhancing(segment, case: Path, out: Path) -> None:
    assert segment(case, "--labels", "brats2021").code == 0
    labels = np.asarray(nib.load(out / "case" / "case_dseg.nii.gz").dataobj)
    assert not (labels == 3).any()
    assert np.mean(labels[labels > 0] == 4) > 0.99
    sidecar = json.loads((out / "case" / "case_dseg.json").read_text())
    assert sidecar["LabelSchema"] == "brats2021"
    assert sidecar["Labels"]["4"]["Abbreviation"] == "ET"


@pytest.mark.slow
def test_reference_flair_puts_results_on_its_grid_and_scans_are_registered(segment, case: Path, out: Path) -> None:
    # another shape, spacing and place for FLAIR alone
    grid = head_grid("RAS", spacing_mm=(3.0, 3.0, 4.0), field_mm=(108.0, 120.0, 104.0), origin_mm=(4.0, -3.0, 2.0))
    write_scan(scan(MRSequence.FLAIR, grid), case / "case_flair.nii.gz")
    assert segment(case, "--reference", "flair").code == 0
    image = nib.load(out / "case" / "case_dseg.nii.gz")
    expected = nib.load(case / "case_flair.nii.gz")
    assert image.shape == expected.shape
    assert np.array_equal(image.affine, expected.affine)
    run = run_json(out / "case")
    assert set(run["preparation"]["registrations"]) == {"t1", "t1ce", "t2"}
    assert all(r["overlap"] > 0.7 for r in run["preparation"]["registrations"].values())
    assert run["settings"]["reference"] == "flair"


@pytest.mark.slow
def test_without_t1ce_enhancement_is_an_estimate_everywhere(segment, case: Path, out: Path) -> None:
    (case / "case_t1ce.nii.gz").unlink()
    outcome = segment(case, report=True)
    assert outcome.code == 0
    lines = {
        line.split("(")[1][:2]: line for line in outcome.out.splitlines() if line.startswith("  ") and "(" in line[:28]
    }
    assert MISSING_NOTE in lines["ET"]
    assert MISSING_NOTE in lines["TC"]
    assert MISSING_NOTE not in lines["WT"]
    assert "warning: T1CE missing" in outcome.out
    notes = {r["region"]: r["note"] for r in json.loads((out / "case" / "case_volumes.json").read_text())["volumes"]}
    assert notes["ET"] == notes["TC"] == MISSING_NOTE
    assert notes["WT"] is None
    assert "not assessable without T1CE" in (out / "case" / "case_report.html").read_text()
    run = run_json(out / "case")
    assert set(run["inputs"]) == {"t1", "t2", "flair"}
    assert any("grid of FLAIR" in line for line in run["decisions"])
    assert json.loads((out / "case" / "case_dseg.json").read_text())["MissingSequences"] == ["T1CE"]


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_any_single_sequence_works(segment, tmp_path: Path, out: Path, sequence: MRSequence) -> None:
    folder = write_case(tmp_path / "one", sequences=(sequence,))
    outcome = segment(folder)
    assert outcome.code == 0
    assert "missing" in outcome.out
    assert set(run_json(out / "one")["inputs"]) == {sequence.value}


def test_files_named_one_by_one_with_aliases_and_id(segment, tmp_path: Path, out: Path) -> None:
    for name, sequence in zip("abcd", SEQUENCES, strict=True):
        write_scan(scan(sequence), tmp_path / f"{name}.nii.gz")
    files = [tmp_path / f"{name}.nii.gz" for name in "abcd"]
    outcome = segment("--t1n", files[0], "--t1c", files[1], "--t2w", files[2], "--fla", files[3], "--id", "P-01")
    assert outcome.code == 0
    assert (out / "P-01" / "P-01_dseg.nii.gz").is_file()
    assert run_json(out / "P-01")["warnings"] == []


def test_plain_data_set_and_bids(segment, tmp_path: Path, drawn_case: Path, out: Path) -> None:
    shutil.copytree(drawn_case, tmp_path / "set" / "one")
    anat = tmp_path / "set" / "sub-02" / "ses-1" / "anat"
    write_case(tmp_path / "tmp", name="x")
    anat.mkdir(parents=True)
    for plain, bids in (("t1", "T1w"), ("t1ce", "ce-GADOLINIUM_T1w"), ("t2", "T2w"), ("flair", "FLAIR")):
        shutil.move(tmp_path / "tmp" / f"x_{plain}.nii.gz", anat / f"sub-02_ses-1_{bids}.nii.gz")
    outcome = segment(tmp_path / "set")
    assert outcome.code == 0
    assert sorted(path.name for path in out.iterdir()) == ["lesions.csv", "one", "sub-02_ses-1", "volumes.csv"]
    assert outcome.out.splitlines()[0].startswith("[1/2] one: done")
    assert set(run_json(out / "sub-02_ses-1")["inputs"]) == {"t1", "t1ce", "t2", "flair"}


def test_expert_label_beside_the_scans_is_no_input(segment, case: Path, out: Path) -> None:
    write_scan(scan(), case / "case_seg.nii.gz")
    assert segment(case).code == 0
    assert len(run_json(out / "case")["inputs"]) == 4


@pytest.mark.slow
def test_values_scaled_to_32767_and_negative_ones_work(segment, case: Path, out: Path) -> None:
    plain = segment(case, "--json").json["results"][0]["volumes_ml"]
    for sequence in SEQUENCES:
        change(case / f"case_{sequence.value}.nii.gz", lambda d: (d * (32767 / d.max())).astype(np.int16))
    assert segment(case, "--overwrite", "--json").json["results"][0]["volumes_ml"] == pytest.approx(plain, rel=0.01)
    for sequence in SEQUENCES:
        change(case / f"case_{sequence.value}.nii.gz", lambda d: (d.astype(np.int32) - 1024).astype(np.int16))
    shifted = segment(case, "--overwrite", "--json")
    assert shifted.code == 0
    assert shifted.json["results"][0]["volumes_ml"] == pytest.approx(plain, rel=0.01)


def test_existing_results_are_kept_unless_told_otherwise(segment, case: Path, out: Path) -> None:
    assert segment(case).code == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    outcome = segment(case)
    assert outcome.code == 6
    assert "--overwrite" in outcome.err
    assert "--resume" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert segment(case, "--overwrite", "--labels", "brats2021").code == 0
    assert json.loads((out / "case" / "case_dseg.json").read_text())["LabelSchema"] == "brats2021"


def test_resume_keeps_what_is_whole_and_redoes_the_rest(segment, case: Path, out: Path) -> None:
    assert segment(case).code == 0
    mask = out / "case" / "case_dseg.nii.gz"
    good, before = mask.read_bytes(), mask.stat().st_mtime_ns
    outcome = segment(case, "--resume")
    assert outcome.code == 0
    assert "finished before, kept" in outcome.out
    assert mask.stat().st_mtime_ns == before
    mask.write_bytes(good[:-20])
    outcome = segment(case, "--resume")
    assert "its results are not whole" in outcome.out
    assert mask.read_bytes() == good
    (out / "case" / "case_volumes.csv").unlink()
    assert segment(case, "--resume").code == 0
    assert (out / "case" / "case_volumes.csv").is_file()


@pytest.mark.slow
def test_resume_redoes_what_was_made_otherwise(segment, case: Path, out: Path, blind_model: Path) -> None:
    assert segment(case).code == 0
    assert "other options" in segment(case, "--resume", "--labels", "brats2021").out
    assert "another model" in segment(case, "--resume", "--labels", "brats2021", "--model", blind_model).out
    change(case / "case_t2.nii.gz", lambda d: d * 1.5)
    outcome = segment(case, "--resume", "--labels", "brats2021", "--model", blind_model, "--json")
    assert outcome.json["results"][0]["resumed"] is False
    again = segment(case, "--resume", "--labels", "brats2021", "--model", blind_model, "--json")
    assert again.json["results"][0]["resumed"] is True


ERRORS = {
    "itk": (RuntimeError("Exception thrown:\nITK ERROR: image is empty"), 1),
    "value": (ValueError("cannot reshape"), 1),
    "key": (KeyError("x"), 1),
    "model": (ModelError("its intervals are no numbers. Import it again."), 4),
    "memory": (MemoryError(), 5),
    "torch": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 5),
    "gone": (FileNotFoundError(2, "No such file or directory", "x"), 6),
}


def test_whatever_breaks_in_one_study_the_others_are_done(
    segment, drawn_case: Path, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = studies._write

    def breaks(files: Timepoint, folder: Path, *rest: object) -> object:
        if files.id in ERRORS:
            (folder / "half").write_text("half")
            raise ERRORS[files.id][0]
        return whole(files, folder, *rest)

    monkeypatch.setattr(studies, "_write", breaks)
    for name in (*ERRORS, "a", "z"):
        shutil.copytree(drawn_case, tmp_path / "in" / name)
    done = segment(tmp_path / "in", "--json")
    assert [row["study"] for row in done.json["results"]] == ["a", "z"]
    found = {entry["study"]: entry["exit_code"] for entry in done.json["failed"]}
    assert found == {name: code for name, (_, code) in ERRORS.items()}
    assert done.code == 1
    assert [line.split(": done in")[0] for line in done.err.splitlines()[:2]] == ["[1/9] a", "[9/9] z"]
    assert len(done.err.splitlines()) == len(ERRORS) + 3 and "Traceback" not in done.err
    assert "7 of 9 studies failed" in done.err
    assert "unforeseen RuntimeError in run/segment.py, line" in done.err  # which called what the test broke
    assert "Exception thrown: ITK ERROR: image is empty. This is a defect" in done.err
    assert sorted(path.name for path in out.iterdir()) == ["a", "lesions.csv", "volumes.csv", "z"]
    assert {row["study"] for row in rows_of(out / "volumes.csv")} == {"a", "z"}


def test_two_runs_into_one_output_the_second_is_refused(segment, case: Path, out: Path) -> None:
    with OutputFolder(out / "case"):
        done = segment(case)
    assert (done.code, done.out) == (6, "")
    assert "another run is writing" in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize("place", [".", "in", "in/case"])
def test_results_do_not_go_among_the_scans(cli, case: Path, model: Path, tmp_path: Path, place: str) -> None:
    before = entries(tmp_path)
    done = cli("segment", tmp_path if place == "." else case if place == "in/case" else case.parent,
               "-o", tmp_path / place, "--model", model)  # fmt: skip
    assert (done.code, done.out) == (6, "")
    assert "would lie among the scans" in done.err and done.err.count("\n") == 1
    assert entries(tmp_path) == before


def test_results_below_the_scans_are_pointed_out(cli, case: Path, model: Path) -> None:
    done = cli("segment", case, "-o", case / "results", "--model", model, "--no-report")
    assert done.code == 0, done.err
    assert done.out.startswith(f"note: the results go below the folder of the scans, to {case / 'results'}\n")


def test_the_seconds_told_are_what_the_user_waited(
    segment, case: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    opened = studies.open_predictor

    def slowly(*arguments: object) -> object:
        time.sleep(1.5)
        return opened(*arguments)

    monkeypatch.setattr(studies, "open_predictor", slowly)
    seconds = segment(case, "--json").json["results"][0]["seconds"]
    assert seconds >= 1.5 + sum(run_json(out / "case")["timings_s"].values())


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac may have one")
def test_an_apple_gpu_that_is_not_there_is_said(segment, case: Path) -> None:
    done = segment(case, "--device", "mps")
    assert done.code == 5
    assert "mps was asked for" in done.err and "--device cpu" in done.err


@pytest.fixture
def two(drawn_case: Path, tmp_path: Path) -> Path:
    """A data set of two studies."""
    for name in ("one", "two"):
        shutil.copytree(drawn_case, tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.mark.slow
def test_several_processes_give_what_one_gives(segment, two: Path, out: Path) -> None:
    shutil.copytree(two / "one", two / "bad")
    (two / "bad" / "case_t1.nii.gz").write_bytes(b"no scan")
    done = segment(two, "--jobs", "2", "--json")
    assert done.code == 3
    assert sorted((row["study"], row["fits"]) for row in done.json["results"]) == [("one", True), ("two", True)]
    assert [entry["study"] for entry in done.json["failed"]] == ["bad"]
    several = {name: (out / f"{name}.csv").read_text() for name in ("volumes", "lesions")}
    shutil.rmtree(out)
    assert segment(two / "one", two / "two").code == 0
    for name, text in several.items():
        assert sorted((out / f"{name}.csv").read_text().splitlines()) == sorted(text.splitlines())


@pytest.mark.slow
def test_the_tables_of_all_studies_follow_what_is_there(segment, two: Path, out: Path) -> None:
    assert segment(two, "--resume").code == 0
    rows = rows_of(out / "volumes.csv")
    assert [row["study"] for row in rows] == ["one"] * 5 + ["two"] * 5
    assert rows[:5] == rows_of(out / "one" / "one_volumes.csv")
    shutil.rmtree(out / "one")
    shutil.move(two / "one", two / "three")
    assert segment(two, "--resume").code == 0
    assert {row["study"] for row in rows_of(out / "lesions.csv")} == {"three", "two"}
    assert segment(two / "two", "--overwrite").code == 0  # one study alone does not leave its old rows there
    assert [row["study"] for row in rows_of(out / "volumes.csv")] == ["three"] * 5 + ["two"] * 5


@pytest.mark.slow
def test_the_page_of_several_studies_leads_to_their_reports(segment, two: Path, out: Path) -> None:
    assert segment(two, report=True).code == 0
    page = (out / "studies.html").read_text()
    links = re.findall(r'href="([^"]+)"', page)
    assert links == ["one/one_report.html", "two/two_report.html"]
    assert all((out / link).is_file() for link in links)


def test_of_studies_that_all_fail_no_page_is_missed(segment, two: Path, out: Path) -> None:
    done = segment(two, "--also", "rtstruct", report=True)
    assert done.code == 3 and done.err.count("rtstruct writes for a DICOM series") == 2
    assert "2 of 2 studies failed" in done.err and "studies.html" not in done.err
    assert not out.exists()


@pytest.mark.slow
def test_a_page_of_all_studies_that_cannot_be_written_is_no_failed_study(segment, two: Path, out: Path) -> None:
    (out / "studies.html").mkdir(parents=True)
    done = segment(two, report=True)
    assert done.code == 6 and "studies.html" in done.err and "studies failed" not in done.err
    assert {row["study"] for row in rows_of(out / "volumes.csv")} == {"one", "two"}


def test_a_table_of_somebody_else_is_not_replaced(segment, two: Path, out: Path) -> None:
    out.mkdir()
    (out / "lesions.csv").write_text("mine\n")
    done = segment(two)
    assert done.code == 6 and "lesions.csv" in done.err
    assert entries(out) == ["lesions.csv"]


def test_small_lesions_are_not_counted_and_that_is_said(segment, case: Path, out: Path) -> None:
    done = segment(case, "--min-lesion-ml", "100000", "--json")
    (row,) = done.json["results"]
    assert any("not counted as lesions (1 of WT" in warning for warning in row["warnings"])
    assert row["volumes_ml"]["WT"] > 0
    assert rows_of(out / "case" / "case_lesions.csv") == []
    assert run_json(out / "case")["settings"]["min_lesion_ml"] == 100000
    assert segment(case, "--min-lesion-ml", "-1").code == 2


@pytest.mark.slow
def test_open_shows_the_report(segment, case: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: bool(shown.append(url)))
    done = segment(case, "--open", report=True)
    assert done.code == 0 and "no browser" in done.err
    assert shown == [(out / "case" / "case_report.html").as_uri()]
    assert segment(case, "--open").code == 2  # with --no-report


def test_progress_shows_on_a_terminal_only(segment, case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert segment(case).code == 0
    assert "case: preparing" in terminal.getvalue()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert segment(case, "--overwrite", "-q").code == 0
    assert terminal.getvalue() == ""


def test_options_name_the_engines_that_exist(cli) -> None:
    outcome = cli("segment", "x", "-o", "y", "--engine", "nonsense")
    assert outcome.code == 2
    for engine in ENGINES:
        assert engine in outcome.err


def test_results_of_scans_that_do_not_fit_together_are_written_and_the_code_says_so(
    segment, two: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = {MRSequence.T1: MRSequence.T1CE, MRSequence.T1CE: MRSequence.T1}
    looks = IdentityWarning(pair, "evidence 0.9")
    monkeypatch.setattr("brats_seg.imaging.consistency.check_identity", lambda *_: (looks,))
    done = segment(two / "one", "--json")
    assert done.code == 3 and "one: the results are written, but the scans do not fit together" in done.err
    (row,), (failed,) = done.json["results"], done.json["failed"]
    assert (row["fits"], failed["study"], failed["exit_code"]) == (False, "one", 3)
    assert (out / "one" / "one_dseg.nii.gz").is_file()
    again = segment(two / "one", "--resume", "--json")
    assert again.code == 3 and again.json["results"][0]["resumed"] and not again.json["results"][0]["fits"]


@pytest.mark.slow
def test_a_brain_of_unusual_size_is_asked_about_and_has_no_intervals(
    cli, two: Path, out: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = Path(shutil.copytree(model, two / "fitted"))
    card = json.loads((fitted / "model.json").read_text())
    card["intervals"] = IntervalModel({"WT": 1.0, "TC": 1.0, "ET": 1.0}).to_dict()
    (fitted / "model.json").write_text(json.dumps(card))

    def segmented(study: Path) -> tuple[Outcome, list[bool]]:
        done = cli("segment", study, "-o", out, "--model", fitted)
        assert done.code == 0
        rows = rows_of(out / study.name / f"{study.name}_volumes.csv")
        return done, [bool(row["low_ml"]) for row in rows if row["region"] == "WT"]

    assert segmented(two / "one")[1] == [True]
    monkeypatch.setattr("brats_seg.imaging.consistency.BRAIN_ML", (900.0, 2000.0))
    done, has_interval = segmented(two / "two")
    assert has_interval == [False] and "voxel sizes" in done.out
    assert "The size of the brain is unusual" in (out / "two" / "two_report.html").read_text()


@pytest.mark.slow
def test_real_study_with_t1_and_t1ce_exchanged_is_warned_of(cli, tmp_path: Path, real_study: Path) -> None:
    exchanged = {MRSequence.T1: MRSequence.T1CE, MRSequence.T1CE: MRSequence.T1}
    for sequence, volume in study_of(real_study).items():
        write_scan(volume, tmp_path / "swapped" / f"p_{exchanged.get(sequence, sequence).value}.nii.gz")
    outcome = cli("check", tmp_path / "swapped")
    assert outcome.code == 3
    warning = next(line for line in outcome.out.splitlines() if "warning:" in line)
    assert "T1CE" in warning
    assert any(character.isdigit() for character in warning.replace("T1CE", "").replace("T1", ""))
