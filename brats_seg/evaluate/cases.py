"""Every score of one case, a predicted label map against an expert's, and the slice where they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Mask, Volume
from brats_seg.core.labels import DEFAULT_SCHEMA, LabelSchema, Region
from brats_seg.core.regions import RegionSet
from brats_seg.core.visit import RegionMaps
from brats_seg.evaluate import overlap, surface
from brats_seg.evaluate.calibration import CalibrationCounts, count_calibration
from brats_seg.evaluate.lesionwise import LESIONWISE_SETTINGS, LesionScore, LesionWiseSettings, score_lesions
from brats_seg.evaluate.overlap import BRATS_2023, EmptyMaskPolicy
from brats_seg.imaging.boxes import Box, bounding_box, widened

Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything a picture of one case needs, without the case.

    Attributes:
        mean_dice: over the regions, by which the worst cases are found.
        height_mm: position of the slice, RAS+ millimetres.
        pixel_mm: size of a pixel from left to right and from front to back.
        background: ``(X, Y)`` image, 0 where there is none.
        prediction: ``(X, Y)`` bit ``i`` set inside the ``i``-th region.
        reference: the same for the reference.
    """

    case: str
    mean_dice: float
    height_mm: float
    pixel_mm: tuple[float, float]
    background: Picture
    prediction: Picture
    reference: Picture


def region_bits(masks: Sequence[Mask]) -> Picture:
    """Masks as one array, bit ``i`` for the ``i``-th; at most eight."""
    bits = np.zeros(masks[0].shape, np.uint8)
    for bit, mask in enumerate(masks):
        bits |= mask.astype(np.uint8) << np.uint8(bit)
    return bits


def take_snapshot(
    case: str, mean_dice: float, prediction: Volume, reference: Volume, image: Volume | None = None
) -> Snapshot:
    """Cut the axial slice with the most voxels in different regions; without any, that with the most tumour.

    Args:
        mean_dice: kept with the picture.
        prediction: region bits of :func:`region_bits`.
        reference: the same, on the same grid.
        image: background on the same grid.
    """
    found, truth = prediction.to_ras(), reference.to_ras()
    weight = (found.data != truth.data).sum(axis=(0, 1))
    if not weight.any():
        weight = (truth.data != 0).sum(axis=(0, 1))
    level = int(np.argmax(weight)) if weight.any() else truth.data.shape[2] // 2
    background = np.zeros(truth.data.shape[:2], np.uint8)
    if image is not None:
        background = _grey(np.asarray(image.to_ras().data[:, :, level], np.float64))
    middle = (truth.data.shape[0] / 2, truth.data.shape[1] / 2, level)
    spacing = truth.grid.spacing_mm
    return Snapshot(
        case=case,
        mean_dice=mean_dice,
        height_mm=float(truth.grid.to_world(middle)[2]),
        pixel_mm=(spacing[0], spacing[1]),
        background=background,
        prediction=found.data[:, :, level].copy(),
        reference=truth.data[:, :, level].copy(),
    )


