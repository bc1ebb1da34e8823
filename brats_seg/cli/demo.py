"""``brats-seg demo``: makes a phantom patient, segments it, and says where to look."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from brats_seg.cli.common import exists_policy, open_page, progress, tell
from brats_seg.cli.options import add, add_console

if TYPE_CHECKING:
    from brats_seg.core.regions import RegionSet
    from brats_seg.phantom.demo import DemoVisit


_CLOSE, _CLOSE_ML = 0.2, 0.1
"""Volumes that differ by less, as a share of the truth or in ml, are not pointed out."""

HELP = "make a phantom patient, segment and follow it, and compare with the known truth"
DESCRIPTION = (
    "Writes three visits of a made-up patient whose tumour volumes are known, segments them like any "
    "study, follows the tumour over the visits, and prints found and true volumes. Needs no data and no internet."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    add(parser, "output")
    words = "one visit as a scanner would give it: with skull, thick slices and no alignment, as DICOM"
    parser.add_argument("--native", action="store_true", help=words)
    add(parser, "seed", "overwrite", "open")
    add_console(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo."""
    from brats_seg.models.card import find_model, regions_of

    find_model()  # before the phantom is made, which takes longer
    from brats_seg.phantom.demo import NATIVE_STEPS, STEPS, run_demo, run_native_demo

    make, steps = (run_native_demo, NATIVE_STEPS) if arguments.native else (run_demo, STEPS)
    with progress("demo", steps, hidden=arguments.quiet) as tick:
        demo = make(arguments.output, seed=arguments.seed, exists=exists_policy(arguments), tick=tick)
    lines = comparison(demo.visits, regions_of())
    lines += [f"scans:    {demo.scans}", f"results:  {demo.results}"]
    lines += [f"look at:  {demo.report}", *([f"          {demo.timeline}"] if demo.timeline else [])]
    tell(arguments, demo.to_dict(), "\n".join(lines))
    if arguments.open:
        open_page(demo.timeline or demo.report)
    return 0


def comparison(visits: Sequence[DemoVisit], regions: RegionSet) -> list[str]:
    """Found beside true volumes, in lines; the last says where they are far apart, if they are."""
    overlap = any(visit.dice for visit in visits)
    lines = [f"{'visit':16}{'region':24}{'found':>10}{'true':>13}{'off':>8}" + f"{'Dice':>8}" * overlap]
    far = []
    for visit in visits:
        for region, true_ml in visit.truth_ml.items():
            name, found_ml = regions.title(region), visit.found_ml[region]
            off = f"{found_ml / true_ml - 1:+.0%}" if true_ml > 0 else "-"
            score = f"{visit.dice[region]:8.2f}" if region in visit.dice else ""
            lines.append(f"{visit.date:16}{name:24}{found_ml:7.1f} ml{true_ml:10.1f} ml{off:>8}{score}")
            if abs(found_ml - true_ml) > max(_CLOSE * true_ml, _CLOSE_ML):
                far.append(f"{name} at {visit.date} ({off})" if true_ml > 0 else f"{name} at {visit.date}")
    if far:
        lines.append(f"The model is more than {_CLOSE:.0%} off the truth for {', '.join(far)}.")
    return lines
