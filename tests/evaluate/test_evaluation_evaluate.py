from __future__ import annotations

import csv
import io
import json
import math
import re
import runpy
import weakref
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from evaluation_masks import label_map
from glioma import REGIONS

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.visit import RegionMaps
from brats_seg.evaluate.cases import CasePair, EvaluationSettings, evaluate_case, take_snapshot
from brats_seg.evaluate.evaluate import CASE_COLUMNS, compare_evaluations, evaluate_pairs
from brats_seg.evaluate.figures import snapshot_picture
from brats_seg.evaluate.page import empty_words, evaluation_html
from brats_seg.evaluate.reading import placed
from brats_seg.report.pages import number

SCORER = Path(__file__).resolve().parents[3] / "shared" / "tools" / "score.py"
FEW = EvaluationSettings(resamples=100, worst_cases=2)
CENTRE = (15, 18, 14)

SHIFTED = CasePair("shifted", label_map((17, 18, 14), 9), label_map(CENTRE, 9), REGIONS)
PERFECT = CasePair("perfect", label_map(CENTRE, 8), label_map(CENTRE, 8), REGIONS)
MISSED = CasePair("missed", label_map(CENTRE, 0), label_map(CENTRE, 7), REGIONS)
INVENTED = CasePair("invented", label_map(CENTRE, 6), label_map(CENTRE, 0), REGIONS)
NOTHING = CasePair("nothing", label_map(CENTRE, 0), label_map(CENTRE, 0), REGIONS)
MIXED = CasePair(
    "mixed",
    label_map((14, 18, 15), 9, enhancing=4),
    label_map(CENTRE, 8),
    REGIONS,
    prediction_schema=SCHEMAS["brats2021"],
)
ALL = (SHIFTED, PERFECT, MISSED, INVENTED, NOTHING, MIXED)


def judged(pairs=ALL, *, seed=1, settings=FEW):
    return evaluate_pairs(pairs, generator=np.random.default_rng(seed), settings=settings)


@pytest.fixture(scope="module")
def evaluation():
    return judged()


def row(evaluation, case, region="WT"):
    table = evaluation.cases
    return table[(table["case"] == case) & (table["region"] == region)].iloc[0]


def test_one_row_for_each_case_and_region(evaluation):
    assert tuple(evaluation.cases.columns) == CASE_COLUMNS
    assert {"dice", "hd95_mm", "hd95_brats2023_mm", "nsd_1mm", "lesionwise_dice"} <= set(CASE_COLUMNS)
    assert len(evaluation.cases) == 3 * len(ALL)
    assert evaluation.case_ids == [pair.case for pair in ALL]


def test_branches_of_the_policy_reach_the_table(evaluation):
    assert (row(evaluation, "perfect").dice, row(evaluation, "perfect").hd95_mm) == (1.0, 0.0)
    assert (row(evaluation, "missed").dice, row(evaluation, "missed").hd95_mm) == (0.0, 374.0)
    assert math.isnan(row(evaluation, "missed").precision)
    assert row(evaluation, "invented").lesions_false == 1
    assert math.isnan(row(evaluation, "invented").volume_error_percent)
    assert (row(evaluation, "nothing").dice, row(evaluation, "nothing").lesionwise_hd95_mm) == (1.0, 0.0)
    assert row(evaluation, "nothing").specificity == 1.0


def test_volumes_use_the_grid():
    pair = CasePair(
        "thick",
        label_map(CENTRE, 9, spacing_mm=(1.0, 1.0, 2.5), orientation="LIP"),
        label_map(CENTRE, 9, spacing_mm=(1.0, 1.0, 2.5), orientation="LIP"),
        REGIONS,
    )
    scores = evaluate_case(pair, settings=FEW).regions[0]
    assert scores.reference_ml == pytest.approx(np.count_nonzero(pair.reference.data) * 2.5 / 1000)
    assert scores.volume_error_ml == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scores_do_not_depend_on_storage_order(axis, evaluation):
    flipped = CasePair("flipped", SHIFTED.prediction.flip(axis), SHIFTED.reference.flip(axis), REGIONS)
    for score in evaluate_case(flipped, settings=FEW).regions:
        before = row(evaluation, "shifted", score.region)
        for column in CASE_COLUMNS[2:]:
            assert getattr(score, column) == pytest.approx(before[column]), column


