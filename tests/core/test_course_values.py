"""A course as values: what is written is what is read."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from glioma import REGIONS

from brats_seg.core.course import Course
from brats_seg.core.errors import InputError

HEAD = {"patient": "P", "visit": "v1", "date": "2024-01-01", "days": ""}
ANSWER = {"visit": "v1", "category": "SD", "status": ""}


def written(**changed: Any) -> dict[str, Any]:
    """The content of a ``course.json``."""
    volume = {**HEAD, "region": "WT", "volume_ml": None, "low_ml": None, "high_ml": None, "level": None}
    change = {**HEAD, "region": "WT", "lesion": "", "against": "last", "reference": "v0", "reference_ml": 1.0,
              "volume_ml": 2.0, "change_ml": 1.0, "low_ml": None, "high_ml": None, "percent": 100.0,
              "low_percent": None, "high_percent": None, "larger_than_error": "not known", "error_from": "scatter",
              "leading": "volumes"}  # fmt: skip
    paired = {"paired_ml": 0.9, "paired_low_ml": 0.8, "paired_high_ml": 1.0, "paired_note": ""}
    episode = {"best": {"2d": {**ANSWER, "when": "v1", "decided_by": ""}}, "progression": {"2d": None},
               "reader_needed": [], "unjudged": {"2d": ""}, "baseline": "v0", "visit": "v0", "why": "first",
               "disease": "enhancing", "disease_reason": "given"}  # fmt: skip
    visit = {"visit": "v1", "when": None, "days_since_first": None, "label_map": "segmented",
             "alignment_to_first": None, "spacing_mm": [1.0, 1.0, 2.0], "notes": [],
             "warnings": [], "fits": True}  # fmt: skip
    return {
        "schema_version": 1, "patient": "P", "regions": REGIONS.to_dict(), "dating": "no dates", "criteria": "rano2",
        "partial_volume_percent": -65.0, "disease": "non_enhancing", "disease_reason": "given", "baselines": [],
        "warnings": [], "measuring_plane": "axial", "episodes": [episode], "response_notes": [], "visits": [visit],
        "stopped": [{"visit": "v2", "reason": "damaged"}],
        "volumes": [{**volume, "error_low_ml": None, "error_high_ml": None, "touches_border": False, "note": ""}],
        "lesions": [], "changes": [change, {**change, **paired, "lesion": "W1"}], "responses": [],
        "best": {"2d": {**ANSWER, "days_since_first": 3}}, "progression": {"2d": None}, "events": [],
        "resections": [], "notes": [], **changed,
    }  # fmt: skip


def test_what_is_read_is_written_again() -> None:
    course = Course.from_dict(written())
    assert course.to_dict() == written()
    assert course.leading == "WT" and course.bright == "ET" and math.isnan(course.volumes[0].volume_ml)
    change = course.change("v1", "WT", "last", "W1")
    assert change is not None and change.paired_ml == 0.9
    assert course.change("v1", "WT", "nadir") is None


def test_a_file_of_another_version_is_refused_in_one_line(tmp_path) -> None:
    for content in (written(schema_version=9), written(visits=[{}]), {}):
        (tmp_path / "course.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match="Follow the patient again") as caught:
            Course.load(tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="holds no result of brats-seg track"):
        Course.load(tmp_path / "nothing")
