"""The values that flow between rooms after preprocessing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import LabelSchema, Region
from brats_seg.core.regions import RegionSet
from brats_seg.core.scans import RigidMotion
from brats_seg.core.study import MRSequence, Timepoint


@dataclass(frozen=True, eq=False)
class RegionMaps:
    """Tumour probability per region.

    Attributes:
        array: ``(R, X, Y, Z)`` float32 in 0..1, one channel a region.
        regions: in the order of the channels.

    Raises:
        ValueError: if the shape does not fit, or a value lies outside 0..1 or is not finite.
    """

    array: NDArray[np.float32]
    grid: Grid
    regions: RegionSet

    def __post_init__(self) -> None:
        if self.array.shape != (len(self.regions), *self.grid.shape):
            raise ValueError(f"array of shape {self.array.shape} does not fit {self.grid.describe()}")
        low, high = float(self.array.min()), float(self.array.max())
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(f"probabilities lie in 0..1, not in {low:g}..{high:g}")

    def region(self, region: Region) -> NDArray[np.float32]:
        """``(X, Y, Z)`` probability of one region."""
        channel: NDArray[np.float32] = self.array[self.regions.index(region)]
        return channel


@dataclass(frozen=True)
class Midplane:
    """The plane between the halves of the brain, in RAS+ millimetres.

    Attributes:
        normal: of length 1, towards the patient's right.
        offset_mm: of the plane from the origin, along the normal.
        overlap: share of the brain's outline that its mirror image covers.
    """

    normal: tuple[float, float, float]
    offset_mm: float
    overlap: float

    def right_of_mm(self, points_mm: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """How far points ``(..., 3)`` lie to the patient's right of the plane; negative on the left."""
        distance: NDArray[np.float64] = np.asarray(points_mm, np.float64) @ np.array(self.normal) - self.offset_mm
        return distance


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A label map on the patient's own grid, with what it was made from.

    Attributes:
        labels: uint8 on the grid of the reference file.
        schema: the meaning of the numbers.
        regions: that are drawn, or asked about.
        probabilities: on the same grid, or None for a label map that was read.
        missing: sequences the network did not have.
        midplane: between the halves of the brain; None where it is not known.
    """

    study_id: str
    labels: Volume
    schema: LabelSchema
    regions: RegionSet
    probabilities: RegionMaps | None = None
    missing: tuple[MRSequence, ...] = ()
    midplane: Midplane | None = None

    def __post_init__(self) -> None:
        self.schema.check(self.labels.data)
        if self.probabilities is not None and not self.probabilities.grid.same_as(self.labels.grid):
            raise ValueError("label map and probabilities lie on different grids")

    def region_mask(self, region: Region) -> NDArray[np.bool_]:
        """Boolean mask of a region."""
        return self.schema.region_mask(self.labels.data, region)


@dataclass(frozen=True, repr=False)
class RegionVolume:
    """Size of one region or tissue; one row of the volumes table. Its ``repr`` is ``WT 56.50 ml (50.0 to 63.0)``.

    Attributes:
        region: name of the region, or of a structure such as ``NCR``.
        volume_ml: voxels of the mask times their size; NaN where it is not told.
        volume_pv_ml: sum of probabilities times voxel size near the mask; None without probabilities.
        low_ml: lower end of the interval; None where nothing is known about the error.
        high_ml: upper end of the interval.
        level: coverage the interval aims at, for example 0.9; None without interval.
        lesions: connected components (26-neighbourhood).
        touches_border: whether the mask reaches the edge of the image.
        note: a reservation in words, for example "estimate: not assessable without T1CE".
        is_told: False where the label schema does not tell the region, so that nothing is known of it.
    """

    region: str
    volume_ml: float
    volume_pv_ml: float | None = None
    low_ml: float | None = None
    high_ml: float | None = None
    level: float | None = None
    lesions: int = 0
    touches_border: bool = False
    note: str = ""
    is_told: bool = True

    def __repr__(self) -> str:
        known = self.low_ml is not None and self.high_ml is not None
        interval = f" ({self.low_ml:.1f} to {self.high_ml:.1f})" if known else ""
        return f"{self.region} {self.volume_ml:.2f} ml{interval}"


@dataclass(frozen=True)
class Diameters:
    """Longest in-plane diameter and the longest one perpendicular to it on the same slice.

    Attributes:
        long_mm: outer edge to outer edge, 0 for an empty lesion.
        short_mm: outer edge to outer edge.
        plane: ``axial``, ``coronal`` or ``sagittal``: the plane of the patient that comes closest to the slices.
        axis: array axis normal to it.
        slice_index: index along ``axis``.
        long_ends_mm: RAS+ ends of the long diameter, two points, for drawing.
        short_ends_mm: RAS+ ends of the short diameter.
        slices: number of slices along ``axis`` the lesion is seen on.
    """

    long_mm: float
    short_mm: float
    plane: str
    axis: int
    slice_index: int
    long_ends_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    short_ends_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    slices: int


@dataclass(frozen=True)
class Lesion:
    """One connected component of a region; one row of the lesions table.

    Attributes:
        region: as in :class:`RegionVolume`.
        number: from 1, largest first.
        volume_ml: voxels times their size.
        centroid_mm: RAS+ scanner millimetres.
        box: first voxel and last voxel (inclusive) along each array axis.
        diameters: in-plane diameters.
        measurable: whether RANO calls it measurable.
        touches_border: whether it reaches the edge of the image.
        side: ``left`` or ``right`` of the patient, ``both`` where it crosses the midline or lies on it; empty where
            the midline is not known.
    """

    region: str
    number: int
    volume_ml: float
    centroid_mm: tuple[float, float, float]
    box: tuple[tuple[int, int, int], tuple[int, int, int]]
    diameters: Diameters
    measurable: bool
    touches_border: bool
    side: str = ""


@dataclass(frozen=True)
class Measurements:
    """Everything measured in one study.

    Attributes:
        study_id: the study's id.
        volumes: one row per region and structure.
        lesions: one row per lesion, for the regions, and resection cavities where the schema has them.
        spacing_mm: voxel size of the grid measured on.
        notes: reservations in words, those of ``warnings`` among them.
        scan_date: when the scans were made, as ``2024-01-31`` or ``day 35``; empty where nothing says so.
        warnings: the notes about this study, not about its model: what to know before the numbers are used.
    """

    study_id: str
    volumes: tuple[RegionVolume, ...]
    lesions: tuple[Lesion, ...]
    spacing_mm: tuple[float, float, float]
    notes: tuple[str, ...] = ()
    scan_date: str = ""
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.study_id, *(f"  {row!r}{f', {row.note}' if row.note else ''}" for row in self.volumes)]
        return "\n".join(lines)

    def volume(self, region: Region | str) -> RegionVolume:
        """The row of one region, whose name may be written in any case.

        Raises:
            KeyError: naming what was measured, if the region was not.
        """
        name = _name(region)
        for row in self.volumes:
            if row.region.upper() == name:
                return row
        measured = ", ".join(row.region for row in self.volumes) or "nothing"
        raise KeyError(f"there is no region {region!r}; measured: {measured}")

    def lesions_of(self, region: Region | str) -> tuple[Lesion, ...]:
        """Lesions of one region, whose name may be written in any case, largest first."""
        name = _name(region)
        return tuple(lesion for lesion in self.lesions if lesion.region.upper() == name)


def _name(region: Region | str) -> str:
    return (region if isinstance(region, str) else region.name).upper()


@dataclass(frozen=True)
class RunRecord:
    """What produced a result; becomes ``run.json``.

    Attributes:
        study_id: the study's id.
        versions: of the program and the libraries used.
        made: when, as ISO 8601 with the offset from UTC; empty where not known.
        scan_date: when the scans were made, as ``2024-01-31`` or ``day 35``; empty where nothing says so.
        model: name, version, checksum and citation of the model; empty where none ran.
        device: for example ``cpu``.
        engine: for example ``openvino``.
        inputs: by sequence: SHA-256 and grid; never a path.
        preparation: the :class:`~brats_seg.core.scans.PreparationRecord` as plain values.
        settings: every option in force.
        timings_s: seconds by step.
        peak_memory_mib: largest resident memory of the process.
        decisions: everything decided automatically, in words.
        warnings: in words.
        outputs: name of each file and its SHA-256.
    """

    study_id: str
    versions: Mapping[str, str]
    model: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""
    engine: str = ""
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    preparation: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    timings_s: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mib: float = 0.0
    decisions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    made: str = ""
    scan_date: str = ""

    @property
    def fits(self) -> bool:
        """Whether the scans fit together, as far as that was looked at: of a label map without scans it was not."""
        return bool(self.preparation.get("consistency", {}).get("fits", True))


_TOLD = {"enhancing": "what enhances", "non_enhancing": "T2/FLAIR disease"}
_ASSESSED = {"enhancing": "enhancement", "non_enhancing": "T2/FLAIR disease"}
"""Compartments in words, in the two reasons of :meth:`Visit.unseen`."""


@dataclass(frozen=True, eq=False)
class Visit:
    """One visit with everything found in it: what ``segment`` returns and ``track`` takes.

    Attributes:
        timepoint: the files it comes from; without any for a study in memory.
        segmentation: label map and probabilities on the patient's own grid.
        images: scans by sequence, each on its own grid.
        motions: of the scans that had to be registered, RAS+ mm of the label map to RAS+ mm of the scan.
        brain: the brain that was found in the head, on the label map's grid; None where the scans were skull-stripped.
        folder: where the results lie, or None.
        how: how the label map came about, in words.
    """

    timepoint: Timepoint
    segmentation: Segmentation
    measurements: Measurements
    record: RunRecord
    images: Mapping[MRSequence, Volume] = field(default_factory=dict)
    motions: Mapping[MRSequence, RigidMotion] = field(default_factory=dict)
    brain: Volume | None = None
    folder: Path | None = None
    how: str = ""

    @classmethod
    def load(cls, folder: Path | str) -> Visit:
        """The visit in a result folder of ``segment``, as it was returned then but for its images.

        Raises:
            InputError: if there is no whole result of this version.
        """
        # Core reads no file: the module that does is looked up when it is asked for.
        found: Visit = import_module("brats_seg.files.visit_folder").read_visit(Path(folder))
        return found

    @property
    def label(self) -> str:
        """Name of the visit within its patient."""
        return self.timepoint.label or self.timepoint.id

    @property
    def by_model(self) -> bool:
        """Whether a model made the label map; else it was given."""
        return bool(self.record.model)

    @property
    def model(self) -> str:
        """Name and version of the model that made the label map; empty where it was given."""
        return f"{self.record.model['name']} {self.record.model['version']}" if self.by_model else ""

    @property
    def sequences(self) -> tuple[MRSequence, ...]:
        """Scans that are there."""
        return tuple(self.images)

    def unseen(self, region: Region) -> str:
        """Why the scans do not show a region, or a label map that was given does not tell it; empty where it does."""
        found = self.segmentation
        if not self.by_model:
            if region in found.regions.told_by(found.schema):
                return ""
            what = _TOLD.get(region.compartment, f"the {region.title}")
            return f"label maps in schema {found.schema.name} do not tell {what}"
        lacking = region.lacks([sequence for sequence in MRSequence if sequence not in self.images])
        what = _ASSESSED.get(region.compartment, f"the {region.title}")
        return f"{what} is not assessable without {lacking}" if lacking else ""

    @property
    def tumour(self) -> NDArray[np.bool_]:
        """``(X, Y, Z)`` mask of everything the label map holds, cavities too."""
        return np.asarray(self.segmentation.labels.data) > 0

    def on_grid(self, sequence: MRSequence) -> bool:
        """Whether a scan lies on the grid of the label map."""
        return self.images[sequence].grid.same_as(self.segmentation.labels.grid)

    @cached_property
    def key(self) -> str:
        """Checksum of scans and label map: what was found by comparing visits stays true as long as it does."""
        inputs = {name: entry.get("sha256") for name, entry in self.record.inputs.items()}
        said = json.dumps([sorted(inputs.items()), self.segmentation.schema.name])
        return hashlib.sha256(said.encode() + np.ascontiguousarray(self.segmentation.labels.data).tobytes()).hexdigest()
