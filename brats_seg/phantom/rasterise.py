"""From lesions to exact shares of each voxel.

Edema is either a body of its own, or keeps to white matter: then its border is where a field on the voxel grid,
linearly interpolated, passes 1, and its volume is summed from exact fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Floats, Grid, box_corners
from brats_seg.phantom.anatomy import Anatomy
from brats_seg.phantom.fields import Field, smooth_noise
from brats_seg.phantom.objects import Blob, inside_shares
from brats_seg.phantom.tumour import Lesion, TumourConfig


@dataclass(frozen=True, eq=False)
class TumourFractions:
    """Share of each voxel that is tumour; the three sum to at most 1.

    Attributes:
        grid: of all arrays.
        necrosis: float32, necrotic or non-enhancing core.
        edema: float32.
        enhancing: float32.
        depth: float32, 1 at the centre of the edema to 0 at its rim; only for the look of it.
        cut_ml: volume of core that the edge of the brain cut off; 0 unless a lesion was placed by hand.
    """

    grid: Grid
    necrosis: Field
    edema: Field
    enhancing: Field
    depth: Field
    cut_ml: float

    @property
    def whole(self) -> Field:
        """Share that is tumour of any kind."""
        return self.necrosis + self.edema + self.enhancing


def draw_edema_field(
    lesions: Sequence[Lesion], anatomy: Anatomy, config: TumourConfig, rng: np.random.Generator
) -> Field | None:
    """The field of edema that follows white matter, or None where it is a body of its own."""
    if not lesions or not config.follow_white_matter:
        return None
    noise = smooth_noise(anatomy.grid.shape, 4.0 / min(anatomy.grid.spacing_mm), rng)
    return edema_field(lesions, anatomy, noise, irregularity=config.irregularity)


def edema_field(lesions: Sequence[Lesion], anatomy: Anatomy, noise: Field, *, irregularity: float) -> Field:
    """A field that is below 1 in the edema: relative radius, raised by CSF and cortex.

    Args:
        lesions: at least one.
        anatomy: after the push of the tumour.
        noise: smooth noise of unit deviation on the anatomy's grid; makes fingers.
        irregularity: as in :class:`TumourConfig`.

    Returns:
        float32 on the anatomy's grid; at least 2 far away and in islands that touch no core.
    """
    field = np.full(anatomy.grid.shape, 2.0, np.float32)
    for lesion in lesions:
        box, points = _surroundings(lesion.edema, anatomy.grid, factor=1.25)
        radius = lesion.edema.relative_radius(points).astype(np.float32)
        barrier = 1.3 * ndimage.gaussian_filter(anatomy.csf[box], 0.8)
        barrier += 0.35 * ndimage.gaussian_filter(anatomy.grey[box], 0.8)
        barrier += 2.0 * (~anatomy.brain[box])
        value = radius + barrier + 0.4 * irregularity * noise[box]
        value = np.where(radius < 0.35, np.minimum(value, 0.9), value)
        names, _ = ndimage.label(value < 1)
        core = lesion.core.level_mm(points) < 2.0
        kept = np.unique(names[core & (names > 0)])
        value = np.where((value < 1) & ~np.isin(names, kept), 2.0, value)
        field[box] = np.minimum(field[box], value)
    return field


def _surroundings(body: Blob, grid: Grid, *, factor: float) -> tuple[tuple[slice, slice, slice], Floats]:
    low, high = body.bounds_mm()
    centre = np.array(body.ellipsoid.centre_mm)
    low, high = centre + (low - centre) * factor, centre + (high - centre) * factor
    corners = grid.to_voxel(box_corners(low, high))
    first = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    stop = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, grid.shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
    points = grid.to_world(np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in (x, y, z)], indexing="ij"), -1))
    return (x, y, z), points


def tumour_fractions(
    lesions: Sequence[Lesion], anatomy: Anatomy, *, field: Field | None = None, supersampling: int = 5
) -> TumourFractions:
    """Exact shares per voxel of necrosis, edema and enhancement, cut to the brain.

    Args:
        lesions: any number, also none.
        anatomy: its grid and brain.
        field: from :func:`edema_field`; None for edema that is the lesions' own outer body.
        supersampling: sub-points per voxel side where a border may pass.
    """
    grid = anatomy.grid
    core, necrosis = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    depth = np.zeros(grid.shape, np.float32)
    whole = np.zeros(grid.shape, np.float32)
    for lesion in lesions:
        part = lesion.core.sample_fractions(grid, supersampling=supersampling)
        core += part
        necrosis += (
            part if lesion.necrosis is None else lesion.necrosis.sample_fractions(grid, supersampling=supersampling)
        )
    if field is not None:
        whole = _field_fractions(field, core, lesions, grid, supersampling)
        depth = np.clip(1 - field, 0, 1)
    elif lesions:
        whole = _union_fractions([lesion.edema for lesion in lesions], grid, supersampling)
        for lesion in lesions:
            box, points = _surroundings(lesion.edema, grid, factor=1.0)
            depth[box] = np.maximum(depth[box], 1 - lesion.edema.relative_radius(points))
    core = np.minimum(core, 1)
    cut_ml = float(core[~anatomy.brain].sum(dtype=np.float64)) * grid.voxel_ml
    whole = np.maximum(whole, core) * anatomy.brain
    core *= anatomy.brain
    necrosis = np.minimum(necrosis * anatomy.brain, core)
    return TumourFractions(grid, necrosis, whole - core, core - necrosis, depth, cut_ml)


def _union_fractions(bodies: Sequence[Blob], grid: Grid, supersampling: int) -> Field:
    """Share of each voxel in at least one of the bodies; exact where two meet."""
    parts = [body.sample_fractions(grid, supersampling=supersampling) for body in bodies]
    union: Field = np.max(parts, axis=0)
    doubtful = np.argwhere((np.sum([part > 0 for part in parts], axis=0) > 1) & (union < 1))
    inside = _any_inside(bodies)
    union[tuple(doubtful.T)] = inside_shares(inside, grid, doubtful, supersampling=supersampling)
    return union


def _any_inside(bodies: Sequence[Blob]) -> Callable[[Floats], NDArray[np.bool_]]:
    def inside(points_mm: Floats) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = np.any([body.level_mm(points_mm) <= 0 for body in bodies], axis=0)
        return result

    return inside


def _field_fractions(field: Field, core: Field, lesions: Sequence[Lesion], grid: Grid, supersampling: int) -> Field:
    """Share of each voxel where the interpolated field is below 1, or a core is.

    Linear interpolation never leaves the range of the 27 neighbours, so only voxels whose neighbours lie on
    both sides of 1 need a closer look; ``core`` tells which of them a core reaches.
    """
    below = ndimage.minimum_filter(field, 3) < 1
    above = ndimage.maximum_filter(field, 3) >= 1
    whole: Field = below.astype(np.float32)
    doubtful = np.argwhere(below & above)
    in_core = _any_inside([lesion.core for lesion in lesions])

    def in_field(points_mm: Floats) -> NDArray[np.bool_]:
        voxels = np.moveaxis(grid.to_voxel(points_mm), -1, 0)
        result: NDArray[np.bool_] = ndimage.map_coordinates(field, voxels, order=1, mode="nearest") < 1
        return result

    def in_either(points_mm: Floats) -> NDArray[np.bool_]:
        return in_field(points_mm) | in_core(points_mm)

    reached = core[tuple(doubtful.T)] > 0
    for voxels, inside in ((doubtful[~reached], in_field), (doubtful[reached], in_either)):
        whole[tuple(voxels.T)] = inside_shares(inside, grid, voxels, supersampling=supersampling)
    return whole
