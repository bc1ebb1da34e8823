"""Everything measured in one segmentation: the only function of the room most callers need.

All measuring happens in the patient's own grid, inside the box that holds the tumour. Regions that are empty
have a row like any other: volume 0, no lesions, and an interval whose upper end says how much may have been missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Mask
from brats_seg.core.labels import CAVITY, FLUID, LabelSchema, Region, Structure
from brats_seg.core.regions import RegionSet
from brats_seg.core.visit import Diameters, Lesion, Measurements, RegionMaps, RegionVolume, Segmentation
from brats_seg.imaging.boxes import Box, bounding_box
from brats_seg.volumetrics.diameters import measure_diameters
from brats_seg.volumetrics.intervals import IntervalModel, ambiguous_volume_ml
from brats_seg.volumetrics.lesions import count_lesions, find_lesions, is_measurable
from brats_seg.volumetrics.volumes import box_touches_border, mask_volume_ml, partial_volume_ml, reach_voxels

_ROUNDING = 1e-6
"""Of a volume in voxels: so much less than a whole one is still that one."""


@dataclass(frozen=True, eq=False)
class _Window:
    """The part of a segmentation that holds every label, with a margin for the boundary's outer half."""

    segmentation: Segmentation
    labels: NDArray[Any]
    box: Box

    @property
    def grid(self) -> Grid:
        """The whole grid."""
        return self.segmentation.labels.grid

    @property
    def start(self) -> tuple[int, int, int]:
        """Index of the window's first voxel in the whole grid."""
        x, y, z = (side.start for side in self.box)
        return x, y, z

    def mask_of(self, structures: frozenset[Structure]) -> Mask:
        """Where the labels are one of ``structures``."""
        result = np.zeros(self.labels.shape, np.bool_)
        for number, structure in self.segmentation.schema.values.items():
            if structure in structures:
                result |= self.labels == number
        return result

    def touches_border(self, mask: Mask) -> bool:
        """Whether a mask in the window reaches the edge of the whole grid."""
        inner = bounding_box(mask)
        if inner is None:
            return False
        box = tuple(slice(i.start + s, i.stop + s) for i, s in zip(inner, self.start, strict=True))
        return box_touches_border(box, self.grid.shape)


@dataclass(frozen=True)
class Target:
    """One region or structure to be measured.

    Attributes:
        name: of the region, or abbreviation of the structure.
        known: everything the label schema can say; nothing for a region it does not tell.
        region: the region itself, or the innermost one that has the structure; None for what is no tumour.
    """

    name: str
    structures: frozenset[Structure]
    known: frozenset[Structure]
    region: Region | None

    @property
    def is_known(self) -> bool:
        """Whether the label schema tells it; else an empty mask says nothing about the patient."""
        return bool(self.structures & self.known)

    def probability(self, probabilities: RegionMaps) -> NDArray[np.float32] | None:
        """``(X, Y, Z)`` probability, or None where the regions' channels do not tell it.

        They tell a structure that is alone between a region and the one region inside it, by their difference.
        """
        region = self.region
        if not self.is_known or region is None:
            return None
        if self.name == region.name:
            return probabilities.region(region)
        inner = probabilities.regions.within(region)
        between = frozenset(region.structures) - {s for other in inner for s in other.structures}
        if len(inner) != 1 or self.structures != between & self.known:
            return None
        difference = probabilities.region(region) - probabilities.region(inner[0])
        result: NDArray[np.float32] = np.maximum(difference, 0, out=difference)
        return result


def targets_of(schema: LabelSchema, regions: RegionSet) -> tuple[Target, ...]:
    """The regions, then every structure of a schema that is not all of one, in the order of its numbers."""
    known = frozenset(schema.structures)
    told = regions.told_by(schema)
    targets = [
        Target(region.name, frozenset(region.structures), known if region in told else frozenset(), region)
        for region in regions
    ]
    for structure in schema.structures:
        if not any(region.structures == (structure,) for region in regions):
            inmost = next((region for region in reversed(regions.regions) if structure in region.structures), None)
            targets.append(Target(structure.name, frozenset({structure}), known, inmost))
    return tuple(targets)


