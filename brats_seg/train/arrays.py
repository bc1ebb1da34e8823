"""Named arrays in compressed files (``.npz``): written whole or not at all, and damage is explained."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import BratsSegError, InputError
from brats_seg.files.output import atomic_write

MADE_AGAIN = "remove it, it is made again"
"""What to do about a damaged file that is only kept to save time."""

_KEY = "key"
_DAMAGE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]], *, key: bytes = b"") -> None:
    """Write arrays by name, whole or not at all.

    Args:
        key: digest of all that the arrays were made of, so that a file made of something else is not taken for it.

    Raises:
        OutputError: if the file cannot be written.
    """
    held = {**arrays, **({_KEY: np.frombuffer(key, np.uint8)} if key else {})}
    with atomic_write(path) as stream:
        np.savez_compressed(stream, **held)  # type: ignore[arg-type]  # the stub knows no mapping of arrays


def has_key(path: Path, key: bytes) -> bool:
    """Whether a file of :func:`write_arrays` is there, whole, and of this key."""
    try:
        with np.load(path) as held:
            return _KEY in held and bytes(held[_KEY]) == key
    except _DAMAGE:
        return False


@contextmanager
def open_arrays(
    path: Path, *, remedy: str = MADE_AGAIN, error: type[BratsSegError] = InputError
) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The arrays of a file of :func:`write_arrays`; each is read when asked for.

    An array that is missing, or of a shape the block cannot use, counts as damage too.

    Args:
        remedy: what to do where it is damaged.
        error: what to raise then.

    Raises:
        InputError: or ``error``, naming the file, if it is missing or damaged.
    """
    try:
        with np.load(path) as held:
            yield held
    except _DAMAGE as failure:
        reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else failure
        raise error(f"{path} is missing or damaged ({reason}); {remedy}") from failure
