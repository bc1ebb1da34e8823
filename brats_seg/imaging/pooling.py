"""Means over blocks of voxels: a small picture of a scan for what needs no fine detail."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


def block_means(array: NDArray[np.float32], factors: tuple[int, int, int]) -> NDArray[np.float32]:
    """``(X, Y, Z)`` means over blocks of voxels, zeros after the last voxel where a block is not full."""
    padded = torch.from_numpy(np.pad(array, [(0, -n % f) for n, f in zip(array.shape, factors, strict=True)]))
    means: NDArray[np.float32] = functional.avg_pool3d(padded[None], factors)[0].numpy()
    return means
