"""``brats-seg phantom`` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_studies import Outcome, entries

from brats_seg.phantom import dataset
from tests.phantom.small_phantoms import make_small

Cli = Callable[..., Outcome]


def test_an_object_is_made_and_measured(cli: Cli, out: Path, tmp_path: Path) -> None:
    made = cli("phantom", "sphere", "-o", out, "--diameter-mm", 20, "--spacing-mm", 1, 1, 5, "--orientation", "ras")
    assert made.code == 0, made.err
    assert "4.1888 ml exactly" in made.out
    measured = cli("measure", out / "sphere_dseg.nii.gz", "-o", tmp_path / "m", "--json")
    assert measured.code == 0, measured.err
    again = cli("phantom", "sphere", "-o", out)
    assert again.code == 6 and "--overwrite" in again.err
    other = cli("phantom", "pair", "-o", out, "--overwrite", "--json")
    assert other.code == 0 and other.json["truth"]["object"]["distance_mm"] == 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cube",), "invalid choice"),
        (("sphere", "--patients", "3"), "--patients does nothing for sphere"),
        (("sphere", "--sides-mm", "1", "2", "3"), "--sides-mm does nothing for sphere"),
        (("--overwrite",), "--resume"),
        (("--patients", "0"), "--patients 0"),
        (("--visits", "1000"), "--visits 1000"),
        (("--seed", "-1"), "--seed -1"),
        (("--jobs", "0"), "argument --jobs"),
        (("--kind", "stroke"), "invalid choice"),
        (("--defects", "ghosts"), "no defect 'ghosts'"),
        (("--defects", "missing,missing"), "named twice"),
        (("sphere", "--diameter-mm", "-3"), "--diameter-mm must be"),
        (("sphere", "--orientation", "LLS"), "--orientation 'LLS'"),
        (("shell", "--hollow-mm", "30"), "does not fit"),
        (("pair", "--distance-mm", "5"), "touch"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error_and_nothing_is_written(
    cli: Cli, out: Path, arguments: tuple[str, ...], words: str
) -> None:
    ended = cli("phantom", *arguments, "-o", out)
    assert ended.code == 2
    assert words in ended.err
    assert entries(out) == []


def test_too_large_voxels_are_said_so(cli: Cli, out: Path) -> None:
    ended = cli("phantom", "sphere", "-o", out, "--diameter-mm", 2, "--spacing-mm", 9, 9, 9, "--offset-mm", 4, 4, 4)
    assert ended.code == 3 and "smaller voxels" in ended.err
    assert entries(out) == []


def test_other_results_are_not_replaced(cli: Cli, case: Path, blind_model: Path, out: Path) -> None:
    assert cli("segment", case, "-o", out, "--model", blind_model).code == 0
    ended = cli("phantom", "sphere", "-o", out / "case", "--overwrite")
    assert ended.code == 6 and "another command's results" in ended.err


@pytest.mark.slow
def test_patients_are_made_and_resumed(cli: Cli, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []

    def noted(*arguments: Any, jobs: int, **more: Any) -> dataset.DatasetSummary:
        given.append(jobs)
        return write_dataset(*arguments, jobs=1, **more)

    write_dataset = dataset.write_dataset
    monkeypatch.setattr(dataset, "write_dataset", noted)
    make_small(monkeypatch)
    options = ("--visits", 1, "--seed", 7, "--kind", "none")
    one = cli("phantom", "-o", out, *options, "--patients", 1)
    assert one.code == 0, one.err
    assert "1 patient: 1 visit made" in one.out
    again = cli("phantom", "-o", out, *options, "--patients", 1, "--resume")
    assert "0 visits made, 1 was there" in again.out
    two = cli("phantom", "-o", out, *options, "--patients", 2, "--resume", "--jobs", 2, "--json")
    assert (two.code, two.json["written"], two.json["kept"]) == (0, 1, 1)
    assert given == [1, 1, 2]


def test_help_names_every_object_and_defect(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli("phantom", "--help")
    text = capsys.readouterr().out
    from brats_seg.cli.phantom import DEFECTS, KINDS, OBJECTS
    from brats_seg.phantom.defects import ALL
    from brats_seg.phantom.reference import KINDS as OBJECT_KINDS
    from brats_seg.phantom.script import PatientKind

    assert tuple(kind.value for kind in ALL) == DEFECTS
    assert {kind.value for kind in PatientKind} == set(KINDS)
    assert OBJECT_KINDS == OBJECTS
    assert all(word in text for word in (*DEFECTS, *OBJECTS, *KINDS))
