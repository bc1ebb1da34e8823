"""Volumetrics held against reference objects: bias by size, slice thickness, orientation and noise."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from scipy.stats import qmc

from brats_seg.core.grid import Grid
from brats_seg.core.visit import Measurements
from brats_seg.imaging.brain import largest
from brats_seg.phantom.grids import Triple, directions_of, rotation_of
from brats_seg.phantom.reference import (
    BACKGROUND_LEVEL,
    ObjectOptions,
    ObjectScan,
    ReferenceObject,
    make_object,
)
from brats_seg.track.growth import sphere_diameter_mm
from brats_seg.volumetrics.measure import measure_segmentation
from brats_seg.volumetrics.volumes import mask_volume_ml, partial_volume_ml

GRIDS: tuple[Triple, ...] = ((1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (1.0, 1.0, 5.0))
"""Voxel sides, mm."""
OBJECTS = (
    ObjectOptions("sphere", diameter_mm=10),
    ObjectOptions("sphere", diameter_mm=15),
    ObjectOptions("sphere", diameter_mm=20),
    ObjectOptions("sphere", diameter_mm=30),
    ObjectOptions("sphere", diameter_mm=40),
    ObjectOptions("ellipsoid", sides_mm=(30, 20, 15)),
    ObjectOptions("shell", diameter_mm=30, hollow_mm=20),
    ObjectOptions("box", sides_mm=(25, 20, 15)),
    ObjectOptions("pair", diameter_mm=20, second_mm=12),
)
NOISES = (0.0, 0.1, 0.2)
ROUND = ("sphere", "shell", "pair")
"""Objects whose longest diameter is the same in any plane through their middle."""
MARGIN_MM = 6.0
"""Around objects; more than volumes look beyond a mask."""
CHANGE_MM = 1.0
CHANGE_NOISE = 0.05
"""Signal-to-noise ratio of 20 in the surroundings."""
CHANGE_DIAMETERS_MM = (10.0, 20.0, 30.0)
ORIENTATIONS = ("straight", "any")
"""Along the axes with any of the 48 storage orders, or turned at random."""
CODES = tuple(
    "".join(pair[flip] for pair, flip in zip(order, flips, strict=True))
    for order in itertools.permutations(("RL", "AP", "SI"))
    for flips in itertools.product((0, 1), repeat=3)
)
"""All 48 ways to store three axes."""


@dataclass(frozen=True)
class BenchSize:
    """How many samples are taken.

    Attributes:
        samples: orientations of each object on each grid, and scans of it that are measured in full.
        shifts: positions at which its mask is counted in each orientation; a power of two.
        noisy: noisy scans of each ball on each grid; a power of two.
        pairs: pairs of visits for the measurement of change; a power of two.
    """

    samples: int = 8
    shifts: int = 32
    noisy: int = 16
    pairs: int = 32


QUICK = BenchSize(samples=4, shifts=8, noisy=4, pairs=16)


def bench_objects(size: BenchSize, rng: np.random.Generator) -> pd.DataFrame:
    """Every object on every grid, without noise, in one orientation after the other.

    In each orientation the mask is counted at shifts spread evenly over a voxel (Sobol points); their mean is one
    independent estimate of the bias, and the spread of these means its standard error. The first scan of each
    orientation is measured in full.

    Returns:
        One row for each orientation: object, grid, true volume; of the first scan mask and partial-volume-aware volume,
        errors in percent, and the longest diameter; the mean error of the masks over all ``shifts``.
    """
    rows = []
    for options in OBJECTS:
        for spacing, orientation in itertools.product(GRIDS, ORIENTATIONS):
            for scans in _orientations(spacing, orientation, size, rng):
                made = make_object(options, scans[0], rng)
                row = {
                    **_head(options, scans[0], orientation),
                    **_found_errors(made, measure_segmentation(made.segmentation)),
                }
                true_ml = made.truth_ml["ET"]
                errors = [
                    row["mask_error_percent"],
                    *(100 * (_counted_ml(options, s) / true_ml - 1) for s in scans[1:]),
                ]
                rows.append({**row, "shifts": len(scans), "mask_mean_percent": float(np.mean(errors))})
    return pd.DataFrame(rows)


def _counted_ml(options: ObjectOptions, scan: ObjectScan) -> float:
    """Volume of the mask alone, which takes a hundredth of the time."""
    shape = options.shape(rotation_of(scan.object_turn_deg))
    grid = scan.grid(shape)
    return mask_volume_ml(shape.sample_mask(grid), grid)


def bench_noise(size: BenchSize, rng: np.random.Generator) -> pd.DataFrame:
    """Balls in noisy images, outlined by the level half-way between object and surroundings.

    Returns:
        Rows as from :func:`bench_objects`.
    """
    rows = []
    for options in (o for o in OBJECTS if o.kind == "sphere"):
        for spacing, noise in itertools.product(GRIDS, NOISES):
            for scan in _scans(spacing, "straight", size.noisy, rng):
                noisy = replace(scan, noise=noise)
                made = make_object(options, noisy, rng)
                outline = outlined(made)
                row = _errors(made, mask_volume_ml(outline.mask, outline.grid), outline.pv_ml)
                alone = {"diameter_error_mm": np.nan, "shifts": 1, "mask_mean_percent": row["mask_error_percent"]}
                rows.append({**_head(options, noisy, "straight"), **row, **alone})
    return pd.DataFrame(rows)


def bench_change(size: BenchSize, rng: np.random.Generator) -> pd.DataFrame:
    """Balls that grew by :data:`CHANGE_MM`, each visit outlined on its own in a noisy image at its own position.

    Returns:
        One row for each pair: object, voxel, noise, and the error of the change of the equivalent diameter (that of a
        ball of the same volume) from masks and from shares of voxels.
    """
    rows = []
    for diameter, spacing in itertools.product(CHANGE_DIAMETERS_MM, GRIDS):
        scans = list(_scans(spacing, "any", 2 * size.pairs, rng))
        for before, after in zip(scans[: size.pairs], scans[size.pairs :], strict=True):
            found = []
            for scan, end in ((before, diameter - CHANGE_MM / 2), (after, diameter + CHANGE_MM / 2)):
                made = make_object(ObjectOptions("sphere", diameter_mm=end), replace(scan, noise=CHANGE_NOISE), rng)
                found.append(_equivalent_mm(outlined(made)))
            (mask_before, pv_before), (mask_after, pv_after) = found
            rows.append(
                {
                    "object": f"sphere {diameter:g} mm",
                    "voxel_mm": spacing_title(spacing),
                    "noise": CHANGE_NOISE,
                    "true_mm": CHANGE_MM,
                    "mask_error_mm": mask_after - mask_before - CHANGE_MM,
                    "pv_error_mm": pv_after - pv_before - CHANGE_MM,
                }
            )
    return pd.DataFrame(rows)


def summarise_change(rows: pd.DataFrame) -> pd.DataFrame:
    """Bias of the measured change, its standard deviation, and the error that 95 % of pairs stay below."""
    result = []
    for (name, voxel), part in rows.groupby(["object", "voxel_mm"], sort=False):
        row: dict[str, Any] = {"object": name, "voxel_mm": voxel, "pairs": len(part)}
        for how in ("mask", "pv"):
            values = part[f"{how}_error_mm"].to_numpy(np.float64)
            row[f"{how}_bias_mm"] = float(values.mean())
            row[f"{how}_sd_mm"] = float(values.std(ddof=1))
            row[f"{how}_p95_mm"] = float(np.percentile(np.abs(values), 95))
        result.append(row)
    return pd.DataFrame(result)


def _equivalent_mm(outline: Outline) -> tuple[float, float]:
    """Diameter of a ball of the same volume, from the mask and from shares of voxels."""
    volumes_ml = (mask_volume_ml(outline.mask, outline.grid), outline.pv_ml)
    first, second = (sphere_diameter_mm(max(volume, 0.0)) for volume in volumes_ml)
    return first, second


@dataclass(frozen=True, eq=False)
class Outline:
    """An object as a reader without the truth outlines it.

    Attributes:
        mask: the largest piece above half of the contrast.
        shares: signal of each voxel between surroundings (0) and object (1). Noise carries it beyond both, and is
            left there, because cutting it off would bias every sum.
        grid: of both.
    """

    mask: NDArray[np.bool_]
    shares: NDArray[np.float32]
    grid: Grid

    @property
    def pv_ml(self) -> float:
        """Partial-volume-aware volume."""
        return partial_volume_ml(self.shares, self.mask, self.grid)


def outlined(made: ReferenceObject) -> Outline:
    """Outline an object in its image."""
    shares = (made.image.data / BACKGROUND_LEVEL - 1) / (made.scan.contrast - 1)
    return Outline(largest(shares > 0.5, connectivity=6), shares.astype(np.float32), made.labels.grid)


def summarise(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Bias and spread of groups of samples.

    Returns:
        One row for each group: mean error in percent (the bias, of masks over all shifts) with its standard error,
        standard deviation of single scans, and the size of error that 95 % of those stay below; for mask and
        partial-volume-aware volume and for the diameter. ``samples`` are independent, ``counted`` all masks.
    """
    result = []
    for keys, part in rows.groupby(by, sort=False):
        row: dict[str, Any] = dict(zip(by, keys if isinstance(keys, tuple) else (keys,), strict=True))
        row["samples"] = len(part)
        row["counted"] = int(part["shifts"].sum())
        for name, mean in (("mask", "mask_mean_percent"), ("pv", "pv_error_percent")):
            means, single = (part[column].to_numpy(np.float64) for column in (mean, f"{name}_error_percent"))
            row[f"{name}_bias_percent"] = float(means.mean())
            row[f"{name}_bias_error_percent"] = float(means.std(ddof=1) / np.sqrt(len(means)))
            row[f"{name}_sd_percent"] = float(single.std(ddof=1))
            row[f"{name}_p95_percent"] = float(np.percentile(np.abs(single), 95))
        row["diameter_bias_mm"] = float(part["diameter_error_mm"].mean())
        row["diameter_sd_mm"] = float(part["diameter_error_mm"].std(ddof=1))
        result.append(row)
    return pd.DataFrame(result)


