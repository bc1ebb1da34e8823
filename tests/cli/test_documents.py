"""README and docs: commands the program accepts and runs, Python that runs, links that lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_studies import GRID, Outcome, change, write_case, write_nifti

from brats_seg.cli.commands import build_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {"demo", "phantom", "train", "crossval", "models"}
"""Commands that have tests of their own and take minutes; their lines are parsed here, not run."""
TABLE = """patient,visit,date,lesion,compartment,long_mm,short_mm
P1,v1,2024-01-01,A,enhancing,20,10
P1,v2,2024-03-01,A,enhancing,30,15
"""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    return [shlex.split(line, comments=True)[1:] for line in text.splitlines() if line.startswith("brats-seg ")]


LINES: dict[tuple[str, ...], str] = {}
"""Each command once, with the first page it stands on."""
for place in PAGES:
    for words in commands(place):
        LINES.setdefault(tuple(words), place.stem)
COMMANDS = [
    pytest.param(line, id=f"{page}: {' '.join(line)}", marks=[pytest.mark.slow] * (line[0] in ("track", "explore")))
    for line, page in LINES.items()
]


@pytest.fixture(scope="module")
def drawn_desk(tmp_path_factory: pytest.TempPathFactory, drawn_case: Path) -> Path:
    """The files of every command; not to be changed."""
    root = tmp_path_factory.mktemp("pages") / "desk"
    one = Path(shutil.copytree(drawn_case, root / "case"))
    for visit, brighter in (("2024-01-10", 1.0), ("2024-03-10", 1.5)):
        for path in write_case(root / "patients" / "sub-1" / visit, name="sub-1").iterdir():
            change(path, lambda data, factor=brighter: data * np.float32(factor))
    labels = np.zeros(GRID.shape, np.uint8)
    labels[20:30, 20:30, 20:30], labels[22:28, 22:28, 22:28], labels[24:26, 24:26, 24:26] = 2, 4, 1
    mask = write_nifti(labels, GRID.affine, root / "masks" / "case_dseg.nii.gz")
    (mask.parent / "case_dseg.json").write_text(json.dumps({"LabelSchema": "brats2021"}))
    (root / "table.csv").write_text(TABLE)
    data = Path(shutil.copytree(one, root / "data" / "case"))
    for path in mask.parent.iterdir():
        shutil.copyfile(path, data / path.name.replace("dseg", "seg"))
    return root


@pytest.fixture
def desk(drawn_desk: Path, tmp_path: Path) -> dict[str, str]:
    """What the words of the pages in capitals stand for."""
    root = Path(shutil.copytree(drawn_desk, tmp_path / "desk"))
    return {
        "STUDY": str(root / "case"),
        "STUDIES": str(root / "data"),
        "DATASET": str(root / "data"),
        "PATIENT": str(root / "patients" / "sub-1"),
        "COHORT": str(root / "patients"),
        "MASK": str(root / "masks" / "case_dseg.nii.gz"),
        "A": str(root / "masks"),
        "B": str(root / "data"),
        "TABLE.csv": str(root / "table.csv"),
        "MEASUREMENTS.csv": str(root / "table.csv"),
        "OUT": str(tmp_path / "out"),
    }


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_of_the_pages(cli, line: tuple[str, ...], desk: dict[str, str], model: Path) -> None:
    build_parser().parse_args(line)
    if line[0] in ELSEWHERE or "--sequence" in line:  # which takes a DICOM exam: tests/cli/test_cli_dicom.py
        return
    words = [desk.get(word, word) for word in line]
    if line[0] in ("segment", "track"):
        words += ["--model", str(model), "--no-report"]
    ended: Outcome = cli(*words)
    assert ended.code == 0, ended.err


@pytest.mark.slow
@pytest.mark.usefixtures("model_of_the_package")
@pytest.mark.parametrize("code", [pytest.param(code, id=p.stem) for p in PAGES for code in blocks(p, "python")])
def test_python_of_the_pages(code: str, desk: dict[str, str]) -> None:
    for word, path in desk.items():
        code = re.sub(rf'"{re.escape(word)}(/[^"]*)?"', lambda found, path=path: repr(path + (found[1] or "")), code)
    exec(compile(code, "page", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90
