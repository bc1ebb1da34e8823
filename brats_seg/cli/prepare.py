"""``brats-seg prepare``: scans with skull to aligned, skull-stripped ones, for any other tool."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import (
    Failures,
    attempt,
    check_brain_mask,
    check_extraction,
    exists_policy,
    failures_as_json,
    offered_masks,
    progress,
    report_failures,
    say,
    studies_of,
)
from brats_seg.cli.options import add, add_brain, add_console, add_studies
from brats_seg.core.study import MRSequence

if TYPE_CHECKING:
    from brats_seg.core.study import Timepoint
    from brats_seg.run.prepare import PreparedFiles

_EPILOG = """\
examples:
  brats-seg prepare patients/case_0042 -o prepared
  brats-seg prepare patients/case_0042 -o prepared --brain-mask my_mask.nii.gz

segment does all this by itself; prepare writes it for other tools.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "prepare",
        help="write scans with skull aligned, skull-stripped and at 1 mm, for any other tool",
        description="Lays the sequences of each STUDY on the reference and takes everything but the brain away.\n"
        "OUT/<study>/ gets one NIfTI file a sequence at 1 mm, the brain mask, and the transforms there and back.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_studies(parser)
    add(parser, "output")
    add_brain(parser)
    add(parser, "reference", help="in whose space the others are laid (default: t1ce, else flair, t2, t1)")
    add(parser, "engine", choices=("auto", "onnxruntime", "openvino"), help="what runs the networks (default: auto)")
    add(parser, "overwrite")
    add_console(parser, verbose="how each sequence was aligned")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prepare every study; the good ones finish, the bad ones are listed at the end."""
    check_extraction(arguments)
    failures: Failures = []
    studies = studies_of(arguments, failures)
    check_brain_mask(arguments, studies)
    rows: list[dict[str, Any]] = []
    for study in studies:
        done = attempt(study.id, partial(_prepare, study, arguments), failures)
        if done is not None:
            row, text = done
            rows.append(row)
            say(text, quiet=arguments.quiet or arguments.json)
    if arguments.json:
        say(json.dumps({"results": rows, "failed": failures_as_json(failures)}, indent=1))
    return report_failures(failures, finished=len(rows))


def _prepare(study: Timepoint, arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from brats_seg.run.prepare import prepare_study, transforms

    began = time.perf_counter()
    with progress(study.id, 3, hidden=arguments.quiet) as tick:
        done = prepare_study(
            study,
            arguments.output,
            reference=MRSequence(arguments.reference) if arguments.reference else None,
            brain_mask=arguments.brain_mask,
            extractor=arguments.brain_extraction,
            engine=arguments.engine,
            exists=exists_policy(arguments),
            tick=tick,
        )
    row = {
        "study": study.id,
        "folder": str(done.folder),
        "brain": done.stripped.to_dict(),
        "transforms": transforms(done.stripped)["sequences"],
        "warnings": list(done.record.warnings),
    }
    return row, _text(done, study.ignored, seconds=time.perf_counter() - began, verbose=arguments.verbose)


def _text(done: PreparedFiles, ignored: tuple[str, ...], *, seconds: float, verbose: bool) -> str:
    """A prepared study in a few lines."""
    stripped = done.stripped
    lines = [
        f"{stripped.study.id}: done in {seconds:.1f} s",
        f"  brain from {stripped.source}: {stripped.brain_ml:.0f} ml, on {stripped.grid.describe()}",
        *(offered_masks(ignored) if stripped.networks else []),
        *(f"  warning: {warning}" for warning in done.record.warnings),
    ]
    if verbose:
        lines += [f"  decided: {decision}" for decision in done.record.decisions]
    return "\n".join([*lines, f"  results: {done.folder}"])
