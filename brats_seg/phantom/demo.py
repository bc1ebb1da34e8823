"""The demonstration: visits of a phantom patient go through the whole program, the truth beside the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from brats_seg.core.course import Course
from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.core.visit import Visit
from brats_seg.core.words import Tick
from brats_seg.evaluate.overlap import count_voxels, dice
from brats_seg.files.find import find_study
from brats_seg.files.label_map import read_mask
from brats_seg.files.load import load_study
from brats_seg.files.output import ExistsPolicy
from brats_seg.files.visits import find_patients
from brats_seg.models.card import find_model, regions_of
from brats_seg.phantom.dataset import DatasetOptions, write_dataset
from brats_seg.phantom.files import read_truth
from brats_seg.phantom.script import PatientKind
from brats_seg.run.options import STEPS as SEGMENT_STEPS
from brats_seg.run.options import SegmentOptions
from brats_seg.run.segment import open_predictor, segment_study
from brats_seg.run.track import TrackRun, track_patient
from brats_seg.run.visits import Model

VISITS = 3
STEPS = VISITS + 1 + len(SEGMENT_STEPS) + 2 * VISITS + 1
NATIVE_STEPS = 2 + 1 + len(SEGMENT_STEPS)
"""Steps named on the way: phantoms and their page, segmenting, following."""


@dataclass(frozen=True)
class DemoVisit:
    """One visit, as it was made and as it was found.

    Attributes:
        truth_ml: true volume by region.
        found_ml: segmented volume by region.
        dice: by region, of what was found and what is true, where the label maps lie on one grid.
    """

    label: str
    date: str
    truth_ml: Mapping[str, float]
    found_ml: Mapping[str, float]
    dice: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Demo:
    """Where the demonstration put things, and what it found.

    Attributes:
        scans: data set with the phantom's scans and true label maps.
        results: folder of everything found in them.
        report: HTML report of the first visit.
        timeline: HTML report of the course; None of a single visit.
        visits: in order of time.
    """

    scans: Path
    results: Path
    report: Path
    timeline: Path | None
    visits: tuple[DemoVisit, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        named = {name: getattr(self, name) for name in ("scans", "results", "report", "timeline")}
        paths = {name: None if path is None else str(path) for name, path in named.items()}
        return {**paths, "visits": [{**vars(visit)} for visit in self.visits]}


def run_demo(output: Path, *, seed: int = 1, exists: ExistsPolicy = "refuse", tick: Tick | None = None) -> Demo:
    """Make a phantom patient, write its scans as files, segment the first visit and follow all of them.

    Args:
        exists: what to do where an earlier demonstration lies; phantoms that are whole are never made again.
        tick: called with the name of each step before it runs.

    Raises:
        ModelError: if the model is missing or damaged.
        OutputError: if results exist already or cannot be written.
    """
    scans = output / "scans" / f"seed-{seed}"
    phantoms = DatasetOptions(patients=1, visits=VISITS, seed=seed, kind=PatientKind.HIGH_GRADE)
    write_dataset(phantoms, scans, resume=exists == "overwrite", tick=tick)
    results = output / "results"
    predictor = open_predictor(SegmentOptions())
    patient = find_patients(scans)[0]
    first = find_study(sorted(scans.glob("sub-*/ses-*"))[0])
    options = SegmentOptions(exists=exists)
    segmented = segment_study(first, results, options=options, predictor=predictor, tick=tick)
    assert segmented.folder is not None  # an output folder was passed
    model = Model(find_model(), lambda: predictor)
    followed = track_patient(patient, TrackRun(results, exists=exists), model=model, tick=tick)
    assert followed.course is not None  # an error would have been raised
    return Demo(
        scans,
        results,
        results / segmented.folder.name / f"{first.id}_report.html",
        results / patient.id / f"{patient.id}_timeline.html",
        _visits(scans / patient.id, followed.course),
    )


def run_native_demo(output: Path, *, seed: int = 1, exists: ExistsPolicy = "refuse", tick: Tick | None = None) -> Demo:
    """Make one visit of a phantom patient as a scanner would: with skull, thick slices, as DICOM; and segment it.

    Args:
        exists: as in :func:`run_demo`.
        tick: called with the name of each step before it runs.

    Raises:
        ModelError: if the model is missing or damaged.
        OutputError: if results exist already or cannot be written.
    """
    scans, results = output / "scans" / f"native-{seed}", output / "results"
    phantoms = DatasetOptions(patients=1, visits=1, seed=seed, kind=PatientKind.HIGH_GRADE, space="native", skull=True)
    write_dataset(phantoms, scans, resume=exists == "overwrite", tick=tick)
    truth_folder = sorted(scans.glob("sub-*/ses-*"))[0]
    phantom = find_study(truth_folder)
    truth = read_truth(truth_folder)
    assert truth is not None and phantom.labels is not None  # they were written a minute ago
    exam = output / "scans" / f"dicom-{seed}"
    if tick is not None:
        tick("write")
    day = date.fromisoformat(truth["date"])
    from brats_seg.files.dicom_mr import write_exam  # noqa: PLC0415 - only for DICOM

    write_exam(load_study(phantom).images, exam, patient=f"PHANTOM-{seed}", day=day)
    found = segment_study(exam, results, options=SegmentOptions(exists=exists), tick=tick)
    assert found.folder is not None  # an output folder was passed
    volumes = {row.region: row.volume_ml for row in found.measurements.volumes}
    visit = _visit(phantom.id, truth_folder, volumes, _dice(found, phantom.labels))
    report = results / found.folder.name / f"{found.folder.name}_report.html"
    return Demo(exam, results, report, None, (visit,))


def _dice(found: Visit, labels: Path) -> dict[str, float]:
    """How much of each region is found where it is; both label maps lie on the voxels of T1CE, in any order."""
    maps = (found.segmentation, read_mask(labels, DEFAULT_SCHEMA, "truth", regions_of).segmentation)
    scores = {}
    for region in regions_of():
        one, other = (side.labels.with_data(side.region_mask(region)).to_ras().data for side in maps)
        scores[region.name] = dice(count_voxels(one, other))
    return scores


def _visits(patient: Path, course: Course) -> tuple[DemoVisit, ...]:
    """What was found at each visit that could be followed."""
    found: dict[str, dict[str, float]] = {}
    for row in course.volumes:
        found.setdefault(row.visit, {})[row.region] = row.volume_ml
    return tuple(
        _visit(label, patient / f"ses-{label.removeprefix('ses-')}", volumes, {}) for label, volumes in found.items()
    )


def _visit(label: str, folder: Path, volumes: Mapping[str, float], scores: Mapping[str, float]) -> DemoVisit:
    """What was found beside the truth file of the visit."""
    truth = read_truth(folder)
    assert truth is not None  # it was written a minute ago
    names = [region.name for region in regions_of()]
    truth_ml = {name: float(truth["truth_ml"].get(name, 0.0)) for name in names}
    return DemoVisit(label, truth["date"], truth_ml, {name: volumes[name] for name in names}, scores)
