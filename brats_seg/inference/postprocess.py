"""From probabilities on the network's grid to a label map on the patient's own."""

from __future__ import annotations

from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from brats_seg.core.labels import REGIONS, LabelSchema, Region
from brats_seg.core.results import Probabilities, Segmentation
from brats_seg.core.study import SEQUENCES, MRSequence, PreparedStudy
from brats_seg.core.volume import Volume
from brats_seg.models.bundle import PostprocessConfig
from brats_seg.preprocessing.restore import move

UPPER = 0.9
"""Share of ET that is darker than what counts as its brightest (:func:`risen`)."""


def to_native(probabilities: Probabilities, prepared: PreparedStudy) -> Probabilities:
    """The same probabilities on the grid of the reference file."""
    native = prepared.record.native
    moved = move(probabilities.array, probabilities.grid, native, order=1)
    return Probabilities(np.clip(moved, 0.0, 1.0), native)


def segment(
    probabilities: Probabilities, prepared: PreparedStudy, schema: LabelSchema, config: PostprocessConfig
) -> tuple[Segmentation, tuple[str, ...]]:
    """A label map, and what post-processing changed, in words.

    Thresholds are applied on the grid of ``probabilities``, so that a mask is not a staircase of
    interpolated labels: on another grid than the network's, probabilities are interpolated first.

    Args:
        probabilities: on the reference file's grid.
        prepared: the study, for its id and what was missing.
        schema: numbers to write.
        config: thresholds and sizes, from the model card.
    """
    rise = enhancement(prepared) if config.min_enhancement > 0 else None
    if rise is not None:
        rise = move(rise, prepared.grid, probabilities.grid, order=1)
    masks, notes = region_masks(probabilities.array, probabilities.grid.voxel_ml, config, rise=rise)
    labels = Volume(schema.compose(masks), probabilities.grid)
    missing = tuple(s for s in SEQUENCES if s not in prepared.present)
    return Segmentation(prepared.id, labels, schema, probabilities, missing), notes


def enhancement(prepared: PreparedStudy) -> NDArray[np.float32] | None:
    """Rise of the signal from T1 to T1CE beyond that of the brain, ``(X, Y, Z)``, in standard deviations of the brain.

    None where either is missing.
    """
    if not {MRSequence.T1, MRSequence.T1CE} <= set(prepared.present):
        return None
    rise = prepared.array[SEQUENCES.index(MRSequence.T1CE)] - prepared.array[SEQUENCES.index(MRSequence.T1)]
    result: NDArray[np.float32] = rise - np.float32(np.median(rise[prepared.brain]))
    return result


def region_masks(
    array: NDArray[np.float32],
    voxel_ml: float,
    config: PostprocessConfig,
    *,
    rise: NDArray[np.floating[Any]] | None = None,
) -> tuple[dict[Region, NDArray[np.bool_]], tuple[str, ...]]:
    """Nested masks of the regions, and what was dropped, in words.

    Args:
        array: ``(3, X, Y, Z)`` probabilities in the order of :data:`REGIONS`.
        voxel_ml: size of a voxel.
        config: thresholds and sizes.
        rise: ``(X, Y, Z)`` of :func:`enhancement` on the same grid; None leaves ``min_enhancement`` out.
    """
    masks = {region: array[i] >= config.thresholds[i] for i, region in enumerate(REGIONS)}
    notes: list[str] = []
    masks[Region.WT], dropped = drop_small(masks[Region.WT], config.min_component_ml / voxel_ml)
    if dropped:
        notes.append(f"{dropped} specks under {config.min_component_ml:g} ml were dropped")
    core = array[REGIONS.index(Region.TC)]
    largest_from = config.min_coreless_ml / voxel_ml
    masks[Region.WT], coreless = drop_coreless(
        masks[Region.WT], core, config.min_core_probability, largest_from=largest_from
    )
    if coreless:
        place = "apart from the tumour and without a core" if masks[Region.WT].any() else "without a core"
        notes.append(
            f"{coreless * voxel_ml:.1f} ml of edema-like signal, {place}, was not counted as tumour: white matter "
            "disease looks like that"
        )
    masks[Region.TC] &= masks[Region.WT]
    masks[Region.TC], satellites = drop_satellites(
        masks[Region.TC],
        masks[Region.WT],
        core,
        min_voxels=config.min_satellite_ml / voxel_ml,
        probability=config.min_satellite_probability,
    )
    if satellites:
        notes.append(
            f"{satellites * voxel_ml:.2g} ml of doubtful core, in spots under {config.min_satellite_ml:g} ml beside a "
            "larger core, were counted as edema"
        )
    masks[Region.ET] &= masks[Region.TC]
    enhancing_ml = float(masks[Region.ET].sum()) * voxel_ml
    if 0 < enhancing_ml < config.min_enhancing_ml:
        masks[Region.ET] = np.zeros_like(masks[Region.ET])
        notes.append(
            f"{enhancing_ml:.2f} ml of doubtful enhancement, under the {config.min_enhancing_ml:g} ml that this model "
            "tells apart from none, was counted as tumour core without enhancement"
        )
    elif rise is not None and risen(masks[Region.ET], masks[Region.WT], rise) < config.min_enhancement:
        masks[Region.ET] = np.zeros_like(masks[Region.ET])
        notes.append(
            f"{enhancing_ml:.2f} ml that look like enhancement rise from T1 to T1CE hardly more than the tumour around "
            f"them (less than {config.min_enhancement:g} standard deviations), and were counted as tumour core without "
            "enhancement"
        )
    return masks, tuple(notes)


