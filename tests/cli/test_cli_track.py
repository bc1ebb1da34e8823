"""``brats-seg track`` as a user runs it, on small heads with known lesions."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_studies import Outcome, change, entries, large_voxels_task, write_case, write_nifti
from heads import head_grid, head_image
from scipy import ndimage

from brats_seg.cli import main
from brats_seg.core.course import Course
from brats_seg.core.study import MRSequence
from brats_seg.files.visits import find_patients
from brats_seg.imaging.identify import IdentityWarning
from brats_seg.run import cohort
from brats_seg.run.cohort import patient_task
from brats_seg.run.options import SegmentOptions
from brats_seg.run.track import TrackRun

SEQUENCES = (MRSequence.T1CE, MRSequence.FLAIR)
SPACING_MM = (4.0, 4.0, 4.0)
DAYS = {"ses-1": "2024-01-10", "ses-2": "2024-03-10", "ses-3": "2024-05-10"}
GROWTH = {"ses-1": 1.0, "ses-2": 0.6, "ses-3": 1.15}
"""Size of the head, and with it of its tumour, at each visit; a cheap way to known changes of a lesion."""


def write_visit(
    patient: Path, visit: str, *, size: float, shift_mm: float = 0.0, scans: bool = True, folds: int | None = None
) -> None:
    grid = head_grid("LPS", spacing_mm=SPACING_MM, origin_mm=(shift_mm, 0.0, 0.0))
    seen = head_grid("LPS", spacing_mm=SPACING_MM)
    folder = patient / visit / "anat"
    name = f"{patient.name}_{visit}"
    for sequence in SEQUENCES if scans else ():
        word = {"t1ce": "ce-gadolinium_T1w", "flair": "FLAIR"}[sequence.value]
        data = head_image(seen, sequence).data
        if folds is not None:  # those of one person
            pattern = ndimage.gaussian_filter(np.random.default_rng(folds).standard_normal(data.shape), 1.5)
            data = data * np.float32(1 + 0.2 * pattern / pattern.std())
        write_nifti(data, grid.affine, folder / f"{name}_{word}.nii.gz")
    points = np.linalg.norm(
        seen.to_world(np.stack(np.meshgrid(*[np.arange(n) for n in seen.shape], indexing="ij"), -1)) - (12, -9, 6),
        axis=-1,
    )
    labels = np.zeros(seen.shape, np.uint8)
    for radius, number in ((17.0, 2), (12.0, 3), (5.0, 1)):
        labels[points < radius * size] = number
    write_nifti(labels, grid.affine, folder / f"{name}_dseg.nii.gz")


def write_dates(patient: Path, visits: list[str]) -> None:
    lines = ["session_id\tacq_time", *(f"{visit}\t{DAYS[visit]}" for visit in visits)]
    (patient / f"{patient.name}_sessions.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of one patient with three visits, each with its head elsewhere; not to be changed."""
    root = tmp_path_factory.mktemp("track") / "cohort"
    for number, (visit, size) in enumerate(GROWTH.items()):
        write_visit(root / "sub-1", visit, size=size, shift_mm=4.0 * number)
    write_dates(root / "sub-1", list(GROWTH))
    return root


@pytest.fixture
def patient(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "cohort")) / "sub-1"


@pytest.fixture
def track(cli: Callable[..., Outcome], model: Path, out: Path) -> Callable[..., Outcome]:
    def run(place: Path, *rest: object) -> Outcome:
        return cli("track", place, "-o", out, "--model", model, "--schema", "brats2023", *rest)

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def overall(out: Path, measure: str = "2d") -> list[tuple[str, str, str]]:
    return [
        (row["visit"], row["category"], row["status"])
        for row in rows(out / "sub-1" / "responses.csv")
        if (row["compartment"], row["measure"]) == ("overall", measure)
    ]


