"""A model as a MONAI bundle: a folder that ``python -m monai.bundle run`` runs on its own.

The bundle carries the rooms of this package that lie between files and labels, byte for byte. So it needs no
installation of the package, gives the same numbers as ``brats-seg segment``, and no second implementation of the
preparation exists that could drift from the first.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import torch

from brats_seg.core.errors import OutputError
from brats_seg.files.tables import write_json
from brats_seg.models.card import ModelBundle, file_sha256
from brats_seg.models.record import installed
from brats_seg.models.torch_engine import build_network

PACKAGE = Path(__file__).resolve().parents[1]
ROOMS = ("core", "files", "imaging", "volumetrics", "networks", "models", "segment")
"""What a bundle carries of the package."""

PARTS = Path(__file__).with_name("bundle")
"""Files of a bundle: ``inference.json`` takes every study of a folder through MONAI's dataset, evaluator and writer,
``inference_datalist.json`` those of a data list whose ``image`` holds the four files in the bundle's order,
``metadata.json`` is filled in from the card, and ``logging.conf`` lets MONAI say warnings only."""

OWN_CARD = "brats_seg_model.json"
"""The model's card in ``configs``; a bundle that holds it was written by this program."""
LIBRARIES = (
    "nibabel",
    "SimpleITK",
    "scipy",
    "connected-components-3d",
    "psutil",
    "safetensors",
    "PyYAML",
    "pytorch-ignite",
    "fire",
)
"""What a bundle needs beside numpy, torch and MONAI."""


def export_monai(bundle: ModelBundle, folder: Path) -> None:
    """Write a MONAI bundle.

    Args:
        bundle: the model; weights of all stages go into ``models/model.pt``.
        folder: an empty folder.

    Raises:
        ModelError: if a weights file is damaged.
        OutputError: if the package's licence file is not there.
    """
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir()
    shutil.copyfile(_licence_file(), folder / "LICENSE")
    _write_weights(bundle, folder / "models" / "model.pt")
    _write_code(folder / PACKAGE.name)
    write_json(bundle.card.to_dict(), folder / "configs" / OWN_CARD)
    for name in ("inference.json", "inference_datalist.json", "logging.conf"):
        shutil.copyfile(PARTS / name, folder / "configs" / name)
    write_json(_metadata(bundle, file_sha256(folder / "models" / "model.pt")), folder / "configs" / "metadata.json")
    (folder / "docs" / "README.md").write_text(_readme(bundle), encoding="utf-8")


def _write_weights(bundle: ModelBundle, path: Path) -> None:
    """Tensors of every stage under the names they have in ``StagedNetwork``, single precision."""
    tensors = {
        f"stages.{stage.key}.{name}": value
        for stage in bundle.card.stages
        for name, value in build_network(bundle, stage).state_dict().items()
    }
    torch.save(tensors, path)


def _write_code(folder: Path) -> None:
    """The rooms a bundle needs, without caches and weights."""
    for room in ROOMS:
        shutil.copytree(
            PACKAGE / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "weights", "crossval*")
        )
    for file in ("__init__.py", "transforms.py"):
        shutil.copyfile(PACKAGE / file, folder / file)


def _metadata(bundle: ModelBundle, weights_sha256: str) -> dict[str, Any]:
    """``metadata.json`` as MONAI's bundle specification asks for it."""
    card = bundle.card
    made: dict[str, Any] = json.loads((PARTS / "metadata.json").read_text(encoding="utf-8"))
    made |= {
        **{key: getattr(card, key) for key in ("name", "version", "description")},
        "changelog": {card.version: "exported"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": installed(LIBRARIES),
        "copyright": f"weights: {card.licence}; code: see LICENSE",
        "data_source": card.trained_on,
        "eval_metrics": dict(card.accuracy),
        "references": list(card.citations),
        "model_sha256": weights_sha256,
        "source_model_sha256": bundle.sha256,
    }
    for ports in made["network_data_format"].values():
        for port in ports.values():
            port["spatial_shape"] = [f"{card.prepare.get('divisor', 32)}*n"] * 3
    return made


def _readme(bundle: ModelBundle) -> str:
    card = bundle.card
    return (
        (PARTS / "README.md")
        .read_text(encoding="utf-8")
        .format(
            **{key: getattr(card, key) for key in ("name", "version", "description", "trained_on", "licence")},
            needs=" ".join(LIBRARIES),
            stages=" and ".join(f"{s.key} at {s.spacing_mm:g} mm ({s.architecture})" for s in card.stages),
            accuracy=_listed([f"{name}: {value}" for name, value in card.accuracy.items()], "not stated"),
            limits=_listed(card.limits, "not stated"),
            citations=_listed(card.citations, "none stated"),
        )
    )


def _listed(entries: Sequence[str], otherwise: str) -> str:
    return "\n".join(f"- {entry}" for entry in entries or (otherwise,))


def _licence_file() -> Path:
    """The package's licence text: beside the package in a source tree, else where it was installed."""
    beside = PACKAGE.parent / "LICENSE"
    if beside.is_file():
        return beside
    try:
        files = distribution("brats-seg").files or []
    except PackageNotFoundError:
        files = []
    for entry in files:
        if entry.name == "LICENSE":
            return Path(str(entry.locate()))
    raise OutputError("the licence file of brats_seg, which a bundle has to carry, is not there; install it again")
