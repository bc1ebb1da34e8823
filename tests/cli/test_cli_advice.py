"""No message advises to pass an option that the command which prints it does not have."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from brats_seg.cli.commands import COMMANDS, build_parser, options_by_command
from brats_seg.core.words import options_in, without_options

PACKAGE = Path(__file__).resolve().parents[2] / "brats_seg"
OPTIONS = options_by_command(build_parser())
EVERY = frozenset().union(*OPTIONS.values())
FOREIGN = frozenset({"--bundle_path", "--motions", "--least"})
"""Options of other programs that messages name."""


def text_of(node: ast.AST) -> str:
    """A string as it stands in the source, with VALUE for what is put in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return ""


@cache
def messages() -> list[tuple[Path, str]]:
    """What every error of the package is made of: the first argument of each exception that is raised or returned."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if "--" in source else ():
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name.endswith("Error") or name in ("fail", "complain"):
                    found.append((path, text_of(node.args[0])))
    return [(path, text) for path, text in found if options_in(text)]


def test_messages_that_name_options_are_found() -> None:
    assert len(messages()) > 20
    assert any("--overwrite" in text and path.name == "output.py" for path, text in messages())


def test_messages_name_options_that_exist() -> None:
    assert {option for _, text in messages() for option in options_in(text)} - EVERY - FOREIGN == set()


@pytest.mark.parametrize("command", sorted(OPTIONS))
def test_every_message_is_whole_without_the_options_a_command_lacks(command: str) -> None:
    lacking = EVERY - OPTIONS[command]
    for path, text in messages():
        if path.parent.name == "cli":
            continue
        left = without_options(text, lacking.__contains__)
        assert not options_in(left) & lacking, (path.name, left)
        assert not left.rstrip(".").endswith((" or", " and", ",", ";", "(", " with")), (path.name, left)
        assert left.count("(") == left.count(")"), (path.name, left)


def named_after_a_command(text: str, option: str) -> bool:
    """Whether an option stands behind the word of a command that has it, as in ``segment --model``."""
    return any(f"{command.split()[-1]} {option}" in text for command, held in OPTIONS.items() if option in held)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_commands_own_messages_name_its_own_options(name: str) -> None:
    own = frozenset().union(*(held for command, held in OPTIONS.items() if command.split()[1:2] == [name]))
    for path, text in messages():
        if path.parent.name == "cli" and path.stem == name:
            assert all(named_after_a_command(text, option) for option in options_in(text) - own), text


def helps(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    yield parser.prog, parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from helps(inner)


HELPS = dict(helps(build_parser()))


@pytest.mark.parametrize("command", sorted(HELPS))
def test_a_commands_help_names_its_own_options(command: str) -> None:
    text = " ".join(HELPS[command].split())
    assert all(named_after_a_command(text, option) for option in options_in(text) - OPTIONS[command]), text
