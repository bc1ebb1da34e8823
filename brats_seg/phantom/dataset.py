"""A data set of phantom patients: which, where each visit lies, and writing it in BIDS names, resumable.

Every number of chance belongs to a patient and a visit by name, never to an order of work, so that the same seed gives
the same files whatever the number of processes, and a longer data set begins with the shorter one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

import brats_seg
from brats_seg.core.errors import DeviceError, OutputError, UsageError
from brats_seg.core.grid import Grid
from brats_seg.core.plain import plain
from brats_seg.core.study import MRSequence
from brats_seg.core.words import Tick
from brats_seg.files.output import explain, read_run, refuse_filled
from brats_seg.files.tables import write_json
from brats_seg.phantom.acquire import AcquisitionConfig
from brats_seg.phantom.course import BRATS_CENTRE_MM, BRATS_GRID, PhantomConfig, grow_course, make_visit
from brats_seg.phantom.defects import DefectKind
from brats_seg.phantom.files import (
    VisitPlace,
    visit_is_whole,
    write_patient_files,
    write_top_files,
    write_visit,
)
from brats_seg.phantom.grids import BRAIN_REACH_MM, HEAD_REACH_MM, native_grids
from brats_seg.phantom.script import Course, PatientKind, draw_course
from brats_seg.phantom.skull import draw_skull
from brats_seg.phantom.truth import VisitTruth
from brats_seg.run.workers import Task, open_workers, run_tasks

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
        DeviceError: if the process that makes a patient is killed again and again.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs} is none; 1 or more processes can work")
    output = output.resolve()
    _open(options, output, resume=resume)
    work = [(draw_patient(options, number), options, number, output) for number in range(1, options.patients + 1)]
    done: list[PatientDone] = []
    if jobs == 1 or options.patients == 1:
        done += (write_course(*arguments, tick=tick) for arguments in work)
    else:
        for patient in _in_processes(work, jobs):
            done.append(patient)
            if tick is not None:
                for name in patient.visits:
                    tick(name)
    if tick is not None:
        tick("drawing the page")
    page = write_top_files(output, options.settings())
    written = sum(patient.written for patient in done)
    return DatasetSummary(output, written, sum(len(patient.visits) for patient in done) - written, page)


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
        written: how many of the visits were made now.
    """

    visits: tuple[str, ...]
    written: int


def write_course(
    course: Course,
    options: DatasetOptions,
    number: int,
    output: Path,
    *,
    tick: Tick | None = None,
) -> PatientDone:
    """Scan and write every visit of a course that is not there yet.

    Args:
        course: its ``patient_id`` names the folder.
        number: of the patient, for the chance of grids, skull and defects.
        tick: called with a visit's name before it is made.

    Raises:
        OutputError: if something cannot be written.
        InputError: if the lesions fit nowhere.
    """
    folder = output / course.patient_id
    places = [VisitPlace(folder, course.patient_id, visit.label) for visit in course.visits]
    todo = {place for place in places if not visit_is_whole(place)}
    grown = grow_course(course, visit_config(options, number, 0)) if todo else None
    truths: dict[int, VisitTruth] = {}
    for index, place in enumerate(places):
        if tick is not None:
            tick(place.study_id)
        if place not in todo:
            continue
        config = replace(visit_config(options, number, index), study_id=place.study_id)
        visit = make_visit(course, index, config, grown=grown)
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
    return PatientDone(tuple(place.study_id for place in places), len(truths))


def _in_processes(work: Sequence[tuple[Course, DatasetOptions, int, Path]], jobs: int) -> Iterator[PatientDone]:
    """Patients as they are finished. Stopped early, processes remove what they have half-written."""
    tasks = deque(Task(arguments[0].patient_id, "", write_course, arguments) for arguments in work)
    with open_workers(jobs, None) as workers:
        for task, patient, is_lost in run_tasks(tasks, workers):
            if is_lost:
                raise DeviceError(
                    f"the process that makes {task.patient} was killed twice, maybe for lack of memory. "
                    "Pass --resume and fewer --jobs to go on."
                )
            yield patient
