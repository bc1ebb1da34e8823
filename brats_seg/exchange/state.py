"""Reading a state dict of unknown origin: tensors only, never code, and every way it can be wrong said in one line."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from brats_seg.core.errors import ModelError
from brats_seg.networks.registry import make_network

StateDict = dict[str, torch.Tensor]

WRAPPERS = ("model", "state_dict", "model_state_dict", "network", "net")
"""Keys under which training programs keep the state dict of a checkpoint."""

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and ``torch.compile`` put before every name."""

_SHOWN = 3


def read_state_dict(path: Path) -> StateDict:
    """Tensors by name from a safetensors file or a PyTorch file.

    A PyTorch file is a pickle, which can hold code. It is read with ``weights_only``, which runs none.

    Raises:
        ModelError: if the file cannot be read, holds anything but tensors, or is another kind of file.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise ModelError(f"the weights {path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise ModelError(f"{path.name} is empty; copy it again")
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _strip(_read_safetensors(path), path)
    if head.startswith(b"PK"):
        _refuse_torchscript(path)
    return _strip(_unwrap(_read_pickle(path), path), path)


def _read_safetensors(path: Path) -> StateDict:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, struct.error) as error:
        raise ModelError(f"{path.name} is no whole safetensors file ({error}); copy it again") from error


def _refuse_torchscript(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"{path.name} is damaged or cut short ({error}); copy it again") from error
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise ModelError(
            f"{path.name} is a TorchScript program, which brings its own code. Pass the state dict it was made from "
            "(in a MONAI bundle: models/model.pt, not model.ts)."
        )
    if "data.pkl" not in names:
        raise ModelError(f"{path.name} is a zip archive without weights. Pass a state dict (.safetensors or .pt).")


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|function|class) ([\w.]+)", str(error))
        if found is None:
            raise ModelError(
                f"{path.name} is no weights file. Pass a state dict (.safetensors, or .pt made with torch.save)."
            ) from error
        raise ModelError(
            f"{path.name} holds more than tensors ({found.group(1)}), and loading that could run foreign code, so it "
            "was not loaded. Where you trust it, save its state dict alone as safetensors and pass that."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path.name} is damaged or no PyTorch file ({reason}); copy it again") from error


def _unwrap(held: Any, path: Path) -> StateDict:
    """The state dict itself, out of a checkpoint that keeps it under a known key."""
    if isinstance(held, Mapping):
        if held and all(isinstance(value, torch.Tensor) for value in held.values()):
            return {str(name): value for name, value in held.items()}
        inside = [key for key in WRAPPERS if isinstance(held.get(key), Mapping)]
        if len(inside) == 1:
            return _unwrap(held[inside[0]], path)
        found = f"holds {_listed([str(key) for key in held])}" if held else "is empty"
    else:
        found = f"holds one {type(held).__name__}"
    raise ModelError(f"{path.name} {found}, no state dict. Pass tensors by name, as network.state_dict() gives them.")


def _strip(state: StateDict, path: Path) -> StateDict:
    """The state dict without the prefix that every name bears, as float32 or half precision, finite."""
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    broken = [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise ModelError(f"{path.name} holds values that are no numbers (in {_listed(broken)}); its training failed")
    return {name: value.detach().contiguous().clone() for name, value in state.items()}


def check_fits(state: StateDict, architecture: str, network: Mapping[str, Any], *, where: str) -> None:
    """Refuse a state dict that is not that of a network.

    Args:
        architecture: one of :data:`~brats_seg.networks.registry.ARCHITECTURES`.
        where: name of the file, for the message.

    Raises:
        ModelError: naming what is missing, unknown or of another shape; or if the configuration makes no network.
    """
    try:
        expected = make_network(architecture, network).state_dict()
    except (TypeError, ValueError) as error:
        raise ModelError(f"the description of {where} makes no network: {error}") from error
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    other = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    wrong = []
    if missing:
        wrong.append(f"lacks {len(missing)} of {len(expected)} tensors ({_listed(missing)})")
    if unknown:
        wrong.append(f"holds {len(unknown)} that the network does not know ({_listed(unknown)})")
    if other:
        first = other[0]
        found, wanted = (list(tensors[first].shape) for tensors in (state, expected))
        wrong.append(f"has {len(other)} of another shape ({first} is {found}, the network's is {wanted})")
    if wrong:
        raise ModelError(
            f"{where} does not fit {architecture}: it {', and '.join(wrong)}. "
            "Are these the weights of the network that was described?"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
