"""The border of a lesion in two matched images: where it lies, and by how much it moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from brats_seg.core.grid import Floats, Mask
from brats_seg.track.boundary_shift.frame import Frame, signed_depth
from brats_seg.track.boundary_shift.match import Match, half_moved_mm, smooth_depth

LOCAL_ROUNDS = 1
"""How often the edge is fitted and the border moved to its half height, patch by patch."""
WHOLE_ROUNDS = 2
"""How often it is then moved as a whole."""
LOCAL_MM = 1.5
"""Width (sigma) of the patches in which it is moved."""
LEAST_LAYER = 0.002
"""Against division by nothing far from the border, 1/mm."""
NEAR_MM = 1.2
"""Closer to the border than this the signed distance keeps its sub-voxel position; farther out it is computed anew."""
LARGEST_STEP_MM = 1.0
"""By which it is moved at most in one round."""
EDGES_MM = np.arange(0.4, 2.6, 0.1)
"""Widths (sigma) of a blurred edge that are tried."""
GAP_MM = 0.75
"""Room between the band and the zones on both sides of it that tell the difference where no border is; without it
these see the foot of the edge, and take a few percent of the change away."""
BASE_MM = 2.0
"""Width of these zones."""
SAME_MM = 0.3
"""Half the displacement of the border that the band holds as it is."""
LEAST_BASE = 40
"""Voxels such a zone must have; a smaller lesion's inmost part is taken instead."""
RIDGE = 0.02
"""Weight of the mean contrast against the local one, in squares of the edge's height."""
LEAST_CONTRAST = 0.1
"""Local contrast counts as no less than this share of the mean."""
SHRINKAGE = 0.3
"""Weight of the mean displacement in every patch, as a share of the mean contrast."""
BAND_MM, SEARCH_MM, FITTED_MM = 1.25, 2.0, 3.0
"""Half widths of the band in which the change is measured, of that in which the border is looked for (masks may err so
far) and of the tissue that the edge is fitted to, for voxels of 1 mm; thicker slices widen all, and large changes the
first. These and the next two were chosen on phantom lesions of 10 to 30 mm, where the error hardly depends on them."""
LEVEL_MM, PATCH_MM = 2.0, 3.0
"""Widths (sigma) of the kernel in which the local contrast is found, and of the patches that share one displacement."""
CONTRAST_ERROR = 0.25
"""Standard deviation of the contrast as a share of it, over one patch of 4 pi :data:`LEVEL_MM` ^2 of border; chosen so
that intervals of phantom lesions hold the truth as often as they should."""


@dataclass(frozen=True)
class Border:
    """What happened at the border.

    Attributes:
        change_mm3: volume gained from the first visit to the second.
        area_mm2: of the border within brain.
        contrast: mean step of brightness from surround to lesion; the weaker one of a rim.
        level: change of the lesion's brightness against the surround's.
        seen: share of the border within brain.
        moved_mm: mean displacement of the border; of a rim's two the larger.
        rim_mm: thickness of a rim on average; None for a solid lesion.
    """

    change_mm3: float
    deviation_mm3: float
    volume_mm3: float
    area_mm2: float
    contrast: float
    level: float
    seen: float
    moved_mm: float
    rim_mm: float | None = None


@dataclass(frozen=True, eq=False)
class Edge:
    """A step of brightness across the border, blurred by a Gaussian.

    Attributes:
        depth: signed distance from its half height, mm, positive inside.
        outside: brightness of the surround at the border.
        band: voxels that may hold part of it.
    """

    depth: Floats
    sigma_mm: float
    outside: float
    contrast: float
    band: Mask

    @property
    def share(self) -> Floats:
        """Share of lesion in each voxel, 0 to 1."""
        result: Floats = special.ndtr(self.depth / self.sigma_mm)
        return result

    @property
    def layer(self) -> Floats:
        """Slope of the share, 1/mm: summed over voxels, times their volume, it is the area."""
        relative = self.depth / self.sigma_mm
        result: Floats = np.exp(-0.5 * relative**2) / (self.sigma_mm * np.sqrt(2 * np.pi))
        return result


