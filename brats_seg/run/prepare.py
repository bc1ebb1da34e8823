"""Scans as they come, aligned and without skull: for ``segment``, or written for any other tool."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume
from brats_seg.core.plain import plain
from brats_seg.core.scans import Study
from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.core.visit import RunRecord
from brats_seg.core.words import Tick
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.files.load import load_study
from brats_seg.files.nifti import read_label_map
from brats_seg.files.output import OutputFolder, file_hashes, result_folder
from brats_seg.files.tables import write_json, write_run
from brats_seg.files.write import write_volume
from brats_seg.imaging.brain import with_skull
from brats_seg.models.brain import BrainNetworks, open_brain_networks
from brats_seg.models.hd_bet import HdBetNetworks, open_hd_bet
from brats_seg.models.record import peak_memory_mib, versions
from brats_seg.run.options import SegmentOptions
from brats_seg.segment.memory import own_threads
from brats_seg.segment.strip import StrippedStudy, strip


def read_brain_mask(path: Path) -> Volume:
    """A mask of the brain.

    Raises:
        InputError: if the file cannot be read, or holds more than one number beside 0.
    """
    mask = read_label_map(path)
    values = np.unique(mask.data)
    if len(values) != 2 or values[0] != 0:
        found = ", ".join(str(value) for value in values[:6])
        raise InputError(f"{path.name} is no brain mask: it holds the values {found}, and a mask 0 and one more")
    return mask


def inputs_of(study: Study) -> dict[str, dict[str, str]]:
    """By sequence, the checksum of its file, empty for a study in memory, and its grid in words."""
    return {
        sequence.value: {"sha256": study.sha256.get(sequence, ""), "grid": study.images[sequence].grid.describe()}
        for sequence in study.present
    }


def series_chosen(files: Study | Timepoint) -> tuple[str, ...]:
    """Which DICOM series is which sequence and why, in words; nothing of scans that are none."""
    return files.exam.decisions if isinstance(files, DicomTimepoint) else ()


def strip_study(study: Study, heads: Mapping[MRSequence, str], options: SegmentOptions) -> StrippedStudy | None:
    """The study aligned and without skull, by mask or networks; None where every scan is skull-stripped already.

    Args:
        heads: of :func:`~brats_seg.imaging.brain.with_skull`.

    Raises:
        InputError: if the mask is none or not needed, no brain is found, or the sequences cannot be aligned.
    """
    if heads:
        mask = None if options.brain_mask is None else read_brain_mask(options.brain_mask)
        return strip(study, heads, _networks(options), mask=mask)
    if options.brain_mask is not None:
        raise InputError(f"the scans of {study.id} are skull-stripped already; leave --brain-mask away")
    return None


def _networks(options: SegmentOptions) -> Callable[[], BrainNetworks | HdBetNetworks]:
    if options.brain_extraction == "hd-bet":
        return partial(open_hd_bet, threads=own_threads())
    return partial(open_brain_networks, options.engine, threads=own_threads())


def prepare_study(
    files: Timepoint, output: Path, options: SegmentOptions, *, tick: Tick | None = None
) -> tuple[StrippedStudy, RunRecord]:
    """Write a study's sequences on one grid of 1 mm, without skull, to ``output/<id>``.

    Args:
        output: folder that gets a folder ``<id>``.
        options: those that say how a brain is found, whose space it is laid in, and what to do with earlier results.
        tick: called with the name of each step before it runs.

    Raises:
        BratsSegError: the family of :mod:`brats_seg.core.errors`; nothing is left half-written.
    """
    tick = tick or (lambda _: None)
    began = time.perf_counter()
    with OutputFolder(result_folder(output, files), exists=options.exists) as folder:
        tick("read")
        study = load_study(files, reference=options.reference)
        tick("extract")
        stripped = strip_study(study, with_skull(study), options)
        if stripped is None:  # aligned all the same
            stripped = strip(study, {}, _networks(options))
        tick("write")
        for sequence, volume in stripped.study.images.items():
            write_volume(volume, folder.path / f"{study.id}_{sequence.value}.nii.gz")
        write_volume(Volume(stripped.brain, stripped.grid), folder.path / f"{study.id}_brainmask.nii.gz")
        write_json(transforms(stripped), folder.path / f"{study.id}_transforms.json")
        settings = options.to_dict()
        record = RunRecord(
            study_id=study.id,
            versions=versions(),
            inputs=inputs_of(study),
            preparation=stripped.to_dict(),
            settings={name: settings[name] for name in ("reference", "brain_extraction", "engine")},
            timings_s={"all": round(time.perf_counter() - began, 3)},
            peak_memory_mib=peak_memory_mib(),
            decisions=(*series_chosen(files), *stripped.decisions),
            warnings=(*(str(entry) for entry in stripped.consistency.found), *study.notes),
            outputs=file_hashes(folder.path),
            made=datetime.now().astimezone().isoformat(timespec="seconds"),
        )
        write_run(record, folder.path / "run.json")
    return stripped, record


def transforms(stripped: StrippedStudy) -> dict[str, Any]:
    """The way from the files written to each scan and back, as plain values: 4x4 matrices in RAS+ millimetres."""
    ways: dict[str, Any] = {}
    for sequence in stripped.study.present:
        found = stripped.registrations.get(sequence)
        matrix = np.eye(4) if found is None else found.matrix
        ways[sequence.value] = {
            "to_scan": matrix.tolist(),
            "from_scan": np.linalg.inv(matrix).tolist(),
            "quality": None if found is None else {k: v for k, v in plain(found).items() if k != "matrix"},
        }
    return {
        "units": "4x4 matrices, RAS+ millimetres to RAS+ millimetres; to_scan: from these files to the scan",
        "reference": stripped.study.reference_sequence.value,
        "sequences": ways,
    }
