"""The way in: signals and streams get their answers before any command, or anything a command needs, is loaded."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

TYPE_CHECKING = False  # not from typing, which takes long to load
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_GRACE_S = 5.0
"""For so long after a signal the next ones are passed over: they would stop the removal of what is half-written."""


class _Interruptible:
    """Turns Ctrl-C, a request to end and a closed terminal into :class:`KeyboardInterrupt`, so that half-written
    outputs are removed; signals that were ignored (nohup) stay so."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._last = -_GRACE_S

    def install(self) -> None:
        """Set the handlers; outside the main thread, where none may be set, this does nothing."""
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                self._before[number] = signal.signal(number, self._interrupt)
            except ValueError:
                return

    def restore(self, *, ends: bool) -> None:
        """Put the handlers back; where the process ends now, a further signal just ends it."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if ends or handler is None else handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last < _GRACE_S:
            return
        self._last = now
        raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Raises:
        SystemExit: with code 0, after ``--help`` and ``--version``.
    """
    signals = _Interruptible()
    try:
        signals.install()
        _open_streams()
        return _run(argv)
    except KeyboardInterrupt:
        return _end("interrupted; nothing unfinished was left behind", 130)
    except MemoryError:
        return _end("the machine ran out of memory; close other programs or use one with more", 5)
    finally:
        signals.restore(ends=argv is None)


def _run(argv: Sequence[str] | None) -> int:
    """Load the commands and run one; not even a lack of memory while they are loaded shows as a traceback."""
    from brats_seg.core.errors import UNFORESEEN, explained

    try:
        from brats_seg.cli.commands import run_command

        return run_command(argv)
    except UNFORESEEN as error:
        told = explained(error)
        return _end(str(told), told.exit_code)


def _end(words: str, code: int) -> int:
    from contextlib import suppress

    with suppress(OSError):  # nobody need read it
        print(f"brats-seg: {words}", file=sys.stderr)
    return code


def _open_streams() -> None:
    """Give closed standard streams somewhere to write, and let none fail on a letter its encoding lacks."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which a file to be written must not get
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
