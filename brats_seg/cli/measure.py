"""``brats-seg measure``: volumes, lesions and diameters of an existing label map."""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import (
    Failures,
    attempt,
    exists_policy,
    print_rows,
    progress,
    report_failures,
    say,
    tell,
    time_left,
)
from brats_seg.cli.options import add, add_console, add_schema
from brats_seg.cli.segment import volume_line
from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.words import counted, side_words

if TYPE_CHECKING:
    from brats_seg.core.visit import Measurements
    from brats_seg.files.label_map import MaskReading

_SHOWN = 5
"""Lesions printed; all are in the tables."""

HELP = "volumes, lesions and diameters of an existing label map"
DESCRIPTION = """\
Measures each label map in its own space; tables go to OUT/<study>/, and of several label maps
together to OUT/volumes.csv and OUT/lesions.csv. What the numbers mean comes
from --schema; auto goes by the file beside it (_dseg.json, _dseg.tsv, dataset.json), then by the values and
where each label lies, and asks where that is not certain, because 4 is enhancing tumour in one year and a
cavity in another. The name of a file decides only what these leave open."""
EPILOG = "schemas:\n" + "\n".join(f"  {name:14}{schema.title}: {schema.numbers}" for name, schema in SCHEMAS.items())


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    parser.add_argument(
        "masks", nargs="+", type=Path, metavar="MASK", help="label map: .nii, .nii.gz, .seg.nrrd, or a DICOM SEG"
    )
    add(parser, "output")
    add_schema(parser, "what the label numbers mean: auto (default) or one of those below")
    add(parser, "id", "min-lesion-ml", "overwrite")
    add_console(parser, verbose="every lesion, of every region")


def run(arguments: argparse.Namespace) -> int:
    """Measure every label map; the good ones finish, the bad ones are listed at the end."""
    from brats_seg.files.file_bytes import file_bytes

    masks: list[Path] = arguments.masks
    failures: Failures = []
    several = len(masks) > 1
    if several and arguments.id is not None:
        raise UsageError(f"--id names one study, and {len(masks)} label maps were passed. Pass them one at a time.")
    if not several:
        file_bytes(masks[0], 0)  # refused before anything is loaded
    from brats_seg.files.tables import add_study, check_tables

    collected = check_tables(arguments.output) or several
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()
    for number, mask in enumerate(masks, start=1):
        if (done := attempt(str(mask), partial(_measure, arguments, mask, rows), failures)) is None:
            continue
        row, text = done
        rows.append(row)
        if collected:
            attempt(str(mask), partial(add_study, arguments.output, row["study"]), failures)
        rest = time_left(number, len(masks), time.perf_counter() - began)
        place = f"[{number}/{len(masks)}{rest}] " if several else ""
        say(place + text, quiet=arguments.quiet or arguments.json)
    if len(masks) == 1 and failures:
        raise failures[0][1]
    if several:
        print_rows(arguments, rows, failures)
    elif arguments.json:
        tell(arguments, rows[0], "")
    return report_failures(failures, finished=len(rows))


def _measure(arguments: argparse.Namespace, path: Path, before: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """Measure one label map; returns what ``--json`` prints of it, and what a person reads."""
    with progress(path.name, 3, hidden=arguments.quiet) as tick:
        tick("read")
        from brats_seg.files.label_map import read_mask
        from brats_seg.models.card import regions_of
        from brats_seg.run.masks import measure, write_measurements

        mask = read_mask(path, arguments.schema, arguments.id, regions_of)
        name = mask.segmentation.study_id
        if name in (row["study"] for row in before):
            raise InputError(f"another label map of this call is study {name}, too. Pass it by itself, with --id NAME.")
        tick("measure")
        measurements = measure(mask.segmentation, min_lesion_ml=arguments.min_lesion_ml)
        tick("write")
        folder = write_measurements(measurements, mask, arguments.output, exists_policy(arguments))
    return _summary(measurements, mask, folder), _text(measurements, mask, folder, verbose=arguments.verbose)


def _summary(measurements: Measurements, mask: MaskReading, folder: Path) -> dict[str, Any]:
    from brats_seg.files.tables import volume_row

    return {
        "study": measurements.study_id,
        "folder": str(folder),
        "schema": mask.segmentation.schema.name,
        "volumes_ml": {row.region: volume_row(measurements, row)["volume_ml"] for row in measurements.volumes},
        "lesions": {row.region: row.lesions for row in measurements.volumes},
        "warnings": list(mask.warnings),
    }


def _text(measurements: Measurements, mask: MaskReading, folder: Path, *, verbose: bool) -> str:
    lines = [f"{measurements.study_id}: {decision}" for decision in mask.decisions]
    lines += [f"  warning: {warning}" for warning in mask.warnings]
    regions = mask.segmentation.regions
    leading = (*regions.followed, *regions.outermost)[0].name
    told = [row for row in measurements.volumes if row.is_told]
    lines += [volume_line(row, regions) for row in told if row.volume_ml > 0 or row.region in regions.names]
    lines += [f"  {row.region}: {row.note}" for row in measurements.volumes if row not in told]
    listed = measurements.lesions if verbose else measurements.lesions_of(leading)
    shown = listed if verbose else listed[:_SHOWN]
    for lesion in shown:
        size = f"{lesion.diameters.long_mm:.1f} x {lesion.diameters.short_mm:.1f} mm, {lesion.diameters.plane}"
        side = f", {side_words(lesion.side)}" if lesion.side else ""
        lines.append(f"  {lesion.region} lesion {lesion.number}: {lesion.volume_ml:.2f} ml, {size}{side}")
    if len(listed) > len(shown):
        rest = counted(len(listed) - len(shown), f"smaller {leading} lesion")
        lines.append(f"  and {rest}: see the tables, or pass -v")
    lines += [f"  note: {note}" for note in measurements.notes]
    lines.append(f"  tables: {folder}")
    return "\n".join(lines)
