"""What is kept of an earlier run is read back without loss, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from brats_seg.core.plain import from_plain, plain
from brats_seg.run.track import PAIRED, known_of
from brats_seg.track.boundary_shift.change import Interval, LesionChange
from brats_seg.track.paired import change_key

MEASURED = LesionChange(Interval(0.1 + 0.2, -0.1, 0.7), Interval(1.0, 0.5, 1.5), 3.0, 3.3, 0.4, 1.2, 500.0, 4.0, 0.2)
REFUSED = LesionChange(None, None, None, None, 0.4, 1.2, reasons=("too little border", "and too dark"))


@pytest.mark.parametrize("change", [MEASURED, REFUSED])
def test_a_change_survives_its_file(change: LesionChange) -> None:
    assert from_plain(LesionChange, json.loads(json.dumps(plain(change)))) == change


def test_only_results_that_are_whole_are_read(tmp_path: Path) -> None:
    (tmp_path / PAIRED).write_text(json.dumps({"k": plain(MEASURED)}))
    assert known_of(tmp_path).changes == {}  # no record of a run
    (tmp_path / "run.json").write_text("{}")
    assert known_of(tmp_path).changes == {"k": MEASURED}
    older = plain(MEASURED)
    del older["masks_ml"]
    (tmp_path / PAIRED).write_text(json.dumps({"k": older}))
    assert known_of(tmp_path).changes == {}


def test_a_key_changes_with_everything_it_names() -> None:
    keys = {
        change_key(("a", "b"), ((1,), (2,)), np.eye(4)),
        change_key(("a", "c"), ((1,), (2,)), np.eye(4)),
        change_key(("a", "b"), ((1,), (2, 3)), np.eye(4)),
        change_key(("a", "b"), ((1,), (2,)), np.eye(4) * 1.01),
    }
    assert len(keys) == 4
