"""Digital reference objects as files: an image, a label map, exact shares of each voxel, and the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.grid import Grid, Volume, box_corners
from brats_seg.core.labels import DEFAULT_SCHEMA, Structure
from brats_seg.core.plain import plain
from brats_seg.core.visit import RegionMaps, Segmentation
from brats_seg.files.output import ExistsPolicy, OutputFolder, file_hashes
from brats_seg.files.sidecar import write_dseg_sidecars
from brats_seg.files.tables import write_json
from brats_seg.files.write import write_label_map, write_probabilities, write_volume
from brats_seg.models.card import regions_of
from brats_seg.models.record import versions
from brats_seg.phantom.grids import Triple, directions_of, grid_around, rotation_of
from brats_seg.phantom.objects import Box, Ellipsoid, Shape, Shell, pair_of_spheres, sphere

KINDS = ("sphere", "ellipsoid", "shell", "box", "pair")
BACKGROUND_LEVEL = 100.0
"""Signal around an object; the object's is :attr:`ObjectScan.contrast` times as much."""
_ORIGIN: Triple = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ObjectOptions:
    """Which object; lengths are whole extents, not radii.

    Attributes:
        kind: one of :data:`KINDS`.
        diameter_mm: of a sphere, of a shell's outside, of each ball of a pair.
        second_mm: of the second ball of a pair; None for one like the first.
        hollow_mm: diameter of a shell's inside; None for half of its outside.
        sides_mm: extents of an ellipsoid along its axes, or of a box.
        distance_mm: between the centres of a pair; None for one and a half diameters of the larger ball.

    Raises:
        UsageError: if the numbers make no such object.
    """

    kind: str = "sphere"
    diameter_mm: float = 20.0
    second_mm: float | None = None
    hollow_mm: float | None = None
    sides_mm: Triple = (30.0, 20.0, 15.0)
    distance_mm: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"there is no object {self.kind!r}; choose one of {', '.join(KINDS)}")
        for name in ("diameter_mm", "second_mm", "hollow_mm", "distance_mm"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"--{name.replace('_', '-')} must be a positive length, not {value:g}")
        if not all(math.isfinite(side) and side > 0 for side in self.sides_mm):
            raise UsageError(f"--sides-mm must be three positive lengths, not {self.sides_mm}")

    def shape(self, rotation: NDArray[np.float64] | None = None) -> Shape:
        """The solid around the origin.

        Args:
            rotation: 3x3, turns ellipsoids and boxes; None leaves them along the axes.

        Raises:
            UsageError: if the hollow is not inside, or the balls of a pair touch.
        """
        turn = np.eye(3) if rotation is None else rotation
        a, b, c = self.sides_mm
        if self.kind == "ellipsoid":
            return Ellipsoid(_ORIGIN, (a / 2, b / 2, c / 2), turn)
        if self.kind == "box":
            return Box(_ORIGIN, (a, b, c), turn)
        if self.kind == "shell":
            hollow = self._hollow_mm
            if hollow >= self.diameter_mm:
                raise UsageError(f"a hollow of {hollow:g} mm does not fit into a ball of {self.diameter_mm:g} mm")
            return Shell(sphere(_ORIGIN, self.diameter_mm), sphere(_ORIGIN, hollow))
        if self.kind == "pair":
            second, distance = self._second_and_distance_mm
            try:
                return pair_of_spheres(_ORIGIN, (self.diameter_mm, second), distance)
            except ValueError as error:
                raise UsageError(f"{error}. Pass a larger --distance-mm.") from error
        return sphere(_ORIGIN, self.diameter_mm)

    @property
    def _hollow_mm(self) -> float:
        return self.diameter_mm / 2 if self.hollow_mm is None else self.hollow_mm

    @property
    def _second_and_distance_mm(self) -> tuple[float, float]:
        second = self.diameter_mm if self.second_mm is None else self.second_mm
        return second, 1.5 * max(self.diameter_mm, second) if self.distance_mm is None else self.distance_mm

    def longest_mm(self) -> float:
        """Longest straight line within one connected piece, hollow included."""
        if self.kind == "ellipsoid":
            return max(self.sides_mm)
        if self.kind == "box":
            return math.sqrt(sum(side**2 for side in self.sides_mm))
        return max(self.diameter_mm, self.second_mm or 0.0) if self.kind == "pair" else self.diameter_mm

    def to_dict(self) -> dict[str, Any]:
        """The numbers that matter for this kind; plain values."""
        if self.kind in ("ellipsoid", "box"):
            return {"kind": self.kind, "sides_mm": list(self.sides_mm)}
        values: dict[str, Any] = {"kind": self.kind, "diameter_mm": self.diameter_mm}
        if self.kind == "shell":
            values["hollow_mm"] = self._hollow_mm
        if self.kind == "pair":
            values["second_mm"], values["distance_mm"] = self._second_and_distance_mm
        return values


