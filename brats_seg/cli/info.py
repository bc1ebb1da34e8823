"""``brats-seg info``: what this computer has, which model is used, and about how long a study takes."""

from __future__ import annotations

import argparse
import platform
import shutil
from typing import Any

import brats_seg
from brats_seg.cli.common import tell
from brats_seg.cli.options import add
from brats_seg.core.errors import BratsSegError

CORE_SECONDS = 12.0
"""Processor time of one study with a core of about 2.5 GHz: the networks' share runs on all cores, the rest on one."""
_PARALLEL = 0.5
"""Share of it that several cores divide."""

HELP = "cores, memory, GPU, model, and about how long a study takes here"
DESCRIPTION = """\
Says what of this computer the program may use, which model it takes, and about how long a
study takes. Loads no model and computes nothing."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    add(parser, "json")


def run(arguments: argparse.Namespace) -> int:
    """Print what is here."""
    found = information()
    seconds = found["expected_seconds"]
    rows = {
        "program": f"brats-seg {found['version']}, Python {found['python']}, {found['system']}",
        "model": found["model"].removeprefix("model "),
        "cores": f"{found['cores']} that may be used",
        "memory": f"{found['memory_free_gib']:.1f} GiB free",
        "GPU": f"NVIDIA driver found ({found['gpu']})" if found["gpu"] else "no NVIDIA driver: the CPU is used",
        "a study": f"about {seconds:.0f} s with --jobs 1; an estimate from the number of cores alone",
    }
    tell(arguments, found, "\n".join(f"{title:9}{words}" for title, words in rows.items()))
    return 0


def information() -> dict[str, Any]:
    """What :func:`run` prints, as plain values."""
    from brats_seg.segment.memory import available_bytes, usable_processors

    cores = usable_processors()
    return {
        "version": brats_seg.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "model": model_words(),
        "cores": cores,
        "memory_free_gib": round(available_bytes("cpu") / 2**30, 2),
        "gpu": shutil.which("nvidia-smi") or "",  # PyTorch would tell more, and takes seconds to load
        "expected_seconds": round(CORE_SECONDS * (1 - _PARALLEL + _PARALLEL / cores), 1),
    }


def model_words() -> str:
    """Name and version of the model that is taken where none is named, or what is wrong with it."""
    from brats_seg.models.card import find_model
    from brats_seg.models.names import DEFAULT_MODEL

    try:
        card = find_model().card
    except BratsSegError as error:
        return f"model {DEFAULT_MODEL} cannot be used: {error}"
    return f"model {card.name} {card.version}"
