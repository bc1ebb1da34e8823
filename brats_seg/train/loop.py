"""The training loop: plain, seeded by step, resumable at any moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from brats_seg.core.errors import UsageError
from brats_seg.train.augment import Chance, draw_sample
from brats_seg.train.config import TrainConfig, check_given
from brats_seg.train.data import PackedStudy, TrainingCase, only, training_case
from brats_seg.train.distributed import ALONE, World
from brats_seg.train.optimiser import RegionLoss
from brats_seg.train.phantoms import draw_phantom_sample, open_phantoms
from brats_seg.train.prior import AUXILIARY_PRIORS, PRIORS, CoarseStage, open_coarse, validate, with_priors
from brats_seg.train.runs import WEIGHTS, open_run, with_known_steps, write_seen
from brats_seg.train.splits import check_leak, divide, without_made_of
from brats_seg.train.state import CHECKPOINT, TrainLog, TrainState, open_state, save_state, update_average

LOG_EVERY = 20
"""Steps from row to row of the log."""
TOLD_AFTER_S = 20.0
"""When at the latest a run says how long a step takes."""
TRIAL_STEPS, TRIAL_S = 20, 15.0
"""How long steps are tried to find how many fit into a time."""
USED_SHARE = 0.92
"""Of a time that is filled with steps: the rest is for checkpoints and validation."""


class DeepSupervision(nn.Module):
    """A network whose call gives all outputs of the decoder, which is what is trained."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Logits at several depths; see :meth:`AttentionUNet.forward_deep`."""
        outputs: list[torch.Tensor] = self.network.forward_deep(image)  # type: ignore[operator]
        return outputs


@dataclass(frozen=True)
class Sources:
    """What a run builds on, besides the studies of its data set.

    Attributes:
        init: ``weights.safetensors`` to start from, instead of chance.
        coarse: run folder of the coarse stage, for a cascaded fine stage.
        phantoms: where the bodies of phantoms are kept; in the run folder unless named.
        auxiliary: studies for ``config.auxiliary`` of the samples; of other patients than the data set's, or made of
            them, which those made of one that is kept out are left out of.
        cubes: labelled parts of patients, for ``config.cubes``; those of one who is kept out are left out.
    """

    init: Path | None = None
    coarse: Path | None = None
    phantoms: Path | None = None
    auxiliary: Sequence[PackedStudy] = ()
    cubes: Sequence[PackedStudy] = ()


NOTHING_ELSE = Sources()


def train(
    packs: Sequence[PackedStudy],
    config: TrainConfig,
    run: Path,
    *,
    sources: Sources = NOTHING_ELSE,
    world: World = ALONE,
    resume: bool = False,
    until: float | None = None,
    tell: Callable[[str], object] = lambda _: None,
    progress: bool = True,
) -> Path:
    """Train one network and write the weights it gives.

    Args:
        packs: every study, those of ``config.validation`` included.
        config: settings; a resumed run must have the same.
        run: folder for ``config.yaml``, ``log.csv``, ``checkpoint.pt`` and ``weights.safetensors``.
        sources: what the run builds on besides.
        world: where to train, and with which other processes.
        resume: go on from ``checkpoint.pt`` where there is one.
        until: leave with a checkpoint at this :func:`time.monotonic`, for machines lent by the minute.
        tell: gets a line for the user, how long a step takes.

    Returns:
        The weights file, half precision; written at every checkpoint, whole or not at all.

    Raises:
        OutputError: if the folder holds another run and ``resume`` is not given.
        ModelError: if the weights to start from or the checkpoint do not fit.
        InputError: if a validation id is unknown, nothing is left to train on, or a study is in both data sets.
        UsageError: if the batch cannot be dealt out to the processes, or what the configuration asks for besides
            studies is not given.
    """
    world.share(config.batch)  # refused, as what is not given, before anything is written
    _check_sources(packs, config, sources, run)
    config = with_known_steps(config, run)
    if config.steps == 0 and until is None:
        raise UsageError("steps is 0, as many as fit into the time; pass --stop-after-s, or set steps")
    stage = _coarse_stage(config, sources.coarse, world.device)
    if world.is_first:
        run.mkdir(parents=True, exist_ok=True)
        if config.steps > 0:
            open_run(run, config, resume=resume)
    world.wait()
    shown = progress and world.is_first
    parts = _gathered(packs, config, run, sources, stage=stage, world=world, progress=shown)
    if config.steps == 0:
        assert until is not None
        config = replace(config, steps=_steps_in(until, parts, config, run, init=sources.init, tell=tell))
        if world.is_first:
            open_run(run, config, resume=resume)
        world.wait()
    state = open_state(config, world.device, run, sources.init)
    with TrainLog(run, config, step=state.step, writes=world.is_first, progress=shown) as log:
        _steps(state, parts, config, run, log, until=until, tell=tell)
    world.wait()
    return run / WEIGHTS


