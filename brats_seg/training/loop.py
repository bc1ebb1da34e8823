"""The training loop: plain, seeded by step, resumable at any moment."""

from __future__ import annotations

import csv
import math
import os
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from brats_seg.core.errors import InputError, ModelError, OutputError, UsageError
from brats_seg.networks.attention_unet import AttentionUNet
from brats_seg.training.augment import Chance, draw_sample
from brats_seg.training.config import TrainConfig, train_config
from brats_seg.training.data import PackedStudy, TrainingCase, only, training_case
from brats_seg.training.distributed import ALONE, World
from brats_seg.training.losses import RegionLoss
from brats_seg.training.mixed import PhantomCase, draw_phantom_sample, open_phantoms
from brats_seg.training.optimiser import optimisers
from brats_seg.training.prior import PRIORS, CoarseStage, open_coarse, with_priors
from brats_seg.training.runs import load_weights
from brats_seg.training.validate import validate

LOG_COLUMNS = ("step", "loss", "learning_rate", "seconds", "dice_wt", "dice_tc", "dice_et")
LOG_EVERY = 20


@dataclass
class TrainState:
    """Everything that changes while training; exactly this is in a checkpoint."""

    network: nn.Module
    averaged: nn.Module
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    seconds: float = 0.0


class DeepSupervision(nn.Module):
    """A network whose call gives all outputs of the decoder, which is what is trained."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Logits at several depths; see :meth:`AttentionUNet.forward_deep`."""
        outputs: list[torch.Tensor] = self.network.forward_deep(image)  # type: ignore[operator]
        return outputs


def train(
    packs: Sequence[PackedStudy],
    config: TrainConfig,
    run: Path,
    *,
    world: World = ALONE,
    resume: bool = False,
    init: Path | None = None,
    coarse: Path | None = None,
    phantoms: Path | None = None,
    stop_after_s: float | None = None,
    progress: bool = True,
) -> Path:
    """Train one network and write its averaged weights.

    Args:
        packs: every study, those of ``config.validation`` included.
        config: settings; a resumed run must have the same.
        run: folder for ``config.yaml``, ``log.csv``, ``checkpoint.pt`` and ``weights.safetensors``.
        world: where to train, and with which other processes.
        resume: go on from ``checkpoint.pt`` where there is one.
        init: ``weights.safetensors`` to start from, instead of chance.
        coarse: run folder of the coarse stage, for a fine stage that hears it.
        phantoms: where the bodies of phantoms are kept; in the run folder unless named.
        stop_after_s: leave with a checkpoint after this many seconds, for machines lent by the minute.
        progress: show a progress bar.

    Returns:
        The weights file, half precision; written at every checkpoint, whole or not at all.

    Raises:
        OutputError: if the folder holds another run and ``resume`` is not given.
        ModelError: if ``init`` or the checkpoint does not fit.
        InputError: if a validation id is unknown or nothing is left to train on.
        UsageError: if the batch cannot be dealt out to the processes.
    """
    world.share(config.batch)
    stage = _coarse_stage(config, coarse, world.device)
    if world.is_first:
        _open_run(run, config, resume=resume)
    world.wait()
    shown = progress and world.is_first
    cases, held = _cases(packs, config, world, stage, cache=run / PRIORS, progress=shown)
    state = _start(config, world.device, run, init)
    if world.is_first:
        _trim_log(run, state.step)
    network = world.wrap(DeepSupervision(state.network))
    bodies = _phantoms(config, world, phantoms or run / "phantoms", progress=shown)
    parts = _Parts(network, _loss(config).to(world.device), cases, world, bodies)
    bar = tqdm(total=config.steps, initial=state.step, desc=f"train {config.stage}", disable=not shown)
    events = _events(run, state.step) if config.tensorboard and world.is_first else None
    began = saved = time.monotonic()
    losses: list[torch.Tensor] = []
    with bar:
        while state.step < config.steps:
            tick = time.monotonic()
            losses.append(_step(state, parts, config))
            state.step += 1
            bar.update()
            last = state.step == config.steps
            checked = last or (config.validate_every > 0 and state.step % config.validate_every == 0)
            scores: Sequence[float] = ()
            if held and checked and world.is_first:
                scores = validate(state.averaged, held, config, world.device, coarse=stage)
            if state.step % LOG_EVERY == 0 or checked:
                mean = float(world.mean(torch.stack(losses).mean()))  # the only place that waits for a GPU
                bar.set_postfix({"loss": f"{mean:.3f}", **{n: f"{s:.3f}" for n, s in zip("WTE", scores, strict=False)}})
                if world.is_first and (state.step % LOG_EVERY == 0 or scores or last):
                    _log(run, state, mean, config, scores=scores, events=events)
                losses.clear()
            state.seconds += time.monotonic() - tick
            now = time.monotonic()
            stopping = world.decide(stop_after_s is not None and now - began > stop_after_s)
            if (last or stopping or now - saved > config.checkpoint_s) and world.is_first:
                _save(state, config, run)
                saved = now
            if stopping:
                break
    if events is not None:
        events.close()
    world.wait()
    return run / "weights.safetensors"


