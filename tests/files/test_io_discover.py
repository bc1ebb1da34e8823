"""Finding scans by name: every convention, every alias, and no guess where a name is unclear."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nifti_files import study

from brats_seg.core.errors import InputError
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.files.find import find_studies, find_study, study_from_files
from brats_seg.files.folders import study_folders
from brats_seg.files.name_words import CONTRAST, DERIVED, LABELS, MODEL_WORDS, NATIVE, SEQUENCE_WORDS
from brats_seg.files.names import Role, read_name, read_names
from brats_seg.files.study_id import check_study_id

T1, T1CE, T2, FLAIR = SEQUENCES


def touch(folder: Path, *names: str) -> Path:
    """A folder with empty files: discovery looks at names only."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path) -> dict[MRSequence, str]:
    return {sequence: path.name for sequence, path in find_study(folder).files.items()}


CONVENTIONS = {
    "BraTS 2012-2021": ("X_t1", "X_t1ce", "X_t2", "X_flair"),
    "BraTS 2023 on": ("X-t1n", "X-t1c", "X-t2w", "X-t2f"),
    "bare": ("t1", "t1ce", "t2", "flair"),
    "bare 2023": ("t1n", "t1c", "t2w", "t2f"),
    "capitals": ("X_T1", "X_T1GD", "X_T2", "X_FLAIR"),
    "ct1": ("X_T1", "X_CT1", "X_T2", "X_FLA"),
    "post": ("X_t1_pre", "X_t1_post", "X_t2", "X_t2_flair"),
    "t1post": ("X_t1pre", "X_t1post", "X_t2", "X_t2flair"),
    "dashes": ("X-t1-native", "X-t1-gd", "X-t2", "X-t2-flair"),
    "contrast agent": ("X_t1", "X_t1_km", "X_t2", "X_dark-fluid_t2"),
    "scanner words": ("Ax T1", "Ax T1 +Gd post".replace("+", ""), "Ax T2 TSE", "Ax T2 FLAIR"),
    "processed": ("X_T1_bias", "X_T1c_bias", "X_T2_bias", "X_FLAIR_bias"),
    "registered": ("X_t1_to_flair", "X_t1ce", "X_t2_to_t1ce", "X_flair_to_t1"),
    "dots": ("X.t1", "X.t1gd", "X.t2", "X.flair"),
    "numbered": ("X_0000_t1", "X_0000_t1ce", "X_0000_t2", "X_0000_flair"),
}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("names", CONVENTIONS.values(), ids=CONVENTIONS.keys())
@pytest.mark.parametrize("prefix", ["BraTS-GLI-00001-000", "Brats18_TCIA10_639_1"])
def test_every_convention(tmp_path: Path, names: tuple[str, ...], prefix: str, ending: str) -> None:
    files = [name.replace("X", prefix) + ending for name in names]
    folder = touch(tmp_path / "case", *files)
    assert found(folder) == dict(zip(SEQUENCES, files, strict=True))


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        *[(f"p_{alias}", T1) for alias in ("t1", "T1w", "t1n", "t1_pre", "t1_mprage", "t1_without_contrast")],
        *[(f"p_{alias}", T1) for alias in ("t1_post_op", "t1_pre_op", "native_t1", "pre_contrast_t1", "patient_c_t1")],
        *[(f"p_{alias}", T1CE) for alias in ("t1ce", "t1_ce", "t1-ce", "ce_t1", "T1Gd", "t1c", "t1_c", "ct1", "cet1")],
        *[(f"p_{alias}", T1CE) for alias in ("t1_gad", "t1km", "t1contrast", "t1_post_contrast", "post_contrast_t1")],
        *[(f"p_{alias}", T1CE) for alias in ("t1_mprage_post", "t1_ce_pre_op", "T1w_Gd", "t1_2_ce", "gd_t1", "t1cw")],
        *[(f"p_{alias}", T2) for alias in ("t2", "T2w", "t2_tse", "t2_2", "t2_space")],
        *[(f"p_{alias}", FLAIR) for alias in ("flair", "fla", "t2f", "t2_flair", "t2-flair", "flair_t2", "t2flair")],
        *[(f"p_{alias}", FLAIR) for alias in ("t2_tirm_tra_dark-fluid", "t2_space_dark-fluid", "t2_space_flair")],
        *[(f"p_{alias}", FLAIR) for alias in ("flair_in_t1_space", "flair_gd", "flair_to_t1ce", "3d_flair_sag")],
    ],
)
def test_aliases(name: str, sequence: MRSequence) -> None:
    reading = read_name(f"{name}.nii.gz")
    assert (reading.role, reading.sequence) == (Role.IMAGE, sequence)


