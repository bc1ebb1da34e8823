"""``brats-seg track``: the course of a tumour over all visits of a patient, or of every patient of a cohort."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import (
    Failures,
    attempt,
    check_extraction,
    complain,
    episode_lines,
    exists_policy,
    offered_masks,
    open_page,
    progress,
    report_failures,
    say,
)
from brats_seg.cli.options import add, add_console, add_existing, add_schema, visit_file, visit_series
from brats_seg.core.errors import InputError, OutputError, UsageError
from brats_seg.core.words import counted, visit_named
from brats_seg.run.options import COHORT_PAGE

if TYPE_CHECKING:
    from brats_seg.core.course import Course
    from brats_seg.core.study import MRSequence, Patient, Timepoint
    from brats_seg.core.tables import TableRow
    from brats_seg.run.cohort import Job
    from brats_seg.run.track import Outcome, TrackRun

HELP = "follow a tumour over several visits: aligned, matched, measured, judged"
DESCRIPTION = "Segment every visit, align them, follow each lesion, and say what changed and by how much."
EPILOG = """\
PLACE is a folder of visits (one patient) or a folder of patients. Visits are DICOM exams, dated by their headers, or
are found by name: BIDS ses-* with sessions.tsv, BraTS -000/-001, folders like visit1 or 2024-01-31, or by a table
visits.csv:
  visit,date,t1,t1ce,t2,flair[,segmentation][,patient]     dates like 2024-01-31, or days since day 0
CLINICAL.csv: patient,date,event,value, as for brats-seg respond; days where the visits have days.

examples:
  brats-seg track patients/P07 -o results
  brats-seg track patients/P07 -o results --resume          a visit was added: only that one is computed
  brats-seg track patients -o results --clinical clinical.csv --jobs 2
  brats-seg track masks/P07 -o results --schema brats2024   label maps without scans
  brats-seg track dicom/P07 -o results --sequence 2024-01-31:t1ce=9
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    parser.add_argument("place", type=Path, metavar="PLACE", help="folder of a patient's visits, or of patients")
    add(parser, "output")
    parser.add_argument("--table", type=Path, metavar="VISITS.csv", help="visits, dates and files")
    add(parser, "clinical", "criteria", "disease")
    masks = parser.add_argument_group("label maps that exist")
    masks.add_argument("--segmentations", type=Path, metavar="DIR", help="use these label maps, matched by visit")
    add_schema(masks)
    scans = parser.add_argument_group("scans of one patient, as they were taken")
    words = "the DICOM series of a sequence at a visit, as in 2024-01-31:t1ce=5; without a visit, at all of them"
    add(scans, "sequence", type=visit_series, metavar="[VISIT:]NAME=SERIES", help=words)
    words = "the brain at a visit, in the space of one of its scans, instead of finding it in the head; repeatable"
    add(scans, "brain-mask", type=visit_file, action="append", default=[], metavar="VISIT=FILE", help=words)
    add(scans, "brain-extraction")
    how = parser.add_argument_group("how")
    add(how, "model", "device", "engine")
    add(how, "force", help="compare visits that do not look like one person's")
    add(how, "jobs", "cluster")
    add(how, "dicom", help="DICOM segmentations and reports of every visit (default: where the scans are DICOM)")
    add(how, "no-report", "open")
    add_existing(how)
    add_console(parser, verbose="what was decided about each visit")


_MISFIT = "do not fit together, see the warnings: check them before any number is used"


def run(arguments: argparse.Namespace) -> int:
    """Follow every patient; the good ones finish, the bad ones are listed at the end.

    Returns:
        0, or the exit code of what failed.
    """
    if arguments.cluster and arguments.jobs > 1:
        raise UsageError("pass --jobs for this computer, or --cluster for others, not both")
    _check_output(arguments)
    check_extraction(arguments)
    if arguments.open and arguments.no_report:
        raise UsageError("--open shows the page that --no-report leaves out; pass one of them")
    failures: Failures = []
    patients = _patients(arguments, failures)
    jobs: tuple[Job, ...] = ()
    if patients:
        with progress("starting", 2, hidden=arguments.quiet) as tick:
            tick("reading tables")
            jobs = _jobs(arguments, patients, failures)
            tick("loading libraries")
            has_cohort = len(jobs) + len(failures) > 1 or (arguments.output / COHORT_PAGE).is_file()
            whole = _run_of(arguments, has_cohort=has_cohort)
    outcomes = _follow(arguments, jobs, whole) if jobs else []
    failed = [*failures, *((outcome.patient, outcome.error) for outcome in outcomes if outcome.error)]
    followed = [outcome.course for outcome in outcomes if outcome.course is not None]
    if outcomes and not arguments.no_report:
        _write_cohort(arguments, followed, failed)
    if arguments.json:
        say(json.dumps({"patients": [_plain(outcome) for outcome in outcomes],
                        "not_found": [{"patient": n, "error": str(e)} for n, e in failures]}, indent=1))  # fmt: skip
    if arguments.open and followed:
        one = outcomes[0].patient
        open_page(arguments.output / (COHORT_PAGE if len(outcomes) > 1 else f"{one}/{one}_timeline.html"))
    return report_failures(failed, finished=len(followed), what="patients", doubts=_doubts(followed))


