"""``track`` of visits as they come from the scanner: DICOM, with skull, masks and series named by the user."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_studies import Outcome, write_nifti

sys.path += [str(Path(__file__).resolve().parents[1] / room) for room in ("files", "segment")]

from dicom_files import Exam, write_study
from heads_with_skull import SPACING_MM, brain_of, head, head_grid

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.study import MRSequence
from brats_seg.imaging import upright
from brats_seg.segment import strip
from brats_seg.track import follow
from brats_seg.track.align import NO_MOTION

Cli = Callable[..., Outcome]
USED = (MRSequence.T1, MRSequence.T1CE)
DAYS = ("2024-01-15", "2024-02-01")
STEP = 2


def thin(volume: Volume) -> Volume:
    """Every second voxel: 6 mm are enough to see a head."""
    data = volume.data[::STEP, ::STEP, ::STEP]
    return Volume(data, Grid(data.shape, volume.affine @ np.diag([STEP] * 3 + [1.0])))


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two exams of a head with skull; nothing in their headers tells T1 from T1CE. Not to be changed."""
    place, rng = tmp_path_factory.mktemp("in") / "P7", np.random.default_rng(4)
    for day in DAYS:
        images = {
            s: v.with_data(np.rint(10 * v.data + rng.normal(0, 10, v.data.shape)).clip(0))
            for s, v in ((sequence, thin(head().images[sequence])) for sequence in USED)
        }
        exam = Exam(date=day.replace("-", ""))
        write_study(place / day, images, exam=exam, described=False, attributes={"ContrastBolusAgent": ""})
    return place


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mask = thin(Volume(brain_of(head_grid()).astype(np.uint8), head_grid()))
    return write_nifti(mask.data, mask.affine, tmp_path_factory.mktemp("masks") / "brain.nii.gz")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brains in the voxels of the heads, which are upright and do not move."""
    monkeypatch.setattr(strip, "SPACING_MM", STEP * SPACING_MM)
    monkeypatch.setattr(strip, "find_turn", lambda _: upright.Turn(np.eye(3), ""))
    monkeypatch.setattr(follow, "align_visits", lambda *_: NO_MOTION)


@pytest.fixture
def track(cli: Cli, blind_model: Path, out: Path) -> Cli:
    def run(place: Path, *rest: object) -> Outcome:
        return cli("track", place, "-o", out, "--model", blind_model, "--no-report", "--no-dicom", *rest)

    return run


def masks(brain: Path, days: tuple[str, ...] = DAYS) -> list[str]:
    return [word for day in days for word in ("--brain-mask", f"{day}={brain}")]


@pytest.mark.slow
def test_heads_are_followed_with_the_series_and_masks_that_are_named(
    track: Cli, patient: Path, brain: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brats_seg.run.identify.identify", lambda *_: {})  # as of images that do not tell
    stopped = track(patient, *masks(brain), "--json")
    assert "--sequence t1ce=2" in stopped.err
    named = ("--sequence", "t1ce=3", "--sequence", f"{DAYS[0]}:t1=none", "--sequence", f"{DAYS[1]}:t1=none")
    outcome = track(patient, *named, *masks(brain), "--json")
    assert outcome.code == 0, outcome
    assert [visit["visit"] for visit in outcome.json["patients"][0]["visits"]] == list(DAYS)
    records = [(out / "segmentations" / f"P7_{day}" / "run.json").read_text() for day in DAYS]
    assert all("the mask given" in record for record in records)
    assert all('"t1ce": {' in record and '"t1": {' not in record for record in records)
    assert "kept from before" in track(patient, *named, *masks(brain), "--resume").out


@pytest.mark.slow
def test_masks_beside_heads_are_offered_for_the_visits_whose_brain_was_found(
    cli: Cli, blind_model: Path, out: Path, brain: Path, tmp_path: Path
) -> None:
    scan = thin(head().images[MRSequence.T1CE])
    for number, visit in enumerate(("visit1", "visit2")):
        folder = tmp_path / "P8" / visit
        noise = np.random.default_rng(number).normal(0, 1, scan.data.shape)
        write_nifti((scan.data + noise).astype(np.float32), scan.affine, folder / "p_t1ce.nii.gz")
        shutil.copy(brain, folder / "p_t1ce_brainmask.nii.gz")
    outcome = cli(
        *("track", tmp_path / "P8", "-o", out, "--model", blind_model, "--no-report"),
        *("--brain-mask", f"visit2={brain}"),
    )
    assert outcome.code == 0, outcome
    assert "  visit1: not used: p_t1ce_brainmask.nii.gz; --brain-mask visit1=FILE takes" in outcome.out
    assert outcome.out.count("brainmask") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--sequence", "t1ce=3", "--sequence", "2023-01-01:t1=2"), "2024-01-15"),
        (("--sequence", ":t1ce=3"), "before the colon"),
        (("--sequence", "2024-01-15:t1ce"), "t1ce=5"),
        (("--sequence", "t1=2", "--sequence", "t1=3"), "twice"),
        (("--brain-mask", "mask.nii.gz"), "2024-01-31=brain.nii.gz"),
        (("--sequence", "t1ce=3", "--brain-mask", "nobody=mask.nii.gz"), "2024-02-01"),
        (("--sequence", "t1ce=3", "--brain-mask", "2024-01-15=a", "--brain-mask", "2024-01-15=b"), "twice"),
    ],
)
def test_what_is_named_for_no_visit_is_refused(
    track: Cli, patient: Path, out: Path, options: tuple[str, ...], word: str
) -> None:
    outcome = track(patient, *options)
    assert outcome.code == 2
    assert word in outcome.err
    assert not out.exists() or not any(out.iterdir())


@pytest.mark.slow
def test_masks_and_series_are_named_for_one_patient(track: Cli, patient: Path, tmp_path: Path, brain: Path) -> None:
    small = Volume(np.ones((16, 16, 16)), Grid((16, 16, 16), np.diag([10.0, 10.0, 10.0, 1.0])))
    for name in ("P1", "P2"):
        for day in DAYS:
            exam = Exam(patient=name, date=day.replace("-", ""))
            write_study(tmp_path / "in" / name / day, {MRSequence.T1CE: small}, exam=exam)
    assert track(tmp_path / "in", *masks(brain)).code == 2
    assert "elsewhere" in track(patient, "--sequence", "t1ce=3", *masks(brain.with_name("elsewhere.nii.gz"))).err
