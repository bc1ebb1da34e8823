"""The files beside a label map or a probability map, as BIDS derivatives want them.

Source: BIDS specification, "Imaging derivatives", segmentations (``_dseg.tsv``, ``_dseg.json``, ``LabelMap``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brats_seg.core.errors import InputError
from brats_seg.core.labels import SCHEMAS, LabelSchema, Structure
from brats_seg.core.regions import RegionSet
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.core.visit import Midplane, Segmentation
from brats_seg.files.output import write_text
from brats_seg.files.tables import write_json

LESION = 7
"""BIDS standard label "Lesion (L)", the mapping of every tissue class of a tumour."""
TRAINED_ON_KEY = "trained_on_this_study"
"""Of what is said about the model; see :func:`read_trained_on`."""
_SCHEMA_KEY = "LabelSchema"
_REGIONS_KEY = "Regions"
_MISSING_KEY = "MissingSequences"
_MIDPLANE_KEY = "Midplane"
_MAX_SIDECAR_BYTES = 2**20
_ABOVE = 4
"""Folders looked into for inherited tables: ``sub-X/ses-Y/anat`` and the data set's own."""


def sidecar_path(path: Path, suffix: str = ".json") -> Path:
    """The file beside ``path`` that differs from it only in ``.nii`` or ``.nii.gz``."""
    return path.with_name(re.sub(r"\.nii(?:\.gz)?$", "", path.name, flags=re.IGNORECASE) + suffix)


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
            str(number): {"Name": schema.values[number].title, "Abbreviation": schema.values[number].name}
            for number in sorted(schema.values)
        },
        _REGIONS_KEY: segmentation.regions.to_dict(),
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
        color = structure.colour
        rows.append(f"{number}\t{structure.title}\t{structure.name}\t{color}\t{LESION}")
    write_text(sidecar_path(path, ".tsv"), "\n".join(rows) + "\n")


def write_probseg_sidecar(path: Path, regions: RegionSet) -> None:
    """The ``.json`` beside a 4D probability map: which volume is which region.

    Raises:
        OutputError: if it cannot be written.
    """
    content = {
        "Description": "Probability of each tumour region, 0 to 1, one volume each in the order of LabelMap.",
        "LabelMap": list(regions.names),
        "LabelMapDescription": {region.name: region.title for region in regions},
        "Manual": False,
        "SpatialReference": "orig",
    }
    write_json(content, sidecar_path(path))


def read_schema_sidecar(path: Path, asked: RegionSet | None = None) -> LabelSchema | None:
    """What the files beside a label map say of its numbers, or None where they say nothing.

    Read are, in this order, the ``.json`` and ``.tsv`` of the same name (BIDS ``_dseg``), an inherited ``dseg.json``
    or ``dseg.tsv``, and the ``dataset.json`` of nnU-Net and the Medical Segmentation Decathlon.

    Args:
        asked: regions whose own tissues are known, too.

    Raises:
        InputError: if such a file is damaged, or names a schema or a tissue that does not exist.
    """
    own = asked.own_tissues if asked is not None else {}
    content = _read_json(sidecar_path(path))
    name = content.get(_SCHEMA_KEY)
    if isinstance(name, str) and name in SCHEMAS:
        return SCHEMAS[name]
    regions = read_regions(path)
    if regions is not None and (schema := _own_schema(content, regions)) is not None:
        return schema
    if name is not None and not isinstance(content.get("Labels"), dict):
        raise InputError(
            f"{sidecar_path(path).name} names the label schema {name!r}, which does not exist. "
            f"There are: {', '.join(SCHEMAS)}. {_OVERRULE}"
        )
    above = path.resolve().parents[:_ABOVE]
    for place in (sidecar_path(path), *(folder / "dseg.json" for folder in above)):
        held = content if place == sidecar_path(path) else _read_json(place)
        named = next((held[key] for key in ("Labels", "LabelMap", "labels") if isinstance(held.get(key), dict)), None)
        if named is not None:
            return schema_of_names(named, place.name, own)
    for place in (sidecar_path(path, ".tsv"), *(folder / "dseg.tsv" for folder in above)):
        if named := _read_dseg_table(place):
            return schema_of_names(named, place.name, own)
    for folder in above[:2]:
        named = _read_json(folder / "dataset.json").get("labels")
        if isinstance(named, dict):
            return schema_of_names(named, "dataset.json", own)
    return None


