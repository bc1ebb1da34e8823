"""Packs: what goes in comes out, damage is named, and labels become shares of a voxel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from cli_studies import GRID, SPACING_MM, write_case, write_nifti
from glioma import REGIONS
from toy_packs import toy_pack, toy_packs

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import DEFAULT_SCHEMA, SCHEMAS
from brats_seg.core.scans import PreparationRecord, PreparedStudy
from brats_seg.core.study import SEQUENCES
from brats_seg.segment.prepare import PrepareConfig
from brats_seg.train.data import (
    LEVELS_PER_STD,
    PackedStudy,
    blended,
    load_packs,
    pack_study,
    read_cubes,
    read_pack,
    training_case,
    with_teacher,
    write_pack,
    write_taught,
)
from brats_seg.train.pack import open_dataset, open_packs

CPU = torch.device("cpu")


def test_a_pack_reads_back_as_it_was_written(tmp_path: Path) -> None:
    pack = toy_pack("x")
    path = write_pack(pack, tmp_path / "packs")
    assert path.name == "x.npz"
    assert [p.name for p in path.parent.iterdir()] == ["x.npz"]  # nothing partial is left
    again = read_pack(path)
    assert again.id == "x"
    np.testing.assert_array_equal(again.image, pack.image)
    np.testing.assert_array_equal(again.labels, pack.labels)
    assert (again.image.dtype, again.labels.dtype) == (np.int8, np.uint8)


def spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "altered":
        path.write_bytes(data[:2000] + bytes(200) + data[2200:])
    elif how == "text":
        path.write_text("no pack")
    elif how == "absent":
        path.unlink()
    elif how == "other keys":
        np.savez_compressed(path, picture=np.zeros(3))
    elif how == "unfitting":
        np.savez_compressed(path, image=np.zeros((4, 3, 3, 3), np.int8), labels=np.zeros((3, 3, 4), np.uint8))


@pytest.mark.parametrize("how", ["empty", "cut", "altered", "text", "other keys", "unfitting", "absent"])
def test_a_damaged_pack_is_named(tmp_path: Path, how: str) -> None:
    path = write_pack(toy_pack("x"), tmp_path)
    spoil(path, how)
    with pytest.raises(InputError, match=r"x.npz"):
        read_pack(path)


def test_a_folder_of_packs_is_read_in_order_of_name(tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        write_pack(toy_pack(name), tmp_path)
    (tmp_path / ".d.partial.npz").write_bytes(b"half")
    assert [pack.id for pack in load_packs(tmp_path)] == ["a", "b", "c"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no packed study"):
        load_packs(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("BraTS-GLI-00099-001", "BraTS-GLI-00099"),
        ("BraTS-GLI-00099-000", "BraTS-GLI-00099"),
        ("BraTS2021_00099", "BraTS2021_00099"),
        ("Brats18_CBICA_APR_1", "Brats18_CBICA_APR"),
        ("my-own-patient-1", "my-own-patient-1"),
    ],
)
def test_visits_of_one_patient_belong_together(name: str, patient: str) -> None:
    assert PackedStudy(name, np.zeros((4, 1, 1, 1), np.int8), np.zeros((1, 1, 1), np.uint8)).patient == patient


def prepared_box() -> PreparedStudy:
    """A prepared study whose brain is a box in a padded grid, natively stored mirrored left to right."""
    grid = Grid((16, 16, 16), np.eye(4))
    native = Grid((16, 16, 16), np.diag([-1.0, 1, 1, 1]) + np.array([[0, 0, 0, 15.0]] + [[0] * 4] * 3))
    brain = np.zeros(grid.shape, bool)
    brain[2:12, 3:13, 4:14] = True
    array = np.random.default_rng(0).normal(size=(4, *grid.shape)).astype(np.float32) * brain
    array[0, 5, 5, 5] = 30.0
    return PreparedStudy("p", array, brain, SEQUENCES, PreparationRecord(native=native, network=grid))


def test_packing_quantises_and_crops_and_turns_the_label() -> None:
    prepared = prepared_box()
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[15 - 6, 7, 8] = 4  # enhancing in 2021 numbers, at x = 6 on the network's grid
    native = prepared.record.native
    pack = pack_study(prepared, Volume(labels, native), SCHEMAS["brats2021"])
    assert pack.labels.shape == (10, 10, 10)
    assert np.argwhere(pack.labels).tolist() == [[4, 4, 4]]
    assert pack.labels[4, 4, 4] == 3
    inner = prepared.array[:, 2:12, 3:13, 4:14]
    error = np.abs(pack.image / LEVELS_PER_STD - np.clip(inner, -127 / LEVELS_PER_STD, 127 / LEVELS_PER_STD))
    assert error.max() <= 0.5 / LEVELS_PER_STD + 1e-6
    assert pack.image[0, 3, 2, 1] == 127  # 30 standard deviations


def test_a_label_on_another_grid_is_refused() -> None:
    prepared = prepared_box()
    with pytest.raises(InputError, match="must be on one grid"):
        pack_study(prepared, Volume(np.zeros((16, 16, 16), np.uint8), prepared.grid), DEFAULT_SCHEMA)


def test_labels_become_shares_of_a_voxel() -> None:
    labels = np.zeros((5, 4, 4), np.uint8)
    labels[0, 0, 0] = 3
    labels[2:4, :2, :2] = 2
    image = np.full((4, 5, 4, 4), 14, np.int8)
    case = training_case(PackedStudy("x", image, labels), factor=2, device=CPU)
    assert case.shape == (3, 2, 2)  # padded to even sides
    whole, core, enhancing = (case.regions[i].float() / 255 for i in range(3))
    assert whole[0, 0, 0] == pytest.approx(1 / 8, abs=2e-3)
    assert whole[1, 0, 0] == 1
    assert torch.equal(core, enhancing)
    assert core[1, 0, 0] == 0
    assert [voxels.tolist() for voxels in case.tumour_voxels] == [[[1, 0, 0]], [], []]
    assert case.image[0, 0, 0, 0] == 14
    assert case.image[0, 2, 0, 0] == 7  # half brain, half padding


def test_without_a_factor_nothing_is_averaged() -> None:
    pack = toy_pack("x")
    case = training_case(pack, factor=1, device=CPU)
    np.testing.assert_array_equal(case.image.numpy(), pack.image)
    for channel, region in enumerate(REGIONS):
        np.testing.assert_array_equal(
            case.regions[channel].numpy() > 0, DEFAULT_SCHEMA.region_mask(pack.labels, region)
        )
    assert all(len(voxels) <= 2 * 4096 for voxels in case.tumour_voxels)


def test_what_a_pack_was_made_of_is_read_back(tmp_path: Path) -> None:
    made = replace(toy_pack("shape-1"), made_of=("a", "b"))
    assert read_pack(write_pack(made, tmp_path)).made_of == ("a", "b")
    assert read_pack(write_pack(toy_pack("a"), tmp_path)).made_of == ()


def regions(*values: float) -> torch.Tensor:
    """Three regions of four voxels, each region alike but for the teacher's WT."""
    return torch.tensor([values] * 3).reshape(3, len(values), 1, 1)


