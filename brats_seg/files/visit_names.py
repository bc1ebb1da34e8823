"""What the name of a visit says of its time: a date, or a place in an order that is known; never a guess.

Pure text. ``preop`` comes before ``postop`` and that before ``fu1``; days, weeks, months and years count as such;
``visit2`` comes before ``visit10``. What cannot be ordered with the others has no order.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from brats_seg.core.errors import InputError
from brats_seg.core.words import word_set

_YMD = re.compile(r"(?<!\d)((?:18|19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)(?:[T_ -]?\d{4,6})?(?!\d)")
_DMY = re.compile(r"(?<!\d)(\d\d)([-_.])(\d\d)\2((?:19|20)\d\d)(?!\d)")
_NUMBERED = re.compile(
    r"(?<![A-Za-z])(visit|timepoint|time|tp|ses|fu|week|month|day)[-_]?(\d{1,4})(?![A-Za-z\d])", re.IGNORECASE
)
_BEFORE = word_set("pre preop preoperative presurgery baseline bl initial screening diagnosis before")
_BETWEEN = word_set("intraop intraoperative")
_AFTER = word_set("post postop postoperative postsurgery")
_FOLLOW = word_set("fu followup")
_DAYS = {
    **dict.fromkeys(("h", "hour", "hours"), 1 / 24),
    **dict.fromkeys(("d", "day", "days"), 1.0),
    **dict.fromkeys(("w", "wk", "week", "weeks"), 7.0),
    **dict.fromkeys(("m", "mo", "month", "months"), 30.4),
    **dict.fromkeys(("y", "yr", "year", "years"), 365.25),
}
_COUNTED = word_set("visit time timepoint tp scan study session exam mri v t s")
_BESIDE_DATES = word_set(
    """
    mr brain head routine control protocol contrast rt radiotherapy surgery op treatment therapy chemo biopsy first
    second third last am pm up follow
    """
)
"""Words that say nothing of a person, as the others of this page."""
_FIRST_FOLLOW_DAYS = 7.0
"""From here on a number of days or more comes after a scan called ``postop``."""


@dataclass(frozen=True)
class _Place:
    """Where a visit stands: a kind of naming, and numbers to sort by within it."""

    kind: str
    numbers: tuple[float, ...]


def plain_label(label: str) -> str:
    """A visit's name with composed letters and without spaces, where it names a visit; else as it is."""
    composed = unicodedata.normalize("NFC", label)
    joined = re.sub(r"\s+", "_", composed.strip())
    return joined if is_visit_name(joined) else composed


def date_in_name(name: str) -> date | None:
    """The date in a name (``20240131_MRI``, ``31-01-2024``, ``TP1_2024-01-31``), or None.

    Raises:
        InputError: if it cannot be a date, or could be two.
    """
    found = _YMD.search(name)
    if found:
        year, month, day = (int(found.group(n)) for n in (1, 3, 4))
    else:
        found = _DMY.search(name)
        if not found:
            return None
        day, month, year = (int(found.group(n)) for n in (1, 3, 4))
        if day <= 12 and month <= 12 and day != month:
            raise InputError(
                f"{found.group()} could be two dates, as day or month comes first. Write it as {year}-MM-DD."
            )
        if month > 12:
            day, month = month, day
    try:
        return date(year, month, day)
    except ValueError:
        is_all = re.sub(r"^ses-", "", name, flags=re.IGNORECASE) == found.group()
        if is_all or found.group(2):
            raise InputError(f"{found.group()} is no date. Correct the name, as in 2024-01-31.") from None
        return None


def visit_told_by(name: str) -> str:
    """The date or the numbered visit in the name of a file, to hold against others; empty without one."""
    for found in (*_YMD.finditer(name), *_DMY.finditer(name)):
        year, month, day = (found.group(n) for n in ((1, 3, 4) if len(found.group(1)) == 4 else (4, 3, 1)))
        if int(month) <= 12 and 1 <= int(day) <= 31:
            return f"{year}-{month}-{day}"
    numbered = _NUMBERED.search(name)
    return f"{numbered.group(1).lower()}{int(numbered.group(2))}" if numbered else ""


def is_visit_name(name: str) -> bool:
    """Whether a name is that of a visit, and could not be a patient's."""
    if name.lower().startswith("ses-") and re.fullmatch(r"ses-[A-Za-z0-9]+", name, re.IGNORECASE):
        return True
    try:
        if date_in_name(name) is not None:
            return _names_nobody(name)
    except InputError:
        return True
    place = _place(name)
    return place is not None and place.kind not in ("number", "letter", "count s")  # S01 is a subject as well


def _names_nobody(name: str) -> bool:
    """Whether what stands beside the date in a name cannot be a person's id: ``MRI``, ``postop``, ``TP1``, ``2``."""
    beside = _DMY.sub(" ", _YMD.sub(" ", name.lower()))
    words = re.findall(r"[a-z]+|\d+", beside)
    known = _BEFORE | _BETWEEN | _AFTER | _FOLLOW | _BESIDE_DATES | set(_DAYS) | (_COUNTED - {"s"})
    return not re.sub(r"[a-z\d]+|[-_. ()]+", "", beside) and all(
        word in known or (word.isdigit() and len(word) <= 2) for word in words
    )


