"""The DICOM exams of a place as studies: each with a name, and a series for every sequence that was recognised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.files.dicom import DicomSeries
from brats_seg.files.dicom_choice import Choice, choose
from brats_seg.files.dicom_series import DicomExam, find_exams
from brats_seg.files.study_id import check_study_id

Asked = Mapping[MRSequence, str]
"""Series that the user named for a sequence; see :func:`~brats_seg.files.dicom_choice.choose`."""


@dataclass(frozen=True)
class DicomTimepoint(Timepoint):
    """A visit whose scans are series of a DICOM exam; ``files`` names one file of each.

    Attributes:
        exam: which series are used.
        asked: series that were named for a sequence.
        others: what else lay with the series, in words.
    """

    exam: Choice = field(kw_only=True)
    asked: Asked = field(default_factory=dict, kw_only=True)
    others: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def question(self) -> str:
        """Which series is which sequence, where that stays open."""
        return self.exam.question

    def series(self, sequence: MRSequence) -> DicomSeries:
        """The series of a sequence."""
        return self.exam.chosen[sequence].series


def dicom_study(place: Path, *, study_id: str | None = None, asked: Asked | None = None) -> Timepoint:
    """The one exam of a place.

    Raises:
        InputError: as :func:`dicom_studies`, or if there are several.
    """
    found = list(dicom_studies(place, study_id=study_id, asked=asked))
    if len(found) > 1:
        days = ", ".join(str(exam.day or "without a date") for exam, _ in found)
        raise InputError(f"{place} holds {len(found)} exams ({days}) and not one. Pass the folder of one of them.")
    study = found[0][1]
    if isinstance(study, InputError):
        raise study
    return study


def dicom_studies(
    place: Path, *, study_id: str | None = None, asked: Asked | Callable[[DicomExam], Asked] | None = None
) -> Iterator[tuple[DicomExam, Timepoint | InputError]]:
    """Every exam of a place with its study, or with what is wrong with it.

    Args:
        place: a folder, an archive, or a DICOM file beside which the others lie.
        study_id: name of the study; else that of the folder, with the date where it holds several exams.
        asked: series that were named for a sequence, of every exam or by exam.

    Raises:
        InputError: if there is no exam, or images of several patients lie in one folder.
    """
    exams = find_exams(place)
    of_name = Counter(exam.name for exam in exams)
    of_day = Counter((exam.name, exam.day) for exam in exams)
    for number, exam in enumerate(exams, start=1):
        try:
            identity = check_study_id(study_id) if study_id is not None else plain_name(exam)
            if of_name[exam.name] > 1:
                identity += f"_{exam.day}" if exam.day else ""
                identity += f"_{number}" if of_day[exam.name, exam.day] > 1 or not exam.day else ""
            yield exam, _study(exam, identity, asked(exam) if callable(asked) else asked or {})
        except InputError as error:
            yield exam, error


def plain_name(exam: DicomExam) -> str:
    """The name of an exam's folder.

    Raises:
        InputError: if it cannot be a name in outputs, or holds the patient's name or number.
    """
    if exam.names_its_patient:
        raise InputError(
            "the folder's name holds the patient's name or number, as they stand in the DICOM headers, which must not "
            "get into results. Rename the folder, or pass --id with a name free of personal data."
        )
    return check_study_id(exam.name, source="the folder's name")


def _study(exam: DicomExam, identity: str, asked: Asked) -> Timepoint:
    if exam.fault is not None:
        raise exam.fault
    return _of_choice(identity, choose(exam.series, asked), exam.others, exam.day, asked)


def with_seen(study: DicomTimepoint, seen: Mapping[DicomSeries, tuple[MRSequence, str]]) -> DicomTimepoint:
    """The study with what the images of series say that stayed open.

    Args:
        study: of :func:`dicom_studies`.
        seen: as :func:`~brats_seg.files.dicom_choice.choose` takes it.

    Raises:
        InputError: as :func:`~brats_seg.files.dicom_choice.choose`.
    """
    choice = choose([reading.series for reading in study.exam.readings], study.asked, seen=seen)
    return _of_choice(study.id, choice, study.others, study.day, study.asked)


def _of_choice(
    identity: str, choice: Choice, others: tuple[str, ...], day: date | None, asked: Asked
) -> DicomTimepoint:
    used = {reading.series for reading in choice.chosen.values()}
    unused = tuple(f"{r.series.title}, {r.words}" for r in choice.readings if r.series not in used)
    files = {sequence: reading.series.sources[0].path for sequence, reading in choice.chosen.items()}
    return DicomTimepoint(
        identity,
        files,
        ignored=(*unused, *others),
        notes=choice.warnings,
        day=day,
        exam=choice,
        asked=asked,
        others=others,
    )
