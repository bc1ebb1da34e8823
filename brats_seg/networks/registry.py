"""Networks by the name a model card calls them. Importing this file loads no torch; building a network does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from brats_seg.networks.configs import AttentionUNetConfig, SegResNetConfig

if TYPE_CHECKING:
    from torch import nn

ATTENTION_UNET = "attention_unet"
SEGRESNET = "segresnet"
_CONFIGS = {ATTENTION_UNET: AttentionUNetConfig, SEGRESNET: SegResNetConfig}
ARCHITECTURES = tuple(_CONFIGS)


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

    @property
    def relative_memory(self) -> float:
        """Memory of one pass per voxel of the input, as a multiple of the shipped network's."""
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
    config: NetworkConfig = _config_class(architecture).from_dict(values)
    return config


def make_network(architecture: str, values: Mapping[str, Any]) -> nn.Module:
    """A network with fresh weights; it bears its configuration as ``config``. Errors as for :func:`network_config`."""
    config: Any = network_config(architecture, values)
    if architecture == SEGRESNET:
        from brats_seg.networks.segresnet import SegResNet  # noqa: PLC0415 - imports torch

        return SegResNet(config)
    from brats_seg.networks.attention_unet import AttentionUNet  # noqa: PLC0415 - imports torch

    return AttentionUNet(config)


def _config_class(architecture: str) -> Any:
    if architecture not in _CONFIGS:
        raise ValueError(f"there is no network {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    return _CONFIGS[architecture]
