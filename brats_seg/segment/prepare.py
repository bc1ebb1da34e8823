"""From a study to what the network sees. Training and inference both go through :func:`prepare`.

The steps, in order: bring every sequence to the reference (rigidly, where grids differ), store it along
right-anterior-superior axes, resample to 1 mm where it is not, crop to the brain, clip and z-score each
sequence within the brain, correct the bias field of those the model wants corrected, pad to a
multiple the networks need. :mod:`brats_seg.transforms` has the same steps as MONAI transforms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Array, Grid, Volume
from brats_seg.core.scans import PreparationRecord, PreparedStudy, RigidMotion, Study
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.bias import without_bias
from brats_seg.imaging.boxes import Box, box_or_all
from brats_seg.imaging.brain import (
    background_value,
    brain_mask,
    foreground,
    foregrounds,
    measure_background,
    with_skull,
)
from brats_seg.imaging.consistency import check_consistency
from brats_seg.imaging.placing import coincides, place_by_header
from brats_seg.imaging.register import check_registration, register_rigid, resample
from brats_seg.imaging.settings import PrepareConfig
from brats_seg.segment.strip import SPACING_TOLERANCE, StrippedStudy

MIN_BRAIN_ML = 200.0
"""Less foreground than this is no head: a child's brain holds over 800 ml."""


MAX_TAIL = 40.0
"""Clipping percentiles lie within so many distances from the median to the 95th (5th) percentile. Measured in the 196
sequences of 49 studies: at most 8.9 above and 3.9 below; a few hot voxels in a thousand reach hundreds."""

USUAL_TAIL = 4.0
"""Where they do not, this many distances stand for the percentile, as in most scans."""


def prepare(
    study: Study,
    *,
    config: PrepareConfig | None = None,
    sequences: tuple[MRSequence, ...] = SEQUENCES,
    force: bool = False,
    heads: Mapping[MRSequence, str] | None = None,
) -> PreparedStudy:
    """Turn a study into network input, with a record that leads back.

    Args:
        config: settings of the model that will see the result.
        sequences: of the channels, as the model's card lists them.
        force: accept scans that do not look skull-stripped, with a warning.
        heads: what :func:`~brats_seg.imaging.brain.with_skull` said, where it was asked before.

    Returns:
        ``(C, X, Y, Z)`` z-scores on a RAS grid; sequences that are missing are 0.

    Raises:
        InputError: if a scan is not skull-stripped, a registration failed, or no brain is found.
    """
    warnings: list[str] = list(study.notes)
    for sequence, evidence in (with_skull(study) if heads is None else heads).items():
        if not force:
            raise InputError(
                f"{sequence.title} of {study.id} does not look skull-stripped ({evidence}). The network knows brains "
                "only. Take the skull away first with brats-seg prepare, or pass --force."
            )
        warnings.append(f"{sequence.title} does not look skull-stripped ({evidence}); --force was given")
    return _prepared(study, config or PrepareConfig(), sequences, warnings)


def prepare_stripped(
    stripped: StrippedStudy, *, config: PrepareConfig | None = None, sequences: tuple[MRSequence, ...] = SEQUENCES
) -> PreparedStudy:
    """Turn a study whose skull was taken away here into network input; the record leads back to the head's own grid."""
    prepared = _prepared(stripped.study, config or PrepareConfig(), sequences, list(stripped.study.notes))
    reference = stripped.study.reference_sequence
    record = replace(
        prepared.record,
        native=stripped.native,
        registrations=stripped.registrations,
        resampled=tuple(sequence for sequence in stripped.study.present if sequence is not reference),
        extraction=stripped.to_dict(),
        decisions=(*stripped.decisions, *prepared.record.decisions),
    )
    return replace(prepared, record=record)


