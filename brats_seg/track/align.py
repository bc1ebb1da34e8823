"""Where one visit's head lies in another visit's: rigid, by the brain alone, and the same in both directions.

The two scans are registered both ways by mutual information, each time without the tumour of either visit, and the
mean of the first transform and the inverse of the second is refined half-way between the visits
(:mod:`brats_seg.imaging.refine`). Swapping the visits therefore inverts the result, and neither visit is blurred alone.
Volumes are never measured through an alignment: it matches lesions and lays pictures on each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Grid, Mask, Volume, apply_affine, box_corners, grid_between
from brats_seg.core.scans import RigidMotion
from brats_seg.core.study import MRSequence
from brats_seg.imaging.boxes import bounding_box, box_or_all, widened
from brats_seg.imaging.brain import brain_mask, check_skull_stripped, head_mask
from brats_seg.imaging.refine import prepare_side, refine, rigid_power
from brats_seg.imaging.register import RegistrationConfig, check_registration, register_rigid, resample, rotation_deg
from brats_seg.imaging.similarity import local_correlation, mutual_information

TUMOUR_MARGIN_MM = 3.0
"""The tumour is left out with this margin: what it pushes aside moves with it."""

MAX_UNCERTAINTY_MM = 1.0
"""An alignment is refused beyond. Measured on real studies moved by known motions: below 0.1 mm."""

COARSE = RegistrationConfig(levels_mm=(6.0, 4.0), samples=(15_000, 20_000), iterations=(100, 60))
"""The refinement starts from two directions' mean at this resolution."""

AGREE_MM = 6.0
"""Two directions that answer further apart contradict each other."""

BRAIN_DEPTH_MM = 14.0
"""Scalp, bone and the fluid under it end about so deep below the surface of a head."""

BRAIN_HEIGHT_MM = 130.0
"""A brain reaches about so far below the top of its head; below are face and neck, which bend."""

MIN_COMPARED_SHARE = 0.3
"""Share of the brain that must be left beside the tumour; with less, the tumour takes part."""

LIKENESS_VOXELS = 5
"""Side of the windows in which fine structure is compared, 10 mm: folds, and not the form of the whole brain."""

SAME_PERSON_FROM = 0.3
"""Likeness from which two scans of one sequence are one person's. Of pairs of people it is 0.06 to 0.16; of one person
0.72 to 0.82 for two real visits, and from 0.63 on for phantoms whose tumour, scanner and contrast changed."""

SAME_PERSON_ACROSS = 0.17
"""The same where the two visits share no sequence: 0.21 to 0.35 for T1CE or T1 against FLAIR of one person."""

PREFERRED = (MRSequence.T1CE, MRSequence.T1, MRSequence.T2, MRSequence.FLAIR)
"""Sequences to align by: mostly of thin slices first."""

COMMON_SPACING_MM = 1.0
COMMON_MARGIN_MM = 5.0


@dataclass(frozen=True, eq=False)
class HeadScan:
    """The scan of a head, as alignment needs it.

    Attributes:
        tumour: ``(X, Y, Z)`` of ``volume``, what may have changed (cavities too); None where nothing is known.

    Raises:
        ValueError: if the mask is of another shape.
    """

    name: str
    sequence: MRSequence
    volume: Volume
    tumour: Mask | None = None

    def __post_init__(self) -> None:
        if self.tumour is not None and self.tumour.shape != self.volume.grid.shape:
            raise ValueError(f"a mask of shape {self.tumour.shape} does not fit {self.volume.grid.describe()}")

    @cached_property
    def head(self) -> Mask:
        """Rough outline of the head or brain, ``(X, Y, Z)``."""
        return head_mask(self.volume)


NO_MOTION = RigidMotion(np.eye(4), math.nan, 1.0, 0.0, 0.0, 0.0, math.nan, SAME_PERSON_FROM, by="nothing")
"""Of a visit to itself, or of label maps that are taken to share one space."""


