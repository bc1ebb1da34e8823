"""Smooth random fields, fast interpolation on regular lattices, and fields on other grids."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Affine, Floats, Grid, apply_affine, box_corners
from brats_seg.imaging.boxes import Box, bounding_box
from brats_seg.imaging.restore import as_copy, copy_voxels

Field = NDArray[np.float32]
Span = tuple[slice, slice, slice]


def expand(lattice: Field, shape: tuple[int, int, int], step: float | Sequence[float]) -> Field:
    """Linear interpolation of a coarse lattice, one axis after the other as a matrix product.

    Args:
        lattice: values at voxel positions ``i * step``.
        shape: of the result; the lattice must reach its end.
        step: voxels between lattice points; one number, or one for each axis.

    Returns:
        ``shape`` float32.
    """
    result = lattice.astype(np.float32, copy=False)
    steps = step if isinstance(step, Sequence) else (step, step, step)
    for axis, (length, size, every) in enumerate(zip(lattice.shape, shape, steps, strict=True)):
        position = np.arange(size) / every
        lower = np.clip(np.floor(position).astype(int), 0, length - 2)
        weight = (position - lower).astype(np.float32)
        matrix = np.zeros((size, length), np.float32)
        matrix[np.arange(size), lower] = 1 - weight
        matrix[np.arange(size), lower + 1] += weight
        result = np.moveaxis(np.tensordot(matrix, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def lattice_shape(shape: tuple[int, int, int], step: int) -> tuple[int, int, int]:
    """Points a lattice needs so that :func:`expand` covers ``shape``."""
    x, y, z = (-(-n // step) + 2 for n in shape)
    return x, y, z


def lattice_points(grid: Grid, step: int) -> Floats:
    """RAS+ mm of the points of such a lattice."""
    axes = [np.arange(n) * float(step) for n in lattice_shape(grid.shape, step)]
    return grid.to_world(np.stack(np.meshgrid(*axes, indexing="ij"), -1))


def smooth_noise(shape: tuple[int, int, int], sigma: float, rng: np.random.Generator) -> Field:
    """Gaussian noise filtered with ``sigma`` voxels, mean 0 and standard deviation 1.

    Fields with a wide ``sigma`` are made on a coarser lattice, which costs little and looks the same.
    """
    step = max(int(sigma / 1.25), 1)
    if step == 1:
        noise: Field = ndimage.gaussian_filter(
            rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=3
        )
    else:
        coarse = rng.standard_normal(lattice_shape(shape, step), dtype=np.float32)
        noise = expand(ndimage.gaussian_filter(coarse, sigma / step, mode="wrap", truncate=3), shape, step)
    noise -= noise.mean()
    noise /= max(float(noise.std()), 1e-6)
    return noise


def resample_box(values: Field, source: Grid, target: Grid, *, matrix: Affine | None = None) -> Field:
    """Mean of a linearly interpolated field over each voxel of another grid; 0 outside.

    Args:
        values: on ``source``.
        source: grid of ``values``.
        matrix: 4x4, from RAS+ mm of the target to RAS+ mm of the source; identity if None.

    Returns:
        ``target.shape`` float32. Where the grids share their voxels, these are copied unchanged.
    """
    step = _step(source, target, matrix)
    if (same := as_copy(step)) is not None:
        copied: Field = copy_voxels(values[None], target, *same)[0]
        return copied
    spacing = min(source.spacing_mm)
    counts = [max(int(np.ceil(side / spacing - 0.25)), 1) for side in target.spacing_mm]
    offsets = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    result = np.zeros(target.shape, np.float32)
    filled = bounding_box(values)
    box = None if filled is None else _reached(filled, step, target.shape)
    if box is None:
        return result
    total = result[box]  # elsewhere is nothing but the field's 0
    part = np.empty(total.shape, np.float32)
    first = step[:3, 3] + step[:3, :3] @ np.array([s.start for s in box])
    for offset in itertools.product(*offsets):
        origin = first + step[:3, :3] @ np.array(offset)
        ndimage.affine_transform(
            values, step[:3, :3], origin, output_shape=total.shape, output=part, order=1, mode="constant", cval=0.0
        )
        total += part
    total /= float(np.prod(counts))
    return result


def reached_box(source: Grid, target: Grid, *, matrix: Affine | None = None) -> Span | None:
    """The box of the target outside which :func:`resample_box` gives 0 whatever the field; None if that is all."""
    x, y, z = (slice(0, n) for n in source.shape)
    return _reached((x, y, z), _step(source, target, matrix), target.shape)


def cropped(grid: Grid, box: Span) -> Grid:
    """The grid of a box of voxels."""
    affine = np.array(grid.affine)
    affine[:3, 3] = grid.to_world([s.start for s in box])
    x, y, z = (s.stop - s.start for s in box)
    return Grid((x, y, z), affine)


def _step(source: Grid, target: Grid, matrix: Affine | None) -> Floats:
    """4x4, target voxels to source voxels."""
    step: Floats = np.linalg.inv(source.affine) @ (np.eye(4) if matrix is None else matrix) @ target.affine
    return step


def _reached(filled: Box, step: Floats, shape: tuple[int, int, int]) -> Span | None:
    """Target voxels that touch a box of source voxels, or what interpolation makes of it one voxel farther."""
    low, high = np.array([s.start for s in filled]) - 1, np.array([s.stop for s in filled])
    corners = apply_affine(np.linalg.inv(step), box_corners(low, high))
    first = np.maximum(np.floor(corners.min(0) - 0.5).astype(int), 0)
    stop = np.minimum(np.ceil(corners.max(0) + 0.5).astype(int) + 1, shape)
    if (first >= stop).any():
        return None
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
    return x, y, z
