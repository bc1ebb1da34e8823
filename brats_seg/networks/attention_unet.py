"""The segmentation network: a space-to-depth attention U-Net of fused inverted bottlenecks.

All tensors are ``(batch, channels, x, y, z)``.
"""

from __future__ import annotations

import torch
from monai.networks.blocks import SubpixelUpsample
from monai.networks.blocks.squeeze_and_excitation import ChannelSELayer
from monai.networks.utils import pixelunshuffle
from torch import nn

from brats_seg.networks.configs import AttentionUNetConfig


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


class AttentionUNet(nn.Module):
    """Encoder-decoder on space-to-depth input.

    The 2x2x2 neighbourhood of every second voxel becomes channels, so that the widest and most
    costly level already works on an eighth of the voxels, and the head brings the result back to
    full resolution by sub-pixel convolution (Shi et al. 2016, arXiv:1609.05158). Nothing is lost at
    the stem: it is a permutation of the input.
    """

    def __init__(self, config: AttentionUNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AttentionUNetConfig()
        widths, expansion = config.widths, config.expansion
        self.stem = ConvBlock(config.in_channels * 8, widths[0])
        self.encoder = nn.ModuleList()
        previous = widths[0]
        for level, (width, depth) in enumerate(zip(widths, config.depths, strict=True)):
            blocks = []
            for block in range(depth):
                stride = 2 if level > 0 and block == 0 else 1
                blocks.append(FusedMBConv(previous, width, stride=stride, expansion=expansion))
                previous = width
            self.encoder.append(nn.Sequential(*blocks))
        self.gates = nn.ModuleList(
            AttentionGate(skip, gate) for skip, gate in zip(widths[:-1], widths[1:], strict=True)
        )
        self.reduce = nn.ModuleList(
            nn.Conv3d(deep, shallow, 1) for shallow, deep in zip(widths[:-1], widths[1:], strict=True)
        )
        self.upsample = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)
        self.decoder = nn.ModuleList(ConvBlock(2 * width, width) for width in widths[:-1])
        self.deep_heads = nn.ModuleList(nn.Conv3d(width, config.out_channels, 1) for width in widths[1:-1])
        self.head = SubpixelUpsample(3, widths[0], config.out_channels, scale_factor=2, apply_pad_pool=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, sequences, X, Y, Z)`` z-scores to ``(B, regions, X, Y, Z)`` logits."""
        logits: torch.Tensor = self.head(self._decode(x)[0])
        return logits

    def forward_deep(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits at full resolution first, then at 1/4, 1/8, ... of it, for deep supervision."""
        features = self._decode(x)
        deep = [head(feature) for head, feature in zip(self.deep_heads, features[1:], strict=True)]
        return [self.head(features[0]), *deep]

    def _decode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Decoder features from fine (1/2 resolution) to coarse, without the bottom."""
        x = self.stem(pixelunshuffle(x, 3, 2))  # (B, widths[0], X/2, Y/2, Z/2)
        skips = []
        for stage in self.encoder:
            x = stage(x)  # level i: (B, widths[i], X/2^(i+1), ...)
            skips.append(x)
        features: list[torch.Tensor] = []
        for level in reversed(range(len(skips) - 1)):
            skip = self.gates[level](skips[level], x)
            x = self.decoder[level](torch.cat([skip, self.upsample(self.reduce[level](x))], dim=1))
            features.insert(0, x)
        return features
