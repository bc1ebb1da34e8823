"""How a training goes: a table in the run folder and a bar on the screen."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from brats_seg.files.output import atomic_write
from brats_seg.train.config import TrainConfig

LOG = "log.csv"
LOG_COLUMNS = ("step", "loss", "learning_rate", "seconds", "dice_wt", "dice_tc", "dice_et")


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


def is_finished(run: Path, config: TrainConfig) -> bool:
    """Whether the last row of a run's log is its last step."""
    log = run / LOG
    rows = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return len(rows) > 1 and rows[-1].partition(",")[0] == str(config.steps)


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
