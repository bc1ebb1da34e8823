"""SegResNet as MONAI builds it, behind the same kind of configuration as the project's own network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from monai.networks import nets

UPSAMPLE_MODES = ("nontrainable", "deconv", "pixelshuffle")


@dataclass(frozen=True)
class SegResNetConfig:
    """Shape of a :class:`SegResNet`; the defaults are those of MONAI's ``brats_mri_segmentation``.

    Attributes:
        in_channels: sequences.
        out_channels: regions.
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
        counts = (self.in_channels, self.out_channels, self.init_filters, *self.blocks_down, *self.blocks_up)
        if not all(isinstance(n, int) and n > 0 for n in counts):
            raise ValueError(f"channels, filters and blocks must be whole positive numbers, not {counts}")
        if len(self.blocks_up) != len(self.blocks_down) - 1 or not self.blocks_up:
            raise ValueError(f"blocks_up {self.blocks_up} must be one shorter than blocks_down {self.blocks_down}")
        if self.init_filters % 8:
            raise ValueError(f"init_filters {self.init_filters} must be a multiple of 8, its normalisation groups")
        if not 0 <= self.dropout_prob < 1:
            raise ValueError(f"dropout_prob {self.dropout_prob} must lie in 0..1")
        if self.upsample_mode not in UPSAMPLE_MODES:
            raise ValueError(f"upsample_mode {self.upsample_mode!r} must be one of {', '.join(UPSAMPLE_MODES)}")

    @property
    def relative_memory(self) -> float:
        """Memory of one pass per voxel, as a multiple of the attention U-Net's.

        The process grew by 383 and 369 bytes per voxel (16 filters, 96x96x96 and 128x160x128 voxels) and 279
        (8 filters) over one pass in PyTorch: about 180 + 13 for each filter, where the attention U-Net takes 150.
        """
        return (200 + 13.5 * self.init_filters) / 150

    @property
    def divisor(self) -> int:
        """Every side of the input must be a multiple of this."""
        return int(2 ** len(self.blocks_up))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a model card."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SegResNetConfig:
        """Inverse of :meth:`to_dict`; lists become tuples, unknown keys raise ``TypeError``."""
        fixed: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**fixed)


class SegResNet(nets.SegResNet):  # type: ignore[misc]  # MONAI has no types
    """Residual encoder-decoder with group normalisation (Myronenko 2018, arXiv:1810.11654).

    ``(B, sequences, X, Y, Z)`` z-scores to ``(B, regions, X, Y, Z)`` logits. The variational branch, which only
    regularises training, is left out. Parameters bear MONAI's names, so that a state dict goes either way unchanged.
    """

    def __init__(self, config: SegResNetConfig | None = None) -> None:
        config = config or SegResNetConfig()
        super().__init__(
            spatial_dims=3,
            init_filters=config.init_filters,
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            dropout_prob=config.dropout_prob or None,
            blocks_down=config.blocks_down,
            blocks_up=config.blocks_up,
            upsample_mode=config.upsample_mode,
        )
        self.config = config