def test_a_teacher_counts_as_much_as_it_agrees_and_not_where_it_is_far_off() -> None:
    label, teacher = regions(1, 1, 1, 0), regions(0.8, 0.6, 0.1, 0.4)
    found = blended(label, teacher, 0.5)[1].flatten()
    agreement = (2 * 2 + 1) / (2 + 3 + 1)  # two of three voxels found; the third is 0.9 off, and the label counts
    expected = torch.tensor([1 - 0.2 * 0.5 * agreement, 1 - 0.4 * 0.5 * agreement, 1.0, 0.4 * 0.5 * agreement])
    torch.testing.assert_close(found, expected)
    assert torch.equal(blended(label, teacher, 0.0), label)


def test_the_teachers_whole_tumour_is_the_largest_of_its_three() -> None:
    label, teacher = regions(1, 0), regions(0.6, 0.0)
    teacher[2, 0] = 0.9
    found = blended(label, teacher, 0.5)
    assert float(found[0, 0]) == pytest.approx(1 - 0.1 * 0.5)
    assert float(found[1, 0]) == pytest.approx(1 - 0.4 * 0.5)


def test_probabilities_beside_labels_become_part_of_the_target(tmp_path: Path) -> None:
    pack = toy_pack("x")
    masks = np.stack([DEFAULT_SCHEMA.region_mask(pack.labels, region) for region in REGIONS])
    write_taught((masks * 204).astype(np.uint8), tmp_path / "x.npz")  # 0.8 where the expert says 1
    taught, other = with_teacher([pack, toy_pack("y")], tmp_path)
    assert other.teacher is None
    case = training_case(taught, factor=1, device=CPU, teacher_share=0.5)
    np.testing.assert_array_equal(case.regions.numpy(), np.rint(masks * 0.9 * 255))
    assert torch.equal(training_case(taught, factor=1, device=CPU).regions, torch.from_numpy(masks * np.uint8(255)))
    write_taught(np.zeros((3, 2, 2, 2), np.uint8), tmp_path / "x.npz")
    with pytest.raises(InputError, match=r"x.npz holds \(3, 2, 2, 2\)"):
        training_case(taught, factor=1, device=CPU, teacher_share=0.5)


