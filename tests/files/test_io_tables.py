"""Tables: exactly the agreed columns, rounded, with nothing that could not be read elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brats_seg.core.study import MRSequence
from brats_seg.core.visit import Diameters, Lesion, Measurements, RegionVolume, RunRecord
from brats_seg.files.tables import write_json, write_lesions_json, write_run, write_tables

POINT = (0.0, 0.0, 0.0)
DIAMETERS = Diameters(22.236, 11.0, "axial", 2, 77, (POINT, (22.236, 0.0, 0.0)), (POINT, (0.0, 11.0, 0.0)), 14)
LESION = Lesion("ET", 1, 3.14159265, (-12.3456, 40.0, -0.001), ((1, 2, 3), (4, 5, 6)), DIAMETERS, True, False, "left")
MEASURED = Measurements(
    "case-1",
    (
        RegionVolume("WT", 57.3049999, 56.98765432, 50.1, 65.25, 0.9, 2, False),
        RegionVolume("ET", 0.0, None, None, None, None, 0, True, "estimate: not assessable without T1CE"),
    ),
    (LESION,),
    (0.898, 0.898, 5.5),
    ("a note, with a comma",),
    "2024-01-31",
)


def test_tables_of_volumes_and_lesions(tmp_path: Path) -> None:
    write_tables(MEASURED, tmp_path)
    assert (tmp_path / "case-1_volumes.csv").read_text() == (
        "study,scan_date,region,volume_ml,volume_pv_ml,low_ml,high_ml,level,lesions,touches_border,note\n"
        "case-1,2024-01-31,WT,57.305,56.9877,50.1,65.25,0.9,2,false,\n"
        "case-1,2024-01-31,ET,0.0,,,,,0,true,estimate: not assessable without T1CE\n"
    )
    assert (tmp_path / "case-1_lesions.csv").read_text() == (
        "study,scan_date,region,lesion,volume_ml,x_mm,y_mm,z_mm,side,long_mm,short_mm,plane,slice,measurable,"
        "touches_border\n"
        "case-1,2024-01-31,ET,1,3.1416,-12.35,40.0,0.0,left,22.24,11.0,axial,77,true,false\n"
    )


def test_no_lesion_is_a_table_with_its_head_only(tmp_path: Path) -> None:
    write_tables(replace(MEASURED, lesions=()), tmp_path)
    assert len((tmp_path / "case-1_lesions.csv").read_text().splitlines()) == 1


def test_json_says_the_same_and_has_the_notes(tmp_path: Path) -> None:
    write_tables(MEASURED, tmp_path)
    content = json.loads((tmp_path / "case-1_volumes.json").read_text())
    assert content["study"] == "case-1" and content["notes"] == ["a note, with a comma"]
    assert content["spacing_mm"] == [0.898, 0.898, 5.5]
    assert content["volumes"][0]["volume_pv_ml"] == 56.9877 and content["volumes"][0]["note"] is None
    assert content["volumes"][1]["low_ml"] is None and "T1CE" in content["volumes"][1]["note"]
    write_lesions_json(MEASURED, tmp_path / "l.json")
    (lesion,) = json.loads((tmp_path / "l.json").read_text())["lesions"]
    assert (lesion["axis"], lesion["slices"], lesion["measurable"]) == (2, 14, True)
    assert lesion["long_ends_mm"] == [[0, 0, 0], [22.24, 0, 0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_measurement_that_is_no_number_is_a_defect(tmp_path: Path, value: float) -> None:
    broken = replace(MEASURED, volumes=(replace(MEASURED.volumes[0], volume_ml=value),))
    with pytest.raises(ValueError, match="no table can hold"):
        write_tables(broken, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numpy_enumerations_and_missing_numbers_become_plain(tmp_path: Path) -> None:
    value = {
        MRSequence.T1: np.float32(0.5),
        "array": np.arange(3),
        "flag": np.bool_(True),
        "nan": float("nan"),
        "set": {2, 1},
        "tuple": (1, None, "ü"),
    }
    write_json(value, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content == {"t1": 0.5, "array": [0, 1, 2], "flag": True, "nan": None, "set": [1, 2], "tuple": [1, None, "ü"]}


@pytest.mark.parametrize("value", [Path("/home/someone/scan.nii"), {"x": Path("a")}, object(), b"bytes"])
def test_paths_never_get_into_a_record(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError):
        write_json(value, tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_run_record(tmp_path: Path) -> None:
    record = RunRecord(
        "case-1",
        {"brats_seg": "0.1.0"},
        inputs={"t1": {"sha256": "ab", "shape": (1, 2, 3)}},
        timings_s={"read": 0.5},
        warnings=("one",),
        outputs={"case-1_dseg.nii.gz": "cd"},
    )
    write_run(record, tmp_path / "run.json")
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["inputs"]["t1"]["shape"] == [1, 2, 3]
    assert content["warnings"] == ["one"] and content["outputs"] == {"case-1_dseg.nii.gz": "cd"}
    assert set(content) == set(RunRecord.__dataclass_fields__)
