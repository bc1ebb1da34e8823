"""Reading scans and label maps from NIfTI files.

Every way a file can be wrong is an :class:`InputError` that says what to do; see also :mod:`brats_seg.files.header`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Array, Singles, Volume
from brats_seg.core.words import some
from brats_seg.files.header import NiftiFile, SpatialForms, VolumesError, sizes_text

MAX_LABEL_VALUES = 32
"""An image of whole numbers with no more distinct values than this is taken for a label map. Real scans reduced
to 8 bits hold more than 100, label maps of tumours up to 6."""
MIN_OUTSIDE = 0.01
"""Least share of voxels without a number that is a background; fewer are damage."""
MIN_TURN, MIN_TURNS, MAX_LOWEST = 60_000, 10, 0.01
"""Differences between neighbours, of the 65,536 that a value running over 16 bits changes by; how many of them are no
damaged voxels; and the share of voxels with the lowest value from which that is padding."""
WHOLE_TOLERANCE = 1e-3
"""How far a label may lie from a whole number: masks stored with a scale factor read back slightly off."""

_MASK_HINT = "{what}: it looks like a label map (mask) and not like a scan. Pass the scan; masks go to measure."


@dataclass(frozen=True, eq=False)
class ReadResult:
    """A file that was read.

    Attributes:
        sha256: checksum of the file's bytes.
        forms: the file's own statement of its geometry.
        notes: what was noticed, in words; never a name or a path.
    """

    volume: Volume
    sha256: str
    forms: SpatialForms
    notes: tuple[str, ...] = ()


def read_volume(path: Path) -> Volume:
    """An MRI volume, float32 with the header's scaling applied.

    Raises:
        InputError: if the file is anything but one readable 3D scan with an orientation.
    """
    return read_image(path).volume


def read_image(path: Path, *, volume: int | None = None) -> ReadResult:
    """An MRI volume with its checksum and what was noticed while reading.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file.
        volume: which volume of a 4D file; None for a 3D file.

    Raises:
        InputError: if the file is anything but one readable 3D scan with an orientation.
    """
    file = NiftiFile.read(path)
    file.volume = volume
    grid, forms = file.grid()
    if min(grid.shape) < 2:
        raise file.refuse(f"it holds a single slice ({sizes_text(grid.shape)}). Pass the whole 3D scan.")
    if str(file.header.get_intent("code")[0]) == "1002":
        raise file.refuse(_MASK_HINT.format(what="its header calls it a label map"))
    stored = file.voxels(grid.shape)
    if _ran_over(stored):
        raise file.refuse(
            f"its values ran over 16 bits: they turn from {stored.max()} to {stored.min()} between neighbours. "
            "Convert it again from the original, as 32-bit float."
        )
    with np.errstate(over="ignore"):
        data = _singles(file.scaled(stored))
    data = _finite(data, file)
    low, high = float(data.min()), float(data.max())
    if low == high:
        what = "every voxel is 0" if low == 0 else f"every voxel holds the same value ({low:g})"
        raise file.refuse(f"{what}, so there is nothing to see. Export the scan again.")
    few = _few_whole_values(data)
    if few is not None:
        shown = some((f"{value:g}" for value in few), 8)
        raise file.refuse(_MASK_HINT.format(what=f"it holds only the whole numbers {shown}"))
    sha256 = file.sha256 if volume is None else volume_sha256(file.sha256, volume)
    return ReadResult(Volume(data, grid), sha256, forms, tuple(file.notes))


def _singles(stored: Array) -> Singles:
    """As float32 in C order, from the order of the file in slabs that stay within the cache: in half the time."""
    data = np.empty(stored.shape, np.float32)
    for start in range(0, stored.shape[1], 16):
        data[:, start : start + 16] = stored[:, start : start + 16]
    return data


def volume_sha256(sha256: str, volume: int) -> str:
    """Checksum of one volume of a file with this checksum."""
    return hashlib.sha256(f"{sha256}:{volume}".encode()).hexdigest()


def read_label_map(path: Path) -> Volume:
    """A label map: uint8, or int16 where a number is above 255.

    Raises:
        InputError: as :func:`read_label_result`.
    """
    return read_label_result(path).volume


def read_label_result(path: Path) -> ReadResult:
    """A label map with its checksum and notes. A map without any label is valid: nothing was found.

    Raises:
        InputError: if the file cannot be read as one 3D volume, or its values are not whole numbers
            from 0 to 32767.
    """
    file = NiftiFile.read(path)
    try:
        grid, forms = file.grid()
    except VolumesError:
        sizes = file.sizes()
        raise file.refuse(
            f"it holds {int(np.prod(sizes[3:]))} volumes ({sizes_text(sizes)}), one for each region or label (one-hot) "
            "or probabilities. Make one 3D label map of it, for example with numpy of regions in each other: "
            "labels = 2 * (whole > 0.5); labels[core > 0.5] = 1; labels[enhancing > 0.5] = 3, which is schema "
            "brats2023; of one volume for each label: labels = numpy.argmax(volumes, axis)."
        ) from None
    data = file.scaled(file.voxels(grid.shape))
    if data.dtype.kind == "f":
        data = _finite(data, file)
        whole = np.rint(data)
        broken = np.abs(data - whole) > WHOLE_TOLERANCE
        if broken.any():
            raise file.refuse(
                f"{int(broken.sum())} voxels are not whole numbers (for example {data[broken][0]:.4g}), so it is an "
                "image or a probability map, or a label map that was resampled with interpolation. "
                "Pass the label map itself; to resample one, use nearest neighbours."
            )
        if data.any() and not whole.any():
            raise file.refuse(
                f"its values run from {data.min():.4g} to {data.max():.4g}, and labels are 1 and more: it is an image "
                "or a probability map. Pass the label map itself."
            )
        data = whole
    low, high = int(data.min()), int(data.max())
    if low < 0 or high > np.iinfo(np.int16).max:
        raise file.refuse(f"its values run from {low} to {high}; labels are 0 to 32767. Is it an image?")
    labels = np.ascontiguousarray(data, dtype=np.uint8 if high <= 255 else np.int16)
    return ReadResult(Volume(labels, grid), file.sha256, forms, tuple(file.notes))


def read_forms(path: Path) -> SpatialForms:
    """The geometry statement of a file's header, without its voxels; for writing results the same way.

    Raises:
        InputError: if it is not a readable NIfTI file.
    """
    return NiftiFile.read(path, header_only=True).forms()


def _finite(data: Array, file: NiftiFile) -> Array:
    """The values, 0 where NaN marks what lies outside the field of view; anything else without a number is refused."""
    finite = np.isfinite(data)
    if finite.all():
        return data
    missing = np.isnan(data)
    nan = int(np.count_nonzero(missing))
    infinite = int(data.size - np.count_nonzero(finite)) - nan
    if not infinite and MIN_OUTSIDE <= nan / data.size < 1 and _reaches_edge(missing):
        file.notes.append(f"{nan / data.size:.0%} of the voxels, all at the edge of the image, hold NaN; read as 0")
        return np.where(missing, data.dtype.type(0), data)
    found = " and ".join(f"{n} {what}" for n, what in ((nan, "NaN"), (infinite, "infinite")) if n)
    raise file.refuse(
        f"{found} of {data.size} voxels hold no usable number. Set them to 0 "
        "(numpy.nan_to_num, or fslmaths IN -nan OUT) after finding out where they came from."
    )


def _ran_over(stored: Array) -> bool:
    """Whether bright values of a signed 16-bit image came out negative; padding with the lowest value is none."""
    if stored.dtype.kind != "i" or stored.dtype.itemsize != 2:
        return False
    low, high = int(stored.min()), int(stored.max())
    if high - low < MIN_TURN or np.count_nonzero(stored == low) > MAX_LOWEST * stored.size:
        return False
    return bool(np.count_nonzero(np.abs(np.diff(stored.astype(np.int32), axis=0)) >= MIN_TURN) >= MIN_TURNS)


def _reaches_edge(mask: NDArray[np.bool_]) -> bool:
    """Whether every connected part of a mask reaches the edge of the array."""
    parts, count = ndimage.label(mask)
    faces = [np.take(parts, place, axis) for axis in range(3) for place in (0, -1)]
    touching = set(np.unique(np.concatenate([face.ravel() for face in faces]))) - {0}
    return bool(len(touching) == count)


def _few_whole_values(data: Array) -> NDArray[np.generic] | None:
    """The distinct values if they are few and all whole numbers, else None."""
    # Most images show many values in a small sample, which spares sorting all voxels.
    flat = data.ravel()
    for sample in (flat[:: max(1, flat.size // 4096)], flat[:: max(1, flat.size // 262144)], flat):
        values = np.unique(sample)
        if len(values) > MAX_LABEL_VALUES or not np.equal(np.rint(values), values).all():
            return None
    return values
