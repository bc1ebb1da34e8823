"""How far apart the surfaces of two masks lie.

One expensive function for each idea of a surface, several cheap readers of its result:

* :func:`voxel_surface_distances`: the surface is the mask's outermost voxels, all of equal weight.
* :func:`area_surface_distances`: the surface runs between voxels and every piece weighs as much as its
  area (Nikolov et al., J Med Internet Res 2021;23:e26151), as in the code of the BraTS 2023 challenge.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from brats_seg.core.grid import Floats, Mask
from brats_seg.evaluate.overlap import BRATS_2023, EmptyMaskPolicy, check_shapes

Spacing = tuple[float, float, float]

CORNERS = tuple((x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1))
"""Voxels of a 2x2x2 neighbourhood; voxel ``i`` is bit ``i`` of its code."""
_TRIANGLES = Path(__file__).with_name("surfels.csv")
"""By code, the area vectors in units of voxels of the triangles between the eight voxels (marching cubes: Lorensen and
Cline, SIGGRAPH 1987), derived from geometry and held against it by a test."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Every surface element's distance to the other surface.

    Attributes:
        from_prediction_mm: ``(P,)`` for each element of the prediction's surface; infinite if the reference is empty.
        from_reference_mm: ``(R,)`` for each element of the reference's surface; infinite if the prediction is empty.
        prediction_weights: ``(P,)`` area in mm2, or 1 for voxels.
        reference_weights: ``(R,)`` the same for the reference.
    """

    from_prediction_mm: Floats
    from_reference_mm: Floats
    prediction_weights: Floats
    reference_weights: Floats

    @property
    def both_empty(self) -> bool:
        """Whether there is no surface at all."""
        return self.from_prediction_mm.size == 0 and self.from_reference_mm.size == 0

    @property
    def one_empty(self) -> bool:
        """Whether exactly one surface is missing."""
        return (self.from_prediction_mm.size == 0) != (self.from_reference_mm.size == 0)


def voxel_surface_distances(prediction: Mask, reference: Mask, spacing_mm: Spacing) -> SurfaceDistances:
    """Distances between the outermost voxels of two masks.

    The surface of a mask is the mask without its binary erosion by the six face neighbours; voxels at the
    edge of the image belong to it.

    Args:
        prediction: ``(X, Y, Z)`` bool.
        reference: the same shape.
        spacing_mm: distance of voxel centres along each array axis.

    Raises:
        InputError: if the shapes differ.
    """
    check_shapes(prediction, reference)
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) for mask in (prediction, reference)]
    return _distances(points[0], points[1], np.ones(len(points[0])), np.ones(len(points[1])), spacing_mm)


def area_surface_distances(prediction: Mask, reference: Mask, spacing_mm: Spacing) -> SurfaceDistances:
    """Distances between the corners of the voxel grid that two surfaces pass, weighted with their area.

    A surface passes a corner where the 2x2x2 voxels around it are neither all inside nor all outside.
    The weight is the area of the surface between those voxels (:func:`surfel_areas_mm2`). Arguments and errors as for
    :func:`voxel_surface_distances`.
    """
    check_shapes(prediction, reference)
    areas = surfel_areas_mm2(spacing_mm)
    points, weights = [], []
    for mask in (prediction, reference):
        codes = neighbour_codes(mask)
        found = np.argwhere((codes != 0) & (codes != 255))
        points.append(found)
        weights.append(areas[codes[tuple(found.T)]])
    return _distances(points[0], points[1], weights[0], weights[1], spacing_mm)


def neighbour_codes(mask: Mask) -> NDArray[np.uint8]:
    """Which of the eight voxels around each corner are inside, as a code of eight bits.

    Args:
        mask: ``(X, Y, Z)`` bool. What lies outside the array counts as outside the mask.

    Returns:
        ``(X + 1, Y + 1, Z + 1)``; corner ``(i, j, k)`` lies at voxel coordinates ``(i, j, k) - 0.5``.
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    x, y, z = (n + 1 for n in mask.shape)
    codes = np.zeros((x, y, z), np.uint8)
    for bit, (i, j, k) in enumerate(CORNERS):
        codes |= padded[i : i + x, j : j + y, k : k + z] << np.uint8(bit)
    return codes


