"""Exploring a data set: what is found, what is called broken, and what is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from glioma import ET, TC, WT
from heads import head_grid, head_image, head_labels, points_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brats_seg.cli import main
from brats_seg.core.grid import Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.study import SEQUENCES, MRSequence, Timepoint
from brats_seg.explore import explore as module
from brats_seg.explore.explore import explore, sample_cells, scan_facts, thin
from brats_seg.explore.facts import (
    PLACE_SHAPE,
    Exploration,
    ScanFacts,
    StudyFacts,
    enhancing_share,
)
from brats_seg.explore.figures import place_shares
from brats_seg.explore.findings import FAR_OUT, judge, likenesses, robust_z
from brats_seg.explore.page import tables
from brats_seg.files.nifti import read_volume
from brats_seg.imaging import consistency
from brats_seg.imaging.boxes import bounding_box
from brats_seg.imaging.brain import head_mask
from brats_seg.imaging.likeness import LIKE_FROM, SIGNATURE_SIDE, signature

GRID = head_grid("LPS", spacing_mm=(3.0, 3.0, 3.0))
TRUE_ML = {region: 4 / 3 * np.pi * mm**3 / 1000 for region, mm in ((WT, 17), (TC, 12))}


def folds(seed: int) -> np.ndarray:
    """Structure of 10 mm that belongs to one made-up person: a factor around 1."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(GRID.shape), 1.5)
    return 1 + 0.25 * noise / noise.std()


def person(folder: Path, seed: int, *, sequences: Iterable[MRSequence] = SEQUENCES, scale: float = 1.0) -> Path:
    """A study folder with four scans and a label map in the numbers of 2021."""
    folder.mkdir(parents=True)
    factor = np.clip(folds(seed), 0.2, 2.0)
    for sequence in sequences:
        image = head_image(GRID, sequence).data * factor * scale
        nib.save(nib.Nifti1Image(image.astype(np.float32), GRID.affine), folder / f"{folder.name}_{sequence.value}.nii")
    save_labels(head_labels(GRID).data, folder)
    return folder


def save_labels(numbers_2023: np.ndarray, folder: Path, affine: np.ndarray = GRID.affine) -> None:
    numbers = np.where(numbers_2023 == 3, 4, numbers_2023).astype(np.uint8)
    nib.save(nib.Nifti1Image(numbers, affine), folder / f"{folder.name}_seg.nii")


@pytest.fixture(autouse=True)
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heads of these tests are small, and their sequences differ in little but scale."""
    monkeypatch.setattr(consistency, "BRAIN_ML", (200.0, 300.0))
    monkeypatch.setattr(consistency, "ALMOST_SAME_IMAGE", 0.9995)
    monkeypatch.setattr(consistency, "check_identity", lambda *_: ())


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three different people."""
    place = tmp_path_factory.mktemp("people")
    for k in range(3):
        person(place / f"BraTS2021_0000{k}", k)
    return place


@pytest.fixture
def dataset(people: Path, tmp_path: Path) -> Path:
    """The same people, whose files may be changed."""
    return shutil.copytree(people, tmp_path / "set")


def texts(found: Exploration, kind: str) -> dict[str, str]:
    return {finding.study: finding.text for finding in found.findings if finding.kind == kind}


def test_a_sound_data_set(people: Path) -> None:
    told: list[str] = []
    found = explore(people, tick=told.append)
    assert found.findings == ()
    assert told == ["BraTS2021_00000", "BraTS2021_00001", "BraTS2021_00002", "comparing the studies"]
    study = found.studies[0]
    assert study.schema is SCHEMAS["brats2021"]
    assert study.labels is not None
    assert set(study.labels.counts) == {1, 2, 4}
    volumes = study.volumes_ml()
    for region, true_ml in TRUE_ML.items():
        assert volumes[region] == pytest.approx(true_ml, rel=0.1)  # voxels of 3 mm
    # a shell from 7 to 12 mm around necrosis
    assert enhancing_share(volumes) == pytest.approx(1 - (7 / 12) ** 3, abs=0.05)
    assert study.scans[MRSequence.T1].head_ml == pytest.approx(252, rel=0.05)
    assert study.labels.outside_share == 0
    assert len(found.likenesses) == 3
    assert max(pair.correlation for pair in found.likenesses) < LIKE_FROM


def test_the_heat_map_lies_where_the_tumours_are(people: Path) -> None:
    shares = place_shares(explore(people).studies)
    assert shares.max() == 1.0
    centre = np.array(ndimage.center_of_mass(shares)) + 0.5
    # the tumour at (12, -9, 6) mm in an ellipsoid of half axes (38, 44, 36) mm
    expected = (np.array([12, -9, 6]) / np.array([38, 44, 36]) + 1) / 2 * np.array(PLACE_SHAPE)
    assert np.abs(centre - expected).max() < 1.5


