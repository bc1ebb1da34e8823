"""``brats-seg phantom``: made-up patients and objects whose truth is known."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import exists_policy, open_page, progress, refuse_other_results, tell
from brats_seg.cli.options import add, add_console, add_existing
from brats_seg.core.errors import UsageError
from brats_seg.core.words import counted

if TYPE_CHECKING:
    from brats_seg.phantom.defects import DefectKind

OBJECTS = ("sphere", "ellipsoid", "shell", "box", "pair")
KINDS = ("glioma", "high_grade", "low_grade", "metastases", "meningioma", "resected", "none", "mixed")
DEFECTS = ("ghosting", "dropout", "clipped", "swapped", "missing", "damaged")

_PATIENT_OPTIONS = ("patients", "visits", "kind", "space", "skull", "at_dura", "defects", "resume")
_OBJECT_OPTIONS = (
    *("diameter_mm", "second_mm", "hollow_mm", "sides_mm", "distance_mm", "spacing_mm", "orientation", "turn_deg"),
    *("object_turn_deg", "offset_mm", "noise", "contrast"),
)
_SHAPE_OPTIONS = {
    "sphere": ("diameter_mm",),
    "ellipsoid": ("sides_mm", "object_turn_deg"),
    "shell": ("diameter_mm", "hollow_mm"),
    "box": ("sides_mm", "object_turn_deg"),
    "pair": ("diameter_mm", "second_mm", "distance_mm"),
}
"""Of the options that give an object's shape, those each object has."""

HELP = "made-up patients and objects whose truth is known"
DESCRIPTION = """\
Without a word: phantom patients over several visits. sphere, ellipsoid, shell, box and pair: a
digital reference object with its exact volume."""
EPILOG = """\
examples:
  brats-seg phantom -o phantoms --patients 20 --visits 4 --seed 7      a data set in BIDS names; then
  brats-seg segment phantoms -o results                                any command reads it as it is
  brats-seg phantom -o bad --patients 6 --visits 1 --defects all       does my pipeline notice?
  brats-seg phantom sphere -o ball --diameter-mm 20 --spacing-mm 1 1 5

The same seed gives the same files, whatever --jobs is. Nothing here is a real person's.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    parser.add_argument(
        "what", nargs="?", choices=("patients", *OBJECTS), default="patients", metavar="WHAT",
        help=f"patients (default), {', '.join(OBJECTS)}",
    )  # fmt: skip
    add(parser, "output", "seed", "jobs", "open")
    add_existing(parser)
    add_console(parser)
    _add_patient_options(parser.add_argument_group("patients"))
    _add_object_options(parser.add_argument_group("sphere, ellipsoid, shell, box, pair (lengths are whole extents)"))


def _add_patient_options(group: Any) -> None:
    group.add_argument("--patients", type=int, metavar="N", help="number of patients (default: 20)")
    group.add_argument("--visits", type=int, metavar="N", help="visits of each (default: 4)")
    group.add_argument("--kind", choices=KINDS, help="what grows (default: glioma, high or low grade)")
    group.add_argument(
        "--space", choices=("atlas", "native"),
        help="atlas: all sequences on the grid of BraTS (default); native: each on its own, mostly thick slices",
    )  # fmt: skip
    group.add_argument("--skull", action="store_true", help="with scalp, fat, skull and eyes")
    group.add_argument("--at-dura", action="store_true", help="every lesion reaches the surface of the brain")
    group.add_argument(
        "--defects", metavar="LIST",
        help=f"what goes wrong, dealt to the visits in turn: {', '.join(DEFECTS)}, separated by commas; all; or random "
        "(half of the visits, by chance)",
    )  # fmt: skip


def _add_object_options(group: Any) -> None:
    def lengths(name: str, words: str) -> None:
        group.add_argument(name, nargs=3, type=float, metavar=("X", "Y", "Z"), help=words)

    group.add_argument("--diameter-mm", type=float, metavar="D", help="of sphere, shell, pair (default: 20)")
    group.add_argument("--second-mm", type=float, metavar="D", help="pair: diameter of the other (default: the same)")
    group.add_argument("--hollow-mm", type=float, metavar="D", help="shell: diameter of the hollow (default: half)")
    group.add_argument("--distance-mm", type=float, metavar="D", help="pair: between the centres (default: 1.5 D)")
    lengths("--sides-mm", "ellipsoid, box (default: 30 20 15)")
    lengths("--spacing-mm", "voxels (default: 1 1 1)")
    group.add_argument("--orientation", metavar="CODE", help="storage order, such as RAS (default: LPS)")
    lengths("--turn-deg", "turn of the grid about right, anterior, superior")
    lengths("--object-turn-deg", "turn of an ellipsoid or box")
    lengths("--offset-mm", "of the object's centre from a voxel's")
    group.add_argument("--noise", type=float, help="deviation of the noise over the surroundings' signal (default: 0)")
    group.add_argument("--contrast", type=float, help="signal of the object over its surroundings' (default: 2)")


def run(arguments: argparse.Namespace) -> int:
    """Make patients or an object."""
    what = arguments.what
    _refuse_others(arguments, _PATIENT_OPTIONS if what == "patients" else _OBJECT_OPTIONS)
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed} is negative; any whole number from 0 on will do")
    if what == "patients":
        return _patients(arguments)
    return _object(arguments)


def _refuse_others(arguments: argparse.Namespace, own: tuple[str, ...]) -> None:
    """An option that would do nothing is an error."""
    what = arguments.what
    for name in (*_PATIENT_OPTIONS, *_OBJECT_OPTIONS):
        if getattr(arguments, name) in (None, False):
            continue
        shape = {option for options in _SHAPE_OPTIONS.values() for option in options}
        if name not in own or (what in OBJECTS and name in shape and name not in _SHAPE_OPTIONS[what]):
            raise UsageError(f"--{name.replace('_', '-')} does nothing for {what}. See: brats-seg phantom --help")
    if what == "patients" and arguments.overwrite:
        raise UsageError("--overwrite is for objects; patients are gone on with by --resume")


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were passed, lists as tuples."""
    found = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _patients(arguments: argparse.Namespace) -> int:
    from brats_seg.files.output import refuse_filled

    if not arguments.resume:
        refuse_filled(arguments.output)  # before anything is loaded
    from brats_seg.phantom.dataset import DatasetOptions, write_dataset
    from brats_seg.phantom.script import PatientKind

    given = _given(arguments, "patients", "visits", "space", "skull", "at_dura")
    if arguments.kind is not None:
        given["kind"] = PatientKind(arguments.kind)
    defects, at_random = _defects(arguments.defects)
    options = DatasetOptions(seed=arguments.seed, defects=defects, defects_at_random=at_random, **given)
    steps = options.patients * options.visits + 1
    with progress("phantoms", steps, hidden=arguments.quiet, lines=True, left=True) as tick:
        done = write_dataset(options, arguments.output, jobs=arguments.jobs, resume=arguments.resume, tick=tick)
    counts = {"patients": options.patients, "written": done.written, "kept": done.kept}
    kept = f", {done.kept} {'was' if done.kept == 1 else 'were'} there" if done.kept else ""
    words = (
        f"{counted(options.patients, 'patient')}: {counted(done.written, 'visit')} made{kept}\n"
        f"  truth:   {arguments.output / 'phantoms.tsv'}\n  look at: {arguments.output / done.page.name}"
    )
    tell(arguments, {**counts, "folder": str(arguments.output), "page": str(done.page)}, words)
    if arguments.open:
        open_page(done.page)
    return 0


