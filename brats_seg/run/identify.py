"""Sequences that neither names nor headers tell, named by what the images show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from brats_seg.core.errors import InputError
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES, MRSequence, Timepoint
from brats_seg.files.dicom import DicomSeries, read_series
from brats_seg.files.dicom_study import DicomTimepoint, with_seen
from brats_seg.files.find import UnnamedScansError
from brats_seg.files.nifti import read_image
from brats_seg.files.study_id import check_study_id
from brats_seg.imaging.sequences import Guess, identify


def settled(study: Timepoint) -> Timepoint:
    """The study with the series named that its DICOM headers left open, where the images tell; else as it is.

    Raises:
        InputError: if no sequence is known afterwards, with the question that stays.
    """
    if not isinstance(study, DicomTimepoint) or not study.question:
        return study
    guesses = _of_series(study)
    seen = {one: (guess.sequence, f"its image {guess.evidence}") for one, guess in guesses.items() if guess.is_sure}
    told = with_seen(study, seen) if seen else study
    if not told.question:
        return told
    doubts = "; ".join(f"{one.title} {guess.evidence}" for one, guess in guesses.items() if not guess.is_sure)
    question = told.question + (f" By its images, {doubts}." if doubts else "")
    if not told.files:
        raise InputError(question)
    return replace(told, exam=replace(told.exam, question=question))


def _of_series(study: DicomTimepoint) -> Mapping[DicomSeries, Guess]:
    """What the open series of an exam look like beside those that are known; nothing where there are too many."""
    left = [reading.series for reading in study.exam.left]
    known = {sequence: reading.series for sequence, reading in study.exam.chosen.items()}
    could_be = [s for s in SEQUENCES if any(s in reading.could_be for reading in study.exam.left) and s not in known]
    if len(left) > len(could_be):
        return {}
    try:
        images = {one.uid + one.part: read_series(one).volume for one in (*left, *known.values())}
    except InputError:
        return {}  # said when the study is read
    names = {one.uid + one.part: sequence for sequence, one in known.items()}
    found = identify(images, names, could_be)
    return {one: found[one.uid + one.part] for one in left if one.uid + one.part in found}


def contradictions(study: Study) -> tuple[str, ...]:
    """Where images surely show another sequence than they are named; for scans that are not laid on one another yet."""
    guesses = identify({sequence.value: image for sequence, image in study.images.items()})
    wrong = {name: guess for name, guess in guesses.items() if guess.is_sure and guess.sequence.value != name}
    if not wrong:
        return ()
    said = ", ".join(f"{MRSequence(name).title} {guess.evidence}" for name, guess in wrong.items())
    return (f"{said}. Check which scan is which before trusting a result.",)


def by_images(unnamed: UnnamedScansError, *, study_id: str | None = None) -> Timepoint:
    """A study of files whose names say no sequence.

    Raises:
        InputError: if the images do not tell either, or one cannot be read.
    """
    images = {path.name: read_image(path).volume for path in unnamed.scans}
    found = identify(images)
    doubtful = [f"{name} {guess.evidence}" for name, guess in found.items() if not guess.is_sure]
    if doubtful or not found:
        seen = f" By their images, {'; '.join(doubtful)}." if doubtful else ""
        raise InputError(f"{unnamed}{seen}")
    files: dict[MRSequence, str] = {guess.sequence: name for name, guess in found.items()}
    paths = {path.name: path for path in unnamed.scans}
    identity = check_study_id(study_id or unnamed.folder_id, source="the folder's name")
    said = ", ".join(f"{s.title} {found[files[s]].probability:.1%}" for s in SEQUENCES if s in files)
    note = f"no file name says its sequence; taken by their images for {said}. Look whether that is right"
    return Timepoint(identity, {s: paths[files[s]] for s in SEQUENCES if s in files}, notes=(note,))
