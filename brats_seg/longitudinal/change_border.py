"""The border of a lesion in two matched images: where it lies, and by how much it moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from brats_seg.longitudinal.change_config import ChangeConfig
from brats_seg.longitudinal.change_frame import Frame, signed_depth
from brats_seg.longitudinal.change_match import Match, smooth_depth

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

ROUNDS = 2
"""How often the border is moved to half height."""
LARGEST_STEP_MM = 1.0
"""By which it is moved at most in one round."""
LEVEL_REACH_MM = 6.0
"""Depth of pure tissue that speaks for the level at the border."""
LEAST_LEVEL = 20
"""Voxels of pure lesion there must be; a smaller lesion's inmost part is taken instead."""
LEAST_CONTRAST = 0.15
"""Patches are weighted by their contrast, but by no less than this share of the mean."""
DELTA_MM = 0.7
"""Width (sigma) of the smooth layer that stands for the surface; the sum over it is the area."""


@dataclass(frozen=True)
class Border:
    """What happened at the border.

    Attributes:
        change_mm3: volume gained from the first visit to the second.
        deviation_mm3: its standard deviation.
        volume_mm3: mean volume of both visits.
        area_mm2: of the border within brain.
        contrast: mean step of brightness from surround to lesion.
        seen: share of the border within brain.
    """

    change_mm3: float
    deviation_mm3: float
    volume_mm3: float
    area_mm2: float
    contrast: float
    seen: float


@dataclass(frozen=True)
class _Widths:
    """Widths in mm, for the voxels and masks at hand."""

    band: float
    clear: float
    edge: float


@dataclass(frozen=True, eq=False)
class _Layer:
    """The border's surroundings for one position of the border.

    Attributes:
        surround: brightness of pure surround, continued across the border.
        contrast: lesion minus surround, both continued across the border.
        surface: smooth layer whose sum times the voxel volume is the area in brain, 1/mm.
        weights: ``sum(weights * image difference)`` is the volume in mm^3 by which the border moved.
    """

    surround: Floats
    contrast: Floats
    surface: Floats
    weights: Floats
    displacement_of: _Displacement


@dataclass(frozen=True, eq=False)
class _Displacement:
    """Turns a difference of brightness, integrated across the border, into a displacement in mm."""

    band: Mask
    weight: Floats
    across: Floats
    sigma: float

    def __call__(self, difference: Floats) -> Floats:
        """``(X, Y, Z)`` displacement at each place, mm, outwards."""
        gathered = _blur(np.where(self.band, difference * self.weight, 0.0), self.sigma)
        result: Floats = gathered / self.across
        return result


def find_border(frame: Frame, matched: Match, config: ChangeConfig) -> Border:
    """Move the border to half height of the mean image, then measure its displacement in the difference."""
    widths = _widths(frame, matched.depth, config)
    depth = matched.depth
    for _ in range(ROUNDS):
        layer = _layer(frame, matched, depth, widths, config)
        excess = layer.displacement_of(_excess(matched, layer, depth, widths))
        step = np.clip(excess, -LARGEST_STEP_MM, LARGEST_STEP_MM)
        depth = _moved(depth, step, layer.surface, widths, frame.spacing_mm)
    layer = _layer(frame, matched, depth, widths, config)
    voxel = frame.spacing_mm**3
    change = float((layer.weights * matched.difference).sum())
    excess_mm3 = float((layer.weights * _excess(matched, layer, depth, widths)).sum())
    area = float(layer.surface.sum()) * voxel
    whole = float(_delta(depth).sum()) * voxel
    contrast = float((layer.contrast * layer.surface).sum() / max(layer.surface.sum(), 1e-12))
    patches = max(area / (4 * np.pi * config.level_mm**2), 1.0)
    deviation = np.hypot(matched.deviation(layer.weights), abs(change) * config.contrast_error / np.sqrt(patches))
    return Border(
        change_mm3=change,
        deviation_mm3=float(deviation),
        volume_mm3=float(_step(depth, widths.edge).sum()) * voxel + excess_mm3,
        area_mm2=area,
        contrast=contrast,
        seen=area / max(whole, 1e-12),
    )