def _prepared(
    study: Study, config: PrepareConfig, sequences: tuple[MRSequence, ...], warnings: list[str]
) -> PreparedStudy:
    decisions: list[str] = []
    native = study.reference_volume.grid
    study, backgrounds = _shift_background(study, decisions)
    target = _to_spacing(study.reference_volume, config, decisions)
    images, registrations, resampled = _bring_to(target, study, decisions)
    shown = foregrounds(images)
    brain = brain_mask(images, shown)
    found_ml = float(brain.sum()) * target.grid.voxel_ml
    if found_ml < MIN_BRAIN_ML:
        raise InputError(
            f"only {found_ml:.0f} ml of {study.id} is not background, which is too little for a head. "
            "Are these whole-brain scans, and are their voxel sizes right?"
        )
    consistency = check_consistency(images, brain, shown)
    consistency.refuse()
    warnings = [*(str(entry) for entry in consistency.found), *warnings]
    decisions.append(consistency.summary())
    used = {sequence: image for sequence, image in images.items() if sequence not in consistency.left_out}
    frame = _frame(brain, target.grid, config)
    array, intensity = _normalise(used, brain, frame, config, warnings, sequences=sequences)
    for sequence, found in intensity.items():
        for name in ("low", "high", "mean"):
            found[name] += backgrounds[sequence]
    brain, grid = frame.filled(brain), frame.grid
    _take_out_bias(array, config, sequences, decisions, warnings)
    if missing := [sequence.title for sequence in sequences if sequence not in study.images]:
        names = ", ".join(missing)
        warnings.append(f"{names} missing: the network worked without, which costs accuracy")
    record = PreparationRecord(
        native=native,
        network=grid,
        registrations=registrations,
        resampled=resampled,
        intensity=intensity,
        consistency=consistency.to_dict(),
        decisions=tuple(decisions),
        warnings=tuple(warnings),
    )
    return PreparedStudy(study.id, array, brain, tuple(used), record, sequences)


def images_on_reference(study: Study, record: PreparationRecord) -> dict[MRSequence, Volume]:
    """Every sequence on the reference file's own grid, registered as the record says; for pictures."""
    reference = study.reference_volume
    images: dict[MRSequence, Volume] = {}
    for sequence in study.present:
        volume = study.images[sequence]
        if volume.grid.same_as(reference.grid):
            images[sequence] = reference.with_data(volume.data)
        elif sequence not in record.registrations:
            images[sequence] = place_by_header(volume, reference.grid)
        else:
            matrix = record.registrations[sequence].matrix
            images[sequence] = resample(volume, reference.grid, matrix=matrix, fill=background_value(volume))
    return images


def _shift_background(study: Study, decisions: list[str]) -> tuple[Study, dict[MRSequence, float]]:
    """The study with 0 outside the head, as every later step expects, and what was there before.

    A z-score does not see the shift.
    """
    images: dict[MRSequence, Volume] = {}
    backgrounds: dict[MRSequence, float] = {}
    for sequence in study.present:
        volume = images[sequence] = study.images[sequence]
        background = measure_background(volume)
        backgrounds[sequence] = background.value
        if background.spread > 0:
            data = volume.data.astype(np.float32) - np.float32(background.value)
            images[sequence] = volume.with_data(np.where(foreground(volume), data, np.float32(0)))
            decisions.append(
                f"{sequence.title} has noise around the head ({background.value:.3g}, spread {background.spread:.2g}), "
                "which was taken as 0"
            )
        elif background.value != 0:
            images[sequence] = volume.with_data(volume.data.astype(np.float32) - np.float32(background.value))
            decisions.append(f"{sequence.title} is {background.value:g} outside the head, which was taken as 0")
    return replace(study, images=images), backgrounds


def _to_spacing(reference: Volume, config: PrepareConfig, decisions: list[str]) -> Volume:
    """The reference along RAS axes at the network's spacing."""
    target = reference.with_data(np.asarray(reference.data, np.float32)).to_ras()
    if reference.grid.orientation != "RAS":
        decisions.append(f"stored {reference.grid.orientation}, turned to RAS")
    spacing = np.asarray(reference.grid.spacing_mm)
    if np.abs(spacing / config.spacing_mm - 1).max() > SPACING_TOLERANCE:
        target = resample(target, respaced(target.grid, config.spacing_mm), fill=0.0)
        old = " x ".join(f"{s:.3g}" for s in spacing)
        decisions.append(f"resampled from {old} mm to {config.spacing_mm:g} mm")
    return target