@pytest.mark.parametrize(
    "name",
    ["p_flair_t1", "p_t1_t2", "p_t1ce_t2", "p_t1_t1ce", "p_post_t1", "p_flair_2mm_t2", "p", "p_pd"],
)
def test_names_that_say_two_things_or_nothing_are_not_guessed(name: str) -> None:
    assert read_name(f"{name}.nii.gz").role is Role.UNCLEAR


@pytest.mark.parametrize(
    "name",
    [
        *("patientt1", "st1cker", "flairdale-7", "at2b", "t10", "t2star", "xt1ce", "t1cell", "braT1Sa"),
        *("inplaneT1", "T1map", "T1rho", "t22", "gt1"),
    ],
)
def test_letters_inside_words_do_not_match(name: str) -> None:
    assert read_name(f"{name}.nii.gz").sequence is None


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *[(name, Role.LABELS) for name in ("X_seg", "X-seg", "X_dseg", "tumor_segmentation", "X_label", "X_gt", "seg")],
        *[(name, Role.NOT_INPUT) for name in ("X_mask", "X_t1_brainmask", "X_probseg", "X_flair_pred", "X_t2_mask")],
        *[(name, Role.NOT_INPUT) for name in ("MS_mslesions", "sub-1_desc-brain_mask", "sub-1_label-ET_probseg")],
        *[(name, Role.NOT_INPUT) for name in ("X_adc", "X_t1_t2_ratio", "X_t2_star", "X_t2_swi", "brain_segmentation")],
        *[(name, Role.NOT_INPUT) for name in ("sub-1_space-T1w_desc-brain_mask", "X_t1ce-t1_subtraction", "t1_map")],
        *[(name, Role.LABELS) for name in ("sub-1_ses-2_space-orig_dseg", "X_t1ce_seg")],
    ],
)
def test_masks_labels_and_other_images_are_no_inputs(name: str, role: Role) -> None:
    assert read_name(f"{name}.nii.gz").role is role


BIDS = [
    ("sub-01_T1w", T1),
    ("sub-01_ses-2_acq-3D_run-1_T1w", T1),
    ("sub-01_ce-GADOLINIUM_T1w", T1CE),
    ("sub-01_ce-gadolinium_t1w", T1CE),
    ("sub-01_ses-2_ce-Gd_run-1_T1w", T1CE),
    ("sub-01_acq-post_T1w", T1CE),
    ("sub-01_acq-t1ce_T1w", T1CE),
    ("sub-01_ce-none_T1w", T1),
    ("sub-01_T2w", T2),
    ("sub-01_space-T1w_desc-preproc_T2w", T2),
    ("sub-01_FLAIR", FLAIR),
    ("sub-01_acq-T1_FLAIR", FLAIR),
    ("sub-01_acq-flair_T2w", FLAIR),
    ("sub-t1_ses-flair_T2w", T2),
    ("sub-01_ses-1_t1ce", T1CE),
    ("sub-01-t1ce", T1CE),
]


@pytest.mark.parametrize(("name", "sequence"), BIDS)
def test_bids(name: str, sequence: MRSequence) -> None:
    assert read_name(f"{name}.nii.gz").sequence is sequence


def test_bids_folders_and_ids(tmp_path: Path) -> None:
    names = ("T1w", "ce-GADOLINIUM_T1w", "T2w", "FLAIR")
    for session in ("01", "02"):
        touch(tmp_path / f"sub-7/ses-{session}/anat", *[f"sub-7_ses-{session}_{n}.nii.gz" for n in names])
    touch(tmp_path / "sub-8/anat", *[f"sub-8_{n}.nii.gz" for n in names])
    touch(tmp_path / "derivatives/x/sub-7/anat", "sub-7_T1w.nii.gz")
    assert [s.id for s in find_studies(tmp_path)] == ["sub-7_ses-01", "sub-7_ses-02", "sub-8"]
    assert find_study(tmp_path / "sub-7/ses-02").id == "sub-7_ses-02"
    assert find_study(tmp_path / "sub-8").id == "sub-8" == find_study(tmp_path / "sub-8/anat").id
    with pytest.raises(InputError, match=r"holds 2 studies \(ses-01/anat, ses-02/anat\)"):
        find_study(tmp_path / "sub-7")


