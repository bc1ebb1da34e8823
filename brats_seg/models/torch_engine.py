"""PyTorch as an engine: on a GPU, or on the CPU where it is asked for; and networks with the weights of a model.

Only what needs PyTorch imports this file: loading it takes longer than segmenting a study on the CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from brats_seg.core.errors import DeviceError, ModelError
from brats_seg.models.card import ModelBundle
from brats_seg.models.stage import Stage
from brats_seg.networks.registry import make_network


def device_count(kind: str) -> int:
    """Devices of a kind, ``cuda`` or ``mps``, that PyTorch can use."""
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


def free_bytes(device: str) -> float:
    """Free memory of a GPU, in bytes."""
    return float(torch.cuda.mem_get_info(device)[0])


class NetworkEngine:
    """A network in PyTorch that lies on its device already, single precision."""

    name = "torch"

    def __init__(self, network: Any, device: str = "cpu") -> None:
        self.device = device
        self._network = network

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`~brats_seg.models.engine.Engine`.

        Raises:
            DeviceError: if the device runs out of memory.
        """
        try:
            with torch.inference_mode():
                batch = torch.from_numpy(np.ascontiguousarray(array))[None].to(self.device)
                result: NDArray[np.float32] = self._network(batch)[0].float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.device} ran out of memory at {array.shape[1:]} voxels; pass --device cpu"
            ) from error
        return result


class TorchEngine(NetworkEngine):
    """A stage's network in PyTorch with the weights of its model."""

    def __init__(self, bundle: ModelBundle, stage: Stage, device: str = "cpu", threads: int | None = None) -> None:
        if threads is not None and torch.get_num_threads() > threads:  # it knows the processors, not a group's quota
            torch.set_num_threads(threads)
        super().__init__(build_network(bundle, stage).to(device), device)


def stage_network(stage: Stage) -> Any:
    """The stage's network in PyTorch with fresh weights."""
    return make_network(stage.architecture, stage.network)


def build_network(bundle: ModelBundle, stage: Stage) -> Any:
    """The stage's network in PyTorch with its weights, ready to predict.

    Raises:
        ModelError: if the weights are damaged or do not fit the card.
    """
    path = bundle.file(stage, stage.weights)
    try:
        network = stage_network(stage)
        network.load_state_dict(read_weights(path))
    except (ModelError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{path.name} does not fit stage {stage.key} of model {bundle.card.name}: {error}") from error
    return network.eval()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, in single precision, from the file of a network (``.onnx``) or of a training run
    (``.safetensors``).

    Raises:
        ModelError: if the file is damaged.
    """
    try:
        tensors = _onnx_weights(path) if path.suffix == ".onnx" else load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be read as weights: {error}") from error
    return {name: value.float() for name, value in tensors.items()}


def _onnx_weights(path: Path) -> dict[str, torch.Tensor]:
    import onnx  # noqa: PLC0415 - training from weights of its own does without
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        graph = onnx.load(str(path)).graph
    except DecodeError as error:
        raise ValueError(str(error)) from error
    return {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
