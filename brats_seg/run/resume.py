"""What an earlier run found about a patient and is still true: alignments, and changes measured in both images.

Entries are named by checksums of everything they come from, so that a visit that is added repeats nothing, and
nothing is taken over that would come out differently now.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from brats_seg.core.grid import Affine
from brats_seg.files.output import read_run
from brats_seg.track.align import Alignment
from brats_seg.track.boundary_shift.change import Interval, LesionChange

ALIGNMENTS, PAIRED = "alignments.json", "paired.json"
"""Files in a patient's results."""

METHOD = 2
"""How a change is measured in two images; raised whenever the same images would give another answer."""

T = TypeVar("T")


def alignment_key(fixed: str, moving: str) -> str:
    """Name of an alignment, by the keys of both visits."""
    return f"{fixed} {moving}"


def change_key(visits: Sequence[str], components: Sequence[Sequence[int]], matrix: Affine) -> str:
    """Name of a change that was measured in two images.

    Args:
        visits: keys of the reference visit and of the visit.
        components: numbers of the lesion's components at each.
        matrix: from one to the other.
    """
    content = json.dumps([METHOD, list(visits), [list(numbers) for numbers in components], matrix.tolist()])
    return hashlib.sha256(content.encode()).hexdigest()


def known_alignments(folder: Path) -> dict[str, Alignment]:
    """Alignments in a patient's results; none where there are none that can be read."""
    return _known(folder, ALIGNMENTS, Alignment.from_dict)


def known_changes(folder: Path) -> dict[str, LesionChange]:
    """Changes in a patient's results that were measured in both images; none where none can be read."""
    return _known(folder, PAIRED, change_from_dict)


def change_to_dict(change: LesionChange) -> dict[str, Any]:
    """Plain values; :func:`change_from_dict` reads them back without loss."""
    return asdict(change)


def change_from_dict(values: Mapping[str, Any]) -> LesionChange:
    """From :func:`change_to_dict`.

    Raises:
        KeyError: if a value is missing, as in results of another version.
    """
    found = {field.name: values[field.name] for field in fields(LesionChange)}
    for name in ("change_ml", "diameter_change_mm"):
        found[name] = None if found[name] is None else Interval(*found[name])
    return LesionChange(**{**found, "reasons": tuple(found["reasons"])})


def _known(folder: Path, name: str, parse: Callable[[Mapping[str, Any]], T]) -> dict[str, T]:
    if read_run(folder) is None:
        return {}
    try:
        table = json.loads((folder / name).read_text(encoding="utf-8"))
        return {key: parse(entry) for key, entry in table.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