@pytest.mark.slow
def test_a_course_from_label_maps(track: Callable[..., Outcome], patient: Path, out: Path, cli) -> None:
    done = track(patient, "--segmentations", patient)
    assert (done.code, done.err) == (0, "")
    assert "best response SD at ses-2, progression at ses-3" in done.out
    folder = out / "sub-1"
    assert "cohort.html" not in (folder / "sub-1_timeline.html").read_text()
    assert entries(folder) == sorted(
        ["alignments.json", "change.csv", "course.json", "growth.json", "lesions.csv", "measurements.csv",
         "paired.json", "responses.csv", "run.json", "sub-1_timeline.html", "volumes.csv"]
    )  # fmt: skip
    assert overall(out) == [("ses-1", "baseline", ""), ("ses-2", "PR", "refuted"), ("ses-3", "PD", "")]
    lesions = [row for row in rows(folder / "lesions.csv") if row["region"] == "ET"]
    assert [(row["lesion"], row["relation"]) for row in lesions] == [("E1", "first"), ("E1", "same"), ("E1", "same")]
    changes = {
        (r["visit"], r["against"]): r for r in rows(folder / "change.csv") if (r["region"], r["lesion"]) == ("ET", "")
    }
    assert changes["ses-2", "baseline"]["larger_than_error"] == "yes"
    assert float(changes["ses-2", "baseline"]["percent"]) < -60 and changes["ses-3", "nadir"]["reference"] == "ses-2"
    course = json.loads((folder / "course.json").read_text())
    shifts = [visit["alignment_to_first"]["translation_mm"] for visit in course["visits"][1:]]
    assert shifts == pytest.approx([4.0, 8.0], abs=1.0)
    # The table of measurements gives the same answers to the other command.
    assert cli("respond", folder / "measurements.csv", "-o", out / "again").code == 0
    keys = ("visit", "compartment", "measure", "category", "status", "percent_from_baseline", "percent_from_nadir")
    both = [[tuple(r[k] for k in keys) for r in rows(path / "responses.csv")] for path in (folder, out / "again")]
    assert both[0] == both[1]


def test_the_lesion_that_decided_is_on_the_page(track: Callable[..., Outcome], tmp_path: Path, out: Path) -> None:
    """Far from the slice of the old lesion, which did not change."""
    old = np.indices((40, 40, 40)).reshape(3, -1).T
    for visit, places in (
        ("visit2_2024-01-01", [(20, 20, 8)]),
        ("visit1_2024-05-01", [(20, 20, 8), (12, 12, 30)]),
    ):
        labels = np.zeros((40, 40, 40), np.uint8)
        for place in places:
            labels[(np.linalg.norm(old - place, axis=1) < 7).reshape(labels.shape)] = 3
        write_nifti(labels, np.eye(4), tmp_path / "P" / visit / "seg.nii.gz")
    done = track(tmp_path / "P")
    assert done.code == 0, done.err
    assert "their names say visit1_2024-05-01, visit2_2024-01-01: check the dates" in done.out
    page = (out / "P" / "P_timeline.html").read_text()
    assert page.index("z 30 mm: new E2 at visit1_2024-05-01") < page.index("z 8 mm: most of ET")


@pytest.mark.slow
def test_a_visit_that_is_added_changes_nothing_before(
    track: Callable[..., Outcome], followed: Path, patient: Path, out: Path
) -> None:
    for visit in ("sub-1_ses-1", "sub-1_ses-2"):  # segmented before, as by a run that was stopped
        shutil.copytree(followed / "segmentations" / visit, out / "segmentations" / visit)
    later = patient.parent / "later"
    shutil.move(patient / "ses-3", later)
    write_dates(patient, ["ses-1", "ses-2"])
    assert track(patient, "--no-report").code == 0
    names = ("responses.csv", "lesions.csv", "volumes.csv", "change.csv", "measurements.csv")
    before = {name: (out / "sub-1" / name).read_text().splitlines() for name in names}
    made = {path: path.stat().st_mtime_ns for path in (out / "segmentations").rglob("*_dseg.nii.gz")}
    shutil.move(later, patient / "ses-3")
    write_dates(patient, ["ses-1", "ses-2", "ses-3"])
    refused = track(patient, "--no-report")
    assert refused.code == 6 and "--resume" in refused.err
    done = track(patient, "--no-report", "--resume", "-v")
    assert done.code == 0 and "ses-1: kept from before" in done.out and "ses-3: segmented" in done.out
    for name in names:
        after = (out / "sub-1" / name).read_text().splitlines()
        assert after[: len(before[name])] == before[name] and len(after) > len(before[name])
    assert made == {path: path.stat().st_mtime_ns for path in made}
    again = track(patient, "--no-report", "--resume")
    assert again.code == 0 and "kept from before" in again.out


