"""From a prepared study to tumour probabilities: the whole brain at 2 mm, then around the tumour at 1 mm."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from brats_seg.core.regions import RegionSet
from brats_seg.core.scans import PreparedStudy
from brats_seg.core.visit import RegionMaps
from brats_seg.core.words import Tick
from brats_seg.imaging.boxes import Box, bounding_box
from brats_seg.imaging.pooling import block_means, spread
from brats_seg.models.card import ModelBundle
from brats_seg.models.engine import Engine, choose_engine, open_engine
from brats_seg.models.stage import Stage
from brats_seg.segment.memory import available_bytes, largest_window, own_threads, pass_bytes

OVERLAP = 0.5
"""Share of a window's side that the next one covers again."""
SIGMA = 0.125
"""Of the Gaussian, in sides of the window: its faces, where a network sees half of what surrounds a voxel, count
hardly."""
LEAST_WEIGHT = 1e-3
"""Where only a corner of a window reaches, it still counts."""

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass
class Prediction:
    """Probabilities on the network's grid, and how they came about.

    Attributes:
        probabilities: of the model's regions; nested.
    """

    probabilities: RegionMaps
    decisions: list[str] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class StageOutputs:
    """Probabilities of each stage of a model, before they are combined, and how they came about.

    Attributes:
        whole: ``(R, X, Y, Z)`` of the whole brain, or None for a model without that stage.
        close: ``(R, x, y, z)`` inside ``box``, or None where the fine stage did not run.
        box: where ``close`` lies.
    """

    whole: NDArray[np.float32] | None = None
    close: NDArray[np.float32] | None = None
    box: Box | None = None
    decisions: list[str] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)


