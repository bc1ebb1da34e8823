"""How much two images say about each other."""

from __future__ import annotations

import numpy as np

from brats_seg.core.volume import Array


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