def test_missing_sequences_are_allowed_and_listed(tmp_path: Path) -> None:
    files = find_study(touch(tmp_path / "c", "c_flair.nii.gz", "c_t2.nii.gz"))
    assert list(files.files) == [T2, FLAIR]
    assert files.missing == (T1, T1CE)


def test_labels_are_kept_apart_and_other_files_are_listed(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "c", "c_t1.nii.gz", "c_seg.nii.gz", "c_t1_brainmask.nii.gz", "c_t1_t2.nii.gz", "notes.txt"
    )
    files = find_study(folder)
    assert list(files.files) == [T1]
    assert files.labels == folder / "c_seg.nii.gz"
    assert files.ignored == ("c_t1_brainmask.nii.gz", "c_t1_t2.nii.gz")
    assert files.notes == ("1 file was left out: its name says no sequence, or more than one",)


def test_two_label_maps_are_none(tmp_path: Path) -> None:
    files = find_study(touch(tmp_path / "c", "c_t1.nii.gz", "c_seg.nii.gz", "c_dseg.nii.gz"))
    assert files.labels is None and "2 files look like label maps" in files.notes[0]


def test_two_candidates_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "c", "c_t1ce.nii.gz", "c_t1_gd.nii.gz", "c_t1.nii.gz")
    with pytest.raises(InputError) as caught:
        find_study(tmp_path / "c")
    message = str(caught.value)
    assert "2 files could be T1CE: c_t1_gd.nii.gz and c_t1ce.nii.gz" in message and "--t1ce FILE" in message
    assert caught.value.exit_code == 3


def test_compressed_and_plain_are_two_candidates(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"c_t1\.nii and c_t1\.nii\.gz \(the same name"):
        find_study(touch(tmp_path / "c", "c_t1.nii.gz", "c_t1.nii"))


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("BraTS2021_00001_t1", "BraTS2021_00002_t1", "BraTS2021_00002_flair"), "BraTS2021_00001 and BraTS2021_00002"),
        (("A_t1", "B_flair"), "A and B"),
        (("BraTS-GLI-00099-000-t1c", "BraTS-GLI-00099-001-t2f"), "BraTS-GLI-00099-000 and BraTS-GLI-00099-001"),
        (("sub-1_T1w", "sub-2_T2w"), "sub-1 and sub-2"),
        (("sub-1_ses-1_T1w", "sub-1_ses-2_T2w"), "sub-1_ses-1 and sub-1_ses-2"),
        (("pre_t2", "post_flair"), "pre and post"),
    ],
)
def test_two_studies_in_one_folder(tmp_path: Path, names: tuple[str, ...], ids: str) -> None:
    with pytest.raises(InputError, match=f"files of two studies are mixed in one folder: {ids}"):
        find_study(touch(tmp_path / "c", *[f"{name}.nii.gz" for name in names]))


@pytest.mark.parametrize(
    "names",
    [
        ("t1_2024-01-31", "t1ce_2024-04-30", "t2_2024-01-31", "flair_2024-01-31"),
        ("T1_visit1", "T1CE_visit2", "T2_visit1", "FLAIR_visit1"),
        ("P7_t1_20240131", "P7_t1ce_20240131", "P7_t2_20240430", "P7_flair_20240131"),
        ("T1_week0", "T1CE_week12", "T2_week0", "FLAIR_week0"),
        ("T1_31.01.2024", "T1CE_30.04.2024", "T2_31.01.2024", "FLAIR_31.01.2024"),
    ],
)
def test_sequences_of_two_visits_are_no_study(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="files of two visits are mixed in one folder"):
        find_study(touch(tmp_path / "case", *[f"{name}.nii.gz" for name in names]))
    one = [name.replace(re.findall(r"[^_]+$", name)[0], re.findall(r"[^_]+$", names[0])[0]) for name in names]
    assert len(find_study(touch(tmp_path / "one", *[f"{name}.nii.gz" for name in one])).files) == 4


