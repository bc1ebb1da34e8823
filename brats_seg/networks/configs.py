"""Shapes of the networks, which a model card holds; reading one loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UPSAMPLE_MODES = ("nontrainable", "deconv", "pixelshuffle")

MAX_CHANNELS = 4096
MAX_BLOCKS = 64
MAX_LEVELS = 8
MAX_EXPANSION = 64
"""Far beyond any network that could be trained or run; a card that asks for more is damaged."""


def _check_counts(what: str, counts: tuple[Any, ...], largest: int) -> None:
    """Refuse what are not whole numbers from 1 to ``largest``."""
    if not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= largest for n in counts):
        raise ValueError(f"{what} {counts} must be whole numbers from 1 to {largest}")


def _check_levels(what: str, levels: Any) -> None:
    """Refuse what does not list one number for each level."""
    if not isinstance(levels, tuple) or not 1 <= len(levels) <= MAX_LEVELS:
        raise ValueError(f"{what} {levels!r} must be a list of 1 to {MAX_LEVELS} numbers")


@dataclass(frozen=True)
class AttentionUNetConfig:
    """Shape of an :class:`AttentionUNet`.

    Attributes:
        in_channels: sequences, in the order T1, T1CE, T2, FLAIR.
        out_channels: regions, in the order WT, TC, ET.
        widths: channels at each level; level 0 works at half the input resolution.
        depths: blocks of each encoder level.
        expansion: width of the hidden layer of each encoder block.
    """

    in_channels: int = 4
    out_channels: int = 3
    widths: tuple[int, ...] = (32, 48, 96, 160)
    depths: tuple[int, ...] = (1, 2, 2, 2)
    expansion: float = 2.0

    def __post_init__(self) -> None:
        _check_levels("widths", self.widths)
        _check_levels("depths", self.depths)
        _check_counts(
            "in_channels, out_channels and widths", (self.in_channels, self.out_channels, *self.widths), MAX_CHANNELS
        )
        _check_counts("depths", self.depths, MAX_BLOCKS)
        if isinstance(self.expansion, bool) or not isinstance(self.expansion, int | float):
            raise ValueError(f"expansion {self.expansion!r} must be a number")
        if not 0 < self.expansion <= MAX_EXPANSION:
            raise ValueError(f"expansion {self.expansion} must be above 0 and at most {MAX_EXPANSION}")
        if len(self.widths) != len(self.depths) or len(self.widths) < 2:
            raise ValueError(f"widths {self.widths} and depths {self.depths} need the same length, at least 2")
        if any(width % 8 for width in self.widths):
            raise ValueError(f"widths {self.widths} must be multiples of 8, the size of a normalisation group")

    @property
    def relative_memory(self) -> float:
        """Memory of one pass per voxel of the input, as a multiple of the shipped coarse network's.

        One pass is largest either where the input is rearranged for the stem, or within a level. Over one pass in
        PyTorch the process grew by 151 bytes per voxel for the shipped coarse network (96x96x96 voxels), 197 with 7
        channels, 104 and 297 with half and twice the widths, 184 with an expansion of 4, 544 with 128 channels at the
        first level; the numbers here are fitted to these, up to 20 % above. Small networks on small inputs need more,
        for torch unfolds what it convolves there; that is less than what is left in reserve.
        """
        stem = 15.5 * self.in_channels + 2.75 * self.widths[0]
        kept, levels = 0.0, []
        for level, width in enumerate(self.widths):
            levels.append(kept + (3.34 + 0.67 * self.expansion) * width / 8**level)
            kept += 0.5 * width / 8**level
        return float(max(stem, *levels) / 150)

    @property
    def divisor(self) -> int:
        """Every side of the input must be a multiple of this."""
        return int(2 ** len(self.widths))


@dataclass(frozen=True)
class SegResNetConfig:
    """Shape of a :class:`SegResNet`; the defaults are those of MONAI's ``brats_mri_segmentation``.

    Attributes:
        init_filters: channels at full resolution, doubled at each level.
        blocks_down: residual blocks of each encoder level.
        blocks_up: residual blocks of each decoder level, one level fewer.
        dropout_prob: of the first convolution's output, in training only.
        upsample_mode: one of :data:`UPSAMPLE_MODES`.
    """

    in_channels: int = 4
    out_channels: int = 3
    init_filters: int = 16
    blocks_down: tuple[int, ...] = (1, 2, 2, 4)
    blocks_up: tuple[int, ...] = (1, 1, 1)
    dropout_prob: float = 0.2
    upsample_mode: str = "nontrainable"

    def __post_init__(self) -> None:
        _check_levels("blocks_down", self.blocks_down)
        _check_levels("blocks_up", self.blocks_up)
        counts = (self.in_channels, self.out_channels, self.init_filters)
        _check_counts("in_channels, out_channels and init_filters", counts, MAX_CHANNELS)
        _check_counts("blocks_down and blocks_up", (*self.blocks_down, *self.blocks_up), MAX_BLOCKS)
        if len(self.blocks_up) != len(self.blocks_down) - 1 or not self.blocks_up:
            raise ValueError(f"blocks_up {self.blocks_up} must be one shorter than blocks_down {self.blocks_down}")
        if self.init_filters % 8:
            raise ValueError(f"init_filters {self.init_filters} must be a multiple of 8, its normalisation groups")
        if isinstance(self.dropout_prob, bool) or not isinstance(self.dropout_prob, int | float):
            raise ValueError(f"dropout_prob {self.dropout_prob!r} must be a number")
        if not 0 <= self.dropout_prob < 1:
            raise ValueError(f"dropout_prob {self.dropout_prob} must lie in 0..1")
        if self.upsample_mode not in UPSAMPLE_MODES:
            raise ValueError(f"upsample_mode {self.upsample_mode!r} must be one of {', '.join(UPSAMPLE_MODES)}")

    @property
    def relative_memory(self) -> float:
        """Memory of one pass per voxel, as a multiple of the shipped coarse network's.

        The process grew by 218 bytes per voxel (8 filters, 128x128x128 voxels), 356 and 826 (16 and 32 filters,
        96x96x96) and 1408 (64 filters, 64x64x64) over one pass in PyTorch, where the attention U-Net takes 150.
        """
        return (20 + 26.0 * self.init_filters) / 150

    @property
    def divisor(self) -> int:
        """Every side of the input must be a multiple of this."""
        return int(2 ** len(self.blocks_up))