def _own_schema(content: Mapping[str, Any], regions: RegionSet) -> LabelSchema | None:
    """The schema of a model of this program that is not among the known ones; None where it is not all there."""
    name, title, labels = (content.get(key) for key in (_SCHEMA_KEY, "LabelSchemaTitle", "Labels"))
    if not (isinstance(name, str) and isinstance(title, str) and isinstance(labels, dict)):
        return None
    tissues = {key: str(held.get("Abbreviation")) for key, held in labels.items() if isinstance(held, dict)}
    known = regions.tissues
    if not tissues or any(not key.isdecimal() or tissue not in known for key, tissue in tissues.items()):
        return None
    return LabelSchema(name, title, {int(key): known[tissue] for key, tissue in tissues.items()})


def read_regions(path: Path) -> RegionSet | None:
    """The regions that the ``.json`` beside a label map says it was drawn for; None where it says nothing.

    Raises:
        InputError: if the file beside it is damaged.
    """
    held = _read_json(sidecar_path(path)).get(_REGIONS_KEY)
    try:
        return None if held is None else RegionSet.from_dict(held)
    except ValueError as error:
        raise InputError(f"{sidecar_path(path).name} beside the label map: {error}. Restore it.") from error


def read_making(path: Path) -> tuple[tuple[MRSequence, ...], Midplane | None]:
    """Of the making of a label map, by the ``.json`` beside it: sequences that were not there, the brain's midplane.

    Where it says nothing, or nothing of use, none and None.

    Raises:
        InputError: if the file beside it is damaged.
    """
    content = _read_json(sidecar_path(path))
    titles, held = content.get(_MISSING_KEY), content.get(_MIDPLANE_KEY, {})
    missing = tuple(s for s in SEQUENCES if isinstance(titles, list) and s.title in titles)
    try:
        x, y, z, offset_mm, overlap = (float(v) for v in (*held["normal"], held["offset_mm"], held["overlap"]))
    except (KeyError, TypeError, ValueError):
        return missing, None
    return missing, Midplane((x, y, z), offset_mm, overlap) if abs(math.hypot(x, y, z) - 1) < 1e-3 else None


def schema_of_names(named: Mapping[str, Any], source: str, own: Mapping[str, Structure]) -> LabelSchema:
    """The schema of a table of names, where one is known with the same tissues; else one of its own.

    Args:
        named: name by number, or number (or several) by name; of a region that nests others, all its numbers.
        source: the file, for messages.
        own: tissues of a model's own, by name.

    Raises:
        InputError: if a name is of no tissue that is known.
    """
    by_title = {**{tissue.title.lower(): tissue for tissue in own.values()}, **own}
    values: dict[int, Structure] = {}
    texts = _names_by_number(named)
    for number, names in sorted(texts.items()):
        parts = {name: by_title.get(name) or by_title.get(name.lower()) or part_of(name) for name in names}
        unknown = [name for name, part in parts.items() if part is None]
        if unknown:
            raise InputError(
                f"{source} beside the label map calls {number} {unknown[0]!r}, which is no tissue of a tumour that is "
                f"known. Correct it. {_OVERRULE}"
            )
        found = set(parts.values())
        tissues = [part for part in found if isinstance(part, Structure)]
        if tissues:
            values[number] = Structure.ET if Structure.ET in tissues else tissues[0]
        elif CORE in found:
            values[number] = Structure.NCR
        else:
            values[number] = Structure.TU if len(texts) == 1 else Structure.ED
    if not values:
        raise InputError(f"{source} beside the label map names no label. Repair or remove it. {_OVERRULE}")
    for schema in sorted(SCHEMAS.values(), key=lambda schema: len(schema.values)):
        if all(schema.values.get(number) == structure for number, structure in values.items()):
            return schema
    return LabelSchema("named", f"as {source} names them", values)


