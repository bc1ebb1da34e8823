"""Recognising the same head twice: a small band-passed picture of each scan, compared by correlation.

Every brain in an atlas space resembles every other at coarse scale, so coarse structure is taken away; what is left,
folds and ventricles and the tumour at 6 to 20 mm, belongs to one person. Scaling, noise, 8-bit rounding, another
orientation of the array and a cropped background leave it as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.core.volume import Array
from brats_seg.verification.facts import Likeness, StudyFacts

SIGNATURE_SIDE = 24
"""Cells along each side of the head's box."""
COARSE_CELLS = 2.0
"""Standard deviation, in cells, of the smoothing whose result is taken away."""
LIKE_FROM = 0.70
"""Mean correlation of the common sequences from which two studies are called the same head.

Measured on BraTS: the 435 pairs of 30 patients reach 0.46; one T1CE against itself reaches 0.94 with noise of a tenth
of its deviation, 0.84 when also shifted by half a voxel with interpolation and cropped."""
_CHUNK = 256
_LISTED = 10


def signature(values: Array, head: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The unit vector of one scan, ``SIGNATURE_SIDE**3`` long; all 0 where there is no structure.

    Args:
        values: ``(X, Y, Z)`` cut to the head's box, axes towards right, anterior, superior.
        head: voxels of the head in the same box.
    """
    factors = [SIGNATURE_SIDE / n for n in values.shape]
    weight = _shrunk(head.astype(np.float32), factors)
    picture = _shrunk(np.where(head, values, 0).astype(np.float32), factors) / np.maximum(weight, 1e-3)
    inside = weight > 0.5
    if not inside.any():
        return np.zeros(SIGNATURE_SIDE**3, np.float32)
    # Ranks, so that neither the scale nor a few bright voxels decide.
    ranks = np.zeros(picture.shape, np.float32)
    ranks[inside] = np.argsort(np.argsort(picture[inside], kind="stable"), kind="stable") / inside.sum()
    smooth = ndimage.gaussian_filter(ranks, COARSE_CELLS) / np.maximum(
        ndimage.gaussian_filter(inside.astype(np.float32), COARSE_CELLS), 1e-3
    )
    fine = np.where(inside, ranks - smooth, 0).ravel()
    fine[inside.ravel()] -= fine[inside.ravel()].mean()
    length = float(np.linalg.norm(fine))
    result: NDArray[np.float32] = (fine / length if length > 1e-6 else np.zeros_like(fine)).astype(np.float32)
    return result


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
        vectors = _stack(studies, rows, sequence)
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            total[np.ix_(part, rows)] += vectors[start : start + _CHUNK] @ vectors.T
        count[np.ix_(rows, rows)] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: NDArray[np.float32] = np.divide(total, count, dtype=np.float32)
    return mean


def _stack(studies: Sequence[StudyFacts], rows: Iterable[int], sequence: MRSequence) -> NDArray[np.float32]:
    return np.stack([studies[k].scans[sequence].signature for k in rows])


def _likeness(first: StudyFacts, second: StudyFacts, correlation: float) -> Likeness:
    return Likeness(first.id, second.id, correlation, first.patient == second.patient)


def _shrunk(values: NDArray[np.float32], factors: Sequence[float]) -> NDArray[np.float32]:
    """Averaged and sampled onto the signature's cells, whatever the number of voxels."""
    blurred = ndimage.gaussian_filter(values, [max(0.5 / f - 0.5, 0.0) for f in factors])
    shrunk: NDArray[np.float32] = ndimage.zoom(blurred, factors, order=1, mode="nearest", grid_mode=True)
    return shrunk
