"""The bytes of one DICOM file, and the values stored in them.

Every size a file claims is tested before memory is taken for it. Whatever else is wrong with one becomes a
:class:`DamagedFileError`, because pydicom and its decoders report damage in many kinds of exception.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brats_seg.core.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

    from brats_seg.core.grid import Array

MAX_SIDE = 4096
"""Rows or columns of an image; the largest MR matrices are 1024."""
MAX_VOXELS = 2**27
"""Voxels of one series: 512 x 512 x 512. As float32 they take 512 MiB."""
MAX_FILE_BYTES = 3 * 2**27
"""A file with that many voxels of 16 bits, and room for its header."""

_DEFLATED = "1.2.840.10008.1.2.1.99"
_PILLOW = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
"""JPEG baseline and JPEG 2000; with JPEG-LS below, GDCM would read them too, but ends the process on damaged ones."""
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_APART = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
"""JPEG extended and lossless: decoded in another process."""
_DECODERS = {**dict.fromkeys(_PILLOW, "pillow"), **dict.fromkeys(_JPEG_LS, "pyjpegls")}
_DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, NotImplementedError, OSError),
    *(RuntimeError, TypeError, ValueError, struct.error, zlib.error, zipfile.BadZipFile),
)  # fmt: skip
"""What pydicom, GDCM and zipfile raise on damaged content; a nesting without end is a RecursionError (RuntimeError)."""


class DamagedFileError(InputError):
    """A file that claims to be DICOM cannot be read, or holds what no MR image can."""


@dataclass(frozen=True, order=True)
class DicomSource:
    """Where a DICOM file lies.

    Attributes:
        path: a file, or the archive that holds it.
        member: name within the archive; empty for a file of its own. Never used as a path.
    """

    path: Path
    member: str = ""

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            DamagedFileError: if it is larger than :data:`MAX_FILE_BYTES`, or cannot be read.
        """
        try:
            if self.member:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                    raw = stream.read(MAX_FILE_BYTES + 1)
            else:
                with self.path.open("rb") as file:
                    # A read is asked for no more than there is, because Python takes the memory at once.
                    raw = file.read(min(self.path.stat().st_size, MAX_FILE_BYTES + 1))
        except _DAMAGE as error:
            raise DamagedFileError(_words(error)) from error
        if len(raw) > MAX_FILE_BYTES:
            raise DamagedFileError(f"it holds more than {MAX_FILE_BYTES >> 20} MiB, which no MR image does")
        return raw


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file begins as DICOM does: with the mark behind 128 bytes, or (old files) with a first data element."""
    if head[128:132] == b"DICM":
        return True
    group, element = struct.unpack("<HH", head[:4]) if len(head) >= 132 else (0, 0)
    return group == 8 and element in (0, 1, 5, 8, 0x16, 0x18)


def legible(text: str) -> str:
    """A code from a header for a message: no more than a code can be, whatever the header holds."""
    return re.sub(r"[^\w. ,()/-]", "", text)[:64]


def read_values(sources: Iterable[DicomSource], shape: tuple[int, int]) -> Iterator[tuple[DicomSource, bytes, Array]]:
    """Each file with its bytes and its stored values ``(frames, rows, columns)``, before scaling; in any order.

    Args:
        shape: rows and columns that their headers claim.

    Raises:
        DamagedFileError: if the pixel data of one are missing, cut short, damaged, or of another size.
    """
    apart: list[tuple[DicomSource, bytes]] = []
    for source in sources:
        raw = source.read()
        frames = _frames(raw, shape)
        if frames is None:
            apart.append((source, raw))
        else:
            yield source, raw, frames
    if apart:
        from brats_seg.files.gdcm_decoder import decode_apart  # noqa: PLC0415 - few scans need it

        with damage_explained():
            decoded = decode_apart([raw for _, raw in apart])
        for (source, raw), values in zip(apart, decoded, strict=True):
            yield source, raw, _checked(values, parse(raw), shape)


def _frames(raw: bytes, shape: tuple[int, int]) -> Array | None:
    """Values of one file; None of one that has to be decoded apart."""
    from pydicom.pixels.utils import pixel_array  # noqa: PLC0415 - only for DICOM

    with damage_explained():
        dataset = parse(raw)
        _check_pixels(dataset, shape)
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        if syntax in _APART:
            return None
        return _checked(pixel_array(dataset, raw=True, decoding_plugin=_DECODERS.get(syntax, "")), dataset, shape)


def _checked(values: Array, dataset: Dataset, shape: tuple[int, int]) -> Array:
    frames = values[None] if values.ndim == 2 else values
    if frames.shape[1:] != shape:
        raise DamagedFileError(f"its images are {frames.shape[1:]} and not {shape} as the header says")
    above = frames.dtype.itemsize * 8 - int(dataset.BitsStored)
    return (frames << above) >> above if above else frames  # overlays and rubbish may lie in the bits above


@contextmanager
def damage_explained() -> Iterator[None]:
    """Whatever libraries raise on damaged content as a :class:`DamagedFileError`; their warnings are kept quiet."""
    from pydicom.errors import BytesLengthException, InvalidDicomError  # noqa: PLC0415 - only for DICOM

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except (*_DAMAGE, BytesLengthException, InvalidDicomError) as error:
        raise DamagedFileError(_words(error)) from error


def _words(error: Exception) -> str:
    """An error in few words; without quoted content, which may be a name."""
    if isinstance(error, RecursionError):
        return "its sequences are nested without end"
    if isinstance(error, OSError):
        return f"it cannot be read ({error.strerror or type(error).__name__})"
    return f"it is damaged ({type(error).__name__})"


def parse(raw: bytes, *, attributes: Sequence[BaseTag] = ()) -> Dataset:
    """A file as pydicom sees it: everything, or some attributes and no pixels."""
    from pydicom import config, dcmread  # noqa: PLC0415 - only for DICOM

    if _DEFLATED.encode() in raw[128:1024]:
        raise DamagedFileError("it is stored deflated, which is not read. Export it uncompressed, or as JPEG 2000")
    config.settings.reading_validation_mode = config.IGNORE
    tags = list(attributes) or None
    return dcmread(io.BytesIO(raw), stop_before_pixels=bool(attributes), force=True, specific_tags=tags)


def _check_pixels(dataset: Dataset, shape: tuple[int, int]) -> None:
    """See that there is something to decode, and that a compressed image claims no other size than its header."""
    from pydicom.encaps import generate_frames  # noqa: PLC0415 - only for DICOM
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415
    from pydicom.uid import RLELossless  # noqa: PLC0415

    if not dataset.get("PixelData"):
        raise DamagedFileError("it holds no pixel data")
    if int(dataset.HighBit) + 1 != int(dataset.BitsStored) or not 1 <= int(dataset.BitsStored) <= 32:
        raise DamagedFileError("its values are stored in unusual bits (High Bit and Bits Stored do not fit)")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_private or not syntax.is_transfer_syntax or not get_decoder(syntax).is_available:
        raise DamagedFileError(
            f"it is compressed in a way that is not read ({legible(syntax.name)}). Export it uncompressed"
        )
    if not syntax.is_compressed:
        return
    for frame in generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)):
        size = shape if syntax == RLELossless else _codestream_size(frame)
        if size is None:
            raise DamagedFileError("it is damaged (its compressed image has no beginning)")
        if size != shape:
            raise DamagedFileError(
                f"its compressed image is {size[1]} x {size[0]} and its header says {shape[1]} x {shape[0]}"
            )


def _codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream states; None where it is none of these."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if 0 <= start < 256:
        x, y, x0, y0 = struct.unpack(">4I", frame[start + 8 : start + 24])
        return y - y0, x - x0
    place = 2
    while frame[:2] == b"\xff\xd8" and place + 9 <= len(frame) and frame[place] == 0xFF:
        marker, length = frame[place + 1], int.from_bytes(frame[place + 2 : place + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack(">2H", frame[place + 5 : place + 9])
            return rows, columns
        place += 2 + length
    return None
