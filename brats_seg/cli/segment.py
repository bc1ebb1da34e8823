"""``brats-seg segment``: tumour regions, volumes and a report of any number of studies."""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import (
    Failures,
    attempt,
    check_extraction,
    complain,
    exists_policy,
    log,
    offered_masks,
    open_page,
    print_rows,
    progress,
    report_failures,
    say,
    studies_of,
    time_left,
)
from brats_seg.cli.options import add, add_brain, add_console, add_existing, add_studies
from brats_seg.core.errors import (
    UNFORESEEN,
    BratsSegError,
    DeviceError,
    InputError,
    OutputError,
    UsageError,
    explained,
)
from brats_seg.core.study import MRSequence
from brats_seg.core.words import Tick
from brats_seg.models.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from brats_seg.core.regions import RegionSet
    from brats_seg.core.study import Timepoint
    from brats_seg.core.visit import RegionVolume, Visit
    from brats_seg.run.options import SegmentOptions
    from brats_seg.segment.predict import Predictor

HELP = "segment studies: label map, probabilities, volumes, report"
DESCRIPTION = """\
STUDY is a folder with the sequences of one visit, or a data set of such folders (BIDS too).
NIfTI files are recognised by name, the series of a DICOM exam (a folder, .zip or DICOMDIR) by their
headers; any subset of T1, T1CE, T2 and FLAIR works, with skull and on grids of its own or stripped and
aligned. Results go to OUT/<study>/."""
EPILOG = """\
examples:
  brats-seg segment patients/case_0042 -o results
  brats-seg segment patients/* -o results --resume
  brats-seg segment --t1 a.nii.gz --t1ce b.nii.gz --t2 c.nii.gz --flair d.nii.gz --id case_0042 -o results
"""


