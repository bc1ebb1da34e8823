"""Finding the scans of a visit by the names of its files, never by their position in a list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from brats_seg.core.errors import InputError
from brats_seg.core.study import SEQUENCES, MRSequence, Timepoint
from brats_seg.files.dicom_sources import holds_dicom
from brats_seg.files.folders import (
    CHANNEL,
    MAX_DEPTH,
    dicom_beside,
    entries,
    is_dicom_place,
    nothing_found,
    study_folders,
    study_place,
    volumes_in,
)
from brats_seg.files.names import NameReading, Role, is_nifti, read_name, read_names, stem
from brats_seg.files.study_id import check_study_id, study_folder

if TYPE_CHECKING:
    from brats_seg.files.dicom_study import Asked

_SERIES = re.compile(
    r"(?:im|img|image|ser|series|scan)[_\- ]*\d+(?:[_\- ]+\d+)*|e\d+[_\- ]+s\d+|\d+[_\- ]+(?:ser|series|s)\d+",
    re.IGNORECASE,
)
"""How scanners and dcm2niix number the series of an exam before their names: ``IM-0001-0004``, ``e7_s4``."""


class UnnamedScansError(InputError):
    """A folder holds as many scans as a study, and no name says what they are.

    Attributes:
        scans: the files.
        folder_id: id that the study would have.
    """

    def __init__(self, message: str, scans: Sequence[Path], folder_id: str) -> None:
        super().__init__(message)
        self.scans = tuple(scans)
        self.folder_id = folder_id


def find_study(folder: Path, *, study_id: str | None = None, asked: Asked | None = None) -> Timepoint:
    """The scans of one visit in a folder, or in its ``anat`` or only ``ses-*`` folder (BIDS).

    Args:
        folder: where the files lie; of a DICOM exam, or its archive.
        study_id: overrides the id, which else is the folder's name (BIDS: ``sub-X_ses-Y``).
        asked: DICOM series that were named for a sequence.

    Raises:
        UnnamedScansError: if there are up to four scans, and no name says a sequence.
        InputError: if nothing is recognised, a sequence has two candidates, files of two studies are mixed, or the
            folder's name cannot be an id.
    """
    if is_dicom_place(folder):
        from brats_seg.files.dicom_study import dicom_study  # noqa: PLC0415 - heavy

        return dicom_study(folder, study_id=study_id, asked=asked)
    place, readings = study_place(folder)
    images = {name: reading for name, reading in readings.items() if reading.role is Role.IMAGE}
    if not images:
        wrong = nothing_found(place, readings)
        scans = [place / name for name, reading in readings.items() if reading.role is Role.UNCLEAR]
        if 1 < len(scans) <= len(SEQUENCES) and all(volumes_in(scan) == 1 for scan in scans):
            raise UnnamedScansError(str(wrong), scans, study_folder(place).name)
        raise wrong
    series = _check_one_study(images)
    _check_one_visit(images)
    files = _one_file_each(place, images)
    labels, notes = _expert_label(place, readings)
    used = {path.relative_to(place).as_posix() for path in (*files.values(), *([labels] if labels else []))}
    if series:
        notes.append(f"the numbers before the sequences were taken for series of one exam: {', '.join(series)}")
    unclear = sum(reading.role is Role.UNCLEAR for reading in readings.values())
    if unclear:
        were = "file was left out: its name says" if unclear == 1 else "files were left out: their names say"
        notes.append(f"{unclear} {were} no sequence, or more than one")
    if len(files) < len(SEQUENCES) and _holds_scans_in_dicom(place):
        notes.append("DICOM scans beside the NIfTI files were not read; give each kind a folder of its own")
    if study_id is None:
        identity = check_study_id(_folder_id(place, images), source="the folder's name")
    else:
        identity = check_study_id(study_id)
    ignored = tuple(name for name in readings if name not in used)
    return Timepoint(identity, files, labels, ignored, tuple(notes))


def _holds_scans_in_dicom(place: Path) -> bool:
    """Whether DICOM files lie below a folder that may be scans, and not segmentations alone."""
    if not holds_dicom(place):
        return False
    from brats_seg.files.dicom_series import holds_images  # noqa: PLC0415 - heavy

    return holds_images(place)


def study_from_files(files: Mapping[MRSequence, Path], *, study_id: str | None = None) -> Timepoint:
    """A study of files that were named one by one.

    Args:
        files: path by sequence, at least one.
        study_id: overrides the id, which else is what the names have in common before the sequence, or the name of
            the folder they lie in.

    Raises:
        InputError: if there is no file, one path is given twice, or no id can be derived.
    """
    if not files:
        raise InputError("no scan was given. Pass a folder, or at least one of --t1, --t1ce, --t2 and --flair.")
    ordered = {sequence: files[sequence] for sequence in SEQUENCES if sequence in files}
    seen: dict[Path, MRSequence] = {}
    for sequence, path in ordered.items():
        other = seen.setdefault(path.resolve(), sequence)
        if other is not sequence:
            raise InputError(f"{path.name} is given twice, as {other.title} and as {sequence.title}. Correct one.")
    readings = {path.name: read_name(path.name) for path in ordered.values()}
    notes = []
    for sequence, path in ordered.items():
        said = readings[path.name].sequence
        if said not in (None, sequence):
            notes.append(f"the file given as {sequence.title} is named like a {said.title}; taken as given")
    if study_id is not None:
        return Timepoint(check_study_id(study_id), ordered, notes=tuple(notes))
    prefixes = {reading.prefix for reading in readings.values()}
    first = next(iter(ordered.values()))
    if len(prefixes) == 1 and (prefix := prefixes.pop()):
        identity = check_study_id(prefix, source="what the file names have in common")
    else:
        identity = check_study_id(study_folder(first.parent).name, source="the name of the files' folder")
    return Timepoint(identity, ordered, notes=tuple(notes))


def studies_by_channel(place: Path, channels: Sequence[MRSequence]) -> tuple[Timepoint, ...]:
    """Studies whose scans are told by their order alone: ``CASE_0000`` to ``CASE_0003``, or the volumes of 4D files.

    Args:
        place: a folder of such files, or one 4D file.
        channels: the sequence of each number or volume.

    Raises:
        InputError: if there is none, or a case has other numbers.
    """
    names = [place.name] if place.is_file() else [p.name for p in entries(place)[0] if is_nifti(p.name)]
    folder = place.parent if place.is_file() else place
    cases: dict[str, dict[int, Path]] = {}
    for name in names:
        if numbered := CHANNEL.fullmatch(stem(name)):
            cases.setdefault(numbered.group(1), {})[int(numbered.group(2))] = folder / name
    studies = []
    for case, files in sorted(cases.items()):
        if sorted(files) != list(range(len(channels))):
            raise InputError(
                f"{case} has the channels {', '.join(f'{n:04}' for n in sorted(files))}, and --channels names "
                f"{len(channels)}. Name one sequence for each."
            )
        studies.append(Timepoint(check_study_id(case), {c: files[n] for n, c in enumerate(channels)}))
    if not cases:
        whole = {channel: number for number, channel in enumerate(channels)}
        readings = read_names(names)
        for name in names if place.is_file() else [n for n in names if readings[n].role is Role.UNCLEAR]:
            held = volumes_in(folder / name)
            if held > len(channels):
                words = f"it holds {held} volumes, and --channels names {len(channels)}. Name one sequence for each."
                raise InputError(f"{name}: {words}")
            files_of = dict.fromkeys(channels, folder / name)
            studies.append(Timepoint(check_study_id(stem(name), source="the file's name"), files_of, volumes=whole))
    if not studies:
        raise InputError(f"{place} holds no files like CASE_0000.nii.gz and no 4D file, which --channels is for.")
    return tuple(studies)


def find_studies(
    folder: Path, *, asked: Asked | None = None, on_error: Callable[[Path, InputError], None] | None = None
) -> Iterator[Timepoint]:
    """Every study in a folder: the folder itself, or its subfolders (BIDS ``sub-X/[ses-Y/]anat`` included).

    Args:
        folder: a study or a data set, of NIfTI files, DICOM exams, or folders of either; or an archive of DICOM files.
        asked: DICOM series that were named for a sequence.
        on_error: called with a study's folder and what is wrong with it, so that the others go on; without it the
            first error is raised.

    Raises:
        InputError: if there is no study at all, or one is wrong and ``on_error`` is None.
    """
    found: list[tuple[Path, Timepoint]] = []
    for place, study in _each_study(folder, asked):
        if isinstance(study, Timepoint):
            found.append((place, study))
        elif on_error is None:
            raise study
        else:
            on_error(place, study)
    ids = _told_apart([(place, study.id) for place, study in found])
    for (_, study), study_id in zip(found, ids, strict=True):
        yield study if study_id == study.id else replace(study, id=study_id)


def _each_study(folder: Path, asked: Asked | None) -> Iterator[tuple[Path, Timepoint | InputError]]:
    """Every study with the folder it lies in, or what is wrong there."""
    is_dicom = is_dicom_place(folder)
    folders = () if is_dicom else study_folders(folder)
    for place in folders:
        try:
            yield place, find_study(place)
        except InputError as error:
            yield place, error
    for place in (folder,) if is_dicom else dicom_beside(folder, folders):
        from brats_seg.files.dicom_study import dicom_studies  # noqa: PLC0415 - heavy

        try:
            for exam, study in dicom_studies(place, asked=asked):
                yield exam.place, study
        except InputError as error:
            if is_dicom:
                raise
            yield place, error


def _told_apart(found: Sequence[tuple[Path, str]]) -> list[str]:
    """Ids with the names of as many folders above as it takes: ``visit1`` repeats from patient to patient."""
    counts = Counter(study_id for _, study_id in found)
    ids = [study_id for _, study_id in found]
    for levels in range(1, MAX_DEPTH + 2):
        again = Counter(ids)
        ids = [
            longer_id(place, study_id, levels) if counts[study_id] > 1 and again[known] > 1 else known
            for (place, study_id), known in zip(found, ids, strict=True)
        ]
    return ids


def _check_one_study(images: Mapping[str, NameReading]) -> list[str]:
    """Refuse files whose ids differ; an id that continues another (``case`` and ``case_reg``) does not.

    Returns:
        Numbers before the sequences that were taken for series of one exam, as scanners and dcm2niix write them.
    """
    prefixes = [reading.prefix for reading in images.values() if reading.prefix]
    marked = [prefix for prefix in prefixes if _SERIES.fullmatch(prefix)]
    numbers = [prefix for prefix in prefixes if re.fullmatch(r"\d{1,4}", prefix)]
    # Bare numbers could be patients too; those of series differ from file to file.
    if len(numbers) + len(marked) < max(len(images), 3) or len(set(numbers)) < len(numbers):
        numbers = []
    series = {*marked, *numbers}
    ids = sorted(set(prefixes) - series, key=lambda text: (len(text), text))
    for i, one in enumerate(ids):
        for other in ids[i + 1 :]:
            same = other.lower().startswith(one.lower()) and not other[len(one) : len(one) + 1].isalnum()
            if not same:
                raise InputError(
                    f"files of two studies are mixed in one folder: {one} and {other}. "
                    "Give each its own folder, or pass the files with --t1, --t1ce, --t2 and --flair."
                )
    return sorted(series) if len(series) > 1 else []


def _check_one_visit(images: Mapping[str, NameReading]) -> None:
    """Refuse sequences whose names tell different dates or visits."""
    from brats_seg.files.visit_names import visit_told_by  # noqa: PLC0415 - an empty folder does without

    told = {visit: name for name in sorted(images, reverse=True) if (visit := visit_told_by(name))}
    if len(told) > 1:
        one, other = sorted(told)[:2]
        raise InputError(
            f"files of two visits are mixed in one folder: {told[one]} and {told[other]}. Give each its own folder, or "
            "pass the files with --t1, --t1ce, --t2 and --flair."
        )


def _one_file_each(place: Path, images: Mapping[str, NameReading]) -> dict[MRSequence, Path]:
    files: dict[MRSequence, Path] = {}
    for sequence in SEQUENCES:
        names = sorted(name for name, reading in images.items() if reading.sequence is sequence)
        if len(names) > 1:
            same = len({stem(name) for name in names}) == 1
            why = " (the same name, with and without compression)" if same else ""
            raise InputError(
                f"{len(names)} files could be {sequence.title}: {' and '.join(names)}{why}. "
                f"Keep one, or choose with --{sequence.value} FILE (and name the other sequences the same way)."
            )
        if names:
            files[sequence] = place / names[0]
    return files


def _expert_label(place: Path, readings: Mapping[str, NameReading]) -> tuple[Path | None, list[str]]:
    names = sorted(name for name, reading in readings.items() if reading.role is Role.LABELS)
    if len(names) == 1:
        return place / names[0], []
    return None, [f"{len(names)} files look like label maps; none was taken as the expert's"] if names else []


def _folder_id(place: Path, images: Mapping[str, NameReading]) -> str:
    bids = {reading.prefix for reading in images.values() if reading.prefix.startswith("sub-")}
    return bids.pop() if len(bids) == 1 else study_folder(place).name


def longer_id(place: Path, study_id: str, levels: int = 1) -> str:
    """An id with the names of folders above before it, for studies and patients whose own folders are called alike."""
    names = [folder.name for folder in study_folder(place).parents[:levels] if folder.name]
    return check_study_id("_".join((*reversed(names), study_id)), source=f"the name of the folder above {study_id}")
