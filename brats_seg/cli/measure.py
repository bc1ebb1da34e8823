"""``brats-seg measure``: volumes, lesions and diameters of an existing label map."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from brats_seg.cli.segment import add_print_options
from brats_seg.core.labels import SCHEMAS


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "measure",
        help="volumes, lesions and diameters of an existing label map",
        description="Measures a label map in its own space. The numbers' meaning comes from --schema; auto trusts a "
        "sidecar, a BraTS file name or the values {1, 2, 4}, and otherwise asks.",
    )
    parser.add_argument("mask", type=Path, metavar="MASK", help="label map (.nii or .nii.gz)")
    parser.add_argument("--schema", default="auto", choices=("auto", *SCHEMAS), help="meaning of the numbers")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the tables")
    parser.add_argument("--id", metavar="NAME", help="name of the study in the tables (default: the file's name)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    add_print_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure one label map."""
    from brats_seg.pipeline import measure, read_segmentation, write_measurements

    segmentation = read_segmentation(arguments.mask, arguments.schema, arguments.id)
    measurements = measure(segmentation)
    exists = "overwrite" if arguments.overwrite else "refuse"
    folder = write_measurements(measurements, segmentation.schema, arguments.output, exists)  # type: ignore[arg-type]
    if arguments.json:
        volumes = {row.region: round(row.volume_ml, 4) for row in measurements.volumes}
        print(json.dumps({"study": measurements.study_id, "folder": str(folder), "volumes_ml": volumes}, indent=1))
    elif not arguments.quiet:
        print(f"{measurements.study_id}: read as {segmentation.schema.name} ({segmentation.schema.title}); {folder}")
        for row in measurements.volumes:
            print(f"  {row.region:4} {row.volume_ml:9.3f} ml in {row.lesions} lesions")
        for lesion in measurements.lesions_of("ET")[:5]:
            size = f"{lesion.diameters.long_mm:.1f} x {lesion.diameters.short_mm:.1f} mm"
            print(f"  ET lesion {lesion.number}: {lesion.volume_ml:.2f} ml, {size}")
        for note in measurements.notes:
            print(f"  note: {note}")
    return 0
