"""``brats-seg models``: what is installed; ``models assemble`` makes a model folder out of trained stages."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from brats_seg.core.errors import UsageError


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "models",
        help="what models are installed: version, checksum, trained on, accuracy, licence",
        description="Lists the installed models and checks their files. "
        "With 'assemble', makes a model folder out of the run folders of trained stages.",
    )
    parser.add_argument("--json", action="store_true", help="print the cards as JSON")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    assemble = actions.add_parser("assemble", help="make a model folder out of trained stages")
    assemble.add_argument("--coarse", type=Path, metavar="RUN", help="run folder of the whole-brain stage")
    assemble.add_argument("--fine", type=Path, metavar="RUN", help="run folder of the stage around the tumour")
    assemble.add_argument("--card", type=Path, required=True, metavar="YAML", help="what the card says of the model")
    assemble.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL", help="model folder to make")
    assemble.add_argument("--no-openvino", action="store_true", help="do not export for OpenVINO")
    assemble.set_defaults(run=run_assemble)


def run(arguments: argparse.Namespace) -> int:
    """List the installed models; every file's checksum is compared with its card."""
    from brats_seg.models.bundle import installed_models

    cards = []
    for bundle in installed_models():
        for stage in bundle.card.stages:
            for name in stage.files:
                bundle.file(stage, name)
        cards.append({**bundle.card.to_dict(), "sha256": bundle.sha256})
    if arguments.json:
        print(json.dumps(cards, indent=1))
        return 0
    for card in cards:
        print(f"{card['name']} {card['version']}: {card['description']}")
        print(f"  sha256      {card['sha256']}")
        print(f"  trained on  {card['trained_on']}")
        for name, value in card["accuracy"].items():
            print(f"  accuracy    {name}: {value}")
        print(f"  licence     {card['licence']}")
        for limit in card["limits"]:
            print(f"  limit       {limit}")
        for citation in card["citations"]:
            print(f"  cite        {citation}")
    return 0


def run_assemble(arguments: argparse.Namespace) -> int:
    """Make a model folder."""
    runs = {name: getattr(arguments, name) for name in ("coarse", "fine") if getattr(arguments, name) is not None}
    if not runs:
        raise UsageError("pass at least one of --coarse RUN and --fine RUN")
    from brats_seg.training.export import assemble_runs

    bundle = assemble_runs(runs, arguments.card, arguments.output, openvino=not arguments.no_openvino)
    print(f"{bundle.card.name} {bundle.card.version}: {arguments.output} (sha256 {bundle.sha256})")
    return 0
