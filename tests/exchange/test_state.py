"""State dicts of unknown origin: tensors are read, everything else is refused in one line."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import TINY, monai_network
from safetensors.torch import save_file

from brats_seg.core.errors import ModelError
from brats_seg.exchange.state import check_fits, read_state_dict

NETWORK = {key: value for key, value in TINY.items() if key not in ("in_channels", "out_channels")}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return dict(monai_network(TINY).state_dict())


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


WRAPPED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "plain": lambda s: s,
    "MONAI checkpoint": lambda s: {"model": s, "epoch": 3},
    "Lightning": lambda s: {"state_dict": s, "epoch": 3},
    "several GPUs": lambda s: {f"module.{name}": value for name, value in s.items()},
    "compiled": lambda s: {"net": {f"_orig_mod.{name}": value for name, value in s.items()}},
}


@pytest.mark.parametrize("how", WRAPPED)
def test_state_dicts_are_found_in_what_training_programs_save(
    state: dict[str, torch.Tensor], tmp_path: Path, how: str
) -> None:
    torch.save(WRAPPED[how](state), tmp_path / "model.pt")
    assert same(read_state_dict(tmp_path / "model.pt"), state)


def test_other_containers_hold_the_same_tensors(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "model.safetensors")
    save_file(state, tmp_path / "renamed.bin")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("model.safetensors", "renamed.bin", "old.pth"):
        assert same(read_state_dict(tmp_path / name), state)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")


def write_script(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)  # type: ignore[no-untyped-call]


def cut(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:1500])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "not there": (lambda p: None, "cannot be read: No such file"),
    "folder": (lambda p: p.mkdir(), "cannot be read: Is a directory"),
    "empty": (lambda p: p.write_bytes(b""), "is empty; copy it again"),
    "text": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1"), "is no weights file"),
    "noise": (lambda p: p.write_bytes(bytes(range(256)) * 9), "no weights file|damaged"),
    "cut short": (cut, "damaged or cut short"),
    "zip": (write_zip, "zip archive without weights"),
    "TorchScript": (write_script, "is a TorchScript program"),
    "code": (lambda p: torch.save({"a": torch.zeros(1), "b": Evil()}, p), r"more than tensors \((posix|nt|os)\.system"),
    "old pickle with code": (lambda p: p.write_bytes(pickle.dumps(Evil(), protocol=2)), "more than tensors|no weights"),
    "whole network": (lambda p: torch.save(torch.nn.Linear(2, 2), p), r"more than tensors \(torch.nn"),
    "one tensor": (lambda p: torch.save(torch.zeros(3), p), "holds one Tensor, no state dict"),
    "numbers": (lambda p: torch.save({"epoch": 3, "loss": 0.1}, p), "holds epoch, loss, no state dict"),
    "nothing": (lambda p: torch.save({}, p), "is empty, no state dict"),
    "NaN": (lambda p: torch.save({"a": torch.tensor([float("nan")])}, p), r"no numbers \(in a\)"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_state_dict_is_refused_in_one_line(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, words = BAD[what]
    make(tmp_path / "model.pt")
    with pytest.raises(ModelError, match=words) as caught:
        read_state_dict(tmp_path / "model.pt")
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"{}", b"\x10\0\0\0\0\0\0\0{broken}        ", b"\xff" * 40])
def test_damaged_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="no whole safetensors file"):
        read_state_dict(tmp_path / "w.safetensors")


def test_weights_of_another_network_are_refused_by_name(state: dict[str, torch.Tensor]) -> None:
    check_fits(state, "segresnet", NETWORK, where="w")
    less = {name: value for name, value in state.items() if name != "convInit.conv.weight"}
    with pytest.raises(ModelError, match=r"w does not fit segresnet: it lacks 1 of \d+ tensors \(convInit"):
        check_fits(less, "segresnet", NETWORK, where="w")
    more = {**state, "vae.fc1.weight": torch.zeros(1)}
    with pytest.raises(ModelError, match=r"holds 1 that the network does not know \(vae"):
        check_fits(more, "segresnet", NETWORK, where="w")
    other = {**state, "convInit.conv.weight": torch.zeros(8, 1, 3, 3, 3)}
    with pytest.raises(ModelError, match=r"is \[8, 1, 3, 3, 3\], the network's is \[8, 4, 3, 3, 3\]"):
        check_fits(other, "segresnet", NETWORK, where="w")
    with pytest.raises(ModelError, match="makes no network"):
        check_fits(state, "segresnet", {"colour": 1}, where="w")
