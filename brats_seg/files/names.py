"""What a file name says: which sequence, whose study, or that it is no input at all.

Pure text; nothing here touches the disk. Conventions read: BraTS 2012 to 2025, BIDS (entities and suffixes), and
the words people and scanners use (:mod:`brats_seg.files.name_words`). Words and the signs between them decide; a name
that says two things, or leaves one open, is not understood rather than guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from brats_seg.core.study import MRSequence
from brats_seg.files.name_words import (
    AFTER,
    BEFORE,
    CONTRAST,
    CUT,
    DASHES,
    DENYING,
    DERIVED,
    DESCRIPTIVE,
    DOUBTFUL,
    EVENTS,
    FILLERS,
    FLAIR_WORDS,
    LABELS,
    LATE,
    MASKS,
    MODEL_WORDS,
    NATIVE,
    PIECE,
    PLACED,
    PLUS,
    SEQUENCE_WORDS,
    T2_WORDS,
    TARGETS,
    WITH,
    WITHOUT,
    Word,
    fold,
    parts_of,
    words_of,
)

NIFTI_ENDINGS = (".nii.gz", ".nii")
_FORMAT = re.compile(r"\.nii(?:\.gz)?$|(?:\.nii(?:\.gz)?)?(?:\.seg)?\.nrrd$|\.dcm$", re.IGNORECASE)
"""3D Slicer puts its ending behind that of the file a segmentation began with: ``case_dseg.nii.seg.nrrd``."""


class Role(Enum):
    """What a file is, by its name."""

    IMAGE = "image"
    LABELS = "labels"
    NOT_INPUT = "not an input"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class NameReading:
    """What was understood of one file name.

    Attributes:
        sequence: for images.
        prefix: the part before the sequence, usually the study's id; BIDS: ``sub-X`` or ``sub-X_ses-Y``.
    """

    role: Role
    sequence: MRSequence | None = None
    prefix: str = ""


_CONTRARY = {"t1": {MRSequence.T2}, "t2": {MRSequence.T1}}
"""What a scan called so is not; t0 and t3 are no scans at all."""

_BIDS_KEYS = ("ce", "acq", "rec", "desc", "part", "inv", "mt")


def is_nifti(name: str) -> bool:
    """Whether a file name ends as NIfTI files do."""
    return name.lower().endswith(NIFTI_ENDINGS)


def stem(name: str) -> str:
    """A file name without the ending of its format: NIfTI, NRRD with or without segments, DICOM."""
    return _FORMAT.sub("", name)


def is_brain_mask(name: str) -> bool:
    """Whether a file's name calls it a mask of the brain, as ``case_t1_brainmask`` and HD-BET's ``case_mask`` do."""
    text = fold(stem(name))
    return "mask" in text and not any(word in text for word in ("tumor", "tumour", "lesion", "seg"))


def read_names(names: Sequence[str]) -> dict[str, NameReading]:
    """What each NIfTI name of one folder says.

    Leading words that all names share (a patient's id) are left out where that does not lose a sequence, so that an
    id such as ``fla-0012`` is not taken for a FLAIR; so are time points called T1 and T2.
    """
    shared = _shared_pieces(names)
    times = _time_points(names, shared)
    return {name: read_name(name, skip=times.get(name, shared)) for name in names}


@lru_cache(maxsize=4096)  # finding studies reads the names of a folder several times
def read_name(name: str, *, skip: int = 0) -> NameReading:
    """What one NIfTI name says.

    Args:
        name: file name without folders.
        skip: leading words that belong to the id.
    """
    text = stem(name)
    if text.lower().startswith("sub-") and "_" in text:
        return _read_bids(text)
    words = [word for word in words_of(text) if word.piece >= skip]
    found = _sequence(words)
    role = _role_of_other(words, found)
    prefix = _prefix(text, found.piece if found else len(PIECE.findall(text)))
    if role is not None:
        return NameReading(role, prefix=prefix)
    if found is None or found.sequence is None:
        return NameReading(Role.UNCLEAR)
    return NameReading(Role.IMAGE, found.sequence, prefix)


@dataclass(frozen=True)
class _Match:
    """Where the sequence begins (word, and piece of the name), and the sequence; None if it is not clear which."""

    start: int
    piece: int
    sequence: MRSequence | None


def _role_of_other(words: Sequence[Word], found: _Match | None) -> Role | None:
    """The role of a file that is no scan of the four, or None."""
    texts = [word.text for word in words]
    held = set(texts)
    if held & {"tumor", "tumour"} and held & MASKS:
        return Role.LABELS
    if held & (MODEL_WORDS | MASKS) or any(t.endswith(("lesions", "mask")) and t not in LABELS for t in texts):
        return Role.NOT_INPUT
    if held & LABELS or any(text.endswith("segmentation") for text in texts):
        return Role.NOT_INPUT if "brain" in held and "ot" not in held else Role.LABELS
    minus = texts.index("minus") if "minus" in held else 0
    difference = all(any(text in SEQUENCE_WORDS for text in side) for side in (texts[:minus], texts[minus:]))
    if difference or (held & {"gre", "ffe"} and held & T2_WORDS):
        return Role.NOT_INPUT  # one image less another; a gradient echo, weighted by T2*
    start = found.start if found else 0
    for number, text in enumerate(texts):
        following = texts[number + 1] if number + 1 < len(texts) else ""
        # Before the sequence such words are rather a part of an id, unless they stand right before it.
        near = number >= start or all(other in DESCRIPTIVE for other in texts[number + 1 : start])
        if near and (
            text in DERIVED
            or text.endswith(("map", "ratio"))
            or (text == "sub" and not following[:1].isdigit())
            or (text == "fat" and not following.startswith(("sat", "sup")))
            or (text == "dixon" and following == "f")
        ):
            return Role.NOT_INPUT
    return None


def _sequence(words: Sequence[Word]) -> _Match | None:
    """The sequence that words name."""
    texts = ["mprage" if w.text == "rage" and n and words[n - 1].text == "mp" else w.text for n, w in enumerate(words)]
    dark = {n for n, t in enumerate(texts) if t in ("dark", "da") and texts[n + 1 : n + 2] in (["fluid"], ["fl"])}
    hits = [n for n, text in enumerate(texts) if text in SEQUENCE_WORDS and n - 1 not in dark]
    if not hits and not dark:
        return None
    first = hits[0] if hits else min(dark)
    end = _target(words, texts, hits)
    hits = [hit for hit in hits if hit < end]
    kinds = [SEQUENCE_WORDS[texts[hit]] for hit in hits]
    flair = [
        n for n in (*dark, *(hit for hit, kind in zip(hits, kinds, strict=True) if kind is MRSequence.FLAIR)) if n < end
    ]
    named = set(kinds) | ({MRSequence.FLAIR} if flair else set())
    if set(texts[:end]) & DOUBTFUL:
        return _Match(first, words[first].piece, None)
    if MRSequence.T1 in named and MRSequence.T2 not in named:
        base = next(hit for hit, kind in zip(hits, kinds, strict=True) if kind is MRSequence.T1)
        # "T1 FLAIR" is a T1; "FLAIR T1" could be either.
        between = texts[base + 1 : min(flair)] if flair and min(flair) > base else None
        if flair and (between is None or not all(_describes(text) for text in between)):
            return _Match(first, words[first].piece, None)
        return _contrast(words, texts[:end], base, first)
    if named == {MRSequence.T2, MRSequence.FLAIR}:
        t2 = next(hit for hit, kind in zip(hits, kinds, strict=True) if kind is MRSequence.T2)
        clear = t2 < max(flair) or t2 - min(flair) == 1 or bool(dark)
        return _Match(first, words[first].piece, MRSequence.FLAIR if clear else None)
    return _Match(first, words[first].piece, named.pop() if len(named) == 1 else None)


def _describes(text: str) -> bool:
    return text in DESCRIPTIVE or text in CONTRAST or text in WITHOUT or text in (PLUS, CUT, "c", *BEFORE, *AFTER)


def _target(words: Sequence[Word], texts: Sequence[str], hits: Sequence[int]) -> int:
    """Where the target of a registration begins; the number of words where there is none."""
    for n in range(hits[0] + 1 if hits else 0, len(texts) - 1):
        spaced = texts[n] == "space" and words[n + 1].gap == "-" and words[n].gap != "-"
        if (texts[n] in TARGETS or spaced) and texts[n + 1] in SEQUENCE_WORDS:
            return n
    return len(texts)


def _contrast(words: Sequence[Word], texts: Sequence[str], base: int, first: int) -> _Match:
    """T1 or T1CE by every word that speaks of contrast, or neither where they disagree or leave it open."""
    start = first
    while start and _speaks(texts[start - 1]) and texts[start - 1] not in ("c", "km", "mdc", PLUS):
        start -= 1
    if first and texts[first - 1] == "c" and words[first - 1].piece == words[first].piece:
        start = first - 1  # "ct1", in one word
    said: set[bool | None] = set()
    rest = list(texts[start:])
    while rest:
        verdict, used = _verdict(rest, base + len(rest) - len(texts))
        said |= verdict
        rest = rest[used:]
    if {"w", "wo"} <= set(texts) or (set(texts) & (WITH - {"w"}) and set(texts) & (WITHOUT - {"minus"})):
        said.add(None)
    place = words[start].piece
    spelt = {word.piece for word, text in zip(words, texts, strict=False) if text in ("t1", "t1w", "t1wi", "t1n")}
    if len(spelt) > 1 and True in said:
        said.add(None)
    if not said and set(texts) & LATE:
        said.add(None)
    if not said:
        return _Match(start, place, MRSequence.T1)
    if len(said) > 1 or None in said:
        return _Match(start, place, None)
    return _Match(start, place, MRSequence.T1CE if True in said else MRSequence.T1)


def _speaks(text: str) -> bool:
    return text in CONTRAST | NATIVE | WITHOUT | BEFORE | AFTER | EVENTS or text in ("c", PLUS, CUT)


def _verdict(rest: Sequence[str], base: int) -> tuple[set[bool | None], int]:
    """What the first words say of contrast (True, False, None: unclear), and how many of them say it.

    Args:
        base: how far the sequence lies behind them; 0 at it, negative behind it.
    """
    word, following = rest[0], rest[1] if len(rest) > 1 else ""
    agent = CONTRAST | {"c"}
    said: set[bool | None] = set()
    used = 1
    if word in agent:
        denied = following in DENYING | {CUT}
        said, used = {not denied}, 2 if denied or following == PLUS else 1
    elif word == PLUS:
        if following in agent or (base == -1 and not following):  # "T1+" at the end
            said, used = {True}, 2
    elif word == CUT:
        said, used = {False}, 2 if following in agent else 1
    elif word in NATIVE:
        said = {False}
    elif word in ("o", "s") and following in CONTRAST:  # ohne; sans, senza, or nothing at all
        said, used = {False if word == "o" else None}, 2
    elif word in WITHOUT or (word, following) in (("w", "o"), ("free", "of"), ("frei", "von")):
        used = 2 if word == "w" else 1
        while used < len(rest) and rest[used] in FILLERS:
            used += 1
        if used < len(rest) and rest[used] in agent:
            said, used = {False}, used + 1
        elif not following or base > 0:
            said = {False}
    elif word in ("with", "mit", "avec") and not following and base <= 0:
        said = {True}
    elif word in BEFORE | AFTER:
        said, used = _placed(word, following, base)
    return said, used


def _placed(word: str, following: str, base: int) -> tuple[set[bool | None], int]:
    """What a word for before or after says of contrast: nothing of a treatment, and of an unknown word it is open."""
    if following in EVENTS:
        return set(), 2
    if following in CONTRAST | {"c"}:
        return {word in AFTER}, 2
    if base > 0:  # "post_t1" may be after contrast or after surgery
        return ({False} if word == "pre" else {None}), 1
    is_end = not following or following in PLACED or following.isdigit() or following in FLAIR_WORDS
    return ({word in AFTER} if word in ("pre", "post") and is_end else {None}), 1


def _read_bids(text: str) -> NameReading:
    """A BIDS name: entities ``key-value``, then the suffix."""
    plain: list[str] = []
    entities: dict[str, str] = {}
    for part in text.split("_"):
        key, dash, value = part.partition("-")
        if dash and fold(key) not in SEQUENCE_WORDS:
            entities[key.lower()] = value
        else:
            plain.append(part)
    session = f"_ses-{entities['ses']}" if "ses" in entities else ""
    prefix = f"sub-{entities.get('sub', '')}{session}"
    suffix = words_of("_".join(plain))
    extra: list[Word] = []
    unclear = False
    for key in _BIDS_KEYS:
        said = [word.text for word in words_of(entities[key])] if key in entities else []
        if key == "ce" and said:
            agents = [word for word in said if word in CONTRAST]
            denied = set(said) & (NATIVE | WITHOUT | BEFORE | {CUT, "0", "off", "false"})
            unclear |= set(said) <= {"unknown", "unclear", "na", "mixed"}
            extra.append(Word("native" if denied else agents[0] if agents else "ce", 99))
        elif key == "part" and said and said[0] != "mag":
            extra.append(Word("phase", 99))
        elif key == "inv" or (key == "mt" and said != ["off"]):
            extra += [Word("inv", 99)] if key in entities else []
        else:
            extra += [
                Word("ce" if word == "c" else word, 99)
                for word in said
                if word not in SEQUENCE_WORDS or word in FLAIR_WORDS
                if _speaks(word) or word in FLAIR_WORDS or word in DERIVED or word in ("dark", "fluid", "sub")
            ]
    found = _sequence([*suffix, *extra])
    role = _role_of_other([*suffix, *extra], found)
    if role is not None:
        return NameReading(role, prefix=prefix)
    if found is None or found.sequence is None or unclear:
        return NameReading(Role.UNCLEAR, prefix=prefix)
    return NameReading(Role.IMAGE, found.sequence, prefix)


def _pieces(name: str) -> list[str]:
    return [fold(piece) for piece in PIECE.findall(stem(name).translate(DASHES))]


def _shared_pieces(names: Sequence[str]) -> int:
    """Number of leading words all names share and that can be left out without losing a sequence."""
    plain = [name for name in names if not stem(name).lower().startswith("sub-")]
    lists = [_pieces(name) for name in plain]
    if len(lists) < 2:
        return 0
    length = 0
    while all(len(pieces) > length for pieces in lists) and len({pieces[length] for pieces in lists}) == 1:
        length += 1
    all_words = [words_of(stem(name)) for name in plain]
    for count in range(length, 0, -1):
        last = lists[0][count - 1]
        parts = parts_of(last)
        if any(part in SEQUENCE_WORDS for part in parts) or (last in CONTRAST | {"sub"} | NATIVE | DERIVED | WITHOUT):
            continue
        if all(_sequence(w) is None or _sequence([x for x in w if x.piece >= count]) is not None for w in all_words):
            return count
    return 0


def _time_points(names: Sequence[str], shared: int) -> dict[str, int]:
    """By name, the words up to and with a time point called T1 or T2, where what follows names the sequences.

    One name at least has to name a sequence that the T1 or T2 before it contradicts (``T1_t2w``, ``T2_t1c``): a T1
    FLAIR beside a T1 MPRAGE with contrast is two scans and no time point.
    """
    place: dict[str, int] = {}
    rests: dict[tuple[str, ...], list[MRSequence]] = {}
    is_contradicted = False
    images = [name for name in names if read_name(name).role not in (Role.LABELS, Role.NOT_INPUT)]
    for name in images:
        pieces = _pieces(name)
        number = next((n for n, piece in enumerate(pieces) if n >= shared and re.fullmatch(r"t\d", piece)), None)
        if number is None and shared and re.fullmatch(r"t\d", pieces[shared - 1]):
            number = shared - 1
        found = None if number is None else _sequence([w for w in words_of(stem(name)) if w.piece > number])
        if number is None or found is None or found.sequence is None or found.piece != number + 1:
            return {}
        place[name] = number + 1
        said = {SEQUENCE_WORDS.get(word.text) for word in words_of(stem(name)) if word.piece > number}
        is_contradicted |= bool(said & _CONTRARY.get(pieces[number], set(MRSequence)))
        rests.setdefault(tuple(pieces[: number + 1]), []).append(found.sequence)
    # Files of one time point name different sequences; "T1 FLAIR" and "T2 FLAIR" are a T1 and a FLAIR.
    telling = all(set(rest) - {MRSequence.FLAIR} and max(Counter(rest).values()) == 1 for rest in rests.values())
    return place if telling and is_contradicted else {}


def _prefix(text: str, count: int) -> str:
    """The first ``count`` words of a name as written, without the descriptive ones at their end."""
    pieces = list(PIECE.finditer(text))[:count]
    while pieces and fold(pieces[-1].group()) in DESCRIPTIVE:
        pieces.pop()
    return text[pieces[0].start() : pieces[-1].end()] if pieces else ""
