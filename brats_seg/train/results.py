"""The results of a cross-validation: outputs of every study by the model that kept it out, judged and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from brats_seg.evaluate.evaluate import frame_to_csv
from brats_seg.evaluate.page import evaluation_html
from brats_seg.files.output import OutputFolder, file_hashes, write_text
from brats_seg.files.tables import write_json
from brats_seg.models.record import versions
from brats_seg.models.rules import PostprocessConfig
from brats_seg.train.card import RESULTS
from brats_seg.train.crossval import FoldModels, outputs_of
from brats_seg.train.data import PackedStudy
from brats_seg.train.judge import Judgement, interval_summary, judge, write_fold_cards
from brats_seg.train.subsets import subset_scores, subset_table


def judge_folds(
    packs: Sequence[PackedStudy],
    models: FoldModels,
    folds: Sequence[int],
    *,
    subsets: bool = False,
    title: str = "Cross-validation",
    progress: bool = True,
) -> tuple[Judgement, Path]:
    """Judge the models of folds, give them cards, and write the results beside them.

    Args:
        folds: numbers of those to judge, two at least: what is fitted for one comes from the others.
        subsets: also judge with every set of missing sequences.

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
    if subsets:
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
