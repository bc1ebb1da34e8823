"""The log of a run: rows that last, and none of a step that will be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats_seg.train.config import TrainConfig
from brats_seg.train.state import LOG, LOG_COLUMNS, TrainLog

CONFIG = TrainConfig(steps=40, warmup=1)
HEADER = ",".join(LOG_COLUMNS) + "\r\n"


def write_rows(run: Path, steps: tuple[int, ...], *, start: int = 0, writes: bool = True) -> bytes:
    with TrainLog(run, CONFIG, step=start, writes=writes, progress=False) as log:
        for step in steps:
            log.advance()
            log.add(step, 0.5, rate=1e-3, seconds=2.0, scores=(0.75, 0.5, 0.25) if step == CONFIG.steps else ())
    return (run / LOG).read_bytes() if (run / LOG).exists() else b""


def test_rows_are_added(tmp_path: Path) -> None:
    first = "20,0.50000,1.000e-03,2.0,,,\r\n"
    assert write_rows(tmp_path, (20,)).decode() == HEADER + first
    last = "40,0.50000,1.000e-03,2.0,0.7500,0.5000,0.2500\r\n"
    assert write_rows(tmp_path, (40,), start=20).decode() == HEADER + first + last


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    write_rows(tmp_path, (10, 20, 30))
    kept = write_rows(tmp_path, (), start=20).decode().splitlines()
    assert [line.partition(",")[0] for line in kept] == ["step", "10", "20"]


@pytest.mark.parametrize("torn", [b"", b"step,lo"])
def test_a_log_without_a_whole_header_is_begun_anew(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / LOG).write_bytes(torn)
    assert write_rows(tmp_path, (20,)).decode().startswith(HEADER + "20,")


def test_only_the_process_that_writes_touches_the_log(tmp_path: Path) -> None:
    held = write_rows(tmp_path, (10, 20))
    assert write_rows(tmp_path, (5,), writes=False) == held
