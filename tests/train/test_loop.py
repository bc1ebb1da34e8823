"""The loop: it learns, it resumes bit for bit, and it refuses what would spoil a run."""

from __future__ import annotations

import csv
import itertools
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_packs import toy_pack, toy_packs

from brats_seg.core.errors import InputError, ModelError, OutputError, UsageError
from brats_seg.models.torch_engine import build_network
from brats_seg.train import loop
from brats_seg.train.config import TrainConfig, check_given
from brats_seg.train.data import PackedStudy, with_teacher, write_taught
from brats_seg.train.export import assemble_runs
from brats_seg.train.loop import Sources, learning_rate, step_seed, train
from brats_seg.train.optimiser import RegionLoss
from brats_seg.train.prior import predict_pack, validate
from brats_seg.train.recipe import read_recipe, train_stages
from brats_seg.train.runs import read_run_config, read_seen
from brats_seg.train.state import LOG_COLUMNS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMOKE = read_recipe(CONFIGS / "smoke.yaml").stages["coarse"]
SHORT = replace(SMOKE, steps=4, warmup=1)


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The coarse stage of ``configs/smoke.yaml`` as it is but for a validation study."""
    run = tmp_path_factory.mktemp("runs") / "smoke"
    config = replace(SMOKE, validation=("c",), validate_every=30)
    train([*toy_packs(), toy_pack("c", centre=(16, 30, 18), seed=2)], config, run, progress=False)
    return run


def test_the_loss_falls_and_the_tumour_is_found(smoke: Path) -> None:
    rows = log_of(smoke)
    assert tuple(rows[0]) == LOG_COLUMNS
    assert [int(row["step"]) for row in rows] == [20, 30, 40, 60]
    losses = [float(row["loss"]) for row in rows]
    assert losses[-1] < 0.75 * losses[0]
    assert float(rows[-1]["dice_wt"]) > 0.5  # a bright ball, on a study it has not seen
    assert rows[0]["dice_wt"] == ""


def test_a_run_leaves_what_is_needed_and_nothing_half_written(smoke: Path) -> None:
    assert sorted(path.name for path in smoke.iterdir()) == [
        "checkpoint.pt",
        "config.yaml",
        "log.csv",
        "seen.json",
        "weights.safetensors",
    ]
    assert read_run_config(smoke).validation == ("c",)
    assert sorted(read_seen(smoke).values()) == ["a", "b"]  # not what is only validated on


def test_a_run_becomes_a_model(smoke: Path, tmp_path: Path) -> None:
    bundle = assemble_runs({"coarse": smoke}, CONFIGS / "glioma_card.yaml", tmp_path / "model", onnx=False)
    assert bundle.card.prepare["divisor"] == 8
    stage = bundle.card.stages[0]
    assert stage.spacing_mm == 2.0
    network = build_network(bundle, stage)
    held = load_file(smoke / "weights.safetensors")
    assert all(torch.equal(value, held[name].float()) for name, value in network.state_dict().items())
    with pytest.raises(ModelError, match="trained as stage coarse, not fine"):
        assemble_runs({"fine": smoke}, CONFIGS / "glioma_card.yaml", tmp_path / "other", onnx=False)


def test_a_run_without_weights_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config.yaml is not there"):
        read_run_config(tmp_path)


def test_a_damaged_configuration_of_a_run_is_said(smoke: Path, tmp_path: Path) -> None:
    run = shutil.copytree(smoke, tmp_path / "run")
    (run / "config.yaml").write_text("steps: [")
    with pytest.raises(InputError, match="is not valid YAML"):
        train(toy_packs(), SMOKE, run, resume=True, progress=False)
    with pytest.raises(InputError, match="is not valid YAML"):
        read_run_config(run)


def states(run: Path) -> dict[str, torch.Tensor]:
    held = torch.load(run / "checkpoint.pt", weights_only=True)
    flat = {f"{part}.{k}": v for part in ("network", "averaged") for k, v in held[part].items()}
    for i, optimiser in enumerate(held["optimisers"]):
        flat |= {f"{i}.{n}.{k}": v for n, entry in optimiser["state"].items() for k, v in entry.items()}
    return flat | {"step": torch.tensor(held["step"])}


def test_bf16_learns_like_fp32_and_is_another_arithmetic(tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        config = replace(SHORT, steps=20, precision=precision)
        train(toy_packs(), config, tmp_path / precision, progress=False)
        losses[precision] = float(log_of(tmp_path / precision)[-1]["loss"])
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.03)


def test_a_run_that_was_stopped_twice_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(toy_packs(), SHORT, whole, progress=False)
    train(toy_packs(), SHORT, broken, until=0, progress=False)
    assert int(states(broken)["step"]) == 1
    train(toy_packs(), SHORT, broken, until=0, resume=True, progress=False)
    assert int(states(broken)["step"]) == 2
    path = train(toy_packs(), SHORT, broken, resume=True, progress=False)
    first, second = states(whole), states(broken)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert path.read_bytes() == (whole / "weights.safetensors").read_bytes()
    logs = [[{k: v for k, v in row.items() if k != "seconds"} for row in log_of(run)] for run in (whole, broken)]
    assert logs[0] == logs[1]  # the loss of a row is of all steps since the last, those before the stop included


def test_a_killed_run_logs_no_step_twice(tmp_path: Path) -> None:
    """Killed between two checkpoints: the log is then ahead of the checkpoint."""
    train(toy_packs(), SHORT, tmp_path, until=0, progress=False)
    with (tmp_path / "log.csv").open("w", newline="") as handle:
        handle.write(",".join(LOG_COLUMNS) + "\r\n1,0.5,1e-3,0.1,,,\r\n3,0.4,1e-3,0.2,,,\r\n4,0.")
    train(toy_packs(), SHORT, tmp_path, resume=True, progress=False)
    assert [int(row["step"]) for row in log_of(tmp_path)] == [1, 4]


def test_checks_without_a_study_to_check_on_leave_the_log_alone(tmp_path: Path) -> None:
    """The loss of a row is the mean of all steps since the last one."""
    for name, every in (("never", 0), ("often", 3)):
        train(toy_packs(), replace(SHORT, validate_every=every), tmp_path / name, progress=False)
    often, never = log_of(tmp_path / "often"), log_of(tmp_path / "never")
    assert [(row["step"], row["loss"]) for row in often] == [(row["step"], row["loss"]) for row in never]


def test_another_seed_gives_another_network(tmp_path: Path) -> None:
    short = replace(SHORT, steps=2)
    weights = [
        load_file(train(toy_packs(), replace(short, seed=seed), tmp_path / str(seed), progress=False))
        for seed in (1, 2)
    ]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_goes_on_only_where_asked_and_with_its_own_settings(tmp_path: Path) -> None:
    train(toy_packs(), SHORT, tmp_path, until=0, progress=False)
    with pytest.raises(OutputError, match="--resume"):
        train(toy_packs(), SHORT, tmp_path, progress=False)
    with pytest.raises(OutputError, match=r"other settings for \['learning_rate', 'seed'\]"):
        train(toy_packs(), replace(SHORT, seed=9, learning_rate=0.5), tmp_path, resume=True, progress=False)


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    path = train(toy_packs(), replace(SHORT, steps=2), tmp_path, progress=False)
    before = path.read_bytes()
    train(toy_packs(), replace(SHORT, steps=2), tmp_path, resume=True, progress=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize("how", ["cut", "text", "other"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, how: str) -> None:
    train(toy_packs(), SHORT, tmp_path, until=0, progress=False)
    path = tmp_path / "checkpoint.pt"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "text":
        path.write_text("no checkpoint")
    else:
        torch.save({"step": 3}, path)
    with pytest.raises(ModelError, match=r"checkpoint.pt is damaged"):
        train(toy_packs(), SHORT, tmp_path, resume=True, progress=False)


def test_starting_from_weights(tmp_path: Path) -> None:
    path = train(toy_packs(), SHORT, tmp_path / "first", progress=False)
    cold = replace(SHORT, steps=2, warmup=1, learning_rate=1e-12)
    again = train(toy_packs(), cold, tmp_path / "second", sources=Sources(init=path), progress=False)
    first, second = load_file(path), load_file(again)
    assert all(torch.allclose(first[name], second[name], atol=1e-3) for name in first)
    with pytest.raises(ModelError, match="cannot be read"):
        (tmp_path / "junk.safetensors").write_bytes(b"junk")
        train(
            toy_packs(), SHORT, tmp_path / "third", sources=Sources(init=tmp_path / "junk.safetensors"), progress=False
        )
    wider = replace(SHORT, network=replace(SHORT.network, widths=(16, 16)))
    with pytest.raises(ModelError, match="does not fit the network"):
        train(toy_packs(), wider, tmp_path / "fourth", sources=Sources(init=path), progress=False)


def test_a_share_of_the_weights_it_started_from_is_kept(tmp_path: Path) -> None:
    start = train(toy_packs(), SHORT, tmp_path / "start", progress=False)
    runs = {
        keep: load_file(
            train(
                toy_packs(),
                replace(SHORT, keep=keep),
                tmp_path / str(keep),
                sources=Sources(init=start),
                progress=False,
            )
        )
        for keep in (0.0, 0.25)
    }
    began = load_file(start)
    for name, value in runs[0.25].items():
        expected = 0.75 * runs[0.0][name].float() + 0.25 * began[name].float()
        assert torch.allclose(value.float(), expected, atol=2e-3), name
    assert any(not torch.equal(runs[0.25][name], runs[0.0][name]) for name in began)


def test_a_run_that_keeps_a_share_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    config = replace(SHORT, keep=0.5)
    start = train(toy_packs(), SHORT, tmp_path / "start", progress=False)
    whole = train(toy_packs(), config, tmp_path / "whole", sources=Sources(init=start), progress=False)
    train(toy_packs(), config, tmp_path / "broken", sources=Sources(init=start), until=0, progress=False)
    broken = train(toy_packs(), config, tmp_path / "broken", sources=Sources(init=start), resume=True, progress=False)
    assert broken.read_bytes() == whole.read_bytes()
    with pytest.raises(UsageError, match="pass --init"):
        train(toy_packs(), config, tmp_path / "chance", progress=False)


def test_auxiliary_studies_are_trained_on(tmp_path: Path) -> None:
    auxiliary = [toy_pack("p-1", centre=(10, 14, 12), seed=5)]
    config = replace(SHORT, steps=2, auxiliary=0.5)
    plain = load_file(train(toy_packs(), replace(config, auxiliary=0.0), tmp_path / "plain", progress=False))
    mixed = load_file(
        train(toy_packs(), config, tmp_path / "mixed", sources=Sources(auxiliary=auxiliary), progress=False)
    )
    again = load_file(
        train(toy_packs(), config, tmp_path / "again", sources=Sources(auxiliary=auxiliary), progress=False)
    )
    assert any(not torch.equal(plain[name], mixed[name]) for name in plain)
    assert all(torch.equal(again[name], mixed[name]) for name in mixed)


def test_auxiliary_studies_must_be_wanted_given_and_not_of_the_data_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pass --auxiliary DATASET"):
        train(toy_packs(), replace(SHORT, auxiliary=0.2), tmp_path / "a", progress=False)
    with pytest.raises(UsageError, match="set auxiliary to their share"):
        check_given([SHORT], auxiliary=True)
    leak = [replace(toy_packs()[1], id="renamed")]
    with pytest.raises(InputError, match="auxiliary study renamed is b of the data set"):
        train(
            toy_packs(), replace(SHORT, auxiliary=0.2), tmp_path / "c", sources=Sources(auxiliary=leak), progress=False
        )
    assert not list(tmp_path.iterdir())


def test_what_was_made_of_a_study_that_is_kept_out_is_left_out(tmp_path: Path) -> None:
    made = [replace(toy_pack(f"shape-{of}", seed=7), made_of=("x", of)) for of in "ab"]
    config = replace(SHORT, steps=2, auxiliary=0.5, validation=("b",))
    train(toy_packs(), config, tmp_path, sources=Sources(auxiliary=made), progress=False)
    assert sorted(read_seen(tmp_path).values()) == ["a", "shape-a"]


def test_a_cube_of_a_patient_who_is_kept_out_is_left_out(tmp_path: Path) -> None:
    pack = toy_pack("c", seed=4)
    image, labels = pack.image[:, 12:32, 16:36, 10:30], pack.labels[12:32, 16:36, 10:30]
    cubes = [PackedStudy(f"{patient}.0", image + n, labels, (patient,)) for n, patient in enumerate("bd")]
    config = replace(SHORT, steps=2, cubes=2, validation=("b",))
    train(toy_packs(), config, tmp_path, sources=Sources(cubes=cubes), progress=False)
    assert sorted(read_seen(tmp_path).values()) == ["a", "d.0"]


def test_a_run_with_a_teacher_and_cubes_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    for pack in toy_packs():
        whole = (pack.labels > 0) * np.uint8(200)
        write_taught(np.stack([whole, whole, whole]), tmp_path / "teacher" / f"{pack.id}.npz")
    packs = with_teacher(toy_packs(), tmp_path / "teacher")
    cubes = [PackedStudy("c.0", toy_pack("c", seed=4).image[:, 12:32, 16:36, 10:30], np.ones((20, 20, 20), np.uint8))]
    config = replace(SHORT, teacher=0.4, cubes=2, auxiliary=0.0)
    given = Sources(cubes=cubes)
    whole = train(packs, config, tmp_path / "whole", sources=given, progress=False)
    train(packs, config, tmp_path / "broken", sources=given, until=0, progress=False)
    broken = train(packs, config, tmp_path / "broken", sources=given, resume=True, progress=False)
    assert broken.read_bytes() == whole.read_bytes()
    plain = train(packs, replace(config, teacher=0.0), tmp_path / "plain", sources=given, progress=False)
    assert plain.read_bytes() != whole.read_bytes()
    assert "c.0" in read_seen(tmp_path / "whole").values()


@pytest.mark.parametrize(("name", "option"), [("teacher", "--teacher FOLDER"), ("cubes", "--cubes FILE")])
def test_what_a_recipe_asks_for_must_be_given(tmp_path: Path, name: str, option: str) -> None:
    config = replace(SHORT, **{name: 1 if name == "cubes" else 0.5})
    with pytest.raises(UsageError, match=f"stage coarse sets {name}; pass {option}"):
        train(toy_packs(), config, tmp_path, progress=False)
    with pytest.raises(UsageError, match=f"no stage of the configuration sets {name}"):
        check_given([SHORT], **{name: True})


def test_studies_kept_out_must_exist_and_leave_something(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\['z'\]"):
        train(toy_packs(), replace(SHORT, validation=("z",)), tmp_path / "a", progress=False)
    with pytest.raises(InputError, match="no study is left"):
        train(toy_packs(), replace(SHORT, validation=("a", "b")), tmp_path / "b", progress=False)


def test_the_learning_rate_rises_then_falls_to_a_hundredth() -> None:
    config = TrainConfig(steps=100, warmup=10, learning_rate=1e-2)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[9] == pytest.approx(1e-2)
    assert rates[10] == pytest.approx(1e-2)
    assert rates[55] == pytest.approx(1e-2 * (0.01 + 0.99 / 2))
    assert rates[100] == pytest.approx(1e-4)
    assert all(a < b for a, b in zip(rates[:9], rates[1:10], strict=True))
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_every_step_has_its_own_chance() -> None:
    draws = [step_seed(replace(SMOKE, seed=seed), step) for seed in (0, 1) for step in range(5)]
    assert len(set(draws)) == 10
    again = step_seed(replace(SMOKE, seed=1), 4)
    assert again == draws[-1]


def logits_of(target: torch.Tensor, certainty: float) -> torch.Tensor:
    return (target * 2 - 1) * certainty


def blob() -> torch.Tensor:
    target = torch.zeros(1, 3, 8, 8, 8)
    for channel, side in enumerate((6, 4, 2)):
        target[:, channel, 1 : 1 + side, 1 : 1 + side, 1 : 1 + side] = 1
    return target


def test_a_perfect_prediction_costs_nothing_and_worse_ones_more() -> None:
    loss, target = RegionLoss(), blob()
    perfect = loss([logits_of(target, 20)], target)
    unsure = loss([logits_of(target, 1)], target)
    shifted = loss([logits_of(target.roll(2, dims=2), 5)], target)
    opposite = loss([logits_of(1 - target, 5)], target)
    assert perfect == pytest.approx(0, abs=1e-3)
    assert perfect < unsure < shifted < opposite


def test_each_region_counts_a_third() -> None:
    target, costs = blob(), []
    for region in range(3):
        wrong = logits_of(target, 20)
        wrong[:, region] = -wrong[:, region]
        costs.append(float(RegionLoss()([wrong], target)))
    assert min(costs) > 1
    assert sum(costs) == pytest.approx(float(RegionLoss()([logits_of(1 - target, 20)], target)), rel=1e-3)


def test_an_empty_region_costs_a_finite_amount_and_teaches_emptiness() -> None:
    loss, target = RegionLoss(), torch.zeros(1, 3, 8, 8, 8)
    logits = torch.zeros(1, 3, 8, 8, 8, requires_grad=True)
    value = loss([logits], target)
    value.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert (logits.grad > 0).all()  # descent lowers every logit
    assert loss([logits_of(target, 20)], target) == pytest.approx(0, abs=1e-3)


def test_deeper_outputs_count_half_each() -> None:
    loss, target = RegionLoss(), blob()
    coarse = torch.nn.functional.adaptive_avg_pool3d(target, (4, 4, 4))
    good, bad = logits_of(target, 20), torch.zeros(1, 3, 4, 4, 4)
    single = float(loss([bad], coarse))
    assert float(loss([good, bad], target)) == pytest.approx(single * 0.5 / 1.5, abs=1e-3)


class _Known(torch.nn.Module):
    """A network that has learnt the toy by heart: FLAIR is bright in the tumour, T1CE in its core."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole = x[:, 3:4] - 1.0
        return torch.cat([whole, whole, torch.full_like(whole, -9)], dim=1) * 20


