"""``brats-seg measure``: which schema, what is written, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_studies import entries, label_array, scan, write_nifti, write_scan

AFFINE = np.diag([2.0, 2.0, 2.5, 1.0])
BLOCK_ML = 4 * 10 * 8 * 10 / 1000
"""Volume of one block of ``label_array`` at that spacing."""


def mask(path: Path, *numbers: int) -> Path:
    return write_nifti(label_array(*numbers), AFFINE, path)


def test_values_1_2_4_are_asked_about(cli, tmp_path: Path, out: Path) -> None:
    path = mask(tmp_path / "p7_seg.nii.gz", 1, 2, 4)
    outcome = cli("measure", path, "-o", out)
    assert outcome.code == 3 and entries(out) == []
    assert "brats2021 (1 NCR, 2 ED, 4 ET)" in outcome.err and "4 RC" in outcome.err
    outcome = cli("measure", path, "-o", out, "--schema", "brats2021")
    assert outcome.code == 0
    assert outcome.err == ""
    assert "brats2021" in outcome.out
    assert "as asked" in outcome.out
    assert entries(out) == [
        "p7",
        *(f"p7/p7_{name}" for name in ("lesions.csv", "lesions.json", "volumes.csv", "volumes.json")),
        "p7/run.json",
    ]
    volumes = {
        row["region"]: row["volume_ml"] for row in json.loads((out / "p7/p7_volumes.json").read_text())["volumes"]
    }
    expected = {"WT": 3 * BLOCK_ML, "TC": 2 * BLOCK_ML, "ET": BLOCK_ML, "NCR": BLOCK_ML, "ED": BLOCK_ML}
    assert volumes == pytest.approx(expected)
    run = json.loads((out / "p7" / "run.json").read_text())
    assert len(run["inputs"]["mask"]["sha256"]) == 64
    assert run["settings"] == {"schema": "brats2021"}
    assert any("brats2021" in line for line in run["decisions"])
    assert str(tmp_path) not in (out / "p7" / "run.json").read_text()


def test_values_1_2_3_are_refused_with_the_choices(cli, tmp_path: Path, out: Path) -> None:
    path = mask(tmp_path / "p7.nii.gz", 1, 2, 3)
    outcome = cli("measure", path, "-o", out)
    assert outcome.code == 3
    assert "{1, 2, 3}" in outcome.err
    for choice in ("brats2023", "msd", "nnunet"):
        assert choice in outcome.err
    assert entries(out) == []
    chosen = cli("measure", path, "-o", out, "--schema", "msd", "--json")
    assert chosen.json["volumes_ml"]["ET"] == pytest.approx(BLOCK_ML)
    assert chosen.json["schema"] == "msd"


def test_a_brats_name_and_a_sidecar_decide(cli, tmp_path: Path, out: Path) -> None:
    named = mask(tmp_path / "BraTS-GLI-00001-000-seg.nii.gz", 1, 2, 3)
    outcome = cli("measure", named, "-o", out)
    assert "brats2023" in outcome.out
    assert "its name says so" in outcome.out
    beside = mask(tmp_path / "q_dseg.nii.gz", 1, 2, 3)
    (tmp_path / "q_dseg.json").write_text(json.dumps({"LabelSchema": "nnunet"}))
    outcome = cli("measure", beside, "-o", out)
    assert "nnunet" in outcome.out
    assert "file beside it" in outcome.out
    (tmp_path / "q_dseg.json").write_text("{")
    assert cli("measure", beside, "-o", out, "--overwrite").code == 3


def test_unknown_values(cli, tmp_path: Path, out: Path) -> None:
    path = mask(tmp_path / "p.nii.gz", 1, 7)
    outcome = cli("measure", path, "-o", out)
    assert outcome.code == 3
    assert "{1, 7}" in outcome.err
    outcome = cli("measure", path, "-o", out, "--schema", "brats2021")
    assert outcome.code == 3
    assert "[7]" in outcome.err
    assert entries(out) == []


def test_an_image_instead_of_a_mask(cli, tmp_path: Path, out: Path) -> None:
    outcome = cli("measure", write_scan(scan(), tmp_path / "flair.nii.gz"), "-o", out)
    assert outcome.code == 3
    assert "not whole numbers" in outcome.err
    assert outcome.err.count("\n") == 1
    assert entries(out) == []


def test_an_empty_mask_is_no_error(cli, tmp_path: Path, out: Path) -> None:
    outcome = cli("measure", mask(tmp_path / "p.nii.gz"), "-o", out)
    assert outcome.code == 0
    assert "0.00 ml" in outcome.out


def test_existing_tables_and_results_of_segment(cli, segment, case: Path, tmp_path: Path, out: Path) -> None:
    path = mask(tmp_path / "BraTS2021_7_seg.nii.gz", 1, 2, 4)
    assert cli("measure", path, "-o", out).code == 0
    assert cli("measure", path, "-o", out).code == 6
    assert cli("measure", path, "-o", out, "--overwrite").code == 0
    assert segment(case).code == 0
    before = entries(out)
    # the id of a mask of ours is the id of its own folder, which tables must not replace
    outcome = cli("measure", out / "case" / "case_dseg.nii.gz", "-o", out, "--overwrite")
    assert outcome.code == 6
    assert "segmentation" in outcome.err
    assert entries(out) == before
    assert cli("measure", out / "case" / "case_dseg.nii.gz", "-o", out, "--id", "again").code == 0


def test_names(cli, tmp_path: Path, out: Path) -> None:
    path = mask(tmp_path / "Doe Jane_seg.nii.gz", 1, 2, 4)
    outcome = cli("measure", path, "-o", out, "--schema", "brats2021")
    assert outcome.code == 3
    assert "--id" in outcome.err
    assert cli("measure", path, "-o", out, "--schema", "brats2021", "--id", "P1", "-q").out == ""
    assert cli("measure", tmp_path / "gone.nii.gz", "-o", out).code == 3


def test_verbose_lists_every_lesion(cli, tmp_path: Path, out: Path) -> None:
    path = mask(tmp_path / "BraTS2021_7_seg.nii.gz", 1, 2, 4)
    assert "WT lesion 1" not in cli("measure", path, "-o", out).out
    lines = cli("measure", path, "-o", out, "--overwrite", "-v").out.splitlines()
    assert sum("lesion " in line for line in lines) == 3 + 2 + 1


def test_a_mask_of_the_whole_tumour_tells_nothing_else(cli, tmp_path: Path, out: Path) -> None:
    path = write_nifti((label_array(1, 2, 4) > 0) * np.uint8(255), AFFINE, tmp_path / "BraTS2021_7_seg.nii.gz")
    assert "nothing but 0 and 255" in cli("measure", path, "-o", out).err
    outcome = cli("measure", path, "-o", out, "--schema", "whole")
    assert outcome.code == 0 and "ET: not part of the label schema whole" in outcome.out
    assert "0.00 ml" not in outcome.out
    rows = {
        row["region"]: row for row in json.loads((out / "BraTS2021_7/BraTS2021_7_volumes.json").read_text())["volumes"]
    }
    assert rows["WT"]["volume_ml"] == rows["TU"]["volume_ml"] == pytest.approx(3 * BLOCK_ML)
    assert rows["ET"]["volume_ml"] is rows["TC"]["volume_ml"] is rows["ET"]["lesions"] is None
    (row,) = [line for line in (out / "BraTS2021_7/BraTS2021_7_volumes.csv").read_text().splitlines() if ",ET," in line]
    *empty, note = row.split(",ET,")[1].split(",")
    assert not any(empty) and "schema whole" in note


def test_hd_glio(cli, tmp_path: Path, out: Path) -> None:
    outcome = cli("measure", mask(tmp_path / "p.nii.gz", 1, 2), "-o", out, "--schema", "hdglio", "--json")
    assert outcome.json["volumes_ml"] == pytest.approx(
        {"WT": 2 * BLOCK_ML, "TC": None, "ET": BLOCK_ML, "FA": BLOCK_ML}, nan_ok=True
    )


def test_a_name_that_every_patient_has(cli, tmp_path: Path, out: Path) -> None:
    for patient in ("P01", "P02"):
        (tmp_path / patient).mkdir()
        path = mask(tmp_path / patient / "seg.nii.gz", 1, 2, 4)
        assert cli("measure", path, "-o", out, "--schema", "brats2021").code == 0
    assert (out / "P01").is_dir() and (out / "P02").is_dir()
