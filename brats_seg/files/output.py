"""Writing so that nothing half-written ever looks finished.

One file: written under a hidden name beside its final one, flushed to the disk, renamed. A result folder: the
same for the folder as a whole (:class:`OutputFolder`), which one run at a time may write. Every failure to write is an
:class:`OutputError`.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from brats_seg.core.errors import InputError, OutputError
from brats_seg.core.study import Timepoint
from brats_seg.core.words import counted, some
from brats_seg.files.file_bytes import file_sha256
from brats_seg.files.study_id import check_study_id

if TYPE_CHECKING:
    from brats_seg.core.scans import Study

RUN_FILE = "run.json"
"""The record that makes a result folder complete; it lists every other file with its checksum."""

ExistsPolicy = Literal["refuse", "overwrite"]
_UNTIDY = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""Files that file managers leave behind and nobody misses."""
_STALE_S = 24 * 3600.0
"""Age from which the hidden folder of a run that was killed is removed, where locks cannot tell that it was."""
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF})
"""What file systems without locks answer; there, what was found at the beginning is looked at again at the end."""
_REASONS: Mapping[int, str] = {
    errno.ENOSPC: "the disk is full. Free some space, or choose another output folder with -o",
    errno.EDQUOT: "your disk quota is used up. Free some space, or choose another output folder with -o",
    errno.EFBIG: "the file would be larger than this disk or account allows. Choose another output folder with -o",
    errno.EROFS: "the disk is read-only. Choose another output folder with -o",
    errno.EACCES: "you have no right to write there. Choose another output folder with -o",
    errno.EPERM: "you have no right to write there. Choose another output folder with -o",
    errno.ENOTDIR: "a part of that path is a file, not a folder. Choose another output folder with -o",
    errno.EEXIST: "a file of that name is in the way. Move it, or choose another output folder with -o",
    errno.ENAMETOOLONG: "the name is too long for this disk. Choose a shorter one",
    errno.EIO: "the disk reports an error. Choose another output folder with -o",
}
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


def explain(error: OSError, what: str) -> OutputError:
    """The error a user sees when ``what`` could not be written."""
    reason = _REASONS.get(error.errno or 0) or f"{error.strerror or error}. Choose another output folder with -o"
    return OutputError(f"{what} cannot be written: {reason}.")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under its name only when whole and on the disk.

    Raises:
        OutputError: if it cannot be written; nothing is left behind.
    """
    part = path.with_name(f".{path.name}.part-{os.urandom(4).hex()}")
    try:
        with part.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        raise explain(error, path.name) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A UTF-8 text file, all or nothing.

    Raises:
        OutputError: if it cannot be written.
    """
    with atomic_write(path) as stream:
        stream.write(text.encode("utf-8"))


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 by name of every file in a result folder but the run record; for ``RunRecord.outputs``."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != RUN_FILE)
    return {path.name: file_sha256(path) for path in files}


def read_run(folder: Path, name: str = RUN_FILE) -> dict[str, Any] | None:
    """The run record of a result folder, or another record; None where there is none that can be read."""
    try:
        record = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def finished(folder: Path) -> bool:
    """Whether a result folder is whole: its run record is there, and every output it lists is unchanged."""
    outputs = (read_run(folder) or {}).get("outputs")
    if not isinstance(outputs, dict) or not outputs:
        return False
    try:
        return all(Path(name).name == name and file_sha256(folder / name) == sha for name, sha in outputs.items())
    except InputError:
        return False


def refuse_filled(folder: Path) -> None:
    """Keep what lies in a folder, hidden files apart.

    Raises:
        OutputError: if there is anything, or it cannot be looked at.
    """
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")] if folder.exists() else []
    except OSError as error:
        raise explain(error, f"the output folder {folder}") from error
    if entries:
        held = counted(len(entries), "file or folder", "files or folders")
        raise OutputError(f"{folder} already holds {held}. Pass --resume to go on with them, or choose another -o.")


def result_folder(output: Path, files: Study | Timepoint) -> Path:
    """Where the results of a study go: ``output/<id>``, resolved.

    Raises:
        InputError: if the id can be no name of a folder.
        OutputError: if its scans lie there.
    """
    check_study_id(files.id)
    final = (output / files.id).resolve()
    if isinstance(files, Timepoint) and any(final in path.resolve().parents for path in files.files.values()):
        raise OutputError(f"the results would take the place of the scans in {final}. Choose another output with -o.")
    return final


