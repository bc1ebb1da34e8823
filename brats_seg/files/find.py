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
from brats_seg.files.dicom_sources import holds_dicom, is_dicom_file
from brats_seg.files.match_labels import possible_names
from brats_seg.files.names import NameReading, Role, is_nifti, read_name, read_names, stem
from brats_seg.files.study_id import check_study_id
from brats_seg.files.visit_names import visit_told_by

if TYPE_CHECKING:
    from brats_seg.files.dicom_study import Asked

_SHOWN = 12
_MAX_DEPTH = 3
"""Deepest study below a data set's folder: ``sub-X/ses-Y/anat``."""
_NOT_STUDIES = frozenset({"derivatives", "sourcedata", "code", "stimuli", "phenotype"})
_RESULT_MARK = "run.json"
"""A folder with this file and without a scan is a result of this program and no study."""
_SERIES = re.compile(
    r"(?:im|img|image|ser|series|scan)[_\- ]*\d+(?:[_\- ]+\d+)*|e\d+[_\- ]+s\d+|\d+[_\- ]+(?:ser|series|s)\d+",
    re.IGNORECASE,
)
"""How scanners and dcm2niix number the series of an exam before their names: ``IM-0001-0004``, ``e7_s4``."""
_CHANNEL = re.compile(r"(.+)_(000[0-9])")
_ORDERS = (
    "t1,t1ce,t2,flair (nnU-Net BraTS 2021, HD-GLIO); t1ce,t1,t2,flair (MONAI brats_mri_segmentation); "
    "flair,t1,t1ce,t2 (Medical Segmentation Decathlon); flair,t1ce,t1,t2 (3D Slicer MONAIAuto3DSeg); "
    "t1ce,t1,flair,t2 (BraTS orchestrator)"
)
"""Orders of the four sequences in use."""
_OTHER_FORMATS = (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".img", ".hdr", ".mnc")


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
    place, readings = _study_place(folder)
    images = {name: reading for name, reading in readings.items() if reading.role is Role.IMAGE}
    if not images:
        wrong = _nothing_found(place, readings)
        scans = [place / name for name, reading in readings.items() if reading.role is Role.UNCLEAR]
        if 1 < len(scans) <= len(SEQUENCES) and not any(map(_is_4d, scans)):
            raise UnnamedScansError(str(wrong), scans, _plain_folder_name(place))
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
    if study_id is None:
        identity = check_study_id(_folder_id(place, images), source="the folder's name")
    else:
        identity = check_study_id(study_id)
    ignored = tuple(name for name in readings if name not in used)
    return Timepoint(identity, files, labels, ignored, tuple(notes))


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
        identity = check_study_id(_plain_folder_name(first.parent), source="the name of the files' folder")
    return Timepoint(identity, ordered, notes=tuple(notes))


def studies_by_channel(place: Path, channels: Sequence[MRSequence]) -> tuple[Timepoint, ...]:
    """Studies whose scans are told by their order alone: ``CASE_0000`` to ``CASE_0003``, or the volumes of 4D files.

    Args:
        place: a folder of such files, or one 4D file.
        channels: the sequence of each number or volume.

    Raises:
        InputError: if there is none, or a case has other numbers.
    """
    names = [place.name] if place.is_file() else [p.name for p in _entries(place)[0] if is_nifti(p.name)]
    folder = place.parent if place.is_file() else place
    cases: dict[str, dict[int, Path]] = {}
    for name in names:
        if numbered := _CHANNEL.fullmatch(stem(name)):
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


def is_dicom_place(place: Path) -> bool:
    """Whether a place is to be read as DICOM: a DICOM file or archive, or a folder of them without any NIfTI file."""
    if place.is_file():
        return is_dicom_file(place)
    return place.is_dir() and next(_walk(place, 0, place.resolve(), set()), None) is None and holds_dicom(place)


def holds_nifti(folder: Path) -> bool:
    """Whether there is a NIfTI file in a folder or at most two folders down."""
    return bool(_nifti_below(folder, 2))


