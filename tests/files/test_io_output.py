"""Nothing half-written ever looks finished, and no result is lost to a run that failed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from brats_seg.core.errors import OutputError
from brats_seg.core.visit import RunRecord
from brats_seg.files import output
from brats_seg.files.output import OutputFolder, atomic_write, file_hashes, finished, read_run, write_text
from brats_seg.files.tables import write_run


def write_result(final: Path, text: str = "one", **options: str) -> None:
    with OutputFolder(final, **options) as folder:
        write_text(folder.path / "case_volumes.csv", text)
        outputs = file_hashes(folder.path)
        write_run(RunRecord("case", {"brats_seg": "0"}, outputs=outputs), folder.path / "run.json")


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_appears_whole_under_its_name(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "out" / "case"
    with OutputFolder(final) as folder:
        assert not final.exists() and folder.path.name.startswith(".case.part-")
        (folder.path / "a.txt").write_text("a")
        (folder.path / "sub").mkdir()
    assert entries(final) == ["a.txt", "sub"]
    assert entries(final.parent) == ["case"]
    # As open to others as any folder the user makes, not private like a temporary one.
    (tmp_path / "plain").mkdir()
    assert final.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_any_exception_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), OutputFolder(tmp_path / "case") as folder:
        (folder.path / "a.txt").write_text("a")
        raise error
    assert entries(tmp_path) == []


def test_an_existing_result_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    write_result(tmp_path / "case")
    with pytest.raises(OutputError, match=r"already holds 2 files.*-o.*--overwrite.*--resume") as caught:
        write_result(tmp_path / "case", "two")
    assert caught.value.exit_code == 6
    assert (tmp_path / "case" / "case_volumes.csv").read_text() == "one"
    assert entries(tmp_path) == ["case"]


def test_an_empty_folder_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / ".DS_Store").touch()
    write_result(tmp_path / "case")
    assert finished(tmp_path / "case")
    assert entries(tmp_path) == ["case"]


def test_overwrite_replaces_when_whole_and_keeps_the_old_otherwise(tmp_path: Path) -> None:
    write_result(tmp_path / "case")
    with pytest.raises(KeyboardInterrupt), OutputFolder(tmp_path / "case", exists="overwrite") as folder:
        (folder.path / "b.txt").write_text("b")
        assert finished(tmp_path / "case")
        raise KeyboardInterrupt
    assert finished(tmp_path / "case") and entries(tmp_path) == ["case"]
    write_result(tmp_path / "case", "two", exists="overwrite")
    assert (tmp_path / "case" / "case_volumes.csv").read_text() == "two"
    assert entries(tmp_path) == ["case"]


def test_a_failed_rename_brings_the_old_result_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_result(tmp_path / "case")
    original = Path.replace

    def fails(self: Path, target: Path) -> Path:
        if self.name.startswith(".case.part-"):
            raise OSError(errno.EIO, "Input/output error", str(self))
        return original(self, target)

    monkeypatch.setattr(Path, "replace", fails)
    with (
        pytest.raises(OutputError, match="the disk reports an error"),
        OutputFolder(tmp_path / "case", exists="overwrite"),
    ):
        pass
    assert finished(tmp_path / "case") and entries(tmp_path) == ["case"]


@pytest.mark.parametrize("name", ["run.json", "notes.txt"])
def test_overwrite_never_removes_what_it_did_not_write(tmp_path: Path, name: str) -> None:
    if name == "notes.txt":
        write_result(tmp_path / "case")
    else:
        (tmp_path / "case").mkdir()
        (tmp_path / "case" / "thesis.docx").touch()
    (tmp_path / "case" / name).write_text("{}")
    before = entries(tmp_path / "case")
    with pytest.raises(OutputError, match="not overwritten"):
        write_result(tmp_path / "case", exists="overwrite")
    assert entries(tmp_path / "case") == before and entries(tmp_path) == ["case"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="is a file, and a folder of that name"):
        write_result(tmp_path / "out")
    with pytest.raises(OutputError, match="a file of that name is in the way"):
        write_result(tmp_path / "out" / "case")


def test_a_folder_without_the_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    if os.access(locked, os.W_OK):  # an administrator may write everywhere

        def denied(self: Path, *_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))

        monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(OutputError, match="no right to write there"):
        write_result(locked / "case")
    assert entries(locked) == []


@contextlib.contextmanager
def small_files_only() -> Iterator[None]:
    """The system refuses to let a file grow, as a full disk does: a real failure in the middle of writing.

    Inside a test only: the test runner's own output may be a file, and must not meet the limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)


def test_a_write_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with small_files_only(), pytest.raises(OutputError, match="larger than this disk") as caught:
        write_text(tmp_path / "a.txt", "x" * 10_000)
    assert caught.value.exit_code == 6
    assert entries(tmp_path) == []
    with small_files_only(), pytest.raises(OutputError), OutputFolder(tmp_path / "case") as folder:
        write_text(folder.path / "small.txt", "x")
        write_text(folder.path / "a.txt", "x" * 10_000)
    assert entries(tmp_path) == []


def test_other_writers_failures_are_explained_too(tmp_path: Path) -> None:
    message = r"output folder .*larger than this disk"
    with small_files_only(), pytest.raises(OutputError, match=message), OutputFolder(tmp_path / "c") as folder:
        (folder.path / "picture.png").write_bytes(b"x" * 10_000)
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "word"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota")]
)
def test_a_full_or_read_only_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, word: str) -> None:
    def fails(_: int) -> None:
        raise OSError(code, os.strerror(code))

    write_result(tmp_path / "case")
    monkeypatch.setattr(output.os, "fsync", fails)
    with pytest.raises(OutputError, match=word):
        write_result(tmp_path / "case", exists="overwrite")
    monkeypatch.undo()
    assert finished(tmp_path / "case") and entries(tmp_path) == ["case"]


