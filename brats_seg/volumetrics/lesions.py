"""Lesions of a region: connected components with size, place, diameters and whether RANO can measure them.

Voxels that touch by a face, an edge or a corner (26-neighbourhood) are one lesion, as in the BraTS evaluation.
Every component counts, down to :data:`MINIMUM_LESION_VOXELS`: what is too small to believe is removed by
post-processing, which records it, and not silently by a measurement. An empty mask has no lesions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Grid, Mask
from brats_seg.core.visit import Diameters, Lesion, Midplane
from brats_seg.imaging.boxes import Box, bounding_box, widen_box
from brats_seg.volumetrics.diameters import measure_diameters

Ends = tuple[tuple[float, float, float], tuple[float, float, float]]

MINIMUM_LESION_VOXELS = 1
"""Smallest component that counts as a lesion: all of them, so that the count agrees with the label map written."""

CRUMB_VOXELS = 8
"""Pieces up to here are measured once a shape: maps with thousands of specks repeat a few. Nothing lies inside them
that could join or part their ends."""

_ROUNDING_MM = 1e-6
_MIDLINE_MM = 3.0
"""Nearer to the midplane than this, which is known no better, tissue counts in part for the other side."""
_OTHER_SIDE = 0.15
"""Share of a lesion on the other side from which it lies on both."""


MEASURABLE_MM, MEASURABLE_SLICES = 10.0, 2
THICK_SLICE_MM, THICKNESSES = 5.0, 2.0
"""RANO-HGG: Wen 2010, J Clin Oncol 28:1963, doi:10.1200/JCO.2009.26.3541 (at least 10 x 10 mm on two or more
axial slices, preferably at most 5 mm apart; with thicker slices at least twice the thickness). RANO 2.0 keeps
10 x 10 mm: Wen 2023, J Clin Oncol 41:5187, doi:10.1200/JCO.23.01059. Limits are reached with >=, not >."""


def is_measurable(diameters: Diameters, slice_thickness_mm: float) -> bool:
    """Whether both diameters and the number of slices reach the limits of RANO.

    Args:
        slice_thickness_mm: spacing along ``diameters.axis``.
    """
    least_mm = MEASURABLE_MM
    if slice_thickness_mm > THICK_SLICE_MM + _ROUNDING_MM:
        least_mm = max(least_mm, THICKNESSES * slice_thickness_mm)
    reached = min(diameters.long_mm, diameters.short_mm) >= least_mm - _ROUNDING_MM
    return reached and diameters.slices >= MEASURABLE_SLICES


_Shape = tuple[tuple[int, ...], bytes]


def _crumb(mask: Mask, grid: Grid, start: tuple[int, int, int], known: dict[_Shape, Diameters]) -> Diameters:
    """Diameters of one of the smallest pieces; ``known`` holds every shape as measured at the grid's first voxel."""
    key = (mask.shape, mask.tobytes())
    if key not in known:
        known[key] = measure_diameters(mask, grid)
    found = known[key]
    step = grid.to_world(start) - grid.to_world((0, 0, 0))
    return replace(
        found,
        slice_index=found.slice_index + start[found.axis],
        long_ends_mm=_moved(found.long_ends_mm, step),
        short_ends_mm=_moved(found.short_ends_mm, step),
    )


def _moved(ends: Ends, step: NDArray[np.float64]) -> Ends:
    (a, b, c), (d, e, f) = (np.array(ends) + step).tolist()
    return (a, b, c), (d, e, f)


def count_lesions(mask: Mask, least_voxels: int = MINIMUM_LESION_VOXELS) -> int:
    """Number of connected components (26-neighbourhood) of a mask ``(X, Y, Z)`` with so many voxels at least."""
    box = bounding_box(mask)
    if box is None:
        return 0
    labels = _components(mask[box])
    return int(np.count_nonzero(np.bincount(labels.ravel())[1:] >= least_voxels))


