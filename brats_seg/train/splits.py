"""Who is trained on and who is kept out: whole patients, in a single run and in the folds of a cross-validation.

Folds are balanced by tumour size, enhancement and origin, and drawn from a seed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.labels import DEFAULT_SCHEMA, Structure
from brats_seg.core.plain import from_plain, plain
from brats_seg.files.output import write_text
from brats_seg.files.visit_names import patient_of
from brats_seg.imaging.likeness import SAME_HEAD_FROM, likeness, same_head
from brats_seg.train.data import PackedStudy

SPLIT = "split.json"
"""Name of the file beside the folds."""
SIZE_LIMITS_ML = (50.0, 120.0)
"""Whole tumours are small below the first, large from the second; thirds of BraTS, roughly."""
MAX_VISITS = 12
"""More studies with a common name than this are a site's, and no patient's."""
_VISIT = re.compile(
    r"(.*?\d)[_\-. ]+(?:(?:19|20)\d\d[-_.]?\d\d[-_.]?\d\d|[a-z]{1,12}|"
    r"(?:year|month|week|day|visit|scan|time|timepoint|tp|ses|session|fu|[a-z])?[-_]?\d{1,3})$",
    re.IGNORECASE,
)
"""An id that ends in what may be a visit: a date, a word, or a number of at most three digits, behind a number."""
ENHANCING_LIMITS = (0.02, 0.15)
"""Enhancing share of the whole tumour: next to none (low grade as a rule), some, much (high grade)."""


@dataclass(frozen=True)
class Split:
    """Which studies are tested in which fold.

    Attributes:
        folds: ids of the studies tested in each fold; every study is in one.
        strata: study id to what it was balanced by.
        kept_together: why studies with ids of different patients are in one fold, in words.
    """

    seed: int
    folds: tuple[tuple[str, ...], ...]
    strata: dict[str, tuple[str, ...]]
    kept_together: tuple[str, ...] = ()

    def fold_of(self, study_id: str) -> int:
        """Number of the fold in which a study is tested.

        Raises:
            InputError: if the split does not know the study.
        """
        for number, ids in enumerate(self.folds):
            if study_id in ids:
                return number
        raise InputError(f"the split does not know study {study_id}; was it added to the data set later?")


class Patients(NamedTuple):
    """Which studies belong to one patient.

    Attributes:
        of: study id to the first id of its patient.
        why: what else than the ids put studies together, in words.
    """

    of: dict[str, str]
    why: tuple[str, ...]


def find_patients(packs: Sequence[PackedStudy], *, at_least: int | None = None) -> Patients:
    """Put the studies of one patient together: by their ids, by what ids have in common, and by their heads.

    Names as ``P1_a`` and ``P1_b`` suggest one patient, and so do scans of one head, whatever they are called. Too much
    kept together costs a little balance; too little makes every figure of a cross-validation too good.

    Args:
        at_least: patients that are wanted; names that would leave fewer are not read as visits. None leaves what names
            only suggest out.
    """
    of = {pack.id: pack.patient for pack in sorted(packs, key=lambda p: p.id)}
    why: list[str] = []
    visits: dict[str, list[str]] = {}
    for study, patient in of.items():
        named = _VISIT.match(study) if patient == study else None
        visits.setdefault(named.group(1) if named else patient, []).append(study)
    apart = {stem: len({of[study] for study in ids}) for stem, ids in visits.items()}
    suggested = {stem: ids for stem, ids in visits.items() if apart[stem] > 1 and len(ids) <= MAX_VISITS}
    left = len(set(of.values())) - sum(apart[stem] - 1 for stem in suggested)
    if at_least is not None and left >= at_least:
        for stem, ids in suggested.items():
            _join(of, ids)
            why.append(f"{', '.join(ids)}: taken for visits of one patient, {stem}, by their names")
    for one, other in _alike(packs):
        if of[one] != of[other]:
            _join(of, [one, other])
            why.append(f"{one}, {other}: their scans show the same head")
    return Patients(of, tuple(why))


def _join(of: dict[str, str], ids: Sequence[str]) -> None:
    names = {of[study] for study in ids}
    for study, patient in of.items():
        if patient in names:
            of[study] = min(names)


def _alike(packs: Sequence[PackedStudy]) -> Iterator[tuple[str, str]]:
    """Pairs of studies whose scans show the same head."""
    ordered = sorted(packs, key=lambda p: p.id)
    for k, pack in enumerate(ordered):
        for other in ordered[k + 1 :]:
            if likeness(pack.heads, other.heads) >= SAME_HEAD_FROM:
                yield pack.id, other.id


def stratum(pack: PackedStudy) -> tuple[str, str, str]:
    """Size class, enhancement class and origin of a study; origin is what its id begins with."""
    whole = float(DEFAULT_SCHEMA.tumour_mask(pack.labels).sum()) / 1000.0
    enhancing = float(DEFAULT_SCHEMA.structure_mask(pack.labels, Structure.ET).sum()) / 1000.0
    share = enhancing / whole if whole else 0.0
    size = ("small", "medium", "large")[sum(whole >= limit for limit in SIZE_LIMITS_ML)]
    degree = ("none", "some", "much")[sum(share >= limit for limit in ENHANCING_LIMITS)]
    origin = re.match(r"[A-Za-z]+(?:\d+_[A-Za-z]+|20\d\d|-[A-Za-z]+)?", pack.id)
    return size, f"enhancing-{degree}", origin.group(0) if origin else ""


def draw_split(packs: Sequence[PackedStudy], folds: int, *, seed: int, dealt: Sequence[Sequence[str]] = ()) -> Split:
    """Deal patients out to folds.

    One after the other, those of the rarest kind first, goes where fewest of its kind are (after Sechidis et al.
    2011, doi:10.1007/978-3-642-23808-6_10); chance decides between equals. A patient's visits stay together
    (:func:`find_patients`).

    Args:
        packs: the studies; order does not matter.
        seed: another one gives another split.
        dealt: ids of the studies of each fold of an earlier split, which stay where they are.

    Raises:
        InputError: if there are fewer patients than folds, fewer than two folds, or ``dealt`` is of another number or
            has a patient in two folds.
    """
    patients: dict[str, list[PackedStudy]] = {}
    found = find_patients(packs, at_least=folds)
    for pack in sorted(packs, key=lambda p: p.id):
        patients.setdefault(found.of[pack.id], []).append(pack)
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

    fold_of = _folds_of_patients(dealt, found)
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
    strata = {pack.id: kinds[found.of[pack.id]] for pack in packs}
    return Split(seed, tuple(tuple(sorted(ids)) for ids in held), dict(sorted(strata.items())), found.why)


def _folds_of_patients(dealt: Sequence[Sequence[str]], patients: Patients) -> dict[str, int]:
    """Patient to the fold of an earlier split that tests their studies."""
    first: dict[str, tuple[str, int]] = {}
    for fold, ids in enumerate(dealt):
        for study in ids:
            other, there = first.setdefault(patients.of.get(study, patient_of(study)), (study, fold))
            if there != fold:
                raise InputError(
                    f"the earlier split tests {', '.join(sorted((study, other)))} in two folds, which are of one "
                    "patient; draw a new split"
                )
    return {patient: fold for patient, (_, fold) in first.items()}


def write_split(split: Split, path: Path) -> None:
    """Write a split as JSON, whole or not at all."""
    write_text(path, json.dumps(plain(split), indent=1) + "\n")


def read_split(path: Path, packs: Sequence[PackedStudy]) -> Split:
    """Read a split and make sure that it is of these studies.

    Raises:
        InputError: if the file is no split, a patient is in two folds, or studies were added or are gone.
    """
    try:
        split = from_plain(Split, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} is no split of brats-seg ({error}); remove it to draw a new one") from error
    split_ids = [study for ids in split.folds for study in ids]
    known = {pack.id for pack in packs}
    changed = sorted(set(split_ids) ^ known)
    if changed or len(split_ids) != len(set(split_ids)):
        raise InputError(
            f"{path.name} is not of this data set: it differs in {', '.join(changed[:5]) or 'doubled studies'}. "
            "Choose another run folder."
        )
    first: dict[str, str] = {}
    patients = find_patients(packs, at_least=len(split.folds)).of
    for study, patient in sorted(patients.items()):
        other = first.setdefault(patient, study)
        if split.fold_of(study) != split.fold_of(other):
            raise InputError(
                f"{path.name} tests {other} and {study}, which are of one patient, in two folds; choose another run "
                "folder, which gets a split of its own"
            )
    return split


def without_made_of(made: Sequence[PackedStudy], kept_out: Sequence[PackedStudy]) -> list[PackedStudy]:
    """Studies that hold nothing of the patients that are kept out."""
    patients = {pack.patient for pack in kept_out}
    return [pack for pack in made if patients.isdisjoint(map(patient_of, pack.made_of))]


def check_leak(packs: Sequence[PackedStudy], auxiliary: Sequence[PackedStudy]) -> None:
    """Refuse an auxiliary study of a patient of the data set, who may be kept out.

    Raises:
        InputError: naming both studies.
    """
    heads = {pack.id: pack.heads for pack in packs} if auxiliary else {}
    exact = {pack.fingerprint(): pack.id for pack in packs} if auxiliary else {}
    for pack in auxiliary:
        # A volume made of studies names them, and is left out where one of them is kept out.
        same = exact.get(pack.fingerprint()) or ("" if pack.made_of else same_head(pack.heads, heads))
        if same:
            raise InputError(
                f"auxiliary study {pack.id} is {same} of the data set, or shows the same head; no study may be trained "
                "on and kept out"
            )


def divide(packs: Sequence[PackedStudy], validation: Sequence[str]) -> tuple[list[PackedStudy], list[PackedStudy]]:
    """Studies to train on, and those kept out to validate on.

    Raises:
        InputError: if a study that is to be kept out is unknown, nothing is left to train on, or a patient is in both.
    """
    kept_out = set(validation)
    unknown = sorted(kept_out - {pack.id for pack in packs})
    if unknown:
        raise InputError(f"the configuration validates on {unknown}, which the data set does not hold")
    chosen = [pack for pack in packs if pack.id not in kept_out]
    if not chosen:
        raise InputError("no study is left to train on: the configuration validates on all of them")
    patients = find_patients(packs).of if kept_out else {}
    trained = {patients[pack.id]: pack.id for pack in chosen} if kept_out else {}
    for study in sorted(kept_out):
        if patients[study] in trained:
            raise InputError(
                f"the configuration validates on {study} and trains on {trained[patients[study]]} of the same patient; "
                "keep out both"
            )
    return chosen, [pack for pack in packs if pack.id in kept_out]
