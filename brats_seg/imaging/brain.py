"""Where the brain is in a skull-stripped scan, and whether a scan is skull-stripped at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Array, Mask, Volume
from brats_seg.core.scans import Study
from brats_seg.core.study import MRSequence
from brats_seg.imaging.boxes import bounding_box, box_or_all
from brats_seg.imaging.itk import depth_mm

BACKGROUND_TOLERANCE = 2e-3
"""A voxel this close to the background, as a share of the head's brightness, is background: rounding, not tissue.
Half a grey level of an 8-bit image is 2e-3 of its range."""

CONSTANT_SHARE = 0.15
"""A stripped scan has at least this share of voxels at exactly the background value, even when cropped tightly
(an ellipsoid leaves 48 % of its box empty, an ellipse 21 %). Air around a head with skull is noisy: 3 to 10 % in
``TCGA-FG-6692``."""

MAX_BRAIN_ML = 2200.0
"""More foreground than this holds skull and scalp. Stripped studies: 1170 to 1800 ml; with skull: 2600 to 3300 ml."""

BONE_DEPTH_MM = (6.0, 15.0)
"""Where bone lies below the outer surface of a head."""

BONE_DARKNESS = 0.25
"""Bone gives no signal: voxels below this share of the deep tissue's median count as dark."""

MAX_DARK_SHARE = 0.14
"""Largest share of dark voxels at that depth in a brain. Of 156 stripped scans one reaches 9 % (a T1 whose coverage
has gaps), one 5 %, the others 3 % (sulci in T1 and FLAIR); six heads with skull on a clean background 19 to 56 %."""

MAX_CONSTANT_SHARE = 0.8
"""A larger share of the corners at one value is a constant background."""

MAX_NOISE_SHARE = 0.25
"""Corners whose brightest hundredth is brighter than this, as a share of the head's brightness, are no noise."""

MIN_SIGNED_SHARE = 0.05
"""Where so much of the head lies below the background and so much above it, the scan was standardised, and how dark a
voxel is says nothing about bone."""

MAX_DARK_SHARE_IN_NOISE = 0.065
"""The same where the background is noise, which heads with skull have more often than brains. Of 19 stripped studies
with noise of 0.5 and 3 % one scan reaches 5 %; heads with skull and noise have 8 to 15 %."""

_BRIDGED = 4
"""Half of the widest gap, in thinned voxels, that is bridged between brain and scalp."""

_STRIDE_MM = 2.0
"""The skull is judged on voxels about this far apart."""


@dataclass(frozen=True)
class Background:
    """What lies outside the head.

    Attributes:
        value: the constant, or the middle of the noise.
        spread: robust standard deviation of the noise; 0 for a constant.
    """

    value: float
    spread: float = 0.0


def measure_background(volume: Volume) -> Background:
    """The commonest value of the eight corners, or the noise in blocks at them.

    Skull-stripped scans hold one value there, 0 mostly, but 31 or -1.7 where someone rescaled them; noise where
    somebody smoothed, registered or denoised the stripped scan, or added some. Blocks that are as bright as tissue are
    part of a head that fills the field of view, and no noise.
    """
    data = volume.data
    corners = np.array([data[i, j, k] for i in (0, -1) for j in (0, -1) for k in (0, -1)], dtype=np.float64)
    values, counts = np.unique(corners, return_counts=True)
    common = float(values[np.argmax(counts)])
    blocks = _corner_blocks(volume)
    if float(np.mean(blocks == common)) > MAX_CONSTANT_SHARE:
        return Background(common)
    middle = float(np.median(blocks))
    spread = 1.4826 * float(np.median(np.abs(blocks - middle)))
    bright = float(np.percentile(_thinned(data), 98)) - middle
    if spread == 0 or float(np.percentile(blocks, 99)) - middle > MAX_NOISE_SHARE * bright:
        return Background(common)
    return Background(middle, spread)


def background_value(volume: Volume) -> float:
    """The value outside the head: see :func:`measure_background`."""
    return measure_background(volume).value


def foreground(volume: Volume) -> Mask:
    """``(X, Y, Z)`` voxels that differ from a constant background on either side of it, or stand out of its noise.

    In noise small pieces do not count, for single voxels stand out by chance, and holes do: what is dark as noise
    inside a brain is fluid, and bone inside a head.
    """
    background = measure_background(volume)
    data = np.asarray(volume.data, dtype=np.float32)
    if background.spread > 0:
        # Means of 27 voxels spread a fifth as widely: dark tissue stands out too, and the brain grows by one voxel,
        # which the voxels themselves take back where they are no brighter than noise.
        above = ndimage.uniform_filter(data, 3) - np.float32(background.value) > background.spread
        above &= data - np.float32(background.value) > 2 * background.spread
        return _filled(_without_specks(above))
    value = np.float32(background.value)
    tissue = np.abs(_thinned(data) - value)
    tissue = tissue[tissue > 0]
    least = np.float32(BACKGROUND_TOLERANCE * float(np.percentile(tissue, 98)) if tissue.size else 0)
    if value != 0:
        data = data - value
    mask: Mask = data > least
    mask |= data < -least
    return mask


