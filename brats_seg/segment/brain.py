"""Brain extraction: which voxels of a scan with skull are brain.

The method and the networks are deepbet's: one network sees the whole field of view and finds the box around the brain,
the other one sees the box and finds the outline. HD-BET's, where they are asked for, see the whole scan at 1.5 mm.

Source: L. Fisch et al., deepbet: Fast brain extraction of T1-weighted MRI using convolutional neural networks,
Comput Biol Med 2024;179:108845 (doi:10.1016/j.compbiomed.2024.108845); for HD-BET :mod:`brats_seg.models.hd_bet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Array, Grid, Mask, Singles, Volume
from brats_seg.imaging.boxes import Box
from brats_seg.imaging.brain import largest, solid
from brats_seg.imaging.midplane import find_midplane
from brats_seg.models import hd_bet
from brats_seg.models.brain import BOX_SIDE, OUTLINE_SIDE, BrainNetworks
from brats_seg.models.hd_bet import HdBetNetworks
from brats_seg.segment.memory import require_memory

CLIP_QUANTILES = (0.005, 0.995)
"""Of the whole field of view; what lies outside is clipped, as when the networks were trained."""

MEAN, SPREAD = 0.449, 0.226
"""Of the intensities that the networks were trained on."""

BOX_MARGIN = 0.1
"""Added to the brain's box on each side, as a share of its length."""

MIN_LAYER_SHARE = 0.02
"""A layer of the field of view belongs to the box where so much of it is brain."""

BRAIN_ML = (300.0, 2200.0)
"""A mask outside these holds no brain, or more than one. Whole brains measure 900 to 2000 ml; slabs less."""

MIN_LARGEST_SHARE = 0.9
"""The largest piece holds at least this share of what the network calls brain. Measured: 0.98 and more."""

NECK_MM = 7.0
MIN_BALL_ML = 0.25
"""What comes loose from a brain when :data:`NECK_MM` are taken off its surface hung on a thin neck. Of an eye (a ball
of 24 mm on its nerve) 0.5 ml remain. Measured on brains: at most 0.1 ml."""

SINGLE_VALUE = "the scan holds hardly more than a single value, so no brain can be found in it"
NOTHING_FOUND = "nothing in the scan looks like a brain"

_STEP_MM = 2.0
"""Outlines are judged on voxels about this far apart."""


@dataclass(frozen=True, eq=False)
class FoundBrain:
    """What the networks say of one scan.

    Attributes:
        probability: float32 in 0..1, on the scan's voxels stored along right, anterior, superior.
        largest_share: share of its largest piece in all that is more probable than not.
    """

    probability: Volume
    largest_share: float

    @property
    def mask(self) -> Mask:
        """``(X, Y, Z)`` the largest piece of what is more probable than not, without holes."""
        return solid(self.probability.data > 0.5)


def find_brain(scan: Volume, networks: BrainNetworks | HdBetNetworks) -> FoundBrain:
    """Find the brain in a scan of a head.

    Args:
        scan: T1 with or without contrast by preference; the whole head, in any orientation.

    Raises:
        InputError: if there is nothing like a brain in it.
        DeviceError: if HD-BET's networks need more memory than there is.
    """
    ras = scan.to_ras()
    data = np.asarray(ras.data, np.float32)
    if isinstance(networks, HdBetNetworks):
        probability = _by_hd_bet(data, ras.grid.spacing_mm, networks)
    else:
        probability = _by_deepbet(data, networks)
    likely = probability > 0.5
    if not likely.any():
        raise InputError(NOTHING_FOUND)
    share = float(largest(likely, connectivity=26).sum() / likely.sum())
    return FoundBrain(ras.with_data(probability), share)


def _by_deepbet(data: Singles, networks: BrainNetworks) -> Singles:
    whole = _stretched(data, (BOX_SIDE,) * 3)
    low, high = (float(v) for v in np.quantile(whole, CLIP_QUANTILES))
    if not low < high:
        raise InputError(SINGLE_VALUE)
    rough = largest(networks.box(_normalised(whole, low, high)[None])[1] > 0.5, connectivity=26)
    box = _box_around(rough, data.shape)
    if box is None:
        raise InputError(NOTHING_FOUND)
    part = data[box]
    shares = networks.outline(_normalised(_stretched(part, (OUTLINE_SIDE,) * 3), low, high)[None])[1]
    probability = np.zeros(data.shape, np.float32)
    probability[box] = _stretched(shares, part.shape)
    return probability