@pytest.mark.slow
def test_the_same_head_under_another_name_is_a_leak(dataset: Path) -> None:
    shutil.copytree(dataset / "BraTS2021_00001", dataset / "BraTS2021_00009")
    for path in sorted((dataset / "BraTS2021_00009").iterdir()):
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        if "seg" not in path.name:
            # scaled, rounded to 8 bits, noisy, stored the other way round: no byte is equal
            rng = np.random.default_rng(5)
            noisy = data / data.max() * 200 + rng.normal(0, 3, data.shape) * (data > 0)
            data = np.round(noisy).clip(0, 255).astype(np.uint8)
        step = np.eye(4)
        step[0, 0], step[0, 3] = -1, data.shape[0] - 1
        flipped = nib.Nifti1Image(np.ascontiguousarray(data[::-1]), image.affine @ step)
        nib.save(flipped, path.with_name(path.name.replace("00001", "00009")))
        path.unlink()
    found = explore(dataset)
    (leak,) = [finding for finding in found.broken if finding.kind == "leak"]
    assert leak.study == "BraTS2021_00001"
    assert "BraTS2021_00009" in leak.text
    assert found.likenesses[0].correlation > 0.9 > LIKE_FROM > found.likenesses[1].correlation
    # two visits of one patient may look alike
    for k, name in enumerate(("BraTS-GLI-00007-000", "BraTS-GLI-00007-001")):
        folder = dataset / f"BraTS2021_0000{(1, 9)[k]}"
        for path in folder.iterdir():
            path.rename(path.with_name(path.name.replace(folder.name, name)))
        folder.rename(dataset / name)
    assert explore(dataset, schema="brats2021").broken == ()


def test_the_same_file_twice(dataset: Path) -> None:
    one, other = (dataset / f"BraTS2021_0000{k}" for k in (0, 1))
    shutil.copy(one / f"{one.name}_t2.nii", other / f"{other.name}_flair.nii")
    assert texts(explore(dataset), "twice") == {
        other.name: f"FLAIR is the very file of T2 in {one.name}. Remove one of the two."
    }


def test_damaged_missing_and_misplaced_files(dataset: Path, tmp_path: Path) -> None:
    names = [f"BraTS2021_0000{k}" for k in range(3)]
    (dataset / names[0] / f"{names[0]}_t1.nii").write_bytes(b"no scan")
    (dataset / names[1] / f"{names[1]}_flair.nii").unlink()
    (dataset / names[1] / f"{names[1]}_seg.nii").unlink()
    save_labels(head_labels(GRID).data, dataset / names[2], affine=GRID.affine @ np.diag([1, 1, 2, 1]))
    odd = dataset / "odd"
    odd.mkdir()
    shutil.copy(dataset / names[0] / f"{names[0]}_t2.nii", odd / "something.nii")
    found = explore(dataset)
    broken = {(finding.study, finding.kind) for finding in found.broken}
    assert broken == {(names[0], "damaged"), (names[2], "geometry"), ("odd", "study")}
    assert found.findings[: len(found.broken)] == found.broken
    missing = [finding.text for finding in found.findings if finding.kind == "missing"]
    assert missing == ["no file for FLAIR", "no label map that can be read, though other studies have one"]
    assert all(str(tmp_path) not in finding.text for finding in found.findings)
    studies = tables(found)["studies"].set_index("study")
    assert studies.loc[names[0], "sequences"] == "t1ce t2 flair"
    assert pd.isna(studies.loc[names[1], "wt_ml"])
    assert studies.loc[names[2], "wt_ml"] == pytest.approx(2 * TRUE_ML[WT], rel=0.05)


@pytest.mark.slow
def test_label_numbers(dataset: Path) -> None:
    # without a year in any name: all values together say 2021, also for a study without enhancing tumour
    for k, folder in enumerate(sorted(dataset.iterdir())):
        for path in folder.iterdir():
            path.rename(path.with_name(path.name.replace(folder.name, f"p{k}")))
        folder.rename(dataset / f"p{k}")
    labels = head_labels(GRID).data.copy()
    labels[labels == 3] = 2
    save_labels(labels, dataset / "p0")
    found = explore(dataset)
    assert {study.schema.name for study in found.studies if study.schema} == {"brats2021"}
    assert found.studies[0].volumes_ml()[ET] == 0
    assert found.broken == ()
    # with a 3 as well, nothing is certain
    save_labels(np.zeros_like(labels), dataset / "p1")
    image = np.where(labels == 1, 3, labels)
    nib.save(nib.Nifti1Image(image, GRID.affine), dataset / "p2" / "p2_seg.nii")
    found = explore(dataset)
    assert [finding.study for finding in found.broken] == ["data set"]
    assert "{1, 2, 3}" in found.broken[0].text
    assert "--schema" in found.broken[0].text
    assert found.studies[0].volumes_ml() == {}
    assert "empty" in texts(found, "labels")["p1"]
    found = explore(dataset, schema="brats2021")
    assert texts(found, "labels")["p2"].startswith("its label map holds [3]")


