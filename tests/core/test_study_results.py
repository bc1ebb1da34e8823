"""Studies and results: a finished constructor means a valid object."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from glioma import ET, REGIONS, TC, WT
from strategies import affine_of

from brats_seg.core import errors
from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import DEFAULT_SCHEMA, SCHEMAS
from brats_seg.core.scans import PreparationRecord, PreparedStudy, RigidMotion, Study
from brats_seg.core.study import MRSequence
from brats_seg.core.visit import Measurements, RegionMaps, RegionVolume, Segmentation
from brats_seg.core.words import counted, visit_named

GRID = Grid((3, 4, 5), np.eye(4))
IMAGE = Volume(np.ones(GRID.shape, np.float32), GRID)


def test_a_study_needs_an_image_and_its_reference() -> None:
    with pytest.raises(InputError, match="no image"):
        Study("a", {})
    with pytest.raises(InputError, match=r"has no FLAIR.*it has T1, T2"):
        Study("a", {MRSequence.T2: IMAGE, MRSequence.T1: IMAGE}, reference=MRSequence.FLAIR)


@pytest.mark.parametrize(
    ("present", "expected"), [("t1 t1ce t2 flair", "t1ce"), ("t1 t2 flair", "flair"), ("t2 t1", "t2"), ("t1", "t1")]
)
def test_the_reference_is_the_most_useful_sequence(present: str, expected: str) -> None:
    study = Study("a", {MRSequence(name): IMAGE for name in present.split()})
    assert study.reference_sequence is MRSequence(expected)
    assert [s.value for s in study.present] == sorted(present.split(), key=["t1", "t1ce", "t2", "flair"].index)
    assert set(study.present) | set(study.missing) == set(MRSequence)


def test_a_reference_asked_for_wins() -> None:
    study = Study("a", dict.fromkeys(MRSequence, IMAGE), reference=MRSequence.T2)
    assert study.reference_volume is study.images[MRSequence.T2]


def test_alignment_is_judged_by_place_not_by_shape() -> None:
    moved = Volume(IMAGE.data, Grid(GRID.shape, affine_of("RAS", origin_mm=(1, 0, 0))))
    assert Study("a", {MRSequence.T1: IMAGE, MRSequence.T2: IMAGE}).is_aligned
    assert not Study("a", {MRSequence.T1: IMAGE, MRSequence.T2: moved}).is_aligned


def test_a_prepared_study_fits_its_record() -> None:
    record = PreparationRecord(native=GRID, network=GRID)
    good = np.zeros((4, *GRID.shape), np.float32)
    brain = np.ones(GRID.shape, bool)
    assert PreparedStudy("a", good, brain, (MRSequence.T1,), record).grid is GRID
    with pytest.raises(ValueError, match="array of shape"):
        PreparedStudy("a", good[:3], brain, (MRSequence.T1,), record)
    with pytest.raises(ValueError, match="brain of shape"):
        PreparedStudy("a", good, brain[1:], (MRSequence.T1,), record)


def test_a_preparation_record_becomes_plain_json() -> None:
    found = RigidMotion(np.eye(4), 0.5, 0.9, 1.234, 0.5)
    record = PreparationRecord(GRID, GRID, {MRSequence.T2: found}, (MRSequence.T2,), {MRSequence.T2: {"mean": 1.0}})
    plain = json.loads(json.dumps(record.to_dict()))
    assert plain["native"]["orientation"] == "RAS"
    assert plain["registrations"]["t2"]["translation_mm"] == 1.234
    assert plain["resampled"] == ["t2"]


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_probabilities_lie_in_0_to_1(value: float) -> None:
    array = np.zeros((3, *GRID.shape), np.float32)
    assert RegionMaps(array, GRID, REGIONS).region(TC).shape == GRID.shape
    spoilt = array.copy()
    spoilt[1, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"0\.\.1"):
        RegionMaps(spoilt, GRID, REGIONS)


def test_probability_channels_go_by_region() -> None:
    array = np.stack([np.full(GRID.shape, v, np.float32) for v in (0.9, 0.6, 0.3)])
    held = RegionMaps(array, GRID, REGIONS)
    assert [float(held.region(r)[0, 0, 0]) for r in (WT, TC, ET)] == pytest.approx([0.9, 0.6, 0.3])
    with pytest.raises(ValueError, match="does not fit"):
        RegionMaps(array[:, 1:], GRID, REGIONS)


def test_a_segmentation_speaks_its_schema() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[0, 0, 0] = 4
    with pytest.raises(InputError, match="does not know"):
        Segmentation("a", Volume(labels, GRID), DEFAULT_SCHEMA, REGIONS)
    held = Segmentation("a", Volume(labels, GRID), SCHEMAS["brats2021"], REGIONS)
    assert held.region_mask(ET).sum() == 1
    other = Grid((3, 4, 6), np.eye(4))
    with pytest.raises(ValueError, match="different grids"):
        Segmentation(
            "a",
            Volume(labels, GRID),
            SCHEMAS["brats2021"],
            REGIONS,
            RegionMaps(np.zeros((3, 3, 4, 6), "f4"), other, REGIONS),
        )


def test_measurements_are_found_by_region_or_name_in_any_case() -> None:
    rows = tuple(
        RegionVolume(name, volume, None, *interval, 1, False, note)
        for name, volume, interval, note in (
            ("WT", 56.5, (50.0, 63.04, 0.9), ""),
            ("ET", 0.0, (None, None, None), "estimate: not assessable without T1CE"),
        )
    )
    found = Measurements("case", rows, (), (1.0, 1.0, 1.0))
    for name in (WT, "WT", "wt", "Wt"):
        assert found.volume(name) is rows[0]
    with pytest.raises(KeyError, match=r"no region 'XX'; measured: WT, ET"):
        found.volume("XX")
    assert repr(found.volumes) == "(WT 56.50 ml (50.0 to 63.0), ET 0.00 ml)"
    assert str(found) == ("case\n  WT 56.50 ml (50.0 to 63.0)\n  ET 0.00 ml, estimate: not assessable without T1CE")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("No.", "No."),
        ("It is there. Pass --b to go on, or choose another.", "It is there. Choose another."),
        ("It is there. Take another -o, or pass --a, or pass --b.", "It is there. Take another -o, or pass --a."),
        ("It runs here; pass --a cpu or --b torch", "It runs here; pass --a cpu"),
        ("Split it (with x, or y) and pass the parts with --b1, --b and --c.", "Split it (with x, or y)."),
        ("Damaged. Pass --b.", "Damaged."),
        ("Fetch it first (python -m x --unknown y).", "Fetch it first (python -m x --unknown y)."),
    ],
)  # fmt: skip
def test_advice_is_left_out_where_the_command_lacks_the_option(text: str, left: str) -> None:
    error = InputError(text)
    assert str(error) == error.words == text
    try:
        errors.lack({"--b", "--b1", "--c"}.__contains__)
        assert str(error) == left
        assert str(pickle.loads(pickle.dumps(error))) == left
    finally:
        errors.lack(None)


@pytest.mark.parametrize(("number", "words"), [(0, "0 studies"), (1, "1 study"), (2, "2 studies")])
def test_one_is_not_many(number: int, words: str) -> None:
    assert counted(number, "study", "studies") == words
    assert counted(number, "file") == words.replace("study", "file").replace("studies", "files")


def test_a_visit_is_called_one_once() -> None:
    assert [visit_named(label) for label in ("ses-2", "visit2", "Visit 2")] == ["visit ses-2", "visit2", "Visit 2"]


def test_exit_codes_are_distinct() -> None:
    family = errors.BratsSegError.__subclasses__()
    codes = [kind.exit_code for kind in family]
    assert sorted(codes) == [1, 2, 3, 4, 5, 6]
    assert errors.BratsSegError.exit_code == 1
