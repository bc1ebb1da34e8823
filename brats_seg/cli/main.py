"""The way in: signals and streams get their answers before any command, or anything a command needs, is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from brats_seg.cli.signals import Interruptible


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Raises:
        SystemExit: with code 0, after ``--help`` and ``--version``.
    """
    signals = Interruptible()
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
