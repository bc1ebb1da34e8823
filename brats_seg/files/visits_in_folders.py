"""Visits by the names of folders and files alone: whose each is, what it is called, and its scans or label map."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.core.words import some
from brats_seg.files.dicom_series import DicomExam, holds_images
from brats_seg.files.dicom_study import Asked, dicom_studies
from brats_seg.files.find import find_study, longer_id
from brats_seg.files.folders import dicom_beside, holds_nifti, is_dicom_place, study_folders
from brats_seg.files.match_labels import LABEL_ENDING, label_names, possible_names
from brats_seg.files.names import Role, read_names, stem
from brats_seg.files.study_id import study_folder
from brats_seg.files.visit_names import date_in_name, is_visit_name, patient_of, plain_label
from brats_seg.files.visit_table import FoundVisit

_BIDS = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?")
_TOGETHER = ((re.compile(r"(.*\d)[-_](\d{3})"), "000"), (re.compile(r"(.+)[-_]([Tt]\d{1,2})"), ""))
"""Ids that name a visit only where others of the same patient lie beside them; BraTS counts from 000."""
NAMED_ALIKE = "Name folders like visit1 or 2024-01-31, or files like P7-000 and P7-001, or write a visits.csv."


def visits_in_folders(place: Path, asked: Mapping[str, Asked]) -> dict[str, list[FoundVisit]]:
    """Visits by patient; folders apart are patients apart, whatever they are called."""
    found: dict[tuple[Path, str], list[FoundVisit]] = {}
    unclear: list[FoundVisit] = []
    is_dicom = is_dicom_place(place) and holds_images(place)
    folders = () if is_dicom else study_folders(place, labels=True)
    exams = (
        [place] if is_dicom else [e for e in dicom_beside(place, [*filter(holds_nifti, folders)]) if holds_images(e)]
    )
    folders = tuple(f for f in folders if not any(exam in (f, *f.parents) for exam in exams))
    beside: dict[Path, list[str]] = {}
    for folder in folders:
        beside.setdefault(study_folder(folder).parent, []).append(study_folder(folder).name)
    for folder in folders:
        for visit in _visits_in(folder, place, beside[study_folder(folder).parent]):
            if visit.patient:
                found.setdefault((_home(study_folder(folder), visit.patient), visit.patient), []).append(visit)
            else:
                unclear.append(visit)
    unclear = _claimed(unclear, found)
    if len(unclear) > 1 and not found:
        shown = some((visit.label for visit in unclear), 3)
        raise InputError(
            f"{place} holds {len(unclear)} studies ({shown}), and nothing says which are visits of one patient. "
            f"{NAMED_ALIKE}"
        )
    for visit in unclear:
        found.setdefault((visit.folder or place, visit.label), []).append(visit)
    for exam in exams:
        found.update(_from_dicom(exam, asked))
    names = [patient for _, patient in found]
    return {
        patient if names.count(patient) == 1 else longer_id(home, patient): visits
        for (home, patient), visits in found.items()
    }


def _from_dicom(place: Path, asked: Mapping[str, Asked]) -> dict[tuple[Path, str], list[FoundVisit]]:
    """Visits by patient of DICOM exams, named by their dates."""
    found: dict[tuple[Path, str], list[FoundVisit]] = {}

    def asked_of(exam: DicomExam) -> Asked:
        return {**asked.get("", {}), **asked.get(str(exam.day), {})}

    for exam, study in dicom_studies(place, asked=asked_of):
        error = study if isinstance(study, InputError) else None
        if exam.day is None:
            error = InputError(
                "an exam has no Study Date in its DICOM headers, so that its place in the course is not known. Where "
                "identities are removed, shifted dates may be kept."
            )
        label = "undated" if exam.day is None else exam.day.isoformat()
        visit = FoundVisit(exam.name, label, error=error, folder=exam.place)
        if isinstance(study, Timepoint) and exam.day is not None:
            visit = replace(visit, scans=study, when=exam.day)
        found.setdefault((exam.place, exam.name), []).append(visit)
    return found


def _claimed(unclear: list[FoundVisit], found: dict[tuple[Path, str], list[FoundVisit]]) -> list[FoundVisit]:
    """Give folders that are not understood to the patient whose visits lie beside them, which cannot go without."""
    left = []
    for visit in unclear:
        parent = visit.folder.parent if visit.folder is not None else None
        visits = next((v for (home, _), v in found.items() if home == parent), None)
        if visits is None:
            left.append(visit)
            continue
        why = f"the folder {visit.label} lies among visits, and its name says no visit. {NAMED_ALIKE}"
        visits.append(replace(visit, error=visit.error or InputError(why)))
    return left


def _home(own: Path, patient: str) -> Path:
    """The folder of a patient: the one that is called so, or where it would lie."""
    return next((path for path in (own, *own.parents[:2]) if path.name == patient), own.parent / patient)


def _visits_in(folder: Path, root: Path, beside: Sequence[str]) -> list[FoundVisit]:
    """Visits of everything in one folder of files; an empty patient where the names do not say."""
    names = sorted(possible_names(folder, sorted(path.name for path in folder.iterdir() if path.is_file())))
    groups = _grouped(names)
    own = study_folder(folder)
    parts = {prefix: _split(prefix, list(groups)) for prefix in groups}
    if len(groups) > 1 and len({patient for patient, _ in parts.values()}) < len(groups):
        result = []
        for prefix, members in groups.items():
            patient, label = parts[prefix]
            visit = _several_in_one(folder, prefix, label or prefix, members)
            result.append(replace(visit, patient=patient if label else ""))
        return result
    scans, mask, error = _one_study(folder, names)
    prefix = next(iter(groups), "")
    study_id = prefix if _BIDS.fullmatch(prefix) else own.name
    for candidate, others in ((study_id, beside), (prefix, list(groups))):
        patient, label = _split(candidate, others)
        if label:
            return [_dated(FoundVisit(patient, label, scans, mask, error=error, folder=own))]
    if is_visit_name(own.name):
        patient = own.parent.name if own != root.resolve() else ""
        return [_dated(FoundVisit(patient, plain_label(own.name), scans, mask, error=error, folder=own))]
    return [FoundVisit("", study_id, scans, mask, error=error, folder=own)]


def _dated(found: FoundVisit) -> FoundVisit:
    """A visit with the date in its name, or what is wrong with that."""
    try:
        return replace(found, when=date_in_name(found.label))
    except InputError as wrong:
        return replace(found, error=found.error or wrong)


def _grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Names of one folder by the study they begin with; derived files (``case`` and ``case_reg``) stay together."""
    readings = read_names(names)
    masks = set(label_names(list(names)))
    groups: dict[str, list[str]] = {}
    for name in names:
        if readings[name].role is Role.IMAGE:
            prefix = readings[name].prefix
        elif name in masks:
            bids = _BIDS.match(stem(name))
            prefix = bids.group(0) if bids else LABEL_ENDING.sub("", stem(name))
        else:
            continue
        groups.setdefault(prefix, []).append(name)
    merged: dict[str, list[str]] = {}
    for prefix in sorted(groups, key=lambda text: (len(text), text)):
        home = next(
            (known for known in merged if prefix.startswith(known) and not prefix[len(known) : len(known) + 1].isalnum()
             and _split(prefix, list(groups))[1] == _split(known, list(groups))[1]),
            prefix,
        )  # fmt: skip
        merged.setdefault(home, []).extend(groups[prefix])
    return merged