def test_crop_does_not_change_scores():
    wide = [np.pad(v.data, 20) for v in (SHIFTED.prediction, SHIFTED.reference)]
    padded = CasePair("padded", *(Volume.from_affine(data, SHIFTED.reference.affine) for data in wide), regions=REGIONS)
    for a, b in zip(evaluate_case(padded).regions, evaluate_case(SHIFTED).regions, strict=True):
        assert (a.dice, a.hd95_mm, a.hd95_brats2023_mm, a.lesionwise_dice) == pytest.approx(
            (b.dice, b.hd95_mm, b.hd95_brats2023_mm, b.lesionwise_dice)
        )
        assert a.specificity > b.specificity


@pytest.mark.slow
def test_agrees_with_the_independent_scorer(tmp_path, capsys):
    if not SCORER.is_file():
        pytest.skip(f"no independent scorer beside the project ({SCORER.parent.name}/{SCORER.name})")
    thick = CasePair(
        "thick",
        label_map((16, 16, 26), 10, spacing_mm=(1.0, 0.8, 2.5), orientation="LPS"),
        label_map((14, 14, 28), 12, spacing_mm=(1.0, 0.8, 2.5), orientation="LPS"),
        REGIONS,
    )
    pairs = (*ALL, thick)
    lines = ["case\tprediction\treference\tprediction_et\treference_et"]
    for pair in pairs:
        paths = []
        for name, volume in (("prediction", pair.prediction), ("reference", pair.reference)):
            paths.append(tmp_path / f"{pair.case}_{name}.nii.gz")
            nib.save(nib.Nifti1Image(volume.data, volume.affine), paths[-1])
        enhancing = 4 if pair.prediction_schema.name == "brats2021" else 3
        lines.append(f"{pair.case}\t{paths[0]}\t{paths[1]}\t{enhancing}\t3")
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n")
    runpy.run_path(str(SCORER))["main"](str(tmp_path / "pairs.tsv"))
    output = io.StringIO(capsys.readouterr().out)
    expected = [line for line in csv.DictReader(output, delimiter="\t") if "mean of" not in line["case"]]
    result = judged(pairs)
    assert len(expected) == 3 * len(pairs)
    for line in expected:
        ours = row(result, line["case"], line["region"])
        assert ours.dice == pytest.approx(float(line["dice"]), abs=1e-4)
        assert ours.hd95_mm == pytest.approx(float(line["hd95_mm"]), abs=0.01)
        assert ours.reference_ml == pytest.approx(float(line["reference_ml"]), abs=0.0051)
        assert ours.predicted_ml == pytest.approx(float(line["predicted_ml"]), abs=0.0051)


def test_summary_leaves_out_what_is_undefined_and_says_how_many_remain(evaluation):
    table = evaluation.summary.set_index(["subset", "region", "metric"])
    dice = evaluation.cases.query("region == 'WT'")["dice"]
    assert table.loc[("all", "WT", "dice"), "mean"] == pytest.approx(dice.mean())
    assert table.loc[("all", "WT", "dice"), "median"] == pytest.approx(dice.median())
    assert table.loc[("all", "WT", "dice"), "low"] <= dice.mean() <= table.loc[("all", "WT", "dice"), "high"]
    assert table.loc[("all", "WT", "dice"), "cases"] == 6
    assert table.loc[("all", "WT", "precision"), "cases"] == 5


def test_summary_of_cases_with_much_enhancement():
    settings = EvaluationSettings(resamples=50, large_enhancing_ml=0.5)
    result = judged(settings=settings)
    enhancing = result.cases.query("region == 'ET'").set_index("case")["reference_ml"]
    large = enhancing.index[enhancing >= 0.5]
    assert 0 < len(large) < len(ALL)
    table = result.summary[result.summary["subset"] == "enhancing >= 0.5 ml"].set_index(["region", "metric"])
    expected = result.cases[result.cases["case"].isin(large)].query("region == 'WT'")["dice"].mean()
    assert table.loc[("WT", "dice"), "mean"] == pytest.approx(expected)


def test_detection_by_study_and_by_lesion(evaluation):
    table = evaluation.detection.set_index(["what", "region"])
    study = table.loc[("study", "WT")]
    cells = ["true_positive", "false_positive", "false_negative", "true_negative"]
    assert [int(study[cell]) for cell in cells] == [3, 1, 1, 1]
    assert study["recall"] == 0.75
    assert study["recall_low"] < 0.75 < study["recall_high"]
    lesion = table.loc[("lesion", "WT")]
    assert [int(lesion[cell]) for cell in cells[:3]] == [3, 1, 1]
    assert math.isnan(lesion["specificity"])


