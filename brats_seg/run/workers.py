"""Where the tasks of a cohort run: processes of this computer, or workers of a Dask scheduler.

A process that is killed takes its task with it, and a pool takes every task that is under way. Those are started
again, one at a time, so that the one that kills its process is found and only its patient is given up. On a cluster
the scheduler starts them again elsewhere.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from brats_seg.core.errors import EXIT_INTERRUPTED, DeviceError, InputError, lack, lacking
from brats_seg.segment.memory import share_machine

MOST_LOSSES = 2
"""A task that loses its process so often while nothing else runs is given up."""


@dataclass(frozen=True, eq=False)
class Task:
    """Something to be done in another process; it leaves its result whole in files, or nothing.

    Attributes:
        patient: whose it is.
        visit: which visit; empty for what follows all visits.
        function: a function of a module.
        arguments: values that can be sent to another process.
    """

    patient: str
    visit: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class Done(NamedTuple):
    """A task, what its function returned, and whether it is lost because its process was killed again and again."""

    task: Task
    result: Any = None
    lost: bool = False


class Workers:
    """Where tasks run: an executor, which is opened anew where a killed process broke it.

    Args:
        executor: opens it.
        room: how many tasks may be under way; None for any number.
        losses: errors that mean that a task's process was killed again and again, and no other task suffered.
        gone: errors that mean that there is nobody left to work.
    """

    def __init__(
        self,
        executor: Callable[[], Executor],
        room: int | None = None,
        *,
        losses: tuple[type[BaseException], ...] = (),
        gone: tuple[type[BaseException], ...] = (),
    ) -> None:
        self.room, self.losses, self.gone = room, losses, gone
        self._open = executor
        self.executor = executor()

    def submit(self, task: Task) -> Future[Any]:
        """Start a task; an executor that broke since the last one is opened anew first."""
        with interrupts_blocked():
            try:
                return self.executor.submit(task.function, *task.arguments)
            except BrokenProcessPool:
                self.renew()
                return self.executor.submit(task.function, *task.arguments)

    def renew(self) -> None:
        """Open another executor."""
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.executor = self._open()


def run_tasks(todo: deque[Task], workers: Workers) -> Iterator[Done]:
    """Run tasks in their order; more may be added to ``todo`` while it runs.

    Args:
        todo: emptied from the left.

    Yields:
        Each task once, as it is finished or given up.

    Raises:
        DeviceError: if the workers are gone for good.
    """
    waiting: dict[Future[Any], Task] = {}
    broken: list[Task] = []
    suspects: deque[Task] = deque()
    losses: Counter[Task] = Counter()
    while todo or suspects or waiting or broken:
        if broken and not waiting:
            workers.renew()
            losses.update(broken[:1] if len(broken) == 1 else [])
            if losses[broken[0]] >= MOST_LOSSES:
                yield Done(broken.pop(), lost=True)
            suspects.extend(broken)
            broken.clear()
            continue
        # Tasks that were lost with others run alone.
        source, room = (suspects, 1) if suspects else (todo, workers.room)
        while source and not broken and (room is None or len(waiting) < room):
            task = source.popleft()
            waiting[workers.submit(task)] = task
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            task = waiting.pop(future)
            try:
                yield Done(task, future.result())
            except BrokenProcessPool:
                broken.append(task)
            except workers.losses:
                yield Done(task, lost=True)
            except workers.gone as error:
                raise _nobody_left(error) from error


def _nobody_left(error: BaseException) -> DeviceError:
    words = next(iter(str(error).splitlines()), "").rstrip(": ") or type(error).__name__
    return DeviceError(
        f"the cluster is gone: {words}. What is finished stays; start it again and pass --resume to go on."
    )


@contextmanager
def open_workers(processes: int, cluster: str | None) -> Iterator[Workers]:
    """Processes of this computer, or a cluster; at the end of the block, processes finish what was begun.

    Where the block ends with an error or an interruption, they are ended, and remove what they have half-written.

    Args:
        processes: how many work at once on this computer.
        cluster: address of a Dask scheduler; None stays on this computer.

    Raises:
        InputError: if the cluster cannot be reached, or Dask is not installed.
    """
    if cluster is not None:
        with _client(cluster) as client:
            from distributed import KilledWorker  # noqa: PLC0415 - an extra
            from distributed.comm import CommClosedError  # noqa: PLC0415

            # Not pure: what a task does lies in files, so that it may not be skipped for its arguments alone.
            executor = partial(client.get_executor, pure=False)
            # The scheduler starts the task of a worker that died elsewhere, as often as it allows.
            yield Workers(executor, losses=(KilledWorker,), gone=(CancelledError, CommClosedError))
        return
    workers, ended_well = Workers(partial(_pool, processes), processes), False
    try:
        yield workers
        ended_well = True
    finally:
        for process in [] if ended_well else multiprocessing.active_children():
            process.terminate()
        workers.executor.shutdown(wait=True, cancel_futures=not ended_well)


def _pool(processes: int) -> ProcessPoolExecutor:
    # spawn: torch and OpenMP do not survive a fork
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_join, initargs=(processes, lacking()))


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


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Processes that are started meanwhile never get Ctrl-C or the end of the terminal: this one tells them to end.

    Both go to every process of a terminal, and would end some while they load their libraries, with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _join(processes: int, is_lacking: Callable[[str], bool] | None) -> None:
    """In a process of the pool: its share of the cores and of the memory, and an end that leaves nothing behind."""
    signal.signal(signal.SIGTERM, _leave)
    lack(is_lacking)
    share_machine(processes)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(EXIT_INTERRUPTED)
