"""A model's networks as ONNX or OpenVINO files, each compared with PyTorch, and what a program needs to run them.

The networks are exported, not the program around them: ``description.json`` says how scans are prepared, in what order
channels come and how probabilities become labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from brats_seg.core.errors import ModelError
from brats_seg.files.tables import write_json
from brats_seg.models.assemble import network_file
from brats_seg.models.card import ModelBundle, file_sha256
from brats_seg.models.engine import OpenVINOEngine
from brats_seg.models.stage import Stage
from brats_seg.models.torch_engine import NetworkEngine, build_network

DESCRIPTION = "description.json"
HOW = Path(__file__).parent / "bundle" / "how.txt"
"""What a program does with the networks, step by step."""
_SIDES = (2, 3, 4)
"""Sides of the volume exports are tried on, in multiples of the divisor: other than the one they were traced at."""

TOLERANCE = {"onnx": 1e-4, "openvino": 1e-2}
"""Largest difference of a probability from PyTorch's. OpenVINO files hold half precision: where the weights were
single, rounding them changes probabilities of random inputs by some thousandths."""


@dataclass(frozen=True)
class Check:
    """How an exported network was compared with PyTorch.

    Attributes:
        runtime: what ran it, with version.
        difference: largest difference of a probability.
    """

    runtime: str
    difference: float

    def __str__(self) -> str:
        return f"checked with {self.runtime}: probabilities within {self.difference:.1e} of PyTorch's"


def export_networks(bundle: ModelBundle, folder: Path, form: str) -> dict[str, Check]:
    """Write every stage's network, and the description.

    Args:
        folder: an empty folder.
        form: ``onnx`` for ``<stage>.onnx``, ``openvino`` for ``<stage>.xml`` and ``<stage>.bin``.

    Returns:
        By stage, how the file was compared with PyTorch.

    Raises:
        ModelError: if a weights file is damaged, or the exported network gives other values.
    """
    import openvino  # noqa: PLC0415 - heavy

    checks: dict[str, Check] = {}
    files: dict[str, tuple[str, ...]] = {}
    for stage in bundle.card.stages:
        path = folder / f"{stage.key}.onnx"
        path.write_bytes(network_file(bundle, stage))
        files[stage.key] = (path.name,)
        if form == "openvino":
            openvino.save_model(openvino.Core().read_model(path), path.with_suffix(".xml"), compress_to_fp16=True)
            path.unlink()
            path = path.with_suffix(".xml")
            files[stage.key] = (path.name, path.with_suffix(".bin").name)
        checks[stage.key] = _compare(build_network(bundle, stage), path, TOLERANCE[form])
    _describe(bundle, folder, checks, files)
    return checks


def _compare(network: Any, path: Path, tolerance: float) -> Check:
    """Both on the same random volume of another size than was traced."""
    shape = tuple(n * network.config.divisor for n in _SIDES)
    array = np.random.default_rng(0).normal(size=(network.config.in_channels, *shape)).astype(np.float32)
    wanted, found = expit(NetworkEngine(network).logits(array)), expit(OpenVINOEngine(path).logits(array))
    runtime = f"openvino {version('openvino')}"
    difference = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")
    if not difference <= tolerance:
        raise ModelError(
            f"{path.name} gives probabilities up to {difference:.2g} from PyTorch's in {runtime}, more than "
            f"{tolerance:g}, so it was not kept. Update the package, or use another format."
        )
    return Check(runtime, difference)


def _describe(
    bundle: ModelBundle,
    folder: Path,
    checks: Mapping[str, Check],
    files: Mapping[str, tuple[str, ...]],
) -> None:
    card = bundle.card.to_dict()
    stages = [_interface(stage, folder, files[stage.key], checks[stage.key]) for stage in bundle.card.stages]
    values = {
        "model": {key: value for key, value in card.items() if key not in ("format", "stages")},
        "model_sha256": bundle.sha256,
        "stages": stages,
        "how": HOW.read_text(encoding="utf-8").splitlines(),
    }
    write_json(values, folder / DESCRIPTION)


def _interface(stage: Stage, folder: Path, files: tuple[str, ...], check: Check) -> dict[str, Any]:
    divisor = stage.shape.divisor
    return {
        "name": stage.name,
        "member": stage.member,
        "files": {name: file_sha256(folder / name) for name in files},
        "architecture": stage.architecture,
        "network": dict(stage.network),
        "spacing_mm": stage.spacing_mm,
        "input": {"shape": ["batch", "channels", "x", "y", "z"], "sides": f"multiples of {divisor}", "type": "float32"},
        "input_channels": [*stage.layout.sequences, *(["coarse WT", "coarse TC", "coarse ET"] * stage.is_cascaded)],
        "output_channels": list(stage.layout.regions),
        "axes": stage.layout.axes,
        "output": "logits, same sides",
        "weights_sha256": stage.files[stage.weights],
        "checked": {"with": check.runtime, "largest_difference_of_a_probability": check.difference},
    }
