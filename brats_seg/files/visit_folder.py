"""The result folder of one visit, read back: what ``segment`` wrote is what ``track`` goes on with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume
from brats_seg.core.plain import from_plain
from brats_seg.core.scans import RigidMotion
from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.core.tables import day_in
from brats_seg.core.visit import Measurements, RunRecord, Visit
from brats_seg.files.label_map import read_mask
from brats_seg.files.load import read_scan
from brats_seg.files.output import finished, read_run
from brats_seg.files.probabilities import read_probabilities
from brats_seg.files.tables import write_json

if TYPE_CHECKING:
    from brats_seg.core.course import Course

VISIT_FILE = "visit.json"
VISIT_SCHEMA_VERSION = 1
"""Of :data:`VISIT_FILE`; raised whenever a key is renamed, goes, or means something else."""


@dataclass(frozen=True, eq=False)
class ScanFiles(Mapping[MRSequence, Volume]):
    """Scans of a visit, each on its own grid, read when it is first asked for."""

    timepoint: Timepoint
    _read: dict[MRSequence, Volume] = field(default_factory=dict)

    def __getitem__(self, sequence: MRSequence) -> Volume:
        if sequence not in self._read:
            self._read[sequence] = read_scan(self.timepoint, sequence).volume
        return self._read[sequence]

    def __iter__(self) -> Iterator[MRSequence]:
        return iter(self.timepoint.files)

    def __len__(self) -> int:
        return len(self.timepoint.files)


@dataclass(frozen=True)
class VisitFile:
    """The content of ``visit.json``: everything of a visit but voxels and the record.

    Attributes:
        schema_version: of this file; another number means other keys.
        study: id of the study.
        label_map: name of the file.
        label_schema: what its numbers mean.
        probabilities: name of the file; null without probabilities.
        missing: sequences that were not there.
        measurements: volumes in ml, lesions with their diameters in mm, voxel size, notes.
        motions: of each scan that was registered, by sequence.
        warnings: what to know before the numbers are used, in words.
    """

    schema_version: int
    study: str
    label_map: str
    label_schema: str
    probabilities: str | None
    missing: tuple[str, ...]
    measurements: Measurements
    motions: Mapping[MRSequence, RigidMotion]
    warnings: tuple[str, ...]


def write_visit(visit: Visit, folder: Path) -> None:
    """Write :data:`VISIT_FILE` beside label map, probabilities and tables.

    Raises:
        OutputError: if it cannot be written.
    """
    segmentation, name = visit.segmentation, visit.segmentation.study_id
    content = VisitFile(
        schema_version=VISIT_SCHEMA_VERSION,
        study=name,
        label_map=f"{name}_dseg.nii.gz",
        label_schema=segmentation.schema.name,
        probabilities=None if segmentation.probabilities is None else f"{name}_probseg.nii.gz",
        missing=tuple(sequence.value for sequence in segmentation.missing),
        measurements=visit.measurements,
        motions=visit.motions,
        warnings=visit.record.warnings,
    )
    write_json(content, folder / VISIT_FILE)


def read_visit(folder: Path, timepoint: Timepoint | None = None, *, probabilities: bool = True) -> Visit:
    """The visit that ``segment`` wrote to a folder; nothing is measured again.

    Args:
        timepoint: the scans it was made from, which no result names; without them there are no images.

    Raises:
        InputError: if there is no whole result of this version.
    """
    content, record = _content(folder)
    read = read_mask(folder / content.label_map, "auto", content.study)
    segmentation = read.segmentation
    if probabilities and content.probabilities:
        segmentation = replace(
            segmentation, probabilities=read_probabilities(folder / content.probabilities, segmentation.regions)
        )
    return Visit(
        timepoint=timepoint or Timepoint(content.study, {}, day=day_in(content.measurements.scan_date)),
        segmentation=segmentation,
        measurements=content.measurements,
        record=record,
        images={} if timepoint is None else ScanFiles(timepoint),
        motions=content.motions,
        folder=folder,
    )


def read_course(folder: Path) -> Course:
    """The course that ``track`` wrote to a patient's folder.

    Raises:
        InputError: if there is none of this version.
    """
    from brats_seg.core.course import COURSE_FILE, Course  # noqa: PLC0415 - studies of one visit do without

    path = folder / COURSE_FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no result of brats-seg track. Pass the folder of one patient's results.")
    try:
        return Course.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}. Follow the patient again with brats-seg track.") from error


def _content(folder: Path) -> tuple[VisitFile, RunRecord]:
    if not finished(folder):
        raise InputError(f"{folder} holds no whole result of brats-seg segment. Segment the study again.")
    try:
        content = json.loads((folder / VISIT_FILE).read_text(encoding="utf-8"))
        if content["schema_version"] != VISIT_SCHEMA_VERSION:
            raise ValueError(f"its version is {content['schema_version']}, not {VISIT_SCHEMA_VERSION}")
        return from_plain(VisitFile, content), from_plain(RunRecord, read_run(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / VISIT_FILE} cannot be read: {error}. It is of another version; segment the study again."
        ) from error
