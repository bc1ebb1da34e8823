"""DICOM segmentations as masks, whichever program wrote them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from highdicom.seg import Segmentation
from pydicom import dcmread

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.files.dicom_codes import SEGMENTATIONS
from brats_seg.files.dicom_file import MAX_SIDE, MAX_VOXELS, DamagedFileError, DicomSource, damage_explained
from brats_seg.files.dicom_header import MR_CLASSES, OTHER_CLASSES
from brats_seg.files.segments import NamedMask, SegmentFile

MAX_FRAMES = 50_000
MAX_SEGMENTS = 255


def read_dicom_seg(path: Path) -> SegmentFile:
    """The segments of a DICOM segmentation.

    Slices without tissue are no frames of it, so that nothing says where its images ended: an empty slice is put on
    either side.

    Raises:
        InputError: if it is none, is damaged, or does not lie on parallel, evenly spaced slices.
    """
    try:
        raw = DicomSource(path).read()
        with damage_explained():
            made = _opened(raw, path.name)
            grid, masks = _masks(made)
            segments = tuple(_segments(made, masks))
    except DamagedFileError as error:
        raise InputError(f"{path.name}: {error}. Export the segmentation again.") from error
    return SegmentFile(path.name, grid, segments, hashlib.sha256(raw).hexdigest())


def _opened(raw: bytes, name: str) -> Segmentation:
    header = dcmread(io.BytesIO(raw), stop_before_pixels=True, force=True)
    kind = str(header.get("SOPClassUID", ""))
    if kind not in SEGMENTATIONS:
        what = MR_CLASSES.get(kind) or OTHER_CLASSES.get(kind) or "no segmentation"
        raise InputError(f"{name} holds {what}. Pass a DICOM segmentation (SEG).")
    if header.SegmentationType == "FRACTIONAL":
        raise InputError(f"{name} holds probabilities (FRACTIONAL). Export a binary segmentation.")
    frames = int(header.get("NumberOfFrames") or 1)
    if max(header.Rows, header.Columns) > MAX_SIDE or frames > MAX_FRAMES:
        raise DamagedFileError(f"it claims {frames} frames of {header.Columns} x {header.Rows}")
    return Segmentation.from_dataset(dcmread(io.BytesIO(raw), force=True), copy=False)


def _masks(made: Segmentation) -> tuple[Grid, np.ndarray]:
    """The grid, and ``(S, X, Y, Z)`` bool in the order of the segments' numbers."""
    numbers = list(made.segment_numbers)
    geometry = made.get_volume_geometry(allow_missing_positions=True)
    if geometry is None:
        raise DamagedFileError("its frames do not lie on parallel, evenly spaced slices")
    voxels = int(np.prod([int(side) for side in geometry.spatial_shape]))
    if voxels > MAX_VOXELS or len(numbers) > MAX_SEGMENTS:
        raise DamagedFileError(f"it claims {len(numbers)} segments of {voxels} voxels")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine  # LPS to RAS
    step = np.eye(4)
    step[0, 3] = -1
    slices, rows, columns = geometry.spatial_shape
    empty = Volume(np.zeros((slices + 2, rows, columns), bool), Grid((slices + 2, rows, columns), affine @ step))
    grid = empty.permute((2, 1, 0)).grid
    masks = np.zeros((len(numbers), *grid.shape), bool)
    for place, number in enumerate(numbers):
        volume = made.get_volume(
            segment_numbers=[number], combine_segments=True, relabel=True, allow_missing_positions=True
        )
        first = round(float((geometry.inverse_affine @ volume.affine @ [0, 0, 0, 1])[0]))
        there = slice(first + 1, first + 1 + volume.spatial_shape[0])
        masks[place, :, :, there] = (np.asarray(volume.array) > 0).transpose(2, 1, 0)
    return grid, masks


def _segments(made: Segmentation, masks: np.ndarray) -> Iterator[NamedMask]:
    for number, mask in zip(made.segment_numbers, masks, strict=True):
        described = made.get_segment_description(number)
        kind = described.segmented_property_type
        yield NamedMask(
            str(described.segment_label), (kind.value, kind.scheme_designator), str(kind.meaning), int(number), mask
        )
