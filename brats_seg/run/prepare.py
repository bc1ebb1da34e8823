"""Scans as they come, aligned and without skull: for ``segment``, or written for any other tool."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from brats_seg.files.output import ExistsPolicy, OutputFolder, file_hashes, result_folder
from brats_seg.files.tables import write_json, write_run
from brats_seg.files.write import write_mask, write_volume
from brats_seg.imaging.brain import with_skull
from brats_seg.models.brain import BrainNetworks, open_brain_networks
from brats_seg.models.hd_bet import HdBetNetworks, open_hd_bet
from brats_seg.models.record import peak_memory_mib, versions
from brats_seg.run.options import EXTRACTORS
from brats_seg.segment.memory import own_threads
from brats_seg.segment.strip import StrippedStudy, strip


@dataclass(frozen=True)
class PreparedFiles:
    """What :func:`prepare_study` wrote."""

    stripped: StrippedStudy
    record: RunRecord
    folder: Path


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


def strip_study(
    study: Study,
    heads: Mapping[MRSequence, str],
    *,
    brain_mask: Path | None = None,
    extractor: str = EXTRACTORS[0],
    engine: str = "auto",
) -> StrippedStudy | None:
    """The study aligned and without skull; None where every scan is skull-stripped already.

    Args:
        heads: of :func:`~brats_seg.imaging.brain.with_skull`.
        brain_mask: file with the brain, in the space of one of the scans.
        extractor: whose networks find a brain, one of :data:`~brats_seg.run.options.EXTRACTORS`.
        engine: that runs deepbet's; see :func:`~brats_seg.models.brain.choose_brain_engine`.

    Raises:
        InputError: if the mask is none or not needed, no brain is found, or the sequences cannot be aligned.
    """
    if heads:
        mask = read_brain_mask(brain_mask) if brain_mask is not None else None
        return strip(study, heads, _networks(extractor, engine), mask=mask)
    if brain_mask is not None:
        raise InputError(f"the scans of {study.id} are skull-stripped already; leave --brain-mask away")
    return None


def _networks(extractor: str, engine: str) -> Callable[[], BrainNetworks | HdBetNetworks]:
    if extractor == "hd-bet":
        return partial(open_hd_bet, threads=own_threads())
    return partial(open_brain_networks, engine, threads=own_threads())


def prepare_study(
    files: Timepoint,
    output: Path,
    *,
    reference: MRSequence | None = None,
    brain_mask: Path | None = None,
    extractor: str = EXTRACTORS[0],
    engine: str = "auto",
    exists: ExistsPolicy = "refuse",
    tick: Tick | None = None,
) -> PreparedFiles:
    """Write a study's sequences on one grid of 1 mm, without skull, to ``output/<id>``.

    Args:
        output: folder that gets a folder ``<id>``.
        reference: sequence in whose space the others are laid; None takes T1CE, FLAIR, T2, T1 in that order.
        brain_mask: as in :func:`strip_study`.
        extractor: as in :func:`strip_study`.
        engine: as in :func:`strip_study`.
        exists: what to do where there is a result already.
        tick: called with the name of each step before it runs.

    Raises:
        BratsSegError: the family of :mod:`brats_seg.core.errors`; nothing is left half-written.
    """
    tick = tick or (lambda _: None)
    began = time.perf_counter()
    with OutputFolder(result_folder(output, files), exists=exists) as folder:
        tick("read")
        study = load_study(files, reference=reference)
        tick("extract")
        stripped = strip_study(study, with_skull(study), brain_mask=brain_mask, extractor=extractor, engine=engine)
        if stripped is None:  # aligned all the same
            stripped = strip(study, {}, _networks(extractor, engine))
        tick("write")
        _write(stripped, folder.path)
        record = RunRecord(
            study_id=study.id,
            versions=versions(),
            inputs=inputs_of(study),
            preparation=stripped.to_dict(),
            settings={
                "reference": reference.value if reference else "auto",
                "brain_extraction": extractor,
                "engine": engine,
            },
            timings_s={"all": round(time.perf_counter() - began, 3)},
            peak_memory_mib=peak_memory_mib(),
            decisions=(*series_chosen(files), *stripped.decisions),
            warnings=(*(str(entry) for entry in stripped.consistency.found), *study.notes),
            outputs=file_hashes(folder.path),
            made=datetime.now().astimezone().isoformat(timespec="seconds"),
        )
        write_run(record, folder.path / "run.json")
    return PreparedFiles(stripped, record, output / files.id)


def _write(stripped: StrippedStudy, folder: Path) -> None:
    name = stripped.study.id
    for sequence, volume in stripped.study.images.items():
        write_volume(volume, folder / f"{name}_{sequence.value}.nii.gz")
    write_mask(Volume(stripped.brain, stripped.grid), folder / f"{name}_brainmask.nii.gz")
    write_json(transforms(stripped), folder / f"{name}_transforms.json")


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
