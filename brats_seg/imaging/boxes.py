"""Boxes around what matters, so that no computation runs over the empty rest of an image."""

from __future__ import annotations

import numpy as np

from brats_seg.core.grid import Array

Box = tuple[slice, ...]


def bounding_box(mask: Array, *, margin: int = 0) -> Box | None:
    """Smallest box around everything that is not 0, or None where nothing is.

    Args:
        mask: any numbers; boolean masks and label maps alike.
        margin: voxels added on every side, as far as the image reaches.
    """
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if hit.size == 0:
            return None
        box.append(slice(max(int(hit[0]) - margin, 0), min(int(hit[-1]) + 1 + margin, mask.shape[axis])))
    return tuple(box)


def enclosing_box(boxes: list[Box], shape: tuple[int, ...], *, margin: int = 0) -> Box:
    """Smallest box around several boxes, widened by ``margin`` voxels as far as ``shape`` reaches."""
    return tuple(
        slice(max(min(s.start for s in sides) - margin, 0), min(max(s.stop for s in sides) + margin, length))
        for sides, length in zip(zip(*boxes, strict=True), shape, strict=True)
    )
