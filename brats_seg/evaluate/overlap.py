"""How much two masks share: Dice, sensitivity, specificity, precision and volume error.

One counting function, several readers of its result. What an empty mask scores is one named policy
and not a side effect of a division.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Mask


@dataclass(frozen=True)
class EmptyMaskPolicy:
    """What a comparison yields where a mask is empty and the formula has no value.

    Attributes:
        overlap_both_empty: Dice, surface Dice, sensitivity and precision where nothing is there and nothing was found.
        overlap_one_empty: Dice and surface Dice where exactly one mask is empty.
        distance_both_empty_mm: Hausdorff and average distance of two empty masks.
        distance_one_empty_mm: the same where exactly one is empty.
        undefined: a ratio whose denominator is zero although the other mask is not empty (the sensitivity of a
            prediction for a tumour that does not exist). NaN, so that means leave it out and say how many remain.
    """

    name: str
    overlap_both_empty: float
    overlap_one_empty: float
    distance_both_empty_mm: float
    distance_one_empty_mm: float
    undefined: float = math.nan

    def describe(self) -> str:
        """One sentence for a report."""
        return (
            f"Empty masks ({self.name}): both empty counts {self.overlap_both_empty:g} for overlaps and "
            f"{self.distance_both_empty_mm:g} mm for distances; exactly one empty counts "
            f"{self.overlap_one_empty:g} and {self.distance_one_empty_mm:g} mm; "
            "ratios without a denominator are left out of means."
        )


BRATS_2023 = EmptyMaskPolicy("BraTS 2023", 1.0, 0.0, 0.0, 374.0)
"""The policy of the 2023 challenge: Dice 1 and 0, HD95 0 and 374 mm (organisers' post syn51156910).

Earlier years used 373.12866 mm, the diagonal of the 240x240x155 grid, so means of HD95 are not comparable.
"""


@dataclass(frozen=True)
class Counts:
    """The four cells of a comparison: voxels of two masks, or decisions about studies or lesions.

    Attributes:
        true_positive: in both.
        false_positive: in the prediction only.
        false_negative: in the reference only.
        true_negative: in neither.
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def predicted(self) -> int:
        """Voxels of the prediction."""
        return self.true_positive + self.false_positive

    @property
    def reference(self) -> int:
        """Voxels of the reference."""
        return self.true_positive + self.false_negative

    @property
    def both_empty(self) -> bool:
        """Whether neither mask holds a voxel."""
        return self.predicted == 0 and self.reference == 0

    @property
    def one_empty(self) -> bool:
        """Whether exactly one mask holds no voxel."""
        return (self.predicted == 0) != (self.reference == 0)


def count_voxels(prediction: Mask, reference: Mask, *, outside: int = 0) -> Counts:
    """Compare two masks of equal shape voxel by voxel.

    Args:
        outside: voxels of the image that were cropped away, all of them in neither mask.

    Raises:
        InputError: if the shapes differ.
    """
    check_shapes(prediction, reference)
    both = int(np.count_nonzero(prediction & reference))
    predicted = int(np.count_nonzero(prediction))
    expected = int(np.count_nonzero(reference))
    neither = prediction.size + outside - predicted - expected + both
    return Counts(both, predicted - both, expected - both, neither)


def check_shapes(prediction: Mask, reference: Mask) -> None:
    """Refuse masks of different shape.

    Raises:
        InputError: naming both shapes.
    """
    if prediction.shape != reference.shape:
        raise InputError(
            f"prediction {prediction.shape} and reference {reference.shape} differ in shape. "
            "Write the prediction on the grid of the reference first."
        )


def dice(counts: Counts, *, policy: EmptyMaskPolicy = BRATS_2023) -> float:
    """Dice coefficient 2 |A and B| / (|A| + |B|), 0 to 1 (Dice, Ecology 1945;26:297)."""
    if counts.both_empty:
        return policy.overlap_both_empty
    if counts.one_empty:
        return policy.overlap_one_empty
    return 2.0 * counts.true_positive / (counts.predicted + counts.reference)


def sensitivity(counts: Counts, *, policy: EmptyMaskPolicy = BRATS_2023) -> float:
    """Share of the reference that was found: TP / (TP + FN)."""
    return _ratio(counts, counts.reference, policy)


def precision(counts: Counts, *, policy: EmptyMaskPolicy = BRATS_2023) -> float:
    """Share of the prediction that is right: TP / (TP + FP)."""
    return _ratio(counts, counts.predicted, policy)


def specificity(counts: Counts, *, policy: EmptyMaskPolicy = BRATS_2023) -> float:
    """Share of the voxels outside the reference left alone: TN / (TN + FP).

    It is close to 1 in any image much larger than the tumour, and depends on the field of view.
    """
    outside = counts.true_negative + counts.false_positive
    return counts.true_negative / outside if outside else policy.undefined


def volume_error_ml(counts: Counts, voxel_ml: float) -> float:
    """Predicted minus reference volume, in millilitres."""
    return (counts.predicted - counts.reference) * voxel_ml


def volume_error_percent(counts: Counts, *, policy: EmptyMaskPolicy = BRATS_2023) -> float:
    """Predicted minus reference volume in percent of the reference; 0 for two empty masks."""
    if counts.both_empty:
        return 0.0
    if counts.reference == 0:
        return policy.undefined
    return 100.0 * (counts.predicted - counts.reference) / counts.reference


def _ratio(counts: Counts, denominator: int, policy: EmptyMaskPolicy) -> float:
    if counts.both_empty:
        return policy.overlap_both_empty
    return counts.true_positive / denominator if denominator else policy.undefined