@pytest.mark.slow
def test_clinical_facts_decide(track: Callable[..., Outcome], followed: Path, patient: Path, out: Path) -> None:
    shutil.copytree(followed, out)
    table = out.parent / "clinical.csv"
    table.write_text("patient,date,event,value\nsub-1,2023-12-12,radiotherapy_end,\nsub-1,2024-02-01,surgery,\n")
    assert track(patient, "--clinical", table, "--no-report", "--resume").code == 0
    missing = {row["visit"]: row["missing"] for row in rows(out / "sub-1" / "responses.csv")}
    assert all("segmentation not validated after treatment" in words for words in missing.values())
    found = json.loads((out / "sub-1" / "course.json").read_text())["resections"]
    assert {(entry["before"], entry["after"]) for entry in found} == {("ses-1", "ses-2")}
    table.write_text("patient,date,event,value\nsub-9,2023-12-12,surgery,\n")
    wrong = track(patient, "--clinical", table, "--overwrite", "--no-report")
    assert wrong.code == 3 and "line 2" in wrong.err and "sub-9" in wrong.err


@pytest.mark.slow
def test_without_dates_nothing_is_invented(track: Callable[..., Outcome], patient: Path, out: Path) -> None:
    (patient / "sub-1_sessions.tsv").unlink()
    done = track(patient, "--segmentations", patient, "--no-report")
    assert done.code == 0
    assert {row["date"] for row in rows(out / "sub-1" / "responses.csv")} == {""}
    text = (out / "sub-1" / "responses.csv").read_text() + (out / "sub-1" / "growth.json").read_text()
    assert "1900" not in text and "the dates of the visits are not known" in text
    growth = json.loads((out / "sub-1" / "growth.json").read_text())["growth"]
    assert all(entry["specific_growth_rate"]["value"] is None for entry in growth)


@pytest.mark.slow
def test_day_offsets_take_clinical_facts_in_days(track: Callable[..., Outcome], patient: Path, out: Path) -> None:
    (patient / "sub-1_sessions.tsv").write_text("session_id\tdays\nses-1\t0\nses-2\t60\nses-3\t121\n")
    table = out.parent / "clinical.csv"
    table.write_text("patient,date,event,value\nsub-1,-20,radiotherapy_end,\nsub-1,70,surgery,\n")
    assert track(patient, "--segmentations", patient, "--clinical", table, "--no-report").code == 0
    answers = rows(out / "sub-1" / "responses.csv")
    words = " ".join(row["reasons"] + row["missing"] for row in answers)
    assert "20 days after its end on day -20" in words and "first scan after the surgery of day 70" in words
    course = json.loads((out / "sub-1" / "course.json").read_text())
    assert [(event["event"], event["date"]) for event in course["events"]] == [
        ("radiotherapy_end", "day -20"), ("surgery", "day 70"),
    ]  # fmt: skip
    assert {entry["date"] for entry in course["resections"]} == {"day 70"}
    growth = (out / "sub-1" / "growth.json").read_text()
    assert "surgery day 70" in growth and "1900" not in growth + words
    table.write_text("patient,date,event,value\nsub-1,2024-01-01,surgery,\n")
    wrong = track(patient, "--clinical", table, "--overwrite")
    assert wrong.code == 3 and "line 2" in wrong.err and "day offsets" in wrong.err and wrong.err.count("\n") == 1


@pytest.mark.slow
def test_several_processes_refuse_existing_results_before_they_work(
    track: Callable[..., Outcome], patient: Path, out: Path
) -> None:
    assert track(patient, "--segmentations", patient, "--no-report").code == 0
    refused = track(patient, "--jobs", "2", "--no-report")
    assert refused.code == 6 and "--resume" in refused.err
    assert not (out / "segmentations").exists()


