"""Reading a visit's files into a :class:`~brats_seg.core.study.Study`."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Array
from brats_seg.core.study import MRSequence, Study, Timepoint
from brats_seg.files.nifti import ReadResult, file_sha256, read_image, volume_sha256

_READERS = 4


def load_study(
    files: Timepoint, *, reference: MRSequence | None = None, allow_missing_orientation: bool = False
) -> Study:
    """The scans of one visit, checked.

    Args:
        files: as found by :func:`~brats_seg.files.find.find_study`.
        reference: the sequence on whose grid results are written; see ``Study.reference_sequence``.
        allow_missing_orientation: as in :func:`~brats_seg.files.nifti.read_image`.

    Raises:
        InputError: if a file is not one readable 3D scan, is a mask, or stands for two sequences.
    """
    results = load_files(files, allow_missing_orientation=allow_missing_orientation)
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


def load_files(files: Timepoint, *, allow_missing_orientation: bool = False) -> dict[MRSequence, ReadResult]:
    """Each file with its own notes and geometry statement, read side by side.

    Raises:
        InputError: naming the sequence of the first file that is wrong.
    """

    def read(item: tuple[MRSequence, Path]) -> ReadResult:
        sequence, path = item
        try:
            volume = files.volumes.get(sequence)
            return read_image(path, allow_missing_orientation=allow_missing_orientation, volume=volume)
        except InputError as error:
            raise InputError(f"{sequence.title}: {error}") from error

    # Decompression releases the interpreter lock, so threads help where there is more than one core.
    with ThreadPoolExecutor(max_workers=_READERS) as pool:
        return dict(zip(files.files, pool.map(read, files.files.items()), strict=True))


def scan_sha256(files: Timepoint, sequence: MRSequence) -> str:
    """Checksum of a scan's file, or of its volume of a file that holds several.

    Raises:
        InputError: if the file cannot be read.
    """
    sha256 = file_sha256(files.files[sequence])
    return volume_sha256(sha256, files.volumes[sequence]) if sequence in files.volumes else sha256


def _refuse_repeats(files: Timepoint, results: dict[MRSequence, ReadResult]) -> None:
    for (one, a), (other, b) in itertools.combinations(results.items(), 2):
        if a.sha256 == b.sha256 or _same_voxels(a.volume.data, b.volume.data):
            raise InputError(
                f"{one.title} and {other.title} are the same image ({files.files[one].name} and "
                f"{files.files[other].name}). Pass the right file for one of them, or leave it out."
            )


def _same_voxels(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    step = (slice(None, None, 8),) * 3
    return np.array_equal(a[step], b[step]) and np.array_equal(a, b)
