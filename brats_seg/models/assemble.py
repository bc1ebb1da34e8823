"""Making a model folder out of trained stages: networks, checksums, card.

One file holds a network: ONNX, which OpenVINO runs as it is and from which PyTorch takes its weights. Weights that half
precision holds exactly are stored in it, under the names PyTorch knows them by, and made single again by the network
itself: it computes in single precision everywhere.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.onnx import symbolic_helper
from torch.onnx.utils import register_custom_op_symbolic, unregister_custom_op_symbolic

from brats_seg.core.errors import OutputError
from brats_seg.models.card import ModelBundle, ModelCard, file_sha256, write_card
from brats_seg.models.stage import Stage
from brats_seg.models.torch_engine import build_network, read_weights, stage_network


def write_model(
    weights: Mapping[str, Path | Mapping[str, Any]], card: ModelCard, folder: Path, *, onnx: bool = True
) -> ModelBundle:
    """Write a model folder.

    Args:
        weights: key of a stage to the file of its weights (``.safetensors`` or ``.onnx``), or to tensors by name.
        card: with its stages; their files are filled in.
        folder: made where it is not there.
        onnx: write each network whole, for OpenVINO and PyTorch; else copy the files of weights, for PyTorch alone.

    Raises:
        OutputError: if the folder holds anything.
        ModelError: if a file is damaged.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists; choose another folder for the model")
    folder.mkdir(parents=True, exist_ok=True)
    built: list[Stage] = []
    for stage in card.stages:
        held = weights[stage.key]
        if isinstance(held, Path) and not onnx:
            target = folder / f"{stage.key}.safetensors"
            copy_file(held, target)
        else:
            target = folder / f"{stage.key}.onnx"
            network = stage_network(stage)
            network.load_state_dict(read_weights(held) if isinstance(held, Path) else dict(held))
            target.write_bytes(onnx_file(network.eval(), channels(stage)))
        built.append(replace(stage, files={target.name: file_sha256(target)}))
    finished = replace(card, stages=tuple(built))
    write_card(finished, folder)
    return ModelBundle(finished, folder)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file whole or not at all; a link of the target's name is replaced, and not written through."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)


def network_file(bundle: ModelBundle, stage: Stage) -> bytes:
    """The stage's network as the content of an ONNX file: the model's own, or made of its weights.

    Raises:
        ModelError: if the weights are damaged or do not fit the card.
    """
    if stage.weights.endswith(".onnx"):
        return bundle.file(stage, stage.weights).read_bytes()
    return onnx_file(build_network(bundle, stage), channels(stage))


def channels(stage: Stage) -> dict[str, str]:
    """What a network's file says of its input and output."""
    layout = stage.layout
    behind = f",{','.join(layout.regions)} of the coarse stage" if stage.is_cascaded else ""
    return {
        "spacing_mm": f"{stage.spacing_mm:g}",
        "input_channels": ",".join(layout.sequences) + behind,
        "output_channels": ",".join(layout.regions),
        "axes": layout.axes,
    }


OPSET = 17
"""Of May 2022: every runtime of today reads it, and the networks need nothing newer."""


def onnx_file(network: Any, words: Mapping[str, str] | None = None) -> bytes:
    """A network of the project, with its weights, as the content of an ONNX file.

    Args:
        network: in PyTorch, ready to predict, on the CPU.
        words: what the file says of itself.

    Returns:
        A network from ``image`` ``(B, C, X, Y, Z)`` to ``logits`` ``(B, R, X, Y, Z)``, for any batch and any sides that
        are multiples of its divisor. Weights that only training uses are held as well.
    """
    model = onnx.load_from_string(_traced(network))
    _store_weights(model.graph, {name: value.numpy() for name, value in network.state_dict().items()})
    helper.set_model_props(model, dict(words or {}))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _traced(network: Any) -> bytes:
    """PyTorch's own export, whose older exporter needs no further package and says so with a warning each time."""
    side = 2 * network.config.divisor
    example = torch.zeros(1, network.config.in_channels, side, side, side)
    axes = {0: "batch", 2: "x", 3: "y", 4: "z"}
    file = BytesIO()
    register_custom_op_symbolic("aten::group_norm", _group_normalisation, OPSET)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that, and size checks of MONAI's blocks, which are true of any input
            torch.onnx.export(
                network,
                (example,),
                file,  # type: ignore[arg-type]  # the older exporter takes any file
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes={"image": axes, "logits": axes},
                opset_version=OPSET,
                do_constant_folding=False,  # which would give weights other names
                dynamo=False,
            )
    finally:
        unregister_custom_op_symbolic("aten::group_norm", OPSET)
    return file.getvalue()


def _group_normalisation(graph: Any, x: Any, groups: Any, scale: Any, bias: Any, *further: Any) -> Any:
    """Group normalisation from means along one axis after the other.

    Runtimes add up a whole volume in one go where they have an operator for it, which costs three digits: probabilities
    were up to 5e-4 from PyTorch's. So they are within 5e-6 in OpenVINO and onnxruntime alike.
    """
    least = graph.op("Constant", value_t=torch.tensor(_constant(further[0], "f")))
    sides = graph.op("Constant", value_t=torch.tensor([0, _constant(groups, "i"), -1, 0, 0]))

    def mean(values: Any) -> Any:
        for axis in (4, 3, 2):
            values = graph.op("ReduceMean", values, axes_i=[axis], keepdims_i=1)
        return values

    grouped = graph.op("Reshape", x, sides)  # (B, groups, channels of each * X, Y, Z)
    centred = graph.op("Sub", grouped, mean(grouped))
    spread = graph.op("Sqrt", graph.op("Add", mean(graph.op("Mul", centred, centred)), least))
    normal = graph.op("Reshape", graph.op("Div", centred, spread), graph.op("Shape", x))
    scale, bias = (symbolic_helper._unsqueeze_helper(graph, value, [1, 2, 3]) for value in (scale, bias))
    return graph.op("Add", graph.op("Mul", normal, scale), bias)


def _constant(value: Any, kind: str) -> Any:
    return symbolic_helper._get_const(value, kind, "a constant")  # type: ignore[no-untyped-call]


def _store_weights(graph: Any, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Store every weight under its own name, in half precision where that loses nothing, and make those single first.

    PyTorch stores equal weights once and names the others after it.
    """
    others = [tensor for tensor in graph.initializer if tensor.name not in state]
    tensors = [_tensor(name, value) for name, value in state.items()]
    nodes = [node for node in graph.node if not (node.op_type == "Identity" and node.output[0] in state)]
    single = {tensor.name: f"{tensor.name}.single" for tensor in tensors if tensor.data_type == TensorProto.FLOAT16}
    used = {name for node in nodes for name in node.input}
    made = [helper.make_node("Cast", [n], [s], to=TensorProto.FLOAT) for n, s in single.items() if n in used]
    for node in nodes:
        node.input[:] = [single.get(name, name) for name in node.input]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*others, *tensors])
    graph.node.extend([*made, *nodes])


def _tensor(name: str, value: np.ndarray[Any, Any]) -> Any:
    half = value.astype(np.float16) if value.dtype == np.float32 else value
    return numpy_helper.from_array(half if np.array_equal(half, value) else value, name)
