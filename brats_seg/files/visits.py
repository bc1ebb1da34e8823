"""Finding a patient's visits: whose they are, in which order, with which dates, and the files of each.

Understood are BIDS (``sub-X/ses-Y`` with ``sessions.tsv``), BraTS names that end in the visit (``-000``, ``-001``),
folders or files named by visit (``visit1``, ``time2``, ``baseline``) or by date, and a table ``visits.csv``
(:mod:`brats_seg.files.visit_table`). A name that could be a patient as well as a visit is not guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.study import MRSequence, Patient, Timepoint
from brats_seg.core.tables import DAY_ZERO, Calendar, say
from brats_seg.core.words import visit_named
from brats_seg.files.dicom_series import DicomExam, holds_images
from brats_seg.files.dicom_study import Asked, dicom_studies
from brats_seg.files.find import dicom_beside, find_study, holds_nifti, is_dicom_place, longer_id, study_folders
from brats_seg.files.match_labels import LABEL_ENDING, LabelFile, find_label_files, label_names, possible_names
from brats_seg.files.names import Role, read_names, stem
from brats_seg.files.study_id import check_study_id
from brats_seg.files.visit_names import date_in_name, in_order, is_visit_name, patient_of, plain_label
from brats_seg.files.visit_table import TABLE_NAME, TableVisit, bids_dates, read_visit_table

_BIDS = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?")
_TOGETHER = ((re.compile(r"(.*\d)[-_](\d{3})"), "000"), (re.compile(r"(.+)[-_]([Tt]\d{1,2})"), ""))
"""Ids that name a visit only where others of the same patient lie beside them; BraTS counts from 000."""
_NAMED_ALIKE = "Name folders like visit1 or 2024-01-31, or files like P7-000 and P7-001, or write a visits.csv."


OnError = Callable[[str, InputError], None]


def find_patients(
    place: Path,
    *,
    table: Path | None = None,
    segmentations: Path | None = None,
    asked: Mapping[str, Asked] | None = None,
    on_error: OnError | None = None,
) -> tuple[Patient, ...]:
    """Every patient in a folder; a folder of visits is one patient.

    Args:
        place: a patient's folder of visits, or a folder of patients.
        table: ``visits.csv``; None takes the one in ``place`` if there is one.
        segmentations: a folder of label maps to be used instead of segmenting, matched by visit.
        asked: by visit, DICOM series that were named for a sequence; those of the visit ``""`` are for all.
        on_error: called with the name of a patient and what is wrong with it, so that the others go on.

    Raises:
        InputError: if nothing is found, or, without ``on_error``, if a patient is wrong.
    """
    if place.is_file():
        raise InputError(
            f"{place} is a file. Pass the patient's folder of visits; a table of visits goes with --table."
        )
    if not place.is_dir():
        raise InputError(f"there is no folder {place}. Check the spelling.")
    masks = find_label_files(segmentations) if segmentations is not None else ()
    beside = place / TABLE_NAME
    table = table or (beside if beside.is_file() else None)
    rows = read_visit_table(table) if table is not None else ()
    unused = [f"{row.table}: not used: {', '.join(row.unused)}" for row in rows[:1] if row.unused]
    found = _from_table(place, rows) if any(row.has_files for row in rows) else _from_folders(place, asked or {})
    if not any(row.has_files or row.patient for row in rows) and rows and len(found) > 1:
        raise InputError(
            f"{rows[0].table} has no column patient, and there are {len(found)} patients "
            f"({', '.join(list(found)[:3])}{', …' if len(found) > 3 else ''}). Add the column, or pass one patient."
        )
    rows, strangers = _spelt(rows, list(found))
    unused += strangers
    patients = []
    for patient, visits in found.items():
        try:
            for row in rows:
                if row.fault is not None and row.patient == patient:
                    raise row.fault
            dated = visits if any(row.has_files for row in rows) else _dated(patient, visits, rows, place)
            files = _finish(patient, dated, masks, alone=len(found) == 1)
            patients.append(replace(files, notes=(*unused, *files.notes), warnings=(*unused, *files.warnings)))
        except InputError as error:
            if on_error is None:
                raise
            on_error(patient, error)
    return _with_unused(_without_collisions(patients, on_error), masks, segmentations, alone=len(found) == 1)


def _spelt(rows: Sequence[TableVisit], patients: Sequence[str]) -> tuple[tuple[TableVisit, ...], list[str]]:
    """Rows of a table with their patients spelt as the folders are, and a note of those who have none.

    Raises:
        InputError: if the table names patients, and none of them is there.
    """

    def folded(name: str) -> str:
        return _key(name).removeprefix("sub-")

    spelt = {}
    for name in dict.fromkeys(row.patient for row in rows if row.patient and row.patient not in patients):
        alike = [patient for patient in patients if folded(patient) == folded(name)]
        spelt[name] = alike[0] if len(alike) == 1 else ""
    nobody = [name for name, patient in spelt.items() if not patient]
    named = {row.patient for row in rows if row.patient}
    if nobody and len(nobody) == len(named):
        raise InputError(
            f"{rows[0].table} names patients {', '.join(nobody)}, and there are no scans of them (patients found: "
            f"{', '.join(patients)}). Write them alike."
        )
    shown = ", ".join(nobody[:4]) + (f" and {len(nobody) - 4} more" if len(nobody) > 4 else "")
    note = [f"{rows[0].table}: no scans of patient {shown}; those rows are not used"] if nobody else []
    return tuple(replace(row, patient=spelt.get(row.patient) or row.patient) for row in rows), note


@dataclass(frozen=True)
class _Found:
    """One visit before dates and masks are settled."""

    label: str
    scans: Timepoint | None
    mask: Path | None = None
    when: date | int | None = None
    error: InputError | None = None
    folder: Path | None = None


def _from_table(place: Path, rows: Sequence[TableVisit]) -> dict[str, list[_Found]]:
    found: dict[str, list[_Found]] = {}
    for row in rows:
        patient = row.patient or place.resolve().name
        files = Timepoint(f"{patient}_{row.visit}", row.scans) if row.scans else None
        found.setdefault(patient, []).append(_Found(plain_label(row.visit), files, row.segmentation, row.when))
    return found


def _from_folders(place: Path, asked: Mapping[str, Asked]) -> dict[str, list[_Found]]:
    """Visits by patient; folders apart are patients apart, whatever they are called."""
    found: dict[tuple[Path, str], list[_Found]] = {}
    unclear: list[_Found] = []
    is_dicom = is_dicom_place(place) and holds_images(place)
    folders = () if is_dicom else study_folders(place, labels=True)
    exams = (
        [place] if is_dicom else [e for e in dicom_beside(place, [*filter(holds_nifti, folders)]) if holds_images(e)]
    )
    folders = tuple(f for f in folders if not any(exam in (f, *f.parents) for exam in exams))
    beside: dict[Path, list[str]] = {}
    for folder in folders:
        beside.setdefault(_own(folder).parent, []).append(_own(folder).name)
    for folder in folders:
        for patient, visit in _visits_in(folder, place, beside[_own(folder).parent]):
            if patient:
                found.setdefault((_home(_own(folder), patient), patient), []).append(visit)
            else:
                unclear.append(visit)
    unclear = _claimed(unclear, found)
    if len(unclear) > 1 and not found:
        shown = ", ".join(visit.label for visit in unclear[:3]) + (", …" if len(unclear) > 3 else "")
        raise InputError(
            f"{place} holds {len(unclear)} studies ({shown}), and nothing says which are visits of one patient. "
            f"{_NAMED_ALIKE}"
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


def _from_dicom(place: Path, asked: Mapping[str, Asked]) -> dict[tuple[Path, str], list[_Found]]:
    """Visits by patient of DICOM exams, named by their dates."""
    found: dict[tuple[Path, str], list[_Found]] = {}

    def asked_of(exam: DicomExam) -> Asked:
        return {**asked.get("", {}), **asked.get(str(exam.day), {})}

    for exam, study in dicom_studies(place, asked=asked_of):
        error = study if isinstance(study, InputError) else None
        if exam.day is None:
            error = InputError(
                "an exam has no Study Date in its DICOM headers, so that its place in the course is not known. Where "
                "identities are removed, shifted dates may be kept."
            )
        visit = _Found("undated" if exam.day is None else exam.day.isoformat(), None, error=error, folder=exam.place)
        if isinstance(study, Timepoint) and exam.day is not None:
            visit = replace(visit, scans=study, when=exam.day)
        found.setdefault((exam.place, exam.name), []).append(visit)
    return found


def _claimed(unclear: list[_Found], found: dict[tuple[Path, str], list[_Found]]) -> list[_Found]:
    """Give folders that are not understood to the patient whose visits lie beside them, which cannot go without."""
    left = []
    for visit in unclear:
        parent = visit.folder.parent if visit.folder is not None else None
        visits = next((v for (home, _), v in found.items() if home == parent), None)
        if visits is None:
            left.append(visit)
            continue
        why = f"the folder {visit.label} lies among visits, and its name says no visit. {_NAMED_ALIKE}"
        visits.append(replace(visit, error=visit.error or InputError(why)))
    return left


def _own(folder: Path) -> Path:
    """The folder of a visit, without BIDS' ``anat``."""
    resolved = folder.resolve()
    return resolved.parent if resolved.name.lower() == "anat" else resolved


