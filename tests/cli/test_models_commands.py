"""``brats-seg models import`` and ``export`` as a user runs them, and bundles run by MONAI itself."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from cli_studies import SPACING_MM, Outcome, entries, write_case
from foreign_models import TINY, monai_network, zoo_bundle
from safetensors.torch import save_file
from small_models import small_card, small_network

from brats_seg.core.study import MRSequence
from brats_seg.models.assemble import write_model
from brats_seg.models.rules import PostprocessConfig, RequireCore
from brats_seg.models.torch_engine import read_weights
from brats_seg.networks.attention_unet import AttentionUNet


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of both stages with random weights at the spacing of the small studies."""
    root = tmp_path_factory.mktemp("two")
    weights = {}
    for number, name in enumerate(("coarse", "fine")):
        torch.manual_seed(number)
        weights[name] = root / f"{name}.safetensors"
        save_file(AttentionUNet(small_network(name, cascaded=True)).state_dict(), weights[name])
    post = PostprocessConfig(
        roi_threshold=0.3, roi_margin_mm=2.0, fine_weight=0.7, rules=(RequireCore("WT", "TC", min_ml=1.0),)
    )
    card = small_card(("coarse", "fine"), post, prepared_mm=SPACING_MM, cascaded=True)
    card = replace(card, prepare={**card.prepare, "percentiles": (0.5, 99.5)})
    return write_model(weights, card, root / "model", onnx=False).folder


@dataclass(frozen=True)
class Exported:
    """A model, and the MONAI bundle made of it."""

    model: Path
    bundle: Path


