"""Finding a patient's visits: whose they are, in which order, with which dates, and the files of each.

Understood are BIDS (``sub-X/ses-Y`` with ``sessions.tsv``), BraTS names that end in the visit (``-000``, ``-001``),
folders or files named by visit (``visit1``, ``time2``, ``baseline``) or by date, and a table ``visits.csv``
(:mod:`brats_seg.io.visit_table`). A name that could be a patient as well as a visit is not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.study import MRSequence, patient_of
from brats_seg.core.tables import DAY_ZERO
from brats_seg.io.discover import StudyFiles, check_study_id, find_study, study_folders
from brats_seg.io.match_labels import LabelFile, find_label_files, label_names
from brats_seg.io.names import Role, is_nifti, read_names, stem
from brats_seg.io.visit_table import TABLE_NAME, TableVisit, When, parse_when, read_sessions, read_visit_table

_WORDS = (
    *("visit", "time", "timepoint", "tp", "scan", "study", "session", "exam", "mri", "day", "week", "month", "year"),
    *("fu", "followup", "follow-up", "baseline", "pre", "post", "preop", "postop", "pre-op", "post-op", "preoperative"),
    *("postoperative", "v", "d", "w", "m"),
)
_VISIT = re.compile(rf"(?:ses-[A-Za-z0-9]+|(?:{'|'.join(_WORDS)})[_-]?\d*|\d{{1,3}})", re.IGNORECASE)
_BIDS = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?")
_MASK_ENDING = re.compile(r"[_\-. ]+(?:dseg|seg|segmentation|labels?|mask|gt|groundtruth)$", re.IGNORECASE)
_NAMED_ALIKE = "Name folders like visit1 or 2024-01-31, or files like CASE-000 and CASE-001, or write a visits.csv."


class Dating(StrEnum):
    """What is known of when the visits were."""

    DATES = "dates"
    DAYS = "day offsets"
    NONE = "no dates"


@dataclass(frozen=True)
class VisitFiles:
    """The files of one visit.

    Attributes:
        label: name of the visit within its patient.
        study_id: name in outputs, ``<patient>_<visit>``.
        scans: None where there is a label map alone.
        mask: an existing label map that is to be used; None to segment the scans.
        day: date, or :data:`DAY_ZERO` and the days since; None where neither is known.
    """

    label: str
    study_id: str
    scans: StudyFiles | None
    mask: Path | None = None
    day: date | None = None


@dataclass(frozen=True)
class PatientFiles:
    """All visits of one patient.

    Attributes:
        id: name of the patient, safe as a file name.
        visits: in order of time, or of their names where nothing says when they were.
        dating: what is known of when they were.
        notes: what was noticed, in words.
    """

    id: str
    visits: tuple[VisitFiles, ...]
    dating: Dating
    notes: tuple[str, ...] = ()


OnError = Callable[[str, InputError], None]


def find_patients(
    place: Path,
    *,
    table: Path | None = None,
    segmentations: Path | None = None,
    on_error: OnError | None = None,
) -> tuple[PatientFiles, ...]:
    """Every patient in a folder; a folder of visits is one patient.

    Args:
        place: a patient's folder of visits, or a folder of patients.
        table: ``visits.csv``; None takes the one in ``place`` if there is one.
        segmentations: a folder of label maps to be used instead of segmenting, matched by visit.
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
    found = _from_table(place, rows) if any(row.has_files for row in rows) else _from_folders(place, rows)
    patients = []
    for patient, visits in found.items():
        try:
            files = _finish(patient, visits, masks, place)
            patients.append(replace(files, notes=(*unused, *files.notes)))
        except InputError as error:
            if on_error is None:
                raise
            on_error(patient, error)
    _check_masks_used(masks, patients, segmentations)
    return tuple(patients)


@dataclass(frozen=True)
class _Found:
    """One visit before dates and masks are settled."""

    label: str
    scans: StudyFiles | None
    mask: Path | None = None
    when: When | None = None
    error: InputError | None = None


def _from_table(place: Path, rows: Sequence[TableVisit]) -> dict[str, list[_Found]]:
    found: dict[str, list[_Found]] = {}
    for row in rows:
        patient = row.patient or place.resolve().name
        files = StudyFiles(f"{patient}_{row.visit}", row.scans) if row.scans else None
        found.setdefault(patient, []).append(_Found(row.visit, files, row.segmentation, row.when))
    return found