def _home(own: Path, patient: str) -> Path:
    """The folder of a patient: the one that is called so, or where it would lie."""
    return next((path for path in (own, *own.parents[:2]) if path.name == patient), own.parent / patient)


def _visits_in(folder: Path, root: Path, beside: Sequence[str]) -> list[tuple[str, _Found]]:
    """Patient and visit of everything in one folder of files; an empty patient where the names do not say."""
    names = sorted(possible_names(folder, sorted(path.name for path in folder.iterdir() if path.is_file())))
    groups = _grouped(names)
    own = _own(folder)
    parts = {prefix: _split(prefix, list(groups)) for prefix in groups}
    if len(groups) > 1 and len({patient for patient, _ in parts.values()}) < len(groups):
        result = []
        for prefix, members in groups.items():
            patient, label = parts[prefix]
            result.append((patient if label else "", _several_in_one(folder, prefix, label or prefix, members)))
        return result
    scans, mask, error = _one_study(folder, names)
    prefix = next(iter(groups), "")
    study_id = prefix if _BIDS.fullmatch(prefix) else own.name
    for candidate, others in ((study_id, beside), (prefix, list(groups))):
        patient, label = _split(candidate, others)
        if label:
            return [(patient, _visit(label, scans, mask, error, own))]
    if is_visit_name(own.name):
        patient = own.parent.name if own != root.resolve() else ""
        return [(patient, _visit(plain_label(own.name), scans, mask, error, own))]
    return [("", _Found(study_id, scans, mask, None, error, own))]


