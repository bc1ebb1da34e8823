"""Many patients: in this process, in several, or on a Dask cluster; a damaged one never stops the others.

A task is a visit (its segmentation) or a patient (everything after). Tasks leave their results in the output folder,
whole or not at all, and find what is there already, so that one that was killed is simply run again.
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brats_seg.core.errors import UNFORESEEN, BratsSegError, DeviceError, InputError, OutputError, explained
from brats_seg.core.study import Timepoint
from brats_seg.core.tables import TableRow, rows_of
from brats_seg.files.output import ExistsPolicy
from brats_seg.files.visits import Dating, Patient
from brats_seg.models.card import find_model
from brats_seg.response.history import Calendar, ClinicalEvent
from brats_seg.response.tables import MEASUREMENT_COLUMNS, MEASUREMENT_TABLE, dated, histories
from brats_seg.run.segment import open_predictor
from brats_seg.run.track import FollowOptions
from brats_seg.run.visits import Model, load_visit
from brats_seg.run.workers import Task, Workers, open_workers, run_tasks
from brats_seg.run.write import check_room, follow_patient
from brats_seg.segment.predict import Predictor

Tick = Callable[[str], None]


@dataclass(frozen=True)
class PatientJob:
    """One patient to be followed.

    Attributes:
        files: its visits.
        events: its clinical events.
    """

    files: Patient
    events: tuple[ClinicalEvent, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a patient.

    Attributes:
        patient: name.
        error: what went wrong; empty if it was followed.
        exit_code: of the error.
        kept: whether an earlier result stands.
        stopped: visits left out, and why.
        summary: content of ``course.json``; None with an error.
    """

    patient: str
    error: str = ""
    exit_code: int = 0
    kept: bool = False
    stopped: tuple[tuple[str, str], ...] = ()
    summary: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CohortRun:
    """What is the same for every patient of a run.

    Attributes:
        output: folder of the run.
        options: how.
        exists: what to do where results of a patient exist.
        resume: let earlier results stand where nothing changed.
        token: of this run; a patient that is started again although it was finished in this run is not done twice.
    """

    output: Path
    options: FollowOptions
    exists: ExistsPolicy = "refuse"
    resume: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(8))


def split_rows(clinical: Sequence[TableRow], patients: Sequence[str]) -> tuple[list[TableRow], list[TableRow]]:
    """Rows of these patients, and rows of others, as a table of a whole cohort has them.

    Raises:
        InputError: if no row is of these patients, or a name is one of theirs but for its spelling.
    """
    keys = {_spelt(patient): patient for patient in patients}
    own = [row for row in clinical if row.cells["patient"] in patients]
    others = [row for row in clinical if row.cells["patient"] not in patients]
    for row in others:
        name = row.cells["patient"]
        alike = keys.get(_spelt(name))
        if alike is not None:
            raise row.fail(f"patient {name!r} is called {alike!r} among the scans. Spell both alike.")
        if not own:
            raise row.fail(
                f"the clinical table names patient {name!r} and none of those who are here "
                f"({', '.join(patients[:4])}). Correct the names."
            )
    return own, others


def _spelt(name: str) -> str:
    """A name without what is mistyped most: case, separators, and zeros before numbers."""
    return re.sub(r"\d+", lambda number: str(int(number.group())), re.sub(r"[\W_]+", "", name.lower()))


def jobs_of(
    patients: Sequence[Patient],
    clinical: Sequence[TableRow],
    *,
    on_error: Callable[[str, InputError], None] | None = None,
) -> tuple[PatientJob, ...]:
    """Patients with their clinical events, checked against the dates of their visits.

    Args:
        patients: all of the run.
        clinical: rows of the clinical table; of patients whose visits have day offsets, ``date`` is such an offset too.
        on_error: called with a patient whose rows cannot be used, who is left out; None raises instead.

    Raises:
        InputError: naming the line of a row that fits no patient, or, without ``on_error``, no visit.
    """
    known = {patient.id for patient in patients}
    for row in clinical:
        if row.cells["patient"] not in known:
            raise row.fail(
                f"the clinical table names patient {row.cells['patient']!r}, who is not among the patients. Correct "
                "the name, or remove the row."
            )
    jobs = []
    for patient in patients:
        try:
            rows = [row for row in clinical if row.cells["patient"] == patient.id]
            jobs.append(PatientJob(patient, _events(patient, rows) if rows else ()))
        except InputError as error:
            if on_error is None:
                raise
            on_error(patient.id, error)
    return tuple(jobs)


def _events(patient: Patient, clinical: Sequence[TableRow]) -> tuple[ClinicalEvent, ...]:
    """Events of one patient from the rows about it."""
    calendar = Calendar.DAYS if patient.dating is Dating.DAYS else Calendar.DATES
    records = [
        {
            **dict.fromkeys(MEASUREMENT_COLUMNS),
            "patient": patient.id,
            "visit": visit.label,
            **(dated(visit.day, calendar) if visit.day is not None else {}),
        }
        for visit in patient.visits
    ]
    (history,) = histories(rows_of(records, MEASUREMENT_TABLE, name="visits").rows, clinical)
    return history.events