@cache
def surfel_areas_mm2(spacing_mm: Spacing) -> Floats:
    """Area of the surface for each of the 256 codes of :func:`neighbour_codes`: ``(256,)`` mm2, read-only.

    Args:
        spacing_mm: distance of voxel centres along each array axis.
    """
    x, y, z = spacing_mm
    codes, *vectors = np.loadtxt(_TRIANGLES, delimiter=",", skiprows=1, unpack=True)
    sizes = np.linalg.norm(np.stack(vectors, axis=1) * (y * z, x * z, x * y), axis=1)
    areas = np.bincount(codes.astype(np.int64), weights=sizes, minlength=256)
    areas.setflags(write=False)
    return areas.astype(np.float64, copy=False)


def hd95_mm(distances: SurfaceDistances, *, policy: EmptyMaskPolicy = BRATS_2023) -> float:
    """Larger of the two directed 95th percentiles, every surface element counting the same.

    Meant for :func:`voxel_surface_distances`. Percentiles are interpolated linearly between elements.
    """
    empty = _empty_distance(distances, policy)
    if empty is not None:
        return empty
    directed = (distances.from_prediction_mm, distances.from_reference_mm)
    return float(max(np.percentile(values, 95) for values in directed))


def hd95_brats2023_mm(distances: SurfaceDistances, *, policy: EmptyMaskPolicy = BRATS_2023) -> float:
    """Larger of the two directed 95th percentiles by area, as in the code of the BraTS 2023 challenge.

    Meant for :func:`area_surface_distances`. A directed percentile is the smallest distance within which at
    least 95 % of the surface's area lies; nothing is interpolated.
    """
    empty = _empty_distance(distances, policy)
    if empty is not None:
        return empty
    return max(
        _weighted_quantile(distances.from_prediction_mm, distances.prediction_weights, 0.95),
        _weighted_quantile(distances.from_reference_mm, distances.reference_weights, 0.95),
    )


def normalised_surface_distance(
    distances: SurfaceDistances, *, tolerance_mm: float = 1.0, policy: EmptyMaskPolicy = BRATS_2023
) -> float:
    """Share of both surfaces that lies within a tolerance of the other, 0 to 1 ("surface Dice", Nikolov 2021)."""
    if distances.both_empty:
        return policy.overlap_both_empty
    if distances.one_empty:
        return policy.overlap_one_empty
    within = distances.prediction_weights[distances.from_prediction_mm <= tolerance_mm].sum()
    within += distances.reference_weights[distances.from_reference_mm <= tolerance_mm].sum()
    return float(within / (distances.prediction_weights.sum() + distances.reference_weights.sum()))


def average_surface_distance_mm(distances: SurfaceDistances, *, policy: EmptyMaskPolicy = BRATS_2023) -> float:
    """Mean distance over both surfaces together, weighted as they are (symmetric average surface distance)."""
    empty = _empty_distance(distances, policy)
    if empty is not None:
        return empty
    total = distances.from_prediction_mm @ distances.prediction_weights
    total += distances.from_reference_mm @ distances.reference_weights
    return float(total / (distances.prediction_weights.sum() + distances.reference_weights.sum()))


def _distances(
    prediction: NDArray[np.int64],
    reference: NDArray[np.int64],
    weights_p: Floats,
    weights_r: Floats,
    spacing_mm: Spacing,
) -> SurfaceDistances:
    """Nearest neighbours in both directions, points ``(N, 3)`` in voxels."""
    scaled = [points.astype(np.float64) * np.asarray(spacing_mm) for points in (prediction, reference)]
    return SurfaceDistances(_nearest(scaled[0], scaled[1]), _nearest(scaled[1], scaled[0]), weights_p, weights_r)


def _nearest(points: Floats, targets: Floats) -> Floats:
    """Distance of every point to the nearest target; infinite without targets."""
    if len(points) == 0 or len(targets) == 0:
        return np.full(len(points), np.inf)
    # A surface has far fewer points than its bounding box has voxels: a tree beats a distance transform.
    found: Floats = cKDTree(targets, compact_nodes=False, balanced_tree=False).query(points)[0]
    return found


def _weighted_quantile(values: Floats, weights: Floats, share: float) -> float:
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    index = int(np.searchsorted(cumulative / cumulative[-1], share))
    return float(values[order[min(index, len(values) - 1)]])


def _empty_distance(distances: SurfaceDistances, policy: EmptyMaskPolicy) -> float | None:
    if distances.both_empty:
        return policy.distance_both_empty_mm
    return policy.distance_one_empty_mm if distances.one_empty else None
