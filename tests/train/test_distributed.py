"""Several processes train as one does with the same samples per step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_packs import toy_packs

from brats_seg.cli import main
from brats_seg.core.errors import DeviceError, UsageError
from brats_seg.train.data import write_pack
from brats_seg.train.distributed import World, join

CONFIG = """
stages:
  coarse:
    spacing_mm: 2.0
    patches: [[16, 16, 16]]
    tumour_centred: 0.7
    steps: 4
    batch: 2
    warmup: 1
    learning_rate: 0.01
    ema: 0.9
    seed: 3
    prepare: {divisor: 8}
    network: {widths: [8, 16], depths: [1, 1]}
"""


def in_two_processes(*arguments: object) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "brats_seg"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*start, *map(str, arguments)], capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr


def test_two_processes_lose_what_one_does(tmp_path: Path) -> None:
    for pack in toy_packs():
        write_pack(pack, tmp_path / "packs")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    logs, weights = [], []
    for run in (tmp_path / "one", tmp_path / "two"):
        arguments = ("train", config, "--data", tmp_path / "packs", "-o", run, "-q")
        if run.name == "one":
            assert main([str(argument) for argument in arguments]) == 0
        else:
            in_two_processes(*arguments)
        rows = (run / "coarse" / "log.csv").read_text().splitlines()
        assert len(rows) == 2, "the second process wrote to the log too"
        logs.append(float(rows[1].split(",")[1]))
        held = torch.load(run / "coarse" / "checkpoint.pt", weights_only=True)
        assert held["step"] == 4
        weights.append(held["network"])
    assert logs[0] == pytest.approx(logs[1], abs=2e-5)
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-4)


def test_samples_that_cannot_be_dealt_out_are_refused() -> None:
    cpu = torch.device("cpu")
    shares = [list(World(rank, 3, cpu).share(6)) for rank in range(3)]
    assert sorted(n for share in shares for n in share) == list(range(6))
    with pytest.raises(UsageError, match="batch 5 cannot be dealt out evenly to 2 processes"):
        World(0, 2, cpu).share(5)


def test_a_process_alone_is_the_first_of_one() -> None:
    with join("cpu") as world:
        assert (world.rank, world.size, world.is_first) == (0, 1, True)
        assert world.decide(True)
        assert not world.decide(False)
        assert float(world.mean(torch.tensor(3.0))) == 3.0


def test_the_first_makes_what_the_others_read(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr("brats_seg.train.distributed.distributed.barrier", lambda: order.append("wait"))

    def make() -> int:
        order.append("make")
        return 5

    for rank, size, expected in ((0, 2, ["make", "wait"]), (1, 2, ["wait", "make"]), (0, 1, ["make"])):
        order.clear()
        assert World(rank, size, torch.device("cpu")).in_turn(make) == 5
        assert order == expected


def test_cuda_is_not_replaced_in_silence() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="--device cpu"), join("cuda"):
        pass
