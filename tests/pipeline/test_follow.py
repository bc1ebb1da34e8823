"""What following a patient decides before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats_seg.core.errors import InputError
from brats_seg.io.visits import Dating, PatientFiles
from brats_seg.models.bundle import find_model
from brats_seg.pipeline.follow import FollowOptions
from brats_seg.pipeline.follow_files import follow_patient
from brats_seg.pipeline.follow_visits import SEGMENTATIONS, Model


def test_no_patient_takes_the_place_of_the_segmentations(tmp_path: Path) -> None:
    patient = PatientFiles(SEGMENTATIONS, (), Dating.NONE)
    model = Model(find_model("glioma"), lambda: pytest.fail("nothing is to be opened"))
    with pytest.raises(InputError, match="Rename it"):
        follow_patient(patient, tmp_path, options=FollowOptions(), model=model)
    assert not list(tmp_path.iterdir())