def _visit(label: str, scans: Timepoint | None, mask: Path | None, error: InputError | None, folder: Path) -> _Found:
    """A visit with the date in its name, or what is wrong with that."""
    try:
        day = date_in_name(label)
    except InputError as wrong:
        return _Found(label, scans, mask, None, error or wrong, folder)
    return _Found(label, scans, mask, day, error, folder)


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
        study_id: the id.
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
        others = [pattern.fullmatch(other) for other in beside]
        labels = {other.group(2) for other in others if other and found and other.group(1) == found.group(1)}
        if found and len(labels) > 1 and (not first or first in labels):
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


def _several_in_one(folder: Path, prefix: str, label: str, names: Sequence[str]) -> _Found:
    """One visit among several in a folder."""
    readings = read_names(names)
    files: dict[MRSequence, Path] = {}
    for name in names:
        sequence = readings[name].sequence
        if readings[name].role is not Role.IMAGE or sequence is None:
            continue
        if sequence in files:
            message = f"two files of {prefix} could be {sequence.title}: {files[sequence].name} and {name}. Keep one."
            return _Found(label, None, error=InputError(message))
        files[sequence] = folder / name
    masks = label_names([name for name in names if readings[name].role is not Role.IMAGE])
    if files:
        return _visit(label, Timepoint(prefix, files), None, None, folder)
    if len(masks) == 1:
        return _visit(label, None, folder / masks[0], None, folder)
    return _Found(label, None, error=InputError(f"{prefix} has {len(masks)} label maps and no scan. Keep one."))


