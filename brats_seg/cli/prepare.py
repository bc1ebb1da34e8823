"""``brats-seg prepare``: scans with skull to aligned, skull-stripped ones, for any other tool."""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import (
    Failures,
    attempt,
    check_extraction,
    exists_policy,
    offered_masks,
    print_rows,
    progress,
    report_failures,
    say,
    studies_of,
)
from brats_seg.cli.options import add, add_brain, add_console, add_studies
from brats_seg.core.study import MRSequence

if TYPE_CHECKING:
    from brats_seg.core.study import Timepoint

HELP = "write scans with skull aligned, skull-stripped and at 1 mm, for any other tool"
DESCRIPTION = """\
Lays the sequences of each STUDY on the reference and takes everything but the brain away.
OUT/<study>/ gets one NIfTI file a sequence at 1 mm, the brain mask, and the transforms there and back."""
EPILOG = """\
examples:
  brats-seg prepare patients/case_0042 -o prepared
  brats-seg prepare patients/case_0042 -o prepared --brain-mask my_mask.nii.gz

segment does all this by itself; prepare writes it for other tools.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    add_studies(parser)
    add(parser, "output")
    add_brain(parser)
    add(parser, "reference", help="in whose space the others are laid (default: t1ce, else flair, t2, t1)")
    add(parser, "engine", choices=("auto", "onnxruntime", "openvino"), help="what runs the networks (default: auto)")
    add(parser, "overwrite")
    add_console(parser, verbose="how each sequence was aligned")


def run(arguments: argparse.Namespace) -> int:
    """Prepare every study; the good ones finish, the bad ones are listed at the end."""
    check_extraction(arguments)
    failures: Failures = []
    studies = studies_of(arguments, failures)
    rows: list[dict[str, Any]] = []
    for study in studies:
        done = attempt(study.id, partial(_prepare, study, arguments), failures)
        if done is not None:
            row, text = done
            rows.append(row)
            say(text, quiet=arguments.quiet or arguments.json)
    print_rows(arguments, rows, failures)
    return report_failures(failures, finished=len(rows))


def _prepare(study: Timepoint, arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Prepare a study; returns what ``--json`` prints of it, and what a person reads."""
    from brats_seg.run.options import SegmentOptions
    from brats_seg.run.prepare import prepare_study, transforms

    began = time.perf_counter()
    options = SegmentOptions(
        reference=MRSequence(arguments.reference) if arguments.reference else None,
        brain_mask=arguments.brain_mask,
        brain_extraction=arguments.brain_extraction,
        engine=arguments.engine,
        exists=exists_policy(arguments),
    )
    with progress(study.id, 3, hidden=arguments.quiet) as tick:
        stripped, record = prepare_study(study, arguments.output, options, tick=tick)
    folder = arguments.output / study.id
    row = {
        "study": study.id,
        "folder": str(folder),
        "brain": stripped.to_dict(),
        "transforms": transforms(stripped)["sequences"],
        "warnings": list(record.warnings),
    }
    lines = [
        f"{study.id}: done in {time.perf_counter() - began:.1f} s",
        f"  brain from {stripped.source}: {stripped.brain_ml:.0f} ml, on {stripped.grid.describe()}",
        *(offered_masks(study.ignored) if stripped.networks else []),
        *(f"  warning: {warning}" for warning in record.warnings),
        *(f"  decided: {decision}" for decision in record.decisions if arguments.verbose),
        f"  results: {folder}",
    ]
    return row, "\n".join(lines)
