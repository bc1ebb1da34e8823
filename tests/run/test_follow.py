"""What following a patient decides before anything is computed."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_seg.core.errors import InputError
from brats_seg.core.study import MRSequence, Patient, Timepoint
from brats_seg.core.tables import Calendar, TableRow
from brats_seg.models.card import find_model
from brats_seg.response.tables import split_rows
from brats_seg.run.track import TrackRun, track_patient
from brats_seg.run.visits import SEGMENTATIONS, Model, refuse_repeats


def test_no_patient_takes_the_place_of_the_segmentations(tmp_path: Path) -> None:
    patient = Patient(SEGMENTATIONS, (), Calendar.ORDER)
    model = Model(find_model("glioma"), lambda: pytest.fail("nothing is to be opened"))
    with pytest.raises(InputError, match="Rename it"):
        track_patient(patient, TrackRun(tmp_path), model=model)
    assert not list(tmp_path.iterdir())


def _visit(folder: Path, label: str, content: bytes, *, mask: np.ndarray | None = None) -> Timepoint:
    folder.mkdir(exist_ok=True)
    scan, labels = folder / f"{label}_t1ce.nii.gz", folder / f"{label}_seg.nii.gz"
    scan.write_bytes(content)
    if mask is not None:
        nib.save(nib.Nifti1Image(mask, np.eye(4)), labels)
    return Timepoint(f"P_{label}", {MRSequence.T1CE: scan}, label=label, mask=None if mask is None else labels)


def test_one_scan_given_as_two_visits_is_an_error(tmp_path: Path) -> None:
    one, other = (_visit(tmp_path, label, content) for label, content in (("v1", b"same"), ("v2", b"same")))
    with pytest.raises(InputError, match=r"visits v1 and v2 of patient P have the very same T1CE"):
        refuse_repeats("P", (one, other))
    refuse_repeats("P", (one, _visit(tmp_path, "v3", b"else")))


def test_one_label_map_given_as_two_visits_is_an_error_unless_it_is_empty(tmp_path: Path) -> None:
    empty = np.zeros((4, 4, 4), np.uint8)
    for mask, is_wrong in ((empty, False), (empty + np.uint8(1), True)):
        visits = [_visit(tmp_path, label, label.encode(), mask=mask) for label in ("v1", "v2")]
        if is_wrong:
            with pytest.raises(InputError, match="the very same label map"):
                refuse_repeats("P", visits)
        else:
            refuse_repeats("P", visits)


def test_a_clinical_table_of_a_cohort_serves_one_patient() -> None:
    rows = [TableRow("c.csv", line, {"patient": name}) for line, name in enumerate(("P07", "P08", "P09"), 2)]
    own, others = split_rows(rows, ["P07"])
    assert ([row.line for row in own], [row.line for row in others]) == ([2], [3, 4])
    with pytest.raises(InputError, match=r"c.csv, line 2: .*none of those who are here"):
        split_rows(rows, ["Q1"])
    for typed in ("p07", "P7", "P-07"):
        with pytest.raises(InputError, match=r"line 2: patient .* is called 'P07' among the scans"):
            split_rows([TableRow("c.csv", 2, {"patient": typed}), *rows[1:]], ["P07", "P08"])