def _dated(patient: str, visits: list[_Found], rows: Sequence[TableVisit], place: Path) -> list[_Found]:
    """Visits with the dates of a table, which go before those in names; what a table leaves open, the names say."""
    named = {row.visit: row.when for row in rows if row.patient in ("", patient) and row.when is not None}
    listed = [row.visit for row in rows if row.patient in ("", patient)]
    keys = _matched([visit.label for visit in visits], listed)
    unknown = [label for label in listed if label not in keys.values()]
    if unknown:
        raise InputError(
            f"{rows[0].table} names visit {unknown[0]!r} of patient {patient}, and there are no scans of it (visits "
            f"found: {', '.join(visit.label for visit in visits)}). Correct the name, or remove the row."
        )
    if not listed:
        named = dict(bids_dates(place, patient, [(visit.label, visit.folder) for visit in visits]))
        keys = _matched([visit.label for visit in visits], list(named))
    told = {label: named[name] for label, name in keys.items() if name in named}
    others = [v.label for v in visits if v.when is not None and v.label in told and v.when != told[v.label]]
    if others and any(visit.when is not None and visit.label not in told for visit in visits):
        raise InputError(
            f"visit {others[0]} of patient {patient} has another date in a table than in its name, and other visits "
            "have one in their names only, so that they may not be of one calendar. Give all in the table."
        )
    return [replace(visit, when=told.get(visit.label, visit.when)) for visit in visits]


def _matched(labels: Sequence[str], listed: Sequence[str]) -> dict[str, str]:
    """The name in a table of each visit: the same but for ``ses-``, case, spaces, and zeros before numbers."""
    result: dict[str, str] = {}
    for key in (_key, lambda label: re.sub(r"\d+", lambda n: str(int(n.group())), _key(label))):
        for label in labels:
            fitting = [name for name in listed if key(name) == key(label) and name not in result.values()]
            if label not in result and len(fitting) == 1:
                result[label] = fitting[0]
    return result


def _key(label: str) -> str:
    return re.sub(r"\s+", "_", unicodedata.normalize("NFC", label)).lower().removeprefix("ses-")


def _finish(patient: str, visits: list[_Found], masks: Sequence[LabelFile], *, alone: bool) -> Patient:
    """A patient's visits in order, checked."""
    patient = check_study_id(patient, source="the name of the patient")
    for visit in visits:
        check_study_id(visit.label, source="the name of a visit")
        if visit.error is not None:
            raise InputError(f"{visit_named(visit.label)}: {visit.error}")
    labels = [visit.label for visit in visits]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise InputError(f"patient {patient} has two visits called {twice[0]}. Give each its own name.")
    if len(visits) == 1:
        raise InputError(
            f"patient {patient} has one visit ({labels[0]}), and a course needs two or more. Pass the folder that "
            f"holds all visits, or brats-seg segment for one. {_NAMED_ALIKE}"
        )
    dating, days = _dating(patient, visits)
    files = []
    for visit, day in zip(visits, days, strict=True):
        study_id = f"{patient}_{visit.label}"
        mask = visit.mask or _mask_of(patient, visit.label, masks, len(visits) if alone else 0)
        if masks and mask is None:
            raise InputError(
                f"there is no label map of {visit_named(visit.label)} of patient {patient} among the segmentations. "
                f"Call it {study_id}_seg.nii.gz, or leave --segmentations out to have every visit segmented."
            )
        known = visit.scans or Timepoint(study_id, {})
        files.append(replace(known, id=study_id, label=visit.label, mask=mask, day=day))
    _one_kind(patient, files)
    notes = list(dict.fromkeys(note for visit in files for note in visit.notes))
    order = in_order(labels)
    if dating is Calendar.ORDER:
        if order is None:
            raise InputError(
                f"nothing says in which order the visits of patient {patient} were ({', '.join(labels)}). Give their "
                "dates in a visits.csv or sessions.tsv, or name them like visit1, week2, preop, postop and fu1."
            )
        by_name = sorted(files, key=lambda visit: order.index(visit.label))
        notes.append(
            "no dates are known: visits are taken in the order of their names "
            f"({', '.join(order)}), and nothing that needs days is given"
        )
        return Patient(patient, tuple(by_name), dating, tuple(notes))
    in_time = sorted(files, key=lambda visit: visit.day or DAY_ZERO)
    shown = [visit.label for visit in in_time]
    if shown != (order or sorted(labels)):
        notes.append(f"visits are taken in the order of their dates: {', '.join(shown)}")
    doubts = []
    if order is not None and shown != order:
        notes[-1] += f"; their names say {', '.join(order)}: check the dates"
        doubts = notes[-1:]
    return Patient(patient, tuple(in_time), dating, tuple(notes), tuple(doubts))


