"""ONNX and OpenVINO files: the same values as PyTorch at any size, described well enough to be run elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_models import small_model

from brats_seg.core.errors import ModelError
from brats_seg.exchange import exporting
from brats_seg.exchange.exporting import DESCRIPTION, export_networks
from brats_seg.models.card import ModelBundle, file_sha256
from brats_seg.models.engine import OpenVINOEngine
from brats_seg.models.torch_engine import TorchEngine


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def described(folder: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / DESCRIPTION).read_text())
    return values


def test_onnx_files_give_pytorchs_values_for_any_batch_and_size_in_another_runtime(
    bundle: ModelBundle, folder: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    import onnx

    checks = export_networks(bundle, folder, "onnx")
    assert sorted(path.name for path in folder.iterdir()) == ["coarse.onnx", DESCRIPTION, "fine.onnx"]
    for stage in bundle.card.stages:
        assert checks[stage.name].difference < 1e-5
        path = folder / f"{stage.name}.onnx"
        words = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
        assert words["input_channels"] == "t1,t1ce,t2,flair"
        assert words["output_channels"] == "WT,TC,ET"
        batch = np.random.default_rng(1).normal(size=(2, 4, 12, 8, 16)).astype(np.float32)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"image": batch})
        engine = TorchEngine(bundle, stage)
        np.testing.assert_allclose(found, [engine.logits(one) for one in batch], atol=1e-4)
        assert found.std() > 0.01
    stages = described(folder)["stages"]
    assert isinstance(stages, list)
    assert [entry["files"] for entry in stages] == [
        {f"{name}.onnx": file_sha256(folder / f"{name}.onnx")} for name in ("coarse", "fine")
    ]
    assert [entry["input"]["sides"] for entry in stages] == ["multiples of 4"] * 2
    assert [entry["spacing_mm"] for entry in stages] == [2.0, 1.0]


@pytest.mark.parametrize(("error", "words"), [(0.1, r"up to 0.02\d from"), (np.nan, "up to nan")])
def test_a_file_that_gives_other_values_is_not_kept(
    bundle: ModelBundle, folder: Path, monkeypatch: pytest.MonkeyPatch, error: float, words: str
) -> None:
    right = OpenVINOEngine.logits
    monkeypatch.setattr(exporting.OpenVINOEngine, "logits", lambda self, array: right(self, array) + np.float32(error))
    with pytest.raises(ModelError, match=f"coarse.onnx gives probabilities {words}"):
        export_networks(bundle, folder, "onnx")


def test_openvino_files_give_pytorchs_values(bundle: ModelBundle, folder: Path) -> None:
    made = export_networks(bundle, folder, "openvino")
    names = ["coarse.bin", "coarse.xml", DESCRIPTION, "fine.bin", "fine.xml"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all(check.difference < 1e-3 for check in made.values())
    array = np.random.default_rng(1).normal(size=(4, 8, 16, 12)).astype(np.float32)
    found = OpenVINOEngine(folder / "fine.xml").logits(array)
    np.testing.assert_allclose(found, TorchEngine(bundle, bundle.card.stages[1]).logits(array), atol=1e-2)


def test_a_file_that_openvino_cannot_read_is_named(folder: Path) -> None:
    (folder / "x.xml").write_text("<net/>")
    with pytest.raises(ModelError, match=r"OpenVINO cannot read x.xml"):
        OpenVINOEngine(folder / "x.xml")
