"""Whether an earlier result stands: where options, model, program and inputs are the same, it would not differ now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import brats_seg
from brats_seg.files.output import finished, read_run
from brats_seg.models.record import code_fingerprint

TOKEN = "run"
"""Among the settings in ``run.json``, what tells one run from another and decides nothing."""


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
