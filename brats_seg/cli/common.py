"""What several commands share: options, the studies a command line names, progress bars, failures."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from brats_seg.core.errors import UNFORESEEN, BratsSegError, InputError, OutputError, UsageError, explained
from brats_seg.core.study import SEQUENCES, MRSequence

if TYPE_CHECKING:
    from brats_seg.core.study import Timepoint

Result = TypeVar("Result")
Failures = list[tuple[str, BratsSegError]]
"""Names of studies (or folders) and what is wrong with each."""

ALIASES: Mapping[MRSequence, tuple[str, ...]] = {
    MRSequence.T1: ("t1n",),
    MRSequence.T1CE: ("t1c", "t1gd"),
    MRSequence.T2: ("t2w",),
    MRSequence.FLAIR: ("t2f", "fla"),
}
"""Other option names that users of BraTS 2023 and of other programs type."""

STEP_WORDS: Mapping[str, str] = {
    "read": "reading the scans",
    "extract": "looking for skull, and for the brain within",
    "prepare": "preparing",
    "coarse": "looking at the whole brain",
    "fine": "looking closer",
    "restore": "back to the scan's grid",
    "measure": "measuring",
    "write": "writing",
    "report": "drawing the report",
    "phantom": "making the phantom patient",
}
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


class Once(argparse.Action):
    """Stores a value, and refuses a second one; argparse alone would silently take the last."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the value.

        Raises:
            ArgumentError: if there is one already.
        """
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "given twice; pass it once")
        setattr(namespace, self.dest, values)


def add_sequence_options(parser: argparse.ArgumentParser) -> None:
    """``--t1 FILE`` and its siblings with their aliases, and ``--id``."""
    group = parser.add_argument_group("one study by its files, instead of STUDY (any of the four may be left out)")
    for sequence in SEQUENCES:
        also = ", ".join(f"--{alias}" for alias in ALIASES[sequence])
        words = f"the {sequence.title} scan (also {also})"
        group.add_argument(f"--{sequence.value}", type=Path, metavar="FILE", action=Once, help=words)
        for alias in ALIASES[sequence]:
            group.add_argument(
                f"--{alias}", dest=sequence.value, type=Path, metavar="FILE", action=Once, help=argparse.SUPPRESS
            )
    group.add_argument(
        "--channels",
        type=channel_order,
        metavar="ORDER",
        help="sequences of STUDY's files CASE_0000 to CASE_0003, or of the volumes of 4D files: flair,t1,t1ce,t2",
    )
    group.add_argument(
        "--sequence",
        type=series_choice,
        action="append",
        default=[],
        metavar="NAME=SERIES",
        help="the DICOM series of a sequence, by its number or the end of its UID, as in t1ce=5; none leaves it out",
    )
    group.add_argument(
        "--id", metavar="NAME", help="name of the study in all outputs, free of personal data (default: folder's name)"
    )


def add_brain_mask_option(parser: Any) -> None:
    """``--brain-mask FILE``, to a parser or a group."""
    parser.add_argument(
        "--brain-mask",
        type=Path,
        metavar="FILE",
        help="the brain of a study with skull, in the space of one of its scans, instead of finding it",
    )


def check_brain_mask(arguments: argparse.Namespace, studies: Sequence[Timepoint]) -> None:
    """Refuse a mask for several studies.

    Raises:
        UsageError: if there are.
    """
    if arguments.brain_mask is not None and len(studies) > 1:
        raise UsageError(f"--brain-mask is for one study, and {len(studies)} were found. Pass them one at a time.")


def channel_order(text: str) -> tuple[MRSequence, ...]:
    """Type of ``--channels``: each sequence once, by its name or an alias of its option."""
    names = {name: sequence for sequence in SEQUENCES for name in (sequence.value, *ALIASES[sequence])}
    words = [word.strip().lower() for word in text.split(",")]
    unknown = [word for word in words if word not in names]
    order = tuple(names[word] for word in words if word in names)
    if unknown or len(set(order)) < len(order):
        raise argparse.ArgumentTypeError(f"{text!r} is no order of sequences; name each once, as in flair,t1,t1ce,t2")
    return order


def series_choice(text: str) -> tuple[MRSequence, str]:
    """Type of ``--sequence``: a sequence, by its name or an alias of its option, and a DICOM series."""
    names = {name: sequence for sequence in SEQUENCES for name in (sequence.value, *ALIASES[sequence])}
    name, sign, series = text.partition("=")
    if not sign or not series.strip() or name.strip().lower() not in names:
        raise argparse.ArgumentTypeError(f"{text!r} names no series of a sequence; say it as in t1ce=5")
    return names[name.strip().lower()], series.strip()


def add_print_options(parser: argparse.ArgumentParser, *, verbose: str) -> None:
    """``-q``, ``-v`` (with what it adds, in words) and ``--json``."""
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors, show no progress")
    parser.add_argument("-v", "--verbose", action="store_true", help=f"also print {verbose}")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of text")


def device_name(text: str) -> str:
    """Type of ``--device``: refuses what can be no device before anything heavy is loaded."""
    if text.lower().split(":")[0] == "mps":
        raise argparse.ArgumentTypeError(
            "Apple GPUs (mps) are not supported yet; pass --device cpu, which works on a Mac"
        )
    if _DEVICE.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is no device; choose cpu, cuda or cuda:N")


def device_name_or_auto(text: str) -> str:
    """As :func:`device_name`, and ``auto``."""
    if text == "auto":
        return text
    try:
        return device_name(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(str(error).replace("choose cpu", "choose auto, cpu")) from None


def studies_of(arguments: argparse.Namespace, failures: Failures) -> list[Timepoint]:
    """The studies a command line names; folders that are wrong go to ``failures``.

    Raises:
        UsageError: if none is named, folders and single files are mixed, or one study is named twice.
        InputError: if a study named by its files or with ``--id`` is wrong.
    """
    from brats_seg.files.find import find_studies, find_study, study_from_files

    named = {s: getattr(arguments, s.value) for s in SEQUENCES if getattr(arguments, s.value) is not None}
    if named and arguments.channels is not None:
        raise UsageError("--channels says what STUDY holds; files passed with --t1 and its like need it not")
    if named and arguments.studies:
        raise UsageError("pass folders, or single files with --t1, --t1ce, --t2 and --flair, not both")
    asked = _asked(arguments, named)
    if named:
        return [study_from_files(named, study_id=arguments.id)]
    if not arguments.studies:
        raise UsageError("nothing to do: pass a study's folder, or its files with --t1, --t1ce, --t2 and --flair")
    if arguments.channels is not None:
        return _studies_by_channel(arguments)
    if arguments.id is not None:
        if len(arguments.studies) > 1:
            raise UsageError("--id names one study, and several folders were passed. Pass them one at a time.")
        return _with_series([find_study(arguments.studies[0], study_id=arguments.id, asked=asked)], asked)
    found: list[Timepoint] = []
    for folder in arguments.studies:
        try:
            wrong = partial(_note_failure, failures)
            found.extend(find_studies(folder, asked=asked, on_error=wrong))
        except InputError as error:
            failures.append((folder.name or str(folder), error))
    _refuse_repeats(found)
    return _with_series(found, asked)


def _note_failure(failures: Failures, place: Path, error: InputError) -> None:
    failures.append((place.name, error))


def _asked(arguments: argparse.Namespace, named: Mapping[MRSequence, Path]) -> dict[MRSequence, str]:
    """DICOM series named for a sequence."""
    asked = dict(arguments.sequence)
    if len(asked) < len(arguments.sequence):
        raise UsageError("--sequence names a sequence twice; name each once")
    if asked and (named or arguments.channels is not None):
        raise UsageError("--sequence chooses among DICOM series; files passed with --t1 and its like need it not")
    return asked


def _with_series(found: list[Timepoint], asked: Mapping[MRSequence, str]) -> list[Timepoint]:
    """The studies, if series that were named can be theirs."""
    from brats_seg.files.dicom_study import DicomTimepoint

    if asked and (len(found) > 1 or not all(isinstance(study, DicomTimepoint) for study in found)):
        raise UsageError("--sequence chooses among the DICOM series of one exam. Pass that exam alone.")
    return found


def _studies_by_channel(arguments: argparse.Namespace) -> list[Timepoint]:
    from brats_seg.files.find import studies_by_channel
    from brats_seg.files.study_id import check_study_id

    found = [study for place in arguments.studies for study in studies_by_channel(place, arguments.channels)]
    if arguments.id is not None:
        if len(found) > 1:
            raise UsageError(f"--id names one study, and {len(found)} were found. Pass them one at a time.")
        found = [replace(found[0], id=check_study_id(arguments.id))]
    _refuse_repeats(found)
    return found


def _refuse_repeats(found: Sequence[Timepoint]) -> None:
    seen: dict[str, Timepoint] = {}
    for study in found:
        other = seen.setdefault(study.id, study)
        if other is study:
            continue
        if other.files == study.files:
            raise UsageError(f"study {study.id} is named twice. Name it once.")
        places = " and ".join(str(next(iter(s.files.values())).parent) for s in (other, study))
        raise UsageError(
            f"two studies would both be called {study.id} ({places}). Pass them one at a time, with --id NAME."
        )


def report_failures(failures: Failures, *, finished: int) -> int:
    """List what failed on standard error.

    Args:
        failures: what failed.
        finished: how many studies went well.

    Returns:
        The exit code: 0 without failures, the common one of all failures, else 1.
    """
    for name, error in failures:
        complain(f"{name}: {error}")
    failed = len({name for name, _ in failures})
    if failed and failed + finished > 1:
        complain(f"{failed} of {failed + finished} studies failed")
    codes = {error.exit_code for _, error in failures}
    return 0 if not codes else codes.pop() if len(codes) == 1 else 1


def attempt(name: str, work: Callable[[], Result], failures: Failures) -> Result | None:
    """Do the work of one of several; whatever goes wrong is listed, and the others are done all the same.

    Returns:
        What ``work`` returned, or None if it failed.
    """
    try:
        return work()
    except (BratsSegError, *UNFORESEEN) as error:
        failures.append((name, explained(error)))
        return None


def failures_as_json(failures: Failures) -> list[dict[str, Any]]:
    """Failures as plain values."""
    return [{"study": name, "error": str(error), "exit_code": error.exit_code} for name, error in failures]


@contextmanager
def progress(title: str, total: int, *, hidden: bool, lines: bool = False) -> Iterator[Callable[[str], None]]:
    """A progress bar on standard error, shown on a terminal only and gone at the end.

    Args:
        title: what is worked on.
        total: number of steps.
        hidden: show nothing even on a terminal.
        lines: without a terminal, write a line for each step: for a log of what takes long.

    Yields:
        A function to be called with the name of each step before it runs.
    """
    from tqdm import tqdm

    # disable=None: tqdm shows the bar on a terminal only
    layout = "{desc} {bar:20} {n_fmt}/{total_fmt} {elapsed}"
    with tqdm(total=total, disable=True if hidden else None, leave=False, bar_format=layout) as bar:
        steps: list[str] = []

        def tick(step: str) -> None:
            bar.n = min(len(steps), total)
            steps.append(step)
            if lines and not hidden and bar.disable:
                log(f"[{min(len(steps), total)}/{total}] {title}: {STEP_WORDS.get(step, step)}")
            bar.set_description_str(f"{title}: {STEP_WORDS.get(step, step)}")

        yield tick


def say(text: str, *, quiet: bool = False) -> None:
    """Print at once, so that a log grows while the program runs; where the reader went away, print nothing more.

    Raises:
        OutputError: if standard output takes no more (a full disk).
    """
    if not quiet:
        with _stdout_explained():
            print(text, flush=True)


def complain(text: str) -> None:
    """What went wrong, as a line on standard error, if anybody reads it."""
    log(f"brats-seg: {text}")


def log(text: str) -> None:
    """A line on standard error, if anybody reads it."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def flush() -> None:
    """Write out what other functions printed, where a failure can still be explained; errors as for :func:`say`."""
    with _stdout_explained():
        sys.stdout.flush()


