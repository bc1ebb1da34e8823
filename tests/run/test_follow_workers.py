"""Tasks in processes that are killed: everything is finished or given up, and nothing else suffers."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

from brats_seg.core.errors import DeviceError, ModelError
from brats_seg.core.study import Patient, Timepoint
from brats_seg.core.tables import Calendar
from brats_seg.run import cohort as follow_cohort
from brats_seg.run.track import TrackRun
from brats_seg.run.workers import Done, Processes, Task, run_tasks


class LostError(Exception):
    """Stands for the error of a killed process."""


class GoneError(Exception):
    """Stands for the error of a lost scheduler."""


class Fake:
    """Runs tasks at once; the functions raise what a pool or a cluster would."""

    losses = (LostError,)
    gone = (GoneError,)

    def __init__(self, *, room: int | None, share_fate: bool) -> None:
        self.room, self.share_fate, self.renewed = room, share_fate, 0
        self.most = 0

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except (LostError, GoneError) as error:
            future.set_exception(error)
        return future

    def finished(self, futures: Sequence[Future[Any]]) -> Sequence[Future[Any]]:
        self.most = max(self.most, len(futures))
        broken = any(isinstance(future.exception(), LostError) for future in futures)
        if broken and self.share_fate:  # a pool takes every task under way with it
            for future in futures:
                future._exception = LostError()
        return list(futures)

    def renew(self) -> None:
        self.renewed += 1


def task(name: str, function: Any, *arguments: Any) -> Task:
    return Task(name, "", function, arguments)


def die(message: str = "") -> None:
    raise LostError(message)


def names(found: Sequence[Done]) -> dict[str, bool]:
    return {done.task.patient: done.lost for done in found}


def test_one_task_that_kills_its_process_is_given_up_alone() -> None:
    workers = Fake(room=3, share_fate=True)
    todo = deque([task("a", str), task("b", die), task("c", str), task("d", str), task("e", str)])
    found = list(run_tasks(todo, workers))
    assert names(found) == {"a": False, "b": True, "c": False, "d": False, "e": False}
    assert len(found) == 5 and workers.most == 3 and workers.renewed == 3


def test_on_a_cluster_the_scheduler_has_tried_again_already() -> None:
    workers = Fake(room=None, share_fate=False)
    found = list(run_tasks(deque([task("a", str), task("b", die), task("c", str)]), workers))
    assert names(found) == {"a": False, "b": True, "c": False} and workers.renewed == 0


def test_tasks_can_be_added_on_the_way() -> None:
    workers = Fake(room=1, share_fate=True)
    todo = deque([task("a", str)])
    found = []
    for done in run_tasks(todo, workers):
        found.append(done.task.patient)
        if len(found) < 3:
            todo.append(task(f"{done.task.patient}+", str))
    assert found == ["a", "a+", "a++"]


def test_a_lost_scheduler_is_one_error_that_says_how_to_go_on() -> None:
    def gone() -> None:
        raise GoneError("connection closed")

    with pytest.raises(DeviceError, match=r"connection closed.*--resume"):
        list(run_tasks(deque([task("a", gone)]), Fake(room=None, share_fate=False)))


def kill_myself(mark: str, *, always: bool) -> str:
    """Dies the first time, or every time; in a process of the pool."""
    path = Path(mark)
    if always or not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die_once(mark: str) -> str:
    return kill_myself(mark, always=False)


def die_always(mark: str) -> str:
    return kill_myself(mark, always=True)


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
    with Processes(2) as workers:
        found = list(run_tasks(todo, workers))
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
    assert (outcome.patient, outcome.exit_code) == ("P1", code)
    assert words in outcome.error and "\n" not in outcome.error
    assert words in follow_cohort.visit_task(cast(Timepoint, None), run)
