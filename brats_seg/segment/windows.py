"""A network over a volume that does not fit into memory at once: windows that overlap, blended by a Gaussian."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

OVERLAP = 0.5
"""Share of a window's side that the next one covers again."""
SIGMA = 0.125
"""Of the Gaussian, in sides of the window: its faces, where a network sees half of what surrounds a voxel, count
hardly."""
LEAST_WEIGHT = 1e-3
"""Where only a corner of a window reaches, it still counts."""

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def in_windows(array: NDArray[np.float32], window: tuple[int, int, int], network: Network) -> NDArray[np.float32]:
    """What a network says of a volume, window by window.

    Args:
        array: ``(C, X, Y, Z)``.
        window: sides of what the network sees at once, none longer than the volume's.
        network: ``(C, x, y, z)`` of that size to ``(R, x, y, z)``.

    Returns:
        ``(R, X, Y, Z)``, the mean of all windows that show a voxel, weighted by how near they show it to their middle.
    """
    shape = array.shape[1:]
    weight = _weight(window)
    weights = np.zeros(shape, np.float32)
    total: NDArray[np.float32] | None = None
    for corner in product(*(_starts(n, side) for n, side in zip(shape, window, strict=True))):
        box = tuple(slice(start, start + side) for start, side in zip(corner, window, strict=True))
        found = network(np.ascontiguousarray(array[(slice(None), *box)]))
        if total is None:
            total = np.zeros((len(found), *shape), np.float32)
        total[(slice(None), *box)] += weight * found
        weights[box] += weight
    assert total is not None
    return total / weights


def _starts(size: int, side: int) -> list[int]:
    """Where windows begin along an axis; the last ends with the volume."""
    step = max(int(side * (1 - OVERLAP)), 1) if side < size else size
    return list(dict.fromkeys(min(start, size - side) for start in range(0, max(size - side, 0) + step, step)))


def _weight(window: tuple[int, int, int]) -> NDArray[np.float32]:
    """A Gaussian around the middle of a window, 1 there."""
    sides = [np.exp(-(((np.arange(n) - (n - 1) / 2) / (SIGMA * n)) ** 2) / 2) for n in window]
    weight: NDArray[np.float32] = np.maximum(np.einsum("i,j,k->ijk", *sides), LEAST_WEIGHT).astype(np.float32)
    return weight