def align_visits(moving: HeadScan, fixed: HeadScan) -> RigidMotion:
    """Align two visits of one patient.

    Skull-stripped scans are compared inside the brain, outside both tumours; if either scan shows a skull, heads are
    compared, outside both tumours, and for the last step only what lies as deep as a brain.

    Args:
        moving: a later visit; any grid.
        fixed: the visit whose space is kept.

    Returns:
        The transform with its quality, already checked.

    Raises:
        InputError: if the scans show nothing in common, or do not determine one answer.
    """
    same = moving.sequence is fixed.sequence
    config = COARSE if same else RegistrationConfig()
    scans = (moving, fixed)
    with ThreadPoolExecutor(len(scans)) as pool:  # numpy and scipy leave the interpreter to the other
        checks = pool.map(lambda scan: check_skull_stripped(scan.volume, scan.sequence), scans)
        stripped = all(check.is_stripped for check in checks)
        spared = list(pool.map(_spared, scans))
        masks = list(pool.map(partial(_compared, stripped=stripped), scans, spared))
    there = register_rigid(moving.volume, fixed.volume, config=config, moving_mask=spared[0], fixed_mask=spared[1])
    back = register_rigid(fixed.volume, moving.volume, config=config, moving_mask=spared[1], fixed_mask=spared[0])
    points = _head_points(fixed)
    matrix, apart_mm = _start(there, back, points)
    uncertainty = apart_mm / 2
    if same:
        with ThreadPoolExecutor(len(scans)) as pool:
            one, other = pool.map(prepare_side, [scan.volume for scan in scans], masks)
        refined = refine(one, other, matrix)
        if refined is None:
            raise InputError(
                f"visits {moving.name} and {fixed.name} have too little brain in common to be aligned. Are both scans "
                "whole?"
            )
        matrix, uncertainty = refined
    if uncertainty > MAX_UNCERTAINTY_MM:
        raise InputError(
            f"visit {moving.name} cannot be aligned to {fixed.name}: the alignment is uncertain by "
            f"{uncertainty:.1f} mm, {MAX_UNCERTAINTY_MM:g} mm is the most. Are both scans whole, of one patient?"
        )
    centre = points.mean(axis=0)
    information, likeness, overlap = alignment_quality(moving, fixed, matrix, masks)
    shift_mm = float(np.linalg.norm(apply_affine(matrix, centre) - centre))
    found = RigidMotion(
        matrix=matrix,
        mutual_information=information,
        overlap=overlap,
        translation_mm=shift_mm,
        rotation_deg=rotation_deg(matrix),
        uncertainty_mm=uncertainty,
        likeness=likeness,
        likeness_needed=SAME_PERSON_FROM if same else SAME_PERSON_ACROSS,
        by="brain" if stripped else "head",
    )
    names = [f"{scan.sequence.title} of visit {scan.name}" for scan in scans]
    check_registration(found, names[0], names[1], moving.volume.grid, fixed.volume.grid)
    return found


def _inverse(matrix: Affine) -> Affine:
    return np.asarray(np.linalg.inv(matrix), np.float64)


def alignment_quality(
    moving: HeadScan, fixed: HeadScan, matrix: Affine, masks: Sequence[Mask | None] = (None, None)
) -> tuple[float, float, float]:
    """Mutual information in nats and likeness of what is compared, and Dice of the heads in view of both, half-way.

    Args:
        fixed: the visit whose space is kept.
        matrix: 4x4, RAS+ mm of the fixed visit to RAS+ mm of the moving one.
        masks: of the moving and the fixed scan, what is compared; None for the whole head.
    """
    half = rigid_power(matrix, 0.5)
    inverse = _inverse(half)
    around = apply_affine(half, _head_points(fixed))
    grid = grid_between(around.min(axis=0) - 6.0, around.max(axis=0) + 6.0, 2.0)
    with ThreadPoolExecutor(2) as pool:
        views = pool.map(partial(_view, grid=grid), (fixed, moving), masks[::-1], (inverse, half))
        (seen_a, head_a, in_a, data_a), (seen_b, head_b, in_b, data_b) = views
    seen, compared = seen_a & seen_b, in_a & in_b
    sizes = int((head_a & seen).sum()) + int((head_b & seen).sum())
    overlap = 2 * int((head_a & head_b & seen).sum()) / max(sizes, 1)
    information = mutual_information(data_a[compared], data_b[compared], 32)
    return information, local_correlation(data_a, data_b, compared, LIKENESS_VOXELS), overlap


