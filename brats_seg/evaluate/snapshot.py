"""The one axial slice of a case that shows best where prediction and reference differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Mask, Volume

Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything a picture of one case needs, without the case.

    Attributes:
        mean_dice: over the regions, by which the worst cases are found.
        height_mm: position of the slice, RAS+ millimetres.
        pixel_mm: size of a pixel from left to right and from front to back.
        background: ``(X, Y)`` image, 0 where there is none.
        prediction: ``(X, Y)`` bit ``i`` set inside the ``i``-th region.
        reference: the same for the reference.
    """

    case: str
    mean_dice: float
    height_mm: float
    pixel_mm: tuple[float, float]
    background: Picture
    prediction: Picture
    reference: Picture


def region_bits(masks: Sequence[Mask]) -> Picture:
    """Masks as one array, bit ``i`` for the ``i``-th; at most eight."""
    bits = np.zeros(masks[0].shape, np.uint8)
    for bit, mask in enumerate(masks):
        bits |= mask.astype(np.uint8) << np.uint8(bit)
    return bits


def take_snapshot(
    case: str, mean_dice: float, prediction: Volume, reference: Volume, image: Volume | None = None
) -> Snapshot:
    """Cut the axial slice with the most voxels in different regions; without any, that with the most tumour.

    Args:
        mean_dice: kept with the picture.
        prediction: region bits of :func:`region_bits`.
        reference: the same, on the same grid.
        image: background on the same grid.
    """
    found, truth = prediction.to_ras(), reference.to_ras()
    weight = (found.data != truth.data).sum(axis=(0, 1))
    if not weight.any():
        weight = (truth.data != 0).sum(axis=(0, 1))
    level = int(np.argmax(weight)) if weight.any() else truth.data.shape[2] // 2
    background = np.zeros(truth.data.shape[:2], np.uint8)
    if image is not None:
        background = _grey(np.asarray(image.to_ras().data[:, :, level], np.float64))
    middle = (truth.data.shape[0] / 2, truth.data.shape[1] / 2, level)
    spacing = truth.grid.spacing_mm
    return Snapshot(
        case=case,
        mean_dice=mean_dice,
        height_mm=float(truth.grid.to_world(middle)[2]),
        pixel_mm=(spacing[0], spacing[1]),
        background=background,
        prediction=found.data[:, :, level].copy(),
        reference=truth.data[:, :, level].copy(),
    )


def _grey(values: NDArray[np.float64]) -> Picture:
    """Grey levels from the 1st to the 99.5th percentile of what is not 0."""
    inside = values[np.isfinite(values) & (values != 0)]
    if inside.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(inside, [1, 99.5])
    scaled = (np.nan_to_num(values) - min(low, 0.0)) / max(high - min(low, 0.0), 1e-12)
    grey: Picture = (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return grey
