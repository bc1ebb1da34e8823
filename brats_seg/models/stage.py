"""One network of a model as its card describes it, and the stages of one member of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from brats_seg.core.errors import ModelError
from brats_seg.models.checks import check_files, check_mapping, check_name, check_number
from brats_seg.models.layout import Layout
from brats_seg.networks.registry import ARCHITECTURES, ATTENTION_UNET, NetworkConfig, network_config

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
