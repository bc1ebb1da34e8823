"""Finding visits by the names of folders and files; no file is opened, so empty ones do."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pytest

from brats_seg.core.errors import InputError
from brats_seg.core.study import MRSequence, Patient
from brats_seg.core.tables import DAY_ZERO, Calendar
from brats_seg.files.visit_table import parse_when, read_sessions, read_visit_table
from brats_seg.files.visits import find_patients

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


def one(root: Path, **options: Path) -> Patient:
    (patient,) = find_patients(root, **options)
    return patient


def labels(patient: Patient) -> list[str]:
    return [visit.label for visit in patient.visits]


def test_bids_sessions_with_dates(tmp_path: Path) -> None:
    root = make(tmp_path / "data", bids("sub-01", "ses-b", "ses-a"))
    (root / "sub-01" / "sub-01_sessions.tsv").write_text(
        "session_id\tacq_time\nses-b\t2023-01-05T10:00:00\nses-a\t2023-04-01\n"
    )
    for place in (root, root / "sub-01"):
        patient = one(place)
        assert (patient.id, patient.dating, labels(patient)) == ("sub-01", Calendar.DATES, ["ses-b", "ses-a"])
        assert [visit.day for visit in patient.visits] == [date(2023, 1, 5), date(2023, 4, 1)]
        assert patient.visits[0].id == "sub-01_ses-b"
        assert set(patient.visits[0].files) == set(MRSequence)
        assert "order of their dates" in patient.notes[-1]


def test_session_days_are_offsets(tmp_path: Path) -> None:
    root = make(tmp_path / "data", bids("sub-01", "ses-1", "ses-2"))
    (root / "sub-01" / "sessions.tsv").write_text("session_id\tacq_time\tdays\nses-1\tn/a\t0\nses-2\tn/a\t61\n")
    patient = one(root)
    assert patient.dating is Calendar.DAYS
    assert [(visit.day - DAY_ZERO).days for visit in patient.visits] == [0, 61]


@pytest.mark.parametrize("nested", [True, False])
def test_brats_names(tmp_path: Path, nested: bool) -> None:
    names = []
    for visit in ("001", "000", "002"):
        case = f"BraTS-GLI-00007-{visit}"
        names += [f"{case if nested else 'all'}/{case}-{word}.nii.gz" for word in ("t1n", "t1c", "t2w", "t2f")]
    patient = one(make(tmp_path / "data", names))
    assert (patient.id, labels(patient), patient.dating) == ("BraTS-GLI-00007", ["000", "001", "002"], Calendar.ORDER)
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
    assert all(not visit.files and visit.mask is not None for visit in patient.visits)


@pytest.mark.parametrize("name", ["seg.nii.gz", "P1_seg.nii.gz", "tumor_mask.nii.gz"])
def test_label_maps_at_time_points_called_like_sequences_are_no_scans(tmp_path: Path, name: str) -> None:
    patient = one(make(tmp_path / "P1", [f"{time}/{name}" for time in ("t0", "t1", "t2")]))
    assert (patient.id, labels(patient)) == ("P1", ["t0", "t1", "t2"])
    assert all(not visit.files and visit.mask is not None for visit in patient.visits)


def test_segmentations_are_matched_by_visit(tmp_path: Path) -> None:
    root = make(tmp_path / "P07", scans("visit1", "x") + scans("visit2", "x"))
    masks = make(tmp_path / "masks", ["P07_visit1_seg.nii.gz", "P07_visit2_dseg.nii.gz"])
    assert [visit.mask.name for visit in one(root, segmentations=masks).visits] == [
        "P07_visit1_seg.nii.gz",
        "P07_visit2_dseg.nii.gz",
    ]
    (masks / "P07_visit2_dseg.nii.gz").unlink()
    with pytest.raises(InputError, match="no label map of visit2 of patient P07"):
        one(root, segmentations=masks)


def test_a_table_names_files_and_days(tmp_path: Path) -> None:
    root = make(tmp_path / "any", ["a.nii.gz", "b.nii.gz", "c.nii.gz"])
    (root / "visits.csv").write_text("visit,date,t1ce,segmentation\npre,0,a.nii.gz,\npost,35,b.nii.gz,c.nii.gz\n")
    patient = one(root)
    assert (patient.id, patient.dating, labels(patient)) == ("any", Calendar.DAYS, ["pre", "post"])
    assert [visit.mask for visit in patient.visits] == [None, root / "c.nii.gz"]


def test_a_table_of_several_patients_with_semicolons(tmp_path: Path) -> None:
    root = make(tmp_path / "any", ["a.nii.gz", "b.nii.gz"])
    rows = "".join(f"{p};v{n};2024-0{n}-01;a.nii.gz\n" for p in ("A", "B") for n in (1, 2))
    (root / "table.csv").write_text("patient;visit;date;flair\n" + rows, encoding="utf-8-sig")
    assert [p.id for p in find_patients(root, table=root / "table.csv")] == ["A", "B"]


def test_paths_of_a_table_may_be_written_as_on_windows(tmp_path: Path) -> None:
    root = make(tmp_path / "P1", scans("a", "x") + scans("b", "x"))
    (root / "visits.csv").write_text("visit,date,t1\nv1,2024-01-01,a\\x_t1.nii.gz\nv2,2024-02-01,b\\x_t1.nii.gz\n")
    assert [visit.files[MRSequence.T1].parent.name for visit in one(root).visits] == ["a", "b"]


def test_days_of_any_size_and_shifted_dates_are_read_and_unread_columns_named(tmp_path: Path) -> None:
    make(tmp_path, ["a.nii.gz"])
    table = tmp_path / "visits.csv"
    table.write_text("Visit,Days,T1,scanner\nv1,2024,a.nii.gz,x\nv2,2025,a.nii.gz,x\n")
    rows, unused = read_visit_table(table)
    assert [row.when for row in rows] == [2024, 2025]
    assert unused == ("scanner",)
    assert one(tmp_path).notes[0] == "visits.csv: not used: scanner"
    table.write_text("visit,date,t1\nv1,1877-01-01,a.nii.gz\nv2,1877-02-01 08:00:00,a.nii.gz\n")
    assert [row.when for row in read_visit_table(table)[0]] == [date(1877, 1, 1), date(1877, 2, 1)]
    table.write_text("visit,date,t1\nv1,2024-01-01T23:30-05:00,a.nii.gz\nv2,2024-01-02T01:00+02:00,a.nii.gz\n")
    assert [row.when for row in read_visit_table(table)[0]] == [date(2024, 1, 2), date(2024, 1, 1)]
    table.write_bytes("visit;date;t1\nv1;2024-01-01;a.nii.gz\n".encode("utf-16"))
    assert read_visit_table(table)[0][0].label == "v1"


def test_a_table_of_dates_alone_belongs_to_folders(tmp_path: Path) -> None:
    root = make(tmp_path / "P07", scans("visit1", "x") + scans("visit2", "x"))
    (root / "visits.csv").write_text("visit,date\nvisit1,2024-01-01\nvisit2,2024-02-01\n")
    assert one(root).dating is Calendar.DATES
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
    assert parse_when("ses-20240131") == parse_when("2024_01_31") == date(2024, 1, 31)
    assert parse_when("20241331") is None and parse_when("visit1") is None


def test_sessions_without_dates_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "sessions.tsv"
    path.write_text("session_id\tacq_time\nses-1\tn/a\nses-2\t2024-01-01\n")
    assert read_sessions(path) == {"ses-2": date(2024, 1, 1)}


# Whose visits they are, and in which order


def many(root: Path, *folders: str) -> Path:
    return make(root, [name for folder in folders for name in scans(folder, "x")])


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("preop", "postop", "3months", "6months"), ["preop", "postop", "3months", "6months"]),
        (("postop", "preop", "fu1", "fu2"), ["preop", "postop", "fu1", "fu2"]),
        (("BL", "FU1", "FU2", "FU10"), ["BL", "FU1", "FU2", "FU10"]),
        (("month1", "day3", "week2"), ["day3", "week2", "month1"]),
        (("week-044", "week-000-2", "week-000-1", "week-053"), ["week-000-1", "week-000-2", "week-044", "week-053"]),
        (("visit 2", "visit 1"), ["visit_1", "visit_2"]),
        (("ses-pre", "ses-post"), ["ses-pre", "ses-post"]),
        (("T2", "T1", "T0"), ["T0", "T1", "T2"]),
        (("day-1", "day30"), ["day-1", "day30"]),
    ],
)
def test_orders_that_names_tell(tmp_path: Path, folders: tuple[str, ...], expected: list[str]) -> None:
    patient = one(many(tmp_path / "P01", *folders))
    assert (patient.id, labels(patient), patient.dating) == ("P01", expected, Calendar.ORDER)


@pytest.mark.parametrize(
    "folders",
    [
        ("fu1", "visit1"),
        ("postop", "day1"),
        ("fu1", "month3"),
        ("ses-alpha", "ses-beta"),
        ("pre", "baseline"),
        ("week-1", "week0", "week4"),
    ],
)
def test_orders_that_names_do_not_tell(tmp_path: Path, folders: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="nothing says in which order"):
        one(many(tmp_path / "P01", *folders))


@pytest.mark.parametrize(
    ("folders", "days"),
    [
        (("20240131_MRI", "20240430_MRI"), [date(2024, 1, 31), date(2024, 4, 30)]),
        (("31-01-2024", "30-04-2024"), [date(2024, 1, 31), date(2024, 4, 30)]),
        (("2024-01-31_preop", "2024-02-03_postop"), [date(2024, 1, 31), date(2024, 2, 3)]),
        (("TP1_2024-01-31", "TP2_2024-04-30"), [date(2024, 1, 31), date(2024, 4, 30)]),
        (("1996.11.02", "1997.01.15"), [date(1996, 11, 2), date(1997, 1, 15)]),
    ],
)
def test_dates_in_the_names_of_folders(tmp_path: Path, folders: tuple[str, ...], days: list[date]) -> None:
    patient = one(many(tmp_path / "P9", *folders))
    assert (patient.id, labels(patient)) == ("P9", list(folders))
    assert [visit.day for visit in patient.visits] == days


def test_dates_against_the_order_of_names_are_to_be_checked(tmp_path: Path) -> None:
    root = many(tmp_path / "P9", "visit2_2024-01-01", "visit1_2024-05-01")
    assert "their names say visit1_2024-05-01, visit2_2024-01-01: check the dates" in one(root).notes[-1]


@pytest.mark.parametrize(
    "folders", [("31.01.2024", "30.04.2024"), ("01-31-2024", "12-15-2023"), ("31-12-2023", "2024-01-15")]
)
def test_dates_in_other_orders_do_not_contradict_themselves(tmp_path: Path, folders: tuple[str, ...]) -> None:
    assert one(many(tmp_path / "P9", *folders)).warnings == ()


def test_a_date_in_the_future_is_to_be_checked(tmp_path: Path) -> None:
    patient = one(many(tmp_path / "P9", "2024-01-31", "2094-04-30"))
    assert patient.warnings == ("visit 2094-04-30 is dated in the future: check the date",)
    assert patient.warnings[0] in patient.notes


@pytest.mark.parametrize("folder", ["03-04-2024", "ses-20241301", "2024-13-01"])
def test_dates_that_are_two_or_none_are_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(InputError, match=r"could be two dates|is no date"):
        one(many(tmp_path / "P9", folder, "2024-05-30"))


def test_equal_names_at_two_sites_are_two_patients(tmp_path: Path) -> None:
    root = many(tmp_path / "in", *[f"site{s}/001/visit{v}" for s in "AB" for v in (1, 2)])
    assert {p.id: labels(p) for p in find_patients(root)} == {
        "siteA_001": ["visit1", "visit2"],
        "siteB_001": ["visit1", "visit2"],
    }


def test_a_folder_that_is_not_understood_stops_its_patient(tmp_path: Path) -> None:
    root = many(tmp_path / "in", "P1/visit1", "P1/visit2", "P1/extra", "P2/visit1", "P2/visit2")
    wrong: dict[str, str] = {}
    found = find_patients(root, on_error=lambda patient, error: wrong.update({patient: str(error)}))
    assert [p.id for p in found] == ["P2"]
    assert list(wrong) == ["P1"] and "extra" in wrong["P1"]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (
            ("100118_time1", "100118_time2", "100120_time1", "100120_time2"),
            {"100118": ["time1", "time2"], "100120": ["time1", "time2"]},
        ),
        (
            ("001_baseline", "001_followup", "002_baseline", "002_followup"),
            {p: ["baseline", "followup"] for p in ("001", "002")},
        ),
        (("7_week0", "7_week4", "8_week0", "8_week4"), {p: ["week0", "week4"] for p in "78"}),
        (
            ("P1_2024-01-31", "P1_2024-04-30", "P2_2024-02-01", "P2_2024-05-01"),
            {"P1": ["2024-01-31", "2024-04-30"], "P2": ["2024-02-01", "2024-05-01"]},
        ),
        (
            ("20240131_S01", "20240430_S01", "20240201_S02", "20240501_S02"),
            {"S01": ["20240131", "20240430"], "S02": ["20240201", "20240501"]},
        ),
        (("P1/P1_2024-01-31", "P1/P1_2024-04-30"), {"P1": ["2024-01-31", "2024-04-30"]}),
        (
            ("P1/2024-01-31_postop_MRI", "P1/MRI_2024-04-30", "P1/2024-05-30_3T"),
            {"P1": ["2024-01-31_postop_MRI", "MRI_2024-04-30", "2024-05-30_3T"]},
        ),
    ],
)
def test_patients_named_in_the_folders_of_visits(
    tmp_path: Path, folders: tuple[str, ...], expected: dict[str, list[str]]
) -> None:
    found = find_patients(many(tmp_path / "in", *folders))
    assert {patient.id: labels(patient) for patient in found} == expected


@pytest.mark.parametrize("folders", [("S01", "S02"), ("P1_2024-01-31", "P2_2024-02-01"), ("1_baseline", "2_followup")])
def test_two_people_are_never_one_patient(tmp_path: Path, folders: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"nothing says which are visits|has one visit"):
        find_patients(many(tmp_path / "in", *folders))


def test_numbers_alone_are_no_visits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing says which are visits of one patient"):
        find_patients(many(tmp_path / "in", "001", "002"))


def test_files_of_several_visits_in_one_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "a", ["P9-000_seg.nii.gz", "P9-001_seg.nii.gz"])
    assert (one(root).id, labels(one(root))) == ("P9", ["000", "001"])
    with pytest.raises(InputError):
        find_patients(make(tmp_path / "b", ["patient-001_seg.nii.gz", "patient-002_seg.nii.gz"]))
    words = ("t1n", "t1c", "t2w", "t2f")
    root = make(tmp_path / "P01", [f"P01_T{time}_{word}.nii.gz" for time in (1, 2) for word in words])
    assert (one(root).id, labels(one(root))) == ("P01", ["T1", "T2"])


def test_a_folder_for_each_sequence_of_a_visit(tmp_path: Path) -> None:
    names = [f"visit{v}/{word}/{word}.nii.gz" for v in (1, 2) for word in ("T1", "T1CE", "T2", "FLAIR")]
    patient = one(make(tmp_path / "P1", names))
    assert (patient.id, labels(patient)) == ("P1", ["visit1", "visit2"])
    assert all(len(visit.files) == 4 for visit in patient.visits)


def test_label_maps_are_never_given_to_two_patients(tmp_path: Path) -> None:
    root = many(tmp_path / "c", *[f"P{p}/v{v}" for p in (1, 2) for v in (1, 2)])
    masks = make(tmp_path / "seg", ["v1_seg.nii.gz", "v2_seg.nii.gz"])
    with pytest.raises(InputError, match="no label map of visit"):
        find_patients(root, segmentations=masks)
    assert len(find_patients(root / "P1", segmentations=masks)[0].visits) == 2


def test_label_maps_of_no_visit_are_named(tmp_path: Path) -> None:
    root = many(tmp_path / "P1", "v1", "v2")
    masks = make(tmp_path / "seg", [f"P1_v{v}_tumorMask.nii.gz" for v in (1, 2, 3)])
    assert "P1_v3_tumorMask.nii.gz" in one(root, segmentations=masks).notes[-1]


def test_names_that_would_share_a_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "any", ["a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz"])
    rows = ("A,1_2,0,a", "A,3,9,b", "A_1,2,0,c", "A_1,3,9,d")
    text = "patient,visit,days,t1ce\n" + "".join(f"{row}.nii.gz\n" for row in rows)
    (root / "visits.csv").write_text(text)
    with pytest.raises(InputError, match="would be called A_1_2 too"):
        find_patients(root)


def test_a_table_without_patients_dates_one_patient_only(tmp_path: Path) -> None:
    root = many(tmp_path / "c", *[f"P{p}/v{v}" for p in (1, 2) for v in (1, 2)])
    (root / "visits.csv").write_text("visit,date\nv1,2024-01-01\nv2,2024-03-01\n")
    with pytest.raises(InputError, match="no column patient, and there are 2 patients"):
        find_patients(root)


def test_rows_of_nobody_are_named_and_spellings_of_a_patient_are_one(tmp_path: Path) -> None:
    root = make(tmp_path / "d", bids("sub-01", "ses-1", "ses-2") + bids("sub-02", "ses-1", "ses-2"))
    head = "patient,visit,date\n"
    (root / "visits.csv").write_text(f"{head}01,1,2024-01-01\n01,2,2024-03-01\nsub-09,1,2024-01-01\n")
    one, two = find_patients(root)
    assert one.dating is Calendar.DATES and two.dating is Calendar.ORDER
    assert all("visits.csv: no scans of patient sub-09" in patient.notes[0] for patient in (one, two))
    (root / "visits.csv").write_text(f"{head}X,1,2024-01-01\nY,2,2024-03-01\n")
    with pytest.raises(InputError, match=r"visits.csv names patients X, Y, and there are no scans of them"):
        find_patients(root)


def test_one_damaged_sessions_table_stops_one_patient(tmp_path: Path) -> None:
    root = make(tmp_path / "d", bids("sub-01", "ses-1", "ses-2") + bids("sub-02", "ses-1", "ses-2"))
    (root / "sub-01" / "sub-01_sessions.tsv").write_text("session_id\tacq_time\nses-1\tJan 2024\n")
    wrong: list[str] = []
    found = find_patients(root, on_error=lambda patient, error: wrong.append(patient))
    assert ([p.id for p in found], wrong) == (["sub-02"], ["sub-01"])


@pytest.mark.parametrize("wrong", ["sub-01,ses-2,Jan 2024", "sub-01,ses-1,2024-02-01", "sub-01,,2024-02-01"])
def test_one_damaged_row_of_a_table_stops_its_patient_alone(tmp_path: Path, wrong: str) -> None:
    root = make(tmp_path / "d", bids("sub-01", "ses-1", "ses-2") + bids("sub-02", "ses-1", "ses-2"))
    rows = ["sub-01,ses-1,2024-01-01", wrong, "sub-02,ses-1,2024-01-01", "sub-02,ses-2,2024-03-01"]
    (root / "visits.csv").write_text("patient,visit,date\n" + "\n".join(rows) + "\n")
    stopped: list[tuple[str, str]] = []
    found = find_patients(root, on_error=lambda patient, error: stopped.append((patient, str(error))))
    assert [p.id for p in found] == ["sub-02"]
    assert [patient for patient, _ in stopped] == ["sub-01"]
    assert "line 3" in stopped[0][1]


def test_dates_where_bids_keeps_them(tmp_path: Path) -> None:
    days = [date(2024, 1, 1), date(2024, 3, 1)]
    root = make(tmp_path / "a", bids("sub-01", "ses-01", "ses-02"))
    for number, day in enumerate(days, 1):
        path = root / f"sub-01/ses-0{number}/sub-01_ses-0{number}_scans.tsv"
        path.write_text(f"filename\tacq_time\nanat/x_T1w.nii.gz\t{day}T10:00:00\n")
    assert [visit.day for visit in one(root).visits] == days
    root = make(tmp_path / "b", bids("sub-01", "ses-01", "ses-02") + bids("sub-02", "ses-01", "ses-02"))
    rows = "".join(f"sub-0{p}\tses-{v}\t{d}\n" for p in (1, 2) for v, d in ((1, 0), (2, 61)))
    (root / "sessions.tsv").write_text("participant_id\tsession_id\tdays_since_baseline\n" + rows)
    for patient in find_patients(root):  # ses-1 in the table is ses-01
        assert [(visit.day - DAY_ZERO).days for visit in patient.visits] == [0, 61]
    root = make(tmp_path / "c", bids("sub-01", "ses-20240101", "ses-20240301"))
    (root / "sub-01" / "sessions.tsv").write_text("session_id\tacq_time\nses-20240101\t2024-01-01\n")
    assert [visit.day for visit in one(root).visits] == days
