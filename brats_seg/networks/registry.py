"""Networks by the name a model card calls them. Importing this file loads no torch; building a network does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn

ATTENTION_UNET = "attention_unet"
SEGRESNET = "segresnet"
ARCHITECTURES = (ATTENTION_UNET, SEGRESNET)


class NetworkConfig(Protocol):
    """What every network's configuration says."""

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        ...

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        ...

    @property
    def divisor(self) -> int:
        """Every side of the input must be a multiple of this."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        ...


def network_config(architecture: str, values: Mapping[str, Any]) -> NetworkConfig:
    """A network's configuration from plain values.

    Args:
        architecture: one of :data:`ARCHITECTURES`.
        values: its keys; those left out have their default.

    Raises:
        ValueError: if the architecture is unknown or the values make no network.
        TypeError: if a key is unknown or a value is of the wrong kind.
    """
    config: NetworkConfig = _classes(architecture)[0].from_dict(values)
    return config


def make_network(architecture: str, values: Mapping[str, Any]) -> nn.Module:
    """A network with fresh weights; it bears its configuration as ``config``. Errors as for :func:`network_config`."""
    config_class, network_class = _classes(architecture)
    network: nn.Module = network_class(config_class.from_dict(values))
    return network


def relative_memory(architecture: str, values: Mapping[str, Any]) -> float:
    """Memory of one pass per voxel, as a multiple of the attention U-Net's; errors as for :func:`network_config`."""
    if architecture == ATTENTION_UNET:
        return 1.0
    scale: float = _classes(architecture)[0].from_dict(values).relative_memory
    return scale


def _classes(architecture: str) -> tuple[Any, Any]:
    """Configuration and network of an architecture."""
    if architecture == ATTENTION_UNET:
        from brats_seg.networks.attention_unet import AttentionUNet, AttentionUNetConfig  # noqa: PLC0415 - imports torch

        return AttentionUNetConfig, AttentionUNet
    if architecture == SEGRESNET:
        from brats_seg.networks.segresnet import SegResNet, SegResNetConfig  # noqa: PLC0415 - imports torch

        return SegResNetConfig, SegResNet
    raise ValueError(f"there is no network {architecture!r}; known: {', '.join(ARCHITECTURES)}")
