"""A patient's visits as they lie on disk: MRI sequences by name, none of them read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from brats_seg.core.tables import Calendar


class MRSequence(Enum):
    """The four MRI sequences of a brain tumour protocol."""

    T1 = "t1"
    T1CE = "t1ce"
    T2 = "t2"
    FLAIR = "flair"

    @property
    def title(self) -> str:
        """As shown to people: ``T1``, ``T1CE``, ``T2``, ``FLAIR``."""
        return self.name


SEQUENCES: tuple[MRSequence, ...] = tuple(MRSequence)
"""Order of input channels everywhere in the project: T1, T1CE, T2, FLAIR."""

REFERENCE_PREFERENCE = (MRSequence.T1CE, MRSequence.FLAIR, MRSequence.T2, MRSequence.T1)
"""Whose grid results are written on, unless the user says otherwise."""


@dataclass(frozen=True)
class Timepoint:
    """One visit as it lies on disk; nothing of it is read.

    Attributes:
        id: name in outputs, safe as a file name; ``<patient>_<label>`` for a visit of a patient.
        files: scan by sequence; none where there is a label map alone.
        labels: an expert label map lying beside them; never an input.
        ignored: names of NIfTI files that were not used; for the terminal only, they may hold a person's name.
        notes: what was noticed, in words; never a name.
        volumes: which volume of its file each sequence is, where one file holds them all; empty where each has its own.
        label: name of the visit within its patient; empty where the patient has no other.
        mask: a label map to be used instead of segmenting the scans.
        brain: a mask of the brain to be used instead of finding it in scans with skull.
        day: date, or :data:`~brats_seg.core.tables.DAY_ZERO` and the days since; None where neither is known.
    """

    id: str
    files: Mapping[MRSequence, Path]
    labels: Path | None = None
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    volumes: Mapping[MRSequence, int] = field(default_factory=dict)
    label: str = ""
    mask: Path | None = None
    brain: Path | None = None
    day: date | None = None

    @property
    def missing(self) -> tuple[MRSequence, ...]:
        """Sequences that were not found."""
        return tuple(sequence for sequence in SEQUENCES if sequence not in self.files)

    @property
    def question(self) -> str:
        """What has to be answered before the scans can be read, in words; empty where nothing is open."""
        return ""


@dataclass(frozen=True)
class Patient:
    """All visits of one patient as they lie on disk.

    Attributes:
        id: name of the patient, safe as a file name.
        visits: in order of time, or of their names where nothing says when they were.
        dating: what is known of when they were.
        notes: what was noticed, in words, those of ``warnings`` among them.
        warnings: what to know before anything about the patient is used.
    """

    id: str
    visits: tuple[Timepoint, ...]
    dating: Calendar
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
