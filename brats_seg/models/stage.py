"""One network of a model as its card describes it: its shape, and what its channels mean.

Five public sets of weights for the same four files use five orders of channels, so each stage of a model card says
its own, and :class:`Layout` translates: arrays are arranged for the network and its answer is put back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import ModelError
from brats_seg.models.checks import check_files, check_mapping, check_name, check_number
from brats_seg.networks.registry import ARCHITECTURES, ATTENTION_UNET, NetworkConfig, network_config

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


MIN_SPACING_MM, MAX_SPACING_MM = 0.1, 32.0
MAX_MEMBERS = 100


@dataclass(frozen=True)
class Stage:
    """One network of a model.

    Attributes:
        name: ``coarse`` (whole brain) or ``fine`` (around the tumour).
        spacing_mm: voxel size it works at.
        network: keys of its network configuration.
        files: file name to SHA-256: the network (``.onnx``), or its weights alone as training writes them
            (``.safetensors``).
        layout: order of its channels and direction of its axes.
        member: of an ensemble, from 1; a fine stage takes the probabilities of the coarse stage of its own member.

    Raises:
        ModelError: if a value is of the wrong kind, a file could lie outside the model's folder, or the keys make no
            network.
    """

    name: str
    spacing_mm: float
    network: Mapping[str, Any]
    files: Mapping[str, str]
    architecture: str = ATTENTION_UNET
    layout: Layout = field(default_factory=Layout)
    member: int = 1

    def __post_init__(self) -> None:
        check_name(self.name, "name of a stage")
        check_number(self.member, f"member of stage {self.name}", low=1, high=MAX_MEMBERS, whole=True)
        check_number(self.spacing_mm, f"spacing_mm of stage {self.name}", low=MIN_SPACING_MM, high=MAX_SPACING_MM)
        check_files(self.files, f"stage {self.name}")
        if self.architecture not in ARCHITECTURES:
            raise ModelError(f"architecture {self.architecture!r} is unknown; known: {', '.join(ARCHITECTURES)}")
        try:
            self.shape  # noqa: B018 - raises where the keys make no network
        except (TypeError, ValueError, AttributeError) as error:  # from a file a value can be of any type
            raise ModelError(f"stage {self.name} describes no network: {error}") from error

    @property
    def shape(self) -> NetworkConfig:
        """The network's configuration, with what its keys leave to the defaults."""
        return network_config(self.architecture, self.network)

    def decides(self) -> dict[str, Any]:
        """Everything of the stage that decides what its network gives, as plain values."""
        return {
            "name": self.name,
            "member": self.member,
            "spacing_mm": float(self.spacing_mm),
            "architecture": self.architecture,
            "network": asdict(self.shape),
            "layout": asdict(self.layout),
            "files": dict(sorted(self.files.items())),
        }

    @property
    def key(self) -> str:
        """What tells it from a model's other stages, and its files are called: ``coarse``, ``fine``, ``coarse2`` …"""
        return self.name if self.member == 1 else f"{self.name}{self.member}"

    @property
    def weights(self) -> str:
        """Name of the file that holds the network's weights.

        Raises:
            ModelError: if the card names none.
        """
        for name in self.files:
            if name.endswith((".onnx", ".safetensors")):
                return name
        raise ModelError(f"stage {self.key} of the model card names no weights (*.onnx); copy the model again")

    @property
    def is_cascaded(self) -> bool:
        """Whether the coarse stage's probabilities are inputs behind the sequences."""
        return self.shape.in_channels > len(self.layout.sequences)


class Member(NamedTuple):
    """Stages that work together; all members of an ensemble have the same ones."""

    coarse: Stage | None
    fine: Stage | None


def stage_from_dict(values: Mapping[str, Any]) -> Stage:
    """A stage from plain values; a layout is that of the card where the stage has none of its own."""
    return Stage(**{**values, "layout": Layout(**check_mapping(values.get("layout", {}), "layout"))})
