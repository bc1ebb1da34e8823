"""From probabilities on the network's grid to a label map on the patient's own.

What speaks against a region becomes a factor on its probability, before anything is written or measured: label map,
probabilities, partial volumes and intervals follow from the same numbers. No factor jumps with a size or a measure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Array, Volume
from brats_seg.core.labels import LabelSchema, Region
from brats_seg.core.regions import RegionSet
from brats_seg.core.scans import PreparedStudy
from brats_seg.core.study import MRSequence
from brats_seg.core.visit import RegionMaps, Segmentation
from brats_seg.imaging.boxes import bounding_box
from brats_seg.imaging.restore import move
from brats_seg.models.rules import PostprocessConfig, RequireCore, RequireEnhancement
from brats_seg.volumetrics.volumes import dilate_box

LEAST_WHOLE = 0.2
"""Factor on a place that is small and has no core. Fixed: of 20 such places of 0.1 ml and more in the out-of-fold
outputs of 35 studies two hold any tumour."""
LEAST_ENHANCING = 0.7
"""Factor on a region where nothing speaks for it but the networks. Fixed, and not less: what all of them are sure of
stays above any usual threshold, as doubtful, instead of being deleted; what two of three are sure of does not."""
CLEAR = 0.9
"""A factor on a region from which its doubt needs no warning."""
LOST_ML = 0.5
LOST_SHARE = 0.1
"""What falls below the threshold is a warning from this volume or this share of its region on."""
HALO = 5
"""Voxels across which the surroundings of a doubtful component are doubted with it."""
NEAR_MM = (3.0, 12.0)
"""Tissue near the tumour: so far from it. All of it lies in the cut of a cross-validation's case."""
MIN_TISSUE = 500
"""Voxels of it that a scatter can be measured on."""
MIN_SCATTER = 0.02
"""In standard deviations of the brain; less is no noise but a drawing."""
UPPER = 0.9
"""Share of what enhances that is darker than what counts as its brightest (:func:`relative_enhancement`)."""
TRIM = 2.5
"""Deviations beyond which tissue is no part of the line: vessels enhance."""


class Settled(NamedTuple):
    """Probabilities after every doubt, and what was doubted, in words.

    Attributes:
        array: ``(R, X, Y, Z)`` nested, one channel a region.
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
        schema: numbers to write.
        config: thresholds and rules, from the model card.
    """
    asks = any(isinstance(rule, RequireEnhancement) and rule.rise is not None for rule in config.rules)
    settled = settle(
        probabilities,
        config,
        rise=enhancement(prepared, whole_tumour(probabilities, config)) if asks else None,
        beside="T1" if MRSequence.T1 in prepared.present else "the tissue around the tumour",
    )
    native = to_native(replace(probabilities, array=settled.array), prepared)
    labels = Volume(_labels(native, schema, config), native.grid)
    found = Segmentation(prepared.id, labels, schema, native.regions, native, prepared.missing)
    return Outcome(found, native, settled.decisions, settled.warnings)


def to_native(probabilities: RegionMaps, prepared: PreparedStudy) -> RegionMaps:
    """The same probabilities on the grid of the reference file, means over its voxels where those are larger."""
    native = prepared.record.native
    moved = move(probabilities.array, probabilities.grid, native, order=1)
    if moved.max() > 1.0:  # by rounding; what lies outside the brain was never touched, and takes no memory
        np.minimum(moved, 1.0, out=moved)
    return RegionMaps(moved, native, probabilities.regions)


def _labels(probabilities: RegionMaps, schema: LabelSchema, config: PostprocessConfig) -> Array:
    """The label map, composed inside the box of the whole tumour: native grids can be large."""
    labels = np.zeros(probabilities.grid.shape, np.uint8)
    for box in ndimage.find_objects(whole_tumour(probabilities, config).view(np.uint8)):
        part = probabilities.array[(slice(None), *box)]
        labels[box] = probabilities.regions.compose(region_masks(part, probabilities.regions, config), schema)
    return labels


def whole_tumour(probabilities: RegionMaps, config: PostprocessConfig) -> NDArray[np.bool_]:
    """``(X, Y, Z)`` mask of everything that reaches the threshold of an outermost region."""
    first, *others = probabilities.regions.outermost
    found: NDArray[np.bool_] = probabilities.region(first) >= config.threshold(first)
    for region in others:
        found |= probabilities.region(region) >= config.threshold(region)
    return found


def region_masks(
    array: NDArray[np.float32], regions: RegionSet, config: PostprocessConfig
) -> dict[Region, NDArray[np.bool_]]:
    """Nested masks of ``(R, X, Y, Z)`` probabilities."""
    return regions.masks(array, [config.threshold(region) for region in regions])