def _check_output(arguments: argparse.Namespace) -> None:
    output, place = arguments.output.resolve(), arguments.place.resolve()
    if output.exists() and not output.is_dir():
        raise OutputError(f"{arguments.output} is a file, not a folder. Choose another folder with -o.")
    if output == place or place in output.parents:
        raise OutputError(
            f"the results would lie among the scans in {arguments.place}. Choose a folder outside it with -o."
        )


def _patients(arguments: argparse.Namespace, failures: Failures) -> tuple[Patient, ...]:
    from brats_seg.files.folders import require_filled

    if arguments.table is None and not arguments.place.is_file():
        require_filled(arguments.place)  # before anything is loaded
    from brats_seg.files.visits import find_patients

    wrong: list[tuple[str, InputError]] = []
    asked: dict[str, dict[MRSequence, str]] = {}
    for visit, (sequence, series) in arguments.sequence:
        if asked.setdefault(visit, {}).setdefault(sequence, series) != series:
            raise UsageError(f"--sequence names {sequence.title} twice for one visit; name it once")
    found = find_patients(
        arguments.place,
        table=arguments.table,
        segmentations=arguments.segmentations,
        asked=asked,
        on_error=lambda patient, error: wrong.append((patient, error)),
    )
    if len(wrong) == 1 and not found:
        raise wrong[0][1]
    failures.extend(wrong)
    if arguments.sequence or arguments.brain_mask:
        found = _with_given(found, arguments, several=len(found) + len(wrong) > 1)
    return found


def _with_given(patients: tuple[Patient, ...], arguments: argparse.Namespace, *, several: bool) -> tuple[Patient, ...]:
    """The patient with the masks of its brain that were passed."""
    from brats_seg.files.dicom_study import DicomTimepoint

    if several:
        raise UsageError("--sequence and --brain-mask name visits of one patient. Pass that patient's folder alone.")
    masks = dict(arguments.brain_mask)
    if len(masks) < len(arguments.brain_mask):
        raise UsageError("--brain-mask names a visit twice; name each once")
    (patient,) = patients
    dicom = [visit.label for visit in patient.visits if isinstance(visit, DicomTimepoint)]
    _check_named("--sequence", [visit or dicom[0] if dicom else visit for visit, _ in arguments.sequence], dicom)
    _check_named("--brain-mask", list(masks), [visit.label for visit in patient.visits])
    missing = [path for path in masks.values() if not path.is_file()]
    if missing:
        raise InputError(f"there is no file {missing[0]}. Check the spelling.")
    visits = tuple(replace(visit, brain=masks.get(visit.label)) for visit in patient.visits)
    return (replace(patient, visits=visits),)


def _check_named(option: str, named: Sequence[str], visits: Sequence[str]) -> None:
    unknown = [visit for visit in named if visit not in visits]
    if unknown:
        kind = "DICOM exams are" if option == "--sequence" else "visits are"
        raise UsageError(f"{option} is for no visit {unknown[0]!r}; {kind}: {', '.join(visits) or 'none'}")


def _jobs(arguments: argparse.Namespace, patients: tuple[Patient, ...], failures: Failures) -> tuple[Job, ...]:
    from brats_seg.files.text_table import read_table_file
    from brats_seg.response.tables import CLINICAL_TABLE, events_of, split_rows

    clinical: tuple[TableRow, ...] = ()
    if arguments.clinical is not None:
        clinical = read_table_file(arguments.clinical, CLINICAL_TABLE).rows
    failed = {name for name, _ in failures}
    rows = [row for row in clinical if row.cells["patient"] not in failed]
    own, others = split_rows(rows, [patient.id for patient in patients])
    if others:
        names = sorted({row.cells["patient"] for row in others})
        shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
        words = f"{counted(len(others), 'row')} not used, of patients who are not here ({shown})"
        complain(f"{others[0].table}: {words}")
    jobs = []
    for patient in patients:
        if (events := attempt(patient.id, partial(events_of, patient, own), failures)) is not None:
            jobs.append((patient, events))
    return tuple(jobs)