def test_validation_measures_dice_at_full_resolution() -> None:
    pack, config = toy_pack("x"), replace(SMOKE, spacing_mm=1.0)
    found = predict_pack(_Known(), pack, config, torch.device("cpu"))
    assert found.shape == (3, *pack.labels.shape)  # padding is cut off again
    whole, core, enhancing = validate(_Known(), [pack], config, torch.device("cpu"))
    assert whole > 0.97
    tc = np.isin(pack.labels, (1, 3)).sum()
    wt = (pack.labels > 0).sum()
    assert core == pytest.approx(2 * tc / (wt + tc), abs=0.02)
    assert enhancing == 0.0  # one empty
    nothing = replace(pack, labels=np.zeros_like(pack.labels))
    assert validate(_Known(), [nothing], config, torch.device("cpu"))[2] == 1.0  # both empty


def test_a_network_for_fewer_sequences_never_sees_the_others(tmp_path: Path) -> None:
    """The ball shows in T2 and FLAIR only; whatever is in T1 must not reach the network."""
    config = replace(SHORT, sequences=("t2", "flair"))
    packs = toy_packs()
    other = [replace(pack, image=pack.image.copy()) for pack in packs]
    for pack in other:
        pack.image[0] = np.where(pack.image.any(axis=0), 50, 0)
    first, second = (
        train(held, config, tmp_path / name, progress=False) for held, name in ((packs, "a"), (other, "b"))
    )
    assert first.read_bytes() == second.read_bytes()
    third = train(other, SHORT, tmp_path / "c", progress=False)
    assert third.read_bytes() != second.read_bytes()
    mixed = replace(config, auxiliary=0.9)
    stranger = toy_pack("p", centre=(12, 16, 14), seed=7)
    image = stranger.image.copy()
    image[0] = np.where(image.any(axis=0), 50, 0)
    beside = [[stranger], [replace(stranger, image=image)]]
    fourth, fifth = (
        train(packs, mixed, tmp_path / name, sources=Sources(auxiliary=held), progress=False)
        for name, held in zip("de", beside, strict=True)
    )
    assert fourth.read_bytes() == fifth.read_bytes()


