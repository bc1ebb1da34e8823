"""Where the brain is in a skull-stripped scan, and whether a scan is skull-stripped at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.study import MRSequence
from brats_seg.core.volume import Array, Volume

BACKGROUND_TOLERANCE = 1e-3
"""Share of the intensity range within which a voxel still counts as background (interpolation, 8-bit rounding)."""


def background_value(volume: Volume) -> float:
    """The value outside the head: the commonest among the eight corners, ties to the smallest.

    Skull-stripped scans hold one value there, mostly 0, but 31 or -1.7 where someone rescaled them.
    """
    data = volume.data
    corners = np.array([data[i, j, k] for i in (0, -1) for j in (0, -1) for k in (0, -1)], dtype=np.float64)
    values, counts = np.unique(corners, return_counts=True)
    return float(values[np.argmax(counts)])


def foreground(volume: Volume) -> NDArray[np.bool_]:
    """``(X, Y, Z)`` voxels that differ from the background value."""
    data = volume.data
    background = background_value(volume)
    low, high = float(data.min()), float(data.max())
    mask: NDArray[np.bool_] = np.abs(data - np.float32(background)) > BACKGROUND_TOLERANCE * (high - low)
    return mask


def head_mask(volume: Volume) -> NDArray[np.bool_]:
    """``(X, Y, Z)`` rough outline of head or brain, with or without skull; for placing and comparing scans."""
    data = np.asarray(volume.data, dtype=np.float32)
    background = background_value(volume)
    exact = np.mean(data == background)
    if exact > 0.3:
        mask = foreground(volume)
    else:
        threshold = background + 0.15 * (float(np.percentile(data, 98)) - background)
        mask = ndimage.uniform_filter(data, 3) > threshold
    return fill(largest_component(mask))


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest 6-connected component; the mask itself where it is empty."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    result: NDArray[np.bool_] = labels == int(np.argmax(sizes))
    return result


def fill(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with its enclosed holes."""
    result: NDArray[np.bool_] = ndimage.binary_fill_holes(mask)
    return result


def brain_mask(images: Mapping[MRSequence, Volume]) -> NDArray[np.bool_]:
    """Voxels of the brain in skull-stripped scans on one grid: largest component of all foregrounds, holes filled."""
    union: NDArray[np.bool_] | None = None
    for volume in images.values():
        mask = foreground(volume)
        union = mask if union is None else union | mask
    if union is None:
        raise ValueError("no image to find a brain in")
    if not union.any():
        raise InputError("every image holds a single value, so there is no brain in them")
    return fill(largest_component(union))


@dataclass(frozen=True)
class SkullCheck:
    """Whether a scan shows the brain alone.

    Attributes:
        is_stripped: True for a brain on a constant background.
        evidence: what speaks for it, in words with numbers.
    """

    is_stripped: bool
    evidence: str


def check_skull_stripped(volume: Volume, sequence: MRSequence) -> SkullCheck:
    """Judge whether skull and scalp were removed."""
    share = float(np.mean(~foreground(volume)))
    return SkullCheck(share > 0.7, f"{share:.0%} of {sequence.title} is background")


def _unused(array: Array) -> None:  # pragma: no cover
    del array
