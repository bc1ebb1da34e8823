"""Engines: both give the same probabilities, and nothing falls back in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_models import small_model

from brats_seg.core.errors import DeviceError, ModelError, UsageError
from brats_seg.models import engine as engines
from brats_seg.models.card import ModelBundle, read_bundle
from brats_seg.models.engine import OpenVINOEngine, choose_engine, open_engine
from brats_seg.models.torch_engine import TorchEngine


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return small_model(tmp_path_factory.mktemp("models") / "small", stages=("coarse",), openvino=True)


def probabilities(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_engines_agree_at_any_size(bundle: ModelBundle) -> None:
    stage = bundle.card.stages[0]
    assert stage.openvino == "coarse.xml"
    first, second = TorchEngine(bundle, stage), OpenVINOEngine(bundle, stage)
    rng = np.random.default_rng(0)
    for shape in [(16, 24, 16), (8, 20, 12)]:
        array = rng.normal(size=(4, *shape)).astype(np.float32)
        a, b = first.logits(array), second.logits(array)
        assert a.shape == b.shape == (3, *shape)
        assert a.dtype == b.dtype == np.float32
        assert a.std() > 0.01  # two constants would agree too
        np.testing.assert_allclose(probabilities(a), probabilities(b), atol=1e-3)


def test_an_engine_takes_arrays_that_are_not_contiguous(bundle: ModelBundle) -> None:
    stage = bundle.card.stages[0]
    array = np.random.default_rng(0).normal(size=(4, 8, 8, 8)).astype(np.float32)[:, ::-1]
    for engine in (TorchEngine(bundle, stage), OpenVINOEngine(bundle, stage)):
        np.testing.assert_allclose(engine.logits(array), engine.logits(array.copy()), atol=1e-6)


def test_a_stage_without_export_is_converted_on_the_spot(tmp_path: Path) -> None:
    bundle = small_model(tmp_path / "small", stages=("fine",))
    stage = bundle.card.stages[0]
    assert stage.openvino is None
    array = np.random.default_rng(1).normal(size=(4, 8, 8, 8)).astype(np.float32)
    a = open_engine(bundle, stage, engine="torch", device="cpu").logits(array)
    b = open_engine(bundle, stage, engine="openvino", device="cpu").logits(array)
    np.testing.assert_allclose(probabilities(a), probabilities(b), atol=1e-3)


@pytest.mark.parametrize("name", ["coarse.bin", "coarse.xml"])
def test_an_altered_export_is_refused(bundle: ModelBundle, tmp_path: Path, name: str) -> None:
    for path in bundle.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(data)
    copy = read_bundle(tmp_path)
    with pytest.raises(ModelError, match=f"{name} of model small is damaged or altered"):
        OpenVINOEngine(copy, copy.card.stages[0])
    TorchEngine(copy, copy.card.stages[0])  # the weights themselves are whole


@pytest.mark.parametrize(
    ("engine", "device", "gpus", "expected"),
    [
        ("auto", "auto", 0, ("openvino", "cpu")),
        ("auto", "cpu", 1, ("openvino", "cpu")),
        ("auto", "auto", 1, ("torch", "cuda")),
        ("torch", "auto", 0, ("torch", "cpu")),
        ("torch", "auto", 2, ("torch", "cuda")),
        ("torch", "cpu", 1, ("torch", "cpu")),
        ("openvino", "auto", 1, ("openvino", "cpu")),
        ("auto", "cuda:1", 2, ("torch", "cuda:1")),
    ],
)
def test_what_auto_means(
    engine: str, device: str, gpus: int, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_gpu_count", lambda kind: gpus if kind == "cuda" else 0)
    monkeypatch.setattr(engines, "_sees_nvidia", lambda: gpus > 0)
    assert choose_engine(engine, device) == expected


@pytest.mark.parametrize(
    ("engine", "device", "gpus", "error"),
    [
        ("auto", "cuda", 0, DeviceError),
        ("torch", "cuda:1", 1, DeviceError),
        ("openvino", "cuda", 1, UsageError),
        ("tensorrt", "cpu", 0, UsageError),
        ("auto", "mps", 0, DeviceError),
        ("auto", "cuda:first", 1, UsageError),
        ("auto", "mps:1", 1, UsageError),
        ("auto", "", 0, UsageError),
    ],
)
def test_what_cannot_be_had_is_refused(
    engine: str, device: str, gpus: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_gpu_count", lambda kind: gpus if kind == "cuda" else 0)
    monkeypatch.setattr(engines, "_sees_nvidia", lambda: gpus > 0)
    with pytest.raises(error) as caught:
        choose_engine(engine, device)
    assert caught.value.exit_code == {DeviceError: 5, UsageError: 2}[error]  # type: ignore[attr-defined,index]


def test_cuda_asked_for_where_there_is_none() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="0 CUDA devices; pass --device cpu"):
        choose_engine("auto", "cuda")
