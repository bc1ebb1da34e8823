"""The bytes of a file, with a refusal that names it; light enough to ask before anything is loaded."""

from __future__ import annotations

import difflib
from pathlib import Path

from brats_seg.core.errors import InputError


def file_bytes(path: Path, most: int = -1) -> bytes:
    """The bytes of a file.

    Args:
        most: so many from its beginning, 0 to see whether it can be read; all by default.

    Raises:
        InputError: if it is not there, is a folder, or may not be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(most)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise InputError(
                f"{path} is a link to a file that is not there. Fetch it (git annex get, datalad get) or copy the scan."
            ) from error
        raise InputError(f"there is no file {path}.{_similar(path)}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder; pass the .nii.gz file inside it.") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read (permission denied). Check its access rights.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits.

    Raises:
        InputError: if the file cannot be read.
    """
    import hashlib  # noqa: PLC0415 - loads OpenSSL, which a refusal does without

    return hashlib.sha256(file_bytes(path)).hexdigest()


def _similar(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return " Its folder does not exist or cannot be read either."
    close = difflib.get_close_matches(path.name, names, n=2)
    return f" Did you mean {' or '.join(close)}?" if close else " Check the spelling."
