"""Judging out-of-fold outputs: fitted on the other folds, intervals on all other studies, scored on this one.

The results are written beside the folds. What missing sequences cost is found by judging every study again with each of
the 15 sets of sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.core.visit import RegionMaps, Segmentation
from brats_seg.evaluate.calibration import expected_calibration_error
from brats_seg.evaluate.cases import CasePair, EvaluationSettings, band_calibration
from brats_seg.evaluate.evaluate import Evaluation, evaluate_pairs, frame_to_csv
from brats_seg.evaluate.page import evaluation_html
from brats_seg.files.output import OutputFolder, file_hashes, write_text
from brats_seg.files.tables import write_json
from brats_seg.models.card import ModelBundle, regions_of, write_card
from brats_seg.models.record import versions
from brats_seg.models.rules import PostprocessConfig
from brats_seg.segment.postprocess import region_masks
from brats_seg.segment.predict import Predictor
from brats_seg.train.calibrate import Case, fit_postprocess
from brats_seg.train.crossval import FoldModels, outputs_of, predict_case, read_case
from brats_seg.train.data import PackedStudy
from brats_seg.train.export import RESULTS
from brats_seg.train.runs import STAGES, Known, card_marks, known_before
from brats_seg.train.splits import Split
from brats_seg.volumetrics.intervals import IntervalModel, fit_intervals
from brats_seg.volumetrics.measure import ambiguous_volumes_ml, measure_segmentation

FIT_CASES = 150
"""Fitting uses at most as many cases, evenly taken; a handful of numbers needs no more, and memory is finite."""


@dataclass(frozen=True)
class Fit:
    """What was fitted on some cases.

    Attributes:
        postprocess: combination, temperature, thresholds, sizes.
        intervals: widths of volume intervals; None where there were too few cases.
    """

    postprocess: PostprocessConfig
    intervals: IntervalModel | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a model card holds them."""
        widths = None if self.intervals is None else self.intervals.to_dict()
        return {"postprocess": self.postprocess.to_dict(), "intervals": widths}


@dataclass(frozen=True, eq=False)
class Judgement:
    """What cross-validation found.

    Attributes:
        evaluation: every study, by the model that did not see it.
        fits: by fold, fitted on the other folds.
        final: fitted on all studies out of fold, for a model trained on all of them.
        intervals: one row a study and region: true and measured volume, interval by the others, whether it covers.
        calibration: by region, expected calibration error near the tumour with and without temperature.
    """

    evaluation: Evaluation
    fits: tuple[Fit, ...]
    final: Fit
    intervals: pd.DataFrame
    calibration: pd.DataFrame


def segmentation_of(case: Case, config: PostprocessConfig) -> Segmentation:
    """The label map of a case, with its probabilities, on a grid of 1 mm."""
    array = case.settled(config)
    x, y, z = case.labels.shape
    grid = Grid((x, y, z), np.eye(4))
    labels = Volume(case.regions.compose(region_masks(array, case.regions, config), DEFAULT_SCHEMA), grid)
    return Segmentation(case.id, labels, DEFAULT_SCHEMA, case.regions, RegionMaps(array, grid, case.regions))