def test_a_study_is_positive_from_the_volume_asked_for():
    strict = EvaluationSettings(resamples=10, tumour_from_ml=1.0)
    table = judged([INVENTED], settings=strict).detection.set_index(["what", "region"])
    assert table.loc[("study", "WT"), "true_negative"] == 1


def test_agreement_of_volumes(evaluation):
    table = evaluation.agreement.set_index("region")
    errors = evaluation.cases.query("region == 'WT'")["volume_error_ml"]
    assert table.loc["WT", "bias_ml"] == pytest.approx(errors.mean())
    assert table.loc["WT", "icc_low"] < table.loc["WT", "icc"] < table.loc["WT", "icc_high"]
    assert math.isnan(judged([PERFECT]).agreement["icc"].iloc[0])


def test_every_lesion_has_a_row(evaluation):
    part = evaluation.lesions.query("case == 'missed' and region == 'WT'")
    assert len(part) == 1
    assert not part["found"].iloc[0]
    assert part["volume_mm3"].iloc[0] == np.count_nonzero(MISSED.reference.data)


def with_probabilities(pair, value):
    masks = [pair.prediction_schema.region_mask(pair.prediction.data, region) for region in REGIONS]
    array = np.where(np.stack(masks), value, 1 - value).astype(np.float32)
    return CasePair(
        pair.case,
        pair.prediction,
        pair.reference,
        REGIONS,
        probabilities=RegionMaps(array, pair.reference.grid, REGIONS),
    )


def test_calibration_is_pooled_over_cases_in_the_band(evaluation):
    assert len(evaluation.calibration) == 0
    certain = judged([with_probabilities(PERFECT, 1.0), with_probabilities(NOTHING, 1.0)])
    assert certain.calibration["ece"].tolist() == [0.0, 0.0, 0.0]
    unsure = judged([with_probabilities(PERFECT, 0.75), with_probabilities(NOTHING, 0.75)])
    # Right every time but only three quarters sure.
    assert unsure.calibration["ece"].to_numpy() == pytest.approx(0.25)
    assert unsure.calibration["brier"].to_numpy() == pytest.approx(0.0625)
    assert len(unsure.reliability) == 3 * 15
    # A ball of 8 mm and the 10 mm around it; the image without tumour adds nothing.
    assert unsure.calibration["voxels"].iloc[0] < PERFECT.reference.data.size


def test_same_seed_same_numbers(evaluation):
    assert judged().to_json() == evaluation.to_json()
    assert judged(seed=2).to_json() != evaluation.to_json()


def test_csv_and_json_hold_the_same(evaluation):
    files = evaluation.to_csv()
    assert set(files) == {"cases", "lesions", "summary", "agreement", "detection"}
    rows = list(csv.DictReader(io.StringIO(files["cases"])))
    content = json.loads(evaluation.to_json())
    assert len(rows) == len(content["cases"]) == 18
    missed = next(i for i, line in enumerate(rows) if line["case"] == "missed")
    assert rows[missed]["precision"] == ""
    assert content["cases"][missed]["precision"] is None
    for line, values in zip(rows, content["cases"], strict=True):
        assert float(line["dice"]) == pytest.approx(values["dice"], rel=1e-5)
        assert line["region"] == values["region"]
    assert content["settings"]["lesionwise"] == {"task": "GLI", "dilation_iterations": 3, "smallest_mm3": 50.0}
    assert content["settings"]["policy"]["name"] == "BraTS 2023"


@pytest.mark.slow
def test_a_case_is_let_go_before_the_next_is_read():
    alive = []

    def reading():
        for index in range(3):
            assert sum(ref() is not None for ref in alive[:-1]) == 0
            volume = label_map(CENTRE, 6 + index)
            alive.append(weakref.ref(volume))
            yield CasePair(f"case{index}", volume, label_map(CENTRE, 7), REGIONS)

    assert len(judged(reading()).case_ids) == 3


def test_worst_cases_are_kept_worst_first(evaluation):
    assert [shot.mean_dice for shot in evaluation.snapshots] == [0.0, 0.0]
    assert {shot.case for shot in evaluation.snapshots} == {"missed", "invented"}
    every = judged(settings=EvaluationSettings(resamples=10, worst_cases=99))
    dices = [shot.mean_dice for shot in every.snapshots]
    assert dices == sorted(dices)
    assert len(dices) == len(ALL)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SRA"])
