"""Explore a data set: read every study once, keep small facts of each, and judge them together."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import UNFORESEEN, BratsSegError, InputError, explained
from brats_seg.core.grid import Array, Volume
from brats_seg.core.labels import LabelSchema, schema_named
from brats_seg.core.scans import Study
from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.core.words import Tick
from brats_seg.explore.facts import DATA_SET, PLACE_SHAPE, Exploration, Finding, LabelFacts, ScanFacts, StudyFacts
from brats_seg.explore.findings import judge, likenesses
from brats_seg.files.find import find_studies
from brats_seg.files.label_map import read_label_file
from brats_seg.files.load import read_scan
from brats_seg.files.meaning import shared_meaning
from brats_seg.imaging.boxes import box_or_all
from brats_seg.imaging.brain import background_value, check_skull_stripped, head_mask
from brats_seg.imaging.likeness import signature
from brats_seg.imaging.placing import check_where_placed
from brats_seg.models.card import regions_of
from brats_seg.run.workers import Task, open_workers, run_tasks

_STRIDE_MM = 2.0
"""Scans are looked at on voxels about this far apart; geometry and label counts are exact."""


def explore(folder: Path, *, schema: str = "auto", jobs: int = 1, tick: Tick | None = None) -> Exploration:
    """Everything about a data set in one value; nothing is written.

    Args:
        folder: of studies (BraTS or BIDS), or one study.
        schema: name of the label schema; ``auto`` trusts BraTS names and the values in all label maps together.
        jobs: processes that read studies at once.
        tick: called with the id of each study before it is read; with several processes, once it is read.

    Raises:
        InputError: if there is no study at all. What is wrong with single studies becomes a finding.
    """
    findings: list[Finding] = []

    def refused(place: Path, error: BratsSegError) -> None:
        findings.append(Finding(place.name, "broken", "study", _without_folder(str(error), folder)))

    found = tuple(find_studies(folder, on_error=refused))
    if jobs > 1 and len(found) > 1:
        looks = _in_processes(found, folder, jobs, tick)
    else:
        looks = [_look_at(files, folder, tick) for files in found]
    studies = [look.study for look in looks if look.study is not None]
    findings += [finding for look in looks for finding in look.findings]
    if tick is not None:
        tick("comparing the studies")
    studies = with_schemas(studies, schema, findings)
    leaks, top = likenesses(studies)
    findings += judge(studies, leaks)
    ordered = sorted(findings, key=lambda finding: finding.severity != "broken")
    return Exploration(folder.resolve().name, tuple(studies), tuple(ordered), top)


class _Look(NamedTuple):
    """A study as it was read, None where that failed, and what was noticed."""

    study: StudyFacts | None
    findings: list[Finding]


def _look_at(files: Timepoint, folder: Path, tick: Tick | None = None) -> _Look:
    findings: list[Finding] = []
    if tick is not None:
        tick(files.id)
    try:
        return _Look(read_study(files, findings, folder), findings)
    except UNFORESEEN as error:
        text = _without_folder(str(explained(error)), folder)
        return _Look(None, [*findings, Finding(files.id, "broken", "study", text)])


def _in_processes(found: Sequence[Timepoint], folder: Path, jobs: int, tick: Tick | None) -> list[_Look]:
    todo = deque(Task(files.id, "", _look_at, (files, folder)) for files in found)
    looks: dict[str, _Look] = {}
    with open_workers(min(jobs, len(found)), None) as workers:
        for done in run_tasks(todo, workers):
            name, words = done.task.patient, "its process was killed again and again, most likely for want of memory"
            looks[name] = _Look(None, [Finding(name, "broken", "study", words)]) if done.lost else done.result
            if tick is not None:
                tick(name)
    return [looks[files.id] for files in found]


def read_study(files: Timepoint, findings: list[Finding], folder: Path) -> StudyFacts:
    """Read one study and keep its facts; what cannot be read goes to ``findings``."""
    scans: dict[MRSequence, ScanFacts] = {}
    first: tuple[Volume, Array] | None = None
    skull = None
    volumes: dict[MRSequence, Volume] = {}
    for note in files.notes:
        findings.append(Finding(files.id, "look", "files", note))
    for sequence in files.files:
        try:
            result = read_scan(files, sequence)
        except InputError as error:
            text = f"{sequence.title}: {_without_folder(str(error), folder)}"
            findings.append(Finding(files.id, "broken", "damaged", text))
            continue
        findings += [Finding(files.id, "look", "files", f"{sequence.title}: {note}") for note in result.notes]
        thinned = thin(result.volume)
        head = head_mask(thinned)
        scans[sequence] = scan_facts(sequence, result.volume, thinned, head, result.sha256)
        volumes[sequence] = result.volume
        if first is None:
            first = (result.volume, head)
        if skull is None or skull.is_stripped:
            skull = check_skull_stripped(result.volume, sequence)
    if skull is not None and skull.is_stripped:
        findings += _inconsistencies(files.id, volumes)
    labels = _read_labels(files, first, findings, folder)
    return StudyFacts(
        id=files.id,
        scans=scans,
        missing=files.missing,
        labels=labels,
        skull_stripped=skull.is_stripped if skull else None,
        skull_evidence=skull.evidence if skull else "",
    )


def _inconsistencies(study_id: str, volumes: Mapping[MRSequence, Volume]) -> list[Finding]:
    """What does not fit among the scans of a study, by the measures that ``check`` and ``segment`` take."""
    try:
        found = check_where_placed(Study(study_id, volumes)).found
    except InputError as error:  # no brain at all
        return [Finding(study_id, "broken", "consistency", str(error))]
    return [Finding(study_id, "broken" if f.is_fatal else "look", "consistency", f.text) for f in found]


def thin(volume: Volume) -> Volume:
    """Every n-th voxel, about 2 mm apart."""
    steps = [max(round(_STRIDE_MM / spacing), 1) for spacing in volume.grid.spacing_mm]
    data = volume.data[tuple(slice(None, None, step) for step in steps)]
    return Volume.from_affine(data, volume.affine @ np.diag([*steps, 1.0]))


def scan_facts(
    sequence: MRSequence, volume: Volume, thinned: Volume, head: NDArray[np.bool_], sha256: str
) -> ScanFacts:
    """Facts of one scan from its thinned voxels; an empty head gives NaN."""
    background = background_value(thinned)
    inside = thinned.data[head] - background if head.any() else np.full(1, np.nan)
    mean = float(np.mean(inside))
    values, mask = (thinned.with_data(a).to_ras().data for a in (thinned.data, head))
    box = box_or_all(mask)
    return ScanFacts(
        sequence=sequence,
        grid=volume.grid,
        sha256=sha256,
        background=background,
        minimum=float(volume.data.min()),
        maximum=float(volume.data.max()),
        median=float(np.median(inside)),
        p99=float(np.percentile(inside, 99)),
        variation=float(np.std(inside) / mean) if mean else float("nan"),
        levels=int(np.unique(inside).size),
        saturated_share=float(np.mean(inside >= inside.max())),
        head_ml=float(head.sum()) * thinned.grid.voxel_ml,
        signature=signature(values[box], mask[box]),
    )


def _read_labels(
    files: Timepoint, first: tuple[Volume, Array] | None, findings: list[Finding], folder: Path
) -> LabelFacts | None:
    if files.labels is None:
        return None
    try:
        result = read_label_file(files.labels, regions_of())
    except InputError as error:
        text = f"label map: {_without_folder(str(error), folder)}"
        findings.append(Finding(files.id, "broken", "damaged", text))
        return None
    labels = result.volume
    if first is not None and not labels.grid.same_as(first[0].grid):
        text = (
            f"the label map ({labels.grid.describe()}) does not lie on the grid of the scan "
            f"({first[0].grid.describe()}). Find out which was resampled, or write the labels on the scan's grid."
        )
        findings.append(Finding(files.id, "broken", "geometry", text))
        first = None
    facts = label_facts(files.labels.name, labels, None if first is None else first[1])
    return replace(facts, meaning=result.meaning)


def label_facts(name: str, labels: Volume, head: NDArray[np.bool_] | None) -> LabelFacts:
    """Facts of one label map; ``head`` is the mask of the thinned scan on the same grid."""
    numbers, counts = np.unique(labels.data, return_counts=True)
    found = {int(n): int(c) for n, c in zip(numbers, counts, strict=True) if n != 0}
    outside, places = float("nan"), None
    if head is not None and head.any():
        thinned = thin(labels)
        marked = thinned.data != 0
        outside = float((marked & ~head).sum() / max(marked.sum(), 1))
        values, mask = (thinned.with_data(a).to_ras().data for a in (thinned.data, head))
        box = box_or_all(mask)
        places = sample_cells(np.minimum(values[box], 255).astype(np.uint8))
    return LabelFacts(name, found, labels.grid.voxel_ml, outside, places)


def sample_cells(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The value at the centre of each cell of :data:`PLACE_SHAPE` laid over an array."""
    picks = [
        np.minimum(((np.arange(cells) + 0.5) * n / cells).astype(int), n - 1)
        for cells, n in zip(PLACE_SHAPE, values.shape, strict=True)
    ]
    return np.ascontiguousarray(values[np.ix_(*picks)])


