"""Planes, crops and grey levels: from a volume in RAS order to an upright picture in millimetres.

Pictures follow the radiological convention: the patient's left is on the right of axial and coronal pictures, and
sagittal pictures look at the left side, with the face to the left. Every picture of one :class:`View` has the same
scale in both directions, whatever the spacing of the voxels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brats_seg.core.grid import Array

WINDOW_PERCENTILES = (1.0, 99.7)
"""Grey levels run from black to white between these percentiles of the voxels that are not background."""
FOREGROUND_SHARE = 0.05
"""A voxel counts as head where it lies above the background by this share of the brightest percentile."""
_SAMPLES_PER_AXIS = 96
"""Grey levels are read from at most this many voxels along each axis, which changes them by less than 1 %."""


@dataclass(frozen=True)
class Plane:
    """A cardinal plane of an array ``(R, A, S)``.

    Attributes:
        normal: array axis the plane is perpendicular to.
        across: array axis from the right edge of the picture to its left edge.
        up: array axis from the bottom of the picture to its top.
        marks: letters at the left, right, top and bottom edge.
    """

    name: str
    normal: int
    across: int
    up: int
    marks: tuple[str, str, str, str]


AXIAL = Plane("axial", 2, 0, 1, ("R", "L", "A", "P"))
CORONAL = Plane("coronal", 1, 0, 2, ("R", "L", "S", "I"))
SAGITTAL = Plane("sagittal", 0, 1, 2, ("A", "P", "S", "I"))
PLANES = (AXIAL, CORONAL, SAGITTAL)
"""In the order of the rows of a figure."""


def cut(data: Array, plane: Plane, index: int) -> Array:
    """Slice ``index`` of an array ``(R, A, S)`` as an upright picture ``(rows, columns)``; a view."""
    where: list[slice | int] = [slice(None)] * 3
    where[plane.normal] = index
    picture: Array = data[tuple(where)][::-1, ::-1].T
    return picture


@dataclass(frozen=True)
class View:
    """The box of a volume that is drawn, and how large.

    Attributes:
        start: first voxel along each axis.
        stop: voxel after the last.
        px_per_mm: pixels per millimetre.
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    px_per_mm: float

    def size_px(self, plane: Plane) -> tuple[int, int]:
        """Width and height of a picture."""
        width, height = (
            max(1, round((self.stop[axis] - self.start[axis]) * self.spacing_mm[axis] * self.px_per_mm))
            for axis in (plane.across, plane.up)
        )
        return width, height

    def crop(self, picture: Array, plane: Plane) -> Array:
        """The view's part of a whole slice from :func:`cut`."""
        rows, columns = picture.shape
        return picture[
            rows - self.stop[plane.up] : rows - self.start[plane.up],
            columns - self.stop[plane.across] : columns - self.start[plane.across],
        ]

    def stretch(self, picture: Array, plane: Plane) -> NDArray[np.float32]:
        """A cropped slice at the view's scale, interpolated linearly: ``(height, width)`` float32."""
        width, height = self.size_px(plane)
        rows, columns = picture.shape
        stretched: NDArray[np.float32] = _shares(height, rows) @ picture.astype(np.float32) @ _shares(width, columns).T
        return stretched

    def to_px(self, voxels: ArrayLike, plane: Plane) -> NDArray[np.float64]:
        """Voxel indices ``(N, 3)`` to pixels ``(N, 2)``: right and down from the picture's upper left corner."""
        points = np.asarray(voxels, dtype=np.float64)
        axes = [plane.across, plane.up]
        scale = np.asarray(self.spacing_mm)[axes] * self.px_per_mm
        result: NDArray[np.float64] = (np.asarray(self.stop)[axes] - 0.5 - points[:, axes]) * scale
        return result

    def pixels_of(self, rows_columns: NDArray[np.float64], plane: Plane) -> NDArray[np.float64]:
        """Positions ``(N, 2)`` as row and column in a cropped slice to pixels right and down."""
        scale = np.array([self.spacing_mm[plane.across], self.spacing_mm[plane.up]]) * self.px_per_mm
        result: NDArray[np.float64] = (rows_columns[:, ::-1] + 0.5) * scale
        return result


@cache
def _shares(count: int, size: int) -> NDArray[np.float32]:
    """``(count, size)`` shares of ``size`` pixels in ``count``: linear between their centres, flat at the rim."""
    places = np.clip((np.arange(count) + 0.5) * size / count - 0.5, 0, size - 1)
    shares: NDArray[np.float64] = np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0)
    return shares.astype(np.float32)


@dataclass(frozen=True)
class Window:
    """Grey levels of one volume.

    Attributes:
        low: value shown black.
        high: value shown white.
        head_above: values above this are head, the rest is background.
    """

    low: float
    high: float
    head_above: float

    def grey(self, picture: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Grey levels 0 to 255."""
        scaled = (picture - self.low) * (255.0 / (self.high - self.low))
        result: NDArray[np.uint8] = np.clip(scaled, 0, 255).astype(np.uint8)
        return result


def window_of(data: Array) -> Window:
    """Grey levels that suit a volume, skull-stripped or not; background is what the corners hold."""
    steps = [-(-size // _SAMPLES_PER_AXIS) for size in data.shape]
    sample = data[:: steps[0], :: steps[1], :: steps[2]]
    corners = data[np.ix_(*[(0, size - 1) for size in data.shape])]
    background = float(np.median(corners))
    inside = sample[sample != background]
    if inside.size == 0:
        return Window(background, background + 1.0, background)
    low, high = (float(value) for value in np.percentile(inside, WINDOW_PERCENTILES))
    threshold = background + FOREGROUND_SHARE * (high - background)
    return Window(low, high if high > low else low + 1.0, min(threshold, low) if low > background else threshold)


def head_box(
    data: Array, above: float, *, margin_mm: float, spacing_mm: tuple[float, float, float]
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Start and stop of the box of voxels above a value, with a margin, inside the volume.

    The whole volume where nothing lies above it.
    """
    head = data > above
    starts, stops = [], []
    for axis, size in enumerate(data.shape):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(head.any(axis=others))
        margin = int(np.ceil(margin_mm / spacing_mm[axis]))
        starts.append(max(0, int(filled[0]) - margin) if filled.size else 0)
        stops.append(min(size, int(filled[-1]) + 1 + margin) if filled.size else size)
    return (starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2])


def nearest_voxel(voxels: Iterable[float], shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Whole voxel indices nearest to fractional ones, inside the volume.

    Halves go up after rounding to 1e-4, so that the same place on a flipped grid gives the same voxel.
    """
    x, y, z = (
        int(np.clip(np.floor(round(float(value), 4) + 0.5), 0, size - 1))
        for value, size in zip(voxels, shape, strict=True)
    )
    return x, y, z


def spread(first: int, last: int, count: int) -> tuple[int, ...]:
    """At most ``count`` different whole numbers from ``first`` to ``last``, evenly spaced, both ends included."""
    return tuple(sorted({int(np.floor(value + 0.5)) for value in np.linspace(first, last, count)}))