def test_two_years_in_one_data_set(dataset: Path) -> None:
    folder = dataset / "BraTS2021_00002"
    new = dataset / "BraTS-GLI-00002-000"
    for path in folder.iterdir():
        path.rename(path.with_name(path.name.replace(folder.name, new.name).replace("_", "-")))
    folder.rename(new)
    nib.save(nib.Nifti1Image(head_labels(GRID).data, GRID.affine), new / f"{new.name}-seg.nii")
    found = explore(dataset)
    assert found.broken == ()
    assert "brats2021 in 2, brats2023 in 1" in texts(found, "labels")["data set"]
    # 3 and 4 mean the same thing here, each in its own file
    assert len({round(study.volumes_ml()[ET], 6) for study in found.studies}) == 1


def test_labels_outside_the_head(dataset: Path) -> None:
    folder = dataset / "BraTS2021_00001"
    points = points_of(GRID)
    save_labels((np.linalg.norm(points - (45, 50, 0), axis=-1) < 15).astype(np.uint8), folder)
    text = texts(explore(dataset), "labels")[folder.name]
    assert "outside the head" in text


def test_one_scan_that_stands_out(tmp_path: Path) -> None:
    for k in range(8):
        person(tmp_path / "set" / f"p{k}", k, sequences=[MRSequence.T2], scale=80.0 if k == 3 else 1.0)
    found = explore(tmp_path / "set")
    assert set(texts(found, "intensity")) == {"p3"}
    assert "the largest value in T2" in texts(found, "intensity")["p3"]


def test_scans_of_a_study_that_do_not_belong_together(tmp_path: Path) -> None:
    """By the checks of ``check`` and ``segment``; a copy that was rescaled is one image."""
    for k in range(2):
        person(tmp_path / "set" / f"p{k}", k)
    scan = tmp_path / "set" / "p1" / "p1_t1.nii"
    other = nib.load(scan.with_name("p1_t1ce.nii"))
    nib.save(nib.Nifti1Image((np.asarray(other.dataobj) * 1.01).astype(np.float32), other.affine), scan)
    found = texts(explore(tmp_path / "set"), "consistency")
    assert list(found) == ["p1"] and "T1 and T1CE are one image" in found["p1"]


def test_robust_z() -> None:
    z = robust_z([*np.linspace(0, 1, 9), 40.0, np.nan])
    assert (np.abs(z[:9]) < 2).all()
    assert z[9] > FAR_OUT
    assert np.isnan(z[10])
    assert robust_z([1.0, 1.0, 1.0, 1.01]).max() < 1


