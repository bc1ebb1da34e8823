"""A model of another disease, made up: two sequences, one region and one tissue of its own, a network of one layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from brats_seg.models.card import CARD, CARD_FORMAT, file_sha256

SPACING_MM = 3.0
BRIGHT = 2.0
"""Deviations above the brain's mean from which T1CE is called tumour."""
TISSUE = {"name": "MNG", "title": "meningioma", "colour": "#009E73"}


def threshold_network(path: Path) -> None:
    """A network that calls what is bright in the second of two sequences tumour."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1, 2, 1, 1, 1], [0.0, 8.0])
    bias = helper.make_tensor("bias", TensorProto.FLOAT, [1], [-8.0 * BRIGHT])
    sides = ["batch", None, "x", "y", "z"]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [sides[0], channels, *sides[2:]])
        for name, channels in (("image", 2), ("logits", 1))
    ]
    node = helper.make_node("Conv", ["image", "weight", "bias"], ["logits"])
    graph = helper.make_graph([node], "threshold", ends[:1], ends[1:], [weight, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def card(folder: Path, sequences: Sequence[str] = ("t1", "t1ce")) -> dict[str, Any]:
    """What the card of the model in a folder says; the second of two sequences shows the tumour."""
    return {
        "format": CARD_FORMAT,
        "name": "meningioma",
        "version": "0.1",
        "description": "Meningioma from T1 and T1CE by a threshold, for tests",
        "licence": "Apache-2.0",
        "trained_on": "nothing",
        "knows_treated_brains": True,
        "task": "regions",
        "sequences": list(sequences),
        "regions": {
            "name": "meningioma",
            "regions": [
                {
                    "name": "MEN",
                    "title": "meningioma",
                    "structures": [TISSUE, "GTV"],
                    "colour": "#009E73",
                    "compartment": "enhancing",
                    "shown_by": [sequences[1]],
                }
            ],
        },
        "schemas": [{"name": "meningioma", "title": "meningioma of the test", "values": {"5": TISSUE}}],
        "criteria": ["rano-hgg", "mrano"],
        "held_out": [],
        "limits": ["Made up."],
        "citations": [],
        "accuracy": {},
        "prepare": {"spacing_mm": SPACING_MM, "divisor": 8},
        "postprocess": {"thresholds": {"MEN": 0.5}},
        "intervals": None,
        "stages": [
            {
                "name": "coarse",
                "spacing_mm": SPACING_MM,
                "network": {"in_channels": 2, "out_channels": 1, "widths": [8, 16], "depths": [1, 1]},
                "files": {"coarse.onnx": file_sha256(folder / "coarse.onnx")},
            }
        ],
    }


def write_meningioma(folder: Path, sequences: Sequence[str] = ("t1", "t1ce")) -> Path:
    """The model's folder; see :func:`card`."""
    folder.mkdir(parents=True)
    threshold_network(folder / "coarse.onnx")
    (folder / CARD).write_text(json.dumps(card(folder, sequences)))
    return folder