def _view(scan: HeadScan, mask: Mask | None, to_scan: Affine, *, grid: Grid) -> tuple[Mask, Mask, Mask, NDArray[Any]]:
    """On a grid: the field of view, the head, what is compared of it, and the scan."""
    compared = scan.head if mask is None else scan.head & mask
    fields = [np.ones(compared.shape, np.uint8), scan.head.astype(np.uint8), compared.astype(np.uint8)]
    seen, outline, inside = (
        resample(scan.volume.with_data(field), grid, matrix=to_scan, order="nearest").data > 0 for field in fields
    )
    return seen, outline, inside, resample(scan.volume, grid, matrix=to_scan).data


def common_grid(volume: Volume) -> Grid:
    """The space lesions are matched and shown in: RAS, 1 mm, around the head of the first visit.

    It depends on that visit alone, so that a further visit changes nothing of what was matched before.
    """
    ras = volume.to_ras()
    head = head_mask(ras)
    box = box_or_all(head)
    corners = box_corners([side.start for side in box], [side.stop - 1 for side in box])
    world = ras.grid.to_world(corners)
    low, high = world.min(axis=0) - COMMON_MARGIN_MM, world.max(axis=0) + COMMON_MARGIN_MM
    return grid_between(np.round(low), high, COMMON_SPACING_MM)


def rigid_mean(one: Affine, other: Affine) -> Affine:
    """The motion half-way between two: ``one exp(log(one^-1 other) / 2)``.

    Symmetric in both, and the mean of the inverses is the inverse of the mean, because the half-way point of a
    one-parameter subgroup is unchanged by multiplication from either side.
    """
    result: Affine = one @ rigid_power(np.linalg.inv(one) @ other, 0.5)
    return result


def mean_displacement_mm(one: Affine, other: Affine, points_mm: NDArray[np.float64]) -> float:
    """Mean distance of the images of points under two transforms."""
    return float(np.linalg.norm(apply_affine(one - other, points_mm), axis=1).mean())


def _start(there: RigidMotion, back: RigidMotion, points: NDArray[np.float64]) -> tuple[Affine, float]:
    """Where to refine from, and how far the two directions are apart in mm.

    Their mean, or, where they contradict each other, the one that lays more of the heads on each other: a search that
    lost its way in one direction mostly finds it in the other.
    """
    inverse = _inverse(back.matrix)
    apart_mm = mean_displacement_mm(there.matrix, inverse, points)
    if apart_mm <= AGREE_MM:
        return rigid_mean(there.matrix, inverse), apart_mm
    one, other = ((record.overlap, record.mutual_information) for record in (there, back))
    return (there.matrix if one > other else inverse), apart_mm


def _spared(scan: HeadScan) -> Mask | None:
    """Everything but the tumour and what lies near it; None without tumour."""
    if scan.tumour is None or not scan.tumour.any():
        return None
    return ~widened(scan.tumour, scan.volume.grid.spacing_mm, TUMOUR_MARGIN_MM)


def _compared(scan: HeadScan, spared: Mask | None, *, stripped: bool) -> Mask:
    """Voxels that are compared at last: the brain without its tumour, or what lies as deep as one in a head."""
    if not stripped:
        return _deep(scan, spared)
    region = brain_mask({scan.sequence: scan.volume})
    if spared is None:
        return region
    left = region & spared
    return left if left.sum() >= MIN_COMPARED_SHARE * region.sum() else region


def _deep(scan: HeadScan, mask: Mask | None) -> Mask:
    """Where a brain lies in a head with skull: deep below the surface, not far below the top, and in ``mask``."""
    head, grid = scan.head, scan.volume.grid
    box = bounding_box(head, margin=1)
    if box is None:
        return head
    deep = np.zeros(head.shape, np.bool_)
    deep[box] = ndimage.distance_transform_edt(head[box], sampling=grid.spacing_mm) >= BRAIN_DEPTH_MM
    voxels = np.argwhere(deep)
    if not len(voxels):
        return head
    heights = grid.to_world(voxels)[:, 2]
    top = float(grid.to_world(np.argwhere(head)[::17])[:, 2].max())
    low_ones = voxels[heights < top - BRAIN_HEIGHT_MM]
    deep[tuple(low_ones.T)] = False
    return deep if mask is None else deep & mask


def _head_points(scan: HeadScan) -> NDArray[np.float64]:
    """Some thousand points of the head in RAS+ mm."""
    voxels = np.argwhere(scan.head)
    step = max(len(voxels) // 5000, 1)
    return scan.volume.grid.to_world(voxels[::step])
