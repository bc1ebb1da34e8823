"""Prediction: boxes, blending, memory, and a whole pass on a random model."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path

import numpy as np
import psutil
import pytest
from ensembles import add_members
from glioma import REGIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_models import small_model
from tiny_studies import mirrored, noise_study

from brats_seg.core.errors import DeviceError, ModelError
from brats_seg.models.card import ModelBundle
from brats_seg.models.rules import PostprocessConfig
from brats_seg.segment import memory
from brats_seg.segment import predict as module
from brats_seg.segment.memory import RESERVE_BYTES, available_bytes, largest_window, pass_bytes
from brats_seg.segment.predict import Predictor, blend, tumour_box

UNSURE = PostprocessConfig(roi_threshold=0.01, roi_margin_mm=2.0)
"""A random network is never sure, so the fine stage runs everywhere."""


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return small_model(tmp_path_factory.mktemp("models") / "coarse", stages=("coarse",))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return small_model(tmp_path_factory.mktemp("models") / "both", post=UNSURE)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_box_holds_everything_found_and_lies_inside(data: st.DataObject) -> None:
    divisor = data.draw(st.sampled_from([4, 8, 16]))
    shape = tuple(data.draw(st.integers(1, 4)) * divisor for _ in range(3))
    whole = np.zeros(shape, np.float32)
    for _ in range(data.draw(st.integers(1, 3))):
        whole[tuple(data.draw(st.integers(0, n - 1)) for n in shape)] = 0.9
    margin = data.draw(st.integers(0, 12))
    box = tumour_box(whole, 0.2, margin, divisor)
    assert box is not None
    for side, size in zip(box, shape, strict=True):
        assert 0 <= side.start < side.stop <= size
        assert (side.stop - side.start) % divisor == 0
    found = np.argwhere(whole >= 0.2)
    for axis, side in enumerate(box):
        first, last = found[:, axis].min(), found[:, axis].max()
        assert side.start <= max(first - margin, 0)
        assert side.stop >= min(last + 1 + margin, shape[axis])


def test_no_box_around_nothing() -> None:
    assert tumour_box(np.full((8, 8, 8), 0.19, np.float32), 0.2, 4, 4) is None


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float32, (3, 4, 4), elements=st.floats(-0.5, 1.5, width=32)))
def test_nesting_only_lowers_the_inner_regions(array: np.ndarray) -> None:
    nested = REGIONS.nest(array)
    assert nested.min() >= 0
    assert nested.max() <= 1
    assert (nested[1] <= nested[0]).all()
    assert (nested[2] <= nested[1]).all()
    np.testing.assert_array_equal(nested[0], np.clip(array[0], 0, 1))
    np.testing.assert_array_equal(REGIONS.nest(nested), nested)


def test_blending_goes_from_the_coarse_stage_to_the_fine_one() -> None:
    coarse, fine = np.zeros((3, 20, 20, 20), np.float32), np.ones((3, 20, 20, 20), np.float32)
    np.testing.assert_array_equal(blend(coarse, fine, 0.0), coarse)
    mixed = blend(coarse, fine, 1.0)
    assert mixed[0, 10, 10, 10] == pytest.approx(1.0)
    assert blend(coarse, fine, 0.4)[0, 10, 10, 10] == pytest.approx(0.4)
    line = mixed[0, :8, 10, 10]
    np.testing.assert_allclose(line, np.arange(1, 9) / 8, rtol=1e-6)  # fades over 8 voxels to each face
    np.testing.assert_allclose(mixed[0, ::-1], mixed[0])
    np.testing.assert_array_equal(blend(fine, fine, 0.7), fine)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_whole_study_in_one_pass_where_memory_allows(engine: str) -> None:
    shape = (160, 192, 160)
    enough = pass_bytes(shape, engine) + RESERVE_BYTES
    assert largest_window(shape, 32, engine=engine, free_bytes=enough) == shape
    smaller = largest_window(shape, 32, engine=engine, free_bytes=enough - 1)
    assert smaller != shape
    assert all(a % 32 == 0 and 64 <= a <= b for a, b in zip(smaller, shape, strict=True))
    assert pass_bytes(smaller, engine) + RESERVE_BYTES <= enough


def test_windows_shrink_with_memory_down_to_an_error() -> None:
    least = pass_bytes((64, 64, 64), "torch") + RESERVE_BYTES
    assert largest_window((160, 192, 160), 16, engine="torch", free_bytes=least) == (64, 64, 64)
    with pytest.raises(DeviceError, match=r"not enough memory: .* GiB needed at least") as caught:
        largest_window((160, 192, 160), 16, engine="torch", free_bytes=least - 1)
    assert caught.value.exit_code == 5


def test_a_side_under_the_smallest_window_is_kept() -> None:
    shape = (32, 192, 160)
    least = pass_bytes((32, 64, 64), "torch") + RESERVE_BYTES
    assert largest_window(shape, 32, engine="torch", free_bytes=least) == (32, 64, 64)


def group_files(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


GIB = 2**30
GROUPS = {
    "version 2": (
        {
            "p/cgroup": "0::/job/step\n",
            "g/job/memory.max": f"{4 * GIB}\n",
            "g/job/memory.current": f"{3 * GIB}",
            "g/job/memory.stat": f"anon 5\ninactive_file {GIB}\n",
            "g/job/step/memory.max": "max\n",
            "g/job/cpu.max": "150000 100000\n",
        },
        4.0,
        2.0,
        1.5,
    ),
    "version 2 in a container": (
        {"p/cgroup": "0::/\n", "g/memory.max": f"{2 * GIB}", "g/memory.current": f"{GIB}", "g/cpu.max": "max 100000"},
        2.0,
        1.0,
        math.inf,
    ),
    "version 1": (
        {
            "p/cgroup": "3:cpu,cpuacct:/d/1\n2:memory:/d/1\n",
            "g/memory/memory.limit_in_bytes": str(2**63 - 4096),
            "g/memory/d/1/memory.limit_in_bytes": f"{3 * GIB}",
            "g/memory/d/1/memory.usage_in_bytes": f"{2 * GIB}",
            "g/memory/d/1/memory.stat": f"total_inactive_file {GIB // 2}\n",
            "g/cpu/d/1/cpu.cfs_quota_us": "50000",
            "g/cpu/d/1/cpu.cfs_period_us": "100000",
        },
        3.0,
        1.5,
        0.5,
    ),
    "version 1 in a container": (
        {
            "p/cgroup": "2:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n",
            "g/memory/memory.limit_in_bytes": f"{GIB}",
            "g/memory/memory.usage_in_bytes": "0",
            "g/cpu/cpu.cfs_quota_us": "-1",
            "g/cpu/cpu.cfs_period_us": "100000",
        },
        1.0,
        1.0,
        math.inf,
    ),
    "none": ({}, math.inf, math.inf, math.inf),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_containers_limits_are_read(name: str, tmp_path: Path) -> None:
    files, total_gib, free_gib, processors = GROUPS[name]
    group_files(tmp_path, files)
    places = (tmp_path / "p", tmp_path / "g")
    assert memory._group_memory(*places) == (total_gib * GIB, free_gib * GIB)
    assert memory._group_processors(*places) == processors


def test_free_memory_is_what_the_narrowest_limit_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = available_bytes("cpu")
    monkeypatch.setattr(memory, "_group_memory", lambda: (8 * GIB, 3 * 2**20))
    assert available_bytes("cpu") == 3 * 2**20
    with pytest.raises(DeviceError, match=r"not enough memory: 0\.0 GiB free, 0\.6 GiB needed"):
        memory.require_memory(100 * 2**20)
    monkeypatch.undo()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = psutil.Process().memory_info().vms
    try:
        resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20, hard))
        assert 0 < available_bytes("cpu") <= 200 * 2**20
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    monkeypatch.setattr(memory, "_processes", 1000)
    assert available_bytes("cpu") < alone / 100
    assert 1 <= memory.usable_processors() <= (os.cpu_count() or 1)


def test_memory_is_measured() -> None:
    assert available_bytes("cpu") > 2**20


def test_predictions_are_nested_probabilities_inside_the_brain(both: ModelBundle) -> None:
    prepared = noise_study()
    ticks: list[str] = []
    found = Predictor(both, engine="torch", device="cpu").predict(prepared, tick=ticks.append)
    array = found.probabilities.array
    assert array.shape == (3, 32, 24, 16)
    assert found.probabilities.grid is prepared.grid
    assert (array[:, ~prepared.brain] == 0).all()
    assert array[:, prepared.brain].std() > 1e-3
    assert (array[1] <= array[0]).all()
    assert (array[2] <= array[1]).all()
    assert ticks == ["coarse", "fine"]
    assert list(found.timings_s) == ["coarse", "fine"]
    assert any("fine stage" in words for words in found.decisions)


def test_the_fine_stage_counts_by_its_weight(tmp_path: Path) -> None:
    prepared = noise_study()
    results = []
    for weight in (0.0, 1.0):
        post = PostprocessConfig(roi_threshold=0.01, fine_weight=weight)
        bundle = small_model(tmp_path / f"w{weight:g}", post=post)
        results.append(Predictor(bundle, engine="torch", device="cpu").predict(prepared).probabilities.array)
    bundle = small_model(tmp_path / "alone", stages=("coarse",))
    alone = Predictor(bundle, engine="torch", device="cpu").predict(prepared).probabilities.array
    np.testing.assert_allclose(results[0], alone, atol=1e-6)
    assert np.abs(results[1] - alone).max() > 1e-2


def test_a_fine_stage_alone_sees_the_whole_study(tmp_path: Path) -> None:
    bundle = small_model(tmp_path / "fine", stages=("fine",))
    found = Predictor(bundle, engine="torch", device="cpu").predict(noise_study())
    assert list(found.timings_s) == ["fine"]
    assert found.probabilities.array.std() > 1e-3


def test_the_fine_stage_does_not_run_where_no_tumour_shows(tmp_path: Path) -> None:
    bundle = small_model(tmp_path / "sure", bias=-20.0)
    found = Predictor(bundle, engine="torch", device="cpu").predict(noise_study())
    assert list(found.timings_s) == ["coarse"]
    assert any("no sign of a tumour" in words for words in found.decisions)
    assert found.probabilities.array.max() < 1e-3


def test_a_mirrored_study_gives_the_mirrored_result_with_tta(coarse: ModelBundle) -> None:
    prepared = noise_study()
    predictor = Predictor(coarse, engine="torch", device="cpu", mirror=True)
    straight = predictor.predict(prepared).probabilities.array
    turned = predictor.predict(mirrored(prepared)).probabilities.array
    np.testing.assert_allclose(turned[:, ::-1], straight, atol=1e-5)
    plain = Predictor(coarse, engine="torch", device="cpu")
    once = plain.predict(prepared).probabilities.array
    assert np.abs(plain.predict(mirrored(prepared)).probabilities.array[:, ::-1] - once).max() > 1e-3


def test_predicting_twice_gives_the_same_numbers(coarse: ModelBundle) -> None:
    predictor = Predictor(coarse, engine="torch", device="cpu")
    first, second = (predictor.predict(noise_study()).probabilities.array for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_windows_come_close_to_a_single_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = small_model(tmp_path / "fine", stages=("fine",))
    prepared = noise_study((48, 32, 24))
    predictor = Predictor(bundle, engine="torch", device="cpu")
    whole = predictor.predict(prepared)
    monkeypatch.setattr(module, "largest_window", lambda *_args, **_options: (24, 32, 24))
    windows = predictor.predict(prepared)
    assert any("one pass" in words for words in whole.decisions)
    assert any("windows of 24x32x24" in words for words in windows.decisions)
    difference = np.abs(windows.probabilities.array - whole.probabilities.array)
    assert difference.max() > 0  # it did take another way
    assert difference.mean() < 0.05
    spread = whole.probabilities.array[:, prepared.brain].std()
    assert difference[:, prepared.brain].mean() < 0.5 * spread


def test_an_ensemble_gives_the_mean_of_what_its_members_say(tmp_path: Path) -> None:
    everywhere = PostprocessConfig(roi_threshold=0.0001, roi_margin_mm=64.0)  # so that all look at the same box
    names = ("first", "second")
    models = [small_model(tmp_path / n, post=everywhere, cascaded=True, seed=k) for k, n in enumerate(names)]
    prepared = noise_study()
    alone = [Predictor(model, engine="torch", device="cpu").stages(prepared) for model in models]
    ticks: list[str] = []
    predictor = Predictor(add_members(*models), engine="torch", device="cpu")
    joined = predictor.stages(prepared)
    assert any("mean of 2 networks" in words for words in predictor.predict(prepared, tick=ticks.append).decisions)
    assert ticks == ["coarse", "fine"]  # a step each, however many networks
    assert joined.box == alone[0].box == alone[1].box
    for stage in ("whole", "close"):
        parts = [getattr(outputs, stage) for outputs in alone]
        assert np.abs(parts[0] - parts[1]).max() > 1e-2
        # each fine stage takes the coarse stage of its own member, or the second could not be met
        np.testing.assert_allclose(getattr(joined, stage), (parts[0] + parts[1]) / 2, atol=1e-6)


def test_engines_agree_on_a_study(coarse: ModelBundle) -> None:
    prepared = noise_study()
    arrays = [
        Predictor(coarse, engine=engine, device="cpu").predict(prepared).probabilities.array
        for engine in ("torch", "openvino")
    ]
    np.testing.assert_allclose(arrays[0], arrays[1], atol=1e-3)


def test_a_damaged_model_is_refused_before_any_study_is_touched(tmp_path: Path) -> None:
    bundle = small_model(tmp_path / "m", stages=("coarse",))
    path = bundle.folder / "coarse.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged"):
        Predictor(bundle, engine="torch", device="cpu")
