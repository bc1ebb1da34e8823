"""How far measurements can be trusted: reference objects, and the whole pipeline on fresh phantoms.

    python -m experiments.volumetry -o OUT [--quick] [--model NAME|PATH] [--seed N]

Writes a page, tables and ``repeatability.csv``, which ``brats_seg/track`` carries.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from brats_seg.files.output import OutputFolder
from brats_seg.run.options import SegmentOptions
from brats_seg.run.segment import open_predictor
from experiments.volumetry import verify
from experiments.volumetry.report import write_verification


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.volumetry", description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few samples: a look, no measurement")
    parser.add_argument("--model", metavar="NAME|PATH", default="glioma")
    options = parser.parse_args(arguments)
    with OutputFolder(options.output, exists="refuse") as folder:
        size = verify.QUICK if options.quick else verify.VerifySize()
        predictor = open_predictor(SegmentOptions(model=options.model))
        found = verify.verify(size, predictor, seed=options.seed)
        write_verification(found, folder.path)
    for check in found.checks():
        verdict = {True: "met", False: "NOT MET", None: "-"}[check.is_met]
        print(f"{verdict:>7}  {check.what}\n         target {check.target}; {check.measured}")


if __name__ == "__main__":
    main()