def respaced(grid: Grid, spacing_mm: float) -> Grid:
    """The grid with voxels of another size: the first keeps its centre, the last about so."""
    steps = spacing_mm / np.asarray(grid.spacing_mm)
    x, y, z = (round((n - 1) / step + 1) for n, step in zip(grid.shape, steps, strict=True))
    return Grid((x, y, z), grid.affine @ np.diag([*steps, 1.0]))


def _bring_to(
    target: Volume, study: Study, decisions: list[str]
) -> tuple[dict[MRSequence, Volume], dict[MRSequence, RigidMotion], tuple[MRSequence, ...]]:
    """Every sequence on the target's grid, each interpolated once at most."""
    reference = study.reference_volume
    images: dict[MRSequence, Volume] = {}
    registrations: dict[MRSequence, RigidMotion] = {}
    placed: list[MRSequence] = []
    for sequence in study.present:
        volume = study.images[sequence]
        if sequence is study.reference_sequence:
            images[sequence] = target
        elif coincides(volume.grid, reference.grid):
            images[sequence] = _same_steps(volume, target)
            if not volume.grid.same_as(reference.grid):
                placed.append(sequence)
                decisions.append(
                    f"{sequence.title} ({volume.grid.describe()}) lies on the voxels of "
                    f"{study.reference_sequence.title}, as the headers have it: placed by them, not registered"
                )
        else:
            found = register_rigid(volume, reference, trust_header=True)
            check_registration(found, sequence, study.reference_sequence, volume.grid, reference.grid)
            registrations[sequence] = found
            images[sequence] = resample(volume, target.grid, matrix=found.matrix)
            decisions.append(f"{sequence.title} ({volume.grid.describe()}) {_how(found, study.reference_sequence)}")
    return images, registrations, (*placed, *registrations)


def _how(found: RigidMotion, reference: MRSequence) -> str:
    """In words, how a sequence was brought to the reference."""
    if np.array_equal(found.matrix, np.eye(4)):
        return (
            f"resampled onto {reference.title} where its header puts it: registration found nothing better, "
            f"overlap {found.overlap:.2f}"
        )
    return (
        f"registered to {reference.title}: moved {found.translation_mm:.1f} mm, turned {found.rotation_deg:.1f} "
        f"degrees, overlap {found.overlap:.2f}"
    )


def _same_steps(volume: Volume, target: Volume) -> Volume:
    """A volume in the reference's space, taken through the reference's own steps."""
    ras = volume.to_ras()
    if ras.grid.same_as(target.grid):
        return target.with_data(ras.data.astype(np.float32, copy=False))
    return place_by_header(volume, target.grid)


