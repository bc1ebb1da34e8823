"""Building blocks of the networks: fused inverted bottlenecks and attention gates.

All tensors are ``(batch, channels, x, y, z)``.
"""

from __future__ import annotations

import torch
from monai.networks.blocks.squeeze_and_excitation import ChannelSELayer
from torch import nn


def normalisation(channels: int) -> nn.Module:
    """Group normalisation with groups of eight channels (Wu & He 2018, arXiv:1803.08494).

    Batch statistics are useless at one or two volumes a step, and statistics of single channels
    lose the absolute brightness that tells enhancing tumour from dim tissue.
    """
    return nn.GroupNorm(max(channels // 8, 1), channels)


class Conv3d(nn.Conv3d):
    """``torch.nn.Conv3d`` that trains with oneDNN on processors whatever the size of its input.

    torch leaves a single volume in single precision with ``channels * x * y <= 20480`` to a product of unfolded
    matrices. oneDNN does a step forward through a deep level three times as fast, and one back 1.4 times.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, in, x, y, z)`` to ``(B, out, x', y', z')``."""
        is_plain = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        is_mixed = torch.is_autocast_enabled("cpu")  # which would not know this operator
        has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if self.training and is_plain and not is_mixed and has_onednn:
            assert isinstance(self.padding, tuple)
            return torch.mkldnn_convolution(
                x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
            )
        y: torch.Tensor = super().forward(x)
        return y


class FusedMBConv(nn.Module):
    """Fused inverted bottleneck with squeeze-and-excitation.

    EfficientNetV2 (Tan & Le 2021, arXiv:2104.00298) replaces the depth-wise and the expanding
    convolution by one full 3x3x3 convolution, which is faster on real hardware at low widths.
    ``(B, in, x, y, z) -> (B, out, x/stride, y/stride, z/stride)``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, expansion: float = 2.0) -> None:
        super().__init__()
        hidden = max(round(in_channels * expansion / 8), 1) * 8
        self.expand = Conv3d(in_channels, hidden, 3, stride=stride, padding=1, bias=False)
        self.norm = normalisation(hidden)
        self.act = nn.SiLU(inplace=True)
        self.squeeze = ChannelSELayer(3, hidden, r=8)
        self.project = nn.Conv3d(hidden, out_channels, 1, bias=False)
        self.norm_out = normalisation(out_channels)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        hidden = self.squeeze(self.act(self.norm(self.expand(x))))
        y: torch.Tensor = self.norm_out(self.project(hidden))
        return x + y if self.is_residual else y


class AttentionGate(nn.Module):
    """Additive attention gate on a skip connection (Oktay et al. 2018, arXiv:1804.03999).

    Unlike MONAI's ``AttentionBlock`` it holds no batch normalisation, because its inputs are
    normalised already and a step sees one or two volumes only. The gating signal comes from the
    coarser level and is brought up after its 1x1x1 convolution, where it is narrow.
    """

    def __init__(self, skip_channels: int, gate_channels: int) -> None:
        super().__init__()
        hidden = max(skip_channels // 2, 8)
        self.from_skip = nn.Conv3d(skip_channels, hidden, 1, bias=False)
        self.from_gate = nn.Conv3d(gate_channels, hidden, 1)
        self.weight = nn.Conv3d(hidden, 1, 1)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, skip: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Weigh ``skip`` (B, C, x, y, z) by ``gate`` (B, G, x/2, y/2, z/2)."""
        mixed = torch.relu(self.from_skip(skip) + self.upsample(self.from_gate(gate)))
        return skip * torch.sigmoid(self.weight(mixed))


class ConvBlock(nn.Sequential):
    """3x3x3 convolution, group normalisation, SiLU: ``(B, in, ...) -> (B, out, ...)``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            Conv3d(in_channels, out_channels, 3, padding=1, bias=False),
            normalisation(out_channels),
            nn.SiLU(inplace=True),
        )
