"""Dice on whole volumes while training, at the patient's 1 mm and not at the network's spacing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.evaluate.overlap import count_voxels, dice
from brats_seg.models.card import regions_of
from brats_seg.train.config import TrainConfig
from brats_seg.train.data import LEVELS_PER_STD, PackedStudy, coarser, padded
from brats_seg.train.prior import CoarseStage


def predict_pack(
    network: nn.Module,
    pack: PackedStudy,
    config: TrainConfig,
    device: torch.device,
    *,
    coarse: CoarseStage | None = None,
) -> torch.Tensor:
    """Probabilities ``(3, X, Y, Z)`` of a packed study, whole brain in one pass, at the pack's spacing.

    Args:
        network: in evaluation mode.
        coarse: for a cascaded fine stage.
    """
    image = torch.from_numpy(pack.image.astype(np.float32)).to(device) / LEVELS_PER_STD
    if coarse is not None:
        image = torch.cat([image, predict_pack(coarse.network, pack, coarse.config, device)])
    seen = coarser(padded(image, config.network.divisor * config.factor), config.factor)
    with torch.inference_mode():
        logits = network(seen[None])
    if config.factor > 1:
        logits = functional.interpolate(logits, scale_factor=config.factor, mode="trilinear", align_corners=False)
    x, y, z = pack.labels.shape
    return torch.sigmoid(logits[0, :, :x, :y, :z])


def validate(
    network: nn.Module,
    packs: Sequence[PackedStudy],
    config: TrainConfig,
    device: torch.device,
    *,
    coarse: CoarseStage | None = None,
) -> tuple[float, ...]:
    """Mean Dice of WT, TC and ET over studies; both masks empty count 1, one empty 0."""
    was_training = network.training
    network.eval()
    rows = []
    for pack in packs:
        found = predict_pack(network, pack, config, device, coarse=coarse).cpu().numpy() >= 0.5
        row = []
        for channel, region in enumerate(regions_of()):
            truth = DEFAULT_SCHEMA.region_mask(pack.labels, region)
            row.append(dice(count_voxels(found[channel], truth)))
        rows.append(row)
    network.train(was_training)
    return tuple(float(v) for v in np.mean(rows, axis=0))