@pytest.fixture(scope="module")
def exported(two_stages: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    from brats_seg.cli import main

    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    assert main(["models", "export", str(two_stages), "--format", "monai", "-o", str(folder)]) == 0
    return Exported(two_stages, folder)


@pytest.fixture(scope="module")
def monai_bundle(exported: Exported) -> Path:
    return exported.bundle


def labels_and_probabilities(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dseg = nib.load(folder / name / f"{name}_dseg.nii.gz")
    probseg = nib.load(folder / name / f"{name}_probseg.nii.gz")
    np.testing.assert_allclose(dseg.affine, probseg.affine)
    return np.asarray(dseg.dataobj), np.asarray(probseg.dataobj), dseg.affine


def assert_same_results(ours: Path, theirs: Path, name: str) -> None:
    expected, probabilities, affine = labels_and_probabilities(ours, name)
    found, their_probabilities, their_affine = labels_and_probabilities(theirs, name)
    assert len(np.unique(expected)) > 1  # something was found
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(their_probabilities, probabilities, atol=1e-4)  # ours are stored rounded
    np.testing.assert_allclose(their_affine, affine, atol=1e-5)


def test_monai_runs_the_exported_bundle_with_the_same_results(
    cli: Callable[..., Outcome], exported: Exported, case: Path, out: Path
) -> None:
    pytest.importorskip("fire"), pytest.importorskip("ignite")
    tmp_path, two_stages = out.parent, exported.model
    flair_only = write_case(tmp_path / "in" / "second", sequences=(MRSequence.T1CE, MRSequence.FLAIR))
    assert cli("segment", case.parent, "-o", out, "--model", two_stages, "--engine", "torch", "--no-report").code == 0
    bundle = shutil.copytree(exported.bundle, tmp_path / "bundle")
    with (bundle / "brats_seg" / "transforms.py").open("a") as parts:
        parts.write("\nprint('the code of the bundle')\n")
    # In a process of its own, as a user does: MONAI puts the bundle's code before what is installed, for good.
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"]
    command += ["--config_file", str(bundle / "configs" / "inference.json"), "--bundle_root", str(bundle)]
    command += ["--dataset_dir", str(case.parent), "--output_dir", str(tmp_path / "theirs")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "the code of the bundle" in done.stdout  # not that of an installed package
    for name in (case.name, flair_only.name):
        assert_same_results(out, tmp_path / "theirs", name)


def test_monai_runs_the_bundle_on_a_data_list(
    cli: Callable[..., Outcome], exported: Exported, case: Path, out: Path
) -> None:
    pytest.importorskip("ignite")
    from monai.bundle import ConfigParser

    images = [f"case/case_{name}.nii.gz" for name in ("t1", "t1ce", "t2", "flair")]
    datalist = out.parent / "list.json"
    datalist.write_text(json.dumps({"testing": [{"id": "one", "image": images}]}))
    parser = ConfigParser()
    parser.read_config([exported.bundle / "configs" / f"{name}.json" for name in ("inference", "inference_datalist")])
    parser.update(
        {
            "bundle_root": str(exported.bundle),
            "data_list_file_path": str(datalist),
            "dataset_dir": str(case.parent),
            "output_dir": str(out.parent / "theirs"),
            "labels": "brats2021",
        }
    )
    parser.get_parsed_content("run")
    model = ["--model", exported.model, "--engine", "torch", "--no-report", "--labels", "brats2021", "--id", "one"]
    assert cli("segment", case, "-o", out, *model).code == 0
    assert_same_results(out, out.parent / "theirs", "one")


def test_the_bundle_is_what_monai_specifies(monai_bundle: Path) -> None:
    held = {path.relative_to(monai_bundle).as_posix() for path in monai_bundle.rglob("*")}
    configs = {f"configs/{name}" for name in ("metadata.json", "inference.json", "inference_datalist.json")}
    assert configs | {"LICENSE", "docs/README.md", "models/model.pt", "configs/logging.conf"} <= held
    assert not [name for name in held if "__pycache__" in name or name.startswith("brats_seg/models/weights")]
    metadata = json.loads((monai_bundle / "configs" / "metadata.json").read_text())
    wanted = {"version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"}
    wanted |= {"task", "description", "authors", "copyright", "network_data_format"}
    assert wanted <= set(metadata)
    ports = metadata["network_data_format"]
    assert list(ports["inputs"]["image"]["channel_def"].values()) == ["T1", "T1CE", "T2", "FLAIR"]
    spoken = configparser.ConfigParser(interpolation=None)
    spoken.read(monai_bundle / "configs" / "logging.conf")
    assert spoken["logger_root"]["level"] == "WARNING"
    assert "random weights" in (monai_bundle / "docs" / "README.md").read_text()
    for room in ("core", "files", "imaging", "volumetrics", "networks", "models", "segment"):
        for source in (Path(__file__).parents[2] / "brats_seg" / room).glob("*.py"):
            assert (monai_bundle / "brats_seg" / room / source.name).read_bytes() == source.read_bytes()


def test_the_network_of_the_bundle_takes_prepared_sequences(monai_bundle: Path) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(monai_bundle / "configs" / "inference.json")
    parser["bundle_root"] = str(monai_bundle)
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(monai_bundle / "models" / "model.pt", weights_only=True))
    batch = torch.randn(2, 4, 16, 16, 8)
    with torch.inference_mode():
        found = network(batch)
        alone = network(batch[1:])
    assert found.shape == (2, 3, 16, 16, 8)
    assert torch.equal(found[1:], alone)
    assert (found[:, 1] <= found[:, 0]).all()
    assert (found[:, 2] <= found[:, 1]).all()


def test_an_exported_bundle_comes_back_as_the_model_it_was(
    cli: Callable[..., Outcome], monai_bundle: Path, two_stages: Path, tmp_path: Path
) -> None:
    assert cli("models", "import", monai_bundle, "-o", tmp_path / "back").code == 0
    for name in ("coarse", "fine"):
        before, after = (
            read_weights(folder / name)
            for folder, name in ((two_stages, f"{name}.safetensors"), (tmp_path / "back", f"{name}.onnx"))
        )
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_zoo_bundle_is_imported_and_segments(
    cli: Callable[..., Outcome], segment: Callable[..., Outcome], case: Path, out: Path, tmp_path: Path
) -> None:
    source = zoo_bundle(tmp_path / "brats_mri_segmentation")
    state = monai_network(TINY).state_dict()
    state["conv_final.2.conv.bias"] = torch.tensor([-30.0, 30.0, -30.0])  # sure of whole tumour, and of nothing else
    torch.save(state, source / "models" / "model.pt")
    values = json.loads((source / "configs" / "inference.json").read_text())
    values["preprocessing"]["transforms"].append({"_target_": "Spacingd", "pixdim": [SPACING_MM] * 3})
    (source / "configs" / "inference.json").write_text(json.dumps(values))
    made = cli("models", "import", source, "-o", tmp_path / "model")
    assert made.code == 0, made.err
    assert "takes t1ce, t1, t2, flair along LPS, gives TC, WT, ET" in made.out
    done = segment(case, "--model", tmp_path / "model")
    assert done.code == 0, done.err
    found = np.asarray(nib.load(out / "case" / "case_dseg.nii.gz").dataobj)
    assert sorted(np.unique(found)) == [0, 2]  # edema: whole tumour without core
    assert json.loads((out / "case" / "run.json").read_text())["model"]["name"] == "BraTS_MRI_segmentation"


def test_a_state_dict_is_imported_with_a_card(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    torch.save(monai_network(TINY).state_dict(), tmp_path / "w.pt")
    (tmp_path / "card.yaml").write_text(
        "name: mine\narchitecture: segresnet\nnetwork: {init_filters: 8, blocks_down: [1, 1], blocks_up: [1]}\n"
        "regions: [TC, WT, ET]\nknows_treated_brains: true\n"
    )
    made = cli("models", "import", tmp_path / "w.pt", "--card", tmp_path / "card.yaml", "-o", tmp_path / "model")
    assert made.code == 0, made.err
    assert entries(tmp_path / "model") == ["coarse.onnx", "model.json"]
    assert json.loads((tmp_path / "model" / "model.json").read_text())["knows_treated_brains"] is True


CARD = (
    "name: mine\narchitecture: segresnet\nknows_treated_brains: false\n"
    "network: {init_filters: 8, blocks_down: [1, 1], blocks_up: [1]}\n"
)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (None, (2, "add --card YAML")),
        ("name: mine\n", (4, "missing ['architecture', 'knows_treated_brains']")),
        (CARD.replace("false", "un-treated"), (4, "knows_treated_brains 'un-treated' must be true or false")),
        ("name: [", (3, "YAML")),
        (CARD + "prepare: {colour: 1}\n", (4, "prepare: there is no setting colour")),
        (CARD + "prepare: {percentiles: [90, 10]}\n", (4, "percentiles")),
        (CARD.replace("8", "16"), (4, "does not fit segresnet")),
    ],
)
def test_what_cannot_be_imported_leaves_nothing(
    cli: Callable[..., Outcome], tmp_path: Path, card: str | None, expected: tuple[int, str]
) -> None:
    torch.save(monai_network(TINY).state_dict(), tmp_path / "w.pt")
    extra: list[object] = []
    if card is not None:
        (tmp_path / "card.yaml").write_text(card)
        extra = ["--card", tmp_path / "card.yaml"]
    done = cli("models", "import", tmp_path / "w.pt", "-o", tmp_path / "out" / "model", *extra)
    assert (done.code, expected[1] in done.err) == (expected[0], True), done.err
    assert done.code == 3 or done.err.count("\n") == 1  # a YAML error shows the place
    assert entries(tmp_path / "out") == []


def test_sources_that_are_no_models(cli: Callable[..., Outcome], tmp_path: Path, two_stages: Path) -> None:
    done = cli("models", "import", tmp_path / "absent", "-o", tmp_path / "model")
    assert (done.code, "there is no file or folder" in done.err) == (4, True)
    done = cli("models", "import", two_stages, "-o", tmp_path / "model")
    assert (done.code, "no MONAI bundle" in done.err) == (4, True)
    (tmp_path / "card.yaml").write_text(CARD)
    done = cli("models", "import", two_stages, "--card", tmp_path / "card.yaml", "-o", tmp_path / "model")
    assert (done.code, "leave --card out" in done.err) == (2, True)


def test_exports_are_whole_or_not_at_all(cli: Callable[..., Outcome], two_stages: Path, tmp_path: Path) -> None:
    done = cli("models", "export", "nonsense", "--format", "onnx", "-o", tmp_path / "x")
    assert (done.code, "there is no model 'nonsense'" in done.err) == (4, True)
    assert cli("models", "export", two_stages, "--format", "tflite", "-o", tmp_path / "x").code == 2
    assert cli("models", "export", two_stages, "-o", tmp_path / "x").code == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert cli("models", "export", two_stages, "--format", "openvino", "-o", tmp_path / "full").code == 6
    assert entries(tmp_path / "full") == ["mine.txt"]
    assert not (tmp_path / "x").exists()


def test_onnx_files_of_both_stages(cli: Callable[..., Outcome], two_stages: Path, tmp_path: Path) -> None:
    done = cli("models", "export", two_stages, "--format", "onnx", "-o", tmp_path / "onnx")
    assert done.code == 0, done.err
    assert done.out.count("checked with openvino") == 2
    assert entries(tmp_path / "onnx") == ["coarse.onnx", "description.json", "fine.onnx"]
    stages = json.loads((tmp_path / "onnx" / "description.json").read_text())["stages"]
    assert stages[1]["input_channels"][4:] == ["coarse WT", "coarse TC", "coarse ET"]