def risen(enhancing: NDArray[np.bool_], whole: NDArray[np.bool_], rise: NDArray[np.floating[Any]]) -> float:
    """By how much the brightest of ET rises more from T1 to T1CE than the rest of the tumour does.

    The brightest, and not all of it: a mask of true enhancement holds much that hardly enhances beside what does.

    Args:
        enhancing: ``(X, Y, Z)`` mask of ET.
        whole: ``(X, Y, Z)`` mask of WT.
        rise: ``(X, Y, Z)`` of :func:`enhancement`.

    Returns:
        The upper decile of ET less the median of the rest of WT, or of the brain (0) where there is no rest, in
        standard deviations of the brain; infinite for an empty mask, which nothing speaks against.
    """
    if not enhancing.any():
        return float("inf")
    rest = rise[whole & ~enhancing]
    return float(np.quantile(rise[enhancing], UPPER)) - (float(np.median(rest)) if rest.size else 0.0)


def drop_coreless(
    whole: NDArray[np.bool_], core: NDArray[np.float32], probability: float, *, largest_from: float = 0.0
) -> tuple[NDArray[np.bool_], int]:
    """The mask without 26-connected components that nowhere reach a probability of TC; a large enough largest stays.

    Args:
        whole: ``(X, Y, Z)`` mask of WT.
        core: ``(X, Y, Z)`` probability of TC.
        probability: 0 drops nothing.
        largest_from: voxels from which the largest component stays without a core, too.

    Returns:
        The mask, and how many voxels were dropped.
    """
    if probability <= 0 or not whole.any():
        return whole, 0
    components = cc3d.connected_components(whole, connectivity=26)
    sizes = np.bincount(components.ravel())
    keep = np.zeros(len(sizes), np.bool_)
    keep[np.unique(components[core >= probability])] = True
    largest = 1 + int(sizes[1:].argmax())
    keep[largest] |= sizes[largest] >= largest_from
    keep[0] = False
    kept: NDArray[np.bool_] = keep[components]
    return kept, int(np.count_nonzero(whole) - np.count_nonzero(kept))


def drop_satellites(
    core: NDArray[np.bool_],
    whole: NDArray[np.bool_],
    likely: NDArray[np.float32],
    *,
    min_voxels: float,
    probability: float,
) -> tuple[NDArray[np.bool_], int]:
    """The core without small doubtful 26-connected components beside a larger one in the same tumour.

    Args:
        core: ``(X, Y, Z)`` mask of TC, inside ``whole``.
        whole: ``(X, Y, Z)`` mask of WT; each of its components keeps its largest core.
        likely: ``(X, Y, Z)`` probability of TC.
        min_voxels: from which a component stays.
        probability: a component that reaches it anywhere stays.

    Returns:
        The mask, and how many voxels were dropped.
    """
    if min_voxels <= 1 or not core.any():
        return core, 0
    components = cc3d.connected_components(core, connectivity=26)
    inside = components[core]
    sizes = np.bincount(inside)
    if len(sizes) == 2:
        return core, 0  # one component, beside none
    tumour = np.zeros_like(sizes)
    tumour[inside] = cc3d.connected_components(whole, connectivity=26)[core]
    largest, peak = np.zeros(int(tumour.max()) + 1, sizes.dtype), np.zeros(len(sizes), likely.dtype)
    np.maximum.at(largest, tumour, sizes)
    np.maximum.at(peak, inside, likely[core])
    keep = (sizes >= min_voxels) | (sizes == largest[tumour]) | (peak >= probability)
    keep[0] = False
    kept: NDArray[np.bool_] = keep[components]
    return kept, int(np.count_nonzero(core) - np.count_nonzero(kept))


def drop_small(mask: NDArray[np.bool_], min_voxels: float) -> tuple[NDArray[np.bool_], int]:
    """The mask without 26-connected components of fewer voxels, and how many those were."""
    if min_voxels <= 1 or not mask.any():
        return mask, 0
    components = cc3d.connected_components(mask, connectivity=26)
    sizes = np.bincount(components.ravel())
    keep = sizes >= min_voxels
    keep[0] = False
    kept: NDArray[np.bool_] = keep[components]
    return kept, int(np.count_nonzero(~keep[1:]))