def settle(
    probabilities: RegionMaps,
    config: PostprocessConfig,
    *,
    rise: NDArray[np.floating[Any]] | None = None,
    beside: str = "T1",
) -> Settled:
    """Probabilities after every doubt that the settings know.

    Args:
        probabilities: nested.
        rise: ``(X, Y, Z)`` of :func:`enhancement` on the same grid; None where nothing is known of it.
        beside: what the rise was measured against, for the words.
    """
    decisions: list[str] = []
    warnings: list[str] = []
    for rule in config.rules:
        if isinstance(rule, RequireCore):
            array, dropped = require_core(probabilities, config, rule)
            dropped_ml = dropped * probabilities.grid.voxel_ml
            probabilities = replace(probabilities, array=array)
            left = region_masks(array, probabilities.regions, config)[probabilities.regions[rule.region]]
            left_ml = float(left.sum()) * probabilities.grid.voxel_ml
            if dropped_ml > 0:
                matters = dropped_ml >= LOST_ML or dropped_ml >= LOST_SHARE * (dropped_ml + left_ml)
                words = _coreless_words(dropped_ml, left_ml, rule, probabilities.regions)
                (warnings if matters else decisions).append(words)
        else:
            found = require_enhancement(probabilities, config, rule, rise=rise)
            probabilities = replace(probabilities, array=found.array)
            if found.factor < 1:
                words = _enhancing_words(found, rule, beside)
                (warnings if found.matters else decisions).append(words)
    return Settled(probabilities.array, tuple(decisions), tuple(warnings))


