"""Cross-validation: every study is judged by a model that saw neither it nor its patient.

A run folder holds ``split.json``, and for each fold the run folders of its stages, its model, and what that
model says about the studies it did not see. Whatever is fitted on outputs (thresholds, temperature, interval
widths) is fitted for each fold on the other folds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import ModelError, UsageError
from brats_seg.core.grid import Grid
from brats_seg.core.regions import REGIONS, Region
from brats_seg.core.study import SEQUENCES, MRSequence, PreparationRecord, PreparedStudy
from brats_seg.imaging.boxes import bounding_box
from brats_seg.models.card import CARD, ModelBundle, find_model
from brats_seg.models.engine import open_engine
from brats_seg.models.ensemble import join_stages
from brats_seg.segment.enhancement import enhancement
from brats_seg.segment.predict import Predictor, StageOutputs, combine
from brats_seg.train.arrays import has_key, open_arrays, write_arrays
from brats_seg.train.calibrate import Case
from brats_seg.train.card import JOINED
from brats_seg.train.config import TrainConfig, train_config
from brats_seg.train.data import LEVELS_PER_STD, PackedStudy
from brats_seg.train.distributed import ALONE, World
from brats_seg.train.export import assemble_runs
from brats_seg.train.fold_models import fold_folder, held_model
from brats_seg.train.loop import NOTHING_ELSE, Sources
from brats_seg.train.recipe import Recipe, train_stages
from brats_seg.train.runs import CONFIG, STAGES, read_yaml, with_known_steps
from brats_seg.train.splits import SPLIT, Split, divide_split, draw_split, read_split, write_split
from brats_seg.train.start import known_among, known_by

KEPT_FROM = 0.02
"""Coarse probability from which a voxel is kept in a case; everything further out is certain background."""
KEPT_MARGIN = 12
"""Voxels kept around, so that calibration can be judged 10 mm around the tumour."""


def open_split(
    packs: Sequence[PackedStudy], config: Recipe, folds: int, run: Path, *, start: Path | None = None
) -> Split:
    """The split of a run folder, drawn and written where there is none.

    Args:
        packs: every study.
        config: what is cross-validated.
        folds: how many.
        run: the run folder.
        start: where the folds' networks start from. Of another cross-validation the split is taken, so that they have
            not seen what they keep out, its folds divided where more are asked for; a single run may have seen none of
            the studies at all.

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
        if start is None:
            drawn = draw_split(packs, folds, seed=config.seed)
        else:
            drawn = divide_split(read_split(start / SPLIT, packs), packs, folds, seed=config.seed)
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
        if any(before.fold_around(ids) is None for ids in split.folds):
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
        packs: every study.
        kept_out: those the fold keeps out; of folds, the one that kept them all out is where it starts from.

    Raises:
        InputError: if ``start`` has no split, or one of other studies.
        UsageError: if none of the folds kept the studies out.
    """
    if is_single_run(start):
        return start
    fold = read_split(start / SPLIT, packs).fold_around(kept_out)
    if fold is None:
        raise UsageError(f"no fold of {start} kept out all of {', '.join(kept_out)}; its networks have seen them")
    return fold_folder(start, fold)


def fold_config(config: TrainConfig, split: Split, fold: int) -> TrainConfig:
    """Settings of one stage in one fold: its studies kept out, and a seed of its own."""
    return replace(config, validation=split.folds[fold], seed=config.seed + fold)


def train_fold(
    packs: Sequence[PackedStudy],
    recipe: Recipe,
    split: Split,
    fold: int,
    run: Path,
    *,
    start: Path | None = None,
    sources: Sources = NOTHING_ELSE,
    world: World = ALONE,
    until: float | None = None,
    tell: Callable[[str], object] = lambda _: None,
    progress: bool = True,
) -> bool:
    """Train the stages of a fold, going on where they were left; True when all are finished.

    Args:
        packs: every study.
        recipe: what is cross-validated.
        split: which studies this fold keeps out.
        fold: its number.
        run: the run folder of the cross-validation.
        start: see :func:`fold_start`; None for chance.
        sources: what every fold trains on besides.
        world: where to train, and with which other processes.
        until: leave at this :func:`time.monotonic`, with a checkpoint.
        tell: gets a line for the user, how long a step takes.
        progress: show progress bars.
    """
    return train_stages(
        packs,
        {name: fold_config(stage, split, fold) for name, stage in recipe.stages.items()},
        fold_folder(run, fold),
        start=None if start is None else fold_start(start, packs, split.folds[fold]),
        sources=replace(sources, phantoms=run / "phantoms"),
        world=world,
        until=until,
        tell=tell,
        progress=progress,
    )


def fold_model(config: Recipe | None, fold: int, run: Path) -> ModelBundle:
    """The model of a finished fold, assembled where it is not yet; without a configuration it is there already."""
    folder = fold_folder(run, fold)
    target = folder / "model"
    if config is not None and not (target / CARD).is_file():
        assemble_runs({name: folder / name for name in config.stages}, config.named_card, target, openvino=False)
    return find_model(str(target))


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
    whole = combine(outputs, prepared.brain, 1.0)[REGIONS.index(Region.WT)]  # how stages mix is fitted later
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
class Jury:
    """Who says what about a study that is kept out.

    Attributes:
        config: what is cross-validated; None where the run folder holds models that were trained elsewhere.
        split: which studies each fold keeps out.
        run: the run folder.
        beside: fold models, or another run of cross-validation, of any split, whose model that kept the study out, too,
            is averaged with the fold's own.
        mirror: average with the study mirrored left-right.
        device: where the networks run.
    """

    config: Recipe | None
    split: Split
    run: Path
    beside: Path | None = None
    mirror: bool = False
    device: str = "cpu"

    @property
    def suffix(self) -> str:
        """Of the folder with what was found."""
        return (JOINED if self.beside else "") + ("_mirrored" if self.mirror else "")

    def outputs(self, fold: int, packs: Sequence[PackedStudy]) -> Path:
        """Folder with what is said about the studies of a fold; another one for other models beside the fold's own.

        Raises:
            InputError: if ``beside`` has no split, or one of other studies.
            ModelError: if it lacks a model.
        """
        mark = ""
        if self.beside is not None:
            folds = read_split(self.beside / SPLIT, packs).folds
            held = [(ids, held_model(self.beside, k).sha256) for k, ids in enumerate(folds)]
            mark = "_" + hashlib.sha256(repr(held).encode()).hexdigest()[:12]
        return fold_folder(self.run, fold) / f"outputs{self.suffix}{mark}"

    def models(self, fold: int, packs: Sequence[PackedStudy]) -> Iterator[tuple[list[ModelBundle], list[PackedStudy]]]:
        """Which models predict which of the studies ``fold`` keeps out.

        Raises:
            InputError: if ``beside`` has no split, or one of other studies.
            ModelError: if it lacks a model.
        """
        by_id = {pack.id: pack for pack in packs}
        kept_out = [by_id[study] for study in self.split.folds[fold]]
        own = fold_model(self.config, fold, self.run)
        if self.beside is None:
            yield [own], kept_out
            return
        for other, ids in enumerate(read_split(self.beside / SPLIT, packs).folds):
            both = [pack for pack in kept_out if pack.id in ids]
            if both:
                yield [own, held_model(self.beside, other)], both

    def predictors(self, fold: int, packs: Sequence[PackedStudy]) -> Iterator[tuple[Predictor, list[PackedStudy]]]:
        """Who predicts which of the studies ``fold`` keeps out; errors as for :meth:`models`."""
        for bundles, studies in self.models(fold, packs):
            yield self.joined(bundles), studies

    def key_of(self, bundles: Sequence[ModelBundle], pack: PackedStudy) -> bytes:
        """Digest of all that decides what the models give for a study."""
        first = bundles[0].card
        deciding = {
            "stages": [stage.decides() for bundle in bundles for stage in bundle.card.stages],
            "roi": [first.postprocess.roi_threshold, first.postprocess.roi_margin_mm],
            "divisor": first.prepare.get("divisor"),
            "mirror": self.mirror,
            "study": hashlib.sha256(pack.image.tobytes() + pack.labels.tobytes()).hexdigest(),
        }
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).digest()

    def joined(self, bundles: Sequence[ModelBundle]) -> Predictor:
        """The mean of these models."""
        return joined_predictor(bundles, mirror=self.mirror, device=self.device)


def joined_predictor(bundles: Sequence[ModelBundle], *, mirror: bool = False, device: str = "cpu") -> Predictor:
    """The mean of several models, on PyTorch, with the post-processing of the first."""
    joined = join_stages(bundles)
    engines = {
        stage.key: open_engine(source, original, engine="torch", device=device) for stage, source, original in joined
    }
    card = replace(bundles[0].card, stages=tuple(stage for stage, _, _ in joined))
    return Predictor(
        ModelBundle(card, bundles[0].folder), engine="torch", device=device, mirror=mirror, engines=engines
    )


def outputs_of(
    packs: Sequence[PackedStudy], jury: Jury, fold: int, *, tick: Callable[[], object] = lambda: None
) -> list[Path]:
    """Files with what is said about the studies a fold keeps out.

    Those that are there are kept where the same models gave them for the same study.
    """
    folder = jury.outputs(fold, packs)
    folder.mkdir(exist_ok=True)
    paths = {study: folder / f"{study}.npz" for study in jury.split.folds[fold]}
    for bundles, studies in jury.models(fold, packs):
        digests = {pack.id: jury.key_of(bundles, pack) for pack in studies}
        missing = [pack for pack in studies if not has_key(paths[pack.id], digests[pack.id])]
        predictor = jury.joined(bundles) if missing else None
        for pack in studies:
            if predictor is not None and pack in missing:
                write_case(predict_case(predictor, pack), paths[pack.id], key=digests[pack.id])
            tick()
    return list(paths.values())


def write_case(case: Case, path: Path, *, key: bytes = b"") -> None:
    """Write a case, whole or not at all; ``key`` as for :func:`~brats_seg.train.arrays.write_arrays`."""
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


def check_models(config: Recipe, split: Split, run: Path) -> None:
    """Make sure that every fold's model kept out what the split says.

    Raises:
        ModelError: naming the fold that did not.
    """
    for fold, ids in enumerate(split.folds):
        for name, stage in config.stages.items():
            folder = fold_folder(run, fold) / name
            held, wanted = train_config(read_yaml(folder / CONFIG)), fold_config(stage, split, fold)
            if held != with_known_steps(wanted, folder) or set(held.validation) != set(ids):
                raise ModelError(f"{name} of fold {fold} in {run} was trained with other settings or another split")
