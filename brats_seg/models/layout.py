"""What the channels of a network mean, for networks that were trained with another order than their card's.

Five public sets of weights for the same four files use five orders of channels, so each stage of a model card says
its own, and :class:`Layout` translates: arrays are arranged for the network and its answer is put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_ENDS = ("RL", "AP", "SI")
"""Both ends of each array axis; the project stores along the first of each pair."""


@dataclass(frozen=True)
class Layout:
    """Order of channels and direction of axes a network was trained with.

    Attributes:
        sequences: names of the first input channels; channels after these are passed on as they are. Empty for the
            card's order.
        regions: names of the output channels; empty for the card's order.
        axes: to where the three axes run, for example ``RAS``, or ``LPS`` as BraTS stores its files.

    Raises:
        ValueError: if a value makes no sense.
    """

    sequences: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    axes: str = "RAS"

    def __post_init__(self) -> None:
        for what in ("sequences", "regions"):
            names = getattr(self, what)
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise ValueError(f"{what} {names!r} must be a list of names")
            object.__setattr__(self, what, tuple(names))
        axes = self.axes
        if not isinstance(axes, str) or len(axes) != 3 or any(a not in b for a, b in zip(axes, _ENDS, strict=True)):
            raise ValueError(f"axes {axes!r} must be three letters: R or L, then A or P, then S or I")

    def of(self, sequences: Sequence[str], regions: Sequence[str]) -> Layout:
        """The layout of a network of a card with these sequences and regions.

        Raises:
            ValueError: if it names others.
        """
        filled = replace(self, sequences=self.sequences or tuple(sequences), regions=self.regions or tuple(regions))
        for what, names, known in (
            ("sequences", filled.sequences, sequences),
            ("regions", filled.regions, regions),
        ):
            if sorted(names) != sorted(known):
                raise ValueError(f"{what} {list(names)} must be {', '.join(known)} in the order of the network")
        return filled


@dataclass(frozen=True)
class Arrangement:
    """The way from a card's order of channels to that of a network, and back.

    Attributes:
        layout: the network's.
        sequences: the card's.
        regions: the card's.
    """

    layout: Layout
    sequences: tuple[str, ...]
    regions: tuple[str, ...]

    @property
    def changes_nothing(self) -> bool:
        """Whether the network has the card's own order, along RAS."""
        return self.layout == Layout(self.sequences, self.regions)

    def arrange(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(C, X, Y, Z)`` in the card's order, RAS, to the network's; contiguous."""
        order = [self.sequences.index(name) for name in self.layout.sequences]
        order += range(len(order), len(array))
        return np.ascontiguousarray(array[order][(slice(None), *self._steps())])

    def restore(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(R, X, Y, Z)`` as the network answers, to the card's order along RAS; contiguous."""
        order = [self.layout.regions.index(name) for name in self.regions]
        return np.ascontiguousarray(array[order][(slice(None), *self._steps())])

    def _steps(self) -> tuple[slice, ...]:
        """Slices that turn each axis, or leave it; their own inverse."""
        return tuple(
            slice(None, None, 1 if axis == ends[0] else -1) for axis, ends in zip(self.layout.axes, _ENDS, strict=True)
        )