def require_core(
    probabilities: RegionMaps, config: PostprocessConfig, rule: RequireCore
) -> tuple[NDArray[np.float32], int]:
    """Probabilities with small components that have no core doubted, and how many voxels that costs.

    A component is believed for its highest probability of the core, or for its size: bright FLAIR without a core is
    white matter disease as a rule, and a large one is not.

    Args:
        probabilities: nested.
        rule: which region, which core, how large.
    """
    array, regions = probabilities.array, probabilities.regions
    region = regions[rule.region]
    channel, threshold = regions.index(region), config.threshold(region)
    whole = array[channel] >= threshold
    box = bounding_box(whole, margin=HALO // 2)
    if box is None or rule.min_probability <= 0 or rule.min_ml <= 0:
        return array, 0
    components = cc3d.connected_components(np.ascontiguousarray(whole[box]), connectivity=26)
    size_ml = np.bincount(components.ravel()) * probabilities.grid.voxel_ml
    peak = np.zeros(len(size_ml), array.dtype)
    np.maximum.at(peak, components.ravel(), array[regions.index(regions[rule.core])][box].ravel())
    believed = np.maximum(
        evidence(peak, 0.5 * rule.min_probability, 1.5 * rule.min_probability),
        evidence(size_ml, 0.5 * rule.min_ml, 1.5 * rule.min_ml),
    )
    factors = (LEAST_WHOLE + (1 - LEAST_WHOLE) * believed).astype(np.float32)
    factors[0] = 1.0
    if factors.min() == 1:
        return array, 0
    field = factors[components]
    around = ndimage.minimum_filter(field, HALO)
    array = array.copy()
    part = array[(slice(None), *box)]
    part[channel] *= np.where(components > 0, field, around)
    part[:] = regions.nest(part)
    return array, int(np.count_nonzero(components)) - int(np.count_nonzero(part[channel] >= threshold))


class Enhancing(NamedTuple):
    """Probabilities after the doubt of a region, and how it came about.

    Attributes:
        factor: on the region.
        height: of :func:`relative_enhancement`; None where it is not known or not asked for.
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


def require_enhancement(
    probabilities: RegionMaps,
    config: PostprocessConfig,
    rule: RequireEnhancement,
    *,
    rise: NDArray[np.floating[Any]] | None = None,
) -> Enhancing:
    """Probabilities with a region doubted where it hardly enhances from T1 to T1CE, or is next to nothing.

    Blood and fat are bright without contrast, too. Arguments as for :func:`settle`.
    """
    array, regions, voxel_ml = probabilities.array, probabilities.regions, probabilities.grid.voxel_ml
    region = regions[rule.region]
    masks = region_masks(array, regions, config)
    before_ml = float(masks[region].sum()) * voxel_ml
    if before_ml == 0:
        return Enhancing(array)
    believed, height = 1.0, None
    if rise is not None and rule.rise is not None:
        height = relative_enhancement(masks[region], masks[regions.outer_of(region)] & ~masks[region], rise)
        believed = float(evidence(height, *rule.rise))
    if rule.min_ml > 0:
        believed *= float(evidence(before_ml, 0.0, 2 * rule.min_ml))
    if believed == 1:
        return Enhancing(array, 1.0, height, before_ml, before_ml)
    factor = LEAST_ENHANCING + (1 - LEAST_ENHANCING) * believed
    array = array.copy()
    array[regions.index(region)] *= np.float32(factor)
    if regions.within(region):
        array = regions.nest(array)
    after_ml = float(region_masks(array, regions, config)[region].sum()) * voxel_ml
    return Enhancing(array, factor, height, before_ml, after_ml)


def _coreless_words(dropped_ml: float, left_ml: float, rule: RequireCore, regions: RegionSet) -> str:
    tissue = regions[rule.region].structures[0].title
    place = "apart from the tumour and without a core" if left_ml > 0 else "without a core"
    return (
        f"{dropped_ml:.2g} ml of {tissue}-like signal, {place}, are doubtful and not counted as tumour: white matter "
        "disease looks like that"
    )


def _enhancing_words(found: Enhancing, rule: RequireEnhancement, beside: str) -> str:
    counted = f"{found.before_ml:.2g} ml look like it, {found.after_ml:.2g} ml are counted"
    if rule.rise is None or found.height is None or found.height >= rule.rise[1]:
        return f"very little enhancement, so that it is doubtful: {counted}"
    return (
        f"T1CE hardly brighter than {beside} here: enhancement doubtful ({counted}; their brightest tenth enhances by "
        f"{found.height:.1f} times the noise, clear enhancement by {rule.rise[1]:.1f} and more)"
    )


def evidence(value: Any, low: float, high: float) -> NDArray[np.float64]:
    """0 up to ``low``, 1 from ``high`` on, and smooth between (``3 t^2 - 2 t^3``)."""
    share = np.clip((np.asarray(value, np.float64) - low) / (high - low), 0.0, 1.0)
    result: NDArray[np.float64] = share * share * (3 - 2 * share)
    return result


def enhancement(prepared: PreparedStudy, whole: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """How much brighter T1CE is than T1 makes expect, ``(X, Y, Z)``, in units of its scatter in tissue near the tumour.

    What T1 makes expect is a straight line through that tissue, so that neither the scans' own scales nor what else is
    in the file matters. Without T1, the tissue's median takes its place. 0 beyond tissue near the tumour.

    Returns:
        None without T1CE, without a tumour, or where hardly any tissue is near it.
    """
    close, far = (round(mm / min(prepared.grid.spacing_mm)) for mm in NEAR_MM)
    box = bounding_box(whole, margin=far)
    if MRSequence.T1CE not in prepared.present or box is None:
        return None
    inside, seen = whole[box], prepared.channel(MRSequence.T1CE)[box]
    tissue = dilate_box(inside, (far,) * 3) & ~dilate_box(inside, (close,) * 3) & prepared.brain[box] & (seen != 0)
    with_t1 = MRSequence.T1 in prepared.present
    before = prepared.channel(MRSequence.T1)[box] if with_t1 else seen  # without T1 nothing of it is subtracted
    if with_t1:
        tissue &= before != 0
    if np.count_nonzero(tissue) < MIN_TISSUE:
        return None
    expected = _line(before[tissue], seen[tissue]) if with_t1 else (0.0, 0.0)
    excess = seen - np.float32(expected[0]) * before
    middle, scatter = _spread(excess[tissue])
    result = np.zeros(whole.shape, np.float32)
    result[box] = (excess - np.float32(middle)) / np.float32(max(scatter, MIN_SCATTER))
    return result


def relative_enhancement(
    enhancing: NDArray[np.bool_], rest: NDArray[np.bool_], rise: NDArray[np.floating[Any]]
) -> float:
    """By how much the brightest of a region enhances more than the rest of the tumour.

    The brightest, and not all of it: a mask of true enhancement holds much that hardly enhances beside what does.

    Args:
        rest: ``(X, Y, Z)`` mask of the tumour around it.
        rise: ``(X, Y, Z)`` of :func:`enhancement`.

    Returns:
        The upper decile of what enhances less the median of the rest, or of the tissue near the tumour (0) where there
        is no rest; infinite for an empty mask, which nothing speaks against.
    """
    if not enhancing.any():
        return float("inf")
    around = rise[rest]
    return float(np.quantile(rise[enhancing], UPPER)) - (float(np.median(around)) if around.size else 0.0)


def _line(before: NDArray[np.float32], seen: NDArray[np.float32]) -> tuple[float, float]:
    """Slope and height of the line through most of the tissue; least squares, outliers left out and fitted again."""
    kept = np.ones(len(before), np.bool_)
    slope, height = 0.0, 0.0
    for _ in range(4):
        x, y = before[kept].astype(np.float64), seen[kept].astype(np.float64)
        variance = float(x.var())
        slope = float(((x - x.mean()) * (y - y.mean())).mean()) / variance if variance > 0 else 0.0
        height = float(y.mean()) - slope * float(x.mean())
        left = seen - slope * before - height
        middle, scatter = _spread(left[kept])
        kept = np.abs(left - middle) <= TRIM * max(scatter, MIN_SCATTER)
    return slope, height


def _spread(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Median, and the standard deviation that the quartiles of a normal distribution stand for."""
    low, middle, high = (float(v) for v in np.quantile(values, (0.25, 0.5, 0.75)))
    return middle, (high - low) / 1.349
