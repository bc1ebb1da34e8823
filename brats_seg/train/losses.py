"""Loss by region: soft Dice and cross-entropy, at several depths of the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from torch import nn
from torch.nn import functional


class RegionLoss(nn.Module):
    """Dice plus binary cross-entropy for each region, summed over deep supervision outputs.

    Regions are sigmoid channels, because they are nested and not exclusive. Targets may be shares of a
    voxel, so that the network learns partial volume and not a staircase.

    Args:
        cross_entropy: weight of the cross-entropy beside Dice.
    """

    def __init__(self, *, cross_entropy: float = 1.0) -> None:
        super().__init__()
        self.dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, reduction="none")
        self.cross_entropy = cross_entropy

    def forward(self, outputs: Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """Loss of logits ``(B, 3, x, y, z)`` at full and lower resolutions against ``(B, 3, x, y, z)``."""
        total = target.new_zeros(())
        norm = 0.0
        for depth, logits in enumerate(outputs):
            weight = 0.5**depth
            x, y, z = logits.shape[2:]
            scaled = target if depth == 0 else functional.adaptive_avg_pool3d(target, (x, y, z))
            total = total + weight * self._single(logits.float(), scaled)
            norm += weight
        return total / norm

    def _single(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # of each sample on its own, so that the mean over several processes is that of one
        dice = self.dice(logits, target).mean(dim=0).reshape(-1)
        entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        per_region: torch.Tensor = dice + self.cross_entropy * entropy.mean(dim=(0, 2, 3, 4))
        return per_region.mean()
