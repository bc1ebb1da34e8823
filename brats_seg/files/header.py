"""The bytes and the header of one NIfTI file, with a refusal that names the file for every way it can be wrong.

A file is read once: the same bytes give the checksum, the header and the voxels. What a file *is* follows from
its first bytes and not from its name. Header fields are those of https://nifti.nimh.nih.gov/nifti-1 and nifti-2.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Array, Grid
from brats_seg.files.file_bytes import file_bytes
from brats_seg.files.nibabel_headers import HeaderDataError, Nifti1Header, Nifti2Header

MAX_VOXELS = 2**30
"""Larger than any head scan; a damaged header often asks for more than there is memory."""
SPACING_RANGE_MM = (0.01, 50.0)
"""Voxel spacings outside are not millimetres of a head scan: the header is damaged or holds other units."""
FORM_TOLERANCE_MM = 1.0
"""Largest distance between a voxel placed by qform and by sform that passes without a note."""
_SLACK_BYTES = 2**26
"""How far behind the last voxel a compressed file is followed, to reach the checksum at its end."""

_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 544
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (128, b"DICM", "it is a DICOM file; pass the folder of the exam for a scan, and a .nii.gz for a mask"),
    (0, b"NRRD", "it is an NRRD file; save it as .nii.gz, for example with 3D Slicer"),
    (0, b"ObjectType", "it is a MetaImage (.mha); save it as .nii.gz, for example with 3D Slicer"),
    (0, b"\x89HDF", "it is an HDF5 or MINC file; convert it with mnc2nii or save it as .nii.gz"),
    (0, b"PK\x03\x04", "it is a ZIP archive; unpack it first"),
    (0, b"version https://git-lfs", "it is a Git LFS pointer and not the scan itself; run git lfs pull"),
    (0, b"<", "it is a web page or XML, often what a failed download leaves; download it again"),
)
_SILENT = logging.getLogger("brats_seg.files.nifti.header")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_FATAL_LEVEL = 40
"""Level from which nibabel's header checks count as errors (its own default)."""


