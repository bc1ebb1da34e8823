"""Rigid registration by mutual information, and resampling through the transform it finds.

Images travel to SimpleITK and back through :mod:`brats_seg.imaging.itk`; matrices are RAS+ outside this file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Grid, Volume
from brats_seg.core.scans import RigidMotion
from brats_seg.core.study import MRSequence
from brats_seg.imaging.boxes import box_or_all, cropped, inner
from brats_seg.imaging.brain import background_value, head_mask
from brats_seg.imaging.itk import FLIP, from_itk, place, to_itk
from brats_seg.imaging.similarity import mutual_information

Order = Literal["linear", "nearest", "bspline"]

_INTERPOLATORS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor, "bspline": sitk.sitkBSpline}

CLIP_PERCENTILES = (0.5, 99.5)
"""Intensities of the head outside these are clipped, so that a few hot voxels do not use up the histogram."""

HEAD_MARGIN_MM = 10.0
"""Air around the fixed head that takes part: the outline guides as the content does."""

START_TURNS_DEG = (-20.0, 20.0)
"""Turns about each axis that are tried before the first step."""

STARTS_KEPT = 2
"""Starts that are followed through the coarsest level."""

THOROUGH_TURNS_DEG = (-40.0, -20.0, 0.0, 20.0, 40.0)
THOROUGH_STARTS_KEPT = 6
"""The same for a thorough search, in which turns about the three axes are combined."""

INNER_MM = 6.0
"""Depth below the outlines from which mutual information is reported: inside, only anatomy can agree."""

SAMPLES_PER_CELL = 10
"""Voxels there must be for each cell of the joint histogram; a thin slab gets fewer bins."""

MIN_COMMON_SHARE = 0.5
"""One scan must show at least this share of the other's head for the overlap to be judged within the common view."""

MIN_OVERLAP = 0.65
"""Measured: 0.94 to 1.00 for sequences and visits of one person, 0.80 where FLAIR covers two thirds of the brain on
a full grid; 0.33 to 0.39 for noise, 0.10 to 0.30 for scans cut into shuffled blocks."""

MIN_MUTUAL_INFORMATION = 0.03
"""Nats, inside the head. Measured: 0.066 to 1.06 over the 117 pairs with T1CE of 39 real studies, 0.25 to 0.42 for
scans with skull and 5.5 mm slices; 0.000 to 0.001 for noise and for voxels shuffled within the brain, 0.007 for
smooth noise. Other people's heads reach 0.02 to 0.24, so the number does not tell people apart."""


THICKER = 1.5
"""Where the thickest side of one scan's voxels is so many times longer, both are compared at its voxels. Measured on
phantoms with skull and slices of 6 mm along the axes of the other scan: values interpolated between the slices pulled
the answer 0.9 to 1.6 mm across them (``experiments/registration``)."""

HEADER_SHARE = 0.98
"""Share of the mutual information and overlap found that headers must reach to be trusted. Measured on two studies,
three sequences each, resampled to 1 x 1 x 3 and 2 mm: 0.984 and more where they lay right (the search moved them by 0.1
to 0.3 mm and up to 0.6 degrees), 0.97 to 1.01 at 0.5 mm off, 0.976 and less at 1 mm, 0.83 and less at 2 mm."""


