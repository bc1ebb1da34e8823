"""Reading a visit's files into a :class:`~brats_seg.core.scans.Study`."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Array
from brats_seg.core.scans import Study
from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.files.dicom import SCANNER_FORMS, read_series, series_sha256
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.files.file_bytes import file_sha256
from brats_seg.files.header import SpatialForms
from brats_seg.files.nifti import ReadResult, read_forms, read_image, volume_sha256

_READERS = 4


def load_study(files: Timepoint, *, reference: MRSequence | None = None) -> Study:
    """The scans of one visit, read side by side and checked.

    Args:
        files: as found by :func:`~brats_seg.files.find.find_study`.
        reference: the sequence on whose grid results are written; see ``Study.reference_sequence``.

    Raises:
        InputError: if a file is not one readable 3D scan, is a mask, or stands for two sequences; what a DICOM exam
            leaves open.
    """
    if files.question:
        raise InputError(files.question)

    def read(sequence: MRSequence) -> ReadResult:
        try:
            return read_scan(files, sequence)
        except InputError as error:
            raise InputError(f"{sequence.title}: {error}") from error

    # Decompression releases the interpreter lock, so threads help where there is more than one core.
    with ThreadPoolExecutor(max_workers=_READERS) as pool:
        results = dict(zip(files.files, pool.map(read, files.files), strict=True))
    _refuse_repeats(files, results)
    notes = [*files.notes]
    for sequence, result in results.items():
        notes += [f"{sequence.title}: {note}" for note in result.notes]
    return Study(
        id=files.id,
        images={sequence: result.volume for sequence, result in results.items()},
        sha256={sequence: result.sha256 for sequence, result in results.items()},
        reference=reference,
        notes=tuple(notes),
    )


def read_scan(files: Timepoint, sequence: MRSequence) -> ReadResult:
    """One scan of a visit, from its file or its DICOM series.

    Raises:
        InputError: as :func:`~brats_seg.files.nifti.read_image` and :func:`~brats_seg.files.dicom.read_series`.
    """
    if isinstance(files, DicomTimepoint):
        return read_series(files.series(sequence))
    return read_image(files.files[sequence], volume=files.volumes.get(sequence))


def scan_title(files: Timepoint, sequence: MRSequence) -> str:
    """What messages call a scan: its file's name, with its folder where another is called so, or ``series 5``."""
    if isinstance(files, DicomTimepoint):
        return files.series(sequence).title
    path = files.files[sequence]
    alike = sum(other.name == path.name for other in files.files.values())
    return path.name if alike == 1 else f"{path.parent.name}/{path.name}"


def scan_forms(files: Timepoint, sequence: MRSequence) -> SpatialForms:
    """How a scan says where its voxels lie, without its voxels; for writing results the same way.

    Raises:
        InputError: if it is not a readable file.
    """
    return SCANNER_FORMS if isinstance(files, DicomTimepoint) else read_forms(files.files[sequence])


def scan_sha256(files: Timepoint, sequence: MRSequence) -> str:
    """Checksum of a scan's file, of its volume of a file that holds several, or of its DICOM series.

    Raises:
        InputError: if the file cannot be read.
    """
    if isinstance(files, DicomTimepoint):
        return series_sha256(files.series(sequence))
    sha256 = file_sha256(files.files[sequence])
    return volume_sha256(sha256, files.volumes[sequence]) if sequence in files.volumes else sha256


def input_hashes(timepoint: Timepoint) -> dict[str, str]:
    """Checksum of each scan, and of a label map that is given (``mask``).

    Raises:
        InputError: if one cannot be read.
    """
    found = {sequence.value: scan_sha256(timepoint, sequence) for sequence in timepoint.files}
    return found if timepoint.mask is None else {**found, "mask": file_sha256(timepoint.mask)}


def _refuse_repeats(files: Timepoint, results: dict[MRSequence, ReadResult]) -> None:
    for (one, a), (other, b) in itertools.combinations(results.items(), 2):
        if a.sha256 == b.sha256 or _same_voxels(a.volume.data, b.volume.data):
            raise InputError(
                f"{one.title} and {other.title} are the same image ({scan_title(files, one)} and "
                f"{scan_title(files, other)}). Pass the right file for one of them, or leave it out."
            )


def _same_voxels(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    step = (slice(None, None, 8),) * 3
    return np.array_equal(a[step], b[step]) and np.array_equal(a, b)
