"""The family of errors a user can meet, each with the exit code of the command line.

A message says what was wrong, with the values, then what to do. Anything that is not a
:class:`BratsSegError` is a defect of the program, or of a library it uses, and leaves with exit code 1.
"""

from __future__ import annotations

import errno
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from brats_seg.core.words import without_options

_lacks: Callable[[str], bool] | None = None


def lack(is_lacking: Callable[[str], bool] | None) -> None:
    """Say how to know an option of another command that the running one does not have: no message advises to pass it.

    Args:
        is_lacking: asked for each option that a message names; None where no command runs.
    """
    global _lacks  # noqa: PLW0603 - a process runs one command, and errors are put into words all over it
    _lacks = is_lacking


def lacking() -> Callable[[str], bool] | None:
    """What was passed to :func:`lack`."""
    return _lacks


class BratsSegError(Exception):
    """Base of every error that is explained to the user; its text leaves out advice about options that are not there.

    Attributes:
        words: the whole text.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, words: str = "") -> None:
        super().__init__(words)
        self.words = words

    def __str__(self) -> str:
        return self.words if _lacks is None else without_options(self.words, _lacks)


class UsageError(BratsSegError):
    """The command or its options do not make sense together."""

    exit_code = 2


class InputError(BratsSegError):
    """A file, a study or a table that was read is not what it has to be."""

    exit_code = 3


class ModelError(BratsSegError):
    """A model is missing, damaged, or does not fit the request."""

    exit_code = 4


class DeviceError(BratsSegError):
    """The device, the engine or the memory asked for is not there."""

    exit_code = 5


class OutputError(BratsSegError):
    """A result cannot be written, or would overwrite one."""

    exit_code = 6


class UnforeseenError(BratsSegError):
    """A defect of the program, or an error of a library that nothing was prepared for."""


UNFORESEEN = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError),
    *(OSError, RuntimeError, SystemError, TypeError, ValueError),
)
"""What NumPy, ITK, PyTorch and the program itself raise where something goes wrong that nobody foresaw."""

_PACKAGE = Path(__file__).resolve().parents[1]
_MEMORY_WORDS = ("allocate memory", "out of memory", "bad_alloc", "failed to map segment", "unable to allocate")
_LONGEST = 300


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is a failed allocation: PyTorch, ITK and the loader of libraries report those in words."""
    words = str(error).lower()
    is_system = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or is_system or any(part in words for part in _MEMORY_WORDS)


def address_space_bytes() -> float:
    """Address space that ``ulimit -v`` allows, in bytes, beyond which allocations fail; infinite without it."""
    if sys.platform == "win32":
        return math.inf
    import resource  # noqa: PLC0415 - not on Windows

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else float(limit)


def explained(error: Exception) -> BratsSegError:
    """Any error as one that a user can be told in a line, with the exit code that belongs to it.

    Raises:
        KeyboardInterrupt: if that is behind it; compiled libraries make an error of their own of it.
    """
    if isinstance(error, BratsSegError):
        return error
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        behind = behind.__cause__ or behind.__context__
    if out_of_memory(error):
        return DeviceError("the machine ran out of memory; close other programs or use one with more")
    words = " ".join(str(error).split()) or "no further words"
    words = words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename else ""
        return OutputError(
            f"a file or folder failed: {place}{error.strerror or words}. Check that it is there and may be used."
        )
    import traceback  # noqa: PLC0415 - for what nobody foresaw alone

    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _PACKAGE in Path(frame.filename).parents]
    where = f" in {Path(own[-1].filename).relative_to(_PACKAGE).as_posix()}, line {own[-1].lineno}" if own else ""
    return UnforeseenError(
        f"unforeseen {type(error).__name__}{where}: {words}. This is a defect: please report it with this line."
    )


EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect (128 + SIGINT)."""