def follow_all(
    jobs: Sequence[PatientJob],
    run: CohortRun,
    *,
    processes: int = 1,
    cluster: str | None = None,
    tick: Tick | None = None,
) -> Iterator[Outcome]:
    """Follow every patient; outcomes come as they are finished.

    Args:
        jobs: patients.
        run: what is the same for all.
        processes: how many work at once on this computer.
        cluster: address of a Dask scheduler; None stays on this computer.
        tick: called with a name before each step (in this process) or after each task.

    Raises:
        ModelError: if the model is missing or damaged.
        InputError: if the cluster cannot be reached.
        DeviceError: if the cluster is lost on the way; what is finished stays.
    """
    model = _model(run.options)
    if cluster is None and processes == 1:
        for job in jobs:
            yield _follow_one(job, run, model, tick)
        return
    with open_workers(processes, cluster) as workers:
        yield from _in_tasks(jobs, run, workers, tick)


def _model(options: FollowOptions) -> Model:
    def opened() -> Predictor:
        return open_predictor(options.segment)

    return Model(find_model(options.segment.model), opened)


def _follow_one(job: PatientJob, run: CohortRun, model: Model, tick: Tick | None = None) -> Outcome:
    name = job.files.id
    try:
        found = follow_patient(
            job.files,
            run.output,
            options=run.options,
            model=model,
            events=job.events,
            exists=run.exists,
            resume=run.resume,
            token=run.token,
            tick=None if tick is None else lambda step: tick(f"{name}: {step}"),
        )
    except (BratsSegError, *UNFORESEEN) as error:
        told = explained(error)
        return Outcome(name, str(told), told.exit_code)
    stopped = tuple((entry["visit"], entry["reason"]) for entry in found.summary["stopped"])
    return Outcome(name, kept=found.kept, stopped=stopped, summary=found.summary)


_models: dict[str, Model] = {}
"""In a process of the pool or cluster: opened once, kept for its further tasks."""


def _shared_model(options: FollowOptions) -> Model:
    key = str(sorted(options.segment.to_dict().items())) + options.segment.model
    if key not in _models:
        _models[key] = _model(options)
    return _models[key]


def patient_task(job: PatientJob, run: CohortRun) -> Outcome:
    """One patient, in a process of its own."""
    return _follow_one(job, run, _shared_model(run.options))


def visit_task(visit: Timepoint, run: CohortRun) -> str:
    """The segmentation of one visit, in a process of its own; what goes wrong is said again by its patient's task."""
    try:
        load_visit(
            visit,
            run.output,
            options=run.options.segment,
            schema=run.options.schema,
            model=_shared_model(run.options),
        )
    except (BratsSegError, *UNFORESEEN) as error:
        return str(explained(error))
    return ""


def _in_tasks(jobs: Sequence[PatientJob], run: CohortRun, workers: Workers, tick: Tick | None) -> Iterator[Outcome]:
    """Visits first; a patient as soon as its last visit is there. One whose process is killed is given up alone."""
    by_name = {job.files.id: job for job in jobs}
    left: dict[str, int] = {}
    todo: deque[Task] = deque()
    for job in jobs:
        if refused := _refused(job, run):
            yield refused
            continue
        visits = [visit for visit in job.files.visits if visit.mask is None]
        left[job.files.id] = len(visits)
        todo.extend(Task(job.files.id, visit.label, visit_task, (visit, run)) for visit in visits)
        if not visits:
            todo.append(_last_task(job, run))
    given_up: set[str] = set()
    for done in run_tasks(todo, workers):
        name = done.task.patient
        if name in given_up:
            continue
        if done.lost:
            given_up.add(name)
            for task in [task for task in todo if task.patient == name]:
                todo.remove(task)
            yield _killed(done.task)
        elif not done.task.visit:
            yield done.result
        else:
            if tick is not None:
                tick(f"{name}: visit {done.task.visit}")
            left[name] -= 1
            if left[name] == 0:
                todo.appendleft(_last_task(by_name[name], run))


def _last_task(job: PatientJob, run: CohortRun) -> Task:
    return Task(job.files.id, "", patient_task, (job, run))


def _refused(job: PatientJob, run: CohortRun) -> Outcome | None:
    """Results that may not be replaced are found before hours of work, not after."""
    try:
        check_room(run.output / job.files.id, exists=run.exists, resume=run.resume)
    except OutputError as error:
        return Outcome(job.files.id, str(error), error.exit_code)
    return None


def _killed(task: Task) -> Outcome:
    what = f"visit {task.visit}" if task.visit else "the last step"
    words = f"{what}: its process was killed again and again, most likely for want of memory"
    return Outcome(task.patient, f"{words}. Give it more (fewer --jobs), and pass --resume.", DeviceError.exit_code)
