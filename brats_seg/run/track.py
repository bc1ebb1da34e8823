"""Following a patient into a folder: visits segmented or kept, tables, JSON, the timeline page, the record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from brats_seg.core.course import (
    COURSE_FILE,
    Course,
    CourseChange,
    CourseLesion,
    CourseVolume,
    Excluded,
)
from brats_seg.core.errors import BratsSegError, DeviceError, InputError
from brats_seg.core.plain import from_plain, plain
from brats_seg.core.scans import RigidMotion
from brats_seg.core.study import Patient, Timepoint
from brats_seg.core.tables import Calendar, csv_text
from brats_seg.core.visit import RunRecord, Visit
from brats_seg.core.words import Tick, visit_named
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.files.file_bytes import file_sha256
from brats_seg.files.label_map import schema_of_visits
from brats_seg.files.load import input_hashes
from brats_seg.files.output import ExistsPolicy, OutputFolder, file_hashes, read_run, write_text
from brats_seg.files.tables import write_json, write_run
from brats_seg.models.card import ModelCard
from brats_seg.models.record import model_summary, peak_memory_mib, versions
from brats_seg.response.history import ClinicalEvent
from brats_seg.response.responses import RESPONSE_COLUMNS
from brats_seg.response.tables import MEASUREMENT_TABLE, measurement_records
from brats_seg.run.options import COHORT_PAGE, SegmentOptions
from brats_seg.run.segment import TOKEN, reason_to_redo
from brats_seg.run.visits import SEGMENTATIONS, Model, load_visit, refuse_repeats, shared_grid
from brats_seg.track.boundary_shift.change import LesionChange
from brats_seg.track.follow import CourseOptions, Followed, Known, follow, motion_key
from brats_seg.track.tables import course_of

RESPONSES, MEASUREMENTS, LESIONS, VOLUMES, CHANGES = (
    f"{name}.csv" for name in ("responses", "measurements", "lesions", "volumes", "change")
)
GROWTH = "growth.json"
MOTIONS, PAIRED = "alignments.json", "paired.json"
"""Alignments, and changes measured in both images: named by checksums of all that they come from, so that a visit that
is added repeats nothing."""
T = TypeVar("T")
EVENTS = "clinical events"
"""Their name among the inputs in ``run.json``."""


@dataclass(frozen=True)
class TrackRun:
    """How patients are followed, and where to: the same for every patient of a run.

    Attributes:
        output: gets a folder for each patient.
        segment: how visits without a label map are segmented.
        schema: label schema of existing label maps, or ``auto``.
        course: how visits are compared and judged.
        report: write the timeline page.
        exists: what to do where results of a patient exist.
        resume: let an earlier result stand if nothing changed, else replace it, reusing what is still true of it.
        token: of this run; a patient that is started again although it was finished in this run is not done twice.
        has_cohort: whether a page of all patients will lie in ``output``, for their pages to link to.
    """

    output: Path
    segment: SegmentOptions = field(default_factory=lambda: SegmentOptions(report=False))
    schema: str = "auto"
    course: CourseOptions = field(default_factory=CourseOptions)
    report: bool = True
    exists: ExistsPolicy = "refuse"
    resume: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    has_cohort: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The options in force for ``run.json``, without paths."""
        return {
            **self.segment.to_dict(),
            "schema": self.schema,
            "criteria": self.course.criteria,
            "disease": self.course.disease or "auto",
            "timeline": self.report,
        }

    def by(self, card: ModelCard) -> TrackRun:
        """The same run with the response criteria that a model offers.

        Raises:
            UsageError: if others were asked for.
        """
        return replace(self, course=replace(self.course, criteria=card.offered(self.course.criteria)))

    def folder_of(self, patient: Patient) -> OutputFolder:
        """Where its results go."""
        return OutputFolder(self.output / patient.id, exists="overwrite" if self.resume else self.exists)


@dataclass(frozen=True)
class Outcome:
    """What became of a patient.

    Attributes:
        course: what was found; None with an error.
        kept: whether an earlier result stands.
        error: what went wrong; None if it was followed.
    """

    patient: str
    course: Course | None = None
    kept: bool = False
    error: BratsSegError | None = None


