"""Whether a label map that was given lies on its scan: inside the head, and on what the scan shows.

The whole tumour is brighter than the rest of the brain in FLAIR and T2, and what enhances in T1CE; a map that is
mirrored or turned lies on other tissue. What cannot be told from a right map: one that lies within the head on tissue
that happens to be bright, one that is shifted by little, and a mirrored one of a symmetric tumour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Mask, Volume
from brats_seg.core.study import MRSequence
from brats_seg.imaging.brain import head_mask
from brats_seg.imaging.register import resample

MAX_OUTSIDE_SHARE = 0.5
"""With more of the tumour outside the head the map is of another space."""
DOUBTFUL_OUTSIDE_SHARE = 0.1
MOST_IN_COMMON, LEAST_MIRRORED = 0.2, 0.6
"""Dice of two visits' whole tumours as given, and mirrored, from where on one of the maps may be mirrored."""
SMALLEST_ML = 0.5
"""Of less, brightness tells nothing."""
_EVERY = 5
"""Brightness is ranked among every so many voxels of the head."""


@dataclass(frozen=True)
class BrightnessRule:
    """When a mirrored map fits the scan better. Measured on 38 BraTS studies with their experts' maps.

    Attributes:
        gain: the mean rank of the mirrored map is higher by at least this. Of right maps it is lower in FLAIR and T2.
        least: and reaches at least this.
        most: where that of the map as given is at most this.
        doubtful: mean rank below which it is doubtful that the map lies on this scan.
    """

    gain: float
    least: float
    most: float
    doubtful: float


WHOLE_TUMOUR = BrightnessRule(gain=0.10, least=0.60, most=0.80, doubtful=0.50)
"""FLAIR and T2: right maps reach 0.64 to 0.99 (mean 0.86), mirrored ones 0.30 to 0.76."""
ENHANCING = BrightnessRule(gain=0.20, least=0.80, most=0.72, doubtful=0.0)
"""T1CE: right maps mostly reach 0.74 to 0.99, but 0.36 where hardly anything enhances; mirrored ones 0.14 to 0.76."""
RULES = {MRSequence.FLAIR: WHOLE_TUMOUR, MRSequence.T2: WHOLE_TUMOUR, MRSequence.T1CE: ENHANCING}
"""Sequences that show whether a map lies right, the most telling first."""

_TURNS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("mirrored left to right", (0,)),
    ("mirrored front to back", (1,)),
    ("turned by 180 degrees", (0, 1)),
)


def check_map_on_scan(tumour: Volume, scan: Volume, sequence: MRSequence, *, name: str) -> tuple[str, ...]:
    """Warnings about a map that may not lie on its scan.

    Args:
        tumour: bool; the whole tumour, or for T1CE what enhances. Any grid.
        sequence: what it shows; one without a rule is only held against the head.
        name: of the map, for messages.

    Raises:
        InputError: if it lies outside the head, or certainly elsewhere in it.
    """
    total_ml = float(np.count_nonzero(tumour.data)) * tumour.grid.voxel_ml
    if total_ml == 0:
        return ()
    upright = scan.to_ras()
    mask = resample(tumour.with_data(tumour.data.astype(np.uint8)), upright.grid, order="nearest").data > 0
    head = head_mask(upright)
    outside = max(1 - float(np.count_nonzero(mask & head)) * upright.grid.voxel_ml / total_ml, 0.0)
    if outside > MAX_OUTSIDE_SHARE:
        raise InputError(
            f"{name}: {outside:.0%} of its tumour lies outside the head that {sequence.title} shows. Is it the map of "
            "this scan, in the same space? Pass that one."
        )
    warnings = []
    if outside > DOUBTFUL_OUTSIDE_SHARE:
        warnings.append(f"{outside:.0%} of the tumour of {name} lies outside the head that {sequence.title} shows")
    rule = RULES.get(sequence)
    if rule is None or total_ml < SMALLEST_ML:
        return tuple(warnings)
    rank = partial(_mean_rank, data=upright.data, head=head, ranked=np.sort(upright.data[head][::_EVERY]))
    found = rank(mask)
    for words, turned in _turned(mask, head):
        other = rank(turned)
        if found <= rule.most and other >= max(rule.least, found + rule.gain):
            raise InputError(
                f"{name} fits the {sequence.title} better {words}: its tumour is brighter than {other:.0%} of the "
                f"brain so, and than {found:.0%} as given. Is its orientation right? Pass it as it lies on the scan."
            )
    if found < rule.doubtful:
        warnings.append(
            f"the tumour of {name} is brighter than only {found:.0%} of the brain in {sequence.title}: does it lie on "
            "this scan?"
        )
    return tuple(warnings)


def mirrored_among(tumours: Mapping[str, Volume]) -> Iterator[str]:
    """What to say about label maps of one grid that come to lie on the first one when they are mirrored or turned.

    Args:
        tumours: bool, by visit; the whole tumour, where no scan shows where it belongs.
    """
    if not tumours:
        return
    (first, one), *others = tumours.items()
    there = one.to_ras().data > 0
    for visit, other in others:
        mask = other.to_ras().data > 0
        if mask.shape != there.shape or _dice(mask, there) >= MOST_IN_COMMON:
            continue
        found = [(_dice(np.flip(mask, axes), there), words) for words, axes in _TURNS]
        share, words = max(found, key=lambda entry: entry[0])
        if share >= LEAST_MIRRORED:
            yield f"the label map of {visit} lies where that of {first} does if it is {words}: look at both"


def _dice(one: Mask, other: Mask) -> float:
    return 2 * float(np.count_nonzero(one & other)) / max(int(one.sum()) + int(other.sum()), 1)


def _mean_rank(mask: Mask, data: NDArray[np.float32], head: Mask, ranked: NDArray[np.float32]) -> float:
    """Mean share of the head, its values ``ranked``, that is darker than a mask in it; 0 where they do not meet."""
    values = data[mask & head]
    if not values.size or not ranked.size:
        return 0.0
    return float(np.searchsorted(ranked, values).mean()) / ranked.size


def _turned(mask: Mask, head: Mask) -> Iterator[tuple[str, Mask]]:
    """The mask turned about the middle of the array, and about the middle of the head."""
    filled = [np.flatnonzero(head.any(axis=tuple(a for a in range(3) if a != axis))) for axis in (0, 1)]
    off_centre = [int(places[0] + places[-1]) - (n - 1) if places.size else 0
                  for places, n in zip(filled, head.shape[:2], strict=True)]  # fmt: skip
    for words, axes in _TURNS:
        turned = np.flip(mask, axes)
        yield words, turned
        yield words, np.roll(turned, [off_centre[axis] for axis in axes], axes)