def _by_hd_bet(data: Singles, spacing_mm: tuple[float, float, float], networks: HdBetNetworks) -> Singles:
    shape = [max(round(n * side / hd_bet.SPACING_MM), 1) for n, side in zip(data.shape, spacing_mm, strict=True)]
    coarse = _interpolated(data, shape, order=3)
    spread = float(coarse.std(dtype=np.float64))
    if not spread > 0:
        raise InputError(SINGLE_VALUE)
    scores = (coarse - np.float32(coarse.mean(dtype=np.float64))) / np.float32(spread)
    room = [max(-n % hd_bet.DIVISOR, hd_bet.LEAST - n) for n in shape]
    padded = np.pad(scores, [(0, more) for more in room])
    require_memory(hd_bet.BYTES_PER_VOXEL * padded.size)
    shares = networks.shares(padded.T[None])[1].T
    return _interpolated(shares[tuple(map(slice, shape))], data.shape, order=1)


def _interpolated(data: Singles, shape: Sequence[int], *, order: int) -> Singles:
    """The array at another size, the same field of view."""
    factors = [new / old for new, old in zip(shape, data.shape, strict=True)]
    result: Singles = ndimage.zoom(data, factors, order=order, mode="nearest", grid_mode=True)
    return result


def _stretched(data: Singles, shape: tuple[int, ...]) -> Singles:
    """The array at another size, each voxel that of the nearest centre."""
    places = [((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(shape, data.shape, strict=True)]
    stretched: Singles = data[np.ix_(*places)]
    return stretched


def _normalised(data: Singles, low: float, high: float) -> Singles:
    scaled: Singles = np.clip((data - np.float32(low)) / np.float32(high - low), 0, 1)
    scaled -= scaled.mean(dtype=np.float64)
    scaled *= SPREAD / max(float(scaled.std(dtype=np.float64)), 1e-6)
    scaled += np.float32(MEAN)
    return scaled


def _box_around(rough: Mask, shape: tuple[int, ...]) -> Box | None:
    """The box around a mask of the whole field of view and its margin, in voxels of ``shape``; None if it is empty."""
    sides = []
    for axis, size in enumerate(shape):
        layers = rough.mean(axis=tuple(a for a in range(3) if a != axis))
        filled = np.flatnonzero(layers > MIN_LAYER_SHARE)
        if filled.size == 0:
            return None
        factor = size / rough.shape[axis]
        first, stop = int(filled[0]), int(filled[-1]) + 1
        centre = round(factor * (first + stop) / 2)
        length = round(factor * (stop - first) * (1 + 2 * BOX_MARGIN))
        sides.append(slice(max(int(centre - length / 2), 0), min(int(centre + length / 2), size)))
    return tuple(sides)


def check_brain(brain: Mask, grid: Grid, *, largest_share: float = 1.0) -> None:
    """Refuse an outline that can be no brain.

    Args:
        brain: ``(X, Y, Z)``, one piece.
        grid: of the mask; fine enough to judge an outline on.
        largest_share: see :class:`FoundBrain`.

    Raises:
        InputError: saying what was measured.
    """
    size_ml = float(brain.sum()) * grid.voxel_ml
    if not BRAIN_ML[0] <= size_ml <= BRAIN_ML[1]:
        raise InputError(f"what was taken for brain measures {size_ml:.0f} ml; a brain has up to {BRAIN_ML[1]:.0f}")
    if largest_share < MIN_LARGEST_SHARE:
        raise InputError(f"what was taken for brain lies in pieces, the largest of which is {largest_share:.0%} of it")
    if find_midplane(brain, grid) is None:
        raise InputError("what was taken for brain is not the same on the left and on the right, as whole brains are")
    ball_ml = _loose_ml(brain, grid)
    if ball_ml > MIN_BALL_ML:
        raise InputError(
            f"what was taken for brain has a ball of {ball_ml:.1f} ml at a thin neck, without its outer "
            f"{NECK_MM:.0f} mm, as of an eye"
        )


def _loose_ml(brain: Mask, grid: Grid) -> float:
    """The largest piece but one that is left without the outer :data:`NECK_MM`."""
    steps = [max(round(_STEP_MM / side), 1) for side in grid.spacing_mm]
    spacing = [side * step for side, step in zip(grid.spacing_mm, steps, strict=True)]
    coarse = np.pad(brain[tuple(slice(None, None, step) for step in steps)], 1)
    core = ndimage.distance_transform_edt(coarse, sampling=spacing) > NECK_MM
    labels: Array = cc3d.connected_components(core, connectivity=26)
    sizes = np.sort(np.bincount(labels.ravel())[1:])
    return float(sizes[-2] * np.prod(spacing) / 1000) if sizes.size > 1 else 0.0
