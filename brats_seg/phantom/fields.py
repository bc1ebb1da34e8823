"""Smooth random fields and fast interpolation on regular lattices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Floats, Grid

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
