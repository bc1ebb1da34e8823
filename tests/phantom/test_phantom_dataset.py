"""Data sets of phantoms: BIDS names every loader reads, whole or not at all, the same for the same seed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from brats_seg.core.errors import OutputError, UsageError
from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.explore.explore import explore
from brats_seg.files.find import find_studies
from brats_seg.files.match_labels import find_label_files
from brats_seg.files.nifti import read_label_map, read_volume
from brats_seg.files.sidecar import read_schema_sidecar
from brats_seg.phantom import dataset as phantom_dataset
from brats_seg.phantom.course import BRATS_GRID
from brats_seg.phantom.dataset import (
    DatasetOptions,
    DatasetSummary,
    defect_of,
    visit_config,
    write_dataset,
)
from brats_seg.phantom.defects import ALL, DefectKind
from brats_seg.phantom.script import PatientKind
from tests.phantom.small_phantoms import make_small, write_small_course

pytestmark = pytest.mark.slow  # whole phantoms take seconds

TWO = DatasetOptions(patients=2, visits=2, seed=3, kind=PatientKind.NONE)


@pytest.fixture(autouse=True)
def small_brains(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.fixture
def one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page with a picture of every visit takes longer than the visits."""
    monkeypatch.setattr("brats_seg.phantom.page.PICTURES", 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetSummary:
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        return write_dataset(TWO, tmp_path_factory.mktemp("phantoms") / "set")


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_loader_reads_the_folder_as_it_is(dataset: DatasetSummary) -> None:
    studies = list(find_studies(dataset.folder))
    assert [study.id for study in studies] == [f"sub-00{p}_ses-0{v}" for p in (1, 2) for v in (1, 2)]
    for study in studies:
        assert tuple(study.files) == SEQUENCES
        assert study.labels is not None and not study.ignored and not study.notes
        assert read_schema_sidecar(study.labels) is DEFAULT_SCHEMA
        assert read_label_map(study.labels).grid.same_as(read_volume(study.files[MRSequence.T1CE]).grid)
    assert [file.id for file in find_label_files(dataset.folder)] == [study.id for study in studies]


def test_the_truth_stands_beside_every_visit_and_patient(dataset: DatasetSummary) -> None:
    assert (dataset.written, dataset.kept) == (4, 0)
    visit = json.loads((dataset.folder / "sub-002" / "ses-01" / "phantom.json").read_text())
    assert visit["study"] == "sub-002_ses-01" and visit["truth_ml"]["WT"] == 0
    assert len(visit["outputs"]) == 4 + 3  # scans; label map with its two sidecars
    patient = json.loads((dataset.folder / "sub-002" / "phantom.json").read_text())
    assert len(patient["visits"]) == 2
    sessions = (dataset.folder / "sub-002" / "sub-002_sessions.tsv").read_text().splitlines()
    assert sessions[0].split("\t")[:3] == ["session_id", "acq_time", "days"]
    assert sessions[1].split("\t")[:3] == ["ses-01", visit["date"], "0"]
    table = (dataset.folder / "phantoms.tsv").read_text().splitlines()
    assert len(table) == 1 + 4 and table[1].startswith("sub-001_ses-01\tsub-001\t")
    assert json.loads((dataset.folder / "dataset_description.json").read_text())["BIDSVersion"]
    html = dataset.page.read_text()
    assert html.count("<img") == 4 and "sub-002_ses-02" in html
    assert "http" not in html.replace("http-equiv", "")


def test_explore_finds_nothing_broken(dataset: DatasetSummary) -> None:
    found = explore(dataset.folder)
    assert [finding.text for finding in found.broken] == []
    assert {study.patient for study in found.studies} == {"sub-001", "sub-002"}
    assert all(study.schema is DEFAULT_SCHEMA for study in found.studies)


def test_two_processes_write_what_one_does(
    dataset: DatasetSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(dataset.folder, tmp_path / "set"))
    shutil.rmtree(folder / "sub-002" / "ses-02")
    monkeypatch.setattr(phantom_dataset, "write_course", write_small_course)
    done = write_dataset(TWO, folder, jobs=2, resume=True)
    assert (done.written, done.kept) == (1, 3)
    assert hashes(folder) == hashes(dataset.folder)


@pytest.mark.usefixtures("one_picture")
def test_the_same_seed_gives_the_same_files_and_another_does_not(dataset: DatasetSummary, tmp_path: Path) -> None:
    one = DatasetOptions(patients=1, visits=2, seed=3, kind=PatientKind.NONE)
    again = write_dataset(one, tmp_path / "again").folder
    before, after = hashes(dataset.folder / "sub-001"), hashes(again / "sub-001")
    assert before == after
    other = DatasetOptions(patients=1, visits=1, seed=4, kind=PatientKind.NONE)
    scan = "sub-001/ses-01/anat/sub-001_ses-01_T2w.nii.gz"
    assert hashes(write_dataset(other, tmp_path / "other").folder)[scan] != hashes(dataset.folder)[scan]


def test_resuming_mends_what_is_not_whole_keeps_the_rest_and_goes_on(
    dataset: DatasetSummary, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = Path(shutil.copytree(dataset.folder, tmp_path / "set"))
    before = hashes(folder)
    first = folder / "sub-001" / "ses-01" / "anat" / "sub-001_ses-01_FLAIR.nii.gz"
    kept = folder / "sub-001" / "ses-02" / "anat" / "sub-001_ses-02_FLAIR.nii.gz"
    first.write_bytes(first.read_bytes()[:1000])
    age = kept.stat().st_mtime_ns
    done = write_dataset(TWO, folder, resume=True)
    assert (done.written, done.kept) == (1, 3)
    assert hashes(folder) == before and kept.stat().st_mtime_ns == age
    request.getfixturevalue("one_picture")
    longer = DatasetOptions(patients=3, visits=2, seed=3, kind=PatientKind.NONE)
    done = write_dataset(longer, folder, resume=True)
    assert (done.written, done.kept) == (2, 4)
    (folder / "sub-001" / "ses-01" / "phantom.json").unlink()
    (folder / "sub-001" / "ses-01" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        write_dataset(longer, folder, resume=True)


def test_folders_with_something_else_are_refused(dataset: DatasetSummary, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="--resume"):
        write_dataset(TWO, dataset.folder)
    with pytest.raises(OutputError, match="seed 3 and not 5"):
        write_dataset(DatasetOptions(patients=2, visits=2, seed=5, kind=PatientKind.NONE), dataset.folder, resume=True)
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(OutputError, match="no phantoms"):
        write_dataset(TWO, tmp_path, resume=True)


def test_a_visit_that_dies_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("brats_seg.phantom.files._write_labels", die)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(DatasetOptions(patients=1, visits=1, kind=PatientKind.NONE), tmp_path / "set")
    assert not list((tmp_path / "set").glob("sub-*/*ses*")) and not list((tmp_path / "set").glob("sub-*/.*"))


@pytest.mark.usefixtures("one_picture")
def test_defects_are_dealt_in_turn_done_and_written_down(tmp_path: Path) -> None:
    options = DatasetOptions(patients=3, visits=2, seed=1, kind=PatientKind.NONE, defects=ALL)
    dealt = [defect_of(options, number, index) for number in (1, 2, 3) for index in (0, 1)]
    assert dealt == list(ALL)
    folder = write_dataset(options, tmp_path / "set").folder
    for kind, place in zip(ALL, sorted(folder.glob("sub-*/ses-*")), strict=True):
        record = json.loads((place / "phantom.json").read_text())
        assert [defect["defect"] for defect in record["defects"]] == [kind.value]
        scans = [p for p in (place / "anat").iterdir() if p.name.endswith(("w.nii.gz", "FLAIR.nii.gz"))]
        assert len(scans) == (3 if kind is DefectKind.MISSING else 4)
    assert "defect" in (folder / "phantoms.html").read_text()
    found = explore(folder)
    kinds = {(finding.study, finding.kind) for finding in found.findings}
    assert ("sub-003_ses-02", "damaged") in kinds
    assert ("sub-003_ses-01", "missing") in kinds
    assert ("sub-002_ses-01", "intensity") in kinds  # cut off at one value


def test_random_defects_hit_about_half_of_the_visits() -> None:
    options = DatasetOptions(patients=100, visits=2, defects=ALL, defects_at_random=True)
    dealt = [defect_of(options, number, index) for number in range(1, 101) for index in (0, 1)]
    assert 70 < sum(kind is not None for kind in dealt) < 130
    assert set(dealt) == {None, *ALL}


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"visits": 0}, {"visits": 100}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(wrong))}"):
        DatasetOptions(**wrong)


def test_places_of_visits_are_drawn_for_each_and_hold_the_brain() -> None:
    native = DatasetOptions(space="native")
    first, again, other = (visit_config(native, 1, index) for index in (0, 0, 1))
    assert first.grid.same_as(again.grid) and not first.grid.same_as(other.grid)
    assert set(first.sequence_grids) == set(SEQUENCES)
    assert visit_config(DatasetOptions(), 1, 0).grid.same_as(BRATS_GRID)
    head = visit_config(DatasetOptions(skull=True), 1, 0)
    assert head.grid.shape[2] > BRATS_GRID.shape[2]
    np.testing.assert_allclose(head.centre_mm(), visit_config(DatasetOptions(), 1, 0).centre_mm())
