"""``brats-seg models``: what is installed; ``models assemble`` makes a model folder out of trained stages."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from brats_seg.cli.common import say
from brats_seg.core.errors import ModelError, UsageError


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
    """List the installed models; every file's checksum is compared with its card.

    A damaged model does not hide the others: it is named at the end, with the exit code of a model error.
    """
    cards, damaged = _installed()
    if arguments.json:
        listed = [*cards, *({"name": name, "error": str(error)} for name, error in damaged)]
        say(json.dumps(listed, indent=1))
    else:
        for card in cards:
            say(_text(card))
        if not cards and not damaged:
            say("no model is installed. Install the package again, or pass a model folder: segment --model PATH")
    for name, error in damaged:
        print(f"brats-seg: {name}: {error}", file=sys.stderr)
    return ModelError.exit_code if damaged else 0


def _installed() -> tuple[list[dict[str, Any]], list[tuple[str, ModelError]]]:
    """Cards of the models whose files are whole, and what is wrong with the others."""
    from brats_seg.models import bundle

    cards: list[dict[str, Any]] = []
    damaged: list[tuple[str, ModelError]] = []
    for path in sorted(bundle.BUILT_IN.glob(f"*/{bundle.CARD}")):
        try:
            model = bundle.read_bundle(path.parent)
            for stage in model.card.stages:
                for name in stage.files:
                    model.file(stage, name)
        except ModelError as error:
            damaged.append((path.parent.name, error))
        else:
            cards.append({**model.card.to_dict(), "sha256": model.sha256})
    return cards, damaged


def _text(card: dict[str, Any]) -> str:
    rows = [("sha256", card["sha256"]), ("trained on", card["trained_on"])]
    rows += [("accuracy", f"{name}: {value}") for name, value in card["accuracy"].items()]
    rows += [("licence", card["licence"])]
    rows += [("limit", limit) for limit in card["limits"]]
    rows += [("cite", citation) for citation in card["citations"]]
    lines = [f"{card['name']} {card['version']}: {card['description']}"]
    return "\n".join([*lines, *(f"  {title:11} {value}" for title, value in rows)])


def run_assemble(arguments: argparse.Namespace) -> int:
    """Make a model folder."""
    runs = {name: getattr(arguments, name) for name in ("coarse", "fine") if getattr(arguments, name) is not None}
    if not runs:
        raise UsageError("pass at least one of --coarse RUN and --fine RUN")
    from brats_seg.training.export import assemble_runs

    bundle = assemble_runs(runs, arguments.card, arguments.output, openvino=not arguments.no_openvino)
    print(f"{bundle.card.name} {bundle.card.version}: {arguments.output} (sha256 {bundle.sha256})")
    return 0
