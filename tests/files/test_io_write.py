"""Label maps and probabilities come back as they were, on exactly the grid they were made for."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from glioma import REGIONS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from nifti_files import AFFINE, save, scan
from strategies import ORIENTATIONS, affine_of

from brats_seg.core.errors import InputError, OutputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.study import MRSequence
from brats_seg.core.visit import RegionMaps, Segmentation
from brats_seg.files.nifti import read_image, read_label_map
from brats_seg.files.sidecar import read_schema_sidecar, sidecar_path, write_dseg_sidecars
from brats_seg.files.write import write_label_map, write_probabilities, write_volume

_SLOW = [HealthCheck.function_scoped_fixture]


def segmentation(volume: Volume | None = None, schema: str = "brats2021") -> Segmentation:
    volume = volume or Volume.from_affine(scan(), AFFINE)
    numbers = [0, *SCHEMAS[schema].values]
    labels = np.random.default_rng(3).choice(numbers, volume.grid.shape).astype(np.uint8)
    return Segmentation("case", volume.with_data(labels), SCHEMAS[schema], REGIONS)


@settings(max_examples=25, deadline=None, suppress_health_check=_SLOW)
@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.floats(-25, 25)] * 3),
    st.tuples(*[st.floats(0.4, 6)] * 3),
    st.sampled_from([(1, 0), (0, 1), (1, 1), (1, 2), (2, 4)]),
)
@example("RPS", (0.0, 1.0, 3.0), (1.0, 1.0, 1.0), (1, 0))  # a quaternion that loses its last bit as a matrix
def test_geometry_reads_back_bit_for_bit(
    tmp_path: Path,
    orientation: str,
    tilt: tuple[float, float, float],
    spacing: tuple[float, float, float],
    codes: tuple[int, int],
) -> None:
    affine = affine_of(orientation, spacing, (-80.123, 91.5, 12.77), tilt)
    source = read_image(save(tmp_path / "a.nii", scan(), affine, codes=codes))
    made = segmentation(source.volume)
    write_label_map(made, tmp_path / "m.nii.gz", forms=source.forms)
    again = read_label_map(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(again.data, made.labels.data)
    np.testing.assert_array_equal(again.affine, source.volume.affine)
    image, original = nib.load(tmp_path / "m.nii.gz"), nib.load(tmp_path / "a.nii")
    np.testing.assert_array_equal(image.affine, original.affine)
    assert int(image.header["qform_code"]) == (codes[0] or codes[1])
    if codes[0]:
        np.testing.assert_allclose(image.get_qform(), original.get_qform(), atol=1e-4)


def test_header_says_labels_millimetres_and_no_names(tmp_path: Path) -> None:
    write_label_map(segmentation(), tmp_path / "secret_dseg.nii.gz")
    header = nib.load(tmp_path / "secret_dseg.nii.gz").header
    assert header.get_data_dtype() == np.uint8
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_intent("code")[0] == 1002
    assert (int(header["qform_code"]), int(header["sform_code"])) == (2, 2)
    assert b"secret" not in (tmp_path / "secret_dseg.nii.gz").read_bytes()


def test_a_qform_that_differs_a_little_is_kept(tmp_path: Path) -> None:
    image = nib.Nifti1Image(scan(), AFFINE)
    other = AFFINE.copy()
    other[0, 3] += 0.5
    image.set_qform(other, code=1)
    image.set_sform(AFFINE, code=2)
    nib.save(image, tmp_path / "a.nii")
    source = read_image(tmp_path / "a.nii")
    write_label_map(segmentation(source.volume), tmp_path / "m.nii.gz", forms=source.forms)
    written = nib.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(written.get_qform(), other)
    np.testing.assert_array_equal(written.get_sform(), AFFINE)


def test_simpleitk_places_the_label_map_where_the_scan_is(tmp_path: Path) -> None:
    affine = affine_of("PIR", (0.9, 1.2, 3.0), (5, -7, 11), (8, -5, 3))
    source = read_image(save(tmp_path / "a.nii.gz", scan(), affine))
    write_label_map(segmentation(source.volume), tmp_path / "m.nii.gz", forms=source.forms)
    scan_itk, mask_itk = SimpleITK.ReadImage(tmp_path / "a.nii.gz"), SimpleITK.ReadImage(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(mask_itk.GetOrigin(), scan_itk.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(mask_itk.GetDirection(), scan_itk.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(mask_itk.GetSpacing(), scan_itk.GetSpacing(), atol=1e-6)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_label_map(segmentation(), tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def probabilities(shape: tuple[int, int, int] = (37, 11, 9)) -> RegionMaps:
    values = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    values[:, : shape[0] // 2] *= 1e-4
    values.flat[0], values.flat[1] = 1.0, 0.0
    return RegionMaps(values, Grid(shape, AFFINE), REGIONS)


def test_probabilities_read_back_within_a_thousandth(tmp_path: Path) -> None:
    made = probabilities()
    write_probabilities(made, tmp_path / "p.nii.gz")
    image = nib.load(tmp_path / "p.nii.gz")
    values = np.moveaxis(image.get_fdata(), -1, 0)
    assert image.shape == (37, 11, 9, 3)
    assert image.header.get_data_dtype() == np.uint16
    assert np.abs(values - made.array).max() < 0.6e-4
    assert values.min() == 0 and 0.9999 < values.max() <= 1
    assert (values[made.array < 0.5e-4] == 0).all()
    np.testing.assert_array_equal(image.affine, AFFINE)
    beside = json.loads((tmp_path / "p.json").read_text())
    assert beside["LabelMap"] == ["WT", "TC", "ET"]


def test_a_scan_that_was_written_reads_back(tmp_path: Path) -> None:
    made = Volume.from_affine(scan().astype(np.float32) / 7, AFFINE)
    write_volume(made, tmp_path / "a.nii.gz")
    again = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.volume.data, made.data)
    np.testing.assert_array_equal(again.volume.affine, AFFINE)
    assert again.notes == ()


def test_probabilities_of_a_whole_head_are_written_quickly(tmp_path: Path) -> None:
    values = np.zeros((3, 240, 240, 155), np.float32)
    values[:, 90:130, 90:130, 60:100] = np.random.default_rng(0).random((3, 40, 40, 40))
    made = RegionMaps(values, Grid((240, 240, 155), AFFINE), REGIONS)
    start = time.process_time()
    write_probabilities(made, tmp_path / "p.nii.gz")
    # About 0.3 s of one core; the margin is for slow machines, not for a slow format (level 6 takes over 1 s).
    assert time.process_time() - start < 2.0
    assert (tmp_path / "p.nii.gz").stat().st_size < 1e6


def test_the_real_grid_of_a_real_study(tmp_path: Path, real_study: Path) -> None:
    source = read_image(next(real_study.glob("*_t1ce.nii.gz")))
    labels = read_label_map(next(real_study.glob("*_seg.nii.gz")))
    made = Segmentation("case", source.volume.with_data(labels.data), SCHEMAS["brats2021"], REGIONS)
    write_label_map(made, tmp_path / "m.nii.gz", forms=source.forms)
    written, original = nib.load(tmp_path / "m.nii.gz"), nib.load(next(real_study.glob("*_t1ce.nii.gz")))
    np.testing.assert_array_equal(written.affine, original.affine)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), labels.data)
    for field in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x", "srow_y"):
        np.testing.assert_array_equal(written.header[field], original.header[field])


def test_writing_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"m\.nii\.gz cannot be written"):
        write_label_map(segmentation(), tmp_path / "no" / "m.nii.gz")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file, not a folder"):
        write_label_map(segmentation(), tmp_path / "file" / "m.nii.gz")


# Files beside


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_sidecars_name_the_schema_and_read_back(tmp_path: Path, name: str) -> None:
    labels = Volume.from_affine(np.zeros((3, 3, 3), np.uint8), AFFINE)
    made = Segmentation("case", labels, SCHEMAS[name], REGIONS, missing=(MRSequence.T1CE,))
    path = tmp_path / "case_dseg.nii.gz"
    write_dseg_sidecars(
        made, path, algorithm={"Name": "net", "SHA256": "ab"}, version="0.1.0", sources={MRSequence.T2: "cd"}
    )
    assert read_schema_sidecar(path) is SCHEMAS[name]
    content = json.loads((tmp_path / "case_dseg.json").read_text())
    assert content["Algorithm"] == {"Name": "net", "SHA256": "ab"}
    assert content["GeneratedBy"] == [{"Name": "brats_seg", "Version": "0.1.0"}]
    assert content["SourcesSHA256"] == {"T2": "cd"} and content["MissingSequences"] == ["T1CE"]
    assert {int(k): v["Abbreviation"] for k, v in content["Labels"].items()} == {
        k: v.name for k, v in SCHEMAS[name].values.items()
    }
    assert str(tmp_path) not in json.dumps(content)
    rows = [line.split("\t") for line in (tmp_path / "case_dseg.tsv").read_text().splitlines()]
    assert rows[0] == ["index", "name", "abbreviation", "color", "mapping"]
    assert [int(row[0]) for row in rows[1:]] == sorted(SCHEMAS[name].values)
    assert {row[4] for row in rows[1:]} == {"7"}
    assert {row[3] for row in rows[1:]} == {s.colour for s in SCHEMAS[name].structures}


def test_no_sidecar_or_one_of_another_program_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    assert read_schema_sidecar(path) is None
    assert read_schema_sidecar(tmp_path / "no" / "a.nii.gz") is None
    for text in ("{}", '{"Manual": true}', "[1, 2]", "3", "\ufeff{}"):
        sidecar_path(path).write_text(text, encoding="utf-8")
        assert read_schema_sidecar(path) is None


@pytest.mark.parametrize("text", ["{", "", '{"LabelSchema": 3}', '{"LabelSchema": "brats1999"}'])
def test_a_sidecar_that_misleads_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json .*--schema"):
        read_schema_sidecar(tmp_path / "a.nii")


def test_the_gzip_header_holds_no_name_and_no_time(tmp_path: Path) -> None:
    write_label_map(segmentation(), tmp_path / "m.nii.gz")
    raw = (tmp_path / "m.nii.gz").read_bytes()
    assert raw[3] == 0 and raw[4:8] == b"\0" * 4
    assert len(gzip.decompress(raw)) == 352 + 9 * 8 * 7
