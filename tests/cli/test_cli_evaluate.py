"""``brats-seg evaluate``: which files belong together, what is written, what is listed as wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_studies import entries, label_array, scan, write_nifti, write_scan
from glioma import REGIONS

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume
from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.core.visit import RegionMaps
from brats_seg.evaluate import page as report_html
from brats_seg.files.file_bytes import file_sha256
from brats_seg.files.match_labels import (
    LabelFile,
    find_label_files,
    label_names,
    match_label_files,
    probabilities_beside,
)
from brats_seg.files.probabilities import read_probabilities
from brats_seg.files.write import write_probabilities

AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])
TABLES = ("agreement.csv", "cases.csv", "detection.csv", "lesions.csv", "summary.csv")


def label_map(path: Path, *numbers: int, shift: int = 0, affine: np.ndarray = AFFINE) -> Path:
    return write_nifti(np.roll(label_array(*numbers), shift, axis=1), affine, path)


@pytest.fixture
def references(tmp_path: Path) -> Path:
    """Two study folders with label maps of 2021."""
    for case in ("BraTS2021_00001", "BraTS2021_00002"):
        label_map(tmp_path / "ref" / case / f"{case}_seg.nii.gz", 1, 2, 4)
    return tmp_path / "ref"


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Results as ``segment`` writes them, in the numbers of 2023; the second is shifted by two voxels."""
    for case, shift in (("BraTS2021_00001", 0), ("BraTS2021_00002", 2)):
        path = label_map(tmp_path / "pred" / case / f"{case}_dseg.nii.gz", 1, 2, 3, shift=shift)
        path.with_name(f"{case}_dseg.json").write_text(json.dumps({"LabelSchema": "brats2023"}))
    return tmp_path / "pred"


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the plots, which take longest; the page has tests of its own."""
    monkeypatch.setattr(report_html, "evaluation_html", lambda *_, **__: "<html></html>")


def evaluate(cli, predictions: Path, references: Path, out: Path, *more: object):
    return cli("evaluate", predictions, references, "-o", out, *more)


@pytest.mark.usefixtures("no_page")
def test_the_options_of_before_still_work_with_a_note(cli, predictions: Path, references: Path, out: Path) -> None:
    done = cli("evaluate", "--predictions", predictions, "--references", references, "-o", out)
    assert done.code == 0 and "PREDICTIONS REFERENCES" in done.err
    assert cli("evaluate", predictions, "--predictions", predictions, "-o", out).code == 2
    assert cli("evaluate", predictions, "-o", out).code == 2


@pytest.mark.usefixtures("no_page")
def test_another_grid_is_resampled_where_that_is_asked_for(cli, tmp_path: Path, out: Path) -> None:
    coarse = np.zeros((20, 20, 20), np.uint8)
    coarse[4:14, 6:12, 5:15] = 3
    fine = np.kron(coarse, np.ones((2, 2, 2), np.uint8))
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    thick = np.diag([2.0, 2.0, 2.0, 1.0])
    thick[:3, 3] = 0.5
    made = write_nifti(coarse, thick, tmp_path / "p" / "a_seg.nii.gz")
    truth = write_nifti(fine, affine, tmp_path / "r" / "a_seg.nii.gz")
    options = ("-o", out, "--schema-predictions", "brats2023", "--schema-references", "brats2023")
    refused = cli("evaluate", made, truth, *options)
    assert refused.code == 3 and "--resample" in refused.err
    done = cli("evaluate", made, truth, *options, "--resample", "--json")
    assert done.code == 0
    dice = [row["mean"] for row in done.json["summary"] if row["metric"] == "dice" and row["region"] == "WT"]
    assert dice[0] == 1.0
    assert "was resampled from" in (out / "run.json").read_text()


@pytest.mark.slow
def test_scores_and_files(cli, predictions: Path, references: Path, out: Path) -> None:
    outcome = evaluate(cli, predictions, references, out)
    assert outcome.code == 0
    assert [line.partition(";")[0] for line in outcome.err.splitlines()[1:]] == [
        "[2/3] evaluate predictions: BraTS2021_00001",
        "[3/3] evaluate predictions: BraTS2021_00002",
    ]
    assert entries(out) == sorted([*TABLES, "evaluation.html", "evaluation.json", "run.json"])
    rows = {(row["case"], row["region"]): row for row in json.loads((out / "evaluation.json").read_text())["cases"]}
    assert rows["BraTS2021_00001", "WT"]["dice"] == 1.0
    # blocks of 10 voxels along the axis of the shift: 8 of 10 overlap
    for region in REGIONS:
        assert rows["BraTS2021_00002", region.name]["dice"] == pytest.approx(0.8)
        assert rows["BraTS2021_00002", region.name]["hd95_mm"] == pytest.approx(2.0)
    assert "WT Dice                 0.900" in outcome.out
    record = json.loads((out / "run.json").read_text())
    assert record["inputs"]["predictions"]["BraTS2021_00002"]["prediction_schema"] == "brats2023"
    assert record["inputs"]["predictions"]["BraTS2021_00002"]["reference_schema"] == "brats2021"
    assert str(out.parent) not in (out / "run.json").read_text()
    assert "<script" not in (out / "evaluation.html").read_text()


@pytest.mark.usefixtures("no_page")
def test_overwrite_and_what_is_not_ours(cli, predictions: Path, references: Path, out: Path) -> None:
    assert evaluate(cli, predictions, references, out, "-q").out == ""
    before = (out / "cases.csv").read_bytes()
    again = evaluate(cli, predictions, references, out)
    assert again.code == 6
    assert "--overwrite" in again.err
    assert evaluate(cli, predictions, references, out, "--overwrite").code == 0
    assert (out / "cases.csv").read_bytes() == before
    (out / "thesis.txt").write_text("mine")
    assert evaluate(cli, predictions, references, out, "--overwrite").code == 6
    assert (out / "thesis.txt").read_text() == "mine"
    # a segmentation is a whole result too, but not ours to replace
    place = predictions / "BraTS2021_00001"
    (place / "run.json").write_text(json.dumps({"outputs": {path.name: "" for path in place.iterdir()}}))
    before_there = entries(place)
    outcome = evaluate(cli, predictions, references, place, "--overwrite")
    assert outcome.code == 6
    assert "another command's results" in outcome.err
    assert cli("explore", references, "-o", place, "--overwrite").code == 6
    assert entries(place) == before_there


@pytest.mark.usefixtures("no_page")
def test_bad_cases_are_listed_and_good_ones_evaluated(cli, predictions: Path, references: Path, out: Path) -> None:
    for case in ("alone", "grid", "year", "damaged"):
        label_map(references / case / f"{case}_seg.nii.gz", 1, 2, 4)
    label_map(predictions / "grid" / "grid_dseg.nii.gz", 1, 2, 4, affine=np.diag([1.0, 1.0, 2.0, 1.0]))
    known = [references / case / f"{case}_seg.json" for case in ("grid", "year")]
    for place in (predictions / "grid" / "grid_dseg.json", *known):
        place.write_text('{"LabelSchema": "brats2021"}')
    label_map(predictions / "year" / "year_dseg.nii.gz", 1, 2, 3)
    label_map(predictions / "damaged" / "damaged_dseg.nii.gz", 1, 2, 4).write_bytes(b"no")
    label_map(predictions / "extra" / "extra_dseg.nii.gz", 1, 2, 4)
    outcome = evaluate(cli, predictions, references, out, "--json")
    assert outcome.code == 3
    assert outcome.json["cases"] == 2
    said = {row["study"]: row["error"] for row in outcome.json["failed"]}
    assert set(said) == {"alone", "grid", "year", "damaged", "extra"}
    assert "no label map among the predictions" in said["alone"]
    assert "none among the references" in said["extra"]
    assert "1 x 1 x 2 mm" in said["grid"]
    assert "{1, 2, 3}" in said["year"]
    assert "--schema-predictions" in said["year"]
    assert outcome.err.splitlines()[-1] == "brats-seg: 5 of 7 studies failed"
    assert len(json.loads((out / "run.json").read_text())["failed"]) == 5
    chosen = evaluate(cli, predictions, references, out, "--overwrite", "--schema-predictions", "brats2023", "--json")
    assert "year" not in {row["study"] for row in chosen.json["failed"]}


@pytest.mark.usefixtures("no_page")
def test_nothing_fits_and_nothing_is_left(cli, predictions: Path, references: Path, tmp_path: Path, out: Path) -> None:
    label_map(tmp_path / "other" / "z_seg.nii.gz", 1, 2, 4)
    outcome = evaluate(cli, tmp_path / "other", references, out)
    assert outcome.code == 3
    assert "BraTS2021_00001" in outcome.err
    assert "called z" in outcome.err
    (tmp_path / "empty").mkdir()
    assert "holds no label map" in evaluate(cli, tmp_path / "empty", references, out).err
    assert "Check the spelling" in evaluate(cli, predictions, tmp_path / "gone", out).err
    for path in predictions.rglob("*.nii.gz"):
        path.write_bytes(b"no")
    outcome = evaluate(cli, predictions, references, out)
    assert outcome.code == 3
    assert "not one of 2 pairs" in outcome.err
    assert entries(out) == []


@pytest.mark.slow
def test_compare(cli, predictions: Path, references: Path, out: Path, monkeypatch) -> None:
    flat = out.parent / "flat"
    for case in ("BraTS2021_00001", "BraTS2021_00002"):
        label_map(flat / f"{case}.nii.gz", 1, 2, 4)
    outcome = evaluate(cli, predictions, references, out, "--compare", flat)
    assert outcome.code == 0, outcome.err
    assert "WT Dice                 0.100" in outcome.out
    assert (out / "comparison.csv").read_text().startswith("metric,region,cases")
    assert (out / "compared_cases.csv").is_file()
    assert "Two models compared" in (out / "evaluation.html").read_text()
    # a case the second model lacks is evaluated for the first, and left out of the comparison
    monkeypatch.setattr("brats_seg.evaluate.page.evaluation_html", lambda *_, **__: "")
    (flat / "BraTS2021_00001.nii.gz").unlink()
    outcome = evaluate(cli, predictions, references, out, "--compare", flat, "--overwrite", "--json")
    assert outcome.code == 3
    assert outcome.json["cases"] == 2
    assert {row["cases"] for row in outcome.json["comparison"]} == {1}
    assert "among the comparison" in outcome.json["failed"][0]["error"]


@pytest.mark.usefixtures("no_page")
def test_probabilities_are_judged_and_damaged_ones_refused(cli, predictions: Path, references: Path, out: Path) -> None:
    volume = Volume.from_affine(label_array(1, 2, 3), AFFINE)
    masks = [DEFAULT_SCHEMA.region_mask(volume.data, region) for region in REGIONS]
    probabilities = RegionMaps(np.stack(masks).astype(np.float32) * np.float32(0.9), volume.grid, REGIONS)
    path = predictions / "BraTS2021_00001" / "BraTS2021_00001_probseg.nii.gz"
    write_probabilities(probabilities, path)
    assert evaluate(cli, predictions, references, out).code == 0
    rows = json.loads((out / "evaluation.json").read_text())["calibration"]
    assert [row["region"] for row in rows] == ["WT", "TC", "ET"]
    # 0.9 inside where the truth is 1, and 0 outside where it is 0: off by 0.1 inside alone
    assert all(0 < row["ece"] < 0.1 for row in rows)
    path.with_name("BraTS2021_00001_probseg.json").unlink()
    outcome = evaluate(cli, predictions, references, out, "--overwrite")
    assert outcome.code == 3
    assert "_probseg.json" in outcome.err


def test_probabilities_read_back_in_whatever_order(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((3, 5, 4, 6)).astype(np.float32)
    written = RegionMaps(values, Volume.from_affine(values[0], np.diag([2.0, 1.0, 3.0, 1.0])).grid, REGIONS)
    path = tmp_path / "a_probseg.nii.gz"
    write_probabilities(written, path)
    read = read_probabilities(path, REGIONS)
    assert read.grid.same_as(written.grid)
    np.testing.assert_allclose(read.array, values, atol=6e-5)
    path.with_name("a_probseg.json").write_text(json.dumps({"LabelMap": ["ET", "WT", "TC"]}))
    np.testing.assert_allclose(read_probabilities(path, REGIONS).array, values[[1, 2, 0]], atol=6e-5)
    path.with_name("a_probseg.json").write_text(json.dumps({"LabelMap": ["ET", "WT"]}))
    with pytest.raises(InputError, match="LabelMap"):
        read_probabilities(path, REGIONS)
    path.with_name("a_probseg.json").write_text(json.dumps({"LabelMap": ["WT", "TC", "ET"]}))
    write_scan(scan(), path)
    with pytest.raises(InputError, match="4D"):
        read_probabilities(path, REGIONS)


@pytest.mark.usefixtures("no_page")
def test_two_files_belong_together_whatever_they_are_called(cli, tmp_path: Path, references: Path, out: Path) -> None:
    mine = label_map(tmp_path / "mine.nii.gz", 1, 2, 4)
    mine.with_name("mine.json").write_text('{"LabelSchema": "brats2021"}')
    theirs = references / "BraTS2021_00001" / "BraTS2021_00001_seg.nii.gz"
    outcome = evaluate(cli, mine, theirs, out, "--json")
    assert outcome.code == 0
    assert outcome.json["cases"] == 1
    # one prediction against a folder asks for its own reference alone
    named = label_map(tmp_path / "BraTS2021_00002_pred.nii.gz", 1, 2, 4)
    assert evaluate(cli, named, references, out, "--overwrite", "--json").json["failed"] == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a_t1.nii.gz", "a_seg.nii.gz", "a_flair.nii.gz"], ["a_seg.nii.gz"]),
        (["a-t1c.nii.gz", "a-seg.nii.gz"], ["a-seg.nii.gz"]),
        (["a_dseg.nii.gz", "a_probseg.nii.gz"], ["a_dseg.nii.gz"]),
        (["a_t1.nii.gz", "a_brain_mask.nii.gz", "a_odd.nii.gz"], []),
        (["a.nii.gz", "b.nii.gz"], ["a.nii.gz", "b.nii.gz"]),
        (["seg.nii.gz"], ["seg.nii.gz"]),
    ],
)
def test_which_names_are_label_maps(names: list[str], expected: list[str]) -> None:
    assert label_names(names) == expected


def test_ids(tmp_path: Path) -> None:
    for name in (
        "p1/visit1/seg.nii.gz",
        "p2/visit1/seg.nii.gz",
        "sub-1/ses-2/anat/sub-1_ses-2_desc-x_dseg.nii.gz",
        "BraTS-GLI-00001-000/BraTS-GLI-00001-000-seg.nii.gz",
        ".hidden/h_seg.nii.gz",
    ):
        label_map(tmp_path / name, 1)
    ids = [file.id for file in find_label_files(tmp_path)]
    assert ids == ["BraTS-GLI-00001-000", "p1_visit1", "p2_visit1", "sub-1_ses-2"]
    label_map(tmp_path / "x" / "k_seg.nii.gz", 1)
    label_map(tmp_path / "x" / "k_dseg.nii.gz", 1)
    with pytest.raises(InputError, match="both be study k"):
        find_label_files(tmp_path)


def test_a_folder_s_name_is_the_second_chance(tmp_path: Path) -> None:
    mine = [LabelFile("p1", tmp_path / "p1/p1_dseg.nii.gz", "p1"), LabelFile("q", tmp_path / "q.nii.gz")]
    theirs = [LabelFile("BraTS_7", tmp_path / "p1/BraTS_7_seg.nii.gz", "p1"), LabelFile("r", tmp_path / "r.nii.gz")]
    matches = match_label_files(mine, theirs)
    assert [(pair.id, pair.prediction.parent.name) for pair in matches.pairs] == [("BraTS_7", "p1")]
    assert matches.only_predictions == ("q",)
    assert matches.only_references == ("r",)


def test_probabilities_beside(tmp_path: Path) -> None:
    assert probabilities_beside(tmp_path / "a_dseg.nii.gz") is None
    (tmp_path / "a_probseg.nii.gz").touch()
    assert probabilities_beside(tmp_path / "a_dseg.nii.gz") == tmp_path / "a_probseg.nii.gz"


@pytest.mark.slow
def test_a_real_label_against_itself(cli, real_study: Path, out: Path) -> None:
    label = real_study / f"{real_study.name}_seg.nii.gz"
    outcome = evaluate(cli, label, real_study, out, "--json")
    assert (outcome.code, "one and the same file" in outcome.err) == (3, True)
    copy = out.with_name("copy") / label.name
    copy.parent.mkdir()
    copy.write_bytes(label.read_bytes())
    outcome = evaluate(cli, copy, real_study, out, "--json")
    assert outcome.code == 0, outcome.err
    dice = [row["mean"] for row in outcome.json["summary"] if row["metric"] == "dice"]
    assert dice == [1.0, 1.0, 1.0]
    (warning,) = outcome.json["warnings"]
    assert "copies of one file" in warning


@pytest.mark.usefixtures("no_page")
def test_whatever_breaks_in_one_case_the_others_are_evaluated(
    cli, predictions: Path, references: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brats_seg.evaluate import reading as masks

    read = masks.read_mask

    def breaks(path: Path, schema: str, study_id: str | None, *more: Any) -> object:
        if study_id == "BraTS2021_00002":
            raise RuntimeError("ITK ERROR:\nno memory map")
        return read(path, schema, study_id, *more)

    monkeypatch.setattr(masks, "read_mask", breaks)
    done = evaluate(cli, predictions, references, out, "--json")
    assert done.code == 1 and "Traceback" not in done.err
    assert [entry["study"] for entry in done.json["failed"]] == ["BraTS2021_00002"]
    assert "unforeseen RuntimeError" in done.json["failed"][0]["error"]
    assert done.json["cases"] == 1 and (out / "evaluation.html").is_file()


@pytest.mark.usefixtures("no_page")
def test_the_same_folder_on_both_sides_is_refused(cli, references: Path, out: Path, tmp_path: Path) -> None:
    assert evaluate(cli, references, references, out).code == 3
    (tmp_path / "link").symlink_to(references)
    refused = evaluate(cli, tmp_path / "link", references, out)
    assert (refused.code, refused.err.count("one and the same file")) == (3, 2)
    assert not out.exists()


@pytest.mark.usefixtures("no_page")
def test_what_changes_how_figures_are_read_is_said(cli, predictions: Path, references: Path, out: Path) -> None:
    """Pairs by folder alone, a study the model knew, a prediction turned and cropped."""
    other = label_map(references / "extra" / "name_seg.nii.gz", 1, 2, 4)
    (other.with_name("name_seg.json")).write_text('{"LabelSchema": "brats2021"}')
    paired = label_map(predictions / "extra" / "someone_dseg.nii.gz", 1, 2, 3, shift=1)
    paired.with_name("someone_dseg.json").write_text('{"LabelSchema": "brats2023"}')
    known = {"LabelSchema": "brats2023", "Algorithm": {"name": "m", "trained_on_this_study": True}}
    (predictions / "BraTS2021_00001" / "BraTS2021_00001_dseg.json").write_text(json.dumps(known))
    path = predictions / "BraTS2021_00002" / "BraTS2021_00002_dseg.nii.gz"
    whole = Volume.from_affine(np.roll(label_array(1, 2, 3), 2, axis=1), AFFINE)
    write_nifti((cut := whole.crop((1, 3, 2), (22, 19, 14)).flip(0)).data, cut.affine, path)
    outcome = evaluate(cli, predictions, references, out)
    assert outcome.code == 0, outcome.err
    assert "warning: the model was trained on 1 of 3 cases (BraTS2021_00001)" in outcome.out
    assert "warning: name: prediction someone and reference name belong together by their folders alone" in outcome.out
    assert "note: BraTS2021_00002: the prediction is stored along LAS" in outcome.out
    assert "the rest counts as 0" in outcome.out
    rows = {(r["case"], r["region"]): r for r in json.loads((out / "evaluation.json").read_text())["cases"]}
    assert rows["BraTS2021_00002", "WT"]["dice"] == pytest.approx(0.8)
    assert "not trained on: 2 cases" in outcome.out
    assert "interval" not in outcome.out  # of three patients
    record = json.loads((out / "run.json").read_text())
    assert record["inputs"]["predictions"]["BraTS2021_00001"]["trained_on_this_study"] == "yes"
    assert len(record["warnings"]) == 2


@pytest.mark.usefixtures("no_page")
def test_what_label_numbers_were_read_as_is_said(cli, tmp_path: Path, out: Path) -> None:
    """A rim of nnU-Net's numbers under a name of 2023, given for two cases."""
    grid = np.indices((24, 24, 24)) - 12
    distance = np.sqrt((grid**2).sum(0))
    for case in ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000"):
        for side, numbers in (("p", (1, 2, 3)), ("r", (2, 1, 3))):
            edema, necrosis, enhancing = numbers
            labels = np.select([distance <= 5, distance <= 7, distance <= 10], [necrosis, enhancing, edema]).astype(
                "u1"
            )
            write_nifti(labels, AFFINE, tmp_path / side / f"{case}-seg.nii.gz")
    outcome = evaluate(cli, tmp_path / "p", tmp_path / "r", out)
    assert "warning: BraTS-GLI-00001-000: prediction: its name is one of BraTS 2023" in outcome.out
    assert "warning: the predictions of BraTS-GLI-00001-000, BraTS-GLI-00002-000 are copies of one file" in outcome.out
    assert "label numbers: predictions nnunet, references brats2023" in outcome.out


