"""``brats-seg respond`` from the argument list to the files."""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import pytest

from brats_seg.cli import respond
from brats_seg.core.errors import InputError, OutputError, UsageError
from brats_seg.longitudinal.criteria import CRITERIA
from brats_seg.longitudinal.rano import Disease

MEASUREMENTS = """patient,visit,date,lesion,compartment,long_mm,short_mm,volume_ml
P1,v1,2024-01-29,L1,enhancing,20,20,4
P1,v2,2024-02-26,L1,enhancing,25,20,5.6
P1,v3,2024-04-22,L1,enhancing,20,10,1.4
P1,v4,2024-06-01,L1,enhancing,20,10,1.4
"""
CLINICAL = """patient,date,event,value
P1,2024-01-01,radiotherapy_end,
"""


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    respond.add_parser(parser.add_subparsers())
    args = parser.parse_args(["respond", *map(str, arguments)])
    return int(args.run(args))


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    measurements, clinical = tmp_path / "m.csv", tmp_path / "c.csv"
    measurements.write_text(MEASUREMENTS, encoding="utf-8")
    clinical.write_text(CLINICAL, encoding="utf-8")
    return measurements, clinical


def test_a_course_is_judged_and_summarised(
    tables: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measurements, clinical = tables
    out = tmp_path / "deep" / "out"
    assert run(measurements, "--clinical", clinical, "--criteria", "rano2", "-o", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["responses.csv", "responses.json"]
    with (out / "responses.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if (row["measure"], row["compartment"]) == ("2d", "overall")]
    assert [(row["category"], row["status"]) for row in rows] == [
        ("baseline", ""), ("PD", "refuted"), ("PR", "confirmed"), ("PR", "confirmed"),
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert "disease enhancing (chosen: lesion L1 enhances at v1)" in printed
    assert "2d: best response PR (confirmed) on 2024-04-22, no progression" in printed


def test_progression_is_dated(tables: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tables[0], "-o", tmp_path / "out") == 0
    assert "progression on 2024-02-26" in capsys.readouterr().out


def test_existing_results_are_kept_unless_overwritten(tables: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(tables[0], "-o", out)
    before = (out / "responses.csv").read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        run(tables[0], "--criteria", "mrano", "-o", out)
    assert (out / "responses.csv").read_bytes() == before
    run(tables[0], "--criteria", "mrano", "-o", out, "--overwrite")
    assert b",mrano," in (out / "responses.csv").read_bytes()


def test_bad_input_leaves_nothing(tables: tuple[Path, Path], tmp_path: Path) -> None:
    measurements, _ = tables
    measurements.write_text(MEASUREMENTS.replace("25,20", "20,25"), encoding="utf-8")
    with pytest.raises(InputError, match=r"m.csv, line 3"):
        run(measurements, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path / "absent.csv", "-o", tmp_path / "out")
    with pytest.raises(UsageError, match="is a folder"):
        run(tmp_path, "-o", tmp_path / "out")
    (tmp_path / "latin.csv").write_bytes(b"patient,visit\n\xff\xfe\xe4,1\n")
    with pytest.raises(InputError, match="UTF-8"):
        run(tmp_path / "latin.csv", "-o", tmp_path / "out")
    with pytest.raises(OutputError, match="is a file"):
        run(tables[1], "-o", tables[1])


def test_choices_are_those_of_the_machine() -> None:
    assert set(respond.CRITERIA_NAMES) == set(CRITERIA)
    assert set(respond.DISEASES) == {disease.value for disease in Disease}


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = ("pandas", "scipy", "torch", "brats_seg.longitudinal.rano")
    code = f"import sys, brats_seg.cli.respond; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
