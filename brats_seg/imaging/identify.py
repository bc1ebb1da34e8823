"""Whether the images show what their names say, T1, T1CE, T2 and FLAIR, and bright and dark the right way round.

Four things tell the sequences apart on almost every brain, with tumour or without:

* contrast: vessels, plexus and enhancing tumour make T1CE exceed T1 far more often than the reverse;
* fluid: it is bright in T2 and dark in FLAIR;
* tails: fluid draws out the bright end of T2 and the dark end of T1 and T1CE;
* family: T1 and T1CE resemble each other more than either resembles T2 or FLAIR.

Each becomes a number from -1 to 1, positive where the names are right. Every way of exchanging the names is
scored with them, and a warning is given only where another way beats the given names by :data:`MIN_GAIN`.

A right naming beats every wrong one by 0.88 or more on 38 BraTS studies, 0.43 on a brain without tumour, and no study
as it is was warned of. Inverted images, bright and dark exchanged, are seen in the same way: each sequence is turned
over, or all, and the names are scored anew. Of FLAIR one more number speaks: what is darkest in T1, fluid mostly, is
dark in FLAIR too. What was measured: ``experiments/sequences``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Mask, Volume
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.core.words import listed
from brats_seg.imaging.boxes import bounding_box, inner
from brats_seg.imaging.brain import foregrounds
from brats_seg.imaging.similarity import ranks

MIN_GAIN = 0.6
"""By how much other names must score better than the given ones; one number that turns from -1 to 1 gains 2."""

SAMPLE_SPACING_MM = 2.0
"""Voxels are sampled about this far apart; finer costs time and changes nothing."""

EDGE_MM = 4.0
"""Depth of the brain's rim that is left out: partial volume and remnants of skull live there."""

MIN_VOXELS = 5_000
"""Fewer sampled voxels common to all sequences say nothing."""

MIN_GAIN_INVERTED = 1.0
"""By how much the names must fit better once sequences are turned over. Measured on the same 50, with four sequences:
1.4 and more where one is inverted other than FLAIR."""
MIN_GAIN_INVERTED_FLAIR = 0.3
"""Likewise where that is FLAIR alone, of which fewer numbers speak. Measured: 0.5 and more, and for studies as they are
-0.5 at most."""

MIN_SEQUENCES_INVERTED = 3
"""Of two, there are inverted ones that look like right ones."""

FAR = 4.0
"""Robust standard deviations from which a difference of T1CE and T1 counts as strong."""

_T1, _T1CE, _T2, _FLAIR = SEQUENCES

Naming = Mapping[MRSequence, MRSequence]
"""From the name an image was given to the sequence it shows."""

_Values = NDArray[np.float64]
_Key = tuple[str, MRSequence, MRSequence]
_Image = tuple[MRSequence, bool]
"""The image a name was given to, and whether it is turned over, bright for dark."""
_Images = Mapping[MRSequence, _Image]
"""From a sequence to the image that is held to show it."""


@dataclass(frozen=True)
class IdentityWarning:
    """Sequences whose images look exchanged, or inverted.

    Attributes:
        looks_like: from the name given to what the image shows; each to itself where images are inverted.
        evidence: what the images show, in words with numbers.
    """

    looks_like: Naming
    evidence: str

    def __str__(self) -> str:
        titles = [sequence.title for sequence in SEQUENCES if sequence in self.looks_like]
        names = listed(titles)
        if all(name is shown for name, shown in self.looks_like.items()):
            look = "look" if len(titles) > 1 else "looks"
            return (
                f"{names} {look} inverted, bright and dark exchanged: {self.evidence}. Look at the images, and take "
                "those as the scanner made them."
            )
        return f"{names} look exchanged: {self.evidence}. Check which file is which before trusting the result."


def check_identity(
    images: Mapping[MRSequence, Volume], brain: NDArray[np.bool_], shown: Mapping[MRSequence, Mask] | None = None
) -> tuple[IdentityWarning, ...]:
    """Warn where images contradict their names.

    Args:
        images: sequences on one grid.
        brain: ``(X, Y, Z)`` of that grid.
        shown: their :func:`~brats_seg.imaging.brain.foregrounds`, where these were asked before.

    Returns:
        At most one warning; none where the given names fit best, or where the images do not say (T1 and
        T1CE without any visible contrast agent; FLAIR with one of T1 and T1CE alone).
    """
    present = [sequence for sequence in SEQUENCES if sequence in images]
    shown = foregrounds(images) if shown is None else shown
    values = _sample(images, brain, shown) if len(present) > 1 else None
    if values is None:
        return ()
    look = _Look(values)
    given: _Images = {sequence: (sequence, False) for sequence in present}
    orders = itertools.permutations(given.values())
    named = max((dict(zip(present, order, strict=True)) for order in orders), key=look.gain)
    inverted = _inverted(look, present, named) if len(present) >= MIN_SEQUENCES_INVERTED else None
    if inverted is not None:
        return (inverted,)
    if look.gain(named) < MIN_GAIN:
        return ()
    moved = {name: shown for shown, (name, _) in named.items() if name is not shown}
    return (IdentityWarning(moved, look.explain(named)),)


