"""Many patients: in this process, in several, or on a Dask cluster; a damaged one never stops the others.

A task is a visit (its segmentation) or a patient (everything after). Tasks leave their results in the output folder,
whole or not at all, and find what is there already, so that one that was killed is simply run again.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from brats_seg.core.errors import BratsSegError, DeviceError, InputError, OutputError
from brats_seg.inference.predict import Predictor
from brats_seg.io.output import ExistsPolicy
from brats_seg.io.visits import PatientFiles, VisitFiles
from brats_seg.longitudinal.history import ClinicalEvent
from brats_seg.longitudinal.tables import MEASUREMENT_COLUMNS, TableRow, histories, rows_of
from brats_seg.models.bundle import find_model
from brats_seg.pipeline.follow import FollowOptions
from brats_seg.pipeline.follow_files import follow_patient
from brats_seg.pipeline.follow_visits import Model, load_visit
from brats_seg.pipeline.studies import open_predictor

Tick = Callable[[str], None]


@dataclass(frozen=True)
class PatientJob:
    """One patient to be followed.

    Attributes:
        files: its visits.
        events: its clinical events.
    """

    files: PatientFiles
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
    """

    output: Path
    options: FollowOptions
    exists: ExistsPolicy = "refuse"
    resume: bool = False


class Workers(Protocol):
    """What processes and clusters have in common."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Start a task; returns a future."""

    def finished(self, futures: Sequence[Any]) -> Sequence[Any]:
        """Wait until some are done, and say which."""

    @property
    def losses(self) -> tuple[type[BaseException], ...]:
        """Errors that mean that the one task was killed again and again, and the others may go on."""
        ...


def jobs_of(patients: Sequence[PatientFiles], clinical: Sequence[TableRow]) -> tuple[PatientJob, ...]:
    """Patients with their clinical events, checked against the dates of their visits.

    Args:
        patients: all of the run.
        clinical: rows of the clinical table about any of them.

    Raises:
        InputError: naming the line of a row that fits no patient or no visit.
    """
    if not clinical:
        return tuple(PatientJob(patient) for patient in patients)
    undated = {patient.id for patient in patients if any(visit.day is None for visit in patient.visits)}
    for row in clinical:
        if row.cells["patient"] in undated:
            raise row.fail(
                f"patient {row.cells['patient']} has visits without dates, so that a clinical date says nothing. Give "
                "the visits their dates (visits.csv or sessions.tsv)."
            )
    records = [
        {
            **dict.fromkeys(MEASUREMENT_COLUMNS),
            "patient": patient.id,
            "visit": visit.label,
            "date": visit.day,
        }
        for patient in patients
        if patient.id not in undated
        for visit in patient.visits
    ]
    rows = rows_of(records, MEASUREMENT_COLUMNS, name="visits") if records else []
    events = {history.patient: history.events for history in histories(rows, clinical)}
    return tuple(PatientJob(patient, events.get(patient.id, ())) for patient in patients)


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
    """
    find_model(run.options.segment.model)
    if cluster is None and processes == 1:
        model = _model(run.options)
        for job in jobs:
            yield _follow_one(job, run, model, tick)
        return
    with _workers(processes, cluster) as workers:
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
            tick=None if tick is None else lambda step: tick(f"{name}: {step}"),
        )
    except (InputError, OutputError, DeviceError) as error:
        return Outcome(name, str(error), error.exit_code)
    stopped = tuple((entry.visit, entry.reason) for entry in found.stopped)
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


def visit_task(visit: VisitFiles, run: CohortRun) -> str:
    """The segmentation of one visit, in a process of its own; what goes wrong is said again by its patient's task."""
    try:
        load_visit(
            visit,
            run.output,
            options=run.options.segment,
            schema=run.options.schema,
            model=_shared_model(run.options),
        )
    except BratsSegError as error:
        return str(error)
    return ""


def _in_tasks(jobs: Sequence[PatientJob], run: CohortRun, workers: Workers, tick: Tick | None) -> Iterator[Outcome]:
    """Visits first; a patient as soon as its last visit is there."""
    waiting: dict[Any, tuple[str, PatientJob]] = {}
    left: dict[str, int] = {}
    for job in jobs:
        visits = [visit for visit in job.files.visits if visit.mask is None]
        left[job.files.id] = len(visits)
        for visit in visits:
            waiting[workers.submit(visit_task, visit, run)] = (visit.label, job)
        if not visits:
            waiting[workers.submit(patient_task, job, run)] = ("", job)
    while waiting:
        for future in workers.finished(list(waiting)):
            label, job = waiting.pop(future)
            result = _result_of(future, job, workers)
            if not label:
                yield result
                continue
            if tick is not None:
                tick(f"{job.files.id}: visit {label}")
            left[job.files.id] -= 1
            if left[job.files.id] == 0:
                waiting[workers.submit(patient_task, job, run)] = ("", job)


def _result_of(future: Any, job: PatientJob, workers: Workers) -> Outcome:
    try:
        result: Outcome = future.result()
    except BrokenProcessPool as error:
        raise DeviceError(
            "a worker process was killed, most likely for want of memory. Pass fewer --jobs, and --resume."
        ) from error
    except workers.losses:
        words = "its worker was killed again and again, most likely for want of memory"
        return Outcome(job.files.id, f"{words}. Give workers more, and pass --resume.", DeviceError.exit_code)
    return result


@dataclass(frozen=True)
class _Processes:
    """Processes of this computer."""

    pool: ProcessPoolExecutor

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.pool.submit(function, *arguments)

    def finished(self, futures: Sequence[Any]) -> Sequence[Any]:
        return list(wait(futures, return_when=FIRST_COMPLETED).done)

    @property
    def losses(self) -> tuple[type[BaseException], ...]:
        return ()


@dataclass(frozen=True)
class _Cluster:
    """Workers of a Dask scheduler; a task whose worker dies is started again elsewhere."""

    client: Any

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        # Not pure: what a task does lies in files, so that it may not be skipped for its arguments alone.
        return self.client.submit(function, *arguments, pure=False)

    def finished(self, futures: Sequence[Any]) -> Sequence[Any]:
        from distributed import wait as wait_on_cluster  # noqa: PLC0415 - an extra

        return list(wait_on_cluster(list(futures), return_when="FIRST_COMPLETED").done)

    @property
    def losses(self) -> tuple[type[BaseException], ...]:
        from distributed import KilledWorker  # noqa: PLC0415 - an extra

        return (KilledWorker,)


@contextmanager
def _workers(processes: int, cluster: str | None) -> Iterator[Workers]:
    if cluster is not None:
        with _client(cluster) as client:
            yield _Cluster(client)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_limit_threads, initargs=(processes,)) as pool:
        try:
            yield _Processes(pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        from distributed import Client  # noqa: PLC0415 - an extra
    except ImportError:
        raise InputError(
            "--cluster needs Dask, which is not installed. Install it with: pip install 'brats_seg[cluster]'"
        ) from None
    try:
        client = Client(address, timeout=20)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(f"the cluster {address} cannot be reached: {error}. Is its scheduler running?") from error
    with client:
        yield client


def _limit_threads(processes: int) -> None:
    """Each process of the pool gets its share of the cores."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(max(1, (multiprocessing.cpu_count() or 1) // processes))