@dataclass(frozen=True)
class _Parts:
    """What stays the same while training."""

    network: nn.Module
    loss: RegionLoss
    cases: Sequence[TrainingCase]
    world: World
    phantoms: Sequence[PhantomCase] = ()


def _cases(
    packs: Sequence[PackedStudy],
    config: TrainConfig,
    world: World,
    stage: CoarseStage | None,
    *,
    cache: Path,
    progress: bool,
) -> tuple[list[TrainingCase], list[PackedStudy]]:
    """Studies to train on, on the device, and those kept out."""
    kept_out = set(config.validation)
    unknown = sorted(kept_out - {pack.id for pack in packs})
    if unknown:
        raise InputError(f"the configuration validates on {unknown}, which the data set does not hold")
    packs = [only(pack, config.sequences) for pack in packs]
    chosen = [pack for pack in packs if pack.id not in kept_out]
    if not chosen:
        raise InputError("no study is left to train on: the configuration validates on all of them")
    cases = [training_case(pack, factor=config.factor, device=world.device) for pack in chosen]
    if stage is not None:
        if not world.is_first:
            world.wait()  # until the first has asked the coarse stage; the others read what it was told
        cases = with_priors(cases, chosen, stage, config, cache, progress=progress)
        if world.is_first:
            world.wait()
    return cases, [pack for pack in packs if pack.id in kept_out]


def _phantoms(config: TrainConfig, world: World, cache: Path, *, progress: bool) -> list[PhantomCase]:
    """Bodies to scan where the configuration wants any; the first process makes them, the others read them."""
    if config.phantoms.share == 0:
        return []
    if not world.is_first:
        world.wait()
    cases = open_phantoms(config.phantoms, cache, factor=config.factor, device=world.device, progress=progress)
    if world.is_first:
        world.wait()
    return cases


def _loss(config: TrainConfig) -> RegionLoss:
    return RegionLoss(config.region_weights, cross_entropy=config.cross_entropy)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak (Loshchilov & Hutter 2017, arXiv:1608.03983)."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def _coarse_stage(config: TrainConfig, run: Path | None, device: torch.device) -> CoarseStage | None:
    if config.hears_coarse != (run is not None):
        raise UsageError(
            "this fine stage hears the coarse one: pass --coarse RUN, the folder of its run"
            if config.hears_coarse
            else f"--coarse was passed, but a network with {config.network.in_channels} inputs does not hear it"
        )
    return None if run is None else open_coarse(run, config, device)


def step_seed(config: TrainConfig, step: int) -> int:
    """Seed of what all samples of a step share; it depends on seed and step alone, so a resumed run repeats nothing."""
    return (config.seed * 1_000_003 + step) * 1_009


def _step(state: TrainState, parts: _Parts, config: TrainConfig) -> torch.Tensor:
    """One step of the optimisers; the loss, still on the device."""
    device = parts.world.device
    seed = step_seed(config, state.step)
    shared = Chance(seed)
    patch = config.patches[shared.below(len(config.patches))]
    chosen = [shared.below(len(parts.cases)) for _ in range(config.batch)]
    # each sample has its own seed, so that it is the same whichever process draws it
    drawn = [
        _draw(parts, chosen[k], patch, config, Chance(seed + 1 + k, device)) for k in parts.world.share(config.batch)
    ]
    images = torch.stack([image for image, _ in drawn])
    targets = torch.stack([target for _, target in drawn])
    rate = learning_rate(config, state.step)
    state.network.train()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        outputs = parts.network(images)
    loss = parts.loss(outputs, targets)
    for optimiser in state.optimisers:
        optimiser.zero_grad(set_to_none=True)
        for group in optimiser.param_groups:
            group["lr"] = rate
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.gradient_clip)
    for optimiser in state.optimisers:
        optimiser.step()
    _average(state, config)
    detached: torch.Tensor = loss.detach()
    return detached


