"""``brats-seg models``: what is installed; models made of trained stages, taken in from elsewhere, given out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import complain, say, tell
from brats_seg.cli.options import add, add_console
from brats_seg.core.errors import ModelError, UsageError

if TYPE_CHECKING:
    from brats_seg.models.card import ModelBundle

HELP = "what models are installed: version, checksum, trained on, accuracy, licence"
DESCRIPTION = (
    "Lists the installed models and checks their files. "
    "With 'assemble', makes a model folder out of the run folders of trained stages; with 'import', out of foreign "
    "weights; 'export' writes a model as ONNX, OpenVINO or MONAI bundle."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    add(parser, "json", help="print the cards as JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    assemble = actions.add_parser("assemble", help="make a model folder out of trained stages")
    assemble.add_argument("--coarse", type=Path, metavar="RUN", help="run folder of the whole-brain stage")
    assemble.add_argument("--fine", type=Path, metavar="RUN", help="run folder of the stage around the tumour")
    assemble.add_argument("--card", type=Path, required=True, metavar="YAML", help="what the card says of the model")
    assemble.add_argument(
        "--crossval",
        type=Path,
        metavar="RUN",
        help="finished run folder of 'crossval' of the same recipe: for the card's figures, thresholds, intervals",
    )
    add(assemble, "output", metavar="MODEL", help="model folder to make")
    add_console(assemble)
    assemble.add_argument("--no-openvino", action="store_true", help="weights alone, for PyTorch")
    assemble.set_defaults(run=run_assemble)
    _add_import(actions)
    _add_export(actions)


IMPORT_HELP = """\
SOURCE is one of
  a folder   a MONAI bundle with SegResNet, such as brats_mri_segmentation, with its weights in models/model.pt;
             or a bundle that 'models export --format monai' wrote
  a file     a state dict (.safetensors, or .pt made with torch.save), described by --card

A card for a weights file is YAML; only the first three keys are needed:
  name: mine
  architecture: segresnet              # or attention_unet
  knows_treated_brains: false          # whether it was trained on scans after surgery or radiotherapy, too
  network: {init_filters: 16}          # what differs from the defaults of that network
  sequences: [t1ce, t1, t2, flair]     # order of its input channels (default t1, t1ce, t2, flair)
  regions: […]                         # its output channels, in order (default: those of the model glioma)
  axes: LPS                            # to where its axes run (default RAS)
  spacing_mm: 1.0                      # voxel size it works at
  prepare: {percentiles: [0, 100]}     # how scans are prepared for it
  postprocess: {thresholds: [0.5, 0.5, 0.5]}
  licence: …                           # also version, description, trained_on, limits, citations, accuracy"""

EXPORT_HELP = """\
formats
  onnx       <stage>.onnx for each network, compared with PyTorch, and description.json
  openvino   <stage>.xml and .bin for each network, compared with PyTorch, and description.json
  monai      a MONAI bundle that 'python -m monai.bundle run' runs on a folder of studies; see its docs/README.md"""


def _add_import(actions: Any) -> None:
    parser = actions.add_parser(
        "import",
        help="make a model folder out of a MONAI bundle or a state dict",
        description="Makes a model folder that 'segment --model' takes. Weights are read as tensors, never as code.",
        epilog=IMPORT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of a MONAI bundle, or a weights file")
    parser.add_argument("--card", type=Path, metavar="YAML", help="what a weights file is")
    add(parser, "output", metavar="MODEL", help="model folder to make")
    add_console(parser)
    parser.set_defaults(run=run_import)


def _add_export(actions: Any) -> None:
    parser = actions.add_parser(
        "export",
        help="write a model as ONNX, OpenVINO or MONAI bundle",
        description="Writes an installed model, or a model folder, for other programs.",
        epilog=EXPORT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="name of an installed model, or a model folder")
    parser.add_argument("--format", required=True, choices=("onnx", "openvino", "monai"), help="see below")
    add(parser, "output", help="folder to make")
    add_console(parser)
    parser.set_defaults(run=run_export)


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
        complain(f"{name}: {error}")
    return ModelError.exit_code if damaged else 0


def _installed() -> tuple[list[dict[str, Any]], list[tuple[str, ModelError]]]:
    """Cards of the models whose files are whole, and what is wrong with the others."""
    from brats_seg.models import card as bundle

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
    from brats_seg.train.export import assemble_runs

    bundle = assemble_runs(
        runs,
        arguments.card,
        arguments.output,
        onnx=not arguments.no_openvino,
        crossval=arguments.crossval,
    )
    return _tell(arguments, bundle)


def _tell(arguments: argparse.Namespace, bundle: ModelBundle, lines: Sequence[str] = (), how: str = "") -> int:
    """Say what was made and where; returns the exit code."""
    made = {"name": bundle.card.name, "version": bundle.card.version, "sha256": bundle.sha256}
    head = f"{bundle.card.name} {bundle.card.version}{how}: {arguments.output} (sha256 {bundle.sha256})"
    tell(arguments, {**made, "folder": str(arguments.output)}, "\n".join([head, *(f"  {line}" for line in lines)]))
    return 0


def run_import(arguments: argparse.Namespace) -> int:
    """Make a model folder out of foreign weights."""
    source, card = arguments.source, arguments.card
    if source.is_dir() and card is not None:
        raise UsageError("a bundle describes itself: leave --card out, or pass its weights file instead of the folder")
    if not source.exists():
        raise ModelError(f"there is no file or folder {source}. Check the spelling.")
    if not source.is_dir() and card is None:
        raise UsageError(
            f"{source.name} does not say what network it is: add --card YAML (see: brats-seg models import --help), "
            "or pass the folder of the MONAI bundle it belongs to"
        )
    from brats_seg.exchange.importing import import_bundle, import_weights
    from brats_seg.files.output import OutputFolder
    from brats_seg.run.segment import prepare_config
    from brats_seg.train.runs import read_yaml

    with OutputFolder(arguments.output) as folder:
        if card is None:
            bundle = import_bundle(source, folder.path)
        else:
            bundle = import_weights(source, read_yaml(card), folder.path, where=card.name)
        prepare_config(bundle.card.prepare)  # refused here, not when a study is segmented
    lines = [
        f"{stage.key:11} {stage.architecture} at {stage.spacing_mm:g} mm, takes {', '.join(stage.layout.sequences)} "
        f"along {stage.layout.axes}, gives {', '.join(stage.layout.regions)}"
        for stage in bundle.card.stages
    ]
    return _tell(arguments, bundle, lines)


def run_export(arguments: argparse.Namespace) -> int:
    """Write a model for other programs."""
    from brats_seg.exchange.exporting import export_networks
    from brats_seg.exchange.monai_bundle import export_monai
    from brats_seg.files.output import OutputFolder
    from brats_seg.models.card import find_model

    bundle = find_model(arguments.model)
    with OutputFolder(arguments.output) as folder:
        if arguments.format == "monai":
            export_monai(bundle, folder.path)
            words = ["run it with: python -m monai.bundle run; docs/README.md in it says how"]
        else:
            checks = export_networks(bundle, folder.path, arguments.format)
            words = [f"{name:11} {check}" for name, check in checks.items()]
    return _tell(arguments, bundle, words, f" as {arguments.format}")
