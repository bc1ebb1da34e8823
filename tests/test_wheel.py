"""What ``pip install`` brings: the wheel, installed where the working tree is out of reach."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from cli_studies import write_case

import brats_seg
from brats_seg.core.study import MRSequence

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
MAX_MB = 40


def output_of(*command: object, folder: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made as pip does, without the compression, from a copy of what is read: nothing is left in the working tree."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("brats_seg", "experiments", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    made = tmp_path_factory.mktemp("dist")
    build = (
        "import sys; from setuptools.build_meta import build_wheel\n"
        "build_wheel(sys.argv[1], {'--build-option': '--compression=stored'})"
    )
    output_of(sys.executable, "-c", build, made, folder=source)
    (path,) = made.glob("brats_seg-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its ``brats-seg`` in an environment of its own, which borrows this one's libraries and nothing of this tree."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-compile",
    )
    output_of(*pip, wheel, folder=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # a path file is not read for further path files, so an editable installation stays behind
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = output_of(python, "-c", "import brats_seg; print(brats_seg.__file__)", folder=folder)
    assert Path(found.strip()) == packages / "brats_seg" / "__init__.py"
    return folder / "bin" / "brats-seg"


def test_the_wheel_holds_the_package_alone_and_is_small(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"brats_seg"}
    kept = {path.relative_to(ROOT).as_posix() for path in (ROOT / "brats_seg").rglob("*.py")}
    assert kept <= set(names)
    beside = {"py.typed", "report/templates/base.html.j2", "exchange/bundle/inference.json"}
    assert {f"brats_seg/{name}" for name in beside} <= set(names)
    assert wheel.stat().st_size <= MAX_MB * 1e6


def test_version_and_info(installed: Path, tmp_path: Path) -> None:
    assert brats_seg.__version__ in output_of(installed, "--version", folder=tmp_path)
    assert "glioma" in output_of(installed, "info", folder=tmp_path)


def test_a_study_is_segmented_with_the_model_that_came_along(installed: Path, tmp_path: Path) -> None:
    write_case(tmp_path / "head", sequences=(MRSequence.T1CE, MRSequence.FLAIR))
    output_of(installed, "segment", "head", "-o", "out", folder=tmp_path)
    made = tmp_path / "out" / "head"
    with (made / "head_volumes.csv").open(newline="") as file:
        assert "WT" in {row["region"] for row in csv.DictReader(file)}
    assert (made / "head_dseg.nii.gz").is_file() and (made / "head_report.html").is_file()
