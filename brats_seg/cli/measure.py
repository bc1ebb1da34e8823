"""``brats-seg measure``: volumes, lesions and diameters of an existing label map."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import add_print_options, progress, say
from brats_seg.cli.segment import volume_line
from brats_seg.core.regions import SCHEMAS, Region
from brats_seg.core.words import counted
from brats_seg.files.tables import volume_row

if TYPE_CHECKING:
    from brats_seg.core.visit import Measurements
    from brats_seg.run import MaskReading

_SHOWN = 5
"""Lesions printed; all are in the tables."""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    schemas = "\n".join(f"  {name:14}{schema.title}: {schema.numbers}" for name, schema in SCHEMAS.items())
    parser = subparsers.add_parser(
        "measure",
        help="volumes, lesions and diameters of an existing label map",
        description="Measures a label map in its own space; tables go to OUT/<study>/. What the numbers mean comes\n"
        "from --schema; auto goes by the file beside it (_dseg.json, _dseg.tsv, dataset.json), then by the values and\n"
        "where each label lies, and asks where that is not certain, because 4 is enhancing tumour in one year and a\n"
        "cavity in another. The name of a file decides only what these leave open.",
        epilog=f"schemas:\n{schemas}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mask", type=Path, metavar="MASK", help="label map (.nii or .nii.gz)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the results")
    parser.add_argument(
        "--schema",
        default="auto",
        choices=("auto", *SCHEMAS),
        metavar="NAME",
        help="auto (default) or one of those below",
    )
    parser.add_argument(
        "--id",
        metavar="NAME",
        help="name of the study in the tables (default: from the name of the file, or of its folder)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace tables written before")
    add_print_options(parser, verbose="every lesion, of every region")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure one label map."""
    with progress(arguments.mask.name, 3, hidden=arguments.quiet) as tick:
        tick("read")
        from brats_seg.run import measure, read_mask, write_measurements

        mask = read_mask(arguments.mask, arguments.schema, arguments.id)
        tick("measure")
        measurements = measure(mask.segmentation)
        tick("write")
        exists = "overwrite" if arguments.overwrite else "refuse"
        folder = write_measurements(measurements, mask, arguments.output, exists)  # type: ignore[arg-type]
    if arguments.json:
        say(json.dumps(_summary(measurements, mask, folder), indent=1))
    else:
        say(_text(measurements, mask, folder, verbose=arguments.verbose), quiet=arguments.quiet)
    return 0


def _summary(measurements: Measurements, mask: MaskReading, folder: Path) -> dict[str, Any]:
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
    told = [row for row in measurements.volumes if row.is_told]
    lines += [volume_line(row) for row in told if row.volume_ml > 0 or row.region in Region.__members__]
    lines += [f"  {row.region}: {row.note}" for row in measurements.volumes if row not in told]
    listed = measurements.lesions if verbose else measurements.lesions_of("ET")
    shown = listed if verbose else listed[:_SHOWN]
    for lesion in shown:
        size = f"{lesion.diameters.long_mm:.1f} x {lesion.diameters.short_mm:.1f} mm, {lesion.diameters.plane}"
        side = f", {lesion.side_words}" if lesion.side else ""
        lines.append(f"  {lesion.region} lesion {lesion.number}: {lesion.volume_ml:.2f} ml, {size}{side}")
    if len(listed) > len(shown):
        rest = counted(len(listed) - len(shown), "smaller ET lesion")
        lines.append(f"  and {rest}: see the tables, or pass -v")
    lines += [f"  note: {note}" for note in measurements.notes]
    lines.append(f"  tables: {folder}")
    return "\n".join(lines)