def measure_segmentation(
    segmentation: Segmentation,
    *,
    intervals: IntervalModel | None = None,
    min_lesion_ml: float = 0.0,
    fits: bool = True,
) -> Measurements:
    """Volumes, intervals, lesions and diameters of one study.

    Rows are the regions, then every other structure of the label schema; a region that the schema does not tell has
    volume NaN and a note. Lesions are those of the regions and of the resection cavity. Without probabilities there is
    no partial-volume-aware volume; without probabilities or without ``intervals``, with a sequence missing, for a row
    that was not fitted, or of scans that do not fit together, there is no interval. Either is said in the notes.

    Args:
        segmentation: label map in the patient's own space, with probabilities where it was predicted.
        intervals: the model's fitted interval widths, from its card.
        min_lesion_ml: smaller components are no lesions; their voxels stay in the volume, and the notes say so.
        fits: whether the scans belong together and show a whole brain, as those did that the intervals were fitted on.
    """
    window = _window(segmentation)
    least = max(1, math.ceil(min_lesion_ml / window.grid.voxel_ml - _ROUNDING))
    left_out: dict[str, int] = {}
    known = intervals if fits and not segmentation.missing else None
    rows: list[RegionVolume] = []
    lesions: list[Lesion] = []
    for target in targets_of(segmentation.schema, segmentation.regions):
        if not target.is_known:
            note = f"not part of the label schema {segmentation.schema.name}"
            rows.append(RegionVolume(target.name, float("nan"), note=note, is_told=False))
            continue
        mask = window.mask_of(target.structures)
        if target.name in (*segmentation.regions.names, CAVITY.name):
            found = _lesions(window, target, mask, least)
            lesions.extend(found)
            count = len(found)
        else:
            count = count_lesions(mask, least)
        left_out[target.name] = count_lesions(mask) - count if least > 1 else 0
        rows.append(_row(window, target, mask, lesions=count, intervals=known))
    notes, found_out = _notes(segmentation, intervals, rows, fits=fits)
    warnings = (*found_out, *_left_out_note(left_out, min_lesion_ml))
    return Measurements(
        study_id=segmentation.study_id,
        volumes=tuple(rows),
        lesions=tuple(lesions),
        spacing_mm=window.grid.spacing_mm,
        notes=(*notes, *warnings),
        warnings=warnings,
    )


def ambiguous_volumes_ml(segmentation: Segmentation) -> dict[str, float]:
    """By row of the volumes table, the ambiguous volume that intervals are fitted on; rows without one are left out.

    Raises:
        InputError: if the segmentation has no probabilities.
    """
    probabilities = segmentation.probabilities
    if probabilities is None:
        raise InputError(f"study {segmentation.study_id}: a label map without probabilities has no ambiguous volume")
    result: dict[str, float] = {}
    for target in targets_of(segmentation.schema, segmentation.regions):
        probability = target.probability(probabilities)
        if probability is not None:
            result[target.name] = ambiguous_volume_ml(probability, segmentation.labels.grid)
    return result


def _window(segmentation: Segmentation) -> _Window:
    labels = segmentation.labels.data
    reach = reach_voxels(segmentation.labels.grid)
    box = bounding_box(labels, margin=reach) or tuple(slice(0, 1 + n) for n in reach)
    return _Window(segmentation, np.ascontiguousarray(labels[box]), box)


def _lesions(window: _Window, target: Target, mask: Mask, least: int) -> tuple[Lesion, ...]:
    bridge, cavity = _tissue_around(window, target.structures, target.region)
    return find_lesions(
        mask,
        window.grid,
        region=target.name,
        start=window.start,
        bridge=bridge,
        cavity=cavity,
        midplane=window.segmentation.midplane,
        least_voxels=least,
    )


def _tissue_around(
    window: _Window, structures: frozenset[Structure], region: Region | None
) -> tuple[Mask | None, Mask | None]:
    """Chords of what enhances may run over necrosis between the arcs of its rim; no chord may run over a cavity."""
    bridge: Mask | None = None
    if region is not None and region.compartment == "enhancing" and region.inside:
        around = frozenset(window.segmentation.regions[region.inside].structures)
        bridge = window.mask_of(around - structures - FLUID)
    cavity = window.mask_of(FLUID - structures)
    return bridge, cavity if cavity.any() else None