def dicom_beside(folder: Path, studies: Sequence[Path]) -> list[Path]:
    """Folders of DICOM exams in a data set, beside those of NIfTI files."""
    if folder in studies:
        return []
    used = {parent for study in studies for parent in (study, *study.parents)}
    children = [child for child in _entries(folder)[1] if child not in used and child.name.lower() not in _NOT_STUDIES]
    return [child for child in children if holds_dicom(child)]


def _told_apart(found: Sequence[tuple[Path, str]]) -> list[str]:
    """Ids with the names of as many folders above as it takes: ``visit1`` repeats from patient to patient."""
    counts = Counter(study_id for _, study_id in found)
    ids = [study_id for _, study_id in found]
    for levels in range(1, _MAX_DEPTH + 2):
        again = Counter(ids)
        ids = [
            longer_id(place, study_id, levels) if counts[study_id] > 1 and again[known] > 1 else known
            for (place, study_id), known in zip(found, ids, strict=True)
        ]
    return ids


def study_folders(folder: Path, *, labels: bool = False) -> tuple[Path, ...]:
    """Folders that hold NIfTI files, at most three levels down, in alphabetical order; nothing is read.

    Args:
        folder: where to look.
        labels: also folders that hold label maps in other formats.

    Raises:
        InputError: if there is none.
    """
    found = tuple(_walk(folder, 0, folder.resolve(), set(), labels=labels))
    if not found:
        raise _nothing_found(folder, {})
    return found


def _walk(folder: Path, depth: int, root: Path, seen: set[Path], *, labels: bool = False) -> Iterator[Path]:
    files, folders = _entries(folder)
    names = [path.name for path in files if is_nifti(path.name)]
    if labels and not names:
        names = possible_names(folder, [path.name for path in files])
    readings = read_names(names).values()
    if any(path.name == _RESULT_MARK for path in files) and not any(r.role is Role.IMAGE for r in readings):
        return
    parts = {} if any(r.role is Role.IMAGE for r in readings) else _scans_in_folders(folder, folders)
    if names or parts:
        yield folder
    if names or depth >= _MAX_DEPTH:
        return
    taken = {folder / Path(name).parts[0] for name in parts}
    for child in folders:
        if child.name.lower() in _NOT_STUDIES or child in taken:
            continue
        target = child.resolve()
        # A link into the data set leads to what is found there anyway, or round in a circle.
        inside = child.is_symlink() and (target == root or root in target.parents)
        if not inside and target not in seen:
            seen.add(target)
            yield from _walk(child, depth + 1, root, seen, labels=labels)


def _scans_in_folders(place: Path, folders: Sequence[Path]) -> dict[str, NameReading]:
    """Scans that lie in a folder each, called by their sequences (``T1/T1.nii.gz``, ``CASE_t1.nii/x.nii``).

    Returns:
        What each file is, by its path from ``place``; empty where the folders are no sequences: time points called T1
        and T2 hold other sequences, or several.
    """
    named = read_names([child.name for child in folders])
    found: dict[str, NameReading] = {}
    for child in folders:
        reading = named[child.name]
        inside = _nifti_below(child, 2)
        if reading.role is Role.UNCLEAR or len(inside) != 1:
            if reading.role is Role.IMAGE and len(inside) > 1:
                return {}
            continue
        own = read_name(inside[0].name)
        if reading.role is Role.IMAGE and own.role is Role.IMAGE and own.sequence is not reading.sequence:
            return {}
        prefix = reading.prefix if is_nifti(child.name) else ""
        found[inside[0].relative_to(place).as_posix()] = replace(reading, prefix=prefix)
    return found if any(reading.role is Role.IMAGE for reading in found.values()) else {}


def _nifti_below(folder: Path, depth: int) -> list[Path]:
    files, folders = _entries(folder)
    deeper = [path for child in folders for path in _nifti_below(child, depth - 1)] if depth else []
    return [path for path in files if is_nifti(path.name)] + deeper


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Visible files and folders of a folder, sorted."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        folders = [path for path in entries if path.is_dir()]
        return [path for path in entries if path not in folders], folders
    except FileNotFoundError as error:
        raise InputError(f"there is no folder {folder}. Check the spelling.") from error
    except NotADirectoryError as error:
        raise InputError(
            f"{folder} is a file, and a study is a folder with its scans. "
            "Pass the folder, or single files with --t1, --t1ce, --t2 and --flair."
        ) from error
    except PermissionError as error:
        raise InputError(f"{folder} may not be read (permission denied). Check its access rights.") from error
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}.") from error


