"""``brats-seg demo``: makes a phantom patient, segments it, and says where to look."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from brats_seg.cli.common import progress, say
from brats_seg.core.labels import Region


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "demo",
        help="make a phantom patient, segment and follow it, and compare with the known truth",
        description="Writes three visits of a made-up patient whose tumour volumes are known, segments them like any "
        "study, follows the tumour over the visits, and prints found and true volumes. Needs no data and no internet.",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for everything")
    parser.add_argument("--seed", type=int, default=1, help="another patient for each number (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier demo")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors, show no progress")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo."""
    from brats_seg.models.bundle import find_model

    find_model()  # before the phantom is made, which takes longer
    from brats_seg.verification.demo import STEPS, run_demo

    with progress("demo", STEPS, hidden=arguments.quiet) as tick:
        exists = "overwrite" if arguments.overwrite else "refuse"
        demo = run_demo(arguments.output, seed=arguments.seed, exists=exists, tick=tick)  # type: ignore[arg-type]
    if arguments.json:
        say(json.dumps(demo.to_dict(), indent=1))
        return 0
    lines = [f"{'visit':16}{'region':24}{'found':>10}{'true':>13}"]
    for visit in demo.visits:
        for region, true_ml in visit.truth_ml.items():
            name = Region[region].value
            lines.append(f"{visit.date:16}{name:24}{visit.found_ml[region]:7.1f} ml{true_ml:10.1f} ml")
    lines += [f"scans:    {demo.scans}", f"results:  {demo.results}"]
    lines += [f"look at:  {demo.report}", f"          {demo.timeline}"]
    say("\n".join(lines), quiet=arguments.quiet)
    return 0
