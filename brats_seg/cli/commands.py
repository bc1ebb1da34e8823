"""``brats-seg``: finds the command, runs it, and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

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
    prepare,
    respond,
    segment,
    track,
    train,
)
from brats_seg.cli.common import complain, flush, say
from brats_seg.core.errors import UNFORESEEN, BratsSegError, OutputError, UsageError, explained, lack

COMMANDS = (segment, track, check, prepare, measure, respond, models, demo, phantom, train, crossval, evaluate, explore)

EPILOG = """\
first steps:
  brats-seg demo -o out/demo            a made-up patient, segmented: shows what results look like
  brats-seg check STUDY                 is my study understood?
  brats-seg segment STUDY -o OUT        results in OUT/<study>, the report is <study>_report.html

exit codes: 0 done, 2 usage, 3 bad input, 4 model, 5 device or memory, 6 output,
130 interrupted, 1 anything else or several of these. A reader of standard output
that goes away (as with | head) stops nothing. Everything is computed on this machine; nothing is sent anywhere.
Research software, not a medical device."""


class _Parser(argparse.ArgumentParser):
    """Usage errors take the same way as every other error; the words that choose a command are kept."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; ``prog`` of the result is that of the innermost command."""
        found, rest = super().parse_known_args(args, namespace)
        if not hasattr(found, "prog"):
            found.prog = self.prog
        return found, rest

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See: {self.prog} --help")


class _Version(argparse.Action):
    """``--version``: of the program, and of the model that is taken where none is named."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print and leave."""
        say(f"brats-seg {brats_seg.__version__}, {_model_version()}")
        parser.exit()


def _model_version() -> str:
    from brats_seg.models.card import DEFAULT_MODEL, find_model

    try:
        card = find_model().card
    except BratsSegError as error:
        return f"model {DEFAULT_MODEL} cannot be used: {error}"
    return f"model {card.name} {card.version}"


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; imports nothing heavy."""
    parser = _Parser(
        prog="brats-seg",
        description="Brain tumour regions, volumes and a report from four MRI sequences, on this computer alone.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the versions of program and model, and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for module in COMMANDS:
        module.add_parser(subparsers)
    return parser


def options_by_command(parser: argparse.ArgumentParser) -> dict[str, frozenset[str]]:
    """Options of each command, and of each command inside one, by its words, such as ``brats-seg models import``."""
    found = {parser.prog: frozenset(option for action in parser._actions for option in action.option_strings)}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found |= options_by_command(inner)
    return found


def run_command(argv: Sequence[str] | None) -> int:
    """Run one command and return its exit code; arguments and errors as for :func:`brats_seg.cli.main`."""
    as_json = False
    try:
        parser = build_parser()
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            raise UsageError("no command given; choose one. See: brats-seg --help")
        as_json = bool(getattr(arguments, "json", False))
        options = options_by_command(parser)
        lack(frozenset().union(*options.values()) - options[arguments.prog])
        _check_working_folder()
        code = int(arguments.run(arguments))
        flush()
    except (BratsSegError, *UNFORESEEN) as error:
        return _fail(explained(error), as_json=as_json)
    finally:
        lack(())
    return code


def _check_working_folder() -> None:
    """Some libraries end the process without a word where the working folder is gone.

    Raises:
        OutputError: if it is.
    """
    try:
        Path.cwd()
    except OSError as error:
        words = "the folder you are in does not exist any more. Change to one that does (cd), and start again."
        raise OutputError(words) from error


def _fail(error: BratsSegError, *, as_json: bool) -> int:
    """Say what went wrong; with ``--json`` also on standard output, so that it always holds JSON."""
    complain(str(error))
    if as_json:
        with suppress(OSError, OutputError):
            say(json.dumps({"error": str(error), "exit_code": error.exit_code}, indent=1))
    return error.exit_code