def joined_measure(
    segmentation: Segmentation, region: Region, *, gap_mm: float, plane: str | None = None
) -> Callable[[Mask], tuple[Diameters, bool]]:
    """What measures pieces of one lesion together: their diameters, and whether they are measurable.

    Gaps up to ``gap_mm`` join the pieces on a slice, as necrosis joins the arcs of an enhancing rim.

    Args:
        segmentation: that the pieces are part of; what is returned takes their ``(X, Y, Z)`` mask on its grid.
        plane: to measure on; None for the one the grid suggests.
    """
    window = _window(segmentation)
    bridge, cavity = _tissue_around(window, frozenset(region.structures), region)

    def measure(pieces: Mask) -> tuple[Diameters, bool]:
        own = pieces[window.box]
        closed = _closed(own, window.grid, gap_mm) & ~own
        joining = closed if bridge is None else closed | bridge
        found = measure_diameters(own, window.grid, start=window.start, bridge=joining, cavity=cavity, plane=plane)
        return found, is_measurable(found, window.grid.spacing_mm[found.axis])

    return measure


def _closed(mask: Mask, grid: Grid, gap_mm: float) -> Mask:
    """The mask with gaps filled: widened until both edges of such a gap meet, and narrowed again."""
    tight = bounding_box(mask)
    if tight is None:
        return mask
    # Between centres of voxels, half a voxel from the edges; a quarter more, so that rounding does not decide.
    reach_mm = (gap_mm + 1.5 * min(grid.spacing_mm)) / 2
    room = tuple(int(np.ceil(reach_mm / spacing)) + 1 for spacing in grid.spacing_mm)
    inner = np.pad(mask[tight], [(n, n) for n in room])
    wide = ndimage.distance_transform_edt(~inner, sampling=grid.spacing_mm) <= reach_mm
    narrow = ndimage.distance_transform_edt(wide, sampling=grid.spacing_mm) > reach_mm
    result = np.array(mask)
    result[tight] |= narrow[tuple(slice(n, -n) for n in room)]
    return result


def _row(window: _Window, target: Target, mask: Mask, *, lesions: int, intervals: IntervalModel | None) -> RegionVolume:
    segmentation = window.segmentation
    volume_ml = mask_volume_ml(mask, window.grid)
    volume_pv_ml: float | None = None
    ends: tuple[float, float] | None = None
    maps = segmentation.probabilities
    if maps is not None and (probability := target.probability(maps)) is not None:
        volume_pv_ml = partial_volume_ml(probability[window.box], mask, window.grid)
        if intervals is not None and target.name in intervals.scales:
            ends = intervals.interval(target.name, volume_ml, ambiguous_volume_ml(probability, window.grid))
    lacking = target.region.lacks(segmentation.missing) if target.region is not None else ""
    return RegionVolume(
        region=target.name,
        volume_ml=volume_ml,
        volume_pv_ml=volume_pv_ml,
        low_ml=None if ends is None else ends[0],
        high_ml=None if ends is None else ends[1],
        level=None if ends is None or intervals is None else intervals.level,
        lesions=lesions,
        touches_border=window.touches_border(mask),
        note=f"estimate: not assessable without {lacking}" if lacking else "",
    )


def _left_out_note(left_out: dict[str, int], min_lesion_ml: float) -> list[str]:
    counts = ", ".join(f"{count} of {region}" for region, count in left_out.items() if count)
    words = f"components below {min_lesion_ml:g} ml are not counted as lesions ({counts}); they are in the volumes"
    return [words] if counts else []


def _notes(
    segmentation: Segmentation, intervals: IntervalModel | None, rows: list[RegionVolume], *, fits: bool
) -> tuple[list[str], list[str]]:
    """Why volumes have no interval: for every study of this model or without one; and what is so for this study."""
    notes: list[str] = []
    warnings: list[str] = []
    unknown = "volume intervals are not known"
    if segmentation.probabilities is None:
        notes.append(f"{unknown}: the label map comes without probabilities")
    elif intervals is None:
        notes.append(f"{unknown}: the model has no fitted intervals")
    elif not fits:
        warnings.append(f"{unknown}: they were fitted on scans of whole brains that fit together")
    elif segmentation.missing:
        names = ", ".join(sequence.title for sequence in segmentation.missing)
        warnings.append(f"{unknown} without {names}: they were fitted on studies with all sequences")
    elif names := ", ".join(row.region for row in rows if row.level is None and row.is_told):
        notes.append(f"{unknown} for {names}: the model has none fitted")
    if names := ", ".join(row.region for row in rows if row.touches_border):
        warnings.append(f"{names} reaches the edge of the image: what lies beyond is not measured")
    return notes, warnings
