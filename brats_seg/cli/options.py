"""Every option of the command line, declared once: a command takes those it has by their long names."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.models.names import DEFAULT_MODEL, ENGINES
from brats_seg.run.options import ALSO, EXTRACTORS

CRITERIA_NAMES = ("rano2", "rano-hgg", "rano-lgg", "mrano")
DISEASES = ("enhancing", "non_enhancing", "mixed")
ALIASES: Mapping[MRSequence, tuple[str, ...]] = {
    MRSequence.T1: ("t1n",),
    MRSequence.T1CE: ("t1c", "t1gd"),
    MRSequence.T2: ("t2w",),
    MRSequence.FLAIR: ("t2f", "fla"),
}
"""Other option names that users of BraTS 2023 and of other programs type."""
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


class Once(argparse.Action):
    """Stores a value, and refuses a second one; argparse alone would silently take the last."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the value.

        Raises:
            ArgumentError: if there is one already.
        """
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "given twice; pass it once")
        setattr(namespace, self.dest, values)


def device_name(text: str) -> str:
    """Type of ``--device``: refuses what can be no device before anything heavy is loaded."""
    if _DEVICE.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is no device; choose auto, cpu, cuda, cuda:N or mps")


def at_least_one(text: str) -> int:
    """Type of options that count something there has to be one of."""
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")


def volume_ml(text: str) -> float:
    """Type of options that are a volume."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value >= 0:
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is no volume in ml; write it as in 0.05")


def _sequence_names() -> dict[str, MRSequence]:
    return {name: sequence for sequence in SEQUENCES for name in (sequence.value, *ALIASES[sequence])}


def series_choice(text: str) -> tuple[MRSequence, str]:
    """Type of ``--sequence``: a sequence, by its name or an alias of its option, and a DICOM series."""
    name, sign, series = text.partition("=")
    sequence = _sequence_names().get(name.strip().lower())
    if not sign or not series.strip() or sequence is None:
        raise argparse.ArgumentTypeError(f"{text!r} names no series of a sequence; say it as in t1ce=5")
    return sequence, series.strip()


def visit_series(text: str) -> tuple[str, tuple[MRSequence, str]]:
    """Type of ``--sequence`` of several visits: the visit, empty for all, and what :func:`series_choice` reads."""
    visit, sign, choice = text.rpartition(":")
    if sign and not visit.strip():
        raise argparse.ArgumentTypeError(f"{text!r} names no visit before the colon; say it as in 2024-01-31:t1ce=5")
    return visit.strip(), series_choice(choice)


def visit_file(text: str) -> tuple[str, Path]:
    """Type of ``--brain-mask`` of several visits: the visit and a file."""
    visit, sign, name = text.partition("=")
    if not sign or not visit.strip() or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} names no file of a visit; say it as in 2024-01-31=brain.nii.gz")
    return visit.strip(), Path(name.strip())


def channel_order(text: str) -> tuple[MRSequence, ...]:
    """Type of ``--channels``: each sequence once, by its name or an alias of its option."""
    names = _sequence_names()
    words = [word.strip().lower() for word in text.split(",")]
    unknown = [word for word in words if word not in names]
    order = tuple(names[word] for word in words if word in names)
    if unknown or len(set(order)) < len(order):
        raise argparse.ArgumentTypeError(f"{text!r} is no order of sequences; name each once, as in flair,t1,t1ce,t2")
    return order