@dataclass(frozen=True)
class RegistrationConfig:
    """Settings of :func:`register_rigid`.

    Attributes:
        levels_mm: voxel size of each resolution level, coarse to fine; axes that are coarser stay as they are.
        samples: points at which the metric is evaluated at each level.
        iterations: largest number of steps at each level.
        bins: histogram bins of the mutual information, per image.
        min_step_mm: a level ends when steps become shorter.
        seed: of the sampling; equal seeds give equal results.
        is_thorough: look for starts among combined turns too, which takes seconds: for heads that lie far apart.
    """

    levels_mm: tuple[float, ...] = (6.0, 4.0, 2.0)
    samples: tuple[int, ...] = (15_000, 20_000, 100_000)
    iterations: tuple[int, ...] = (100, 60, 40)
    bins: int = 32
    min_step_mm: float = 0.01
    seed: int = 20_240_517
    is_thorough: bool = False

    def __post_init__(self) -> None:
        if not len(self.levels_mm) == len(self.samples) == len(self.iterations) > 0:
            raise ValueError("levels_mm, samples and iterations must have the same length, at least 1")
        if list(self.levels_mm) != sorted(self.levels_mm, reverse=True):
            raise ValueError(f"levels_mm {self.levels_mm} must go from coarse to fine")
        if min(self.levels_mm) <= 0 or self.min_step_mm <= 0:
            raise ValueError("levels_mm and min_step_mm must be positive")
        if min(self.samples) < 1000 or min(self.iterations) < 1 or self.bins < 8:
            raise ValueError("samples must be at least 1000, iterations 1, bins 8")


def resample(
    volume: Volume, grid: Grid, *, matrix: Affine | None = None, order: Order = "linear", fill: float | None = None
) -> Volume:
    """One interpolation of a volume onto a grid, through a transform.

    Args:
        matrix: 4x4, RAS+ mm of ``grid`` to RAS+ mm of ``volume``, as in :class:`RigidMotion`; None for identity.
        order: ``nearest`` for labels and masks; it keeps their type. The others give float32.
        fill: value outside the field of view of ``volume``; None for 0 with ``nearest`` and else for the
            background of ``volume``, which is not 0 in every skull-stripped scan.

    Returns:
        Volume on ``grid``.
    """
    lps = FLIP @ (np.eye(4) if matrix is None else np.asarray(matrix, dtype=np.float64)) @ FLIP
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    source = volume if order == "nearest" else volume.with_data(np.asarray(volume.data, dtype=np.float32))
    if fill is None:
        fill = 0.0 if order == "nearest" else background_value(volume)
    image = to_itk(source)
    frame = place(sitk.Image([int(n) for n in grid.shape], sitk.sitkUInt8), grid)
    moved = sitk.Resample(image, frame, transform, _INTERPOLATORS[order], float(fill), image.GetPixelID())
    data = sitk.GetArrayFromImage(moved).transpose(2, 1, 0)
    return Volume(data.astype(source.data.dtype, copy=False), grid)


def register_rigid(
    moving: Volume,
    fixed: Volume,
    *,
    config: RegistrationConfig | None = None,
    fixed_mask: NDArray[np.bool_] | None = None,
    moving_mask: NDArray[np.bool_] | None = None,
    trust_header: bool = False,
) -> RigidMotion:
    """Find the rigid motion that lays one scan on another of the same head.

    Mattes' mutual information is maximised by regular-step gradient descent, from coarse to fine. The
    start is the best of several: headers as they are, fields of view centred, heads centred, each with
    small turns about every axis. Everything runs in one thread with a fixed seed, so that the same
    images give the same numbers.

    Args:
        moving: scan to be moved; any grid, 2D acquisitions and partial coverage included.
        fixed: scan that stays.
        config: levels, samples, iterations.
        fixed_mask: ``(X, Y, Z)`` of ``fixed``; only voxels in it are compared (a brain without its tumour).
        moving_mask: ``(X, Y, Z)`` of ``moving``, likewise.
        trust_header: keep the scans where their headers have them if what was found is hardly better
            (:data:`HEADER_SHARE`): scans of one space, resampled, are not to be moved by the search's own error.

    Returns:
        The transform and how well it went; pass it to :func:`check_registration` before use.

    Raises:
        InputError: if an image holds no head to register.

    Source:
        D. Mattes et al., PET-CT image registration in the chest using free-form deformations,
        IEEE Trans Med Imaging 2003;22:120 (doi:10.1109/TMI.2003.809072), in ITK's implementation.
    """
    config = config or RegistrationConfig()
    finest = min(config.levels_mm)
    with _one_thread():
        pair = _Pair(_side(fixed, fixed_mask, finest), _side(moving, moving_mask, finest), config)
        # Between thick slices nothing is known: values interpolated there pull the answer across the slices. So the
        # points at which the scans are compared are voxels of the one with the thicker slices.
        is_swapped = max(moving.grid.spacing_mm) > THICKER * max(fixed.grid.spacing_mm)
        search = _Pair(pair.moving, pair.fixed, config) if is_swapped else pair
        coarse = search.level(0)
        tried = [_optimise(search, coarse, start, 0) for start in _best_starts(search, coarse)]
        transform = max(tried, key=lambda candidate: _agreement(coarse, candidate, config.bins))
        for level in range(1, len(config.levels_mm)):
            transform = _optimise(search, search.level(level), transform, level)
        matrix: Affine = _matrix_of(transform)
        if is_swapped:
            matrix = np.asarray(np.linalg.inv(matrix), np.float64)
        found = _record(pair, matrix)
        header = _record(pair, np.eye(4)) if trust_header else found
        as_good = header.mutual_information >= HEADER_SHARE * found.mutual_information
        return header if as_good and header.overlap >= HEADER_SHARE * found.overlap else found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in a fixed order: the metric keeps its own threads whatever the registration method is told."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@dataclass(frozen=True)
