"""What a folder, an archive or a DICOMDIR holds: the exams of patients, each with its series.

Files are found by their content and put together by the UIDs in their headers; where they lie and what they are called
tells nothing but data sets apart, in which each patient has a folder. A DICOMDIR is no guide either: the files it
lists lie below it, and its paths are never followed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.words import counted
from brats_seg.files.dicom import SAME_PLACE_MM, DicomSeries
from brats_seg.files.dicom_file import DamagedFileError, DicomSource
from brats_seg.files.dicom_header import DICOMDIR, MR_CLASSES, Header, Identity, Plane, read_header
from brats_seg.files.dicom_sources import class_of, is_archive, sources

MAX_FILES = 20_000
"""Files of one call; an exam has some hundreds to thousands."""


@dataclass(frozen=True)
class DicomExam:
    """One DICOM study: what was scanned of one patient in one session.

    Attributes:
        name: of the folder or archive that holds the patient, not of the patient.
        series: its MR series, by number; parts of a series that holds several stacks stand for themselves.
        others: what else lay with it, in words.
        fault: what is wrong with the exam as a whole, or None.
    """

    name: str
    identity: Identity
    series: tuple[DicomSeries, ...]
    others: tuple[str, ...]
    place: Path
    fault: InputError | None = None

    @property
    def day(self) -> date | None:
        """Study Date, where the header has one."""
        try:
            return datetime.strptime(self.identity.date[:10].replace(".", ""), "%Y%m%d").date()
        except ValueError:
            return None

    @property
    def names_its_patient(self) -> bool:
        """Whether ``name`` holds the patient's name or number; a name that repeats the number is a pseudonym."""
        who = self.identity
        parts = [part.casefold() for part in who.name.replace("^", " ").replace(",", " ").split() if len(part) > 2]
        if who.is_removed or not parts or who.name.strip("^ ").casefold() == who.patient.casefold():
            return False
        words = [*parts, who.patient.casefold()] if len(who.patient) > 3 else parts
        return any(word in self.name.casefold() for word in words)


def find_exams(place: Path) -> tuple[DicomExam, ...]:
    """Every exam below a folder, in an archive (.zip), or beside a DICOMDIR or another DICOM file.

    Raises:
        InputError: if there is no DICOM file, there are too many, an archive is damaged or unpacks to too much, or
            images of several patients lie in one folder.
    """
    if place.is_file() and not is_archive(place):
        place = place.parent
    found: list[tuple[DicomSource, Header]] = []
    damaged: list[tuple[DicomSource, str]] = []
    for number, source in enumerate(sources(place)):
        if number >= MAX_FILES:
            raise InputError(
                f"{place} holds more than {MAX_FILES} DICOM files. Pass the folder of one patient or exam."
            )
        try:
            found.append((source, read_header(source)))
        except DamagedFileError as error:
            damaged.append((source, str(error)))
    if not any(header.planes or header.fault for _, header in found):
        raise _no_images(place, found, damaged)
    exams = []
    for folder, name, group in _by_patient(place, place, place.resolve().name.removesuffix(".zip"), found):
        within = [words for source, words in damaged if folder in (source.path, *source.path.parents)]
        exams += _exams(folder, name, group, within)
    return tuple(exams)


def holds_images(place: Path) -> bool:
    """Whether there may be MR images below a folder or in an archive: not where all is known to be something else."""
    kinds = ("" if source.member else class_of(source.path) for source in sources(place))
    return any(not kind or kind in MR_CLASSES for kind in kinds)


def _no_images(
    place: Path, found: Sequence[tuple[DicomSource, Header]], damaged: Sequence[tuple[DicomSource, str]]
) -> InputError:
    if damaged:
        files = counted(len(damaged), "DICOM file")
        return InputError(f"{place}: {files} cannot be read: {damaged[0][1]}. Copy or export them again.")
    if not found:
        advice = " NIfTI files are not read from an archive: unpack it and pass the folder." if place.is_file() else ""
        return InputError(f"{place} holds no DICOM file. Pass the folder or archive with the exported exam.{advice}")
    held = ", ".join(_kinds([header for _, header in found]))
    return InputError(f"{place} holds no MR images, but {held}. Pass the MR exam.")


def _kinds(headers: Sequence[Header]) -> tuple[str, ...]:
    counts = Counter(header.kind for header in headers if header.kind and header.kind != DICOMDIR)
    return tuple(f"{counted(number, 'file')} of {kind}" for kind, number in counts.most_common())


def _parts(source: DicomSource, folder: Path) -> tuple[str, ...]:
    """Names of folders from ``folder`` to a file; those in an archive count."""
    inside = PurePosixPath(source.member).parts if source.member else ()
    return (*source.path.relative_to(folder).parts, *inside) if source.path != folder else inside


def _by_patient(
    root: Path, folder: Path, name: str, files: Sequence[tuple[DicomSource, Header]], depth: int = 0
) -> Iterator[tuple[Path, str, list[tuple[DicomSource, Header]]]]:
    """Files of one patient each; folders of a data set are gone down until each holds one."""
    images = [header for _, header in files if header.planes or header.fault]
    patients = {(header.identity.patient or header.identity.name).strip().casefold() for header in images}
    if not images:
        return
    if len(patients) == 1:
        yield folder, name, list(files)
        return
    children: dict[str, list[tuple[DicomSource, Header]]] = {}
    for source, header in files:
        parts = _parts(source, root)[depth:]
        children.setdefault(parts[0] if len(parts) > 1 else "", []).append((source, header))
    if any(header.planes for _, header in children.get("", [])):
        raise InputError(
            f"{folder} holds images of {len(patients)} patients in one folder (by their Patient ID). Give each "
            "patient a folder of its own."
        )
    if torn := _torn_apart(children):
        raise InputError(
            f"{folder} holds images of {len(patients)} patients (by their Patient ID), and series of one exam lie in "
            f"its folders {' and '.join(torn)}. Give each patient a folder of its own."
        )
    for child, group in sorted(children.items()):
        place = folder / child
        yield from _by_patient(root, place if place.is_dir() else folder, child or name, group, depth + 1)


