"""The two networks that find the brain in a head, with their card: ``weights/brain``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from brats_seg.core.errors import ModelError
from brats_seg.core.grid import Singles
from brats_seg.models.card import BUILT_IN, file_sha256
from brats_seg.models.engine import open_file

Run = Callable[[Singles], Singles]

FOLDER = BUILT_IN / "brain"
CARD = "card.json"
BOX, OUTLINE = "box.onnx", "brain.onnx"
BOX_SIDE, OUTLINE_SIDE = 128, 256
"""Voxels along each side of what the two networks were trained on."""


@dataclass(frozen=True)
class BrainNetworks:
    """Both networks, opened.

    Attributes:
        box: ``(1, 128, 128, 128)`` float32 normalised intensities of the whole field of view to ``(2, …)`` shares of
            background and brain.
        outline: the same of ``(1, 256, 256, 256)``, the box around the brain.
        engine: what runs them.
        version: as the card has it.
        sha256: of both files by name.
    """

    box: Run
    outline: Run
    engine: str
    version: str
    sha256: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``run.json``."""
        return {"version": self.version, "engine": self.engine, "sha256": dict(self.sha256)}


def choose_brain_engine(engine: str) -> str:
    """The engine for these networks, by the choice made for those of the tumour.

    They are ONNX alone, so that they run on the CPU also where PyTorch runs the others. Where either engine will do it
    is OpenVINO, which takes half the time of onnxruntime (:mod:`brats_seg.models.engine`), unless it is not installed.
    """
    if engine in ("onnxruntime", "openvino"):
        return engine
    return "openvino" if find_spec("openvino") is not None else "onnxruntime"


def open_brain_networks(engine: str = "auto", *, threads: int | None = None) -> BrainNetworks:
    """The networks that come with the package, on the CPU, calculating in single precision.

    Args:
        engine: one of :data:`~brats_seg.models.names.ENGINES`; see :func:`choose_brain_engine`.
        threads: at most; None for all cores.

    Raises:
        ModelError: if a file is missing or altered.
    """
    try:
        card = json.loads((FOLDER / CARD).read_text(encoding="utf-8"))
        found = {name: file_sha256(FOLDER / name) for name in card["files"]}
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the networks for brain extraction cannot be read ({error}); install the package again"
        ) from error
    for name, sha256 in card["files"].items():
        if found[name] != sha256:
            raise ModelError(
                f"{name} of the networks for brain extraction is damaged or altered; install the package again"
            )
    engine = choose_brain_engine(engine)
    box, outline = (open_file(FOLDER / name, engine, threads=threads).logits for name in (BOX, OUTLINE))
    return BrainNetworks(box, outline, engine, card["version"], found)
