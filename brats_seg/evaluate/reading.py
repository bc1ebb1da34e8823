"""Reading a prediction and its reference, on one grid, with what to know before their scores are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from brats_seg.core.errors import BratsSegError, InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.regions import RegionSet
from brats_seg.core.visit import RegionMaps
from brats_seg.evaluate.cases import CasePair
from brats_seg.evaluate.placing import placed
from brats_seg.files.label_map import MaskReading, read_mask
from brats_seg.files.match_labels import LabelPair, probabilities_beside, scan_beside
from brats_seg.files.names import is_nifti
from brats_seg.files.nifti import read_volume
from brats_seg.files.probabilities import read_probabilities
from brats_seg.files.sidecar import read_trained_on
from brats_seg.files.study_id import check_study_id
from brats_seg.imaging.placing import widened


@dataclass
class Gathered:
    """What was read on the way through the pairs of one set of predictions.

    Attributes:
        inputs: by case, what was compared with what.
        filled: by checksum of a prediction that is not empty, its cases.
        notes: what was done about a file and changes no score.
        warnings: what a reader of the figures has to know.
        failures: what could not be evaluated.
    """

    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    filled: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failures: list[tuple[str, BratsSegError]] = field(default_factory=list)


def read_pair(
    pair: LabelPair, schemas: tuple[str, str], gathered: Gathered, asked: Callable[[], RegionSet], *, resample: bool
) -> CasePair:
    """A prediction and its reference on the reference's grid, with the probabilities and the scan beside them.

    Args:
        schemas: of the prediction and of the reference: a name, or ``auto``.
        gathered: takes up what was noticed.
        asked: gives the regions to ask about where the file beside the prediction does not say which it draws.
        resample: put a prediction from another grid of the same space on the reference's.

    Raises:
        InputError: if one cannot be read, or they are one file or lie on grids that differ.
    """
    if pair.prediction.resolve() == pair.reference.resolve():
        raise InputError("prediction and reference are one and the same file. Check what was passed.")
    prediction = _mask(pair, "prediction", schemas[0], asked)
    regions = prediction.segmentation.regions
    reference = _mask(pair, "reference", schemas[1], lambda: regions)
    beside = probabilities_beside(pair.prediction)
    scan = scan_beside(pair.reference)
    truth = reference.segmentation.labels
    if not is_nifti(pair.reference.name):
        truth = placed(truth, widened(truth.grid, prediction.segmentation.labels.grid), "reference").volume
    grid = truth.grid
    lying = placed(prediction.segmentation.labels, grid, "prediction", order=0 if resample else None)
    case = CasePair(
        case=pair.id,
        prediction=lying.volume,
        reference=truth,
        regions=regions,
        prediction_schema=prediction.segmentation.schema,
        reference_schema=reference.segmentation.schema,
        probabilities=_probabilities(beside, grid, regions, resample=resample) if beside else None,
        image=_background(scan, grid, pair.id, gathered) if scan else None,
        trained_on=read_trained_on(pair.prediction),
    )
    gathered.warnings += [f"{pair.id}: {words}" for words in _doubts(pair, case, (prediction, reference))]
    gathered.notes += [f"{pair.id}: {lying.note}"] if lying.note else []
    if prediction.segmentation.labels.data.any():
        gathered.filled.setdefault(prediction.sha256, []).append(pair.id)
    gathered.inputs[pair.id] = {
        "prediction_sha256": prediction.sha256,
        "prediction_schema": prediction.segmentation.schema.name,
        "reference_sha256": reference.sha256,
        "reference_schema": reference.segmentation.schema.name,
        "probabilities": "judged" if beside else "none",
        "trained_on_this_study": {True: "yes", False: "no", None: "not known"}[case.trained_on],
        "paired": pair.why or "by their ids",
    }
    return case


def _doubts(pair: LabelPair, case: CasePair, read: tuple[MaskReading, MaskReading]) -> Iterator[str]:
    """What makes the scores of a case worth less than they look."""
    if read[0].sha256 == read[1].sha256:
        yield "prediction and reference are copies of one file, byte for byte"
    if pair.why:
        yield pair.why
    for side, reading in zip(("prediction", "reference"), read, strict=True):
        yield from (f"{side}: {words}" for words in reading.warnings)
    left = [region.name for region in case.regions if region not in case.told]
    if left:
        names = " and ".join(dict.fromkeys(reading.segmentation.schema.name for reading in read))
        yield f"{', '.join(left)} not scored: label maps of {names} do not both tell it"


def _probabilities(path: Path, grid: Grid, regions: RegionSet, *, resample: bool) -> RegionMaps:
    """The probabilities beside a prediction, on the grid of the reference."""
    found = read_probabilities(path, regions)
    if found.grid.same_as(grid):
        return found
    order = 1 if resample else None
    channels = [
        placed(Volume(channel, found.grid), grid, "probabilities", order=order).volume.data for channel in found.array
    ]
    return RegionMaps(np.stack(channels), grid, regions)


def _mask(pair: LabelPair, side: str, schema: str, asked: Callable[[], RegionSet]) -> MaskReading:
    check_study_id(pair.id, source="the file's name")
    try:
        return read_mask(getattr(pair, side), schema, pair.id, asked)
    except InputError as error:
        raise InputError(f"{side}: {error.words.replace('--schema', f'--schema-{side}s')}") from error


def _background(scan: Path, grid: Grid, case: str, gathered: Gathered) -> Volume | None:
    """The scan for pictures; one that cannot serve is noted, for no score depends on it."""
    try:
        image = read_volume(scan)
    except InputError as error:
        gathered.notes.append(f"{case}: pictures without a scan behind them: {error}")
        return None
    if not image.grid.same_as(grid):
        gathered.notes.append(
            f"{case}: pictures without a scan behind them: it lies on another grid than the label map"
        )
        return None
    return image
