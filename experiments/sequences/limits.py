"""Choose the limit of uncertainty inside the folds: ``python -m experiments.sequences.limits STUDIES... -o OUT.tsv``.

``STUDIES`` are as for ``experiments.sequences.fit``, measured as there, as they are and moved. For each fold the limit
from which a name counts as sure is chosen on the patients of the other folds alone, each of them judged by weights that
saw neither this patient's fold nor the one that is judged in the end; likewise, in one way, the penalty of the fit. No
number of a patient has a part in how this patient is judged. Written are the images of complete studies that are
rightly named, wrongly named though sure, and uncertain.
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.study import SEQUENCES
from brats_seg.files.find import find_studies
from brats_seg.files.load import load_study
from brats_seg.imaging.sequences import SURE
from experiments.sequences import fit as fitting
from experiments.sequences.fit import FOLDS, PENALTY, Choice, choices, fit, measured, patient_of

PENALTIES = (0.02, PENALTY, 0.5)
Floats = NDArray[np.float64]
Judged = Sequence[tuple[float, bool]]
"""Probability of each image's most probable name, and whether it is right."""
LEAST = 0.5
"""A name that is not more probable than all others together is never sure."""


def judged(choice: Choice, weights: Floats) -> Judged:
    """What is said of each image of a study."""
    scores = choice.ways @ weights
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    by_name = [np.bincount(names, shares, minlength=len(SEQUENCES)) for names in choice.names.T]
    right = choice.names[choice.right]
    return [(float(p.max()), bool(p.argmax() == name)) for p, name in zip(by_name, right, strict=True)]


def fixed(inside: Judged) -> float:
    """The limit in force, which was chosen on all folds together."""
    return SURE


def above_the_wrong(inside: Judged) -> float:
    """As low as leaves none of the others wrong though sure."""
    return max([LEAST, *(p for p, is_right in inside if not is_right)]) + 1e-9


def halfway(inside: Judged) -> float:
    """Half way, in log odds, from the most probable wrong one to the limit in force, at least."""
    wrong = above_the_wrong(inside)
    one, other = (np.log(p / (1 - p)) for p in (min(wrong, 1 - 1e-9), max(SURE, wrong)))
    return float(1 / (1 + np.exp(-(one + other) / 2)))


WAYS: Mapping[str, Callable[[Judged], float]] = {
    "0.9, as chosen on all": fixed,
    "above the wrong ones": above_the_wrong,
    "half way to 0.9": halfway,
}


def weights_of(found: Sequence[Choice], fold: Mapping[str, int], penalty: float) -> dict[frozenset[int], Floats]:
    """Weights fitted without one fold, and without two, by the folds left out."""
    left_out = [frozenset(pair) for pair in itertools.combinations_with_replacement(range(FOLDS), 2)]
    with mock.patch.object(fitting, "PENALTY", penalty):
        return {out: fit([c for c in found if fold[c.patient] not in out]) for out in left_out}


def log_loss(inside: Judged) -> float:
    """Of the names that were taken; a wrong one counts by what was left for the right one at most."""
    return -float(np.mean([np.log(max(p if is_right else 1 - p, 1e-9)) for p, is_right in inside]))


def main() -> None:
    """Measure, choose inside the folds, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--kept", type=Path, help="file for what was measured, read where it is there")
    arguments = parser.parse_args()
    found = measured_choices(arguments.studies, arguments.kept)
    fold = {choice.patient: zlib.crc32(choice.patient.encode()) % FOLDS for choice in found}
    complete = [choice for choice in found if choice.names.shape[1] == len(SEQUENCES)]
    every = {penalty: weights_of(found, fold, penalty) for penalty in PENALTIES}
    head = ("limit", "penalty", "measured", "images", "right", "wrong, sure", "uncertain", "limits of the folds")
    lines = ["\t".join(head)]
    for kind in ("as it is", "moved"):
        here = [c for c in complete if c.study.endswith(" moved") == (kind == "moved")]
        for (name, way), penalty in itertools.product(WAYS.items(), (*PENALTIES, None)):
            counts, limits = np.zeros(4, int), []
            for number in range(FOLDS):
                inside = {p: inner(complete, fold, every[p], number) for p in PENALTIES}
                used = min(PENALTIES, key=lambda p, inside=inside: log_loss(inside[p])) if penalty is None else penalty
                limits.append(way(inside[used]))
                for choice in here:
                    if fold[choice.patient] == number:
                        for p, is_right in judged(choice, every[used][frozenset([number])]):
                            is_sure = p >= limits[-1]
                            counts += (1, is_right, is_sure and not is_right, not is_sure)
            spread = f"{min(limits):.3f} to {max(limits):.3f}"
            lines.append("\t".join(map(str, (name, penalty or "inside the folds", kind, *counts, spread))))
            print(lines[-1], flush=True)
    arguments.output.write_text("\n".join(lines) + "\n")


def inner(
    found: Sequence[Choice], fold: Mapping[str, int], weights: Mapping[frozenset[int], Floats], number: int
) -> Judged:
    """What is said of the patients of all folds but one, by weights that saw neither theirs nor that one."""
    others = (choice for choice in found if fold[choice.patient] != number)
    return [one for c in others for one in judged(c, weights[frozenset((number, fold[c.patient]))])]


def measured_choices(places: Sequence[Path], kept: Path | None) -> list[Choice]:
    """What every study shows, measured or kept from before."""
    if kept is not None and kept.exists():
        return list(pickle.loads(kept.read_bytes()))
    found: list[Choice] = []
    for place in places:
        for files in find_studies(place):
            for name, seen, names in measured(load_study(files)):
                if seen is not None:
                    found += choices(patient_of(files.id), name, seen, names)
            print(files.id, flush=True)
    if kept is not None:
        kept.write_bytes(pickle.dumps(found))
    return found


if __name__ == "__main__":
    main()
