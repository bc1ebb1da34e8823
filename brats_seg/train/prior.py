"""What the coarse stage says about each training study, as the fine stage takes it.

A fine stage whose network has three more inputs than there are sequences sees the coarse probabilities
beside the scans. On studies it was trained on, a coarse network is surer than on new ones; so the fine
stage learns from what it says about altered, mirrored and incomplete copies, never about the clean
study alone, and sampling shifts its log-odds besides. Both stages are validated here too, on whole volumes at the
patient's 1 mm and not at the network's spacing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from brats_seg.core.errors import ModelError
from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.evaluate.overlap import count_voxels, dice
from brats_seg.models.card import regions_of
from brats_seg.networks.attention_unet import AttentionUNet
from brats_seg.train.augment import Chance, alter, drop_sequences
from brats_seg.train.config import TrainConfig
from brats_seg.train.data import (
    LEVELS_PER_LOGIT,
    LEVELS_PER_STD,
    MADE_AGAIN,
    PackedStudy,
    Prior,
    TrainingCase,
    coarser,
    open_arrays,
    padded,
    training_case,
    write_arrays,
)
from brats_seg.train.runs import WEIGHTS, load_weights, read_run_config

PRIORS = "priors.npz"
"""Where a run folder keeps them."""
AUXILIARY_PRIORS = "priors_auxiliary.npz"
"""And those of auxiliary studies."""


@dataclass(frozen=True, eq=False)
class CoarseStage:
    """A trained coarse stage, ready to predict.

    Attributes:
        network: with its weights, on the training device.
        sha256: of its weights file.
    """

    network: nn.Module
    config: TrainConfig
    sha256: str


def open_coarse(run: Path, config: TrainConfig, device: torch.device) -> CoarseStage:
    """The coarse stage of a run folder, for a fine stage with ``config``.

    Raises:
        ModelError: if the run is of another stage, prepares studies differently, or has no weights.
    """
    held = read_run_config(run)
    if held.stage != "coarse":
        raise ModelError(f"{run} was trained as stage {held.stage}; a fine stage builds on a coarse one")
    if held.prepare != config.prepare:
        raise ModelError(f"{run} prepares studies differently; the stages cannot work together")
    network = AttentionUNet(held.network)
    path = run / WEIGHTS
    load_weights(network, path)
    return CoarseStage(network.to(device).eval(), held, hashlib.sha256(path.read_bytes()).hexdigest())


def with_priors(
    cases: Sequence[TrainingCase],
    packs: Sequence[PackedStudy],
    coarse: CoarseStage,
    config: TrainConfig,
    cache: Path,
    *,
    progress: bool = True,
) -> list[TrainingCase]:
    """The cases with what the coarse stage says about copies of them.

    Args:
        cases: at the spacing of the fine stage.
        packs: the same studies, in the same order.
        config: of the fine stage; its ``coarse_views`` copies are altered by its ``augment``.
        cache: file to keep the answers in, so that a resumed run takes the same and does not compute them again.

    Raises:
        ModelError: if the cache is damaged or from another coarse stage.
    """
    device = cases[0].image.device
    key = f"{coarse.sha256} {config.coarse_views} {config.seed} {config.augment}"
    if cache.exists():
        held = _read(cache, key)
    else:
        held = {}
        for number, pack in enumerate(tqdm(packs, desc="ask the coarse stage", disable=not progress)):
            held[pack.id] = _ask(pack, coarse, config, seed=config.seed * 7919 + number, device=device)
        _write(cache, key, held)
    try:
        return [replace(case, prior=held[case.id].to(device)) for case in cases]
    except KeyError as error:
        raise ModelError(f"{cache.name} knows no study {error}; {MADE_AGAIN}") from error


@torch.inference_mode()
def _ask(pack: PackedStudy, coarse: CoarseStage, config: TrainConfig, *, seed: int, device: torch.device) -> Prior:
    case = training_case(pack, factor=coarse.config.factor, device=device)
    clean = case.image.float() / LEVELS_PER_STD
    head = (clean != 0).any(dim=0)
    logits, blanks = [], []
    for view in range(config.coarse_views):
        chance = Chance(seed * 101 + view, device)
        image = alter(clean, head, config.augment, chance)
        image = drop_sequences(image, config.augment, chance)
        blanks.append(tuple(int(n) for n in torch.nonzero(image.flatten(1).abs().amax(dim=1) == 0).flatten()))
        is_mirrored = chance.happens(config.augment.flip)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.uses_bf16(device.type)):
            said = _logits(coarse, image.flip(1) if is_mirrored else image).float()
        said = said.flip(1) if is_mirrored else said
        logits.append((said * LEVELS_PER_LOGIT).round().clamp(-127, 127).to(torch.int8))
    return Prior(torch.stack(logits), tuple(blanks), coarse.config.factor / config.factor)


def _logits(coarse: CoarseStage, image: torch.Tensor) -> torch.Tensor:
    x, y, z = image.shape[1:]
    said: torch.Tensor = coarse.network(padded(image, coarse.config.network.divisor)[None])[0, :, :x, :y, :z]
    return said


def cascaded_on(path: Path) -> str:
    """SHA-256 of the weights of the coarse stage whose answers a file holds.

    Raises:
        ModelError: if the file cannot be read.
    """
    with open_arrays(path, remedy="resume the run to make it again", error=ModelError) as held:
        return str(held["key"]).split()[0]


def _write(path: Path, key: str, held: dict[str, Prior]) -> None:
    arrays: dict[str, NDArray[np.generic]] = {"key": np.array(key)}
    for study, prior in held.items():
        blank = np.zeros((len(prior.blanks), 8), np.bool_)
        for view, channels in enumerate(prior.blanks):
            blank[view, list(channels)] = True
        arrays[f"{study}/logits"] = prior.logits.cpu().numpy()
        arrays[f"{study}/blanks"] = blank
        arrays[f"{study}/factor"] = np.array(prior.factor)
    write_arrays(path, arrays)


def _read(path: Path, key: str) -> dict[str, Prior]:
    with open_arrays(path, error=ModelError) as held:
        if str(held["key"]) != key:
            raise ModelError(
                f"{path.name} is of another coarse stage or other settings; a resumed run must keep them. "
                f"Start again in another folder, or remove it."
            )
        studies = sorted(name.removesuffix("/logits") for name in held if name.endswith("/logits"))
        return {
            study: Prior(
                torch.from_numpy(held[f"{study}/logits"]),
                tuple(tuple(int(c) for c in np.flatnonzero(row)) for row in held[f"{study}/blanks"]),
                float(held[f"{study}/factor"]),
            )
            for study in studies
        }


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