class Predictor:
    """A model opened on an engine; made once, used for any number of studies.

    Args:
        engine: ``auto``, ``onnxruntime``, ``openvino`` or ``torch``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        mirror: also predict the study mirrored left-right and average (``--tta``).
        cache: folder where OpenVINO keeps compiled networks for later runs.
        engines: by key of a stage, where they are open already; else they are opened from the model's files.

    Raises:
        ModelError: if a weights file is damaged.
        DeviceError: if the device is not there.
        UsageError: if the names make no sense.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        *,
        engine: str = "auto",
        device: str = "auto",
        mirror: bool = False,
        cache: Path | None = None,
        engines: Mapping[str, Engine] | None = None,
    ) -> None:
        self.bundle = bundle
        self.engine, self.device = choose_engine(engine, device)
        self.mirror = mirror
        self._engines: Mapping[str, Engine] = engines or {
            stage.key: open_engine(
                bundle, stage, engine=self.engine, device=self.device, threads=own_threads(), cache=cache
            )
            for stage in bundle.card.stages
        }

    def predict(self, prepared: PreparedStudy, *, tick: Tick | None = None) -> Prediction:
        """Tumour probabilities of a study on the network's grid.

        Args:
            prepared: output of ``prepare`` with the card's settings.
            tick: called with the name of each stage before it runs, for a progress bar.

        Raises:
            DeviceError: if memory does not suffice for the smallest window.
        """
        outputs = self.stages(prepared, tick=tick)
        post, regions = self.bundle.card.postprocess, self.bundle.card.regions
        mixed = combine(outputs, prepared.brain, post.fine_weight, regions)
        nested = calibrated(mixed, post.temperatures(regions), regions)
        return Prediction(RegionMaps(nested, prepared.grid, regions), outputs.decisions, outputs.timings_s)

    def stages(self, prepared: PreparedStudy, *, tick: Tick | None = None) -> StageOutputs:
        """What each stage says on its own, for fitting how they are combined; see :meth:`predict`."""
        members, post = self.bundle.card.members, self.bundle.card.postprocess
        found = StageOutputs()
        if len(members) > 1:
            found.decisions.append(f"mean of {len(members)} networks for each stage")
        coarse = [member.coarse for member in members if member.coarse is not None]
        fine = [member.fine for member in members if member.fine is not None]
        run = partial(self._timed, prepared=prepared, found=found, tick=tick)
        wholes = run("coarse", coarse, [prepared.array] * len(coarse))
        found.whole = _mean(wholes)
        if not fine:
            return found
        x, y, z = prepared.grid.shape
        box: Box | None = (slice(0, x), slice(0, y), slice(0, z))
        if found.whole is not None:
            divisor = max(stage.shape.divisor for stage in fine)
            anywhere = outermost(found.whole, self.bundle.card.regions)
            box = tumour_box(anywhere, post.roi_threshold, post.roi_margin_mm, divisor)
        if box is None:
            found.decisions.append("the coarse stage found no sign of a tumour, so the fine stage did not run")
            return found
        size = "x".join(str(side.stop - side.start) for side in box)
        found.decisions.append(f"the fine stage ran on {size} voxels around what the coarse stage found")
        inside = (slice(None), *box)
        part = prepared.array[inside]
        seen = [part] * len(fine)
        for n, stage in enumerate(fine):
            if stage.is_cascaded and wholes:
                seen[n] = np.concatenate([part, wholes[n][inside]])
        wholes.clear()  # the networks need the room
        found.close, found.box = _mean(run("fine", fine, seen)), box
        return found

    def _timed(
        self,
        name: str,
        stages: Sequence[Stage],
        arrays: Sequence[NDArray[np.float32]],
        *,
        prepared: PreparedStudy,
        found: StageOutputs,
        tick: Tick | None,
    ) -> list[NDArray[np.float32]]:
        """What the stages of one name say, each about its own array."""
        if not stages:
            return []
        if tick is not None:
            tick(name)
        began = time.perf_counter()
        results = []
        pooled: dict[tuple[int, int], NDArray[np.float32]] = {}  # members mostly look at one and the same array
        for stage, array in zip(stages, arrays, strict=True):
            factor = round(stage.spacing_mm / min(prepared.grid.spacing_mm))
            key = id(array), factor
            if key not in pooled:
                pooled[key] = block_means(array, (factor,) * 3)
            result = self._run(stage, pooled[key], factor, found.decisions)
            if self.mirror:
                flipped = self._run(stage, pooled[key][:, ::-1], factor, [])
                result = (result + flipped[:, ::-1]) / np.float32(2)
            results.append(result)
        found.timings_s[name] = time.perf_counter() - began
        return results

    def _run(self, stage: Stage, array: NDArray[np.float32], factor: int, decisions: list[str]) -> NDArray[np.float32]:
        """Probabilities of one stage, ``factor`` times as fine as the array it looks at."""
        engine = self._engines[stage.key]
        array = np.ascontiguousarray(array)
        x, y, z = array.shape[1:]
        free = available_bytes(self.device)
        scale = stage.shape.relative_memory
        window = largest_window((x, y, z), stage.shape.divisor, engine=self.engine, free_bytes=free, scale=scale)
        need = pass_bytes((x, y, z), self.engine, scale=scale) / 2**20
        if window == (x, y, z):
            decisions.append(f"{stage.key}: one pass over {x}x{y}x{z} voxels (about {need:.0f} MiB)")
            logits = engine.logits(array)
        else:
            size = "x".join(str(n) for n in window)
            decisions.append(
                f"{stage.key}: windows of {size} voxels, since {x}x{y}x{z} need {need:.0f} MiB "
                f"and {free / 2**20:.0f} MiB are free"
            )
            logits = in_windows(array, window, engine.logits)
        finer = spread(logits, (factor, factor, factor))
        probabilities: NDArray[np.float32] = expit(finer, out=finer if finer is not logits else None)
        return probabilities


def _mean(results: Sequence[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """Mean over the members of an ensemble; None of none."""
    if not results:
        return None
    if len(results) == 1:
        return results[0]
    total = results[0] + results[1]
    for result in results[2:]:
        total += result
    total /= np.float32(len(results))
    return total


def outermost(array: NDArray[np.float32], regions: RegionSet) -> NDArray[np.float32]:
    """``(X, Y, Z)`` probability of any tumour, of ``(R, X, Y, Z)``: the largest of the outermost regions'."""
    channels = [array[regions.index(region)] for region in regions.outermost]
    largest: NDArray[np.float32] = channels[0] if len(channels) == 1 else np.max(channels, axis=0)
    return largest


def combine(
    outputs: StageOutputs, brain: NDArray[np.bool_], fine_weight: float, regions: RegionSet
) -> NDArray[np.float32]:
    """Nested probabilities ``(R, X, Y, Z)``: the weighted mean of both stages, 0 outside the brain.

    Args:
        brain: ``(X, Y, Z)``.
        fine_weight: share of the close look inside its box; all of it where there is no other.
    """
    whole, close = outputs.whole, outputs.close
    array = np.zeros((len(regions), *brain.shape), np.float32) if whole is None else whole.copy()
    if close is not None and outputs.box is not None:
        inside = (slice(None), *outputs.box)
        array[inside] = close if whole is None else blend(array[inside], close, fine_weight)
    array *= brain
    return regions.nest(array, out=array)