def _study_place(folder: Path) -> tuple[Path, dict[str, NameReading]]:
    """The folder the scans really lie in, and what the NIfTI files there are, by their paths from it."""
    files, folders = _entries(folder)
    readings = read_names([path.name for path in files if is_nifti(path.name)])
    if not any(reading.role is Role.IMAGE for reading in readings.values()):
        readings = {**readings, **_scans_in_folders(folder, folders)}
    if readings:
        return folder, readings
    children = {child.name.lower(): child for child in folders}
    if "anat" in children:
        return _study_place(children["anat"])
    sessions = [child for name, child in children.items() if name.startswith("ses-")]
    if len(sessions) == 1:
        return _study_place(sessions[0])
    inside = list(_walk(folder, 0, folder.resolve(), set()))
    if len(inside) > 1:
        shown = ", ".join(str(place.relative_to(folder)) for place in inside[:4]) + (", …" if len(inside) > 4 else "")
        raise InputError(f"{folder} holds {len(inside)} studies ({shown}) and not the scans of one. Pass one of them.")
    if inside:
        return _study_place(inside[0])
    return folder, {}


def _nothing_found(folder: Path, readings: Mapping[str, NameReading]) -> InputError:
    """Why a folder is no study, with what was seen."""
    files, folders = _entries(folder)
    names = [path.name for path in files] + [f"{child.name}/" for child in folders]
    if _RESULT_MARK in names:
        return InputError(f"{folder} holds results of this program and no scans. Pass the folder of the scans.")
    if not names:
        return InputError(f"{folder} is empty. Pass the folder that holds the scans (.nii or .nii.gz).")
    seen = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    others = sorted({path.suffix.lower() for path in files} & set(_OTHER_FORMATS))
    if not readings and others:
        return InputError(
            f"{folder} holds {', '.join(others)} files and no NIfTI file (seen: {seen}). Save them as .nii.gz first."
        )
    if any(_CHANNEL.fullmatch(stem(name)) for name in names) or any(_is_4d(path) for path in files[:3]):
        return InputError(
            f"{folder} holds channels by number (CASE_0000) or 4D files, and the order of sequences differs from tool "
            f"to tool: {_ORDERS}. Pass --channels with the order of yours, as in --channels flair,t1,t1ce,t2, or name "
            "files by their sequences."
        )
    what = (
        "no file name says T1, T1CE, T2 or FLAIR"
        if readings
        else "there is no NIfTI file (.nii or .nii.gz) and no DICOM file"
    )
    return InputError(
        f"nothing was recognised in {folder}: {what} (seen: {seen}). Name files like CASE_t1.nii.gz, CASE_t1ce.nii.gz, "
        "CASE_t2.nii.gz, CASE_flair.nii.gz, or pass them with --t1, --t1ce, --t2 and --flair."
    )


def _is_4d(path: Path) -> bool:
    """Whether a file is a NIfTI file of several volumes; False where it cannot be read."""
    if not is_nifti(path.name):
        return False
    from brats_seg.files.header import NiftiFile, VolumesError  # noqa: PLC0415 - heavy

    try:
        NiftiFile.read(path, header_only=True).shape()
    except VolumesError:
        return True
    except InputError:
        return False
    return False


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
    """Refuse sequences whose names tell different dates or visits.

    Raises:
        InputError: naming a file of each.
    """
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
    return bids.pop() if len(bids) == 1 else _plain_folder_name(place)


def longer_id(place: Path, study_id: str, levels: int = 1) -> str:
    """An id with the names of folders above before it, for studies and patients whose own folders are called alike."""
    start = 1 if place.name.lower() == "anat" else 0
    names = [folder.name for folder in list(place.resolve().parents)[start : start + levels] if folder.name]
    return check_study_id("_".join((*reversed(names), study_id)), source=f"the name of the folder above {study_id}")


def _plain_folder_name(place: Path) -> str:
    resolved = place.resolve()
    return resolved.parent.name if resolved.name.lower() == "anat" else resolved.name
