"""Which of T1, T1CE, T2 and FLAIR images show, from the images alone, where nothing else tells.

Every way of giving names to the images is scored by what the images show of tissue, each alone and against each other,
deep in the head, where there is neither bone nor scalp: how far fluid and enhancement draw out the dark and the bright
end of the values, whether they brighten with depth, how alike two images are, how often one strongly exceeds the other,
and whether what is brightest in one is darkest in the other. The scores are linear, their weights were fitted
(conditional logistic regression) to studies whose sequences are known, and a softmax over all ways gives
probabilities. How they were fitted and measured: ``experiments/sequences``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Floats, Volume
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.brain import background_value, check_skull_stripped, head_mask, thin
from brats_seg.imaging.identify import dark_shares, fluid_share, scaled, strong_shares, tail_ratio
from brats_seg.imaging.similarity import mutual_information, ranks

SURE, SURE_OF_FEWER = 0.82, 0.99
"""Probability of its name from which an image counts as identified, of all four and of fewer. The first is the highest
of ten that were chosen each without a tenth of the patients (``experiments/sequences``): of 55 studies, each by weights
fitted without its patient, 220 of 220 images were rightly named among four and 4 uncertain, with motion 10. Among
three, 4 of 10 were uncertain and none wrongly sure; the second was chosen on that."""

SAMPLE_MM = 2.0
"""Points are compared about so far apart."""
HEIGHT_MM = 110.0
"""Below the top of a head there are so many millimetres of brain; face and neck lie lower."""
DEPTH_MM = {True: 4.0, False: 20.0}
"""Depth from which points count, of a brain that is skull-stripped, and of a head."""
SHIFT_MM, SHIFT_STEP_MM = 20.0, 4.0
"""Heads are looked for so far from where their headers say along the body, and half as far across."""
SHIFT_POINTS = 6_000
MIN_POINTS = 5_000
MAX_TAIL, MAX_LOG = 2.0, 1.5
"""Fewer common points say nothing."""

WEIGHTS_FILE = "sequences.json"
PAIRS = tuple(itertools.combinations(range(len(SEQUENCES)), 2))


@dataclass(frozen=True)
class Guess:
    """What an image shows.

    Attributes:
        sequence: the most probable one.
        probability: of it, 0 to 1.
        needed: from which the images say enough.
        second: the next one; None where only one is left.
        evidence: the same in words.
    """

    sequence: MRSequence
    probability: float
    needed: float
    second: MRSequence | None
    evidence: str

    @property
    def is_sure(self) -> bool:
        """Whether the images say enough."""
        return self.probability >= self.needed


def identify(
    images: Mapping[str, Volume],
    known: Mapping[str, MRSequence] | None = None,
    could_be: Sequence[MRSequence] = SEQUENCES,
) -> dict[str, Guess]:
    """What each image most probably shows.

    Args:
        images: one to four scans of one visit, by any key, on any grids of one scanner space; with skull or without.
        could_be: what the others may be.

    Returns:
        A guess for each image that is not known; none at all where the images hold too little in common.
    """
    known = known or {}
    keys = list(images)
    seen = measure([images[key] for key in keys])
    if seen is None:
        return {}
    ways = [
        way
        for way in itertools.permutations(range(len(SEQUENCES)), len(keys))
        if all(
            SEQUENCES[name] is known[key] if key in known else SEQUENCES[name] in could_be
            for key, name in zip(keys, way, strict=True)
        )
    ]
    if not ways:
        return {}
    scores = np.array([design(seen, way) for way in ways]) @ _weights()
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    needed = SURE if len(images) == len(SEQUENCES) else SURE_OF_FEWER
    return {key: _guess(place, ways, shares, needed) for place, key in enumerate(keys) if key not in known}


def _guess(place: int, ways: Sequence[tuple[int, ...]], shares: Floats, needed: float) -> Guess:
    """The name of one image, over all ways of naming the others."""
    by_name = np.bincount([way[place] for way in ways], shares, minlength=len(SEQUENCES))
    order = np.argsort(by_name)[::-1]
    best, next_best = SEQUENCES[order[0]], SEQUENCES[order[1]]
    second = next_best if by_name[order[1]] > 0 else None
    words = f"looks like {best.title} ({by_name[order[0]]:.1%}"
    words += f"; {next_best.title} {by_name[order[1]]:.1%})" if second else ")"
    return Guess(best, float(by_name[order[0]]), needed, second, words)


@dataclass(frozen=True, eq=False)
class Seen:
    """What images show.

    Attributes:
        single: ``(N, F)`` of each image alone.
        double: ``(N, N, G)`` of the first against the second.
    """

    single: Floats
    double: Floats


def measure(images: Sequence[Volume]) -> Seen | None:
    """What images show alone and against each other; None where they hold too few points in common."""
    values, depth = _sampled(images)
    if depth.size < MIN_POINTS or any(np.ptp(v) == 0 for v in values):
        return None
    level = [scaled(v) for v in values]
    order = [ranks(v) / v.size for v in values]
    deep = ranks(depth) / depth.size
    single = np.array(
        [
            [1.0, np.log2(tail_ratio(v)), np.log2(tail_ratio(v, 5)), float(np.corrcoef(r, deep)[0, 1])]
            for v, r in zip(values, order, strict=True)
        ]
    )
    double = np.zeros((len(images), len(images), 4))
    for a, b in itertools.combinations(range(len(images)), 2):
        found = (
            float(np.corrcoef(order[a], order[b])[0, 1]),
            _log_ratio(*strong_shares(level[a], level[b]), 1e-4),
            _log_ratio(fluid_share(order[a], order[b]), fluid_share(order[b], order[a]), 0.02),
            _log_ratio(*dark_shares(order[a], order[b]), 0.02) - _log_ratio(*dark_shares(order[b], order[a]), 0.02),
        )
        double[a, b] = found
        double[b, a] = (found[0], -found[1], -found[2], -found[3])
    # Beyond what was seen of any study, more of a feature is no more evidence.
    return Seen(single.clip(-MAX_TAIL, MAX_TAIL), double.clip(-MAX_LOG, MAX_LOG))


def _log_ratio(one: float, other: float, floor: float) -> float:
    return float(np.log10((one + floor) / (other + floor)))


def design(seen: Seen, way: Sequence[int]) -> Floats:
    """What is weighed of one way of naming: of each name what its image shows, of each pair of names that of both."""
    single = np.zeros((len(SEQUENCES), seen.single.shape[1]))
    double = np.zeros((len(PAIRS), seen.double.shape[2]))
    for image, name in enumerate(way):
        single[name] = seen.single[image]
    place = {name: image for image, name in enumerate(way)}
    for row, (one, other) in enumerate(PAIRS):
        if one in place and other in place:
            double[row] = seen.double[place[one], place[other]]
    return np.concatenate([single.ravel(), double.ravel()])


def _sampled(images: Sequence[Volume]) -> tuple[list[Floats], Floats]:
    """Values of every image at the same places deep in the head, and how deep each lies, mm."""
    finest = min(images, key=lambda image: max(image.grid.spacing_mm))
    frame, is_stripped = thin(finest, SAMPLE_MM), check_skull_stripped(finest, MRSequence.T1).is_stripped
    deep = _depth(frame, DEPTH_MM[is_stripped])
    voxels = np.argwhere(deep > 0)
    world, depth = frame.grid.to_world(voxels), deep[tuple(voxels.T)].astype(np.float64)
    level = frame.data[tuple(voxels.T)].astype(np.float64)
    inside: NDArray[np.bool_] = np.ones(len(world), bool)
    values: list[Floats] = []
    for image in images:
        sampled = thin(image, SAMPLE_MM)
        shift = np.zeros(3) if is_stripped or image is finest else _shift(level, world, sampled)
        found, there = _values_at(sampled, world + shift)
        inside = inside & there
        values.append(found)
    return [v[inside] for v in values], depth[inside]


def _values_at(image: Volume, world: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Values of the nearest voxels, and whether there are any."""
    at = np.rint(image.grid.to_voxel(world)).astype(np.intp)
    there = np.asarray(((at >= 0) & (at < image.grid.shape)).all(axis=1), np.bool_)
    at = np.where(there[:, None], at, 0)
    found = image.data[tuple(at.T)].astype(np.float64)
    return found, there & (found != background_value(image))


