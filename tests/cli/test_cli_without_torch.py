"""The road from scans to reports on the CPU loads neither PyTorch nor MONAI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_studies import change, entries, write_case

SCRIPT = """
import sys
sys.modules["torch"] = sys.modules["monai"] = None
import brats_seg.imaging.consistency as consistency
import brats_seg.track.boundary_shift.frame as frame
consistency.BRAIN_ML = (200.0, 2000.0)
frame.SPACING_MM = (2.0, 3.0)
from brats_seg.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in") / "patient"
    for day in ("2024-01-10", "2024-03-10"):
        write_case(folder / day, name="scan")
    for path in (folder / "2024-03-10").iterdir():
        change(path, lambda values: values * np.float32(1.01))  # another scan
    return folder


@pytest.mark.slow
def test_segment_and_measure(patient: Path, model: Path, tmp_path: Path) -> None:
    visit = patient / "2024-01-10"
    assert "done in" in run("segment", visit, "--model", model, "--device", "cpu", "-o", tmp_path / "out")
    made = tmp_path / "out" / visit.name
    assert {f"{visit.name}_report.html", f"{visit.name}_dseg.nii.gz"} <= set(entries(made))
    assert "ET" in run("measure", made / f"{visit.name}_dseg.nii.gz", "-o", tmp_path / "measured")


@pytest.mark.slow
def test_check(patient: Path) -> None:
    assert "flair" in run("check", patient / "2024-01-10").lower()


@pytest.mark.slow
def test_track(patient: Path, model: Path, tmp_path: Path) -> None:
    run("track", patient, "--model", model, "--device", "cpu", "-o", tmp_path / "out")
    assert any(name.endswith("_timeline.html") for name in entries(tmp_path / "out"))
