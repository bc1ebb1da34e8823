"""The files beside a label map or a probability map, as BIDS derivatives want them.

Source: BIDS specification, "Imaging derivatives", segmentations (``_dseg.tsv``, ``_dseg.json``, ``LabelMap``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brats_seg.core.errors import InputError
from brats_seg.core.labels import REGIONS, SCHEMAS, LabelSchema
from brats_seg.core.palette import structure_colour
from brats_seg.core.results import Midplane, Segmentation
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.io.output import write_text
from brats_seg.io.tables import write_json

LESION = 7
"""BIDS standard label "Lesion (L)", the mapping of every tissue class of a tumour."""
_SCHEMA_KEY = "LabelSchema"
_MISSING_KEY = "MissingSequences"
_MIDPLANE_KEY = "Midplane"
_MAX_SIDECAR_BYTES = 2**20


def sidecar_path(path: Path, suffix: str = ".json") -> Path:
    """The file beside ``path`` that differs from it only in ``.nii`` or ``.nii.gz``."""
    name = path.name
    for ending in (".nii.gz", ".nii"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    return path.with_name(name + suffix)


def write_dseg_sidecars(
    segmentation: Segmentation,
    path: Path,
    *,
    algorithm: Mapping[str, Any],
    version: str,
    sources: Mapping[MRSequence, str] | None = None,
) -> None:
    """The ``.json`` and ``.tsv`` beside a label map.

    Args:
        segmentation: what was written to ``path``.
        path: the label map (``…_dseg.nii.gz``).
        algorithm: name, version and checksum of the model; plain values.
        version: of this program.
        sources: SHA-256 of each input file; never a path.

    Raises:
        OutputError: if they cannot be written.
    """
    schema = segmentation.schema
    content = {
        "Description": "Brain tumour tissue classes, one number per voxel; 0 is background.",
        _SCHEMA_KEY: schema.name,
        "LabelSchemaTitle": schema.title,
        "Labels": {
            str(number): {"Name": schema.values[number].value, "Abbreviation": schema.values[number].abbreviation}
            for number in sorted(schema.values)
        },
        "Manual": False,
        "Algorithm": dict(algorithm),
        "GeneratedBy": [{"Name": "brats_seg", "Version": version}],
        "SpatialReference": "orig",
        _MISSING_KEY: [sequence.title for sequence in segmentation.missing],
        _MIDPLANE_KEY: None if segmentation.midplane is None else vars(segmentation.midplane),
        "SourcesSHA256": {sequence.title: sha for sequence, sha in (sources or {}).items()},
    }
    write_json(content, sidecar_path(path))
    rows = ["index\tname\tabbreviation\tcolor\tmapping"]
    for number in sorted(schema.values):
        structure = schema.values[number]
        color = structure_colour(structure)
        rows.append(f"{number}\t{structure.value}\t{structure.abbreviation}\t{color}\t{LESION}")
    write_text(sidecar_path(path, ".tsv"), "\n".join(rows) + "\n")


def write_probseg_sidecar(path: Path) -> None:
    """The ``.json`` beside a 4D probability map: which volume is which region.

    Raises:
        OutputError: if it cannot be written.
    """
    content = {
        "Description": "Probability of each nested tumour region, 0 to 1, one volume each in the order of LabelMap.",
        "LabelMap": [region.abbreviation for region in REGIONS],
        "LabelMapDescription": {region.abbreviation: region.value for region in REGIONS},
        "Manual": False,
        "SpatialReference": "orig",
    }
    write_json(content, sidecar_path(path))


def read_schema_sidecar(path: Path) -> LabelSchema | None:
    """The schema named in the ``.json`` beside a label map, or None where nothing is said.

    Args:
        path: the label map.

    Raises:
        InputError: if the file beside it is damaged, or names a schema that does not exist.
    """
    name = _read_sidecar(path).get(_SCHEMA_KEY)
    if name is None:
        return None
    if not isinstance(name, str) or name not in SCHEMAS:
        raise InputError(
            f"{sidecar_path(path).name} names the label schema {name!r}, which does not exist. "
            f"Pass --schema with one of: {', '.join(SCHEMAS)}."
        )
    return SCHEMAS[name]


def read_missing_sequences(path: Path) -> tuple[MRSequence, ...]:
    """Sequences that the ``.json`` beside a label map says were not there when it was made; none where it says nothing.

    Args:
        path: the label map.

    Raises:
        InputError: if the file beside it is damaged.
    """
    titles = _read_sidecar(path).get(_MISSING_KEY)
    return tuple(s for s in SEQUENCES if isinstance(titles, list) and s.title in titles)


def read_midplane(path: Path) -> Midplane | None:
    """The midplane of the brain in the ``.json`` beside a label map; None where it says nothing, or nothing of use.

    Args:
        path: the label map.

    Raises:
        InputError: if the file beside it is damaged.
    """
    held: Any = _read_sidecar(path).get(_MIDPLANE_KEY)
    try:
        x, y, z, offset_mm, overlap = (float(v) for v in (*held["normal"], held["offset_mm"], held["overlap"]))
    except (KeyError, TypeError, ValueError):
        return None
    return Midplane((x, y, z), offset_mm, overlap) if abs(math.hypot(x, y, z) - 1) < 1e-3 else None


def _read_sidecar(path: Path) -> Mapping[str, Any]:
    """The mapping in the ``.json`` beside a label map; empty where there is no such file, or none of ours."""
    beside = sidecar_path(path)
    try:
        if beside.stat().st_size > _MAX_SIDECAR_BYTES:
            return {}
        content = json.loads(beside.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{beside.name} beside the label map cannot be read ({type(error).__name__}). "
            "Repair or remove it, or pass --schema."
        ) from error
    return content if isinstance(content, dict) else {}
