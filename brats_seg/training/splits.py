"""Folds for cross-validation: whole patients, balanced by tumour size, enhancement and origin, drawn from a seed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.labels import DEFAULT_SCHEMA, Region
from brats_seg.core.study import patient_of
from brats_seg.io.output import write_text
from brats_seg.training.data import PackedStudy

SPLIT = "split.json"
"""Name of the file beside the folds."""
SIZE_LIMITS_ML = (50.0, 120.0)
"""Whole tumours are small below the first, large from the second; thirds of BraTS, roughly."""
ENHANCING_LIMITS = (0.02, 0.15)
"""Enhancing share of the whole tumour: next to none (low grade as a rule), some, much (high grade)."""


@dataclass(frozen=True)
class Split:
    """Which studies are tested in which fold.

    Attributes:
        seed: what the split was drawn from.
        folds: ids of the studies tested in each fold; every study is in one.
        strata: study id to what it was balanced by.
    """

    seed: int
    folds: tuple[tuple[str, ...], ...]
    strata: dict[str, tuple[str, ...]]

    def fold_of(self, study_id: str) -> int:
        """Number of the fold in which a study is tested.

        Raises:
            InputError: if the split does not know the study.
        """
        for number, ids in enumerate(self.folds):
            if study_id in ids:
                return number
        raise InputError(f"the split does not know study {study_id}; was it added to the data set later?")

    def fold_around(self, ids: Sequence[str]) -> int | None:
        """Number of the fold in which all of these studies are tested, None if there is none."""
        return next((number for number, held in enumerate(self.folds) if set(ids) <= set(held)), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to ``split.json``."""
        return {"seed": self.seed, "folds": [list(ids) for ids in self.folds], "strata": self.strata}


def stratum(pack: PackedStudy) -> tuple[str, str, str]:
    """Size class, enhancement class and origin of a study; origin is what its id begins with."""
    whole = float(DEFAULT_SCHEMA.region_mask(pack.labels, Region.WT).sum()) / 1000.0
    enhancing = float(DEFAULT_SCHEMA.region_mask(pack.labels, Region.ET).sum()) / 1000.0
    share = enhancing / whole if whole else 0.0
    size = ("small", "medium", "large")[sum(whole >= limit for limit in SIZE_LIMITS_ML)]
    degree = ("none", "some", "much")[sum(share >= limit for limit in ENHANCING_LIMITS)]
    origin = re.match(r"[A-Za-z]+(?:\d+_[A-Za-z]+|20\d\d|-[A-Za-z]+)?", pack.id)
    return size, f"enhancing-{degree}", origin.group(0) if origin else ""


def draw_split(packs: Sequence[PackedStudy], folds: int, *, seed: int, dealt: Sequence[Sequence[str]] = ()) -> Split:
    """Deal patients out to folds.

    One after the other, those of the rarest kind first, goes where fewest of its kind are (after Sechidis et al.
    2011, doi:10.1007/978-3-642-23808-6_10); chance decides between equals. A patient's visits stay together.

    Args:
        packs: the studies; order does not matter.
        folds: how many.
        seed: another one gives another split.
        dealt: ids of the studies of each fold of an earlier split, which stay where they are.

    Raises:
        InputError: if there are fewer patients than folds, fewer than two folds, or ``dealt`` is of another number.
    """
    patients: dict[str, list[PackedStudy]] = {}
    for pack in sorted(packs, key=lambda p: p.id):
        patients.setdefault(pack.patient, []).append(pack)
    if folds < 2 or len(patients) < folds:
        raise InputError(f"{len(patients)} patients cannot be dealt out to {folds} folds; 2 to {len(patients)} work")
    if len(dealt) not in (0, folds):
        raise InputError(f"the earlier split has {len(dealt)} folds; studies cannot be added to {folds}")
    rng = np.random.default_rng(seed)
    kinds = {patient: stratum(held[0]) for patient, held in patients.items()}
    common = Counter(kind for kind_of in kinds.values() for kind in kind_of)
    chance = {patient: float(rng.random()) for patient in patients}
    order = sorted(patients, key=lambda p: (min(common[kind] for kind in kinds[p]), chance[p]))
    held: list[list[str]] = [[] for _ in range(folds)]
    counts: list[Counter[str]] = [Counter() for _ in range(folds)]

    def deal(patient: str, fold: int) -> None:
        held[fold] += [pack.id for pack in patients[patient]]
        counts[fold].update(kinds[patient])
        counts[fold]["studies"] += len(patients[patient])

    fold_of = {patient_of(study): fold for fold, ids in enumerate(dealt) for study in ids}
    for patient in filter(fold_of.__contains__, order):
        deal(patient, fold_of[patient])
    for patient in (patient for patient in order if patient not in fold_of):
        weights = rng.random(folds)
        crowd = [
            (sum(counts[f][kind] / common[kind] for kind in kinds[patient]) + counts[f]["studies"] / len(packs) * folds)
            for f in range(folds)
        ]
        chosen = min(
            range(folds), key=lambda f: (counts[f]["studies"] >= -(-len(packs) // folds), crowd[f], weights[f])
        )
        deal(patient, chosen)
    strata = {pack.id: kinds[pack.patient] for pack in packs}
    return Split(seed, tuple(tuple(sorted(ids)) for ids in held), dict(sorted(strata.items())))


def divide_split(split: Split, packs: Sequence[PackedStudy], folds: int, *, seed: int) -> Split:
    """Deal the studies of each fold out to smaller ones, drawn anew.

    Whoever has seen nothing of a fold has seen nothing of its parts, so networks trained without the fold can go on
    without a part, on more studies than before.

    Args:
        split: with fewer folds.
        packs: its studies.
        folds: how many in all, a multiple of those there are; the same number gives the same split.
        seed: of the parts.

    Raises:
        UsageError: if the number is no multiple.
        InputError: if a fold has too few patients.
    """
    if folds == len(split.folds):
        return split
    parts, rest = divmod(folds, len(split.folds))
    if rest or not parts:
        raise UsageError(f"{len(split.folds)} folds cannot be divided into {folds}; choose a multiple")
    by_id = {pack.id: pack for pack in packs}
    dealt = [draw_split([by_id[study] for study in ids], parts, seed=seed).folds for ids in split.folds]
    return Split(seed, tuple(part for divided in dealt for part in divided), split.strata)


def write_split(split: Split, path: Path) -> None:
    """Write a split as JSON, whole or not at all."""
    write_text(path, json.dumps(split.to_dict(), indent=1) + "\n")


def read_split(path: Path, packs: Sequence[PackedStudy]) -> Split:
    """Read a split and make sure that it is of these studies.

    Raises:
        InputError: if the file is no split, a patient is in two folds, or studies were added or are gone.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        split = Split(
            int(held["seed"]),
            tuple(tuple(map(str, ids)) for ids in held["folds"]),
            {str(name): tuple(kind) for name, kind in held["strata"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path.name} is no split of brats-seg ({error}); remove it to draw a new one") from error
    split_ids = [study for ids in split.folds for study in ids]
    known = {pack.id for pack in packs}
    changed = sorted(set(split_ids) ^ known)
    if changed or len(split_ids) != len(set(split_ids)):
        raise InputError(
            f"{path.name} is not of this data set: it differs in {', '.join(changed[:5]) or 'doubled studies'}. "
            "Choose another run folder."
        )
    fold_of_patient: dict[str, int] = {}
    for pack in packs:
        fold = split.fold_of(pack.id)
        if fold_of_patient.setdefault(pack.patient, fold) != fold:
            raise InputError(f"{path.name} tests visits of patient {pack.patient} in two folds; remove it")
    return split
