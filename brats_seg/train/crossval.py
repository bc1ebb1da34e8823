"""Cross-validation: every study is judged by a model that saw neither it nor its patient.

A run folder holds ``split.json``, and for each fold the run folders of its stages, its model, and what that
model says about the studies it did not see. Whatever is fitted on outputs (thresholds, temperature, interval
widths) is fitted for each fold on the other folds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import ModelError, UsageError
from brats_seg.core.grid import Grid
from brats_seg.core.scans import PreparationRecord, PreparedStudy
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.boxes import bounding_box
from brats_seg.models.card import CARD, ModelBundle, find_model
from brats_seg.segment.postprocess import enhancement
from brats_seg.segment.predict import Predictor, StageOutputs, combine, outermost
from brats_seg.train.calibrate import Case
from brats_seg.train.config import TrainConfig
from brats_seg.train.data import LEVELS_PER_STD, PackedStudy, has_key, open_arrays, write_arrays
from brats_seg.train.export import assemble_runs
from brats_seg.train.recipe import Recipe
from brats_seg.train.runs import CONFIG, STAGES, held_config, known_among, known_by, with_known_steps
from brats_seg.train.splits import SPLIT, Split, draw_split, read_split, write_split

KEPT_FROM = 0.02
"""Coarse probability from which a voxel is kept in a case; everything further out is certain background."""
KEPT_MARGIN = 12
"""Voxels kept around, so that calibration can be judged 10 mm around the tumour."""


def fold_folder(run: Path, fold: int) -> Path:
    """Where a fold keeps its stages, its model and its outputs."""
    return run / f"fold{fold}"


def open_split(
    packs: Sequence[PackedStudy], config: Recipe, folds: int, run: Path, *, start: Path | None = None
) -> Split:
    """The split of a run folder, drawn and written where there is none.

    Args:
        start: where the folds' networks start from. Of another cross-validation the split is taken, so that they have
            not seen what they keep out; a single run may have seen none of the studies at all.

    Raises:
        InputError: if ``start`` has no split, or one of other studies.
        ModelError: if ``start`` is a run that does not say what it has seen.
        UsageError: if the folder holds a split of another number of folds or another seed, or ``start`` one that does
            not go with it, or has seen a study.
    """
    if start is not None and is_single_run(start):
        _check_unseen(packs, start)
        start = None
    path = run / SPLIT
    if not path.exists():
        drawn = draw_split(packs, folds, seed=config.seed) if start is None else read_split(start / SPLIT, packs)
        run.mkdir(parents=True, exist_ok=True)
        write_split(drawn, path)
    split = read_split(path, packs)
    if len(split.folds) != folds or split.seed != config.seed:
        raise UsageError(
            f"{run} was started with {len(split.folds)} folds and seed {split.seed}, not {folds} and {config.seed}; "
            "choose another folder"
        )
    if start is not None:
        before = read_split(start / SPLIT, packs)
        if before.folds != split.folds:
            raise UsageError(f"{start} keeps other studies out of its folds than {run}; its networks have seen them")
    return split


def is_single_run(start: Path) -> bool:
    """Whether a folder is a run of ``brats-seg train``, rather than of a cross-validation."""
    return any((start / stage / CONFIG).is_file() for stage in STAGES)


def _check_unseen(packs: Sequence[PackedStudy], start: Path) -> None:
    known = known_among(packs, known_by(start))
    if known:
        raise UsageError(
            f"{start} was trained on {known[0]} (of this data set {len(known)} studies in all); no fold could be "
            "judged by studies it has not seen. Start from a run on other data, such as phantoms."
        )


def fold_start(start: Path, packs: Sequence[PackedStudy], kept_out: Sequence[str]) -> Path:
    """Folder of the weights that a fold starts from: that of the fold which kept the same studies out, or of a run.

    Args:
        start: fold models, a run of cross-validation, or a run of ``brats-seg train``.
        kept_out: those the fold keeps out.

    Raises:
        InputError: if ``start`` has no split, or one of other studies.
        UsageError: if none of the folds kept the studies out.
    """
    if is_single_run(start):
        return start
    folds = read_split(start / SPLIT, packs).folds
    fold = next((number for number, ids in enumerate(folds) if set(kept_out) <= set(ids)), None)
    if fold is None:
        raise UsageError(f"no fold of {start} kept out all of {', '.join(kept_out)}; its networks have seen them")
    return fold_folder(start, fold)


def fold_config(config: TrainConfig, split: Split, fold: int) -> TrainConfig:
    """Settings of one stage in one fold: its studies kept out, and a seed of its own."""
    return replace(config, validation=split.folds[fold], seed=config.seed + fold)


def fold_stages(recipe: Recipe, split: Split, fold: int) -> dict[str, TrainConfig]:
    """Settings of every stage in one fold."""
    return {name: fold_config(stage, split, fold) for name, stage in recipe.stages.items()}


def as_prepared(pack: PackedStudy, divisor: int) -> PreparedStudy:
    """A packed study as inference takes it; its grid is the pack's own, padded to multiples of ``divisor``."""
    pad = [(0, -n % divisor) for n in pack.labels.shape]
    array = np.pad(pack.image.astype(np.float32) / np.float32(LEVELS_PER_STD), [(0, 0), *pad])
    x, y, z = array.shape[1:]
    grid = Grid((x, y, z), np.eye(4))
    present = tuple(s for s, channel in zip(SEQUENCES, array, strict=True) if channel.any())
    return PreparedStudy(pack.id, array, (array != 0).any(axis=0), present, PreparationRecord(grid, grid))


