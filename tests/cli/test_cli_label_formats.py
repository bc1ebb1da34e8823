"""Label maps as 3D Slicer and a PACS keep them, wherever a command takes a folder of label maps."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_studies import GRID, Outcome, change, write_case, write_nifti

sys.path.append(str(Path(__file__).resolve().parents[1] / "files"))

from test_dicom_seg import MAKER, series_of

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import SCHEMAS, LabelSchema
from brats_seg.core.visit import Segmentation
from brats_seg.files.dicom_reference import reference_of, save
from brats_seg.files.dicom_seg import seg_of_tissues
from brats_seg.files.file_bytes import file_sha256
from brats_seg.files.label_map import read_mask
from brats_seg.files.match_labels import find_label_files
from brats_seg.files.seg_nrrd import write_seg_nrrd
from brats_seg.models.card import regions_of

Cli = Callable[..., Outcome]
FORMS = {"nifti": "_seg.nii.gz", "slicer": ".seg.nrrd", "dicom": "_seg.dcm"}


def tumour(size: int = 4, grid: Grid = GRID) -> Segmentation:
    """A core of necrosis in enhancement in edema, boxes around the middle."""
    labels = np.zeros(grid.shape, np.uint8)
    for half, number in ((size, 2), (size - 1, 3), (1, 1)):
        labels[tuple(slice(side // 2 - half, side // 2 + half) for side in grid.shape)] = number
    return Segmentation("case", Volume(labels, grid), SCHEMAS["brats2023"], regions_of("glioma"))


def write(segmentation: Segmentation, form: str, path: Path) -> Path:
    """A label map in a format; in DICOM with the slices alone that hold some of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "nifti":
        return write_nifti(segmentation.labels.data, segmentation.labels.affine, path)
    if form == "slicer":
        write_seg_nrrd(segmentation, path)
        return path
    scan = segmentation.labels.with_data(np.random.default_rng(0).integers(0, 900, segmentation.labels.data.shape))
    series = path.parent.parent / f"{path.name}_series"
    reference = reference_of(series_of(scan, series))
    shutil.rmtree(series)
    on_it = replace(segmentation, labels=Volume(segmentation.labels.data, reference.grid))
    save(seg_of_tissues(on_it, reference, MAKER, patient="x"), path)
    return path


def scores(folder: Path) -> dict[str, float]:
    with (folder / "cases.csv").open() as stream:
        return {row["region"]: float(row["dice"]) for row in csv.DictReader(stream)}


@pytest.mark.slow
@pytest.mark.parametrize(("prediction", "reference"), [("nifti", "slicer"), ("dicom", "slicer"), ("nifti", "dicom")])
@pytest.mark.usefixtures("no_page")
def test_evaluate(cli: Cli, tmp_path: Path, out: Path, prediction: str, reference: str) -> None:
    predicted, truth = tumour(5), tumour(4)
    write(predicted, prediction, tmp_path / "found" / f"case{FORMS[prediction]}")
    write(truth, reference, tmp_path / "expert" / f"case{FORMS[reference]}")
    schemas = ["--schema-predictions", "brats2023"] if prediction == "nifti" else []
    done = cli("evaluate", tmp_path / "found", tmp_path / "expert", "-o", out, *schemas)
    assert done.code == 0, done
    for region, dice in scores(out).items():
        one, other = (s.region_mask(s.regions[region]) for s in (predicted, truth))
        assert dice == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()), abs=1e-6), region


def test_which_files_are_label_maps(tmp_path: Path) -> None:
    place = tmp_path / "set"
    write(tumour(), "nifti", place / "a_seg.nii.gz")
    write(tumour(), "slicer", place / "b.seg.nrrd")
    write(tumour(), "slicer", place / "c_dseg.nii.seg.nrrd")
    write(tumour(), "slicer", place / "d_mask.nrrd")
    write(tumour(), "slicer", place / "scan.nrrd")
    write(tumour(), "slicer", place / "b_brain.seg.nrrd")
    write(tumour(), "dicom", place / "e_seg.dcm")
    shutil.copy(place / "e_seg.dcm", place / "e_lesions.dcm")  # as results have it beside
    write(tumour(), "dicom", place / "f" / "1-1.dcm")
    (place / "g.dcm").write_bytes((place / "e_seg.dcm").read_bytes().replace(b".66.4", b".88.3", 1))
    found = find_label_files(place)
    assert [(file.id, file.folder_id) for file in found] == [
        *(("1-1", "f"), ("a", ""), ("b", ""), ("c", ""), ("d", ""), ("e", "")),
    ]