@dataclass(frozen=True)
class ObjectScan:
    """How an object is sampled.

    Attributes:
        spacing_mm: voxel sides along the array's axes.
        orientation: where these point, for example ``LPS``.
        turn_deg: rotation of the grid about the right, anterior and superior axis, in that order.
        offset_mm: how far the object's centre lies from a voxel's centre, RAS+.
        object_turn_deg: rotation of the object itself, likewise; matters for ellipsoids and boxes.
        noise: standard deviation in each channel, as a share of the surroundings' signal (Rician).
        contrast: signal of the object over that of its surroundings.
        margin_mm: at least so much around the object.

    Raises:
        UsageError: if a value makes no sense.
    """

    spacing_mm: Triple = (1.0, 1.0, 1.0)
    orientation: str = "LPS"
    turn_deg: Triple = (0.0, 0.0, 0.0)
    offset_mm: Triple = (0.0, 0.0, 0.0)
    object_turn_deg: Triple = (0.0, 0.0, 0.0)
    noise: float = 0.0
    contrast: float = 2.0
    margin_mm: float = 10.0

    def __post_init__(self) -> None:
        directions_of(self.orientation)
        if not all(0 < side <= 50 for side in self.spacing_mm):
            raise UsageError(f"--spacing-mm must lie above 0 and up to 50 mm, not {self.spacing_mm}")
        if not 0 <= self.noise <= 10:
            raise UsageError(f"--noise {self.noise:g} lies outside 0..10")
        if not 0 < self.contrast <= 100 or self.contrast == 1:
            raise UsageError(f"--contrast {self.contrast:g} must be positive and not 1, or there is nothing to see")
        angles = (*self.turn_deg, *self.object_turn_deg, *self.offset_mm)
        if not all(math.isfinite(value) for value in angles):
            raise UsageError("angles and offsets must be numbers")

    def grid(self, shape: Shape) -> Grid:
        """A grid around a solid at the origin.

        Raises:
            UsageError: if it would be too large to handle.
        """
        low, high = shape.bounds_mm()
        turn = rotation_of(self.turn_deg)
        corners = box_corners(low, high)
        reach = np.abs(corners @ turn).max(0) + self.margin_mm + np.abs(self.offset_mm).max()
        return grid_around(
            -np.array(self.offset_mm),
            reach,
            spacing_mm=self.spacing_mm,
            orientation=self.orientation,
            turn_deg=self.turn_deg,
        )


@dataclass(frozen=True, eq=False)
class ReferenceObject:
    """An object on a grid, and the truth.

    Attributes:
        truth_ml: exact volume by region. A shell is enhancing tumour around necrosis, every other object enhances.
        fractions: share of each voxel in each region, ``(3, X, Y, Z)``.
        labels: in the numbers of BraTS 2023: voxels whose centre lies inside.
        image: with partial volume and noise.
    """

    options: ObjectOptions
    scan: ObjectScan
    truth_ml: Mapping[str, float]
    fractions: NDArray[np.float32]
    labels: Volume
    image: Volume = field(repr=False)

    @property
    def segmentation(self) -> Segmentation:
        """Label map and exact shares as probabilities, as a perfect method would find them."""
        return Segmentation(self.options.kind, self.labels, DEFAULT_SCHEMA, regions_of(), self.shares)

    @property
    def shares(self) -> RegionMaps:
        """Exact shares of voxels by region."""
        return RegionMaps(self.fractions, self.labels.grid, regions_of())


