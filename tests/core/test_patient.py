"""Which patient a study belongs to."""

from __future__ import annotations

import pytest

from brats_seg.core.study import patient_of


@pytest.mark.parametrize(
    ("study", "patient"),
    [
        ("BraTS-GLI-00099-001", "BraTS-GLI-00099"),
        ("BraTS-MEN-RT-00012-000", "BraTS-MEN-RT-00012"),
        ("Brats18_TCIA01_425_1", "Brats18_TCIA01_425"),
        ("BraTS2021_00495", "BraTS2021_00495"),
        ("sub-7_ses-02", "sub-7"),
        ("UCSF-100118_time2", "UCSF-100118"),
        ("p1_visit3", "p1"),
        ("case-12", "case-12"),
    ],
)
def test_patients(study: str, patient: str) -> None:
    assert patient_of(study) == patient
