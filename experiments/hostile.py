"""What damaged and hostile DICOM costs until it is refused: ``python -m experiments.hostile -o OUT.tsv``.

Every kind that ``tests/files/hostile_dicom.py`` makes goes through ``segment`` in a process of its own. Written are,
for each, the exit code and whether anything was written; seconds by the clock and of CPU; and the peak memory of the
process, with the libraries that were loaded before.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "files"))

from hostile_dicom import KINDS, sound_exam

import brats_seg.run.segment  # noqa: F401 - loaded before the clock runs
from brats_seg.cli import main as command_line

COLUMNS = ("kind", "exit_code", "written", "clock_s", "cpu_s", "peak_mib")


def in_a_process(work: Callable[[], int]) -> tuple[int, float, float, float]:
    """Exit code, seconds by the clock, seconds of CPU and peak memory in MiB."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            os._exit(work())
    _, status, used = os.wait4(child, 0)
    seconds = time.monotonic() - began
    return os.waitstatus_to_exitcode(status), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Measure every kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", required=True, type=Path)
    arguments = parser.parse_args()
    lines = ["\t".join(COLUMNS)]
    for name, (spoil, _) in KINDS.items():
        with tempfile.TemporaryDirectory() as place:
            exam, out = sound_exam(Path(place) / "exam"), Path(place) / "out"
            spoil(exam)
            given = ["segment", str(exam), "-o", str(out), "--no-report", "--quiet"]
            code, *figures = in_a_process(lambda given=given: command_line(given))
            written = sum(path.is_file() for path in out.rglob("*")) if out.exists() else 0
        lines.append("\t".join((name, str(code), str(written), *(f"{value:.2f}" for value in figures))))
    arguments.output.write_text("\n".join(lines) + "\n")
    print(f"{len(KINDS)} kinds")


if __name__ == "__main__":
    main()