class OutputFolder:
    """A result folder that appears under its name only when whole.

    Use it as a context manager and write into :attr:`path`, a hidden folder beside the final one. When the block
    ends well, files are flushed and the folder gets its final name; when it ends with any exception, Ctrl-C
    included, the hidden folder is removed and an older result stays as it was. Meanwhile a hidden file beside it is
    locked, so that a second run is refused; the system takes the lock away with the process, however that ends.

    Args:
        final: the folder to make; missing parents are made.
        exists: what to do where ``final`` already holds something. ``overwrite`` replaces a folder that this program
            wrote, and only such a folder; it is kept until the new one is whole.

    Raises:
        OutputError: if ``final`` exists and may not be replaced, another run is writing it, or nothing can be written
            there.
    """

    def __init__(self, final: Path, *, exists: ExistsPolicy = "refuse") -> None:
        # Resolved, so that "." and ".." have a name and a parent.
        self.final = final.resolve()
        self.exists = exists
        self.path = self.final.with_name(f".{self.final.name}.part-{os.getpid()}-{os.urandom(3).hex()}")
        self._old = self.final.with_name(f".{self.final.name}.old")
        self._lock = _Lock(self.final.with_name(f".{self.final.name}.lock"))

    def check(self) -> None:
        """See whether the folder may be made, before hours of work and not after; nothing is left there.

        Raises:
            OutputError: as when it is made.
        """
        self.__enter__()
        self.path.rmdir()
        self._lock.release()

    def __enter__(self) -> OutputFolder:
        try:
            self.final.parent.mkdir(parents=True, exist_ok=True)
            if not self._lock.acquire():
                raise OutputError(
                    f"another run is writing {self.final} at this moment. Wait until it is done, or choose another "
                    "output folder with -o."
                )
            self._recover()
            self.check_existing()
            self.path.mkdir()
        except BaseException as error:  # of whatever kind: nothing stays behind
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock.release()
            if isinstance(error, OSError):
                raise explain(error, f"the output folder {self.final}") from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
        except OSError as failure:
            raise explain(failure, f"the output folder {self.final}") from failure
        finally:
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock.release()
        if isinstance(error, OSError) and self._is_ours(error):
            raise explain(error, f"the output folder {self.final}") from error

    def _is_ours(self, error: OSError) -> bool:
        """Whether an error that another writer let through is about these outputs."""
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return error.errno in _DISK_ERRORS or any(name.startswith(str(self.path)) for name in names)

    def _recover(self) -> None:
        """Undo what a run that was killed left behind."""
        if self._old.is_dir():
            if self.final.exists():
                shutil.rmtree(self._old)
            else:
                self._old.replace(self.final)
        for part in self.final.parent.glob(f".{glob.escape(self.final.name)}.part-*"):
            # Whoever made it held the lock, and would hold it now if it were alive.
            if part.is_dir() and (self._lock.is_held or time.time() - part.stat().st_mtime > _STALE_S):
                shutil.rmtree(part, ignore_errors=True)

    def check_existing(self) -> None:
        """See whether what is there already may be replaced; nothing is touched.

        Raises:
            OutputError: if it may not.
        """
        try:
            if not self.final.exists():
                return
            if not self.final.is_dir():
                raise OutputError(
                    f"{self.final} is a file, and a folder of that name is to be made. Choose another -o."
                )
            entries = {entry.name for entry in self.final.iterdir()} - _UNTIDY
        except OSError as error:
            raise explain(error, f"the output folder {self.final}") from error
        if not entries:
            return
        if self.exists == "refuse":
            raise OutputError(
                f"{self.final} already holds {counted(len(entries), 'file')}. Choose another output folder with -o, or "
                "pass --overwrite to replace what is there, or pass --resume to keep what is finished."
            )
        outputs = (read_run(self.final) or {}).get("outputs")
        if not isinstance(outputs, dict):
            raise OutputError(
                f"{self.final} holds no {RUN_FILE} of this program, so it is not overwritten. "
                "Choose another -o, or remove it yourself."
            )
        foreign = sorted(entries - set(outputs) - {RUN_FILE})
        if foreign:
            raise OutputError(
                f"{self.final} also holds what this program did not write ({some(foreign, 3)}), so it is not "
                "overwritten. Move that away, or choose another -o."
            )

    def _commit(self) -> None:
        for path in sorted(self.path.rglob("*")):
            if path.is_file():
                _sync(path)
        _sync(self.path)
        self.check_existing()  # hours may have passed since, and another program may have written there
        replaces = self.final.exists()
        if replaces:
            self.final.replace(self._old)
        try:
            self.path.replace(self.final)
        finally:
            if replaces and not self.final.exists():
                self._old.replace(self.final)
        _sync(self.final.parent)
        shutil.rmtree(self._old, ignore_errors=True)


class _Lock:
    """A file that one process at a time holds; it is there only while it is held."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self.is_held = False

    def acquire(self) -> bool:
        """Take it; False if another process, or another folder object of this one, holds it.

        On a file system without locks it is taken by everybody, and :attr:`is_held` stays False.

        Raises:
            OSError: if no file can be made there.
        """
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _lock_file(descriptor)
            except OSError as error:
                os.close(descriptor)
                if error.errno in _NO_LOCKS:
                    self._path.unlink(missing_ok=True)
                    return True
                if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                    return False
                raise
            self._descriptor, self.is_held = descriptor, True
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(descriptor), self._path.stat()):
                    return True
            self._close()  # the one who held it removed the file between opening and locking: another try

    def release(self) -> None:
        """Give it back, if it is held, and remove its file."""
        if self._descriptor is not None:
            if os.name != "nt":
                self._path.unlink(missing_ok=True)  # while it is held, so that nobody waits on a file that is gone
            self._close()
            if os.name == "nt":
                with contextlib.suppress(OSError):  # another run holds it by now
                    self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self.is_held = None, False


def _lock_file(descriptor: int) -> None:
    """Lock an open file for this process alone, without waiting; errors as the system tells them."""
    if os.name == "nt":
        import msvcrt  # noqa: PLC0415 - on Windows only

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl  # noqa: PLC0415 - not on Windows

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk; some systems cannot flush folders, which is harmless."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
