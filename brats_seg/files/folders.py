"""Which folders of a data set hold scans, and what was seen in those that hold none; no scan is read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.words import some
from brats_seg.files.dicom_sources import holds_dicom, is_dicom_file
from brats_seg.files.names import NameReading, Role, is_nifti, read_name, read_names, stem
from brats_seg.files.output import RUN_FILE

_SHOWN = 12
MAX_DEPTH = 3
"""Deepest study below a data set's folder: ``sub-X/ses-Y/anat``."""
_NOT_STUDIES = frozenset({"derivatives", "sourcedata", "code", "stimuli", "phenotype"})
CHANNEL = re.compile(r"(.+)_(000[0-9])")
_ORDERS = (
    "t1,t1ce,t2,flair (nnU-Net BraTS 2021, HD-GLIO); t1ce,t1,t2,flair (MONAI brats_mri_segmentation); "
    "flair,t1,t1ce,t2 (Medical Segmentation Decathlon); flair,t1ce,t1,t2 (3D Slicer MONAIAuto3DSeg); "
    "t1ce,t1,flair,t2 (BraTS orchestrator)"
)
"""Orders of the four sequences in use."""
_OTHER_FORMATS = (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".img", ".hdr", ".mnc")


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
    children = [child for child in entries(folder)[1] if child not in used and child.name.lower() not in _NOT_STUDIES]
    return [child for child in children if holds_dicom(child)]


def study_folders(folder: Path, *, labels: bool = False) -> tuple[Path, ...]:
    """Folders that hold NIfTI files, at most three levels down, in alphabetical order; nothing is read.

    Args:
        labels: also folders that hold label maps in other formats.

    Raises:
        InputError: if there is none.
    """
    found = tuple(_walk(folder, 0, folder.resolve(), set(), labels=labels))
    if not found:
        raise nothing_found(folder, {})
    return found


def study_place(folder: Path) -> tuple[Path, dict[str, NameReading]]:
    """The folder the scans really lie in, and what the NIfTI files there are, by their paths from it."""
    files, folders = entries(folder)
    readings = read_names([path.name for path in files if is_nifti(path.name)])
    if not any(reading.role is Role.IMAGE for reading in readings.values()):
        readings = {**readings, **_scans_in_folders(folder, folders)}
    if readings:
        return folder, readings
    children = {child.name.lower(): child for child in folders}
    if "anat" in children:
        return study_place(children["anat"])
    sessions = [child for name, child in children.items() if name.startswith("ses-")]
    if len(sessions) == 1:
        return study_place(sessions[0])
    inside = list(_walk(folder, 0, folder.resolve(), set()))
    if len(inside) > 1:
        shown = some((str(place.relative_to(folder)) for place in inside), 4)
        raise InputError(f"{folder} holds {len(inside)} studies ({shown}) and not the scans of one. Pass one of them.")
    if inside:
        return study_place(inside[0])
    return folder, {}


def _walk(folder: Path, depth: int, root: Path, seen: set[Path], *, labels: bool = False) -> Iterator[Path]:
    files, folders = entries(folder)
    names = [path.name for path in files if is_nifti(path.name)]
    if labels and not names:
        from brats_seg.files.match_labels import possible_names  # noqa: PLC0415 - scans do without

        names = possible_names(folder, [path.name for path in files])
    readings = read_names(names).values()
    if any(path.name == RUN_FILE for path in files) and not any(r.role is Role.IMAGE for r in readings):
        return
    parts = {} if any(r.role is Role.IMAGE for r in readings) else _scans_in_folders(folder, folders)
    if names or parts:
        yield folder
    if names or depth >= MAX_DEPTH:
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
        and T2 hold other sequences, several, or a label map.
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
        other = own.role is Role.LABELS or (own.role is Role.IMAGE and own.sequence is not reading.sequence)
        if reading.role is Role.IMAGE and other:
            return {}
        prefix = reading.prefix if is_nifti(child.name) else ""
        found[inside[0].relative_to(place).as_posix()] = replace(reading, prefix=prefix)
    return found if any(reading.role is Role.IMAGE for reading in found.values()) else {}


def _nifti_below(folder: Path, depth: int) -> list[Path]:
    files, folders = entries(folder)
    deeper = [path for child in folders for path in _nifti_below(child, depth - 1)] if depth else []
    return [path for path in files if is_nifti(path.name)] + deeper


def entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Visible files and folders of a folder, sorted."""
    try:
        visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        folders = dict.fromkeys(path for path in visible if path.is_dir())
        return [path for path in visible if path not in folders], list(folders)
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


def require_filled(folder: Path) -> None:
    """Refuse a folder that is not there or holds nothing, before what could read it is loaded.

    Raises:
        InputError: if it is one.
    """
    if not any(entries(folder)):
        raise _is_empty(folder)


def _is_empty(folder: Path) -> InputError:
    return InputError(f"{folder} is empty. Pass the folder that holds the scans (.nii or .nii.gz).")


def nothing_found(folder: Path, readings: Mapping[str, NameReading]) -> InputError:
    """Why a folder is no study, with what was seen."""
    files, folders = entries(folder)
    names = [path.name for path in files] + [f"{child.name}/" for child in folders]
    if RUN_FILE in names:
        return InputError(f"{folder} holds results of this program and no scans. Pass the folder of the scans.")
    if not names:
        return _is_empty(folder)
    seen = some(names, _SHOWN)
    others = sorted({path.suffix.lower() for path in files} & set(_OTHER_FORMATS))
    if not readings and others:
        return InputError(
            f"{folder} holds {', '.join(others)} files and no NIfTI file (seen: {seen}). Save them as .nii.gz first."
        )
    if any(CHANNEL.fullmatch(stem(name)) for name in names) or any(volumes_in(path) > 1 for path in files[:3]):
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


def volumes_in(path: Path) -> int:
    """How many volumes a NIfTI file holds by its header; 1 for any other file, and where it cannot be read."""
    if not is_nifti(path.name):
        return 1
    from brats_seg.files.header import NiftiFile  # noqa: PLC0415 - heavy

    try:
        return math.prod(NiftiFile.read(path, header_only=True).sizes()[3:])
    except InputError:
        return 1