def test_words_that_describe_a_scan_are_no_ids(tmp_path: Path) -> None:
    names = ("ax_t1.nii.gz", "sag_t1ce.nii.gz", "3D_flair.nii.gz", "t2.nii.gz")
    assert len(found(touch(tmp_path / "c", *names))) == 4
    names = ("Case_t1.nii.gz", "case_t2.nii.gz", "case_reg_flair.nii.gz")
    assert len(found(touch(tmp_path / "d", *names))) == 3


def test_an_id_that_looks_like_a_sequence(tmp_path: Path) -> None:
    names = [f"fla-0012_{s}.nii.gz" for s in ("t1", "t1ce", "t2", "flair")]
    assert list(found(touch(tmp_path / "c", *names)).values()) == names
    names = [f"post_{s}.nii.gz" for s in ("t1", "t1ce", "t2", "flair")]
    assert list(found(touch(tmp_path / "d", *names)).values()) == names
    assert [r.sequence for r in read_names(["t1_pre.nii", "t1_ce.nii"]).values()] == [T1, T1CE]
    assert [r.sequence for r in read_names(["c_t1.nii", "c_t1_ce.nii"]).values()] == [T1, T1CE]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("abdeghjkmnxyz0123456789", min_size=1, max_size=6), min_size=1, max_size=4),
    st.sampled_from(["_", "-", "."]),
    st.sampled_from(sorted(CONVENTIONS)),
)
def test_ids_never_change_what_is_found(words: list[str], separator: str, convention: str) -> None:
    reserved = set(SEQUENCE_WORDS) | CONTRAST | NATIVE | DERIVED | LABELS | MODEL_WORDS
    if reserved & set(words) or not any("X" in name for name in CONVENTIONS[convention]):
        return
    prefix = "P" + separator.join(words)
    files = [name.replace("X", prefix) + ".nii.gz" for name in CONVENTIONS[convention]]
    assert [reading.sequence for reading in read_names(files).values()] == list(SEQUENCES)


# Ids


def test_the_id_is_the_folders_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "Case-7", "other_t1.nii.gz")
    assert find_study(tmp_path / "Case-7").id == "Case-7"
    assert find_study(tmp_path / "Case-7", study_id="mine").id == "mine"
    monkeypatch.chdir(tmp_path / "Case-7")
    assert find_study(Path()).id == "Case-7"


@pytest.mark.parametrize("name", ["Doe^John", "Doe, John", "John Doe", "a+b", "~x", "-o", "x" * 101])
def test_names_that_may_be_a_persons_need_an_id(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name, "t1.nii.gz")
    with pytest.raises(InputError, match="--id") as caught:
        find_study(tmp_path / name)
    assert name not in str(caught.value) and "the folder's name" in str(caught.value)
    assert find_study(tmp_path / name, study_id="p1").id == "p1"


@pytest.mark.parametrize("study_id", ["", ".", "..", "../x", "a/b", "a b", "a,b", "a^b", "x\0", "x\n", ".x", "x."])
def test_unsafe_ids(study_id: str) -> None:
    with pytest.raises(InputError, match="--id cannot be the study's id"):
        check_study_id(study_id)


def test_single_files_get_their_common_id(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "place", "BraTS2021_7_t1.nii.gz", "BraTS2021_7_t2.nii.gz", "t2.nii.gz", "sub-1_ses-2_T1w.nii"
    )
    assert study_from_files({T1: folder / "BraTS2021_7_t1.nii.gz"}).id == "BraTS2021_7"
    both = {T2: folder / "BraTS2021_7_t2.nii.gz", T1: folder / "BraTS2021_7_t1.nii.gz"}
    assert (study_from_files(both).id, list(study_from_files(both).files)) == ("BraTS2021_7", [T1, T2])
    assert study_from_files({T2: folder / "t2.nii.gz"}).id == "place"
    assert study_from_files({T1: folder / "sub-1_ses-2_T1w.nii"}).id == "sub-1_ses-2"
    assert study_from_files(both, study_id="x").id == "x"


def test_single_files_are_taken_as_given_with_a_note(tmp_path: Path) -> None:
    files = study_from_files({T1: tmp_path / "c_t1ce.nii.gz", T2: tmp_path / "anything.nii.gz"}, study_id="x")
    assert files.files[T1].name == "c_t1ce.nii.gz"
    assert files.notes == ("the file given as T1 is named like a T1CE; taken as given",)


