"""From probabilities on the network's grid to a label map on the patient's own.

What speaks against a region becomes a factor on its probability, before anything is written or measured: label map,
probabilities, partial volumes and intervals follow from the same numbers. No factor jumps with a size or a measure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Array, Volume
from brats_seg.core.regions import REGIONS, LabelSchema, Region
from brats_seg.core.study import SEQUENCES, MRSequence, PreparedStudy
from brats_seg.core.visit import RegionMaps, Segmentation
from brats_seg.imaging.boxes import bounding_box
from brats_seg.imaging.restore import move
from brats_seg.models.card import PostprocessConfig
from brats_seg.segment.enhancement import enhancement, risen
from brats_seg.segment.predict import nest

LEAST_WHOLE = 0.2
"""Factor on WT where it is small and has no core. Fixed: of 20 such places of 0.1 ml and more in the out-of-fold
outputs of 35 studies two hold any tumour."""
LEAST_ENHANCING = 0.7
"""Factor on ET where nothing speaks for it but the networks. Fixed, and not less: what all of them are sure of stays
above any usual threshold, as doubtful, instead of being deleted; what two of three are sure of does not."""
CLEAR = 0.9
"""A factor on ET from which its doubt needs no warning."""
LOST_ML = 0.5
LOST_SHARE = 0.1
"""What falls below the threshold is a warning from this volume or this share of its region on."""
HALO = 5
"""Voxels across which the surroundings of a doubtful component are doubted with it."""


class Settled(NamedTuple):
    """Probabilities after every doubt, and what was doubted, in words.

    Attributes:
        array: ``(3, X, Y, Z)`` nested, in the order of :data:`REGIONS`.
        decisions: what changes little.
        warnings: what a reader has to know.
    """

    array: NDArray[np.float32]
    decisions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """A label map and the probabilities it is the threshold of, which it holds as well; what was doubted, in words."""

    segmentation: Segmentation
    probabilities: RegionMaps
    decisions: tuple[str, ...]
    warnings: tuple[str, ...]


def segment(
    probabilities: RegionMaps, prepared: PreparedStudy, schema: LabelSchema, config: PostprocessConfig
) -> Outcome:
    """A label map on the grid of the reference file.

    Probabilities are interpolated and then thresholded, so that a mask is not a staircase of interpolated labels.

    Args:
        probabilities: on the network's grid.
        prepared: the study.
        schema: numbers to write.
        config: thresholds and sizes, from the model card.
    """
    whole = probabilities.region(Region.WT) >= config.thresholds[REGIONS.index(Region.WT)]
    settled = settle(
        probabilities.array,
        prepared.grid.voxel_ml,
        config,
        rise=enhancement(prepared, whole),
        beside="T1" if MRSequence.T1 in prepared.present else "the tissue around the tumour",
    )
    native = to_native(RegionMaps(settled.array, probabilities.grid), prepared)
    labels = Volume(_labels(native, schema, config.thresholds), native.grid)
    missing = tuple(s for s in SEQUENCES if s not in prepared.present)
    found = Segmentation(prepared.id, labels, schema, native, missing)
    return Outcome(found, native, settled.decisions, settled.warnings)


def to_native(probabilities: RegionMaps, prepared: PreparedStudy) -> RegionMaps:
    """The same probabilities on the grid of the reference file, means over its voxels where those are larger."""
    native = prepared.record.native
    moved = move(probabilities.array, probabilities.grid, native, order=1)
    if moved.max() > 1.0:  # by rounding; what lies outside the brain was never touched, and takes no memory
        np.minimum(moved, 1.0, out=moved)
    return RegionMaps(moved, native)


def _labels(probabilities: RegionMaps, schema: LabelSchema, thresholds: tuple[float, float, float]) -> Array:
    """The label map, composed inside the box of the whole tumour: native grids can be large."""
    labels = np.zeros(probabilities.grid.shape, np.uint8)
    whole = probabilities.region(Region.WT) >= thresholds[REGIONS.index(Region.WT)]
    for box in ndimage.find_objects(whole.view(np.uint8)):
        labels[box] = schema.compose(region_masks(probabilities.array[(slice(None), *box)], thresholds))
    return labels


def region_masks(array: NDArray[np.float32], thresholds: tuple[float, float, float]) -> dict[Region, NDArray[np.bool_]]:
    """Nested masks of ``(3, X, Y, Z)`` probabilities in the order of :data:`REGIONS`."""
    masks: dict[Region, NDArray[np.bool_]] = {}
    outer: NDArray[np.bool_] | None = None
    for region, channel, threshold in zip(REGIONS, array, thresholds, strict=True):
        mask = channel >= threshold
        outer = mask if outer is None else outer & mask
        masks[region] = outer
    return masks


def settle(
    array: NDArray[np.float32],
    voxel_ml: float,
    config: PostprocessConfig,
    *,
    rise: NDArray[np.floating[Any]] | None = None,
    beside: str = "T1",
) -> Settled:
    """Probabilities after every doubt that the settings know.

    Args:
        array: ``(3, X, Y, Z)`` nested probabilities in the order of :data:`REGIONS`.
        voxel_ml: size of a voxel.
        config: thresholds and sizes.
        rise: ``(X, Y, Z)`` of :func:`enhancement` on the same grid; None where nothing is known of it.
        beside: what the rise was measured against, for the words.
    """
    array, dropped = settle_whole(array, voxel_ml, config)
    left_ml = float(region_masks(array, config.thresholds)[Region.WT].sum()) * voxel_ml
    decisions, warnings = _whole_words(dropped * voxel_ml, left_ml)
    enhancing = settle_enhancing(array, voxel_ml, config, rise=rise)
    if enhancing.factor < 1:
        (warnings if enhancing.matters else decisions).append(_enhancing_words(enhancing, config, beside))
    return Settled(enhancing.array, tuple(decisions), tuple(warnings))


def settle_whole(
    array: NDArray[np.float32], voxel_ml: float, config: PostprocessConfig
) -> tuple[NDArray[np.float32], int]:
    """Probabilities with small components of WT that have no core doubted, and how many voxels of WT that costs.

    A component is believed for its highest probability of TC, or for its size: bright FLAIR without a core is white
    matter disease as a rule, and a large one is not.

    Args:
        array: ``(3, X, Y, Z)`` nested probabilities.
        voxel_ml: size of a voxel.
        config: the threshold of WT, ``min_core_probability`` and ``min_coreless_ml``.
    """
    whole = array[REGIONS.index(Region.WT)] >= config.thresholds[REGIONS.index(Region.WT)]
    box = bounding_box(whole, margin=HALO // 2)
    if box is None or config.min_core_probability <= 0 or config.min_coreless_ml <= 0:
        return array, 0
    components = cc3d.connected_components(np.ascontiguousarray(whole[box]), connectivity=26)
    size_ml = np.bincount(components.ravel()) * voxel_ml
    peak = np.zeros(len(size_ml), array.dtype)
    np.maximum.at(peak, components.ravel(), array[REGIONS.index(Region.TC)][box].ravel())
    believed = np.maximum(
        evidence(peak, 0.5 * config.min_core_probability, 1.5 * config.min_core_probability),
        evidence(size_ml, 0.5 * config.min_coreless_ml, 1.5 * config.min_coreless_ml),
    )
    factors = (LEAST_WHOLE + (1 - LEAST_WHOLE) * believed).astype(np.float32)
    factors[0] = 1.0
    if factors.min() == 1:
        return array, 0
    field = factors[components]
    around = ndimage.minimum_filter(field, HALO)
    array = array.copy()
    part = array[(slice(None), *box)]
    part[REGIONS.index(Region.WT)] *= np.where(components > 0, field, around)
    part[:] = nest(part)
    left = part[REGIONS.index(Region.WT)] >= config.thresholds[REGIONS.index(Region.WT)]
    return array, int(np.count_nonzero(components)) - int(np.count_nonzero(left))


class Enhancing(NamedTuple):
    """Probabilities after the doubt of enhancement, and how it came about.

    Attributes:
        array: ``(3, X, Y, Z)``.
        factor: on ET.
        height: of :func:`risen`; None where it is not known or not asked for.
        before_ml: ET without the doubt.
        after_ml: ET with it.
    """

    array: NDArray[np.float32]
    factor: float = 1.0
    height: float | None = None
    before_ml: float = 0.0
    after_ml: float = 0.0

    @property
    def matters(self) -> bool:
        """Whether a reader has to know."""
        lost_ml = self.before_ml - self.after_ml
        return self.factor < CLEAR or lost_ml >= LOST_ML or lost_ml >= LOST_SHARE * self.before_ml


def settle_enhancing(
    array: NDArray[np.float32],
    voxel_ml: float,
    config: PostprocessConfig,
    *,
    rise: NDArray[np.floating[Any]] | None = None,
) -> Enhancing:
    """Probabilities with ET doubted where it hardly rises from T1 to T1CE, or is next to nothing.

    Blood and fat are bright without contrast, too. Arguments as for :func:`settle`.
    """
    masks = region_masks(array, config.thresholds)
    before_ml = float(masks[Region.ET].sum()) * voxel_ml
    if before_ml == 0:
        return Enhancing(array)
    believed, height = 1.0, None
    if rise is not None and config.enhancement_rise is not None:
        height = risen(masks[Region.ET], masks[Region.WT] & ~masks[Region.ET], rise)
        believed = float(evidence(height, *config.enhancement_rise))
    if config.min_enhancing_ml > 0:
        believed *= float(evidence(before_ml, 0.0, 2 * config.min_enhancing_ml))
    if believed == 1:
        return Enhancing(array, 1.0, height, before_ml, before_ml)
    factor = LEAST_ENHANCING + (1 - LEAST_ENHANCING) * believed
    array = array.copy()
    array[REGIONS.index(Region.ET)] *= np.float32(factor)
    after_ml = float(region_masks(array, config.thresholds)[Region.ET].sum()) * voxel_ml
    return Enhancing(array, factor, height, before_ml, after_ml)


def _enhancing_words(found: Enhancing, config: PostprocessConfig, beside: str) -> str:
    counted = f"{found.before_ml:.2g} ml look like it, {found.after_ml:.2g} ml are counted"
    rise = config.enhancement_rise
    if rise is None or found.height is None or found.height >= rise[1]:
        return f"very little enhancement, so that it is doubtful: {counted}"
    return (
        f"T1CE hardly brighter than {beside} here: enhancement doubtful ({counted}; their brightest tenth rises by "
        f"{found.height:.1f} times the noise, clear enhancement by {rise[1]:.1f} and more)"
    )


def evidence(value: Any, low: float, high: float) -> NDArray[np.float64]:
    """0 up to ``low``, 1 from ``high`` on, and smooth between (``3 t^2 - 2 t^3``)."""
    share = np.clip((np.asarray(value, np.float64) - low) / (high - low), 0.0, 1.0)
    result: NDArray[np.float64] = share * share * (3 - 2 * share)
    return result


def _whole_words(dropped_ml: float, left_ml: float) -> tuple[list[str], list[str]]:
    """Decisions and warnings about edema-like signal that is not counted."""
    if dropped_ml <= 0:
        return [], []
    place = "apart from the tumour and without a core" if left_ml > 0 else "without a core"
    words = (
        f"{dropped_ml:.2g} ml of edema-like signal, {place}, are doubtful and not counted as tumour: white matter "
        "disease looks like that"
    )
    matters = dropped_ml >= LOST_ML or dropped_ml >= LOST_SHARE * (dropped_ml + left_ml)
    return ([], [words]) if matters else ([words], [])
