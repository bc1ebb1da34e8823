"""What changes while a network is trained, the checkpoint that holds exactly this, and the log of how it went."""

from __future__ import annotations

import copy
import csv
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from brats_seg.core.errors import ModelError
from brats_seg.files.output import atomic_write
from brats_seg.networks.attention_unet import AttentionUNet
from brats_seg.train.config import TrainConfig
from brats_seg.train.optimiser import optimisers
from brats_seg.train.runs import WEIGHTS, load_weights, with_known_steps

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"
LOG_COLUMNS = ("step", "loss", "learning_rate", "seconds", "dice_wt", "dice_tc", "dice_et")


@dataclass
class TrainState:
    """Everything that a checkpoint holds.

    Attributes:
        network: what the optimisers change.
        averaged: its moving average.
        optimisers: with their momenta.
        start: weights it started from, where a share of them is kept; none otherwise.
        step: how many are done.
        seconds: spent so far.
        losses: of the steps since the last row of the log, of which the next row gives the mean.
    """

    network: nn.Module
    averaged: nn.Module
    optimisers: list[torch.optim.Optimizer]
    start: dict[str, torch.Tensor] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0
    losses: list[torch.Tensor] = field(default_factory=list)

    def kept(self, config: TrainConfig) -> nn.Module:
        """The network a run gives: the moving average, with its share of what it started from."""
        if config.keep == 0:
            return self.averaged
        mean = copy.deepcopy(self.averaged)
        for name, value in mean.state_dict().items():
            value.lerp_(self.start[name], config.keep)
        return mean


def open_state(config: TrainConfig, device: torch.device, run: Path, init: Path | None) -> TrainState:
    """The state of a run's checkpoint; where there is none, that of weights to start from, or of chance.

    Raises:
        ModelError: if the checkpoint is damaged, or it or ``init`` does not fit.
    """
    torch.manual_seed(config.seed)
    network = AttentionUNet(config.network).to(device)
    averaged = AttentionUNet(config.network).to(device)
    steppers = optimisers(network, lr=config.learning_rate, weight_decay=config.weight_decay)
    state = TrainState(network, averaged, steppers)
    checkpoint = run / CHECKPOINT
    if checkpoint.exists():
        _restore(state, checkpoint, device)
        return state
    if init is not None:
        load_weights(network, init)
    if config.keep > 0:
        state.start = {name: value.clone() for name, value in network.state_dict().items()}
    averaged.load_state_dict(network.state_dict())
    return state


@torch.no_grad()
def update_average(state: TrainState, config: TrainConfig) -> None:
    """Exponential moving average of the weights; short at first, so that the start is forgotten."""
    decay = min(config.ema, (1 + state.step) / (10 + state.step))
    for kept, new in zip(state.averaged.parameters(), state.network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


def save_state(state: TrainState, config: TrainConfig, run: Path) -> None:
    """Write checkpoint and kept weights (half precision) beside their names and rename them when whole."""
    partial = run / ".checkpoint.partial"
    torch.save(
        {
            "network": state.network.state_dict(),
            "averaged": state.averaged.state_dict(),
            "start": state.start,
            "optimisers": [optimiser.state_dict() for optimiser in state.optimisers],
            "step": state.step,
            "seconds": state.seconds,
            "losses": [float(loss) for loss in state.losses],
        },
        partial,
    )
    partial.replace(run / CHECKPOINT)
    weights = {
        name: value.detach().half().cpu().contiguous() for name, value in state.kept(config).state_dict().items()
    }
    partial = run / ".weights.partial"
    # one entry, because safetensors writes several in any order, and equal runs should give equal files
    save_file(weights, partial, metadata={"made_by": f"brats-seg, stage {config.stage}, step {state.step}"})
    partial.replace(run / WEIGHTS)


def saved_step(run: Path) -> int:
    """After how many steps the weights of a run folder were written; 0 where there are none that say."""
    try:
        with safe_open(run / WEIGHTS, framework="pt") as held:
            words = (held.metadata() or {}).get("made_by", "")
    except (OSError, SafetensorError):
        return 0
    _, found, step = words.rpartition(" step ")
    return int(step) if found and step.isdigit() else 0


def is_complete(run: Path, config: TrainConfig) -> bool:
    """Whether a run is done: its weights, which are written last, are those of its last step."""
    config = with_known_steps(config, run)
    return config.steps > 0 and saved_step(run) == config.steps


def _restore(state: TrainState, checkpoint: Path, device: torch.device) -> None:
    try:
        held = torch.load(checkpoint, map_location=device, weights_only=True)
        state.network.load_state_dict(held["network"])
        state.averaged.load_state_dict(held["averaged"])
        state.start = dict(held["start"])
        for optimiser, values in zip(state.optimisers, held["optimisers"], strict=True):
            optimiser.load_state_dict(values)
        state.step, state.seconds = int(held["step"]), float(held["seconds"])
        state.losses = [torch.tensor(loss, device=device) for loss in held.get("losses", ())]
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{checkpoint.name} is damaged ({reason}); remove it to start again") from error


class TrainLog:
    """The log of one run, to be used as a context manager.

    Args:
        step: where the run goes on; rows of later steps, which a killed run wrote after its last checkpoint, are
            dropped, because they will be made again.
        writes: whether this process writes; of several the first does.
    """

    def __init__(self, run: Path, config: TrainConfig, *, step: int, writes: bool, progress: bool) -> None:
        self._path = run / LOG
        self._writes = writes
        if writes:
            _drop_after(self._path, step)
        self._bar = tqdm(total=config.steps, initial=step, desc=f"train {config.stage}", disable=not progress)

    def __enter__(self) -> TrainLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self) -> None:
        """One step is done."""
        self._bar.update()

    def add(self, step: int, loss: float, *, rate: float, seconds: float, scores: Sequence[float]) -> None:
        """A row.

        Args:
            step: how many are done.
            loss: mean since the last row.
            rate: learning rate of this step.
            seconds: spent training so far.
            scores: Dice of WT, TC and ET; empty where nothing was validated.
        """
        self._bar.set_postfix({"loss": f"{loss:.3f}", **{n: f"{s:.3f}" for n, s in zip("WTE", scores, strict=False)}})
        if not self._writes:
            return
        is_new = not self._path.exists()
        row = [step, f"{loss:.5f}", f"{rate:.3e}", f"{seconds:.1f}", *(f"{s:.4f}" for s in scores)]
        with self._path.open("a", newline="") as handle:
            writer = csv.writer(handle)
            if is_new:
                writer.writerow(LOG_COLUMNS)
            writer.writerow(row + [""] * (len(LOG_COLUMNS) - len(row)))
            handle.flush()
            os.fsync(handle.fileno())


def _drop_after(path: Path, step: int) -> None:
    """Keep the whole rows up to a step; a table without a whole header is removed."""
    if not path.exists():
        return
    whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    if not whole:
        path.unlink()
        return
    header, *rows = whole
    with atomic_write(path) as stream:
        stream.write(header + b"".join(row for row in rows if int(row.partition(b",")[0]) <= step))
