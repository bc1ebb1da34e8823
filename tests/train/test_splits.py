"""Splits: whole patients, every study once, the same by seed, balanced."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_packs import toy_pack

from brats_seg.core.errors import InputError
from brats_seg.train.data import PackedStudy
from brats_seg.train.splits import draw_split, find_patients, read_split, stratum, write_split


def study(name: str, whole: int = 8, enhancing: int = 0) -> PackedStudy:
    """A study with ``whole`` thousand voxels of tumour, ``enhancing`` thousand of them enhancing."""
    labels = np.zeros((200, 1000, 1), np.uint8)
    labels[:whole] = 2
    labels[:enhancing] = 3
    return PackedStudy(name, np.zeros((4, *labels.shape), np.int8), labels)


def many() -> list[PackedStudy]:
    sizes = [(20, 0), (20, 10), (80, 0), (80, 5), (150, 60), (150, 1)]
    return [study(f"BraTS-GLI-{n:05d}-{v:03d}", *sizes[n % 6]) for n in range(20) for v in range(1 + n % 2)]


@settings(max_examples=20, deadline=None)
@given(folds=st.integers(2, 6), seed=st.integers(0, 1000))
def test_every_study_is_tested_once_and_patients_stay_together(folds: int, seed: int) -> None:
    packs = many()
    split = draw_split(packs, folds, seed=seed)
    assert sorted(name for ids in split.folds for name in ids) == sorted(pack.id for pack in packs)
    for pack in packs:
        assert len({split.fold_of(other.id) for other in packs if other.patient == pack.patient}) == 1
    assert all(split.folds)
    assert split == draw_split(packs[::-1], folds, seed=seed)


def test_another_seed_is_another_split() -> None:
    assert draw_split(many(), 3, seed=1).folds != draw_split(many(), 3, seed=2).folds


def test_studies_that_come_later_are_dealt_out_to_the_folds_there_are() -> None:
    packs = many()
    before = draw_split(packs[:22], 3, seed=1)
    after = draw_split(packs, 3, seed=1, dealt=before.folds)
    assert all(set(old) <= set(new) for old, new in zip(before.folds, after.folds, strict=True))
    assert sorted(name for ids in after.folds for name in ids) == sorted(pack.id for pack in packs)
    assert max(map(len, after.folds)) - min(map(len, after.folds)) <= 2
    with pytest.raises(InputError, match="has 3 folds"):
        draw_split(packs, 4, seed=1, dealt=before.folds)


def test_a_patient_whom_an_earlier_split_tests_in_two_folds_is_not_moved_to_one() -> None:
    packs = [*(toy_pack(f"p{number}", seed=number) for number in range(3)), toy_pack("again", seed=0)]
    with pytest.raises(InputError, match="again, p0 in two folds"):
        draw_split(packs, 2, seed=1, dealt=[["p0", "p1"], ["again", "p2"]])


def test_kinds_are_dealt_out_evenly() -> None:
    packs = [study(f"case{n}", *[(20, 0), (80, 40), (150, 5)][n % 3]) for n in range(18)]
    for seed in range(5):
        split = draw_split(packs, 3, seed=seed)
        for ids in split.folds:
            assert Counter(split.strata[name] for name in ids) == Counter(
                {("small", "enhancing-none", "case"): 2, ("medium", "enhancing-much", "case"): 2}
                | {("large", "enhancing-some", "case"): 2}
            )


@pytest.mark.parametrize(
    ("name", "origin"),
    [("BraTS2021_00495", "BraTS"), ("Brats18_TCIA01_425_1", "Brats18_TCIA"), ("BraTS-GLI-00000-000", "BraTS-GLI")],
)
def test_origin_is_what_an_id_begins_with(name: str, origin: str) -> None:
    assert stratum(study(name))[2].startswith(origin)


def test_too_few_patients_are_refused() -> None:
    packs = [study("BraTS-GLI-00001-000"), study("BraTS-GLI-00001-001"), study("BraTS-GLI-00002-000")]
    with pytest.raises(InputError, match="2 patients cannot be dealt out to 3 folds"):
        draw_split(packs, 3, seed=0)
    with pytest.raises(InputError, match="1 folds"):
        draw_split(packs, 1, seed=0)


def test_a_split_is_read_back_and_held_against_its_data(tmp_path: Path) -> None:
    packs = many()
    split = draw_split(packs, 3, seed=5)
    path = tmp_path / "split.json"
    write_split(split, path)
    assert read_split(path, packs) == split
    with pytest.raises(InputError, match=packs[0].id):
        read_split(path, packs[1:])
    values = json.loads(path.read_text())
    home = split.fold_of("BraTS-GLI-00001-000")
    values["folds"][home].remove("BraTS-GLI-00001-000")
    values["folds"][(home + 1) % 3].append("BraTS-GLI-00001-000")
    path.write_text(json.dumps(values))
    with pytest.raises(
        InputError, match="BraTS-GLI-00001-000 and BraTS-GLI-00001-001, which are of one patient, in two folds"
    ):
        read_split(path, packs)
    path.write_text("{}")
    with pytest.raises(InputError, match="is no split"):
        read_split(path, packs)


FEW_VOXELS = np.zeros((1, 1, 1), np.uint8)


def named(*names: str) -> list[PackedStudy]:
    return [PackedStudy(name, np.zeros((4, 1, 1, 1), np.int8), FEW_VOXELS) for name in names]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("UCSD-PTGBM-0001_01", "UCSD-PTGBM-0001_02"), ("UPENN-GBM-00002_11", "UPENN-GBM-00002_21")),
        *(("Patient-001_week-044", "Patient-001_week-002"), ("R001_S1", "R001_S2"), ("P1_v1", "P1_v2")),
        *(("p1_fu1", "p1_base"), ("pat1_pre", "pat1_post"), ("P1-2019-01-01", "P1-2019-06-30"), ("P1_a", "P1_b")),
    ],
)
def test_names_that_suggest_visits_keep_studies_together(one: str, other: str) -> None:
    packs = named(one, other, *(f"Other{k}9" for k in "abcdefgh"))
    for seed in range(6):
        split = draw_split(packs, 3, seed=seed)
        assert split.fold_of(one) == split.fold_of(other)


@pytest.mark.parametrize(
    "names",
    [
        [f"BraTS2021_{n:05d}" for n in range(8)],
        [f"Brats18_2013_{n}_1" for n in range(8)],
        [f"BraTS20_Training_{n:03d}" for n in range(8)],
        [f"TCGA-02-{n:04d}" for n in range(8)],
        [f"site1_{n:02d}" for n in range(30)],
        [f"site1_{n:02d}" for n in range(4)],  # as visits, they would leave one patient
        [f"case{n}" for n in range(8)],
    ],
)
def test_patients_of_one_data_set_are_not_taken_for_one(names: list[str]) -> None:
    found = find_patients(named(*names), at_least=3)
    assert len(set(found.of.values())) == len(names)
    assert found.why == ()


def test_one_head_under_two_names_stays_in_one_fold(tmp_path: Path) -> None:
    places = [(22, 26, 20), (30, 20, 24), (14, 20, 14), (30, 34, 26), (16, 34, 28)]
    packs = [toy_pack(f"case{k}x", centre=place, seed=k) for k, place in enumerate(places)]
    again = PackedStudy(
        "BraTS-GLI-00000-000", np.clip(packs[0].image + 1, -127, 127) * (packs[0].image != 0), FEW_VOXELS
    )
    again = PackedStudy(again.id, again.image, np.zeros_like(packs[0].labels))
    packs.append(again)
    for seed in range(6):
        split = draw_split(packs, 3, seed=seed)
        assert split.fold_of("case0x") == split.fold_of(again.id)
    assert split.kept_together == ("BraTS-GLI-00000-000, case0x: their scans show the same head",)
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json", packs) == split
    values = json.loads((tmp_path / "split.json").read_text())
    home = split.fold_of("case0x")
    values["folds"][home].remove("case0x")
    values["folds"][(home + 1) % 3].append("case0x")
    (tmp_path / "split.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="which are of one patient, in two folds"):
        read_split(tmp_path / "split.json", packs)
