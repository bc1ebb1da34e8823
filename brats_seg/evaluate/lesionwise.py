"""Lesion-wise Dice and HD95 as the BraTS 2023 challenge computes them.

A whole-case Dice hardly notices a small lesion that was missed beside a large one; these scores give every
lesion the same weight. The steps are those of the organisers' post (Synapse syn51156910) and of their code:

1. Components of prediction and reference by 26-neighbourhood.
2. The reference is dilated (18-neighbourhood, as many iterations as the settings say). Reference components
   that lie in one component of the dilated mask are one lesion; its voxels are the undilated ones.
3. Predicted components that touch a lesion, dilated again by the same amount, are pooled and compared with
   the undilated lesion. One predicted component may serve several lesions.
4. A lesion that nothing touches is missed: Dice 0, HD95 374 mm. A predicted component that touches no lesion
   is false: Dice 0, HD95 374 mm, however small it is.
5. Lesions up to the smallest volume are dropped; what touched them is not false. The score is the sum over
   the lesions kept, divided by their number plus the number of false components. With nothing kept and
   nothing false, Dice is 1 and HD95 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Mask
from brats_seg.evaluate.overlap import BRATS_2023, EmptyMaskPolicy, check_shapes, count_voxels, dice
from brats_seg.evaluate.surface import Spacing, area_surface_distances, hd95_brats2023_mm
from brats_seg.imaging.boxes import bounding_box, enclosing_box

Labels = NDArray[np.integer]

_EIGHTEEN_NEIGHBOURS = ndimage.generate_binary_structure(3, 2)


@dataclass(frozen=True)
class LesionWiseSettings:
    """What differs between the tasks of the challenge.

    Attributes:
        task: short name of the task.
        dilation_iterations: how often the reference is dilated by its 18 neighbours.
        smallest_mm3: lesions of this volume or less are dropped.
    """

    task: str
    dilation_iterations: int
    smallest_mm3: float

    def describe(self) -> str:
        """One sentence for a report."""
        return (
            f"Lesion-wise scores: BraTS 2023 {self.task} (dilation {self.dilation_iterations}, "
            f"lesions up to {self.smallest_mm3:g} mm3 dropped)."
        )


LESIONWISE_SETTINGS: Mapping[str, LesionWiseSettings] = {
    settings.task: settings
    for settings in (
        LesionWiseSettings("GLI", 3, 50.0),
        LesionWiseSettings("SSA", 3, 50.0),
        LesionWiseSettings("PED", 3, 50.0),
        LesionWiseSettings("MEN", 1, 50.0),
        LesionWiseSettings("MET", 1, 2.0),
    )
}
"""Settings of each task of BraTS 2023 (the challenge's metric code and syn51156910)."""


@dataclass(frozen=True)
class LesionScore:
    """One lesion of the reference.

    Attributes:
        number: 1, 2, … within the region.
        volume_mm3: of the undilated lesion.
        kept: whether it is large enough to count.
        found: whether any predicted component touches it.
        components: how many do.
        dice: against the pooled components; 0 if missed.
        hd95_mm: area-weighted, against the pooled components; the policy's penalty if missed.
    """

    number: int
    volume_mm3: float
    kept: bool
    found: bool
    components: int
    dice: float
    hd95_mm: float


@dataclass(frozen=True)
class LesionWiseScore:
    """Lesion-wise result for one region of one case.

    Attributes:
        lesions: of the reference, also those dropped.
        false_positives: predicted components that touch no lesion.
        dice: the case's lesion-wise Dice.
        hd95_mm: the case's lesion-wise HD95.
    """

    lesions: tuple[LesionScore, ...]
    false_positives: int
    dice: float
    hd95_mm: float

    @property
    def kept(self) -> tuple[LesionScore, ...]:
        """Lesions large enough to count."""
        return tuple(lesion for lesion in self.lesions if lesion.kept)

    @property
    def true_positives(self) -> int:
        """Kept lesions that were found."""
        return sum(lesion.found for lesion in self.kept)

    @property
    def false_negatives(self) -> int:
        """Kept lesions that were missed."""
        return sum(not lesion.found for lesion in self.kept)


def score_lesions(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Spacing,
    *,
    settings: LesionWiseSettings,
    policy: EmptyMaskPolicy = BRATS_2023,
) -> LesionWiseScore:
    """Lesion-wise Dice and HD95 of one region.

    Args:
        prediction: ``(X, Y, Z)`` bool.
        reference: the same shape.
        spacing_mm: distance of voxel centres along each array axis.
        settings: those of the challenge's task.
        policy: penalties for missed lesions and false components.

    Raises:
        InputError: if the shapes differ.
    """
    check_shapes(prediction, reference)
    # The tight box suffices: moving a path of neighbours onto the box keeps it a path, and brings it no farther
    # from any lesion, so what dilation joins or touches in the whole image it joins or touches inside.
    box = bounding_box(prediction | reference)
    if box is None:
        return _case_score((), 0, policy)
    prediction, reference = prediction[box], reference[box]
    voxel_mm3 = float(np.prod(spacing_mm))
    lesions = _merged_lesions(reference, settings.dilation_iterations)
    components: Labels = cc3d.connected_components(prediction, connectivity=26)
    lesion_boxes, component_boxes = ndimage.find_objects(lesions), ndimage.find_objects(components)

    scores, matched = [], set[int]()
    for number, lesion_box in enumerate(lesion_boxes, 1):
        wide = enclosing_box([lesion_box], lesions.shape, margin=settings.dilation_iterations)
        lesion = lesions[wide] == number
        touched = np.unique(components[wide][_dilate(lesion, settings.dilation_iterations)])
        pooled = [int(n) for n in touched if n != 0]
        matched.update(pooled)
        # Spacings computed from an oblique affine are off by 1e-9; 50 voxels of 1 mm must still be 50 mm3.
        volume_mm3 = round(int(np.count_nonzero(lesion)) * voxel_mm3, 4)
        whole = enclosing_box([lesion_box, *(component_boxes[n - 1] for n in pooled)], lesions.shape)
        found_dice, found_hd95 = _compare(
            np.isin(components[whole], pooled), lesions[whole] == number, spacing_mm, policy
        )
        kept = volume_mm3 > settings.smallest_mm3
        scores.append(LesionScore(number, volume_mm3, kept, bool(pooled), len(pooled), found_dice, found_hd95))

    return _case_score(tuple(scores), len(component_boxes) - len(matched), policy)


def _merged_lesions(reference: Mask, iterations: int) -> Labels:
    """Lesions numbered so that components joined by dilation share a number; only the undilated voxels."""
    joined: Labels = cc3d.connected_components(_dilate(reference, iterations), connectivity=26)
    numbers = np.unique(joined[reference])
    consecutive = np.zeros(int(joined.max(initial=0)) + 1, np.int32)
    consecutive[numbers] = np.arange(1, len(numbers) + 1)
    return np.where(reference, consecutive[joined], 0)


def _dilate(mask: Mask, iterations: int) -> Mask:
    if iterations == 0 or not mask.any():  # scipy takes 0 iterations for "until nothing changes"
        return mask
    dilated: Mask = ndimage.binary_dilation(mask, structure=_EIGHTEEN_NEIGHBOURS, iterations=iterations)
    return dilated


def _compare(found: Mask, lesion: Mask, spacing_mm: Spacing, policy: EmptyMaskPolicy) -> tuple[float, float]:
    """Dice and area-weighted HD95 of pooled components against one lesion."""
    distances = area_surface_distances(found, lesion, spacing_mm)
    return dice(count_voxels(found, lesion), policy=policy), hd95_brats2023_mm(distances, policy=policy)


def _case_score(lesions: tuple[LesionScore, ...], false: int, policy: EmptyMaskPolicy) -> LesionWiseScore:
    kept = [lesion for lesion in lesions if lesion.kept]
    count = len(kept) + false
    if count == 0:
        return LesionWiseScore(lesions, false, policy.overlap_both_empty, policy.distance_both_empty_mm)
    dice_sum = sum(lesion.dice for lesion in kept) + policy.overlap_one_empty * false
    hd95_sum = sum(lesion.hd95_mm for lesion in kept) + policy.distance_one_empty_mm * false
    return LesionWiseScore(lesions, false, dice_sum / count, hd95_sum / count)
