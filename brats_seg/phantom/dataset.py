"""A data set of phantom patients: which, where each visit lies, and writing it in BIDS names, resumable.

Every number of chance belongs to a patient and a visit by name, never to an order of work, so that the same seed gives
the same files whatever the number of processes, and a longer data set begins with the shorter one.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import brats_seg
from brats_seg.core.errors import OutputError, UsageError
from brats_seg.core.grid import Grid
from brats_seg.core.plain import plain
from brats_seg.core.study import MRSequence
from brats_seg.core.words import Tick
from brats_seg.files.output import explain, read_run, refuse_filled
from brats_seg.files.tables import write_json
from brats_seg.phantom.acquire import AcquisitionConfig
from brats_seg.phantom.course import grow_course, make_visit
from brats_seg.phantom.defects import DefectKind
from brats_seg.phantom.files import (
    VisitPlace,
    visit_is_whole,
    write_patient_files,
    write_top_files,
    write_visit,
)
from brats_seg.phantom.grids import BRAIN_REACH_MM, HEAD_REACH_MM, native_grids
from brats_seg.phantom.make import BRATS_CENTRE_MM, BRATS_GRID, PhantomConfig
from brats_seg.phantom.script import Course, PatientKind, draw_course
from brats_seg.phantom.skull import draw_skull
from brats_seg.phantom.truth import VisitTruth
from brats_seg.run.workers import interrupts_blocked

SETTINGS_FILE = "phantoms.json"
MAX_PATIENTS = 9999
MAX_VISITS = 99
RANDOM_SHARE = 0.5
"""Share of visits that get a defect with ``--defects random``."""


def _head_grid() -> Grid:
    """The BraTS grid with room for scalp and neck above and below."""
    affine = np.array(BRATS_GRID.affine)
    affine[2, 3] -= 24.0
    return Grid((240, 240, 200), affine)


@dataclass(frozen=True)
class DatasetOptions:
    """What is written.

    Attributes:
        seed: another data set for each.
        kind: see :class:`~brats_seg.phantom.course.PatientKind`.
        space: ``atlas`` for the grid of BraTS before 2024, all sequences on it; ``native`` for a grid of its own,
            tilted and mostly of thick slices, for each sequence.
        skull: with scalp, fat, skull and eyes.
        at_dura: the cores of all lesions reach the surface of the brain, and with a skull its bone.
        defects: dealt out to the visits in turn; see :mod:`brats_seg.phantom.defects`.
        defects_at_random: half of the visits get one of ``defects`` by chance, instead of each in turn.

    Raises:
        UsageError: if a number is out of range.
    """

    patients: int = 20
    visits: int = 4
    seed: int = 1
    kind: PatientKind = PatientKind.GLIOMA
    space: Literal["atlas", "native"] = "atlas"
    skull: bool = False
    at_dura: bool = False
    defects: tuple[DefectKind, ...] = ()
    defects_at_random: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.patients <= MAX_PATIENTS:
            raise UsageError(f"--patients {self.patients} lies outside 1..{MAX_PATIENTS}")
        if not 1 <= self.visits <= MAX_VISITS:
            raise UsageError(f"--visits {self.visits} lies outside 1..{MAX_VISITS}")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed} is negative; any whole number from 0 on will do")

    def settings(self) -> dict[str, Any]:
        """What has to agree for a data set to be resumed: all but the number of patients."""
        return {name: value for name, value in plain(self).items() if name != "patients"}

    def rng(self, patient: int, *key: int) -> np.random.Generator:
        """Chance that belongs to a patient (from 1), and to whatever the further numbers mean."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(patient, *key)))


_COURSE, _PLACE, _DEFECT, _SKULL = range(4)
"""What the second number of a key of chance means."""


@dataclass(frozen=True)
class DatasetSummary:
    """What was done.

    Attributes:
        written: visits that were made.
        kept: visits that were whole before.
    """

    folder: Path
    written: int
    kept: int
    page: Path


def patient_name(number: int) -> str:
    """BIDS label of a patient, from 1."""
    return f"sub-{number:03d}"


def draw_patient(options: DatasetOptions, number: int) -> Course:
    """The course of one patient; cheap."""
    seed = int(options.rng(number, _COURSE).integers(2**62))
    name = patient_name(number)
    return draw_course(seed, options.kind, visits=options.visits, patient_id=name, at_dura=options.at_dura)


def visit_config(options: DatasetOptions, number: int, index: int) -> PhantomConfig:
    """Grids and scanner of one visit."""
    if options.space == "atlas":
        return PhantomConfig(grid=_head_grid() if options.skull else BRATS_GRID, brain_centre_mm=BRATS_CENTRE_MM)
    reach = HEAD_REACH_MM if options.skull else BRAIN_REACH_MM
    grids = native_grids(np.zeros(3), reach, options.rng(number, _PLACE, index))
    return PhantomConfig(
        grid=grids[MRSequence.T1CE],
        sequence_grids=grids,
        brain_centre_mm=(0.0, 0.0, 0.0),
        acquisition=AcquisitionConfig(movement_mm=0.7, movement_deg=0.7),
    )


def defect_of(options: DatasetOptions, number: int, index: int) -> DefectKind | None:
    """Which defect a visit gets."""
    if not options.defects:
        return None
    if not options.defects_at_random:
        return options.defects[((number - 1) * options.visits + index) % len(options.defects)]
    rng = options.rng(number, _DEFECT, index, 0)
    return options.defects[int(rng.integers(len(options.defects)))] if rng.random() < RANDOM_SHARE else None


