"""Engines run a stage's network: onnxruntime or OpenVINO on the CPU, PyTorch on a GPU. All give the same logits.

They read one file, the network as ONNX, and compute in single precision. onnxruntime hardly prepares itself, and
OpenVINO's passes are shorter once it has compiled a network: on one core, the six networks of the shipped model over
80x96x80 voxels take 0.9 s to open, 4.6 s a study and 0.4 GiB in one, 3.5 s, 3.7 s and 1 GiB in the other. From the
third study on OpenVINO is ahead, by a tenth of what a study takes, so it is there to be asked for. Brain extraction,
one pass each of two larger networks, takes 3.4 CPU seconds in OpenVINO and 7.4 in onnxruntime, opening included.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import DeviceError, ModelError, UsageError, out_of_memory
from brats_seg.core.words import counted
from brats_seg.models.card import ModelBundle
from brats_seg.models.names import ENGINES
from brats_seg.models.stage import Arrangement, Stage


class Engine(Protocol):
    """Something that runs one network."""

    name: str
    device: str

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(4, X, Y, Z)`` z-scores to ``(3, X, Y, Z)`` logits; sides are multiples of the divisor."""
        ...


def choose_engine(engine: str, device: str) -> tuple[str, str]:
    """Turn ``auto`` into names: PyTorch on CUDA where there is a GPU, else onnxruntime on the CPU.

    Args:
        engine: one of :data:`~brats_seg.models.names.ENGINES`.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

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
    return ("onnxruntime" if engine == "auto" else engine), "cpu"


def _sees_nvidia() -> bool:
    """Whether there is any sign of an NVIDIA GPU, found without loading PyTorch."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def _gpu_count(kind: str) -> int:
    from brats_seg.models.torch_engine import device_count  # noqa: PLC0415 - heavy

    return device_count(kind)


class OpenVINOEngine:
    """A network in OpenVINO, compiled once for any input size.

    Args:
        model: an ONNX file, or the content of one.
        threads: at most; None for as many as OpenVINO likes.
        cache: folder where compiled networks are kept for later calls; None keeps nothing.

    Raises:
        ModelError: if OpenVINO cannot read the file.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, model: Path | bytes, *, threads: int | None = None, cache: Path | None = None) -> None:
        import openvino  # noqa: PLC0415 - heavy

        core = openvino.Core()
        try:
            read = core.read_model(model)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot read {getattr(model, 'name', 'the network')}: {error}") from error
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        if cache is not None:
            settings["CACHE_DIR"] = str(cache)
        self._compiled = core.compile_model(read, "CPU", settings)

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Engine`."""
        result: NDArray[np.float32] = self._compiled(np.ascontiguousarray(array)[None])[0][0]
        return result


class OnnxRuntimeEngine:
    """A network in onnxruntime, any input size.

    Args:
        model: an ONNX file, or the content of one.
        threads: at most; None for all cores.

    Raises:
        ModelError: if onnxruntime cannot read the file.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, model: Path | bytes, *, threads: int | None = None) -> None:
        import onnxruntime  # noqa: PLC0415 - heavy
        from onnxruntime.capi import onnxruntime_pybind11_state as errors  # noqa: PLC0415

        damaged = (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf)
        self._failures = (errors.Fail, errors.EPFail, errors.RuntimeException)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4  # what fails is raised as well; weights that only training uses are no fault
        settings.intra_op_num_threads = threads or 0
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        content = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        except (*damaged, *self._failures) as error:
            if isinstance(error, damaged) and not out_of_memory(error):
                raise ModelError(f"onnxruntime cannot read {getattr(model, 'name', 'the network')}: {error}") from error
            raise RuntimeError(str(error)) from error  # as other libraries do: onnxruntime's own are plain exceptions
        self._input = self._session.get_inputs()[0].name
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Engine`."""
        image = np.ascontiguousarray(array)[None]
        try:
            result: NDArray[np.float32] = self._session.run(None, {self._input: image}, self._options)[0][0]
        except self._failures as error:
            raise RuntimeError(str(error)) from error
        return result


def open_engine(
    bundle: ModelBundle,
    stage: Stage,
    *,
    engine: str,
    device: str,
    threads: int | None = None,
    cache: Path | None = None,
) -> Engine:
    """An engine by the names :func:`choose_engine` returned, in the card's order of channels.

    On the CPU the network's file is run; where a model holds its weights alone, PyTorch makes that file first.

    Args:
        engine: ``onnxruntime``, ``openvino`` or ``torch``.
        threads: at most, on the CPU.
        cache: see :class:`OpenVINOEngine`.

    Raises:
        ModelError: if the file is damaged.
    """
    arrangement = bundle.card.arrangement(stage)
    if engine == "torch":
        from brats_seg.models.torch_engine import TorchEngine  # noqa: PLC0415 - heavy

        return in_card_order(TorchEngine(bundle, stage, device, threads), arrangement)
    file: Path | bytes
    if stage.weights.endswith(".onnx"):
        file = bundle.file(stage, stage.weights)
    else:
        from brats_seg.models.assemble import network_file  # noqa: PLC0415 - heavy

        file = network_file(bundle, stage)
    return in_card_order(open_file(file, engine, threads=threads, cache=cache), arrangement)


def open_file(model: Path | bytes, engine: str, *, threads: int | None = None, cache: Path | None = None) -> Engine:
    """An ONNX file, or the content of one, on ``onnxruntime`` or ``openvino``; see :func:`open_engine`.

    Raises:
        ModelError: if the file is damaged.
    """
    if engine == "openvino":
        return OpenVINOEngine(model, threads=threads, cache=cache)
    return OnnxRuntimeEngine(model, threads=threads)


def in_card_order(engine: Engine, arrangement: Arrangement) -> Engine:
    """An engine that takes and gives the card's order of channels, whatever its network was trained with."""
    return engine if arrangement.changes_nothing else _ArrangedEngine(engine, arrangement)


class _ArrangedEngine:
    """An engine behind the :class:`~brats_seg.models.stage.Arrangement` of its network."""

    def __init__(self, engine: Engine, arrangement: Arrangement) -> None:
        self.name, self.device = engine.name, engine.device
        self._engine, self._arrangement = engine, arrangement

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Engine`."""
        return self._arrangement.restore(self._engine.logits(self._arrangement.arrange(array)))