def in_order(labels: Sequence[str]) -> list[str] | None:
    """Visits in the order their names tell, or None where they do not tell one."""
    places = {label: _place(re.sub(r"^ses-", "", _year_first(label), flags=re.IGNORECASE)) for label in labels}
    known = {label: place for label, place in places.items() if place is not None}
    if len(known) < len(labels):
        return None
    kinds = {place.kind for place in known.values()}
    counted = kinds - {"stage 0", "stage 1", "stage 2", "follow", "unit"}
    if len(counted) > 1 or (counted and kinds - counted - {"stage 0"}):
        return None
    if {"follow", "unit"} <= kinds or ("unit" in kinds and "stage 1" in kinds):
        return None
    early = [place for place in known.values() if place.kind == "unit" and place.numbers[0] < _FIRST_FOLLOW_DAYS]
    if "stage 2" in kinds and early:
        return None
    rank = {"stage 0": 0, "stage 1": 1, "stage 2": 2}
    keys = {label: (rank.get(place.kind, 3), place.numbers) for label, place in known.items()}
    if len(set(keys.values())) < len(labels):
        return None
    order = sorted(labels, key=lambda label: keys[label])
    signed = [label for label, place in known.items() if place.kind == "unit" and re.match(r"\D+-\d", label)]
    before = {label: (keys[label][0], (-keys[label][1][0],)) for label in signed}
    # Beside "week0", "week-1" may be the week before.
    may_be = order if len(before) == len(labels) else sorted(labels, key=lambda label: before.get(label, keys[label]))
    return order if may_be == order else None


def _year_first(name: str) -> str:
    """A name whose date, if it has a certain one, is written as ``2024-01-31``, so that it sorts."""
    try:
        day = date_in_name(name)
    except InputError:
        return name
    return name if day is None else _DMY.sub(day.isoformat(), name)


def _place(name: str) -> _Place | None:
    """What a name says of the order, or None."""
    folded = re.sub(r"follow[-_ ]?up", "followup", name.lower())
    folded = re.sub(r"(pre|post|intra)[-_ ]?(op|operative|surgery)\b", r"\1\2", folded)
    parts: list[str] = re.findall(r"[a-z]+|\d+", folded)
    if not parts or re.sub(r"[a-z\d]+|[-_. ]+", "", folded):
        return None
    words = [part for part in parts if part.isalpha()]
    if words and parts[0].isdigit() and (words[0] not in _DAYS or parts[-1] != words[0]):
        return None  # in "001_visit2" the first number is somebody; in "3months" it is the place
    numbers = tuple(float(part) for part in parts if part.isdigit())
    if len(words) > 1:
        return None
    return _place_of(words[0] if words else "", numbers)


def _place_of(word: str, numbers: tuple[float, ...]) -> _Place | None:
    """The place of one word with its numbers."""
    kinds = [(f"stage {rank}", known) for rank, known in enumerate((_BEFORE, _BETWEEN, _AFTER))]
    kinds += [("follow", _FOLLOW), (f"count {word}", _COUNTED), ("number", frozenset({""}))]
    for kind, known in kinds:
        if word in known and not (word in _DAYS and numbers):
            return _Place(kind, numbers or (0.0,))
    if word in _DAYS and numbers:
        return _Place("unit", (numbers[0] * _DAYS[word], *numbers[1:]))
    return _Place("letter", (float(ord(word)),)) if len(word) == 1 and not numbers else None


_VISIT_WORDS = (
    r"(?:visit|time|timepoint|tp|scan|study|session|exam|day|week|month|year|fu|follow[_-]?up)[_-]?\d+(?:[_-]\d+)?"
    r"|baseline|bl|follow[_-]?up|pre|post|(?:pre|post|intra)[_-]?op(?:erative)?|ses-[A-Za-z0-9]+"
    r"|(?:19|20)\d\d[-_.]?\d\d[-_.]?\d\d"
)
_VISITS = (
    re.compile(r"^(?:19|20)\d\d[-_.]?\d\d[-_.]?\d\d[-_](.*[A-Za-z].*)$"),
    re.compile(r"^(BraTS-[A-Za-z-]+-\d{5})-\d{3}$"),
    re.compile(r"^(Brats1[2-9]_\w+_\w+)_\d+$", re.IGNORECASE),
    re.compile(rf"^(.+?)[_-](?:{_VISIT_WORDS})$", re.IGNORECASE),
    re.compile(r"^(.*\d)_[svtdwmy]\d{1,3}$", re.IGNORECASE),
    re.compile(r"^(.*[_-]\d{4,})_\d{1,2}$"),
)
"""How ids name the visit: a date before the patient, or behind it BraTS 2023 on, BraTS 2012 to 2019, BIDS, words and
dates, short forms behind a number (``R001_S1``), and a number of two digits behind one of four or more
(``UPENN-GBM-00002_11``)."""


def patient_of(study_id: str) -> str:
    """The patient a study belongs to, by its id; the id itself where it names no visit.

    Example:
        >>> patient_of("BraTS-GLI-00099-001"), patient_of("sub-7_ses-02"), patient_of("BraTS2021_00495")
        ('BraTS-GLI-00099', 'sub-7', 'BraTS2021_00495')
    """
    if is_visit_name(study_id):
        return study_id
    for pattern in _VISITS:
        found = pattern.match(study_id)
        if found:
            return found.group(1)
    return study_id
