"""Engines run a stage's network: PyTorch on CPU or CUDA, OpenVINO on CPU. Both give the same logits.

The OpenVINO files of a stage are exported once, when a model is assembled, because the conversion takes
longer than segmenting a study. A model without them is converted on the spot.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import DeviceError, ModelError, UsageError
from brats_seg.core.words import counted
from brats_seg.models.card import ModelBundle, Stage
from brats_seg.models.layout import Layout

ENGINES = ("auto", "openvino", "torch")


class Engine(Protocol):
    """Something that runs one network."""

    name: str
    device: str

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(4, X, Y, Z)`` z-scores to ``(3, X, Y, Z)`` logits; sides are multiples of the divisor."""
        ...


def choose_engine(engine: str, device: str) -> tuple[str, str]:
    """Turn ``auto`` into names: PyTorch on CUDA where there is a GPU, else OpenVINO on the CPU.

    Raises:
        UsageError: if the names are unknown or exclude each other.
        DeviceError: if a GPU is asked for that is not there.
    """
    if engine not in ENGINES:
        raise UsageError(f"there is no engine {engine!r}; choose one of: {', '.join(ENGINES)}")
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdigit())):
        raise UsageError(f"there is no device {device!r}; choose auto, cpu, cuda, cuda:N or mps")
    if kind in ("cuda", "mps"):
        if engine not in ("auto", "torch"):
            raise UsageError(f"{engine} runs on the CPU here; pass --device cpu or --engine torch")
        count = _gpu_count(kind)
        if int(number or 0) >= count:
            found = counted(count, f"{kind.upper()} device")
            raise DeviceError(f"{device} was asked for, but this machine has {found}; pass --device cpu")
        return "torch", device
    if kind == "auto" and engine in ("auto", "torch") and _sees_nvidia() and _gpu_count("cuda") > 0:
        return "torch", "cuda"
    return ("openvino" if engine == "auto" else engine), "cpu"


def _sees_nvidia() -> bool:
    """Whether there is any sign of an NVIDIA GPU, found without loading PyTorch."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def _gpu_count(kind: str) -> int:
    from brats_seg.models.torch_engine import device_count  # noqa: PLC0415 - heavy

    return device_count(kind)


class CompiledEngine:
    """A network in OpenVINO, single precision, any input size.

    Args:
        model: a converted network, or the ``.xml`` file of one.
        threads: at most; None for as many as OpenVINO likes.

    Raises:
        ModelError: if OpenVINO cannot read the file.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, model: Any, threads: int | None = None) -> None:
        import openvino  # noqa: PLC0415 - heavy

        core = openvino.Core()
        if isinstance(model, Path):
            try:
                model = core.read_model(model)
            except RuntimeError as error:
                raise ModelError(f"OpenVINO cannot read {model.name}: {error}") from error
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(model, "CPU", settings)

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Engine`."""
        result: NDArray[np.float32] = self._compiled(np.ascontiguousarray(array)[None])[0][0]
        return result


class OpenVINOEngine(CompiledEngine):
    """A stage's network in OpenVINO: its exported files, or converted on the spot where there are none."""

    def __init__(self, bundle: ModelBundle, stage: Stage, threads: int | None = None) -> None:
        if stage.openvino is None:
            from brats_seg.models.torch_engine import build_network, convert_network  # noqa: PLC0415 - heavy

            super().__init__(convert_network(build_network(bundle, stage)), threads)
        else:
            xml = bundle.file(stage, stage.openvino)
            bundle.file(stage, stage.openvino.removesuffix(".xml") + ".bin")
            super().__init__(xml, threads)


def open_engine(bundle: ModelBundle, stage: Stage, *, engine: str, device: str, threads: int | None = None) -> Engine:
    """An engine by the names :func:`choose_engine` returned, in the project's order of channels."""
    if engine == "torch":
        from brats_seg.models.torch_engine import TorchEngine  # noqa: PLC0415 - heavy

        return in_project_order(TorchEngine(bundle, stage, device, threads), stage.layout)
    return in_project_order(OpenVINOEngine(bundle, stage, threads), stage.layout)


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
