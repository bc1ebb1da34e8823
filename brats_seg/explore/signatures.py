"""Recognising the same head twice in a data set, by the correlation of their signatures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.study import SEQUENCES
from brats_seg.explore.facts import Likeness, StudyFacts
from brats_seg.imaging.likeness import LIKE_FROM

_CHUNK = 256
_LISTED = 10


def likenesses(studies: Sequence[StudyFacts]) -> tuple[tuple[Likeness, ...], tuple[Likeness, ...]]:
    """Pairs of studies by how alike they are.

    Returns:
        Pairs of different patients from :data:`LIKE_FROM` on, and the ten most alike pairs of all; most alike first.
    """
    if len(studies) < 2:
        return (), ()
    correlation = correlations(studies)
    i, j = np.triu_indices(len(studies), 1)
    values = correlation[i, j]
    order = [int(k) for k in np.argsort(-values, kind="stable") if np.isfinite(values[k])]
    pairs = (_likeness(studies[i[k]], studies[j[k]], float(values[k])) for k in order if values[k] >= LIKE_FROM)
    leaks = tuple(pair for pair in pairs if not pair.same_patient)
    top = tuple(_likeness(studies[i[k]], studies[j[k]], float(values[k])) for k in order[:_LISTED])
    return leaks, top


def correlations(studies: Sequence[StudyFacts]) -> NDArray[np.float32]:
    """``(N, N)`` mean correlation over the sequences that both studies have; NaN where they share none."""
    total = np.zeros((len(studies), len(studies)), np.float32)
    count = np.zeros_like(total)
    for sequence in SEQUENCES:
        rows = [k for k, study in enumerate(studies) if sequence in study.scans]
        if len(rows) < 2:
            continue
        vectors = np.stack([studies[k].scans[sequence].signature for k in rows])
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            total[np.ix_(part, rows)] += vectors[start : start + _CHUNK] @ vectors.T
        count[np.ix_(rows, rows)] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: NDArray[np.float32] = np.divide(total, count, dtype=np.float32)
    return mean


def _likeness(first: StudyFacts, second: StudyFacts, correlation: float) -> Likeness:
    return Likeness(first.id, second.id, correlation, first.patient == second.patient)