def find_border(frame: Frame, matched: Match) -> Border:
    """Find the border in the mean image, then its displacement in the difference."""
    search_mm, reach_mm = SEARCH_MM + frame.thick_mm, FITTED_MM + frame.thick_mm
    depth = matched.depth
    for _ in range(LOCAL_ROUNDS):
        edge = _fit_edge(matched, depth, search_mm, reach_mm)
        depth = move_border(depth, _local_excess_mm(matched, edge, frame.spacing_mm), search_mm, frame.spacing_mm)
    moved_mm = half_moved_mm((frame.depth_first, frame.depth_second), np.abs(depth) < 1.0)
    band_mm = BAND_MM + frame.thick_mm + max(moved_mm - SAME_MM, 0.0)
    for _ in range(WHOLE_ROUNDS):
        edge = _fit_edge(matched, depth, band_mm, reach_mm)
        depth = depth + float(np.clip(excess_mm(matched, edge), -LARGEST_STEP_MM, LARGEST_STEP_MM))
    edge = _fit_edge(matched, depth, band_mm, reach_mm)
    voxel = frame.spacing_mm**3
    layer = np.where(matched.usable, edge.layer, 0.0)
    weights = shift_weights(matched, edge, layer, reach_mm=reach_mm, spacing_mm=frame.spacing_mm)
    weights, level = _without_baseline(weights, matched, edge, band_mm + GAP_MM)
    change = float((weights * matched.difference).sum())
    area = area_mm2(edge.depth, layer, frame.spacing_mm)
    patches = max(area / (4 * np.pi * LEVEL_MM**2), 1.0)
    deviation = np.hypot(matched.deviation(weights), abs(change) * CONTRAST_ERROR / np.sqrt(patches))
    return Border(
        change_mm3=change,
        deviation_mm3=float(deviation),
        volume_mm3=(float(edge.share.sum()) + excess_mm(matched, edge) * float(layer.sum())) * voxel,
        area_mm2=area,
        contrast=edge.contrast,
        level=level,
        seen=float(layer.sum()) / max(float(edge.layer.sum()), 1e-12),
        moved_mm=change / max(area, 1.0),
    )


def _local_excess_mm(matched: Match, edge: Edge, spacing_mm: float) -> Floats:
    """How far the image's half height lies outside the border at each place, at most :data:`LARGEST_STEP_MM`."""
    unexplained = np.where(edge.band, matched.mean - edge.outside - edge.contrast * edge.share, 0.0)
    layer = blur(np.where(edge.band, edge.layer, 0.0), LOCAL_MM / spacing_mm)
    if abs(edge.contrast) < 1e-12:
        return np.zeros_like(layer)
    excess = blur(unexplained, LOCAL_MM / spacing_mm) / (edge.contrast * (layer + LEAST_LAYER))
    result: Floats = np.clip(excess, -LARGEST_STEP_MM, LARGEST_STEP_MM)
    return result


def move_border(depth: Floats, step_mm: Floats, search_mm: float, spacing_mm: float) -> Floats:
    """The signed distance after its border moved outwards by ``step_mm``, smooth and again a distance."""
    new = depth + np.where(np.abs(depth) < search_mm + 3, step_mm, 0.0)
    if not (new > 0).any():
        return depth
    true = signed_depth(new > 0, spacing_mm)
    new = np.where(np.abs(new) < NEAR_MM, new, np.sign(new) * np.maximum(np.abs(true), NEAR_MM))
    return smooth_depth(new, 0.5 / spacing_mm)


def _fit_edge(matched: Match, depth: Floats, band_mm: float, reach_mm: float) -> Edge:
    """The blur, and the levels on both sides, that explain the mean image near the border best."""
    near = matched.usable & (np.abs(depth) < reach_mm)
    distance, values = depth[near], matched.mean[near]

    def shares(sigma_mm: float) -> Floats:
        inside = special.ndtr(distance / sigma_mm)
        return np.stack([inside, 1 - inside], -1)

    sigma_mm, (lesion, surround) = fit_levels(values, shares)
    band = matched.usable & (np.abs(depth) < band_mm)
    return Edge(depth, sigma_mm, float(surround), float(lesion - surround), band)


def fit_levels(values: Floats, shares: Callable[[float], Floats]) -> tuple[float, NDArray[np.floating[Any]]]:
    """The blur and the level of each part that explain an image best, by least squares.

    Args:
        values: ``(N,)`` brightness.
        shares: of each part in each value, ``(N, parts)``, for a blur in mm.

    Returns:
        Blur in mm, one of :data:`EDGES_MM`, and the levels ``(parts,)``.
    """
    fits: list[tuple[float, float, NDArray[np.floating[Any]]]] = []
    for sigma_mm in map(float, EDGES_MM):
        design = shares(sigma_mm)
        levels = np.linalg.lstsq(design.T @ design, design.T @ values, rcond=None)[0]
        fits.append((float(((values - design @ levels) ** 2).sum()), sigma_mm, levels))
    _, sigma_mm, levels = min(fits, key=lambda fit: fit[0])
    return sigma_mm, levels


