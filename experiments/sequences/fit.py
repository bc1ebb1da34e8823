"""Fit and measure how images tell their sequences: ``python -m experiments.sequences.fit STUDIES... -o OUT``.

``STUDIES`` are folders of studies whose sequences are known by name; a patient's studies are named alike up to the
first ``_study``, ``_ses`` or ``-00``. Every study is measured as it is and, as a head would be, deep inside only and
with motion between the sequences. Figures are of patients that the weights did not see (10 folds); the weights
written to ``sequences.json`` are of all.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from scipy.special import logsumexp

from brats_seg.core.grid import Volume
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES
from brats_seg.files.find import find_studies
from brats_seg.files.load import load_study
from brats_seg.imaging import sequences
from brats_seg.imaging.sequences import DEPTH_MM, SAMPLE_MM, SURE, SURE_OF_FEWER, Seen, design, measure

FOLDS = 10
MOVED_MM, MOVED_DEG = 2.0, 2.0
"""Standard deviation along and about each axis."""
PENALTY = 0.1
"""Of the squared weights, which are of standardised features; for each way of choosing images of a patient."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """Some images of one study.

    Attributes:
        patient: whose they are.
        study: name, and how it was measured.
        ways: ``(W, F)`` of every way of naming them.
        right: index of the right one.
        names: ``(W, K)`` names by way.
    """

    patient: str
    study: str
    ways: Floats
    right: int
    names: NDArray[np.int_]


def patient_of(study: str) -> str:
    """Whose study it is."""
    return re.split(r"_study|_ses|-00\d$", study)[0]


def measured(study: Study) -> Iterator[tuple[str, Seen | None, list[int]]]:
    """What its images show, as they are, and deep inside with motion between them."""
    names = [SEQUENCES.index(sequence) for sequence in study.present]
    images = [_thinned(study.images[sequence]) for sequence in study.present]
    yield study.id, measure(images), names
    rng = np.random.default_rng(zlib.crc32(study.id.encode()))
    with mock.patch.dict(DEPTH_MM, {True: DEPTH_MM[False]}):
        yield f"{study.id} moved", measure([_moved(image, rng) for image in images]), names


def _thinned(image: Volume) -> Volume:
    """Every second voxel where they are fine, as :func:`measure` sees them, to save time."""
    steps = [max(round(SAMPLE_MM / spacing), 1) for spacing in image.grid.spacing_mm]
    data = image.data[tuple(slice(None, None, step) for step in steps)]
    return Volume.from_affine(np.ascontiguousarray(data), image.affine @ np.diag([*steps, 1.0]))


def _moved(image: Volume, rng: np.random.Generator) -> Volume:
    """As if the head had moved by some millimetres and degrees before this sequence."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(np.radians(MOVED_DEG) * rng.standard_normal(3)).as_matrix()
    centre = image.grid.to_world((np.array(image.grid.shape) - 1) / 2)
    motion[:3, 3] = centre - motion[:3, :3] @ centre + MOVED_MM * rng.standard_normal(3)
    return Volume.from_affine(image.data, motion @ image.affine)


def choices(patient: str, study: str, seen: Seen, names: Sequence[int]) -> Iterator[Choice]:
    """Every subset of the images, and every way of naming it."""
    for size in range(1, len(names) + 1):
        for subset in itertools.combinations(range(len(names)), size):
            part = Seen(seen.single[list(subset)], seen.double[np.ix_(subset, subset)])
            ways = list(itertools.permutations(range(len(SEQUENCES)), size))
            right = ways.index(tuple(names[n] for n in subset))
            yield Choice(patient, study, np.array([design(part, way) for way in ways]), right, np.array(ways))


def fit(found: Sequence[Choice]) -> Floats:
    """Weights that make the right ways probable."""
    spread = np.concatenate([choice.ways for choice in found]).std(0)
    scale = np.where(spread > 0, 1 / np.maximum(spread, 1e-9), 0.0)
    blocks = []
    for count in sorted({len(choice.ways) for choice in found}):
        alike = [choice for choice in found if len(choice.ways) == count]
        ways = np.array([choice.ways for choice in alike]) * scale
        blocks.append((ways, ways[np.arange(len(alike)), [choice.right for choice in alike]]))

    def loss(weights: Floats) -> tuple[float, Floats]:
        total = PENALTY * len(found) * float(weights @ weights) / 100
        slope = PENALTY * len(found) * weights / 50
        for ways, right in blocks:
            scores = ways @ weights
            logs = scores - logsumexp(scores, axis=1, keepdims=True)
            total += float((logsumexp(scores, axis=1) - right @ weights).sum())
            slope = slope + np.einsum("nw,nwf->f", np.exp(logs), ways) - right.sum(0)
        return total, slope

    answer = minimize(loss, np.zeros(scale.size), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    weights: Floats = answer.x * scale
    return weights


def judged(choice: Choice, weights: Floats) -> tuple[int, int, int]:
    """Images that are rightly named, wrongly named though sure, and uncertain."""
    scores = choice.ways @ weights
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    needed = SURE if choice.names.shape[1] == len(SEQUENCES) else SURE_OF_FEWER
    right = wrong_sure = unsure = 0
    for place, truth in enumerate(choice.names[choice.right]):
        by_name = np.bincount(choice.names[:, place], shares, minlength=len(SEQUENCES))
        is_right, is_sure = int(by_name.argmax()) == truth, by_name.max() >= needed
        right += is_right
        wrong_sure += is_sure and not is_right
        unsure += not is_sure
    return right, wrong_sure, unsure


def main() -> None:
    """Measure, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    found: list[Choice] = []
    for place in arguments.studies:
        for files in find_studies(place):
            for name, seen, names in measured(load_study(files)):
                if seen is None:
                    print(f"{name}: too little in common")
                    continue
                found += choices(patient_of(files.id), name, seen, names)
            print(files.id, flush=True)
    fold = {choice.patient: zlib.crc32(choice.patient.encode()) % FOLDS for choice in found}
    weights = [fit([c for c in found if fold[c.patient] != number]) for number in range(FOLDS)]
    table: dict[tuple[str, int], list[int]] = {}
    for choice in found:
        kind = "moved" if choice.study.endswith(" moved") else "as it is"
        size = choice.names.shape[1]
        row = table.setdefault((kind, size), [0, 0, 0, 0])
        result = judged(choice, weights[fold[choice.patient]])
        for place, number in enumerate((size, *result)):
            row[place] += number
        if size == len(SEQUENCES) and (result[1] or result[2] or result[0] < size):
            print(f"{choice.study}: {result[0]} of {size} right, {result[1]} wrong though sure, {result[2]} unsure")
    print("region\timages\tall\tright\twrong, sure\tunsure")
    for (kind, size), row in sorted(table.items()):
        print(kind, size, *row, sep="\t")
    final = {"fitted_to_patients": len(set(fold)), "weights": [round(float(w), 5) for w in fit(found)]}
    (arguments.output / sequences.WEIGHTS_FILE).write_text(json.dumps(final) + "\n")


if __name__ == "__main__":
    main()
