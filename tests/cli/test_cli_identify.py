"""Scans whose names and headers say nothing, on the command line: named by their images, or asked about."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_studies import Outcome, entries, write_nifti

sys.path += [str(Path(__file__).resolve().parents[1] / room) for room in ("files", "imaging")]

from dicom_files import write_study
from real_scans import study_of

from brats_seg.core.grid import Volume
from brats_seg.core.study import MRSequence

Cli = Callable[..., Outcome]
SILENT = {"ScanningSequence": "RM", "RepetitionTime": None, "EchoTime": None, "InversionTime": None}
"""Attributes of an exam from which everything was removed."""


@pytest.fixture(scope="module")
def real(real_study: Path) -> dict[MRSequence, Volume]:
    """Four sequences of a real study at 4 mm."""
    return study_of(real_study, step=4)


@pytest.mark.slow
def test_files_without_names_are_taken_by_their_images(
    cli: Cli, real: dict[MRSequence, Volume], tmp_path: Path
) -> None:
    folder = tmp_path / "in" / "case"
    for number, sequence in enumerate((MRSequence.FLAIR, MRSequence.T1CE, MRSequence.T1, MRSequence.T2)):
        write_nifti(real[sequence].data, real[sequence].affine, folder / f"scan{number}.nii.gz")
    outcome = cli("check", folder, "--json")
    assert outcome.code == 0, outcome
    row = outcome.json["studies"][0]
    assert row["files"] == {
        **{"t1": "scan2.nii.gz", "t1ce": "scan1.nii.gz", "t2": "scan3.nii.gz", "flair": "scan0.nii.gz"}
    }
    assert any("taken by their images" in warning for warning in row["warnings"])
    assert cli("check", folder, "--id", "one", "--json").json["studies"][0]["study"] == "one"


@pytest.mark.slow
def test_images_that_do_not_tell_are_asked_about(
    segment: Cli, real: dict[MRSequence, Volume], tmp_path: Path, out: Path
) -> None:
    folder, rng, t1 = tmp_path / "in" / "case", np.random.default_rng(1), real[MRSequence.T1]
    for number in range(2):  # one scan and its like: either could be the one with contrast
        noise = rng.normal(0, 0.02 * t1.data.max(), t1.data.shape) * (t1.data != 0)
        write_nifti((t1.data + noise).astype(np.float32), t1.affine, folder / f"scan{number}.nii.gz")
    outcome = segment(folder)
    assert outcome.code == 3
    assert "--t1ce" in outcome.err and "looks like" in outcome.err
    assert entries(out) == []


@pytest.mark.slow
def test_an_exam_without_attributes_is_taken_by_its_images(
    cli: Cli, real: dict[MRSequence, Volume], tmp_path: Path
) -> None:
    volumes = {s: Volume(np.rint(v.data).clip(0), v.grid) for s, v in real.items()}
    exam = write_study(tmp_path / "in" / "exam", volumes, described=False, attributes=SILENT)
    outcome = cli("check", exam, "--json")
    assert outcome.code == 0, outcome
    row = outcome.json["studies"][0]
    assert row["files"] == {"t1": "series 2", "t1ce": "series 3", "t2": "series 4", "flair": "series 5"}
    assert all(series["confidence"] == "likely" for series in row["series"])
    (t1ce,) = (series for series in row["series"] if series["used_as"] == "t1ce")
    assert any("its image looks like T1CE" in words for words in t1ce["evidence"])
    asked = cli("check", exam, "--sequence", "t1=3", "--sequence", "t1ce=2", "--json").json["studies"][0]
    assert asked["files"]["t1"] == "series 3"