def with_schemas(studies: list[StudyFacts], name: str, findings: list[Finding]) -> list[StudyFacts]:
    """Each study with the meaning of its label numbers.

    With ``auto`` a label map is read by itself where that is certain, and else by all others together: a single one
    without enhancing tumour could be of any year. What does not fit goes to ``findings``.
    """
    common = None if name == "auto" else schema_named(name)
    meanings = {s.id: s.labels.meaning for s in studies if s.labels is not None and s.labels.meaning is not None}
    if name == "auto" and not all(meaning.is_certain for meaning in meanings.values()):
        try:
            common = shared_meaning(meanings)
        except InputError as error:
            findings.append(Finding(DATA_SET, "broken", "labels", f"all label maps together: {error}"))
    result = []
    for study in studies:
        schema = _schema_of(study, common, by_itself=name == "auto")
        labels = study.labels
        if labels is not None and schema is not None and not labels.counts.keys() <= schema.values.keys():
            unknown = sorted(labels.counts.keys() - schema.values.keys())
            text = f"its label map holds {unknown}, which {schema.name} does not know. Correct it, or pass --schema."
            findings.append(Finding(study.id, "broken", "labels", text))
            schema = None
        if schema is not None and labels is not None and labels.meaning is not None and labels.meaning.doubt:
            findings.append(Finding(study.id, "look", "labels", labels.meaning.doubt))
        result.append(replace(study, schema=schema))
    return result


def _schema_of(study: StudyFacts, common: LabelSchema | None, *, by_itself: bool) -> LabelSchema | None:
    if study.labels is None:
        return None
    meaning = study.labels.meaning
    return meaning.schema if by_itself and meaning is not None and meaning.is_certain else common


def _without_folder(text: str, folder: Path) -> str:
    """A message without the place of the data set on this computer."""
    return text.replace(f"{folder}/", "").replace(str(folder), folder.name)
