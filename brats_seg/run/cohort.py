"""Many patients: in this process, in several, or on a Dask cluster; a damaged one never stops the others.

A task is a visit (its segmentation) or a patient (everything after). Tasks leave their results in the output folder,
whole or not at all, and find what is there already, so that one that was killed is simply run again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Sequence
from functools import cache
from pathlib import Path

from brats_seg.core.course import COURSE_FILE, Course
from brats_seg.core.errors import UNFORESEEN, BratsSegError, DeviceError, InputError, OutputError, explained
from brats_seg.core.study import Patient, Timepoint
from brats_seg.core.words import Tick
from brats_seg.response.history import ClinicalEvent
from brats_seg.run.options import SegmentOptions
from brats_seg.run.track import Outcome, TrackRun, track_patient
from brats_seg.run.visits import Model, load_visit
from brats_seg.run.workers import Task, Workers, open_workers, run_tasks

Job = tuple[Patient, tuple[ClinicalEvent, ...]]
"""A patient to be followed, and its clinical events."""


def follow_all(
    jobs: Sequence[Job],
    run: TrackRun,
    *,
    processes: int = 1,
    cluster: str | None = None,
    tick: Tick | None = None,
) -> Iterator[Outcome]:
    """Follow every patient; outcomes come as they are finished.

    Args:
        run: what is the same for all.
        processes: how many work at once on this computer.
        cluster: address of a Dask scheduler; None stays on this computer.
        tick: called with a name before each step (in this process) or after each task.

    Raises:
        ModelError: if the model is missing or damaged.
        UsageError: if it does not offer the response criteria that were asked for.
        InputError: if the cluster cannot be reached.
        DeviceError: if the cluster is lost on the way; what is finished stays.
    """
    model = Model.of(run.segment)
    run = run.by(model.bundle.card)
    if cluster is None and processes == 1:
        for job in jobs:
            yield _follow_one(job, run, model, tick)
        return
    with open_workers(processes, cluster) as workers:
        yield from _in_tasks(jobs, run, workers, tick)


def _follow_one(job: Job, run: TrackRun, model: Model, tick: Tick | None = None) -> Outcome:
    patient, events = job
    told = None if tick is None else lambda step: tick(f"{patient.id}: {step}")
    try:
        return track_patient(patient, run, model=model, events=events, tick=told)
    except (BratsSegError, *UNFORESEEN) as error:
        return Outcome(patient.id, error=explained(error))


@cache
def _shared_model(options: SegmentOptions) -> Model:
    """In a process of the pool or cluster: opened once, kept for its further tasks."""
    return Model.of(options)


def patient_task(job: Job, run: TrackRun) -> Outcome:
    """One patient, in a process of its own."""
    return _follow_one(job, run, _shared_model(run.segment))


def visit_task(visit: Timepoint, run: TrackRun) -> str:
    """The segmentation of one visit, in a process of its own; what goes wrong is said again by its patient's task."""
    try:
        model = _shared_model(run.segment)
        load_visit(visit, run.output, options=run.segment, schema=run.schema, model=model)
    except (BratsSegError, *UNFORESEEN) as error:
        return str(explained(error))
    return ""


def _in_tasks(jobs: Sequence[Job], run: TrackRun, workers: Workers, tick: Tick | None) -> Iterator[Outcome]:
    """Visits first; a patient as soon as its last visit is there. One whose process is killed is given up alone."""
    by_name = {job[0].id: job for job in jobs}
    left: dict[str, int] = {}
    todo: deque[Task] = deque()
    for job in jobs:
        patient, _ = job
        if refused := _refused(patient, run):
            yield refused
            continue
        visits = [visit for visit in patient.visits if visit.mask is None]
        left[patient.id] = len(visits)
        todo.extend(Task(patient.id, visit.label, visit_task, (visit, run)) for visit in visits)
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


def _last_task(job: Job, run: TrackRun) -> Task:
    return Task(job[0].id, "", patient_task, (job, run))


def _refused(patient: Patient, run: TrackRun) -> Outcome | None:
    """Results that may not be replaced are found before hours of work, not after."""
    try:
        run.folder_of(patient).check()
    except OutputError as error:
        return Outcome(patient.id, error=error)
    return None


def _killed(task: Task) -> Outcome:
    what = f"visit {task.visit}" if task.visit else "the last step"
    words = f"{what}: its process was killed again and again, most likely for want of memory"
    advice = "Give it more (fewer --jobs), and pass --resume."
    return Outcome(task.patient, error=DeviceError(f"{words}. {advice}"))


def courses_in(output: Path, besides: Container[str]) -> tuple[list[Course], list[tuple[str, BratsSegError]]]:
    """Every course that lies in a folder of results from earlier runs, and those that cannot be read, with the reason.

    Args:
        besides: patients that are known already.
    """
    found: list[Course] = []
    wrong: list[tuple[str, BratsSegError]] = []
    for path in sorted(output.glob(f"[!.]*/{COURSE_FILE}")):
        if path.parent.name not in besides:
            try:
                found.append(Course.load(path.parent))
            except InputError as error:
                wrong.append((path.parent.name, error))
    return found, wrong