def _names_by_number(named: Mapping[str, Any]) -> dict[int, list[str]]:
    result: dict[int, list[str]] = {}
    for key, value in named.items():
        if re.fullmatch(r"\d+", str(key).strip()):
            first = next((value[k] for k in _NAME_KEYS if k in value), "") if isinstance(value, dict) else value
            pairs = [(int(key), str(first))]
        else:
            pairs = [(n, str(key)) for n in (value if isinstance(value, list) else [value]) if isinstance(n, int)]
        for number, name in pairs:
            if number and name.lower() not in ("background", "ignore"):
                result.setdefault(number, []).append(name)
    return result


def part_of(name: str) -> Structure | str | None:
    """The tissue, or the part of a tumour that holds several, that a name in a table means; or None."""
    text = name.lower().replace("non-enh", "nonenh").replace("non enh", "nonenh").replace("non_enh", "nonenh")
    words = set(re.findall(r"[a-z]+\d?", text))
    for part, known in _PARTS:
        if words & known:
            return part
    return None


_OVERRULE = "Or pass --schema, which goes before it."
_NAME_KEYS = ("Abbreviation", "abbreviation", "Name", "name")
CORE, WHOLE = "core", "whole"
_PARTS: tuple[tuple[Structure | str, frozenset[str]], ...] = (
    (Structure.RC, frozenset({"rc", "cavity", "resection"})),
    (Structure.CC, frozenset({"cc", "cyst", "cystic"})),
    (Structure.NCR, frozenset({"ncr", "netc", "necrosis", "necrotic"})),
    (Structure.ED, frozenset({"ed", "snfh", "edema", "oedema", "edematous", "surrounding", "peritumoral"})),
    (Structure.NET, frozenset({"net", "nonenhancing"})),
    (Structure.ET, frozenset({"et", "enhancing", "enhancement", "enhanced", "active"})),
    (Structure.FA, frozenset({"fa", "flair", "hyperintensity", "abnormality"})),
    (Structure.GTV, frozenset({"gtv", "gross"})),
    (CORE, frozenset({"tc", "core"})),
    (WHOLE, frozenset({"wt", "tu", "whole", "tumor", "tumour", "glioma", "lesion"})),
)
"""Words of names, the telling ones first: a "non-enhancing tumour core" is no core, and a "surrounding FLAIR
hyperintensity" is edema."""


def _read_dseg_table(path: Path) -> dict[str, str]:
    """Names by number of a ``dseg.tsv``; empty where there is none."""
    text = _read_text(path) or ""
    lines = [line.split("\t") for line in text.splitlines() if line.strip()]
    head = [cell.strip().lower() for cell in lines[0]] if lines else []
    column = next((head.index(name) for name in ("abbreviation", "name") if name in head), None)
    if "index" not in head or column is None:
        return {}
    index, width = head.index("index"), max(column, head.index("index"))
    return {cells[index].strip(): cells[column].strip() for cells in lines[1:] if len(cells) > width}


def read_trained_on(path: Path) -> bool | None:
    """Whether the ``.json`` beside a label map says that its model was trained on the study; None where it is silent.

    Raises:
        InputError: if the file beside it is damaged.
    """
    algorithm = _read_json(sidecar_path(path)).get("Algorithm")
    said = algorithm.get(TRAINED_ON_KEY) if isinstance(algorithm, dict) else None
    return said if isinstance(said, bool) else None


def _read_json(path: Path) -> dict[str, Any]:
    """The mapping in a ``.json``; empty where there is no such file, or none of ours."""
    text = _read_text(path)
    try:
        content = {} if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    return content if isinstance(content, dict) else {}


def _read_text(path: Path) -> str | None:
    """The text of a small file beside a label map; None where there is none."""
    try:
        return path.read_text(encoding="utf-8-sig") if path.stat().st_size <= _MAX_SIDECAR_BYTES else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path.name} beside the label map cannot be read ({type(error).__name__}). Repair or remove it. {_OVERRULE}"
    )