def _one_kind(patient: str, files: Sequence[Timepoint]) -> None:
    """Label maps without scans lie in one space by agreement, which scans at other visits would contradict."""
    without = [visit.label for visit in files if not visit.files]
    if without and len(without) < len(files):
        raise InputError(
            f"{visit_named(without[0])} of patient {patient} has a label map and no scans, while others have scans, so "
            "that it cannot be aligned to them. Add its scans, or give every visit as a label map in one space."
        )


def _dating(patient: str, visits: Sequence[_Found]) -> tuple[Calendar, list[date | None]]:
    whens = [visit.when for visit in visits]
    known = [when for when in whens if when is not None]
    if not known:
        return Calendar.ORDER, [None] * len(visits)
    without = [visit.label for visit in visits if visit.when is None]
    if without:
        raise InputError(
            f"{visit_named(without[0])} of patient {patient} has no date, and others have. Add it to the table of "
            "visits (visits.csv or sessions.tsv), or leave the dates of all visits out."
        )
    calendars = {Calendar.DATES if isinstance(when, date) else Calendar.DAYS for when in known}
    if len(calendars) > 1:
        raise InputError(f"patient {patient} has dates and day offsets mixed. Give one or the other for all visits.")
    (calendar,) = calendars
    days = [when if isinstance(when, date) else DAY_ZERO + timedelta(days=when) for when in known]
    for index, day in enumerate(days):
        if day in days[:index]:
            one, two = visits[days.index(day)].label, visits[index].label
            raise InputError(
                f"visits {one} and {two} of patient {patient} have the same date, {say(day, calendar)}, and the course "
                "counts days. Correct one; of two scans on one day, as before and after surgery, give the later one "
                "the next day."
            )
    return calendar, list(days)


def _mask_of(patient: str, label: str, masks: Sequence[LabelFile], visits: int) -> Path | None:
    """The label map of a visit, by its id, its folder, or the visit's name where that is unambiguous."""
    wanted = {f"{patient}_{label}".lower(), f"{patient}-{label}".lower()}
    whole = [mask for mask in masks if {mask.id.lower(), mask.folder_id.lower()} & wanted]
    if not whole and len(masks) <= visits:
        whole = [mask for mask in masks if _key(label) in (_key(mask.id), _key(mask.folder_id))]
    if len(whole) > 1:
        raise InputError(
            f"two label maps could belong to visit {label} of patient {patient}: {whole[0].path} and {whole[1].path}. "
            "Keep one."
        )
    return whole[0].path if whole else None


def _without_collisions(patients: Sequence[Patient], on_error: OnError | None) -> list[Patient]:
    """Patients whose results would not lie in one another's folder, also where names are equal but for case."""
    taken = Counter(name.lower() for patient in patients for name in _folders_of(patient))
    left = []
    for patient in patients:
        twice = sorted(name for name in _folders_of(patient) if taken[name.lower()] > 1)
        if not twice:
            left.append(patient)
            continue
        error = InputError(
            f"results of another patient would be called {twice[0]} too (patient and visit are joined by '_', and "
            "capitals make no difference). Rename one of the two."
        )
        if on_error is None:
            raise error
        on_error(patient.id, error)
    return left


def _folders_of(patient: Patient) -> set[str]:
    return {f"patient {patient.id}", *(visit.id for visit in patient.visits)}


def _with_unused(
    patients: Sequence[Patient], masks: Sequence[LabelFile], place: Path | None, *, alone: bool
) -> tuple[Patient, ...]:
    """Patients with a note on label maps of theirs that belong to no visit.

    Raises:
        InputError: if no label map at all belongs to a visit.
    """
    used = {visit.mask for patient in patients for visit in patient.visits}
    left = [mask for mask in masks if mask.path not in used]
    if masks and patients and len(left) == len(masks):
        shown = ", ".join(mask.id for mask in masks[:4])
        raise InputError(f"no label map in {place} belongs to a visit (label maps found: {shown}). Name them alike.")
    result = []
    for patient in patients:
        own = [
            m.path.name
            for m in left
            if alone or m.id.lower().startswith((f"{patient.id.lower()}_", f"{patient.id.lower()}-"))
        ]
        words = f"label maps of no visit, not used: {', '.join(own)}"
        told = replace(patient, notes=(*patient.notes, words), warnings=(*patient.warnings, words))
        result.append(told if own else patient)
    return tuple(result)
