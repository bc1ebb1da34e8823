"""What missing sequences cost: every study judged again with each of the 15 sets of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from brats_seg.core.labels import REGIONS
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.inference.postprocess import region_masks
from brats_seg.inference.predict import Predictor
from brats_seg.training.calibrate import score
from brats_seg.training.crossval import CrossvalConfig, fold_model, predict_case
from brats_seg.training.data import PackedStudy
from brats_seg.training.judge import Fit
from brats_seg.training.splits import Split


def subsets() -> list[tuple[MRSequence, ...]]:
    """The 15 sets of sequences a study can consist of, the whole one first."""
    return [kept for count in range(len(SEQUENCES), 0, -1) for kept in combinations(SEQUENCES, count)]


def subset_name(sequences: Sequence[MRSequence]) -> str:
    """Short name of a set of sequences, such as ``t1+flair``; also the key in a model card."""
    return "+".join(sequence.value for sequence in sequences)


def subset_scores(
    packs: Sequence[PackedStudy],
    config: CrossvalConfig,
    split: Split,
    fits: Sequence[Fit],
    run: Path,
    *,
    folds: Sequence[int] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Dice of every study and set of sequences by the model that did not see the study.

    Args:
        packs: every study.
        config: what is cross-validated.
        split: who is tested where.
        fits: by fold, how outputs become labels; fitted with all sequences.
        run: run folder of the cross-validation.
        folds: only these; None takes all.
        progress: show a progress bar.

    Returns:
        Columns ``case``, ``sequences``, ``region``, ``dice``.
    """
    by_id = {pack.id: pack for pack in packs}
    chosen = range(len(split.folds)) if folds is None else folds
    rows = []
    with tqdm(total=sum(len(split.folds[k]) for k in chosen), desc="subsets", disable=not progress) as bar:
        for fold in chosen:
            predictor = Predictor(fold_model(config, fold, run), engine="torch")
            for study in split.folds[fold]:
                for kept in subsets():
                    missing = [sequence for sequence in SEQUENCES if sequence not in kept]
                    case = predict_case(predictor, by_id[study], missing=missing)
                    post = fits[fold].postprocess
                    # packs are at 1 mm
                    masks, _ = region_masks(case.probabilities(post), 0.001, post, rise=case.rise)
                    rows += [
                        {"case": study, "sequences": subset_name(kept), "region": region.abbreviation}
                        | {"dice": score(masks[region], case.truth(region))}
                        for region in REGIONS
                    ]
                bar.update()
    return pd.DataFrame(rows)


def subset_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice of each set of sequences: columns ``sequences``, ``WT``, ``TC``, ``ET``; the whole set first."""
    table = scores.pivot_table(index="sequences", columns="region", values="dice", aggfunc="mean", sort=False)
    order = [subset_name(kept) for kept in subsets()]
    return table.loc[order, [region.abbreviation for region in REGIONS]].reset_index().rename_axis(columns=None)
