"""Which files below a folder or in an archive are DICOM, by their first bytes.

Every place a user passes is looked at in this way, so nothing is imported here that reads images.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.files.dicom_file import DicomSource, looks_like_dicom

MAX_LOOKED_AT = 100_000
"""Files of any kind below a folder; more are rather a disk than an exam."""
MAX_ARCHIVE_BYTES = 2**32
"""What an archive may unpack to."""
_HEAD_BYTES = 132
_ZIP = b"PK\x03\x04"
_ENCRYPTED = 0x1


def holds_dicom(folder: Path) -> bool:
    """Whether there is a DICOM file below a folder or in an archive; stops at the first."""
    return next(sources(folder), None) is not None


def is_dicom_file(path: Path) -> bool:
    """Whether a file is DICOM, or an archive that may hold some."""
    return looks_like_dicom(_head(path)) or is_archive(path)


def is_archive(path: Path) -> bool:
    """Whether a file is a .zip archive, whatever its name."""
    return _head(path).startswith(_ZIP)


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of a broken link, or where this user may not read."""
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError:
        return b""


def sources(place: Path) -> Iterator[DicomSource]:
    """DICOM files below a place, in the order of their names; links to folders are not followed."""
    if place.is_file():
        yield from _members(place)
        return
    looked_at = 0
    for folder, folders, names in os.walk(place):
        looked_at += len(names)
        if looked_at > MAX_LOOKED_AT:
            raise InputError(f"{place} holds more than {MAX_LOOKED_AT} files. Pass the folder of one patient or exam.")
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            head = _head(path)
            if looks_like_dicom(head):
                yield DicomSource(path)
            elif head.startswith(_ZIP):
                yield from _members(path)


def _members(path: Path) -> Iterator[DicomSource]:
    """DICOM files in an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            total = sum(entry.file_size for entry in entries)
            if total > MAX_ARCHIVE_BYTES:
                raise InputError(
                    f"{path.name} unpacks to {total / 2**30:.0f} GiB, more than any exam. Unpack what is needed."
                )
            if any(entry.flag_bits & _ENCRYPTED for entry in entries):
                raise InputError(f"{path.name} is protected by a password. Unpack it, and pass the folder.")
            for entry in sorted(entries, key=lambda entry: entry.filename):
                with archive.open(entry) as stream:
                    head = stream.read(_HEAD_BYTES)
                if looks_like_dicom(head):
                    yield DicomSource(path, entry.filename)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OSError, zlib.error) as error:
        what = f"{path.name} is a damaged archive ({type(error).__name__})"
        raise InputError(f"{what}. Copy or download it again, or take it out of the folder.") from error
