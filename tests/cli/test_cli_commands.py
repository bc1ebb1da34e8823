"""``check``, ``models``, ``demo`` and ``train`` as a user runs them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_studies import GRID, SPACING_MM, change, entries, scan, write_case, write_nifti, write_scan
from heads import head_grid, head_labels

from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.models import card as bundle


def test_check_describes_and_writes_nothing(cli, case: Path) -> None:
    write_nifti(head_labels(GRID).data, GRID.affine, case / "case_seg.nii.gz")
    shutil.copy(case / "case_t1.nii.gz", case / "case_adc.nii.gz")
    before = {path: path.stat().st_mtime_ns for path in case.parent.rglob("*")}
    outcome = cli("check", case)
    assert outcome.code == 0
    assert outcome.err == ""
    assert "case_flair.nii.gz: 35x37x33, 3 x 3 x 3 mm, LPS, values 0 to" in outcome.out
    assert outcome.out.count("results go on this grid") == 1
    assert "case_seg.nii.gz: seen, never an input" in outcome.out
    assert "not used: case_adc.nii.gz" in outcome.out
    assert outcome.out.rstrip().endswith("ready to segment")
    assert "is background" in cli("check", case, "-v").out
    assert cli("check", case, "-q").out == ""
    assert {path: path.stat().st_mtime_ns for path in case.parent.rglob("*")} == before


def test_check_says_what_is_missing_and_what_would_be_registered(cli, case: Path) -> None:
    (case / "case_t1ce.nii.gz").unlink()
    write_scan(scan(MRSequence.T2, head_grid("RAS", spacing_mm=(3, 3, 5))), case / "case_t2.nii.gz")
    outcome = cli("check", case)
    assert outcome.code == 0
    assert "T1CE   missing: enhancing tumour and tumour core will be estimates" in outcome.out
    assert "will register them" in outcome.out


def test_check_warns_of_exchanged_sequences(cli, case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brats_seg.imaging import consistency
    from brats_seg.imaging.identify import IdentityWarning

    exchanged = IdentityWarning({MRSequence.T1: MRSequence.T1CE, MRSequence.T1CE: MRSequence.T1}, "evidence 0.9")
    monkeypatch.setattr(consistency, "check_identity", lambda *_: (exchanged,))
    done = cli("check", case)
    assert done.code == 3 and "warning: T1 and T1CE look exchanged: evidence 0.9" in done.out
    assert "not ready" in done.out and "do not fit together" in done.err


def test_check_json_of_good_and_bad(cli, case: Path, tmp_path: Path) -> None:
    bad = write_case(tmp_path / "bad", sequences=(MRSequence.T2,))
    change(bad / "bad_t2.nii.gz", np.zeros_like)
    outcome = cli("check", case, bad, "--json")
    assert outcome.code == 3
    rows = {row["study"]: row for row in outcome.json["studies"]}
    assert rows["case"]["problems"] == []
    assert rows["case"]["sequences"]["t2"]["skull_stripped"] is True
    assert rows["case"]["reference"] == "t1ce"
    assert "every voxel is 0" in rows["bad"]["problems"][0]
    assert [failure["study"] for failure in outcome.json["failed"]] == ["bad"]
    assert outcome.err.splitlines()[-1] == "brats-seg: 1 of 2 studies failed"


def test_whatever_breaks_in_one_study_the_others_are_checked(
    cli, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brats_seg.files import load

    read = load.load_study

    def breaks(files: Timepoint) -> object:
        if files.id == "odd":
            raise RuntimeError("ITK ERROR:\nthe image is empty")
        return read(files)

    monkeypatch.setattr(load, "load_study", breaks)
    odd = write_case(tmp_path / "odd", sequences=(MRSequence.T2,))
    outcome = cli("check", odd, case, "--json")
    assert outcome.code == 1
    assert [row["study"] for row in outcome.json["studies"]] == ["case"]
    assert "unforeseen RuntimeError" in outcome.json["failed"][0]["error"]
    assert len(outcome.err.splitlines()) == 2


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path) -> Path:
    """A place for installed models that holds the small one under the default name."""
    place = tmp_path / "weights"
    shutil.copytree(model, place / "glioma")
    monkeypatch.setattr(bundle, "BUILT_IN", place)
    return place


def test_models_lists_the_card(cli, installed: Path) -> None:
    outcome = cli("models")
    assert outcome.code == 0
    assert outcome.out.startswith("small 0.0.1: random weights\n")
    for words in ("sha256", "trained on  nothing", "licence     Apache-2.0", "accuracy    Dice WT: 0.0", "limit"):
        assert words in outcome.out
    (card,) = cli("models", "--json").json
    assert card["version"] == "0.0.1"
    assert len(card["sha256"]) == 64
    assert {"trained_on", "accuracy", "licence"} <= set(card)


def test_models_without_any(cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundle, "BUILT_IN", tmp_path / "none")
    outcome = cli("models")
    assert outcome.code == 0
    assert "no model is installed" in outcome.out
    assert cli("models", "--json").json == []


def test_models_with_a_damaged_one_still_lists_the_others(cli, installed: Path) -> None:
    shutil.copytree(installed / "glioma", installed / "broken")
    weights = installed / "broken" / "coarse.onnx"
    weights.write_bytes(weights.read_bytes()[:-1])
    outcome = cli("models")
    assert outcome.code == 4
    assert "small 0.0.1" in outcome.out
    assert outcome.err.startswith("brats-seg: broken: coarse.onnx")
    listed = cli("models", "--json").json
    assert [("error" in entry) for entry in listed] == [False, True]


def test_demo_without_a_model_says_so_before_it_works(
    cli, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bundle, "BUILT_IN", tmp_path / "none")
    outcome = cli("demo", "-o", out)
    assert outcome.code == 4
    assert entries(out) == []


CONFIG = f"""\
stages:
  coarse:
    spacing_mm: {SPACING_MM}
    patches: [[16, 16, 16]]
    steps: 3
    warmup: 1
    prepare: {{spacing_mm: {SPACING_MM}, divisor: 8}}
    network: {{widths: [8, 16], depths: [1, 1]}}
