"""Checks of what a model card holds: anybody may have written it, and it decides which files are read and written.

Each raises :class:`~brats_seg.core.errors.ModelError`, naming the key, the file or the value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from brats_seg.core.errors import ModelError
from brats_seg.core.study import SEQUENCES, MRSequence

FILE_ENDINGS = (".onnx", ".safetensors", ".xml", ".bin")
"""Of the files a stage may name; the last two lie beside weights in older models, and are not read."""

MAX_DEPTH = 16
"""Deepest nesting of a card's values."""

_NAME = re.compile(r"[^\W_][\w.+-]{0,99}")
_VERSION = re.compile(r"[^\W_][\w.+ -]{0,99}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def check_plain(value: Any, what: str, *, depth: int = 0) -> None:
    """Refuse what no JSON file of finite numbers holds, and what is nested without end."""
    if depth > MAX_DEPTH:
        raise ModelError(f"{what} is nested too deeply; write it as plain keys and values")
    if isinstance(value, Mapping):
        for key, held in value.items():
            if not isinstance(key, str):
                raise ModelError(f"{what} has the key {key!r}, which is no text; put it in quotes")
            check_plain(held, f"{what}.{key}" if what else key, depth=depth + 1)
    elif isinstance(value, list | tuple):
        for held in value:
            check_plain(held, what, depth=depth + 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not -1e15 < value < 1e15:  # NaN is not within, either
            raise ModelError(f"{what} must be a finite number below 1e15, not {shown(value)}")
    elif value is not None and not isinstance(value, str | bool):
        raise ModelError(f"{what} is {shown(value)}; write text, numbers, true, false, lists or keys and values")


def check_name(value: Any, what: str, *, spaces: bool = False) -> None:
    """Refuse what does not name a model: a name is printed, and becomes part of other names."""
    if not isinstance(value, str) or not (_VERSION if spaces else _NAME).fullmatch(value):
        raise ModelError(
            f"{what} {shown(value)} must be text of at most 100 letters, digits, '.', '-', '+' and '_' that begins "
            "with a letter or digit"
        )


def check_text(value: Any, what: str) -> None:
    """Refuse what is no printable text."""
    if not isinstance(value, str) or not "".join(value.split()).isprintable():
        raise ModelError(f"{what} {shown(value)} must be printable text; put it in quotes")


def check_texts(values: Any, what: str) -> None:
    """Refuse what is no list of printable texts."""
    if not isinstance(values, list | tuple):
        raise ModelError(f"{what} {shown(values)} must be a list of texts")
    for value in values:
        check_text(value, f"an entry of {what}")


def check_number(value: Any, what: str, *, low: float, high: float, whole: bool = False) -> None:
    """Refuse what is no number from ``low`` to ``high``."""
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise ModelError(f"{what} {shown(value)} must be {kind} from {low:g} to {high:g}")


def check_mapping(value: Any, what: str) -> Mapping[str, Any]:
    """The value, if it holds keys and values."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ModelError(f"{what} {shown(value)} must hold keys and values")
    return value


def check_files(files: Any, what: str) -> None:
    """Refuse names that could lead out of a model's folder, and checksums that are none."""
    for name, digest in check_mapping(files, what).items():
        is_plain = name.isprintable() and not set(name) & set('/\\:*?"<>|') and not name.startswith((".", " ", "-"))
        if not is_plain or len(name) > 200 or PurePosixPath(name).suffix not in FILE_ENDINGS:
            raise ModelError(
                f"{what} names the file {shown(name)}; files of a model lie in its folder and are called "
                f"*{', *'.join(FILE_ENDINGS)}"
            )
        if not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise ModelError(f"{what} gives {shown(digest)} as SHA-256 of {name}; it has 64 digits from 0 to f")


def check_sequences(values: Any, what: str) -> tuple[MRSequence, ...]:
    """Sequences from a list of their names."""
    known = [sequence.value for sequence in SEQUENCES]
    if not isinstance(values, list | tuple) or not values or any(value not in known for value in values):
        raise ModelError(f"{what} {shown(values)} must list one or more of {', '.join(known)}")
    if len(set(values)) != len(values):
        raise ModelError(f"{what} {shown(values)} names a sequence twice")
    return tuple(MRSequence(value) for value in values)


def one_line(error: Exception) -> str:
    """An error's words, where a card's keys may hold anything."""
    text = " ".join(str(error).split())
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def shown(value: Any) -> str:
    """A value for a message of one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