def test_snapshot_shows_the_axial_slice_that_differs_most(orientation):
    ras = np.zeros((9, 8, 7), np.uint8)
    reference = Volume.from_affine(ras, np.eye(4))
    prediction = ras.copy()
    prediction[2:5, 3:5, 5] = 1
    prediction[1, 1, 2] = 1
    found = Volume.from_affine(prediction, np.eye(4))
    image = reference.with_data(np.full(ras.shape, 100.0))
    if orientation == "LPS":
        found, reference, image = (v.flip(0).flip(1) for v in (found, reference, image))
    if orientation == "SRA":
        found, reference, image = (v.permute((2, 0, 1)) for v in (found, reference, image))
    shot = take_snapshot("case", 0.5, found, reference, image)
    assert shot.height_mm == 5.0
    assert np.array_equal(np.argwhere(shot.prediction).min(0), (2, 3))
    assert shot.prediction.sum() == 6
    assert (shot.background > 0).all()


@pytest.mark.slow
def test_two_models_compared():
    cases = [(f"case{i}", 6 + 0.4 * i) for i in range(8)]
    poor = judged([CasePair(n, label_map((18, 18, 14), r), label_map(CENTRE, r), REGIONS) for n, r in cases])
    good = judged([CasePair(n, label_map((16, 18, 14), r), label_map(CENTRE, r), REGIONS) for n, r in reversed(cases)])
    table = compare_evaluations(poor, good, generator=np.random.default_rng(0), metrics=("dice", "hd95_mm"))
    assert len(table) == 6
    assert (table["better"] == "second").all()
    dice, hd95 = (table[table["metric"] == m].iloc[0] for m in ("dice", "hd95_mm"))
    assert dice["mean_difference"] == pytest.approx(dice["second_mean"] - dice["first_mean"])
    assert (dice["wins"], dice["losses"], dice["effect_size"]) == (8, 0, 1.0)
    assert (hd95["wins"], hd95["losses"], hd95["effect_size"]) == (0, 8, -1.0)
    assert dice["p_value"] == pytest.approx(2 / 2**8)
    assert dice["p_holm"] == pytest.approx(3 * 2 / 2**8)
    backwards = compare_evaluations(good, poor, generator=np.random.default_rng(0))
    assert (backwards["better"] == "first").all()
    same = compare_evaluations(poor, poor, generator=np.random.default_rng(0))
    assert (same["better"] == "").all()


def test_comparison_leaves_out_undefined_cases(evaluation):
    table = compare_evaluations(evaluation, evaluation, generator=np.random.default_rng(0), metrics=("precision",))
    assert table[["cases", "left_out"]].iloc[0].tolist() == [5, 1]


def test_comparison_needs_the_same_cases(evaluation):
    with pytest.raises(InputError, match="nothing"):
        compare_evaluations(evaluation, judged(ALL[:4] + ALL[5:]), generator=np.random.default_rng(0))
    with pytest.raises(InputError, match="no metric accuracy"):
        compare_evaluations(evaluation, evaluation, generator=np.random.default_rng(0), metrics=("accuracy",))


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="no pair"):
        judged([])
    with pytest.raises(InputError, match="perfect comes twice"):
        judged([PERFECT, PERFECT])
    with pytest.raises(InputError, match=r"mixed, prediction: .*\[4\].*brats2023"):
        judged([CasePair("mixed", MIXED.prediction, MIXED.reference, REGIONS)])
    with pytest.raises(InputError, match=r"32x36x28.*32x36x27"):
        CasePair("shape", label_map(CENTRE, 5), label_map(CENTRE, 5, shape=(32, 36, 27)), REGIONS)
    with pytest.raises(InputError, match="does not lie on the grid"):
        CasePair("flip", label_map(CENTRE, 5, orientation="LAS"), label_map(CENTRE, 5), REGIONS)
    gtv = CasePair("gtv", PERFECT.prediction, PERFECT.reference, REGIONS, reference_schema=SCHEMAS["menrt"])
    assert [region.name for region in gtv.told] == ["WT", "TC"]
    for wrong in ({"level": 95}, {"resamples": 0}, {"worst_cases": -1}, {"band_mm": -1}):
        with pytest.raises(InputError):
            EvaluationSettings(**wrong)