QUATERNION = ("pixdim", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
"""Header fields of the quaternion form; of ``pixdim`` the first four."""


@dataclass(frozen=True, eq=False)
class SpatialForms:
    """How a file said where its voxels lie, so that results can say it the same way.

    Attributes:
        qform_code: NIfTI code of the quaternion form; 0 means absent.
        sform_code: NIfTI code of the matrix form; 0 means absent.
        qform: the quaternion form as a 4x4 matrix, or None where absent.
        quaternion: header fields that say it, by name. Turned into a matrix and back they can lose their last bit, so
            that they are written again as they were.
    """

    qform_code: int
    sform_code: int
    qform: Affine | None
    quaternion: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class VolumesError(InputError):
    """A file holds several volumes where one is expected."""


class NiftiFile:
    """One file's bytes and header.

    Attributes:
        name: the file's name without folders, for messages.
        sha256: checksum of its bytes.
        notes: what was noticed, in words; never a name or a path.
        volume: which one of a 4D file is meant; None where the file has to be 3D.
    """

    def __init__(self, name: str, raw: bytes, sha256: str, notes: list[str]) -> None:
        self.name = name
        self.sha256 = sha256
        self.notes = notes
        self.volume: int | None = None
        self.header = self._parse(raw)
        self.raw = raw

    @classmethod
    def read(cls, path: Path, *, header_only: bool = False) -> NiftiFile:
        """The file at ``path``, on request without its voxels.

        Raises:
            InputError: if it cannot be read, is damaged, or is no NIfTI file.
        """
        packed = file_bytes(path)
        notes: list[str] = []
        sha256 = hashlib.sha256(packed).hexdigest()
        if not packed:
            raise InputError(f"{path.name} is empty (0 bytes). Copy or export it again.")
        is_gzip = packed.startswith(_GZIP)
        if is_gzip != path.name.lower().endswith(".gz"):
            notes.append(f"the file is {'' if is_gzip else 'not '}gzip-compressed, against its name; read all the same")
        if not is_gzip:
            return cls(path.name, packed, sha256, notes)
        try:
            head = zlib.decompressobj(31).decompress(packed, _HEADER_BYTES)
            probe = cls(path.name, head, sha256, [])
            if header_only:
                return probe
            expected = probe.expected_bytes(probe.sizes())
            raw, rest = _gunzip(packed, expected + _SLACK_BYTES)
        except zlib.error as error:
            raise InputError(
                f"{path.name} is damaged: its compressed data do not add up ({error}). Copy or download it again."
            ) from error
        if rest or len(raw) > expected:
            notes.append("the file holds data behind the last voxel; ignored")
        return cls(path.name, raw, sha256, notes)

    def refuse(self, reason: str) -> InputError:
        """The error to raise, with the file's name before the reason."""
        return InputError(f"{self.name}: {reason}")

    def _parse(self, raw: bytes) -> Nifti1Header:
        for kind, start, magic in ((Nifti1Header, 344, b"n+1\0"), (Nifti2Header, 4, b"n+2\0")):
            size = kind.sizeof_hdr
            if raw[start : start + 4] == magic and len(raw) >= size:
                return self._checked(kind, raw[:size])
        if raw[344:348] == b"ni1\0":
            raise self.refuse("it is the header of a .hdr/.img pair. Convert the pair to one .nii.gz file.")
        for start, magic, reason in _FOREIGN:
            if raw[start : start + len(magic)] == magic:
                raise self.refuse(f"this is not a NIfTI file: {reason}.")
        if len(raw) < 348:
            raise self.refuse(f"it ends inside the header ({len(raw)} bytes). Copy or download it again.")
        if int.from_bytes(raw[:4], "little") == 348 or int.from_bytes(raw[:4], "big") == 348:
            raise self.refuse(
                "it is an Analyze file or a NIfTI file with a damaged header (the NIfTI mark is missing), so its "
                "orientation is unknown. Convert it again from the original, for example with dcm2niix."
            )
        raise self.refuse("this is not a NIfTI file (.nii or .nii.gz). Convert the scan, for example with dcm2niix.")

    def _checked(self, kind: type[Nifti1Header], raw: bytes) -> Nifti1Header:
        try:
            header = kind.from_fileobj(io.BytesIO(raw), check=False)
            # As stored, because the repair below turns a spacing of 0 into 1.
            self.zooms_mm = np.asarray(header["pixdim"][1:4], dtype=np.float64)
            header.check_fix(logger=_SILENT, error_level=_FATAL_LEVEL)
        except (HeaderDataError, ValueError, KeyError, OverflowError) as error:
            raise self.refuse(f"its header is damaged ({error}). Copy or convert it again.") from error
        return header

    def sizes(self) -> tuple[int, ...]:
        """Sizes along each axis as the header says, checked against what a file can hold."""
        ndim = int(self.header["dim"][0])
        if not 1 <= ndim <= 7:
            raise self.refuse(f"its header is damaged (it claims {ndim} dimensions). Copy or convert it again.")
        sizes = tuple(int(n) for n in self.header["dim"][1 : ndim + 1])
        if min(sizes) < 1:
            raise self.refuse(f"its header is damaged (sizes {sizes_text(sizes)}). Copy or convert it again.")
        if np.prod([float(n) for n in sizes]) > MAX_VOXELS:
            raise self.refuse(f"its header claims {sizes_text(sizes)} voxels, more than any head scan; it is damaged.")
        return sizes

    def shape(self) -> tuple[int, int, int]:
        """The three sizes; a fourth axis of length 1 is dropped with a note."""
        sizes = self.sizes()
        if len(sizes) > 3 and all(n == 1 for n in sizes[3:]):
            self.notes.append("a 4D file with a single volume; read as 3D")
            sizes = sizes[:3]
        if len(sizes) < 3:
            raise self.refuse(f"it is {len(sizes)}D ({sizes_text(sizes)}). Pass a 3D scan, not a single slice.")
        if len(sizes) == 4 and self.volume is not None:
            if self.volume >= sizes[3]:
                raise self.refuse(f"it holds {sizes[3]} volumes ({sizes_text(sizes)}), too few for the channels named.")
            sizes = sizes[:3]
        if len(sizes) > 3:
            count = int(np.prod(sizes[3:]))
            raise VolumesError(
                f"{self.name}: it holds {count} volumes in one {len(sizes)}D file ({sizes_text(sizes)}), and one file "
                "per sequence is wanted, because the order inside differs between data sets. Split it (fslsplit, or "
                "nibabel.funcs.four_to_three) and name the parts by their sequences."
            )
        x, y, z = sizes
        return x, y, z

    def expected_bytes(self, sizes: tuple[int, ...]) -> int:
        """Bytes up to and with the last voxel."""
        return int(self._offset() + np.prod(sizes, dtype=np.int64) * self._dtype().itemsize)

    def _offset(self) -> int:
        value = float(self.header["vox_offset"])
        # Some writers leave 0 although the voxels of a single file follow the header.
        least = int(self.header.single_vox_offset)
        if not np.isfinite(value) or value != int(value) or value > 2**31 or (0 != value < least):
            raise self.refuse(f"its header is damaged (voxels at byte {value:g}). Copy or convert it again.")
        return int(value) or least

    def _dtype(self) -> np.dtype[np.generic]:
        try:
            dtype: np.dtype[np.generic] = self.header.get_data_dtype()
        except (HeaderDataError, KeyError, TypeError) as error:
            raise self.refuse(f"its header is damaged (voxel type {int(self.header['datatype'])}).") from error
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise self.refuse(f"its voxels are of type {dtype.name} (colour, complex or extended). Pass a plain scan.")
        return dtype

    def voxels(self, shape: tuple[int, int, int]) -> Array:
        """Stored values ``(X, Y, Z)``, a view into the file's bytes."""
        expected, found = self.expected_bytes(shape if self.volume is None else self.sizes()), len(self.raw)
        if found < expected:
            raise self.refuse(
                f"it is cut short: {found} of {expected} bytes are there "
                f"(the header says {sizes_text(shape)}). Copy or download it again."
            )
        count = int(np.prod(shape))
        start = self._offset() + (self.volume or 0) * count * self._dtype().itemsize
        flat = np.frombuffer(self.raw, self._dtype(), count, start)
        return flat.reshape(shape, order="F")

    def slope_intercept(self) -> tuple[float, float]:
        """The header's scaling; 1 and 0 where it has none."""
        try:
            slope, intercept = self.header.get_slope_inter()
        except HeaderDataError as error:
            raise self.refuse(f"its header is damaged ({error}). Copy or convert it again.") from error
        return (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0.0))

    def scaled(self, stored: Array) -> Array:
        """Stored values with the header's scaling applied in float64; as stored where there is none."""
        slope, intercept = self.slope_intercept()
        if (slope, intercept) == (1.0, 0.0):
            return stored
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: NDArray[np.float64] = stored.astype(np.float64) * slope + intercept
        return scaled

    def forms(self) -> SpatialForms:
        """The header's own statement of where the voxels lie; a damaged qform counts as absent."""
        qform_code, sform_code = int(self.header["qform_code"]), int(self.header["sform_code"])
        if qform_code <= 0:
            return SpatialForms(0, max(sform_code, 0), None)
        if np.isfinite(self.zooms_mm).all() and (self.zooms_mm != 0).all():
            # An invalid quaternion counts as no qform, below.
            with contextlib.suppress(HeaderDataError, ValueError), np.errstate(all="ignore"):
                qform = np.asarray(self.header.get_qform(), dtype=np.float64)
                if np.isfinite(qform).all():
                    fields = {name: np.array(self.header[name], np.float32) for name in QUATERNION}
                    return SpatialForms(qform_code, max(sform_code, 0), qform, fields)
        if sform_code > 0:
            self.notes.append("the qform in the header is damaged; the sform was used")
            return SpatialForms(0, sform_code, None)
        self._check_spacing(self.zooms_mm)
        raise self.refuse("the orientation in its header (qform) is damaged. Convert it again from the original.")

    def grid(self) -> tuple[Grid, SpatialForms]:
        """The grid by sform, else qform."""
        shape = self.shape()
        forms = self.forms()
        if forms.sform_code > 0:
            affine = np.asarray(self.header.get_sform(), dtype=np.float64)
        elif forms.qform is not None:
            self._check_spacing(self.zooms_mm)
            affine = forms.qform
        else:
            raise self.refuse(
                "its header has no orientation (qform and sform codes are both 0), so left and right cannot be told "
                "apart. Convert it again from the original, for example with dcm2niix; if you know how it is stored, "
                "write that into the header (fslorient -setsform, or nibabel)."
            )
        try:
            grid = Grid(shape, affine)
        except InputError as error:
            remedy = (
                "Registrations with more than six degrees of freedom leave such headers: write it on a straight grid "
                "(nearest neighbours for a label map), or convert it again from the original."
                if "sheared" in str(error)
                else "Its header is damaged: convert it again from the original."
            )
            raise self.refuse(f"{error}. {remedy}") from error
        self._check_spacing(np.asarray(grid.spacing_mm))
        self._compare_forms(grid, forms)
        return grid, forms

    def _check_spacing(self, spacing: NDArray[np.float64]) -> None:
        low, high = SPACING_RANGE_MM
        shown = " x ".join(f"{s:.4g}" for s in spacing)
        if not np.isfinite(spacing).all() or (spacing == 0).any():
            raise self.refuse(f"a voxel spacing is zero or missing ({shown} mm). Convert it again from the original.")
        if (np.abs(spacing) < low).any() or (np.abs(spacing) > high).any():
            raise self.refuse(
                f"voxels of {shown} mm are not those of a head scan; the header is damaged or holds another unit "
                "than millimetres. Convert it again from the original."
            )

    def _compare_forms(self, grid: Grid, forms: SpatialForms) -> None:
        if forms.sform_code <= 0 or forms.qform is None:
            return
        try:
            apart_mm = grid.offset_mm(Grid(grid.shape, forms.qform))
        except InputError:
            self.notes.append("the qform in the header is damaged; the sform was used")
            return
        if np.linalg.det(grid.affine[:3, :3]) * np.linalg.det(forms.qform[:3, :3]) < 0:
            raise self.refuse(
                "qform and sform in its header contradict each other: one is the mirror image of the other, so that "
                "left and right cannot be told apart. Set both to the right one (fslorient -copysform2qform or "
                "-copyqform2sform), or convert it again from the original."
            )
        if apart_mm > FORM_TOLERANCE_MM:
            self.notes.append(f"qform and sform in the header place voxels up to {apart_mm:.1f} mm apart; sform used")


def sizes_text(shape: tuple[int, ...]) -> str:
    """For messages: ``240x240x155``."""
    return "x".join(str(n) for n in shape)


def _gunzip(packed: bytes, limit: int) -> tuple[bytes, bool]:
    """Decompressed bytes, at most ``limit``, and whether there was more. The checksum of each gzip member is tested."""
    parts: list[bytes] = []
    total, rest = 0, packed
    while rest.startswith(_GZIP):
        member = zlib.decompressobj(31)
        part = member.decompress(rest, limit - total + 1)
        parts.append(part)
        total += len(part)
        if total > limit:
            return b"".join(parts)[:limit], True
        if not member.eof:
            raise zlib.error(f"cut short after {total} bytes")
        rest = member.unused_data
    return b"".join(parts), bool(rest.strip(b"\0"))
