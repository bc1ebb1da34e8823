"""Cross-validation: nobody is judged by a model that saw them, and nothing fitted has seen them either."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from glioma import REGIONS, WT
from safetensors.torch import load_file, save_file
from toy_packs import toy_pack

from brats_seg.cli.main import main
from brats_seg.core.errors import InputError, ModelError, UsageError
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.settings import PrepareConfig
from brats_seg.models.card import find_model
from brats_seg.models.rules import PostprocessConfig, RequireCore, RequireEnhancement, postprocess_from_dict
from brats_seg.segment.postprocess import LEAST_ENHANCING
from brats_seg.segment.predict import StageOutputs
from brats_seg.train import recipe as recipe_module
from brats_seg.train.calibrate import (
    MIN_ENHANCING_ML,
    USUAL_RISE,
    Case,
    fit_postprocess,
    fit_rise,
    fit_sizes,
    fit_temperatures,
    fit_thresholds,
    simplest_as_good,
    sweep,
    with_threshold,
)
from brats_seg.train.crossval import (
    FoldModels,
    as_prepared,
    check_models,
    fold_config,
    fold_start,
    open_split,
    outputs_of,
    read_case,
    without,
    write_case,
)
from brats_seg.train.data import PackedStudy, load_packs, write_pack
from brats_seg.train.judge import Fit, interval_summary, left_out_intervals, segmentation_of, subsets, write_fold_cards
from brats_seg.train.pack import open_auxiliary
from brats_seg.train.recipe import read_recipe
from brats_seg.train.runs import read_yaml, record_start, start_weights
from brats_seg.train.splits import read_split
from brats_seg.train.state import saved_step

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PLACES = [(11, 13, 10), (14, 10, 13), (9, 14, 9), (13, 14, 11), (10, 11, 13)]


def small_pack(name: str, *, centre: tuple[int, int, int], seed: int) -> PackedStudy:
    """A study that fills 24 voxels a side, and no more."""
    return toy_pack(name, centre=centre, seed=seed, shape=(22, 24, 22), radii=(7, 5, 3))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs of five patients, one of them with two visits, and a configuration of both stages."""
    folder = tmp_path_factory.mktemp("crossval")
    for number, centre in enumerate(PLACES):
        write_pack(small_pack(f"BraTS-GLI-{number:05d}-000", centre=centre, seed=number), folder / "packs")
    write_pack(small_pack("BraTS-GLI-00000-001", centre=PLACES[0], seed=9), folder / "packs")
    recipe = yaml.safe_load((CONFIGS / "smoke.yaml").read_text())
    recipe["card"] = str(CONFIGS / "glioma_card.yaml")
    recipe["stages"]["coarse"]["steps"] = 40
    recipe["stages"]["fine"] |= {"steps": 4, "warmup": 1}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder


def command(place: Path, run: Path, *more: str) -> int:
    start = ["crossval", str(place / "recipe.yaml"), "--data", str(place / "packs")]
    return main([*start, "--folds", "2", "-o", str(run), *more])


