"""``brats-seg demo``: makes a phantom patient, segments it, and says where to look."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "demo",
        help="make a phantom patient, segment it and compare with the known truth",
        description="Writes the four scans of a made-up patient whose tumour volumes are known, segments them like any "
        "study, and prints found and true volumes. Needs no data and no network.",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for everything")
    parser.add_argument("--seed", type=int, default=1, help="another patient for each number (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier demo")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo."""
    from tqdm import tqdm

    from brats_seg.verification.demo import STEPS, run_demo

    with tqdm(total=len(STEPS), desc="demo", disable=True if arguments.quiet else None, leave=False) as bar:

        def tick(step: str) -> None:
            bar.set_postfix_str(step)
            bar.update()

        demo = run_demo(
            arguments.output, seed=arguments.seed, exists="overwrite" if arguments.overwrite else "refuse", tick=tick
        )
    if arguments.quiet:
        return 0
    print(f"phantom patient: {demo.scans}")
    print("region   found ml    true ml")
    for region, true_ml in demo.truth_ml.items():
        print(f"{region:6} {demo.found_ml[region]:10.2f} {true_ml:10.2f}")
    print(f"results: {demo.results}")
    print(f"look at: {demo.report}")
    return 0
