"""Reference objects as files: the truth is the formula, and the program measures it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import OutputError, UsageError
from brats_seg.phantom.grids import grid_around, native_grids, rotation_of
from brats_seg.phantom.reference import (
    BACKGROUND_LEVEL,
    KINDS,
    ObjectOptions,
    ObjectScan,
    make_object,
    write_object,
)
from brats_seg.run.masks import measure
from experiments.volumetry.bench import (
    CODES,
    BenchSize,
    _scans,
    bench_change,
    bench_objects,
    outlined,
    summarise,
    title_of,
)
from experiments.volumetry.bench import OBJECTS as BENCH_OBJECTS

FORMULAS_ML = {
    "sphere": np.pi / 6 * 20**3,
    "ellipsoid": np.pi / 6 * 30 * 20 * 15,
    "shell": np.pi / 6 * (20**3 - 10**3),
    "box": 30 * 20 * 15,
    "pair": 2 * np.pi / 6 * 20**3,
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_is_written_with_its_truth_and_measured_as_any_mask(tmp_path: Path, kind: str) -> None:
    scan = ObjectScan(turn_deg=(10, 20, 30), orientation="ASR", offset_mm=(0.3, 0.2, 0.1))
    folder, truth = write_object(ObjectOptions(kind), scan, tmp_path / "o")
    expected_ml = FORMULAS_ML[kind] / 1000
    assert json.loads((folder / "truth.json").read_text()) == truth
    assert truth["volume_ml"] == pytest.approx(expected_ml)
    assert truth["regions"]["ET"]["fractions_ml"] == pytest.approx(expected_ml, rel=0.003)
    found = measure(folder / f"{kind}_dseg.nii.gz")  # the schema stands beside it
    assert found.volume("ET").volume_ml == pytest.approx(truth["regions"]["ET"]["mask_ml"], abs=1e-3)
    assert found.volume("ET").volume_ml == pytest.approx(expected_ml, rel=0.03)
    assert len(found.lesions_of("ET")) == (2 if kind == "pair" else 1)
    if kind == "shell":
        assert found.volume("TC").volume_ml == pytest.approx(FORMULAS_ML["sphere"] / 1000, rel=0.02)
    assert {"run.json", "truth.json", f"{kind}_t1ce.nii.gz", f"{kind}_probseg.nii.gz"} <= {
        path.name for path in folder.iterdir()
    }


def test_it_is_not_written_twice(tmp_path: Path) -> None:
    write_object(ObjectOptions(diameter_mm=8), ObjectScan(), tmp_path / "o")
    with pytest.raises(OutputError):
        write_object(ObjectOptions(diameter_mm=8), ObjectScan(), tmp_path / "o")
    write_object(ObjectOptions("box"), ObjectScan(), tmp_path / "o", exists="overwrite")
    assert not (tmp_path / "o" / "sphere_t1ce.nii.gz").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "cube"}, "no object"),
        ({"diameter_mm": -1}, "--diameter-mm"),
        ({"diameter_mm": float("nan")}, "--diameter-mm"),
        ({"sides_mm": (1, 0, 1)}, "--sides-mm"),
    ],
)
def test_wrong_objects_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ObjectOptions(**options)


def test_contradictions_are_refused() -> None:
    with pytest.raises(UsageError, match="hollow"):
        ObjectOptions("shell", diameter_mm=10, hollow_mm=10).shape()
    with pytest.raises(UsageError, match="touch"):
        ObjectOptions("pair", diameter_mm=10, distance_mm=9).shape()
    for scan in (
        {"orientation": "RRS"},
        {"orientation": "XYZ"},
        {"spacing_mm": (0, 1, 1)},
        {"noise": -1},
        {"contrast": 1},
    ):
        with pytest.raises(UsageError):
            ObjectScan(**scan)
    with pytest.raises(UsageError, match="too large"):
        ObjectScan(spacing_mm=(0.01, 0.01, 0.01)).grid(ObjectOptions().shape())


@given(
    code=st.sampled_from(CODES),
    turn=st.one_of(st.just((0.0, 0.0, 0.0)), st.tuples(*[st.floats(-180, 180)] * 3)),
    spacing=st.tuples(*[st.floats(0.5, 5)] * 3),
    centre=st.tuples(*[st.floats(-50, 50)] * 3),
)
@settings(max_examples=30, deadline=None)
def test_grids_have_their_voxel_size_their_middle_and_hold_what_they_should(code, turn, spacing, centre) -> None:
    grid = grid_around(centre, (20, 30, 40), spacing_mm=spacing, orientation=code, turn_deg=turn)
    np.testing.assert_allclose(grid.spacing_mm, spacing)
    middle = (np.array(grid.shape) - 1) / 2
    np.testing.assert_allclose(grid.to_world(middle), centre, atol=1e-9)
    corners = np.array(np.meshgrid((-20, 20), (-30, 30), (-40, 40))).reshape(3, -1).T @ rotation_of(turn).T
    voxels = grid.to_voxel(corners + centre)
    assert (voxels > -1e-6).all() and (voxels < np.array(grid.shape) - 1 + 1e-6).all()
    if turn == (0, 0, 0):
        assert grid.orientation == code


def test_native_grids_are_mostly_thick_and_all_hold_the_middle() -> None:
    rng = np.random.default_rng(0)
    thick = 0
    for _ in range(20):
        grids = native_grids((0, 0, 0), (80, 98, 82), rng)
        assert len(grids) == 4
        for grid in grids.values():
            voxel = grid.to_voxel((0, 0, 0))
            assert (voxel > 5).all() and (voxel < np.array(grid.shape) - 5).all()
        thick += sum(max(grid.spacing_mm) >= 3 for grid in grids.values())
    assert 30 < thick < 60


def test_shifts_of_the_bench_fill_a_voxel_evenly_in_any_orientation() -> None:
    places = []
    for scan in _scans((1.0, 1.0, 5.0), "any", 64, np.random.default_rng(0)):
        grid = scan.grid(ObjectOptions(diameter_mm=6).shape())
        places.append(grid.to_voxel((0, 0, 0)) % 1)
    for axis in np.array(places).T:
        assert np.histogram(axis, bins=4, range=(0, 1))[0].min() >= 12
    with pytest.raises(ValueError, match="power of two"):
        next(_scans((1.0, 1.0, 1.0), "any", 3, np.random.default_rng(0)))


def test_outlining_finds_the_volume_without_bias_from_noise() -> None:
    errors = []
    for seed in range(4):
        made = make_object(ObjectOptions(diameter_mm=16), ObjectScan(noise=0.1), np.random.default_rng(seed))
        outline = outlined(made)
        errors.append(outline.pv_ml / made.truth_ml["ET"] - 1)
        assert outline.mask.sum() / 1000 == pytest.approx(made.truth_ml["ET"], rel=0.03)
    assert abs(np.mean(errors)) < 0.02


def test_noise_is_rician() -> None:
    made = make_object(ObjectOptions(diameter_mm=4), ObjectScan(noise=0.2, margin_mm=20), np.random.default_rng(0))
    outside = made.image.data[made.fractions[0] == 0] / BACKGROUND_LEVEL
    assert float(np.mean(outside**2)) == pytest.approx(
        1 + 2 * 0.2**2, rel=0.01
    )  # of the square: signal and both channels


@pytest.mark.slow
def test_the_bench_meets_its_targets_on_a_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.volumetry import bench as phantom_bench

    monkeypatch.setattr(phantom_bench, "OBJECTS", (ObjectOptions("sphere", diameter_mm=12),))
    rows = bench_objects(BenchSize(samples=8, shifts=16), np.random.default_rng(1))
    assert set(rows["object"]) == {"sphere 12 mm"} and len(rows) == 8 * 6
    bias = summarise(rows, ["object", "voxel_mm", "orientation"])
    assert (bias["pv_bias_percent"].abs() < 0.3).all()
    assert (bias["mask_bias_percent"].abs() < 1).all()
    assert (bias["mask_bias_error_percent"] < 0.5 * bias["mask_sd_percent"] / 8**0.5).all()  # shifts are spread evenly
    assert (bias["counted"] == 8 * 16).all()
    assert (rows["stored"] != "LPS").any()


def test_the_change_bench_finds_one_millimetre(monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.volumetry import bench as phantom_bench

    monkeypatch.setattr(phantom_bench, "GRIDS", ((1.0, 1.0, 1.0),))
    monkeypatch.setattr(phantom_bench, "CHANGE_DIAMETERS_MM", (20.0,))
    rows = bench_change(BenchSize(pairs=4), np.random.default_rng(1))
    assert len(rows) == 4
    assert rows["pv_error_mm"].abs().max() < 0.1


def test_titles_tell_the_objects_apart() -> None:
    assert len({title_of(options) for options in BENCH_OBJECTS}) == len(BENCH_OBJECTS)