def test_what_was_left_out_is_on_the_page(cli, predictions: Path, references: Path, out: Path) -> None:
    (predictions / "BraTS2021_00002" / "BraTS2021_00002_dseg.nii.gz").write_bytes(b"damaged")
    label_map(references / "BraTS2021_00003" / "BraTS2021_00003_seg.nii.gz", 1, 2, 4)
    outcome = evaluate(cli, predictions, references, out, "--json")
    assert outcome.code == 3
    means = {(r["subset"], r["region"], r["metric"]): r for r in outcome.json["summary"]}
    assert means["all", "WT", "dice"]["mean"] == 1.0
    assert means["all, missing predictions as 0", "WT", "dice"]["mean"] == pytest.approx(1 / 3)
    page = (out / "evaluation.html").read_text()
    assert "BraTS2021_00002: prediction:" in page
    assert "BraTS2021_00003: the reference has no label map among the predictions" in page
    assert "all, missing predictions as 0: 3 cases" in page


@pytest.mark.usefixtures("no_page")
def test_own_results_are_found_by_the_scans_they_were_made_of(cli, tmp_path: Path, references: Path, out: Path) -> None:
    scan_path = references / "BraTS2021_00001" / "BraTS2021_00001_t1ce.nii.gz"
    write_scan(scan(), scan_path)
    path = label_map(tmp_path / "mine" / "patient" / "patient_dseg.nii.gz", 1, 2, 3)
    path.with_name("patient_dseg.json").write_text('{"LabelSchema": "brats2023"}')
    inputs = {"t1ce": {"sha256": file_sha256(scan_path)}, "t2": {"sha256": "0" * 64}}
    path.with_name("run.json").write_text(json.dumps({"inputs": inputs, "outputs": {}}))
    outcome = evaluate(cli, tmp_path / "mine", references, out)
    assert outcome.code == 3  # the other reference has no prediction
    assert "prediction patient was made of the scans beside the reference" in outcome.out
    assert json.loads((out / "evaluation.json").read_text())["cases"][0]["dice"] == 1.0


def test_a_second_copy_of_all_label_maps_is_asked_about(tmp_path: Path) -> None:
    for name in ("a", "b"):
        label_map(tmp_path / "out" / f"{name}.nii.gz", 1)
        label_map(tmp_path / "out" / "postprocessed" / f"{name}.nii.gz", 1)
    with pytest.raises(InputError, match=r"out holds a.nii.gz twice: in itself and in postprocessed. Which is meant"):
        find_label_files(tmp_path / "out")
    assert [file.id for file in find_label_files(tmp_path / "out" / "postprocessed")] == ["a", "b"]


@pytest.mark.usefixtures("no_page")
def test_few_cases_are_not_tested(cli, predictions: Path, references: Path, out: Path) -> None:
    outcome = evaluate(cli, predictions, references, out, "--compare", predictions)
    assert outcome.code == 0
    assert "not tested: fewer than 6 patients" in outcome.out
    assert "p " not in outcome.out.split("second model minus first")[1].split("tables")[0].replace("lesion-wise", "")
