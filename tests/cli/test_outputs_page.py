"""``docs/outputs.md`` explains every file and column that the commands write, and none that they do not."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from cli_studies import change, label_array, write_nifti
from json_schema import schema_of
from test_cli_track import GROWTH, write_dates, write_visit

from brats_seg.files.visit_folder import VisitFile

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "outputs.md"
BY_KEY = frozenset({"alignments.json", "paired.json"})
"""Files that hold one entry for each checksum."""


def explained() -> dict[str, dict[str, bool]]:
    """By file: each column or key, and whether all three cells of its row are filled."""
    page: dict[str, dict[str, bool]] = {}
    for section in re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]:
        heading, _, body = section.partition("\n")
        rows = re.findall(r"^\| `([^`]+)` \|(.*)\|(.*)\|$", body, flags=re.M)
        assert len({name for name, *_ in rows}) == len(rows), heading
        page[heading.replace("`", "").strip()] = {name: bool(a.strip() and b.strip()) for name, a, b in rows}
    return page


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, model: Path, drawn_case: Path) -> Path:
    """One small run of each command, into a folder of its name."""
    from brats_seg.cli import main

    root = tmp_path_factory.mktemp("outputs")
    place, out = root / "in", root / "out"
    mask = write_nifti(label_array(1, 2, 4), np.eye(4), place / "masks" / "p_seg.nii.gz")
    for number, (visit, size) in enumerate(GROWTH.items()):
        write_visit(place / "cohort" / "sub-1", visit, size=size, shift_mm=4.0 * number)
    write_dates(place / "cohort" / "sub-1", list(GROWTH))
    runs: list[tuple[object, ...]] = [
        ("segment", drawn_case, "--model", model),
        ("prepare", drawn_case),
        ("measure", mask, "--schema", "brats2021"),
        ("track", place / "cohort", "--model", model),
        ("respond", out / "track" / "sub-1" / "measurements.csv"),
        ("evaluate", out / "segment", place / "truth", "--compare", place / "other",
         "--schema-references", "brats2023"),
    ]  # fmt: skip
    for command, *arguments in runs:
        if command == "evaluate":
            result = out / "segment" / "case" / "case_dseg.nii.gz"
            for target, shift in ((place / "truth" / "case" / "case_seg.nii.gz", 1), (place / "other" / "case", 2)):
                if target.suffix:
                    image = nib.load(result)
                    write_nifti(np.roll(np.asarray(image.dataobj), shift, axis=0), image.affine, target)
                else:
                    shutil.copytree(result.parent, target)
                    (target / "run.json").unlink()
                    change(target / result.name, lambda labels: np.roll(labels, 2, axis=0))
        assert main([str(command), *map(str, arguments), "-o", str(out / str(command))]) == 0, command
    return out


def files(written: Path) -> Iterator[tuple[str, Path]]:
    """Every file with the name it has on the page."""
    for path in sorted(written.rglob("*")):
        if path.is_dir():
            continue
        command = path.relative_to(written).parts[0]
        name = path.name.removeprefix("compared_")
        if command in ("segment", "prepare", "measure") or "segmentations" in path.parts:
            name = name.replace(f"{path.parent.name}_", "<study>_")
        elif command == "track":
            name = name.replace(f"{path.parent.name}_", "<patient>_")
        elif command == "evaluate" and name == "lesions.csv":
            name = "lesions.csv of evaluate"
        yield name, path


def names_in(path: Path, columns: set[str]) -> set[str]:
    """Columns of a table, or keys of a JSON file; keys of rows count where no table has a column of that name."""
    if path.suffix in (".csv", ".tsv"):
        with path.open(encoding="utf-8", newline="") as stream:
            return set(next(csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ",")))
    content: Any = json.loads(path.read_text(encoding="utf-8"))
    if path.name in BY_KEY:
        return {f"*.{key}" for entry in content.values() for key in entry}
    found = set(content)
    for key, value in content.items():
        if isinstance(value, list) and key != "GeneratedBy":  # BIDS says what that holds
            inner = {name for row in value if isinstance(row, dict) for name in row}
            found |= {f"{key}[].{name}" for name in (inner - columns if inner & columns else inner)}
    return found


@pytest.mark.slow
def test_every_column_is_explained_with_its_meaning_and_when_it_is_empty(written: Path) -> None:
    page = explained()
    columns = {name for file, rows in page.items() if ".csv" in file for name in rows}
    found: dict[str, set[str]] = {}
    for name, path in files(written):
        assert name in page, f"{name} is not on the page"
        if path.suffix in (".csv", ".tsv", ".json"):
            found.setdefault(name, set()).update(names_in(path, columns))
    for name, seen in found.items():
        assert seen - set(page[name]) == set(), f"{name}: not on the page"
        extra = {word for word in set(page[name]) - seen if "[]" not in word}
        assert extra == set(), f"{name}: on the page and not written"
        assert all(page[name].values()), f"{name}: a cell is empty"
    assert {name for name in page if name not in found and page[name]} == set(), "on the page and not written"


def schema(name: str) -> dict[str, Any]:
    return json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["visit", "course"])
def test_values_follow_their_schema(written: Path, name: str) -> None:
    found = sorted(written.rglob(f"{name}.json"))
    assert found
    for path in found:
        jsonschema.validate(json.loads(path.read_text()), schema(name), jsonschema.Draft202012Validator)


def test_the_schema_of_a_visit_is_that_of_its_types() -> None:
    written = schema("visit")
    head = {key: written[key] for key in ("$schema", "title")}
    assert written == {**head, **schema_of(VisitFile)}
