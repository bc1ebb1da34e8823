"""The name of a study in all outputs."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from brats_seg.core.errors import InputError

MAX_ID_LENGTH = 100


def study_folder(place: Path) -> Path:
    """The folder of a study whose files lie in ``place``, resolved: of BIDS the one that holds ``anat``."""
    resolved = place.resolve()
    return resolved.parent if resolved.name.lower() == "anat" else resolved


def check_study_id(study_id: str, *, source: str = "--id") -> str:
    """The id itself, if it is safe as a file name and is unlikely to be a person's name.

    Args:
        source: where it comes from, for the message; the id itself is not repeated, for it may be a name.

    Raises:
        InputError: if it is empty, too long, or holds anything but letters, digits, ``.``, ``_`` and ``-``.
    """
    study_id = unicodedata.normalize("NFC", study_id)  # macOS writes umlauts as two letters
    safe = bool(study_id) and all(c.isalnum() or c in "._-" for c in study_id)
    if safe and study_id[0] not in ".-" and study_id[-1] != "." and len(study_id) <= MAX_ID_LENGTH:
        return study_id
    raise InputError(
        f"{source} cannot be the study's id: an id has 1 to {MAX_ID_LENGTH} letters, digits, '.', '_' and '-' and "
        "begins with a letter or digit. Spaces, commas and carets are refused because they often belong to a person's "
        "name, which must not get into results. Rename it, or pass --id with a name free of personal data."
    )
