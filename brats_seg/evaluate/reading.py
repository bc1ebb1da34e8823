"""Reading a prediction and its reference, on one grid, with what to know before their scores are used.

Label maps that lie on the reference's voxels but are stored otherwise (turned, cropped, or with a rounded header) are
placed there; others are refused, or resampled where that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from brats_seg.core.errors import BratsSegError, InputError
from brats_seg.core.grid import Affine, Array, Grid, Volume, apply_affine
from brats_seg.core.regions import RegionSet
from brats_seg.core.visit import RegionMaps
from brats_seg.evaluate.cases import CasePair
from brats_seg.files.label_map import MaskReading, read_mask
from brats_seg.files.match_labels import LabelPair, probabilities_beside, scan_beside
from brats_seg.files.names import is_nifti
from brats_seg.files.nifti import read_volume
from brats_seg.files.probabilities import read_probabilities
from brats_seg.files.sidecar import read_trained_on
from brats_seg.files.study_id import check_study_id
from brats_seg.imaging.placing import widened
from brats_seg.imaging.restore import move


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


TOLERANCE_VOXELS = 0.1
"""Voxels that lie closer than this share of a voxel are the same voxel."""


class _Same(NamedTuple):
    """Voxels of one grid that are voxels of another: 4x4 from the first's to the second's, and how far off they lie."""

    matrix: Affine
    apart_voxels: float


class Placed(NamedTuple):
    """A volume on another grid, and what had to be done, in words; empty where nothing had."""

    volume: Volume
    note: str


def placed(volume: Volume, grid: Grid, what: str, *, order: int | None = None) -> Placed:
    """A volume whose voxels are voxels of ``grid``, stored as ``grid`` stores them; without ``order`` as they are.

    Args:
        volume: 0 where it says nothing.
        grid: where it is wanted; outside the volume it becomes 0.
        what: for messages, such as ``prediction``.
        order: of the interpolation where its voxels lie between those of the grid, 0 (nearest) or 1 (linear).

    Raises:
        InputError: if they do and ``order`` is None, or the volume is not 0 outside the grid.
    """
    if volume.grid.same_as(grid):
        return Placed(volume, "")
    same = _same(volume.grid, grid)
    if same is None and order is None:
        raise InputError(_differ(what, volume.grid, grid))
    if same is None:
        data, lost = _resampled(volume, grid, order or 0)
    else:
        data = move(volume.data, Grid(volume.grid.shape, grid.affine @ same.matrix), grid, order=0)
        lost = int(np.count_nonzero(volume.data)) - int(np.count_nonzero(data))
    if lost:
        raise InputError(
            f"{lost} labelled voxels of the {what} lie outside the grid of the reference ({grid.describe()}). "
            "Were they made of the same scan?"
        )
    words = f"was resampled from {volume.grid.describe()}" if same is None else _words(same, volume.grid, grid)
    return Placed(Volume(data, grid), f"the {what} {words}")


def _resampled(volume: Volume, grid: Grid, order: int) -> tuple[Array, int]:
    """The volume on ``grid``, and how many of its voxels that are not 0 have their centre outside."""
    matrix = np.linalg.inv(volume.affine) @ grid.affine
    data = ndimage.affine_transform(
        volume.data,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=grid.shape,
        order=order,
        mode="constant",
        prefilter=False,
    )
    back = np.linalg.inv(matrix)
    places = np.argwhere(volume.data != 0) @ back[:3, :3].T + back[:3, 3]
    outside = ((places < -0.5) | (places > np.array(grid.shape) - 0.5)).any(axis=1)
    return data, int(outside.sum())


def _same(grid: Grid, target: Grid) -> _Same | None:
    """None where the voxels are not the same."""
    matrix = np.linalg.inv(target.affine) @ grid.affine
    axes = np.abs(matrix[:3, :3]).argmax(axis=1)  # of the volume, along each of the target
    if sorted(axes.tolist()) != [0, 1, 2]:
        return None
    exact = np.eye(4)
    exact[:3, :3] = 0
    exact[range(3), axes] = np.sign(matrix[range(3), axes])
    corners = grid.corners()
    off = apply_affine(matrix, corners) - apply_affine(exact, corners)
    exact[:3, 3] = np.round(off.mean(axis=0))
    apart = float(np.abs(off - exact[:3, 3]).max())
    return _Same(exact, apart) if apart <= TOLERANCE_VOXELS else None


def _words(same: _Same, grid: Grid, target: Grid) -> str:
    done = []
    if grid.orientation != target.orientation:
        done.append(f"is stored along {grid.orientation} and the reference along {target.orientation}; it was turned")
    sizes = [int(size) for size in np.abs(same.matrix[:3, :3]) @ grid.shape]
    if tuple(sizes) != target.shape:
        covered, whole = ("x".join(map(str, shape)) for shape in (sizes, target.shape))
        done.append(f"covers {covered} of {whole} voxels; the rest counts as 0")
    elif not done and same.matrix[:3, 3].any():
        done.append(f"lies {grid.offset_mm(target):.3g} mm from the reference by its header, and was compared there; "
                    "equal shapes mostly mean equal places: is one of the two headers wrong?")  # fmt: skip
    if same.apart_voxels > 1e-3:
        done.append(f"lies {same.apart_voxels:.2g} voxels off the reference, which counts as the same place")
    return "; ".join(done) or "is the same voxels stored otherwise"


def _differ(what: str, grid: Grid, reference: Grid) -> str:
    apart = "" if grid.shape != reference.shape else f", up to {grid.offset_mm(reference):.2f} mm apart"
    return (
        f"the {what} ({grid.describe()}) does not lie on the grid of the reference ({reference.describe()}){apart}. "
        "Pass --resample, or write it on the reference's grid first, with nearest-neighbour interpolation for labels."
    )