"""


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two labelled studies."""
    folder = tmp_path / "labelled"
    for name in ("one", "two"):
        write_case(folder / name)
        labels = head_labels(GRID).data
        write_nifti(np.where(labels == 3, 4, labels), GRID.affine, folder / name / f"{name}_seg.nii.gz")
    return folder


def test_train_end_to_end_then_assemble_then_segment(
    cli, labelled: Path, tmp_path: Path, case: Path, out: Path
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(CONFIG)
    run = tmp_path / "run"
    outcome = cli("train", config, "--data", labelled, "-o", run, "--threads", "1")
    assert outcome.code == 0
    assert outcome.err == ""
    assert outcome.out == f"weights: {run / 'coarse' / 'weights.safetensors'}\n"
    (packs,) = (run / "packs").iterdir()  # one folder for each preprocessing
    assert sorted(path.name for path in packs.iterdir()) == ["one.npz", "two.npz"]
    assert (run / "coarse" / "log.csv").read_text().splitlines()[-1].startswith("3,")
    first = (run / "coarse" / "weights.safetensors").read_bytes()
    refused = cli("train", config, "--data", labelled, "-o", run)
    assert refused.code == 6
    assert "--resume" in refused.err
    assert cli("train", config, "--data", packs, "-o", run, "--resume", "-q").out == ""
    assert (run / "coarse" / "weights.safetensors").read_bytes() == first
    config.write_text(CONFIG.replace("steps: 3", "steps: 4"))
    other = cli("train", config, "--data", packs, "-o", run, "--resume")
    assert other.code == 6
    assert "steps" in other.err
    card = tmp_path / "card.yaml"
    card.write_text((Path(__file__).parents[2] / "configs" / "glioma_card.yaml").read_text())
    made = cli(
        "models", "assemble", "--coarse", run / "coarse", "--card", card, "-o", tmp_path / "made", "--no-openvino"
    )
    assert made.code == 0
    assert cli("segment", case, "-o", out, "--model", tmp_path / "made", "--engine", "torch", "--no-report").code == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stages: {middle: {}}", (2, "middle")),
        ("colour: blue", (2, "colour")),
        ("[1, 2", (3, "YAML")),
        (CONFIG + "    validation: [nobody]", (3, "nobody")),
    ],
)
def test_train_refuses_bad_settings(
    cli, drawn_packs: Path, tmp_path: Path, text: str, expected: tuple[int, str]
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    outcome = cli("train", tmp_path / "c.yaml", "--data", drawn_packs, "-o", tmp_path / "run")
    assert outcome.code == expected[0]
    assert expected[1] in outcome.err
    assert not (tmp_path / "run" / "coarse" / "weights.safetensors").exists()


@pytest.fixture(scope="module")
def drawn_packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from brats_seg.train.data import PackedStudy, write_pack

    folder = tmp_path_factory.mktemp("packs")
    rng = np.random.default_rng(0)
    image = rng.integers(-30, 30, (4, 24, 24, 24)).astype(np.int8)
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[8:16, 8:16, 8:16] = 2
    for name in ("a", "b"):
        write_pack(PackedStudy(name, image, labels), folder)
    return folder


def test_train_where_nothing_can_be_written(cli, drawn_packs: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    (tmp_path / "file").write_text("")
    outcome = cli("train", tmp_path / "c.yaml", "--data", drawn_packs, "-o", tmp_path / "file" / "run")
    assert outcome.code == 6
    assert "-o" in outcome.err


def test_train_stopped_says_how_to_go_on(
    cli, drawn_packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brats_seg.train import recipe

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "train", interrupt)
    (tmp_path / "c.yaml").write_text(CONFIG)
    outcome = cli("train", tmp_path / "c.yaml", "--data", drawn_packs, "-o", tmp_path / "run")
    assert outcome.code == 130
    assert "--resume" in outcome.err
