"""Engines run a stage's network: PyTorch on CPU or CUDA, OpenVINO on CPU. Both give the same logits.

The OpenVINO files of a stage are exported once, when a model is assembled, because the conversion takes
longer than segmenting a study. A model without them is converted on the spot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import DeviceError, ModelError, UsageError
from brats_seg.core.words import counted
from brats_seg.models.card import ModelBundle, Stage
from brats_seg.models.layout import Layout
from brats_seg.networks.registry import make_network

ENGINES = ("auto", "openvino", "torch")


class Engine(Protocol):
    """Something that runs one network."""

    name: str
    device: str

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(4, X, Y, Z)`` z-scores to ``(3, X, Y, Z)`` logits; sides are multiples of the divisor."""
        ...


def choose_engine(engine: str, device: str) -> tuple[str, str]:
    """Turn ``auto`` into names: PyTorch, on CUDA where there is a GPU, else on the CPU.

    On the CPU, PyTorch is the default because OpenVINO is not faster where it counts: on 2 AVX2 cores both took
    11 s for a study, whole process, and PyTorch 1.3 GiB against 2.0 GiB (``experiments/bench.py``). OpenVINO's networks
    are quicker, but it prepares itself anew for each size of the tumour's box, and PyTorch is loaded in any case.

    Raises:
        UsageError: if the names are unknown or exclude each other.
        DeviceError: if a GPU is asked for that is not there.
    """
    if engine not in ENGINES:
        raise UsageError(f"there is no engine {engine!r}; choose one of: {', '.join(ENGINES)}")
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise UsageError(f"there is no device {device!r}; choose auto, cpu, cuda or cuda:N")
    if kind == "cuda":
        if engine == "openvino":
            raise UsageError("OpenVINO runs on the CPU here; pass --device cpu or --engine torch")
        _require_cuda(device)
        return "torch", device
    if kind == "auto" and engine != "openvino" and _cuda_count() > 0:
        return "torch", "cuda"
    return ("torch" if engine == "auto" else engine), "cpu"


def _cuda_count() -> int:
    import torch  # noqa: PLC0415 - heavy, and OpenVINO does without

    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


def _require_cuda(device: str) -> None:
    count = _cuda_count()
    number = device.partition(":")[2] or "0"
    if not number.isdigit():
        raise UsageError(f"there is no device {device!r}; choose auto, cpu, cuda or cuda:N")
    if int(number) >= count:
        raise DeviceError(
            f"{device} was asked for, but this machine has {counted(count, 'CUDA device')}; pass --device cpu"
        )


class NetworkEngine:
    """A network in PyTorch that lies on its device already, single precision."""

    name = "torch"

    def __init__(self, network: Any, device: str = "cpu") -> None:
        import torch  # noqa: PLC0415 - heavy

        self._torch = torch
        self.device = device
        self._network = network

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Engine`.

        Raises:
            DeviceError: if the device runs out of memory.
        """
        torch = self._torch
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

    def __init__(self, bundle: ModelBundle, stage: Stage, device: str = "cpu") -> None:
        super().__init__(build_network(bundle, stage).to(device), device)


class CompiledEngine:
    """A network in OpenVINO, single precision, any input size.

    Args:
        model: a converted network, or the ``.xml`` file of one.

    Raises:
        ModelError: if OpenVINO cannot read the file.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, model: Any) -> None:
        import openvino  # noqa: PLC0415 - heavy

        core = openvino.Core()
        if isinstance(model, Path):
            try:
                model = core.read_model(model)
            except RuntimeError as error:
                raise ModelError(f"OpenVINO cannot read {model.name}: {error}") from error
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        self._compiled = core.compile_model(model, "CPU", settings)

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Engine`."""
        result: NDArray[np.float32] = self._compiled(np.ascontiguousarray(array)[None])[0][0]
        return result


class OpenVINOEngine(CompiledEngine):
    """A stage's network in OpenVINO: its exported files, or converted on the spot where there are none."""

    def __init__(self, bundle: ModelBundle, stage: Stage) -> None:
        if stage.openvino is None:
            super().__init__(convert_network(build_network(bundle, stage)))
        else:
            xml = bundle.file(stage, stage.openvino)
            bundle.file(stage, stage.openvino.removesuffix(".xml") + ".bin")
            super().__init__(xml)


def stage_network(stage: Stage) -> Any:
    """The stage's network in PyTorch with fresh weights."""
    return make_network(stage.architecture, stage.network)


def build_network(bundle: ModelBundle, stage: Stage) -> Any:
    """The stage's network in PyTorch with its weights, ready to predict.

    Raises:
        ModelError: if the weights are damaged or do not fit the card.
    """
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415 - imports torch

    path = bundle.file(stage, stage.weights)
    try:
        network = stage_network(stage)
        network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{path.name} does not fit stage {stage.key} of model {bundle.card.name}: {error}") from error
    return network.eval()


def convert_network(network: Any) -> Any:
    """An OpenVINO model of a PyTorch network, open to any input size.

    The front end is called directly: ``openvino.convert_model`` would report its use over the network.
    """
    import warnings  # noqa: PLC0415

    import torch  # noqa: PLC0415 - heavy
    from openvino.frontend import FrontEndManager  # noqa: PLC0415 - heavy
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # noqa: PLC0415 - heavy

    side = 2 * network.config.divisor
    example = torch.zeros(1, network.config.in_channels, side, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # size checks of MONAI's blocks, true of any input
        traced = torch.jit.trace(network, example)  # type: ignore[no-untyped-call]
    front_end = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
    loaded = front_end.load(decoder)
    model = front_end.convert(loaded)
    model.reshape({0: [1, network.config.in_channels, -1, -1, -1]})
    return model


def open_engine(bundle: ModelBundle, stage: Stage, *, engine: str, device: str) -> Engine:
    """An engine by the names :func:`choose_engine` returned, in the project's order of channels."""
    opened = OpenVINOEngine(bundle, stage) if engine == "openvino" else TorchEngine(bundle, stage, device)
    return in_project_order(opened, stage.layout)


def in_project_order(engine: Engine, layout: Layout) -> Engine:
    """An engine that takes and gives the project's order of channels, whatever its network was trained with."""
    return engine if layout == Layout() else _ArrangedEngine(engine, layout)


class _ArrangedEngine:
    """An engine behind the :class:`~brats_seg.models.layout.Layout` of its network."""

    def __init__(self, engine: Engine, layout: Layout) -> None:
        self.name, self.device = engine.name, engine.device
        self._engine, self._layout = engine, layout

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Engine`."""
        return self._layout.restore(self._engine.logits(self._layout.arrange(array)))