def without(prepared: PreparedStudy, missing: Sequence[MRSequence]) -> PreparedStudy:
    """The study as if sequences had not been scanned."""
    array = prepared.array.copy()
    array[[SEQUENCES.index(sequence) for sequence in missing]] = 0.0
    present = tuple(s for s in prepared.present if s not in missing)
    return replace(prepared, array=array, present=present)


def predict_case(predictor: Predictor, pack: PackedStudy, *, missing: Sequence[MRSequence] = ()) -> Case:
    """What a model says about a packed study, cut to where it may be tumour."""
    divisor = int(predictor.bundle.card.prepare.get("divisor", 32))
    prepared = without(as_prepared(pack, divisor), missing)
    outputs = predictor.stages(prepared)
    labels = np.pad(pack.labels, [(0, b - a) for a, b in zip(pack.labels.shape, prepared.grid.shape, strict=True)])
    regions = predictor.bundle.card.regions
    whole = outermost(combine(outputs, prepared.brain, 1.0, regions), regions)  # how stages mix is fitted later
    rise = enhancement(prepared, whole >= 0.5)
    return _cropped(Case(pack.id, outputs, prepared.brain, labels, rise))


def _cropped(case: Case) -> Case:
    """Only the part that may be tumour, or is; half precision."""
    kept = case.labels > 0
    if case.outputs.whole is not None:
        kept |= case.outputs.whole[0] >= KEPT_FROM
    if case.outputs.box is not None:
        kept[case.outputs.box] = True
    box = bounding_box(kept, margin=KEPT_MARGIN) or (slice(0, 1), slice(0, 1), slice(0, 1))
    whole = None if case.outputs.whole is None else case.outputs.whole[(slice(None), *box)].astype(np.float16)
    close = None if case.outputs.close is None else case.outputs.close.astype(np.float16)
    inner = case.outputs.box
    if inner is not None:
        x, y, z = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, box, strict=True))
        inner = (x, y, z)
    outputs = StageOutputs(whole, close, inner)  # type: ignore[arg-type]  # half precision is widened when used
    rise = None if case.rise is None else case.rise[box].astype(np.float16)
    return Case(case.id, outputs, case.brain[box].copy(), case.labels[box].copy(), rise)