def make_object(options: ObjectOptions, scan: ObjectScan, rng: np.random.Generator) -> ReferenceObject:
    """Sample an object."""
    shape = options.shape(rotation_of(scan.object_turn_deg))
    grid = scan.grid(shape)
    outer = shape.outer if isinstance(shape, Shell) else shape
    core_mask = outer.sample_mask(grid)
    core = outer.sample_fractions(grid)
    labels = np.zeros(grid.shape, np.uint8)
    labels[core_mask] = DEFAULT_SCHEMA.number(Structure.ET)
    enhancing = core
    if isinstance(shape, Shell):
        labels[shape.inner.sample_mask(grid)] = DEFAULT_SCHEMA.number(Structure.NCR)
        enhancing = np.maximum(core - shape.inner.sample_fractions(grid), 0)
    truth = {"WT": outer.volume_ml, "TC": outer.volume_ml, "ET": shape.volume_ml}
    return ReferenceObject(
        options,
        scan,
        truth,
        np.stack([core, core, enhancing]),
        Volume(labels, grid),
        _image(enhancing, grid, scan, rng),
    )


def _image(fraction: NDArray[np.float32], grid: Grid, scan: ObjectScan, rng: np.random.Generator) -> Volume:
    """Rician noise as in :mod:`brats_seg.phantom.acquire`."""
    signal = 1 + (scan.contrast - 1) * fraction
    real = signal + scan.noise * rng.standard_normal(grid.shape, dtype=np.float32)
    imaginary = scan.noise * rng.standard_normal(grid.shape, dtype=np.float32)
    values: NDArray[np.float32] = (BACKGROUND_LEVEL * np.hypot(real, imaginary)).astype(np.float32)
    return Volume(values, grid)


def write_object(
    options: ObjectOptions, scan: ObjectScan, output: Path, *, seed: int = 1, exists: ExistsPolicy = "refuse"
) -> tuple[Path, dict[str, Any]]:
    """Make an object and write it into ``output``.

    Returns:
        The folder, and what its ``truth.json`` holds.

    Raises:
        UsageError: if the object makes no sense.
        OutputError: if it cannot be written.
        InputError: if the voxels are so large that none has its centre inside.
    """
    with OutputFolder(output, exists=exists) as folder:
        made = make_object(options, scan, np.random.default_rng(seed))
        if not made.labels.data.any():
            raise InputError(
                f"no voxel of {' x '.join(f'{s:g}' for s in scan.spacing_mm)} mm has its centre inside this "
                f"{options.kind}. Choose smaller voxels or a larger object."
            )
        name = options.kind
        write_volume(made.image, folder.path / f"{name}_t1ce.nii.gz")
        labels, version = folder.path / f"{name}_dseg.nii.gz", versions()["brats_seg"]
        write_label_map(made.segmentation, labels)
        write_dseg_sidecars(made.segmentation, labels, algorithm={"name": "reference object"}, version=version)
        write_probabilities(made.shares, folder.path / f"{name}_probseg.nii.gz")
        truth = truth_of(made, seed)
        write_json(truth, folder.path / "truth.json")
        run = {"versions": {"brats_seg": version}, "truth": truth, "outputs": file_hashes(folder.path)}
        write_json(run, folder.path / "run.json")
    return folder.final, truth


def truth_of(made: ReferenceObject, seed: int) -> dict[str, Any]:
    """The truth file of an object; plain values."""
    grid = made.labels.grid
    sampled = {
        region.name: {
            "true_ml": made.truth_ml[region.name],
            "mask_ml": float(made.segmentation.region_mask(region).sum()) * grid.voxel_ml,
            "fractions_ml": float(made.fractions[regions_of().index(region)].sum(dtype=np.float64)) * grid.voxel_ml,
        }
        for region in regions_of()
    }
    return {
        "object": made.options.to_dict(),
        "volume_ml": made.truth_ml["ET"],
        "volume_known_by": "formula",
        "longest_mm": made.options.longest_mm(),
        "centre_mm": list(_ORIGIN),
        "scan": {**plain(made.scan), "orientation": made.scan.orientation.upper()},
        "grid": {"shape": list(grid.shape), "affine": grid.affine.tolist(), "text": grid.describe()},
        "seed": seed,
        "regions": sampled,
        "image": {"surroundings": BACKGROUND_LEVEL, "object": BACKGROUND_LEVEL * made.scan.contrast},
    }
