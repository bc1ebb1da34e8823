"""The measurement report, in small."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cli_studies import write_model

from brats_seg.phantom.reference import ObjectOptions
from experiments.change import pairs, study
from experiments.volumetry import bench, trials, verify
from experiments.volumetry.__main__ import main
from experiments.volumetry.bench import BenchSize
from experiments.volumetry.trials import Condition, TrialSize
from tests.phantom.small_phantoms import SMALL, make_coarse


@pytest.mark.slow
def test_the_report_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_coarse(monkeypatch)
    monkeypatch.setattr(bench, "GRIDS", ((1.0, 1.0, 3.0),))
    monkeypatch.setattr(bench, "OBJECTS", (ObjectOptions("sphere", diameter_mm=8),))
    tiny = verify.VerifySize(
        BenchSize(samples=4, shifts=2, noisy=2, pairs=2),
        TrialSize(patients=1, repeated=1, conditions=(Condition("3 mm", 3.0),)),
        1,
        "quick",
    )
    monkeypatch.setattr(verify, "CHANGE_CONDITIONS", ("standard",))
    monkeypatch.setattr(study, "CONDITIONS", {"standard": replace(study.STANDARD, diameters_mm=(20.0,))})
    # brains of half the size
    monkeypatch.setattr(pairs, "AnatomyConfig", lambda: SMALL.anatomy)
    monkeypatch.setattr(study, "make_head", pairs.make_head.__wrapped__)  # without its cache, which others read
    monkeypatch.setattr(trials, "PhantomConfig", partial(replace, SMALL))
    monkeypatch.setattr(trials, "BRAIN_REACH_MM", tuple(reach / 2 for reach in trials.BRAIN_REACH_MM))
    monkeypatch.setattr(trials, "CORE_ML", (1.0, 3.0))
    monkeypatch.setattr("brats_seg.imaging.consistency.BRAIN_ML", (100.0, 2000.0))
    monkeypatch.setattr(verify, "QUICK", tiny)
    out = tmp_path / "out"
    main(["-o", str(out), "--quick", "--model", str(write_model(tmp_path / "blind", bias=-30.0))])
    lines = [line for line in capsys.readouterr().out.splitlines() if "partial-volume-aware" in line]
    assert "met" in lines[0] and "NOT" not in lines[0]
    written = {path.name for path in out.iterdir()}
    assert {"phantom_verify.html", "phantom_results.md", "objects.csv", "repeatability.csv", "run.json"} <= written
    assert "1 fresh phantoms" in (out / "phantom_results.md").read_text()
    assert "<img" in (out / "phantom_verify.html").read_text()
    assert json.loads((out / "run.json").read_text())["outputs"]