@pytest.mark.slow
def test_a_patient_started_twice_in_one_run_is_done_once(
    track: Callable[..., Outcome], patient: Path, out: Path, model: Path
) -> None:
    (found,) = find_patients(patient, segmentations=patient)
    run = TrackRun(out, SegmentOptions(model=str(model), report=False), "brats2023", report=False)
    first, again = (patient_task((found, ()), run) for _ in range(2))
    assert (first.error, again.error, again.kept) == (None, None, False)
    held = json.loads((out / "sub-1" / "course.json").read_text())
    assert again.course is not None and again.course.to_dict() == Course.load(out / "sub-1").to_dict() == held
    assert "already holds" in str(patient_task((found, ()), replace(run, token="another")).error)


@pytest.mark.slow
def test_a_cohort_with_a_damaged_patient_and_a_damaged_visit(
    track: Callable[..., Outcome], patient: Path, out: Path
) -> None:
    cohort = patient.parent
    write_visit(cohort / "sub-2", "ses-1", size=1.0)
    shutil.copytree(patient, cohort / "sub-3")
    for path in sorted((cohort / "sub-3").rglob("*sub-1*"), reverse=True):
        path.rename(path.with_name(path.name.replace("sub-1", "sub-3")))
    broken = cohort / "sub-3" / "ses-2" / "anat" / "sub-3_ses-2_dseg.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    done = track(cohort, "--segmentations", cohort)
    assert done.code == 3
    assert "sub-2: patient sub-2 has one visit" in done.err
    assert "sub-3: visit ses-2 was left out" in done.err
    assert "sub-1: 3 visits" in done.out and "sub-3: 2 visits" in done.out
    page = (out / "cohort.html").read_text()
    assert "Swimmer" in page and "sub-3, visit ses-2" in page and "sub-1/sub-1_timeline.html" in page
    assert "2 patients followed" in page and "1 failed." in page and "<li>sub-2: patient sub-2 has one visit" in page
    assert 'href="../cohort.html"' in (out / "sub-1" / "sub-1_timeline.html").read_text()
    again = track(patient, "--segmentations", patient, "--resume")  # one of those whose results lie there
    assert again.code == 0 and "sub-1: 3 visits, kept" in again.out and "sub-3: " not in again.out
    page = (out / "cohort.html").read_text()
    assert "2 patients followed" in page and 'href="sub-3/sub-3_timeline.html"' in page


@pytest.mark.slow
def test_a_visit_whose_scans_do_not_fit_together_is_followed_and_the_code_says_so(
    cli: Callable[..., Outcome], model: Path, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = IdentityWarning({MRSequence.T1: MRSequence.T1CE, MRSequence.T1CE: MRSequence.T1}, "evidence 0.9")
    monkeypatch.setattr("brats_seg.imaging.consistency.check_identity", lambda *_: (looks,))
    for visit in ("ses-1", "ses-2"):
        write_case(tmp_path / "sub-1" / visit, name=f"sub-1_{visit}")
    for path in (tmp_path / "sub-1" / "ses-2").iterdir():
        change(path, lambda data: 1.01 * data)
    done = cli("track", tmp_path / "sub-1", "-o", out, "--model", model, "--no-report")
    assert done.code == 3 and "the scans of visit ses-1 do not fit together" in done.err
    course = json.loads((out / "sub-1" / "course.json").read_text())
    assert [visit["fits"] for visit in course["visits"]] == [False, False]


def test_label_maps_at_other_places_are_left_out_with_the_distance(
    track: Callable[..., Outcome], tmp_path: Path, out: Path
) -> None:
    numbers = np.zeros((60, 72, 60), np.uint8)
    numbers[20:30, 20:30, 20:30], numbers[23:27, 23:27, 23:27] = 2, 3
    for number, shift_mm in ((1, 0), (2, 6)):
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
        affine[0, 3] = shift_mm
        (tmp_path / "P1").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(numbers, affine), tmp_path / "P1" / f"P1_visit{number}_seg.nii.gz")
        numbers[21:29, 21:29, 21:29] = 3
    done = track(tmp_path / "P1", "--no-report")
    assert done.code == 3 and "visit2 was left out: it lies on another grid than visit1" in done.err
    assert "6 mm apart" in done.err