def test_as_many_steps_are_made_as_fit_into_the_time_and_a_resumed_run_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: 0.1 * next(ticks))
    told: list[str] = []
    untold, run = replace(SHORT, steps=0), tmp_path / "run"
    with pytest.raises(UsageError, match="pass --stop-after-s"):
        train(toy_packs(), untold, run, progress=False)
    with pytest.raises(UsageError, match="fit into the time, and the warm-up takes 1"):
        train(toy_packs(), untold, run, until=time.monotonic() + 1.0, progress=False)
    train(toy_packs(), untold, run, until=time.monotonic() + 5.0, tell=told.append, progress=False)
    steps = read_run_config(run).steps
    assert 15 < steps < 30  # 0.1 s each by this clock, in what trying them has left of the 5 s
    assert told[0] == f"coarse: 0.105 s a step, {steps} steps in 0.1 min"
    assert 0 < int(states(run)["step"]) < steps  # more than a tick of the clock for each
    ends = train(toy_packs(), untold, run, resume=True, progress=False)
    whole = train(toy_packs(), replace(untold, steps=steps), tmp_path / "whole", progress=False)
    assert ends.read_bytes() == whole.read_bytes()


def test_both_stages_of_a_recipe_are_trained_and_resumed_bit_for_bit(tmp_path: Path) -> None:
    recipe = read_recipe(CONFIGS / "smoke.yaml", ["steps=4", "warmup=1"])
    told: list[str] = []
    assert train_stages(toy_packs(), recipe.stages, tmp_path / "whole", tell=told.append, progress=False)
    while not train_stages(
        toy_packs(), recipe.stages, tmp_path / "broken", until=time.monotonic() + 0.1, progress=False
    ):
        pass
    for stage in ("coarse", "fine"):
        whole, broken = (tmp_path / run / stage / "weights.safetensors" for run in ("whole", "broken"))
        assert whole.read_bytes() == broken.read_bytes()
    again = tmp_path / "again"
    assert train_stages(toy_packs(), recipe.stages, again, start=tmp_path / "whole", progress=False)
    assert log_of(again / "fine")[0]["loss"] != log_of(tmp_path / "whole" / "fine")[0]["loss"]
    with pytest.raises(InputError, match="to start from"):
        train_stages(toy_packs(), recipe.stages, tmp_path / "none", start=tmp_path, progress=False)


