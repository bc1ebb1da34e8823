"""Label maps that lie on the reference's voxels but are stored otherwise: turned, cropped, or with a rounded header.

Others are refused, or resampled where that was asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Array, Grid, Volume

TOLERANCE_VOXELS = 0.1
"""Voxels that lie closer than this share of a voxel are the same voxel."""


class _Steps(NamedTuple):
    """Where the voxels of one grid are in another: which axis runs along each, in which direction, from where."""

    axes: tuple[int, int, int]
    signs: tuple[int, int, int]
    start: tuple[int, int, int]
    apart_voxels: float


class Placed(NamedTuple):
    """A volume on another grid, and what had to be done, in words; empty where nothing had."""

    volume: Volume
    note: str


def placed(volume: Volume, grid: Grid, what: str, *, order: int | None = None) -> Placed:
    """A volume whose voxels are voxels of ``grid``, stored as ``grid`` stores them; without ``order`` as they are.

    Args:
        volume: 0 where it says nothing.
        grid: where it is wanted; outside the volume it becomes 0.
        what: for messages, such as ``prediction``.
        order: of the interpolation where its voxels lie between those of the grid, 0 (nearest) or 1 (linear).

    Raises:
        InputError: if they do and ``order`` is None, or the volume is not 0 outside the grid.
    """
    if volume.grid.same_as(grid):
        return Placed(volume, "")
    steps = _steps(volume.grid, grid)
    if steps is None and order is None:
        raise InputError(_differ(what, volume.grid, grid))
    data, lost = _resampled(volume, grid, order or 0) if steps is None else _put(volume.data, steps, grid.shape)
    if lost:
        raise InputError(
            f"{lost} labelled voxels of the {what} lie outside the grid of the reference ({grid.describe()}). "
            "Were they made of the same scan?"
        )
    words = f"was resampled from {volume.grid.describe()}" if steps is None else _words(steps, volume.grid, grid)
    return Placed(Volume(data, grid), f"the {what} {words}")


def _resampled(volume: Volume, grid: Grid, order: int) -> tuple[Array, int]:
    """The volume on ``grid``, and how many of its voxels that are not 0 have their centre outside."""
    matrix = np.linalg.inv(volume.affine) @ grid.affine
    data = ndimage.affine_transform(
        volume.data,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=grid.shape,
        order=order,
        mode="constant",
        prefilter=False,
    )
    back = np.linalg.inv(matrix)
    places = np.argwhere(volume.data != 0) @ back[:3, :3].T + back[:3, 3]
    outside = ((places < -0.5) | (places > np.array(grid.shape) - 0.5)).any(axis=1)
    return data, int(outside.sum())


def _steps(grid: Grid, target: Grid) -> _Steps | None:
    """None where the voxels are not the same."""
    matrix = np.linalg.inv(target.affine) @ grid.affine
    axes = tuple(int(a) for a in np.abs(matrix[:3, :3]).argmax(axis=1))  # of the volume, along each of the target
    if sorted(axes) != [0, 1, 2]:
        return None
    signs = tuple(int(np.sign(matrix[k, axis])) for k, axis in enumerate(axes))
    exact = np.zeros((3, 3))
    exact[range(3), axes] = signs
    corners = grid.corners()
    found = corners @ matrix[:3, :3].T + matrix[:3, 3]
    wanted = corners @ exact.T
    start = np.round((found - wanted).mean(axis=0))
    apart = float(np.abs(found - wanted - start).max())
    if apart > TOLERANCE_VOXELS:
        return None
    x, y, z = (int(n) for n in start)
    return _Steps((axes[0], axes[1], axes[2]), (signs[0], signs[1], signs[2]), (x, y, z), apart)


def _put(data: Array, steps: _Steps, shape: tuple[int, int, int]) -> tuple[Array, int]:
    """The values on the target's voxels, and how many that are not 0 lie outside."""
    turned = np.transpose(data, steps.axes)[tuple(slice(None, None, sign) for sign in steps.signs)]
    result = np.zeros(shape, data.dtype)
    inside, outside = [], []
    for length, size, sign, start in zip(turned.shape, shape, steps.signs, steps.start, strict=True):
        first = start if sign > 0 else start - length + 1
        low, high = max(first, 0), min(first + length, size)
        inside.append(slice(low, max(high, low)))
        outside.append(slice(low - first, max(high, low) - first))
    kept = turned[tuple(outside)]
    result[tuple(inside)] = kept
    return result, int(np.count_nonzero(data)) - int(np.count_nonzero(kept))


def _words(steps: _Steps, grid: Grid, target: Grid) -> str:
    done = []
    if grid.orientation != target.orientation:
        done.append(f"is stored along {grid.orientation} and the reference along {target.orientation}; it was turned")
    sizes = [grid.shape[axis] for axis in steps.axes]
    if tuple(sizes) != target.shape:
        covered, whole = ("x".join(map(str, shape)) for shape in (sizes, target.shape))
        done.append(f"covers {covered} of {whole} voxels; the rest counts as 0")
    if steps.apart_voxels > 1e-3:
        done.append(f"lies {steps.apart_voxels:.2g} voxels off the reference, which counts as the same place")
    return "; ".join(done) or "is the same voxels stored otherwise"


def _differ(what: str, grid: Grid, reference: Grid) -> str:
    apart = "" if grid.shape != reference.shape else f", up to {grid.offset_mm(reference):.2f} mm apart"
    return (
        f"the {what} ({grid.describe()}) does not lie on the grid of the reference ({reference.describe()}){apart}. "
        "Pass --resample, or write it on the reference's grid first, with nearest-neighbour interpolation for labels."
    )