def _from_folders(place: Path, rows: Sequence[TableVisit]) -> dict[str, list[_Found]]:
    found: dict[str, list[_Found]] = {}
    unclear: list[str] = []
    for folder in study_folders(place):
        for patient, visit in _visits_in(folder, place):
            if not patient:
                unclear.append(visit.label)
            found.setdefault(patient or visit.label, []).append(visit)
    if len(unclear) > 1 and len(unclear) == len(found):
        shown = ", ".join(unclear[:3]) + (", …" if len(unclear) > 3 else "")
        raise InputError(
            f"{place} holds {len(unclear)} studies ({shown}), and nothing says which are visits of one patient. "
            f"{_NAMED_ALIKE}"
        )
    sessions = {patient: _sessions_of(place, patient, len(found)) for patient in found}
    return {patient: _dated(patient, visits, rows, sessions[patient]) for patient, visits in found.items()}


def _visits_in(folder: Path, root: Path) -> list[tuple[str, _Found]]:
    """Patient and visit of everything in one folder of files; an empty patient where the names do not say."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and is_nifti(path.name))
    groups = _grouped(names)
    if len(groups) > 1 and len({_split(prefix)[0] for prefix in groups}) < len(groups):
        result = []
        for prefix, members in groups.items():
            patient, label = _split(prefix)
            result.append((patient if label else "", _several_in_one(folder, prefix, label or prefix, members)))
        return result
    own = folder.parent if folder.name.lower() == "anat" else folder
    scans, mask, error = _one_study(folder, names)
    prefix = next(iter(groups), "")
    study_id = prefix if _BIDS.fullmatch(prefix) else own.resolve().name
    for candidate in (study_id, prefix):
        patient, label = _split(candidate)
        if label:
            return [(patient, _Found(label, scans, mask, parse_when(label), error))]
    if _is_visit(own.resolve().name):
        parent = own.resolve().parent.name
        inside = own.resolve() != root.resolve()
        label = own.resolve().name
        return [(parent if inside else "", _Found(label, scans, mask, parse_when(label), error))]
    return [("", _Found(study_id, scans, mask, None, error))]


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
            prefix = bids.group(0) if bids else _MASK_ENDING.sub("", stem(name))
        else:
            continue
        groups.setdefault(prefix, []).append(name)
    merged: dict[str, list[str]] = {}
    for prefix in sorted(groups, key=lambda text: (len(text), text)):
        home = next(
            (known for known in merged if prefix.startswith(known) and not prefix[len(known) : len(known) + 1].isalnum()
             and _split(prefix)[1] == _split(known)[1]),
            prefix,
        )  # fmt: skip
        merged.setdefault(home, []).extend(groups[prefix])
    return merged


def _split(study_id: str) -> tuple[str, str]:
    """Patient and visit that an id names; an empty visit where it names none."""
    bids = _BIDS.fullmatch(study_id)
    if bids:
        return bids.group(1), bids.group(2) or ""
    patient = patient_of(study_id)
    if patient != study_id:
        return patient, study_id[len(patient) :].lstrip("-_")
    found = re.fullmatch(r"(.+?)[_-](\d{4}-\d{2}-\d{2}|(?:19|20)\d{6})", study_id)
    if found and parse_when(found.group(2)) is not None:
        return found.group(1), found.group(2)
    return study_id, ""


def _is_visit(name: str) -> bool:
    when = parse_when(name)
    return bool(_VISIT.fullmatch(name)) or (when is not None and when.day is not None)


def _one_study(folder: Path, names: Sequence[str]) -> tuple[StudyFiles | None, Path | None, InputError | None]:
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
        return _Found(label, StudyFiles(prefix, files), None, parse_when(label))
    if len(masks) == 1:
        return _Found(label, None, folder / masks[0], parse_when(label))
    return _Found(label, None, error=InputError(f"{prefix} has {len(masks)} label maps and no scan. Keep one."))


def _sessions_of(place: Path, patient: str, patients: int) -> tuple[Path, dict[str, When]] | None:
    """The sessions table of a patient, wherever BIDS or habit puts it."""
    folders = [place / patient] + ([place] if patients == 1 or place.resolve().name == patient else [])
    names = (f"{patient}_sessions.tsv", "sessions.tsv", TABLE_NAME)
    for path in (folder / name for folder in folders for name in names):
        if path.is_file() and path != place / TABLE_NAME:
            return path, read_sessions(path)
    return None


def _dated(
    patient: str,
    visits: list[_Found],
    rows: Sequence[TableVisit],
    sessions: tuple[Path, dict[str, When]] | None,
) -> list[_Found]:
    """Visits with the dates of a table, which go before those in names."""
    named = {row.visit: row.when for row in rows if row.patient in ("", patient)}
    source = rows[0].table if named else ""
    if not named and sessions is not None:
        source, named = sessions[0].name, dict(sessions[1])
    if not named:
        return visits
    by_key = {_key(label): when for label, when in named.items()}
    labels = {_key(visit.label) for visit in visits}
    unknown = [label for label in named if _key(label) not in labels]
    if unknown and rows:
        raise InputError(
            f"{source} names visit {unknown[0]!r} of patient {patient}, and there are no scans of it (visits found: "
            f"{', '.join(visit.label for visit in visits)}). Correct the name, or remove the row."
        )
    return [replace(visit, when=by_key.get(_key(visit.label))) for visit in visits]


def _key(label: str) -> str:
    return label.lower().removeprefix("ses-")


def _finish(patient: str, visits: list[_Found], masks: Sequence[LabelFile], place: Path) -> PatientFiles:
    """A patient's visits in order, checked."""
    check_study_id(patient, source="the name of the patient's folder")
    for visit in visits:
        check_study_id(visit.label, source="the name of a visit")
        if visit.error is not None:
            raise InputError(f"visit {visit.label}: {visit.error}")
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
        scans = None if visit.scans is None else replace(visit.scans, id=study_id)
        mask = visit.mask or _mask_of(patient, visit.label, masks, len(visits))
        if masks and mask is None:
            raise InputError(
                f"there is no label map of visit {visit.label} of patient {patient} among the segmentations. Call it "
                f"{study_id}_seg.nii.gz, or leave --segmentations out to have every visit segmented."
            )
        files.append(VisitFiles(visit.label, study_id, scans, mask, day))
    _one_kind(patient, files)
    by_name = sorted(files, key=lambda visit: _natural(visit.label))
    notes = list(dict.fromkeys(note for visit in files if visit.scans for note in visit.scans.notes))
    if dating is Dating.NONE:
        notes.append(
            "no dates are known: visits are taken in the order of their names "
            f"({', '.join(visit.label for visit in by_name)}), and nothing that needs days is given"
        )
        return PatientFiles(patient, tuple(by_name), dating, tuple(notes))
    in_time = sorted(files, key=lambda visit: visit.day or DAY_ZERO)
    if in_time != by_name:
        notes.append(f"visits are taken in the order of their dates: {', '.join(visit.label for visit in in_time)}")
    return PatientFiles(patient, tuple(in_time), dating, tuple(notes))


