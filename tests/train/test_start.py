"""Going on from other weights: what they know counts as known, however often they were gone on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ensembles import copy_model
from small_models import small_model
from toy_packs import toy_pack

from brats_seg.core.errors import ModelError, UsageError
from brats_seg.train.data import PackedStudy
from brats_seg.train.recipe import read_recipe, train_stages
from brats_seg.train.runs import card_marks, known_before, known_by, start_folder, start_weights

SMOKE = read_recipe(Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml").stages["coarse"]
FIRST, SECOND, THIRD = (toy_pack(name, centre=(22, 26, 14 + 5 * n), seed=n) for n, name in enumerate("abc"))


def go_on(run: Path, packs: list[PackedStudy], start: Path | None, keep_out: str = "") -> list[str]:
    """Two steps of the coarse stage; what was told."""
    said: list[str] = []
    stages = {"coarse": replace(SMOKE, steps=2, warmup=1, validation=(keep_out,) if keep_out else ())}
    assert train_stages(packs, stages, run, start=start, tell=said.append, progress=False)
    return said


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A run on the second study that goes on from one on the first."""
    go_on(tmp_path / "first", [FIRST], None)
    go_on(tmp_path / "second", [SECOND], tmp_path / "first")
    return tmp_path / "second"


def test_a_run_knows_what_the_run_knew_that_it_started_from(second: Path) -> None:
    assert set(known_by(second)) == {"a", "b"}
    assert set(known_before([second / "coarse"]) or ()) == {"a"}
    assert known_before([second.with_name("first") / "coarse"]) == {}


@pytest.mark.parametrize("pack", [FIRST, SECOND], ids=["before", "itself"])
def test_a_study_that_the_start_knows_cannot_be_kept_out(second: Path, pack: PackedStudy) -> None:
    renamed = replace(pack, id="other")
    with pytest.raises(UsageError, match="was trained on other"):
        go_on(second.with_name("third"), [THIRD, renamed], second, keep_out="other")
    assert not (second.with_name("third") / "coarse").exists()


def test_a_start_that_does_not_say_what_it_knows_is_warned_of_and_passed_on(second: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (second / "coarse" / "weights.safetensors").rename(tmp_path / "bare" / "coarse.safetensors")
    said = go_on(tmp_path / "third", [FIRST, THIRD], tmp_path / "bare", keep_out="a")
    assert any("does not say" in line for line in said)
    assert known_before([tmp_path / "third" / "coarse"]) is None
    with pytest.raises(ModelError, match="does not say"):
        known_by(tmp_path / "third")
    assert card_marks({"c": THIRD.heads}, None) == {"seen": [], "fingerprints": {}}


def test_a_model_knows_the_heads_that_its_card_lists(tmp_path: Path) -> None:
    bundle = small_model(tmp_path / "small", stages=("coarse",))
    card = replace(bundle.card, held_out=(), seen=("known", "listed"), fingerprints={"known": FIRST.heads})
    model = copy_model(bundle, card, tmp_path / "model").folder
    with pytest.raises(UsageError, match="was trained on x"):
        go_on(tmp_path / "x", [THIRD, replace(FIRST, id="x")], model, keep_out="x")
    go_on(tmp_path / "known", [THIRD, replace(SECOND, id="known")], model, keep_out="known")  # another of that name
    with pytest.raises(UsageError, match="was trained on listed"):
        go_on(tmp_path / "name", [THIRD, replace(SECOND, id="listed")], model, keep_out="listed")
    marks = card_marks({"c": THIRD.heads}, known_before([tmp_path / "known" / "coarse"]))
    assert marks == {"seen": ["c", "known", "listed"], "fingerprints": {"c": THIRD.heads, "known": FIRST.heads}}


def test_a_model_is_started_from_by_its_name() -> None:
    assert start_weights(start_folder(Path("glioma")), "coarse") is not None
    with pytest.raises(ModelError, match="installed: glioma"):
        start_folder(Path("nothing"))
