"""What the channels of a network mean, for networks that were trained with another order than the project's.

Five public sets of weights for the same four files use five orders of channels, so a model card says its own, and
:class:`Layout` translates: arrays are arranged for the network and its answer is put back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.regions import REGIONS
from brats_seg.core.study import SEQUENCES

SEQUENCE_NAMES = tuple(sequence.value for sequence in SEQUENCES)
REGION_NAMES = tuple(region.name for region in REGIONS)
_ENDS = ("RL", "AP", "SI")
"""Both ends of each array axis; the project stores along the first of each pair."""


@dataclass(frozen=True)
class Layout:
    """Order of channels and direction of axes a network was trained with.

    Attributes:
        sequences: names of the first input channels, ``t1``, ``t1ce``, ``t2`` and ``flair`` in some order; channels
            after these are passed on as they are.
        regions: names of the output channels, ``WT``, ``TC`` and ``ET`` in some order.
        axes: to where the three axes run, for example ``RAS``, or ``LPS`` as BraTS stores its files.

    Raises:
        ValueError: if a name is missing, unknown or given twice.
    """

    sequences: tuple[str, ...] = SEQUENCE_NAMES
    regions: tuple[str, ...] = REGION_NAMES
    axes: str = "RAS"

    def __post_init__(self) -> None:
        for what, names, known in (
            ("sequences", self.sequences, SEQUENCE_NAMES),
            ("regions", self.regions, REGION_NAMES),
        ):
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise ValueError(f"{what} {names!r} must be a list of names")
            if sorted(names) != sorted(known):
                raise ValueError(f"{what} {list(names)} must be {', '.join(known)} in the order of the network")
            object.__setattr__(self, what, tuple(names))
        axes = self.axes
        if not isinstance(axes, str) or len(axes) != 3 or any(a not in b for a, b in zip(axes, _ENDS, strict=True)):
            raise ValueError(f"axes {axes!r} must be three letters: R or L, then A or P, then S or I")

    def arrange(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(C, X, Y, Z)`` in the project's order, RAS, to the network's; contiguous."""
        order = [SEQUENCE_NAMES.index(name) for name in self.sequences]
        order += range(len(order), len(array))
        return np.ascontiguousarray(array[order][(slice(None), *self._steps())])

    def restore(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(3, X, Y, Z)`` as the network answers, to the project's order along RAS; contiguous."""
        order = [self.regions.index(name) for name in REGION_NAMES]
        return np.ascontiguousarray(array[order][(slice(None), *self._steps())])

    def _steps(self) -> tuple[slice, ...]:
        """Slices that turn each axis, or leave it; their own inverse."""
        return tuple(
            slice(None, None, 1 if axis == ends[0] else -1) for axis, ends in zip(self.axes, _ENDS, strict=True)
        )