def _widths(frame: Frame, depth: Floats, config: ChangeConfig) -> _Widths:
    """Thick slices blur the border, and where the masks differ the band must hold both borders."""
    thick = max(frame.coarsest_mm - 1.0, 0.0)
    apart = np.abs(frame.depth_first - frame.depth_second)[np.abs(depth) < 1.0]
    differ = float(np.percentile(apart, 90)) / 2 if apart.size else 0.0
    return _Widths(
        band=config.band_mm + 0.5 * thick + max(differ - 0.7, 0.0),
        clear=config.clear_mm + 0.4 * thick,
        edge=config.edge_mm + 0.3 * thick,
    )


def _layer(frame: Frame, matched: Match, depth: Floats, widths: _Widths, config: ChangeConfig) -> _Layer:
    reach = widths.clear + LEVEL_REACH_MM
    lesion = frame.brain & (depth > widths.clear) & (depth < reach)
    if lesion.sum() < LEAST_LEVEL and (depth > 0).any():
        lesion = depth > np.percentile(depth[depth > 0], 60)
    around = frame.healthy & (depth < -widths.clear) & (depth > -reach)
    sigma = config.level_mm / frame.spacing_mm
    surround = _continued(matched.mean, around, sigma)
    contrast = _continued(matched.mean, lesion, sigma) - surround
    surface = np.where(frame.brain, _delta(depth), 0.0)
    mean = float((contrast * surface).sum() / max(surface.sum(), 1e-12))
    sign = 1.0 if mean >= 0 else -1.0
    weight = np.maximum(contrast * sign, LEAST_CONTRAST * abs(mean)) * sign
    band = frame.brain & (np.abs(depth) < widths.band)
    patch = config.patch_mm / frame.spacing_mm
    across = _blur(contrast * weight * surface, patch)
    least = 0.02 * mean * mean * _blur(surface, patch) + 1e-12  # where a patch has no contrast at all
    across = np.maximum(across, least)
    displacement = _Displacement(band, weight, across, patch)
    # the sum over the surface of the displacement, read as one weight for every voxel of the difference
    weights = np.where(band, weight * _blur(surface / across, patch), 0.0) * frame.spacing_mm**3
    return _Layer(surround, contrast, surface, weights, displacement)


def _continued(image: Floats, where: Mask, sigma: float) -> Floats:
    """Local mean over some voxels, continued to all others; far away their overall mean."""
    if not where.any():
        return np.full(image.shape, float(image.mean()))
    overall = float(image[where].mean())
    gathered = _blur(np.where(where, image - overall, 0.0), sigma)
    result: Floats = overall + gathered / (_blur(where.astype(np.float64), sigma) + 1e-3)
    return result


def _excess(matched: Match, layer: _Layer, depth: Floats, widths: _Widths) -> Floats:
    """Mean image minus what it would be with a blurred step at the border."""
    result: Floats = matched.mean - layer.surround - layer.contrast * _step(depth, widths.edge)
    return result


def _moved(depth: Floats, step_mm: Floats, surface: Floats, widths: _Widths, spacing_mm: float) -> Floats:
    """The signed distance after its border moved outwards by ``step_mm``, smooth and again a distance."""
    sigma = 1.5 / spacing_mm
    carried = _blur(step_mm * surface, sigma) / np.maximum(_blur(surface, sigma), 1e-6)
    moved = depth + np.where(np.abs(depth) < widths.band + 3, carried, 0.0)
    true = signed_depth(moved > 0, spacing_mm)
    near = np.abs(moved) < 1.2  # there the sub-voxel position counts; farther out the distance alone
    moved = np.where(near, moved, np.sign(moved) * np.maximum(np.abs(true), 1.2))
    return smooth_depth(moved, 0.5 / spacing_mm)


def _step(depth: Floats, edge_mm: float) -> Floats:
    """Share of lesion, from 0 outside to 1 inside: a sharp border blurred by a Gaussian."""
    result: Floats = special.ndtr(depth / edge_mm)
    return result


def _delta(depth: Floats) -> Floats:
    """A Gaussian across the surface with integral 1, 1/mm."""
    result: Floats = np.exp(-0.5 * (depth / DELTA_MM) ** 2) / (DELTA_MM * np.sqrt(2 * np.pi))
    return result


def _blur(values: Floats, sigma: float) -> Floats:
    """Gaussian filter; nothing lies beyond the image."""
    result: Floats = ndimage.gaussian_filter(values, sigma, mode="constant", truncate=3.0)
    return result
