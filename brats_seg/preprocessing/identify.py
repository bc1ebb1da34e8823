"""Whether the images show what their names say: T1, T1CE, T2 and FLAIR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.study import MRSequence
from brats_seg.core.volume import Volume


@dataclass(frozen=True)
class IdentityWarning:
    """Two sequences that look exchanged.

    Attributes:
        sequences: the two.
        evidence: what the images show, in words with numbers.
    """

    sequences: tuple[MRSequence, MRSequence]
    evidence: str

    def __str__(self) -> str:
        first, second = (sequence.title for sequence in self.sequences)
        return f"{first} and {second} may be swapped: {self.evidence}"


def check_identity(images: Mapping[MRSequence, Volume], brain: NDArray[np.bool_]) -> tuple[IdentityWarning, ...]:
    """Warnings where images contradict their names; empty where they do not, or do not say."""
    return ()