@contextmanager
def _stdout_explained() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _abandon_stdout()
    except OSError as error:
        _abandon_stdout()
        raise OutputError(f"standard output cannot be written: {error.strerror or error}") from error


def _abandon_stdout() -> None:
    """Send what is still to be printed nowhere, so that the interpreter's exit does not complain."""
    with suppress(OSError, io.UnsupportedOperation):
        target = os.open(os.devnull, os.O_WRONLY)
        os.dup2(target, sys.stdout.fileno())
        os.close(target)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """What ``train`` and ``crossval`` have in common."""
    parser.add_argument("--data", type=Path, required=True, metavar="DATASET", help="labelled studies, or packs")
    parser.add_argument(
        "--auxiliary",
        type=Path,
        action="append",
        default=[],
        metavar="DATASET",
        help="more labelled studies, of other patients, such as phantoms, for the share of the samples that the "
        "configuration gives them; never validated on; repeatable",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="FOLDER",
        help="probabilities of another network for some of the studies, ID.npz beside ID's label, for the share of the "
        "target that CONFIG gives them",
    )
    parser.add_argument(
        "--cubes",
        type=Path,
        metavar="FILE",
        help="labelled parts of further patients, in one .npz file, as many of which are placed into a sample as "
        "CONFIG says",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN")
    parser.add_argument("--device", default="cpu", type=device_name, help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--precision",
        choices=("auto", "bf16", "fp32"),
        help="of the network's arithmetic, instead of what CONFIG says; bf16 halves the time of a step on a CPU "
        "that has it (avx512_bf16 or amx_bf16), and is what auto takes on a GPU",
    )
    parser.add_argument("--stop-after-s", type=float, metavar="S", help="leave with a checkpoint after S seconds")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors, show no progress")


def given_besides(arguments: argparse.Namespace) -> dict[str, bool]:
    """Which of the options of :func:`add_training_options` that add to the studies were passed."""
    return {name: bool(getattr(arguments, name)) for name in ("auxiliary", "teacher", "cubes")}


@contextmanager
def training_run(folder: Path, *, mark: str, resume: bool) -> Iterator[None]:
    """Refuse a run folder that holds a run, and say what a run that breaks off leaves behind.

    Raises:
        OutputError: if there is a run already and ``resume`` is not given, or the folder cannot be written.
        KeyboardInterrupt: passed on once it was said how to go on.
    """
    if (folder / mark).exists() and not resume:
        # Said before packing, which takes minutes.
        raise OutputError(f"{folder} holds a run already. Pass --resume to go on with it, or another -o.")
    try:
        yield
    except KeyboardInterrupt:
        complain("stopped; the last checkpoint is whole, go on with --resume")
        raise
    except OSError as error:
        from brats_seg.files.output import explain

        raise explain(error, f"the run folder {folder}") from error