@pytest.fixture(scope="module")
def drawn_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three visits in one folder, the second of another person; not to be changed."""
    patient = tmp_path_factory.mktemp("people") / "sub-1"
    for number, (visit, person, size) in enumerate((("ses-1", 1, 1.0), ("ses-2", 2, 0.3), ("ses-3", 1, 1.0))):
        write_visit(patient, visit, size=size, folds=person, shift_mm=3.0 * number)
    return patient


@pytest.mark.slow
def test_two_people_are_not_one_patient(track: Callable[..., Outcome], drawn_people: Path, out: Path) -> None:
    patient = drawn_people
    done = track(patient, "--segmentations", patient)
    assert done.code == 3 and "visit ses-2 was left out: it does not look like the person of ses-1" in done.err
    assert [visit for visit, *_ in overall(out)] == ["ses-1", "ses-3"]
    page = (out / "sub-1" / "sub-1_timeline.html").read_text()
    box = page[page.index('class="warnings"') : page.index('id="volumes"')]
    assert "does not look like the person of ses-1" in box
    forced = track(patient, "--segmentations", patient, "--overwrite", "--no-report", "--force")
    assert forced.code == 0 and "warning: ses-2 is compared although it does not look like" in forced.out
    assert [visit for visit, *_ in overall(out)] == ["ses-1", "ses-2", "ses-3"]
    (warning,) = json.loads((out / "sub-1" / "course.json").read_text())["warnings"]
    assert "ses-2" in warning


def test_masks_of_the_whole_tumour_are_not_taken_for_tumours_that_do_not_enhance(
    track: Callable[..., Outcome], tmp_path: Path, out: Path
) -> None:
    patient = tmp_path / "sub-1"
    for number, visit in enumerate(("ses-1", "ses-2")):
        mask = np.zeros((24, 24, 24), np.uint8)
        mask[4 : 18 - 2 * number, 4:18, 4:18] = 1
        write_nifti(mask, np.eye(4), patient / visit / "anat" / f"sub-1_{visit}_dseg.nii.gz")
    done = track(patient, "--schema", "whole")
    assert done.code == 0
    assert "enhancement is not assessable at ses-1, ses-2" in done.out and "nothing enhances" not in done.out
    rows = list(csv.DictReader((out / "sub-1" / "change.csv").open()))
    assert {row["region"] for row in rows} == {"WT"}


@pytest.mark.slow
def test_the_person_of_most_visits_is_followed(
    track: Callable[..., Outcome], drawn_people: Path, tmp_path: Path, out: Path
) -> None:
    patient = Path(shutil.copytree(drawn_people, tmp_path / "sub-1"))
    days = ("ses-2\t2024-01-10", "ses-1\t2024-03-10", "ses-3\t2024-05-10")  # the other person comes first
    (patient / "sub-1_sessions.tsv").write_text("\n".join(("session_id\tacq_time", *days)) + "\n")
    done = track(patient, "--segmentations", patient, "--no-report")
    assert done.code == 3
    assert "visit ses-2 was left out: it does not look like the person of ses-1, ses-3" in done.err
    assert [visit for visit, *_ in overall(out)] == ["ses-1", "ses-3"]


@pytest.mark.slow
def test_a_map_that_does_not_lie_on_its_scan_is_left_out(track: Callable[..., Outcome], patient: Path) -> None:
    path = patient / "ses-2" / "anat" / "sub-1_ses-2_dseg.nii.gz"
    image = nib.load(path)
    away = image.affine + np.array([[0, 0, 0, 90.0], *[[0] * 4] * 3])
    write_nifti(np.asarray(image.dataobj), away, path)
    done = track(patient, "--segmentations", patient, "--no-report")
    assert done.code == 3 and "visit ses-2 was left out" in done.err and "outside the head" in done.err


@pytest.mark.slow
def test_resume_does_not_forget_a_visit_that_was_left_out(
    track: Callable[..., Outcome], patient: Path, out: Path
) -> None:
    broken = patient / "ses-2" / "anat" / "sub-1_ses-2_dseg.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    first = track(patient, "--segmentations", patient, "--no-report")
    again = track(patient, "--segmentations", patient, "--no-report", "--resume")
    assert "kept from before" in again.out
    assert (first.code, again.code) == (3, 3) and "visit ses-2 was left out" in again.err


@pytest.mark.slow
def test_a_clinical_row_that_fits_no_visit_stops_its_patient_alone(
    track: Callable[..., Outcome], patient: Path, out: Path
) -> None:
    other = shutil.copytree(patient, patient.parent / "sub-2")
    for path in sorted(other.rglob("*sub-1*"), reverse=True):
        path.rename(path.with_name(path.name.replace("sub-1", "sub-2")))
    table = out.parent / "clinical.csv"
    table.write_text("patient,date,event,value\nsub-1,2024-01-10,baseline,\nsub-2,2024-01-11,baseline,\n")
    done = track(patient.parent, "--segmentations", patient.parent, "--clinical", table, "--no-report")
    assert done.code == 3 and "sub-1: 3 visits" in done.out
    assert "sub-2: " in done.err and "line 3" in done.err and "baseline 2024-01-11" in done.err


def test_label_maps_of_one_space_stored_in_other_orders_are_followed(
    track: Callable[..., Outcome], tmp_path: Path, out: Path
) -> None:
    patient = tmp_path / "masks" / "sub-1"
    for visit, size in GROWTH.items():
        write_visit(patient, visit, size=size, scans=False)
    path = patient / "ses-2" / "anat" / "sub-1_ses-2_dseg.nii.gz"
    turned = nib.as_closest_canonical(nib.load(path))
    write_nifti(np.asarray(turned.dataobj), turned.affine, path)
    done = track(patient, "--no-report")
    assert (done.code, done.err) == (0, "")
    lesions = [row for row in rows(out / "sub-1" / "lesions.csv") if row["region"] == "ET"]
    assert [row["relation"] for row in lesions] == ["first", "same", "same"]


@pytest.fixture(scope="module")
def followed(drawn: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the patient's scans; not to be changed."""
    out = tmp_path_factory.mktemp("followed")
    command = ["track", drawn / "sub-1", "-o", out, "--model", model, "--schema", "brats2023", "--no-report"]
    assert main([str(word) for word in command]) == 0
    return out


