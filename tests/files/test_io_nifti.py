"""Reading scans and label maps: what is read equals what was written, and every bad file says what is wrong."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nifti_files import AFFINE, patched, save, scan
from strategies import ORIENTATIONS, affine_of

from brats_seg.core.errors import InputError
from brats_seg.files.file_bytes import file_sha256
from brats_seg.files.nifti import (
    ReadResult,
    read_forms,
    read_image,
    read_label_map,
    read_label_result,
    read_volume,
)


def refused(path: Path, *words: str, reader=read_volume) -> str:
    with pytest.raises(InputError) as caught:
        reader(path)
    message = str(caught.value)
    assert caught.value.exit_code == 3
    for word in words:
        assert word in message, message
    return message


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_values_and_affine_equal_nibabels(tmp_path: Path, dtype: str, ending: str) -> None:
    data = np.random.default_rng(1).integers(0, 120, (9, 8, 7)).astype(dtype)
    path = save(tmp_path / f"a{ending}", data)
    volume = read_volume(path)
    image = nib.load(path)
    assert volume.data.dtype == np.float32 and volume.data.flags.c_contiguous
    np.testing.assert_array_equal(volume.data, image.get_fdata())
    np.testing.assert_array_equal(volume.affine, image.affine)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_versions_and_byte_orders(tmp_path: Path, kind: type, order: str) -> None:
    data = scan()
    header = kind.header_class(endianness=order)
    image = kind(data, AFFINE, header=header)
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").data, data)


def test_scaling_of_the_header_is_applied(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", scan())
    patched(path, 112, struct.pack("<2f", 0.5, -3.0))
    np.testing.assert_allclose(read_volume(path).data, scan() * 0.5 - 3.0)


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_a_slope_that_means_nothing_is_no_scaling(tmp_path: Path, slope: float) -> None:
    path = patched(save(tmp_path / "a.nii", scan()), 112, struct.pack("<2f", slope, 0.0))
    np.testing.assert_array_equal(read_volume(path).data, scan())


def test_an_image_of_tiny_values_is_no_empty_label_map(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", (scan() * 1e-7).astype(np.float32))
    refused(path, "labels are 1 and more", "image", reader=read_label_map)
    assert not read_label_map(save(tmp_path / "b.nii.gz", np.zeros((9, 8, 7), np.float32))).data.any()


def test_values_that_ran_over_16_bits_are_refused(tmp_path: Path) -> None:
    bright = np.random.default_rng(2).integers(20000, 45000, (12, 12, 12))
    message = refused(save(tmp_path / "a.nii.gz", bright.astype(np.uint16).view(np.int16)), "16 bits", "-32", "32")
    assert "Convert it again" in message
    padded = np.where(bright < 30000, -32768, bright // 2 + 10000).astype(np.int16)
    np.testing.assert_array_equal(read_volume(save(tmp_path / "b.nii.gz", padded)).data, padded)


def test_negative_and_very_large_values_are_fine(tmp_path: Path) -> None:
    data = scan().astype(np.int16)
    data[0, 0, 0], data[1, 1, 1] = 32767, -32768
    np.testing.assert_array_equal(read_volume(save(tmp_path / "a.nii.gz", data)).data, data)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(ORIENTATIONS), st.floats(-20, 20), st.sampled_from([(1, 0), (0, 1), (1, 1)]))
def test_any_orientation_is_read_as_nibabel_reads_it(
    tmp_path: Path, orientation: str, tilt: float, codes: tuple[int, int]
) -> None:
    affine = affine_of(orientation, (0.9, 1.1, 5.5), (-80, 91.5, 12), (tilt, tilt / 2, -tilt))
    path = save(tmp_path / "a.nii", scan(), affine, codes=codes)
    result = read_image(path)
    np.testing.assert_array_equal(result.volume.affine, nib.load(path).affine)
    assert result.volume.grid.orientation == orientation
    assert (result.forms.qform_code, result.forms.sform_code) == codes
    assert result.notes == ()


def test_the_checksum_is_of_the_files_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", scan())
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_image(path).sha256 == expected == file_sha256(path)


def test_a_real_scan_equals_nibabels(real_study: Path) -> None:
    path = next(real_study.glob("*_t2.nii.gz"))
    volume, image = read_volume(path), nib.load(path)
    np.testing.assert_array_equal(volume.data, np.asanyarray(image.dataobj))
    np.testing.assert_array_equal(volume.affine, image.affine)


# Files that are wrong


@pytest.mark.parametrize("reader", [read_volume, read_label_map, file_sha256, read_forms])
def test_missing_file_and_a_guess_at_its_name(tmp_path: Path, reader) -> None:
    save(tmp_path / "case_t1.nii.gz", scan())
    refused(tmp_path / "case_t1.nii", "there is no file", "Did you mean case_t1.nii.gz?", reader=reader)
    refused(tmp_path / "no" / "case.nii", "there is no file", "folder does not exist", reader=reader)


def test_a_folder_is_no_scan(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / "annex" / "gone")
    refused(tmp_path / "a.nii.gz", "is a link to a file that is not there", "datalad get")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.nii.gz", scan())
    path.chmod(0)
    if os.access(path, os.R_OK):  # an administrator may read everything

        def denied(self: Path, mode: str) -> object:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "open", denied)
    refused(path, "may not be read", "access rights")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    refused(tmp_path / "a.nii.gz", "a.nii.gz is empty (0 bytes)")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"hello", "ends inside the header"),
        (b"x" * 1000, "not a NIfTI file (.nii or .nii.gz)"),
        (b"\0" * 128 + b"DICM" + b"\0" * 400, "DICOM"),
        (b"NRRD0004" + b" " * 400, "NRRD"),
        (b"ObjectType = Image" + b" " * 400, "MetaImage"),
        (b"\x89HDF\r\n" + b" " * 400, "HDF5"),
        (b"PK\x03\x04" + b" " * 400, "ZIP"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"<!DOCTYPE html>" + b" " * 400, "failed download"),
        (struct.pack("<i", 348) + b"\0" * 400, "Analyze"),
        (struct.pack("<i", 348) + b"\0" * 340 + b"ni1\0", ".hdr/.img pair"),
    ],
)
def test_files_that_are_no_nifti_say_what_they_are(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "a.nii").write_bytes(content)
    refused(tmp_path / "a.nii", "a.nii", word)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content))
    refused(tmp_path / "b.nii.gz", "b.nii.gz", word)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_truncated_gzip(tmp_path: Path, share: float) -> None:
    path = save(tmp_path / "a.nii.gz", scan(shape=(20, 20, 20)))
    raw = path.read_bytes()
    path.write_bytes(raw[: max(20, int(len(raw) * share))])
    message = refused(path, "a.nii.gz", "again")
    assert "cut short" in message or "ends inside the header" in message or "damaged" in message


def test_gzip_checksum_is_tested(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", scan())
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1
    path.write_bytes(bytes(raw))
    refused(path, "damaged", "incorrect data check")


def test_truncated_plain_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", scan())
    path.write_bytes(path.read_bytes()[:-10])
    refused(path, "cut short", "9x8x7")


@pytest.mark.parametrize("compressed", [True, False])
def test_a_name_that_contradicts_the_compression_is_noted(tmp_path: Path, compressed: bool) -> None:
    raw = save(tmp_path / "x.nii", scan()).read_bytes()
    path = tmp_path / ("a.nii" if compressed else "a.nii.gz")
    path.write_bytes(gzip.compress(raw) if compressed else raw)
    result = read_image(path)
    np.testing.assert_array_equal(result.volume.data, scan())
    assert len(result.notes) == 1 and "against its name" in result.notes[0]


def test_block_gzip_and_padding_are_read(tmp_path: Path) -> None:
    raw = save(tmp_path / "x.nii", scan()).read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]) + b"\0" * 64)
    result = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(result.volume.data, scan())
    assert result.notes == ()


def test_data_behind_the_last_voxel_are_noted_and_the_checksum_is_still_tested(tmp_path: Path) -> None:
    raw = save(tmp_path / "x.nii", scan()).read_bytes()
    packed = bytearray(gzip.compress(raw + b"\1" * 5000))
    (tmp_path / "a.nii.gz").write_bytes(packed)
    assert read_image(tmp_path / "a.nii.gz").notes == ("the file holds data behind the last voxel; ignored",)
    packed[-6] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(packed)
    refused(tmp_path / "a.nii.gz", "incorrect data check")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(raw) + b"more")
    assert len(read_image(tmp_path / "b.nii.gz").notes) == 1


@pytest.mark.parametrize(
    ("offset", "content", "word"),
    [
        (40, struct.pack("<h", 9), "header is damaged"),
        (42, struct.pack("<h", -4), "header is damaged"),
        (42, struct.pack("<3h", 30000, 30000, 30000), "more than any head scan"),
        (42, struct.pack("<h", 30000), "cut short"),
        (70, struct.pack("<h", 999), "damaged"),
        (70, struct.pack("<2h", 128, 24), "colour"),
        (70, struct.pack("<2h", 32, 64), "complex"),
        (108, struct.pack("<f", np.nan), "damaged"),
        (108, struct.pack("<f", -5.0), "damaged"),
        (108, struct.pack("<f", 1e30), "damaged"),
        (108, struct.pack("<f", 10.0), "damaged"),
        (112, struct.pack("<2f", 2.0, np.inf), "damaged"),
    ],
)
def test_damaged_headers(tmp_path: Path, offset: int, content: bytes, word: str) -> None:
    refused(patched(save(tmp_path / "a.nii", scan()), offset, content), "a.nii", word)


def test_a_real_4d_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", scan(shape=(9, 8, 7, 4)))
    refused(path, "holds 4 volumes", "9x8x7x4", "one file per sequence", "fslsplit")
    refused(path, "holds 4 volumes", "one-hot", "> 0.5] = 3", reader=read_label_map)


def test_4d_with_one_volume_is_squeezed_and_noted(tmp_path: Path) -> None:
    result = read_image(save(tmp_path / "a.nii.gz", scan(shape=(9, 8, 7, 1))))
    assert result.volume.grid.shape == (9, 8, 7)
    assert result.notes == ("a 4D file with a single volume; read as 3D",)


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 1), (1, 9, 8)])
def test_a_slice_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    refused(save(tmp_path / "a.nii.gz", scan(shape=shape)), "slice", "3D")


@pytest.mark.parametrize(("value", "word"), [(0, "every voxel is 0"), (7, "the same value (7)")])
def test_constant_images(tmp_path: Path, value: int, word: str) -> None:
    refused(save(tmp_path / "a.nii.gz", np.full((9, 8, 7), value, np.int16)), word)


def test_nan_and_infinite_voxels_are_counted(tmp_path: Path) -> None:
    data = scan().astype(np.float32)
    data[0, 0, :3], data[1, 1, 1] = np.nan, -np.inf
    refused(save(tmp_path / "a.nii.gz", data), "3 NaN and 1 infinite of 504 voxels", "nan_to_num")


@pytest.mark.parametrize("reader", [read_image, read_label_result])
def test_nan_outside_the_field_of_view_is_read_as_0(tmp_path: Path, reader: Callable[[Path], ReadResult]) -> None:
    data = (scan().astype(np.float32) if reader is read_image else np.ones((9, 8, 7), np.float32)).copy()
    data[:2], data[:, :, -1] = np.nan, np.nan
    result = reader(save(tmp_path / "a.nii.gz", data))
    np.testing.assert_array_equal(result.volume.data, np.nan_to_num(data))
    assert any("33% of the voxels" in note and "read as 0" in note for note in result.notes)
    data[5, 4, 3] = np.nan  # a hole is damage
    refused(save(tmp_path / "b.nii.gz", data), "NaN", "nan_to_num", reader=reader)


def test_a_dicom_segmentation_is_not_to_be_converted_into_a_scan(tmp_path: Path) -> None:
    path = tmp_path / "seg.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\2\0UI\x1c\0" + b"1.2.840.10008.5.1.4.1.1.66.4\0")
    assert "convert" not in refused(path, "folder of the exam for a scan")


def test_forms_that_mirror_each_other_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", scan())
    mirrored = AFFINE @ np.diag([-1, 1, 1, 1])
    patched(path, 280, struct.pack("<12f", *mirrored[:3].ravel()))
    refused(path, "mirror image", "left and right cannot be told apart")


def test_values_beyond_float32_are_infinite(tmp_path: Path) -> None:
    data = scan().astype(np.float64)
    data[0, 0, 0] = 1e300
    refused(save(tmp_path / "a.nii.gz", data), "1 infinite of 504 voxels")


@pytest.mark.parametrize("values", [(0, 1), (0, 1, 2, 4), (0, 255), (1, 2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_mask_is_no_scan(tmp_path: Path, values: tuple[int, ...], dtype: type) -> None:
    data = np.random.default_rng(0).choice(values, (9, 8, 7)).astype(dtype)
    refused(save(tmp_path / "a.nii.gz", data), "looks like a label map", str(values[1]))


def test_a_small_lesion_in_a_large_mask_is_still_a_mask(tmp_path: Path) -> None:
    data = np.zeros((90, 90, 90), np.uint8)
    data[41, 43, 47] = 1
    refused(save(tmp_path / "a.nii.gz", data), "looks like a label map", "0, 1")


def test_label_intent_is_a_mask_whatever_its_values(tmp_path: Path) -> None:
    path = patched(save(tmp_path / "a.nii", scan()), 68, struct.pack("<h", 1002))
    refused(path, "its header calls it a label map")


def test_an_image_of_few_levels_but_more_than_a_mask_is_read(tmp_path: Path) -> None:
    data = (np.arange(504) % 40).reshape(9, 8, 7).astype(np.uint8)
    assert read_volume(save(tmp_path / "a.nii.gz", data)).data.max() == 39


# Geometry


def test_missing_orientation_is_refused(tmp_path: Path) -> None:
    refused(save(tmp_path / "a.nii", scan(), codes=(0, 0)), "no orientation", "left and right", "dcm2niix")


def test_singular_affine(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", scan())
    patched(path, 280, struct.pack("<12f", 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    refused(path, "a.nii", "singular")


def test_zero_spacing_in_sform_and_qform(tmp_path: Path) -> None:
    path = patched(save(tmp_path / "a.nii", scan()), 280, struct.pack("<12f", *[0] * 12))
    refused(path, "spacing is zero")
    path = patched(save(tmp_path / "b.nii", scan(), codes=(1, 0)), 80, struct.pack("<3f", 0, 1, 1))
    refused(path, "spacing is zero")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (1e20, "not those of a head scan"),
        (1e-9, "not those"),
        (0.001, "not those"),
        (np.nan, "missing"),
        (np.inf, "missing"),
    ],
)
def test_spacing_that_no_head_scan_has(tmp_path: Path, value: float, word: str) -> None:
    path = patched(save(tmp_path / "a.nii", scan(), codes=(1, 0)), 80, struct.pack("<f", value))
    refused(path, "a.nii", word)


def test_sheared_affine_names_the_file(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 1] = 0.5
    refused(save(tmp_path / "a.nii", scan(), affine, codes=(0, 1)), "a.nii", "sheared")


def test_forms_that_disagree_are_noted_and_sform_wins(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", scan())
    patched(path, 268, struct.pack("<f", 14.0))
    result = read_image(path)
    np.testing.assert_array_equal(result.volume.affine, AFFINE)
    assert len(result.notes) == 1 and "4.0 mm apart; sform used" in result.notes[0]


def test_forms_that_disagree_a_little_pass(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", scan())
    patched(path, 268, struct.pack("<f", 10.5))
    assert read_image(path).notes == ()


def test_damaged_qform_falls_back_on_a_good_sform_with_a_note(tmp_path: Path) -> None:
    path = patched(save(tmp_path / "a.nii", scan()), 256, struct.pack("<3f", 1, 1, 1))
    result = read_image(path)
    np.testing.assert_array_equal(result.volume.affine, AFFINE)
    assert "qform in the header is damaged" in result.notes[0]
    path = patched(save(tmp_path / "b.nii", scan(), codes=(1, 0)), 256, struct.pack("<3f", 1, 1, 1))
    refused(path, "(qform) is damaged")


def test_forms_are_read_without_voxels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", scan(), codes=(1, 2))
    forms = read_forms(path)
    assert (forms.qform_code, forms.sform_code) == (1, 2)
    np.testing.assert_allclose(forms.qform, AFFINE, atol=1e-6)


# Label maps


def test_label_maps_keep_their_numbers_and_smallest_type(tmp_path: Path) -> None:
    data = np.random.default_rng(0).choice([0, 1, 2, 4], (9, 8, 7))
    for dtype in (np.uint8, np.int16, np.float32, np.float64):
        volume = read_label_map(save(tmp_path / "a.nii.gz", data.astype(dtype)))
        assert volume.data.dtype == np.uint8
        np.testing.assert_array_equal(volume.data, data)
    assert read_label_map(save(tmp_path / "a.nii.gz", (data * 1000).astype(np.int16))).data.dtype == np.int16


def test_an_empty_label_map_is_valid(tmp_path: Path) -> None:
    assert not read_label_map(save(tmp_path / "a.nii.gz", np.zeros((9, 8, 7), np.uint8))).data.any()


def test_labels_stored_with_a_scale_are_rounded(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.random.default_rng(0).choice([0, 255], (9, 8, 7)).astype(np.uint8))
    patched(path, 112, struct.pack("<2f", 1 / 255, 0))
    assert set(np.unique(read_label_map(path).data)) == {0, 1}


def test_label_maps_that_are_none(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((9, 8, 7)).astype(np.float32)
    refused(save(tmp_path / "a.nii.gz", data), "not whole numbers", "nearest", reader=read_label_map)
    refused(save(tmp_path / "a.nii.gz", scan()), "labels are 0 to 32767", reader=read_label_map)
    data[0, 0, 0] = np.nan
    refused(save(tmp_path / "a.nii.gz", data), "1 NaN", reader=read_label_map)


def test_a_label_map_of_one_slice_is_read(tmp_path: Path) -> None:
    data = np.ones((9, 8, 1), np.uint8)
    assert read_label_result(save(tmp_path / "a.nii.gz", data)).volume.grid.shape == (9, 8, 1)
