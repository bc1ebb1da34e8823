"""Tasks in processes that are killed: everything is finished or given up, and nothing else suffers."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, cast

import pytest
from dying import die_always, die_once

from brats_seg.core.errors import DeviceError, ModelError
from brats_seg.core.study import Patient, Timepoint
from brats_seg.core.tables import Calendar
from brats_seg.run import cohort as follow_cohort
from brats_seg.run import workers
from brats_seg.run.track import TrackRun
from brats_seg.run.workers import Done, Task, Workers, open_workers, run_tasks


class LostError(Exception):
    """Stands for the error of a task whose worker was killed again and again."""


class GoneError(Exception):
    """Stands for the error of a lost scheduler."""


class Fake(Executor):
    """Runs tasks at once; the functions raise what a pool or a cluster would."""

    opened = 0

    def open(self) -> Fake:
        self.opened += 1
        return self

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except (BrokenProcessPool, LostError, GoneError) as error:
            future.set_exception(error)
        return future


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tasks were under way at each look; a pool that breaks takes all of them with it."""
    found: list[int] = []

    def look(futures: Sequence[Future[Any]], **how: Any) -> Any:
        found.append(len(futures))
        if any(isinstance(f.exception(), BrokenProcessPool) for f in futures if f.done()):
            for future in futures:
                future._exception = BrokenProcessPool()
        return wait(futures, **how)

    monkeypatch.setattr(workers, "wait", look)
    return found


def task(name: str, function: Any, *arguments: Any) -> Task:
    return Task(name, "", function, arguments)


def break_pool() -> None:
    raise BrokenProcessPool


def lose() -> None:
    raise LostError


def names(found: Sequence[Done]) -> dict[str, bool]:
    return {done.task.patient: done.lost for done in found}


def test_one_task_that_kills_its_process_is_given_up_alone(looks: list[int]) -> None:
    fake = Fake()
    todo = deque([task("a", str), task("b", break_pool), task("c", str), task("d", str), task("e", str)])
    found = list(run_tasks(todo, Workers(fake.open, 3)))
    assert names(found) == {"a": False, "b": True, "c": False, "d": False, "e": False}
    assert len(found) == 5 and max(looks) == 3 and fake.opened == 4


def test_on_a_cluster_the_scheduler_has_tried_again_already() -> None:
    fake = Fake()
    todo = deque([task("a", str), task("b", lose), task("c", str)])
    found = list(run_tasks(todo, Workers(fake.open, losses=(LostError,))))
    assert names(found) == {"a": False, "b": True, "c": False} and fake.opened == 1


def test_tasks_can_be_added_on_the_way() -> None:
    todo = deque([task("a", str)])
    found = []
    for done in run_tasks(todo, Workers(Fake, 1)):
        found.append(done.task.patient)
        if len(found) < 3:
            todo.append(task(f"{done.task.patient}+", str))
    assert found == ["a", "a+", "a++"]


def test_a_lost_scheduler_is_one_error_that_says_how_to_go_on() -> None:
    def gone() -> None:
        raise GoneError("connection closed")

    with pytest.raises(DeviceError, match=r"connection closed.*--resume"):
        list(run_tasks(deque([task("a", gone)]), Workers(Fake, gone=(GoneError,))))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_processes_that_are_really_killed(tmp_path: Path) -> None:
    todo = deque(
        [
            task("once", die_once, str(tmp_path / "once")),
            task("never", str, "fine"),
            task("always", die_always, str(tmp_path / "always")),
            task("last", str, "fine"),
        ]
    )
    with open_workers(2, None) as pool:
        found = list(run_tasks(todo, pool))
    assert names(found) == {"once": False, "never": False, "always": True, "last": False}
    assert {done.task.patient: done.result for done in found}["once"] == "done"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RuntimeError("ITK ERROR:\nthe image is empty"), 1, "unforeseen RuntimeError"),
        (ModelError("its weights are damaged."), 4, "its weights are damaged."),
        (MemoryError(), 5, "ran out of memory"),
    ],
)
def test_whatever_breaks_in_one_patient_is_its_outcome(
    error: Exception, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(follow_cohort, "track_patient", breaks)
    monkeypatch.setattr(follow_cohort, "load_visit", breaks)
    monkeypatch.setattr(follow_cohort, "_shared_model", lambda _: None)
    files = Patient("P1", (), Calendar.ORDER)
    run = TrackRun(tmp_path)
    outcome = follow_cohort.patient_task((files, ()), run)
    assert outcome.patient == "P1" and outcome.error is not None and outcome.error.exit_code == code
    assert words in str(outcome.error) and "\n" not in str(outcome.error)
    assert words in follow_cohort.visit_task(cast(Timepoint, None), run)
