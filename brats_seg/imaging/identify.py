"""Whether the images show what their names say: T1, T1CE, T2 and FLAIR.

Four things tell the sequences apart on almost every brain, with tumour or without:

* contrast: vessels, plexus and enhancing tumour make T1CE exceed T1 far more often than the reverse;
* fluid: it is bright in T2 and dark in FLAIR;
* tails: fluid draws out the bright end of T2 and the dark end of T1 and T1CE;
* family: T1 and T1CE resemble each other more than either resembles T2 or FLAIR.

Each becomes a number from -1 to 1, positive where the names are right. Every way of exchanging the names is
scored with them, and a warning is given only where another way beats the given names by :data:`MIN_GAIN`.

Measured on 38 BraTS studies and one brain with multiple sclerosis, at 1 mm through :func:`check_identity` with all
four sequences, and on every second voxel with each subset of two and three; each study under its right names and
with every two names exchanged. The same studies served while the four numbers were chosen, so fresh data may do a
little worse. No threshold was moved to separate single cases: a right naming beats every wrong one by 0.88 or more
on the BraTS studies (0.43 on the brain without tumour), and a warning needs 0.6.

==========================  ============  ==============================================================
sequences present           false alarms  exchanged pairs found and rightly named
==========================  ============  ==============================================================
all four                    0 of 39       T1/T1CE 38 of 39, each of the other five pairs 39 of 39
two or three of four        0 of 390      T1/T1CE 38 of 39; T1/T2, T1CE/T2 and T2/FLAIR 39 of 39 (T1CE, T2,
                                          FLAIR alone: 39 seen, 38 rightly named); T1/FLAIR and T1CE/FLAIR
                                          39 of 39 with both T1 and T1CE there, 30 and 15 of 39 with T2 and
                                          one of them, never as a pair alone
==========================  ============  ==============================================================

The one T1/T1CE exchange that stays unseen is the brain without tumour: its vessels speak, but too softly to be sure.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Volume
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.boxes import bounding_box
from brats_seg.imaging.brain import foreground
from brats_seg.imaging.similarity import ranks

MIN_GAIN = 0.6
"""By how much other names must score better than the given ones; one number that turns from -1 to 1 gains 2."""

SAMPLE_SPACING_MM = 2.0
"""Voxels are sampled about this far apart; finer costs time and changes nothing."""

EDGE_MM = 4.0
"""Depth of the brain's rim that is left out: partial volume and remnants of skull live there."""

MIN_VOXELS = 5_000
"""Fewer sampled voxels common to all sequences say nothing."""

FAR = 4.0
"""Robust standard deviations from which a difference of T1CE and T1 counts as strong."""

_T1, _T1CE, _T2, _FLAIR = SEQUENCES

Naming = Mapping[MRSequence, MRSequence]
"""From the name an image was given to the sequence it shows."""

_Values = NDArray[np.float64]
_Key = tuple[str, MRSequence, MRSequence]


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
        return f"{listed} look exchanged: {self.evidence}. Check which file is which before trusting the result."


def check_identity(images: Mapping[MRSequence, Volume], brain: NDArray[np.bool_]) -> tuple[IdentityWarning, ...]:
    """Warn where images contradict their names.

    Args:
        images: sequences on one grid.
        brain: ``(X, Y, Z)`` of that grid.

    Returns:
        At most one warning; none where the given names fit best, or where the images do not say (T1 and
        T1CE without any visible contrast agent; FLAIR with one of T1 and T1CE alone).
    """
    present = [sequence for sequence in SEQUENCES if sequence in images]
    values = _sample(images, brain, present) if len(present) > 1 else None
    if values is None:
        return ()
    look = _Look(values)
    given = {sequence: sequence for sequence in present}
    namings = [dict(zip(present, order, strict=True)) for order in itertools.permutations(present)]
    best = max(namings, key=look.score)
    if look.score(best) - look.score(given) < MIN_GAIN:
        return ()
    moved = {name: shown for name, shown in best.items() if name is not shown}
    return (IdentityWarning(moved, look.explain(best)),)


def _sample(
    images: Mapping[MRSequence, Volume], brain: NDArray[np.bool_], present: list[MRSequence]
) -> dict[MRSequence, _Values] | None:
    """Values of every sequence at the same voxels, inside the brain, away from its rim; None if there are too few.

    Voxels are counted from the box around the brain, right, anterior and superior, so that the field of view and the
    order of storage do not matter.
    """
    frame = images[present[0]].with_data(brain).to_ras()
    box = bounding_box(frame.data)
    if box is None:
        return None
    steps = [max(round(SAMPLE_SPACING_MM / spacing), 1) for spacing in frame.grid.spacing_mm]
    every = tuple(slice(span.start, span.stop, step) for span, step in zip(box, steps, strict=True))
    inside = frame.data[every]
    for axis, (step, spacing) in enumerate(zip(steps, frame.grid.spacing_mm, strict=True)):
        width = 2 * max(round(EDGE_MM / (step * spacing)), 1) + 1
        inside = ndimage.minimum_filter1d(inside, width, axis=axis, mode="constant", cval=0)
    values = {sequence: images[sequence].to_ras().data[every] for sequence in present}
    for sequence in present:  # a slab covers part of the brain
        inside = inside & images[sequence].with_data(foreground(images[sequence])).to_ras().data[every]
    if int(inside.sum()) < MIN_VOXELS:
        return None
    return {sequence: data[inside].astype(np.float64) for sequence, data in values.items()}


