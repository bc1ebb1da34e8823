"""A made-up bundle as the MONAI model zoo publishes them, with fresh weights in MONAI's own network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import SegResNet

TINY: dict[str, Any] = {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1], "in_channels": 4, "out_channels": 3}
PUBLISHED: dict[str, Any] = {
    "blocks_down": [1, 2, 2, 4],
    "blocks_up": [1, 1, 1],
    "init_filters": 16,
    "in_channels": 4,
    "out_channels": 3,
    "dropout_prob": 0.2,
}
"""Of ``brats_mri_segmentation``."""


def monai_network(network: dict[str, Any], *, seed: int = 0) -> SegResNet:
    torch.manual_seed(seed)
    return SegResNet(**network).eval()


def metadata() -> dict[str, Any]:
    return {
        "version": "0.5.3",
        "name": "BraTS MRI segmentation",
        "description": "tumour subregions",
        "copyright": "someone",
        "data_source": "BraTS 2018",
        "eval_metrics": {"val_mean_dice": 0.8518},
        "intended_use": "an example",
        "references": ["a paper"],
        "network_data_format": {
            "inputs": {"image": {"channel_def": {"0": "T1c", "1": "T1", "2": "T2", "3": "FLAIR"}}},
            "outputs": {"pred": {"channel_def": {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"}}},
        },
    }


def inference(network: dict[str, Any]) -> dict[str, Any]:
    return {
        "network_def": {"_target_": "SegResNet", **network},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image", "image_only": False},
                {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True},
            ],
        },
    }


def zoo_bundle(folder: Path, network: dict[str, Any] | None = None) -> Path:
    """``configs`` and ``models/model.pt``."""
    network = network or TINY
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata()))
    (folder / "configs" / "inference.json").write_text(json.dumps(inference(network)))
    torch.save(monai_network(network).state_dict(), folder / "models" / "model.pt")
    return folder


def edit(path: Path, change: Any) -> None:
    """Alter a JSON file."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
