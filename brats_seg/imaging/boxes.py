"""Boxes around what matters, so that no computation runs over the empty rest of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from brats_seg.core.grid import Array, Mask, Volume

Box = tuple[slice, ...]


def bounding_box(mask: Array, *, margin: int | Sequence[int] = 0) -> Box | None:
    """Smallest box around everything that is not 0, or None where nothing is.

    Args:
        mask: any numbers; boolean masks and label maps alike.
        margin: see :func:`widen_box`.
    """
    box: Box = ()
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask[box].any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if hit.size == 0:
            return None
        box = (*box, slice(int(hit[0]), int(hit[-1]) + 1))
    return widen_box(box, mask.shape, margin)


def widened(mask: Mask, spacing_mm: Sequence[float], margin_mm: float) -> Mask:
    """The mask and everything within a margin of it, ``(X, Y, Z)``; an empty one stays empty."""
    wide = np.zeros(mask.shape, np.bool_)
    box = bounding_box(mask, margin=[math.ceil(margin_mm / spacing) + 1 for spacing in spacing_mm])
    if box is not None:
        wide[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing_mm) <= margin_mm
    return wide


def inner(mask: Mask, spacing_mm: Sequence[float], depth_mm: float) -> Mask:
    """The mask without so much of its rim, at least one voxel along each axis; the edge of the array is a rim too."""
    for axis, spacing in enumerate(spacing_mm):
        width = 2 * max(round(depth_mm / spacing), 1) + 1
        mask = ndimage.minimum_filter1d(mask, width, axis=axis, mode="constant", cval=0)
    return mask


def box_or_all(mask: Array, *, margin: int | Sequence[int] = 0) -> Box:
    """As :func:`bounding_box`, and all of the array where everything is 0."""
    return bounding_box(mask, margin=margin) or tuple(slice(0, length) for length in mask.shape)


def widen_box(box: Box, shape: tuple[int, ...], margin: int | Sequence[int]) -> Box:
    """A box with ``margin`` voxels more on every side, or on both sides of each axis, as far as ``shape`` reaches."""
    margins = [margin] * len(shape) if isinstance(margin, int) else margin
    return tuple(
        slice(max(side.start - more, 0), min(side.stop + more, length))
        for side, more, length in zip(box, margins, shape, strict=True)
    )


def cropped(volume: Volume, box: Box) -> Volume:
    """The part of a volume within a box."""
    x, y, z = box
    return volume.crop((x.start, y.start, z.start), (x.stop, y.stop, z.stop))


def enclosing_box(boxes: list[Box], shape: tuple[int, ...], *, margin: int = 0) -> Box:
    """Smallest box around several boxes, widened by :func:`widen_box`."""
    around = (slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*boxes, strict=True))
    return widen_box(tuple(around), shape, margin)
