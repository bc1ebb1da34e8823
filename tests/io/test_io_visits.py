"""Finding visits by the names of folders and files; no file is opened, so empty ones do."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pytest

from brats_seg.core.errors import InputError
from brats_seg.core.study import MRSequence
from brats_seg.io.visit_table import When, parse_when, read_sessions, read_visit_table
from brats_seg.io.visits import DAY_ZERO, Dating, PatientFiles, find_patients

SEQUENCES = ("t1", "t1ce", "t2", "flair")


def make(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def scans(folder: str, prefix: str) -> list[str]:
    return [f"{folder}/{prefix}_{sequence}.nii.gz" for sequence in SEQUENCES]


def bids(patient: str, *sessions: str) -> list[str]:
    return [
        f"{patient}/{session}/anat/{patient}_{session}_{suffix}.nii.gz"
        for session in sessions
        for suffix in ("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR")
    ]


def one(root: Path, **options: Path) -> PatientFiles:
    (patient,) = find_patients(root, **options)
    return patient


def labels(patient: PatientFiles) -> list[str]:
    return [visit.label for visit in patient.visits]


def test_bids_sessions_with_dates(tmp_path: Path) -> None:
    root = make(tmp_path / "data", bids("sub-01", "ses-b", "ses-a"))
    (root / "sub-01" / "sub-01_sessions.tsv").write_text(
        "session_id\tacq_time\nses-b\t2023-01-05T10:00:00\nses-a\t2023-04-01\n"
    )
    for place in (root, root / "sub-01"):
        patient = one(place)
        assert (patient.id, patient.dating, labels(patient)) == ("sub-01", Dating.DATES, ["ses-b", "ses-a"])
        assert [visit.day for visit in patient.visits] == [date(2023, 1, 5), date(2023, 4, 1)]
        assert patient.visits[0].study_id == "sub-01_ses-b"
        assert set(patient.visits[0].scans.files) == set(MRSequence)
        assert "order of their dates" in patient.notes[-1]


def test_session_days_are_offsets(tmp_path: Path) -> None:
    root = make(tmp_path / "data", bids("sub-01", "ses-1", "ses-2"))
    (root / "sub-01" / "sessions.tsv").write_text("session_id\tacq_time\tdays\nses-1\tn/a\t0\nses-2\tn/a\t61\n")
    patient = one(root)
    assert patient.dating is Dating.DAYS
    assert [(visit.day - DAY_ZERO).days for visit in patient.visits] == [0, 61]


@pytest.mark.parametrize("nested", [True, False])
def test_brats_names(tmp_path: Path, nested: bool) -> None:
    names = []
    for visit in ("001", "000", "002"):
        case = f"BraTS-GLI-00007-{visit}"
        names += [f"{case if nested else 'all'}/{case}-{word}.nii.gz" for word in ("t1n", "t1c", "t2w", "t2f")]
    patient = one(make(tmp_path / "data", names))
    assert (patient.id, labels(patient), patient.dating) == ("BraTS-GLI-00007", ["000", "001", "002"], Dating.NONE)
    assert "no dates are known" in patient.notes[-1]


def test_folders_named_by_date(tmp_path: Path) -> None:
    root = make(tmp_path / "P07", scans("2024-03-01", "x") + scans("2023-12-24", "x"))
    patient = one(root)
    assert (patient.id, labels(patient)) == ("P07", ["2023-12-24", "2024-03-01"])
    assert [visit.day for visit in patient.visits] == [date(2023, 12, 24), date(2024, 3, 1)]


def test_folders_named_by_visit_count_in_order(tmp_path: Path) -> None:
    names = [name for number in (1, 2, 10) for name in scans(f"P1/visit{number}", "a")]
    names += [name for word in ("baseline", "followup1") for name in scans(f"P2/{word}", "a")]
    patients = find_patients(make(tmp_path / "cohort", names))
    assert {patient.id: labels(patient) for patient in patients} == {
        "P1": ["visit1", "visit2", "visit10"],
        "P2": ["baseline", "followup1"],
    }


def test_label_maps_alone(tmp_path: Path) -> None:
    root = make(tmp_path / "X", ["UC-1_time1_seg.nii.gz", "UC-1_time2_seg.nii.gz"])
    patient = one(root)
    assert (patient.id, labels(patient)) == ("UC-1", ["time1", "time2"])
    assert all(visit.scans is None and visit.mask is not None for visit in patient.visits)


def test_segmentations_are_matched_by_visit(tmp_path: Path) -> None:
    root = make(tmp_path / "P07", scans("visit1", "x") + scans("visit2", "x"))
    masks = make(tmp_path / "masks", ["P07_visit1_seg.nii.gz", "P07_visit2_dseg.nii.gz"])
    assert [visit.mask.name for visit in one(root, segmentations=masks).visits] == [
        "P07_visit1_seg.nii.gz",
        "P07_visit2_dseg.nii.gz",
    ]
    (masks / "P07_visit2_dseg.nii.gz").unlink()
    with pytest.raises(InputError, match="no label map of visit visit2 of patient P07"):
        one(root, segmentations=masks)


def test_a_table_names_files_and_days(tmp_path: Path) -> None:
    root = make(tmp_path / "any", ["a.nii.gz", "b.nii.gz", "c.nii.gz"])
    (root / "visits.csv").write_text("visit,date,t1ce,segmentation\npre,0,a.nii.gz,\npost,35,b.nii.gz,c.nii.gz\n")
    patient = one(root)
    assert (patient.id, patient.dating, labels(patient)) == ("any", Dating.DAYS, ["pre", "post"])
    assert [visit.mask for visit in patient.visits] == [None, root / "c.nii.gz"]


def test_a_table_of_several_patients_with_semicolons(tmp_path: Path) -> None:
    root = make(tmp_path / "any", ["a.nii.gz", "b.nii.gz"])
    rows = "".join(f"{p};v{n};2024-0{n}-01;a.nii.gz\n" for p in ("A", "B") for n in (1, 2))
    (root / "table.csv").write_text("patient;visit;date;flair\n" + rows, encoding="utf-8-sig")
    assert [p.id for p in find_patients(root, table=root / "table.csv")] == ["A", "B"]


def test_days_of_any_size_and_shifted_dates_are_read_and_unread_columns_named(tmp_path: Path) -> None:
    make(tmp_path, ["a.nii.gz"])
    table = tmp_path / "visits.csv"
    table.write_text("Visit,Days,T1,scanner\nv1,2024,a.nii.gz,x\nv2,2025,a.nii.gz,x\n")
    rows = read_visit_table(table)
    assert [row.when for row in rows] == [When(None, 2024), When(None, 2025)]
    assert rows[0].unused == ("scanner",)
    assert one(tmp_path).notes[0] == "visits.csv: not used: scanner"
    table.write_text("visit,date,t1\nv1,1877-01-01,a.nii.gz\nv2,1877-02-01 08:00:00,a.nii.gz\n")
    assert [row.when.day for row in read_visit_table(table)] == [date(1877, 1, 1), date(1877, 2, 1)]
    table.write_text("visit,date,t1\nv1,2024-01-01T23:30-05:00,a.nii.gz\nv2,2024-01-02T01:00+02:00,a.nii.gz\n")
    assert [row.when.day for row in read_visit_table(table)] == [date(2024, 1, 2), date(2024, 1, 1)]
    table.write_bytes("visit;date;t1\nv1;2024-01-01;a.nii.gz\n".encode("utf-16"))
    assert read_visit_table(table)[0].visit == "v1"


def test_a_table_of_dates_alone_belongs_to_folders(tmp_path: Path) -> None:
    root = make(tmp_path / "P07", scans("visit1", "x") + scans("visit2", "x"))
    (root / "visits.csv").write_text("visit,date\nvisit1,2024-01-01\nvisit2,2024-02-01\n")
    assert one(root).dating is Dating.DATES
    (root / "visits.csv").write_text("visit,date\nvisit1,2024-01-01\nvisit3,2024-02-01\n")
    with pytest.raises(InputError, match=r"names visit 'visit3'.*no scans of it"):
        one(root)


def test_a_damaged_patient_does_not_stop_the_others(tmp_path: Path) -> None:
    names = [name for patient in "AB" for number in (1, 2) for name in scans(f"{patient}/visit{number}", "x")]
    root = make(tmp_path / "cohort", [*names, "A/visit1/x_flair2_flair.nii.gz"])
    wrong: dict[str, str] = {}
    found = find_patients(root, on_error=lambda patient, error: wrong.update({patient: str(error)}))
    assert [patient.id for patient in found] == ["B"]
    assert "visit1" in wrong["A"] and "could be FLAIR" in wrong["A"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("visit,date,t1\nv1,2024-01-01,a.nii.gz\nv1,2024-02-01,a.nii.gz\n", r"line 3: visit v1 is there twice"),
        ("visit,date,t1\nv1,31.01.2024,a.nii.gz\n", r"line 2: date '31.01.2024' is not a date of the form 2024-01-31"),
        ("visit,date,t1\nv1,2024-01-01,gone.nii.gz\n", r"line 2: t1: there is no file gone.nii.gz"),
        ("visit,date,t1\nv1,2024-01-01,.\n", r"is a folder, not a file"),
        ("visit,date,t1\n,2024-01-01,a.nii.gz\n", r"line 2: the visit has no name"),
        ("date,t1\n2024-01-01,a.nii.gz\n", r"lacks the column visit"),
        ("visit,date,date\nv1,1,2\n", r"has the column date twice"),
        ("visit,date,t1\nv1,2024-01-01\n", r"2 cells under 3 columns"),
        ("visit,date,t1\n", r"has a header and no rows"),
        ("visit,date,t1\nv1,2024-01-01,a.nii.gz\nv2,2024-02-01,\n", r"visit v2 names no file"),
        ("visit,date,t1,patient\nv1,1,a.nii.gz,A\nv2,2,a.nii.gz,\n", r"some rows name a patient"),
        ("visit,date,t1\nv1,1799-01-01,a.nii.gz\n", r"is not a date|lies too far back"),
        ("visit,date,t1\nv1,99999,a.nii.gz\n", r"more than a life away"),
        ("visit,date,t1\nv1,2024,a.nii.gz\n", r"line 2: date is 2024, which could be a year or a day offset"),
        ("visit,date,t1\nv1,45292,a.nii.gz\n", r"as a spreadsheet counts days"),
        ("visit,date,t1\nv1,2204-01-01,a.nii.gz\n", r"2204-01-01 lies in the future"),
        ("visit,date,t1\nv1,2024-W01-1,a.nii.gz\n", r"'2024-W01-1' is not a date"),
        ("visit,date,t1,t1c_e\nv1,2024-01-01,a.nii.gz,a.nii.gz\n", r"lacks the column t1ce and has one called 't1c_e'"),
        ("visit,date,t1,flaire\nv1,2024-01-01,a.nii.gz,a.nii.gz\n", r"lacks the column flair and has one called 'fla"),
        ("visit,days,t1\nv1,2024-01-01,a.nii.gz\n", r"days is '2024-01-01', which is no whole number"),
    ],
)
def test_mistakes_in_a_table(tmp_path: Path, text: str, message: str) -> None:
    make(tmp_path, ["a.nii.gz"])
    (tmp_path / "visits.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_visit_table(tmp_path / "visits.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("v1,2024-01-01\nv2,2024-01-01\n", "visits v1 and v2 of patient .* have the same date, 2024-01-01"),
        ("v1,2024-01-01\nv2,40\n", "dates and day offsets mixed"),
        ("v1,2024-01-01\nv2,\n", "visit v2 of patient .* has no date, and others have"),
        ("v1,2024-01-01\n", "has one visit"),
    ],
)
def test_contradicting_dates(tmp_path: Path, rows: str, message: str) -> None:
    root = make(tmp_path / "P", ["a.nii.gz"])
    lines = [f"{row},a.nii.gz" for row in rows.splitlines()]
    (root / "visits.csv").write_text("visit,date,t1ce\n" + "\n".join(lines) + "\n")
    with pytest.raises(InputError, match=message):
        one(root)


def test_names_that_could_be_patients_are_not_guessed(tmp_path: Path) -> None:
    root = make(tmp_path / "data", scans("anna", "x") + scans("berta", "x"))
    with pytest.raises(InputError, match="nothing says which are visits of one patient"):
        find_patients(root)


@pytest.mark.parametrize(
    ("make_place", "message"),
    [
        (lambda root: root / "missing", "there is no folder"),
        (lambda root: make(root, ["f.nii.gz"]) / "f.nii.gz", "is a file. Pass the patient's folder"),
        (lambda root: make(root, scans("P/visit1", "x")) / "P", "has one visit"),
    ],
)
def test_wrong_places(tmp_path: Path, make_place, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_patients(make_place(tmp_path))


def test_mixed_label_maps_and_scans_cannot_be_aligned(tmp_path: Path) -> None:
    root = make(tmp_path / "P", [*scans("visit1", "x"), "visit2/x_seg.nii.gz"])
    with pytest.raises(InputError, match="visit2 of patient P has a label map and no scans"):
        find_patients(root)


def test_reading_dates_from_names() -> None:
    assert parse_when("ses-20240131") == parse_when("2024_01_31") == When(date(2024, 1, 31), None)
    assert parse_when("20241331") is None and parse_when("visit1") is None


def test_sessions_without_dates_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "sessions.tsv"
    path.write_text("session_id\tacq_time\nses-1\tn/a\nses-2\t2024-01-01\n")
    assert read_sessions(path) == {"ses-2": When(date(2024, 1, 1), None)}
