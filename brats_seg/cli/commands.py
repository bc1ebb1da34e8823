"""``brats-seg``: finds the command, runs it, and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import brats_seg
from brats_seg.cli.common import complain, flush, say
from brats_seg.core.errors import (
    UNFORESEEN,
    BratsSegError,
    DeviceError,
    OutputError,
    UsageError,
    address_space_bytes,
    explained,
    lack,
)

GROUPS: Mapping[str, tuple[str, ...]] = {
    "use": ("segment", "track", "check", "prepare", "measure", "respond"),
    "study data": ("explore", "evaluate"),
    "models": ("models", "train", "crossval"),
    "test": ("demo", "phantom", "info"),
}
"""Commands, by what they are for; each is the module of its name, with ``HELP``, ``DESCRIPTION``, perhaps ``EPILOG``,
``add_options`` and ``run``."""
LIBRARIES_BYTES = 768 * 2**20
"""Least address space to load the libraries in: with 16 threads they take 680 MiB of it."""
COMMANDS = tuple(name for group in GROUPS.values() for name in group)

DESCRIPTION = "Brain tumour regions, volumes and a report from four MRI sequences, on this computer alone."
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

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, and what it does not know is compared with what it knows."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options = options_by_command(self)[found.prog]
            meant = _did_you_mean(unknown[0].partition("=")[0], options) if unknown[0].startswith("--") else ""
            raise UsageError(f"unrecognized arguments: {' '.join(unknown)}{meant}. See: {found.prog} --help")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [str(choice) for choice in action.choices or ()]
        if action.choices is not None and value not in action.choices:
            meant = _did_you_mean(str(value), choices) or f" (choose from {', '.join(choices)})"
            raise argparse.ArgumentError(action, f"invalid choice: {str(value)!r}{meant}")

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See: {self.prog} --help")


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean segment?)`` for a word that is almost a known one, else nothing."""
    import difflib

    alike = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.7)
    return f" (did you mean {alike[0]}?)" if alike else ""


class _Version(argparse.Action):
    """``--version``: of the program, and of the model that is taken where none is named."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print and leave."""
        from brats_seg.cli.info import model_words

        say(f"brats-seg {brats_seg.__version__}, {model_words()}")
        parser.exit()


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The command line with these commands; imports nothing heavy."""
    parser = _Parser(prog="brats-seg", usage="%(prog)s [-h] [--version] COMMAND ...", epilog=EPILOG,
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--version", action=_Version, nargs=0, help="show the versions of program and model, and exit")
    subparsers = parser.add_subparsers(
        dest="command", metavar="COMMAND", prog=parser.prog, parser_class=_Parser, help=argparse.SUPPRESS
    )
    listed = []
    for title, names in GROUPS.items():
        chosen = {name: import_module(f"brats_seg.cli.{name}") for name in names if name in commands}
        for name, module in chosen.items():
            epilog = getattr(module, "EPILOG", "")
            is_laid_out = epilog or "\n" in module.DESCRIPTION
            layout = argparse.RawDescriptionHelpFormatter if is_laid_out else argparse.HelpFormatter
            # Without help, a command is not listed a second time.
            command = subparsers.add_parser(name, description=module.DESCRIPTION, epilog=epilog, formatter_class=layout)
            module.add_options(command)
            command.set_defaults(run=module.run)
        listed.append("\n".join([f"{title}:", *(f"  {name:10}{module.HELP}" for name, module in chosen.items())]))
    parser.description = "\n\n".join([DESCRIPTION, *listed])
    return parser


def options_by_command(parser: argparse.ArgumentParser) -> dict[str, frozenset[str]]:
    """Options of each command, and of each command inside one, by its words, such as ``brats-seg models import``."""
    found = {parser.prog: frozenset(option for action in parser._actions for option in action.option_strings)}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found |= options_by_command(inner)
    return found


@cache
def _every_option() -> frozenset[str]:
    return frozenset().union(*options_by_command(build_parser()).values())


def is_lacking(own: frozenset[str], option: str) -> bool:
    """Whether an option is another command's; those of other programs are none."""
    return option not in own and option in _every_option()


def run_command(argv: Sequence[str] | None) -> int:
    """Run one command and return its exit code; arguments and errors as for :func:`brats_seg.cli.main`."""
    as_json = False
    first = tuple(sys.argv[1:] if argv is None else argv)[:1]
    try:
        parser = build_parser(first if first and first[0] in COMMANDS else COMMANDS)  # the others take longer to load
        _complete(parser)
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            raise UsageError("no command given; choose one. See: brats-seg --help")
        as_json = bool(getattr(arguments, "json", False))
        lack(partial(is_lacking, options_by_command(parser)[arguments.prog]))
        _check_working_folder()
        _check_address_space()
        # OpenBLAS threads wait for one another in busy loops, which takes longer than the small products they share.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        code = int(arguments.run(arguments))
        flush()
    except (BratsSegError, *UNFORESEEN) as error:
        return _fail(explained(error), as_json=as_json)
    finally:
        lack(None)
    return code


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions, where the extra ``completion`` is installed."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def _check_working_folder() -> None:
    """Some libraries end the process without a word where the working folder is gone."""
    try:
        Path.cwd()
    except OSError as error:
        words = "the folder you are in does not exist any more. Change to one that does (cd), and start again."
        raise OutputError(words) from error


def _check_address_space() -> None:
    """Where it is short, OpenBLAS asks for memory for ever while it is loaded, and other libraries abort."""
    limit = address_space_bytes()
    if limit < LIBRARIES_BYTES:
        raise DeviceError(
            f"this process may use {limit / 2**20:.0f} MiB of memory (ulimit -v), too little to load the libraries; "
            f"allow at least {LIBRARIES_BYTES / 2**20:.0f} MiB"
        )


def _fail(error: BratsSegError, *, as_json: bool) -> int:
    """Say what went wrong; with ``--json`` also on standard output, so that it always holds JSON."""
    complain(str(error))
    if as_json:
        import json

        with suppress(OSError, OutputError):
            say(json.dumps({"error": str(error), "exit_code": error.exit_code}, indent=1))
    return error.exit_code
