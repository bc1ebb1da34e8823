"""How well visits are aligned: real studies moved by known motions, rescanned, with the tumour changed or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Grid, Volume, apply_affine
from brats_seg.core.study import MRSequence
from brats_seg.files.find import find_study
from brats_seg.files.nifti import read_image, read_label_result
from brats_seg.imaging.brain import background_value, brain_mask, head_mask
from brats_seg.imaging.register import resample, rotation_deg
from brats_seg.track.align import (
    PREFERRED,
    HeadScan,
    align_visits,
    alignment_quality,
    mean_displacement_mm,
)

TARGET_MM = 0.5


@dataclass(frozen=True)
class MotionConfig:
    """What a second scan is like.

    Attributes:
        motions: how many pairs.
        turn_deg: largest rotation about a random axis.
        shift_mm: largest shift along each axis.
        slice_mm: slice thickness of the second scan.
        noise: standard deviation, as a share of the brain's median brightness.
        bias: standard deviation of the logarithm of each scan's smooth coil sensitivity.
        altered_share: share of the pairs whose tumour is changed between the scans.
    """

    motions: int = 50
    turn_deg: float = 15.0
    shift_mm: float = 15.0
    slice_mm: float = 3.0
    noise: float = 0.04
    bias: float = 0.1
    altered_share: float = 0.5


@dataclass(frozen=True)
class MotionTrial:
    """One pair.

    Attributes:
        study: name of the study's folder.
        altered: whether the tumour was changed.
        error_mm: mean displacement error inside the brain; infinite where the alignment was refused.
        worst_mm: largest displacement error inside the brain.
        uncertainty_mm: what the alignment said of itself.
        turn_deg: true rotation.
        shift_mm: length of the true shift of the brain's centre.
    """

    study: str
    altered: bool
    error_mm: float
    worst_mm: float
    uncertainty_mm: float
    turn_deg: float
    shift_mm: float


def align_study(
    studies: Sequence[Path],
    rng: np.random.Generator,
    *,
    config: MotionConfig | None = None,
    on_trial: Callable[[MotionTrial], None] | None = None,
    skip: int = 0,
) -> tuple[MotionTrial, ...]:
    """Align real studies to moved, rescanned copies of themselves.

    Args:
        studies: folders of skull-stripped studies with an expert label map.
        rng: of motions, noise, bias and changes.
        config: what the second scans are like.
        on_trial: called with each result as it comes.
        skip: motions that were done before; each has its own chance, so that the others stay the same.

    Returns:
        One entry per motion that was done.
    """
    config = config or MotionConfig()
    trials = []
    for number, child in enumerate(rng.spawn(config.motions)):
        if number < skip:
            continue
        altered = bool(child.random() < config.altered_share)
        trial = _trial(studies[number % len(studies)], child, config, altered=altered)
        trials.append(trial)
        if on_trial is not None:
            on_trial(trial)
    return tuple(trials)


def share_within(trials: Sequence[MotionTrial], limit_mm: float = TARGET_MM) -> float:
    """Share of the motions with a mean displacement error of at most ``limit_mm``."""
    return float(np.mean([trial.error_mm <= limit_mm for trial in trials]))


@dataclass(frozen=True)
class PairQuality:
    """How two real visits lie to each other before and after alignment, by one sequence.

    Attributes:
        sequence: title of what both show.
        reason: why the alignment was refused; empty if it was not.
        by: ``brain`` or ``head``.
        translation_mm: shift of the brain's centre.
        rotation_deg: angle of the rotation.
        uncertainty_mm: what the alignment says of itself.
        information_before: mutual information in nats as the scanner's coordinates have it.
        information_after: aligned.
        overlap_before: Dice of the heads or brains as the scanner's coordinates have it.
        overlap_after: aligned.
        against: title of the first sequence that was aligned.
        apart_mm: mean distance, inside the head, from where that sequence puts the same points.
    """

    sequence: str
    reason: str = ""
    by: str = ""
    translation_mm: float = 0.0
    rotation_deg: float = 0.0
    uncertainty_mm: float = 0.0
    information_before: float = 0.0
    information_after: float = 0.0
    overlap_before: float = 0.0
    overlap_after: float = 0.0
    against: str = ""
    apart_mm: float = 0.0


def real_pair(first: Path, second: Path) -> list[PairQuality]:
    """Align two real visits by each sequence that both have; each sequence is a check of the others.

    Raises:
        InputError: if a folder is no study.
    """
    files = [find_study(folder).files for folder in (first, second)]
    found: list[PairQuality] = []
    reference: tuple[str, Affine] | None = None
    for sequence in PREFERRED:
        if not all(sequence in side for side in files):
            continue
        fixed, moving = (
            HeadScan(folder.name, sequence, read_image(side[sequence]).volume)
            for folder, side in zip((first, second), files, strict=True)
        )
        try:
            alignment = align_visits(moving, fixed)
        except InputError as error:
            found.append(PairQuality(sequence.title, str(error)))
            continue
        reference = reference or (sequence.title, alignment.matrix)
        before, after = (alignment_quality(moving, fixed, matrix) for matrix in (np.eye(4), alignment.matrix))
        points = fixed.volume.grid.to_world(np.argwhere(head_mask(fixed.volume))[::97])
        found.append(
            PairQuality(
                sequence=sequence.title,
                by=alignment.by,
                translation_mm=alignment.translation_mm,
                rotation_deg=alignment.rotation_deg,
                uncertainty_mm=alignment.uncertainty_mm,
                information_before=before[0],
                information_after=after[0],
                overlap_before=before[2],
                overlap_after=after[2],
                against=reference[0],
                apart_mm=mean_displacement_mm(alignment.matrix, reference[1], points),
            )
        )
    return found


def _trial(folder: Path, rng: np.random.Generator, config: MotionConfig, *, altered: bool) -> MotionTrial:
    files = find_study(folder)
    sequence = next(s for s in PREFERRED if s in files.files)
    image = read_image(files.files[sequence]).volume
    if files.labels is None:
        raise ValueError(f"{folder.name} has no label map")
    tumour = read_label_result(files.labels).volume.data > 0
    brain = brain_mask({sequence: image})
    points = image.grid.to_world(np.argwhere(brain)[::97])
    motion = _motion(points.mean(axis=0), rng, config)
    first = HeadScan("1", sequence, _rescanned(image, brain, rng, config), tumour)
    body, changed = _changed(image, tumour, rng) if altered else (image, tumour)
    second = _second(body, changed, brain, motion, rng, config, sequence)
    centre = points.mean(axis=0)
    true: dict[str, Any] = {
        "study": folder.name,
        "altered": altered,
        "turn_deg": rotation_deg(motion),
        "shift_mm": float(np.linalg.norm(apply_affine(motion, centre) - centre)),
    }
    try:
        found = align_visits(second, first)
    except InputError:  # an alignment that was refused misses the target
        return MotionTrial(**true, error_mm=np.inf, worst_mm=np.inf, uncertainty_mm=np.inf)
    errors = np.linalg.norm(apply_affine(found.matrix - motion, points), axis=1)
    return MotionTrial(
        **true,
        error_mm=float(errors.mean()),
        worst_mm=float(errors.max()),
        uncertainty_mm=found.uncertainty_mm,
    )


def _motion(centre: NDArray[np.float64], rng: np.random.Generator, config: MotionConfig) -> Affine:
    """RAS+ mm of the first scan to RAS+ mm of the second: a turn about the brain's centre and a shift."""
    axis = rng.normal(size=3)
    turn = np.radians(rng.uniform(0, config.turn_deg)) * axis / np.linalg.norm(axis)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    matrix[:3, 3] = centre + rng.uniform(-1, 1, 3) * config.shift_mm - matrix[:3, :3] @ centre
    return matrix


