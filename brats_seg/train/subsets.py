"""What missing sequences cost: every study judged again with each of the 15 sets of sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd
from tqdm import tqdm

from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.models.card import regions_of
from brats_seg.models.rules import PostprocessConfig
from brats_seg.segment.predict import Predictor
from brats_seg.train.crossval import FoldModels, predict_case
from brats_seg.train.data import PackedStudy
from brats_seg.train.judge import Fit


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
