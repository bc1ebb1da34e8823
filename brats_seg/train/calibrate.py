"""Fitting what turns the outputs of a model's stages into labels, on studies the model has not seen.

What is fitted: how the stages are combined, a temperature for each region, what enhances from T1 to T1CE like
enhancement, the thresholds, and the sizes that are believed. Everything is chosen by mean Dice over regions and
studies of what :func:`~brats_seg.segment.postprocess.settle` makes of the outputs, but for the temperature, which
is chosen by likelihood near the tumour, and the enhancement, which the experts' masks tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import logit

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid
from brats_seg.core.labels import DEFAULT_SCHEMA, Region, Structure
from brats_seg.core.regions import RegionSet
from brats_seg.core.visit import RegionMaps
from brats_seg.evaluate.calibration import fit_temperature
from brats_seg.evaluate.overlap import count_voxels, dice
from brats_seg.imaging.boxes import widened
from brats_seg.models.card import regions_of
from brats_seg.models.rules import PostprocessConfig, RequireCore, RequireEnhancement, Rule
from brats_seg.segment.postprocess import region_masks, relative_enhancement, settle
from brats_seg.segment.predict import StageOutputs, calibrated, combine

WEIGHTS = (1.0, 0.85, 0.7, 0.5, 0.3, 0.0)
THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
MIN_ENHANCING_ML = (0.1, 0.2, 0.3, 0.5)
"""None below 0.1 ml: what is smaller is a speck, a vessel as a rule, and in the 38 BraTS studies never a tumour."""
MIN_CORE = (0.5, 0.3, 0.2, 0.1, 0.0)
"""From what is taken without any data to the most unusual, as the sizes above."""
MIN_CORELESS_ML = 5.0
"""Not fitted: no data set of tumours holds a brain without one. Of 19 phantoms without a tumour, five showed up to
4.5 ml of edema and no core; the least any of the 38 BraTS studies shows is 25 ml, always with a core."""
APART_VOXELS = 3
"""Tumour so far from enhancement does not enhance."""
FAINT = 0.05
"""Share of studies that enhance less than from where on nothing is doubted."""
MIN_RISES = 5
"""Studies of either kind below which enhancement is not fitted."""
USUAL_RISE = (1.0, 5.0)
"""Taken where it is not fitted: what the 38 BraTS studies give."""
BAND_MM = 10.0
"""Temperatures are fitted this far around the tumour; further away everything is trivially right."""
TEMPERATURE_SAMPLES = 20_000
"""Voxels of each study that a temperature is fitted on."""


@dataclass(frozen=True, eq=False)
class Case:
    """What a model's stages say about one study, and the truth, on the network's grid.

    Attributes:
        outputs: of the stages; half precision will do.
        brain: ``(X, Y, Z)``.
        labels: uint8 ``(X, Y, Z)`` in the default schema.
        rise: ``(X, Y, Z)`` of :func:`~brats_seg.segment.postprocess.enhancement`; half precision will do.
    """

    id: str
    outputs: StageOutputs
    brain: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    rise: NDArray[np.floating[Any]] | None = None
    regions: RegionSet = field(default_factory=regions_of)

    def truth(self, region: Region) -> NDArray[np.bool_]:
        """The expert's mask of a region."""
        return DEFAULT_SCHEMA.region_mask(self.labels, region)

    def whole(self) -> NDArray[np.bool_]:
        """The expert's mask of all that is tumour."""
        return DEFAULT_SCHEMA.tumour_mask(self.labels)

    def bright(self) -> NDArray[np.bool_]:
        """The expert's mask of what enhances."""
        return DEFAULT_SCHEMA.structure_mask(self.labels, Structure.ET)

    def probabilities(self, config: PostprocessConfig) -> RegionMaps:
        """Combined, calibrated, nested probabilities."""
        whole, close = (
            None if part is None else part.astype(np.float32) for part in (self.outputs.whole, self.outputs.close)
        )
        mixed = combine(StageOutputs(whole, close, self.outputs.box), self.brain, config.fine_weight, self.regions)
        array = calibrated(mixed, config.temperatures(self.regions), self.regions)
        x, y, z = self.brain.shape
        return RegionMaps(array, Grid((x, y, z), np.eye(4)), self.regions)

    def settled(self, config: PostprocessConfig) -> NDArray[np.float32]:
        """The same after every doubt, as they are written and measured in use."""
        return settle(self.probabilities(config), config, rise=self.rise).array

    def masks(self, config: PostprocessConfig) -> dict[Region, NDArray[np.bool_]]:
        """What is called tumour in the end."""
        return region_masks(self.settled(config), self.regions, config)

    def scores(self, config: PostprocessConfig) -> list[float]:
        """Dice of each region."""
        found = self.masks(config)
        return [score(found[region], self.truth(region)) for region in self.regions]