class _Side:
    """One of the two scans at the finest level: clipped to its head's intensities, with the head's outline."""

    volume: Volume
    head: NDArray[np.bool_]
    centre_mm: NDArray[np.float64]
    background: float
    mask: Any | None

    @cached_property
    def turning_mm2(self) -> list[float]:
        """For each world axis, the mean square by which a turn of one radian about it moves the head's voxels.

        With these as scales a step turns and shifts the head by the same root mean square. ITK's own scales look at
        the corners of the image, which makes turns of a round head too timid: steps zigzag and end early.
        """
        squares = (self.volume.grid.to_world(np.argwhere(self.head)[::31]) - self.centre_mm) ** 2
        return [float((squares.sum(axis=1) - squares[:, axis]).mean()) for axis in range(3)]

    def crop(self, margin_mm: float) -> Volume:
        """The part around the head."""
        margin = [math.ceil(margin_mm / spacing) for spacing in self.volume.grid.spacing_mm]
        return cropped(self.volume, box_or_all(self.head, margin=margin))


def _side(volume: Volume, mask: NDArray[np.bool_] | None, spacing_mm: float) -> _Side:
    background = background_value(volume)
    small = from_itk(_shrink(to_itk(volume.with_data(np.asarray(volume.data, dtype=np.float32))), spacing_mm))
    head = head_mask(small)
    if not head.any():
        raise InputError("an image to be registered holds a single value; is the file damaged?")
    inside = small.data[head]
    low, high = (float(v) for v in np.percentile(inside, CLIP_PERCENTILES))
    clipped = np.clip(small.data, min(low, background), max(high, background))
    centre = small.grid.to_world(np.array(ndimage.center_of_mass(head)))
    itk_mask = None if mask is None else to_itk(volume.with_data(mask))
    return _Side(small.with_data(clipped), head, centre, background, itk_mask)


def _shrink(image: Any, spacing_mm: float) -> Any:
    """Means of blocks, so that voxels come near ``spacing_mm`` where they are smaller."""
    sizes = zip(image.GetSpacing(), image.GetSize(), strict=True)
    return sitk.BinShrink(image, [min(max(round(spacing_mm / spacing), 1), size) for spacing, size in sizes])


@dataclass(frozen=True)
class _Pair:
    """The two scans and the settings they are registered with."""

    fixed: _Side
    moving: _Side
    config: RegistrationConfig

    def level(self, level: int) -> tuple[Any, Any, float]:
        """Fixed and moving image of a level, and the value outside the moving one."""
        spacing = self.config.levels_mm[level]
        fixed = _shrink(to_itk(self.fixed.crop(HEAD_MARGIN_MM)), spacing)
        return fixed, _shrink(to_itk(self.moving.volume), spacing), self.moving.background