def fit(paths: Sequence[Path], start: PostprocessConfig) -> Fit:
    """Fit on files of cases."""
    kept = paths[:: -(-len(paths) // FIT_CASES)]
    postprocess = fit_postprocess([read_case(path) for path in kept], start)
    return Fit(postprocess, _fit_intervals(pd.concat([volume_rows(read_case(path), postprocess) for path in paths])))


def _fit_intervals(volumes: pd.DataFrame) -> IntervalModel | None:
    columns = ("true_ml", "volume_ml", "doubt_ml")
    by_region = {name: {str(r): t[name].tolist() for r, t in volumes.groupby("region")} for name in columns}
    try:
        return fit_intervals(*(by_region[name] for name in columns))
    except InputError:
        return None  # too few studies for any finite interval, which a card without intervals says


def volume_rows(case: Case, config: PostprocessConfig) -> pd.DataFrame:
    """True and measured volume and the doubt of every region and structure of a case, in millilitres."""
    found = segmentation_of(case, config)
    truth = Segmentation(case.id, Volume(case.labels, found.labels.grid), DEFAULT_SCHEMA, case.regions)
    doubt = ambiguous_volumes_ml(found)
    true = {row.region: row.volume_ml for row in measure_segmentation(truth).volumes}
    rows = [
        {"case": case.id, "region": row.region, "true_ml": true[row.region], "volume_ml": row.volume_ml}
        | {"doubt_ml": doubt[row.region]}
        for row in measure_segmentation(found).volumes
        if row.region in doubt
    ]
    return pd.DataFrame(rows)


def judge(files: Sequence[Sequence[Path]], start: PostprocessConfig, *, seed: int = 0) -> Judgement:
    """Fit for each fold on the others and each interval on the other studies, score each study once.

    Args:
        files: by fold, files of cases.
        start: keeps what is not fitted.
    """
    others = [[path for k, paths in enumerate(files) if k != fold for path in paths] for fold in range(len(files))]
    fits = tuple(fit(paths, start) for paths in others)
    evaluation = evaluate_pairs(
        _pairs(files, fits), generator=np.random.default_rng(seed), settings=EvaluationSettings()
    )
    return Judgement(
        evaluation,
        fits,
        fit([path for paths in files for path in paths], start),
        left_out_intervals(_volumes(files, fits)),
        _calibration(files, fits, evaluation),
    )


def _pairs(files: Sequence[Sequence[Path]], fits: Sequence[Fit]) -> Iterator[CasePair]:
    for paths, fitted in zip(files, fits, strict=True):
        for path in paths:
            case = read_case(path)
            found = segmentation_of(case, fitted.postprocess)
            reference = Volume(case.labels, found.labels.grid)
            yield CasePair(case.id, found.labels, reference, case.regions, probabilities=found.probabilities)


def _volumes(files: Sequence[Sequence[Path]], fits: Sequence[Fit]) -> pd.DataFrame:
    found = [
        volume_rows(read_case(path), fitted.postprocess)
        for paths, fitted in zip(files, fits, strict=True)
        for path in paths
    ]
    return pd.concat(found, ignore_index=True)


def left_out_intervals(volumes: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`volume_rows` with intervals, each study's fitted on all others, as a new one's is on all of them.

    Returns:
        The rows with ``low_ml``, ``high_ml`` (NaN where there are too few others) and ``covers``.
    """
    rows = []
    for case, part in volumes.groupby("case", sort=False):
        fitted = _fit_intervals(volumes[volumes["case"] != case])
        for row in part.to_dict("records"):
            ends = fitted and fitted.interval(str(row["region"]), row["volume_ml"], row["doubt_ml"])
            low, high = ends or (np.nan, np.nan)
            rows.append({**row, "low_ml": low, "high_ml": high, "covers": low <= row["true_ml"] <= high})
    return pd.DataFrame(rows)


def write_fold_cards(
    bundles: Mapping[int, ModelBundle], split: Split, fits: Sequence[Fit], packs: Sequence[PackedStudy]
) -> None:
    """Give the model of each fold what was fitted for it, and say which studies it has seen and which not."""
    heads = {pack.id: pack.heads for pack in packs}
    judged = sum(len(split.folds[fold]) for fold in bundles)
    for (fold, bundle), fitted in zip(bundles.items(), fits, strict=True):
        kept_out = split.folds[fold]
        trained_on = sorted(set(split.strata) - set(kept_out))
        marks = card_marks({study: heads[study] for study in trained_on}, _known_besides(bundle, split))
        card = replace(
            bundle.card,
            name=f"{bundle.card.name.removesuffix(f'-fold{fold}')}-fold{fold}",
            # The card's own words are about the model of all studies.
            trained_on=f"{len(trained_on)} of the {len(split.strata)} studies of a cross-validation, "
            "the others kept out",
            held_out=kept_out,
            accuracy={
                "not measured of this model alone": f"one of {len(bundles)} of a cross-validation, which together were "
                f"judged on {judged} studies, each by the model that kept it out"
            },
            seen=tuple(marks["seen"]),
            fingerprints=marks["fingerprints"],
            postprocess=fitted.postprocess,
            intervals=None if fitted.intervals is None else fitted.intervals.to_dict(),
        )
        write_card(card, bundle.folder)


def _known_besides(bundle: ModelBundle, split: Split) -> Known | None:
    """What a fold's model knows of other data sets, from where it started or by its card if it was there already."""
    before = known_before(bundle.folder.parent / stage for stage in STAGES)
    if before is None:
        return None
    held = {study: bundle.card.fingerprints.get(study, {}) for study in bundle.card.seen}
    return {study: marks for study, marks in {**held, **before}.items() if study not in split.strata}


def interval_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """By region: how many studies are covered, and how wide the intervals are."""
    table = rows[rows["region"].isin([region.name for region in regions_of()])]
    made = []
    for region in regions_of():
        part = table[table["region"] == region.name]
        width = part["high_ml"] - part["low_ml"]
        large = part["volume_ml"] >= 1.0  # relative widths of next to nothing say nothing
        made.append(
            {"region": region.name, "studies": len(part), "covered": int(part["covers"].sum())}
            | {"median_width_ml": float(width.median())}
            | {"median_width_percent": float((100 * width / part["volume_ml"])[large].median())}
        )
    return pd.DataFrame(made)


def _calibration(files: Sequence[Sequence[Path]], fits: Sequence[Fit], evaluation: Evaluation) -> pd.DataFrame:
    """ECE in the band around the tumour, as fitted, and with temperature 1."""
    plain = [replace(f, postprocess=replace(f.postprocess, temperature={})) for f in fits]
    counts: dict[str, Any] = {}
    for pair in _pairs(files, plain):
        for region, count in band_calibration(pair, EvaluationSettings().band_mm).items():
            counts[region] = counts[region] + count if region in counts else count
    fitted: Mapping[str, float] = dict(
        zip(evaluation.calibration["region"], evaluation.calibration["ece"], strict=True)
    )
    return pd.DataFrame(
        {
            "region": region.name,
            "ece": fitted[region.name],
            "ece_without_temperature": expected_calibration_error(counts[region.name]),
        }
        for region in regions_of()
    )


def judge_folds(
    packs: Sequence[PackedStudy],
    models: FoldModels,
    folds: Sequence[int],
    *,
    with_subsets: bool = False,
    title: str = "Cross-validation",
    progress: bool = True,
) -> tuple[Judgement, Path]:
    """Judge the models of folds, give them cards, and write the results beside them.

    Args:
        folds: numbers of those to judge, two at least: what is fitted for one comes from the others.
        with_subsets: also judge with every set of missing sequences.

    Returns:
        What was found, and the folder it was written to.
    """
    with tqdm(total=sum(len(models.split.folds[k]) for k in folds), desc="predict", disable=not progress) as bar:
        outputs = [outputs_of(packs, models, fold, tick=bar.update) for fold in folds]
    judgement = judge(outputs, PostprocessConfig())
    fits = dict(zip(folds, judgement.fits, strict=True))
    if not models.suffix:
        write_fold_cards({fold: models.model(fold) for fold in folds}, models.split, judgement.fits, packs)
    tables = {}
    if with_subsets:
        scores = subset_scores(packs, models, fits, progress=progress)
        tables = {"subset_cases": scores, "subsets": subset_table(scores)}
    folder = models.run / (RESULTS + models.suffix)
    with OutputFolder(folder, exists="overwrite") as out:
        values = {"final": judgement.final.to_dict(), "folds": {str(k): fit.to_dict() for k, fit in fits.items()}}
        write_json(values, out.path / "fits.json")
        write_text(out.path / "evaluation.html", evaluation_html(judgement.evaluation, title=title, comparison=None))
        _write_tables(out.path, judgement, tables)
        settings = {"folds": len(models.split.folds), "judged": list(folds), "mirrored": models.mirror}
        # the record comes last, because it makes the folder count as finished
        record = {"versions": versions(), "settings": settings, "outputs": file_hashes(out.path)}
        write_json(record, out.path / "run.json")
    return judgement, folder


def _write_tables(folder: Path, judgement: Judgement, more: Mapping[str, pd.DataFrame]) -> None:
    frames = {
        "intervals": judgement.intervals,
        "interval_summary": interval_summary(judgement.intervals),
        "temperature": judgement.calibration,
        **more,
    }
    texts = judgement.evaluation.to_csv() | {name: frame_to_csv(frame) for name, frame in frames.items()}
    for name, text in texts.items():
        write_text(folder / f"{name}.csv", text)


def subsets() -> list[tuple[MRSequence, ...]]:
    """The 15 sets of sequences a study can consist of, the whole one first."""
    return [kept for count in range(len(SEQUENCES), 0, -1) for kept in combinations(SEQUENCES, count)]


def subset_name(sequences: Sequence[MRSequence]) -> str:
    """Short name of a set of sequences, such as ``t1+flair``; also the key in a model card."""
    return "+".join(sequence.value for sequence in sequences)


def subset_scores(
    packs: Sequence[PackedStudy],
    models: FoldModels,
    fits: Mapping[int, Fit],
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """Dice of every study and set of sequences by the model that did not see the study.

    Args:
        fits: how outputs of a fold's model become labels, by the number of the fold; fitted with all sequences.

    Returns:
        Columns ``case``, ``sequences``, ``region``, ``dice``.
    """
    split = models.split
    rows = []
    with tqdm(total=sum(len(split.folds[k]) for k in fits), desc="subsets", disable=not progress) as bar:
        for fold, fitted in fits.items():
            predictor = models.predictor(fold)
            for pack in packs:
                if pack.id in split.folds[fold]:
                    rows += _scores(predictor, pack, fitted.postprocess)
                    bar.update()
    return pd.DataFrame(rows)


def _scores(predictor: Predictor, pack: PackedStudy, post: PostprocessConfig) -> list[dict[str, str | float]]:
    rows: list[dict[str, str | float]] = []
    for kept in subsets():
        missing = [sequence for sequence in SEQUENCES if sequence not in kept]
        case = predict_case(predictor, pack, missing=missing)
        rows += [
            {"case": pack.id, "sequences": subset_name(kept), "region": region.name, "dice": dice}
            for region, dice in zip(regions_of(), case.scores(post), strict=True)
        ]
    return rows


def subset_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice of each set of sequences: columns ``sequences``, ``WT``, ``TC``, ``ET``; the whole set first."""
    table = scores.pivot_table(index="sequences", columns="region", values="dice", aggfunc="mean", sort=False)
    order = [subset_name(kept) for kept in subsets()]
    return table.loc[order, [region.name for region in regions_of()]].reset_index().rename_axis(columns=None)
