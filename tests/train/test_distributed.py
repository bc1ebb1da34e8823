"""Several processes train as one does with the same samples per step."""

from __future__ import annotations

import socket
import subprocess
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import distributed
from toy_packs import toy_packs

from brats_seg.cli import main
from brats_seg.core.errors import DeviceError, UsageError
from brats_seg.train.data import write_pack
from brats_seg.train.distributed import World, join

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml"

WITHOUT_IMAGING = """
import sys
from importlib.machinery import PathFinder

ABSENT = {"SimpleITK", "nibabel", "pandas", "cc3d", "openvino", "matplotlib", "jinja2", "nilearn", "sklearn", "PIL"}
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in ABSENT else find(name, *more)
from brats_seg.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_two_processes_lose_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun starts them, each with its place in the environment.

    The other one has what a machine with a GPU has that is lent for minutes: PyTorch, NumPy, SciPy and MONAI, and no
    library that reads or shows images, which training on packs does not need.
    """
    for pack in toy_packs():
        write_pack(pack, tmp_path / "packs")
    settings = [f"--set={setting}" for setting in ("steps=4", "warmup=1", "batch=2", "patches=[[16, 16, 16]]")]
    given = ["train", str(RECIPE), *settings, "--data", str(tmp_path / "packs"), "-q", "-o"]
    assert main([*given, str(tmp_path / "one")]) == 0
    for name, value in {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("RANK", "1")
    second = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_IMAGING, *given, str(tmp_path / "two")], stderr=subprocess.PIPE, text=True
    )
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which torch replaces by one that names the rank
    soon = partial(distributed.init_process_group, timeout=timedelta(seconds=120))  # where the other one dies
    monkeypatch.setattr(distributed, "init_process_group", soon)
    try:
        assert main([*given, str(tmp_path / "two")]) == 0
        _, error = second.communicate(timeout=240)
        assert second.returncode == 0, error
    finally:
        second.kill()
    losses, weights = [], []
    for run in (tmp_path / "one", tmp_path / "two"):
        rows = (run / "coarse" / "log.csv").read_text().splitlines()
        assert len(rows) == 2, "the second process wrote to the log too"
        losses.append(float(rows[1].split(",")[1]))
        held = torch.load(run / "coarse" / "checkpoint.pt", weights_only=True)
        assert held["step"] == 4
        weights.append(held["network"])
        assert (run / "fine" / "weights.safetensors").is_file()
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)
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
