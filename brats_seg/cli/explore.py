"""``brats-seg explore``: what is in a data set, and what is wrong with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import exists_policy, open_page, progress, refuse_other_results, tell
from brats_seg.cli.options import add, add_console, add_schema
from brats_seg.core.errors import InputError
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.words import counted

if TYPE_CHECKING:
    from brats_seg.explore.facts import Exploration

HELP = "what is in a data set, and what is wrong with it"
DESCRIPTION = """\
Reads every study of a folder (BraTS or BIDS) and writes a page with plots and tables:
inventory, geometry, intensities, label values, tumour volumes and places, studies that look
alike, damaged files."""
EPILOG = f"""\
exit codes: 0 nothing is broken (what deserves a look is listed all the same), 3 something is: a damaged file, a
study without readable scans, a label map on another grid or of unclear meaning, one scan in two places.

schemas: auto (default; a BraTS name, or the values in all label maps together), or one of
{", ".join(SCHEMAS)}
"""
_SHOWN = 12
"""Findings printed without -v; all are in the tables."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder of studies")
    add(parser, "output")
    add_schema(parser)
    add(parser, "jobs", "overwrite", "open")
    add_console(parser, verbose="every finding")


def run(arguments: argparse.Namespace) -> int:
    """Explore, write, print.

    Returns:
        0, or 3 where something is broken.
    """
    from brats_seg.files.folders import is_dicom_place, study_folders
    from brats_seg.files.output import OutputFolder

    refuse_other_results(arguments.output, "explore.html")
    count = 1 if is_dicom_place(arguments.dataset) else len(study_folders(arguments.dataset))
    with (
        OutputFolder(arguments.output, exists=exists_policy(arguments)) as folder,
        progress("explore", count + 3, hidden=arguments.quiet, lines=True, left=True) as tick,
    ):
        tick("loading libraries")
        from brats_seg.explore.explore import explore
        from brats_seg.explore.page import write_exploration

        found = explore(arguments.dataset, schema=arguments.schema, jobs=arguments.jobs, tick=tick)
        tick("drawing the page")
        write_exploration(found, folder.path)
    tell(arguments, _summary(found, folder.final), _text(found, folder.final, verbose=arguments.verbose))
    if arguments.open:
        open_page(folder.final / "explore.html")
    return InputError.exit_code if found.broken else 0


def _summary(found: Exploration, folder: Path) -> dict[str, Any]:
    return {
        "studies": len(found.studies),
        "patients": len({study.patient for study in found.studies}),
        "labelled": sum(study.labels is not None for study in found.studies),
        "folder": str(folder),
        "report": str(folder / "explore.html"),
        "findings": [vars(finding) for finding in found.findings],
        "broken": len(found.broken),
    }


def _text(found: Exploration, folder: Path, *, verbose: bool) -> str:
    labelled = sum(study.labels is not None for study in found.studies)
    studies = counted(len(found.studies), "study", "studies")
    patients = counted(len({study.patient for study in found.studies}), "patient")
    lines = [f"{studies} of {patients}, {labelled} with a label map"]
    shown = found.findings if verbose else found.findings[:_SHOWN]
    lines += [f"  {finding.severity}: {finding.study}: {finding.text}" for finding in shown]
    if len(found.findings) > len(shown):
        lines.append(f"  and {len(found.findings) - len(shown)} more: see the page, or pass -v")
    lines.append(f"  tables:  {folder}")
    lines.append(f"  look at: {folder / 'explore.html'}")
    return "\n".join(lines)
