"""A model as a MONAI bundle: a folder that ``python -m monai.bundle run`` runs on its own.

The bundle carries the rooms of this package that lie between files and labels, byte for byte. So it needs no
installation of the package, gives the same numbers as ``brats-seg segment``, and no second implementation of the
preparation exists that could drift from the first.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from brats_seg.core.errors import OutputError
from brats_seg.models.card import ModelBundle, file_sha256
from brats_seg.models.torch_engine import build_network

PACKAGE = Path(__file__).resolve().parents[1]
ROOMS = ("core", "files", "imaging", "volumetrics", "networks", "models", "segment")
"""What a bundle carries of the package."""

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

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
LOGGING = """\
[loggers]
keys=root

[handlers]
keys=consoleHandler

[formatters]
keys=plain

[logger_root]
level=WARNING
handlers=consoleHandler

[handler_consoleHandler]
class=StreamHandler
formatter=plain
args=(sys.stderr,)

[formatter_plain]
format=%(levelname)s - %(message)s
"""
"""``configs/logging.conf``, which MONAI looks for: warnings only."""

_IMAGE = {"type": "image", "dtype": "float32", "is_patch_data": False}


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
    _write_json(bundle.card.to_dict(), folder / "configs" / OWN_CARD)
    _write_json(inference_config(), folder / "configs" / "inference.json")
    _write_json(datalist_config(), folder / "configs" / "inference_datalist.json")
    _write_json(_metadata(bundle, file_sha256(folder / "models" / "model.pt")), folder / "configs" / "metadata.json")
    (folder / "configs" / "logging.conf").write_text(LOGGING, encoding="utf-8")
    (folder / "docs" / "README.md").write_text(_readme(bundle), encoding="utf-8")


def inference_config() -> dict[str, Any]:
    """``inference.json``: every study of a folder, through MONAI's dataset, evaluator and writer."""
    parts = f"{PACKAGE.name}.transforms"
    return {
        "imports": [
            "$import json",
            "$import pathlib",
            f"$from {PACKAGE.name}.core.study import SEQUENCES",
            f"$from {PACKAGE.name}.files.find import find_studies",
            f"$from {PACKAGE.name}.files.find import study_from_files",
            f"$from {PACKAGE.name}.files.load import load_study",
        ],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "labels": None,
        "force": False,
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "card": f"$json.loads(pathlib.Path(@bundle_root, 'configs', '{OWN_CARD}').read_text(encoding='utf-8'))",
        "network_def": {"_target_": f"{parts}.StagedNetwork", "card": "@card"},
        "network": "$@network_def.to(@device)",
        "studies": "$list(find_studies(pathlib.Path(@dataset_dir)))",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Lambda", "func": "$load_study"},
                {"_target_": f"{parts}.PrepareStudy", "settings": "$@card['prepare']", "force": "@force"},
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "@studies", "transform": "@preprocessing"},
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "num_workers": 0,
            "collate_fn": "$lambda items: items[0]",
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": f"{parts}.RestoreStudy", "card": "@card", "labels": "@labels"},
                _saver("pred", "dseg", "uint8"),
                _saver("probabilities", "probseg", "float32"),
            ],
        },
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            },
            {"_target_": "StatsHandler", "iteration_log": False},
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "decollate": False,
            "amp": False,
        },
        "run": ["$@evaluator.run()"],
    }


def datalist_config() -> dict[str, Any]:
    """Override: studies from a MONAI data list, whose ``image`` holds the four files in the bundle's order."""
    files = "dict(zip(SEQUENCES, map(pathlib.Path, item['image'])))"
    return {
        "data_list_file_path": "$@bundle_root + '/configs/datalist.json'",
        "data_list_key": "testing",
        "datalist": "$monai.data.load_decathlon_datalist("
        "@data_list_file_path, data_list_key=@data_list_key, base_dir=@dataset_dir)",
        "studies": f"$[study_from_files({files}, study_id=item.get('id')) for item in @datalist]",
    }


def _saver(key: str, postfix: str, dtype: str) -> dict[str, Any]:
    return {
        "_target_": "SaveImaged",
        "keys": key,
        "output_dir": "@output_dir",
        "output_postfix": postfix,
        "output_dtype": dtype,
        "resample": False,
        "squeeze_end_dims": True,
        "separate_folder": True,
        "print_log": False,
    }


