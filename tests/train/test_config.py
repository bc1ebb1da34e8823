"""Training settings: unknown keys fail, types are checked, and every shipped file loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from toy_packs import toy_packs

from brats_seg.core.errors import UsageError
from brats_seg.core.plain import plain
from brats_seg.train.config import AugmentConfig, TrainConfig, train_config
from brats_seg.train.data import PackedStudy, with_teacher, write_taught
from brats_seg.train.loop import Sources
from brats_seg.train.recipe import read_recipe, train_stages
from brats_seg.train.runs import read_yaml, with_settings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPES = sorted(path for path in CONFIGS.glob("*.yaml") if "stages" in read_yaml(path))


TINY = ("steps=2", "warmup=1", "patches=[[16, 16, 16]]", "phantoms.share=0", "batch=1", "coarse_views=1")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_shipped_recipe_trains_both_stages(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    assert tuple(recipe.stages) == ("coarse", "fine")
    assert recipe.named_card.is_file()
    for config in recipe.stages.values():
        assert train_config(yaml.safe_load(yaml.safe_dump(plain(config)))) == config
        assert config.prepare.divisor % (config.network.divisor * config.factor) == 0  # or inference could not pad
    stages = read_recipe(path, TINY).stages
    packs = toy_packs()[:1]
    write_taught(np.zeros((3, *packs[0].labels.shape), np.uint8), tmp_path / "a.npz")
    cubes = [PackedStudy("c.0", packs[0].image[:, 12:32, 16:36, 10:30], packs[0].labels[12:32, 16:36, 10:30])]
    taught = with_teacher(packs, tmp_path)
    assert train_stages(taught, stages, tmp_path / "run", sources=Sources(cubes=cubes), progress=False)


def test_there_are_recipes_to_test() -> None:
    assert {path.name for path in RECIPES} == {"glioma.yaml", "gpu.yaml", "smoke.yaml"}


def test_a_setting_is_for_every_stage_or_for_one(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "every: {steps: 9, warmup: 1, augment: {flip: 0.1}}\nstages:\n  coarse: {seed: 1}\n"
        "  fine: {spacing_mm: 1, steps: 5}\n"
    )
    plain = read_recipe(path).stages
    assert [(stage.steps, stage.seed, stage.augment.flip) for stage in plain.values()] == [(9, 1, 0.1), (5, 0, 0.1)]
    made = read_recipe(path, ["fine.steps=7", "seed=3", "coarse.augment.flip=0.0"]).stages
    assert [(stage.steps, stage.seed, stage.augment.flip) for stage in made.values()] == [(9, 3, 0.0), (7, 3, 0.1)]
    with pytest.raises(UsageError, match="names no card"):
        _ = read_recipe(path).named_card


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stages: {fine: {}}", r"stages are \['fine'\]; coarse, or coarse and fine, work"),
        ("stages: [coarse.yaml]", "coarse, or coarse and fine, work"),
        ("steps: 3", r"unknown keys \['steps'\]"),
        ("card: c.yaml", "has no stages"),
        ("stages: {coarse: {}}\nseed: x", "seed is 'x'"),
        ("stages: {coarse: {}, fine: {spacing_mm: 1, prepare: {divisor: 16}}}", "prepare studies differently"),
        ("stages: {coarse: {colour: blue}}", "unknown keys"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_recipe(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rat": 1e-3}, r"unknown keys \['learning_rat'\].*learning_rate"),
        ({"augment": {"flop": 1.0}}, r"augment has unknown keys \['flop'\]"),
        ({"network": {"width": [8, 16]}}, "network has unknown keys"),
        ({"network": {"widths": [8, 16]}}, "same length"),
        ({"prepare": {"percentiles": [99, 1]}}, "percentiles"),
        ({"stage": "medium"}, "choose coarse or fine"),
        ({"spacing_mm": 1.5}, "whole multiple"),
        ({"spacing_mm": 0.5}, "whole multiple"),
        ({"patches": [[20, 32, 32]]}, "multiples of 16"),
        ({"patches": [[32, 32]]}, "three sides"),
        ({"warmup": 5000}, "between 0 and steps"),
        ({"steps": "many"}, "steps is 'many'"),
        ({"steps": 10.5}, "steps is 10.5"),
        ({"steps": True}, "steps is True"),
        ({"learning_rate": "quick"}, "learning_rate is 'quick'"),
        ({"optimiser": "adamw"}, "unknown keys"),
        ({"patches": 32}, "patches is 32"),
        ({"stage": None}, "stage is None"),
        ({"sequences": ["t1", "dwi"]}, "choose from t1, t1ce, t2, flair"),
        ({"sequences": []}, "choose from"),
        ({"precision": "fp16"}, "choose auto, bf16 or fp32"),
        ({"augment": {"drop_odds": [1, 1, 3]}}, "one number above 0 for each"),
        ({"augment": {"drop_odds": [1, 1, 1, 0]}}, "one number above 0 for each"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        train_config(values)
    assert caught.value.exit_code == 2


def test_a_number_that_yaml_reads_as_a_word_is_still_a_number() -> None:
    values = yaml.safe_load("learning_rate: 1e-3\nsteps: 200")
    assert isinstance(values["learning_rate"], str)
    assert train_config(values).learning_rate == 0.001
    assert train_config({"spacing_mm": 2}).factor == 2


def test_bf16_is_for_gpus_unless_asked_for() -> None:
    config = TrainConfig()
    assert (config.uses_bf16("cpu"), config.uses_bf16("cuda")) == (False, True)
    assert replace(config, precision="bf16").uses_bf16("cpu")
    assert not replace(config, precision="fp32").uses_bf16("cuda")


def test_what_earlier_versions_wrote_down_is_read() -> None:
    written = {"steps": 200, "optimiser": "muon", "region_weights": [1.0, 1.0, 1.0], "tensorboard": False}
    assert train_config(written) == TrainConfig(steps=200)


def test_empty_settings_are_the_defaults() -> None:
    assert train_config({}) == TrainConfig()
    assert train_config({"augment": None}).augment == AugmentConfig()
    assert replace(TrainConfig(), spacing_mm=3.0).factor == 3


def test_values_are_replaced_on_the_command_line() -> None:
    values = {"steps": 10, "augment": {"flip": 0.5}}
    made = with_settings(values, ["steps=300", "augment.transplant=0", "patches=[[16, 16, 16]]", "learning_rate=1e-3"])
    assert made["steps"] == 300
    assert made["augment"] == {"flip": 0.5, "transplant": 0}
    assert values == {"steps": 10, "augment": {"flip": 0.5}}
    config = train_config({**made, "warmup": 1, "augment": {"transplant": 0.0}})
    assert (config.learning_rate, config.patches) == (1e-3, ((16, 16, 16),))
    for wrong in ("steps", "=3", "augment.=3", "steps=[1"):
        with pytest.raises(UsageError, match="--set"):
            with_settings(values, [wrong])