@pytest.mark.slow
def test_notes_on_intervals_are_those_of_the_segmentation(followed: Path) -> None:
    for visit in json.loads((followed / "sub-1" / "course.json").read_text())["visits"]:
        assert not any("without probabilities" in note for note in visit["notes"])


@pytest.mark.slow
def test_processes_give_the_same_tables(
    track: Callable[..., Outcome], followed: Path, patient: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort, "patient_task", large_voxels_task)
    shutil.copytree(followed, out)
    shutil.rmtree(out / "segmentations" / "sub-1_ses-3")  # to be segmented in the process
    (out / "sub-1" / "paired.json").unlink()  # to be measured there; how the visits lie is known
    assert track(patient, "--no-report", "--jobs", "2", "--resume").code == 0
    for name in ("responses.csv", "lesions.csv", "volumes.csv", "change.csv", "growth.json", "paired.json"):
        assert (out / "sub-1" / name).read_text() == (followed / "sub-1" / name).read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--jobs", "0"], (2, "--jobs: '0'")),
        (["--criteria", "rano3"], (2, "invalid choice")),
        (["--table", "gone.csv"], (3, "gone.csv cannot be read")),
        (["--clinical", "gone.csv"], (3, "gone.csv cannot be read")),
        (["--segmentations", "gone"], (3, "there is no file or folder gone")),
        (["--cluster", "tcp://x:1", "--jobs", "2"], (2, "not both")),
    ],
)
def test_mistakes_get_one_line(
    track: Callable[..., Outcome], drawn: Path, out: Path, arguments: list[str], expected: tuple[int, str]
) -> None:
    done = track(drawn / "sub-1", *arguments)
    assert done.code == expected[0] and expected[1] in done.err and done.err.count("\n") == 1
    assert not out.exists()


def test_results_do_not_go_among_the_scans(cli: Callable[..., Outcome], drawn: Path) -> None:
    done = cli("track", drawn / "sub-1", "-o", drawn / "sub-1" / "out")
    assert done.code == 6 and "among the scans" in done.err
