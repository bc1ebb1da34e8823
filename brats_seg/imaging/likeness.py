"""Recognising the same head twice: a small band-passed picture of each scan, compared by correlation.

Every brain in an atlas space resembles every other at coarse scale, so coarse structure is taken away; what is left,
folds and ventricles and the tumour at 6 to 20 mm, belongs to one person. Scaling, noise, 8-bit rounding, another
orientation of the array and a cropped background leave it as it is. A fingerprint is a hash of that picture from which
the picture cannot be made again, and which differs in few places where the pictures are alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Array
from brats_seg.core.study import SEQUENCES, MRSequence

SIGNATURE_SIDE = 24
"""Cells along each side of the head's box."""
COARSE_CELLS = 2.0
"""Standard deviation, in cells, of the smoothing whose result is taken away."""
LIKE_FROM = 0.70
"""Mean correlation of the common sequences from which two studies are called the same head.

Measured on BraTS: the 435 pairs of 30 patients reach 0.46; one T1CE against itself reaches 0.94 with noise of a tenth
of its deviation, 0.84 when also shifted by half a voxel with interpolation and cropped."""

FINGERPRINT_BITS = 256
"""Of one sequence."""
SAME_HEAD_FROM = 0.75
"""Likeness of fingerprints from which two studies are called the same head.

Measured on BraTS: the 1176 pairs of 49 patients reach 0.60, of one sequence alone 0.71; studies sampled half a cell
off, with noise of a fifth of their deviation, stay above 0.86, in one sequence above 0.83."""
STRIDE = 2
"""Of prepared studies every second voxel along each axis is looked at."""


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


def fingerprint(vector: NDArray[np.float32]) -> str:
    """A signature's fingerprint: on which side of random planes it lies, in hexadecimal.

    Two signatures of correlation r differ in a share arccos(r) / pi of the bits (Charikar, STOC 2002:380,
    doi:10.1145/509907.509965).
    """
    return np.packbits(_planes() @ vector > 0).tobytes().hex()


def fingerprints(array: Array, head: NDArray[np.bool_], sequences: Sequence[MRSequence] = SEQUENCES) -> dict[str, str]:
    """The fingerprint of each sequence of a prepared study, by its name.

    Args:
        array: ``(C, X, Y, Z)``; a sequence that is missing is 0 throughout.
        head: ``(X, Y, Z)``, voxels of the brain.
    """
    thin = (slice(None, None, STRIDE),) * 3
    mask = head[thin]
    if not mask.any():
        return {}
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    channels = {sequence.value: array[k][thin] for k, sequence in enumerate(sequences)}
    return {name: fingerprint(signature(c[box], mask[box])) for name, c in channels.items() if c.any()}


def likeness(first: Mapping[str, str], second: Mapping[str, str]) -> float:
    """Correlation of two studies as their fingerprints tell it, over the sequences both have; 0 where there is none."""
    common = sorted(set(first) & set(second))
    if not common:
        return 0.0
    differing = sum((int(first[key], 16) ^ int(second[key], 16)).bit_count() for key in common)
    return float(np.cos(np.pi * differing / (FINGERPRINT_BITS * len(common))))


def same_head(found: Mapping[str, str], known: Mapping[str, Mapping[str, str]]) -> str:
    """Which of the known studies shows the same head, by its fingerprints; empty if none does."""
    best = max(known, key=lambda study: likeness(found, known[study]), default="")
    return best if best and likeness(found, known[best]) >= SAME_HEAD_FROM else ""


@cache
def _planes() -> NDArray[np.float32]:
    """``(FINGERPRINT_BITS, SIGNATURE_SIDE**3)`` of +1 and -1, from a stream that no library will change."""
    count = FINGERPRINT_BITS * SIGNATURE_SIDE**3
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(b"planes of a fingerprint").digest(count // 8), np.uint8))
    return (2 * bits.astype(np.float32) - 1).reshape(FINGERPRINT_BITS, -1)


def _shrunk(values: NDArray[np.float32], factors: Sequence[float]) -> NDArray[np.float32]:
    """Averaged and sampled onto the signature's cells, whatever the number of voxels."""
    blurred = ndimage.gaussian_filter(values, [max(0.5 / f - 0.5, 0.0) for f in factors])
    shrunk: NDArray[np.float32] = ndimage.zoom(blurred, factors, order=1, mode="nearest", grid_mode=True)
    return shrunk
