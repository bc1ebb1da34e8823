"""SegResNet as MONAI builds it, behind the same kind of configuration as the project's own network."""

from __future__ import annotations

from monai.networks import nets

from brats_seg.networks.configs import SegResNetConfig


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
