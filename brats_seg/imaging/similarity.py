"""How much two images say about each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Array

_FULL_WINDOW = 0.9
"""Windows at least so full are compared."""
_FLAT_SHARE = 0.01
"""A window with less variance than this share of the usual one is flat: its correlation is chance or rounding."""


def ranks(values: Array) -> NDArray[np.float64]:
    """Ranks from 1 on of ``(N,)`` values; equal ones share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return shared[places]


def mutual_information(a: Array, b: Array, bins: int) -> float:
    """Mutual information in nats of paired samples, from a joint histogram of ``bins`` squared.

    Corrected for its bias in small samples, (joint cells - row cells - column cells + 1) / 2N (G. Miller, Note on
    the bias of information estimates, 1955), so that unrelated images give about 0.
    """
    codes = []
    for values in (a.ravel(), b.ravel()):
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        if low == high:
            return 0.0
        codes.append(np.minimum((values - low) * (bins / (high - low)), bins - 1).astype(np.intp))
    counts = np.bincount(codes[0] * bins + codes[1], minlength=bins * bins).reshape(bins, bins)
    joint = counts / counts.sum()
    rows, columns = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    there = joint > 0
    plain = float((joint[there] * np.log(joint[there] / (rows * columns)[there])).sum())
    cells = int(there.sum()) - int((rows > 0).sum()) - int((columns > 0).sum()) + 1
    return plain - cells / (2 * codes[0].size)


def local_correlation(a: Array, b: Array, inside: Array, window: int) -> float:
    """Mean squared correlation of two images within small windows; NaN where no window lies inside.

    Brightness and contrast may differ from place to place, and be inverted; only the same folds in one place agree.
    Unrelated images give about the inverse of the number of independent voxels in a window.

    Args:
        a: ``(X, Y, Z)``.
        b: the same shape.
        inside: bool, the same shape; voxels that are compared.
        window: side of the cubic windows in voxels.
    """
    weight = inside.astype(np.float32)
    share = ndimage.uniform_filter(weight, window)
    full = inside & (share > _FULL_WINDOW)
    if not full.any():
        return float("nan")

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        local: NDArray[np.float32] = ndimage.uniform_filter(values * weight, window)[full] / share[full]
        return local

    # About the mean, so that squares of large values lose nothing.
    one, other = (np.asarray(values, np.float32) - np.float32(values[inside].mean()) for values in (a, b))
    mean_one, mean_other = mean(one), mean(other)
    variances = [mean(values * values) - middle**2 for values, middle in ((one, mean_one), (other, mean_other))]
    covariance = mean(one * other) - mean_one * mean_other
    floors = [np.float32(_FLAT_SHARE) * max(float(np.median(variance)), 1e-12) for variance in variances]
    shared = covariance**2 / (np.maximum(variances[0], floors[0]) * np.maximum(variances[1], floors[1]))
    return float(np.clip(shared, 0, 1).mean())