def test_a_run_does_not_go_on_with_other_labels_than_it_was_begun_with(tmp_path: Path) -> None:
    """Its weights, finished or not, are of those it had."""
    packs = toy_packs()
    train(packs, SHORT, tmp_path / "run", progress=False)
    mended = replace(packs[1], labels=np.where(packs[1].labels == 1, 3, packs[1].labels).astype(np.uint8))
    with pytest.raises(OutputError, match=r"begun on other scans or labels of b \(1 in all\)"):
        train([packs[0], mended], SHORT, tmp_path / "run", resume=True, progress=False)
    with pytest.raises(OutputError, match="begun on other scans or labels of c"):
        train([*packs, toy_pack("c", seed=4)], SHORT, tmp_path / "run", resume=True, progress=False)


@pytest.mark.parametrize(
    ("kept_out", "other"),
    [("BraTS-GLI-00001-000", "BraTS-GLI-00001-001"), ("BraTS2021_00000", "BraTS-GLI-00000-000")],
    ids=["by the name", "by the head"],
)
def test_no_patient_is_trained_on_and_kept_out(tmp_path: Path, kept_out: str, other: str) -> None:
    seed = 1 if kept_out[:9] == other[:9] else 0  # else the same scans, with another label
    one = toy_pack(kept_out)
    two = replace(toy_pack(other, seed=seed, centre=(30, 20, 24)) if seed else one, id=other, labels=one.labels // 2)
    config = replace(SHORT, validation=(kept_out,))
    with pytest.raises(InputError, match=f"validates on {kept_out} and trains on {other} of the same patient"):
        train([one, two], config, tmp_path / "run", progress=False)
