"""What following a patient decides before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats_seg.core.errors import InputError
from brats_seg.io.visits import Dating, PatientFiles
from brats_seg.models.bundle import find_model
from brats_seg.pipeline.follow import FollowOptions, knows_treatment
from brats_seg.pipeline.follow_files import follow_patient
from brats_seg.pipeline.follow_visits import SEGMENTATIONS, Model


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("38 studies of the BraTS 2018 training sets, before treatment", False),
        ("BraTS 2024 glioma, post-treatment", True),
        ("scans after treatment, with resection cavities", True),
        ("untreated gliomas", False),
        ("postoperative MRI of 200 patients", True),
        ("", False),
    ],
)
def test_a_card_says_whether_its_model_knows_treated_tumours(card: str, expected: bool) -> None:
    assert knows_treatment(card) is expected


def test_the_shipped_model_does_not_know_treated_tumours() -> None:
    assert not knows_treatment(find_model("glioma").card.trained_on)


def test_no_patient_takes_the_place_of_the_segmentations(tmp_path: Path) -> None:
    patient = PatientFiles(SEGMENTATIONS, (), Dating.NONE)
    model = Model(find_model("glioma"), lambda: pytest.fail("nothing is to be opened"))
    with pytest.raises(InputError, match="Rename it"):
        follow_patient(patient, tmp_path, options=FollowOptions(), model=model)
    assert not list(tmp_path.iterdir())