def test_other_forms_of_a_result_are_no_second_label_map_unless_changed(tmp_path: Path) -> None:
    place = tmp_path / "results" / "case"
    write(tumour(), "nifti", place / "case_dseg.nii.gz")
    nrrd = write(tumour(), "slicer", place / "case.seg.nrrd")
    (place / "run.json").write_text(json.dumps({"outputs": {nrrd.name: file_sha256(nrrd)}}))
    assert [file.path.name for file in find_label_files(tmp_path / "results")] == ["case_dseg.nii.gz"]
    write(tumour(5), "slicer", nrrd)  # as an expert saves a correction
    with pytest.raises(InputError, match="two label maps") as error:
        find_label_files(tmp_path / "results")
    assert nrrd.name in str(error.value)


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the page of an evaluation, which takes longest."""
    monkeypatch.setattr("brats_seg.evaluate.page.evaluation_html", lambda *_, **__: "")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["slicer", "dicom"])
def test_track_label_maps_alone(cli: Cli, tmp_path: Path, out: Path, form: str) -> None:
    patient = tmp_path / "P7"
    for day, size in (("2024-01-15", 4), ("2024-05-01", 5)):
        name = f"P7_{day}{FORMS[form]}" if form == "slicer" else "1-1.dcm"
        write(tumour(size), form, patient / (day if form == "dicom" else "") / name)
    done = cli("track", patient, "-o", out, "--no-report", "--json")
    assert done.code == 0, done
    with (out / "P7" / "volumes.csv").open() as stream:
        found = [float(row["volume_ml"]) for row in csv.DictReader(stream) if row["region"] == "WT"]
    assert found == pytest.approx([(tumour(size).labels.data > 0).sum() * GRID.voxel_ml for size in (4, 5)], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["slicer", "dicom"])
def test_track_scans_with_label_maps_given(cli: Cli, tmp_path: Path, out: Path, form: str) -> None:
    patient, masks = tmp_path / "P7", tmp_path / "masks"
    for day, size in (("2024-01-15", 4), ("2024-05-01", 5)):
        for path in write_case(patient / day).iterdir():
            change(path, lambda voxels, size=size: voxels * np.float32(size))  # another scan of the same head
        write(tumour(size), form, masks / f"P7_{day}{FORMS[form]}")
    done = cli("track", patient, "--segmentations", masks, "-o", out, "--no-report", "--force", "--json")
    assert done.code == 0, done
    assert [visit["visit"] for visit in done.json["patients"][0]["visits"]] == ["2024-01-15", "2024-05-01"], done


def of_tissues(segmentation: Segmentation, *names: str) -> Segmentation:
    """The same, of some tissues alone, as a schema of its own."""
    kept = [structure for structure in segmentation.schema.structures if structure.name in names]
    schema = LabelSchema("own", "own", dict(enumerate(kept, start=1)))
    labels = np.where(np.isin(segmentation.labels.data, [segmentation.schema.number(s) for s in kept]), 1, 0)
    known = segmentation.labels.with_data(segmentation.labels.data * labels.astype(np.uint8))
    return replace(segmentation, labels=known.with_data(segmentation.schema.convert(known.data, schema)), schema=schema)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["slicer", "dicom"])
@pytest.mark.usefixtures("no_page")
def test_track_asks_about_a_tissue_that_one_visit_lacks(cli: Cli, tmp_path: Path, out: Path, form: str) -> None:
    patient = tmp_path / "P1"
    write(tumour(6), form, patient / "2024-01-15" / f"a{FORMS[form]}")
    write(of_tissues(tumour(5), "ED", "ET"), form, patient / "2024-02-15" / f"b{FORMS[form]}")
    asked = cli("track", patient, "-o", out, "--no-report")
    assert asked.code == 3
    assert asked.err.count("\n") == 1
    assert "2024-02-15 has no segment of necrotic tumour core" in asked.err
    assert "--schema brats2023" in asked.err
    assert cli("track", patient, "-o", out, "--no-report", "--schema", "brats2023").code == 0
    with (out / "P1" / "volumes.csv").open() as stream:
        volumes = {(row["visit"], row["region"]): float(row["volume_ml"]) for row in csv.DictReader(stream)}
    voxel_ml = GRID.voxel_ml
    assert volumes["2024-01-15", "WT"] == pytest.approx(12**3 * voxel_ml)
    assert volumes["2024-02-15", "WT"] == pytest.approx((10**3 - 2**3) * voxel_ml)
    assert volumes["2024-02-15", "NCR"] == 0


def test_segments_without_a_known_name_are_told_by_number_only_where_asked(tmp_path: Path) -> None:
    path = write(tumour(), "slicer", tmp_path / "a.seg.nrrd")
    path.write_bytes(re.sub(rb"(Segment0_Name:=).*|Segment0_Tags:=.*\n", rb"\1something", path.read_bytes()))
    assert read_mask(path, "brats2023", None, lambda: regions_of("glioma")).segmentation.labels.data.any()
    for schema in ("auto", SCHEMAS["brats2023"]):  # as of the other visits
        with pytest.raises(InputError, match="something"):
            read_mask(path, schema, None, lambda: regions_of("glioma"))