def _draw(
    parts: _Parts, index: int, patch: tuple[int, int, int], config: TrainConfig, rng: Chance
) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample of one study, or of a phantom in its place."""
    if parts.phantoms and rng.happens(config.phantoms.share):
        return draw_phantom_sample(parts.phantoms, patch, config, rng)
    return draw_sample(parts.cases, index, patch, config, rng)


@torch.no_grad()
def _average(state: TrainState, config: TrainConfig) -> None:
    """Exponential moving average of the weights; short at first, so that the start is forgotten."""
    decay = min(config.ema, (1 + state.step) / (10 + state.step))
    for kept, new in zip(state.averaged.parameters(), state.network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


def _start(config: TrainConfig, device: torch.device, run: Path, init: Path | None) -> TrainState:
    torch.manual_seed(config.seed)
    network = AttentionUNet(config.network).to(device)
    averaged = AttentionUNet(config.network).to(device)
    steppers = optimisers(network, kind=config.optimiser, lr=config.learning_rate, weight_decay=config.weight_decay)
    state = TrainState(network, averaged, steppers)
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        _restore(state, checkpoint, device)
    elif init is not None:
        load_weights(network, init)
        averaged.load_state_dict(network.state_dict())
    else:
        averaged.load_state_dict(network.state_dict())
    return state


def _restore(state: TrainState, checkpoint: Path, device: torch.device) -> None:
    try:
        held = torch.load(checkpoint, map_location=device, weights_only=True)
        state.network.load_state_dict(held["network"])
        state.averaged.load_state_dict(held["averaged"])
        for optimiser, values in zip(state.optimisers, held["optimisers"], strict=True):
            optimiser.load_state_dict(values)
        state.step, state.seconds = int(held["step"]), float(held["seconds"])
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{checkpoint.name} is damaged ({reason}); remove it to start again") from error


def _save(state: TrainState, config: TrainConfig, run: Path) -> None:
    """Write checkpoint and averaged weights beside their names and rename them when whole."""
    partial = run / ".checkpoint.partial"
    torch.save(
        {
            "network": state.network.state_dict(),
            "averaged": state.averaged.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in state.optimisers],
            "step": state.step,
            "seconds": state.seconds,
        },
        partial,
    )
    partial.replace(run / "checkpoint.pt")
    weights = {name: value.detach().half().cpu().contiguous() for name, value in state.averaged.state_dict().items()}
    partial = run / ".weights.partial"
    # one entry, because safetensors writes several in any order, and equal runs should give equal files
    save_file(weights, partial, metadata={"made_by": f"brats-seg, stage {config.stage}, step {state.step}"})
    partial.replace(run / "weights.safetensors")


def _open_run(run: Path, config: TrainConfig, *, resume: bool) -> None:
    """Create the run folder, or make sure it holds the same run."""
    held = run / "config.yaml"
    if held.exists():
        if not resume:
            raise OutputError(f"{run} holds a run already; pass --resume to go on with it, or choose another folder")
        before = train_config(yaml.safe_load(held.read_text()))
        if before != config:
            changed = sorted(k for k, v in before.to_dict().items() if config.to_dict()[k] != v)
            raise OutputError(f"{run} was started with other settings for {changed}; a resumed run must keep them")
        return
    run.mkdir(parents=True, exist_ok=True)
    plain = yaml.safe_dump(_plain(config.to_dict()), sort_keys=False)
    partial = run / ".config.partial"
    partial.write_text(plain)
    partial.replace(held)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def _trim_log(run: Path, step: int) -> None:
    """Drop the rows a killed run wrote after its last checkpoint; they will be made again."""
    path = run / "log.csv"
    if not path.exists():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if row.endswith("\n") and int(row.partition(",")[0]) <= step]
    partial = run / ".log.partial"
    partial.write_text("".join([header, *kept]), encoding="utf-8", newline="\r\n")  # as the csv module writes
    partial.replace(path)


def _log(
    run: Path, state: TrainState, loss: float, config: TrainConfig, *, scores: Sequence[float], events: Any | None
) -> None:
    path = run / "log.csv"
    is_new = not path.exists()
    rate = learning_rate(config, state.step - 1)
    row = [state.step, f"{loss:.5f}", f"{rate:.3e}", f"{state.seconds:.1f}", *(f"{s:.4f}" for s in scores)]
    with path.open("a", newline="") as handle:
        writer = csv.writer(handle)
        if is_new:
            writer.writerow(LOG_COLUMNS)
        writer.writerow(row + [""] * (len(LOG_COLUMNS) - len(row)))
        handle.flush()
        os.fsync(handle.fileno())
    if events is not None:
        events.add_scalar("loss", loss, state.step)
        events.add_scalar("learning_rate", rate, state.step)
        for name, score in zip(("wt", "tc", "et"), scores, strict=False):
            events.add_scalar(f"dice/{name}", score, state.step)


def _events(run: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ModelError(
            "TensorBoard is not installed: pip install 'brats-seg[train]', or set tensorboard: false"
        ) from error
    return SummaryWriter(str(run / "tensorboard"), purge_step=step)