def _run_of(arguments: argparse.Namespace, *, has_cohort: bool) -> TrackRun:
    from brats_seg.run.options import SegmentOptions
    from brats_seg.run.track import TrackRun
    from brats_seg.track.follow import CourseOptions

    segment = SegmentOptions(
        model=arguments.model,
        engine=arguments.engine,
        device=arguments.device,
        brain_extraction=arguments.brain_extraction,
        dicom=arguments.dicom,
        report=False,
    )
    return TrackRun(
        arguments.output,
        segment,
        schema=arguments.schema,
        course=CourseOptions(arguments.criteria, arguments.disease, force=arguments.force),
        report=not arguments.no_report,
        exists=exists_policy(arguments),
        resume=arguments.resume,
        has_cohort=has_cohort,
    )


def _follow(arguments: argparse.Namespace, jobs: tuple[Job, ...], whole: TrackRun) -> list[Outcome]:
    from brats_seg.run.cohort import follow_all

    outcomes: list[Outcome] = []
    patients = {patient.id: patient for patient, _ in jobs}
    visits = sum(len(patient.visits) for patient in patients.values())
    with progress("track", 2 * visits + len(jobs), hidden=arguments.quiet, left=True) as tick:
        found = follow_all(jobs, whole, processes=arguments.jobs, cluster=arguments.cluster, tick=tick)
        for outcome in found:
            outcomes.append(outcome)
            if outcome.course is not None:
                words = _describe(outcome, outcome.course, patients[outcome.patient], arguments)
                say(words, quiet=arguments.quiet or arguments.json)
    order = {patient.id: number for number, (patient, _) in enumerate(jobs)}
    return sorted(outcomes, key=lambda outcome: order[outcome.patient])


def _describe(outcome: Outcome, course: Course, patient: Patient, arguments: argparse.Namespace) -> str:
    """What a person reads of a patient."""
    from brats_seg.report.timeline_words import headline

    lines = [f"{outcome.patient}: {counted(len(course.visits), 'visit')}{', kept from before' if outcome.kept else ''}"]
    lines += [f"  {headline(course, course.leading)}"]
    lines += [f"  warning: {words}" for words in (*course.warnings, *course.visit_warnings)]
    for visit in patient.visits:
        lines += offered_masks(visit.ignored, visit.label) if _found_brain(arguments.output, visit) else []
    lines += [f"  note: {note}" for note in course.response_notes]
    for episode in course.episodes:
        lines.append(f"  {course.criteria}, baseline {episode.visit}: {episode.why}")
        lines += episode_lines(episode, "visit")
    lines += [f"  {visit_named(entry.visit)} was left out: {entry.reason}" for entry in course.stopped]
    if arguments.verbose:
        lines += [f"  {entry.visit}: {entry.label_map}" for entry in course.visits]
        lines += [f"  {note}" for note in course.notes]
    folder = arguments.output / outcome.patient
    page = folder / f"{outcome.patient}_timeline.html"
    lines.append(f"  report: {page}" if page.is_file() else f"  results: {folder}")
    return "\n".join(lines)


def _found_brain(output: Path, visit: Timepoint) -> bool:
    """Whether networks found the brain of a visit in a head with skull."""
    from brats_seg.files.output import read_run
    from brats_seg.run.visits import SEGMENTATIONS

    if visit.mask is not None:
        return False
    preparation = (read_run(output / SEGMENTATIONS / visit.id) or {}).get("preparation", {})
    return bool(preparation.get("extraction", {}).get("networks"))


def _write_cohort(arguments: argparse.Namespace, courses: list[Course], failed: Failures) -> None:
    """The page of every patient whose results lie in the folder, where there are several."""
    from brats_seg.files.output import write_text
    from brats_seg.report.cohort import render_cohort
    from brats_seg.run.cohort import courses_in

    earlier, unread = courses_in(arguments.output, {course.patient for course in courses})
    if len(courses) + len(failed) + len(earlier) + len(unread) < 2:
        return
    page = render_cohort([*courses, *earlier], [(name, str(error)) for name, error in (*failed, *unread)])
    write_text(arguments.output / COHORT_PAGE, page)
    say(f"cohort: {arguments.output / COHORT_PAGE}", quiet=arguments.quiet or arguments.json)


def _plain(outcome: Outcome) -> dict[str, Any]:
    if outcome.error is not None:
        return {"patient": outcome.patient, "error": str(outcome.error), "exit_code": outcome.error.exit_code}
    assert outcome.course is not None
    told = outcome.course.to_dict()
    kept = ("criteria", "disease", "best", "progression", "visits", "stopped")
    return {"patient": outcome.patient, "kept": outcome.kept, **{name: told[name] for name in kept}}


def _doubts(courses: list[Course]) -> Failures:
    """Visits that were left out, and those whose scans do not fit together."""
    found: Failures = []
    for course in courses:
        for entry in course.stopped:
            found.append((course.patient, InputError(f"{visit_named(entry.visit)} was left out: {entry.reason}")))
        for visit in course.visits:
            if not visit.fits:
                found.append((course.patient, InputError(f"the scans of {visit_named(visit.visit)} {_MISFIT}")))
    return found