def write_dataset(
    options: DatasetOptions, output: Path, *, jobs: int = 1, resume: bool = False, tick: Tick | None = None
) -> DatasetSummary:
    """Write a data set; every visit whole or not at all.

    Args:
        output: folder of the data set.
        resume: go on with a data set of the same settings in ``output``, keeping the visits that are whole.
        tick: called with a visit's name before it is made (with one process) or when it is there (with several).

    Raises:
        UsageError: if ``jobs`` is not positive.
        OutputError: if ``output`` holds something else, or cannot be written.
        InputError: if the lesions of a patient fit nowhere.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs} is none; 1 or more processes can work")
    output = output.resolve()
    _open(options, output, resume=resume)
    numbers = range(1, options.patients + 1)
    done: dict[int, PatientDone] = {}
    if jobs == 1 or options.patients == 1:
        for number in numbers:
            done[number] = write_course(draw_patient(options, number), options, number, output, tick=tick)
    else:
        for patient in _in_processes(options, output, jobs):
            done[patient.number] = patient
            if tick is not None:
                for name in patient.visits:
                    tick(name)
    if tick is not None:
        tick("drawing the page")
    page = write_top_files(output, options.settings())
    written = sum(patient.written for patient in done.values())
    return DatasetSummary(output, written, sum(len(p.visits) for p in done.values()) - written, page)


def _open(options: DatasetOptions, output: Path, *, resume: bool) -> None:
    """Make the folder, or see that it may be gone on with."""
    settings = {**options.settings(), "brats_seg": brats_seg.__version__}
    path = output / SETTINGS_FILE
    try:
        output.mkdir(parents=True, exist_ok=True)
        is_empty = all(entry.name.startswith(".") for entry in output.iterdir())
    except OSError as error:
        raise explain(error, f"the output folder {output}") from error
    if is_empty:
        write_json({"settings": settings}, path)
        return
    if not resume:
        refuse_filled(output)
    before = (read_run(output, SETTINGS_FILE) or {}).get("settings")
    if not isinstance(before, dict):
        raise OutputError(f"{output} holds no phantoms of this program ({SETTINGS_FILE}). Choose another -o.")
    changed = sorted(key for key in settings if before.get(key) != settings[key])
    if changed:
        words = ", ".join(f"{key} {before.get(key)!r} and not {settings[key]!r}" for key in changed)
        raise OutputError(f"the phantoms in {output} were made with {words}. Pass the same options, or another -o.")


@dataclass(frozen=True)
class PatientDone:
    """A patient that is there.

    Attributes:
        number: from 1.
        written: how many of them were made now.
    """

    number: int
    visits: tuple[str, ...]
    written: int


def write_course(
    course: Course,
    options: DatasetOptions,
    number: int,
    output: Path,
    *,
    tick: Tick | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> PatientDone:
    """Scan and write every visit of a course that is not there yet.

    Args:
        course: what happens; its ``patient_id`` names the folder.
        options: grids, skull and defects.
        number: of the patient, for the chance of all these.
        output: folder of the data set.
        tick: called with a visit's name before it is made.
        stopped: asked before every visit whether to end.

    Raises:
        OutputError: if something cannot be written.
        InputError: if the lesions fit nowhere.
        KeyboardInterrupt: if ``stopped`` says so.
    """
    folder = output / course.patient_id
    places = [VisitPlace(folder, course.patient_id, visit.label) for visit in course.visits]
    todo = {place for place in places if not visit_is_whole(place)}
    grown = grow_course(course, visit_config(options, number, 0)) if todo else None
    truths: dict[int, VisitTruth] = {}
    for index, place in enumerate(places):
        if stopped():
            raise KeyboardInterrupt
        if tick is not None:
            tick(place.study_id)
        if place not in todo:
            continue
        visit = make_visit(course, index, visit_config(options, number, index), grown=grown, study_id=place.study_id)
        truths[index] = visit.truth
        write_visit(
            place,
            visit,
            kind=course.kind,
            settings=options.settings(),
            skull=draw_skull(options.rng(number, _SKULL)) if options.skull else None,
            defect_kind=defect_of(options, number, index),
            skull_rng=options.rng(number, _SKULL, index),
            defect_rng=options.rng(number, _DEFECT, index, 1),
        )
    write_patient_files(folder, course, places)
    return PatientDone(number, tuple(place.study_id for place in places), len(truths))


_stop: Any = None
"""In a process of the pool: set when all should end."""


def _join_pool(stop: Any) -> None:
    """The parent says when to stop; a request to end that goes to every process is left to it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    global _stop  # noqa: PLW0603 - the only way a pool hands an event to its processes
    _stop = stop


def _pool_patient(options: DatasetOptions, number: int, output: Path) -> PatientDone | None:
    """One patient in a process of the pool; None where it was told to stop."""
    try:
        return write_course(draw_patient(options, number), options, number, output, stopped=_stop.is_set)
    except KeyboardInterrupt:
        return None


def _in_processes(options: DatasetOptions, output: Path, jobs: int) -> Iterator[PatientDone]:
    """Patients as they are finished. Stopped early, it lets every process finish its visit and no more."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    numbers = iter(range(1, options.patients + 1))
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_join_pool, initargs=(stop,)) as pool:
        waiting: set[Future[PatientDone | None]] = set()
        try:
            while True:
                for number in numbers:
                    with interrupts_blocked():
                        waiting.add(pool.submit(_pool_patient, options, number, output))
                    if len(waiting) >= 2 * jobs:
                        break
                if not waiting:
                    return
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    patient = future.result()
                    if patient is None:
                        raise KeyboardInterrupt
                    yield patient
        finally:
            stop.set()
            for future in waiting:
                future.cancel()
