"""What goes wrong with real scans, done to a phantom on purpose: one named, seeded defect at a time.

A defect is drawn first (:func:`draw_defect`, all chance), then done (:func:`apply_defect`, no chance), so that the
truth file holds everything about it. A damaged file is done to the bytes that are written (:func:`damage_bytes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.grid import Volume
from brats_seg.core.scans import Study
from brats_seg.core.study import MRSequence
from brats_seg.phantom.grids import slice_axis


class DefectKind(Enum):
    """The defects, by the names of the command line."""

    GHOSTING = "ghosting"
    DROPOUT = "dropout"
    CLIPPED = "clipped"
    SWAPPED = "swapped"
    MISSING = "missing"
    DAMAGED = "damaged"

    @property
    def meaning(self) -> str:
        """In words."""
        return _MEANINGS[self]


_MEANINGS: Mapping[DefectKind, str] = {
    DefectKind.GHOSTING: "faint copies along the phase direction, as from periodic movement",
    DefectKind.DROPOUT: "slices that lost most of their signal",
    DefectKind.CLIPPED: "bright intensities cut off at one value",
    DefectKind.SWAPPED: "two sequences under each other's name",
    DefectKind.MISSING: "a sequence that is not there",
    DefectKind.DAMAGED: "a file that ends early, is empty, or has spoilt bytes",
}

ALL = tuple(DefectKind)
DAMAGES = ("truncated", "empty", "spoilt")
"""Ways in which a file is damaged."""


@dataclass(frozen=True)
class Defect:
    """One defect of one visit, complete: doing it needs no chance.

    Attributes:
        sequences: those it happens to; two for ``swapped``, else one.
        values: the numbers drawn for it; plain values.
    """

    kind: DefectKind
    sequences: tuple[MRSequence, ...]
    values: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a truth file."""
        return {
            "defect": self.kind.value,
            "meaning": self.kind.meaning,
            "sequences": [sequence.value for sequence in self.sequences],
            **self.values,
        }


def kinds_named(text: str) -> tuple[DefectKind, ...]:
    """The kinds in a list such as ``ghosting,missing``; ``all`` names every one.

    Raises:
        UsageError: if a name is unknown, empty or given twice.
    """
    if text.strip().lower() == "all":
        return ALL
    names = [name.strip().lower() for name in text.split(",")]
    known = {kind.value: kind for kind in ALL}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(
            f"there is no defect {unknown[0]!r}; choose from {', '.join(known)}, separated by commas, or all, or random"
        )
    if len(set(names)) < len(names):
        raise UsageError(f"a defect is named twice in {text!r}. Name each once.")
    return tuple(known[name] for name in names)


def draw_defect(kind: DefectKind, study: Study, rng: np.random.Generator) -> Defect:
    """Draw where and how strong a defect is.

    Raises:
        InputError: if the study has too few sequences for it.
    """
    present = study.present
    needed = 2 if kind in (DefectKind.SWAPPED, DefectKind.MISSING) else 1
    if len(present) < needed:
        raise InputError(f"{kind.value} needs {needed} sequences, and {study.id} has {len(present)}")
    if kind is DefectKind.SWAPPED:
        first, second = sorted(rng.choice(len(present), 2, replace=False))
        return Defect(kind, (present[int(first)], present[int(second)]))
    sequence = present[int(rng.integers(len(present)))]
    return Defect(kind, (sequence,), _VALUES[kind](study.images[sequence], rng))


def _draw_ghosting(volume: Volume, rng: np.random.Generator) -> dict[str, Any]:
    axes = [axis for axis in range(3) if axis != slice_axis(volume.grid)]
    return {
        "axis": int(rng.choice(axes)),
        "copies": int(rng.integers(2, 6)),
        "strength": round(float(rng.uniform(0.15, 0.45)), 4),
        "phase": round(float(rng.uniform(0, 2 * np.pi)), 4),
    }


