"""Measuring a label map that exists already; needs neither torch nor a model.

Example:
    >>> import numpy as np
    >>> from brats_seg.core.regions import SCHEMAS
    >>> from brats_seg.core.visit import Segmentation
    >>> from brats_seg.core.grid import Volume
    >>> labels = np.zeros((20, 20, 20), np.uint8)
    >>> labels[5:15, 5:15, 5:15] = 3
    >>> mask = Segmentation("case", Volume.from_affine(labels, np.eye(4)), SCHEMAS["brats2023"])
    >>> measure(mask).volume("ET").volume_ml
    1.0
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from brats_seg.core.errors import InputError, OutputError
from brats_seg.core.meaning import shared_meaning
from brats_seg.core.regions import REGIONS, LabelSchema
from brats_seg.core.visit import Measurements, RunRecord, Segmentation
from brats_seg.files.label_map import read_label_file
from brats_seg.files.match_labels import label_id
from brats_seg.files.output import ExistsPolicy, OutputFolder, file_hashes, read_run
from brats_seg.files.study_id import check_study_id
from brats_seg.files.write import (
    read_midplane,
    read_missing_sequences,
    write_lesions_csv,
    write_lesions_json,
    write_run,
    write_volumes_csv,
    write_volumes_json,
)
from brats_seg.models.record import peak_memory_mib, versions
from brats_seg.volumetrics.measure import measure_segmentation


def measure(
    mask: Segmentation | str | Path,
    *,
    schema: str = "auto",
    study_id: str | None = None,
    min_lesion_ml: float = 0.0,
) -> Measurements:
    """Volumes, lesions and diameters of a label map.

    Args:
        mask: a label map file, or a segmentation in memory.
        schema: name of its label schema; ``auto`` goes by the file beside it, then by values, shape and name.
        study_id: id in the tables; else the file's name without its endings, or that of its folder.
        min_lesion_ml: smaller components of a region are not counted as lesions.

    Raises:
        InputError: if the file is no label map, or its schema is not certain.

    Example:
        A label map of BraTS 2021::

            from brats_seg import measure

            found = measure("BraTS2021_00000_seg.nii.gz")
            largest = found.lesions_of("ET")[0]
            print(largest.volume_ml, largest.diameters.long_mm)
    """
    segmentation = mask if isinstance(mask, Segmentation) else read_mask(Path(mask), schema, study_id).segmentation
    return measure_segmentation(segmentation, min_lesion_ml=min_lesion_ml)


@dataclass(frozen=True, eq=False)
class MaskReading:
    """A label map that was read from a file.

    Attributes:
        segmentation: the label map with its meaning.
        sha256: checksum of the file.
        decisions: what was decided about its meaning, in words.
        warnings: what was noticed while reading, in words.
    """

    segmentation: Segmentation
    sha256: str
    decisions: tuple[str, ...]
    warnings: tuple[str, ...]


def read_mask(path: Path, schema: str | LabelSchema, study_id: str | None) -> MaskReading:
    """A label map file with its meaning; arguments and errors as for :func:`measure`."""
    read = read_label_file(path, schema)
    chosen = read.meaning.schema
    identity = study_id if study_id is not None else label_id(path)
    check_study_id(identity, source="the name of the label map or its folder" if study_id is None else "--id")
    decision = f"its numbers were read as {chosen.name} ({chosen.title}): {read.meaning.why}"
    # A result of this program says what it was made without, which its measurements must go on saying.
    segmentation = Segmentation(
        identity,
        read.with_schema(chosen),
        chosen,
        missing=read_missing_sequences(path),
        midplane=read_midplane(path),
    )
    doubts = (read.meaning.doubt,) if read.meaning.doubt else ()
    return MaskReading(segmentation, read.sha256, (decision,), (*doubts, *read.notes))


def schema_of_visits(masks: Mapping[str, Path], schema: str) -> str | LabelSchema:
    """The one schema of a patient's label maps, where it is to be found out.

    Args:
        masks: label map by visit.
        schema: what the user asked for.

    Raises:
        InputError: if the label maps do not follow one schema, it is not certain which, or it does not tell WT, TC
            and ET apart, which a course needs.
    """
    if not masks or schema != "auto":
        return schema
    meanings = {}
    for visit, path in masks.items():
        with suppress(InputError):  # a visit that cannot be read is left out later, with its reason
            meanings[visit] = read_label_file(path).meaning
    chosen = shared_meaning(meanings)
    if set(chosen.regions) != set(REGIONS):
        lacking = ", ".join(region.abbreviation for region in REGIONS if region not in chosen.regions)
        raise InputError(
            f"the label maps are {chosen.name} ({chosen.title}), which do not tell {lacking}, and a course needs all "
            "regions. Give label maps with necrosis, edema and enhancing tumour apart."
        )
    return chosen


def write_measurements(measurements: Measurements, mask: MaskReading, output: Path, exists: ExistsPolicy) -> Path:
    """Write the tables of :func:`measure` into ``output/<id>`` and return that folder.

    Raises:
        OutputError: if it cannot be written, exists, or holds more than such tables (a segmentation, for example).
    """
    name, schema = measurements.study_id, mask.segmentation.schema
    final = output / name
    tables = {f"{name}_{ending}" for ending in ("volumes.csv", "volumes.json", "lesions.csv", "lesions.json")}
    before = (read_run(final) or {}).get("outputs")
    if isinstance(before, dict) and set(before) - tables:
        raise OutputError(f"{final} holds a segmentation, which tables may not replace. Choose another -o, or --id.")
    with OutputFolder(final, exists=exists) as folder:
        write_tables(measurements, folder.path)
        write_lesions_json(measurements, folder.path / f"{name}_lesions.json")
        record = RunRecord(
            study_id=name,
            versions=versions(),
            inputs={"mask": {"sha256": mask.sha256, "grid": mask.segmentation.labels.grid.describe()}},
            settings={"schema": schema.name},
            peak_memory_mib=peak_memory_mib(),
            decisions=mask.decisions,
            warnings=mask.warnings,
            outputs=file_hashes(folder.path),
        )
        write_run(record, folder.path / "run.json")
    return folder.final


def write_tables(measurements: Measurements, folder: Path) -> None:
    """Volumes and lesions of a study, in the form every result folder holds them."""
    name = measurements.study_id
    write_volumes_csv(measurements, folder / f"{name}_volumes.csv")
    write_volumes_json(measurements, folder / f"{name}_volumes.json")
    write_lesions_csv(measurements, folder / f"{name}_lesions.csv")