def _torn_apart(children: Mapping[str, Sequence[tuple[DicomSource, Header]]]) -> tuple[str, ...]:
    """Two folders that hold different series of one exam; nothing where each exam, or its copy, is in one."""
    folders: dict[str, dict[str, set[str]]] = {}
    for child, group in sorted(children.items()):
        for _, header in group:
            if header.planes:
                folders.setdefault(header.identity.study, {}).setdefault(child, set()).add(header.series)
    for held in folders.values():
        for one, other in combinations(held, 2):
            if held[one].isdisjoint(held[other]):
                return one, other
    return ()


def _exams(
    folder: Path, name: str, files: Sequence[tuple[DicomSource, Header]], damaged: Sequence[str]
) -> list[DicomExam]:
    """The exams of one patient, in order of time."""
    studies: dict[str, list[Header]] = {}
    for _, header in files:
        if header.planes or header.fault:
            studies.setdefault(header.identity.study, []).append(header)
    fault = None
    if damaged:
        fault = InputError(
            f"{counted(len(damaged), 'DICOM file')} of {len(files) + len(damaged)} cannot be read: {damaged[0]}. "
            "Export or copy the exam again, or take the damaged files out if they are of no scan that is needed."
        )
    others = _kinds([header for _, header in files])
    exams = []
    for headers in studies.values():
        series: dict[str, list[Header]] = {}
        for header in headers:
            series.setdefault(header.series, []).append(header)
        parts = [part for uid, group in series.items() for part in _stacks(uid, group)]
        parts.sort(key=lambda part: (part.number is None, part.number or 0, part.uid, part.part))
        exams.append(DicomExam(name, headers[0].identity, tuple(parts), others, folder, fault))
    return sorted(exams, key=lambda exam: (exam.identity.date, min(s.title for s in exam.series)))


def _stacks(uid: str, headers: Sequence[Header]) -> list[DicomSeries]:
    """A series as the stacks it holds, told apart by direction, echo, time point and what else differs."""
    number = headers[0].number
    planes, clash = _without_copies([plane for header in headers for plane in header.planes])
    fault = next((header.fault for header in headers if header.fault), clash)
    fault = f"{fault}. Export or copy the series again." if fault else ""
    if not planes:
        return [DicomSeries(uid, number, (), "", fault)]
    parts = _split(planes, "", _DIFFERENCES)
    return [DicomSeries(uid, number, tuple(group), label, fault) for label, group in parts]


def _without_copies(planes: Sequence[Plane]) -> tuple[list[Plane], str]:
    """The images without files that are there twice, and what is wrong where two differ under one UID."""
    kept: dict[tuple[str, int], Plane] = {}
    nameless = []
    for plane in planes:
        known = kept.setdefault((plane.sop, plane.frame), plane)
        if not plane.sop:
            nameless.append(plane)
        elif known is not plane and known.source.read() != plane.source.read():
            return list(planes), "two of its images differ and bear the same SOP Instance UID"
    return [*nameless, *(plane for plane in kept.values() if plane.sop)], ""


_Key = Callable[[Plane], tuple[object, ...]]
_DIFFERENCES: tuple[tuple[str, _Key], ...] = (
    ("direction", lambda plane: tuple(round(cosine, 2) for cosine in plane.orientation)),
    ("matrix", lambda plane: (*plane.shape, *(round(step, 3) for step in plane.spacing))),
    ("echo", lambda plane: (round(plane.how.echo_time or 0.0, 1),)),
    ("inversion", lambda plane: (round(plane.how.inversion_time or 0.0),)),
    ("b-value", lambda plane: (round(plane.how.b_value or 0.0),)),
    ("kind", lambda plane: plane.how.image_type),
    ("time point", lambda plane: (plane.temporal,)),
    ("acquisition", lambda plane: (plane.acquisition,)),
)
"""What may differ between the stacks of one series; scanners number the interleaved parts of one stack too."""
_ALWAYS = ("direction", "matrix")
"""These make stacks of their own; the others only where images lie at the same place."""


def _split(
    planes: list[Plane], label: str, differences: Sequence[tuple[str, _Key]]
) -> Iterator[tuple[str, list[Plane]]]:
    """Stacks with what tells them apart, as ``echo 2``; they are numbered in the order of what differs."""
    if not differences:
        yield label, planes
        return
    what, key = differences[0]
    groups: dict[tuple[object, ...], list[Plane]] = {}
    if what in _ALWAYS or _repeats(planes):
        for plane in planes:
            groups.setdefault(key(plane), []).append(plane)
    else:
        groups[()] = planes
    for place, found in enumerate(sorted(groups, key=repr), start=1):
        longer = f"{label}, {what} {place}".removeprefix(", ") if len(groups) > 1 else label
        yield from _split(groups[found], longer, differences[1:])


def _repeats(planes: Sequence[Plane]) -> bool:
    """Whether images of one direction lie at the same place."""
    row, column = np.array(planes[0].orientation).reshape(2, 3)
    depth = np.sort(np.array([plane.position for plane in planes]) @ np.cross(row, column))
    return bool((np.diff(depth) < SAME_PLACE_MM).any())