def _thinned(data: Array) -> Array:
    """About 64 voxels along each axis."""
    thinned: Array = data[tuple(slice(None, None, max(n // 64, 1)) for n in data.shape)]
    return thinned


def head_mask(volume: Volume) -> Mask:
    """``(X, Y, Z)`` rough outline of a head or brain, with or without skull, holes filled.

    For placing and comparing scans. On a constant background everything else belongs to it; on a noisy one, what
    reaches 15 % of the head's brightness after smoothing over 3 voxels.
    """
    background = background_value(volume)
    # a constant background, and not a rounded zero in noise
    if float(np.mean(_corner_blocks(volume) == background)) > MAX_CONSTANT_SHARE:
        mask = foreground(volume)
    else:
        data = np.asarray(volume.data, dtype=np.float32)
        threshold = background + 0.15 * (float(np.percentile(data, 98)) - background)
        mask = ndimage.uniform_filter(data, 3) > threshold
    return solid(mask)


def _corner_blocks(volume: Volume) -> Array:
    """A twentieth of each side at the eight corners, at least one voxel."""
    sides = [max(n // 20, 1) for n in volume.data.shape]
    ends = [np.r_[0:side, n - side : n] for side, n in zip(sides, volume.data.shape, strict=True)]
    blocks: Array = volume.data[np.ix_(*ends)]
    return blocks


def solid(mask: Mask) -> Mask:
    """The largest 6-connected component with its enclosed holes; an empty mask stays empty."""
    result = np.zeros(mask.shape, bool)
    corners = bounding_box(mask)
    if corners is None:
        return result
    result[corners] = _filled(largest(mask[corners], connectivity=6))
    return result


def _filled(mask: Mask) -> Mask:
    """With its enclosed holes."""
    outside = _component_of_corner(~np.pad(mask, 1))
    return ~outside[1:-1, 1:-1, 1:-1]


def largest(mask: Mask, *, connectivity: int) -> Mask:
    """The largest component of voxels with 6 or 26 neighbours; an empty mask stays empty."""
    labels: Array = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=connectivity)
    sizes = np.bincount(labels.ravel(), minlength=2)
    sizes[0] = 0
    found: Mask = labels == int(np.argmax(sizes))
    return found & mask


def _without_specks(mask: Mask) -> Mask:
    """Without 6-connected components below a hundredth of the largest."""
    labels: Array = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=6)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept: Mask = (sizes >= max(sizes.max() / 100, 1))[labels]
    return kept


def _component_of_corner(mask: Mask) -> Mask:
    labels: Array = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=6)
    component: Mask = labels == labels[0, 0, 0]
    return component


def foregrounds(images: Mapping[MRSequence, Volume]) -> dict[MRSequence, Mask]:
    """:func:`foreground` of each sequence."""
    return {sequence: foreground(volume) for sequence, volume in images.items()}


def brain_mask(images: Mapping[MRSequence, Volume], shown: Mapping[MRSequence, Mask] | None = None) -> Mask:
    """Voxels of the brain in skull-stripped scans on one grid.

    What is not background in any of them, its largest component, holes filled: a ventricle at the background
    value and a sequence that covers only part of the head do not cut pieces out.

    Args:
        images: sequences on one grid, at least one.
        shown: their :func:`foregrounds`, where these were asked before.

    Returns:
        ``(X, Y, Z)`` bool.

    Raises:
        InputError: if grids differ, or every image holds a single value.
    """
    if not images:
        raise ValueError("no image to find a brain in")
    union: Mask | None = None
    for sequence, mask in (foregrounds(images) if shown is None else shown).items():
        if union is not None and mask.shape != union.shape:
            raise InputError(f"{sequence.title} has {mask.shape} voxels and the sequence before it {union.shape}")
        union = mask if union is None else union | mask
    if union is None or not union.any():
        names = ", ".join(sequence.title for sequence in images)
        raise InputError(f"no brain was found: {names} hold a single value everywhere. Are the files damaged?")
    return solid(union)


@dataclass(frozen=True)
class SkullCheck:
    """Whether a scan shows the brain alone.

    Attributes:
        is_stripped: True for a brain alone.
        evidence: what was measured, in words with numbers.
    """

    is_stripped: bool
    evidence: str


def check_skull_stripped(volume: Volume, sequence: MRSequence) -> SkullCheck:
    """Judge whether skull and scalp were removed.

    A scan is taken as skull-stripped unless nearly all of it is foreground, its foreground is too large for a brain,
    or a layer without signal lies where bone would be. Any one of these is enough.

    Measured on real scans: all 152 of 38 BraTS studies and the four of a stripped brain whose background is 19 to 31
    are found stripped; the four of ``TCGA-FG-6692`` (noise in the air) and the six of ``MS-patient01`` (clean air,
    caught by size and by bone) are found with skull.

    Args:
        sequence: what it shows, for the words.

    Returns:
        The verdict and its evidence.
    """
    thinned = thin(volume, _STRIDE_MM)
    outside = measure_background(thinned)
    background = outside.value
    mask = foreground(thinned)
    constant = 1 - float(mask.mean())
    if not mask.any():
        return SkullCheck(False, f"every voxel of {sequence.title} holds the value {background:g}")
    if constant < CONSTANT_SHARE:
        return SkullCheck(
            False,
            f"only {constant:.0%} of {sequence.title} holds the background value {background:g}; "
            f"a stripped scan has {CONSTANT_SHARE:.0%} or more, around a head there is noise",
        )
    if outside.spread > 0:  # bone is as dark as this noise: brain and scalp are to be one head, however thin it is
        mask = ndimage.binary_closing(np.pad(mask, _BRIDGED), iterations=_BRIDGED)[(slice(_BRIDGED, -_BRIDGED),) * 3]
    head = solid(mask)
    size_ml = float(head.sum()) * thinned.grid.voxel_ml
    dark = _dark_share(thinned, head, outside)
    low, high = BONE_DEPTH_MM
    noise = f" with noise of {outside.spread:.3g}" if outside.spread > 0 else ""
    words = (
        f"{constant:.0%} of {sequence.title} is background of value {background:g}{noise}, the rest measures "
        f"{size_ml:.0f} ml, and {dark:.0%} of the layer {low:.0f} to {high:.0f} mm below its surface is as dark as bone"
    )
    most = MAX_DARK_SHARE if outside.spread == 0 else MAX_DARK_SHARE_IN_NOISE
    limits = f"a brain has up to {MAX_BRAIN_ML:.0f} ml and {most:.0%}"
    is_stripped = size_ml <= MAX_BRAIN_ML and dark <= most
    return SkullCheck(is_stripped, words if is_stripped else f"{words}; {limits}")


def with_skull(study: Study) -> dict[MRSequence, str]:
    """Sequences that show more than the brain, with what was measured.

    Raises:
        InputError: if a scan holds a single value.
    """
    found = {}
    for sequence in study.present:
        data = study.images[sequence].data
        if data.min() == data.max():
            raise InputError(
                f"{sequence.title} of {study.id} holds a single value, {data.min():g}; is the file damaged?"
            )
        check = check_skull_stripped(study.images[sequence], sequence)
        if not check.is_stripped:
            found[sequence] = check.evidence
    return found


def thin(volume: Volume, spacing_mm: float) -> Volume:
    """Every n-th voxel, about so far apart."""
    steps = [max(round(spacing_mm / spacing), 1) for spacing in volume.grid.spacing_mm]
    data = volume.data[tuple(slice(None, None, step) for step in steps)]
    return Volume.from_affine(data, volume.affine @ np.diag([*steps, 1.0]))


def _dark_share(volume: Volume, head: Mask, outside: Background) -> float:
    """Share of dark voxels where bone would lie; 0 where the head has no such depth, or brightness no zero."""
    if head.all():
        return 0.0
    # With a voxel of air on each side, where there is one: edges of the field of view are no surface of the head.
    box = box_or_all(head, margin=1)
    data = volume.data[box].astype(np.float32)
    depth = depth_mm(head[box], volume.grid.spacing_mm)
    background = outside.value
    inside, noise = data[head[box]] - background, 5 * outside.spread
    if min(float((inside < -noise).mean()), float((inside > noise).mean())) > MIN_SIGNED_SHARE:
        return 0.0
    deep = depth > 20
    reference = float(np.median(data[deep if deep.any() else head[box]])) - background
    layer = (depth > BONE_DEPTH_MM[0]) & (depth <= BONE_DEPTH_MM[1])
    if not layer.any() or reference == 0:
        return 0.0
    return float(np.mean((data[layer] - background) / reference < BONE_DARKNESS))
