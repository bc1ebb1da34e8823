"""Reading a whole study."""

from __future__ import annotations

import argparse
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from nifti_files import save, scan, study

from brats_seg.cli.options import channel_order
from brats_seg.core.errors import InputError
from brats_seg.core.study import SEQUENCES, MRSequence, Timepoint
from brats_seg.files.find import find_study, studies_by_channel, study_from_files
from brats_seg.files.load import load_study, scan_forms, scan_sha256, scan_title


def test_images_checksums_and_reference(tmp_path: Path) -> None:
    files = find_study(study(tmp_path / "c"))
    loaded = load_study(files)
    assert (loaded.id, loaded.present, loaded.reference_sequence) == ("c", SEQUENCES, MRSequence.T1CE)
    for seed, sequence in enumerate(SEQUENCES):
        np.testing.assert_array_equal(loaded.images[sequence].data, scan(seed))
        assert loaded.sha256[sequence] == hashlib.sha256(files.files[sequence].read_bytes()).hexdigest()
    assert loaded.notes == ()
    assert load_study(files, reference=MRSequence.T2).reference_sequence is MRSequence.T2


def test_a_reference_that_is_not_there(tmp_path: Path) -> None:
    files = find_study(study(tmp_path / "c", {"c_t1.nii.gz": 0}))
    with pytest.raises(InputError, match="no FLAIR to write results on"):
        load_study(files, reference=MRSequence.FLAIR)


@pytest.mark.parametrize("keep", range(1, 16))
def test_any_subset_loads(tmp_path: Path, keep: int) -> None:
    chosen = [s for i, s in enumerate(SEQUENCES) if keep >> i & 1]
    folder = study(tmp_path / "c", {f"c_{s.value}.nii.gz": i for i, s in enumerate(chosen)})
    loaded = load_study(find_study(folder))
    assert loaded.present == tuple(chosen)
    assert set(loaded.missing) == set(SEQUENCES) - set(chosen)


def test_the_same_image_twice_is_refused(tmp_path: Path) -> None:
    folder = study(tmp_path / "c", {"c_t1.nii.gz": 0, "c_t1ce.nii.gz": 0, "c_t2.nii.gz": 1})
    with pytest.raises(InputError, match=r"T1 and T1CE are the same image \(c_t1\.nii\.gz and c_t1ce\.nii\.gz\)"):
        load_study(find_study(folder))


def test_scans_that_are_called_alike_are_named_with_their_folders(tmp_path: Path) -> None:
    files = {}
    for sequence in (MRSequence.T1, MRSequence.T2):
        (tmp_path / sequence.value).mkdir()
        files[sequence] = tmp_path / sequence.value / "scan.nii.gz"
    assert scan_title(Timepoint("c", files), MRSequence.T2) == "t2/scan.nii.gz"
    assert scan_title(Timepoint("c", {**files, MRSequence.T1: tmp_path / "a.nii"}), MRSequence.T2) == "scan.nii.gz"


def test_the_same_voxels_compressed_otherwise_are_the_same_image(tmp_path: Path) -> None:
    folder = study(tmp_path / "c", {"c_t1.nii": 0, "c_t2.nii.gz": 1})
    (folder / "c_flair.nii.gz").write_bytes(gzip.compress((folder / "c_t1.nii").read_bytes(), 1))
    with pytest.raises(InputError, match="T1 and FLAIR are the same image"):
        load_study(find_study(folder))


def test_the_sequence_of_a_bad_file_is_named(tmp_path: Path) -> None:
    folder = study(tmp_path / "c")
    save(folder / "c_t2.nii.gz", (scan() > 0).astype(np.uint8))
    with pytest.raises(InputError, match=r"^T2: c_t2\.nii\.gz: .*looks like a label map"):
        load_study(find_study(folder))