def _normalise(
    images: Mapping[MRSequence, Volume],
    brain: NDArray[np.bool_],
    frame: _Frame,
    config: PrepareConfig,
    warnings: list[str],
    *,
    sequences: tuple[MRSequence, ...],
) -> tuple[NDArray[np.float32], dict[MRSequence, dict[str, float]]]:
    """``(C, X, Y, Z)`` z-scores within the brain in the frame, and what was subtracted and divided by."""
    array = np.zeros((len(sequences), *frame.grid.shape), np.float32)
    intensity: dict[MRSequence, dict[str, float]] = {}
    brain = brain[frame.box]
    for channel, sequence in enumerate(sequences):
        if sequence not in images:
            continue
        data = images[sequence].data[frame.box]
        inside = brain & (data != 0)  # a slab that covers part of the head is 0 elsewhere
        values = data[inside]
        if values.size == 0 or values.min() == values.max():
            raise InputError(f"{sequence.title} holds a single value inside the brain; is the file damaged?")
        low, high, usual = _clip_at(values[:: max(values.size // 400_000, 1)], config.percentiles)
        if high < usual:
            share = float(np.mean(values > high))
            warnings.append(
                f"{sequence.title} is far brighter than tissue in {share:.2%} of the brain, as from damaged voxels: "
                "they were cut off"
            )
        np.clip(values, low, high, out=values)
        mean, std = float(values.mean()), float(values.std())
        values -= np.float32(mean)
        values /= np.float32(max(std, 1e-6))
        array[channel][frame.place][inside] = values
        intensity[sequence] = {"low": low, "high": high, "mean": mean, "std": std}
    return array, intensity


def _clip_at(values: NDArray[np.float32], percentiles: tuple[float, float]) -> tuple[float, float, float]:
    """Where intensities are clipped: at the percentiles, unless more voxels than those are far too bright or dark;
    and the upper percentile."""
    low, dark, middle, bright, usual = (
        float(v) for v in np.percentile(values, (percentiles[0], 5, 50, 95, percentiles[1]))
    )
    high = usual
    if high - middle > MAX_TAIL * (bright - middle) > 0:
        high = middle + USUAL_TAIL * (bright - middle)
    if middle - low > MAX_TAIL * (middle - dark) > 0:
        low = middle - USUAL_TAIL * (middle - dark)
    return low, high, usual


def _take_out_bias(
    array: NDArray[np.float32],
    config: PrepareConfig,
    sequences: tuple[MRSequence, ...],
    decisions: list[str],
    warnings: list[str],
) -> None:
    """Correct the sequences the settings name, in place; they stay z-scores. One that cannot be is left as it is."""
    for channel, sequence in enumerate(sequences):
        inside = array[channel] != 0
        if sequence.value not in config.bias_corrected or not inside.any():
            continue
        try:
            flat = without_bias(array[channel], inside, spacing_mm=config.spacing_mm)
        except InputError as error:
            warnings.append(f"{sequence.title} keeps its bias field, which the model expects to be corrected: {error}")
            continue
        values = flat[inside]
        changed = float((values - array[channel][inside]).std())
        array[channel][inside] = (values - values.mean()) / max(float(values.std()), 1e-6)
        decisions.append(f"{sequence.title}: N4 bias field correction, {changed:.2f} of the brain's standard deviation")


@dataclass(frozen=True)
class _Frame:
    """The box around the brain, in the middle of a grid whose sides the networks can halve.

    Attributes:
        box: of the image.
        place: where it lies on the grid.
        grid: of what the networks see.
    """

    box: Box
    place: Box
    grid: Grid

    def filled(self, array: Array) -> Array:
        """``(..., X, Y, Z)`` of the image in the frame, 0 around."""
        channels = array.ndim - 3
        around = [(side.start, n - side.stop) for side, n in zip(self.place, self.grid.shape, strict=True)]
        return np.pad(array[(*[slice(None)] * channels, *self.box)], [*[(0, 0)] * channels, *around])


def _frame(brain: NDArray[np.bool_], grid: Grid, config: PrepareConfig) -> _Frame:
    box = box_or_all(brain, margin=config.margin)
    lengths = [side.stop - side.start for side in box]
    before = [(-n % config.divisor) // 2 for n in lengths]
    x, y, z = (n + -n % config.divisor for n in lengths)
    shift = np.eye(4)
    shift[:3, 3] = [side.start - skipped for side, skipped in zip(box, before, strict=True)]
    place = tuple(slice(skipped, skipped + n) for skipped, n in zip(before, lengths, strict=True))
    return _Frame(box, place, Grid((x, y, z), grid.affine @ shift))


def crop_and_pad(
    array: NDArray[np.float32], brain: NDArray[np.bool_], grid: Grid, config: PrepareConfig
) -> tuple[NDArray[np.float32], Grid]:
    """Cut ``(..., X, Y, Z)`` to the brain's box and pad it with 0 to the divisor, on both sides alike."""
    frame = _frame(brain, grid, config)
    return frame.filled(array), frame.grid
