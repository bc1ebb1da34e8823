"""Growth of a tumour in tissue: the reaction-diffusion equation of Fisher and of Kolmogorov, Petrovsky and Piskunov.

``du/dt = div(D grad u) + rho u (1 - u)``, with ``u`` the cell density as a share of the most that tissue carries,
``D`` by tissue and nothing where there is none (Swanson, Alvord and Murray, Cell Prolif 2000;33:317,
doi:10.1046/j.1365-2184.2000.00177.x; Murray, Mathematical Biology II, 3rd ed., chapter 11).

Scheme: Strang splitting (SIAM J Numer Anal 1968;5:506, doi:10.1137/0705041), half a step of the reaction, one of
diffusion, half a step of the reaction. The reaction is the logistic equation, solved exactly. Diffusion is the
explicit finite-volume step with the harmonic mean of ``D`` on each face, so that a face to a voxel without
diffusion lets nothing through (zero flux), and what leaves one voxel enters its neighbour. Stability: the step

    ``dt <= min over voxels of 1 / sum over faces of D_face / h^2``

makes every new value a weighted mean of old ones with weights from 0 to 1, so densities stay within 0 to 1 (the
condition for a discrete maximum principle; Hundsdorfer and Verwer, Numerical Solution of Time-Dependent
Advection-Diffusion-Reaction Equations, 2003, section I.7). In a homogeneous medium it is the well-known
``h^2 / (2 d D)`` in ``d`` dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from brats_seg.phantom.fields import Field

CORE_DENSITY = 0.8
"""Density that shows on T1 with contrast agent, as a share of the capacity (Swanson et al., Br J Cancer 2008;98:113,
doi:10.1038/sj.bjc.6604125)."""
EDGE_DENSITY = 0.16
"""Density at which T2 and FLAIR begin to show something (the same source)."""
SAFETY = 0.9
"""Share of the longest stable step that is taken."""
FAINT = 1e-30
"""Of a lower density nothing is left: processors are slow with numbers near the smallest there are."""
_TINY = 1e-30


@dataclass(frozen=True)
class Rates:
    """How cells spread and divide.

    Attributes:
        white_mm2_per_day: diffusion in white matter.
        grey_mm2_per_day: diffusion in grey matter; five times slower is the usual assumption (Swanson 2000).
        per_day: proliferation rate ``rho``.
        least_tissue: a voxel with a smaller share of grey and white matter lets nothing in.
    """

    white_mm2_per_day: float
    grey_mm2_per_day: float
    per_day: float
    least_tissue: float = 0.3

    def __post_init__(self) -> None:
        if min(self.white_mm2_per_day, self.grey_mm2_per_day, self.per_day) <= 0:
            raise ValueError(f"diffusion and proliferation must be positive, not {self}")

    def diffusion(self, white: Field, grey: Field) -> Field:
        """mm^2 per day in each voxel: the mean over its tissue, and 0 where there is too little of it."""
        tissue = white + grey
        mean = (self.white_mm2_per_day * white + self.grey_mm2_per_day * grey) / np.maximum(tissue, 1e-6)
        return np.where(tissue >= self.least_tissue, mean, 0).astype(np.float32)


class Reactor:
    """Steps of the equation on one array of diffusion coefficients."""

    def __init__(self, diffusion: Field, spacing_mm: Sequence[float], per_day: float) -> None:
        """Prepare faces and the step.

        Args:
            diffusion: mm^2 per day, of any dimension; 0 where there is no tissue.
            spacing_mm: one value per dimension.

        Raises:
            ValueError: if the spacing does not fit the array or nothing diffuses.
        """
        if len(spacing_mm) != diffusion.ndim:
            raise ValueError(f"{diffusion.ndim} dimensions need as many spacings, not {tuple(spacing_mm)}")
        self.per_day = per_day
        self._days, self._shares = 0.0, [diffusion[:0]]
        self._faces, self._strides = [], [math.prod(diffusion.shape[axis + 1 :]) for axis in range(diffusion.ndim)]
        outflow = np.zeros(diffusion.shape, diffusion.dtype)
        for axis, spacing in enumerate(spacing_mm):
            face = np.zeros(diffusion.shape, diffusion.dtype)  # nothing flows from the last voxel to the next line
            values, inner, out = (np.moveaxis(array, axis, 0) for array in (diffusion, face, outflow))
            first, second = values[:-1], values[1:]
            inner[:-1] = 2 * first * second / (first + second + _TINY) / spacing**2
            self._faces.append(face.ravel())
            out += inner
            out[1:] += inner[:-1]
        fastest = float(outflow.max())
        if fastest <= 0:
            raise ValueError("nothing diffuses anywhere: the diffusion array is 0")
        self.stable_days = 1 / fastest
        """The longest step that keeps densities within 0 to 1."""

    def step(self, density: Field, days: float) -> Field:
        """The density ``days`` later, in one step; the input is left alone.

        Raises:
            ValueError: if the step is longer than :attr:`stable_days`.
        """
        if not 0 < days <= self.stable_days:
            raise ValueError(f"a step of {days:g} days is unstable; {self.stable_days:g} is the longest")
        half = math.exp(self.per_day * days / 2)
        before = logistic(density.ravel(), half)
        after = before.copy()
        if days != self._days:
            self._days, self._shares = days, [face * days for face in self._faces]
        for stride, share in zip(self._strides, self._shares, strict=True):
            flow = before[stride:] - before[:-stride]
            flow *= share[:-stride]
            after[:-stride] += flow
            after[stride:] -= flow
        after[after < FAINT] = 0
        result: Field = logistic(after, half).reshape(density.shape)
        return result


def logistic(density: Any, factor: float) -> Any:
    """Exact solution of ``du/dt = rho u (1 - u)`` after the time in which a few cells multiply by ``factor``."""
    below = density * (factor - 1)
    below += 1
    return density * factor / below


MOST_STEPS = 600
"""Of growth; a tumour may have no room left."""


def arrival_days(
    reactor: Reactor,
    seed: Field,
    spacing_mm: Sequence[float],
    *,
    thresholds: Sequence[float],
    until: Sequence[int],
) -> list[Field]:
    """Let a seed grow and note when the density passes each threshold in each voxel.

    Args:
        seed: density at the start, 0 outside tissue.
        until: stop when so many voxels have passed each threshold, or after :data:`MOST_STEPS`.

    Returns:
        Days, per threshold a float32 array; where the front did not come, or cannot, the nearest voxel's time and what
        the way from there would take, so that values rise outwards everywhere.
    """
    days = SAFETY * reactor.stable_days
    times = [np.where(seed >= level, 0, np.inf).astype(np.float32) for level in thresholds]
    waiting = [(seed < level).ravel() for level in thresholds]
    density, now = seed, 0.0
    for _ in range(MOST_STEPS):
        if all(seed.size - np.count_nonzero(left) >= count for left, count in zip(waiting, until, strict=True)):
            break
        after = reactor.step(density, days)
        for time, left, level in zip(times, waiting, thresholds, strict=True):
            passed = np.flatnonzero(left & (after.ravel() >= level))
            old, new = density.ravel()[passed], after.ravel()[passed]
            time.ravel()[passed] = now + days * np.clip((level - old) / np.maximum(new - old, 1e-12), 0, 1)
            left[passed] = False
        density, now = after, now + days
    return [_extended(time, seed, spacing_mm, level) for time, level in zip(times, thresholds, strict=True)]


def _extended(times: Field, seed: Field, spacing_mm: Sequence[float], level: float) -> Field:
    """Finite times everywhere that rise outwards: before the start inside the seed, late where the front never came."""
    reached = np.isfinite(times)
    if not reached.any():
        raise ValueError("the seed is too thin to grow to any of the thresholds")
    latest = float(times[reached].max())
    radius_mm = math.cbrt(3 / (4 * math.pi) * float(reached.sum()) * math.prod(spacing_mm))
    days_per_mm = max(latest, 1e-3) / max(radius_mm, 1e-3)
    result = times.copy()
    if not reached.all():
        away, nearest = ndimage.distance_transform_edt(~reached, sampling=spacing_mm, return_indices=True)
        # a way through what is no tissue takes longer: a closed sulcus is crossed, a ventricle is not
        late = times[tuple(nearest)] + 2.0 * days_per_mm * away
        result[~reached] = late[~reached]
    early = seed >= level
    result[early] = -days_per_mm * ndimage.distance_transform_edt(early, sampling=spacing_mm)[early]
    return result.astype(np.float32)
