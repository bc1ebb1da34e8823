"""Damaged, hostile and unfit DICOM: a folder of each kind, and the word its refusal has to hold.

Each kind begins from a sound exam of one T1 series and one FLAIR series, in one folder each, and spoils it.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from dicom_files import Exam, write_study
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, generate_uid

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.study import MRSequence

Kind = Callable[[Path], None]
KINDS: dict[str, tuple[Kind, str]] = {}
"""By name, what spoils a sound exam, and a word of the refusal."""
SHAPE = (14, 12, 9)
SPACING_MM = (6.0, 6.5, 8.5)

J2K, JPEG_LS, JPEG_LOSSLESS, RLE = (
    f"1.2.840.10008.1.2.{end}" for end in ("4.90", "4.80", "4.70", "5")
)  # fmt: skip


def sound_exam(folder: Path, *, exam: Exam | None = None, seed: int = 5) -> Path:
    """Two series of noise within an ellipsoid."""
    grid = Grid(SHAPE, np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0]))
    values = np.random.default_rng(seed).integers(0, 900, (2, *SHAPE)).astype(np.float32)
    scans = dict(zip((MRSequence.T1, MRSequence.FLAIR), values, strict=True))
    return write_study(folder, {s: Volume(v, grid) for s, v in scans.items()}, exam=exam)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def kind(word: str) -> Callable[[Kind], Kind]:
    def add(make: Kind) -> Kind:
        KINDS[make.__name__] = (make, word)
        return make

    return add


def on_bytes(name: str, word: str, change: Callable[[bytes], bytes]) -> None:
    """A kind that changes the bytes of every file."""

    def make(folder: Path) -> None:
        for path in files(folder):
            path.write_bytes(change(path.read_bytes()))

    KINDS[name] = (make, word)


def on_header(name: str, word: str, change: Callable[[FileDataset, int], Any], *, every: bool = True) -> None:
    """A kind that changes the header of every file, or of the third file of each series."""

    def make(folder: Path) -> None:
        for number, path in enumerate(files(folder)):
            if every or number % SHAPE[2] == 2:
                image = pydicom.dcmread(path)
                change(image, number)
                image.save_as(path)

    KINDS[name] = (make, word)


def setting(**values: Any) -> Callable[[FileDataset, int], None]:
    def change(image: FileDataset, _: int) -> None:
        for name, value in values.items():
            setattr(image, name, value)

    return change


def without(name: str) -> Callable[[FileDataset, int], None]:
    def change(image: FileDataset, _: int) -> None:
        delattr(image, name)

    return change


def spliced(tag: bytes, content: bytes) -> Callable[[bytes], bytes]:
    """Put bytes before an element of a file in explicit little endian."""

    def change(raw: bytes) -> bytes:
        place = raw.index(tag)
        return raw[:place] + content + raw[place:]

    return change


def replaced(tag: bytes, content: bytes) -> Callable[[bytes], bytes]:
    """Overwrite the first bytes of an element."""

    def change(raw: bytes) -> bytes:
        place = raw.index(tag)
        return raw[:place] + content + raw[place + len(content) :]

    return change


PIXELS, ROWS, STUDY_UID = b"\xe0\x7f\x10\x00OW", b"\x28\x00\x10\x00US", b"\x20\x00\x0d\x00UI"
_ITEM, _SEQUENCE = b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"
_PRIVATE = b"\x29\x00\x10\x11UN\0\0\xff\xff\xff\xff"

# Files that are cut, empty or something else
on_bytes("empty_files", "no DICOM", lambda raw: b"")
on_bytes("text_called_dicom", "no DICOM", lambda raw: b"This is no image. " * 40)
on_bytes("cut_before_the_mark", "no DICOM", lambda raw: raw[:131])
on_bytes("cut_after_the_mark", "cannot be read", lambda raw: raw[:132])
on_bytes("cut_in_the_header", "cannot be read", lambda raw: raw[: raw.index(STUDY_UID) + 4])
on_bytes("cut_in_the_pixels", "damaged", lambda raw: raw[:-100])
on_bytes("zeros_behind_the_mark", "cannot be read", lambda raw: raw[:132] + bytes(len(raw)))
on_bytes("noise_behind_the_mark", "cannot be read", lambda raw: raw[:132] + np.random.default_rng(1).bytes(4000))
on_bytes("group_length_of_odd_length", "cannot be read", replaced(b"\x02\x00\x00\x00UL", b"\x02\x00\x00\x00UL\x05\x00"))
on_bytes(
    "group_length_of_4_gib",
    "cannot be read",
    replaced(b"\x02\x00\x00\x00UL", b"\x02\x00\x00\x00OB\0\0\xf0\xff\xff\xff"),
)

# Lengths and types that are not so
on_bytes("pixels_of_4_gib", "damaged", lambda raw: replaced(PIXELS, PIXELS + b"\0\0\xf0\xff\xff\xff")(raw)[:-100])
on_bytes("element_longer_than_the_file", "cannot be used", spliced(ROWS, b"\x28\x00\x08\x00UT\0\0\xff\xff\xff\x7f"))
on_bytes("rows_of_another_type", "voxels", replaced(ROWS, b"\x28\x00\x10\x00LO"))
on_bytes("rows_without_length", "voxels", replaced(ROWS, ROWS + b"\0\0"))
on_bytes("unknown_type_of_value", "cannot be used", replaced(ROWS, b"\x28\x00\x10\x00??"))
on_bytes("sequences_without_end", "without end", spliced(STUDY_UID, (_SEQUENCE + _ITEM) * 20_000))
on_bytes("private_sequences_without_end", "without end", spliced(STUDY_UID, (_PRIVATE + _ITEM) * 20_000))
on_bytes("sequence_never_closed", "cannot be", spliced(STUDY_UID, _SEQUENCE + _ITEM))

_FAR = b"\xff\xff\xff\x7f"
on_bytes("private_element_longer_than_the_file", "cannot be used", spliced(ROWS, b"\x27\0\x10\x10UN\0\0" + _FAR))
on_bytes("private_creator_that_is_a_sequence", "cannot be", spliced(ROWS, b"\x27\0\x10\0SQ\0\0" + _FAR + _ITEM))
on_bytes("private_creator_of_unknown_type", "cannot be used", spliced(ROWS, b"\x27\0\x10\0\1\2\xff\xff"))

# Sizes
on_header("huge_matrix", "voxels", setting(Rows=65535, Columns=65535))
on_header("no_rows", "voxels", setting(Rows=0))
on_header("more_rows_than_pixels", "damaged", setting(Rows=2000, Columns=2000))
on_header("frames_without_number", "frames", setting(NumberOfFrames=2**31 - 1))
on_header("frames_nowhere", "frames", setting(NumberOfFrames=24))
on_header(
    "frames_not_described", "frames", setting(NumberOfFrames=5, PerFrameFunctionalGroupsSequence=Sequence([Dataset()]))
)
on_header("colour", "colour", setting(SamplesPerPixel=3, PhotometricInterpretation="RGB"))
on_header("inverted_grey", "MONOCHROME1", setting(PhotometricInterpretation="MONOCHROME1"))
on_header("more_bits_than_there_are", "damaged", setting(BitsStored=32, HighBit=31))
on_header("odd_high_bit", "bits", setting(HighBit=9))
on_header("bits_of_a_number_with_fraction", "bits", setting(BitsAllocated=64, BitsStored=64, HighBit=63))
on_header("palette", "PALETTE", setting(PhotometricInterpretation="PALETTE COLOR"))
on_header("endless_slope", "numbers", setting(RescaleSlope="1e300"))
on_header("one_value", "same value", lambda image, _: setattr(image, "PixelData", bytes(len(image.PixelData))))

# What has to be there
on_header("no_class", "SOP Class", without("SOPClassUID"))
on_header("no_series_uid", "UID", without("SeriesInstanceUID"))
on_header("no_study_uid", "UID", without("StudyInstanceUID"))
on_header("no_position", "position", without("ImagePositionPatient"))
on_header("no_orientation", "orientation", without("ImageOrientationPatient"))
on_header("no_spacing", "spacing", without("PixelSpacing"))
on_header("no_pixels", "pixel data", without("PixelData"))
on_header("one_slice_without_position", "position", without("ImagePositionPatient"), every=False)
on_header("one_slice_without_pixels", "pixel data", without("PixelData"), every=False)

# Geometry
on_header("no_size_of_pixels", "pixels", setting(PixelSpacing=[0, 0]))
on_header("position_is_no_number", "position", lambda i, _: i.__setitem__("ImagePositionPatient", _raw(i, b"a\\b\\c ")))
on_header(
    "position_of_four_numbers", "place", lambda i, _: i.__setitem__("ImagePositionPatient", _raw(i, b"1\\2\\3\\4 "))
)
on_header(
    "position_is_not_finite", "position", lambda i, _: i.__setitem__("ImagePositionPatient", _raw(i, b"nan\\0\\0 "))
)
on_header("position_outside_the_scanner", "position", setting(ImagePositionPatient=[1e30, 0, 0]))
on_header("directions_of_no_length", "right angles", setting(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]))
on_header("rows_along_columns", "right angles", setting(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]))
on_header("all_at_one_place", "place", setting(ImagePositionPatient=[0, 0, 0]))
on_header("gantry_tilt", "tilt", lambda image, number: _move(image, (0.0, 1.5 * (number % SHAPE[2]), 0.0)))
on_header("uneven_slices", "unevenly", lambda image, number: _move(image, (0.0, 0.0, 0.5 * (number % SHAPE[2]) ** 2)))


def _raw(image: FileDataset, value: bytes) -> Any:
    element = image["ImagePositionPatient"]
    return pydicom.dataelem.RawDataElement(element.tag, "DS", len(value), value, 0, False, True)


def _move(image: FileDataset, by: tuple[float, float, float]) -> None:
    image.ImagePositionPatient = [float(x) + d for x, d in zip(image.ImagePositionPatient, by, strict=True)]


@kind("missing")
def missing_slice(folder: Path) -> None:
    for path in files(folder):
        if pydicom.dcmread(path, stop_before_pixels=True).InstanceNumber == 6:
            path.unlink()


@kind("place")
def slice_twice(folder: Path) -> None:
    for path in files(folder)[:3]:
        image = pydicom.dcmread(path)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.save_as(path.with_name(f"copy{path.name}"))


@kind("SOP Instance UID")
def two_images_of_one_uid(folder: Path) -> None:
    for path in files(folder):
        image = pydicom.dcmread(path)
        image.PixelData = bytes(len(image.PixelData))
        image.save_as(path.with_name(f"copy{path.name}"))


@kind("2 patients")
def two_patients(folder: Path) -> None:
    other = sound_exam(folder.with_name("other"), exam=Exam(patient="Q-9", name="Roe^Richard"))
    for path in files(other):
        path.rename(folder / f"{path.parent.name}{path.name}")


@kind("1 slice")
def one_slice_of_each(folder: Path) -> None:
    for path in files(folder):
        if not path.name.endswith("00003"):
            path.unlink()


# Other objects
def _class(uid: str, modality: str) -> Callable[[FileDataset, int], None]:
    return setting(SOPClassUID=uid, Modality=modality)


on_header("computed_tomography", "CT", _class("1.2.840.10008.5.1.4.1.1.2", "CT"))
on_header("secondary_captures", "secondary captures", _class("1.2.840.10008.5.1.4.1.1.7", "MR"))
on_header("contours", "contours", _class("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT"))
on_header("documents", "PDF", _class("1.2.840.10008.5.1.4.1.1.104.1", "DOC"))
on_header("positron_emission", "PET", _class("1.2.840.10008.5.1.4.1.1.128", "PT"))
on_header("made_up_class", "unknown MR objects", _class("1.2.3.4.5.6.7", "MR"))
on_header("localisers", "localiser", setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
on_header("maps", "diffusion", setting(ImageType=["DERIVED", "SECONDARY", "ADC"]))
on_header("spine", "another part", setting(BodyPartExamined="CSPINE"))
on_header(
    "neither_times_nor_words",
    "neither",
    lambda image, _: [delattr(image, n) for n in ("EchoTime", "SeriesDescription")],
)


# Compression
def _compressed(name: str, word: str, syntax: str, frame: Callable[[FileDataset], bytes]) -> None:
    def change(image: FileDataset, _: int) -> None:
        image.file_meta.TransferSyntaxUID = UID(syntax)
        image.PixelData = encapsulate([frame(image)])
        image["PixelData"].is_undefined_length = True

    on_header(name, word, change)


def _siz(rows: int, columns: int) -> bytes:
    """The beginning of a JPEG 2000 codestream that claims a size."""
    size = struct.pack(">HHIIIIIIII", 41, 0, columns, rows, 0, 0, columns, rows, 0, 0)
    return b"\xff\x4f\xff\x51" + size + struct.pack(">HBBB", 1, 15, 1, 1) + bytes(60)


def _sof(marker: int, rows: int, columns: int) -> bytes:
    """The beginning of a JPEG or JPEG-LS image that claims a size."""
    return (
        b"\xff\xd8\xff" + bytes([marker]) + struct.pack(">HBHHB3s", 11, 16, rows, columns, 1, b"\1\x11\0") + bytes(60)
    )


_compressed("unknown_compression", "not read", "1.2.3.4.5.6", lambda image: b"\0" * 64)
_compressed("noise_for_jpeg_2000", "damaged", J2K, lambda image: np.random.default_rng(2).bytes(500))
_compressed("noise_for_jpeg_ls", "damaged", JPEG_LS, lambda image: np.random.default_rng(3).bytes(500))
_compressed("noise_for_jpeg_lossless", "damaged", JPEG_LOSSLESS, lambda image: np.random.default_rng(4).bytes(500))
_compressed("noise_for_rle", "damaged", RLE, lambda image: np.random.default_rng(5).bytes(500))
_compressed(
    "rle_of_a_thousand_segments", "damaged", RLE, lambda image: struct.pack("<16I", 1000, *[64] * 15) + bytes(64)
)
_compressed("huge_jpeg_2000", "65535", J2K, lambda image: _siz(65535, 65535))
_compressed("huge_jpeg_ls", "65535", JPEG_LS, lambda image: _sof(0xF7, 65535, 65535))
_compressed("huge_jpeg_lossless", "65535", JPEG_LOSSLESS, lambda image: _sof(0xC3, 65535, 65535))
_compressed("jpeg_2000_cut_short", "damaged", J2K, lambda image: _siz(image.Rows, image.Columns)[:60])
_compressed("jpeg_ls_cut_short", "damaged", JPEG_LS, lambda image: _sof(0xF7, image.Rows, image.Columns))
_compressed("jpeg_lossless_cut_short", "damaged", JPEG_LOSSLESS, lambda image: _sof(0xC3, image.Rows, image.Columns))
on_bytes(
    "compressed_by_word_alone", "damaged", lambda raw: raw.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
)
_compressed("empty_fragment", "damaged", J2K, lambda image: bytes(2))


@kind("deflated")
def deflate_bomb(folder: Path) -> None:
    for path in files(folder)[1:]:
        path.unlink()
    path = files(folder)[0]
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1.99")
    FileDataset("", Dataset(), file_meta=image.file_meta, preamble=bytes(128)).save_as(path)
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(4)) + packer.flush()
    path.write_bytes(path.read_bytes() + bomb)


# Archives and directories
def _only_archive(folder: Path, write_entries: Callable[[zipfile.ZipFile], None]) -> None:
    for path in files(folder):
        path.unlink()
    with zipfile.ZipFile(folder / "exam.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        write_entries(archive)


@kind("cannot be read")
def zip_bomb(folder: Path) -> None:
    """One entry that begins like DICOM and unpacks to 32 MiB; the test asks for less."""

    def entries(archive: zipfile.ZipFile) -> None:
        with archive.open("IM1", "w", force_zip64=True) as stream:
            stream.write(bytes(128) + b"DICM")
            stream.write(bytes(2**25))

    _only_archive(folder, entries)


@kind("damaged archive")
def zip_cut_short(folder: Path) -> None:
    kept = files(folder)[0].read_bytes()
    _only_archive(folder, lambda archive: archive.writestr("IM1", kept))
    path = folder / "exam.zip"
    path.write_bytes(path.read_bytes()[:-40])


@kind("password")
def zip_with_password(folder: Path) -> None:
    kept = files(folder)[0].read_bytes()
    _only_archive(folder, lambda archive: archive.writestr("IM1", kept))
    path = folder / "exam.zip"
    raw = bytearray(path.read_bytes())
    raw[6] |= 1  # the flag in the entry's own header, and in the directory at the end
    raw[raw.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(bytes(raw))


@kind("outside")
def zip_of_names_that_lead_out(folder: Path) -> None:
    """Entries as an unpacker would put them two folders up, and at the root."""
    raws = [path.read_bytes() for path in files(folder)]

    def entries(archive: zipfile.ZipFile) -> None:
        for number, raw in enumerate(raws):
            archive.writestr(("../../IM" if number % 2 else "/tmp/IM") + str(number), raw)

    _only_archive(folder, entries)


@kind("2 patients")
def zip_of_two_patients(folder: Path) -> None:
    two_patients(folder)
    raws = {path.name: path.read_bytes() for path in files(folder)}
    _only_archive(folder, lambda archive: [archive.writestr(name, raw) for name, raw in raws.items()] and None)


@kind("no DICOM")
def zip_in_a_zip(folder: Path) -> None:
    kept = files(folder)[0].read_bytes()
    _only_archive(folder, lambda archive: archive.writestr("IM1", kept))
    inner = (folder / "exam.zip").read_bytes()
    _only_archive(folder, lambda archive: archive.writestr("inner.zip", inner))


@kind("no MR images")
def directory_that_leads_elsewhere(folder: Path) -> None:
    """A DICOMDIR alone, whose entries point out of the folder."""
    image = pydicom.dcmread(files(folder)[0])
    for path in files(folder):
        path.unlink()
    record = Dataset()
    record.ReferencedFileID = ["..", "..", "..", "etc", "passwd"]
    record.DirectoryRecordType = "IMAGE"
    listing = Dataset()
    listing.SOPClassUID = "1.2.840.10008.1.3.10"
    listing.DirectoryRecordSequence = Sequence([record])
    meta = image.file_meta
    meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    FileDataset("", listing, file_meta=meta, preamble=bytes(128)).save_as(folder / "DICOMDIR")


@kind("no DICOM")
def link_in_a_circle(folder: Path) -> None:
    for path in files(folder):
        path.unlink()
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (folder / "lost").symlink_to(folder / "nowhere")