def _grey(values: NDArray[np.float64]) -> Picture:
    """Grey levels from the 1st to the 99.5th percentile of what is not 0."""
    inside = values[np.isfinite(values) & (values != 0)]
    if inside.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(inside, [1, 99.5])
    scaled = (np.nan_to_num(values) - min(low, 0.0)) / max(high - min(low, 0.0), 1e-12)
    grey: Picture = (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return grey


NSD_TOLERANCE_MM = 1.0
"""Tolerance of the column ``nsd_1mm``."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What an evaluation depends on; printed in its report.

    Attributes:
        lesionwise: the challenge task whose lesion-wise settings are used.
        policy: what empty masks count.
        level: coverage of every interval.
        band_mm: how far around the tumour calibration is judged.
        tumour_from_ml: a study is called a tumour if more than this was predicted.
        large_enhancing_ml: means are given for all cases, and for those with at least this much enhancing tumour.
        worst_cases: how many cases get a picture.

    Raises:
        InputError: if a value makes no sense.
    """

    lesionwise: LesionWiseSettings = LESIONWISE_SETTINGS["GLI"]
    policy: EmptyMaskPolicy = BRATS_2023
    level: float = 0.95
    resamples: int = 2000
    band_mm: float = 10.0
    tumour_from_ml: float = 0.0
    large_enhancing_ml: float = 2.0
    worst_cases: int = 6

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise InputError(f"the level of an interval lies between 0 and 1, not {self.level:g}")
        if self.resamples < 1 or self.worst_cases < 0:
            raise InputError(f"resamples ({self.resamples}) and worst cases ({self.worst_cases}) cannot be negative")
        if min(self.band_mm, self.tumour_from_ml, self.large_enhancing_ml) < 0:
            raise InputError("band_mm, tumour_from_ml and large_enhancing_ml cannot be negative")


@dataclass(frozen=True, eq=False)
class CasePair:
    """A prediction and its reference on one grid.

    Attributes:
        case: id, unique in an evaluation.
        prediction: label map.
        reference: label map on the same grid.
        prediction_schema: meaning of the prediction's numbers.
        reference_schema: meaning of the reference's numbers.
        probabilities: on the same grid, if calibration is to be judged.
        image: background for pictures, on the same grid.
        trained_on: whether the prediction is of a model that was trained on this study; None where nothing tells.

    Raises:
        InputError: if anything lies on another grid than the reference.
    """

    case: str
    prediction: Volume
    reference: Volume
    regions: RegionSet
    prediction_schema: LabelSchema = DEFAULT_SCHEMA
    reference_schema: LabelSchema = DEFAULT_SCHEMA
    probabilities: RegionMaps | None = None
    image: Volume | None = None
    trained_on: bool | None = None

    @property
    def told(self) -> tuple[Region, ...]:
        """Regions that both label maps tell; of any other an empty mask is no finding."""
        predicted = self.regions.told_by(self.prediction_schema)
        return tuple(region for region in self.regions.told_by(self.reference_schema) if region in predicted)

    def __post_init__(self) -> None:
        if not self.told:
            raise InputError(
                f"{self.prediction_schema.name} and {self.reference_schema.name} have no region in common to score"
            )
        others = {"prediction": self.prediction, "probabilities": self.probabilities, "image": self.image}
        for name, value in others.items():
            if value is not None and not value.grid.same_as(self.reference.grid):
                raise InputError(
                    f"the {name} ({value.grid.describe()}) does not lie on the grid of the reference "
                    f"({self.reference.grid.describe()})"
                )


@dataclass(frozen=True)
class RegionScore:
    """One region of one case; one row of the table of cases. Units are in the names."""

    case: str
    region: str
    dice: float
    hd95_mm: float
    hd95_brats2023_mm: float
    nsd_1mm: float
    average_distance_mm: float
    sensitivity: float
    specificity: float
    precision: float
    reference_ml: float
    predicted_ml: float
    volume_error_ml: float
    volume_error_percent: float
    lesionwise_dice: float
    lesionwise_hd95_mm: float
    lesions: int
    lesions_found: int
    lesions_missed: int
    lesions_false: int
    trained_on: bool | None = None


@dataclass(frozen=True, eq=False)
class CaseScores:
    """All scores of one case.

    Attributes:
        regions: one for each region that both label maps tell.
        lesions: lesions of the reference by name of the region.
        calibration: counts by name of the region; empty without probabilities.
        snapshot: the slice where prediction and reference differ most.
    """

    regions: tuple[RegionScore, ...]
    lesions: dict[str, tuple[LesionScore, ...]]
    calibration: dict[str, CalibrationCounts]
    snapshot: Snapshot


def evaluate_case(pair: CasePair, *, settings: EvaluationSettings | None = None) -> CaseScores:
    """Score one case.

    Everything is computed inside the box that holds both tumours, so the cost follows the tumour and not
    the image.

    Raises:
        InputError: if a label map holds numbers its schema does not know.
    """
    settings = settings or EvaluationSettings()
    found, truth = pair.prediction.data, pair.reference.data
    box = bounding_box((found != 0) | (truth != 0)) or tuple(slice(0, 1) for _ in found.shape)
    predicted = _region_masks(pair, pair.prediction, pair.prediction_schema, box, "prediction")
    expected = _region_masks(pair, pair.reference, pair.reference_schema, box, "reference")

    scores, lesions = [], {}
    for region in pair.told:
        score, lesions[region.name] = _score_region(pair, region, (predicted[region], expected[region]), settings)
        scores.append(score)
    calibration = band_calibration(pair, settings.band_mm)
    mean_dice = float(np.mean([score.dice for score in scores]))
    bits = [_uncropped(pair.reference, region_bits(list(masks.values())), box) for masks in (predicted, expected)]
    shot = take_snapshot(pair.case, mean_dice, bits[0], bits[1], pair.image)
    return CaseScores(tuple(scores), lesions, calibration, shot)


def _score_region(
    pair: CasePair, region: Region, masks: tuple[Mask, Mask], settings: EvaluationSettings
) -> tuple[RegionScore, tuple[LesionScore, ...]]:
    """Scores of one region inside the cropped box, ``masks`` being prediction and reference."""
    grid, policy = pair.reference.grid, settings.policy
    counts = overlap.count_voxels(*masks, outside=pair.reference.data.size - masks[0].size)
    voxels = surface.voxel_surface_distances(*masks, grid.spacing_mm)
    areas = surface.area_surface_distances(*masks, grid.spacing_mm)
    lesionwise = score_lesions(*masks, grid.spacing_mm, settings=settings.lesionwise, policy=policy)
    score = RegionScore(
        case=pair.case,
        region=region.name,
        dice=overlap.dice(counts, policy=policy),
        hd95_mm=surface.hd95_mm(voxels, policy=policy),
        hd95_brats2023_mm=surface.hd95_brats2023_mm(areas, policy=policy),
        nsd_1mm=surface.normalised_surface_distance(areas, tolerance_mm=NSD_TOLERANCE_MM, policy=policy),
        average_distance_mm=surface.average_surface_distance_mm(voxels, policy=policy),
        sensitivity=overlap.sensitivity(counts, policy=policy),
        specificity=overlap.specificity(counts, policy=policy),
        precision=overlap.precision(counts, policy=policy),
        reference_ml=counts.reference * grid.voxel_ml,
        predicted_ml=counts.predicted * grid.voxel_ml,
        volume_error_ml=overlap.volume_error_ml(counts, grid.voxel_ml),
        volume_error_percent=overlap.volume_error_percent(counts, policy=policy),
        lesionwise_dice=lesionwise.dice,
        lesionwise_hd95_mm=lesionwise.hd95_mm,
        lesions=len(lesionwise.kept),
        lesions_found=lesionwise.true_positives,
        lesions_missed=lesionwise.false_negatives,
        lesions_false=lesionwise.false_positives,
        trained_on=pair.trained_on,
    )
    return score, lesionwise.lesions


def _region_masks(pair: CasePair, labels: Volume, schema: LabelSchema, box: Box, what: str) -> dict[Region, Mask]:
    cropped = labels.data[box]
    try:
        schema.check(cropped)
    except InputError as error:
        raise InputError(f"{pair.case}, {what}: {error}") from error
    return {region: schema.region_mask(cropped, region) for region in pair.regions}


def band_calibration(pair: CasePair, band_mm: float) -> dict[str, CalibrationCounts]:
    """Counts of each region, by name, in the band around the reference's tumour; empty without probabilities."""
    probabilities = pair.probabilities
    if probabilities is None:
        return {}
    whole = pair.reference_schema.tumour_mask(pair.reference.data)
    # Over a whole head nearly all voxels are trivially right, and any network looks calibrated.
    band = widened(whole, pair.reference.grid.spacing_mm, band_mm)
    labels = pair.reference.data[band]
    truth = {region: pair.reference_schema.region_mask(labels, region) for region in pair.told}
    return {r.name: count_calibration(probabilities.region(r)[band], mask) for r, mask in truth.items()}


def _uncropped(like: Volume, values: np.ndarray, box: Box) -> Volume:
    whole = np.zeros(like.data.shape, values.dtype)
    whole[box] = values
    return like.with_data(whole)
