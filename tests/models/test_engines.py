"""Engines: both give the same probabilities, and nothing falls back in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import small_model

from brats_seg.core.errors import DeviceError, ModelError, UsageError
from brats_seg.models import engine as engines
from brats_seg.models.assemble import write_model
from brats_seg.models.card import ModelBundle, read_bundle
from brats_seg.models.engine import OnnxRuntimeEngine, OpenVINOEngine, choose_engine, open_engine
from brats_seg.models.torch_engine import TorchEngine, build_network, read_weights


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return small_model(tmp_path_factory.mktemp("models") / "small", stages=("coarse",), onnx=True)


def network_file(bundle: ModelBundle) -> Path:
    (stage,) = bundle.card.stages
    assert list(stage.files) == ["coarse.onnx"]
    return bundle.file(stage, stage.weights)


def runtimes(bundle: ModelBundle) -> tuple[OnnxRuntimeEngine, OpenVINOEngine]:
    return OnnxRuntimeEngine(network_file(bundle)), OpenVINOEngine(network_file(bundle))


def probabilities(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_engines_agree_at_any_size(bundle: ModelBundle) -> None:
    first, rest = TorchEngine(bundle, bundle.card.stages[0]), runtimes(bundle)
    rng = np.random.default_rng(0)
    for shape in [(16, 24, 16), (8, 20, 12), (16, 24, 16), (8, 8, 8)]:
        array = rng.normal(size=(4, *shape)).astype(np.float32)
        a = first.logits(array)
        assert a.std() > 0.01  # two constants would agree too
        for engine in rest:
            b = engine.logits(array)
            assert a.shape == b.shape == (3, *shape)
            assert a.dtype == b.dtype == np.float32
            np.testing.assert_allclose(probabilities(a), probabilities(b), atol=1e-6)


def test_an_engine_takes_arrays_that_are_not_contiguous(bundle: ModelBundle) -> None:
    array = np.random.default_rng(0).normal(size=(4, 8, 8, 8)).astype(np.float32)[:, ::-1]
    for engine in (TorchEngine(bundle, bundle.card.stages[0]), *runtimes(bundle)):
        np.testing.assert_allclose(engine.logits(array), engine.logits(array.copy()), atol=1e-6)


def test_a_compiled_network_is_kept_where_asked(bundle: ModelBundle, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(4, 8, 8, 8)).astype(np.float32)
    plain = OpenVINOEngine(network_file(bundle)).logits(array)
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        found = OpenVINOEngine(network_file(bundle), cache=tmp_path).logits(array)
        np.testing.assert_allclose(found, plain, atol=1e-5)
        assert len(list(tmp_path.iterdir())) == 1


def test_a_network_is_stored_once_in_half_precision_with_all_that_training_needs(bundle: ModelBundle) -> None:
    (stage,) = bundle.card.stages
    state, path = build_network(bundle, stage).state_dict(), network_file(bundle)
    held = read_weights(path)
    assert {name: value.shape for name, value in held.items()} == {name: value.shape for name, value in state.items()}
    assert path.stat().st_size < 2 * sum(value.numel() for value in state.values()) + 60_000


def test_weights_that_half_precision_does_not_hold_stay_single(tmp_path: Path) -> None:
    bundle = small_model(tmp_path / "single", stages=("coarse",), bias=0.1234567)
    (stage,) = bundle.card.stages
    state = {name: value * 1.0001 for name, value in build_network(bundle, stage).state_dict().items()}
    (tmp_path / "written").mkdir()
    written = write_model({"coarse": state}, bundle.card, tmp_path / "written")
    held = read_weights(network_file(written))
    assert all(torch.equal(held[name], value) for name, value in state.items())


def test_a_stage_of_weights_alone_is_converted_on_the_spot(tmp_path: Path) -> None:
    bundle = small_model(tmp_path / "small", stages=("fine",))
    stage = bundle.card.stages[0]
    assert list(stage.files) == ["fine.safetensors"]
    array = np.random.default_rng(1).normal(size=(4, 8, 8, 8)).astype(np.float32)
    a = open_engine(bundle, stage, engine="torch", device="cpu").logits(array)
    b = open_engine(bundle, stage, engine="openvino", device="cpu").logits(array)
    np.testing.assert_allclose(probabilities(a), probabilities(b), atol=1e-5)


def test_an_altered_network_is_refused_by_both_engines(bundle: ModelBundle, tmp_path: Path) -> None:
    for path in bundle.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray((tmp_path / "coarse.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "coarse.onnx").write_bytes(data)
    copy = read_bundle(tmp_path)
    for engine in ("onnxruntime", "openvino", "torch"):
        with pytest.raises(ModelError, match=r"coarse\.onnx of model small is damaged or altered"):
            open_engine(copy, copy.card.stages[0], engine=engine, device="cpu")


@pytest.mark.parametrize("engine", [OnnxRuntimeEngine, OpenVINOEngine])
@pytest.mark.parametrize("content", [b"", b"no network", b"\x08\x08"])
def test_what_is_no_network_is_named(engine: type, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot read x\.onnx"):
        engine(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("engine", "device", "gpus", "expected"),
    [
        ("auto", "auto", 0, ("onnxruntime", "cpu")),
        ("auto", "cpu", 1, ("onnxruntime", "cpu")),
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
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="0 CUDA devices; pass --device cpu"):
        choose_engine("auto", "cuda")
