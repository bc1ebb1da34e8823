"""Fit what a model card says about combining, thresholds, sizes and volume intervals.

    python scripts/calibrate.py MODEL --train TRAINING_STUDIES --unseen UNSEEN_STUDIES [--unseen …]

How stages are combined, the thresholds and the smallest enhancement are fitted on studies the model was trained on.
Intervals are fitted on studies it was not trained on, because a network is too sure of what it has seen; a study
without expert label among the unseen counts as one without tumour only if it is passed with --no-tumour.
The model folder's card is rewritten; its weights are not touched. Prints every choice and what it is worth.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from brats_seg.core.labels import REGIONS, SCHEMAS, Region, guess_schema, present_values
from brats_seg.core.results import Segmentation
from brats_seg.core.volume import Volume
from brats_seg.evaluation.overlap import count_voxels, dice
from brats_seg.inference.postprocess import drop_small, segment, to_native
from brats_seg.inference.predict import Predictor, StageOutputs, combine
from brats_seg.io.discover import StudyFiles, find_studies
from brats_seg.io.load import load_study
from brats_seg.io.nifti import read_label_map
from brats_seg.models.bundle import PostprocessConfig, read_bundle, write_card
from brats_seg.pipeline import prepare_config
from brats_seg.preprocessing.prepare import prepare
from brats_seg.preprocessing.restore import move
from brats_seg.volumetrics.measure import ambiguous_volumes_ml, measure_segmentation
from brats_seg.volumetrics.uncertainty import fit_intervals

SCHEMA = SCHEMAS["brats2023"]
WEIGHTS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.85, 1.0)
THRESHOLDS = (0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
MIN_ENHANCING_ML = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
MIN_COMPONENT_ML = (0.0, 0.1, 0.25, 0.5)
"""None above 0.5 ml: a sphere of 10 mm, the smallest measurable lesion, holds 0.52 ml and must not be dropped."""


@dataclass(frozen=True, eq=False)
class Case:
    """Stage outputs and truth of one study inside the brain's box, compact."""

    id: str
    outputs: StageOutputs
    brain: NDArray[np.bool_]
    truth: dict[Region, NDArray[np.bool_]]


def truth_of(files: StudyFiles, no_tumour: bool) -> Volume | None:
    """The expert label in the numbers of 2023, or None where there is none."""
    if files.labels is None:
        if no_tumour:
            return None
        raise SystemExit(f"{files.id} has no expert label")
    labels = read_label_map(files.labels)
    schema = guess_schema(present_values(labels.data), file_name=files.labels.name)
    return Volume(schema.convert(labels.data, SCHEMA), labels.grid)


def load_case(files: StudyFiles, predictor: Predictor) -> Case:
    """Run both stages on a training study."""
    prepared = prepare(load_study(files), config=prepare_config(predictor.bundle.card.prepare))
    outputs = predictor.stages(prepared)
    labels = truth_of(files, no_tumour=False)
    assert labels is not None
    moved = move(labels.data, labels.grid, prepared.grid, order=0)
    halves = [None if a is None else a.astype(np.float16) for a in (outputs.whole, outputs.close)]
    compact = StageOutputs(halves[0], halves[1], outputs.box)  # type: ignore[arg-type]
    return Case(files.id, compact, prepared.brain, {r: SCHEMA.region_mask(moved, r) for r in REGIONS})


def probabilities(case: Case, weight: float) -> NDArray[np.float32]:
    """Combined probabilities of a case."""
    whole, close = (None if a is None else a.astype(np.float32) for a in (case.outputs.whole, case.outputs.close))
    return combine(StageOutputs(whole, close, case.outputs.box), case.brain, weight)


