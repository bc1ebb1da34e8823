"""A cascaded fine stage: its coarse channels while training are those it gets later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_packs import UNALTERED, toy_pack, toy_packs

from brats_seg.core.errors import ModelError, UsageError
from brats_seg.models.card import find_model
from brats_seg.segment.predict import Predictor
from brats_seg.train import augment as augment_module
from brats_seg.train.augment import Chance, draw_sample
from brats_seg.train.config import AugmentConfig, TrainConfig
from brats_seg.train.crossval import as_prepared
from brats_seg.train.data import LEVELS_PER_LOGIT, Prior, training_case
from brats_seg.train.export import assemble_runs
from brats_seg.train.loop import Sources, train
from brats_seg.train.prior import PRIORS, open_coarse, predict_pack, with_priors
from brats_seg.train.recipe import read_recipe

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMOKE = read_recipe(CONFIGS / "smoke.yaml")
COARSE = replace(SMOKE.stages["coarse"], steps=30)
FINE = replace(SMOKE.stages["fine"], steps=3, warmup=1, coarse_views=3)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "coarse"
    train(toy_packs(), COARSE, run, progress=False)
    return run


def test_unaltered_the_fine_stage_receives_what_it_receives_at_inference(coarse: Path, tmp_path: Path) -> None:
    config = replace(FINE, augment=UNALTERED)
    pack = toy_pack("a")
    stage = open_coarse(coarse, config, CPU)
    case = with_priors([training_case(pack, factor=1, device=CPU)], [pack], stage, config, tmp_path / PRIORS)[0]
    prior = case.prior
    assert prior is not None
    assert prior.blanks == ((), (), ())
    expected = predict_pack(stage.network, pack, stage.config, CPU)
    axes = [torch.arange(n, dtype=torch.float32) for n in case.shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    cascaded = torch.sigmoid(augment_module._cut_prior(case, points, 1))
    inner = (slice(None), *(slice(2, n - 3) for n in case.shape))
    assert float((cascaded - expected)[inner].abs().max()) < 0.25 / LEVELS_PER_LOGIT + 0.02


def test_views_differ_and_say_what_they_lacked(coarse: Path, tmp_path: Path) -> None:
    config = replace(FINE, coarse_views=12, augment=replace(AugmentConfig(), drop_sequence=0.5))
    packs = toy_packs()
    cases = [training_case(pack, factor=1, device=CPU) for pack in packs]
    stage = open_coarse(coarse, config, CPU)
    cascaded = with_priors(cases, packs, stage, config, tmp_path / PRIORS)
    first = cascaded[0].prior
    assert first is not None
    assert first.logits.shape[:2] == (12, 3)
    assert len({view.numpy().tobytes() for view in first.logits}) == 12
    assert any(first.blanks)
    assert not all(first.blanks)
    again = with_priors(cases, packs, stage, config, tmp_path / PRIORS)
    assert all(torch.equal(a.prior.logits, b.prior.logits) for a, b in zip(cascaded, again, strict=True))  # type: ignore[union-attr]
    assert [case.prior.blanks for case in cascaded] == [case.prior.blanks for case in again]  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="another coarse stage or other settings"):
        with_priors(cases, packs, stage, replace(config, seed=99), tmp_path / PRIORS)
    (tmp_path / PRIORS).write_bytes(b"torn")
    with pytest.raises(ModelError, match="damaged"):
        with_priors(cases, packs, stage, config, tmp_path / PRIORS)


def test_a_sequence_missing_for_the_coarse_stage_is_missing_for_the_fine_one() -> None:
    case = training_case(toy_pack("a"), factor=1, device=CPU)
    logits = torch.zeros((1, 3, 22, 26, 20), dtype=torch.int8)
    cascaded = replace(case, prior=Prior(logits, ((1, 3),), 2.0))
    image, _ = draw_sample([cascaded], 0, (16, 16, 16), FINE, Chance(1))
    assert image.shape == (7, 16, 16, 16)
    assert not image[[1, 3]].any()
    assert image[[0, 2]].any()
    assert ((image[4:] > 0) & (image[4:] < 1)).all()


def test_both_stages_train_and_become_a_model_that_predicts(coarse: Path, tmp_path: Path) -> None:
    run = tmp_path / "fine"
    train(toy_packs(), FINE, run, sources=Sources(coarse=coarse), progress=False, until=0)
    train(toy_packs(), FINE, run, sources=Sources(coarse=coarse), progress=False, resume=True)
    whole = tmp_path / "whole"
    train(toy_packs(), FINE, whole, sources=Sources(coarse=coarse), progress=False)
    assert (run / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    runs = {"coarse": coarse, "fine": run}
    bundle = assemble_runs(runs, CONFIGS / "glioma_card.yaml", tmp_path / "model")
    fine = find_model(str(bundle.folder)).card.stage("fine")
    assert fine is not None
    assert fine.is_cascaded
    prepared = as_prepared(toy_pack("d", centre=(26, 30, 22), seed=5), 8)
    answers = [Predictor(bundle, engine=engine).predict(prepared) for engine in ("torch", "openvino")]
    assert answers[0].probabilities.array.max() > 0.5
    np.testing.assert_allclose(answers[0].probabilities.array, answers[1].probabilities.array, atol=2e-3)
    assert any("fine stage" in line for line in answers[0].decisions)
    other = tmp_path / "other"
    train(toy_packs(), replace(COARSE, steps=6, seed=8), other, progress=False)
    with pytest.raises(ModelError, match="other weights"):
        assemble_runs({"coarse": other, "fine": run}, CONFIGS / "glioma_card.yaml", tmp_path / "m2", onnx=False)
    with pytest.raises(ModelError, match="pass its run too"):
        assemble_runs({"fine": run}, CONFIGS / "glioma_card.yaml", tmp_path / "m3", onnx=False)


def test_stages_that_do_not_go_together_are_refused(coarse: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pass --coarse RUN"):
        train(toy_packs(), FINE, tmp_path / "a", progress=False)
    with pytest.raises(UsageError, match="takes no probabilities"):
        train(toy_packs(), COARSE, tmp_path / "b", sources=Sources(coarse=coarse), progress=False)
    with pytest.raises(ModelError, match="no run folder"):
        train(toy_packs(), FINE, tmp_path / "c", sources=Sources(coarse=tmp_path), progress=False)
    with pytest.raises(UsageError, match="only a fine stage"):
        replace(FINE, stage="coarse", spacing_mm=2.0)
    with pytest.raises(UsageError, match="in_channels is 5"):
        TrainConfig(network=replace(FINE.network, in_channels=5))