def find_lesions(
    mask: Mask,
    grid: Grid,
    *,
    region: str,
    start: tuple[int, int, int] = (0, 0, 0),
    bridge: Mask | None = None,
    cavity: Mask | None = None,
    midplane: Midplane | None = None,
    least_voxels: int = MINIMUM_LESION_VOXELS,
) -> tuple[Lesion, ...]:
    """Every lesion of a region, largest first.

    Args:
        mask: the region, ``(X, Y, Z)`` bool: the whole grid or a part of it.
        start: index in the grid of the first voxel of ``mask``.
        bridge: same shape; see :func:`~brats_seg.volumetrics.diameters.measure_diameters`.
        cavity: same shape; what diameters must not cross.
        midplane: of the brain, for the side each lesion lies on.
    """
    box = bounding_box(mask, margin=1)
    if box is None:
        return ()
    labels = _components(mask[box])
    statistics = cc3d.statistics(labels)
    bridge, cavity = (None if tissue is None else tissue[box] for tissue in (bridge, cavity))
    first = np.array(start, np.intp) + [side.start for side in box]
    counts = statistics["voxel_counts"]
    centroids = grid.to_world(np.nan_to_num(statistics["centroids"]) + first)
    # Equally large lesions are ordered by place in the scanner, not by how the array is stored.
    order = sorted(
        (k for k in range(1, len(counts)) if counts[k] >= least_voxels),
        key=lambda k: (-int(counts[k]), *(-centroids[k]).round(3)),
    )
    shapes: dict[_Shape, Diameters] = {}
    rows: list[Lesion] = []
    for number, k in enumerate(order, start=1):
        part: Box = statistics["bounding_boxes"][k]
        around = widen_box(part, labels.shape, 1)
        own, corner = labels[around] == k, _corners(around, first)[0]
        if counts[k] <= CRUMB_VOXELS:
            diameters = _crumb(own, grid, corner, shapes)
        else:
            inner, hollow = (None if tissue is None else tissue[around] for tissue in (bridge, cavity))
            diameters = measure_diameters(own, grid, start=corner, bridge=inner, cavity=hollow)
        x, y, z = centroids[k].tolist()
        low, high = _corners(part, first)
        rows.append(
            Lesion(
                region=region,
                number=number,
                volume_ml=float(counts[k]) * grid.voxel_ml,
                centroid_mm=(x, y, z),
                box=(low, high),
                diameters=diameters,
                measurable=is_measurable(diameters, grid.spacing_mm[diameters.axis]),
                touches_border=min(low) == 0 or any(a == n - 1 for a, n in zip(high, grid.shape, strict=True)),
                side=side_of(own, grid, midplane, start=corner),
            )
        )
    return tuple(rows)


def component_numbers(mask: Mask, lesions: Sequence[Lesion]) -> NDArray[np.int32]:
    """Each voxel's lesion number, as in the measured table; 0 outside.

    Args:
        lesions: every component (26-neighbourhood) of the mask.
    """
    result = np.zeros(mask.shape, np.int32)
    if not lesions:
        return result
    start, last = box_of(lesions)
    x, y, z = (slice(int(a), int(b) + 1) for a, b in zip(start, last, strict=True))
    labels: NDArray[Any] = _components(mask[x, y, z])
    statistics = cc3d.statistics(labels)
    by_box: dict[tuple[int, ...], list[int]] = {}
    for component, box in enumerate(statistics["bounding_boxes"]):
        if component:
            by_box.setdefault(tuple(n for side in box for n in (side.start, side.stop - 1)), []).append(component)
    numbers = np.zeros(len(statistics["voxel_counts"]), np.int32)
    for lesion in lesions:
        low, high = np.array(lesion.box) - start
        same = by_box[low[0], high[0], low[1], high[1], low[2], high[2]]
        # Components with one box between them come largest first, as lesions do.
        same.sort(key=lambda component: -int(statistics["voxel_counts"][component]))
        numbers[same.pop(0)] = lesion.number
    result[x, y, z] = numbers[labels]
    return result


def box_of(lesions: Sequence[Lesion]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """First and last voxel of everything."""
    low = np.min([lesion.box[0] for lesion in lesions], axis=0)
    high = np.max([lesion.box[1] for lesion in lesions], axis=0)
    return low, high


def side_of(mask: Mask, grid: Grid, midplane: Midplane | None, *, start: tuple[int, int, int] = (0, 0, 0)) -> str:
    """``left``, ``right`` or ``both``, in the patient's terms; empty without a midplane or a voxel.

    Args:
        mask: one lesion, ``(X, Y, Z)``: the whole grid or a part of it.
        start: index in the grid of the first voxel of ``mask``.
    """
    if midplane is None or not mask.any():
        return ""
    distance_mm = midplane.right_of_mm(grid.to_world(np.argwhere(mask) + start))
    right = float(np.clip(0.5 + distance_mm / (2 * _MIDLINE_MM), 0.0, 1.0).mean())
    if right < _OTHER_SIDE:
        return "left"
    return "right" if right > 1 - _OTHER_SIDE else "both"


def _components(mask: Mask) -> NDArray[np.integer[Any]]:
    """Numbered 26-connected components. The copy is for cc3d, which takes no read-only views."""
    labels: NDArray[np.integer[Any]] = cc3d.connected_components(np.array(mask, order="C"), connectivity=26)
    return labels


def _corners(part: Box, first: NDArray[np.intp]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """First and last voxel of a box in the whole grid."""
    x, y, z = (int(side.start + offset) for side, offset in zip(part, first, strict=True))
    dx, dy, dz = (int(side.stop - side.start - 1) for side in part)
    return (x, y, z), (x + dx, y + dy, z + dz)
