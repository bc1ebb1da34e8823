"""Label maps that lie on the reference's voxels but are stored otherwise: turned, cropped, or with a rounded header.

Others are refused, or resampled where that was asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Array, Grid, Volume, apply_affine
from brats_seg.imaging.restore import move

TOLERANCE_VOXELS = 0.1
"""Voxels that lie closer than this share of a voxel are the same voxel."""


class _Same(NamedTuple):
    """Voxels of one grid that are voxels of another: 4x4 from the first's to the second's, and how far off they lie."""

    matrix: Affine
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
    same = _same(volume.grid, grid)
    if same is None and order is None:
        raise InputError(_differ(what, volume.grid, grid))
    if same is None:
        data, lost = _resampled(volume, grid, order or 0)
    else:
        data = move(volume.data, Grid(volume.grid.shape, grid.affine @ same.matrix), grid, order=0)
        lost = int(np.count_nonzero(volume.data)) - int(np.count_nonzero(data))
    if lost:
        raise InputError(
            f"{lost} labelled voxels of the {what} lie outside the grid of the reference ({grid.describe()}). "
            "Were they made of the same scan?"
        )
    words = f"was resampled from {volume.grid.describe()}" if same is None else _words(same, volume.grid, grid)
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


def _same(grid: Grid, target: Grid) -> _Same | None:
    """None where the voxels are not the same."""
    matrix = np.linalg.inv(target.affine) @ grid.affine
    axes = np.abs(matrix[:3, :3]).argmax(axis=1)  # of the volume, along each of the target
    if sorted(axes.tolist()) != [0, 1, 2]:
        return None
    exact = np.eye(4)
    exact[:3, :3] = 0
    exact[range(3), axes] = np.sign(matrix[range(3), axes])
    corners = grid.corners()
    off = apply_affine(matrix, corners) - apply_affine(exact, corners)
    exact[:3, 3] = np.round(off.mean(axis=0))
    apart = float(np.abs(off - exact[:3, 3]).max())
    return _Same(exact, apart) if apart <= TOLERANCE_VOXELS else None


def _words(same: _Same, grid: Grid, target: Grid) -> str:
    done = []
    if grid.orientation != target.orientation:
        done.append(f"is stored along {grid.orientation} and the reference along {target.orientation}; it was turned")
    sizes = [int(size) for size in np.abs(same.matrix[:3, :3]) @ grid.shape]
    if tuple(sizes) != target.shape:
        covered, whole = ("x".join(map(str, shape)) for shape in (sizes, target.shape))
        done.append(f"covers {covered} of {whole} voxels; the rest counts as 0")
    elif not done and same.matrix[:3, 3].any():
        done.append(f"lies {grid.offset_mm(target):.3g} mm from the reference by its header, and was compared there; "
                    "equal shapes mostly mean equal places: is one of the two headers wrong?")  # fmt: skip
    if same.apart_voxels > 1e-3:
        done.append(f"lies {same.apart_voxels:.2g} voxels off the reference, which counts as the same place")
    return "; ".join(done) or "is the same voxels stored otherwise"


def _differ(what: str, grid: Grid, reference: Grid) -> str:
    apart = "" if grid.shape != reference.shape else f", up to {grid.offset_mm(reference):.2f} mm apart"
    return (
        f"the {what} ({grid.describe()}) does not lie on the grid of the reference ({reference.describe()}){apart}. "
        "Pass --resample, or write it on the reference's grid first, with nearest-neighbour interpolation for labels."
    )