def _one_kind(patient: str, files: Sequence[VisitFiles]) -> None:
    """Label maps without scans lie in one space by agreement, which scans at other visits would contradict."""
    without = [visit.label for visit in files if visit.scans is None]
    if without and len(without) < len(files):
        raise InputError(
            f"visit {without[0]} of patient {patient} has a label map and no scans, while others have scans, so that "
            "it cannot be aligned to them. Add its scans, or give every visit as a label map in one space."
        )


def _dating(patient: str, visits: Sequence[_Found]) -> tuple[Dating, list[date | None]]:
    whens = [visit.when for visit in visits]
    known = [when for when in whens if when is not None]
    if not known:
        return Dating.NONE, [None] * len(visits)
    without = [visit.label for visit in visits if visit.when is None]
    if without:
        raise InputError(
            f"visit {without[0]} of patient {patient} has no date, and others have. Add it to the table of visits "
            "(visits.csv or sessions.tsv), or leave the dates of all visits out."
        )
    kinds = {when.day is None for when in known}
    if len(kinds) > 1:
        raise InputError(f"patient {patient} has dates and day offsets mixed. Give one or the other for all visits.")
    days = [when.day or DAY_ZERO + timedelta(days=when.offset or 0) for when in known]
    for index, day in enumerate(days):
        if day in days[:index]:
            one, two = visits[days.index(day)].label, visits[index].label
            shown = known[index].words
            raise InputError(
                f"visits {one} and {two} of patient {patient} have the same date, {shown}, and the course counts days. "
                "Correct one; of two scans on one day, as before and after surgery, give the later one the next day."
            )
    return (Dating.DAYS if kinds == {True} else Dating.DATES), list(days)


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


def _check_masks_used(masks: Sequence[LabelFile], patients: Iterable[PatientFiles], place: Path | None) -> None:
    used = {visit.mask for patient in patients for visit in patient.visits}
    if masks and not any(mask.path in used for mask in masks):
        shown = ", ".join(mask.id for mask in masks[:4])
        raise InputError(f"no label map in {place} belongs to a visit (label maps found: {shown}). Name them alike.")


def _natural(text: str) -> list[tuple[int, str]]:
    """Sort key in which ``visit10`` follows ``visit9``, and ``baseline`` and ``pre`` come first."""
    first = -1 if text.lower().startswith(("baseline", "pre")) else 0
    parts = re.findall(r"\d+|\D+", text.lower())
    return [(first, ""), *((int(part), "") if part.isdigit() else (0, part) for part in parts)]