_IN_DOUBT = (
    "the results are written, but the scans do not fit together, see the warnings: check the scans before any number "
    "is used"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    add_studies(parser)
    add(parser, "output")
    how = parser.add_argument_group("how")
    add(how, "model", "device", "engine", "cache", "jobs", "tta")
    add_brain(how)
    add(how, "force")
    what = parser.add_argument_group("what is written")
    what.add_argument(
        "--labels",
        metavar="SCHEMA",
        help="numbers in the label map, one of the model's schemas: brats2023 (default) or brats2021 for glioma",
    )
    add(what, "reference", "min-lesion-ml", "dicom", "also", "no-report")
    add(what, "open", help="show the report in the browser when it is finished; of several, the first")
    add_existing(what)
    add_console(parser, verbose="every automatic decision and the time of each step")


Told = tuple[dict[str, Any], str]
"""Of a study that is written, what ``--json`` prints and what a person reads; the images are given up, for the next
study needs the room."""


def run(arguments: argparse.Namespace) -> int:
    """Segment every study; the good ones finish, the bad ones are listed at the end."""
    began = time.perf_counter()
    if arguments.open and arguments.no_report:
        raise UsageError("--open shows the report that --no-report leaves out; pass one of them")
    if arguments.force and arguments.brain_extraction == "hd-bet":
        raise UsageError("--force takes scans as they are, and --brain-extraction finds the brain; pass one of them")
    from brats_seg.run.options import check_report

    check_report(_options(arguments))
    check_extraction(arguments)
    if arguments.model != DEFAULT_MODEL or arguments.labels is not None:  # said before a study is read
        from brats_seg.models.card import find_model

        find_model(_options(arguments).model).card.schema(arguments.labels)
    failures: Failures = []
    studies = studies_of(arguments, failures)
    results: list[dict[str, Any]] = []
    _check_place(arguments, studies)
    if studies:
        try:
            _segment_all(studies, arguments, began, results, failures)
        except KeyboardInterrupt:
            if len(studies) > 1:
                complain(f"{len(results)} of {len(studies)} studies are finished; go on with --resume")
            raise
    doubts: Failures = []
    if results and not arguments.no_report:
        attempt("the page of all studies", partial(_write_page, arguments.output), doubts)
    print_rows(arguments, results, failures)
    if arguments.open and results:
        folder = Path(results[0]["folder"])
        open_page(folder / f"{results[0]['study']}_report.html")
    failed = {study for study, _ in failures}
    return report_failures(failures, finished=sum(row["study"] not in failed for row in results), doubts=doubts)


def _check_place(arguments: argparse.Namespace, studies: list[Timepoint]) -> None:
    """Results among the scans are refused, and those in a folder below are pointed out."""
    if not arguments.studies:
        return  # files that were named one by one are found again wherever the results lie
    output = arguments.output.resolve()
    scans = {path.resolve().parent for study in studies for path in study.files.values()}
    if output in scans or output in {place.resolve() for place in arguments.studies}:
        raise OutputError(
            f"the results would lie among the scans in {arguments.output}. Choose a folder of their own with -o."
        )
    if scans & set(output.parents):
        say(
            f"note: the results go below the folder of the scans, to {arguments.output}",
            quiet=arguments.quiet or arguments.json,
        )


def _options(arguments: argparse.Namespace) -> SegmentOptions:
    from brats_seg.run.options import SegmentOptions

    return SegmentOptions(
        model=arguments.model,
        engine=arguments.engine,
        cache=arguments.cache,
        device=arguments.device,
        labels=arguments.labels,
        reference=MRSequence(arguments.reference) if arguments.reference else None,
        mirror=arguments.tta,
        report=not arguments.no_report,
        force=arguments.force,
        brain_mask=arguments.brain_mask,
        brain_extraction=arguments.brain_extraction,
        min_lesion_ml=arguments.min_lesion_ml,
        dicom=arguments.dicom,
        also=tuple(arguments.also),
        exists=exists_policy(arguments),
    )


def _segment_all(
    studies: list[Timepoint],
    arguments: argparse.Namespace,
    began: float,
    results: list[dict[str, Any]],
    failures: Failures,
) -> None:
    """Segment every study, here or in several processes, and tell of each as it is finished."""
    several = len(studies) > 1
    if not arguments.resume:
        studies = _with_room(studies, arguments, failures)
    if not studies:
        return
    from brats_seg.files.tables import add_study, check_tables

    collected = check_tables(arguments.output) or several
    if arguments.jobs > 1 and several:
        outcomes = _in_processes(studies, arguments)
    else:
        outcomes = _one_by_one(studies, arguments, began=began)
    worked, silent = 0, arguments.quiet or arguments.json
    for number, (study, done) in enumerate(outcomes, start=1):
        place = f"[{number}/{len(studies)}] " if several else ""
        if isinstance(done, BratsSegError):
            failures.append((study.id, done))
            continue
        row, text = done
        results.append(row)
        if not row["fits"]:
            failures.append((study.id, InputError(_IN_DOUBT)))
        if collected:
            attempt(study.id, partial(add_study, arguments.output, study.id), failures)
        resumed = row["resumed"]
        worked += not resumed
        kept = number - worked
        rest = "" if resumed else time_left(worked, len(studies) - kept, time.perf_counter() - began)
        head, *lines = text.split("\n")
        say(place + "\n".join([head + rest, *lines]), quiet=silent)
        if arguments.json and not arguments.quiet and several:
            log(place + head + rest)  # what is printed comes last, and a log has to grow


def _write_page(output: Path) -> None:
    """The page of all studies, where their tables lie."""
    from brats_seg.files.output import read_run, write_text
    from brats_seg.files.tables import volume_rows
    from brats_seg.report.studies import STUDIES_PAGE, render_studies

    rows = volume_rows(output)
    if not rows:
        return
    pages = {study: f"{study}/{study}_report.html" for study in {row["study"] for row in rows}}
    there = {study: page for study, page in pages.items() if (output / page).is_file()}
    warnings = {study: (read_run(output / study) or {}).get("warnings", ()) for study in pages}
    write_text(output / STUDIES_PAGE, render_studies(rows, there, warnings))


def _with_room(studies: list[Timepoint], arguments: argparse.Namespace, failures: Failures) -> list[Timepoint]:
    """The studies whose results can be written, asked before anything is loaded; the others go to ``failures``."""
    from brats_seg.files.output import OutputFolder, result_folder

    def check(study: Timepoint) -> Timepoint:
        OutputFolder(result_folder(arguments.output, study), exists=exists_policy(arguments)).check_existing()
        return study

    return [free for study in studies if (free := attempt(study.id, partial(check, study), failures))]


def _one_by_one(
    studies: list[Timepoint], arguments: argparse.Namespace, *, began: float
) -> Iterator[tuple[Timepoint, Told | BratsSegError]]:
    """In this process, with one model; the seconds told of the first study count from ``began``."""
    with progress("starting", 2, hidden=arguments.quiet) as tick:
        tick("loading libraries")
        from brats_seg.run.options import STEPS
        from brats_seg.run.segment import open_predictor

        options = _options(arguments)
        tick("opening the model")
        predictor = open_predictor(options)
    steps = len(STEPS) - (0 if options.report else 1)
    for number, study in enumerate(studies, start=1):
        place = f"[{number}/{len(studies)}] " if len(studies) > 1 else ""
        with progress(place + study.id, steps, hidden=arguments.quiet) as tick:
            done = _finish(study, arguments, lambda: predictor, began=began, tick=tick)
        yield study, done
        began = time.perf_counter()


def _in_processes(
    studies: list[Timepoint], arguments: argparse.Namespace
) -> Iterator[tuple[Timepoint, Told | BratsSegError]]:
    """In several processes, each with its share of cores and memory, and its own copy of the model."""
    with progress("starting", 1, hidden=arguments.quiet) as tick:
        tick("opening the model")
        from brats_seg.models.card import find_model
        from brats_seg.run.workers import Task, open_workers, run_tasks

        find_model(arguments.model)  # said once, and before any process starts
    by_id = {study.id: study for study in studies}
    todo = deque(Task(study.id, "", _task, (study, arguments)) for study in studies)
    with (
        open_workers(min(arguments.jobs, len(studies)), None) as workers,
        progress("segment", len(studies), hidden=arguments.quiet, left=True) as tick,
    ):
        tick("working")
        for done in run_tasks(todo, workers):
            tick(done.task.patient)
            words = "its process was killed again and again, most likely for want of memory. Give it fewer --jobs."
            yield by_id[done.task.patient], DeviceError(words) if done.lost else done.result


def _finish(
    study: Timepoint,
    arguments: argparse.Namespace,
    predictor: Callable[[], Predictor],
    *,
    began: float,
    tick: Tick | None = None,
) -> Told | BratsSegError:
    """Segment a study, or keep its result with ``--resume``; the seconds told count from ``began``."""
    from brats_seg.core.plain import from_plain
    from brats_seg.core.visit import RunRecord
    from brats_seg.files.load import input_hashes
    from brats_seg.files.output import read_run
    from brats_seg.run.segment import reason_to_redo, segment_study

    options, folder, note = _options(arguments), arguments.output / study.id, ""
    try:
        opened = predictor()
        study = opened.bundle.card.looked_at(study)
        if arguments.resume and folder.exists():
            reason = reason_to_redo(folder, options.to_dict(), opened.bundle.sha256, input_hashes(study))
            if not reason:
                fits = from_plain(RunRecord, read_run(folder)).fits
                row = {"study": study.id, "folder": str(folder), "fits": fits, "resumed": True}
                return row, f"{study.id}: finished before, kept"
            note = f"\n  done again, because {reason}"
        result = segment_study(study, arguments.output, options=options, predictor=opened, tick=tick)
    except (BratsSegError, *UNFORESEEN) as error:
        return explained(error)
    result = replace(result, folder=folder)  # as the user wrote it, not resolved
    seconds = time.perf_counter() - began
    head, *lines = describe(result, seconds=seconds, ignored=study.ignored, verbose=arguments.verbose).split("\n")
    return summary(result, seconds=seconds), "\n".join([head + note, *lines])


@cache
def _shared_predictor(options: SegmentOptions) -> Predictor:
    """In a process of the pool: opened once, kept for its further studies."""
    from brats_seg.run.segment import open_predictor

    return open_predictor(options)


def _task(study: Timepoint, arguments: argparse.Namespace) -> Told | BratsSegError:
    """One study, in a process of its own."""
    return _finish(study, arguments, partial(_shared_predictor, _options(arguments)), began=time.perf_counter())


def summary(result: Visit, *, seconds: float) -> dict[str, Any]:
    """What ``--json`` prints of a study."""
    measurements = result.measurements
    return {
        "study": result.segmentation.study_id,
        "folder": str(result.folder),
        "missing": [sequence.value for sequence in result.segmentation.missing],
        "volumes_ml": {row.region: round(row.volume_ml, 4) for row in measurements.volumes},
        "estimates": {row.region: row.note for row in measurements.volumes if row.note},
        "warnings": list(result.record.warnings),
        "fits": result.record.fits,
        "extraction": dict(result.record.preparation["extraction"]),
        "seconds": round(seconds, 2),
        "resumed": False,
    }


def describe(result: Visit, *, seconds: float, ignored: tuple[str, ...] = (), verbose: bool = False) -> str:
    """What a person reads of a study, in a few lines.

    Args:
        seconds: the user waited for it.
        ignored: names of files that were not used.
        verbose: also every decision and the time of each step.
    """
    name, record = result.segmentation.study_id, result.record
    regions = result.segmentation.regions
    rows = [row for row in result.measurements.volumes if row.region in regions.names]
    found = "" if any(row.volume_ml > 0 for row in rows) else ", no tumour found"
    lines = [f"{name}: done in {seconds:.1f} s{found}"]
    lines += _extraction_lines(record.preparation["extraction"], ignored)
    lines += [f"  warning: {warning}" for warning in record.warnings]
    lines += [volume_line(row, regions) for row in rows]
    if verbose:
        lines += [f"  decided: {decision}" for decision in record.decisions]
        lines += [f"  not used: {file}" for file in ignored]
        lines += [f"  {step}: {seconds:.2f} s" for step, seconds in record.timings_s.items()]
    if result.folder is not None:
        report = result.folder / f"{name}_report.html"
        lines.append(f"  report: {report}" if report.is_file() else f"  results: {result.folder}")
    return "\n".join(lines)


def _extraction_lines(extraction: Mapping[str, Any], ignored: tuple[str, ...]) -> list[str]:
    """Where the brain came from, and what mask could be taken instead; nothing where the scans were skull-stripped."""
    if not extraction:
        return []
    lines = [
        f"  with skull: brain of {extraction['brain_ml']:.0f} ml taken from {extraction['source']}, sequences aligned; "
        "see its outline in the report"
    ]
    return lines + offered_masks(ignored) if extraction["networks"] else lines


def volume_line(row: RegionVolume, regions: RegionSet) -> str:
    """One region in a line: name, volume, interval and reservation."""
    words = f"{regions[row.region].title} ({row.region})" if row.region in regions.names else row.region
    line = f"  {words:23}{row.volume_ml:9.2f} ml"
    if row.low_ml is not None and row.high_ml is not None and row.level is not None:
        line += f"   {row.level:.0%} interval {row.low_ml:.1f} to {row.high_ml:.1f} ml"
    return f"{line}   {row.note}" if row.note else line
