"""``brats-seg``: finds the command, runs it, and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

import brats_seg
from brats_seg.cli import (
    check,
    crossval,
    demo,
    evaluate,
    explore,
    measure,
    models,
    phantom,
    respond,
    segment,
    track,
    train,
)
from brats_seg.cli.common import abandon_stdout, flush, say
from brats_seg.core.errors import EXIT_INTERRUPTED, BratsSegError, OutputError, UsageError

COMMANDS = (segment, track, check, measure, respond, models, demo, phantom, train, crossval, evaluate, explore)

EPILOG = """\
first steps:
  brats-seg demo -o out/demo            a made-up patient, segmented: shows what results look like
  brats-seg check STUDY                 is my study understood?
  brats-seg segment STUDY -o OUT        results in OUT/<study>, the report is <study>_report.html

exit codes: 0 done, 2 usage, 3 bad input, 4 model, 5 device or memory, 6 output,
130 interrupted, 1 anything else. Everything is computed on this machine; nothing is sent anywhere.
Research software, not a medical device."""


class _Parser(argparse.ArgumentParser):
    """Usage errors take the same way as every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See: {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; imports nothing heavy."""
    parser = _Parser(
        prog="brats-seg",
        description="Brain tumour regions, volumes and a report from four MRI sequences, on this computer alone.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"brats-seg {brats_seg.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for module in COMMANDS:
        module.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Raises:
        SystemExit: with code 0, after ``--help`` and ``--version``.
    """
    as_json = False
    try:
        with _terminable():
            arguments = build_parser().parse_args(argv)
            if arguments.command is None:
                raise UsageError("no command given; choose one. See: brats-seg --help")
            as_json = bool(getattr(arguments, "json", False))
            code = int(arguments.run(arguments))
        flush()
        return code
    except BratsSegError as error:
        return _fail(error, as_json=as_json)
    except KeyboardInterrupt:
        print("brats-seg: interrupted; nothing unfinished was left behind", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        abandon_stdout()
        return 1


def _fail(error: BratsSegError, *, as_json: bool) -> int:
    """Say what went wrong; with ``--json`` also on standard output, so that it always holds JSON."""
    print(f"brats-seg: {error}", file=sys.stderr)
    if as_json:
        with suppress(OSError, OutputError):
            say(json.dumps({"error": str(error), "exit_code": error.exit_code}, indent=1))
    return error.exit_code


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends like Ctrl-C, so that half-written outputs are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