def test_signatures_are_unit_vectors_and_cells_are_sampled_in_place() -> None:
    grid = head_grid("RAS", spacing_mm=(3, 3, 3))
    volume = head_image(grid, MRSequence.T1)
    head = head_mask(volume)
    box = bounding_box(head)
    vector = signature(volume.data[box], head[box])
    assert vector.shape == (SIGNATURE_SIDE**3,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)
    assert not signature(np.ones((5, 5, 5)), np.zeros((5, 5, 5), bool)).any()
    ramp = np.broadcast_to(np.arange(PLACE_SHAPE[0] * 2, dtype=np.uint8)[:, None, None], (64, 3, 50))
    assert (sample_cells(ramp)[:, 0, 0] // 2 == np.arange(PLACE_SHAPE[0])).all()


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["explore", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take longest, and have tests of their own."""
    monkeypatch.setattr("brats_seg.explore.figures.png_of", lambda _: b"a plot")


@pytest.mark.slow
def test_command(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    code, printed, error = command(capsys, dataset, "-o", out)
    assert code == 0
    assert error.splitlines()[1:4] == [f"[{n + 2}/6] explore: BraTS2021_0000{n}" for n in range(3)]
    assert printed.startswith("3 studies of 3 patients, 3 with a label map\n")
    names = ["explore.html", "findings.csv", "likenesses.csv", "run.json", "scans.csv", "studies.csv"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert len(pd.read_csv(out / "scans.csv")) == 12
    page = (out / "explore.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.split("</head>")[1].replace("data:", "")
    assert "Nothing is broken" in page
    assert str(tmp_path) not in page + (out / "run.json").read_text()
    assert command(capsys, dataset, "-o", out)[0] == 6
    monkeypatch.setattr("brats_seg.explore.figures.png_of", lambda _: b"a plot")
    (dataset / "BraTS2021_00001" / "BraTS2021_00001_t1.nii").write_bytes(b"no scan")
    code, printed, _ = command(capsys, dataset, "-o", out, "--overwrite", "--json")
    assert code == 3
    assert json.loads(printed)["findings"][0]["kind"] == "damaged"
    assert '<span class="bad">broken</span>' in (out / "explore.html").read_text()
    code, _, error = command(capsys, tmp_path / "nowhere", "-o", out, "--overwrite")
    assert code == 3
    assert "Check the spelling" in error


@pytest.mark.usefixtures("no_plots")
def test_a_data_set_of_which_nothing_can_be_read_has_a_page_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "case").mkdir(parents=True)
    (tmp_path / "data" / "case" / "case_seg.nii").write_bytes(b"no scan")
    code, printed, _ = command(capsys, tmp_path / "data", "-o", tmp_path / "out")
    assert code == 3 and "case" in printed
    assert '<span class="bad">broken</span>' in (tmp_path / "out" / "explore.html").read_text()


@pytest.mark.usefixtures("no_plots")
def test_scans_without_labels_make_a_page_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = person(tmp_path / "set" / "p1", 1, sequences=[MRSequence.FLAIR])
    (folder / "p1_seg.nii").unlink()
    code, printed, _ = command(capsys, tmp_path / "set", "-o", tmp_path / "out")
    assert code == 0
    assert "1 study of 1 patient, 0 with" in printed
    assert "Labels and volumes" not in (tmp_path / "out" / "explore.html").read_text()


@pytest.mark.usefixtures("no_plots")
def test_whatever_breaks_in_one_study_the_others_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("p1", "p2"):
        person(tmp_path / "set" / name, int(name[1]), sequences=[MRSequence.FLAIR])
    read = module.read_study

    def breaks(files: Timepoint, *rest: object) -> object:
        if files.id == "p1":
            raise RuntimeError("ITK ERROR:\nthe image is empty")
        return read(files, *rest)

    monkeypatch.setattr(module, "read_study", breaks)
    code, printed, _ = command(capsys, tmp_path / "set", "-o", tmp_path / "out", "-q", "--json")
    assert (code, json.loads(printed)["studies"]) == (3, 1)
    assert "unforeseen RuntimeError" in json.loads(printed)["findings"][0]["text"]


def _moved(volume: Volume) -> Volume:
    """The same head half a voxel further, one voxel cropped, with noise, in other units."""
    rng = np.random.default_rng(0)
    data = ndimage.shift(np.asarray(volume.data), (0.5, 0.5, 0.5), order=1)
    data = np.where(data > 0, 3.1 * data + rng.normal(0, 0.1 * data.std(), data.shape), 0).astype(np.float32)
    return Volume.from_affine(data[1:], volume.affine)


@pytest.mark.slow
def test_real_heads_are_told_apart(real_data: Path) -> None:
    change: Callable[[Volume], Volume]
    vectors = []
    for name, change in (("BraTS2021_01481", _same), ("BraTS2021_01481", _moved), ("BraTS2021_01477", _same)):
        volume = change(read_volume(real_data / "studies" / name / f"{name}_t1ce.nii.gz"))
        thinned = thin(volume)
        vectors.append(scan_facts(MRSequence.T1CE, volume, thinned, head_mask(thinned), "").signature)
    assert vectors[0] @ vectors[1] > LIKE_FROM + 0.05
    assert vectors[0] @ vectors[2] < LIKE_FROM - 0.2


def _same(volume: Volume) -> Volume:
    return volume


ODD = st.sampled_from([0.0, -1.0, 1.0, 1.0, 5.0, float("nan"), float("inf"), 1e-300])


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.tuples(*[ODD] * 5), min_size=1, max_size=10))
def test_scans_of_any_brightness_can_be_compared(values: list[tuple[float, ...]]) -> None:
    """Rounded z-scores have a median of 0, constant scans no spread, and a data set may hold one study."""
    studies = [
        StudyFacts(
            id=f"case{k}",
            scans={
                MRSequence.T1: ScanFacts(
                    *(MRSequence.T1, GRID, f"{k:064x}", 0.0, 0.0, maximum, median, p99, variation, 100, 0.0, head_ml),
                    signature=np.zeros(SIGNATURE_SIDE**3, np.float32),
                )
            },
            missing=(),
            labels=None,
            skull_stripped=True,
            skull_evidence="",
        )
        for k, (maximum, median, p99, variation, head_ml) in enumerate(values)
    ]
    assert all(finding.text for finding in judge(studies, likenesses(studies)[0]))
