"""Model folders: what is damaged, missing or altered is refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ensembles import copy_model
from glioma import REGIONS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import small_model

from brats_seg.core.errors import ModelError, OutputError
from brats_seg.models.card import (
    CARD,
    ModelBundle,
    card_from_dict,
    file_sha256,
    find_model,
    installed_models,
    read_bundle,
)
from brats_seg.models.record import model_summary
from brats_seg.models.rules import PostprocessConfig
from brats_seg.models.torch_engine import build_network


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("models") / "small").folder


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def edit_card(folder: Path, change: Any) -> None:
    values = json.loads((folder / CARD).read_text())
    change(values)
    (folder / CARD).write_text(json.dumps(values))


def test_a_card_reads_back_as_it_was_written(model: Path) -> None:
    bundle = read_bundle(model)
    again = card_from_dict(json.loads(json.dumps(bundle.card.to_dict())), where="here")
    assert json.dumps(again.to_dict()) == json.dumps(bundle.card.to_dict())
    assert again.postprocess == bundle.card.postprocess
    assert [s.files for s in again.stages] == [s.files for s in bundle.card.stages]
    assert [s.name for s in again.stages] == ["coarse", "fine"]
    assert again.held_out == ("a", "b")


def test_checksums_on_the_card_are_those_of_the_files(model: Path) -> None:
    bundle = read_bundle(model)
    for stage in bundle.card.stages:
        for name, digest in stage.files.items():
            assert file_sha256(model / name) == digest
            assert bundle.file(stage, name) == model / name


def test_the_model_checksum_follows_its_files(model: Path, copy: Path) -> None:
    before = read_bundle(model).sha256
    assert read_bundle(copy).sha256 == before
    edit_card(copy, lambda card: card["stages"][1]["files"].update({"fine.safetensors": "0" * 64}))
    assert read_bundle(copy).sha256 != before


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card["postprocess"].update(
            rules=[{"rule": "require_enhancement", "region": "ET", "rise": [0.123, 4]}]
        ),
        lambda card: card["regions"]["regions"][0].update(shown_by=["t1"]),
        lambda card: card["schemas"].reverse(),
        lambda card: card["prepare"].update(percentiles=[1, 99]),
        lambda card: card["stages"][0]["layout"].update(sequences=["flair", "t2", "t1ce", "t1"]),
        lambda card: card["stages"][0]["layout"].update(regions=["ET", "TC", "WT"]),
        lambda card: card["stages"][1]["layout"].update(axes="LPS"),
        lambda card: card["stages"][0].update(spacing_mm=1.0),
        lambda card: card["stages"][0]["network"].update(expansion=3.0),
        lambda card: card["stages"][0].update(
            architecture="segresnet", network={"blocks_down": [1, 1], "blocks_up": [1]}
        ),
        lambda card: card["stages"].pop(),
        lambda card: card["stages"].extend({**stage, "member": 2} for stage in list(card["stages"])),
        lambda card: card["stages"][0].update(files=card["stages"][1]["files"]),
        lambda card: card.update(
            intervals={"scales": {"WT": 1.0}, "floor_ml": 0.5, "level": 0.9, "studies": {"WT": 20}}
        ),
    ],
)
def test_the_model_checksum_follows_what_decides_a_result(model: Path, copy: Path, change: Any) -> None:
    """Else an earlier result would stand under --resume although the same files now give another one."""
    edit_card(copy, change)
    assert read_bundle(copy).sha256 != read_bundle(model).sha256


def test_the_model_checksum_does_not_mind_words(model: Path, copy: Path) -> None:
    words = {
        "description": "another sentence",
        "accuracy": {"Dice": "0.9"},
        "name": "other",
        "version": "9",
        "seen": ["a"],
    }
    edit_card(copy, lambda card: card.update(words, knows_treated_brains=True))
    assert read_bundle(copy).sha256 == read_bundle(model).sha256


def test_the_model_checksum_does_not_mind_how_the_same_numbers_are_written(model: Path, copy: Path) -> None:
    edit_card(copy, lambda card: card["stages"][1].update(spacing_mm=1))
    edit_card(copy, lambda card: card["stages"][1]["network"].pop("expansion"))  # which is the default
    assert read_bundle(copy).sha256 == read_bundle(model).sha256


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip_a_byte, "damaged or altered"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "damaged or altered"),
        (lambda path: path.write_bytes(b""), "damaged or altered"),
        (lambda path: path.unlink(), r"lacks coarse.safetensors \(No such file"),
    ],
)
def test_weights_that_are_not_those_of_the_card_are_refused(copy: Path, damage: Any, words: str) -> None:
    damage(copy / "coarse.safetensors")
    bundle = read_bundle(copy)
    stage = bundle.card.stage("coarse")
    assert stage is not None
    with pytest.raises(ModelError, match=words) as caught:
        build_network(bundle, stage)
    assert caught.value.exit_code == 4
    fine = bundle.card.stage("fine")
    assert fine is not None
    assert build_network(bundle, fine) is not None  # the other stage is whole


def test_truncated_weights_with_a_fitting_checksum_are_still_no_weights(copy: Path) -> None:
    path = copy / "coarse.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    edit_card(copy, lambda card: card["stages"][0]["files"].update({path.name: file_sha256(path)}))
    bundle = read_bundle(copy)
    with pytest.raises(ModelError, match="does not fit stage coarse"):
        build_network(bundle, bundle.card.stages[0])


def test_weights_that_do_not_fit_the_network_of_the_card(copy: Path) -> None:
    edit_card(copy, lambda card: card["stages"][0]["network"].update(widths=[8, 24]))
    bundle = read_bundle(copy)
    with pytest.raises(ModelError, match="does not fit stage coarse"):
        build_network(bundle, bundle.card.stages[0])


@pytest.mark.parametrize(
    "change", [{"widths": [8, 13]}, {"widths": [8, "a"]}, {"widths": 8}, {"widths": [10**9, 8]}, {"colour": "blue"}]
)
def test_cards_that_describe_no_network_are_refused_when_read(copy: Path, change: dict[str, Any]) -> None:
    edit_card(copy, lambda card: card["stages"][0]["network"].update(change))
    with pytest.raises(ModelError, match="stage coarse describes no network"):
        read_bundle(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card.update(colour="blue"), r"unknown \['colour'\]"),
        (lambda card: card.pop("licence"), r"missing \['licence'\]"),
        (lambda card: card.pop("knows_treated_brains"), r"missing \['knows_treated_brains'\]"),
        (lambda card: card.update(knows_treated_brains="no"), "must be true or false"),
        (lambda card: card.update(fingerprints={"x": {"t1": "0" * 64}}), "which is not among seen"),
        (lambda card: card.update(seen=["x"], fingerprints={"x": {"t1": "0"}}), "not 64 digits|64 digits from 0 to f"),
        (lambda card: card.update(format=99), "format 99"),
        (lambda card: card.pop("format"), "format None"),
        (lambda card: card["postprocess"].update(thresholds=[0.5, 0.5]), "keys and values"),
        (lambda card: card["postprocess"].update(thresholds={"ET": 1.5}), "from 0.01 to 0.99"),
        (lambda card: card["postprocess"].update(thresholds={"GTV": 0.5}), "region 'GTV'"),
        (lambda card: card["postprocess"].update(fine_weight=2), "fine_weight"),
        (lambda card: card["postprocess"].update(colour=1), "colour"),
        (lambda card: card["postprocess"].update(temperature={"WT": True}), "temperature"),
        (lambda card: card["postprocess"].update(roi_threshold=7), "roi_threshold"),
        (lambda card: card["postprocess"].update(roi_margin_mm=-50), "roi_margin_mm"),
        (
            lambda card: card["postprocess"].update(
                rules=[{"rule": "require_core", "region": "WT", "core": "TC", "min_probability": 5}]
            ),
            "min_probability",
        ),
        (
            lambda card: card["postprocess"].update(
                rules=[{"rule": "require_core", "region": "WT", "core": "TC", "min_ml": -3}]
            ),
            "min_ml of require_core",
        ),
        (
            lambda card: card["postprocess"].update(
                rules=[{"rule": "require_enhancement", "region": "ET", "min_ml": float("inf")}]
            ),
            "min_ml",
        ),
        (
            lambda card: card["postprocess"].update(
                rules=[{"rule": "require_enhancement", "region": "ET", "min_ml": "0.1"}]
            ),
            "min_ml",
        ),
        (
            lambda card: card["postprocess"].update(
                rules=[{"rule": "require_enhancement", "region": "ET", "rise": [1, float("nan")]}]
            ),
            "rise",
        ),
        (
            lambda card: card["postprocess"].update(
                rules=[{"rule": "require_enhancement", "region": "ET", "rise": [4, 1]}]
            ),
            "rise",
        ),
        (
            lambda card: card["postprocess"].update(rules=[{"rule": "require_enhancement", "region": "ET", "rise": 3}]),
            "rise",
        ),
        (lambda card: card.update(intervals={"scales": {"WT": "x"}, "floor_ml": 0.5, "level": 0.9}), "interval model"),
        (lambda card: card.update(intervals={"scales": {"WT": 1}, "floor_ml": 0, "level": 0.9}), "interval floor"),
        (lambda card: card["postprocess"].update(rules=[{"rule": "drop_all"}]), "no rule 'drop_all'"),
        (
            lambda card: card["postprocess"].update(rules=[{"rule": "require_core", "region": "ET", "core": "WT"}]),
            "inside",
        ),
        (lambda card: card.update(task="cooking"), "task 'cooking'"),
        (lambda card: card.update(sequences=["t1", "t1ce", "t2", "dwi"]), "sequences"),
        (lambda card: card.update(sequences=["t1", "t1ce", "t2"]), "shown_by flair"),
        (lambda card: card["regions"]["regions"].reverse(), "must come before it"),
        (lambda card: card["regions"]["regions"].pop(), "cannot hold TC"),
        (lambda card: card["regions"]["regions"][1].update(structures=["RC"]), "TC consists of structures"),
        (lambda card: card["regions"]["regions"][1].update(compartment="enhancing"), "both followed as enhancing"),
        (lambda card: card["regions"]["regions"][0].update(colour="blue"), "#RRGGBB"),
        (lambda card: card["regions"]["regions"][0].update(volume=1), "volume"),
        (lambda card: card["regions"]["regions"][0].pop("title"), "title"),
        (lambda card: card.update(schemas=["menrt"]), "menrt .* cannot hold ET"),
        (lambda card: card.update(schemas=["brats2024ped"]), "brats2024ped .* cannot hold TC"),
        (lambda card: card.update(schemas=[]), "schemas"),
        (lambda card: card.update(criteria="rano2"), "criteria"),
        (lambda card: card.update(intervals=[1, 2]), "intervals"),
        (lambda card: card.update(accuracy=[1, 2]), "accuracy"),
        (lambda card: card.update(limits="none at all"), "limits"),
        (lambda card: card["stages"][0].update(colour=1), "colour"),
        (lambda card: card["stages"].reverse(), "stages"),
        (lambda card: card["stages"].clear(), "stages"),
        (lambda card: card["stages"][0].update(name="medium"), "medium"),
        (lambda card: card.update(stages=[None]), "no model card"),
    ],
)
def test_cards_that_cannot_be_understood_are_refused(copy: Path, change: Any, words: str) -> None:
    edit_card(copy, change)
    with pytest.raises(ModelError, match=words):
        read_bundle(copy)


OUTSIDE = ["../w.safetensors", "/tmp/w.safetensors", "a/w.safetensors", "..", "C:w.safetensors", "C:\\w.safetensors"]
OUTSIDE += [
    "..\\w.safetensors",
    "model.json",
    "w.pt",
    "",
    ".safetensors",
    "w.safetensors\n",
    "w\0.bin",
    "x" * 300 + ".bin",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_of_files_never_leave_the_folder_of_the_model(copy: Path, tmp_path: Path, name: str) -> None:
    """Such a file would be read by export, and written by whatever copies a model."""
    (tmp_path / "w.safetensors").write_bytes((copy / "coarse.safetensors").read_bytes())
    edit_card(copy, lambda card: card["stages"][0].update(files={name: file_sha256(tmp_path / "w.safetensors")}))
    with pytest.raises(ModelError, match="files of a model lie in its folder") as caught:
        read_bundle(copy)
    assert "\n" not in str(caught.value)


def test_links_out_of_the_folder_of_the_model_are_not_followed(copy: Path, tmp_path: Path) -> None:
    (copy / "coarse.safetensors").rename(tmp_path / "secret.safetensors")
    (copy / "coarse.safetensors").symlink_to(tmp_path / "secret.safetensors")
    bundle = read_bundle(copy)
    with pytest.raises(ModelError, match=r"coarse.safetensors of model small is a link out of its folder"):
        build_network(bundle, bundle.card.stages[0])
    (tmp_path / "latest").symlink_to(copy)  # a folder may be one
    (copy / "coarse.safetensors").unlink()
    (tmp_path / "secret.safetensors").rename(copy / "coarse.safetensors")
    through = read_bundle(tmp_path / "latest")
    assert through.file(through.card.stages[0], "coarse.safetensors").exists()


def test_a_copy_is_not_written_through_a_link(model: Path, tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("mine")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "coarse.safetensors").symlink_to(tmp_path / "held.txt")
    bundle = read_bundle(model)
    copy_model(bundle, bundle.card, tmp_path / "target")
    assert (tmp_path / "held.txt").read_text() == "mine"
    assert read_bundle(tmp_path / "target").sha256 == bundle.sha256


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["..", "../x", "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths_of(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value of a card."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in items:
        yield (*before, key)
        yield from paths_of(held, (*before, key))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_card_with_any_value_changed_is_read_as_it_is_or_refused(model: Path, data: st.DataObject) -> None:
    """Never another error, and never a card that means something else than was written."""
    values = json.loads((model / CARD).read_text()) | {"subsets": {"t1+t2": {"WT": 0.5}}, "seen": ["a"]}
    for _ in range(data.draw(st.integers(1, 2))):
        *before, last = data.draw(st.sampled_from(sorted(paths_of(values), key=repr)))
        holder = values
        for key in before:
            holder = holder[key]
        action = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "remove":
            del holder[last]
        elif action == "add" and isinstance(holder, dict):
            holder[data.draw(st.text(max_size=8))] = data.draw(VALUES)
        else:
            holder[last] = data.draw(VALUES)
    try:
        card = card_from_dict(values, where="here")
    except ModelError as error:
        assert "\n" not in str(error)
        assert str(error).isprintable()
        return
    again = json.loads(json.dumps(card.to_dict()))
    for key in set(values) & set(again):
        if key not in ("stages", "postprocess", "regions"):
            assert again[key] == values[key]
    assert card_from_dict(again, where="here").regions == card.regions
    assert ModelBundle(card_from_dict(again, where="here"), model).sha256 == ModelBundle(card, model).sha256
    for stage in card.stages:  # what is asked of every stage later
        assert stage.shape.relative_memory > 0
        assert stage.shape.divisor > 0
        assert all((model / name).parent == model for name in stage.files)
    assert card.expected_loss(()) != ""


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "[" * 100_000, '{"format": 1, "name": NaN}'])
def test_a_card_that_is_no_card(copy: Path, text: str) -> None:
    (copy / CARD).write_text(text)
    with pytest.raises(ModelError, match=CARD):
        read_bundle(copy)
    (copy / CARD).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="damaged"):
        read_bundle(copy)


def test_a_stage_without_weights_or_checksum_is_refused(copy: Path) -> None:
    edit_card(copy, lambda card: card["stages"][0].update(files={"coarse.xml": "0" * 64}))
    bundle = read_bundle(copy)
    with pytest.raises(ModelError, match="names no weights"):
        build_network(bundle, bundle.card.stages[0])
    with pytest.raises(ModelError, match=r"no checksum for coarse.bin"):
        bundle.file(bundle.card.stages[0], "coarse.bin")


def test_models_are_found_by_path_and_missing_ones_named(model: Path, tmp_path: Path) -> None:
    assert find_model(str(model)).card.name == "small"
    with pytest.raises(ModelError, match="no model 'nonsense'; installed: "):
        find_model("nonsense")
    with pytest.raises(ModelError, match=r"is no model: model.json No such file"):
        find_model(str(tmp_path))
    with pytest.raises(ModelError, match="there is no model"):
        find_model(str(tmp_path / "absent"))


def test_every_installed_model_is_whole() -> None:
    for bundle in installed_models():
        for stage in bundle.card.stages:
            for name in stage.files:
                bundle.file(stage, name)
        assert find_model(bundle.card.name).sha256 == bundle.sha256


def test_a_result_says_where_its_probabilities_were_cut() -> None:
    bundle = find_model()
    assert model_summary(bundle)["thresholds"] == {
        region.name: bundle.card.postprocess.threshold(region) for region in REGIONS
    }


def test_a_model_folder_is_not_written_over(model: Path) -> None:
    with pytest.raises(OutputError, match="exists"):
        small_model(model)


def test_postprocessing_settings_default_to_a_plain_threshold() -> None:
    assert [PostprocessConfig().threshold(region) for region in REGIONS] == [0.5, 0.5, 0.5]
