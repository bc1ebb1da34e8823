"""A model of another disease is a folder: from scans to the report, a course and an evaluation, without any other."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_studies import Outcome, write_nifti, write_scan
from heads import TUMOUR_MM, head_grid, head_image, points_of
from meningioma import SPACING_MM, write_meningioma

from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.core.visit import Visit
from brats_seg.models import card

pytestmark = pytest.mark.slow

GRID = head_grid("LPS", spacing_mm=(SPACING_MM,) * 3)
RADII_MM = {"ses-1": 13.0, "ses-2": 17.0}
DAYS = {"ses-1": "2024-01-10", "ses-2": "2024-05-10"}
DISTANCE_MM = np.linalg.norm(points_of(GRID) - TUMOUR_MM, axis=-1)


@pytest.fixture(scope="module")
def meningioma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of the model; no other is installed."""
    root = tmp_path_factory.mktemp("models")
    (root / "installed").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "BUILT_IN", root / "installed")
        card.regions_of.cache_clear()
        yield write_meningioma(root / "meningioma")
    card.regions_of.cache_clear()


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two visits of all four sequences; the tumour is bright in T1CE, and grows."""
    folder = tmp_path_factory.mktemp("patients") / "sub-1"
    words = dict(zip(SEQUENCES, ("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR"), strict=True))
    rng = np.random.default_rng(1)
    for visit, radius in RADII_MM.items():
        for sequence in SEQUENCES:
            image = head_image(GRID, sequence)
            noise = rng.normal(scale=3.0, size=GRID.shape).astype(np.float32)
            image = image.with_data(np.where(image.data > 0, image.data + noise, 0))
            if sequence is MRSequence.T1CE:
                image = image.with_data(np.where(radius > DISTANCE_MM, np.float32(1000), image.data))
            write_scan(image, folder / visit / "anat" / f"sub-1_{visit}_{words[sequence]}.nii.gz")
    rows = ["session_id\tacq_time", *(f"{visit}\t{day}" for visit, day in DAYS.items())]
    (folder / "sub-1_sessions.tsv").write_text("\n".join(rows) + "\n")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def true_ml(visit: str) -> float:
    return float((RADII_MM[visit] > DISTANCE_MM).sum()) * GRID.voxel_ml


def test_segment(cli: Callable[..., Outcome], meningioma: Path, patient: Path, out: Path) -> None:
    done = cli("segment", patient / "ses-1", "-o", out, "--model", meningioma)
    assert (done.code, done.err) == (0, "")
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    visit = Visit.load(folder)
    assert visit.segmentation.regions.names == ("MEN",) and set(np.unique(visit.segmentation.labels.data)) == {0, 5}
    assert visit.measurements.volume("MEN").volume_ml == pytest.approx(true_ml("ses-1"), rel=0.1)
    assert set(json.loads((folder / "run.json").read_text())["inputs"]) == {"t1", "t1ce"}
    assert "FLAIR" not in done.out
    page = (folder / f"{folder.name}_report.html").read_text()
    assert "Meningioma" in page and "FLAIR" not in page and "whole tumour" not in page
    assert "kept" in cli("segment", patient / "ses-1", "-o", out, "--model", meningioma, "--resume").out


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory, meningioma: Path, patient: Path) -> Path:
    from brats_seg.cli import main

    out = tmp_path_factory.mktemp("followed") / "out"
    assert main(["track", str(patient), "-o", str(out), "--model", str(meningioma), "-q"]) == 0
    return out


def test_track(followed: Path) -> None:
    folder = followed / "sub-1"
    course = json.loads((folder / "course.json").read_text())
    assert course["criteria"] == "rano-hgg" and course["disease"] == "enhancing"
    assert [(row["visit"], row["region"], row["lesion"], row["relation"]) for row in rows(folder / "lesions.csv")] == [
        ("ses-1", "MEN", "M1", "first"),
        ("ses-2", "MEN", "M1", "same"),
    ]
    (change,) = (r for r in rows(folder / "change.csv") if (r["lesion"], r["against"]) == ("", "baseline"))
    assert float(change["change_ml"]) == pytest.approx(true_ml("ses-2") - true_ml("ses-1"), rel=0.15)
    overall = [r["category"] for r in rows(folder / "responses.csv") if r["compartment"] == "overall"]
    assert overall == ["baseline", "baseline", "PD", "PD"]
    growth = json.loads((folder / "growth.json").read_text())["growth"]
    assert [entry["region"] for entry in growth] == ["MEN"]


def test_the_pages_of_a_course_speak_of_no_other_disease(followed: Path) -> None:
    page = (followed / "sub-1" / "sub-1_timeline.html").read_text()
    assert "MEN, meningioma" in page and "M: lesions of the meningioma (MEN)" in page
    told = re.sub('base64,[^"]*', "", page)
    assert not any(words in told for words in ("WT", "(ET)", "whole tumour", "FLAIR,"))


def test_a_course_is_resumed(cli: Callable[..., Outcome], followed: Path, meningioma: Path, patient: Path) -> None:
    again = cli("track", patient, "-o", followed, "--model", meningioma, "--resume", "--no-report", "-v")
    assert again.code == 0 and "ses-1: kept from before" in again.out


def test_the_card_says_which_criteria_and_diseases_there_are(
    cli: Callable[..., Outcome], meningioma: Path, patient: Path, out: Path
) -> None:
    wrong = cli("track", patient, "-o", out, "--model", meningioma, "--criteria", "rano-lgg")
    assert wrong.code == 2 and "rano-hgg or mrano, not rano-lgg" in wrong.err and not out.exists()


def test_label_maps_that_exist_are_read_by_what_lies_beside_them(
    cli: Callable[..., Outcome], followed: Path, meningioma: Path, patient: Path, out: Path
) -> None:
    given = ["--segmentations", followed / "segmentations", "--model", meningioma, "--no-report"]
    done = cli("track", patient, "-o", out, *given)
    assert (done.code, done.err) == (0, "")
    volumes = [[r["volume_ml"] for r in rows(place / "sub-1" / "volumes.csv")] for place in (followed, out)]
    assert volumes[0] == volumes[1]
    wrong = cli("track", patient, "-o", out / "again", *given, "--disease", "mixed")
    assert wrong.code == 2 and "MEN as enhancing" in wrong.err


@pytest.mark.parametrize("schema", ["menrt", "auto"])
def test_evaluate(cli: Callable[..., Outcome], followed: Path, tmp_path: Path, out: Path, schema: str) -> None:
    for visit, radius in RADII_MM.items():
        number = {"menrt": 1, "auto": 5}[schema]
        labels = np.where(radius > DISTANCE_MM, number, 0).astype(np.uint8)
        path = write_nifti(labels, GRID.affine, tmp_path / "ref" / f"sub-1_{visit}_dseg.nii.gz")
        if schema == "auto":
            path.with_name(f"sub-1_{visit}_dseg.json").write_text('{"Labels": {"5": "MNG"}}')
    done = cli("evaluate", followed / "segmentations", tmp_path / "ref", "-o", out, "--schema-references", schema, "-q")
    assert (done.code, done.err) == (0, "")
    cases = rows(out / "cases.csv")
    assert {(row["region"], row["case"]) for row in cases} == {("MEN", "sub-1_ses-1"), ("MEN", "sub-1_ses-2")}
    assert all(float(row["dice"]) > 0.9 for row in cases)