@pytest.mark.slow
def test_html_is_self_contained_and_complete():
    shifted = with_probabilities(SHIFTED, 0.9)
    named = CasePair("<b>&odd", shifted.prediction, shifted.reference, REGIONS, probabilities=shifted.probabilities)
    noisy = np.random.default_rng(0).random(MISSED.reference.grid.shape)
    pictured = CasePair("missed", MISSED.prediction, MISSED.reference, REGIONS, image=MISSED.reference.with_data(noisy))
    result = judged([named, pictured, NOTHING])
    comparison = compare_evaluations(result, result, generator=np.random.default_rng(0))
    page = evaluation_html(result, title="A & B", comparison=comparison)
    assert snapshot_picture(result.snapshots[0], REGIONS) == snapshot_picture(result.snapshots[0], REGIONS)
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:image/png;base64,)", page)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page).replace("http-equiv", "")
    assert "<b>&odd" not in page
    assert "&lt;b&gt;&amp;odd" in page
    assert "A &amp; B" in page
    assert page.count("<img") == 3 + 2  # three plots, two worst cases
    for text in ("HD95 BraTS 2023, mm", "ICC(2,1)", "Wilson", "374 mm", "BraTS 2023 GLI", "Two models compared"):
        assert text in page
    assert page.count("<table>") == page.count("</table>")


def test_html_of_one_case_without_tumour():
    page = evaluation_html(judged([NOTHING]), title="one")
    assert "1 case." in page
    assert "nan" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page).lower()


def test_numbers_for_people():
    assert [number(v) for v in (0.12345, 3, math.nan, None, "<")] == ["0.123", "3", "–", "–", "<"]


def test_a_real_expert_label_moved_by_one_voxel(real_study):
    image = nib.load(next(real_study.glob("*seg.nii.gz")))
    labels = np.asanyarray(image.dataobj).astype(np.uint8)
    reference = Volume.from_affine(labels, image.affine)
    schema = SCHEMAS["brats2021"]
    moved = CasePair("moved", reference.with_data(np.roll(labels, 1, 0)), reference, REGIONS, schema, schema)
    for score in evaluate_case(moved).regions:
        assert 0.5 < score.dice < 1
        assert score.nsd_1mm == pytest.approx(1.0)
        assert score.hd95_mm <= 1.0
        assert score.hd95_brats2023_mm <= 1.0
        assert score.volume_error_ml == 0
        assert score.lesions_missed == score.lesions_false == 0


BLOCK = np.zeros((20, 24, 16), np.uint8)
BLOCK[5:11, 6:14, 4:9], BLOCK[7:9, 8:11, 5:7] = 2, 3
STORED = Volume.from_affine(BLOCK, np.array([[1, 0, 0, -9], [0, 1.2, 0, 7], [0, 0, 2.5, 30], [0, 0, 0, 1.0]]))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("cropped", [False, True])
def test_the_same_voxels_stored_otherwise_are_the_same(axes, flips, cropped):
    """Turned, mirrored in storage, cropped to the tumour, with a header rounded by a fiftieth of a voxel."""
    volume = STORED.crop((4, 5, 3), (12, 15, 10)) if cropped else STORED
    for axis in flips:
        volume = volume.flip(axis)
    volume = volume.permute(axes)
    rounded = volume.affine.copy()
    rounded[:3, 3] += 0.02
    found = placed(Volume.from_affine(volume.data, rounded), STORED.grid, "prediction")
    np.testing.assert_array_equal(found.volume.data, STORED.data)
    assert found.volume.grid is STORED.grid
    assert ("the rest counts as 0" in found.note) is cropped
    assert "counts as the same place" in found.note


def test_equal_shapes_at_different_places_are_doubted():
    affine = STORED.affine.copy()
    affine[1, 3] += 2.4
    found = placed(Volume.from_affine(STORED.data, affine), STORED.grid, "prediction")
    np.testing.assert_array_equal(found.volume.data[:, 2:], STORED.data[:, :-2])
    assert "2.4 mm" in found.note and "header" in found.note