def _check_sources(packs: Sequence[PackedStudy], config: TrainConfig, sources: Sources, run: Path) -> None:
    """Refuse to train without what the configuration asks for, or on what is judged by."""
    taught = any(pack.teacher is not None for pack in [*packs, *sources.auxiliary])
    given = {"auxiliary": bool(sources.auxiliary), "cubes": bool(sources.cubes), "teacher": taught}
    check_given([config], is_all=False, **given)
    check_leak(packs, sources.auxiliary)
    if config.keep > 0 and sources.init is None and not (run / CHECKPOINT).exists():
        raise UsageError(f"keep is {config.keep:g} in the configuration; pass --init, the weights to keep a share of")


@dataclass(frozen=True)
class _Parts:
    """What stays the same while training.

    Attributes:
        cases: studies to train on.
        auxiliary: studies to take in their place at times.
        cubes: parts of further patients to place into both.
        phantoms: bodies to scan in their place at times.
        kept_out: studies to validate on.
        coarse: the stage whose probabilities a fine one takes.
        world: this process among the others.
    """

    loss: RegionLoss
    cases: Sequence[TrainingCase]
    auxiliary: Sequence[TrainingCase]
    cubes: Sequence[TrainingCase]
    phantoms: Sequence[torch.Tensor]
    kept_out: Sequence[PackedStudy]
    coarse: CoarseStage | None
    world: World


def _gathered(
    packs: Sequence[PackedStudy],
    config: TrainConfig,
    run: Path,
    sources: Sources,
    *,
    stage: CoarseStage | None,
    world: World,
    progress: bool,
) -> _Parts:
    """All that is trained and validated on, on the device; what is trained on is written down."""
    parted = _parted(packs, config, sources)
    if world.is_first:
        record_seen(packs, config, sources, run)
    chosen, kept_out, others, cubes = ([only(pack, config.sequences) for pack in part] for part in parted)
    cases = _cases(chosen, config, world, stage, cache=run / PRIORS, progress=progress)
    beside = _cases(others, config, world, stage, cache=run / AUXILIARY_PRIORS, progress=progress) if others else []
    placed = [training_case(pack, factor=config.factor, device=world.device) for pack in cubes]
    bodies: Sequence[torch.Tensor] = ()
    mix, kept = config.phantoms, sources.phantoms or run / "phantoms"
    if mix.share > 0:
        bodies = world.in_turn(
            lambda: open_phantoms(mix, kept, factor=config.factor, device=world.device, progress=progress)
        )
    loss = RegionLoss(cross_entropy=config.cross_entropy)
    return _Parts(loss, cases, beside, placed, bodies, kept_out, stage, world)


def _steps_in(
    until: float,
    parts: _Parts,
    config: TrainConfig,
    run: Path,
    *,
    init: Path | None,
    tell: Callable[[str], object],
) -> int:
    """How many steps fit into the time left, by trying some; what they learn is thrown away."""
    seconds = until - time.monotonic()
    trial = replace(config, steps=1_000_000)
    state = open_state(trial, parts.world.device, run, init)
    network = parts.world.wrap(DeepSupervision(state.network))
    float(_step(state, network, parts, trial))  # the first one also prepares kernels
    began = time.monotonic()
    while state.step < TRIAL_STEPS and time.monotonic() - began < TRIAL_S:
        state.step += 1
        float(_step(state, network, parts, trial))
    # of the slowest process, so that all do the same number
    took = float(parts.world.mean(torch.tensor((time.monotonic() - began) / state.step, device=parts.world.device)))
    steps = int((until - time.monotonic()) * USED_SHARE / took)
    tell(f"{config.stage}: {took:.3f} s a step, {steps} steps in {seconds / 60:.1f} min")
    if steps <= config.warmup:
        raise UsageError(
            f"{config.stage}: {steps} steps of {took:.3g} s fit into the time, and the warm-up takes {config.warmup}; "
            "pass a longer --stop-after-s"
        )
    return steps


