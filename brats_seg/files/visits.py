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
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.study import Patient, Timepoint
from brats_seg.core.tables import DAY_ZERO, Calendar, latest_day, say
from brats_seg.core.words import some, visit_named
from brats_seg.files.dicom_study import Asked
from brats_seg.files.match_labels import LabelFile, find_label_files
from brats_seg.files.study_id import check_study_id
from brats_seg.files.visit_names import in_order, plain_label
from brats_seg.files.visit_table import TABLE_NAME, FoundVisit, bids_dates, read_visit_table
from brats_seg.files.visits_in_folders import NAMED_ALIKE, visits_in_folders

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
    name = "" if table is None else table.name
    rows, columns = read_visit_table(table) if table is not None else ((), ())
    unused = [f"{name}: not used: {', '.join(columns)}"] if rows and columns else []
    has_files = any(row.has_files for row in rows)
    found = _from_table(place, rows) if has_files else visits_in_folders(place, asked or {})
    if not has_files and not any(row.patient for row in rows) and rows and len(found) > 1:
        raise InputError(
            f"{name} has no column patient, and there are {len(found)} patients "
            f"({some(found, 3)}). Add the column, or pass one patient."
        )
    rows, strangers = _spelt(rows, list(found), name)
    unused += strangers
    patients = []
    for patient, visits in found.items():
        try:
            for row in rows:
                if row.error is not None and row.patient == patient:
                    raise row.error
            dated = visits if has_files else _dated(patient, visits, rows, place, name)
            files = _finish(patient, dated, masks, alone=len(found) == 1)
            patients.append(replace(files, notes=(*unused, *files.notes), warnings=(*unused, *files.warnings)))
        except InputError as error:
            if on_error is None:
                raise
            on_error(patient, error)
    return _with_unused(_without_collisions(patients, on_error), masks, segmentations, alone=len(found) == 1)


def _spelt(rows: Sequence[FoundVisit], patients: Sequence[str], table: str) -> tuple[tuple[FoundVisit, ...], list[str]]:
    """Rows of a table with their patients spelt as the folders are, and a note of those who have none."""

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
            f"{table} names patients {', '.join(nobody)}, and there are no scans of them (patients found: "
            f"{', '.join(patients)}). Write them alike."
        )
    note = [f"{table}: no scans of patient {some(nobody, 4)}; those rows are not used"] if nobody else []
    return tuple(replace(row, patient=spelt.get(row.patient) or row.patient) for row in rows), note


def _from_table(place: Path, rows: Sequence[FoundVisit]) -> dict[str, list[FoundVisit]]:
    found: dict[str, list[FoundVisit]] = {}
    for row in rows:
        patient = row.patient or place.resolve().name
        found.setdefault(patient, []).append(replace(row, label=plain_label(row.label)))
    return found


def _dated(
    patient: str, visits: list[FoundVisit], rows: Sequence[FoundVisit], place: Path, table: str
) -> list[FoundVisit]:
    """Visits with the dates of a table, which go before those in names; what a table leaves open, the names say."""
    named = {row.label: row.when for row in rows if row.patient in ("", patient) and row.when is not None}
    listed = [row.label for row in rows if row.patient in ("", patient)]
    keys = _matched([visit.label for visit in visits], listed)
    unknown = [label for label in listed if label not in keys.values()]
    if unknown:
        raise InputError(
            f"{table} names visit {unknown[0]!r} of patient {patient}, and there are no scans of it (visits "
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


def _finish(patient: str, visits: list[FoundVisit], masks: Sequence[LabelFile], *, alone: bool) -> Patient:
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
            f"holds all visits, or brats-seg segment for one. {NAMED_ALIKE}"
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
    ahead = [visit.label for visit in files if dating is Calendar.DATES and (visit.day or DAY_ZERO) > latest_day()]
    doubts += [f"{visit_named(label)} is dated in the future: check the date" for label in ahead]
    notes += doubts[len(doubts) - len(ahead) :]
    return Patient(patient, tuple(in_time), dating, tuple(notes), tuple(doubts))


def _one_kind(patient: str, files: Sequence[Timepoint]) -> None:
    """Label maps without scans lie in one space by agreement, which scans at other visits would contradict."""
    without = [visit.label for visit in files if not visit.files]
    if without and len(without) < len(files):
        raise InputError(
            f"{visit_named(without[0])} of patient {patient} has a label map and no scans, while others have scans, so "
            "that it cannot be aligned to them. Add its scans, or give every visit as a label map in one space."
        )


def _dating(patient: str, visits: Sequence[FoundVisit]) -> tuple[Calendar, list[date | None]]:
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
    """Patients with a note on label maps of theirs that belong to no visit."""
    used = {visit.mask for patient in patients for visit in patient.visits}
    left = [mask for mask in masks if mask.path not in used]
    if masks and patients and len(left) == len(masks):
        shown = some((mask.id for mask in masks), 4)
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
