"""Fitting what turns the outputs of a model's stages into labels, on studies the model has not seen.

What is fitted: how the stages are combined, a temperature for each region, the thresholds, and the
smallest sizes that count. Everything is chosen by mean Dice over regions and studies, but for the
temperature, which is chosen by likelihood near the tumour.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from brats_seg.core.errors import InputError
from brats_seg.core.labels import DEFAULT_SCHEMA, REGIONS, Region
from brats_seg.evaluation.calibration import fit_temperature, tumour_band
from brats_seg.evaluation.overlap import count_voxels, dice
from brats_seg.inference.postprocess import drop_coreless, drop_small, region_masks, risen
from brats_seg.inference.predict import StageOutputs, calibrated, combine
from brats_seg.models.bundle import PostprocessConfig

WEIGHTS = (1.0, 0.85, 0.7, 0.5, 0.3, 0.0)
THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
MIN_ENHANCING_ML = (0.1, 0.2, 0.3, 0.5)
"""None below 0.1 ml: what is smaller is a speck, a vessel as a rule, and in the 38 BraTS studies never a tumour."""
MIN_COMPONENT_ML = (0.0, 0.1, 0.25, 0.5)
"""None above 0.5 ml: a sphere of 10 mm, the smallest measurable lesion, holds 0.52 ml and must not be dropped."""
MIN_CORE = (0.0, 0.1, 0.2, 0.3, 0.5)
MIN_ENHANCEMENT = 1.4
"""Not fitted: three of 38 studies do not enhance. What is falsely called enhancing in low-grade phantoms and one study
rises by 0.6 to 1.3; what is rightly called so by 1.5 and more, but for one faint study (docs/experiments.md)."""
MIN_CORELESS_ML = 5.0
"""Not fitted: no data set of tumours holds a brain without one. Of 19 phantoms without a tumour, five showed up to
4.5 ml of edema and no core; the least any of the 38 BraTS studies shows is 25 ml, always with a core."""
MIN_SATELLITE_ML = (1.0, 0.5, 0.0)
"""From what is taken without any data on: further spots of core in the same tumour, of which the model is unsure."""
_WHOLE_SIZES = (MIN_COMPONENT_ML[::-1], MIN_CORE[::-1])
_SIZES = tuple(itertools.product(*_WHOLE_SIZES, MIN_ENHANCING_ML))
"""From what is taken without any data to the most unusual; the last one changes fastest."""
BAND_MM = 10.0
"""Temperatures are fitted this far around the tumour; further away everything is trivially right."""
TEMPERATURE_SAMPLES = 20_000
"""Voxels of each study that a temperature is fitted on."""


@dataclass(frozen=True, eq=False)
class Case:
    """What a model's stages say about one study, and the truth, on the network's grid.

    Attributes:
        id: the study's id.
        outputs: of the stages; half precision will do.
        brain: ``(X, Y, Z)``.
        labels: uint8 ``(X, Y, Z)`` in the default schema.
        rise: ``(X, Y, Z)`` of :func:`~brats_seg.inference.postprocess.enhancement`; half precision will do.
    """

    id: str
    outputs: StageOutputs
    brain: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    rise: NDArray[np.floating[Any]] | None = None

    def truth(self, region: Region) -> NDArray[np.bool_]:
        """The expert's mask of a region."""
        return DEFAULT_SCHEMA.region_mask(self.labels, region)

    def probabilities(self, config: PostprocessConfig) -> NDArray[np.float32]:
        """Combined, calibrated, nested probabilities ``(3, X, Y, Z)``."""
        whole, close = (
            None if part is None else part.astype(np.float32) for part in (self.outputs.whole, self.outputs.close)
        )
        mixed = combine(StageOutputs(whole, close, self.outputs.box), self.brain, config.fine_weight)
        return calibrated(mixed, config.temperature)