def _shift(level: Floats, world: Floats, image: Volume) -> Floats:
    """How far a head lies elsewhere than its header says, mm along each axis; coarse."""
    every = max(len(world) // SHIFT_POINTS, 1)
    level, world = level[::every], world[::every]

    def agreement(shift: Floats) -> float:
        found, there = _values_at(image, world + shift)
        if there.mean() < 0.5:
            return 0.0
        return mutual_information(_clipped(level[there]), _clipped(found[there]), 24)

    best = np.zeros(3)
    for axis, reach in ((2, SHIFT_MM), (1, SHIFT_MM / 2), (0, SHIFT_MM / 2), (2, SHIFT_MM / 5)):
        steps = np.arange(-reach, reach + 1, SHIFT_STEP_MM)
        best = max((best + step * np.eye(3)[axis] for step in (0.0, *steps)), key=agreement)
    return best


def _clipped(values: Floats) -> Floats:
    clipped: Floats = np.clip(values, *np.percentile(values, (1, 99)))
    return clipped


def _depth(image: Volume, least_mm: float) -> NDArray[np.float32]:
    """How deep each voxel lies in brain or head, mm; 0 where that is not deep enough to count."""
    counted = np.zeros(image.grid.shape, np.float32)
    head = head_mask(image)
    if not head.any():
        return counted
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(head, 1), sampling=image.grid.spacing_mm), np.float32)
    depth = depth[1:-1, 1:-1, 1:-1]
    voxels = np.argwhere(depth >= least_mm)
    heights = image.grid.to_world(voxels)[:, 2]
    top = float(image.grid.to_world(np.argwhere(head))[:, 2].max())
    kept = tuple(voxels[heights > top - HEIGHT_MM].T)
    counted[kept] = depth[kept]
    return counted


@cache
def _weights() -> Floats:
    text = files("brats_seg.imaging").joinpath(WEIGHTS_FILE).read_text(encoding="utf-8")
    return np.array(json.loads(text)["weights"], np.float64)