def title_of(options: ObjectOptions) -> str:
    """Short name with the size."""
    if options.kind in ("ellipsoid", "box"):
        return f"{options.kind} {'x'.join(f'{s:g}' for s in options.sides_mm)} mm"
    if options.kind == "pair":
        return f"pair {options.diameter_mm:g} and {options.second_mm:g} mm"
    if options.kind == "shell":
        return f"shell {options.diameter_mm:g}/{options.hollow_mm:g} mm"
    return f"{options.kind} {options.diameter_mm:g} mm"


def spacing_title(spacing: Triple) -> str:
    """``1x1x5``."""
    return "x".join(f"{side:g}" for side in spacing)


def _orientations(
    spacing: Triple, orientation: str, size: BenchSize, rng: np.random.Generator
) -> Iterator[list[ObjectScan]]:
    """Scans in the same orientation, one list for each of ``size.samples``; all storage orders come round."""
    first = int(rng.integers(len(CODES)))
    for number in range(size.samples):
        code, turn = CODES[(first + number) % len(CODES)], _draw_turn(orientation, rng)
        yield [_scan_at(spacing, code, turn, shift) for shift in _shifts(size.shifts, rng)]


def _scans(spacing: Triple, orientation: str, count: int, rng: np.random.Generator) -> Iterator[ObjectScan]:
    """Shifts evenly spread over a voxel, each with its own orientation."""
    for number, shift in enumerate(_shifts(count, rng)):
        yield _scan_at(spacing, CODES[number % len(CODES)], _draw_turn(orientation, rng), shift)