def track_patient(
    patient: Patient,
    run: TrackRun,
    *,
    model: Model | None = None,
    events: Sequence[ClinicalEvent] = (),
    tick: Tick | None = None,
) -> Outcome:
    """Follow one patient and write its results whole or not at all.

    Args:
        patient: visits and their files.
        run: where to, and how.
        model: opened before, to be shared by several patients.
        events: clinical events of this patient.
        tick: called with the name of each step before it runs.

    Raises:
        BratsSegError: if no visit can be used, or nothing can be written.

    Example:
        Every patient of a folder::

            from brats_seg.files.visits import find_patients
            from brats_seg.run.track import TrackRun, track_patient

            for patient in find_patients("patients"):
                found = track_patient(patient, TrackRun(Path("results")))
                print(patient.id, found.course.best["volume"])
    """
    if patient.id == SEGMENTATIONS:
        raise InputError(
            f"a patient cannot be called {SEGMENTATIONS}, as the folder of all segmentations is. Rename it."
        )
    model = model or Model.of(run.segment)
    run = run.by(model.bundle.card)
    final, inputs = run.output / patient.id, _inputs(patient, events)
    ran = any(visit.mask is None for visit in patient.visits)
    same_run = (read_run(final) or {}).get("settings", {}).get(TOKEN) == run.token
    wanted = run.to_dict(), model.bundle.sha256 if ran else "", inputs
    if (run.resume or same_run) and not reason_to_redo(final, *wanted):
        return Outcome(patient.id, Course.load(final), kept=not same_run)
    with run.folder_of(patient) as folder:
        found = _followed(patient, run, model=model, events=events, tick=tick)
        course = write_course(found, folder.path)
        _write_documents(found, course, run, folder.path, tick)
        used = model_summary(model.bundle) if ran else {}
        record = _record(found, course, {**run.to_dict(), TOKEN: run.token}, inputs, used)
        write_run(replace(record, outputs=file_hashes(folder.path)), folder.path / "run.json")
    return Outcome(patient.id, course)


def _write_documents(found: Followed, course: Course, run: TrackRun, folder: Path, tick: Tick | None) -> None:
    """What readers and archives take, as far as it is wanted: DICOM reports and the timeline page."""
    if run.segment.dicom is not False and any(isinstance(v.timepoint, DicomTimepoint) for v in found.visits):
        from brats_seg.run.dicom_exports import write_followed  # noqa: PLC0415 - heavy

        write_followed(found, run.segment, folder)
    if run.report:
        if tick is not None:
            tick("report")
        from brats_seg.run.pictures import write_timeline  # noqa: PLC0415 - draws

        path = folder / f"{course.patient}_timeline.html"
        write_timeline(found, course, path, cohort=f"../{COHORT_PAGE}" if run.has_cohort else "")


def _followed(
    patient: Patient, run: TrackRun, *, model: Model, events: Sequence[ClinicalEvent], tick: Tick | None
) -> Followed:
    """Every visit loaded, those that cannot be left out with the reason, and followed."""
    if events and patient.dating is Calendar.ORDER:
        raise InputError(
            f"patient {patient.id}: the clinical table has dates, and the visits have {patient.dating}. Give the "
            "visits their dates (visits.csv or sessions.tsv), or leave the clinical table out."
        )
    refuse_repeats(patient.id, patient.visits)
    masks = {visit.label: visit.mask for visit in patient.visits if visit.mask is not None}
    schema = schema_of_visits(masks, run.schema, lambda: model.bundle.card.regions)
    grid = shared_grid(patient.visits, schema, model)
    visits: list[Visit] = []
    excluded: list[Excluded] = []
    began = time.perf_counter()
    for timepoint in patient.visits:
        if tick is not None:
            tick(f"visit {timepoint.label}")
        try:
            visits.append(load_visit(timepoint, run.output, options=run.segment, schema=schema, model=model, grid=grid))
        except InputError as error:
            excluded.append(Excluded(timepoint.label, str(error)))
        except DeviceError as error:
            raise DeviceError(f"visit {timepoint.label}: {error}") from error
    if not visits:
        first = excluded[0]
        raise InputError(f"no visit of {patient.id} can be used; the first, {first.visit}: {first.reason}")
    timings = {"visits": time.perf_counter() - began}
    known = known_of(run.output / patient.id)
    found = follow(visits, patient, options=run.course, events=events, known=known, tick=tick)
    return replace(found, excluded=(*excluded, *found.excluded), timings_s={**timings, **found.timings_s})