def _write_weights(bundle: ModelBundle, path: Path) -> None:
    """Tensors of every stage under the names they have in ``StagedNetwork``, single precision."""
    import torch  # noqa: PLC0415 - heavy

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
    sides = [f"{card.prepare.get('divisor', 32)}*n"] * 3
    probability = {"format": "probabilities", "value_range": [0, 1], "num_channels": 3}
    return {
        "schema": SCHEMA,
        "version": card.version,
        "changelog": {card.version: "exported"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in LIBRARIES if _is_installed(name)},
        "name": card.name,
        "task": "Segmentation of brain tumour regions in MRI",
        "description": card.description,
        "authors": "the authors of the weights; see docs/README.md",
        "copyright": f"weights: {card.licence}; code: see LICENSE",
        "data_source": card.trained_on,
        "data_type": "nibabel",
        "image_classes": "4 sequences: T1, T1CE, T2, FLAIR, skull-stripped; any of them may be missing",
        "label_classes": "whole tumour, tumour core, enhancing tumour",
        "pred_classes": "label map in BraTS 2023 numbers: 1 necrotic core, 2 edema, 3 enhancing tumour",
        "eval_metrics": dict(card.accuracy),
        "intended_use": "Research software, not a medical device.",
        "references": list(card.citations),
        "model_sha256": weights_sha256,
        "source_model_sha256": bundle.sha256,
        "network_data_format": {
            "inputs": {
                "image": {
                    **_IMAGE,
                    "format": "magnitude",
                    "modality": "MR",
                    "num_channels": 4,
                    "spatial_shape": sides,
                    "value_range": [],
                    "channel_def": {"0": "T1", "1": "T1CE", "2": "T2", "3": "FLAIR"},
                }
            },
            "outputs": {
                "pred": {
                    **_IMAGE,
                    **probability,
                    "spatial_shape": sides,
                    "channel_def": {"0": "Whole tumor", "1": "Tumor core", "2": "Enhancing tumor"},
                }
            },
        },
    }


def _readme(bundle: ModelBundle) -> str:
    card = bundle.card
    accuracy = "\n".join(f"- {name}: {value}" for name, value in card.accuracy.items()) or "- not stated"
    limits = "\n".join(f"- {limit}" for limit in card.limits) or "- not stated"
    citations = "\n".join(f"- {citation}" for citation in card.citations) or "- none stated"
    needs = " ".join(name for name in LIBRARIES)
    stages = " and ".join(f"{s.key} at {s.spacing_mm:g} mm ({s.architecture})" for s in card.stages)
    return f"""# {card.name} {card.version}

{card.description}

Research software, not a medical device.

## Run

```
pip install monai {needs}
python -m monai.bundle run --config_file configs/inference.json --dataset_dir STUDIES --output_dir OUT
```

`STUDIES` is a study's folder or a folder of studies, each with any of T1, T1CE, T2 and FLAIR as skull-stripped NIfTI,
recognised by name. With a MONAI data list (`image`: T1, T1CE, T2, FLAIR in that order; `id` optional):

```
python -m monai.bundle run --config_file "['configs/inference.json','configs/inference_datalist.json']" \\
    --data_list_file_path datalist.json --dataset_dir BASE --output_dir OUT
```

From another folder add `--bundle_root BUNDLE`. `OUT/<study>/` gets `<study>_dseg.nii.gz`, the label map (BraTS 2023
numbers; `--labels brats2021` for 1, 2, 4), and `<study>_probseg.nii.gz`, probabilities of whole tumour, tumour core and
enhancing tumour, both on the grid of T1CE where it is there.

## What runs

The network of this bundle is the whole model: {stages}, combined as in `brats-seg segment`. Preparation, combination
and post-processing are the functions of brats_seg itself, whose code lies in this folder unchanged, so the numbers are
the same and the package need not be installed. `network_def` takes prepared sequences (z-scores at the model's
spacing) and gives probabilities. Volumes, intervals and the report are not part of the bundle.

## Trained on

{card.trained_on}

## Accuracy

{accuracy}

## Limits

{limits}

## Cite

{citations}

## Licence

Code: see LICENSE. Weights: {card.licence}.
"""


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


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _write_json(values: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
