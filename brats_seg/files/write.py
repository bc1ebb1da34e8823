"""Writing label maps and probabilities as NIfTI, exactly on the grid of the file they belong to."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import OutputError
from brats_seg.core.grid import Affine, Array, Grid, Volume
from brats_seg.core.visit import RegionMaps, Segmentation
from brats_seg.files.header import SpatialForms
from brats_seg.files.nibabel_headers import HeaderDataError, Nifti1Header
from brats_seg.files.output import atomic_write
from brats_seg.files.sidecar import write_probseg_sidecar

PROBABILITY_STEP = 1e-4
"""Probabilities are stored as whole multiples of this (uint16); what rounds to 0 compresses to almost nothing."""
_ALIGNED = 2
"""NIfTI code for "coordinates aligned to another image": true of any result, where the scan's own code is unknown."""
_LABEL_INTENT = 1002
_OFFSET = 352
_MAX_SIDE = np.iinfo(np.int16).max


def write_label_map(segmentation: Segmentation, path: Path, *, forms: SpatialForms | None = None) -> None:
    """A label map as uint8 NIfTI whose affine reads back bit for bit as the reference file's.

    Args:
        segmentation: labels on the grid of the reference file.
        path: the ``.nii.gz`` file to write.
        forms: how the reference file says where its voxels lie (``ReadResult.forms`` or ``read_forms``), so that
            programs that look only at the qform agree too; without it both forms say the same.

    Raises:
        OutputError: if it cannot be written.
    """
    volume = segmentation.labels
    header = _header(volume.grid, np.dtype(np.uint8), volume.grid.shape, forms)
    header["intent_code"] = _LABEL_INTENT
    header["cal_max"] = float(max(segmentation.schema.values))
    _write_gzip(path, header, [np.ascontiguousarray(volume.data.astype(np.uint8, copy=False).T)], strategy=zlib.Z_RLE)


def write_volume(volume: Volume, path: Path) -> None:
    """A scan as float32 NIfTI, or a mask as uint8: 1 inside, 0 outside.

    Raises:
        OutputError: if it cannot be written.
    """
    is_mask = volume.data.dtype == np.bool_
    kind, strategy = (np.dtype(np.uint8), zlib.Z_RLE) if is_mask else (np.dtype("<f4"), zlib.Z_DEFAULT_STRATEGY)
    header = _header(volume.grid, kind, volume.grid.shape, None)
    _write_gzip(path, header, [np.ascontiguousarray(volume.data.astype(kind, copy=False).T)], strategy=strategy)


def write_probabilities(probabilities: RegionMaps, path: Path, *, forms: SpatialForms | None = None) -> None:
    """Probabilities as a 4D NIfTI ``(X, Y, Z, R)``, one volume a region, and the JSON file that BIDS wants.

    Values are stored as uint16 multiples of :data:`PROBABILITY_STEP`, so they read back within half a step.

    Args:
        probabilities: on the grid of the reference file.
        path: the ``.nii.gz`` file to write; the ``.json`` is put beside it.
        forms: as in :func:`write_label_map`.

    Raises:
        OutputError: if it cannot be written.
    """
    grid = probabilities.grid
    header = _header(grid, np.dtype("<u2"), (*grid.shape, len(probabilities.array)), forms)
    header["scl_slope"], header["scl_inter"] = PROBABILITY_STEP, 0.0
    header["cal_max"] = 1.0
    # Half the time of level 6, and less than run lengths alone take, for a quarter more bytes.
    _write_gzip(path, header, map(_quantised, probabilities.array))
    write_probseg_sidecar(path, probabilities.regions)


def _quantised(channel: NDArray[np.float32]) -> NDArray[np.uint16]:
    """``(X, Y, Z)`` in 0..1 to uint16 steps ``(Z, Y, X)``, the order of the file."""
    x, y, z = channel.shape
    result = np.zeros((z, y, x), "<u2")
    # In slabs, so that the transposed writes stay within the cache; many lie outside the brain.
    for start in range(0, y, 16):
        slab = channel[:, start : start + 16]
        if slab.any():
            result[:, start : start + 16] = np.rint(slab * np.float32(1 / PROBABILITY_STEP)).astype(np.uint16).T
    return result


def _header(
    grid: Grid, dtype: np.dtype[np.generic], shape: tuple[int, ...], forms: SpatialForms | None
) -> Nifti1Header:
    if max(shape) > _MAX_SIDE:
        raise OutputError(f"a grid of {grid.describe()} does not fit into NIfTI-1, which ends at {_MAX_SIDE} a side")
    header = Nifti1Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_xyzt_units(xyz="mm")
    header["descrip"] = b"brats_seg"
    header["vox_offset"] = _OFFSET
    header["magic"] = b"n+1"
    _set_forms(header, grid.affine, forms)
    return header


def _set_forms(header: Nifti1Header, affine: Affine, forms: SpatialForms | None) -> None:
    """State the affine so that it reads back exactly.

    The sform holds float32 numbers. An affine that was read from a sform fits; one that was computed from a qform
    often does not, and is then written as that qform alone, because a rounded sform would overrule it.
    """
    known = forms or SpatialForms(_ALIGNED, _ALIGNED, None)
    qform = affine if known.qform is None else known.qform
    fits = np.array_equal(affine.astype(np.float32).astype(np.float64), affine)
    try:
        header.set_qform(qform, code=known.qform_code or known.sform_code or _ALIGNED, strip_shears=True)
    except (HeaderDataError, np.linalg.LinAlgError) as error:
        raise OutputError(f"the orientation of the reference cannot be written as NIfTI: {error}") from error
    for name, value in known.quaternion.items():
        header[name] = np.concatenate([value[:4], header[name][4:]]) if name == "pixdim" else value
    if not fits and np.array_equal(header.get_qform(), affine):
        header.set_sform(None, code=0)
        return
    header.set_sform(affine, code=known.sform_code or known.qform_code or _ALIGNED)


def _write_gzip(
    path: Path, header: Nifti1Header, blocks: Iterable[Array], *, strategy: int = zlib.Z_DEFAULT_STRATEGY
) -> None:
    """Header and C-ordered blocks through gzip; the same content always gives the same bytes."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31, 9, strategy)
    with atomic_write(path) as stream:
        stream.write(packer.compress(header.binaryblock + b"\0" * (_OFFSET - len(header.binaryblock))))
        for block in blocks:
            stream.write(packer.compress(block.data.cast("B")))
        stream.write(packer.flush())
