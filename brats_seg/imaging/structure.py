"""Whether two scans show the same anatomy in the same place, whatever their contrast.

At every cell of a small picture the border between tissues has a direction, which is the same in every sequence
while brightness is not. Two scans of one head agree in it, and nowhere better than where they lie on one another
unturned; those of two people agree hardly more than at any other displacement. This is the normalised gradient
field of E. Haber and J. Modersitzki, Intensity gradient based registration and fusion of multi-modal images, Methods
Inf Med 2007;46:292 (doi:10.1160/ME9046), compared at all displacements together by Fourier transforms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from brats_seg.core.grid import Mask, Singles
from brats_seg.imaging.boxes import inner

RIM_MM = 8.0
"""Depth of the rim that is left out: the outline of a brain is much the same in everybody."""

REACH_MM = 24.0
"""Displacements up to this along each axis are compared."""

FAR_MM = 12.0
"""From here on displacements count as chance."""

BESIDE_MM = (5.0, 9.0)
"""Displacements at which folds of one head no longer lie on themselves, while the form of the brain still does."""

MIN_COMMON_ML = 60.0
"""Less brain in common than this shows too little to compare."""

_TERMS = ((0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0), (0, 1, 2.0), (0, 2, 2.0), (1, 2, 2.0))

FLIPS: tuple[tuple[int, ...], ...] = ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
"""Array axes along which a scan may be stored the wrong way round."""


@dataclass(frozen=True)
class Agreement:
    """How well the borders of two scans agree in direction.

    Attributes:
        excess: mean squared cosine between the directions where the scans lie, above its mean over displacements of
            12 to 24 mm; about 0 for unrelated images, 0.2 to 0.5 for sequences of one head.
        best: the same at the best displacement.
        shift_mm: that displacement of the second scan against the first along the array axes, between cells.
        prominence: how far it stands out where the scans lie, above its mean over displacements of 5 to 9 mm, in
            standard deviations of those of 12 to 24 mm.
    """

    excess: float
    best: float
    shift_mm: tuple[float, float, float]
    prominence: float

    @property
    def distance_mm(self) -> float:
        """Length of the displacement."""
        return float(np.linalg.norm(self.shift_mm))


def directions(values: Singles, inside: Mask, cell_mm: tuple[float, float, float]) -> Singles:
    """``(7, X, Y, Z)``: six products of the border's direction and the weight of it, 0 near the edge of ``inside``.

    Args:
        values: ``(X, Y, Z)`` means over cells.
        inside: cells of the brain that the scan covers.
    """
    deep = inner(inside, cell_mm, RIM_MM)
    if not deep.any():
        return np.zeros((len(_TERMS) + 1, *values.shape), np.float32)
    gradients: Singles = np.array(np.gradient(values, *cell_mm), np.float32)
    squared = (gradients**2).sum(axis=0)
    # Slopes below the usual one count less: they are noise.
    slopes = np.where(deep, gradients / np.sqrt(squared + max(float(np.median(squared[deep])), 1e-12)), 0)
    products = [slopes[i] * slopes[j] for i, j, _ in _TERMS]
    return np.stack([*products, (slopes**2).sum(axis=0)]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Borders:
    """The directions of one scan's borders, ready to be compared.

    Attributes:
        fields: as :func:`directions` makes them.
    """

    fields: Singles
    cell_mm: tuple[float, float, float]

    @property
    def reach(self) -> tuple[int, int, int]:
        """Cells within :data:`REACH_MM` along each axis."""
        x, y, z = (int(REACH_MM // size) for size in self.cell_mm)
        return x, y, z

    @cached_property
    def spectra(self) -> NDArray[np.complex64]:
        """Transforms of the fields, padded so that nothing within reach comes round from the other end."""
        sizes = zip(self.fields.shape[1:], self.reach, strict=True)
        shape = [fft.next_fast_len(n + r, real=True) for n, r in sizes]
        result: NDArray[np.complex64] = fft.rfftn(self.fields, shape, axes=(1, 2, 3))
        return result

    @cached_property
    def judged_ml(self) -> float:
        """Brain that is compared."""
        return float((self.fields[-1] > 0).sum()) * float(np.prod(self.cell_mm)) / 1000

    def flipped(self, axes: tuple[int, ...]) -> Borders:
        """Of the scan stored the other way round along array axes."""
        turned = np.flip(self.fields, tuple(axis + 1 for axis in axes))
        signs = [(-1.0) ** ((i in axes) + (j in axes)) for i, j, _ in _TERMS]
        return Borders(turned * np.array([*signs, 1.0], np.float32)[:, None, None, None], self.cell_mm)


def compare(first: Borders, second: Borders) -> Agreement | None:
    """How two scans on one grid of cells agree; None with too little brain in common."""
    if min(first.judged_ml, second.judged_ml) < MIN_COMMON_ML:
        return None
    reach, cell_mm = first.reach, first.cell_mm
    a, b = first.spectra, second.spectra
    product = sum(np.float32(term[2]) * np.conj(a[k]) * b[k] for k, term in enumerate(_TERMS))
    padded = [fft.next_fast_len(n + r, real=True) for n, r in zip(first.fields.shape[1:], reach, strict=True)]
    window = np.ix_(*(np.arange(-r, r + 1) for r in reach))
    same, total = (fft.irfftn(spectrum, padded)[window] for spectrum in (product, np.conj(a[-1]) * b[-1]))
    if total[reach] < 0.1 * total.max():
        return None
    cosines = same / np.maximum(total, 0.1 * float(total.max()))
    distance = _distance_mm(reach, cell_mm)
    far = cosines[(distance >= FAR_MM) & (distance <= REACH_MM)]
    beside = cosines[(distance >= BESIDE_MM[0]) & (distance <= BESIDE_MM[1])]
    chance, here = float(far.mean()), float(cosines[reach])
    peak = tuple(int(k) for k in np.unravel_index(int(np.argmax(cosines)), cosines.shape))
    shift = [(k - r) * size for k, r, size in zip(_between(cosines, peak), reach, cell_mm, strict=True)]
    prominence = (here - float(beside.mean())) / max(float(far.std()), 1e-6)
    return Agreement(here - chance, float(cosines[peak]) - chance, (shift[0], shift[1], shift[2]), prominence)


def compare_flips(first: Borders, second: Borders) -> Iterator[tuple[tuple[int, ...], Agreement]]:
    """The second scan stored every other way round against the first."""
    for axes in FLIPS:
        found = compare(first, second.flipped(axes))
        if found is not None:
            yield axes, found


def _distance_mm(reach: tuple[int, int, int], cell_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Of every displacement within reach."""
    x, y, z = (np.arange(-r, r + 1) * size for r, size in zip(reach, cell_mm, strict=True))
    distance: NDArray[np.float64] = np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2)
    return distance


def _between(values: Singles, peak: tuple[int, ...]) -> tuple[float, ...]:
    """The top of the parabola through the peak and its neighbours along each axis; the peak itself at an end."""
    result = []
    for axis, k in enumerate(peak):
        line = np.moveaxis(values, axis, -1)[peak[:axis] + peak[axis + 1 :]]
        if not 0 < k < line.size - 1:
            result.append(float(k))
            continue
        before, here, after = (float(line[k + d]) for d in (-1, 0, 1))
        bend = before - 2 * here + after
        result.append(k + (0.5 * (before - after) / bend if bend < 0 else 0.0))
    return tuple(result)