def score(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice; both empty 1, one empty 0."""
    return dice(count_voxels(found, truth))


def fit_postprocess(cases: Sequence[Case], start: PostprocessConfig) -> PostprocessConfig:
    """The settings that serve these cases best; one dial after the other.

    Args:
        cases: by a model that did not see them.
        start: keeps what is not fitted.
    """
    config = replace(start, temperature=(1.0, 1.0, 1.0))
    if all(case.outputs.whole is not None and case.outputs.close is not None for case in cases[:1]):
        config = replace(config, fine_weight=fit_weight(cases, config))
    config = replace(config, temperature=fit_temperatures(cases, config))
    config = replace(config, thresholds=fit_thresholds(cases, config))
    return fit_satellites(cases, fit_sizes(cases, config))


class Sweep(NamedTuple):
    """What each of several thresholds gives, ``(cases, regions, thresholds)``.

    Attributes:
        dice: against the expert.
        excess: voxels found, less those of the expert.
    """

    dice: NDArray[np.float64]
    excess: NDArray[np.float64]


def sweep(cases: Sequence[Case], config: PostprocessConfig, thresholds: Sequence[float] = THRESHOLDS) -> Sweep:
    """Every case at every threshold; enhancement that does not rise is none, as it will be in use.

    Otherwise the few studies without enhancement would ask for a threshold that keeps them empty, and all others would
    lose volume to what the rise sees to.
    """
    shape = (len(cases), len(REGIONS), len(thresholds))
    found = Sweep(np.zeros(shape), np.zeros(shape))
    for c, case in enumerate(cases):
        array = case.probabilities(config)
        for r, region in enumerate(REGIONS):
            truth = case.truth(region)
            masks = [array[r] >= threshold for threshold in thresholds]
            if region is Region.ET:
                whole = array[REGIONS.index(Region.WT)] >= config.thresholds[REGIONS.index(Region.WT)]
                masks = [mask & _rises(mask, whole, case) for mask in masks]
            found.dice[c, r] = [score(mask, truth) for mask in masks]
            found.excess[c, r] = [float(mask.sum()) - float(truth.sum()) for mask in masks]
    return found


def as_good(scores: NDArray[np.float64]) -> list[int]:
    """Columns that are no worse than the best one by more than a standard error of their difference.

    A few studies cannot tell two thresholds apart, and what they prefer is chance (Breiman et al. 1984, section 3.4.3,
    "1 SE rule").

    Args:
        scores: ``(cases, choices)``, more is better.
    """
    best = int(scores.mean(axis=0).argmax())
    worse = scores[:, [best]] - scores
    return [c for c in range(scores.shape[1]) if worse[:, c].mean() <= _standard_error(worse[:, c])]


def _standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean; without end where a single value tells nothing."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.inf


def simplest_as_good(scores: NDArray[np.float64]) -> int:
    """The first of :func:`as_good`; columns go from what would be taken without any data to the most unusual."""
    return as_good(scores)[0]


def fit_weight(cases: Sequence[Case], config: PostprocessConfig) -> float:
    """Share of the fine stage: all of it, unless less is better beyond chance."""
    scores = [sweep(cases, replace(config, fine_weight=w), [0.5]).dice.mean(axis=(1, 2)) for w in WEIGHTS]
    return WEIGHTS[simplest_as_good(np.stack(scores, axis=1))]


def fit_thresholds(cases: Sequence[Case], config: PostprocessConfig) -> tuple[float, float, float]:
    """Threshold of each region: of those as good in Dice, the one nearest one half without a bias of the volume.

    Dice hardly minds where a blurred border is cut, and volumes do: at one half, what is unsure altogether is lost.
    A bias within a standard error is none; where every threshold has one, the least is taken.
    """
    order = sorted(range(len(THRESHOLDS)), key=lambda t: abs(THRESHOLDS[t] - 0.5))
    found = sweep(cases, config, [THRESHOLDS[t] for t in order])
    best = []
    for r in range(len(REGIONS)):
        good = as_good(found.dice[:, r])
        excess = {column: found.excess[:, r, column] for column in good}
        unbiased = [column for column in good if abs(excess[column].mean()) <= _standard_error(excess[column])]
        least = min(good, key=lambda column: abs(float(excess[column].mean())))
        best.append(THRESHOLDS[order[unbiased[0] if unbiased else least]])
    return best[0], best[1], best[2]


def fit_temperatures(cases: Sequence[Case], config: PostprocessConfig) -> tuple[float, float, float]:
    """Temperature of each region near the tumour; 1 where none is best, as with too few cases."""
    rng = np.random.default_rng(0)
    logits: list[list[NDArray[np.float64]]] = [[] for _ in REGIONS]
    truths: list[list[NDArray[np.bool_]]] = [[] for _ in REGIONS]
    for case in cases:
        array = case.probabilities(config)
        near = np.flatnonzero(tumour_band(case.truth(Region.WT), (1.0, 1.0, 1.0), width_mm=BAND_MM) & case.brain)
        chosen = rng.choice(near, min(len(near), TEMPERATURE_SAMPLES), replace=False) if len(near) else near
        for r, region in enumerate(REGIONS):
            values = np.clip(array[r].ravel()[chosen].astype(np.float64), 1e-6, 1 - 1e-6)
            logits[r].append(logit(values))
            truths[r].append(case.truth(region).ravel()[chosen])
    found = []
    for r in range(len(REGIONS)):
        try:
            found.append(round(fit_temperature(np.concatenate(logits[r]), np.concatenate(truths[r])), 3))
        except InputError:
            found.append(1.0)  # nothing to fit on: probabilities stay as they are, which the card shows
    return found[0], found[1], found[2]


def fit_sizes(cases: Sequence[Case], config: PostprocessConfig) -> PostprocessConfig:
    """Smallest component of WT, least core of a further one, smallest enhancement.

    The strictest for WT, the least for enhancement, unless others are better beyond chance.
    """
    scores = np.array([_size_scores(case, config) for case in cases])
    component_ml, least_core, enhancing_ml = _SIZES[simplest_as_good(scores)]
    return replace(
        config,
        min_component_ml=component_ml,
        min_core_probability=least_core,
        min_coreless_ml=MIN_CORELESS_ML if least_core > 0 else 0.0,
        min_enhancing_ml=enhancing_ml,
        min_enhancement=MIN_ENHANCEMENT,
    )


def fit_satellites(cases: Sequence[Case], config: PostprocessConfig) -> PostprocessConfig:
    """The largest limit for doubtful spots of core beside a larger core, unless another is better beyond chance."""
    choices = [replace(config, min_satellite_ml=ml) for ml in MIN_SATELLITE_ML]
    scores = []
    for case in cases:
        array, row = case.probabilities(config), []
        for choice in choices:
            masks, _ = region_masks(array, 0.001, choice, rise=case.rise)
            row.append(sum(score(masks[region], case.truth(region)) for region in (Region.TC, Region.ET)))
        scores.append(row)
    return choices[simplest_as_good(np.array(scores))]


def _size_scores(case: Case, config: PostprocessConfig) -> list[float]:
    """Sum of Dice over the regions with each of :data:`_SIZES`."""
    array = case.probabilities(config)
    masks = [array[r] >= threshold for r, threshold in enumerate(config.thresholds)]
    scores: list[float] = []
    for component_ml, least_core in itertools.product(*_WHOLE_SIZES):
        whole = drop_coreless(drop_small(masks[0], component_ml * 1000)[0], array[1], least_core)[0]
        core = masks[1] & whole
        enhancing = masks[2] & core
        kept = score(whole, case.truth(Region.WT)) + score(core, case.truth(Region.TC))
        size, truth = float(enhancing.sum()) / 1000, case.truth(Region.ET)
        some, none = score(enhancing, truth), score(np.zeros_like(enhancing), truth)
        rises = _rises(enhancing, whole, case)
        scores += [kept + (some if rises and size >= enhancing_ml else none) for enhancing_ml in MIN_ENHANCING_ML]
    return scores


def _rises(enhancing: NDArray[np.bool_], whole: NDArray[np.bool_], case: Case) -> bool:
    """Whether ET rises enough from T1 to T1CE to be kept; what cannot be told is."""
    return case.rise is None or risen(enhancing, whole, case.rise) >= MIN_ENHANCEMENT
