"""A label map file with what its numbers mean: one way to read it, whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume
from brats_seg.core.meaning import LabelMeaning, doubt_about, meaning_of
from brats_seg.core.regions import SCHEMAS, LabelSchema, Region, present_values, schema_named
from brats_seg.files.nifti import read_label_result
from brats_seg.files.sidecar import read_schema_sidecar

MAX_TUMOUR_ML = 3000.0
"""No head holds a larger one."""
EXTENT_MM = (50.0, 600.0)
"""Sides of the field of view of a head. A smaller one is a part that was cut out, or a header in centimetres, whose
voxels are also too fine."""
FINEST_MM = 0.35


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map as it was read.

    Attributes:
        volume: its numbers.
        meaning: what they can mean.
        sha256: checksum of the file.
        notes: what was noticed while reading, in words.
    """

    volume: Volume
    meaning: LabelMeaning
    sha256: str
    notes: tuple[str, ...] = ()

    def with_schema(self, schema: LabelSchema) -> Volume:
        """Its numbers as a schema has them: a mask of any one number is one of 1.

        Raises:
            InputError: if the schema does not know a number, or the tumour is larger than any head holds.
        """
        volume = self.volume
        if schema is SCHEMAS["whole"] and len(self.meaning.values) == 1:
            volume = volume.with_data((volume.data > 0).astype(np.uint8))
        schema.check(volume.data)
        whole_ml = float(schema.region_mask(volume.data, Region.WT).sum()) * volume.grid.voxel_ml
        if whole_ml > MAX_TUMOUR_ML:
            raise InputError(
                f"the tumour would measure {whole_ml:.0f} ml with voxels of {volume.grid.describe()}, more than any "
                "head holds: the header is damaged or holds another unit than millimetres. Export the label map again."
            )
        return volume


def read_label_file(path: Path, schema: str | LabelSchema = "auto") -> LabelMap:
    """A label map and what its numbers can mean; whether that is certain is for the caller to ask.

    Args:
        path: the file.
        schema: a schema or its name; ``auto`` goes by the file beside it, then by values, shape and name.

    Raises:
        InputError: if the file is no label map of a head, or the file beside it is damaged.
    """
    read = read_label_result(path)
    sides = read.volume.grid.extent_mm
    low, high = EXTENT_MM
    if max(sides) > high or (max(sides) < low and min(read.volume.grid.spacing_mm) < FINEST_MM):
        raise InputError(
            f"{path.name}: a field of view of {' x '.join(f'{side:.4g}' for side in sides)} mm is not that of a head; "
            "the header is damaged or holds another unit than millimetres. Export the label map again."
        )
    labels = read.volume.data
    values = frozenset(present_values(labels))
    if schema == "auto":
        beside = read_schema_sidecar(path)
        if beside is None:
            return LabelMap(read.volume, meaning_of(labels, file_name=path.name), read.sha256, read.notes)
        meaning = LabelMeaning(values, (beside,), "the file beside it says so", doubt_about(labels, beside))
    else:
        chosen = schema if isinstance(schema, LabelSchema) else schema_named(schema)
        meaning = LabelMeaning(values, (chosen,), "as asked", doubt_about(labels, chosen))
    return LabelMap(read.volume, meaning, read.sha256, read.notes)
