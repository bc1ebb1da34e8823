"""When a study was scanned, where its files say so; NIfTI itself does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.study import Timepoint
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.files.sidecar import sidecar_path
from brats_seg.files.visit_table import parse_when, read_sessions

_SIDECAR_KEYS = ("AcquisitionDateTime", "AcquisitionDate", "StudyDate", "SeriesDate")


def scan_date(files: Timepoint) -> str:
    """``2024-01-31``, ``day 35`` where only an offset is known, or nothing.

    Looked for in the ``.json`` beside the scans (as dcm2niix writes it), the sessions table of BIDS and the name of the
    folder; of DICOM it is the Study Date. A table or sidecar that cannot be read says nothing here: no result hangs on
    it.
    """
    if isinstance(files, DicomTimepoint):
        return files.day.isoformat() if files.day else ""
    return next((words for path in files.files.values() for words in _words(path)), "")


def _words(path: Path) -> Iterator[str]:
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
