"""Segmentations that name their segments: read back as label maps, ours and those of other programs."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK
import slicerio
from test_dicom import assert_same, oblique
from test_dicom_seg import GEOMETRIES, MAKER, cropped, segmentation_on, series_of, written
from test_dicom_sr import two_lesions

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.visit import Segmentation
from brats_seg.files.dicom_reference import reference_of, save
from brats_seg.files.dicom_seg import seg_of_tissues
from brats_seg.files.dicom_sr import report_of
from brats_seg.files.label_map import read_mask
from brats_seg.files.seg_nrrd import write_seg_nrrd
from brats_seg.models.card import regions_of
from brats_seg.run.dicom_exports import findings_of


def read(path: Path, schema: str = "auto") -> Segmentation:
    return read_mask(path, schema, None, lambda: regions_of("glioma")).segmentation


@pytest.mark.parametrize("name", GEOMETRIES)
def test_what_slicer_reads_is_identical(tmp_path: Path, name: str) -> None:
    segmentation = segmentation_on(GEOMETRIES[name].grid, "brats2021")
    path = tmp_path / "case.seg.nrrd"
    write_seg_nrrd(segmentation, path)
    by_slicer = slicerio.read_segmentation(str(path))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ by_slicer["ijkToLPS"]
    assert_same(Volume.from_affine(by_slicer["voxels"], affine), segmentation.labels)
    assert [(s["labelValue"], s["name"]) for s in by_slicer["segments"]] == [
        *((1, "necrotic tumour core"), (2, "peritumoral edema"), (4, "enhancing tumour")),
    ]
    assert by_slicer["segments"][2]["terminology"]["type"] == ["SCT", "86049000", "Neoplasm, Primary"]
    image = SimpleITK.ReadImage(str(path))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image).T, segmentation.labels.data)
    found = read(path)
    assert found.study_id == "case"
    assert found.schema.name == "brats2023"  # the same tissues
    assert_same(
        found.labels, Volume(segmentation.schema.convert(segmentation.labels.data, found.schema), found.labels.grid)
    )


@pytest.mark.parametrize("label_map", [False, True])
def test_a_dicom_segmentation_reads_back(tmp_path: Path, label_map: bool) -> None:
    segmentation = written(series_of(oblique("PSR"), tmp_path / "in"), tmp_path / "a_seg.dcm", label_map=label_map)
    found = read(tmp_path / "a_seg.dcm")
    assert (found.study_id, found.schema.name) == ("a", "brats2023")
    assert_same(cropped(found.labels), cropped(segmentation.labels))


def test_slices_without_tissue_between_others_stay_where_they_are(tmp_path: Path) -> None:
    series = series_of(oblique(), tmp_path / "in")
    reference = reference_of(series)
    whole = segmentation_on(reference.grid)
    labels = whole.labels.data.copy()
    labels[:, :, 5:8] = 0
    labels[:, :, 9][labels[:, :, 9] == 1] = 0
    segmentation = replace(whole, labels=whole.labels.with_data(labels))
    save(seg_of_tissues(segmentation, reference, MAKER, patient="P"), tmp_path / "seg.dcm")
    assert_same(cropped(read(tmp_path / "seg.dcm").labels), cropped(segmentation.labels))


def test_a_tumour_on_one_slice_keeps_its_thickness(tmp_path: Path) -> None:
    reference = reference_of(series_of(oblique(), tmp_path / "in"))
    segmentation = segmentation_on(reference.grid)
    labels = np.zeros_like(segmentation.labels.data)
    labels[3:6, 4:9, 7] = 3
    segmentation = replace(segmentation, labels=segmentation.labels.with_data(labels))
    save(seg_of_tissues(segmentation, reference, MAKER, patient="P"), tmp_path / "seg.dcm")
    assert_same(cropped(read(tmp_path / "seg.dcm").labels), cropped(segmentation.labels))


def test_regions_that_nest_make_the_label_map_they_came_from(tmp_path: Path) -> None:
    reference = reference_of(series_of(oblique(), tmp_path / "in"))
    visit = two_lesions(reference.grid)
    save(report_of(findings_of(visit, "P", "E"), reference, MAKER)[0], tmp_path / "seg.dcm")
    found = read(tmp_path / "seg.dcm")
    assert found.schema.name == "brats2023"
    assert_same(cropped(found.labels), cropped(visit.segmentation.labels))


def slicer_file(path: Path, segments: dict[str, np.ndarray], *, code: str = "") -> Path:
    """As Slicer writes segments that overlap: a layer for each."""
    header = {
        "space": "left-posterior-superior",
        "space directions": np.vstack([[np.nan] * 3, np.diag([-5.0, -5.0, 5.0])]),
        "space origin": np.zeros(3),
        "kinds": ["list", "domain", "domain", "domain"],
    }
    for place, name in enumerate(segments):
        header[f"Segment{place}_Name"] = name
        header[f"Segment{place}_LabelValue"] = "1"
        header[f"Segment{place}_Layer"] = str(place)
        if code:
            header[f"Segment{place}_Tags"] = f"TerminologyEntry:any~SCT^1^any~{code}~^^~any~^^~^^|"
    nrrd.write(str(path), np.stack([mask.astype(np.uint8) for mask in segments.values()]), header)
    return path


def box(low: int, high: int) -> np.ndarray:
    mask = np.zeros((20, 20, 20), bool)
    mask[low:high, low:high, low:high] = True
    return mask


def test_names_of_slicer_tell_tissues(tmp_path: Path) -> None:
    path = slicer_file(tmp_path / "a.seg.nrrd", {"Whole Tumor": box(2, 18), "Tumor core": box(4, 14), "ET": box(6, 10)})
    found = read(path)
    assert found.schema.name == "brats2023"
    for value, count in ((3, 4**3), (1, 10**3 - 4**3), (2, 16**3 - 10**3)):
        assert (found.labels.data == value).sum() == count


def test_a_core_without_enhancement_is_not_said_to_have_none(tmp_path: Path) -> None:
    found = read(slicer_file(tmp_path / "a.seg.nrrd", {"whole tumour": box(2, 18), "core": box(4, 14)}))
    assert [region.name for region in found.regions.told_by(found.schema)] == ["WT", "TC"]


def test_codes_go_before_names(tmp_path: Path) -> None:
    path = slicer_file(tmp_path / "a.seg.nrrd", {"Segment_1": box(2, 18)}, code="SCT^79654002^Edema")
    assert [s.name for s in read(path).schema.structures] == ["ED"]


def test_a_segment_that_is_no_tissue_is_asked_about(tmp_path: Path) -> None:
    path = slicer_file(tmp_path / "a.seg.nrrd", {"Segment_1": box(2, 18)})
    with pytest.raises(InputError, match=r"'Segment_1' is no tissue .* --schema: whole"):
        read(path)
    assert read(path, "whole").labels.data.sum() == 16**3
    assert read(path, "brats2023").schema is SCHEMAS["brats2023"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw[: len(raw) // 2], "damaged"),
        (lambda raw: raw.replace(b"sizes: 1 20 20 20", b"sizes: 1 9000 9000 9000"), "damaged"),
        (lambda raw: raw.replace(b"sizes: 1 20 20 20", b"sizes: 1 20 20 2"), "damaged"),
        (lambda raw: raw.replace(b"space: left-posterior-superior\n", b""), "does not say where"),
        (lambda raw: raw.replace(b"encoding: gzip", b"encoding: none"), "damaged"),
        (lambda raw: raw.replace(b"encoding", b"data file: /etc/passwd\nencoding"), "in another file"),
        (lambda raw: raw.replace(b"Segment0_Name", b"Segment0_Was"), "names no segment"),
        (lambda raw: raw.split(b"\n\n")[0] + b"\n\n" + gzip.compress(bytes(10**7)), "damaged"),
    ],
)
def test_damaged_nrrd_is_refused(tmp_path: Path, change: object, words: str) -> None:
    path = slicer_file(tmp_path / "a.seg.nrrd", {"ET": box(2, 18)})
    raw = path.read_bytes()
    changed = change(raw)  # type: ignore[operator]
    assert changed != raw
    path.write_bytes(changed)
    with pytest.raises(InputError, match=words):
        read(path)


def test_a_dicom_file_that_is_no_segmentation_is_refused(tmp_path: Path) -> None:
    series_of(oblique(), tmp_path / "in")
    with pytest.raises(InputError, match="holds MR images"):
        read(next((tmp_path / "in").iterdir()))


def _far_apart(made: pydicom.Dataset) -> None:
    made.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0].ImagePositionPatient = [0.0, 0.0, 9e8]


def _uneven(made: pydicom.Dataset) -> None:
    position = made.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient
    position[2] = float(position[2]) + 1.7


def _probabilities(made: pydicom.Dataset) -> None:
    made.SegmentationType = "FRACTIONAL"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_far_apart, "damaged|claims|slices"),
        (_uneven, "slices"),
        (_probabilities, "FRACTIONAL"),
        (lambda made: setattr(made, "Rows", 60000), "claims|damaged"),
        (lambda made: setattr(made, "NumberOfFrames", 10**9), "claims"),
        (lambda made: delattr(made, "SegmentSequence"), "damaged"),
        (lambda made: delattr(made, "PerFrameFunctionalGroupsSequence"), "slices"),
        (lambda made: setattr(made, "PixelData", made.PixelData[:8]), "damaged"),
    ],
)
def test_a_damaged_dicom_segmentation_is_refused(tmp_path: Path, change: object, words: str) -> None:
    written(series_of(oblique(), tmp_path / "in"), tmp_path / "seg.dcm")
    made = pydicom.dcmread(tmp_path / "seg.dcm")
    change(made)  # type: ignore[operator]
    made.save_as(tmp_path / "seg.dcm")
    with pytest.raises(InputError, match=words):
        read(tmp_path / "seg.dcm")


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    written(series_of(oblique(), tmp_path / "in"), tmp_path / "seg.dcm")
    raw = (tmp_path / "seg.dcm").read_bytes()
    (tmp_path / "seg.dcm").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match=r"seg\.dcm"):
        read(tmp_path / "seg.dcm")
