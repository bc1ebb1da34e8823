"""Segmentations that name their segments, DICOM SEG and Slicer's ``.seg.nrrd``, as label maps.

What a segment is stands in its code, else in its name; its number says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import SCHEMAS, STRUCTURES, LabelSchema, Structure
from brats_seg.files.dicom_codes import structure_of
from brats_seg.files.sidecar import CORE, WHOLE, part_of

_S = Structure
_OUTSIDE_IN = (_S.TU, _S.FA, _S.ED, _S.GTV, _S.NCR, _S.NET, _S.CC, _S.ET, _S.RC)
"""Whose voxels count where segments overlap: the last of these."""


@dataclass(frozen=True, eq=False)
class NamedMask:
    """One segment.

    Attributes:
        name: as the file calls it.
        code: value and scheme of what it is; empty where the file does not say.
        meaning: of the code, in words.
        number: within the file.
        mask: ``(X, Y, Z)`` bool.
    """

    name: str
    code: tuple[str, str]
    meaning: str
    number: int
    mask: NDArray[np.bool_]

    @property
    def part(self) -> Structure | str | None:
        """The tissue it is, or the part of a tumour that holds several; None where nothing known."""
        return structure_of(*self.code) or part_of(self.name) or part_of(self.meaning)


@dataclass(frozen=True, eq=False)
class SegmentFile:
    """A file of segments."""

    name: str
    grid: Grid
    segments: tuple[NamedMask, ...]
    sha256: str


class SegmentLabels(NamedTuple):
    """Segments as one label map, how that was found, and what was noticed, in words."""

    volume: Volume
    schema: LabelSchema
    why: str
    notes: tuple[str, ...] = ()


def labels_of(file: SegmentFile, schema: LabelSchema | None = None, *, by_number: bool = True) -> SegmentLabels:
    """The label map that segments make.

    Args:
        schema: whose numbers it is to have; where the segments are not named, numbers of segments are numbers of it.
        by_number: whether the latter may be so.

    Raises:
        InputError: if it is not certain what a segment is, or segments that are known by number overlap.
    """
    unknown = [segment.name for segment in file.segments if segment.part is None]
    if schema is SCHEMAS["whole"]:
        mask = np.logical_or.reduce([segment.mask for segment in file.segments])
        return SegmentLabels(Volume(mask.astype(np.uint8), file.grid), schema, "as asked, all segments together")
    if not unknown:
        found = _by_name(file)
        if schema is None or not set(found.schema.structures) <= set(schema.structures):
            return found
        numbers = Volume(found.schema.convert(found.volume.data, schema), file.grid)
        return SegmentLabels(numbers, schema, found.why, found.notes)
    if schema is None or not by_number:
        raise InputError(
            f"{file.name}: segment {unknown[0]!r} is no tissue of a tumour that is known, by its code or its name. "
            "Name it as enhancing tumour, necrosis or edema, take it out, or pass --schema: whole for a mask of the "
            "whole tumour, or the schema that the segments' numbers follow."
        )
    labels = np.zeros(file.grid.shape, np.uint8)
    for segment in file.segments:
        if (labels[segment.mask] > 0).any():
            raise InputError(f"{file.name}: its segments overlap, so that their numbers are no label map. Name them.")
        labels[segment.mask] = segment.number
    return SegmentLabels(Volume(labels, file.grid), schema, "as asked, by the segments' numbers")


def _by_name(file: SegmentFile) -> SegmentLabels:
    parts = {segment.part for segment in file.segments}
    tissues = [_tissue(segment.part, parts) for segment in file.segments]
    schema = _schema_of(tissues, file.name)
    labels = np.zeros(file.grid.shape, np.uint8)
    twice = np.zeros(file.grid.shape, bool)
    for tissue in _OUTSIDE_IN:
        masks = [segment.mask for segment, own in zip(file.segments, tissues, strict=True) if own is tissue]
        if masks:
            mask = np.logical_or.reduce(masks)
            twice |= mask & (labels > 0)
            labels[mask] = schema.number(tissue)
    nested = bool({CORE, WHOLE} & parts)
    notes: tuple[str, ...] = ()
    if twice.any() and not nested:
        notes = (f"{int(twice.sum())} voxels lie in several segments and were counted for the innermost tissue",)
    return SegmentLabels(Volume(labels, file.grid), schema, "its segments say so by code or name", notes)


def _tissue(part: Structure | str | None, parts: set[Structure | str | None]) -> Structure:
    """What of a segment lies in no segment inside it: the rest of a core that shows enhancement is necrosis."""
    if isinstance(part, Structure):
        return part
    if part == CORE:
        return _S.NCR if _S.ET in parts else _S.GTV
    return _S.ED if parts & {CORE, _S.NCR, _S.NET, _S.GTV} else _S.TU


def _schema_of(tissues: Sequence[Structure], name: str) -> LabelSchema:
    """The first known schema with exactly these tissues, or one of its own."""
    found = set(tissues)
    same = next((schema for schema in SCHEMAS.values() if set(schema.structures) == found), None)
    ordered = [tissue for tissue in STRUCTURES.values() if tissue in found]
    return same or LabelSchema("named", f"as {name} names them", dict(enumerate(ordered, start=1)))
