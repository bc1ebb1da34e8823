"""Two visits in the space half-way between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Array, Floats, Grid, Mask, Volume, apply_affine, grid_between
from brats_seg.imaging.brain import background_value, foreground
from brats_seg.imaging.refine import rigid_power
from brats_seg.imaging.register import resample

REACH_MM = 11.0
"""Tissue around the lesion that is looked at."""
NEAR_MM = 2.5
"""Tissue nearer to a mask than this belongs to the border."""
SPACING_MM = (0.7, 1.0)
"""Voxels of the half-way space: the smallest of both scans, within these limits."""
SUPPORT_VOXELS = 8
"""Voxels kept around the part of a scan that is resampled, for the spline."""


@dataclass(frozen=True, eq=False)
class LesionScan:
    """One lesion in one image.

    Attributes:
        image: the sequence on which the lesion stands out.
        mask: ``(X, Y, Z)`` of the lesion, on the image's grid; as good as a network or a reader makes it.
        brain: ``(X, Y, Z)`` brain, on the same grid; None takes all that is not the constant background.
        others: ``(X, Y, Z)`` other lesions whose brightness would be taken for this one's, other enhancing ones in
            T1CE; None if there are none. Edema is a surround like any other and no other lesion.
        core: ``(X, Y, Z)`` what the lesion encloses without being part of it, the necrosis in an enhancing rim; None
            takes the holes of the mask. Its border is a border of the lesion too.

    Raises:
        InputError: if a mask lies on another grid or the image holds values that are not finite.
    """

    image: Volume
    mask: Mask
    brain: Mask | None = None
    others: Mask | None = None
    core: Mask | None = None

    def __post_init__(self) -> None:
        shape = self.image.grid.shape
        for name in ("mask", "brain", "others", "core"):
            value = getattr(self, name)
            if value is None:
                continue
            if value.shape != shape:
                raise InputError(
                    f"the {name} has shape {value.shape}, its image {shape}; masks must lie on the image's own grid"
                )
            object.__setattr__(self, name, np.asarray(value) > 0)
        if not np.isfinite(self.image.data).all():
            raise InputError("the image holds values that are not finite; repair it before measuring change")


@dataclass(frozen=True, eq=False)
class Frame:
    """Both visits on one grid half-way between them, cut to the lesion and its surround.

    Attributes:
        coarsest_mm: largest voxel side of the two scans.
        first, second: float64 images, each divided by the median of the surround.
        depth_first, depth_second: signed distance to each mask's border in mm, positive inside.
        brain: seen and brain at both visits, without its outermost voxels.
        cores: of each visit, cut to the same field.
        healthy: ``brain`` without other lesions and without the cores, which may change as they like.
    """

    spacing_mm: float
    coarsest_mm: float
    first: Floats
    second: Floats
    depth_first: Floats
    depth_second: Floats
    brain: Mask
    cores: tuple[Mask, Mask]
    healthy: Mask
    dice: float

    @property
    def thick_mm(self) -> float:
        """Half of what the slices are thicker than 1 mm."""
        return 0.5 * max(self.coarsest_mm - 1.0, 0.0)

    @property
    def surround(self) -> Mask:
        """Healthy tissue clear of both masks."""
        return _surround(self.depth_first, self.depth_second, self.healthy)


def make_frame(first: LesionScan, second: LesionScan, matrix: Affine) -> Frame:
    """Resample both visits once, by cubic splines, into the space half-way between them.

    Args:
        first: with a mask that is not empty.
        matrix: RAS+ mm of the first scan to those of the second.
    """
    forth = rigid_power(matrix, 0.5)
    back: Affine = np.asarray(np.linalg.inv(forth), np.float64)
    ways = (back, forth)  # from half-way to each scan
    scans = (first, second)
    grid = _grid(scans, ways)
    if first is second and np.array_equal(matrix, np.eye(4)):
        parts = [_bring(first, back, grid)] * 2
    else:
        parts = [_bring(scan, way, grid) for scan, way in zip(scans, ways, strict=True)]
    spacing = grid.spacing_mm[0]
    inside = [part["mask"] >= 0.5 for part in parts]
    depths = [signed_depth(mask, spacing) for mask in inside]
    brain = ndimage.binary_erosion((parts[0]["brain"] > 0.99) & (parts[1]["brain"] > 0.99))
    other = (parts[0]["others"] > 0.01) | (parts[1]["others"] > 0.01)
    cores = (parts[0]["core"] >= 0.5, parts[1]["core"] >= 0.5)
    healthy = brain & ~ndimage.binary_dilation(other, iterations=max(round(NEAR_MM / spacing), 1))
    healthy &= ~(cores[0] | cores[1])
    surround = _surround(depths[0], depths[1], healthy)
    images = [part["image"] / _scale(part["image"], surround) for part in parts]
    both = float(inside[0].sum() + inside[1].sum())
    return Frame(
        spacing_mm=spacing,
        coarsest_mm=max(max(scan.image.grid.spacing_mm) for scan in scans),
        first=images[0],
        second=images[1],
        depth_first=depths[0],
        depth_second=depths[1],
        brain=brain,
        cores=cores,
        healthy=healthy,
        dice=2 * float((inside[0] & inside[1]).sum()) / max(both, 1.0),
    )


def signed_depth(inside: Mask, spacing_mm: float) -> Floats:
    """Distance to the border, positive inside; the border lies half a voxel from the last centre."""
    if not inside.any():
        return np.full(inside.shape, -float(max(inside.shape)) * spacing_mm)
    depth: Floats = np.where(
        inside,
        ndimage.distance_transform_edt(inside, sampling=spacing_mm) - spacing_mm / 2,
        spacing_mm / 2 - ndimage.distance_transform_edt(~inside, sampling=spacing_mm),
    )
    return depth


def _surround(depth_first: Floats, depth_second: Floats, healthy: Mask) -> Mask:
    nearest = np.maximum(depth_first, depth_second)
    result: Mask = healthy & (nearest < -NEAR_MM) & (nearest > -REACH_MM)
    return result


def _scale(image: Floats, surround: Mask) -> float:
    """Units of a file are arbitrary: the surround gets a median of 1."""
    values = np.abs(image[surround])
    scale = float(np.median(values)) if values.size else 0.0
    return scale if scale > 0 else 1.0


def _grid(scans: tuple[LesionScan, LesionScan], ways: tuple[Affine, Affine]) -> Grid:
    """A box of cubes around both masks; it does not depend on which visit is called first."""
    corners = []
    for scan, way in zip(scans, ways, strict=True):
        points = scan.image.grid.to_world(np.argwhere(scan.mask))
        corners.append(apply_affine(np.linalg.inv(way), points))
    low = np.minimum(corners[0].min(0), corners[1].min(0)) - REACH_MM
    high = np.maximum(corners[0].max(0), corners[1].max(0)) + REACH_MM
    finest = min(min(scan.image.grid.spacing_mm) for scan in scans)
    spacing = float(np.clip(finest, *SPACING_MM))
    return grid_between(low, high - 1e-6 * spacing, spacing)  # rounding must not add a slice


def _bring(scan: LesionScan, way: Affine, grid: Grid) -> dict[str, Array]:
    """Image and masks of one scan on the grid; masks as shares of 0..1, 0 outside the field of view."""
    start, stop = _needed(scan.image.grid, way, grid)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    image = scan.image.crop(start, stop)
    others = np.zeros(image.grid.shape, np.bool_) if scan.others is None else scan.others[box]
    mask = scan.mask[box]
    core = (ndimage.binary_fill_holes(mask) if scan.core is None else scan.core[box]) & ~mask
    brain = foreground(scan.image) if scan.brain is None else scan.brain
    masks = {"mask": mask, "brain": brain[box], "others": others, "core": core}
    fill = background_value(scan.image)
    result: dict[str, Array] = {
        "image": resample(image, grid, matrix=way, order="bspline", fill=fill).data.astype(np.float64)
    }
    for name, mask in masks.items():
        share = image.with_data(mask.astype(np.float32))
        result[name] = resample(share, grid, matrix=way, order="linear", fill=0.0).data
    return result


def _needed(source: Grid, way: Affine, grid: Grid) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """First and last-but-one voxel of the scan that the grid needs."""
    voxels = source.to_voxel(apply_affine(way, grid.to_world(grid.corners())))
    low = np.clip(np.floor(voxels.min(0)).astype(int) - SUPPORT_VOXELS, 0, np.array(source.shape) - 1)
    high = np.clip(np.ceil(voxels.max(0)).astype(int) + SUPPORT_VOXELS, low + 1, source.shape)
    x, y, z = (int(v) for v in low)
    a, b, c = (int(v) for v in high)
    return (x, y, z), (a, b, c)