@dataclass(frozen=True)
class FoldModels:
    """The models of a cross-validation, each for the studies its fold keeps out.

    Attributes:
        split: which studies each fold keeps out.
        mirror: average with the study mirrored left-right.
    """

    config: Recipe
    split: Split
    run: Path
    mirror: bool = False
    device: str = "cpu"

    @property
    def suffix(self) -> str:
        """Of the folders of outputs and results."""
        return "_mirrored" if self.mirror else ""

    def model(self, fold: int) -> ModelBundle:
        """The model of a finished fold, assembled where it is not yet."""
        folder = fold_folder(self.run, fold)
        target = folder / "model"
        if not (target / CARD).is_file():
            runs = {name: folder / name for name in self.config.stages}
            assemble_runs(runs, self.config.named_card, target, onnx=False)
        return find_model(str(target))

    def predictor(self, fold: int) -> Predictor:
        """The networks of a fold, on PyTorch."""
        return Predictor(self.model(fold), engine="torch", device=self.device, mirror=self.mirror)

    def key_of(self, fold: int, pack: PackedStudy) -> bytes:
        """Digest of all that decides the outputs for a study."""
        card = self.model(fold).card
        deciding = {
            "stages": [stage.decides() for stage in card.stages],
            "roi": [card.postprocess.roi_threshold, card.postprocess.roi_margin_mm],
            "divisor": card.prepare.get("divisor"),
            "mirror": self.mirror,
            "study": hashlib.sha256(pack.image.tobytes() + pack.labels.tobytes()).hexdigest(),
        }
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).digest()


def outputs_of(
    packs: Sequence[PackedStudy], models: FoldModels, fold: int, *, tick: Callable[[], object] = lambda: None
) -> list[Path]:
    """Files with the outputs for the studies a fold keeps out.

    Those that are there are kept where the same model gave them for the same study.
    """
    folder = fold_folder(models.run, fold) / f"outputs{models.suffix}"
    folder.mkdir(exist_ok=True)
    kept_out = [pack for pack in packs if pack.id in models.split.folds[fold]]
    digests = {pack.id: models.key_of(fold, pack) for pack in kept_out}
    missing = [pack.id for pack in kept_out if not has_key(folder / f"{pack.id}.npz", digests[pack.id])]
    predictor = models.predictor(fold) if missing else None
    for pack in kept_out:
        if predictor is not None and pack.id in missing:
            write_case(predict_case(predictor, pack), folder / f"{pack.id}.npz", key=digests[pack.id])
        tick()
    return [folder / f"{study}.npz" for study in models.split.folds[fold]]


def write_case(case: Case, path: Path, *, key: bytes = b"") -> None:
    """Write a case, whole or not at all; ``key`` as for :func:`~brats_seg.train.data.write_arrays`."""
    rise = np.empty(0, np.float16) if case.rise is None else case.rise
    arrays: dict[str, NDArray[np.generic]] = {"labels": case.labels, "brain": np.packbits(case.brain), "rise": rise}
    if case.outputs.whole is not None:
        arrays["whole"] = case.outputs.whole
    if case.outputs.close is not None and case.outputs.box is not None:
        arrays["close"] = case.outputs.close
        arrays["box"] = np.array([[side.start, side.stop] for side in case.outputs.box])
    write_arrays(path, arrays, key=key)


def read_case(path: Path) -> Case:
    """Read a file of :func:`write_case`.

    Raises:
        InputError: if it is damaged.
    """
    with open_arrays(path) as held:
        labels = held["labels"]
        brain = np.unpackbits(held["brain"], count=labels.size).reshape(labels.shape).astype(bool)
        rise = held["rise"] if held["rise"].size else None
        whole = held.get("whole")
        close, box = None, None
        if "close" in held:
            x, y, z = (slice(int(a), int(b)) for a, b in held["box"])
            close, box = held["close"], (x, y, z)
    return Case(path.stem, StageOutputs(whole, close, box), brain, labels, rise)


def check_models(config: Recipe, split: Split, run: Path, folds: Iterable[int]) -> None:
    """Make sure that the models of folds kept out what the split says.

    Raises:
        ModelError: naming the fold that did not.
    """
    for fold in folds:
        ids = split.folds[fold]
        for name, stage in config.stages.items():
            folder = fold_folder(run, fold) / name
            held, wanted = held_config(folder), fold_config(stage, split, fold)
            if held != with_known_steps(wanted, folder) or set(held.validation) != set(ids):
                raise ModelError(f"{name} of fold {fold} in {run} was trained with other settings or another split")