def _sample(
    images: Mapping[MRSequence, Volume], brain: NDArray[np.bool_], shown: Mapping[MRSequence, Mask]
) -> dict[MRSequence, _Values] | None:
    """Values of every sequence at the same voxels, inside the brain, away from its rim; None if there are too few.

    Voxels are counted from the box around the brain, right, anterior and superior, so that the field of view and the
    order of storage do not matter.
    """
    present = [sequence for sequence in SEQUENCES if sequence in images]
    frame = images[present[0]].with_data(brain).to_ras()
    box = bounding_box(frame.data)
    if box is None:
        return None
    steps = [max(round(SAMPLE_SPACING_MM / spacing), 1) for spacing in frame.grid.spacing_mm]
    every = tuple(slice(span.start, span.stop, step) for span, step in zip(box, steps, strict=True))
    sampled_mm = [step * spacing for step, spacing in zip(steps, frame.grid.spacing_mm, strict=True)]
    inside = inner(frame.data[every], sampled_mm, EDGE_MM)
    values = {sequence: images[sequence].to_ras().data[every] for sequence in present}
    for sequence in present:  # a slab covers part of the brain
        inside = inside & images[sequence].with_data(shown[sequence]).to_ras().data[every]
    if int(inside.sum()) < MIN_VOXELS:
        return None
    return {sequence: data[inside].astype(np.float64) for sequence, data in values.items()}


def _inverted(look: _Look, present: list[MRSequence], named: _Images) -> IdentityWarning | None:
    """A warning where turning one image over, or all, explains more than the best exchange of names."""
    choices = [*((sequence,) for sequence in present), tuple(present)]

    def gain(images: _Images, turned: tuple[MRSequence, ...]) -> float:
        # In large tumours what is darkest in T1 is no fluid: it is asked about FLAIR, and not about T1.
        return look.gain(images, with_dark=_FLAIR in turned)

    def upright(turned: tuple[MRSequence, ...]) -> _Images:
        return {sequence: (sequence, sequence in turned) for sequence in present}

    best = max(choices, key=lambda turned: gain(upright(turned), turned))
    found, least = gain(upright(best), best), MIN_GAIN_INVERTED_FLAIR if best == (_FLAIR,) else MIN_GAIN_INVERTED
    if found < least or found <= gain(named, best):
        return None
    evidence = f"the names fit better by {found:.1f} once turned over, and {least:g} is clear"
    return IdentityWarning({sequence: sequence for sequence in best}, evidence)


