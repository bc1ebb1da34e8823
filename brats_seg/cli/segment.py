"""``brats-seg segment``: tumour regions, volumes and a report of any number of studies."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.core.errors import BratsSegError, DeviceError, InputError, OutputError, UsageError
from brats_seg.core.study import SEQUENCES, MRSequence

if TYPE_CHECKING:
    from brats_seg.core.results import StudyResult
    from brats_seg.inference.predict import Predictor
    from brats_seg.io.discover import StudyFiles
    from brats_seg.pipeline import SegmentOptions


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "segment",
        help="segment studies: label map, probabilities, volumes, report",
        description="STUDY is a folder with the sequences of one visit, or a data set of such folders. "
        "Files are recognised by name; or name them with --t1, --t1ce, --t2, --flair. Any subset of sequences works.",
    )
    parser.add_argument("studies", nargs="*", type=Path, metavar="STUDY", help="folder of a study or of a data set")
    add_sequence_options(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the results")
    parser.add_argument("--model", default=None, metavar="NAME|PATH", help="installed model or model folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--engine", default="auto", help="auto, openvino or torch (default: auto)")
    parser.add_argument("--labels", default="brats2023", choices=("brats2023", "brats2021"), help="numbers written")
    parser.add_argument(
        "--reference", choices=[s.value for s in SEQUENCES], help="whose grid results are written on (default: t1ce)"
    )
    parser.add_argument("--tta", action="store_true", help="average with the mirrored study: slower, a little better")
    parser.add_argument("--no-report", action="store_true", help="write no HTML report and no picture")
    parser.add_argument("--force", action="store_true", help="accept scans that do not look skull-stripped")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing results")
    existing.add_argument("--resume", action="store_true", help="keep results that are whole, do the rest")
    add_print_options(parser)
    parser.set_defaults(run=run)


def add_sequence_options(parser: argparse.ArgumentParser) -> None:
    """``--t1 FILE`` and its siblings, and ``--id``."""
    for sequence in SEQUENCES:
        parser.add_argument(f"--{sequence.value}", type=Path, metavar="FILE", help=f"the {sequence.title} scan")
    parser.add_argument("--id", metavar="NAME", help="name of the study in all outputs (default: the folder's name)")


def add_print_options(parser: argparse.ArgumentParser) -> None:
    """``-q``, ``-v`` and ``--json``."""
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("-v", "--verbose", action="store_true", help="also print every automatic decision")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Segment every study; the good ones finish, the bad ones are listed at the end."""
    failures: list[tuple[str, BratsSegError]] = []
    studies = studies_of(arguments, failures)
    from brats_seg.pipeline import SegmentOptions, open_predictor

    options = SegmentOptions(
        **({"model": arguments.model} if arguments.model else {}),
        engine=arguments.engine,
        device=arguments.device,
        labels=arguments.labels,
        reference=MRSequence(arguments.reference) if arguments.reference else None,
        mirror=arguments.tta,
        report=not arguments.no_report,
        force=arguments.force,
        exists="overwrite" if arguments.overwrite or arguments.resume else "refuse",
    )
    results: list[dict[str, Any]] = []
    if studies:
        predictor = open_predictor(options)
        _segment_all(studies, arguments, options, predictor, results=results, failures=failures)
    if arguments.json:
        print(json.dumps({"results": results, "failed": [_failure(n, e) for n, e in failures]}, indent=1))
    return report_failures(failures, total=len(studies) + len({name for name, _ in failures} - {s.id for s in studies}))


