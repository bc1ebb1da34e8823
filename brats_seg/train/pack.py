"""From a folder of labelled studies to packs, through the same ``prepare`` as inference."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.grid import Volume
from brats_seg.imaging.settings import PrepareConfig
from brats_seg.models.card import regions_of
from brats_seg.train.data import (
    PackedStudy,
    has_key,
    load_packs,
    pack_study,
    read_cubes,
    read_pack,
    with_teacher,
    write_pack,
)
from brats_seg.train.loop import Sources

if TYPE_CHECKING:
    from brats_seg.core.study import Timepoint

PACK_VERSION = 2
"""Raised when studies are prepared or packed in another way than before, so that older packs are made again."""


def open_dataset(data: Path, cache: Path, config: PrepareConfig, *, progress: bool = True) -> list[PackedStudy]:
    """The packs of a data set, made where they are not there yet.

    Args:
        data: a folder of packs (``*.npz``), or of labelled studies.
        cache: where packs of studies are kept, in a folder for each preprocessing; those that are there are reused
            where they were made of the very same scans and label.

    Raises:
        InputError: if a study is damaged or has no expert label; every one is named.
    """
    if any(data.glob("*.npz")):
        return load_packs(data)
    # here, as for _pack
    from brats_seg.files.find import find_studies  # noqa: PLC0415

    # By its settings, so that packs of another preprocessing are never taken for these.
    place = cache / hashlib.sha256(repr(config).encode()).hexdigest()[:12]
    packs: list[PackedStudy] = []
    wrong: list[str] = []
    stale: list[str] = []
    studies = list(find_studies(data))
    for files in tqdm(studies, desc="pack studies", disable=not progress):
        held = place / f"{files.id}.npz"
        try:
            key = _digest(files, config)
            if not has_key(held, key):
                stale += [files.id] if held.exists() else []
                write_pack(_pack(files, config), place, key=key)
            packs.append(read_pack(held))
        except InputError as error:
            wrong.append(f"{files.id}: {error}")
    if stale:
        tqdm.write(
            f"packed again, for scans, label or the way of packing have changed: {', '.join(stale)}", file=sys.stderr
        )
    if wrong:
        raise InputError(
            f"{len(wrong)} of {len(studies)} studies cannot be used for training; mend or remove them:\n  "
            + "\n  ".join(wrong)
        )
    return packs


def open_packs(
    data: Path,
    cache: Path,
    config: PrepareConfig,
    *,
    auxiliary: Sequence[Path] = (),
    teacher: Path | None = None,
    cubes: Path | None = None,
    progress: bool = True,
) -> tuple[list[PackedStudy], Sources]:
    """The packs of a data set, and what there is to train on besides.

    Args:
        data: see :func:`open_dataset`; so are ``cache``, ``config`` and ``progress``.
        auxiliary: more data sets, see :func:`open_auxiliary`.
        teacher: folder with what a teacher found in studies of any of them.
        cubes: file of labelled parts of further patients.

    Raises:
        InputError: if anything is damaged, or the teacher knows none of the studies.
    """
    packs = with_teacher(open_dataset(data, cache, config, progress=progress), teacher)
    others = open_auxiliary(auxiliary, cache, config, teacher=teacher, progress=progress)
    studies = len(packs) + len(others)
    taught = sum(pack.teacher is not None for pack in [*packs, *others])
    if teacher is not None and taught == 0:
        raise InputError(f"{teacher} holds no ID.npz of any of the studies; ask the teacher about them first")
    if teacher is not None and taught < studies:
        tqdm.write(
            f"the teacher knows {taught} of {studies} studies; the others are learnt from their labels", file=sys.stderr
        )
    return packs, Sources(auxiliary=others, cubes=[] if cubes is None else read_cubes(cubes))


def open_auxiliary(
    datasets: Sequence[Path],
    cache: Path,
    config: PrepareConfig,
    *,
    teacher: Path | None = None,
    progress: bool = True,
) -> list[PackedStudy]:
    """The packs of auxiliary data sets, kept apart from those of the data set itself.

    Names are preceded by the name of their folder, since every phantom data set, and many a real one, begins with the
    same patient; a teacher's files have the names without that.

    Raises:
        UsageError: if two of the folders have the same name.
        InputError: as :func:`open_dataset`.
    """
    names = [data.resolve().name for data in datasets]
    if len(set(names)) < len(names):
        raise UsageError(f"auxiliary data sets are told apart by the names of their folders, not {', '.join(names)}")
    return [
        replace(pack, id=f"{name}.{pack.id}")
        for name, data in zip(names, datasets, strict=True)
        for pack in with_teacher(open_dataset(data, cache / "auxiliary" / name, config, progress=progress), teacher)
    ]


def _digest(files: Timepoint, config: PrepareConfig) -> bytes:
    """Of everything a pack is made of: the bytes of scans and label, what the label is called, and the preparation."""
    from brats_seg.files.file_bytes import file_sha256  # noqa: PLC0415
    from brats_seg.files.load import scan_sha256  # noqa: PLC0415 - as for _pack
    from brats_seg.files.sidecar import read_schema_sidecar  # noqa: PLC0415

    parts = [f"pack {PACK_VERSION}", repr(config)]
    parts += sorted(f"{sequence.value} {scan_sha256(files, sequence)}" for sequence in files.files)
    if files.labels is not None:
        schema = read_schema_sidecar(files.labels)
        parts += [files.labels.name, file_sha256(files.labels), "" if schema is None else schema.name]
    return hashlib.sha256("\n".join(parts).encode()).digest()


def _pack(files: Timepoint, config: PrepareConfig) -> PackedStudy:
    # here, because a machine that trains on packs need not be able to read and prepare scans
    from brats_seg.files.label_map import read_label_file  # noqa: PLC0415
    from brats_seg.files.load import load_study  # noqa: PLC0415
    from brats_seg.segment.prepare import prepare  # noqa: PLC0415

    if files.labels is None:
        raise InputError("has no expert label map (…_seg.nii.gz) beside its scans")
    study = load_study(files)
    regions = regions_of()
    read = read_label_file(files.labels, regions)
    schema = read.meaning.schema
    if regions.told_by(schema) != regions.regions:
        raise InputError(f"its label map is {schema.name} ({schema.title}), which does not tell the regions to learn")
    labels = read.with_schema(schema)
    whole = Volume(labels.data.astype(np.uint8), labels.grid)
    prepared = prepare(study, config=config)
    for entry in prepared.record.consistency["found"]:
        tqdm.write(f"warning: {files.id}: {entry['text']}", file=sys.stderr)
    return pack_study(prepared, whole, schema)