class _Look:
    """What the images say about each other; everything is computed once for each pair of images."""

    def __init__(self, values: Mapping[MRSequence, _Values]) -> None:
        self._scaled = {name: scaled(v) for name, v in values.items()}
        self._ranks = {name: ranks(v) / v.size for name, v in values.items()}
        self._tails = {name: tail_ratio(v) for name, v in values.items()}
        self.likeness = functools.cache(self._likeness)
        self.excess = functools.cache(self._excess)
        self.fluid = functools.cache(lambda bright, dark: fluid_share(self._of(bright), self._of(dark)))
        self.dark = functools.cache(lambda anatomy, flair: dark_shares(self._of(anatomy), self._of(flair)))

    def gain(self, images: _Images, *, with_dark: bool = False) -> float:
        """How much better other images fit the names than the given ones."""
        now, then = self._compared(images, with_dark=with_dark)
        return sum(then.values()) - sum(now.values())

    def _compared(self, images: _Images, *, with_dark: bool = False) -> tuple[dict[_Key, float], dict[_Key, float]]:
        """What the features say about the given images, and about others."""
        given: _Images = {sequence: (sequence, False) for sequence in images}
        return self.terms(given, with_dark=with_dark), self.terms(images, with_dark=with_dark)

    def terms(self, images: _Images, *, with_dark: bool = False) -> dict[_Key, float]:
        """What each feature says about the images that the names are given to, by the sequences it concerns."""
        terms: dict[_Key, float] = {}
        if _T1 in images and _T1CE in images:
            a, b = images[_T1], images[_T1CE]
            brighter, darker = self.excess(a, b)
            terms["contrast", _T1, _T1CE] = _clip(np.log10((brighter + 1e-4) / (darker + 1e-4)))
            for mine, other in itertools.product((_T1, _T1CE), (_T2, _FLAIR)):
                if other in images:
                    closer = self.likeness(a, b) - self.likeness(images[mine], images[other])
                    terms["family", mine, other] = 0.5 * _clip(5 * closer)
        if _T2 in images and _FLAIR in images:
            a, b = images[_T2], images[_FLAIR]
            terms["fluid", _T2, _FLAIR] = _clip(np.log10((self.fluid(a, b) + 0.02) / (self.fluid(b, a) + 0.02)))
        for mine in (_T1, _T1CE):
            if mine in images and _T2 in images:
                terms["tails", mine, _T2] = 0.5 * _clip(np.log2(self.tail(images[_T2]) / self.tail(images[mine])))
        anatomy = next((sequence for sequence in (_T1, _T1CE) if sequence in images), None)
        if with_dark and anatomy is not None and _FLAIR in images:
            dark, bright = self.dark(images[anatomy], images[_FLAIR])
            terms["dark", anatomy, _FLAIR] = _clip(np.log10((dark + 0.02) / (bright + 0.02)))
        return terms

    def tail(self, image: _Image) -> float:
        """Length of the bright tail of an image over that of the dark one."""
        name, is_turned = image
        return 1 / self._tails[name] if is_turned else self._tails[name]

    def _of(self, image: _Image) -> _Values:
        name, is_turned = image
        ranked: _Values = 1 - self._ranks[name] if is_turned else self._ranks[name]
        return ranked

    def _likeness(self, a: _Image, b: _Image) -> float:
        if a[1] or b[1]:
            return self.likeness((a[0], False), (b[0], False)) * (1 if a[1] == b[1] else -1)
        return float(np.corrcoef(self._ranks[a[0]], self._ranks[b[0]])[0, 1])

    def _excess(self, low: _Image, high: _Image) -> tuple[float, float]:
        if low[0].value > high[0].value:  # the same the other way round
            brighter, darker = self.excess(high, low)
            return darker, brighter
        a, b = (-self._scaled[name] if is_turned else self._scaled[name] for name, is_turned in (low, high))
        return strong_shares(a, b)

    def explain(self, images: _Images) -> str:
        """The two features that speak most for exchanged images against the given ones."""
        now, then = self._compared(images)
        keys = sorted(then, key=lambda key: now[key] - then[key])[:2]
        return "; ".join(self._sentence(key, images) for key in keys if then[key] - now[key] > 0.1)

    def _sentence(self, key: _Key, images: _Images) -> str:
        kind, a, b = key[0], images[key[1]], images[key[2]]
        if kind == "contrast":
            brighter, darker = self.excess(a, b)
            return (
                f"the scan named {b[0].title} is much brighter than the one named {a[0].title} in "
                f"{brighter:.2%} of the brain and much darker in {darker:.2%}, as contrast agent "
                "makes T1CE against T1"
            )
        if kind == "fluid":
            return (
                f"{self.fluid(a, b):.0%} of what is brightest in the scan named {a[0].title} is dark in the one named "
                f"{b[0].title} (the other way round {self.fluid(b, a):.0%}), as fluid is in T2 and FLAIR"
            )
        if kind == "tails":
            return (
                f"bright voxels of the scan named {b[0].title} lie {self.tail(b):.1f} times as far from its median as "
                f"dark ones, those of the one named {a[0].title} {self.tail(a):.1f} times, as fluid makes T2 against "
                f"{key[1].title}"
            )
        first, second = images[_T1], images[_T1CE]
        return (
            f"the scans named {first[0].title} and {second[0].title} resemble each other (rank correlation "
            f"{self.likeness(first, second):.2f}) more than those named {a[0].title} and {b[0].title} "
            f"({self.likeness(a, b):.2f}), as T1 and T1CE do"
        )


def _clip(value: float) -> float:
    return float(np.clip(value, -1, 1))


def scaled(values: _Values) -> _Values:
    """Values with median 0 and interquartile range 1."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    result: _Values = (values - middle) / max(float(high - low), 1e-12)
    return result


def strong_shares(low: _Values, high: _Values) -> tuple[float, float]:
    """Shares of voxels where ``high`` lies above and below ``low`` by over :data:`FAR` robust standard deviations."""
    difference = high - low
    difference -= np.median(difference)
    spread = 1.4826 * float(np.median(np.abs(difference)))
    if spread == 0:
        return 0.0, 0.0
    return float(np.mean(difference > FAR * spread)), float(np.mean(difference < -FAR * spread))


def fluid_share(bright_ranks: _Values, dark_ranks: _Values) -> float:
    """Share of the brightest twentieth of one image that lies in the darkest fifth of another."""
    top = bright_ranks > 0.95
    return float(np.mean(dark_ranks[top] < 0.2)) if top.any() else 0.0


def dark_shares(anatomy_ranks: _Values, flair_ranks: _Values) -> tuple[float, float]:
    """Of the darkest fiftieth of T1 or T1CE, the shares in the darkest and in the brightest fifth of FLAIR."""
    fluid = flair_ranks[anatomy_ranks < 0.02]
    return (float(np.mean(fluid < 0.2)), float(np.mean(fluid > 0.8))) if fluid.size else (0.0, 0.0)


def tail_ratio(values: _Values, percent: float = 1) -> float:
    """Length of the bright tail over that of the dark one, from the median to ``percent`` from either end."""
    low, middle, high = np.percentile(values, (percent, 50, 100 - percent))
    return float((high - middle + 1e-12) / (middle - low + 1e-12))