def score(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice; both empty 1."""
    return dice(count_voxels(found, truth))


def fit_postprocess(cases: Sequence[Case], start: PostprocessConfig) -> PostprocessConfig:
    """The combination with the best mean Dice over regions and cases; one dial after the other."""
    means = np.zeros((len(WEIGHTS), len(REGIONS), len(THRESHOLDS)))
    for case in tqdm(cases, desc="weights and thresholds"):
        for w, weight in enumerate(WEIGHTS):
            array = probabilities(case, weight)
            for r, region in enumerate(REGIONS):
                for t, threshold in enumerate(THRESHOLDS):
                    means[w, r, t] += score(array[r] >= threshold, case.truth[region]) / len(cases)
    best = int(means.max(axis=2).mean(axis=1).argmax())
    for w, weight in enumerate(WEIGHTS):
        row = ", ".join(f"{r.abbreviation} {means[w, i].max():.4f}" for i, r in enumerate(REGIONS))
        print(f"fine_weight {weight}: {row}{' <' if w == best else ''}")
    thresholds = tuple(THRESHOLDS[int(means[best, r].argmax())] for r in range(len(REGIONS)))
    print(f"thresholds {thresholds} (0.5 everywhere: {means[best, :, THRESHOLDS.index(0.5)].round(4).tolist()})")
    config = dataclasses.replace(start, fine_weight=WEIGHTS[best], thresholds=thresholds)
    return fit_sizes(cases, config)


def fit_sizes(cases: Sequence[Case], config: PostprocessConfig) -> PostprocessConfig:
    """Smallest component of WT and smallest enhancement, by the same Dice."""
    scores = dict.fromkeys(itertools.product(MIN_COMPONENT_ML, MIN_ENHANCING_ML), 0.0)
    for case in tqdm(cases, desc="sizes"):
        array = probabilities(case, config.fine_weight)
        masks = [array[r] >= threshold for r, threshold in enumerate(config.thresholds)]
        for component_ml in MIN_COMPONENT_ML:
            whole = drop_small(masks[0], component_ml * 1000)[0]
            core = masks[1] & whole
            enhancing = masks[2] & core
            kept = score(whole, case.truth[Region.WT]) + score(core, case.truth[Region.TC])
            for enhancing_ml in MIN_ENHANCING_ML:
                found = enhancing if enhancing.sum() / 1000 >= enhancing_ml else np.zeros_like(enhancing)
                scores[component_ml, enhancing_ml] += (kept + score(found, case.truth[Region.ET])) / 3 / len(cases)
    best = max(scores, key=lambda key: (round(scores[key], 6), key))  # of equals the larger sizes
    print(f"min_component_ml, min_enhancing_ml = {best}: {scores[best]:.4f}; none: {scores[0.0, 0.0]:.4f}")
    return dataclasses.replace(config, min_component_ml=best[0], min_enhancing_ml=best[1])


def main() -> None:
    """Fit and rewrite the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--train", type=Path, help="labelled studies the model was trained on")
    parser.add_argument("--unseen", type=Path, action="append", default=[], help="labelled studies it was not")
    parser.add_argument("--no-tumour", type=Path, action="append", default=[], help="unseen studies without tumour")
    arguments = parser.parse_args()
    bundle = read_bundle(arguments.model)
    post = bundle.card.postprocess
    if arguments.train is not None:
        predictor = Predictor(bundle)
        files = list(find_studies(arguments.train))
        post = fit_postprocess([load_case(f, predictor) for f in tqdm(files, desc="predict")], post)
        write_card(dataclasses.replace(bundle.card, postprocess=post), arguments.model)
    if arguments.unseen:
        bundle = read_bundle(arguments.model)
        write_card(dataclasses.replace(bundle.card, intervals=intervals_of(bundle.folder, arguments)), arguments.model)


def intervals_of(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Interval widths from unseen studies."""
    bundle = read_bundle(folder)
    predictor = Predictor(bundle)
    true_ml: dict[str, list[float]] = {}
    found_ml: dict[str, list[float]] = {}
    doubt_ml: dict[str, list[float]] = {}
    places = [(f, False) for p in arguments.unseen for f in find_studies(p)]
    places += [(f, True) for p in arguments.no_tumour for f in find_studies(p)]
    for files, no_tumour in tqdm(places, desc="unseen"):
        prepared = prepare(load_study(files), config=prepare_config(bundle.card.prepare))
        native = to_native(predictor.predict(prepared).probabilities, prepared)
        found, _ = segment(native, prepared, SCHEMA, bundle.card.postprocess)
        labels = truth_of(files, no_tumour)
        truth = Volume(np.zeros(found.labels.grid.shape, np.uint8), found.labels.grid) if labels is None else labels
        true_rows = measure_segmentation(Segmentation(files.id, truth, SCHEMA))
        doubt = ambiguous_volumes_ml(found)
        for row in measure_segmentation(found).volumes:
            if row.region in doubt:
                true_ml.setdefault(row.region, []).append(true_rows.volume(row.region).volume_ml)
                found_ml.setdefault(row.region, []).append(row.volume_ml)
                doubt_ml.setdefault(row.region, []).append(doubt[row.region])
    for region, values in true_ml.items():
        pairs = ", ".join(f"{t:.1f}/{f:.1f}" for t, f in zip(values, found_ml[region], strict=True))
        print(f"{region}: true/found ml {pairs}")
    model = fit_intervals(true_ml, found_ml, doubt_ml)
    print(model.to_dict())
    return model.to_dict()


if __name__ == "__main__":
    main()