def test_errors_about_other_things_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), OutputFolder(tmp_path / "case"):
        (tmp_path / "elsewhere").read_text()


def test_one_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ValueError), atomic_write(tmp_path / "a.txt") as stream:
        stream.write(b"half")
        raise ValueError
    assert (tmp_path / "a.txt").read_text() == "old" and entries(tmp_path) == ["a.txt"]
    write_text(tmp_path / "a.txt", "Größe")
    assert (tmp_path / "a.txt").read_bytes().decode() == "Größe"


def test_everything_is_flushed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    flush, rename = os.fsync, Path.replace

    def flushed(descriptor: int) -> None:
        steps.append(f"flush {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        flush(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        steps.append(f"rename to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(output.os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    with OutputFolder(tmp_path / "case") as folder:
        write_text(folder.path / "a.txt", "a")
        (folder.path / "b.png").write_bytes(b"b")
        part = folder.path.name
    assert steps[0].startswith("flush .a.txt.part-") and steps[1] == "rename to a.txt"
    assert steps[2:] == ["flush a.txt", "flush b.png", f"flush {part}", "rename to case", f"flush {tmp_path.name}"]


# Finished


def test_finished_needs_the_record_and_every_output_unchanged(tmp_path: Path) -> None:
    final = tmp_path / "case"
    assert not finished(final)
    write_result(final)
    assert finished(final)
    (final / "case_volumes.csv").write_text("changed")
    assert not finished(final)
    (final / "case_volumes.csv").unlink()
    assert not finished(final)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"outputs": {}}', '{"outputs": 3}', '{"outputs": {"../case/x": "0"}}', "\udcff"]
)
def test_a_record_that_is_not_whole_is_not_finished(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert not finished(tmp_path)


def test_a_record_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    outside = {"../x": file_hashes(tmp_path)["x"]}
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "run.json").write_text(json.dumps({"outputs": outside}))
    assert not finished(tmp_path / "case")


def test_the_record_reads_back(tmp_path: Path) -> None:
    write_result(tmp_path / "case")
    record = read_run(tmp_path / "case")
    assert record is not None and record["study_id"] == "case"
    assert record["outputs"] == file_hashes(tmp_path / "case")
    assert read_run(tmp_path) is None


# Runs that were killed


def test_a_killed_run_leaves_nothing_that_looks_finished_and_is_cleaned_up_later(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from brats_seg.files.output import OutputFolder
        with OutputFolder(Path(sys.argv[1])) as folder:
            (folder.path / "a.txt").write_text("a")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    run = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "case")]
    assert subprocess.run(run, check=False).returncode == -signal.SIGKILL
    assert [name.split("-")[0] for name in entries(tmp_path)] == [".case.lock", ".case.part"]
    write_result(tmp_path / "case")
    assert entries(tmp_path) == ["case"]


def test_without_locks_what_may_still_be_going_on_is_left_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(output, "_lock_file", no_locks)
    part = tmp_path / ".case.part-1-abc"
    part.mkdir()
    write_result(tmp_path / "case")
    assert part.exists()
    old = time.time() - 2 * 24 * 3600
    os.utime(part, (old, old))
    write_result(tmp_path / "case", exists="overwrite")
    assert entries(tmp_path) == ["case"]


@pytest.mark.parametrize("exists", ["refuse", "overwrite"])
def test_a_second_run_is_refused_while_the_first_writes(tmp_path: Path, exists: str) -> None:
    with OutputFolder(tmp_path / "case") as folder:
        (folder.path / "a.txt").write_text("a")
        with pytest.raises(OutputError, match="another run is writing") as caught:
            write_result(tmp_path / "case", exists=exists)
        assert caught.value.exit_code == 6 and (folder.path / "a.txt").exists()
    assert entries(tmp_path) == ["case"] and entries(tmp_path / "case") == ["a.txt"]


def test_a_lock_of_a_process_that_is_gone_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".case.lock").write_text("4711")
    write_result(tmp_path / "case")
    assert entries(tmp_path) == ["case"]


@pytest.mark.parametrize("exists", ["refuse", "overwrite"])
@pytest.mark.parametrize("before", [False, True])
def test_what_others_put_there_meanwhile_is_never_replaced(tmp_path: Path, exists: str, before: bool) -> None:
    if before and exists == "overwrite":
        write_result(tmp_path / "case")
    with (
        pytest.raises(OutputError, match=r"not overwritten|already holds"),
        OutputFolder(tmp_path / "case", exists=exists) as folder,
    ):
        write_text(folder.path / "a.txt", "a")
        (tmp_path / "case").mkdir(exist_ok=True)
        (tmp_path / "case" / "thesis.docx").write_text("mine")
    assert (tmp_path / "case" / "thesis.docx").read_text() == "mine"
    assert entries(tmp_path) == ["case"]


def test_a_run_killed_between_its_two_renames_gives_the_old_result_back(tmp_path: Path) -> None:
    write_result(tmp_path / "case")
    (tmp_path / "case").rename(tmp_path / ".case.old")
    with pytest.raises(OutputError, match="already holds"):
        write_result(tmp_path / "case", "two")
    assert finished(tmp_path / "case") and entries(tmp_path) == ["case"]


def test_a_run_killed_after_its_renames_only_left_rubbish(tmp_path: Path) -> None:
    write_result(tmp_path / "case", "new")
    (tmp_path / ".case.old").mkdir()
    (tmp_path / ".case.old" / "run.json").write_text(json.dumps({}))
    write_result(tmp_path / "case", "newer", exists="overwrite")
    assert entries(tmp_path) == ["case"]
