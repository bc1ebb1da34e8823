"""What all commands have in common: words that are almost right, groups of the help, completion, old spellings."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_studies import label_array, write_nifti

from brats_seg.cli.commands import COMMANDS, build_parser
from brats_seg.cli.common import time_left


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("segmnt", "x"), "did you mean segment?"),
        (("models", "imprt"), "did you mean import?"),
        (("segment", "x", "-o", "y", "--ovewrite"), "did you mean --overwrite?"),
        (("measure", "x", "-o", "y", "--schema", "brats_2023"), "did you mean brats2023?"),
        (("measure", "x", "-o", "y", "--schema", "nonsense"), "choose from auto"),
        (("track", "x", "-o", "y", "--jobs", "0"), "--jobs"),
    ],
)
def test_a_word_that_is_almost_right_is_recognised(cli, arguments: tuple[str, ...], meant: str) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert meant in done.err


def test_the_help_lists_every_command_in_a_group() -> None:
    text = build_parser().format_help()
    for name in COMMANDS:
        assert text.count(f"\n  {name} ") == 1
    assert [title for title in ("use:", "study data:", "models:", "test:") if title not in text] == []


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (action,) = (found for found in parser._actions if isinstance(found, argparse._SubParsersAction))
    return dict(action.choices)


def test_an_option_means_the_same_wherever_it_is() -> None:
    meanings: dict[str, set[object]] = {}
    for parser in commands(build_parser()).values():
        for action in parser._actions:
            for flag in action.option_strings:
                if flag in ("--device", "--jobs", "--json", "--quiet", "--verbose", "--overwrite", "--model"):
                    meanings.setdefault(flag, set()).add((action.type, str(action.default), action.nargs))
    assert [flag for flag, found in meanings.items() if len(found) != 1] == []
    assert len(meanings) == 7


def test_info_names_cores_memory_and_model(cli) -> None:
    found = cli("info", "--json").json
    assert found["cores"] >= 1 and found["memory_free_gib"] > 0 and found["expected_seconds"] > 0
    assert found["model"].startswith("model glioma ")
    assert f"{found['cores']} that may be used" in cli("info").out


@pytest.mark.parametrize(("told", "threads"), [(None, "1"), ("3", "3")])
def test_openblas_gets_one_thread_unless_told_otherwise(told: str | None, threads: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {"OPENBLAS_NUM_THREADS": told} if told else {}
    script = "import os\nfrom brats_seg.cli import main\nmain(['models'])\nprint(os.environ['OPENBLAS_NUM_THREADS'])"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == threads


def test_a_shell_that_asks_gets_commands(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    line, answer = "brats-seg se", tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_IFS": "\n"}
    code = "import sys; sys.argv = ['brats-seg']; from brats_seg.cli import main; main()"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, check=True)
    assert answer.read_text().split() == ["segment"]


@pytest.mark.parametrize(
    ("done", "total", "seconds", "words"),
    [
        (0, 9, 50.0, ""),
        (9, 9, 50.0, ""),
        (1, 2, 10.0, ""),
        (1, 5, 10.0, "; about 40 s left"),
        (10, 40, 100.0, "; about 5 min left"),
        (10, 1010, 100.0, "; about 2 h 47 min left"),
    ],
)
def test_time_left(done: int, total: int, seconds: float, words: str) -> None:
    assert time_left(done, total, seconds) == words


def test_measure_takes_many_and_collects_their_tables(cli, tmp_path: Path, out: Path) -> None:
    masks = [write_nifti(label_array(1, 2, 3), np.eye(4), tmp_path / f"{name}_seg.nii.gz") for name in "ab"]
    bad = tmp_path / "c_seg.nii.gz"
    bad.write_bytes(b"no scan")
    done = cli("measure", *masks, bad, "-o", out, "--schema", "brats2023", "--json")
    assert done.code == 3
    assert [row["study"] for row in done.json["results"]] == ["a", "b"]
    assert len(done.json["failed"]) == 1 and str(bad) in done.err
    studies = [line.split(",")[0] for line in (out / "volumes.csv").read_text().splitlines()]
    assert list(dict.fromkeys(studies)) == ["study", "a", "b"]
    assert cli("measure", *masks, "-o", out, "--id", "x").code == 2
    (tmp_path / "other").mkdir()
    twin = write_nifti(label_array(1), np.eye(4), tmp_path / "other" / "a_seg.nii.gz")
    twice = cli("measure", masks[0], twin, "-o", tmp_path / "more", "--schema", "brats2023")
    assert twice.code == 3 and "--id" in twice.err


def test_measure_leaves_small_lesions_out_of_the_counts(cli, tmp_path: Path, out: Path) -> None:
    labels = label_array(3)
    labels[20, 15, 14] = 3
    mask = write_nifti(labels, np.eye(4), tmp_path / "a_seg.nii.gz")
    options = ("-o", out, "--schema", "brats2023", "--overwrite", "--json")
    everything = cli("measure", mask, *options).json
    large = cli("measure", mask, *options, "--min-lesion-ml", "0.002").json
    assert everything["lesions"]["ET"] == 2 and large["lesions"]["ET"] == 1
    assert everything["volumes_ml"] == large["volumes_ml"]
    assert "not counted as lesions" in (out / "a" / "a_volumes.json").read_text()
    assert cli("measure", mask, *options, "--min-lesion-ml", "0.001").json["lesions"]["ET"] == 2
