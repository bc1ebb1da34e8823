"""``brats-seg``: finds the command, runs it, and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import brats_seg
from brats_seg.cli import check, demo, measure, models, segment, train
from brats_seg.core.errors import EXIT_INTERRUPTED, BratsSegError, UsageError

COMMANDS = (segment, check, measure, models, demo, train)

EPILOG = """exit codes: 0 done, 2 usage, 3 bad input, 4 model, 5 device or memory, 6 output,
130 interrupted, 1 anything else. Research software, not a medical device."""


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
    """Run one command and return its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        parser = build_parser()
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help()
            return UsageError.exit_code
        return int(arguments.run(arguments))
    except BratsSegError as error:
        print(f"brats-seg: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("brats-seg: interrupted; nothing unfinished was left behind", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away: silence stdout so that the interpreter's exit does not complain.
        sys.stdout = None  # type: ignore[assignment]
        return 1


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    """End like Ctrl-C, so that half-written outputs are removed."""
    raise KeyboardInterrupt
