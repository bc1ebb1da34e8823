"""What a step of training minimises, and by what: the loss by region; Muon for the convolutions, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from monai.losses import DiceLoss
from torch import nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer


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


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration of Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon)."""
NEWTON_SCHULZ_STEPS = 5
UPDATE_RMS = 0.2
"""Size of an update relative to the learning rate, so that AdamW's rates serve (Liu et al. 2025, arXiv:2502.16982)."""


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Bring the singular values of a matrix near 1, keeping its singular vectors.

    The iteration runs on the small Gram matrix: every step multiplies by a polynomial of it, so that
    only the first and the last product touch the long side.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if is_tall else matrix
    wide = wide / wide.norm().clamp(min=1e-12)
    gram = wide @ wide.T
    identity = torch.eye(len(gram), device=gram.device, dtype=gram.dtype)
    total = identity
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        factor = a * identity + b * gram + c * gram @ gram
        total = factor @ total
        gram = factor @ gram @ factor
    result: torch.Tensor = total @ wide
    return result.T if is_tall else result


class Muon(Optimizer):
    """Momentum whose update is orthogonalised, for weights seen as matrices ``(out, everything else)``.

    Args:
        lr: learning rate, of the size AdamW wants.
        momentum: of the gradient, with Nesterov's look ahead.
        weight_decay: decoupled, times the learning rate.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        mean = state["momentum"]
        mean.lerp_(gradient, 1 - group["momentum"])
        ahead = torch.lerp(gradient, mean, group["momentum"]).flatten(1)
        update = orthogonalise(ahead) * (UPDATE_RMS * max(ahead.shape) ** 0.5)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update.view_as(weight), alpha=-group["lr"])


def optimisers(network: nn.Module, *, lr: float, weight_decay: float) -> list[Optimizer]:
    """The optimisers of a run: Muon for inner convolutions and AdamW for the rest.

    First and last layers stay with AdamW, as Muon's authors advise.
    """
    outer = ("stem.", "head.", "deep_heads.")
    inner: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in network.named_parameters():
        is_matrix = weight.ndim == 5 and min(weight.shape[:2]) >= 8
        (inner if is_matrix and not name.startswith(outer) else rest).append(weight)
    return [Muon(inner, lr, weight_decay=weight_decay), AdamW(rest, lr=lr, weight_decay=weight_decay)]
