"""Everything measured in one segmentation: the only function of the room most callers need.

All measuring happens in the patient's own grid, inside the box that holds the tumour. Regions that are empty
have a row like any other: volume 0, no lesions, and an interval whose upper end says how much may have been missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.labels import REGION_STRUCTURES, REGIONS, Region, Structure
from brats_seg.core.results import Lesion, Measurements, Probabilities, RegionVolume, Segmentation
from brats_seg.core.study import MRSequence
from brats_seg.core.volume import Grid
from brats_seg.volumetrics.lesions import count_lesions, find_lesions
from brats_seg.volumetrics.uncertainty import IntervalModel, ambiguous_volume_ml
from brats_seg.volumetrics.volumes import (
    Box,
    Mask,
    bounding_box,
    box_touches_border,
    mask_volume_ml,
    partial_volume_ml,
    reach_voxels,
    widen_box,
)

NOTE_WITHOUT_T1CE = "estimate: not assessable without T1CE"
"""Enhancement is a change that only the scan after contrast shows; it decides ET, and what of the rest is core."""

CAVITIES = frozenset({Structure.RC, Structure.CC})
"""What diameters must not cross: RANO measures neither cysts nor resection cavities (Wen 2010)."""

_CORE = REGION_STRUCTURES[Region.TC]


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
        values = self.segmentation.schema.values
        result = np.zeros(self.labels.shape, np.bool_)
        for number, structure in values.items():
            if structure in structures:
                result |= self.labels == number
        return result

    def touches_border(self, mask: Mask) -> bool:
        """Whether a mask in the window reaches the edge of the whole grid."""
        inner = bounding_box(mask)
        if inner is None:
            return False
        x, y, z = (slice(i.start + s, i.stop + s) for i, s in zip(inner, self.start, strict=True))
        return box_touches_border((x, y, z), self.grid.shape)


def measure_segmentation(segmentation: Segmentation, *, intervals: IntervalModel | None = None) -> Measurements:
    """Volumes, intervals, lesions and diameters of one study.

    Rows are WT, TC and ET, then every other structure of the label schema; lesions are those of WT, TC, ET and
    the resection cavity. Without probabilities there is no partial-volume-aware volume; without probabilities or
    without ``intervals``, or for a row that was not fitted, there is no interval. Either is said in the notes.

    Args:
        segmentation: label map in the patient's own space, with probabilities where it was predicted.
        intervals: the model's fitted interval widths, from its card.
    """
    window = _window(segmentation)
    names: list[tuple[str, frozenset[Structure]]] = [(r.abbreviation, REGION_STRUCTURES[r]) for r in REGIONS]
    taken = {name for name, _ in names}
    names += [(s.abbreviation, frozenset({s})) for s in segmentation.schema.structures if s.abbreviation not in taken]
    rows: list[RegionVolume] = []
    lesions: list[Lesion] = []
    for name, structures in names:
        mask = window.mask_of(structures)
        if name in taken or name == Structure.RC.abbreviation:
            found = _lesions(window, name, structures, mask)
            lesions.extend(found)
            count = len(found)
        else:
            count = count_lesions(mask)
        rows.append(_row(window, name, structures, mask, count, intervals))
    return Measurements(
        study_id=segmentation.study_id,
        volumes=tuple(rows),
        lesions=tuple(lesions),
        spacing_mm=window.grid.spacing_mm,
        notes=_notes(segmentation, intervals, rows),
    )


def region_probability(
    probabilities: Probabilities, name: str, structures: frozenset[Structure], schema_structures: frozenset[Structure]
) -> NDArray[np.float32] | None:
    """``(X, Y, Z)`` probability of a region or structure, or None where the three channels do not tell it.

    A structure is told by the difference of two nested channels if it is the only one of the schema there:
    NCR by TC less ET, ED by WT less TC.

    Args:
        probabilities: of WT, TC and ET.
        name: abbreviation of the region or structure.
        structures: what it consists of.
        schema_structures: everything the label schema knows.
    """
    for region in REGIONS:
        if name == region.abbreviation:
            return probabilities.region(region)
    for outer, inner in ((Region.WT, Region.TC), (Region.TC, Region.ET)):
        between = (REGION_STRUCTURES[outer] - REGION_STRUCTURES[inner]) & schema_structures
        if structures == between:
            difference = probabilities.region(outer) - probabilities.region(inner)
            result: NDArray[np.float32] = np.maximum(difference, 0, out=difference)
            return result
    return None


def _window(segmentation: Segmentation) -> _Window:
    labels = segmentation.labels.data
    box = bounding_box(labels)
    if box is None:
        box = (slice(0, 1), slice(0, 1), slice(0, 1))
    box = widen_box(box, labels.shape, reach_voxels(segmentation.labels.grid))
    return _Window(segmentation, np.ascontiguousarray(labels[box]), box)


def _lesions(window: _Window, name: str, structures: frozenset[Structure], mask: Mask) -> tuple[Lesion, ...]:
    """Lesions of one region; chords of ET may run over necrosis between the arcs of its rim, never over a cavity."""
    bridging = (_CORE - structures - CAVITIES) if name == Region.ET.abbreviation else frozenset[Structure]()
    cavity = window.mask_of(CAVITIES - structures)
    return find_lesions(
        mask,
        window.grid,
        region=name,
        start=window.start,
        bridge=window.mask_of(bridging) if bridging else None,
        cavity=cavity if cavity.any() else None,
    )


def _row(
    window: _Window,
    name: str,
    structures: frozenset[Structure],
    mask: Mask,
    lesions: int,
    intervals: IntervalModel | None,
) -> RegionVolume:
    segmentation = window.segmentation
    known = frozenset(segmentation.schema.structures)
    volume_ml = mask_volume_ml(mask, window.grid)
    volume_pv_ml: float | None = None
    ends: tuple[float, float] | None = None
    if segmentation.probabilities is not None and structures & known:
        probability = region_probability(segmentation.probabilities, name, structures, known)
        if probability is not None:
            volume_pv_ml = partial_volume_ml(probability[window.box], mask, window.grid)
            if intervals is not None and name in intervals.scales:
                ends = intervals.interval(name, volume_ml, ambiguous_volume_ml(probability, window.grid))
    return RegionVolume(
        region=name,
        volume_ml=volume_ml,
        volume_pv_ml=volume_pv_ml,
        low_ml=None if ends is None else ends[0],
        high_ml=None if ends is None else ends[1],
        level=None if ends is None or intervals is None else intervals.level,
        lesions=lesions,
        touches_border=window.touches_border(mask),
        note=_row_note(segmentation, structures & known),
    )


def _row_note(segmentation: Segmentation, structures: frozenset[Structure]) -> str:
    if not structures:
        return f"not part of the label schema {segmentation.schema.name}"
    core_row = structures <= _CORE
    return NOTE_WITHOUT_T1CE if core_row and MRSequence.T1CE in segmentation.missing else ""


def _notes(segmentation: Segmentation, intervals: IntervalModel | None, rows: list[RegionVolume]) -> tuple[str, ...]:
    notes: list[str] = []
    if segmentation.probabilities is None:
        notes.append("volume intervals are not known: the label map comes without probabilities")
    elif intervals is None:
        notes.append("volume intervals are not known: the model has no fitted intervals")
    else:
        without = [row.region for row in rows if row.level is None and not row.note.startswith("not part of")]
        if without:
            notes.append(f"volume intervals are not known for {', '.join(without)}: the model has none fitted")
        if segmentation.missing:
            names = ", ".join(sequence.title for sequence in segmentation.missing)
            notes.append(f"volume intervals were fitted on studies with all sequences; this one lacks {names}")
    if any(row.touches_border for row in rows):
        names = ", ".join(row.region for row in rows if row.touches_border)
        notes.append(f"{names} reaches the edge of the image: what lies beyond is not measured")
    return tuple(notes)