def score(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice; both empty 1, one empty 0."""
    return dice(count_voxels(found, truth))


def fit_postprocess(cases: Sequence[Case], start: PostprocessConfig) -> PostprocessConfig:
    """The settings that serve these cases best; one dial after the other.

    Args:
        cases: by a model that did not see them.
        start: keeps what is not fitted.
    """
    config = replace(start, temperature={}, rules=usual_rules(cases[0].regions, fit_rise(cases)))
    if all(case.outputs.whole is not None and case.outputs.close is not None for case in cases[:1]):
        config = replace(config, fine_weight=fit_weight(cases, config))
    config = replace(config, temperature=fit_temperatures(cases, config))
    config = replace(config, thresholds=fit_thresholds(cases, config))
    return fit_sizes(cases, config)


def usual_rules(regions: RegionSet, rise: tuple[float, float]) -> tuple[Rule, ...]:
    """Rules with what is taken without any data: each outermost region its core, an enhancing one enhancement."""
    cores = [(outer, regions.within(outer)) for outer in regions.outermost]
    rules: list[Rule] = [
        RequireCore(outer.name, inner[0].name, MIN_CORE[0], MIN_CORELESS_ML) for outer, inner in cores if inner
    ]
    bright = regions.of_compartment("enhancing")
    if bright is not None:
        rules.append(RequireEnhancement(bright.name, MIN_ENHANCING_ML[0], rise))
    return tuple(rules)


def fit_rise(cases: Sequence[Case]) -> tuple[float, float]:
    """Enhancement from T1 to T1CE: up to where it is that of other tumour, and from where on that of enhancing tumour.

    Half of the studies' tumour that lies apart from enhancing tumour has more than the first, all but :data:`FAINT` of
    the studies' enhancing tumour more than the second; experts' masks, whatever a model makes of them.
    """
    without: list[float] = []
    enhancing: list[float] = []
    for case in cases:
        whole, bright = case.whole(), case.bright()
        if case.rise is None or not whole.any():
            continue
        rise = case.rise.astype(np.float32)
        apart = whole & ~ndimage.maximum_filter(bright, 2 * APART_VOXELS + 1)
        if apart.any():
            without.append(relative_enhancement(apart, whole & ~bright, rise))
        if bright.any():
            enhancing.append(relative_enhancement(bright, whole & ~bright, rise))
    if min(len(without), len(enhancing)) < MIN_RISES:
        return USUAL_RISE
    low, high = float(np.median(without)), float(np.quantile(enhancing, FAINT))
    return (round(low, 2), round(high, 2)) if low < high else USUAL_RISE


class Sweep(NamedTuple):
    """What each of several thresholds of one region gives, ``(cases, thresholds)``.

    Attributes:
        dice: against the expert.
        excess: voxels found, less those of the expert.
    """

    dice: NDArray[np.float64]
    excess: NDArray[np.float64]


def sweep(
    cases: Sequence[Case], config: PostprocessConfig, region: Region, thresholds: Sequence[float] = THRESHOLDS
) -> Sweep:
    """Every case at every threshold of one region, those of the others as in ``config``, after every doubt."""
    found = Sweep(*np.zeros((2, len(cases), len(thresholds))))
    for c, case in enumerate(cases):
        truth, probabilities = case.truth(region), case.probabilities(config)
        for t, threshold in enumerate(thresholds):
            held = with_threshold(config, region, threshold)
            settled = settle(probabilities, held, rise=case.rise).array
            mask = region_masks(settled, case.regions, held)[region]
            found.dice[c, t] = score(mask, truth)
            found.excess[c, t] = float(mask.sum()) - float(truth.sum())
    return found


def with_threshold(config: PostprocessConfig, region: Region, threshold: float) -> PostprocessConfig:
    """The settings with another threshold of one region."""
    return replace(config, thresholds={**config.thresholds, region.name: threshold})


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
    held = [replace(config, fine_weight=w) for w in WEIGHTS]
    return held[simplest_as_good(_mean_scores(cases, held))].fine_weight


def fit_thresholds(cases: Sequence[Case], config: PostprocessConfig) -> Mapping[str, float]:
    """Threshold of each region, the outer ones first: of those as good in Dice, the one nearest one half without a bias
    of the volume.

    Dice hardly minds where a blurred border is cut, and volumes do: at one half, what is unsure altogether is lost.
    A bias within a standard error is none; where every threshold has one, the least is taken.
    """
    order = sorted(range(len(THRESHOLDS)), key=lambda t: abs(THRESHOLDS[t] - 0.5))
    for region in cases[0].regions:
        found = sweep(cases, config, region, [THRESHOLDS[t] for t in order])
        good = as_good(found.dice)
        excess = {column: found.excess[:, column] for column in good}
        unbiased = [column for column in good if abs(excess[column].mean()) <= _standard_error(excess[column])]
        least = min(good, key=lambda column: abs(float(excess[column].mean())))
        config = with_threshold(config, region, THRESHOLDS[order[unbiased[0] if unbiased else least]])
    return config.thresholds


def fit_temperatures(cases: Sequence[Case], config: PostprocessConfig) -> Mapping[str, float]:
    """Temperature of each region near the tumour; 1 where none is best, as with too few cases."""
    rng = np.random.default_rng(0)
    regions = cases[0].regions
    logits: list[list[NDArray[np.float64]]] = [[] for _ in regions]
    truths: list[list[NDArray[np.bool_]]] = [[] for _ in regions]
    for case in cases:
        array = case.probabilities(config).array
        near = np.flatnonzero(widened(case.whole(), (1.0, 1.0, 1.0), BAND_MM) & case.brain)
        chosen = rng.choice(near, min(len(near), TEMPERATURE_SAMPLES), replace=False) if len(near) else near
        for r, region in enumerate(regions):
            values = np.clip(array[r].ravel()[chosen].astype(np.float64), 1e-6, 1 - 1e-6)
            logits[r].append(logit(values))
            truths[r].append(case.truth(region).ravel()[chosen])
    found = {}
    for r, name in enumerate(regions.names):
        try:
            found[name] = round(fit_temperature(np.concatenate(logits[r]), np.concatenate(truths[r])), 3)
        except InputError:
            found[name] = 1.0  # nothing to fit on: probabilities stay as they are, which the card shows
    return found


def fit_sizes(cases: Sequence[Case], config: PostprocessConfig) -> PostprocessConfig:
    """What core makes a tumour, and how much enhancement is believed.

    The strictest for WT, the least for enhancement, unless others are better beyond chance.
    """
    for kind, key, values in (
        (RequireCore, "min_probability", MIN_CORE),
        (RequireEnhancement, "min_ml", MIN_ENHANCING_ML),
    ):
        choices = [_with_rule(config, kind, **{key: value}) for value in values]
        config = choices[simplest_as_good(_mean_scores(cases, choices))]
    return config


def _with_rule(config: PostprocessConfig, kind: type[Rule], **values: Any) -> PostprocessConfig:
    """The settings with other numbers in the rules of a kind."""
    rules = tuple(replace(rule, **values) if isinstance(rule, kind) else rule for rule in config.rules)
    return replace(config, rules=rules)


def _mean_scores(cases: Sequence[Case], choices: Sequence[PostprocessConfig]) -> NDArray[np.float64]:
    """``(cases, choices)`` mean Dice over the regions."""
    return np.array([[float(np.mean(case.scores(choice))) for choice in choices] for case in cases])