def _split(study_id: str, beside: Sequence[str] = ()) -> tuple[str, str]:
    """Patient and visit that an id names; an empty visit where it names none.

    Args:
        beside: ids that lie beside it. ``P9-000`` and ``P9-001``, or ``P01_T1`` and ``P01_T2``, are visits together.
    """
    bids = _BIDS.fullmatch(study_id)
    if bids:
        return bids.group(1), bids.group(2) or ""
    if is_visit_name(study_id):
        return study_id, ""
    patient = patient_of(study_id)
    if patient != study_id:
        return patient, study_id.removeprefix(patient).removesuffix(patient).strip("-_")
    for pattern, first in _TOGETHER:
        found = pattern.fullmatch(study_id)
        if found is None:
            continue
        others = map(pattern.fullmatch, beside)
        labels = {other.group(2) for other in others if other is not None and other.group(1) == found.group(1)}
        if len(labels) > 1 and (not first or first in labels):
            return found.group(1), found.group(2)
    return study_id, ""


def _one_study(folder: Path, names: Sequence[str]) -> tuple[Timepoint | None, Path | None, InputError | None]:
    """The scans of a folder, or its label map where there are no scans; or what is wrong."""
    readings = read_names(names)
    try:
        if any(reading.role is Role.IMAGE for reading in readings.values()):
            return find_study(folder, study_id="x"), None, None
        masks = label_names(list(names))
        if len(masks) == 1:
            return None, folder / masks[0], None
        return find_study(folder, study_id="x"), None, None
    except InputError as error:
        return None, None, error


def _several_in_one(folder: Path, prefix: str, label: str, names: Sequence[str]) -> FoundVisit:
    """One visit among several in a folder."""
    readings = read_names(names)
    files: dict[MRSequence, Path] = {}
    for name in names:
        sequence = readings[name].sequence
        if readings[name].role is not Role.IMAGE or sequence is None:
            continue
        if sequence in files:
            message = f"two files of {prefix} could be {sequence.title}: {files[sequence].name} and {name}. Keep one."
            return FoundVisit("", label, error=InputError(message))
        files[sequence] = folder / name
    masks = label_names([name for name in names if readings[name].role is not Role.IMAGE])
    if files:
        return _dated(FoundVisit("", label, Timepoint(prefix, files), folder=folder))
    if len(masks) == 1:
        return _dated(FoundVisit("", label, mask=folder / masks[0], folder=folder))
    return FoundVisit("", label, error=InputError(f"{prefix} has {len(masks)} label maps and no scan. Keep one."))