def _steps(
    state: TrainState,
    parts: _Parts,
    config: TrainConfig,
    run: Path,
    log: TrainLog,
    *,
    until: float | None,
    tell: Callable[[str], object],
) -> None:
    """Step after step until all are done or time is up, with a checkpoint at the end and every ``checkpoint_s``."""
    world = parts.world
    network = world.wrap(DeepSupervision(state.network))
    first = state.step
    began = saved = time.monotonic()
    losses = state.losses
    is_told = False
    while state.step < config.steps:
        tick = time.monotonic()
        losses.append(_step(state, network, parts, config))
        state.step += 1
        log.advance()
        is_last = state.step == config.steps
        is_checked = bool(parts.kept_out) and (is_last or _is_due(state.step, config.validate_every))
        scores: Sequence[float] = ()
        if is_checked and world.is_first:
            scores = validate(state.kept(config), parts.kept_out, config, world.device, coarse=parts.coarse)
        if is_checked or is_last or _is_due(state.step, LOG_EVERY):
            mean = float(world.mean(torch.stack(losses).mean()))  # the only place that waits for a GPU
            rate = learning_rate(config, state.step - 1)
            log.add(state.step, mean, rate=rate, seconds=state.seconds, scores=scores)
            losses.clear()
        now = time.monotonic()
        if not is_told and (state.step - first == LOG_EVERY or now - began > TOLD_AFTER_S):
            float(losses[-1] if losses else 0.0)  # waits for a GPU, which else has not done what it was told
            took = (time.monotonic() - began) / (state.step - first)
            left = (config.steps - state.step) * took
            tell(f"{config.stage}: {took:.3f} s a step, {config.steps - state.step} steps left: {left / 60:.1f} min")
            is_told = True
        state.seconds += now - tick
        is_stopping = world.decide(until is not None and now > until)
        if (is_last or is_stopping or now - saved > config.checkpoint_s) and world.is_first:
            save_state(state, config, run)
            saved = now
        if is_stopping:
            break


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def record_seen(packs: Sequence[PackedStudy], config: TrainConfig, sources: Sources, run: Path) -> None:
    """Write down what a run trains on.

    Raises:
        OutputError: if it was begun on other scans or labels.
    """
    chosen, _, others, cubes = _parted(packs, config, sources)
    write_seen(run, {pack.id: pack.fingerprint() for pack in [*chosen, *others, *cubes]})


def _parted(packs: Sequence[PackedStudy], config: TrainConfig, sources: Sources) -> tuple[Sequence[PackedStudy], ...]:
    """Studies to train on, those kept out, auxiliary ones and cubes."""
    chosen, kept_out = divide(packs, config.validation)
    others = without_made_of(sources.auxiliary if config.auxiliary > 0 else (), kept_out)
    return chosen, kept_out, others, without_made_of(sources.cubes if config.cubes > 0 else (), kept_out)


def _cases(
    packs: Sequence[PackedStudy],
    config: TrainConfig,
    world: World,
    stage: CoarseStage | None,
    *,
    cache: Path,
    progress: bool,
) -> list[TrainingCase]:
    """Studies to train on, on the device, with what the coarse stage says where the network takes it."""
    cases = [
        training_case(pack, factor=config.factor, device=world.device, teacher_share=config.teacher) for pack in packs
    ]
    if stage is None:
        return cases
    return world.in_turn(lambda: with_priors(cases, packs, stage, config, cache, progress=progress))


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak (Loshchilov & Hutter 2017, arXiv:1608.03983)."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def _coarse_stage(config: TrainConfig, run: Path | None, device: torch.device) -> CoarseStage | None:
    if config.is_cascaded != (run is not None):
        raise UsageError(
            "this fine stage takes the probabilities of the coarse one: pass --coarse RUN, the folder of its run"
            if config.is_cascaded
            else f"--coarse was passed, but a network of {config.network.in_channels} inputs takes no probabilities"
        )
    return None if run is None else open_coarse(run, config, device)


def step_seed(config: TrainConfig, step: int) -> int:
    """Seed of what all samples of a step share; it depends on seed and step alone, so a resumed run repeats nothing."""
    return (config.seed * 1_000_003 + step) * 1_009


def _step(state: TrainState, network: nn.Module, parts: _Parts, config: TrainConfig) -> torch.Tensor:
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
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.uses_bf16(device.type)):
        outputs = network(images)
    loss = parts.loss(outputs, targets)
    for optimiser in state.optimisers:
        optimiser.zero_grad(set_to_none=True)
        for group in optimiser.param_groups:
            group["lr"] = rate
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.gradient_clip)
    for optimiser in state.optimisers:
        optimiser.step()
    update_average(state, config)
    detached: torch.Tensor = loss.detach()
    return detached


def _draw(
    parts: _Parts, index: int, patch: tuple[int, int, int], config: TrainConfig, rng: Chance
) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample of one study, or of a phantom or an auxiliary study in its place."""
    if parts.phantoms and rng.happens(config.phantoms.share):
        return draw_phantom_sample(parts.phantoms, patch, config, rng)
    if parts.auxiliary and rng.happens(config.auxiliary):
        return draw_sample(parts.auxiliary, rng.below(len(parts.auxiliary)), patch, config, rng, cubes=parts.cubes)
    return draw_sample(parts.cases, index, patch, config, rng, cubes=parts.cubes)
