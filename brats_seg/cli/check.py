"""``brats-seg check``: what was found, on which grids, and what is wrong; computes and writes nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from brats_seg.cli.segment import add_print_options, add_sequence_options, report_failures, studies_of
from brats_seg.core.errors import BratsSegError, InputError
from brats_seg.core.study import REFERENCE_PREFERENCE, SEQUENCES


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "check",
        help="say what is in a study and what is wrong with it, without segmenting",
        description="Reads the headers and voxels of each study and says which file was taken for which sequence, "
        "on which grid it lies, and everything that would stop or trouble a segmentation.",
    )
    parser.add_argument("studies", nargs="*", type=Path, metavar="STUDY", help="folder of a study or of a data set")
    add_sequence_options(parser)
    add_print_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check every study named."""
    failures: list[tuple[str, BratsSegError]] = []
    studies = studies_of(arguments, failures)
    rows: list[dict[str, Any]] = []
    for study in studies:
        row = _check(study, failures)
        rows.append(row)
        if not arguments.quiet and not arguments.json:
            print(_text(row))
    if arguments.json:
        failed = [{"study": name, "error": str(error)} for name, error in failures]
        print(json.dumps({"studies": rows, "failed": failed}, indent=1))
    return report_failures(failures, total=len(studies) + len({n for n, _ in failures} - {s.id for s in studies}))


def _check(study: Any, failures: list[tuple[str, BratsSegError]]) -> dict[str, Any]:
    from brats_seg.io.load import load_study
    from brats_seg.preprocessing.brain import check_skull_stripped

    row: dict[str, Any] = {"study": study.id, "sequences": {}, "notes": list(study.notes), "problems": []}
    row["files"] = {s.value: path.name for s, path in study.files.items()}
    row["expert_label"] = study.labels.name if study.labels else None
    row["ignored"] = list(study.ignored)
    row["missing"] = [s.title for s in study.missing]
    try:
        loaded = load_study(study)
    except InputError as error:
        failures.append((study.id, error))
        row["problems"].append(str(error))
        return row
    row["notes"] = list(loaded.notes)
    row["reference"] = next(s for s in REFERENCE_PREFERENCE if s in loaded.images).value
    row["aligned"] = loaded.is_aligned
    for sequence in loaded.present:
        volume = loaded.images[sequence]
        skull = check_skull_stripped(volume, sequence)
        row["sequences"][sequence.value] = {
            "grid": volume.grid.describe(),
            "intensity": [float(volume.data.min()), float(volume.data.max())],
            "skull_stripped": bool(skull.is_stripped),
            "evidence": skull.evidence,
        }
        if not skull.is_stripped:
            problem = InputError(f"{sequence.title} does not look skull-stripped ({skull.evidence})")
            failures.append((study.id, problem))
            row["problems"].append(str(problem))
    return row


def _text(row: dict[str, Any]) -> str:
    lines = [row["study"]]
    for sequence in SEQUENCES:
        held = row["sequences"].get(sequence.value)
        name = row["files"].get(sequence.value)
        if name is None:
            lines.append(f"  {sequence.title:6} missing: the network works without, less accurately")
        elif held is None:
            lines.append(f"  {sequence.title:6} {name}: not readable, see below")
        else:
            low, high = held["intensity"]
            mark = "  (results go on this grid)" if row.get("reference") == sequence.value else ""
            lines.append(f"  {sequence.title:6} {name}: {held['grid']}, values {low:g} to {high:g}{mark}")
    if row["expert_label"]:
        lines.append(f"  label  {row['expert_label']}: seen, never an input")
    if row.get("aligned") is False:
        lines.append("  the sequences lie on different grids and would be registered to the reference")
    lines += [f"  note: {note}" for note in row["notes"]]
    lines += [f"  not used: {name}" for name in row["ignored"] if name != row["expert_label"]]
    lines.append("  ready to segment" if not row["problems"] else "  not ready, see below")
    return "\n".join(lines)
