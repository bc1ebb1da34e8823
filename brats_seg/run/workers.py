"""Where the tasks of a cohort run: processes of this computer, or workers of a Dask scheduler.

A process that is killed takes its task with it, and a pool takes every task that is under way. Those are started
again, one at a time, so that the one that kills its process is found and only its patient is given up. On a cluster
the scheduler starts them again elsewhere.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
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


class Workers(ABC):
    """Where tasks run: what processes and clusters have in common.

    Attributes:
        room: how many tasks may be under way; None for any number.
        share_fate: whether every task under way is lost with one.
        losses: errors that mean that a task's process was killed.
        gone: errors that mean that there is nobody left to work.
    """

    room: int | None = None
    share_fate = False
    losses: tuple[type[BaseException], ...] = ()
    gone: tuple[type[BaseException], ...] = ()

    @abstractmethod
    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Start a task; returns a future."""

    @abstractmethod
    def finished(self, futures: Sequence[Any]) -> Sequence[Any]:
        """Wait until some are done, and say which."""

    @abstractmethod
    def renew(self) -> None:
        """Replace what broke."""


def run_tasks(todo: deque[Task], workers: Workers) -> Iterator[Done]:
    """Run tasks in their order; more may be added to ``todo`` while it runs.

    Args:
        todo: emptied from the left.

    Yields:
        Each task once, as it is finished or given up.

    Raises:
        DeviceError: if the workers are gone for good.
    """
    waiting: dict[Any, Task] = {}
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
        if not broken:
            _fill(waiting, todo, suspects, workers)
        try:
            for future in workers.finished(list(waiting)):
                task = waiting.pop(future)
                try:
                    yield Done(task, future.result())
                except workers.losses:
                    if workers.share_fate:
                        broken.append(task)
                    else:
                        yield Done(task, lost=True)
        except workers.gone as error:
            raise _nobody_left(error) from error


def _fill(waiting: dict[Any, Task], todo: deque[Task], suspects: deque[Task], workers: Workers) -> None:
    """Start what there is room for; tasks that were lost with others run alone."""
    if suspects:
        if not waiting:
            task = suspects.popleft()
            waiting[workers.submit(task.function, *task.arguments)] = task
        return
    while todo and (workers.room is None or len(waiting) < workers.room):
        task = todo.popleft()
        waiting[workers.submit(task.function, *task.arguments)] = task


def _nobody_left(error: BaseException) -> DeviceError:
    words = next(iter(str(error).splitlines()), "").rstrip(": ") or type(error).__name__
    return DeviceError(
        f"the cluster is gone: {words}. What is finished stays; start it again and pass --resume to go on."
    )


class Processes(Workers):
    """Processes of this computer; at the end of a ``with`` block they finish what was begun.

    Where the block ends with an error or an interruption, they are ended, and remove what they have half-written.
    """

    share_fate = True
    losses = (BrokenProcessPool,)

    def __init__(self, count: int) -> None:
        """Start ``count`` processes."""
        self.room = count
        self._count = count
        self._pool = self._open()

    def _open(self) -> ProcessPoolExecutor:
        # spawn: torch and OpenMP do not survive a fork
        context = multiprocessing.get_context("spawn")
        start = (self._count, lacking())
        return ProcessPoolExecutor(self._count, mp_context=context, initializer=_join, initargs=start)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Start a task; a pool that broke since the last one is replaced first."""
        with interrupts_blocked():
            try:
                return self._pool.submit(function, *arguments)
            except BrokenProcessPool:
                self.renew()
                return self._pool.submit(function, *arguments)

    def finished(self, futures: Sequence[Any]) -> Sequence[Any]:
        """Wait until some are done, and say which."""
        return list(wait(futures, return_when=FIRST_COMPLETED).done)

    def renew(self) -> None:
        """Open another pool."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._open()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for process in multiprocessing.active_children():
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)


class Cluster(Workers):
    """Workers of a Dask scheduler; a task whose worker dies is started again elsewhere."""

    def __init__(self, client: Any) -> None:
        """Use a client that is connected."""
        from distributed import KilledWorker  # noqa: PLC0415 - an extra
        from distributed import wait as wait_on_cluster  # noqa: PLC0415
        from distributed.comm import CommClosedError  # noqa: PLC0415

        self._client, self._wait = client, wait_on_cluster
        self.losses = (KilledWorker,)  # as often as the scheduler allows
        self.gone = (CancelledError, CommClosedError)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Start a task."""
        # Not pure: what a task does lies in files, so that it may not be skipped for its arguments alone.
        return self._client.submit(function, *arguments, pure=False)

    def finished(self, futures: Sequence[Any]) -> Sequence[Any]:
        """Wait until some are done, and say which."""
        return list(self._wait(list(futures), return_when="FIRST_COMPLETED").done)

    def renew(self) -> None:
        """The scheduler does that."""


@contextmanager
def open_workers(processes: int, cluster: str | None) -> Iterator[Workers]:
    """Processes of this computer, or a cluster.

    Args:
        processes: how many work at once on this computer.
        cluster: address of a Dask scheduler; None stays on this computer.

    Raises:
        InputError: if the cluster cannot be reached, or Dask is not installed.
    """
    if cluster is not None:
        with _client(cluster) as client:
            yield Cluster(client)
        return
    with Processes(processes) as pool:
        yield pool


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
