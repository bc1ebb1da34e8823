"""``brats-seg respond`` from the argument list to the files."""

from __future__ import annotations

import argparse
import csv
import errno
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from brats_seg.cli import options, respond
from brats_seg.core.errors import InputError, OutputError, UsageError
from brats_seg.response.criteria import CRITERIA
from brats_seg.response.responses import Disease

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
    respond.add_options(parser)
    return respond.run(parser.parse_args([*map(str, arguments)]))


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


def test_a_full_disk_leaves_both_results_as_they_were(
    tables: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(tables[0], "-o", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    class Full(io.BufferedWriter):
        def flush(self) -> None:
            if self.tell() and b"csv" in Path(self.raw.name).name.encode():
                raise OSError(errno.ENOSPC, "full")
            super().flush()

    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **given: (
        Full(io.FileIO(path, "xb")) if mode == "xb" else real(path, mode, **given)))  # fmt: skip
    with pytest.raises(OutputError, match="disk is full"):
        run(tables[0], "--criteria", "mrano", "-o", out, "--overwrite")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


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
    assert set(options.CRITERIA_NAMES) == set(CRITERIA)
    assert set(options.DISEASES) == {disease.value for disease in Disease}


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = ("pandas", "scipy", "torch", "brats_seg.response.assess")
    code = f"import sys, brats_seg.cli.respond; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def printed_of(tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, *options: str, events: str = "") -> str:
    (tmp_path / "m.csv").write_text(MEASUREMENTS.split("\n", 1)[0] + "\n" + rows, encoding="utf-8")
    if events:
        (tmp_path / "c.csv").write_text(CLINICAL.split("\n", 1)[0] + "\n" + events, encoding="utf-8")
        options = (*options, "--clinical", str(tmp_path / "c.csv"))
    assert run(tmp_path / "m.csv", "-o", tmp_path / "out", "--overwrite", *options) == 0
    return capsys.readouterr().out


def test_each_episode_is_printed_with_what_decided_and_what_a_reader_must_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"L": 30, "K": 30, "J": 25, "M": 20}
    rows = "".join(f"P,v1,2024-01-01,{name},enhancing,{size},{size},\n" for name, size in names.items())
    rows += "".join(f"P,v2,2024-03-01,{name},enhancing,{size},{size},\n" for name, size in names.items() if name != "M")
    rows += "P,v2,2024-03-01,M,enhancing,60,60,\n"
    rows += "".join(f"P,v3,2024-05-01,{name},enhancing,40,40,\n" for name in names)
    rows += "".join(f"P,v4,2024-07-01,{name},enhancing,40,40,\n" for name in names)
    out = printed_of(tmp_path, capsys, rows, events="P,2024-05-02,treatment_start,\n")
    assert "reader needed: lesion M grew from 20 x 20 mm to 40 x 40 mm (2024-05-01)" in out
    assert "2d: best response SD on 2024-03-01, progression on 2024-05-01: sum of products" in out
    assert "most by lesion J, which grew from 25 x 25 mm to 40 x 40 mm" in out
    second = out[out.index("baseline 2024-05-01") :]
    assert "2d: best response SD on 2024-07-01, no progression" in second
    data = json.loads((tmp_path / "out" / "responses.json").read_text(encoding="utf-8"))
    episodes = data["patients"][0]["episodes"]
    assert [entry["best"]["2d"]["category"] for entry in episodes] == ["SD", "SD"]
    assert episodes[0]["reader_needed"][0]["words"].startswith("lesion M grew")


def test_a_new_lesion_is_named_in_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (
        "P,v1,2024-01-01,L,enhancing,20,20,\nP,v2,2024-03-01,L,enhancing,20,20,\nP,v2,2024-03-01,N,enhancing,22,14,\n"
    )
    assert "progression on 2024-03-01: new lesion N (22 x 14 mm)" in printed_of(tmp_path, capsys, rows)


def test_doubts_stand_at_the_top_and_in_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "P,v1,2024-01-01,L,enhancing,4.0,3.0,\nP,v2,2024-03-01,L,enhancing,6.0,5.0,\n"
    out = printed_of(tmp_path, capsys, rows)
    assert out.startswith("warning: m.csv: every diameter is below 10 mm")
    data = json.loads((tmp_path / "out" / "responses.json").read_text(encoding="utf-8"))
    assert "Are they in cm?" in data["warnings"][0]
    rows = "P,v1,2024-01-01,W,non_enhancing,60,50,\nP,v2,2024-03-01,W,non_enhancing,30,30,\n"
    assert "disease non_enhancing (a guess: nothing enhances up to v2" in printed_of(tmp_path, capsys, rows)
    out = printed_of(tmp_path, capsys, rows, "--criteria", "mrano")
    assert "no enhancing lesion is listed at any visit" in out and "best response SD" in out
    out = printed_of(tmp_path, capsys, rows, "--criteria", "rano-hgg", "--disease", "mixed")
    assert "percentages of mixed disease are not part of it" in out


def test_an_order_that_names_contradict_is_said_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "P,v2,2024-01-01,L,enhancing,30,30,\nP,v1,2024-03-01,L,enhancing,20,20,\n"
    out = printed_of(tmp_path, capsys, rows)
    assert "warning: m.csv: patient P: by their dates the visits were v2, v1, by their names v1, v2" in out
    with pytest.raises(InputError, match="patient P: without dates the rows are in the order v2, v1, and the names"):
        printed_of(tmp_path, capsys, rows.replace("2024-01-01", "").replace("2024-03-01", ""))
    assert "warning" not in printed_of(tmp_path, capsys, rows.replace("v2", "first").replace("v1", "second"))


def test_what_was_not_measured_is_named_in_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (
        "P,v1,2024-01-01,L,enhancing,30,30,\nP,v1,2024-01-01,K,enhancing,30,30,\nP,v2,2024-03-01,L,enhancing,30,30,\n"
    )
    out = printed_of(tmp_path, capsys, rows)
    assert "2d: cannot be judged: lesion K has no row at v2; write 0 and 0 if it is gone" in out


def test_lesions_of_single_studies_are_refused_with_the_way_to_go(tmp_path: Path) -> None:
    table = tmp_path / "lesions.csv"
    table.write_text("study,region,lesion,volume_ml,x_mm,y_mm,z_mm,long_mm,short_mm,slice,measurable,touches_border\n"
                     "P_v1,ET,1,4.0,0,0,0,20,20,5,true,false\n", encoding="utf-8")  # fmt: skip
    with pytest.raises(InputError, match=r"lists the lesions of single studies.*measurements.csv of brats-seg track"):
        run(table, "-o", tmp_path / "out")
