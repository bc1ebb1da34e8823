"""``brats-seg segment``: tumour regions, volumes and a report of any number of studies."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import (
    Failures,
    add_brain_mask_option,
    add_print_options,
    add_sequence_options,
    attempt,
    check_brain_mask,
    complain,
    device_name_or_auto,
    failures_as_json,
    log,
    progress,
    report_failures,
    say,
    studies_of,
)
from brats_seg.core.errors import OutputError
from brats_seg.core.regions import Region
from brats_seg.core.study import SEQUENCES, MRSequence

if TYPE_CHECKING:
    from brats_seg.core.study import Timepoint
    from brats_seg.core.visit import RegionVolume, Visit
    from brats_seg.run import SegmentOptions
    from brats_seg.segment.predict import Predictor

_EPILOG = """\
examples:
  brats-seg segment patients/case_0042 -o results
  brats-seg segment patients/* -o results --resume
  brats-seg segment --t1 a.nii.gz --t1ce b.nii.gz --t2 c.nii.gz --flair d.nii.gz --id case_0042 -o results
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "segment",
        help="segment studies: label map, probabilities, volumes, report",
        description="STUDY is a folder with the sequences of one visit, or a data set of such folders (BIDS too).\n"
        "NIfTI files are recognised by name, the series of a DICOM exam by their headers;\n"
        "any subset of T1, T1CE, T2 and FLAIR works. Results go to OUT/<study>/.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("studies", nargs="*", type=Path, metavar="STUDY", help="folder of a study or of a data set")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the results")
    add_sequence_options(parser)
    how = parser.add_argument_group("how")
    how.add_argument("--model", metavar="NAME|PATH", help="installed model or model folder (default: glioma)")
    how.add_argument(
        "--device", default="auto", type=device_name_or_auto, help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    how.add_argument(
        "--engine", default="auto", choices=("auto", "openvino", "torch"), help="what runs the network (default: auto)"
    )
    how.add_argument("--tta", action="store_true", help="average with the mirrored study: twice the time, a bit better")
    add_brain_mask_option(how)
    how.add_argument("--force", action="store_true", help="take scans as they are, even if they seem to show skull")
    what = parser.add_argument_group("what is written")
    what.add_argument(
        "--labels",
        default="brats2023",
        choices=("brats2023", "brats2021"),
        help="numbers in the label map: brats2023 (ET is 3, default) or brats2021 (ET is 4)",
    )
    what.add_argument(
        "--reference",
        choices=[s.value for s in SEQUENCES],
        help="whose grid results lie on (default: t1ce, else flair, t2, t1)",
    )
    what.add_argument("--no-report", action="store_true", help="write no HTML report and no picture")
    existing = what.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing results")
    existing.add_argument(
        "--resume", action="store_true", help="keep results that are whole and made the same way, do the rest"
    )
    add_print_options(parser, verbose="every automatic decision and the time of each step")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Segment every study; the good ones finish, the bad ones are listed at the end."""
    began = time.perf_counter()
    failures: Failures = []
    studies = studies_of(arguments, failures)
    results: list[dict[str, Any]] = []
    _check_place(arguments, studies)
    check_brain_mask(arguments, studies)
    if studies:
        with progress("starting", 2, hidden=arguments.quiet) as tick:
            tick("loading libraries")
            from brats_seg.run import open_predictor

            options = _options(arguments)
            tick("opening the model")
            predictor = open_predictor(options)
        try:
            _segment_all(studies, arguments, options, predictor, began=began, results=results, failures=failures)
        except KeyboardInterrupt:
            if len(studies) > 1:
                complain(f"{len(results)} of {len(studies)} studies are finished; go on with --resume")
            raise
    if arguments.json:
        say(json.dumps({"results": results, "failed": failures_as_json(failures)}, indent=1))
    return report_failures(failures, finished=len(results))


def _check_place(arguments: argparse.Namespace, studies: list[Timepoint]) -> None:
    """Results among the scans are refused, and those in a folder below are pointed out.

    Raises:
        OutputError: if the output is a folder of scans, or one of those passed.
    """
    if not arguments.studies:
        return  # files that were named one by one are found again wherever the results lie
    output = arguments.output.resolve()
    scans = {path.resolve().parent for study in studies for path in study.files.values()}
    if output in scans or output in {place.resolve() for place in arguments.studies}:
        raise OutputError(
            f"the results would lie among the scans in {arguments.output}. Choose a folder of their own with -o."
        )
    if scans & set(output.parents):
        say(f"note: the results go below the folder of the scans, to {arguments.output}", quiet=_is_silent(arguments))


def _is_silent(arguments: argparse.Namespace) -> bool:
    return bool(arguments.quiet or arguments.json)


def _options(arguments: argparse.Namespace) -> SegmentOptions:
    from brats_seg.run import SegmentOptions

    return SegmentOptions(
        **({"model": arguments.model} if arguments.model is not None else {}),
        engine=arguments.engine,
        device=arguments.device,
        labels=arguments.labels,
        reference=MRSequence(arguments.reference) if arguments.reference else None,
        mirror=arguments.tta,
        report=not arguments.no_report,
        force=arguments.force,
        brain_mask=arguments.brain_mask,
        exists="overwrite" if arguments.overwrite or arguments.resume else "refuse",
    )


def _segment_all(
    studies: list[Timepoint],
    arguments: argparse.Namespace,
    options: SegmentOptions,
    predictor: Predictor,
    *,
    began: float,
    results: list[dict[str, Any]],
    failures: Failures,
) -> None:
    for number, study in enumerate(studies, start=1):
        place = f"[{number}/{len(studies)}] " if len(studies) > 1 else ""
        work = partial(_segment_one, study, arguments, options, predictor, place=place, began=began)
        done = attempt(study.id, work, failures)
        if done is not None:
            row, text = done
            results.append(row)
            say(place + text, quiet=_is_silent(arguments))
            if arguments.json and not arguments.quiet and place:
                log(place + text.partition("\n")[0])  # what is printed comes last, and a log has to grow
        began = time.perf_counter()


def _segment_one(
    study: Timepoint,
    arguments: argparse.Namespace,
    options: SegmentOptions,
    predictor: Predictor,
    *,
    place: str,
    began: float,
) -> tuple[dict[str, Any], str]:
    """Segment a study; returns what ``--json`` prints of it, and what a person reads.

    The result itself is given up here: its images are large, and the next study needs the room. The seconds told are
    what the user waited since ``began``: for the first study, the loading of libraries and model too.
    """
    from brats_seg.run import STEPS, reason_to_redo, segment_study

    folder = arguments.output / study.id
    if arguments.resume and folder.exists():
        reason = reason_to_redo(folder, study, options, predictor.bundle)
        if not reason:
            return {"study": study.id, "folder": str(folder), "resumed": True}, f"{study.id}: finished before, kept"
        say(f"{place}{study.id}: done again, because {reason}", quiet=_is_silent(arguments))
    steps = len(STEPS) - (0 if options.report else 1)
    with progress(place + study.id, steps, hidden=arguments.quiet) as tick:
        result = segment_study(study, arguments.output, options=options, predictor=predictor, tick=tick)
    result = replace(result, folder=folder)  # as the user wrote it, not resolved
    seconds = time.perf_counter() - began
    text = describe(result, seconds=seconds, ignored=study.ignored, verbose=arguments.verbose)
    return summary(result, seconds=seconds), text


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
        "extraction": dict(result.record.preparation["extraction"]),
        "seconds": round(seconds, 2),
        "resumed": False,
    }


def describe(result: Visit, *, seconds: float, ignored: tuple[str, ...] = (), verbose: bool = False) -> str:
    """What a person reads of a study, in a few lines.

    Args:
        result: the study.
        seconds: the user waited for it.
        ignored: names of files that were not used.
        verbose: also every decision and the time of each step.
    """
    name, record = result.segmentation.study_id, result.record
    rows = [row for row in result.measurements.volumes if row.region in Region.__members__]
    found = "" if any(row.volume_ml > 0 for row in rows) else ", no tumour found"
    lines = [f"{name}: done in {seconds:.1f} s{found}"]
    lines += _extraction_lines(record.preparation["extraction"], ignored)
    lines += [f"  warning: {warning}" for warning in record.warnings]
    lines += [volume_line(row) for row in rows]
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
    from brats_seg.files.names import is_brain_mask

    if not extraction:
        return []
    lines = [
        f"  with skull: brain of {extraction['brain_ml']:.0f} ml taken from {extraction['source']}, sequences aligned; "
        "see its outline in the report"
    ]
    masks = [name for name in ignored if is_brain_mask(name)] if extraction["networks"] else []
    if masks:
        lines.append(f"  not used: {', '.join(masks)}; --brain-mask FILE takes a mask instead of finding the brain")
    return lines


def volume_line(row: RegionVolume) -> str:
    """One region in a line: name, volume, interval and reservation."""
    words = f"{Region[row.region].value} ({row.region})" if row.region in Region.__members__ else row.region
    line = f"  {words:23}{row.volume_ml:9.2f} ml"
    if row.low_ml is not None and row.high_ml is not None and row.level is not None:
        line += f"   {row.level:.0%} interval {row.low_ml:.1f} to {row.high_ml:.1f} ml"
    return f"{line}   {row.note}" if row.note else line