def _second(  # noqa: PLR0917
    body: Volume,
    tumour: NDArray[np.bool_],
    brain: NDArray[np.bool_],
    motion: Affine,
    rng: np.random.Generator,
    config: MotionConfig,
    sequence: MRSequence,
) -> HeadScan:
    """The moved body on a grid of thick slices around it."""
    back = np.asarray(np.linalg.inv(motion), np.float64)
    voxels = np.argwhere(brain)
    world = body.grid.to_world(voxels[::53])
    moved = apply_affine(motion, world)
    low, high = moved.min(axis=0) - 12.0, moved.max(axis=0) + 12.0
    fold = round(config.slice_mm)
    size = [int(n) for n in np.ceil(high - low)]
    size[2] += -size[2] % fold
    affine = np.eye(4)
    affine[:3, 3] = low
    fine = Grid((size[0], size[1], size[2]), affine)
    image = resample(body, fine, matrix=back, order="bspline", fill=background_value(body))
    inside = resample(body.with_data(brain.astype(np.uint8)), fine, matrix=back, order="nearest").data > 0
    lesion = resample(body.with_data(tumour.astype(np.uint8)), fine, matrix=back, order="nearest").data > 0
    thick = np.diag([1.0, 1.0, float(fold), 1.0])
    thick[2, 3] = (fold - 1) / 2
    grid = Grid((size[0], size[1], size[2] // fold), affine @ thick)

    def slices(data: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(data.reshape(size[0], size[1], -1, fold).mean(axis=3), np.float64)

    seen = slices(inside) >= 0.5
    values = Volume(np.where(seen, slices(image.data), background_value(body)).astype(np.float32), grid)
    return HeadScan("2", sequence, _rescanned(values, seen, rng, config), slices(lesion) >= 0.5)


def _rescanned(image: Volume, brain: NDArray[np.bool_], rng: np.random.Generator, config: MotionConfig) -> Volume:
    """Fresh noise and another scanner, inside the brain; outside, what was cut away stays cut away."""
    background = background_value(image)
    data = np.asarray(image.data, dtype=np.float32) - np.float32(background)
    level = float(np.median(data[brain]))
    field = _smooth_field(rng, image.grid.shape)
    field *= config.bias / max(float(field.std()), 1e-9)
    noisy = data * np.exp(field) + rng.normal(0, config.noise * level, image.grid.shape)
    result = np.where(brain, noisy, 0) + background
    return image.with_data(result.astype(np.float32))


def _smooth_field(rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """A cubic spline through 4 x 4 x 4 random values; axis by axis, for the spline is a product of three."""
    coarse = rng.normal(size=(4, 4, 4))
    weights = [
        ndimage.zoom(np.eye(4), (n / 4, 1), order=3, grid_mode=True, mode="nearest")[:n] for n in shape
    ]  # fmt: skip
    field: NDArray[np.float64] = np.einsum("ai,bj,ck,ijk->abc", *weights, coarse, optimize=True)
    return field


def _changed(image: Volume, tumour: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Volume, NDArray[np.bool_]]:
    """The tumour grown by 3 to 6 mm, or gone bland: another brightness, and no structure of before."""
    data = np.asarray(image.data, dtype=np.float32).copy()
    region = tumour
    if rng.random() < 0.5 and tumour.any():
        reach = rng.uniform(3, 6)
        region = ndimage.distance_transform_edt(~tumour, sampling=image.grid.spacing_mm) <= reach
        region &= data != background_value(image)
    inside = data[region]
    if inside.size:
        texture = ndimage.gaussian_filter(rng.normal(size=image.grid.shape).astype(np.float32), 2.0)
        level = float(np.median(data[data != background_value(image)])) * rng.uniform(0.5, 1.6)
        data[region] = level * (1 + 1.5 * texture[region])
    return image.with_data(data), region
