"""Reading a visit's files into a :class:`~brats_seg.core.scans.Study`, and what they say of it besides."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from pathlib import Path

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
from brats_seg.files.sidecar import sidecar_path
from brats_seg.files.visit_table import parse_when, read_sessions

_READERS = 4
_SIDECAR_KEYS = ("AcquisitionDateTime", "AcquisitionDate", "StudyDate", "SeriesDate")


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


def scan_date(files: Timepoint) -> str:
    """When a study was scanned: ``2024-01-31``, ``day 35`` where only an offset is known, or nothing.

    Looked for in the ``.json`` beside the scans (as dcm2niix writes it), the sessions table of BIDS and the name of the
    folder; of DICOM it is the Study Date. A table or sidecar that cannot be read says nothing here: no result hangs on
    it.
    """
    if isinstance(files, DicomTimepoint):
        return files.day.isoformat() if files.day else ""
    return next((words for path in files.files.values() for words in _dates(path)), "")


def _dates(path: Path) -> Iterator[str]:
    with suppress(OSError, ValueError):
        content = json.loads(sidecar_path(path).read_text(encoding="utf-8-sig"))
        held = content if isinstance(content, dict) else {}
        for key in _SIDECAR_KEYS:
            if day := parse_when(str(held.get(key, "")).split("T")[0]):
                yield day.isoformat()
    for folder in list(path.resolve().parents)[:2]:  # the folder of the scans, or the one above anat
        table = folder.parent / f"{folder.parent.name}_sessions.tsv"
        with suppress(InputError):
            when = read_sessions(table).get(folder.name) if table.is_file() else None
            if when is not None:
                yield when.isoformat() if isinstance(when, date) else f"day {when}"
        if day := parse_when(folder.name):
            yield day.isoformat()


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