def test_notes_name_the_sequence_and_no_file(tmp_path: Path) -> None:
    folder = study(tmp_path / "Secret-7")
    save(folder / "Secret-7_flair.nii.gz", scan(9)[..., None])
    files = find_study(folder, study_id="x")
    assert load_study(files).notes == ("FLAIR: a 4D file with a single volume; read as 3D",)
    save(folder / "Secret-7_t2.nii.gz", scan(8), codes=(0, 0))
    with pytest.raises(InputError, match="no orientation"):
        load_study(find_study(folder, study_id="x"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="T1: there is no file"):
        load_study(study_from_files({MRSequence.T1: tmp_path / "a.nii.gz"}, study_id="x"))


def test_grids_may_differ_and_forms_are_kept(tmp_path: Path) -> None:
    folder = study(tmp_path / "c")
    save(folder / "c_t2.nii.gz", scan(5, (5, 6, 7)), codes=(0, 4))
    assert scan_forms(find_study(folder), MRSequence.T2).sform_code == 4
    assert not load_study(find_study(folder)).is_aligned


def test_a_real_study_loads(real_study: Path) -> None:
    loaded = load_study(find_study(real_study))
    assert loaded.present == SEQUENCES and loaded.is_aligned and loaded.notes == ()
    assert loaded.reference_volume.grid.describe() == "240x240x155, 1 x 1 x 1 mm, LPS"
    assert len(set(loaded.sha256.values())) == 4


ORDER = (MRSequence.FLAIR, MRSequence.T1, MRSequence.T1CE, MRSequence.T2)


def _four(shape: tuple[int, int, int] = (9, 8, 7)) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 900, (*shape, 4)).astype(np.int16)


def test_numbered_channels_are_asked_about_and_then_read(tmp_path: Path) -> None:
    data = _four()
    for number in range(4):
        save(tmp_path / f"CASE_000{number}.nii.gz", data[..., number])
    with pytest.raises(InputError) as caught:
        find_study(tmp_path)
    orders = ("t1,t1ce,t2,flair", "t1ce,t1,t2,flair", "flair,t1,t1ce,t2", "flair,t1ce,t1,t2", "t1ce,t1,flair,t2")
    assert all(order in str(caught.value) for order in orders) and "--channels" in str(caught.value)
    (files,) = studies_by_channel(tmp_path, ORDER)
    study = load_study(files)
    assert study.id == "CASE"
    for number, sequence in enumerate(ORDER):
        np.testing.assert_array_equal(study.images[sequence].data, data[..., number])
    (tmp_path / "CASE_0003.nii.gz").unlink()
    with pytest.raises(InputError, match="0000, 0001, 0002"):
        studies_by_channel(tmp_path, ORDER)


@pytest.mark.parametrize("whole", [True, False])
def test_a_4d_file_is_asked_about_and_then_read(tmp_path: Path, whole: bool) -> None:
    data = _four()
    path = save(tmp_path / "BRATS_001.nii.gz", data)
    with pytest.raises(InputError, match="--channels"):
        find_study(tmp_path)
    (files,) = studies_by_channel(tmp_path if whole else path, ORDER)
    study = load_study(files)
    assert study.id == "BRATS_001" and len(set(study.sha256.values())) == 4
    for number, sequence in enumerate(ORDER):
        np.testing.assert_array_equal(study.images[sequence].data, data[..., number])
        assert study.sha256[sequence] == scan_sha256(files, sequence)
    with pytest.raises(InputError, match="too few for the channels"):
        load_study(studies_by_channel(save(tmp_path / "x" / "C.nii.gz", data[..., :3]), ORDER)[0])
    with pytest.raises(InputError, match="holds 4 volumes, and --channels names 3"):
        studies_by_channel(tmp_path if whole else path, ORDER[:3])


def test_channels_on_the_command_line() -> None:
    assert channel_order("flair,T1n, t1c,t2w") == ORDER
    for wrong in ("", "t1,t1,t2,flair", "a,b,c,d"):
        with pytest.raises(argparse.ArgumentTypeError, match="no order of sequences"):
            channel_order(wrong)