def test_one_path_for_two_sequences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.nii\.gz is given twice, as T1 and as T1CE"):
        study_from_files({T1: tmp_path / "a.nii.gz", T1CE: tmp_path / "x" / ".." / "a.nii.gz"})
    with pytest.raises(InputError, match="no scan was given"):
        study_from_files({})


# Folders that hold no study


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), ("is empty",)),
        (("readme.txt", "x/y.txt"), ("no NIfTI file", "readme.txt", "x/")),
        (("scan01.nii.gz", "pd.nii.gz"), ("no file name says", "scan01.nii.gz", "--t1ce")),
        (("c_seg.nii.gz",), ("no file name says", "c_seg.nii.gz")),
        (("a.dcm", "DICOMDIR"), ("no DICOM file", "a.dcm")),
        (("t1.nrrd", "t2.mha"), (".mha, .nrrd files", "Save them as .nii.gz")),
        (tuple(f"f{i:02}.nii.gz" for i in range(20)), ("and 8 more",)),
    ],
)
def test_nothing_recognised_lists_what_was_seen(tmp_path: Path, names: tuple[str, ...], words: tuple[str, ...]) -> None:
    folder = touch(tmp_path / "c", *names)
    with pytest.raises(InputError) as caught:
        find_study(folder)
    assert caught.value.exit_code == 3
    for word in words:
        assert word in str(caught.value), caught.value


