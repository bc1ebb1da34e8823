"""Ensembles: several models in one folder, told apart, checked, and written out like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ensembles import add_members
from small_models import small_model

from brats_seg.core.errors import ModelError
from brats_seg.exchange.exporting import Check, export_networks
from brats_seg.models.assemble import write_model
from brats_seg.models.card import CARD, ModelBundle, read_bundle, write_card
from brats_seg.models.torch_engine import build_network, read_weights
from brats_seg.transforms import StagedNetwork


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    place = tmp_path_factory.mktemp("models")
    first, second = small_model(place / "first", cascaded=True), small_model(place / "second", cascaded=True, seed=1)
    write_card(replace(first.card, seen=("a", "b")), first.folder)
    write_card(replace(second.card, seen=("b", "c"), version="9"), second.folder)
    return add_members(read_bundle(first.folder), read_bundle(second.folder))


def test_a_joined_model_has_the_networks_of_both_and_the_card_of_the_first(pair: ModelBundle) -> None:
    again = read_bundle(pair.folder)
    assert again.card == pair.card
    assert [stage.key for stage in again.card.stages] == ["coarse", "fine", "coarse2", "fine2"]
    assert [(m.coarse.key, m.fine.key) for m in again.card.members if m.coarse and m.fine] == [
        ("coarse", "fine"),
        ("coarse2", "fine2"),
    ]
    assert (again.card.version, again.card.seen) == ("0.0.1", ("a", "b", "c"))
    other = read_bundle(pair.folder.with_name("second"))
    for stage, original in zip(again.card.stages[2:], other.card.stages, strict=True):
        wanted = build_network(other, original).state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in build_network(again, stage).state_dict().items())
    assert again.sha256 != other.sha256


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda stages: stages[:3], "every member"),
        (lambda stages: [stages[0], stages[2], stages[1], stages[3]], "every member"),
        (lambda stages: [*stages[:2], {**stages[2], "member": 3}, {**stages[3], "member": 3}], "every member"),
        (
            lambda stages: [{**stages[0], "member": 0}, *stages[1:]],
            "member of stage coarse 0 must be a whole number from 1",
        ),
    ],
)
def test_a_card_with_half_a_member_is_refused(pair: ModelBundle, tmp_path: Path, change, words: str) -> None:
    values = json.loads((pair.folder / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**values, "stages": change(values["stages"])}))
    with pytest.raises(ModelError, match=words):
        read_bundle(tmp_path)


def test_a_card_from_before_ensembles_is_one_member(pair: ModelBundle, tmp_path: Path) -> None:
    values = json.loads((pair.folder / CARD).read_text())
    stages = [{k: v for k, v in stage.items() if k != "member"} for stage in values["stages"][:2]]
    (tmp_path / CARD).write_text(json.dumps({**values, "stages": stages}))
    assert len(read_bundle(tmp_path).card.members) == 1


def test_every_network_is_exported(pair: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brats_seg.exchange.exporting._compare", lambda *_: Check("openvino", 0.0))
    assert list(export_networks(pair, tmp_path, "onnx")) == ["coarse", "fine", "coarse2", "fine2"]
    stages = json.loads((tmp_path / "description.json").read_text())["stages"]
    assert [(entry["name"], entry["member"]) for entry in stages] == [
        ("coarse", 1),
        ("fine", 1),
        ("coarse", 2),
        ("fine", 2),
    ]
    assert (tmp_path / "fine2.onnx").is_file()


def test_a_written_ensemble_reads_equal(pair: ModelBundle, tmp_path: Path) -> None:
    states = {stage.key: read_weights(pair.folder / stage.weights) for stage in pair.card.stages}
    made = write_model(states, pair.card, tmp_path)
    image = torch.randn(1, 4, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    found = []
    for bundle in (pair, made):
        network = StagedNetwork(bundle.card.to_dict())
        for stage in bundle.card.stages:
            network.stages[stage.key].load_state_dict(build_network(bundle, stage).state_dict())
        found.append(network.eval()(image).numpy())
    np.testing.assert_array_equal(found[0], found[1])
