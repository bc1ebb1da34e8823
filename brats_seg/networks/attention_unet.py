"""The segmentation network: a space-to-depth attention U-Net of fused inverted bottlenecks."""

from __future__ import annotations

import torch
from monai.networks.blocks import SubpixelUpsample
from monai.networks.utils import pixelunshuffle
from torch import nn

from brats_seg.networks.blocks import AttentionGate, ConvBlock, FusedMBConv
from brats_seg.networks.configs import AttentionUNetConfig


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
