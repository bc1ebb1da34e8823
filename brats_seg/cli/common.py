"""What several commands share: the studies a command line names, progress bars, printing, failures."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from brats_seg.core.errors import UNFORESEEN, BratsSegError, InputError, OutputError, UsageError, explained
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.core.words import Tick

if TYPE_CHECKING:
    from brats_seg.core.course import CourseEpisode
    from brats_seg.core.study import Timepoint
    from brats_seg.files.find import UnnamedScansError
    from brats_seg.files.output import ExistsPolicy

Result = TypeVar("Result")
Failures = list[tuple[str, BratsSegError]]
"""Names of studies (or folders) and what is wrong with each."""

STEP_WORDS: Mapping[str, str] = {
    "read": "reading the scans",
    "extract": "looking for skull, and for the brain within",
    "prepare": "preparing",
    "coarse": "segmenting the whole brain",
    "fine": "segmenting the tumour",
    "restore": "back to the scan's grid",
    "measure": "measuring",
    "write": "writing",
    "report": "drawing the report",
    "phantom": "making the phantom patient",
}
_WORTH_SAYING_S = 15.0


def studies_of(arguments: argparse.Namespace, failures: Failures) -> list[Timepoint]:
    """The studies a command line names; folders that are wrong go to ``failures``.

    Raises:
        UsageError: if none is named, folders and single files are mixed, one study is named twice, or a mask of the
            brain is for several.
        InputError: if a study named by its files or with ``--id`` is wrong.
    """
    found = _studies_named(arguments, failures)
    if getattr(arguments, "brain_mask", None) is not None and len(found) > 1:
        raise UsageError(f"--brain-mask is for one study, and {len(found)} were found. Pass them one at a time.")
    return found


def _studies_named(arguments: argparse.Namespace, failures: Failures) -> list[Timepoint]:
    from brats_seg.files.find import UnnamedScansError, find_studies, find_study

    named = {s: getattr(arguments, s.value) for s in SEQUENCES if getattr(arguments, s.value) is not None}
    if named and arguments.channels is not None:
        raise UsageError("--channels says what STUDY holds; files passed with --t1 and its like need it not")
    if named and arguments.studies:
        raise UsageError("pass folders, or single files with --t1, --t1ce, --t2 and --flair, not both")
    asked = _asked(arguments, named)
    if named:
        return [_study_of_files(named, arguments.id)]
    if not arguments.studies:
        raise UsageError("nothing to do: pass a study's folder, or its files with --t1, --t1ce, --t2 and --flair")
    if arguments.channels is not None:
        return _studies_by_channel(arguments)
    if arguments.id is not None:
        if len(arguments.studies) > 1:
            raise UsageError("--id names one study, and several folders were passed. Pass them one at a time.")
        try:
            study = _settled(find_study(arguments.studies[0], study_id=arguments.id, asked=asked))
        except UnnamedScansError as error:
            study = _by_images(error, arguments.id)
        return _with_series([study], asked)
    found: list[Timepoint] = []

    def wrong(place: Path, error: InputError) -> None:
        if not isinstance(error, UnnamedScansError):
            failures.append((place.name, error))
        elif named_one := attempt(place.name, partial(_by_images, error), failures):
            found.append(named_one)

    for folder in arguments.studies:
        try:
            for study in find_studies(folder, asked=asked, on_error=wrong):
                if told := attempt(study.id, partial(_settled, study), failures):
                    found.append(told)
        except InputError as error:
            failures.append((folder.name or str(folder), error))
    _refuse_repeats(found)
    return _with_series(found, asked)


def _study_of_files(named: Mapping[MRSequence, Path], study_id: str | None) -> Timepoint:
    from brats_seg.files.file_bytes import file_bytes
    from brats_seg.files.find import study_from_files

    for path in named.values():
        file_bytes(path, 0)  # refused before anything is loaded
    return study_from_files(named, study_id=study_id)


def _by_images(unnamed: UnnamedScansError, study_id: str | None = None) -> Timepoint:
    from brats_seg.run.identify import by_images

    return by_images(unnamed, study_id=study_id)


def _settled(study: Timepoint) -> Timepoint:
    """The study as it is, or with what its images say where its DICOM headers leave something open."""
    if not study.question:
        return study
    from brats_seg.run.identify import settled

    return settled(study)


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
    if not asked:
        return found
    from brats_seg.files.dicom_study import DicomTimepoint

    if len(found) > 1 or not all(isinstance(study, DicomTimepoint) for study in found):
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
            f"two studies would both be called {study.id} ({places}). Pass the folder that holds both, or one at "
            "a time with --id NAME."
        )


def exists_policy(arguments: argparse.Namespace) -> ExistsPolicy:
    """What to do with results that are there already; with ``--resume`` those are replaced that do not stand."""
    return "overwrite" if arguments.overwrite or getattr(arguments, "resume", False) else "refuse"


def brain_masks(ignored: Sequence[str]) -> list[str]:
    """The masks of the brain among files that were not used, by their names."""
    from brats_seg.files.names import is_brain_mask

    return [name for name in ignored if is_brain_mask(name)]


def offered_masks(ignored: Sequence[str], visit: str = "") -> list[str]:
    """A line that offers the masks of the brain among files that were not used, of scans with skull; else none.

    Args:
        ignored: names of files that were not used.
        visit: of a patient, where the option names it.
    """
    masks, at, file = ", ".join(brain_masks(ignored)), f"{visit}: " * bool(visit), f"{visit}=" * bool(visit) + "FILE"
    return [f"  {at}not used: {masks}; --brain-mask {file} takes a mask instead of finding the brain"] if masks else []


def check_extraction(arguments: argparse.Namespace) -> None:
    """See that the networks that find a brain are there, before anything is read.

    Raises:
        InputError: if they are not installed.
    """
    if arguments.brain_extraction == "hd-bet":
        from brats_seg.models.hd_bet import require_hd_bet

        require_hd_bet()


def episode_lines(episode: CourseEpisode, by: str, rows: Mapping[str, Sequence[str]] | None = None) -> Iterator[str]:
    """What a person reads of an episode of treatment: what was judged, the verdicts, and what a reader must see.

    Args:
        by: ``visit`` or ``when``, what visits are called by.
        rows: further lines by measure.
    """
    yield f"    disease {episode.disease} ({episode.disease_reason})"
    for measure in episode.best:
        yield f"    {measure}: {_verdict(episode, measure, by)}"
        yield from (rows or {}).get(measure, ())
    yield from (f"    reader needed: {look.words} ({getattr(look, by)})" for look in episode.reader_needed)


def _verdict(episode: CourseEpisode, measure: str, by: str) -> str:
    """Best response and progression in words, with what decided it."""
    best, progression = episode.best[measure], episode.progression[measure]
    if best is None:
        return episode.unjudged[measure] or "no visit after the baseline"
    at = "at" if by == "visit" else "on"
    opening = f"best response {best.category}{f' ({best.status})' if best.status else ''} {at} {getattr(best, by)}"
    if progression is None:
        return f"{opening}, no progression"
    doubt = f" ({progression.status})" if progression.status else ""
    return f"{opening}, progression {at} {getattr(progression, by)}{doubt}: {progression.decided_by}"


def report_failures(
    failures: Failures, *, finished: int, what: str = "studies", doubts: Sequence[tuple[str, BratsSegError]] = ()
) -> int:
    """List what failed on standard error.

    Args:
        finished: how many did not fail.
        what: was done, in the plural.
        doubts: about what is finished; the exit code tells of them, too.

    Returns:
        The exit code: 0 without failures, the common one of all failures, else 1.
    """
    for name, error in (*failures, *doubts):
        complain(f"{name}: {error}")
    failed = len({name for name, _ in failures})
    if failed and failed + finished > 1:
        complain(f"{failed} of {failed + finished} {what} failed")
    codes = {error.exit_code for _, error in (*failures, *doubts)}
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


def print_rows(arguments: argparse.Namespace, rows: list[dict[str, Any]], failures: Failures) -> None:
    """With ``--json``, print what was found of several studies, and what failed."""
    if arguments.json:
        tell(arguments, {"results": rows, "failed": failures_as_json(failures)}, "")


def failures_as_json(failures: Failures) -> list[dict[str, Any]]:
    """Failures as plain values."""
    return [{"study": name, "error": str(error), "exit_code": error.exit_code} for name, error in failures]


@contextmanager
def progress(title: str, total: int, *, hidden: bool, lines: bool = False, left: bool = False) -> Iterator[Tick]:
    """A progress bar on standard error, shown on a terminal only and gone at the end.

    Args:
        hidden: show nothing even on a terminal.
        lines: without a terminal, write a line for each step: for a log of what takes long.
        left: all steps but the first take about equally long, so that the time left can be told.

    Yields:
        A function to be called with the name of each step before it runs.
    """
    from tqdm import tqdm

    # disable=None: tqdm shows the bar on a terminal only
    layout = "{desc} {bar:20} {n_fmt}/{total_fmt} {elapsed}" + (", {remaining} left" if left else "")
    with tqdm(total=total, disable=True if hidden else None, leave=False, bar_format=layout) as bar:
        steps: list[str] = []
        times: list[float] = []

        def tick(step: str) -> None:
            done = bar.n = min(len(steps), total)
            steps.append(step)
            times.append(time.perf_counter())
            if lines and not hidden and bar.disable:
                rest = time_left(done - 1, total - 1, times[-1] - times[1]) if left and done > 1 else ""
                log(f"[{min(len(steps), total)}/{total}] {title}: {STEP_WORDS.get(step, step)}{rest}")
            bar.set_description_str(f"{title}: {STEP_WORDS.get(step, step)}")

        yield tick


def time_left(done: int, total: int, seconds: float) -> str:
    """``; about 3 min left``; empty where that is not worth saying.

    Args:
        done: how many of ``total`` equally long pieces of work took ``seconds``.
        total: all of them, those that needed no work left out.
        seconds: since the first began.
    """
    rest = seconds / done * (total - done) if done else 0.0
    if rest < _WORTH_SAYING_S:
        return ""
    minutes = round(rest / 60)
    words = f"{10 * round(rest / 10)} s" if rest < 90 else f"{minutes} min"
    return f"; about {words if minutes < 90 else f'{minutes // 60} h {minutes % 60} min'} left"


def open_page(page: Path) -> None:
    """Show a page in the browser, or say where it is."""
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        complain(f"no browser could be started; open {page} in one")


def say(text: str, *, quiet: bool = False) -> None:
    """Print at once, so that a log grows while the program runs; where the reader went away, print nothing more.

    Raises:
        OutputError: if standard output takes no more (a full disk).
    """
    if not quiet:
        with _stdout_explained():
            print(text, flush=True)


def tell(arguments: argparse.Namespace, made: Any, text: str) -> None:
    """Print what was made: as JSON with ``--json``, else as text unless ``-q`` is given."""
    is_quiet = getattr(arguments, "quiet", False) and not arguments.json
    say(json.dumps(made, indent=1) if arguments.json else text, quiet=is_quiet)


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


def refuse_other_results(folder: Path, page: str) -> None:
    """Keep ``--overwrite`` from replacing what another command wrote, a segmentation for example.

    Raises:
        OutputError: if the folder is a whole result of this program without the page named.
    """
    from brats_seg.files.output import read_run

    outputs = (read_run(folder) or {}).get("outputs")
    if isinstance(outputs, dict) and page not in outputs:
        raise OutputError(f"{folder} holds another command's results (no {page}). Choose another folder with -o.")