def test_cubes_of_a_file_have_their_patients_names(tmp_path: Path) -> None:
    arrays = {"images": np.ones((2, 4, 3, 4, 5), np.int8), "labels": np.zeros((2, 3, 4, 5), np.uint8)}
    np.savez_compressed(tmp_path / "cubes.npz", **arrays, patients=np.array(["p", "p"]))
    assert [(cube.id, cube.labels.shape, cube.made_of) for cube in read_cubes(tmp_path / "cubes.npz")] == [
        ("p.0", (3, 4, 5), ("p",)),
        ("p.1", (3, 4, 5), ("p",)),
    ]
    np.savez_compressed(tmp_path / "cubes.npz", **arrays, patients=np.array(["p"]))
    with pytest.raises(InputError, match=r"cubes.npz.*do not fit"):
        read_cubes(tmp_path / "cubes.npz")


def test_toys_differ() -> None:
    a, b = toy_packs()
    assert replace(a, id="b").image.shape == b.image.shape
    assert not np.array_equal(a.labels, b.labels)


def test_packs_follow_the_files_they_were_made_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A label that was corrected, a scan that was replaced, a pack without a key: made again, and said."""
    data, cache = tmp_path / "data", tmp_path / "cache"
    drawn, corrected = np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.uint8)
    drawn[12:20, 12:20, 12:20], corrected[12:20, 12:20, 12:20] = 3, 1
    for name in ("one", "two"):
        write_case(data / name)
        write_nifti(drawn, GRID.affine, data / name / f"{name}_seg.nii.gz")
        sidecar = data / name / f"{name}_seg.json"
        sidecar.write_text('{"LabelSchema": "brats2023"}')
    config = PrepareConfig(spacing_mm=SPACING_MM, divisor=8)

    def pack() -> tuple[dict[str, PackedStudy], str]:
        packs = {p.id: p for p in open_dataset(data, cache, config, progress=False)}
        return packs, capsys.readouterr().err

    first, said = pack()
    assert "again" not in said
    written = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")}
    assert len(written) == 2
    assert "again" not in pack()[1]
    assert written == {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")}
    write_nifti(corrected, GRID.affine, data / "one" / "one_seg.nii.gz")
    second, said = pack()
    assert "packed again" in said
    assert "one" in said
    assert "two" not in said
    assert (first["one"].labels == 3).any()
    assert not (second["one"].labels == 3).any()
    brighter = data / "two" / "two_t2.nii.gz"
    image = nib.load(brighter)
    write_nifti(np.asarray(image.dataobj) ** 2, image.affine, brighter)
    third, said = pack()
    assert "two" in said
    assert (third["two"].image != second["two"].image).any()
    keyless = next(path for path in cache.rglob("two.npz"))
    write_pack(third["one"], tmp_path / "other")
    keyless.write_bytes((tmp_path / "other" / "one.npz").read_bytes())
    fourth, said = pack()
    assert "two" in said
    np.testing.assert_array_equal(fourth["two"].image, third["two"].image)


def test_a_teacher_who_knows_some_of_the_studies_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "xy":
        write_pack(toy_pack(name), tmp_path / "packs")
    write_taught(np.zeros((3, 44, 52, 40), np.uint8), tmp_path / "taught" / "x.npz")
    packs, _ = open_packs(tmp_path / "packs", tmp_path / "cache", PrepareConfig(), teacher=tmp_path / "taught")
    assert [pack.teacher is not None for pack in packs] == [True, False]
    assert "1 of 2 studies" in capsys.readouterr().err
