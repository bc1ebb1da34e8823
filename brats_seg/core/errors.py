"""The family of errors a user can meet, each with the exit code of the command line.

A message says what was wrong, with the values, then what to do. Anything that is not a
:class:`BratsSegError` is a defect of the program and leaves with exit code 1.
"""

from __future__ import annotations

from typing import ClassVar


class BratsSegError(Exception):
    """Base of every error that is explained to the user."""

    exit_code: ClassVar[int] = 1


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


EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect (128 + SIGINT)."""
