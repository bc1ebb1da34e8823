"""What an earlier run found and is still true: a whole result, or parts of a patient's.

Nothing is taken over that would come out differently now. A result stands where options, model, program and inputs
are the same; alignments, and changes measured in both images, are named by checksums of all that they come from, so
that a visit that is added repeats nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import brats_seg
from brats_seg.core.plain import from_plain
from brats_seg.core.scans import RigidMotion
from brats_seg.files.output import finished, read_run
from brats_seg.models.record import code_fingerprint

if TYPE_CHECKING:
    from brats_seg.track.follow import Known

MOTIONS, PAIRED = "alignments.json", "paired.json"
"""Files in a patient's results."""

TOKEN = "run"
"""Among the settings in ``run.json``, what tells one run from another and decides nothing."""

T = TypeVar("T")


def reason_to_redo(folder: Path, settings: Mapping[str, Any], model_sha256: str, inputs: Mapping[str, str]) -> str:
    """Why an earlier result cannot stand for what would be computed now; empty if it can.

    Args:
        settings: options in force now.
        model_sha256: of the model now; empty where none runs.
        inputs: checksum of everything that goes in now, by name.
    """
    if not finished(folder):
        return "its results are not whole"
    record = read_run(folder) or {}
    before = {name: value for name, value in record.get("settings", {}).items() if name != TOKEN}
    if before != dict(settings):
        return "it was made with other options"
    if record.get("model", {}).get("sha256", "") != model_sha256:
        return "it was made with another model"
    made_by = record.get("versions", {})
    if (made_by.get("brats_seg"), made_by.get("brats_seg_code")) != (brats_seg.__version__, code_fingerprint()):
        return "it was made by another version of the program"
    if {name: entry.get("sha256") for name, entry in record.get("inputs", {}).items()} != dict(inputs):
        return "its scans have changed"
    return ""


def known_of(folder: Path) -> Known:
    """What a patient's results hold of use: motions, and changes measured in both images."""
    # Segmenting asks this file for whole results, and needs none of what follows a patient.
    from brats_seg.track.boundary_shift.change import LesionChange  # noqa: PLC0415
    from brats_seg.track.follow import Known  # noqa: PLC0415

    if read_run(folder) is None:
        return Known()
    return Known(_entries(folder / MOTIONS, RigidMotion), _entries(folder / PAIRED, LesionChange))


def _entries(path: Path, kind: type[T]) -> dict[str, T]:
    """By checksum; none where they cannot be read, or are of another version."""
    try:
        return {key: from_plain(kind, entry) for key, entry in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
