"""Measuring a label map that exists already; needs neither torch nor a model.

Example:
    >>> import numpy as np
    >>> from brats_seg.core.labels import SCHEMAS
    >>> from brats_seg.models.card import regions_of
    >>> from brats_seg.core.visit import Segmentation
    >>> from brats_seg.core.grid import Volume
    >>> labels = np.zeros((20, 20, 20), np.uint8)
    >>> labels[5:15, 5:15, 5:15] = 3
    >>> mask = Segmentation("case", Volume.from_affine(labels, np.eye(4)), SCHEMAS["brats2023"], regions_of("glioma"))
    >>> measure(mask).volume("ET").volume_ml
    1.0
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from brats_seg.core.errors import OutputError
from brats_seg.core.visit import Measurements, RunRecord, Segmentation
from brats_seg.files.label_map import MaskReading, read_mask
from brats_seg.files.output import ExistsPolicy, OutputFolder, file_hashes, read_run
from brats_seg.files.tables import write_lesions_json, write_run, write_tables
from brats_seg.models.card import regions_of
from brats_seg.models.names import DEFAULT_MODEL
from brats_seg.models.record import peak_memory_mib, versions
from brats_seg.volumetrics.measure import measure_segmentation


def measure(
    mask: Segmentation | str | Path,
    *,
    schema: str = "auto",
    study_id: str | None = None,
    min_lesion_ml: float = 0.0,
    model: str = DEFAULT_MODEL,
) -> Measurements:
    """Volumes, lesions and diameters of a label map.

    Args:
        mask: a label map file, or a segmentation in memory.
        schema: name of its label schema; ``auto`` goes by the file beside it, then by values, shape and name.
        study_id: id in the tables; else the file's name without its endings, or that of its folder.
        min_lesion_ml: smaller components of a region are not counted as lesions.
        model: whose regions are measured where the file beside the label map does not say which it was drawn for.

    Raises:
        InputError: if the file is no label map, or its schema is not certain.

    Example:
        A label map of BraTS 2021::

            from brats_seg import measure

            found = measure("BraTS2021_00000_seg.nii.gz")
            largest = found.lesions_of("ET")[0]
            print(largest.volume_ml, largest.diameters.long_mm)
    """
    if isinstance(mask, str | Path):
        mask = read_mask(Path(mask), schema, study_id, partial(regions_of, model)).segmentation
    return measure_segmentation(mask, min_lesion_ml=min_lesion_ml)


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