def _best_starts(pair: _Pair, coarse: tuple[Any, Any, float]) -> list[Any]:
    """The most promising starts: shifts by header, field of view and head, turned about each axis."""
    middles = [
        side.volume.grid.to_world((np.array(side.volume.grid.shape) - 1) / 2) for side in (pair.fixed, pair.moving)
    ]
    centre = pair.fixed.centre_mm
    shifts = [np.zeros(3), middles[1] - middles[0], pair.moving.centre_mm - centre]
    kept = [s for i, s in enumerate(shifts) if all(np.linalg.norm(s - other) > 3 for other in shifts[:i])]
    if pair.config.is_thorough:
        turns = [np.radians(angles) for angles in product(THOROUGH_TURNS_DEG, repeat=3)]
    else:
        turns = [np.zeros(3)] + [np.radians(angle) * np.eye(3)[axis] for axis in range(3) for angle in START_TURNS_DEG]
    starts = []
    for shift in kept:
        for turn in turns:
            transform = sitk.Euler3DTransform()
            transform.SetCenter((FLIP[:3, :3] @ centre).tolist())
            transform.SetTranslation((FLIP[:3, :3] @ shift).tolist())
            transform.SetRotation(*turn.tolist())
            starts.append(transform)
    starts.sort(key=lambda start: -_agreement(coarse, start, pair.config.bins))
    return starts[: THOROUGH_STARTS_KEPT if pair.config.is_thorough else STARTS_KEPT]


def _agreement(images: tuple[Any, Any, float], transform: Any, bins: int) -> float:
    """Mutual information of all voxels around the fixed head; outside the moving image counts as background.

    Unlike the optimiser's metric, which leaves such voxels out, it cannot be won by moving the head out of view.
    """
    fixed, moving, background = images
    moved = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, background)
    return mutual_information(sitk.GetArrayViewFromImage(fixed), sitk.GetArrayViewFromImage(moved), bins)


def _optimise(pair: _Pair, images: tuple[Any, Any, float], start: Any, level: int) -> Any:
    config = pair.config
    fixed, moving, _ = images
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(config.bins)
    method.SetInterpolator(sitk.sitkLinear)
    share = min(config.samples[level] / fixed.GetNumberOfPixels(), 1.0)
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, config.seed)
    if pair.fixed.mask is not None:
        method.SetMetricFixedMask(pair.fixed.mask)
    if pair.moving.mask is not None:
        method.SetMetricMovingMask(pair.moving.mask)
    # ITK's filter smooths gradients over the longest side of a voxel: with slices of 5 mm they led away from the best.
    method.MetricUseFixedImageGradientFilterOff()
    method.MetricUseMovingImageGradientFilterOff()
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    step = config.levels_mm[level] / 2
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=step,
        minStep=config.min_step_mm,
        numberOfIterations=config.iterations[level],
        relaxationFactor=0.7,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScales([*pair.fixed.turning_mm2, 1.0, 1.0, 1.0])
    try:
        method.Execute(fixed, moving)
    except RuntimeError:  # ITK: every sample left the moving image. The start stays, and its overlap shows what it is.
        return start
    return transform


def _matrix_of(transform: Any) -> Affine:
    """4x4 RAS+ matrix of a SimpleITK rigid transform."""
    rotation = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    lps = np.eye(4)
    lps[:3, :3] = rotation
    lps[:3, 3] = centre + np.array(transform.GetTranslation()) - rotation @ centre
    result: Affine = FLIP @ lps @ FLIP
    return result