def studies_of(arguments: argparse.Namespace, failures: list[tuple[str, BratsSegError]]) -> list[StudyFiles]:
    """The studies a command line names; folders that are wrong go to ``failures``.

    Raises:
        UsageError: if none is named, or folders and single files are mixed.
        InputError: if one study was asked for and it is wrong.
    """
    from brats_seg.io.discover import find_studies, study_from_files

    named = {s: getattr(arguments, s.value) for s in SEQUENCES if getattr(arguments, s.value) is not None}
    if named and arguments.studies:
        raise UsageError("pass folders, or single files with --t1, --t1ce, --t2 and --flair, not both")
    if named:
        return [study_from_files(named, study_id=arguments.id)]
    if not arguments.studies:
        raise UsageError("nothing to do: pass a study's folder, or its files with --t1, --t1ce, --t2 and --flair")
    if arguments.id is not None:
        if len(arguments.studies) > 1:
            raise UsageError("--id names one study, and several folders were passed")
        from brats_seg.io.discover import find_study

        return [find_study(arguments.studies[0], study_id=arguments.id)]
    found: list[StudyFiles] = []
    for folder in arguments.studies:
        try:
            found.extend(find_studies(folder, on_error=lambda place, error: failures.append((place.name, error))))
        except InputError as error:
            failures.append((folder.name or str(folder), error))
    repeated = sorted({s.id for s in found if sum(o.id == s.id for o in found) > 1})
    if repeated:
        raise UsageError(f"several folders yield the study {repeated[0]}; segment them one at a time with --id")
    return found


def _segment_all(
    studies: list[StudyFiles],
    arguments: argparse.Namespace,
    options: SegmentOptions,
    predictor: Predictor,
    *,
    results: list[dict[str, Any]],
    failures: list[tuple[str, BratsSegError]],
) -> None:
    from tqdm import tqdm

    from brats_seg.io.output import finished
    from brats_seg.pipeline import STEPS, segment_study

    quiet = arguments.quiet or arguments.json
    for number, study in enumerate(studies, start=1):
        place = f"[{number}/{len(studies)}] " if len(studies) > 1 else ""
        if arguments.resume and finished(arguments.output / study.id):
            results.append({"study": study.id, "folder": str(arguments.output / study.id), "resumed": True})
            _say(f"{place}{study.id}: finished before, kept", quiet=quiet)
            continue
        hidden = None if not quiet else True  # None: shown on a terminal only
        with tqdm(total=len(STEPS), desc=f"{place}{study.id}", disable=hidden, leave=False) as bar:

            def tick(step: str, bar: Any = bar) -> None:
                bar.set_postfix_str(step)
                bar.update()

            try:
                result = segment_study(study, arguments.output, options=options, predictor=predictor, tick=tick)
            except (InputError, OutputError, DeviceError) as error:
                failures.append((study.id, error))
                continue
        results.append(summary(result))
        _say(place + describe(result, verbose=arguments.verbose), quiet=quiet)


def summary(result: StudyResult) -> dict[str, Any]:
    """What ``--json`` prints of a study."""
    return {
        "study": result.segmentation.study_id,
        "folder": str(result.folder),
        "volumes_ml": {row.region: round(row.volume_ml, 4) for row in result.measurements.volumes},
        "warnings": list(result.record.warnings),
        "seconds": round(sum(result.record.timings_s.values()), 2),
    }


def describe(result: StudyResult, *, verbose: bool) -> str:
    """What a person reads of a study, in a few lines."""
    seconds = sum(result.record.timings_s.values())
    lines = [f"{result.segmentation.study_id}: {result.folder} ({seconds:.1f} s)"]
    for row in result.measurements.volumes[:3]:
        interval = ""
        if row.low_ml is not None and row.high_ml is not None and row.level is not None:
            interval = f"  ({row.level:.0%} interval {row.low_ml:.1f} to {row.high_ml:.1f} ml)"
        note = f"  {row.note}" if row.note else ""
        lines.append(f"  {row.region}  {row.volume_ml:8.2f} ml{interval}{note}")
    lines += [f"  warning: {warning}" for warning in result.record.warnings]
    if verbose:
        lines += [f"  {decision}" for decision in result.record.decisions]
        lines += [f"  {step}: {value:.2f} s" for step, value in result.record.timings_s.items()]
    return "\n".join(lines)


def report_failures(failures: list[tuple[str, BratsSegError]], *, total: int) -> int:
    """List what failed on standard error; the exit code is that of the failures, 1 if they differ."""
    for name, error in failures:
        print(f"brats-seg: {name}: {error}", file=sys.stderr)
    if failures and total > 1:
        print(f"brats-seg: {len(failures)} of {total} studies failed", file=sys.stderr)
    codes = {error.exit_code for _, error in failures}
    return 0 if not codes else codes.pop() if len(codes) == 1 else 1


def _failure(name: str, error: BratsSegError) -> dict[str, Any]:
    return {"study": name, "error": str(error), "exit_code": error.exit_code}


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        print(text, flush=True)
