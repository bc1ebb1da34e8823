"""Networks by the name a model card calls them. Importing this file loads no torch; building a network does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from brats_seg.networks.configs import AttentionUNetConfig, SegResNetConfig

if TYPE_CHECKING:
    from torch import nn

ATTENTION_UNET = "attention_unet"
SEGRESNET = "segresnet"
_CONFIGS = {ATTENTION_UNET: AttentionUNetConfig, SEGRESNET: SegResNetConfig}
ARCHITECTURES = tuple(_CONFIGS)
NetworkConfig = AttentionUNetConfig | SegResNetConfig


def network_config(architecture: str, values: Mapping[str, Any]) -> NetworkConfig:
    """A network's configuration from plain values.

    Args:
        architecture: one of :data:`ARCHITECTURES`.
        values: its keys; those left out have their default.

    Raises:
        ValueError: if the architecture is unknown or the values make no network.
        TypeError: if a key is unknown or a value is of the wrong kind.
    """
    if architecture not in _CONFIGS:
        raise ValueError(f"there is no network {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    fixed: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    config: NetworkConfig = _CONFIGS[architecture](**fixed)
    return config


def make_network(architecture: str, values: Mapping[str, Any]) -> nn.Module:
    """A network with fresh weights; it bears its configuration as ``config``. Errors as for :func:`network_config`."""
    config: Any = network_config(architecture, values)
    if architecture == SEGRESNET:
        from brats_seg.networks.segresnet import SegResNet  # noqa: PLC0415 - imports torch

        return SegResNet(config)
    from brats_seg.networks.attention_unet import AttentionUNet  # noqa: PLC0415 - imports torch

    return AttentionUNet(config)