def _record(pair: _Pair, matrix: Affine) -> RigidMotion:
    fixed, moving = pair.fixed, pair.moving
    grid = fixed.volume.grid
    moved = matrix[:3, :3] @ fixed.centre_mm + matrix[:3, 3]
    head = resample(moving.volume.with_data(moving.head), grid, matrix=matrix, order="nearest").data
    image = resample(moving.volume, grid, matrix=matrix, fill=moving.background).data
    compared = inner(head & fixed.head, grid.spacing_mm, INNER_MM)
    for mask, through in ((fixed.mask, np.eye(4)), (moving.mask, matrix)):
        if mask is not None:
            compared &= resample(from_itk(mask), grid, matrix=through, order="nearest").data > 0
    bins = int(np.clip(np.sqrt(compared.sum() / SAMPLES_PER_CELL), 8, pair.config.bins))
    return RigidMotion(
        matrix=matrix,
        mutual_information=mutual_information(fixed.volume.data[compared], image[compared], bins),
        overlap=_overlap(pair, matrix, head),
        translation_mm=float(np.linalg.norm(moved - fixed.centre_mm)),
        rotation_deg=rotation_deg(matrix),
    )


def rotation_deg(matrix: Affine) -> float:
    """Angle of a rigid matrix's rotation."""
    return float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))


def _overlap(pair: _Pair, matrix: Affine, moved_head: NDArray[np.bool_]) -> float:
    """Dice of the heads where both fields of view reach, so that a slab is judged by what it covers.

    Where neither scan shows at least half of the other's head, the whole heads are compared: the motion
    has then pushed them out of each other's view.
    """
    fixed, moving = pair.fixed, pair.moving
    everywhere = moving.volume.with_data(np.ones(moving.volume.grid.shape, np.uint8))
    seen = resample(everywhere, fixed.volume.grid, matrix=matrix, order="nearest").data > 0
    fixed_ml, moving_ml = (float(side.head.sum()) * side.volume.grid.voxel_ml for side in (fixed, moving))
    voxel_ml = fixed.volume.grid.voxel_ml
    fixed_seen_ml, moving_seen_ml = float((fixed.head & seen).sum()) * voxel_ml, float(moved_head.sum()) * voxel_ml
    both_ml = float((fixed.head & moved_head).sum()) * voxel_ml
    if max(fixed_seen_ml / fixed_ml, moving_seen_ml / moving_ml) < MIN_COMMON_SHARE:
        return 2 * both_ml / (fixed_ml + moving_ml)
    return 2 * both_ml / max(fixed_seen_ml + moving_seen_ml, voxel_ml)


def check_registration(
    record: RigidMotion,
    moving: MRSequence | str,
    fixed: MRSequence | str,
    moving_grid: Grid,
    fixed_grid: Grid,
    *,
    min_overlap: float = MIN_OVERLAP,
) -> None:
    """Refuse a registration that did not find a head in both images.

    It catches noise, damaged and scrambled images, and heads that lie out of each other's view. It does not
    promise that both are the same patient: two brains of different people align with an overlap of 0.90 to 0.95
    and a mutual information near that of a poor pair of sequences of one person.

    Args:
        record: what :func:`register_rigid` found.
        moving: the moving image of a visit, or one of another visit by name.
        fixed: the fixed image, likewise.
        min_overlap: 0 for a brain and a head with skull, whose outlines say nothing.

    Raises:
        InputError: naming both images, with the values and what to do.
    """
    names = [name.title if isinstance(name, MRSequence) else name for name in (moving, fixed)]
    sizes = " and ".join("x".join(str(n) for n in grid.shape) for grid in (moving_grid, fixed_grid))
    advice = "Are both of the same patient, and whole?"
    if isinstance(moving, MRSequence):
        advice = (
            f"Are both from the same visit, and whole? Look at them, or give another file for {names[0]} with "
            f"--{moving.value} FILE."
        )
    if record.overlap < min_overlap:
        raise InputError(
            f"{names[0]} and {names[1]} overlap only {max(record.overlap, 0):.0%} of the head after registration; "
            f"{min_overlap:.0%} is the least (grids {sizes}). {advice}"
        )
    if record.mutual_information < MIN_MUTUAL_INFORMATION:
        raise InputError(
            f"{names[0]} and {names[1]} show nothing in common inside the head after registration: mutual information "
            f"{max(record.mutual_information, 0):.3f} nats, {MIN_MUTUAL_INFORMATION:g} is the least (grids {sizes}). "
            f"{advice}"
        )
