"""Foreign weights: right order of channels and regions, and refusal of what cannot be repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_models import PUBLISHED, TINY, edit, monai_network, zoo_bundle
from safetensors.torch import save_file
from small_models import NETWORK

from brats_seg.core.errors import ModelError
from brats_seg.exchange.importing import card_from_description, describe_bundle, import_bundle, import_weights
from brats_seg.models.card import find_model
from brats_seg.models.engine import open_engine
from brats_seg.networks.attention_unet import AttentionUNet
from brats_seg.networks.registry import network_config
from brats_seg.segment.memory import RESERVE_BYTES, largest_window, pass_bytes


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return zoo_bundle(tmp_path / "brats_mri_segmentation")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_zoo_bundle_sees_its_own_channels_and_answers_in_our_regions(bundle: Path, made: Path, engine: str) -> None:
    import_bundle(bundle, made)
    model = find_model(str(made))
    (stage,) = model.card.stages
    array = np.random.default_rng(0).normal(size=(4, 8, 6, 4)).astype(np.float32)
    t1, t1ce, t2, flair = array
    theirs = torch.from_numpy(np.stack([t1ce, t1, t2, flair])).flip(1, 2)[None]  # LPS, as BraTS files lie
    with torch.inference_mode():
        tc, wt, et = monai_network(TINY)(theirs)[0].flip(1, 2).numpy()
    found = open_engine(model, stage, engine=engine, device="cpu").logits(array)
    np.testing.assert_allclose(found, np.stack([wt, tc, et]), atol=1e-6 if engine == "torch" else 1e-3)
    assert np.abs(wt - tc).max() > 0.05  # a swap would show


def test_the_published_network_is_imported_with_what_its_files_say(tmp_path: Path, made: Path) -> None:
    source = zoo_bundle(tmp_path / "brats_mri_segmentation", PUBLISHED)
    card = import_bundle(source, made).card
    (stage,) = card.stages
    assert stage.architecture == "segresnet"
    assert {key: stage.network[key] for key in PUBLISHED} == {
        **PUBLISHED,
        "blocks_down": (1, 2, 2, 4),
        "blocks_up": (1, 1, 1),
    }
    assert (stage.layout.sequences, stage.layout.regions) == (("t1ce", "t1", "t2", "flair"), ("TC", "WT", "ET"))
    assert (stage.layout.axes, stage.spacing_mm, stage.shape.divisor) == ("LPS", 1.0, 8)
    assert card.prepare["percentiles"] == [0.0, 100.0]  # a plain z-score
    assert card.prepare["margin"] > 240  # the whole field of view
    assert (card.postprocess.thresholds, card.postprocess.rules) == ({}, ())
    assert (card.name, card.version) == ("BraTS_MRI_segmentation", "0.5.3")
    assert card.accuracy == {"published with the bundle, not measured here": "val_mean_dice 0.8518"}


def test_a_bundle_in_yaml_and_with_its_own_orientation(bundle: Path) -> None:
    configs = bundle / "configs"
    text = (configs / "inference.json").read_text()
    (configs / "inference.json").unlink()
    values = json.loads(text)
    values["preprocessing"]["transforms"][1:1] = [
        {"_target_": "monai.transforms.Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [2, 2.0, 2]},
    ]
    (configs / "inference.yaml").write_text(json.dumps(values))  # JSON is YAML
    described = describe_bundle(bundle)
    assert (described["axes"], described["spacing_mm"], described["prepare"]["spacing_mm"]) == ("RAS", 2.0, 2.0)


META, INFER = "configs/metadata.json", "configs/inference.json"


def outputs(values: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = values["network_data_format"]["outputs"]["pred"]["channel_def"]
    return found


BAD_BUNDLES: dict[str, tuple[str, Any, str]] = {
    "no channel names": (META, lambda m: m.pop("network_data_format"), "does not number its inputs"),
    "gap in channels": (META, lambda m: outputs(m).pop("1"), "does not number its outputs"),
    "other regions": (META, lambda m: outputs(m).update({"1": "Liver"}), "not known here: Liver"),
    "region twice": (META, lambda m: outputs(m).update({"1": "Tumor core"}), "must be WT, TC, ET"),
    "other network": (INFER, lambda i: i["network_def"].update(_target_="UNet"), "is a UNet"),
    "no network": (INFER, lambda i: i.pop("network_def"), "is a nothing"),
    "expression": (INFER, lambda i: i["network_def"].update(init_filters="$4*4"), r"expressions \(init_filters\)"),
    "other norm": (INFER, lambda i: i["network_def"].update(norm="BATCH"), "sets norm"),
    "two dimensions": (INFER, lambda i: i["network_def"].update(spatial_dims=2), "spatial_dims 2"),
    "one channel": (INFER, lambda i: i["network_def"].pop("in_channels"), "takes 1 channels"),
    "odd filters": (INFER, lambda i: i["network_def"].update(init_filters=9), "init_filters 9"),
    "other depth": (INFER, lambda i: i["network_def"].update(blocks_down=[1, 2]), r"lacks \d+ of"),
    "no preparation": (INFER, lambda i: i.pop("preprocessing"), "does not list how"),
    "clever scaling": (
        INFER,
        lambda i: i["preprocessing"]["transforms"].append({"_target_": "ScaleIntensityd"}),
        "ScaleIntensity",
    ),
    "other z-score": (
        INFER,
        lambda i: i["preprocessing"]["transforms"][1].update(nonzero=False),
        "NormalizeIntensity in a way",
    ),
    "thick voxels": (
        INFER,
        lambda i: i["preprocessing"]["transforms"].append({"_target_": "Spacingd", "pixdim": [1, 1, 3]}),
        "Spacing in a way",
    ),
    "no z-score": (INFER, lambda i: i["preprocessing"]["transforms"].pop(), "does not normalise"),
}


@pytest.mark.parametrize("what", BAD_BUNDLES)
def test_bundles_that_cannot_be_repeated_are_refused(bundle: Path, made: Path, what: str) -> None:
    file, change, words = BAD_BUNDLES[what]
    edit(bundle / file, change)
    with pytest.raises(ModelError, match=words) as caught:
        import_bundle(bundle, made)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (META, None, "is no MONAI bundle"),
        (INFER, None, "has no configs/inference.json"),
        ("models/model.pt", None, "has no models/model.pt, the weights"),
        (META, "{", "damaged"),
        (INFER, "[1]", "no keys and values"),
        (META, "[" * 100_000, "damaged"),
    ],
)
def test_bundles_with_missing_or_damaged_files(bundle: Path, made: Path, file: str, content: str, words: str) -> None:
    path = bundle / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelError, match=words):
        import_bundle(bundle, made)


def test_any_network_of_the_project_by_its_description(tmp_path: Path, made: Path) -> None:
    torch.manual_seed(3)
    network = AttentionUNet(NETWORK).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    described = {
        "name": "mine",
        "knows_treated_brains": True,
        "architecture": "attention_unet",
        "network": {"widths": [8, 16], "depths": [1, 1]},
        "spacing_mm": 2,
        "sequences": ["flair", "t2", "t1", "t1ce"],
        "licence": "MIT",
    }
    card = import_weights(tmp_path / "w.safetensors", described, made, where="card.yaml").card
    assert (card.name, card.licence, card.trained_on, card.stages[0].name) == ("mine", "MIT", "not stated", "coarse")
    model = find_model(str(made))
    assert json.dumps(model.card.to_dict()) == json.dumps(card.to_dict())
    array = np.random.default_rng(0).normal(size=(4, 8, 8, 8)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(array[[3, 2, 0, 1]])[None])[0].numpy()
    found = open_engine(model, model.card.stages[0], engine="torch", device="cpu").logits(array)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": None}, r"missing \['name'\]"),
        ({"architecture": None}, r"missing \['architecture'\]"),
        ({"architecture": "unet"}, "architecture 'unet' is unknown; known: attention_unet, segresnet"),
        ({"stages": []}, r"unknown \['stages'\]"),
        ({"colour": "blue"}, r"unknown \['colour'\]"),
        ({"sequences": ["t1", "t2"]}, "shown_by flair, which is not among sequences"),
        ({"sequences": "t1"}, "sequences 't1' must list"),
        ({"regions": None, "axes": "XYZ"}, "axes 'XYZ'"),
        ({"network": {"in_channels": 1}}, "takes 1 channels and gives 3"),
        ({"network": {"colour": 1}}, "colour"),
        ({"network": [1]}, "no network|no model card"),
        ({"network": {"widths": 5}}, "no network"),
        ({"spacing_mm": 1.5}, "spacing_mm 1.5 of stage coarse must be"),
        ({"spacing_mm": 0}, "spacing_mm of stage coarse 0 must be a number from 0.1"),
        ({"spacing_mm": "big"}, "spacing_mm of stage coarse 'big' must be a number"),
        ({"version": 0.7}, "version 0.7 must be text"),
        ({"name": "../../evil"}, r"name '\.\./\.\./evil' must be text"),
        ({"limits": "children"}, "limits 'children' must be a list"),
        ({"limits": [1, 2]}, "an entry of limits 1 must be"),
        ({"accuracy": [1, 2]}, r"accuracy \[1, 2\] must hold keys and values"),
        ({"subsets": {"t1": 5}}, "subsets.t1 5 must hold keys and values"),
        ({"subsets": {"t2+t1": {"WT": 0.5}}}, r"subsets has the row 't2\+t1'"),
        ({"accuracy": {"Dice": float("nan")}}, "accuracy.Dice must be a finite number"),
        ({1: 2, "x": 3}, r"unknown \['1', 'x'\]"),
        ({"prepare": {"divisor": 24}}, "multiples of 24"),
        ({"prepare": [1]}, "prepare .* must hold keys and values"),
        ({"postprocess": {"thresholds": {"WT": 2}}}, "from 0.01 to 0.99"),
        ({"postprocess": None, "held_out": 3}, "no model card"),
    ],
)
def test_descriptions_that_make_no_model_are_refused(change: dict[str, Any], words: str) -> None:
    described = {"name": "m", "architecture": "attention_unet", "knows_treated_brains": False, **change}
    described = {key: value for key, value in described.items() if value is not None}
    with pytest.raises(ModelError, match=words) as caught:
        card_from_description(described, where="card.yaml")
    assert "\n" not in str(caught.value)


def test_a_heavier_network_gets_smaller_windows() -> None:
    whole = (96, 96, 96)
    enough = pass_bytes(whole, "torch") + RESERVE_BYTES
    assert largest_window(whole, 8, engine="torch", free_bytes=enough) == whole
    heavy = network_config("segresnet", {}).relative_memory
    window = largest_window(whole, 8, engine="torch", free_bytes=enough, scale=heavy)
    assert pass_bytes(window, "torch", scale=heavy) + RESERVE_BYTES <= enough
    assert max(window) <= 96
    assert min(window) < 96