def _defects(text: str | None) -> tuple[tuple[DefectKind, ...], bool]:
    from brats_seg.phantom.defects import ALL, kinds_named

    if text is None:
        return (), False
    if text.strip().lower() == "random":
        return ALL, True
    return kinds_named(text), False


def _object(arguments: argparse.Namespace) -> int:
    from brats_seg.phantom.reference import ObjectOptions, ObjectScan, write_object

    options = ObjectOptions(
        arguments.what, **_given(arguments, "diameter_mm", "second_mm", "hollow_mm", "sides_mm", "distance_mm")
    )
    names = ("spacing_mm", "orientation", "turn_deg", "object_turn_deg", "offset_mm", "noise", "contrast")
    scan = ObjectScan(**_given(arguments, *names))
    refuse_other_results(arguments.output, "truth.json")
    folder, truth = write_object(options, scan, arguments.output, seed=arguments.seed, exists=exists_policy(arguments))
    *_, enhancing = truth["regions"].values()  # the innermost
    mask = folder / f"{arguments.what}_dseg.nii.gz"
    words = (
        f"{arguments.what}: {truth['volume_ml']:.4f} ml exactly, {enhancing['mask_ml']:.4f} ml in the label map, "
        f"{enhancing['fractions_ml']:.4f} ml in shares of voxels\n  on {truth['grid']['text']}\n"
        f"  truth:   {folder / 'truth.json'}\n  measure: brats-seg measure {mask} -o OUT"
    )
    tell(arguments, {"folder": str(folder), "truth": truth}, words)
    return 0
