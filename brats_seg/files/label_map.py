"""A label map file with what its numbers mean: one way to read it, whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume
from brats_seg.core.labels import SCHEMAS, LabelSchema, schema_named
from brats_seg.core.regions import RegionSet
from brats_seg.core.visit import Segmentation
from brats_seg.files.dicom_file import looks_like_dicom
from brats_seg.files.dicom_sources import first_bytes
from brats_seg.files.match_labels import label_id
from brats_seg.files.meaning import LabelMeaning, certain_meaning, meaning_of, shared_meaning
from brats_seg.files.nifti import read_label_map, read_label_result
from brats_seg.files.segments import SegmentFile, labels_of
from brats_seg.files.sidecar import read_making, read_regions, read_schema_sidecar
from brats_seg.files.study_id import check_study_id

MAX_TUMOUR_ML = 3000.0
"""No head holds a larger one."""
EXTENT_MM = (50.0, 600.0)
"""Sides of the field of view of a head. A smaller one is a part that was cut out, or a header in centimetres, whose
voxels are also too fine."""
FINEST_MM = 0.35


Asked = Callable[[], RegionSet]


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map as it was read.

    Attributes:
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
        whole_ml = float(schema.tumour_mask(volume.data).sum()) * volume.grid.voxel_ml
        if whole_ml > MAX_TUMOUR_ML:
            raise InputError(
                f"the tumour would measure {whole_ml:.0f} ml with voxels of {volume.grid.describe()}, more than any "
                "head holds: the header is damaged or holds another unit than millimetres. Export the label map again."
            )
        return volume


def read_label_file(path: Path, regions: RegionSet, schema: str | LabelSchema = "auto") -> LabelMap:
    """A label map and what its numbers can mean; whether that is certain is for the caller to ask.

    Args:
        regions: that are asked about.
        schema: a schema or its name; ``auto`` goes by the file beside it, then by values, shape and name. Segments
            that no name or code tells are told by their numbers only where a schema was asked for by its name.

    Raises:
        InputError: if the file is no label map of a head, or the file beside it is damaged.
    """
    if _holds_segments(path):
        return _label_file_of_segments(path, regions, schema)
    read = read_label_result(path)
    sides = read.volume.grid.extent_mm
    low, high = EXTENT_MM
    if max(sides) > high or (max(sides) < low and min(read.volume.grid.spacing_mm) < FINEST_MM):
        raise InputError(
            f"{path.name}: a field of view of {' x '.join(f'{side:.4g}' for side in sides)} mm is not that of a head; "
            "the header is damaged or holds another unit than millimetres. Export the label map again."
        )
    chosen, why = _asked_for(schema), "as asked"
    if chosen is None:
        chosen, why = read_schema_sidecar(path, regions), "the file beside it says so"
    if chosen is None:
        meaning = meaning_of(read.volume.data, regions, file_name=path.name)
    else:
        meaning = certain_meaning(read.volume.data, chosen, regions, why)
    return LabelMap(read.volume, meaning, read.sha256, read.notes)


def _asked_for(schema: str | LabelSchema) -> LabelSchema | None:
    if isinstance(schema, LabelSchema):
        return schema
    return None if schema == "auto" else schema_named(schema)


def _holds_segments(path: Path) -> bool:
    """Whether a file is DICOM or NRRD, by its first bytes."""
    head = first_bytes(path)
    return head.startswith(b"NRRD") or looks_like_dicom(head)


def marks_anything(path: Path) -> bool:
    """Whether any voxel of a label map is labelled.

    Raises:
        InputError: if it cannot be read.
    """
    if _holds_segments(path):
        return any(segment.mask.any() for segment in _read_segments(path).segments)
    return bool((read_label_map(path).data > 0).any())


def _read_segments(path: Path) -> SegmentFile:
    """The segments of a DICOM segmentation or a ``.seg.nrrd``."""
    # Each loads a library that label maps in NIfTI need not wait for.
    if path.suffix.lower() == ".nrrd":
        from brats_seg.files.seg_nrrd import read_seg_nrrd  # noqa: PLC0415

        return read_seg_nrrd(path)
    from brats_seg.files.dicom_seg_read import read_dicom_seg  # noqa: PLC0415

    return read_dicom_seg(path)


def _label_file_of_segments(path: Path, regions: RegionSet, schema: str | LabelSchema) -> LabelMap:
    file = _read_segments(path)
    read = labels_of(file, _asked_for(schema), by_number=isinstance(schema, str))
    meaning = certain_meaning(read.volume.data, read.schema, regions, read.why, is_named=schema == "auto")
    return LabelMap(read.volume, meaning, file.sha256, read.notes)


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


def read_mask(path: Path, schema: str | LabelSchema, study_id: str | None, asked: Asked | None = None) -> MaskReading:
    """A label map file with its meaning; what its numbers mean is certain.

    Args:
        schema: a schema or its name; ``auto`` goes by the file beside it, then by values, shape and name.
        study_id: id of the study; None takes the file's name without its endings, or that of its folder.
        asked: gives the regions to ask about where the file beside it does not say which it was drawn for.

    Raises:
        InputError: if the file is no label map of a head, or its schema is not certain.
    """
    regions = read_regions(path) or (asked() if asked is not None else None)
    if regions is None:
        raise InputError(f"the file beside {path.name} does not name its regions. Segment the study again.")
    read = read_label_file(path, regions, schema)
    chosen = read.meaning.schema
    identity = study_id if study_id is not None else label_id(path)
    check_study_id(identity, source="the name of the label map or its folder" if study_id is None else "--id")
    decision = f"its numbers were read as {chosen.name} ({chosen.title}): {read.meaning.why}"
    # A result of this program says what it was made without, which its measurements must go on saying.
    missing, midplane = read_making(path)
    volume = read.with_schema(chosen)
    segmentation = Segmentation(identity, volume, chosen, regions, missing=missing, midplane=midplane)
    doubts = (read.meaning.doubt,) if read.meaning.doubt else ()
    return MaskReading(segmentation, read.sha256, (decision,), (*doubts, *read.notes))


def schema_of_visits(masks: Mapping[str, Path], schema: str, asked: Asked) -> str | LabelSchema:
    """The one schema of a patient's label maps, where it is to be found out.

    Args:
        masks: label map by visit.
        schema: what the user asked for.
        asked: gives the regions that are followed where the label maps do not say which they were drawn for.

    Raises:
        InputError: if the label maps do not follow one schema, it is not certain which, or it does not tell every
            region, which a course needs.
    """
    if not masks or schema != "auto":
        return schema
    meanings = {}
    for visit, path in masks.items():
        with suppress(InputError):  # a visit that cannot be read is left out later, with its reason
            meanings[visit] = read_label_file(path, read_regions(path) or asked()).meaning
    chosen = shared_meaning(meanings)
    regions = next((meaning.regions for meaning in meanings.values()), None) or asked()
    told = regions.told_by(chosen)
    if len(told) < len(regions):
        lacking = ", ".join(region.name for region in regions if region not in told)
        raise InputError(
            f"the label maps are {chosen.name} ({chosen.title}), which do not tell {lacking}, and a course needs all "
            "regions. Give label maps with the tissues of each region apart."
        )
    return chosen
