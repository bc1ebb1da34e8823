"""Tumour that a brain mask cuts off where it reaches the skull.

Networks for brain extraction learnt healthy heads: where a tumour touches the dura, they may take it for what lies
outside. What is bright in FLAIR or enhances deep inside the mask is followed outwards, to where it turns into bone.
"""

from __future__ import annotations

from collections.abc import Mapping

import cc3d
import numpy as np
from scipy import ndimage

from brats_seg.core.grid import Array, Mask, Singles, Volume
from brats_seg.core.study import MRSequence
from brats_seg.imaging.boxes import bounding_box
from brats_seg.imaging.itk import depth_mm
from brats_seg.imaging.pooling import block_means

RIM_MM = 5.0
"""How far from the outline tumour is looked for: beyond lie bone, then skin and muscle, which are bright too."""

DEEP_MM = 3.0
"""A tumour at the rim goes on so deep inside the mask, and"""

CORE_MM = 4.0
"""holds a ball of this radius there: sinuses, dura and vessels enhance too, but are thinner."""

REACH_MM = DEEP_MM + CORE_MM + RIM_MM
"""How far from such balls their tumour may lie."""

CELL = 2
"""Voxels along each side of the cells that are looked at, and voxels that are partly bone at most."""

MIN_BRIGHT = 2.5
"""Robust standard deviations of the brain by which tumour and edema outshine its median in FLAIR."""

MIN_ENHANCEMENT = 3.0
"""And by which it enhances from T1 to T1CE."""

MAX_T1 = 2.0
"""Above this in T1 it is fat or blood, as in marrow and orbits."""

PARTLY, HALF = 0.75, 0.5
"""Shares of the tumour's signal: below the first a voxel is partly bone, which has none, below the second mostly."""

STEPS = 13
"""Levels of signal, from the tumour's down to half of it, at which it is followed."""


def tumour_at_rim(brain: Mask, images: Mapping[MRSequence, Volume]) -> Mask:
    """What of a tumour lies just outside a brain mask.

    Args:
        brain: ``(X, Y, Z)``.
        images: with skull, on the grid of the mask. Without T1 nothing is told from fat, and without FLAIR or T1CE
            nothing from brain: nothing is found then.

    Returns:
        ``(X, Y, Z)``, no voxel of it inside ``brain``.
    """
    added = np.zeros(brain.shape, bool)
    if MRSequence.T1 not in images:
        return added
    cells = {sequence: block_means(volume.data.astype(np.float32), (CELL,) * 3) for sequence, volume in images.items()}
    inside: Mask = block_means(brain.astype(np.float32), (CELL,) * 3) > 0.5
    spacing = [CELL * side for side in images[MRSequence.T1].grid.spacing_mm]
    relative = {sequence: _relative(data, inside) for sequence, data in cells.items()}
    deep = (relative[MRSequence.T1] < MAX_T1) & (depth_mm(inside, spacing) > DEEP_MM)
    bright = {}
    if MRSequence.FLAIR in images:
        bright[MRSequence.FLAIR] = deep & (relative[MRSequence.FLAIR] > MIN_BRIGHT)
    if MRSequence.T1CE in images:
        bright[MRSequence.T1CE] = deep & (relative[MRSequence.T1CE] - relative[MRSequence.T1] > MIN_ENHANCEMENT)
    for sequence, tumour in bright.items():
        balls = depth_mm(tumour, spacing) > CORE_MM
        if balls.any():
            core = tumour & (depth_mm(~balls, spacing) <= CORE_MM)
            core = core.repeat(CELL, 0).repeat(CELL, 1).repeat(CELL, 2)[tuple(slice(n) for n in brain.shape)]
            _add_grown(added, core & brain, brain, images[sequence])
    if added.any():
        added &= _relative(images[MRSequence.T1].data, brain) < MAX_T1
    return added


def _add_grown(added: Mask, core: Mask, brain: Mask, image: Volume) -> None:
    """Add what goes on outside a brain from the core of a tumour.

    Tumour and what lies beyond the bone grow at once, from bright to dark, and neither takes what the other has: a
    watershed, so that they part where the bone between is darkest, even if it is too thin to be dark.
    """
    spacing = image.grid.spacing_mm
    box = bounding_box(core, margin=round((REACH_MM + 2 * RIM_MM) / min(spacing)))
    assert box is not None  # a core holds a ball
    core, brain, signal = core[box], brain[box], image.data[box]
    from_core, from_brain = depth_mm(~core, spacing), depth_mm(~brain, spacing)
    level = float(np.median(signal[core]))
    far = (from_core > REACH_MM) | (from_brain > 2 * RIM_MM)
    tumour, whole, beyond = core, core, far & ~brain & (signal >= HALF * level)
    for share in np.linspace(1, HALF, STEPS):
        bright = signal >= share * level
        beyond = _reached(bright & ~tumour & ~brain, beyond)
        tumour = _reached(bright & ~beyond, tumour)
        if share >= PARTLY:
            whole = tumour
    tumour = ndimage.binary_dilation(whole, iterations=CELL, mask=tumour)
    added[box] |= tumour & ~brain & (from_core <= REACH_MM) & (from_brain <= RIM_MM)


def _reached(mask: Mask, starts: Mask) -> Mask:
    """The starts, and what of the mask they touch."""
    labels: Array = cc3d.connected_components(mask | starts, connectivity=6)
    is_reached = np.zeros(int(labels.max()) + 1, bool)
    is_reached[labels[starts]] = True
    reached: Mask = is_reached[labels]
    return reached


def _relative(data: Singles, brain: Mask) -> Singles:
    """Intensity from the brain's median, in robust standard deviations of the brain."""
    values = data[brain]
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    relative: Singles = (data - np.float32(middle)) / np.float32(max(spread, 1e-6))
    return relative
