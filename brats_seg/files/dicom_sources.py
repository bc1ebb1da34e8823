"""Which files below a folder or in an archive are DICOM, by their first bytes.

Every place a user passes is looked at in this way, so nothing is imported here that reads images.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from brats_seg.core.errors import InputError
from brats_seg.files.dicom_file import DicomSource, looks_like_dicom

MAX_LOOKED_AT = 100_000
"""Files of any kind below a folder; more are rather a disk than an exam."""
MAX_ARCHIVE_BYTES = 2**32
"""What an archive may unpack to."""
_HEAD_BYTES = 132
_META_BYTES = 1024
_CLASS = b"\x02\x00\x02\x00UI"
"""How Media Storage SOP Class UID (0002,0002) begins, always in explicit little endian."""
_ZIP = b"PK\x03\x04"
_ENCRYPTED = 0x1


def holds_dicom(folder: Path) -> bool:
    """Whether there is a DICOM file below a folder or in an archive; stops at the first."""
    return next(sources(folder), None) is not None


def is_dicom_file(path: Path) -> bool:
    """Whether a file is DICOM, or an archive that may hold some."""
    return looks_like_dicom(first_bytes(path)) or is_archive(path)


def is_archive(path: Path) -> bool:
    """Whether a file is a .zip archive, whatever its name."""
    return first_bytes(path).startswith(_ZIP)


def class_of(path: Path) -> str:
    """SOP Class UID of a DICOM file, by its first bytes; empty of any other file, and of DICOM that begins without."""
    head = first_bytes(path, _META_BYTES)
    place = head.find(_CLASS) + len(_CLASS)
    if not looks_like_dicom(head) or place < len(_CLASS):
        return ""
    length = int.from_bytes(head[place : place + 2], "little")
    return head[place + 2 : place + 2 + length].strip(b"\0 ").decode("ascii", "replace")


def first_bytes(path: Path, length: int = _HEAD_BYTES) -> bytes:
    """The first bytes of a file; none of a broken link, or where this user may not read."""
    try:
        with path.open("rb") as stream:
            return stream.read(length)
    except OSError:
        return b""


def sources(place: Path) -> Iterator[DicomSource]:
    """DICOM files below a place, in the order of their names; links to folders elsewhere are followed, each once."""
    if place.is_file():
        yield from _members(place)
        return
    looked_at = 0
    root, seen = place.resolve(), set[Path]()
    for folder, folders, names in os.walk(place, followlinks=True):
        looked_at += len(names)
        if looked_at > MAX_LOOKED_AT:
            raise InputError(f"{place} holds more than {MAX_LOOKED_AT} files. Pass the folder of one patient or exam.")
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in visible if _is_new(Path(folder) / name, root, seen)]
        for name in sorted(names):
            path = Path(folder) / name
            head = first_bytes(path)
            if looks_like_dicom(head):
                yield DicomSource(path)
            elif head.startswith(_ZIP):
                yield from _members(path)


def _is_new(folder: Path, root: Path, seen: set[Path]) -> bool:
    """Whether a folder holds what is not found anyway: no link into the root or around it, and not seen before."""
    target = folder.resolve()
    leads_back = folder.is_symlink() and (root in (target, *target.parents) or target in root.parents)
    if leads_back or target in seen:
        return False
    seen.add(target)
    return True


def _leads_out(name: str) -> bool:
    """Whether an archive's entry would lie outside the folder that it is unpacked to."""
    parts = PurePosixPath(name.replace("\\", "/"))
    return parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]


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
            if any(_leads_out(entry.filename) for entry in entries):
                raise InputError(
                    f"{path.name} names files outside itself, as no export does. Take it out of the folder."
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