@pytest.fixture(scope="module")
def finished(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("brats_seg.train.judge.subsets", lambda: [SEQUENCES, (MRSequence.T1,)])  # two of the 15
        patched.setattr("brats_seg.evaluate.figures.png_of", lambda _: b"a plot")
        assert command(place, run, "--subsets", "-q") == 0
    return run


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages take longest. The run that is shared has one, as it is made before a test begins."""
    monkeypatch.setattr("brats_seg.train.judge.evaluation_html", lambda *_, **__: "<html></html>")


def test_every_study_is_judged_once_by_a_model_that_kept_it_out(place: Path, finished: Path) -> None:
    packs = load_packs(place / "packs")
    split = read_split(finished / "split.json", packs)
    with (finished / "results" / "cases.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert sorted({row["case"] for row in rows}) == sorted(pack.id for pack in packs)
    assert len(rows) == 3 * len(packs)
    whole = [float(row["dice"]) for row in rows if row["region"] == "WT"]
    assert np.mean(whole) > 0.5  # a bright ball
    for fold, ids in enumerate(split.folds):
        for stage in ("coarse", "fine"):
            assert read_yaml(finished / f"fold{fold}" / stage / "config.yaml")["validation"] == list(ids)
        outputs = {path.stem for path in (finished / f"fold{fold}" / "outputs").glob("*.npz")}
        assert outputs == set(ids)


def test_folds_start_from_those_of_another_run(
    place: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packs, config = load_packs(place / "packs"), read_recipe(place / "recipe.yaml")
    split = open_split(packs, config, 2, tmp_path / "more", start=finished)
    assert split == read_split(finished / "split.json", packs)
    assert fold_start(finished, packs, split.folds[1]) == finished / "fold1"
    assert start_weights(finished / "fold1", "coarse") == finished / "fold1" / "coarse" / "weights.safetensors"
    assert command(place, tmp_path / "more", "--init", str(finished), "--only", "1", "--resume", "-q") == 0
    begun = read_log(tmp_path / "more" / "fold1" / "coarse")
    assert begun[0] < read_log(finished / "fold1" / "coarse")[0]  # the loss of the first steps
    (tmp_path / "bare").mkdir()
    shutil.copy(finished / "split.json", tmp_path / "bare" / "split.json")
    assert command(place, tmp_path / "less", "--init", str(tmp_path / "bare"), "-q") == 3
    # networks of another split have seen what this one keeps out
    open_split(packs, replace(config, seed=5), 2, tmp_path / "other")
    assert command(place, tmp_path / "other", "--init", str(finished), "--resume", "-q") == 2
    assert "seed 5" in capsys.readouterr().err
    taken = json.loads((finished / "split.json").read_text())
    alone = [next(name for name in ids if "00000" not in name) for ids in taken["folds"]]
    taken["folds"] = [[*(set(ids) - {alone[k]}), alone[1 - k]] for k, ids in enumerate(taken["folds"])]
    (tmp_path / "other" / "split.json").write_text(json.dumps(taken))
    with pytest.raises(UsageError, match="have seen them"):
        open_split(packs, config, 2, tmp_path / "other", start=finished)


def test_folds_start_from_a_run_that_has_seen_none_of_their_studies(
    place: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "start.yaml"
    recipe = yaml.safe_load((place / "recipe.yaml").read_text())
    config.write_text(yaml.safe_dump({**recipe, "stages": {"coarse": recipe["stages"]["coarse"]}}))
    write_pack(small_pack("phantom-1", centre=(9, 12, 10), seed=30), tmp_path / "phantoms")
    pretrain = ["train", str(config), "--set", "steps=30", "-q"]
    clean, leaking = tmp_path / "clean", tmp_path / "leaking"
    assert main([*pretrain, "--data", str(tmp_path / "phantoms"), "-o", str(clean)]) == 0
    assert fold_start(clean, [], []) == clean
    assert start_weights(clean, "coarse") == clean / "coarse" / "weights.safetensors"
    assert start_weights(clean, "fine") is None
    run = tmp_path / "run"
    assert command(place, run, "--init", str(clean), "--only", "1", "--precision", "bf16", "-q") == 0
    assert read_yaml(run / "fold1" / "fine" / "config.yaml")["precision"] == "bf16"
    assert (run / "split.json").read_text() == (finished / "split.json").read_text()  # drawn as ever
    assert read_log(run / "fold1" / "coarse")[0] < read_log(finished / "fold1" / "coarse")[0]
    # one study under another name, which a comparison of names would miss
    write_pack(replace(load_packs(place / "packs")[2], id="phantom-2"), tmp_path / "phantoms")
    assert main([*pretrain, "--data", str(tmp_path / "phantoms"), "-o", str(leaking)]) == 0
    assert command(place, tmp_path / "spoilt", "--init", str(leaking), "-q") == 2
    assert "was trained on BraTS-GLI" in capsys.readouterr().err
    (clean / "coarse" / "seen.json").unlink()
    assert command(place, tmp_path / "unknown", "--init", str(clean), "-q") == 4
    assert "does not say which studies" in capsys.readouterr().err


def test_a_folds_card_lists_what_the_weights_knew_that_it_started_from(
    place: Path, finished: Path, tmp_path: Path
) -> None:
    packs, split = load_packs(place / "packs"), read_split(finished / "split.json", load_packs(place / "packs"))
    shutil.copytree(finished, tmp_path / "run")
    record_start({"phantom-1": {}, split.folds[0][0]: {}}, tmp_path / "run" / "fold0" / "coarse")
    bundles = [find_model(str(tmp_path / "run" / f"fold{fold}" / "model")) for fold in range(2)]
    fits = [Fit(bundle.card.postprocess, None) for bundle in bundles]
    write_fold_cards(dict(enumerate(bundles)), split, fits, packs)
    cards = [find_model(str(bundle.folder)).card for bundle in bundles]
    assert set(cards[0].seen) == {"phantom-1", *split.folds[1]}  # another's study by the name of one it kept out is not
    assert set(cards[1].seen) == set(split.folds[0])


def read_log(run: Path) -> list[float]:
    with (run / "log.csv").open() as handle:
        return [float(row["loss"]) for row in csv.DictReader(handle)]


def test_folds_train_on_auxiliary_studies_in_both_stages(place: Path, finished: Path, tmp_path: Path) -> None:
    write_pack(small_pack("phantom-1", centre=(9, 12, 10), seed=30), tmp_path / "phantoms")
    recipe = yaml.safe_load((place / "recipe.yaml").read_text())
    recipe["every"]["auxiliary"] = 0.5
    recipe["stages"]["coarse"] |= {"steps": 4, "warmup": 1}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    start = ["crossval", str(tmp_path / "recipe.yaml"), "--data", str(place / "packs"), "--folds", "2", "--only", "1"]
    run = tmp_path / "run"
    assert main([*start, "-o", str(run), "-q", "--auxiliary", str(tmp_path / "phantoms")]) == 0
    for fold in read_split(run / "split.json", load_packs(place / "packs")).folds:
        assert "phantom-1" not in fold
    with np.load(run / "fold1" / "fine" / "priors_auxiliary.npz") as held:
        assert {name.partition("/")[0] for name in held} == {"key", "phantoms.phantom-1"}


def test_what_a_card_needs_is_written(finished: Path) -> None:
    fits = json.loads((finished / "results" / "fits.json").read_text())
    assert len(fits["folds"]) == 2
    config = postprocess_from_dict(fits["final"]["postprocess"])
    assert 0 < min(config.thresholds.values()) <= max(config.thresholds.values()) < 1
    assert fits["final"]["intervals"] is None  # six studies are too few for 90 %
    table = pd.read_csv(finished / "results" / "subsets.csv")
    assert list(table.columns) == ["sequences", "WT", "TC", "ET"]
    assert list(table["sequences"]) == ["t1+t1ce+t2+flair", "t1"]
    assert table["WT"][0] > table["WT"][1]  # only T2 and FLAIR show the ball
    assert (finished / "results" / "evaluation.html").stat().st_size > 1000
    card = find_model(str(finished / "fold1" / "model")).card
    assert card.stage("fine") is not None
    assert card.name == "glioma-fold1"
    assert card.trained_on == f"{len(card.seen)} of the 6 studies of a cross-validation, the others kept out"
    assert list(card.held_out) == json.loads((finished / "split.json").read_text())["folds"][1]
    assert not set(card.seen) & set(card.held_out)
    assert set(card.fingerprints) == set(card.seen)
    assert card.accuracy["not measured of this model alone"].startswith("one of 2 of a cross-validation")
    assert card.expected_loss(()).endswith("was not measured for this model alone, which is one of a cross-validation")
    assert card.postprocess.thresholds == fits["folds"]["1"]["postprocess"]["thresholds"]


def test_a_finished_stage_is_not_opened_again_but_one_whose_weights_lag_behind_is(
    place: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    weights = run / "fold1" / "coarse" / "weights.safetensors"
    assert saved_step(weights.parent) == 40
    with monkeypatch.context() as patched:  # it is trained anew or not; what is found of it is judged in other tests
        patched.setattr("brats_seg.cli.crossval._judge", lambda *_: None)
        with patched.context() as untrained:
            untrained.setattr(recipe_module, "train", lambda *_, **__: pytest.fail("trained again"))
            assert command(place, run, "--only", "1", "--resume", "-q") == 0
        # killed after the last row of the log and before the weights: the log alone says that all is done
        state = torch.load(weights.with_name("checkpoint.pt"), weights_only=True)
        torch.save({**state, "step": 39}, weights.with_name("checkpoint.pt"))
        save_file(load_file(weights), weights, metadata={"made_by": "brats-seg, stage coarse, step 39"})
        assert command(place, run, "--only", "1", "--resume", "-q") == 0
    assert saved_step(weights.parent) == 40
    shutil.rmtree(run / "fold1" / "model")
    assert command(place, run, "--resume", "-q") == 4  # the fine stage was trained on other coarse weights


def test_a_model_trained_on_all_gets_the_figures_of_cross_validation(
    place: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coarse = shutil.copytree(finished / "fold0" / "coarse", tmp_path / "coarse")
    more = {**json.loads((coarse / "seen.json").read_text()), "later": "0" * 64}
    (coarse / "seen.json").write_text(json.dumps(more))  # one that was not cross-validated
    stages = [f"--coarse={coarse}", f"--fine={finished / 'fold0' / 'fine'}"]
    card = ["--card", str(CONFIGS / "glioma_card.yaml"), "--no-openvino"]
    done = main(["models", "assemble", *stages, *card, "--crossval", str(finished), "-o", str(tmp_path / "model")])
    assert done == 0
    made = find_model(str(tmp_path / "model")).card
    assert set(made.seen) == {"later", *(pack.id for pack in load_packs(place / "packs"))}
    assert set(made.fingerprints) == set(made.seen) - {"later"}
    assert list(made.subsets) == ["t1+t1ce+t2+flair", "t1"]
    summary = pd.read_csv(finished / "results" / "summary.csv").query("subset == 'all' and metric == 'dice'")
    mean = summary.set_index("region").loc["WT", "mean"]
    assert f"WT {mean:.3f}" in made.accuracy["mean Dice, 2-fold cross-validation, 6 studies"]
    fits = json.loads((finished / "results" / "fits.json").read_text())["final"]["postprocess"]
    assert made.postprocess.thresholds == fits["thresholds"]
    capsys.readouterr()
    again = ["models", "assemble", stages[0], *card, "--crossval", str(place), "-o", str(tmp_path / "other")]
    assert main(again) == 4
    assert "holds no finished cross-validation" in capsys.readouterr().err


def test_a_run_stopped_and_resumed_ends_like_one_that_was_not(
    place: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "broken"
    assert command(place, run, "--stop-after-s", "0.5") == 0
    assert "not finished: fold 0, 1. Go on with --resume." in capsys.readouterr().out
    assert not (run / "results").exists()
    assert command(place, run) == 6
    assert "--resume" in capsys.readouterr().err
    assert command(place, run, "--resume", "--only", "1", "-q") == 0
    assert not (run / "results").exists()
    assert command(place, run, "--resume") == 0
    assert "6 studies, each judged by a model that did not see it" in capsys.readouterr().out
    assert (run / "results" / "cases.csv").read_text() == (finished / "results" / "cases.csv").read_text()


def test_two_folds_of_three_are_judged_alone(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = yaml.safe_load((place / "recipe.yaml").read_text())
    for stage in recipe["stages"].values():
        stage |= {"steps": 2, "warmup": 1}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    run = tmp_path / "run"
    start = ["crossval", str(tmp_path / "recipe.yaml"), "--data", str(place / "packs"), "--folds", "3", "-o", str(run)]
    assert main([*start, "--only", "2"]) == 0
    assert "not finished: fold 0, 1. " in capsys.readouterr().out
    assert main([*start, "--only", "2", "--only", "0", "--resume"]) == 0
    folds = read_split(run / "split.json", load_packs(place / "packs")).folds
    judged = set(folds[0]) | set(folds[2])
    assert f"{len(judged)} studies, each judged" in capsys.readouterr().out
    assert set(pd.read_csv(run / "results" / "cases.csv")["case"]) == judged
    assert not (run / "fold1").exists()
    stages = [f"--{name}={run / 'fold0' / name}" for name in ("coarse", "fine")]
    card = ["--card", str(CONFIGS / "glioma_card.yaml"), "--no-openvino"]
    made = ["models", "assemble", *stages, *card, "--crossval", str(run), "-o", str(tmp_path / "model")]
    assert main([*made, "-q"]) == 0
    accuracy = find_model(str(tmp_path / "model")).card.accuracy
    assert f"mean Dice, 2 folds of a 3-fold cross-validation, {len(judged)} studies" in accuracy


def test_mistakes_get_one_line(place: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(place, tmp_path / "x", "--only", "2") == 2
    assert "numbered from 0 to 1" in capsys.readouterr().err
    start = ["crossval", str(place / "recipe.yaml"), "--data", str(place / "packs")]
    assert main([*start, "--folds", "3", "-o", str(finished), "--resume"]) == 2
    assert "was started with 2 folds and seed 4, not 3 and 4" in capsys.readouterr().err
    assert main([*start, "--folds", "9", "-o", str(tmp_path / "y")]) == 3
    assert "5 patients cannot be dealt out to 9 folds" in capsys.readouterr().err
    assert main([*start, "--auxiliary", str(place / "packs"), "-o", str(tmp_path / "z")]) == 2
    assert "no stage of the configuration sets auxiliary" in capsys.readouterr().err
    twice = [place / "packs", tmp_path / "packs"]
    with pytest.raises(UsageError, match="names of their folders, not packs, packs"):
        open_auxiliary(twice, tmp_path / "cache", PrepareConfig())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((place / "recipe.yaml").read_text().replace("card:", "# card:"))
    assert main(["crossval", str(recipe), "--data", str(place / "packs"), "-o", str(tmp_path / "v")]) == 2
    assert "names no card" in capsys.readouterr().err


def test_a_model_of_another_split_is_noticed(place: Path, finished: Path, tmp_path: Path) -> None:
    packs, config = load_packs(place / "packs"), read_recipe(place / "recipe.yaml")
    split = read_split(finished / "split.json", packs)
    check_models(config, split, finished, (0, 1))
    turned = type(split)(split.seed, split.folds[::-1], split.strata)
    with pytest.raises(ModelError, match="another split"):
        check_models(config, turned, finished, (0, 1))
    assert open_split(packs, config, 2, finished) == split
    assert fold_config(config.stages["coarse"], split, 1).seed == config.stages["coarse"].seed + 1


def test_a_case_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = rng.random((3, 9, 8, 7)).astype(np.float16)
    close = rng.random((3, 4, 4, 4)).astype(np.float16)
    brain = rng.random((9, 8, 7)) < 0.5
    labels = rng.integers(0, 4, (9, 8, 7)).astype(np.uint8)
    rise = rng.random((9, 8, 7)).astype(np.float16)
    case = Case("a", StageOutputs(whole, close, (slice(1, 5), slice(2, 6), slice(3, 7))), brain, labels, rise)
    write_case(case, tmp_path / "a.npz")
    again = read_case(tmp_path / "a.npz")
    assert np.array_equal(again.outputs.whole, whole)
    assert np.array_equal(again.outputs.close, close)
    assert again.outputs.box == case.outputs.box
    assert np.array_equal(again.brain, brain)
    assert np.array_equal(again.labels, labels)
    assert again.rise is not None and np.array_equal(again.rise, rise)
    write_case(replace(case, rise=None), tmp_path / "a.npz")
    assert read_case(tmp_path / "a.npz").rise is None
    (tmp_path / "a.npz").write_bytes(b"torn")
    with pytest.raises(InputError, match="damaged"):
        read_case(tmp_path / "a.npz")


def ball_case(*, sharpness: float, seed: int) -> Case:
    """A ball whose log-odds are true times ``sharpness``: labels are drawn from the probabilities."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.arange(24) - 11.5] * 3, indexing="ij")
    honest = 0.25 * (9 - np.sqrt(sum(axis**2 for axis in axes)))
    labels = np.where(rng.random(honest.shape) < 1 / (1 + np.exp(-honest)), 3, 0).astype(np.uint8)
    said = 1 / (1 + np.exp(-sharpness * honest))
    array = np.stack([said] * 3).astype(np.float32)
    return Case(f"c{seed}", StageOutputs(array, None, None), np.ones(labels.shape, bool), labels)


def specks(seed: int) -> Case:
    """A tumour of 4 ml without enhancement, of which 0.25 ml are called enhancing."""
    shape = (24, 24, 24)
    array = np.zeros((3, *shape), np.float32)
    array[:2, 4:20, 4:20, 4:20] = 0.99
    array[2, 6:10, 6:10, 6 : 21 + seed % 2] = 0.6
    labels = np.where(array[0] > 0.5, 1, 0).astype(np.uint8)
    return Case(f"s{seed}", StageOutputs(array, None, None), np.ones(shape, bool), labels)


def test_enhancement_that_does_not_rise_is_doubted_when_sizes_are_fitted_and_scored() -> None:
    case = ball_case(sharpness=0.5, seed=0)
    flat = replace(case, labels=np.minimum(case.labels, 1), rise=np.zeros(case.labels.shape))
    config = fit_postprocess([flat], PostprocessConfig())
    assert config.rules[1] == RequireEnhancement("ET", min(MIN_ENHANCING_ML), USUAL_RISE)
    # without T1CE only its size can tell it from true enhancement
    small = [replace(case, rise=None) for case in (specks(seed) for seed in range(4))]
    assert fit_sizes(small, replace(config, thresholds={})).rules[1] == RequireEnhancement("ET", 0.3, USUAL_RISE)
    for rise in (np.zeros(case.labels.shape), np.full(case.labels.shape, 9.0), None):
        held = replace(flat, rise=rise)
        found = segmentation_of(held, config)
        assert found.probabilities is not None
        np.testing.assert_array_equal(found.probabilities.array, held.settled(config))
        factor = 1.0 if rise is None or rise.any() else LEAST_ENHANCING
        np.testing.assert_allclose(held.settled(config)[2], factor * held.probabilities(config).array[2], rtol=1e-5)


def rising_case(seed: int, *, low: float, high: float) -> Case:
    """A tumour whose enhancing part enhances by ``high`` and whose rest, in the tenth that does most, by ``low``."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[2:22, 2:22, 2:22] = 2
    labels[4:10, 4:10, 4:10] = 3
    rise = rng.normal(0, low / 1.2816, labels.shape)
    rise[labels == 3] = high
    array = np.stack([labels > 0, labels == 3, labels == 3]).astype(np.float32)
    return Case(f"r{seed}", StageOutputs(array, None, None), np.ones(labels.shape, bool), labels, rise)


def test_the_rise_that_is_doubted_lies_between_tumour_without_enhancement_and_with_it() -> None:
    cases = [rising_case(seed, low=0.8 + 0.1 * (seed % 5), high=4.0 + seed) for seed in range(20)]
    low, high = fit_rise(cases)
    assert low == pytest.approx(1.0, abs=0.1)
    assert 4.0 < high < 6.0
    assert fit_rise(cases[:3]) == USUAL_RISE  # too few to say
    assert fit_rise([replace(case, rise=None) for case in cases]) == USUAL_RISE


def test_a_temperature_makes_overconfident_outputs_honest() -> None:
    for sharpness in (1.0, 3.0):
        cases = [ball_case(sharpness=sharpness, seed=seed) for seed in range(4)]
        found = fit_temperatures(cases, PostprocessConfig())
        assert found == pytest.approx(dict.fromkeys(REGIONS.names, sharpness), rel=0.1)


def test_thresholds_of_honest_outputs_lie_at_half_the_dice() -> None:
    """Lipton et al. 2014, arXiv:1402.1892: the threshold that is best for Dice is half the best Dice.

    Four like balls tell thresholds apart beyond chance, so that one half is left.
    """
    cases = [ball_case(sharpness=3.0, seed=seed) for seed in range(4)]
    config = fit_postprocess(cases, PostprocessConfig(roi_margin_mm=9.0))
    assert all(0.3 <= threshold < 0.5 for threshold in config.thresholds.values())
    assert config.roi_margin_mm == 9.0


def test_of_thresholds_that_dice_cannot_tell_apart_one_without_a_bias_of_the_volume_is_taken() -> None:
    axes = np.meshgrid(*[np.arange(32) - 15.5] * 3, indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    said = np.clip(0.5 + (8 - radius) / 8, 0, 1)  # one half at 8 voxels, 0.4 at 8.8

    def study(true_radius: float) -> Case:
        labels = np.where(radius < true_radius, 3, 0).astype(np.uint8)
        array = np.stack([said] * 3).astype(np.float32)
        return Case(f"r{true_radius:.2f}", StageOutputs(array, None, None), np.ones(labels.shape, bool), labels)

    offsets = np.linspace(-2, 2, 9)
    found = [fit_thresholds([study(middle + o) for o in offsets], PostprocessConfig()) for middle in (7.2, 8.0, 8.9)]
    assert found[0]["WT"] > found[1]["WT"] == 0.5 > found[2]["WT"] >= 0.35
    dice = sweep([study(8.9 + o) for o in offsets], PostprocessConfig(), WT, [0.5, found[2]["WT"]]).dice
    assert simplest_as_good(dice) == 0  # by Dice alone one half would stay
    assert fit_thresholds([study(9.0)], PostprocessConfig()) == dict.fromkeys(
        REGIONS.names, 0.5
    )  # one study decides nothing


def test_false_enhancement_that_does_not_rise_moves_no_threshold() -> None:
    """A third of the studies are called enhancing, with little conviction, and are not; the rise tells that."""
    rng = np.random.default_rng(0)
    config = PostprocessConfig(rules=(RequireEnhancement("ET", rise=USUAL_RISE),))
    studies = [ball_case(sharpness=1.0, seed=seed) for seed in range(9)]
    none = [replace(case, labels=np.minimum(case.labels, 1)) for case in studies[:3]]
    for case in none:
        assert case.outputs.whole is not None
        case.outputs.whole[2] *= 0.6  # 0.54 at most
    blind = fit_thresholds([*none, *studies[3:]], config)
    flat = [replace(case, rise=0.1 * rng.standard_normal(case.labels.shape)) for case in none]
    seen = fit_thresholds([*flat, *studies[3:]], config)
    assert all(seen[name] == blind[name] for name in ("WT", "TC"))
    assert blind["ET"] >= 0.55 and seen["ET"] < 0.5


@pytest.mark.parametrize("region", list(REGIONS))
def test_thresholds_are_fitted_on_what_is_applied(region: Any) -> None:
    case = ball_case(sharpness=0.5, seed=0)
    assert case.outputs.whole is not None
    case.outputs.whole[0, :3, :3, :3] = 0.6  # a place without a core
    rules = (RequireCore("WT", "TC", min_ml=2.0), RequireEnhancement("ET", rise=USUAL_RISE))
    config = PostprocessConfig(thresholds={"WT": 0.45, "TC": 0.4}, rules=rules)
    held = replace(case, rise=np.full(case.labels.shape, 2.0))
    found = sweep([held], config, region, [0.35, 0.5, 0.65]).dice[0]
    for dice, threshold in zip(found, (0.35, 0.5, 0.65), strict=True):
        assert dice == held.scores(with_threshold(config, region, threshold))[REGIONS.index(region)]


def test_chance_seldom_moves_a_setting_and_a_real_difference_does() -> None:
    stayed, moved = 0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        same = 0.8 + 0.1 * rng.standard_normal((30, 1)) + 0.02 * rng.standard_normal((30, 4))
        stayed += simplest_as_good(same) == 0
        same[:, 2] += 0.05
        moved += simplest_as_good(same) == 2
    assert stayed >= 24  # the plain best would stay in 10 of 40
    assert moved == 40
    assert simplest_as_good(same[:1]) == 0  # one study decides nothing


def test_missing_sequences_are_blank_and_named() -> None:
    prepared = as_prepared(toy_pack("a"), 32)
    assert prepared.grid.shape == (64, 64, 64)
    less = without(prepared, [MRSequence.T1CE])
    assert not less.array[1].any()
    assert MRSequence.T1CE not in less.present
    assert prepared.array[1].any()
    kept = subsets()
    assert len(kept) == len(set(kept)) == 15
    assert kept[0] == SEQUENCES


def test_intervals_are_summed_up_by_region() -> None:
    rows = pd.DataFrame(
        {
            "region": ["WT", "WT", "NCR", "TC", "ET"],
            "volume_ml": [10.0, 20.0, 1.0, 5.0, 0.0],
            "low_ml": [8.0, 15.0, 0.5, 4.0, 0.0],
            "high_ml": [12.0, 25.0, 2.0, 6.0, 1.0],
            "covers": [True, False, True, True, True],
        }
    )
    table = interval_summary(rows).set_index("region")
    assert (table.loc["WT", "covered"], table.loc["WT", "studies"]) == (1, 2)
    assert table.loc["WT", "median_width_percent"] == pytest.approx(45.0)
    assert np.isnan(table.loc["ET", "median_width_percent"])


def test_a_study_has_no_say_in_its_own_interval() -> None:
    def found(last_true_ml: float) -> pd.DataFrame:
        true = [*np.linspace(9.0, 11.0, 19), last_true_ml]
        rows = [{"case": f"s{n}", "region": "WT", "true_ml": t} for n, t in enumerate(true)]
        return left_out_intervals(pd.DataFrame(rows).assign(volume_ml=10.0, doubt_ml=2.0)).set_index("case")

    usual, far = found(10.0), found(90.0)
    assert usual["covers"].sum() >= 18
    assert not far.loc["s19", "covers"]
    assert 10 < usual.loc["s19", "high_ml"] < 12
    assert far.loc["s19", "high_ml"] == pytest.approx(usual.loc["s19", "high_ml"])


def test_too_few_studies_give_no_interval() -> None:
    rows = pd.DataFrame({"case": ["a", "b"], "region": "WT", "true_ml": 1.0, "volume_ml": 1.0, "doubt_ml": 1.0})
    assert left_out_intervals(rows)["low_ml"].isna().all()
    assert not left_out_intervals(rows)["covers"].any()


def test_outputs_follow_the_models_and_the_studies_they_are_of(place: Path, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    packs, config = load_packs(place / "packs"), read_recipe(place / "recipe.yaml")
    split = read_split(run / "split.json", packs)

    def rewritten(held: list[PackedStudy]) -> set[str]:
        paths = {study: run / "fold1" / "outputs" / f"{study}.npz" for study in split.folds[1]}
        before = {study: path.stat().st_mtime_ns for study, path in paths.items()}
        outputs_of(held, FoldModels(config, split, run), 1)
        return {study for study, path in paths.items() if path.stat().st_mtime_ns != before[study]}

    assert rewritten(packs) == set()
    first = split.folds[1][0]
    mended = [replace(p, labels=np.where(p.labels == 1, 3, p.labels)) if p.id == first else p for p in packs]
    assert rewritten(mended) == {first}
    assert not (read_case(run / "fold1" / "outputs" / f"{first}.npz").labels == 1).any()
    card = run / "fold1" / "model" / "model.json"
    card.write_text(card.read_text().replace('"axes": "RAS"', '"axes": "LAS"'))
    assert rewritten(mended) == set(split.folds[1])
