"""Which patient a study belongs to."""

from __future__ import annotations

import pytest

from brats_seg.files.visit_names import patient_of


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
        ("UCSD-PTGBM-0001_01", "UCSD-PTGBM-0001"),
        ("UPENN-GBM-00002_21", "UPENN-GBM-00002"),
        ("Patient-001_week-044", "Patient-001"),
        ("Patient-001_week-000-1", "Patient-001"),
        ("R001_S1", "R001"),
        ("P1_v2", "P1"),
        ("p1_fu1", "p1"),
        ("pat1_pre", "pat1"),
        ("pat1_post", "pat1"),
        ("P1-2019-01-01", "P1"),
        ("P1_20190101", "P1"),
        ("p1_baseline", "p1"),
        ("PatientID_0003_Timepoint_1", "PatientID_0003"),
        ("brats_2013_pat0001_1", "brats_2013_pat0001_1"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("TCGA-02-0006", "TCGA-02-0006"),
        ("UCSF-PDGM-0004", "UCSF-PDGM-0004"),
    ],
)
def test_patients(study: str, patient: str) -> None:
    assert patient_of(study) == patient
