"""Label map files: what lies beside them decides first, and what no head could hold is refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from glioma import REGIONS

from brats_seg.core.errors import InputError
from brats_seg.core.labels import SCHEMAS
from brats_seg.files.label_map import read_label_file

BLOCKS = np.zeros((40, 40, 40), np.uint8)
for _number, _start in ((1, 4), (2, 14), (3, 24)):
    BLOCKS[_start : _start + 8, 10:30, 10:30] = _number


def save(path: Path, labels: np.ndarray, *, spacing: float = 2.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.diag([spacing] * 3 + [1.0])), path)
    return path


NAMED = {
    "our own": ("p_dseg.json", {"LabelSchema": "msd"}, "msd"),
    "BIDS json": ("p_dseg.json", {"LabelMap": {"1": "edema", "2": "necrosis", "3": "enhancing tumour"}}, "nnunet"),
    "BIDS tsv": ("p_dseg.tsv", "index\tname\tabbreviation\n1\tnecrotic core\tNCR\n2\tx\tED\n3\tx\tET\n", "brats2023"),
    "inherited tsv": ("../dseg.tsv", "index\tname\n1\tedema\n2\tnecrosis\n3\tenhancing tumour\n", "nnunet"),
    "nnU-Net 2": (
        "dataset.json",
        {"labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}},
        "nnunet",
    ),
    "nnU-Net 1": (
        "../dataset.json",
        {"labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}},
        "msd",
    ),
    "2024": (
        "p_dseg.json",
        {"Labels": {"1": "NETC", "2": "surrounding non-enhancing FLAIR hyperintensity", "3": "ET", "4": "RC"}},
        "brats2024",
    ),
}


@pytest.mark.parametrize(("beside", "content", "expected"), NAMED.values(), ids=NAMED)
def test_what_lies_beside_a_label_map_decides(tmp_path: Path, beside: str, content: object, expected: str) -> None:
    path = save(tmp_path / "set" / "labels" / "p_dseg.nii.gz", BLOCKS)
    with pytest.raises(InputError, match="mean different things"):
        _ = read_label_file(path, REGIONS).meaning.schema
    (path.parent / beside).write_text(content if isinstance(content, str) else json.dumps(content))
    meaning = read_label_file(path, REGIONS).meaning
    assert meaning.schema is SCHEMAS[expected]
    assert "beside it" in meaning.why
    assert read_label_file(path, REGIONS, "brats2023").meaning.schema is SCHEMAS["brats2023"]


def test_numbers_of_nobody_else(tmp_path: Path) -> None:
    path = save(tmp_path / "p_dseg.nii.gz", BLOCKS)
    (tmp_path / "p_dseg.json").write_text(json.dumps({"Labels": {"3": "ED", "1": "cyst", "2": {"Name": "enhancing"}}}))
    read = read_label_file(path, REGIONS)
    schema = read.meaning.schema
    assert schema.numbers == "1 CC, 2 ET, 3 ED" and read.with_schema(schema).data.max() == 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p_dseg.json", "{", "cannot be read"),
        ("p_dseg.json", '{"LabelSchema": "brats1999"}', "does not exist"),
        ("p_dseg.json", '{"Labels": {"1": "hippocampus"}}', "'hippocampus', which is no tissue"),
        ("p_dseg.json", '{"Labels": {}}', "names no label"),
        ("dataset.json", "[", "dataset.json beside the label map cannot be read"),
    ],
)
def test_damaged_files_beside_a_label_map(tmp_path: Path, name: str, content: str, words: str) -> None:
    path = save(tmp_path / "p_dseg.nii.gz", BLOCKS)
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        read_label_file(path, REGIONS)


@pytest.mark.parametrize("value", [1, 255])
def test_masks_of_one_region(tmp_path: Path, value: int) -> None:
    path = save(tmp_path / "mask.nii.gz", np.where(BLOCKS > 0, value, 0).astype(np.uint8))
    with pytest.raises(InputError, match=f"nothing but 0 and {value}"):
        _ = read_label_file(path, REGIONS).meaning.schema
    read = read_label_file(path, REGIONS, "whole")
    assert set(np.unique(read.with_schema(SCHEMAS["whole"]).data)) == {0, 1}


@pytest.mark.parametrize(
    ("spacing", "words"),
    [(40.0, "a field of view of 1600 x 1600 x 1600 mm"), (0.1, "4 x 4 x 4 mm"), (8.0, "more than any head holds")],
)
def test_what_no_head_holds_is_refused(tmp_path: Path, spacing: float, words: str) -> None:
    path = save(tmp_path / "p_seg.nii.gz", BLOCKS, spacing=spacing)
    with pytest.raises(InputError, match=words):
        read_label_file(path, REGIONS, "brats2023").with_schema(SCHEMAS["brats2023"])
