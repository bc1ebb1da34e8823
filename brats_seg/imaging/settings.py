"""How scans are prepared for a network: apart from preparing them, which training on packs does not need."""

from __future__ import annotations

import math
from dataclasses import dataclass

from brats_seg.core.study import SEQUENCES


@dataclass(frozen=True)
class PrepareConfig:
    """Settings of :func:`~brats_seg.segment.prepare.prepare`; part of a model, for its weights only fit these.

    Attributes:
        spacing_mm: voxel size the network sees.
        percentiles: intensities outside these, within the brain, are clipped before the z-score.
        divisor: sides are padded to a multiple of this.
        margin: voxels kept around the brain when cropping.
        bias_corrected: sequences whose bias field is corrected, by their names in ``MRSequence``.
    """

    spacing_mm: float = 1.0
    percentiles: tuple[float, float] = (0.1, 99.9)
    divisor: int = 32
    margin: int = 2
    bias_corrected: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.percentiles
        numbers = {int: (self.divisor, self.margin), float: (self.spacing_mm, low, high)}
        if not all(type(n) in (int, kind) for kind, group in numbers.items() for n in group):
            raise ValueError("spacing_mm and percentiles must be numbers, divisor and margin whole numbers")
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles {self.percentiles} must rise within 0..100")
        if not 0 < self.spacing_mm < math.inf or self.divisor < 1 or self.margin < 0:
            raise ValueError("spacing_mm and divisor must be positive, margin not negative")
        if isinstance(self.bias_corrected, str):
            raise ValueError(f"bias_corrected is {self.bias_corrected!r}; write a list, such as [flair]")
        unknown = sorted(set(self.bias_corrected) - {sequence.value for sequence in SEQUENCES})
        if unknown:
            raise ValueError(f"bias_corrected has {unknown}; choose from {', '.join(s.value for s in SEQUENCES)}")
