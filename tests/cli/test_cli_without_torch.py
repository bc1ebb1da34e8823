"""The road from scans to reports on the CPU loads neither PyTorch nor MONAI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_studies import change, entries, write_case

SCRIPT = """
import json, sys
sys.modules["torch"] = sys.modules["monai"] = None
import brats_seg.imaging.consistency as consistency
import brats_seg.track.boundary_shift.frame as frame
consistency.BRAIN_ML = (200.0, 2000.0)
frame.SPACING_MM = (2.0, 3.0)
from brats_seg.cli import main
for line in json.loads(sys.argv[1]):
    assert main(line) == 0, line
"""


@pytest.mark.slow
def test_check_segment_measure_and_track(model: Path, tmp_path: Path) -> None:
    patient = tmp_path / "in" / "patient"
    for day in ("2024-01-10", "2024-03-10"):
        write_case(patient / day, name="scan")
    for path in (patient / "2024-03-10").iterdir():
        change(path, lambda values: values * np.float32(1.01))  # another scan
    day, network = "2024-01-10", ("--model", model, "--device", "cpu")
    label_map = tmp_path / "segment" / day / f"{day}_dseg.nii.gz"
    lines: tuple[tuple[object, ...], ...] = (
        ("check", patient / day),
        ("segment", patient / day, *network, "-o", tmp_path / "segment"),
        ("measure", label_map, "-o", tmp_path / "measure"),
        ("track", patient, *network, "-o", tmp_path / "track"),
    )
    told = json.dumps([[str(word) for word in line] for line in lines])
    done = subprocess.run([sys.executable, "-c", SCRIPT, told], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    checked, _, rest = done.stdout.partition("done in")
    assert "flair" in checked.lower() and "ET" in rest
    assert label_map.is_file() and label_map.with_name(f"{day}_report.html").is_file()
    assert any(name.endswith("_timeline.html") for name in entries(tmp_path / "track"))