def calibrated(array: NDArray[np.float32], temperature: Sequence[float], regions: RegionSet) -> NDArray[np.float32]:
    """Nested probabilities whose log-odds were divided by a temperature for each region (Guo et al. 2017).

    Args:
        array: ``(R, X, Y, Z)``; what is exactly 0, such as everything outside the brain, stays 0.
        temperature: of each region; above 1 makes less sure.
    """
    if all(value == 1.0 for value in temperature):
        return array
    cooled = array.copy()
    for channel, value in zip(cooled, temperature, strict=True):
        inside = channel > 0
        odds = 1 / np.clip(channel[inside], 1e-6, 1 - 1e-6) - 1  # against it, whose logarithm is divided
        channel[inside] = 1 / (1 + odds ** np.float32(1 / value))
    return regions.nest(cooled, out=cooled)


def tumour_box(whole: NDArray[np.float32], threshold: float, margin_mm: float, divisor: int) -> Box | None:
    """The box around everything that may be tumour, with sides that are multiples of ``divisor``.

    Args:
        whole: ``(X, Y, Z)`` coarse probability of tumour at 1 mm.
        divisor: of the network that will look at the box.

    Returns:
        Slices inside the volume, or None if nothing counts.
    """
    found = bounding_box(whole >= threshold)
    if found is None:
        return None
    margin = round(margin_mm)
    sides = []
    for inner, size in zip(found, whole.shape, strict=True):
        length = min(-(-(inner.stop - inner.start + 2 * margin) // divisor) * divisor, size)
        start = (inner.start + inner.stop - length) // 2
        start = min(max(start, 0), size - length)
        sides.append(slice(start, start + length))
    return tuple(sides)


def blend(coarse: NDArray[np.float32], fine: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Mean of both stages with ``weight`` on the fine one, fading to the coarse one at the box's faces."""
    ramps = []
    for size in fine.shape[1:]:
        distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 1
        ramps.append(np.minimum(distance / 8, 1.0).astype(np.float32))
    fade = weight * np.einsum("i,j,k->ijk", *ramps)
    mixed: NDArray[np.float32] = coarse + fade * (fine - coarse)
    return mixed


def in_windows(array: NDArray[np.float32], window: tuple[int, int, int], network: Network) -> NDArray[np.float32]:
    """What a network says of a volume, window by window.

    Args:
        array: ``(C, X, Y, Z)``.
        window: sides of what the network sees at once, none longer than the volume's.
        network: ``(C, x, y, z)`` of that size to ``(R, x, y, z)``.

    Returns:
        ``(R, X, Y, Z)``, the mean of all windows that show a voxel, weighted by how near they show it to their middle.
    """
    shape = array.shape[1:]
    weight = _weight(window)
    weights = np.zeros(shape, np.float32)
    total: NDArray[np.float32] | None = None
    for corner in product(*(_starts(n, side) for n, side in zip(shape, window, strict=True))):
        box = tuple(slice(start, start + side) for start, side in zip(corner, window, strict=True))
        found = network(np.ascontiguousarray(array[(slice(None), *box)]))
        if total is None:
            total = np.zeros((len(found), *shape), np.float32)
        total[(slice(None), *box)] += weight * found
        weights[box] += weight
    assert total is not None
    return total / weights


def _starts(size: int, side: int) -> list[int]:
    """Where windows begin along an axis; the last ends with the volume."""
    step = max(int(side * (1 - OVERLAP)), 1) if side < size else size
    return list(dict.fromkeys(min(start, size - side) for start in range(0, max(size - side, 0) + step, step)))


def _weight(window: tuple[int, int, int]) -> NDArray[np.float32]:
    """A Gaussian around the middle of a window, 1 there."""
    sides = [np.exp(-(((np.arange(n) - (n - 1) / 2) / (SIGMA * n)) ** 2) / 2) for n in window]
    weight: NDArray[np.float32] = np.maximum(np.einsum("i,j,k->ijk", *sides), LEAST_WEIGHT).astype(np.float32)
    return weight