def known_of(folder: Path) -> Known:
    """What a patient's results hold of use: motions, and changes measured in both images."""
    if read_run(folder) is None:
        return Known()
    return Known(_entries(folder / MOTIONS, RigidMotion), _entries(folder / PAIRED, LesionChange))


def _entries(path: Path, kind: type[T]) -> dict[str, T]:
    """By checksum; none where they cannot be read, or are of another version."""
    try:
        return {key: from_plain(kind, entry) for key, entry in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_course(found: Followed, folder: Path) -> Course:
    """Every table and JSON file; returns what :data:`~brats_seg.core.course.COURSE_FILE` holds.

    Raises:
        OutputError: if one cannot be written.
    """
    course = course_of(found)
    tables = ((VOLUMES, CourseVolume, course.volumes), (LESIONS, CourseLesion, course.lesions),
              (CHANGES, CourseChange, course.changes))  # fmt: skip
    for name, kind, rows in tables:
        write_text(folder / name, csv_text([entry.name for entry in dataclasses.fields(kind)], map(vars, rows)))
    write_text(folder / RESPONSES, csv_text(RESPONSE_COLUMNS, map(vars, course.responses)))
    write_text(folder / MEASUREMENTS, csv_text(MEASUREMENT_TABLE.known, measurement_records(found.history)))
    labels = [visit.label for visit in found.visits]
    write_json({"patient": course.patient, "growth": [g.to_dict(labels) for g in found.growth]}, folder / GROWTH)
    moved = {
        motion_key(found.visits[0], visit): {"visit": visit.label, "to": found.visits[0].label, **plain(motion)}
        for visit, motion in zip(found.visits[1:], found.motions[1:], strict=True)
        if visit.sequences
    }
    write_json(moved, folder / MOTIONS)
    write_json({entry.key: entry.change for entry in found.paired.values()}, folder / PAIRED)
    write_json(course.to_dict(), folder / COURSE_FILE)
    return course


def _inputs(patient: Patient, events: Sequence[ClinicalEvent]) -> dict[str, str]:
    """Checksum of each visit with its day, and of the clinical events."""
    found = {visit.label: _checksum([_hashes(visit), str(visit.day)]) for visit in patient.visits}
    told = [[str(value) for value in dataclasses.astuple(event)] for event in events]
    return {**found, EVENTS: _checksum(told)} if events else found


def _hashes(visit: Timepoint) -> object:
    """Checksums of a visit's files; one that cannot be read is stopped later, with its reason."""
    try:
        scans = input_hashes(visit)
        return scans if visit.brain is None else {**scans, "brain": file_sha256(visit.brain)}
    except InputError as error:
        return str(error)


def _checksum(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _record(
    course: Followed, told: Course, settings: Mapping[str, Any], inputs: Mapping[str, str], model: Mapping[str, Any]
) -> RunRecord:
    decided = [f"{visit.label}: {visit.how}" for visit in course.visits]
    decided += [f"{visit_named(course.visits[0].label)} is the space lesions are matched in"]
    decided += [f"diameters are {course.plane} at every visit"]
    decided += [f"disease {course.assessment.disease} ({course.assessment.disease_reason})"]
    if course.patient.dating is Calendar.DAYS:
        decided.append("day offsets are written as dates from 1900-01-01 on, which stands for day 0")
    warned = [
        *told.warnings,
        *told.visit_warnings,
        *(f"{visit_named(entry.visit)} was left out: {entry.reason}" for entry in course.excluded),
    ]
    grids = {visit.label: visit.segmentation.labels.grid.describe() for visit in course.visits}
    return RunRecord(
        study_id=course.patient.id,
        versions=versions(),
        model=model,
        inputs={
            name: {"sha256": sha256, **({"grid": grids[name]} if name in grids else {})}
            for name, sha256 in inputs.items()
        },
        settings=settings,
        timings_s=course.timings_s,
        peak_memory_mib=peak_memory_mib(),
        decisions=(*course.patient.notes, *decided),
        warnings=tuple(warned),
    )
