"""A model's networks as ONNX or OpenVINO files, each compared with PyTorch, and what a program needs to run them.

The networks are exported, not the program around them: ``description.json`` says how scans are prepared, in what order
channels come and how probabilities become labels.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import DeviceError, ModelError
from brats_seg.models.assemble import save_openvino
from brats_seg.models.card import ModelBundle, Stage, file_sha256
from brats_seg.models.engine import CompiledEngine
from brats_seg.models.torch_engine import build_network

ONNX_OPSET = 17
"""Of May 2022: every runtime of today reads it, and the networks need nothing newer."""

DESCRIPTION = "description.json"
_SIDES = (2, 3, 4)
"""Sides of the volume exports are tried on, in multiples of the divisor: other than the one they were traced at."""

ONNX_TOLERANCE = 1e-4
OPENVINO_TOLERANCE = 1e-2
"""Largest difference of a probability from PyTorch's. OpenVINO files hold half precision: where the weights were
single, rounding them changes probabilities of random inputs by some thousandths."""

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Check:
    """How an exported network was compared with PyTorch.

    Attributes:
        runtime: what ran it, with version; empty if nothing was there to run it.
        difference: largest difference of a probability, None if it was not run.
    """

    runtime: str
    difference: float | None

    def __str__(self) -> str:
        if self.difference is None:
            return "not checked: onnxruntime is not installed (pip install 'brats-seg[onnx]')"
        return f"checked with {self.runtime}: probabilities within {self.difference:.1e} of PyTorch's"


def export_onnx(bundle: ModelBundle, folder: Path) -> dict[str, Check]:
    """Write ``<stage>.onnx`` for every stage, and the description.

    Args:
        bundle: the model.
        folder: an empty folder.

    Returns:
        By stage, how the file was compared with PyTorch where onnxruntime is installed.

    Raises:
        ModelError: if a weights file is damaged, or the exported network gives other values.
        DeviceError: if the package onnx is not installed.
    """
    if find_spec("onnx") is None:
        raise DeviceError("the package onnx, which writes ONNX files, is not installed: pip install 'brats-seg[onnx]'")
    checks: dict[str, Check] = {}
    for stage in bundle.card.stages:
        network = build_network(bundle, stage)
        path = folder / f"{stage.key}.onnx"
        _trace_onnx(network, path)
        _name_channels(path, bundle, stage)
        checks[stage.key] = Check("", None)
        if find_spec("onnxruntime") is not None:
            runtime = f"onnxruntime {version('onnxruntime')}"
            checks[stage.key] = _compare(network, _onnx_logits(path), runtime, ONNX_TOLERANCE, path.name)
    _describe(bundle, folder, checks, {s.key: (f"{s.key}.onnx",) for s in bundle.card.stages}, opset=ONNX_OPSET)
    return checks


def export_openvino(bundle: ModelBundle, folder: Path) -> dict[str, Check]:
    """Write ``<stage>.xml`` and ``<stage>.bin`` for every stage, and the description.

    Files that the model holds already are copied; else the network is converted. Arguments, result and errors as for
    :func:`export_onnx`.
    """
    checks: dict[str, Check] = {}
    files: dict[str, tuple[str, ...]] = {}
    for stage in bundle.card.stages:
        network = build_network(bundle, stage)
        files[stage.key] = (f"{stage.key}.xml", f"{stage.key}.bin")
        if stage.openvino is None:
            save_openvino(network, folder / files[stage.key][0])
        else:
            held = stage.openvino
            for name, source in zip(files[stage.key], (held, held.removesuffix(".xml") + ".bin"), strict=True):
                (folder / name).write_bytes(bundle.file(stage, source).read_bytes())
        engine = CompiledEngine(folder / files[stage.key][0])
        runtime = f"openvino {version('openvino')}"
        checks[stage.key] = _compare(network, engine.logits, runtime, OPENVINO_TOLERANCE, files[stage.key][0])
    _describe(bundle, folder, checks, files)
    return checks


def _trace_onnx(network: Any, path: Path) -> None:
    """The network as ONNX, open to any batch and any multiple of its divisor.

    PyTorch's older exporter is asked for by name: the newer one needs a further package. It announces its replacement
    each time.
    """
    import torch  # noqa: PLC0415 - heavy

    side = 2 * network.config.divisor
    example = torch.zeros(1, network.config.in_channels, side, side, side)
    axes = {0: "batch", 2: "x", 3: "y", 4: "z"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that announcement, and size checks of MONAI's blocks, true of any input
        torch.onnx.export(
            network,
            (example,),
            str(path),
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": axes, "logits": axes},
            opset_version=ONNX_OPSET,
            dynamo=False,
        )


def _name_channels(path: Path, bundle: ModelBundle, stage: Stage) -> None:
    """Write into the file what its channels are, and see that it is valid ONNX.

    Raises:
        ModelError: if it is not.
    """
    import onnx  # noqa: PLC0415 - optional

    model = onnx.load(str(path))
    layout = stage.layout
    words = {
        "model": f"{bundle.card.name} {bundle.card.version}, stage {stage.key}",
        "model_sha256": bundle.sha256,
        "spacing_mm": f"{stage.spacing_mm:g}",
        "input_channels": ",".join(layout.sequences) + (",WT,TC,ET of the coarse stage" * stage.hears_coarse),
        "output_channels": ",".join(layout.regions),
        "axes": layout.axes,
    }
    onnx.helper.set_model_props(model, words)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"PyTorch wrote {path.name} as invalid ONNX ({str(error).splitlines()[0]})") from error
    onnx.save(model, str(path))


def _onnx_logits(path: Path) -> Logits:
    import onnxruntime  # noqa: PLC0415 - optional

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    def logits(array: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(["logits"], {"image": array[None]})[0][0]
        return found

    return logits


def _compare(network: Any, logits: Logits, runtime: str, tolerance: float, name: str) -> Check:
    """Both on the same random volume of another size than was traced.

    Raises:
        ModelError: if they differ by more than ``tolerance``.
    """
    import torch  # noqa: PLC0415 - heavy

    shape = tuple(n * network.config.divisor for n in _SIDES)
    array = np.random.default_rng(0).normal(size=(network.config.in_channels, *shape)).astype(np.float32)
    with torch.inference_mode():
        wanted = torch.sigmoid(network(torch.from_numpy(array)[None])[0]).numpy()
    found = torch.sigmoid(torch.from_numpy(np.asarray(logits(array)))).numpy()
    difference = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")
    if not difference <= tolerance:
        raise ModelError(
            f"{name} gives probabilities up to {difference:.2g} from PyTorch's in {runtime}, more than {tolerance:g}, "
            "so it was not kept. Update the package, or use another format."
        )
    return Check(runtime, difference)


def _describe(
    bundle: ModelBundle,
    folder: Path,
    checks: Mapping[str, Check],
    files: Mapping[str, tuple[str, ...]],
    **further: Any,
) -> None:
    card = bundle.card.to_dict()
    stages = [_interface(stage, folder, files[stage.key], checks[stage.key]) for stage in bundle.card.stages]
    values = {
        "model": {key: value for key, value in card.items() if key not in ("format", "stages")},
        "model_sha256": bundle.sha256,
        **further,
        "stages": stages,
        "how": [
            "prepare: bring the sequences to one grid along RAS axes at prepare.spacing_mm, crop to the brain, clip to "
            "prepare.percentiles and z-score each within the brain; N4 over those that prepare.bias_corrected names, "
            "which are then z-scored anew; 0 outside; pad to prepare.divisor",
            "each stage: average-pool by spacing_mm / prepare.spacing_mm, order and turn as the stage says, run, turn "
            "back, bring logits back up trilinearly, sigmoid",
            "coarse looks at the whole brain; fine at the box around coarse WT >= postprocess.roi_threshold, wider by "
            "postprocess.roi_margin_mm; inside it both are averaged with postprocess.fine_weight on fine",
            "channels of a fine stage beyond the four sequences are the coarse probabilities WT, TC, ET of its member",
            "of an ensemble (more than one member) the probabilities of each stage are averaged over the members, and "
            "the box is found in the averaged coarse ones",
            "divide log-odds by postprocess.temperature; TC within WT, ET within TC; doubt small components of WT "
            "without a core, and ET that hardly rises from T1 to T1CE (postprocess.settle of brats_seg.segment); "
            "then postprocess.thresholds",
        ],
    }
    (folder / DESCRIPTION).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _interface(stage: Stage, folder: Path, files: tuple[str, ...], check: Check) -> dict[str, Any]:
    divisor = stage.divisor
    return {
        "name": stage.name,
        "member": stage.member,
        "files": {name: file_sha256(folder / name) for name in files},
        "architecture": stage.architecture,
        "network": dict(stage.network),
        "spacing_mm": stage.spacing_mm,
        "input": {"shape": ["batch", "channels", "x", "y", "z"], "sides": f"multiples of {divisor}", "type": "float32"},
        "input_channels": [*stage.layout.sequences, *(["coarse WT", "coarse TC", "coarse ET"] * stage.hears_coarse)],
        "output_channels": list(stage.layout.regions),
        "axes": stage.layout.axes,
        "output": "logits, same sides",
        "weights_sha256": stage.files[stage.weights],
        "checked": {"with": check.runtime, "largest_difference_of_a_probability": check.difference},
    }