class _Look:
    """What the images say about each other; everything is computed once for each pair of given names."""

    def __init__(self, values: Mapping[MRSequence, _Values]) -> None:
        scaled = {name: _scaled(v) for name, v in values.items()}
        ranked = {name: ranks(v) / v.size for name, v in values.items()}
        self.tails = {name: _tail(v) for name, v in values.items()}
        pairs = list(itertools.permutations(values, 2))
        self.excess = {(a, b): _excess(scaled[a], scaled[b]) for a, b in pairs}
        self.fluid = {(a, b): _fluid(ranked[a], ranked[b]) for a, b in pairs}
        self.likeness = {(a, b): float(np.corrcoef(ranked[a], ranked[b])[0, 1]) for a, b in pairs}

    def score(self, naming: Naming) -> float:
        """How well the images fit a naming; larger is better."""
        return sum(self.terms(naming).values())

    def terms(self, naming: Naming) -> dict[_Key, float]:
        """What each feature says about a naming, by the sequences it concerns."""
        image = {shown: name for name, shown in naming.items()}
        terms: dict[_Key, float] = {}
        if _T1 in image and _T1CE in image:
            a, b = image[_T1], image[_T1CE]
            terms["contrast", _T1, _T1CE] = _clip(np.log10((self.excess[a, b] + 1e-4) / (self.excess[b, a] + 1e-4)))
            for mine, other in itertools.product((_T1, _T1CE), (_T2, _FLAIR)):
                if other in image:
                    closer = self.likeness[a, b] - self.likeness[image[mine], image[other]]
                    terms["family", mine, other] = 0.5 * _clip(5 * closer)
        if _T2 in image and _FLAIR in image:
            a, b = image[_T2], image[_FLAIR]
            terms["fluid", _T2, _FLAIR] = _clip(np.log10((self.fluid[a, b] + 0.02) / (self.fluid[b, a] + 0.02)))
        for mine in (_T1, _T1CE):
            if mine in image and _T2 in image:
                ratio = self.tails[image[_T2]] / self.tails[image[mine]]
                terms["tails", mine, _T2] = 0.5 * _clip(np.log2(ratio))
        return terms

    def explain(self, naming: Naming) -> str:
        """The two features that speak most for a naming against the given names."""
        now, then = self.terms({name: name for name in naming}), self.terms(naming)
        keys = sorted(then, key=lambda key: now[key] - then[key])[:2]
        image = {shown: name for name, shown in naming.items()}
        return "; ".join(self._sentence(key, image) for key in keys if then[key] - now[key] > 0.1)

    def _sentence(self, key: _Key, image: Naming) -> str:
        kind, a, b = key[0], image[key[1]], image[key[2]]
        if kind == "contrast":
            return (
                f"the scan named {b.title} is much brighter than the one named {a.title} in {self.excess[a, b]:.2%} of "
                f"the brain and much darker in {self.excess[b, a]:.2%}, as contrast agent makes T1CE against T1"
            )
        if kind == "fluid":
            return (
                f"{self.fluid[a, b]:.0%} of what is brightest in the scan named {a.title} is dark in the one named "
                f"{b.title} (the other way round {self.fluid[b, a]:.0%}), as fluid is in T2 and FLAIR"
            )
        if kind == "tails":
            return (
                f"bright voxels of the scan named {b.title} lie {self.tails[b]:.1f} times as far from its median as "
                f"dark ones, those of the one named {a.title} {self.tails[a]:.1f} times, as fluid makes T2 against "
                f"{key[1].title}"
            )
        first, second = image[_T1], image[_T1CE]
        return (
            f"the scans named {first.title} and {second.title} resemble each other (rank correlation "
            f"{self.likeness[first, second]:.2f}) more than those named {a.title} and {b.title} "
            f"({self.likeness[a, b]:.2f}), as T1 and T1CE do"
        )


def _clip(value: float) -> float:
    return float(np.clip(value, -1, 1))


def _scaled(values: _Values) -> _Values:
    """Values with median 0 and interquartile range 1."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    result: _Values = (values - middle) / max(float(high - low), 1e-12)
    return result


def _excess(low: _Values, high: _Values) -> float:
    """Share of voxels where ``high`` exceeds ``low`` by more than :data:`FAR` robust standard deviations."""
    difference = high - low
    difference -= np.median(difference)
    spread = 1.4826 * float(np.median(np.abs(difference)))
    return float(np.mean(difference > FAR * spread)) if spread > 0 else 0.0


def _fluid(bright_ranks: _Values, dark_ranks: _Values) -> float:
    """Share of the brightest twentieth of one image that lies in the darkest fifth of another."""
    top = bright_ranks > 0.95
    return float(np.mean(dark_ranks[top] < 0.2)) if top.any() else 0.0


def _tail(values: _Values) -> float:
    """Length of the bright tail over that of the dark one, from median to 1st and 99th percentile."""
    low, middle, high = np.percentile(values, (1, 50, 99))
    return float((high - middle + 1e-12) / (middle - low + 1e-12))