def area_mm2(depth: Floats, layer: Floats, spacing_mm: float) -> float:
    """Area of a border, from its signed distance and the slope of its edge (1/mm)."""
    slope = np.linalg.norm(np.gradient(depth, spacing_mm), axis=0)  # a smoothed distance is not quite one
    return float((layer * slope).sum()) * spacing_mm**3


def excess_mm(matched: Match, edge: Edge) -> float:
    """How far, on average, the image's half height lies outside the border."""
    unexplained = (matched.mean - edge.outside - edge.contrast * edge.share)[edge.band].sum()
    height = edge.contrast * edge.layer[edge.band].sum()
    return float(unexplained / height) if abs(height) > 1e-12 else 0.0


def shift_weights(matched: Match, edge: Edge, layer: Floats, *, reach_mm: float, spacing_mm: float) -> Floats:
    """``sum(weights * difference)`` is the volume in mm^3 by which the border moved outwards.

    In each patch the difference, summed across the band, over the contrast, summed over the surface, is the
    displacement; it is drawn towards the mean displacement where the contrast is weak. Summed over the surface it
    is the volume. All that is linear in the difference, and so is read as one weight for every voxel.
    """
    contrast = local_contrast(matched, edge, reach_mm, LEVEL_MM / spacing_mm)
    patch = PATCH_MM / spacing_mm
    in_band = np.where(edge.band, layer, 0.0)
    mean_weight = SHRINKAGE * edge.contrast * blur(layer, patch)
    across = blur(contrast * in_band, patch) + mean_weight
    across = np.where(np.abs(across) < 1e-9, 1e-9 * (1.0 if edge.contrast >= 0 else -1.0), across)
    local = np.where(edge.band, blur(layer / across, patch), 0.0)
    total = float((contrast * in_band).sum())
    mean = float((layer * mean_weight / across).sum()) / (total if abs(total) > 1e-12 else 1e-12)
    result: Floats = (local + np.where(edge.band, mean, 0.0)) * spacing_mm**3
    return result


def local_contrast(matched: Match, edge: Edge, reach_mm: float, sigma: float) -> Floats:
    """Height of the step at each place, by local regression of the mean image on the share of lesion."""
    near = (matched.usable & (np.abs(edge.depth) < reach_mm)).astype(np.float64)
    share = edge.share
    count = blur(near, sigma) + 1e-6
    mean_share, mean_image = blur(near * share, sigma) / count, blur(near * matched.mean, sigma) / count
    spread = blur(near * share * share, sigma) / count - mean_share**2
    joint = blur(near * share * matched.mean, sigma) / count - mean_share * mean_image
    contrast = (joint + RIDGE * edge.contrast) / (spread + RIDGE)
    relative = contrast / edge.contrast if abs(edge.contrast) > 1e-12 else np.ones_like(contrast)
    result: Floats = np.maximum(relative, LEAST_CONTRAST) * edge.contrast
    return result


def _without_baseline(weights: Floats, matched: Match, edge: Edge, clear_mm: float) -> tuple[Floats, float]:
    """Weights that do not see a different brightness of lesion or surround, and how different the lesion's is."""
    outer = clear_mm + BASE_MM
    lesion = matched.usable & (edge.depth > clear_mm) & (edge.depth < outer)
    if lesion.sum() < LEAST_BASE and (edge.depth > 0).any():
        lesion = matched.usable & (edge.depth > np.percentile(edge.depth[edge.depth > 0], 60))
    surround = matched.usable & (edge.depth < -clear_mm) & (edge.depth > -outer)
    result, levels = weights.copy(), []
    for zone, share in ((lesion, edge.share), (surround, 1 - edge.share)):
        count = max(int(zone.sum()), 1)
        result = result - np.where(zone, float((weights * share).sum()) / count, 0.0)
        levels.append(float(matched.difference[zone].sum()) / count)
    return result, levels[0] - levels[1]


def blur(values: Floats, sigma: float) -> Floats:
    """Gaussian filter; nothing lies beyond the image."""
    result: Floats = ndimage.gaussian_filter(values, sigma, mode="constant", truncate=3.0)
    return result
