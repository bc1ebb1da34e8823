"""The scans of a visit: as they were read, and prepared for a network, each on a grid that is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Grid, Volume
from brats_seg.core.plain import plain
from brats_seg.core.study import REFERENCE_PREFERENCE, SEQUENCES, MRSequence


@dataclass(frozen=True, eq=False)
class Study:
    """The scans of one visit.

    Attributes:
        id: name of the study, free of personal data.
        images: volumes by sequence, at least one; float32 data.
        sha256: checksum of each input file's bytes by sequence; empty for studies made in memory.
        reference: the sequence on whose grid results are written.
        notes: what was noticed while reading, in words, for the user.

    Raises:
        InputError: if there is no image, or the reference is not among them.
    """

    id: str
    images: Mapping[MRSequence, Volume]
    sha256: Mapping[MRSequence, str] = field(default_factory=dict)
    reference: MRSequence | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.images:
            raise InputError(f"study {self.id} has no image")
        if self.reference is not None and self.reference not in self.images:
            raise InputError(
                f"study {self.id} has no {self.reference.title} to write results on; "
                f"it has {', '.join(s.title for s in self.present)}"
            )

    @property
    def reference_sequence(self) -> MRSequence:
        """The sequence results are written on: the one asked for, else the first of T1CE, FLAIR, T2, T1."""
        return self.reference or next(s for s in REFERENCE_PREFERENCE if s in self.images)

    @property
    def reference_volume(self) -> Volume:
        """The volume results are written on."""
        return self.images[self.reference_sequence]

    @property
    def present(self) -> tuple[MRSequence, ...]:
        """Sequences that are there, in the order of :data:`SEQUENCES`."""
        return tuple(s for s in SEQUENCES if s in self.images)

    @property
    def missing(self) -> tuple[MRSequence, ...]:
        """Sequences that are not there."""
        return tuple(s for s in SEQUENCES if s not in self.images)

    @property
    def is_aligned(self) -> bool:
        """Whether all sequences lie on the grid of the reference."""
        grid = self.reference_volume.grid
        return all(volume.grid.same_as(grid) for volume in self.images.values())


@dataclass(frozen=True, eq=False)
class RigidMotion:
    """Where one scan's head lies in another scan, of the same visit or of an earlier one, and how sure that is.

    Attributes:
        matrix: 4x4, RAS+ mm of the fixed scan to RAS+ mm of the moving one.
        mutual_information: Mattes mutual information after registration, nats; larger is better.
        overlap: Dice of the two heads (brains, where they are stripped) after registration.
        translation_mm: length of the shift of the head's centre.
        rotation_deg: angle of the rotation.
        uncertainty_mm: half the mean distance of the answers of two halves of the brain, or of the two directions;
            NaN where it was not measured.
        likeness: how much of the fine structure agrees, 0 to 1; NaN where it was not compared.
        likeness_needed: from which it is that of one person.
        by: what was registered: ``brain``, ``head``, or ``nothing`` where one space is taken for granted.
    """

    matrix: Affine
    mutual_information: float
    overlap: float
    translation_mm: float
    rotation_deg: float
    uncertainty_mm: float = math.nan
    likeness: float = math.nan
    likeness_needed: float = 0.0
    by: str = "head"

    @property
    def is_one_person(self) -> bool:
        """Whether the fine structure agrees as that of one brain does; so if it was not compared."""
        return not self.likeness < self.likeness_needed


@dataclass(frozen=True, eq=False)
class PreparationRecord:
    """Everything preprocessing did, enough to undo it and to repeat it.

    Attributes:
        native: grid of the reference file, on which results are written.
        network: grid the network sees: RAS, 1 mm, cropped to the brain and padded.
        registrations: by sequence, for those that were not on the reference grid.
        resampled: sequences that were on another grid and were interpolated once.
        intensity: by sequence, ``low, high`` (clipping) and ``mean, std`` (z-score) in the file's units.
        consistency: what was measured on whether the sequences belong together, plain values.
        extraction: how the brain was taken out of the head, plain values; empty where the scans were skull-stripped.
        decisions: every automatic decision, in words.
        warnings: what the user should know, in words.
    """

    native: Grid
    network: Grid
    registrations: Mapping[MRSequence, RigidMotion] = field(default_factory=dict)
    resampled: tuple[MRSequence, ...] = ()
    intensity: Mapping[MRSequence, Mapping[str, float]] = field(default_factory=dict)
    consistency: Mapping[str, Any] = field(default_factory=dict)
    extraction: Mapping[str, Any] = field(default_factory=dict)
    decisions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``run.json``."""

        def grid(value: Grid) -> dict[str, Any]:
            return {
                "shape": list(value.shape),
                "spacing_mm": [round(s, 6) for s in value.spacing_mm],
                "orientation": value.orientation,
                "affine": value.affine.tolist(),
            }

        return {**plain(self), "native": grid(self.native), "network": grid(self.network)}


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """A study as the network sees it.

    Attributes:
        array: ``(C, X, Y, Z)`` float32 z-scores, one channel a sequence; 0 outside the brain and in sequences that
            are missing.
        brain: ``(X, Y, Z)`` bool.
        present: sequences that hold an image.
        record: what was done, and the way back.
        sequences: of the channels, as the model's card lists them.

    Raises:
        ValueError: if shapes do not agree with each other or with the record.
    """

    id: str
    array: NDArray[np.float32]
    brain: NDArray[np.bool_]
    present: tuple[MRSequence, ...]
    record: PreparationRecord
    sequences: tuple[MRSequence, ...] = SEQUENCES

    def __post_init__(self) -> None:
        if self.array.shape != (len(self.sequences), *self.record.network.shape):
            raise ValueError(f"array of shape {self.array.shape} does not fit {self.record.network.describe()}")
        if self.brain.shape != self.record.network.shape:
            raise ValueError(f"brain of shape {self.brain.shape} does not fit {self.record.network.describe()}")

    @property
    def grid(self) -> Grid:
        """Grid of the arrays."""
        return self.record.network

    @property
    def missing(self) -> tuple[MRSequence, ...]:
        """Sequences that the model looks at and that hold no image."""
        return tuple(sequence for sequence in self.sequences if sequence not in self.present)

    def channel(self, sequence: MRSequence) -> NDArray[np.float32]:
        """``(X, Y, Z)`` of one sequence."""
        found: NDArray[np.float32] = self.array[self.sequences.index(sequence)]
        return found
