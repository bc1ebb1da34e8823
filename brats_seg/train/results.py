"""The results of a cross-validation: outputs of every study by the model that kept it out, judged and written.

What missing sequences cost is found by judging every study again with each of the 15 sets of sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.evaluate.evaluate import frame_to_csv
from brats_seg.evaluate.page import evaluation_html
from brats_seg.files.output import OutputFolder, file_hashes, write_text
from brats_seg.files.tables import write_json
from brats_seg.models.card import regions_of
from brats_seg.models.record import versions
from brats_seg.models.rules import PostprocessConfig
from brats_seg.segment.predict import Predictor
from brats_seg.train.crossval import FoldModels, outputs_of, predict_case
from brats_seg.train.data import PackedStudy
from brats_seg.train.export import RESULTS
from brats_seg.train.judge import Fit, Judgement, interval_summary, judge, write_fold_cards


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
