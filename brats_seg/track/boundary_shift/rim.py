"""The two borders of a rim in two matched images: where they lie, and by how much they moved.

A rim of enhancement has tissue outside and a core inside. Its volume changes by what the outer border gains and by
what the inner one gains, each area times displacement. Both borders are found and read as that of a solid lesion is
(:mod:`.border`), each in the tissue that lies nearer to it than to the other, with what the other's blur adds
there taken away. Where a rim is thin, the zones that tell how its brightness changed see the feet of both edges;
how much of each displacement they see follows from the fitted edges, and five equations are solved for the two
displacements and the change of brightness of rim, surround and core.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from brats_seg.core.grid import Floats, Mask
from brats_seg.track.boundary_shift.border import (
    BAND_MM,
    BASE_MM,
    CONTRAST_ERROR,
    FITTED_MM,
    GAP_MM,
    LARGEST_STEP_MM,
    LEAST_BASE,
    LEAST_CONTRAST,
    LEVEL_MM,
    LOCAL_ROUNDS,
    SAME_MM,
    SEARCH_MM,
    WHOLE_ROUNDS,
    Border,
    Edge,
    area_mm2,
    blur,
    excess_mm,
    fit_levels,
    local_contrast,
    move_border,
    shift_weights,
)
from brats_seg.track.boundary_shift.frame import Frame
from brats_seg.track.boundary_shift.match import Match, Rim

LEAST_RIM_MM = 1.0
"""Where a rim is thinner its two borders are not told apart; such places are gaps, and nothing is measured there."""
PATCH_MM = 2.0
"""Width (sigma) of the patches in which a border is moved to half height of its own two levels."""
STEP_RIDGE = 0.01
"""Draws such a move to zero, in squares of the layer (1/mm^2): texture is no displacement."""
LEVEL_RIDGE = 0.02
"""Draws the height of a patch's step to the mean one, in squares of the share."""
DEEP_SHARE = 0.25
"""The rim's own brightness is told by its inmost part: what is clear of both borders, or at least this share of it."""


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two borders.

    Attributes:
        matched: the images in the tissue nearer to this border, without the other border.
        layer: slope of the edge where the rim is wide enough, 1/mm; summed it is the area.
    """

    matched: Match
    edge: Edge
    layer: Floats


@dataclass(frozen=True)
class _Limits:
    """Spacing of the voxels, how far the edges are fitted, and half the width of the band of either border; mm."""

    spacing_mm: float
    reach_mm: float
    bands_mm: tuple[float, float]


def find_rim(frame: Frame, matched: Match, rim: Rim) -> Border:
    """Find both borders in the mean image, then their displacements in the difference."""
    search_mm, reach_mm = SEARCH_MM + frame.thick_mm, FITTED_MM + frame.thick_mm
    outer, inner = rim.outer, rim.inner
    for _ in range(LOCAL_ROUNDS):
        sides = _sides(matched, (outer, inner), (search_mm, search_mm), reach_mm)
        outer, inner = (
            move_border(
                side.edge.depth,
                _local_shift_mm(side, frame.spacing_mm),
                search_mm,
                frame.spacing_mm,
            )
            for side in sides
        )
    first, second = (BAND_MM + frame.thick_mm + max(half - SAME_MM, 0.0) for half in rim.half_moved_mm)
    limits = _Limits(frame.spacing_mm, reach_mm, (first, second))
    for _ in range(WHOLE_ROUNDS):
        sides = _sides(matched, (outer, inner), limits.bands_mm, reach_mm)
        outer, inner = (
            side.edge.depth + float(np.clip(excess_mm(side.matched, side.edge), -LARGEST_STEP_MM, LARGEST_STEP_MM))
            for side in sides
        )
    sides = _sides(matched, (outer, inner), limits.bands_mm, reach_mm)
    return _read(matched, sides, limits)


def _sides(
    matched: Match, depths: tuple[Floats, Floats], band_mm: tuple[float, float], reach_mm: float
) -> tuple[_Side, _Side]:
    """Fit blur and levels of surround, core and rim together, and split the tissue between the two borders."""
    outer, inner = depths
    wide = outer + inner > LEAST_RIM_MM  # the local thickness, beyond the borders too
    near = matched.usable & wide & (np.minimum(np.abs(outer), np.abs(inner)) < reach_mm)
    values = matched.mean[near]

    def shares(sigma_mm: float) -> Floats:
        around, core = special.ndtr(-outer[near] / sigma_mm), special.ndtr(-inner[near] / sigma_mm)
        return np.stack([around, core, 1 - around - core], -1)

    sigma_mm, levels = fit_levels(values, shares)
    lesion = float(levels[2])
    nearer = (np.abs(outer) <= np.abs(inner), np.abs(outer) > np.abs(inner))
    found = []
    for index, depth in enumerate(depths):
        usable = matched.usable & wide & nearer[index]
        other = special.ndtr(-depths[1 - index] / sigma_mm) * (float(levels[1 - index]) - lesion)
        level = float(levels[index])
        edge = Edge(depth, sigma_mm, level, lesion - level, usable & (np.abs(depth) < band_mm[index]))
        alone = replace(matched, usable=usable, mean=matched.mean - other)
        found.append(_Side(alone, edge, np.where(wide, edge.layer, 0.0)))
    return found[0], found[1]


def _local_shift_mm(side: _Side, spacing_mm: float) -> Floats:
    """How far the image's half height lies outside the border at each place, at most :data:`LARGEST_STEP_MM`.

    In each patch the image is explained by the two levels beside the border there and by a displacement, whose pattern
    is the slope of the edge. Levels taken from the whole rim would make a displacement of every bright or dark part.
    """
    edge, sigma = side.edge, PATCH_MM / spacing_mm
    if abs(edge.contrast) < 1e-12:
        return np.zeros_like(edge.depth)
    weight = edge.band.astype(np.float64)
    count = blur(weight, sigma) + 1e-6
    values = {"share": edge.share, "layer": edge.layer, "image": side.matched.mean}
    means = {name: blur(weight * value, sigma) / count for name, value in values.items()}

    def joint(one: str, other: str) -> Floats:
        result: Floats = blur(weight * values[one] * values[other], sigma) / count - means[one] * means[other]
        return result

    share, layer, both = (
        joint("share", "share") + LEVEL_RIDGE,
        joint("layer", "layer") + STEP_RIDGE,
        joint("share", "layer"),
    )
    by_share, by_layer = joint("share", "image") + LEVEL_RIDGE * edge.contrast, joint("layer", "image")
    free = share * layer - both**2
    contrast, moved = (by_share * layer - by_layer * both) / free, (by_layer * share - by_share * both) / free
    relative = np.maximum(contrast / edge.contrast, LEAST_CONTRAST) * edge.contrast
    result: Floats = np.clip(moved / relative, -LARGEST_STEP_MM, LARGEST_STEP_MM)
    return result


def _read(matched: Match, sides: tuple[_Side, _Side], limits: _Limits) -> Border:
    """Both displacements, from the difference of the images."""
    voxel = limits.spacing_mm**3
    layers = [np.where(matched.usable, side.layer, 0.0) for side in sides]
    around, core = (1 - side.edge.share for side in sides)
    lesion = np.clip(1 - around - core, 0, 1)
    readings = _readings(matched, sides, layers, limits)
    sigma = LEVEL_MM / limits.spacing_mm
    steps = [local_contrast(side.matched, side.edge, limits.reach_mm, sigma) * side.layer for side in sides]
    seen = np.array([[float((way * effect).sum()) for effect in (*steps, lesion, around, core)] for way in readings])
    told = np.linalg.pinv(seen, rcond=1e-9)  # from readings to causes; a zone without voxels tells nothing
    weights = [
        float(layer.sum()) * voxel * np.tensordot(row, np.stack(readings), axes=1)
        for layer, row in zip(layers, told, strict=False)
    ]
    changes = [float((part * matched.difference).sum()) for part in weights]
    levels = told[2:] @ [float((way * matched.difference).sum()) for way in readings]
    areas = [area_mm2(side.edge.depth, layer, limits.spacing_mm) for side, layer in zip(sides, layers, strict=True)]
    patch = 4 * np.pi * LEVEL_MM**2
    doubts = [abs(change) / np.sqrt(max(area / patch, 1.0)) for change, area in zip(changes, areas, strict=True)]
    gap = 1 - float(layers[0].sum()) / max(float(np.where(matched.usable, sides[0].edge.layer, 0.0).sum()), 1e-12)
    missed = [excess_mm(side.matched, side.edge) for side in sides]
    volume = float(lesion.sum()) * voxel + sum(mm * area for mm, area in zip(missed, areas, strict=True))
    contrasts = [side.edge.contrast for side in sides]
    ratios = [(levels[0] - level) / step if step else np.inf for level, step in zip(levels[1:], contrasts, strict=True)]
    return Border(
        change_mm3=sum(changes),
        deviation_mm3=float(
            np.linalg.norm(
                [
                    matched.deviation(weights[0] + weights[1]),
                    CONTRAST_ERROR * float(np.linalg.norm(doubts)),
                    gap * float(np.linalg.norm(changes)),  # it may have grown or shrunk at the edges of gaps
                ]
            )
        ),
        volume_mm3=volume,
        area_mm2=sum(areas),
        contrast=min(contrasts, key=abs),
        level=max(ratios, key=abs) * min(contrasts, key=abs),
        seen=sum(float(layer.sum()) for layer in layers) / max(sum(float(side.layer.sum()) for side in sides), 1e-12),
        moved_mm=max((change / max(area, 1.0) for change, area in zip(changes, areas, strict=True)), key=abs),
        rim_mm=2 * volume / max(sum(areas), 1.0),
    )


def _readings(matched: Match, sides: tuple[_Side, _Side], layers: list[Floats], limits: _Limits) -> list[Floats]:
    """Weights of the five things that are read in the difference: both displacements, and three levels."""
    moves = [
        shift_weights(side.matched, side.edge, layer, reach_mm=limits.reach_mm, spacing_mm=limits.spacing_mm)
        for side, layer in zip(sides, layers, strict=True)
    ]
    return [*moves, *(zone / max(float(zone.sum()), 1.0) for zone in _zones(matched, sides, limits.bands_mm))]


def _zones(matched: Match, sides: tuple[_Side, _Side], bands_mm: tuple[float, float]) -> tuple[Mask, Mask, Mask]:
    """Where rim, surround and core are read, clear of the borders where that can be."""
    outer, inner = (side.edge.depth for side in sides)
    wide = outer + inner > LEAST_RIM_MM
    depth = np.minimum(outer, inner)
    clear = [band + GAP_MM for band in bands_mm]
    rim = matched.usable & (depth > 0)
    lesion = rim & (depth > max(clear)) & (depth < max(clear) + BASE_MM)
    if rim.any() and lesion.sum() < DEEP_SHARE * rim.sum():
        lesion = rim & (depth >= np.percentile(depth[rim], 100 * (1 - DEEP_SHARE)))
    around = matched.usable & wide & (outer < -clear[0]) & (outer > -clear[0] - BASE_MM)
    core = matched.usable & (inner < -clear[1]) & (inner > -clear[1] - BASE_MM)
    hollow = matched.usable & (inner < 0)
    if hollow.any() and core.sum() < LEAST_BASE:
        core = hollow & (inner <= np.percentile(inner[hollow], 40))
    return lesion, around, core
