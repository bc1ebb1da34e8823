"""Tumour that a brain mask cuts off where it reaches the skull.

Networks for brain extraction learnt healthy heads: where a tumour touches the dura, they may take it for what lies
outside. What is bright in FLAIR or enhances, lies within the skull, and goes on inside the mask is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cc3d
import numpy as np
from scipy import ndimage

from brats_seg.core.grid import Array, Mask, Singles, Volume
from brats_seg.core.study import MRSequence
from brats_seg.imaging.pooling import block_means

RIM_MM = 5.0
"""How far from the outline tumour is looked for: beyond lie bone, then skin and muscle, which are bright too."""

DEEP_MM = 3.0
"""A tumour at the rim goes on so deep inside the mask, and"""

CORE_MM = 4.0
"""holds a ball of this radius there: sinuses, dura and vessels enhance too, but are thinner."""

CELL = 2
"""Voxels along each side of the cells that are looked at."""

MIN_BRIGHT = 2.5
"""Robust standard deviations of the brain by which tumour and edema outshine its median in FLAIR."""

MIN_ENHANCEMENT = 3.0
"""And by which enhancement rises from T1 to T1CE."""

MAX_T1 = 2.0
"""Above this in T1 it is fat or blood, as in marrow and orbits."""


def tumour_at_rim(brain: Mask, images: Mapping[MRSequence, Volume]) -> Mask:
    """What of a tumour lies just outside a brain mask.

    Args:
        brain: ``(X, Y, Z)``.
        images: with skull, on the grid of the mask. Without T1 nothing is told from fat, and without FLAIR or T1CE
            nothing from brain: nothing is found then.

    Returns:
        ``(X, Y, Z)``, no voxel of it inside ``brain``.
    """
    none = np.zeros(brain.shape, bool)
    if MRSequence.T1 not in images:
        return none
    cells = {sequence: block_means(volume.data.astype(np.float32), (CELL,) * 3) for sequence, volume in images.items()}
    inside: Mask = block_means(brain.astype(np.float32), (CELL,) * 3) > 0.5
    spacing = [CELL * side for side in images[MRSequence.T1].grid.spacing_mm]
    relative = {sequence: _relative(data, inside) for sequence, data in cells.items()}
    bright = np.zeros(inside.shape, bool)
    if MRSequence.FLAIR in images:
        bright |= relative[MRSequence.FLAIR] > MIN_BRIGHT
    if MRSequence.T1CE in images:
        bright |= relative[MRSequence.T1CE] - relative[MRSequence.T1] > MIN_ENHANCEMENT
    bright &= relative[MRSequence.T1] < MAX_T1
    depth = _distance(inside, spacing)
    ball = _distance(bright & (depth > DEEP_MM), spacing) > CORE_MM
    if not ball.any():
        return none
    reach = 2 * CORE_MM + DEEP_MM + RIM_MM
    bright &= (_distance(~inside, spacing) <= RIM_MM) & (_distance(~ball, spacing) <= reach)
    labels: Array = cc3d.connected_components(bright, connectivity=6)
    kept = np.isin(labels, np.unique(labels[ball & bright])) & (labels > 0)
    whole = kept.repeat(CELL, 0).repeat(CELL, 1).repeat(CELL, 2)[tuple(slice(n) for n in brain.shape)]
    added: Mask = whole & ~brain
    return added


def _distance(mask: Mask, spacing: Sequence[float]) -> Singles:
    """Distance of each cell of a mask from what is not in it, mm."""
    distance: Singles = ndimage.distance_transform_edt(mask, sampling=spacing).astype(np.float32)
    return distance


def _relative(data: Singles, brain: Mask) -> Singles:
    """Intensity from the brain's median, in robust standard deviations of the brain."""
    values = data[brain]
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    relative: Singles = (data - np.float32(middle)) / np.float32(max(spread, 1e-6))
    return relative