@pytest.mark.parametrize("shift_voxels", [0.2, 0.5])
def test_voxels_between_those_of_the_reference_are_refused(shift_voxels):
    affine = STORED.affine.copy()
    affine[0, 3] += shift_voxels
    for data in (STORED.data, STORED.data[1:]):
        with pytest.raises(InputError, match="does not lie on the grid of the reference"):
            placed(Volume.from_affine(data, affine), STORED.grid, "prediction")
    doubled = Volume.from_affine(STORED.data, STORED.affine @ np.diag([2.0, 1, 1, 1]))
    with pytest.raises(InputError, match="does not lie on the grid"):
        placed(doubled, STORED.grid, "prediction")


def test_a_tumour_outside_the_reference_is_not_cut_off():
    with pytest.raises(InputError, match="labelled voxels of the prediction lie outside"):
        placed(STORED, STORED.crop((0, 0, 0), (8, 24, 16)).grid, "prediction")
    bare = Volume(np.zeros_like(BLOCK), STORED.grid)
    assert not placed(bare, STORED.crop((0, 0, 0), (8, 24, 16)).grid, "prediction").volume.data.any()


def test_regions_that_one_map_does_not_tell_are_not_scored():
    mask = PERFECT.reference.with_data((PERFECT.reference.data > 0).astype(np.uint8))
    whole = CasePair("a", PERFECT.prediction, mask, REGIONS, reference_schema=SCHEMAS["menrt"])
    result = judged([whole])
    assert set(result.cases["region"]) == {"WT", "TC"}
    for table in (result.summary, result.agreement, result.detection):
        assert set(table["region"]) == {"WT", "TC"}
    page = evaluation_html(result, title="x")
    assert "ET mean" not in page


@pytest.mark.slow
def test_cases_both_empty_are_counted_and_their_share_said():
    result = judged([NOTHING, replace(NOTHING, case="b"), SHIFTED])
    table = result.summary[(result.summary["metric"] == "dice") & (result.summary["subset"] == "all")]
    assert dict(zip(table["region"], table["both_empty"], strict=True)) == {"WT": 2, "TC": 2, "ET": 2 + 1 * no_et()}
    whole = table.set_index("region").loc["WT"]
    shifted = row(result, "shifted").dice
    assert whole["mean"] == pytest.approx((2 + shifted) / 3)
    (words,) = [line for line in empty_words(result.summary[result.summary["subset"] == "all"]) if line[:2] == "WT"]
    assert "in 2 of 3 cases neither map holds any, which counts as Dice 1" in words
    assert f"without them the mean Dice is {shifted:.3f}" in words
    assert words in re.sub("<[^>]+>", "", evaluation_html(result, title="x"))


def no_et():
    """Whether the pair SHIFTED holds no enhancing tumour in either map."""
    return int(not (SHIFTED.prediction.data == 3).any() and not (SHIFTED.reference.data == 3).any())


def test_missing_predictions_and_known_studies_get_means_of_their_own():
    known = replace(PERFECT, case="known", trained_on=True)
    result = judged_with([known, SHIFTED], missing=("x", "y"))
    means = {r["subset"]: r for r in result.summary.to_dict("records") if (r["region"], r["metric"]) == ("WT", "dice")}
    shifted = row(result, "shifted").dice
    assert means["all"]["mean"] == pytest.approx((1 + shifted) / 2)
    assert (means["not trained on"]["mean"], means["not trained on"]["cases"]) == (pytest.approx(shifted), 1)
    missed = means["all, missing predictions as 0"]
    assert (missed["mean"], missed["cases"]) == (pytest.approx((1 + shifted) / 4), 4)
    distances = result.summary[(result.summary["metric"] == "hd95_mm") & (result.summary["subset"] == missed["subset"])]
    assert distances.iloc[0]["max"] == 374.0
    assert json.loads(result.to_json())["missing"] == ["x", "y"]


def judged_with(pairs, missing):
    return evaluate_pairs(pairs, generator=np.random.default_rng(1), settings=FEW, missing=lambda: missing)


def test_one_case_gets_no_interval_no_box_and_no_second_table():
    result = judged([SHIFTED])
    assert result.summary[["low", "high"]].isna().all(axis=None)
    assert list(result.summary["subset"].unique()) == ["all"]
    assert result.detection[["recall_low", "recall_high"]].isna().all(axis=None)
    page = evaluation_html(result, title="x", left_out=["b: no prediction"], warnings=["read me first"])
    assert "Box plots" not in page
    assert "Bland-Altman" not in page
    assert "(" + " to " not in page
    assert page.index("read me first") < page.index("b: no prediction") < page.index("Scores")
    assert "95 % interval" not in page
