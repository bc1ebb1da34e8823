"""Weights to start from instead of chance, and the studies they know: whoever goes on from them knows these, too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from brats_seg.core.errors import ModelError
from brats_seg.files.output import write_text
from brats_seg.imaging.likeness import same_head
from brats_seg.models.card import CARD, find_model, read_bundle
from brats_seg.train.data import PackedStudy
from brats_seg.train.runs import STAGES, WEIGHTS, read_seen

BEFORE = "before.json"
"""In a run folder: the studies that the weights it started from know; ``null`` where these do not say."""
SCANS = "scans"
"""The mark of a study that a run knows: :meth:`~brats_seg.train.data.PackedStudy.fingerprint`, hexadecimal."""

Known = Mapping[str, Mapping[str, str]]
"""Study id to marks by which it is known again: :data:`SCANS`, or as a model's card has it the fingerprint of each
sequence."""


def start_folder(place: Path) -> Path:
    """The folder of weights to start from: a path, or the name of an installed model.

    Raises:
        ModelError: if there is neither.
    """
    return place if place.is_dir() else find_model(str(place)).folder


def start_weights(start: Path, stage: str) -> Path | None:
    """Weights of a stage in a run folder, or in a folder with a model's weights; None where there are none of it."""
    for path in (start / f"{stage}.onnx", start / f"{stage}.safetensors", start / stage / WEIGHTS):
        if path.is_file():
            return path
    return None


def known_by(start: Path) -> Known:
    """The studies that the weights in a folder know, those that the weights they started from knew included.

    Raises:
        ModelError: if the folder does not say.
    """
    known: dict[str, Mapping[str, str]] = {}
    if (start / CARD).is_file():
        card = read_bundle(start).card
        known = {study: card.fingerprints.get(study, {}) for study in card.seen}
    runs = [start / stage for stage in STAGES if (start / stage / WEIGHTS).is_file()]
    for run in runs:
        known |= {study: {SCANS: fingerprint.hex()} for fingerprint, study in read_seen(run).items()}
    before = known_before(runs)
    if before is None or not known:
        raise ModelError(f"{start} does not say which studies its weights were trained on")
    return {**before, **known}


def known_before(runs: Iterable[Path]) -> Known | None:
    """The studies that the weights knew which runs started from; None where one of these did not say.

    Raises:
        ModelError: if a run's record of it is damaged.
    """
    known: dict[str, Mapping[str, str]] = {}
    for path in (run / BEFORE for run in runs):
        if not path.is_file():
            continue  # it started from chance
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            if held is None:
                return None
            known |= {str(study): dict(marks) for study, marks in held.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ModelError(f"{path} is damaged ({error}); remove the run and train again") from error
    return known


def record_start(known: Known | None, run: Path) -> None:
    """Keep in a run folder what the weights know that it starts from."""
    run.mkdir(parents=True, exist_ok=True)
    write_text(run / BEFORE, json.dumps(known, indent=1) + "\n")


def known_among(packs: Sequence[PackedStudy], known: Known) -> list[str]:
    """Ids of the studies that are known, whatever they are called: the same scans and label, or the same head.

    A name alone decides only of a study that a card lists without marks.
    """
    unmarked = {study for study, marks in known.items() if not marks}
    scans = {marks[SCANS] for marks in known.values() if SCANS in marks}
    heads = {study: marks for study, marks in known.items() if marks and SCANS not in marks}
    return [
        pack.id
        for pack in packs
        if pack.id in unmarked
        or (scans and pack.fingerprint().hex() in scans)
        or (heads and same_head(pack.heads, heads))
    ]


def card_marks(own: Known, before: Known | None) -> dict[str, Any]:
    """What a card says its networks know, ``seen`` and ``fingerprints``: nothing where their start does not say.

    Args:
        own: studies they were trained on, by the fingerprints of their heads.
        before: what the weights knew that they started from.
    """
    if before is None:
        return {"seen": [], "fingerprints": {}}
    known = {**before, **own}
    heads = {study: {name: mark for name, mark in marks.items() if name != SCANS} for study, marks in known.items()}
    return {"seen": sorted(known), "fingerprints": {study: heads[study] for study in sorted(known) if heads[study]}}
