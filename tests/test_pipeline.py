"""The Python interface: ``brats_seg.segment_study`` and ``brats_seg.measure``."""

from __future__ import annotations

import doctest
import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_studies import GRID, label_array, write_case, write_model, write_nifti
from glioma import REGIONS
from heads import head_study

import brats_seg
from brats_seg import SegmentOptions, measure, segment_study
from brats_seg.core.errors import InputError, OutputError, UsageError
from brats_seg.core.grid import Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.study import MRSequence
from brats_seg.core.visit import Segmentation, Visit
from brats_seg.files.sidecar import read_trained_on
from brats_seg.imaging.likeness import fingerprints
from brats_seg.models.record import versions
from brats_seg.run.options import STEPS
from brats_seg.run.segment import open_predictor, prepare_config
from brats_seg.segment.prepare import prepare


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> SegmentOptions:
    model = write_model(tmp_path_factory.mktemp("model") / "small", bias=30.0)
    return SegmentOptions(model=str(model), report=False)


def test_a_study_in_memory_writes_nothing(
    options: SegmentOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []
    result = segment_study(head_study(GRID), options=options, tick=seen.append)
    assert list(tmp_path.iterdir()) == []
    assert result.folder is None
    assert seen == [step for step in STEPS if step not in ("fine", "write", "report")]
    assert set(result.record.timings_s) == set(seen)
    assert result.segmentation.labels.grid.same_as(GRID)
    assert result.segmentation.probabilities is not None
    assert result.measurements.volume("WT").volume_ml == pytest.approx(251, abs=2)
    assert set(result.images) == set(MRSequence)
    assert result.record.inputs["t1"]["sha256"] == ""


def test_a_folder_and_one_model_for_several(options: SegmentOptions, tmp_path: Path) -> None:
    predictor = open_predictor(options)
    folder = write_case(tmp_path / "case")
    for reference in (None, MRSequence.T2):
        chosen = replace(options, reference=reference, exists="overwrite")
        result = segment_study(folder, tmp_path / "out", options=chosen, predictor=predictor)
        assert result.folder == (tmp_path / "out" / "case").resolve()
        assert (result.folder / "run.json").is_file()
        assert result.record.settings["reference"] == (reference.value if reference else "auto")
    with pytest.raises(OutputError, match="--overwrite"):
        segment_study(folder, tmp_path / "out", options=options, predictor=predictor)


def test_a_visit_is_loaded_as_it_was_returned(options: SegmentOptions, tmp_path: Path) -> None:
    made = segment_study(write_case(tmp_path / "case"), tmp_path / "out", options=options)
    assert made.folder is not None
    again = Visit.load(made.folder)
    assert (again.label, again.folder, again.by_model) == ("case", made.folder, True)
    assert again.measurements == made.measurements and again.record == made.record
    one, other = again.segmentation, made.segmentation
    assert np.array_equal(one.labels.data, other.labels.data) and one.labels.grid.same_as(other.labels.grid)
    assert (one.schema, one.missing, one.midplane) == (other.schema, other.missing, other.midplane)
    assert one.probabilities is not None and other.probabilities is not None
    assert np.abs(one.probabilities.array - other.probabilities.array).max() <= 5.1e-5
    assert again.key == made.key


@pytest.mark.parametrize("damage", ["another version", "not whole", "a number"])
def test_a_visit_of_another_version_is_not_loaded(options: SegmentOptions, tmp_path: Path, damage: str) -> None:
    folder = segment_study(write_case(tmp_path / "case"), tmp_path / "out", options=options).folder
    assert folder is not None
    values = json.loads((folder / "visit.json").read_text())
    if damage == "not whole":
        (folder / "run.json").unlink()
    elif damage == "a number":
        values["measurements"]["volumes"][0]["volume_ml"] = "large"
    else:
        values["schema_version"] += 1
    (folder / "visit.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="whole" if damage == "not whole" else r"visit.json|whole"):
        Visit.load(folder)


def test_what_the_card_knows_of_a_study_is_said(options: SegmentOptions, tmp_path: Path) -> None:
    predictor = open_predictor(options)
    whole, less = {"WT": 0.9}, {"WT": 0.7}
    card = replace(predictor.bundle.card, seen=("case",), subsets={"t1+t1ce+t2+flair": whole, "t1+t1ce+t2": less})
    predictor.bundle = replace(predictor.bundle, card=card)
    folder = write_case(tmp_path / "case")
    warned = segment_study(folder, options=options, predictor=predictor).record.warnings
    assert [line for line in warned if "no accuracy can be measured" in line]
    next(path for path in folder.iterdir() if "flair" in path.name).unlink()
    warned = segment_study(folder, options=options, predictor=predictor).record.warnings
    assert "without FLAIR mean Dice on other studies was WT 0.70; with all sequences WT 0.90" in warned


def test_a_reference_that_is_missing(options: SegmentOptions) -> None:
    study = head_study(GRID, sequences=(MRSequence.T2,))
    with pytest.raises(InputError, match="T1CE"):
        segment_study(study, options=replace(options, reference=MRSequence.T1CE))


def test_label_schemas_that_the_model_does_not_write(options: SegmentOptions) -> None:
    with pytest.raises(UsageError, match=r"brats2023 or brats2021, not 'brats2015'"):
        segment_study(head_study(GRID), options=replace(options, labels="brats2015"))


def test_measure_takes_a_file_or_a_value(tmp_path: Path) -> None:
    labels = label_array(1, 2, 4)
    path = write_nifti(labels, np.diag([1.0, 1.0, 2.0, 1.0]), tmp_path / "p_seg.nii.gz")
    from_file = measure(path, schema="brats2021")
    assert from_file.study_id == "p"
    value = Segmentation("q", Volume.from_affine(labels, np.diag([1.0, 1.0, 2.0, 1.0])), SCHEMAS["brats2021"], REGIONS)
    assert measure(value).volume("TC") == from_file.volume("TC")
    assert measure(str(path), schema="brats2015", study_id="r").study_id == "r"
    with pytest.raises(InputError, match="nonsense"):
        measure(path, schema="nonsense")


def test_versions_name_the_program_and_every_library() -> None:
    found = versions()
    assert found["brats_seg"] == brats_seg.__version__
    assert "not installed" not in found.values()


@pytest.mark.parametrize("module", ["masks", "options"])
def test_examples_in_the_documentation_run(module: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"brats_seg.run.{module}"))
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = brats_seg.nothing  # type: ignore[attr-defined]
    for name in brats_seg.__all__:
        assert getattr(brats_seg, name) is not None


def test_measuring_a_result_without_t1ce_still_says_that_it_is_an_estimate(
    options: SegmentOptions, tmp_path: Path
) -> None:
    study = head_study(GRID)
    without = replace(study, images={s: v for s, v in study.images.items() if s is not MRSequence.T1CE}, sha256={})
    result = segment_study(without, tmp_path, options=options)
    assert result.folder is not None
    found = measure(result.folder / f"{study.id}_dseg.nii.gz")
    assert {row.region: row.note for row in found.volumes} == {
        row.region: row.note for row in result.measurements.volumes
    }
    assert "not assessable without T1CE" in found.volume("ET").note


@pytest.mark.parametrize("knows", [True, False, None])
def test_results_say_whether_the_model_was_trained_on_the_study(
    options: SegmentOptions, tmp_path: Path, knows: bool | None
) -> None:
    """By its scans, since its name says nothing; where the card does not tell, neither does the result."""
    folder = write_case(tmp_path / "patient")
    shutil.copytree(options.model, tmp_path / "model")
    values = json.loads((tmp_path / "model" / "model.json").read_text())
    if knows is not None:
        prepared = prepare(head_study(GRID), config=prepare_config(values["prepare"]))
        marks = fingerprints(prepared.array, prepared.brain)
        other = {sequence: f"{~int(mark, 16) & (2**256 - 1):064x}" for sequence, mark in marks.items()}
        values |= {"seen": ["elsewhere"], "fingerprints": {"elsewhere": marks if knows else other}}
        (tmp_path / "model" / "model.json").write_text(json.dumps(values))
    result = segment_study(folder, tmp_path / "out", options=replace(options, model=str(tmp_path / "model")))
    assert result.record.model.get("trained_on_this_study") is knows
    assert read_trained_on(tmp_path / "out" / "patient" / "patient_dseg.nii.gz") is knows
    assert any("trained on scans of this head (as elsewhere)" in w for w in result.record.warnings) is bool(knows)
