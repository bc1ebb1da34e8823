"""A volume interval that says how far the truth may be, from the network's own doubt and past errors.

**Doubt.** A voxel with probability ``p`` counts ``4 p (1 - p)``: 1 at one half, 0 where the network is sure.
Summed over the image and times the voxel size this is the *ambiguous volume* ``A``: the boundary layer, plus
places the network wavers about. Values outside :data:`AMBIGUOUS_RANGE` are left out, because a network's
floor of, say, 0.001 over a whole brain is no doubt about this tumour but would add millilitres.

**Model.** Errors of a volume are better behaved on a logarithmic scale, and near zero on a linear one. With a
small constant ``f`` (``floor_ml``), which makes one scale out of both,

    ``u = ln(1 + (A + f) / (V + f))``              the study's own unit of doubt,
    ``s = |ln((V_true + f) / (V + f))| / u``       its error in that unit,
    ``low, high = (V + f) exp(-+ q u) - f``        the interval; ``low`` is cut at 0.

For a large sharp tumour ``u`` is about ``A / V``, so that the interval is about ``V -+ q A``: ``q`` boundary
layers. For an empty prediction ``u`` is at least ``ln 2`` and the upper end is above 0 even without any doubt.

**Calibration.** ``q`` is fitted for each region on studies the network did not train on, as split conformal
prediction does (Vovk 2005; Lei et al. 2018, doi:10.1080/01621459.2017.1307116): of ``n`` scores the
``ceil((n + 1) level)``-th smallest. If a new study is exchangeable with those, its truth is covered with
probability at least ``level`` whatever the distribution of errors. Exchangeable means the same kind of scans,
labels and sequences: a study with a missing sequence, or after surgery where all others were before, is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError, ModelError
from brats_seg.core.grid import Grid
from brats_seg.core.plain import from_plain

AMBIGUOUS_RANGE = (0.05, 0.95)
"""Probabilities strictly between count as doubt."""

FLOOR_ML = 0.5
"""Below this size errors are absolute rather than relative; about the smallest volume that counts as
measurable (a 10 mm sphere holds 0.52 ml)."""

DEFAULT_LEVEL = 0.9


@dataclass(frozen=True)
class IntervalModel:
    """Fitted width of volume intervals; stands in a model card.

    Attributes:
        scales: by region or structure (``WT``, ``NCR``), the ``q`` of the module's description.
        floor_ml: the constant ``f``.
        studies: by region, how many studies ``q`` was fitted on.

    Raises:
        ModelError: if a scale is negative or not finite, the floor not positive or the level not in 0..1.
    """

    scales: Mapping[str, float]
    floor_ml: float = FLOOR_ML
    level: float = DEFAULT_LEVEL
    studies: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for region, scale in self.scales.items():
            if not (math.isfinite(scale) and scale >= 0):
                raise ModelError(f"interval scale of {region} is {scale}; it must be finite and not negative")
        if not (math.isfinite(self.floor_ml) and self.floor_ml > 0):
            raise ModelError(f"interval floor is {self.floor_ml} ml; it must be positive")
        _check_level(self.level)
        object.__setattr__(self, "scales", MappingProxyType(dict(self.scales)))
        object.__setattr__(self, "studies", MappingProxyType(dict(self.studies)))

    def interval(self, region: str, volume_ml: float, ambiguous_ml: float) -> tuple[float, float] | None:
        """Lower and upper end in millilitres, or None for a region that was not fitted.

        ``0 <= low <= volume_ml <= high``, and ``high > 0``.
        """
        scale = self.scales.get(region)
        if scale is None:
            return None
        stretch = math.exp(scale * doubt_unit(volume_ml, ambiguous_ml, floor_ml=self.floor_ml))
        shifted = volume_ml + self.floor_ml
        low = min(max(shifted / stretch - self.floor_ml, 0.0), volume_ml)
        return low, max(shifted * stretch - self.floor_ml, volume_ml)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a model card."""
        return {**vars(self), "scales": dict(self.scales), "studies": dict(self.studies)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IntervalModel:
        """From :meth:`to_dict`.

        Raises:
            ModelError: if a key is missing or unknown, or a value is not what it has to be.
        """
        known = {"scales", "floor_ml", "level", "studies"}
        if not isinstance(values, Mapping) or {*values, "studies"} != known:
            raise ModelError(f"interval model: {values!r:.80} has not the keys {', '.join(sorted(known))}")
        try:
            return from_plain(cls, values)
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelError(f"interval model: {error}. Write it with IntervalModel.to_dict.") from error


def ambiguous_volume_ml(probability: NDArray[np.floating[Any]], grid: Grid) -> float:
    """Sum of ``4 p (1 - p)`` over probabilities inside :data:`AMBIGUOUS_RANGE`, in millilitres.

    Args:
        probability: ``(X, Y, Z)`` in 0..1 of the whole image.
    """
    low, high = AMBIGUOUS_RANGE
    # Most of an image is near 0, so picking by the lower limit alone leaves few voxels for the rest.
    values = probability[probability > low].astype(np.float64)
    values = values[values < high]
    return float((4.0 * values * (1.0 - values)).sum()) * grid.voxel_ml


def doubt_unit(volume_ml: float, ambiguous_ml: float, *, floor_ml: float = FLOOR_ML) -> float:
    """``u`` of the module's description: a study's own unit of relative doubt, above 0."""
    return math.log1p((ambiguous_ml + floor_ml) / (volume_ml + floor_ml))


def nonconformity(true_ml: float, volume_ml: float, ambiguous_ml: float) -> float:
    """``s`` of the module's description: the error in units of the study's own doubt."""
    error = abs(math.log((true_ml + FLOOR_ML) / (volume_ml + FLOOR_ML)))
    return error / doubt_unit(volume_ml, ambiguous_ml)


def conformal_quantile(scores: Sequence[float], *, level: float = DEFAULT_LEVEL) -> float:
    """The ``ceil((n + 1) level)``-th smallest of ``n`` scores.

    Raises:
        InputError: if there are too few scores for the level, for then no finite interval covers.
    """
    _check_level(level)
    # Rounding keeps 10 * 0.9 from becoming 9.000000000000002 and hence 10.
    rank = math.ceil(round((len(scores) + 1) * level, 9))
    if rank > len(scores):
        needed = math.ceil(round(level / (1 - level), 9))
        raise InputError(f"a {level:.0%} interval needs at least {needed} studies to be fitted, not {len(scores)}")
    return float(np.sort(np.asarray(scores, dtype=np.float64))[rank - 1])


def fit_intervals(
    true_ml: Mapping[str, Sequence[float]],
    predicted_ml: Mapping[str, Sequence[float]],
    ambiguous_ml: Mapping[str, Sequence[float]],
) -> IntervalModel:
    """Fit one scale per region on studies the network did not train on.

    Args:
        true_ml: by region, the expert's volumes, one value per study.
        predicted_ml: by region, mask volumes of the same studies in the same order.
        ambiguous_ml: by region, :func:`ambiguous_volume_ml` of the same studies.

    Raises:
        InputError: if regions or lengths differ, a volume is negative or not finite, or there are too few studies.
    """
    if not set(true_ml) == set(predicted_ml) == set(ambiguous_ml):
        raise InputError("intervals are fitted on the same regions in true, predicted and ambiguous volumes")
    scales: dict[str, float] = {}
    for region, truths in true_ml.items():
        columns = (truths, predicted_ml[region], ambiguous_ml[region])
        lengths = [len(column) for column in columns]
        if len(set(lengths)) != 1:
            raise InputError(f"{region}: true, predicted and ambiguous volumes are of {lengths} studies, not the same")
        if any(not (math.isfinite(value) and value >= 0) for column in columns for value in column):
            raise InputError(f"{region}: a volume to fit intervals on is negative or not finite")
        scores = [nonconformity(t, v, a) for t, v, a in zip(*columns, strict=True)]
        scales[region] = conformal_quantile(scores)
    return IntervalModel(scales, studies={region: len(values) for region, values in true_ml.items()})


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ModelError(f"interval level is {level}; it must lie between 0 and 1, for example {DEFAULT_LEVEL}")
