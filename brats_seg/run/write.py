"""Following a patient into a folder: tables, JSON, the timeline page, the record of the run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brats_seg
from brats_seg.core.errors import InputError
from brats_seg.core.study import Timepoint
from brats_seg.core.visit import RunRecord
from brats_seg.files.output import ExistsPolicy, OutputFolder, file_hashes, finished, read_run, write_text
from brats_seg.files.visits import Dating, Patient
from brats_seg.files.write import write_json, write_run
from brats_seg.models.record import code_fingerprint, model_summary, peak_memory_mib, versions
from brats_seg.response.history import ClinicalEvent
from brats_seg.response.response_tables import RESPONSE_COLUMNS
from brats_seg.response.tables import MEASUREMENT_TABLE, measurement_records
from brats_seg.run.resume import ALIGNMENTS, PAIRED, change_to_dict
from brats_seg.run.tables import (
    CHANGE_COLUMNS,
    LESION_COLUMNS,
    VOLUME_COLUMNS,
    change_rows,
    course_summary,
    csv_text,
    lesion_rows,
    response_rows,
    volume_rows,
)
from brats_seg.run.track import Course, FollowOptions, Tick, alignment_table, follow
from brats_seg.run.visits import SEGMENTATIONS, Model, visit_key

COURSE_FILE = "course.json"
"""Everything as JSON; the cohort page is made of these."""
RESPONSES, MEASUREMENTS, LESIONS, VOLUMES, CHANGES = (
    f"{name}.csv" for name in ("responses", "measurements", "lesions", "volumes", "change")
)
GROWTH = "growth.json"


@dataclass(frozen=True)
class Followed:
    """What became of a patient.

    Attributes:
        patient: name.
        folder: of the results.
        kept: whether an earlier result stands.
        summary: the content of :data:`COURSE_FILE`.
    """

    patient: str
    folder: Path
    kept: bool
    summary: Mapping[str, Any]


def follow_patient(
    patient: Patient,
    output: Path,
    *,
    options: FollowOptions,
    model: Model,
    events: Sequence[ClinicalEvent] = (),
    exists: ExistsPolicy = "refuse",
    resume: bool = False,
    token: str = "",
    tick: Tick | None = None,
) -> Followed:
    """Follow one patient and write ``output/<patient>`` whole or not at all.

    Args:
        patient: visits and their files.
        output: folder of the run.
        options: how.
        model: what segments.
        events: clinical events of this patient.
        exists: what to do where results of the patient exist.
        resume: let an earlier result stand if nothing changed, else replace it, reusing what is still true of it.
        token: of the run; a result that the same run wrote (a task started twice) stands. Empty for none.
        tick: called with the name of each step before it runs.

    Raises:
        BratsSegError: if no visit can be used, or nothing can be written.
    """
    if patient.id == SEGMENTATIONS:
        raise InputError(
            f"a patient cannot be called {SEGMENTATIONS}, as the folder of all segmentations is. Rename it."
        )
    final = output / patient.id
    key = _key(patient, options, model, events)
    before = (read_run(final) or {}).get("settings", {})
    same_run = bool(token) and before.get("run") == token
    if (resume or same_run) and before.get("key") == key and finished(final):
        summary = json.loads((final / COURSE_FILE).read_text(encoding="utf-8"))
        return Followed(patient.id, final, not same_run, summary)
    with _room(final, exists=exists, resume=resume) as folder:
        course = follow(patient, output, options=options, model=model, events=events, tick=tick)
        summary = write_course(course, folder.path)
        if options.report:
            if tick is not None:
                tick("report")
            from brats_seg.run.pictures import write_timeline  # noqa: PLC0415 - matplotlib

            write_timeline(course, summary, folder.path / f"{patient.id}_timeline.html")
        _write_record(course, {**options.to_dict(), "key": key, "run": token}, model, folder.path)
    return Followed(patient.id, final, False, summary)


def check_room(final: Path, *, exists: ExistsPolicy, resume: bool) -> None:
    """See whether results may be written to a folder, before anything is computed.

    Raises:
        OutputError: if they may not.
    """
    _room(final, exists=exists, resume=resume).check()


def _room(final: Path, *, exists: ExistsPolicy, resume: bool) -> OutputFolder:
    return OutputFolder(final, exists="overwrite" if resume else exists)


def write_course(course: Course, folder: Path) -> dict[str, Any]:
    """Every table and JSON file; returns the content of :data:`COURSE_FILE`.

    Raises:
        OutputError: if one cannot be written.
    """
    write_text(folder / RESPONSES, csv_text(RESPONSE_COLUMNS, response_rows(course)))
    write_text(folder / MEASUREMENTS, csv_text(MEASUREMENT_TABLE.known, measurement_records(course.history)))
    write_text(folder / LESIONS, csv_text(LESION_COLUMNS, lesion_rows(course)))
    write_text(folder / VOLUMES, csv_text(VOLUME_COLUMNS, volume_rows(course)))
    write_text(folder / CHANGES, csv_text(CHANGE_COLUMNS, change_rows(course)))
    labels = [visit.label for visit in course.visits]
    write_json({"patient": course.patient.id, "growth": [g.to_dict(labels) for g in course.growth]}, folder / GROWTH)
    write_json(alignment_table(course), folder / ALIGNMENTS)
    write_json({entry.key: change_to_dict(entry.change) for entry in course.paired.values()}, folder / PAIRED)
    summary = course_summary(course)
    write_json(summary, folder / COURSE_FILE)
    return summary


def _key(patient: Patient, options: FollowOptions, model: Model, events: Sequence[ClinicalEvent]) -> str:
    """Checksum of everything that decides the result."""
    content = {
        "patient": patient.id,
        "visits": [[visit.label, _readable_key(visit), str(visit.day)] for visit in patient.visits],
        "options": options.to_dict(),
        "model": model.bundle.sha256,
        "events": [[str(value) for value in dataclasses.astuple(event)] for event in events],
        "version": f"{brats_seg.__version__} {code_fingerprint()}",
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _readable_key(visit: Timepoint) -> str:
    """A visit's checksum; one that cannot be read is stopped later, with its reason."""
    try:
        return visit_key(visit)
    except InputError as error:
        return str(error)


def _write_record(course: Course, settings: Mapping[str, Any], model: Model, folder: Path) -> None:
    decided = [f"{visit.label}: {visit.how}" for visit in course.visits]
    decided += [f"visit {course.visits[0].label} is the space lesions are matched in"]
    decided += [f"diameters are {course.plane} at every visit"]
    decided += [f"disease {course.assessment.disease} ({course.assessment.disease_reason})"]
    if course.patient.dating is Dating.DAYS:
        decided.append("day offsets are written as dates from 1900-01-01 on, which stands for day 0")
    warned = [*course.warnings, *(f"visit {entry.visit} was left out: {entry.reason}" for entry in course.stopped)]
    record = RunRecord(
        study_id=course.patient.id,
        versions=versions(),
        model=model_summary(model.bundle) if any(visit.by_model for visit in course.visits) else {},
        inputs={visit.label: {"sha256": visit.key, "grid": visit.segmentation.labels.grid.describe()}
                for visit in course.visits},
        settings=settings,
        timings_s=course.timings_s,
        peak_memory_mib=peak_memory_mib(),
        decisions=(*course.patient.notes, *decided),
        warnings=tuple(warned),
        outputs=file_hashes(folder),
    )  # fmt: skip
    write_run(record, folder / "run.json")