def _draw_dropout(volume: Volume, rng: np.random.Generator) -> dict[str, Any]:
    axis = slice_axis(volume.grid)
    others = tuple(other for other in range(3) if other != axis)
    filled = np.flatnonzero((volume.data != 0).any(axis=others))
    if filled.size == 0:
        raise InputError("signal cannot drop out of an image that is empty")
    run_mm = float(rng.uniform(3, 12))
    count = max(round(run_mm / volume.grid.spacing_mm[axis]), 1)
    inner = filled[filled.size // 5 : max(4 * filled.size // 5, filled.size // 5 + 1)]
    first = int(rng.choice(inner))
    slices = [index for index in range(first, first + count) if index < volume.grid.shape[axis]]
    return {"axis": axis, "slices": slices, "kept": [round(float(v), 4) for v in rng.uniform(0.0, 0.35, len(slices))]}


def _draw_clipped(volume: Volume, rng: np.random.Generator) -> dict[str, Any]:
    inside = volume.data[volume.data != 0]
    percentile = float(rng.uniform(75, 92))
    level = float(np.percentile(inside, percentile)) if inside.size else 0.0
    return {"percentile": round(percentile, 2), "level": level}


def _draw_damaged(_volume: Volume, rng: np.random.Generator) -> dict[str, Any]:
    return {"damage": str(rng.choice(DAMAGES)), "place": round(float(rng.uniform(0.2, 0.8)), 4)}


_VALUES = {
    DefectKind.GHOSTING: _draw_ghosting,
    DefectKind.DROPOUT: _draw_dropout,
    DefectKind.CLIPPED: _draw_clipped,
    DefectKind.MISSING: lambda _volume, _rng: {},
    DefectKind.DAMAGED: _draw_damaged,
}


def apply_defect(study: Study, defect: Defect) -> Study:
    """The study with the defect. A damaged file changes nothing here; see :func:`damage_bytes`.

    Raises:
        InputError: if the study has not the sequences the defect happens to.
    """
    absent = [sequence.title for sequence in defect.sequences if sequence not in study.images]
    if absent:
        raise InputError(f"{study.id} has no {' and no '.join(absent)} for {defect.kind.value}")
    images = dict(study.images)
    first = defect.sequences[0]
    if defect.kind is DefectKind.SWAPPED:
        second = defect.sequences[1]
        images[first], images[second] = images[second], images[first]
    elif defect.kind is DefectKind.MISSING:
        del images[first]
    elif defect.kind is DefectKind.GHOSTING:
        images[first] = ghosted(images[first], **defect.values)
    elif defect.kind is DefectKind.DROPOUT:
        images[first] = dropped_out(images[first], **defect.values)
    elif defect.kind is DefectKind.CLIPPED:
        images[first] = images[first].with_data(np.minimum(images[first].data, np.float32(defect.values["level"])))
    return replace(study, images=images)


def ghosted(volume: Volume, *, axis: int, copies: int, strength: float, phase: float) -> Volume:
    """Copies shifted by fractions of the field of view, as when every n-th phase-encoding line is disturbed.

    A disturbance that repeats every ``n`` lines of k-space puts ``n`` equally spaced copies into the image (Wood and
    Henkelman, Med Phys 1985;12:143, doi:10.1118/1.595782). Background that is exactly 0 stays 0, as the skull
    stripping that follows leaves it.

    Args:
        axis: phase direction.
        copies: ``n``; ``n - 1`` ghosts beside the image itself.
        strength: amplitude of each ghost, as a share of the signal.
        phase: of the first ghost against the image, radians; later ones turn on by as much.
    """
    data = volume.data.astype(np.float32)
    size = data.shape[axis]
    real, imaginary = data.copy(), np.zeros_like(data)
    for number in range(1, copies):
        ghost = np.roll(data, round(number * size / copies), axis=axis)
        real += np.float32(strength * np.cos(number * phase)) * ghost
        imaginary += np.float32(strength * np.sin(number * phase)) * ghost
    return volume.with_data(np.where(volume.data == 0, np.float32(0), np.hypot(real, imaginary)))


def dropped_out(volume: Volume, *, axis: int, slices: Sequence[int], kept: Sequence[float]) -> Volume:
    """Slices that keep only a share of their signal.

    Args:
        axis: across the slices.
        kept: share of the signal each keeps.
    """
    data = volume.data.astype(np.float32)
    view = np.moveaxis(data, axis, 0)
    for index, share in zip(slices, kept, strict=True):
        view[index] *= np.float32(share)
    return volume.with_data(data)


def damage_bytes(content: bytes, defect: Defect) -> bytes:
    """What a damaged file holds; the content itself for every other defect.

    ``truncated`` ends at ``place`` (a share of the file), ``empty`` holds nothing, ``spoilt`` has 64 bytes at
    ``place`` turned over.
    """
    if defect.kind is not DefectKind.DAMAGED:
        return content
    place = int(len(content) * defect.values["place"])
    how = defect.values["damage"]
    if how == "truncated":
        return content[:place]
    if how == "empty":
        return b""
    return content[:place] + bytes(byte ^ 0xFF for byte in content[place : place + 64]) + content[place + 64 :]
