"""Splits: whole patients, every study once, the same by seed, balanced."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError, UsageError
from brats_seg.training.data import PackedStudy
from brats_seg.training.splits import divide_split, draw_split, read_split, stratum, write_split


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


def test_folds_are_divided_into_parts_of_themselves() -> None:
    packs = many()
    split = draw_split(packs, 3, seed=1)
    divided = divide_split(split, packs, 6, seed=2)
    assert divide_split(split, packs, 3, seed=2) == split
    assert divided.seed == 2
    for number, ids in enumerate(split.folds):
        one, other = divided.folds[2 * number : 2 * number + 2]
        assert sorted(one + other) == sorted(ids)
        assert abs(len(one) - len(other)) <= 2  # patients with two visits stay together
        assert split.fold_around(one) == split.fold_around(other) == number
    assert split.fold_around(split.folds[0] + split.folds[1][:1]) is None
    assert divide_split(split, packs, 6, seed=3).folds != divided.folds
    for folds in (2, 4, 7):
        with pytest.raises(UsageError, match="multiple"):
            divide_split(split, packs, folds, seed=2)


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
    with pytest.raises(InputError, match="patient BraTS-GLI-00001 in two folds"):
        read_split(path, packs)
    path.write_text("{}")
    with pytest.raises(InputError, match="is no split"):
        read_split(path, packs)
