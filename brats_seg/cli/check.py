"""``brats-seg check``: what was found, on which grids, and what is wrong; segments and writes nothing."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import (
    Failures,
    attempt,
    brain_masks,
    failures_as_json,
    offered_masks,
    progress,
    report_failures,
    say,
    studies_of,
)
from brats_seg.cli.options import add_console, add_studies
from brats_seg.core.errors import InputError
from brats_seg.core.study import SEQUENCES

if TYPE_CHECKING:
    from brats_seg.core.scans import Study
    from brats_seg.core.study import Timepoint

HELP = "say what is in a study and what is wrong with it, without segmenting"
DESCRIPTION = """\
Reads each study and says which file was taken for which sequence, on which grid it lies,
and everything that would stop or trouble a segmentation. Nothing is written."""
EPILOG = """\
exit codes: 0 every study can be segmented as it is, 3 something is wrong with one. Nothing is written.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    add_studies(parser)
    add_console(parser, verbose="how the background and skull of each scan were judged")


def run(arguments: argparse.Namespace) -> int:
    """Check every study named."""
    failures: Failures = []
    studies = studies_of(arguments, failures)
    rows: list[dict[str, Any]] = []
    for study in studies:
        with progress(f"check {study.id}", 2, hidden=arguments.quiet) as tick:
            row = attempt(study.id, partial(check, study, tick), failures)
        if row is None:
            continue
        rows.append(row)
        if row["problems"]:
            failures.append((study.id, InputError(" ".join(row["problems"]))))
        elif not _fits(row):
            failures.append((study.id, InputError("its scans do not fit together, see the warnings")))
        say(text_of(row, verbose=arguments.verbose), quiet=arguments.quiet or arguments.json)
    if arguments.json:
        say(json.dumps({"studies": rows, "failed": failures_as_json(failures)}, indent=1))
    return report_failures(failures, finished=sum(_fits(row) and not row["problems"] for row in rows))


def _fits(row: dict[str, Any]) -> bool:
    """Whether the scans fit together, as far as that was looked at."""
    return bool(row.get("consistency", {}).get("fits", True))


def check(files: Timepoint, tick: Any) -> dict[str, Any]:
    """Everything found out about one study, as plain values."""
    from brats_seg.files.load import load_study, scan_title

    tick("read")
    row: dict[str, Any] = {
        "study": files.id,
        "files": {sequence.value: scan_title(files, sequence) for sequence in files.files},
        "missing": [sequence.value for sequence in files.missing],
        "expert_label": files.labels.name if files.labels else None,
        "not_used": [name for name in files.ignored if files.labels is None or name != files.labels.name],
        "series": _series(files),
        "sequences": {},
        "reference": None,
        "on_one_grid": None,
        "warnings": list(files.notes),
        "problems": [],
    }
    try:
        study = load_study(files)
    except InputError as error:
        row["problems"].append(str(error))
        return row
    tick("looking at the images")
    row["warnings"] = list(study.notes)
    row["reference"] = study.reference_sequence.value
    row["on_one_grid"] = study.is_aligned
    _look(study, row)
    return row


def _series(files: Timepoint) -> list[dict[str, Any]]:
    """What each series of a DICOM exam was taken for, and why; nothing of NIfTI files."""
    from brats_seg.files.dicom_study import DicomTimepoint

    if not isinstance(files, DicomTimepoint):
        return []
    used = {reading.series: sequence.value for sequence, reading in files.exam.chosen.items()}
    return [
        {
            "series": reading.series.title,
            "option": reading.series.key,
            "sequence": None if reading.sequence is None else reading.sequence.value,
            "could_be": [sequence.value for sequence in reading.could_be],
            "confidence": reading.confidence.value,
            "evidence": list(reading.evidence),
            "used_as": used.get(reading.series),
        }
        for reading in files.exam.readings
    ]


def _look(study: Study, row: dict[str, Any]) -> None:
    """Grids, intensities and what the images show."""
    from brats_seg.imaging.brain import check_skull_stripped
    from brats_seg.imaging.placing import check_where_placed
    from brats_seg.run.identify import contradictions

    with_skull: dict[str, str] = {}
    for sequence in study.present:
        volume = study.images[sequence]
        skull = check_skull_stripped(volume, sequence)
        row["sequences"][sequence.value] = {
            "grid": volume.grid.describe(),
            "intensity": [float(volume.data.min()), float(volume.data.max())],
            "skull_stripped": bool(skull.is_stripped),
            "evidence": skull.evidence,
        }
        if not skull.is_stripped:
            with_skull[sequence.title] = skull.evidence
    if with_skull:
        first = next(iter(with_skull.values()))
        row["warnings"].append(
            f"{', '.join(with_skull)} {'shows' if len(with_skull) == 1 else 'show'} skull ({first}): segment will "
            "align the sequences and extract the brain"
        )
        row["warnings"] += contradictions(study)
        return
    measured = check_where_placed(study)
    row["consistency"] = measured.to_dict()
    row["problems"] += [f"{study.id}: {entry}" for entry in measured.found if entry.is_fatal]
    row["warnings"] = [*(str(entry) for entry in measured.found if not entry.is_fatal), *row["warnings"]]


def text_of(row: dict[str, Any], *, verbose: bool = False) -> str:
    """A checked study in a few lines."""
    lines = [row["study"]]
    used = {series["used_as"]: [series] for series in row["series"]}
    for sequence in SEQUENCES:
        held = row["sequences"].get(sequence.value)
        name = row["files"].get(sequence.value)
        if name is None:
            lines.append(f"  {sequence.title:6} missing{_COST.get(sequence.value, ': the network works without')}")
        elif held is None:
            lines.append(f"  {sequence.title:6} {name}")
        else:
            low, high = held["intensity"]
            mark = "  <- results go on this grid" if row["reference"] == sequence.value else ""
            lines.append(f"  {sequence.title:6} {name}: {held['grid']}, values {low:g} to {high:g}{mark}")
            if verbose:
                lines.append(f"         {held['evidence']}")
        lines += [f"         {s['confidence']}: {'; '.join(s['evidence'])}" for s in used.get(sequence.value, [])]
    if row["expert_label"]:
        lines.append(f"  label  {row['expert_label']}: seen, never an input")
    if row["on_one_grid"] is False:
        lines.append("  the sequences lie on different grids: segment will register them to the reference")
    lines += [f"  warning: {warning}" for warning in row["warnings"]]
    masks = [] if all(held["skull_stripped"] for held in row["sequences"].values()) else brain_masks(row["not_used"])
    lines += offered_masks(masks)
    lines += [f"  not used: {name}" for name in row["not_used"] if name not in masks]
    lines.append("  not ready, see below" if row["problems"] or not _fits(row) else "  ready to segment")
    return "\n".join(lines)


_COST = {
    "t1ce": ": enhancing tumour and tumour core will be estimates, not assessable without T1CE",
    "flair": ": the network works without, the extent of edema is less certain",
}
"""What a missing sequence costs, where it costs most."""