def test_dicom_without_an_ending(tmp_path: Path) -> None:
    (touch(tmp_path / "c") / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(InputError, match="DICOM"):
        find_study(tmp_path / "c")


def test_no_folder_a_file_and_a_locked_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        find_study(tmp_path / "c")
    touch(tmp_path, "t1.nii.gz")
    with pytest.raises(InputError, match="is a file, and a study is a folder"):
        find_study(tmp_path / "t1.nii.gz")
    locked = touch(tmp_path / "locked", "t1.nii.gz")
    locked.chmod(0)
    try:
        if os.access(locked, os.R_OK):  # an administrator may read everything

            def denied(self: Path) -> None:
                raise PermissionError(13, "Permission denied", str(self))

            monkeypatch.setattr(Path, "iterdir", denied)
        with pytest.raises(InputError, match="may not be read"):
            find_study(locked)
    finally:
        locked.chmod(0o700)


# Data sets


def test_one_bad_study_does_not_stop_the_others(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        touch(tmp_path / name, f"{name}_t1.nii.gz")
    touch(tmp_path / "b", "b_t1.nii")
    touch(tmp_path / "d", "readme.txt")
    touch(tmp_path / "out/a", "a_dseg.nii.gz", "run.json")
    bad: list[str] = []
    assert [s.id for s in find_studies(tmp_path, on_error=lambda p, e: bad.append(p.name))] == ["a", "c"]
    assert bad == ["b"]
    with pytest.raises(InputError, match="2 files could be T1"):
        list(find_studies(tmp_path))
    with pytest.raises(InputError, match="nothing was recognised"):
        study_folders(tmp_path / "d")


def test_results_are_no_study_and_scans_with_a_record_are_one(tmp_path: Path) -> None:
    results, scans = tmp_path / "results/p", tmp_path / "scans/p"
    touch(results, "p_dseg.nii.gz", "p_probseg.nii.gz", "run.json")
    touch(scans, "p_t1.nii.gz", "p_flair.nii.gz", "p_seg.nii.gz", "run.json")  # as the demonstration writes them
    assert study_folders(tmp_path) == (scans,)
    assert study_folders(scans) == (scans,)
    with pytest.raises(InputError, match="results of this program and no scans"):
        study_folders(results)


def test_equal_folder_names_get_the_patients_name(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        touch(tmp_path / patient / "visit1", "t1.nii.gz")
    touch(tmp_path / "p1" / "visit2", "t1.nii.gz")
    assert [s.id for s in find_studies(tmp_path)] == ["p1_visit1", "visit2", "p2_visit1"]


def test_a_study_is_a_data_set_of_one(tmp_path: Path) -> None:
    assert [s.id for s in find_studies(study(tmp_path / "c"))] == ["c"]


def test_every_real_study_is_found_whole(real_data: Path) -> None:
    for part, count in (("studies", 8), ("training", 30)):
        studies = list(find_studies(real_data / part))
        assert len(studies) == count
        for files in studies:
            assert tuple(files.files) == SEQUENCES
            assert files.labels is not None and not files.ignored and not files.notes
            assert files.id == files.files[T1].parent.name
    assert len(find_study(real_data / "native" / "TCGA-FG-6692").ignored) == 4
    assert find_study(real_data / "negatives" / "MS-patient26").labels is None
    assert find_study(real_data / "longitudinal" / "MS-patient01" / "study1").missing == (T1CE,)


# A folder for each sequence, links, series numbers


@pytest.mark.parametrize(
    "names",
    [
        ("T1/T1.nii.gz", "T1CE/T1CE.nii.gz", "T2/T2.nii.gz", "FLAIR/FLAIR.nii.gz"),
        ("1_T1/NIFTI/T1.nii.gz", "2_T1GD/NIFTI/T1GD.nii.gz", "3_T2/NIFTI/T2.nii.gz", "4_FLAIR/NIFTI/FLAIR.nii.gz"),
        ("S_t1.nii/S_t1.nii", "S_t1ce.nii/S_t1ce.nii", "S_t2.nii/S_t2.nii", "S_flair.nii/00000057_brain_flair.nii"),
        ("5_AX T1/scan.nii", "9_AX T1 C+/scan.nii", "7_AX T2/scan.nii", "8_AX T2 FLAIR/scan.nii"),
    ],
)
def test_a_folder_for_each_sequence_is_one_study(tmp_path: Path, names: tuple[str, ...]) -> None:
    place = touch(tmp_path / "set" / "S", *names, "5_MASK/NIFTI/MASK.nii.gz", "DWI/dwi.nii.gz")
    (files,) = find_studies(tmp_path / "set")
    assert files.id == "S"
    assert [path.relative_to(place).as_posix() for path in files.files.values()] == list(names)
    assert find_study(place).files == files.files
    touch(place, "T1_again/T1.nii.gz")
    with pytest.raises(InputError, match="2 files could be T1"):
        find_study(place)


def test_time_points_called_like_sequences_are_studies(tmp_path: Path) -> None:
    touch(tmp_path / "P", *[f"T{time}/{word}.nii.gz" for time in (1, 2) for word in ("t1n", "t1c", "t2w", "t2f")])
    assert [s.id for s in find_studies(tmp_path / "P")] == ["T1", "T2"]
    touch(tmp_path / "Q", "T1/flair.nii.gz", "T2/flair.nii.gz")
    assert [list(s.files) for s in find_studies(tmp_path / "Q")] == [[FLAIR], [FLAIR]]


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "set" / "case01", "case01_t1.nii.gz")
    (tmp_path / "set" / "all").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "aa").symlink_to(tmp_path / "set" / "case01")
    touch(tmp_path / "elsewhere", "case02_t1.nii.gz")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    assert [s.id for s in find_studies(tmp_path / "set")] == ["case01", "elsewhere"]


@pytest.mark.parametrize(
    "names",
    [
        ("IM-0001-0004-T1 AXIAL", "IM-0001-0005-T1 AXIAL POST CONTRAST", "IM-0001-0006-T2", "IM-0001-0007-FLAIR"),
        ("5_T1_AX", "11_T1_AX_GD", "7_T2_TSE", "9_T2_FLAIR"),
        ("5_T1_AX", "IM-0001-0004-T1 AXIAL POST CONTRAST", "7_T2_TSE", "e8_s4_T2W_FLAIR"),
        ("e7_s3_T1W", "e7_s9_T1W_GD", "e7_s4_T2W_TSE", "e7_s5_T2W_FLAIR"),
    ],
)
def test_series_numbers_are_no_studies(tmp_path: Path, names: tuple[str, ...]) -> None:
    files = find_study(touch(tmp_path / "c", *[f"{name}.nii.gz" for name in names]))
    assert list(files.files) == list(SEQUENCES)
    assert not files.notes or "series of one exam" in files.notes[0]
    with pytest.raises(InputError, match="two studies are mixed"):
        find_study(touch(tmp_path / "d", "001_t1.nii.gz", "002_t1ce.nii.gz"))


def test_equal_names_at_several_sites(tmp_path: Path) -> None:
    touch(tmp_path, *[f"site{site}/001/visit1/t1.nii.gz" for site in "AB"])
    assert [s.id for s in find_studies(tmp_path)] == ["siteA_001_visit1", "siteB_001_visit1"]
