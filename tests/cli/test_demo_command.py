"""``brats-seg demo``: three visits, segmented and followed, found beside true."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cli_studies import Outcome
from glioma import REGIONS
from test_cli_track import GROWTH, write_dates, write_visit

from brats_seg.cli.demo import comparison
from brats_seg.phantom import demo
from brats_seg.phantom.dataset import DatasetOptions

Cli = Callable[..., Outcome]
TRUTH_ML: Mapping[str, float] = {"WT": 20.6, "TC": 7.2, "ET": 5.8}


def write_heads(options: DatasetOptions, output: Path, *, resume: bool, tick: Callable[[str], None] | None) -> None:
    """A small stand-in for phantoms, which take a minute."""
    assert options.patients == 1 and options.visits == len(GROWTH) and tick is not None
    patient = output / "sub-001"
    if patient.exists():
        assert resume
        return
    for number, (visit, size) in enumerate(GROWTH.items()):
        write_visit(patient, visit, size=size, shift_mm=4.0 * number)
        truth = {"truth_ml": dict(TRUTH_ML), "date": "2024-01-10"}
        (patient / visit / "phantom.json").write_text(json.dumps(truth))
    write_dates(patient, list(GROWTH))


@pytest.mark.slow
@pytest.mark.usefixtures("model_of_the_package")
def test_demo_says_found_and_true_of_every_visit(cli: Cli, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "write_dataset", write_heads)
    outcome = cli("demo", "-o", out, "--seed", "3")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("20.6 ml") == len(GROWTH)
    assert len(list((out / "results").glob("*_ses-1/*_report.html"))) == 1
    timeline = out / "results" / "sub-001" / "sub-001_timeline.html"
    assert timeline.is_file() and str(timeline) in outcome.out
    monkeypatch.chdir(out.parent)
    again = cli("demo", "-o", out.name, "--seed", "3", "--overwrite", "--json")
    assert again.code == 0, again.err
    for page in (again.json["report"], again.json["timeline"]):
        assert page.startswith(f"{out.name}/results/")  # as it was asked for
        assert Path(page).is_file()
    assert [visit["truth_ml"] for visit in again.json["visits"]] == [dict(TRUTH_ML)] * len(GROWTH)
    assert all(visit["found_ml"]["WT"] > 0 for visit in again.json["visits"])


@pytest.mark.slow
@pytest.mark.usefixtures("model_of_the_package")
def test_native_demo_begins_with_dicom_and_tells_dice(cli: Cli, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_one(options: DatasetOptions, output: Path, **_: object) -> None:
        assert (options.visits, options.space, options.skull) == (1, "native", True)
        write_visit(output / "sub-001", "ses-1", size=1.0)
        truth = {"truth_ml": dict(TRUTH_ML), "date": "2024-01-10"}
        (output / "sub-001" / "ses-1" / "phantom.json").write_text(json.dumps(truth))

    monkeypatch.setattr(demo, "write_dataset", write_one)
    outcome = cli("demo", "--native", "-o", out, "--seed", "3")
    assert outcome.code == 0, outcome.err
    assert "Dice" in outcome.out.splitlines()[0]
    report = next((out / "results").rglob("*_report.html"))
    assert str(report) in outcome.out
    assert len(list((out / "scans" / "dicom-3").rglob("*.dcm"))) > 40
    written = cli("demo", "--native", "-o", out, "--seed", "3", "--overwrite", "--json")
    dice = written.json["visits"][0]["dice"]
    assert 0 < dice["WT"] < dice["TC"] <= 1  # the model finds the core alone
    assert written.json["timeline"] is None


def test_what_is_far_from_the_truth_is_said_in_one_sentence() -> None:
    good = demo.DemoVisit("ses-1", "2024-01-10", {"WT": 20.0, "TC": 0.0}, {"WT": 23.0, "TC": 0.05})
    bad = demo.DemoVisit("ses-2", "2024-03-10", {"WT": 20.0, "TC": 6.7}, {"WT": 15.0, "TC": 10.3})
    lines = comparison([good, bad], REGIONS)
    assert lines[1].split()[-5:] == ["23.0", "ml", "20.0", "ml", "+15%"] and lines[2].endswith("-")
    assert lines[-1] == (
        "The model is more than 20% off the truth for whole tumour at 2024-03-10 (-25%), "
        "tumour core at 2024-03-10 (+54%)."
    )
    assert len(comparison([good], REGIONS)) == 3
