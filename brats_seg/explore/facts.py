"""What exploring a data set finds out about each scan, label map and study; values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Grid
from brats_seg.core.labels import LabelSchema, Region
from brats_seg.core.regions import RegionSet
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.files.meaning import LabelMeaning
from brats_seg.files.visit_names import patient_of
from brats_seg.models.card import regions_of

Severity = Literal["broken", "look"]

DATA_SET = "data set"
"""In place of a study's id, for findings about all of them."""

PLACE_SHAPE = (32, 38, 32)
"""Cells of the box around the head, right, anterior and superior, in which tumour places are counted."""


@dataclass(frozen=True)
class Finding:
    """Something about a study that its owner should know.

    Attributes:
        study: id of the study, or ``data set``.
        severity: ``broken`` makes the command fail; ``look`` deserves a look and may be right.
        kind: for grouping, for example ``geometry``.
        text: what was found, with values, and what to do.
    """

    study: str
    severity: Severity
    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class ScanFacts:
    """One scan. Intensities are of the head, on voxels about 2 mm apart, above the background's value.

    Attributes:
        background: value outside the head.
        minimum: smallest value of the file.
        maximum: largest value of the file.
        median: middle value inside the head.
        p99: value that 99 % of the head's voxels do not exceed.
        variation: standard deviation divided by mean.
        saturated_share: share of the head's voxels at the largest value.
        head_ml: volume of what is not background.
        signature: unit vector for comparing studies, see :func:`~brats_seg.explore.findings.correlations`.
    """

    sequence: MRSequence
    grid: Grid
    sha256: str
    background: float
    minimum: float
    maximum: float
    median: float
    p99: float
    variation: float
    levels: int
    saturated_share: float
    head_ml: float
    signature: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LabelFacts:
    """One label map, before it is known what its numbers mean.

    Attributes:
        name: of the file, which may say the year.
        counts: voxels by number, without 0.
        outside_share: share of labelled voxels outside the head; NaN where no scan lies on the grid.
        places: uint8 of :data:`PLACE_SHAPE`, the number at the centre of each cell of the head's box; None where no
            scan lies on the grid.
        meaning: what its numbers can mean; None where that was not asked.
    """

    name: str
    counts: Mapping[int, int]
    voxel_ml: float
    outside_share: float
    places: NDArray[np.uint8] | None
    meaning: LabelMeaning | None = None

    def volume_ml(self, region: Region, schema: LabelSchema) -> float:
        """Volume of a region."""
        numbers = np.array(sorted(self.counts), dtype=np.int64)
        inside = schema.region_mask(numbers, region)
        return self.voxel_ml * sum(self.counts[int(number)] for number in numbers[inside])


@dataclass(frozen=True, eq=False)
class StudyFacts:
    """One study.

    Attributes:
        scans: those that could be read.
        missing: sequences without a file.
        labels: the expert's label map, if there is one that could be read.
        skull_stripped: whether all scans look so; None without a scan.
        skull_evidence: what that rests on, in words.
        schema: what the numbers of the label map mean; None where that is not certain.
        regions: volumes are given of.
    """

    id: str
    scans: Mapping[MRSequence, ScanFacts]
    missing: tuple[MRSequence, ...] = ()
    labels: LabelFacts | None = None
    skull_stripped: bool | None = None
    skull_evidence: str = ""
    schema: LabelSchema | None = None
    regions: RegionSet = field(default_factory=regions_of)

    @property
    def patient(self) -> str:
        """The patient it belongs to."""
        return patient_of(self.id)

    @property
    def first_scan(self) -> ScanFacts | None:
        """The scan whose grid stands for the study: the first there of T1, T1CE, T2, FLAIR."""
        return next((self.scans[s] for s in SEQUENCES if s in self.scans), None)

    def volumes_ml(self) -> dict[Region, float]:
        """Volume by region; empty without a label map, or where its numbers are not known to tell all regions."""
        if self.labels is None or self.schema is None or self.regions.told_by(self.schema) != self.regions.regions:
            return {}
        return {region: self.labels.volume_ml(region, self.schema) for region in self.regions}

    @property
    def is_aligned(self) -> bool:
        """Whether all scans lie on one grid."""
        first = self.first_scan
        return first is None or all(scan.grid.same_as(first.grid) for scan in self.scans.values())


@dataclass(frozen=True)
class Likeness:
    """Two studies and how alike their scans are (correlation, 1 is equal)."""

    first: str
    second: str
    correlation: float
    same_patient: bool


@dataclass(frozen=True, eq=False)
class Exploration:
    """Everything found out about a data set.

    Attributes:
        name: of the data set's folder.
        studies: in the order of their folders.
        findings: broken ones first.
        likenesses: the most alike pairs of studies, most alike first.
    """

    name: str
    studies: tuple[StudyFacts, ...]
    findings: tuple[Finding, ...] = ()
    likenesses: tuple[Likeness, ...] = field(default=())

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Findings that make the command fail."""
        return tuple(finding for finding in self.findings if finding.severity == "broken")


def enhancing_share(volumes_ml: Mapping[Region, float]) -> float:
    """Share that enhances of the region around it; NaN without any. Small in most low-grade gliomas."""
    by_name = {region.name: ml for region, ml in volumes_ml.items()}
    shares = (ml / around for region, ml in volumes_ml.items()
              if region.compartment == "enhancing" and (around := by_name.get(region.inside, 0.0)) > 0)  # fmt: skip
    return next(shares, float("nan"))