def _option(*flags: str, **settings: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    return flags, settings


def _flag(*flags: str, words: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    return flags, {"action": "store_true", "help": words}


_DECLARED = (
    # results
    _option("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the results"),
    _flag("--overwrite", words="replace existing results"),
    _flag("--resume", words="reuse finished results whose inputs and settings have not changed, do the rest"),
    _flag("--no-report", words="write no pages and no pictures"),
    _flag("--open", words="show the page in the browser when it is finished"),
    _flag("-q", "--quiet", words="print nothing but errors, show no progress"),
    _option("-v", "--verbose", action="store_true"),
    _flag("--json", words="print the result as JSON instead of text"),
    # what is read
    _option("--id", metavar="NAME", help="name of the study in all outputs, free of personal data"),
    _option(
        "--channels",
        type=channel_order,
        metavar="ORDER",
        help="sequences of STUDY's files CASE_0000 to CASE_0003, or of the volumes of 4D files: flair,t1,t1ce,t2",
    ),
    _option(
        "--sequence",
        type=series_choice,
        action="append",
        default=[],
        metavar="NAME=SERIES",
        help="the DICOM series of a sequence, by its number or the end of its UID, as in t1ce=5; none leaves it out",
    ),
    _option("--clinical", type=Path, metavar="CLINICAL.csv", help="radiotherapy, surgery, steroids, status"),
    # how
    _option(
        "--model", metavar="NAME|PATH", default=DEFAULT_MODEL, help="installed model or model folder (default: glioma)"
    ),
    _option(
        "--device",
        default="auto",
        type=device_name,
        help="auto (default: a CUDA GPU where there is one), cpu, cuda, cuda:N, or mps (Apple GPU; untested)",
    ),
    _option("--engine", default="auto", choices=ENGINES, help="what runs the network (default: auto)"),
    _option("--cache", type=Path, metavar="DIR", help="with --engine openvino: keep compiled networks there"),
    _option("--jobs", type=at_least_one, default=1, metavar="N", help="processes that work at once (default: 1)"),
    _option("--cluster", metavar="ADDRESS", help="Dask scheduler that does the work (extra: cluster)"),
    _flag("--force", words="take scans as they are, even if they seem to show skull"),
    _option(
        "--brain-mask",
        type=Path,
        metavar="FILE",
        help="the brain of a study with skull, in the space of one of its scans, instead of finding it",
    ),
    _option(
        "--brain-extraction",
        choices=EXTRACTORS,
        default=EXTRACTORS[0],
        help="whose networks find the brain in a head: deepbet (default), or hd-bet, which takes longer (extra: hdbet)",
    ),
    _option(
        "--reference",
        choices=[s.value for s in SEQUENCES],
        help="on whose grid results lie (default: t1ce, else flair, t2, t1)",
    ),
    _flag("--tta", words="average with the mirrored study: twice the time, a bit better"),
    _option(
        "--min-lesion-ml",
        type=volume_ml,
        default=0.0,
        metavar="ML",
        help="count no lesion below so many ml; its voxels stay in label map and volume (default: 0, count all)",
    ),
    _option(
        "--dicom",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="DICOM segmentations and structured report beside the NIfTI (default: where the scans are DICOM)",
    ),
    _option(
        "--also",
        action="append",
        default=[],
        choices=ALSO,
        help="one more format: rtstruct (contours for planning), pdf (the report as a DICOM document; extra: pdf), "
        "seg.nrrd (3D Slicer) or labelmap (a DICOM Label Map Segmentation); repeatable",
    ),
    _option(
        "--criteria", choices=CRITERIA_NAMES, help="response criteria (default: the model's first, rano2 of glioma)"
    ),
    _option(
        "--disease",
        choices=DISEASES,
        help="disease type to assess (default: as the criteria say; rano2: enhancing where anything enhances)",
    ),
    _option("--seed", type=int, default=1, help="other random numbers for each (default: 1)"),
    # training
    _option("--data", type=Path, required=True, metavar="DATASET", help="labelled studies, or packs"),
    _option(
        "--auxiliary",
        type=Path,
        action="append",
        default=[],
        metavar="DATASET",
        help="more labelled studies, of other patients, such as phantoms, for the share of the samples that the "
        "configuration gives them; never validated on; repeatable",
    ),
    _option(
        "--teacher",
        type=Path,
        metavar="FOLDER",
        help="probabilities of another network for some of the studies, ID.npz beside ID's label, for the share of the "
        "target that CONFIG gives them",
    ),
    _option(
        "--cubes",
        type=Path,
        metavar="FILE",
        help="labelled parts of further patients, in one .npz file, as many of which are placed into a sample as "
        "CONFIG says",
    ),
    _option(
        "--precision",
        choices=("auto", "bf16", "fp32"),
        help="of the network's arithmetic, instead of what CONFIG says; bf16 halves the time of a step on a CPU "
        "that has it (avx512_bf16 or amx_bf16), and is what auto takes on a GPU",
    ),
    _option("--stop-after-s", type=float, metavar="S", help="leave with a checkpoint after S seconds"),
    _option("--threads", type=at_least_one, metavar="N", help="CPU threads (default: all cores)"),
)
_BY_NAME = {flags[-1].removeprefix("--"): (flags, settings) for flags, settings in _DECLARED}


def add(target: Any, *names: str, **changes: Any) -> None:
    """Add options to a parser or a group of one.

    Args:
        target: parser, argument group or mutually exclusive group.
        names: long names without their dashes.
        changes: settings in which this command differs, such as ``help``.
    """
    for name in names:
        flags, settings = _BY_NAME[name]
        target.add_argument(*flags, **{**settings, **changes})


def add_studies(parser: argparse.ArgumentParser) -> None:
    """STUDY, or one study by its files: ``--t1 FILE`` and its siblings with their aliases, ``--channels``, ``--id``."""
    parser.add_argument("studies", nargs="*", type=Path, metavar="STUDY", help="folder of a study or of a data set")
    group = parser.add_argument_group("one study by its files, instead of STUDY (any of the four may be left out)")
    for sequence in SEQUENCES:
        also = ", ".join(f"--{alias}" for alias in ALIASES[sequence])
        settings: dict[str, Any] = {"type": Path, "metavar": "FILE", "action": Once}
        group.add_argument(f"--{sequence.value}", **settings, help=f"the {sequence.title} scan (also {also})")
        for alias in ALIASES[sequence]:
            group.add_argument(f"--{alias}", dest=sequence.value, **settings, help=argparse.SUPPRESS)
    add(group, "channels", "sequence", "id")


def add_schema(
    target: Any,
    words: str = "what the label numbers mean: auto (default), or a name listed by brats-seg measure --help",
) -> None:
    """``--schema``, with what the help says of it."""
    from brats_seg.core.labels import SCHEMAS

    target.add_argument("--schema", default="auto", choices=("auto", *SCHEMAS), metavar="NAME", help=words)


def add_existing(target: Any, *names: str) -> None:
    """``--overwrite`` or ``--resume``, which exclude each other."""
    add(target.add_mutually_exclusive_group(), *(names or ("overwrite", "resume")))


def add_brain(target: Any) -> None:
    """``--brain-mask`` or ``--brain-extraction``, which exclude each other."""
    add(target.add_mutually_exclusive_group(), "brain-mask", "brain-extraction")


def add_console(parser: argparse.ArgumentParser, *, verbose: str = "") -> None:
    """``-q``, ``--json``, and ``-v`` with what it adds, in words."""
    add(parser, "quiet")
    if verbose:
        add(parser, "verbose", help=f"also print {verbose}")
    add(parser, "json")


def add_training(parser: argparse.ArgumentParser) -> None:
    """What ``train`` and ``crossval`` have in common."""
    add(parser, "data", "auxiliary", "teacher", "cubes")
    add(parser, "output", metavar="RUN", help="run folder")
    add(parser, "resume", help="continue the run in RUN")
    add(parser, "device", "precision", "stop-after-s", "threads", "quiet")
