"""The command line as its own process: what only a real one shows."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_studies import entries, label_array, write_case, write_nifti

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "brats_seg"]
HEAVY = ("torch", "monai", "SimpleITK", "nibabel", "scipy", "openvino", "matplotlib", "pandas", "nilearn", "tqdm")
NO_NETWORK = (
    "import socket, sys\n"
    "def refuse(*a, **k): raise AssertionError('reached for the network')\n"
    "socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = socket.getaddrinfo = refuse\n"
    "from brats_seg.cli import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)
# A real signal at a moment that no busy machine can miss: half of the files are written, the record is not.
INTERRUPTED = (
    "import os, signal, sys\n"
    # a shell starts what runs in its background with the signal ignored
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from brats_seg.files import tables\n"
    "whole = tables.write_run\n"
    "def stop(value, path):\n"
    "    assert path.parent.name.startswith('.case.part-') and len(list(path.parent.iterdir())) > 2\n"
    "    os.kill(os.getpid(), signal.SIGINT)\n"
    "    whole(value, path)\n"
    "tables.write_run = stop\n"
    "from brats_seg.cli import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)


def environment() -> dict[str, str]:
    """That of a user: no settings for tests, the package from the working tree."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(*arguments: object, program: list[str] = PROGRAM, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*program, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=False, timeout=300, **options
    )  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Diameters of a lesion at two visits, which are judged without a scan."""
    path = tmp_path / "table.csv"
    head = "patient,visit,date,lesion,compartment,long_mm,short_mm"
    rows = ("P1,v1,2024-01-01,A,enhancing,20,10", "P1,v2,2024-03-01,A,enhancing,30,15")
    path.write_text("\n".join((head, *rows)) + "\n")
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """A label map, with the file beside it that says what its numbers mean."""
    (tmp_path / "p_seg.json").write_text(json.dumps({"LabelSchema": "brats2021"}))
    return write_nifti(label_array(1, 2, 4), np.eye(4), tmp_path / "p_seg.nii.gz")


@pytest.mark.slow
def test_segment_prints_the_result_and_nothing_else_and_needs_no_network(case: Path, model: Path, out: Path) -> None:
    program = [sys.executable, "-c", NO_NETWORK]
    done = run("segment", case, "-o", out, "--model", model, "--json", program=program)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["results"][0]["study"] == "case"
    assert (out / "case" / "case_report.html").is_file()


@pytest.mark.slow
def test_ctrl_c_in_the_middle_leaves_what_was_there(case: Path, model: Path, out: Path) -> None:
    # An earlier result to be overwritten, in the form the program leaves it.
    (out / "case").mkdir(parents=True)
    (out / "case" / "case_volumes.csv").write_text("earlier")
    record = {"outputs": {"case_volumes.csv": hashlib.sha256(b"earlier").hexdigest()}}
    (out / "case" / "run.json").write_text(json.dumps(record))
    before = entries(out)
    program = [sys.executable, "-c", INTERRUPTED]
    done = run("segment", case, "-o", out, "--model", model, "--overwrite", "--no-report", program=program)
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr == "brats-seg: interrupted; nothing unfinished was left behind\n"
    assert entries(out) == before
    assert (out / "case" / "case_volumes.csv").read_text() == "earlier"


# A signal at the moment a module begins to be loaded, whatever the machine's speed.
WHILE_LOADING = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "name, number = sys.argv.pop(1), int(sys.argv.pop(1))\n"
    "class Sender:\n"
    "    def find_spec(self, module, path=None, target=None):\n"
    "        if module == name:\n"
    "            os.kill(os.getpid(), number)\n"
    "sys.meta_path.insert(0, Sender())\n"
    "from brats_seg.cli import main\n"
    "sys.exit(main())\n"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("brats_seg.cli.commands", signal.SIGINT),
        ("argparse", signal.SIGHUP),
        ("numpy", signal.SIGTERM),
        ("onnxruntime", signal.SIGINT),
    ],
)
def test_a_signal_while_libraries_are_loaded_ends_in_one_line(
    module: str, number: int, case: Path, model: Path, out: Path
) -> None:
    default = f"import signal\nsignal.signal({int(number)}, signal.SIG_DFL)\n"  # whoever runs the tests may ignore it
    program = [sys.executable, "-c", default + WHILE_LOADING, module, str(int(number))]
    done = run("segment", case, "-o", out, "--model", model, program=program)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "brats-seg: interrupted; nothing unfinished was left behind\n"
    assert entries(out) == []


@pytest.mark.slow
def test_a_terminal_that_closes_stops_nothing_that_was_told_to_ignore_it(table: Path, out: Path) -> None:
    program = [sys.executable, "-c", WHILE_LOADING, "brats_seg.response.assess", str(int(signal.SIGHUP))]
    ignore = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    done = run("respond", table, "-o", out, program=[sys.executable, "-c", ignore, *program])
    assert done.returncode == 0, done.stderr
    assert "best response PD" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_closed_streams_are_no_crash_and_no_place_for_results(
    closed: tuple[int, ...], table: Path, out: Path, tmp_path: Path
) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    with (tmp_path / "printed").open("w") as printed:
        done = subprocess.run(
            [*PROGRAM, "respond", str(table), "-o", str(out)],
            stdout=printed, stderr=printed, env=environment(), check=False, preexec_fn=close,
        )  # fmt: skip
    assert done.returncode == 0, (tmp_path / "printed").read_text()
    assert ("best response PD" in (tmp_path / "printed").read_text()) is (1 not in closed)
    assert (out / "responses.csv").read_text().startswith("patient,")


def test_a_working_folder_that_is_gone_is_said(mask: Path, out: Path, tmp_path: Path) -> None:
    gone = (
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); os.execv(sys.argv[1], sys.argv[1:])"
    )
    done = run("measure", mask, "-o", out, program=[sys.executable, "-c", gone, *PROGRAM], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("brats-seg: the folder you are in does not exist any more")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("mib", [300, 1024])
def test_too_little_memory_for_the_libraries_is_said(mib: int, case: Path, model: Path, out: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mib * 2**20, mib * 2**20))

    done = run("segment", case, "-o", out, "--model", model, preexec_fn=limit)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.count("\n") == 1 and "memory" in done.stderr
    assert entries(out) == []


@pytest.mark.slow
def test_letters_a_console_lacks_are_replaced(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "Müller Ł"
    done = subprocess.run(
        [*PROGRAM, "respond", str(table), "-o", str(out)],
        capture_output=True, env={**environment(), "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"M\xfcller ?" in done.stdout
    assert (out / "responses.csv").is_file()


def test_exit_codes_and_messages(tmp_path: Path) -> None:
    done = run("check", tmp_path / "gone")
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("brats-seg: gone: there is no folder")
    assert "Traceback" not in done.stderr
    done = run("segment", "a", "--engine", "x", "-o", "b")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_measure_loads_no_network_library(mask: Path, out: Path) -> None:
    code = (
        "import sys\nfrom brats_seg.cli import main\ncode = main(sys.argv[1:])\n"
        "assert not {'torch', 'monai', 'SimpleITK', 'matplotlib', 'pydicom'} & set(sys.modules)\nsys.exit(code)"
    )
    done = run("measure", mask, "-o", out, program=[sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "ET lesion 1" in done.stdout


@pytest.mark.slow
def test_a_refusal_comes_before_anything_heavy_is_loaded(tmp_path: Path, out: Path) -> None:
    study, empty = write_case(tmp_path / "in" / "case"), tmp_path / "empty"
    empty.mkdir()
    (out / "case").mkdir(parents=True)
    (out / "case" / "mine.txt").write_text("kept")
    code = (
        "import sys\nfrom brats_seg.cli import main\ncode = main(['segment', *sys.argv[1:]])\n"
        f"loaded = {{*{HEAVY!r}, 'onnxruntime'}} & set(sys.modules)\n"
        "assert not loaded, loaded\nsys.exit(code)"
    )
    for arguments, exit_code, words in (
        ((study, "-o", out), 6, "already holds 1 file"),
        ((study, "-o", out, "--overwrite"), 6, "not overwritten"),
        ((empty, "-o", out), 3, "is empty"),
        ((study, "-o", tmp_path / "new", "--model", "none"), 4, "there is no model 'none'"),
    ):
        done = run(*arguments, program=[sys.executable, "-c", code])
        assert done.returncode == exit_code, done.stderr
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert entries(out / "case") == ["mine.txt"]
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_start_takes_little_processor_time() -> None:
    """Against a bare interpreter with numpy in the same minute: machines differ, and are not always free."""

    def spent(*arguments: str, program: list[str] = PROGRAM) -> float:
        seconds = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            run(*arguments, program=program)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(seconds)

    bare = spent(program=[sys.executable, "-c", "import numpy"])
    assert spent("models") < 5 * bare  # about 2; one heavy library makes it 10


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_crash(table: Path, out: Path) -> None:
    for arguments in (["respond", str(table), "-o", str(out)], ["models", "--json"]):
        read, write = os.pipe()
        os.close(read)
        process = subprocess.Popen([*PROGRAM, *arguments], stdout=write, stderr=subprocess.PIPE, env=environment())
        os.close(write)
        _, stderr = process.communicate(timeout=120)
        assert stderr == b"", stderr
        assert process.returncode == 0  # what was asked for is done


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_that_is_full_is_an_output_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "models"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert done.returncode == 6
    assert done.stderr.startswith("brats-seg: standard output cannot be written")
    assert done.stderr.count("\n") == 1
