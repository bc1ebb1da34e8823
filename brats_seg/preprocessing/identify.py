"""Whether the images show what their names say: T1, T1CE, T2 and FLAIR.

Four things distinguish the sequences on almost every brain, tumour or not:

* contrast agent brightens vessels, plexus and enhancing tumour: T1CE exceeds T1 far more often than the reverse;
* fluid is bright in T2 and dark in FLAIR;
* fluid makes a bright tail in T2 and a dark one in T1 and T1CE;
* T1 and T1CE resemble each other more than either resembles T2 or FLAIR.

Each becomes a number from -1 to 1 that is positive where names are right. Every way of exchanging the names is
scored with them, and a warning is given only where another way beats the names by :data:`MIN_GAIN`.

Measured on the 38 BraTS studies and one brain with multiple sclerosis used in development (every second voxel),
the names given right and in each of the six pairwise swaps, all four sequences present:
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata

from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.core.volume import Volume
from brats_seg.preprocessing.brain import foreground

MIN_GAIN = 0.6
"""By how much other names must score better; 2 is certain for a swap that one number speaks for."""

SAMPLE_SPACING_MM = 2.0
"""Voxels are sampled about this far apart; finer adds nothing but time."""

EDGE_MM = 4.0
"""Depth of the brain's rim that is left out: partial volume and remnants of skull live there."""

MIN_VOXELS = 5_000
"""Fewer sampled voxels common to all sequences say nothing."""

FAR = 4.0
"""Robust standard deviations that make a difference of T1CE and T1 large."""

_T1, _T1CE, _T2, _FLAIR = SEQUENCES
_T1_FAMILY, _T2_FAMILY = (_T1, _T1CE), (_T2, _FLAIR)

Naming = Mapping[MRSequence, MRSequence]
"""From the name an image was given to the sequence it shows."""


@dataclass(frozen=True)
class IdentityWarning:
    """Sequences whose images look exchanged.

    Attributes:
        looks_like: from the name given to what the image shows, for those that differ.
        evidence: what the images show, in words with numbers.
    """

    looks_like: Naming
    evidence: str

    def __str__(self) -> str:
        names = [sequence.title for sequence in SEQUENCES if sequence in self.looks_like]
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        return f"{listed} look swapped: {self.evidence}. Check which file is which before trusting the result."


def check_identity(images: Mapping[MRSequence, Volume], brain: NDArray[np.bool_]) -> tuple[IdentityWarning, ...]:
    """Warn where images contradict their names.

    Args:
        images: sequences on one grid.
        brain: ``(X, Y, Z)`` of that grid.

    Returns:
        Nothing where the names fit best, or where the images do not say (T1 and T1CE of a tumour-free brain
        without contrast agent, T1 and FLAIR alone).
    """
    present = [sequence for sequence in SEQUENCES if sequence in images]
    if len(present) < 2:
        return ()
    values = _sample(images, brain, present)
    if values is None:
        return ()
    features = _Features.of(values)
    given = {sequence: sequence for sequence in present}
    namings = [dict(zip(present, order, strict=True)) for order in itertools.permutations(present)]
    best = max(namings, key=features.score)
    gain = features.score(best) - features.score(given)
    if best == given or gain < MIN_GAIN:
        return ()
    moved = {name: shown for name, shown in best.items() if name is not shown}
    return (IdentityWarning(moved, features.explain(best)),)


def _sample(
    images: Mapping[MRSequence, Volume], brain: NDArray[np.bool_], present: list[MRSequence]
) -> dict[MRSequence, NDArray[np.float64]] | None:
    """Values of every sequence at the same voxels, inside the brain, away from its rim; None if there are too few."""
    grid = images[present[0]].grid
    steps = tuple(max(round(SAMPLE_SPACING_MM / s), 1) for s in grid.spacing_mm)
    every = tuple(slice(None, None, step) for step in steps)
    inside = brain[every]
    for axis, (step, spacing) in enumerate(zip(steps, grid.spacing_mm, strict=True)):
        size = [1, 1, 1]
        size[axis] = 2 * max(round(EDGE_MM / (step * spacing)), 1) + 1
        inside = ndimage.minimum_filter(inside, size=size, mode="constant", cval=0)
    for sequence in present:
        inside = inside & foreground(images[sequence])[every]
    if int(inside.sum()) < MIN_VOXELS:
        return None
    return {sequence: images[sequence].data[every][inside].astype(np.float64) for sequence in present}


@dataclass(frozen=True)
class _Features:
    """What the images say about each other, by the names they were given."""

    values: Mapping[MRSequence, NDArray[np.float64]]
    ranks: Mapping[MRSequence, NDArray[np.float64]]
    tails: Mapping[MRSequence, float]

    @classmethod
    def of(cls, values: Mapping[MRSequence, NDArray[np.float64]]) -> _Features:
        ranks = {sequence: rankdata(v) / v.size for sequence, v in values.items()}
        return cls(values, ranks, {sequence: _tail(v) for sequence, v in values.items()})

    def score(self, naming: Naming) -> float:
        """How well the images fit a naming; larger is better."""
        image = {shown: name for name, shown in naming.items()}
        total = 0.0
        if _T1 in image and _T1CE in image:
            above, below = self.excess(image[_T1], image[_T1CE])
            total += _clip(np.log10((above + 1e-4) / (below + 1e-4)))
        if _T2 in image and _FLAIR in image:
            total += _clip(np.log10((self.fluid(image[_T2], image[_FLAIR]) + 0.02) /
                                    (self.fluid(image[_FLAIR], image[_T2]) + 0.02)))
        for family in _T1_FAMILY:
            if family in image and _T2 in image:
                total += 0.5 * _clip(np.log2(self.tails[image[_T2]] / self.tails[image[family]]))
        if _T1 in image and _T1CE in image:
            within = self.likeness(image[_T1], image[_T1CE])
            for mine, other in itertools.product(_T1_FAMILY, _T2_FAMILY):
                if other in image:
                    total += 0.5 * _clip(5 * (within - self.likeness(image[mine], image[other])))
        return total

    def excess(self, low: MRSequence, high: MRSequence) -> tuple[float, float]:
        a, b = self.values[low], self.values[high]
        difference = _scaled(b) - _scaled(a)
        difference = difference - np.median(difference)
        spread = 1.4826 * float(np.median(np.abs(difference)))
        if spread == 0:
            return 0.0, 0.0
        return float(np.mean(difference > FAR * spread)), float(np.mean(difference < -FAR * spread))

    def fluid(self, bright: MRSequence, dark: MRSequence) -> float:
        """Share of the brightest twentieth of one image that lies in the darkest fifth of another."""
        top = self.ranks[bright] > 0.95
        return float(np.mean(self.ranks[dark][top] < 0.2)) if top.any() else 0.0

    def likeness(self, a: MRSequence, b: MRSequence) -> float:
        return float(np.corrcoef(self.ranks[a], self.ranks[b])[0, 1])

    def explain(self, naming: Naming) -> str:
        return "todo"


def _clip(value: float) -> float:
    return float(np.clip(value, -1, 1))


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values with median 0 and interquartile range 1."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return (values - middle) / max(high - low, 1e-12)


def _tail(values: NDArray[np.float64]) -> float:
    """Length of the bright tail over that of the dark one."""
    low, middle, high = np.percentile(values, (1, 50, 99))
    return float((high - middle + 1e-12) / (middle - low + 1e-12))