def _shifts(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """``(count, 3)`` in voxels, -0.5 to 0.5, spread evenly.

    Raises:
        ValueError: if ``count`` is no power of two, which Sobol points need to be even.
    """
    if count & (count - 1):
        raise ValueError(f"{count} samples are no power of two")
    points: NDArray[np.float64] = qmc.Sobol(3, seed=rng).random(count) - 0.5
    return points


def _draw_turn(orientation: str, rng: np.random.Generator) -> Triple:
    if orientation == "straight":
        return (0.0, 0.0, 0.0)
    a, b, c = Rotation.random(random_state=rng).as_euler("xyz", degrees=True)
    return float(a), float(b), float(c)


def _scan_at(spacing: Triple, code: str, turn: Triple, shift: NDArray[np.float64]) -> ObjectScan:
    moved = rotation_of(turn) @ directions_of(code) @ (shift * spacing)
    x, y, z = (float(value) for value in moved)
    return ObjectScan(spacing_mm=spacing, orientation=code, turn_deg=turn, offset_mm=(x, y, z), margin_mm=MARGIN_MM)


def _head(options: ObjectOptions, scan: ObjectScan, orientation: str) -> dict[str, Any]:
    return {
        "object": title_of(options),
        "kind": options.kind,
        "voxel_mm": spacing_title(scan.spacing_mm),
        "orientation": orientation,
        "stored": scan.orientation,
        "noise": scan.noise,
    }


def _found_errors(made: ReferenceObject, found: Measurements) -> dict[str, Any]:
    """Of the enhancing volume, and of the longest diameter of the largest lesion in the plane of the slices."""
    row = found.volume("ET")
    if row.volume_pv_ml is None:
        raise ValueError("a reference object comes with shares of each voxel")
    lesions = found.lesions_of("ET")
    long_mm = lesions[0].diameters.long_mm if lesions else 0.0
    return {
        **_errors(made, row.volume_ml, row.volume_pv_ml),
        "long_mm": long_mm,
        "diameter_error_mm": long_mm - made.options.longest_mm() if made.options.kind in ROUND else np.nan,
    }


def _errors(made: ReferenceObject, mask_ml: float, pv_ml: float) -> dict[str, Any]:
    true_ml = made.truth_ml["ET"]
    return {
        "true_ml": true_ml,
        "mask_ml": mask_ml,
        "pv_ml": pv_ml,
        "mask_error_percent": 100 * (mask_ml / true_ml - 1),
        "pv_error_percent": 100 * (pv_ml / true_ml - 1),
    }
