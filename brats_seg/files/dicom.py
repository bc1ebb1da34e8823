"""A DICOM series as a volume: where its images lie, told by themselves, and their values.

Order, spacing and direction follow from Image Position and Image Orientation alone (DICOM PS3.3, C.7.6.2.1.1); file
names, instance numbers, Slice Thickness and Spacing Between Slices decide nothing. What is no regular stack of
parallel images is refused, because every way of making a volume of it would put voxels where the scanner did not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Array, Grid, Volume
from brats_seg.core.words import counted
from brats_seg.files.dicom_file import MAX_VOXELS, DamagedFileError, DicomSource, read_values
from brats_seg.files.dicom_header import Plane
from brats_seg.files.header import SpatialForms
from brats_seg.files.nifti import ReadResult

POSITION_MM = 0.05
"""How far positions may lie from a regular stack; headers round to 0.001 mm or finer."""
STEP_SHARE = 0.02
"""The same as a share of the distance between slices."""
DRIFT_SHARE = 0.1
"""Largest shift within the plane from the first slice to the last, as a share of a pixel."""
SAME_PLACE_MM = 0.01
"""Images closer than this lie at the same place."""

SCANNER_FORMS = SpatialForms(1, 1, None)
"""Coordinates of the scanner, in both forms of NIfTI."""


@dataclass(frozen=True)
class DicomSeries:
    """Images that make one volume: a series, or one part of a series that holds several.

    Attributes:
        uid: Series Instance UID.
        number: Series Number, or None.
        planes: its images in any order.
        part: what tells this part from others of the series, as ``echo 2``; empty where it is whole.
        fault: why no volume can be made of it, known before its geometry; empty where nothing is.
    """

    uid: str
    number: int | None
    planes: tuple[Plane, ...]
    part: str = ""
    fault: str = ""

    @property
    def title(self) -> str:
        """For messages and options: ``series 5``, ``series 5 (echo 2)``, or the end of its UID."""
        name = f"series {self.number}" if self.number is not None else f"series …{self.uid[-8:]}"
        return f"{name} ({self.part})" if self.part else name

    @property
    def key(self) -> str:
        """What it is called in options: ``5``, ``5-echo2``, or the end of its UID."""
        name = str(self.number) if self.number is not None else self.uid[-8:]
        return f"{name}-{self.part.replace(' ', '').replace(',', '-')}" if self.part else name

    @property
    def sources(self) -> tuple[DicomSource, ...]:
        """Its files, each once, in the order of their names."""
        return tuple(sorted({plane.source for plane in self.planes}))


def read_series(series: DicomSeries) -> ReadResult:
    """The volume of a series, float32 with each image's rescale slope and intercept applied.

    Returns:
        The volume, stored as the scanner did: rows along the first array axis, slices along the last. The checksum
        changes with any byte of any file, and not with their names, their order, or the archive they lie in.

    Raises:
        InputError: if the series is no regular stack, or a file of it is damaged.
    """
    grid, planes = stack_of(series)
    place = {id(plane): number for number, plane in enumerate(planes)}
    data = np.empty(grid.shape, np.float32)
    notes = _notes(series, planes)
    digests = []
    by_source: dict[DicomSource, list[Plane]] = {}
    for plane in planes:
        by_source.setdefault(plane.source, []).append(plane)
    try:
        for source, raw, frames in read_values(by_source, planes[0].shape):
            digests.append(hashlib.sha256(raw).digest())
            for plane in by_source[source]:
                slope, intercept = plane.scale
                with np.errstate(over="ignore"):  # values that are no numbers are refused below
                    data[:, :, place[id(plane)]] = (frames[plane.frame] * np.float64(slope) + intercept).T
    except DamagedFileError as error:
        raise _refused(series, f"a file of it cannot be used: {error}. Export or copy it again.") from error
    _check_values(series, data)
    return ReadResult(Volume(data, grid), _joined(digests), SCANNER_FORMS, tuple(notes))


def series_sha256(series: DicomSeries) -> str:
    """The checksum of :func:`read_series`, without decoding an image.

    Raises:
        InputError: if a file cannot be read.
    """
    return _joined([hashlib.sha256(source.read()).digest() for source in series.sources])


def _joined(digests: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def stack_of(series: DicomSeries) -> tuple[Grid, tuple[Plane, ...]]:
    """The grid of a series, and its images from the first slice to the last.

    Raises:
        InputError: if images lie at the same place, are missing, are unevenly spaced, are tilted against the stack, or
            are fewer than two.
    """
    if series.fault:
        raise _refused(series, series.fault)
    first = series.planes[0]
    rows, columns = first.shape
    if len(series.planes) < 2:
        raise _refused(series, "it holds a single image, and a scan has many slices. Export the whole series.")
    if rows * columns * len(series.planes) > MAX_VOXELS:
        raise _refused(series, f"it holds {columns} x {rows} x {len(series.planes)} voxels, more than any head scan.")
    row, column = _directions(series)
    normal = np.cross(row, column)
    positions = np.array([plane.position for plane in series.planes])
    depth = positions @ normal
    order = np.argsort(depth, kind="stable")
    planes, positions, depth = tuple(series.planes[i] for i in order), positions[order], depth[order]
    step = _step(series, depth)
    drift = positions - positions[0] - np.outer(depth - depth[0], normal)
    shift_mm = float(np.linalg.norm(drift, axis=1).max())
    if shift_mm > DRIFT_SHARE * min(first.spacing) + POSITION_MM:
        angle = np.degrees(np.arctan2(shift_mm, depth[-1] - depth[0]))
        raise _refused(
            series,
            f"its slices are shifted against each other by up to {shift_mm:.2f} mm (gantry tilt of {angle:.1f} "
            "degrees, or slices of several stacks). Reformat it to a straight stack, or export the original series.",
        )
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([row * first.spacing[1], column * first.spacing[0], normal * step])
    affine[:3, 3] = positions[0]
    affine[:2] *= -1  # LPS to RAS
    # Rounded as NIfTI stores it, so that results lie on the very same grid.
    return Grid((columns, rows, len(planes)), affine.astype(np.float32).astype(np.float64)), planes


def _refused(series: DicomSeries, reason: str) -> InputError:
    return InputError(f"{series.title}: {reason}")


def _directions(series: DicomSeries) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along rows and columns, at right angles."""
    cosines = np.array(series.planes[0].orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if (np.abs(lengths - 1) > 0.01).any() or abs(cosines[0] @ cosines[1]) > 0.01:
        raise _refused(
            series,
            "its rows and columns are not at right angles, so its header is damaged. Export it again.",
        )
    row = cosines[0] / lengths[0]
    column = cosines[1] - (cosines[1] @ row) * row
    return row, column / np.linalg.norm(column)


def _step(series: DicomSeries, depth: NDArray[np.float64]) -> float:
    """Distance between slices in mm, of sorted places along the stack."""
    gaps = np.diff(depth)
    if gaps.min() < SAME_PLACE_MM:
        twice = int((gaps < SAME_PLACE_MM).sum()) + 1
        raise _refused(
            series,
            f"{twice} of its {len(depth)} images lie at a place of others: several time points, echoes or copies in "
            "one series, which nothing in the headers tells apart. Export them as series of their own.",
        )
    usual = float(np.median(gaps))
    step = float(depth[-1] - depth[0]) / (len(depth) - 1)
    if np.abs(depth - depth[0] - step * np.arange(len(depth))).max() <= max(POSITION_MM, STEP_SHARE * step):
        return step
    times = gaps / usual
    whole = np.rint(times)
    if (np.abs(times - whole) <= STEP_SHARE * np.maximum(whole, 1) + POSITION_MM / usual).all() and whole.max() > 1:
        lost = int((whole - 1).sum())
        where = int(np.argmax(whole > 1)) + 1
        raise _refused(
            series,
            f"{counted(lost, 'slice')} missing: slices {where} and {where + 1} of {len(depth)} lie "
            f"{gaps[where - 1]:.2f} mm apart, others {usual:.2f} mm. Export or copy the series again.",
        )
    raise _refused(
        series,
        f"its slices are unevenly spaced, from {gaps.min():.2f} to {gaps.max():.2f} mm apart. Export the original "
        "series, or reformat it to even spacing.",
    )


def _check_values(series: DicomSeries, data: Array) -> None:
    low, high = float(data.min()), float(data.max())
    if not np.isfinite([low, high]).all():
        raise _refused(series, "its rescale slope or intercept makes values that are no numbers. Export it again.")
    if low == high:
        raise _refused(
            series, f"every voxel holds the same value ({low:g}), so there is nothing to see. Export it again."
        )


def _notes(series: DicomSeries, planes: Sequence[Plane]) -> list[str]:
    notes = []
    expected = planes[0].expected
    if expected is not None and not series.part and expected > len(planes):
        notes.append(f"the header speaks of {expected} images in the acquisition, and {len(planes)} are there")
    if len({plane.scale for plane in planes}) > 1:
        notes.append("its slices are scaled differently, each as its header says")
    return notes
