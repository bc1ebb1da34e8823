"""ONNX and OpenVINO files: the same values as PyTorch at any size, described well enough to be run elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_models import small_model

from brats_seg.core.errors import DeviceError, ModelError
from brats_seg.exchange import exporting
from brats_seg.exchange.exporting import DESCRIPTION, export_onnx, export_openvino
from brats_seg.models.card import ModelBundle, file_sha256
from brats_seg.models.engine import CompiledEngine
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


def test_onnx_files_give_pytorchs_values_for_any_batch_and_size(bundle: ModelBundle, folder: Path) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    checks = export_onnx(bundle, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["coarse.onnx", DESCRIPTION, "fine.onnx"]
    for stage in bundle.card.stages:
        assert checks[stage.name].runtime == f"onnxruntime {onnxruntime.__version__}"
        assert checks[stage.name].difference is not None
        assert checks[stage.name].difference < 1e-5
        path = folder / f"{stage.name}.onnx"
        model = onnx.load(str(path))
        assert [entry.version for entry in model.opset_import if entry.domain == ""] == [17]
        words = {entry.key: entry.value for entry in model.metadata_props}
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


def test_without_the_packages_it_is_said(bundle: ModelBundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxruntime" else True)
    checks = export_onnx(bundle, folder)
    assert all(check.difference is None for check in checks.values())
    assert "not checked: onnxruntime is not installed" in str(checks["fine"])
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"pip install 'brats-seg\[onnx\]'"):
        export_onnx(bundle, folder)


def test_a_file_that_gives_other_values_is_not_kept(
    bundle: ModelBundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    right = exporting._onnx_logits
    monkeypatch.setattr(exporting, "_onnx_logits", lambda path: lambda array: right(path)(array) + np.float32(0.1))
    with pytest.raises(ModelError, match=r"coarse.onnx gives probabilities up to 0.02\d from PyTorch's"):
        export_onnx(bundle, folder)
    monkeypatch.setattr(exporting, "_onnx_logits", lambda path: lambda array: right(path)(array) * np.float32("nan"))
    with pytest.raises(ModelError, match="up to nan"):
        export_onnx(bundle, folder)


def test_openvino_files_are_those_of_the_model_or_made(bundle: ModelBundle, folder: Path, tmp_path: Path) -> None:
    made = export_openvino(bundle, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "coarse.bin",
        "coarse.xml",
        DESCRIPTION,
        "fine.bin",
        "fine.xml",
    ]
    assert all(check.difference is not None and check.difference < 1e-3 for check in made.values())
    stage = bundle.card.stages[1]
    array = np.random.default_rng(1).normal(size=(4, 8, 16, 12)).astype(np.float32)
    found = CompiledEngine(folder / "fine.xml").logits(array)
    np.testing.assert_allclose(found, TorchEngine(bundle, stage).logits(array), atol=1e-2)
    held = small_model(tmp_path / "exported", stages=("coarse",), openvino=True)
    again = tmp_path / "again"
    again.mkdir()
    export_openvino(held, again)
    for name in ("coarse.xml", "coarse.bin"):
        assert (again / name).read_bytes() == (held.folder / name).read_bytes()


def test_a_file_that_openvino_cannot_read_is_named(folder: Path) -> None:
    (folder / "x.xml").write_text("<net/>")
    with pytest.raises(ModelError, match=r"OpenVINO cannot read x.xml"):
        CompiledEngine(folder / "x.xml")
