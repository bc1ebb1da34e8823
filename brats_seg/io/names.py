"""What a file name says: which sequence, whose study, or that it is no input at all.

Pure text; nothing here touches the disk. Conventions read: BraTS 2012 to 2025, BIDS (entities and suffixes), and
the words people and scanners use. A name that says two things is not understood rather than guessed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from brats_seg.core.study import MRSequence

NIFTI_ENDINGS = (".nii.gz", ".nii")


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
        role: what the file is.
        sequence: for images.
        prefix: the part before the sequence, usually the study's id; BIDS: ``sub-X`` or ``sub-X_ses-Y``.
    """

    role: Role
    sequence: MRSequence | None = None
    prefix: str = ""


_CONTRAST = frozenset(
    (
        *("ce", "gd", "gad", "gado", "gadolinium", "post", "km", "contrast", "postcontrast", "postgd", "postgad"),
        *("enhanced", "mdc", "kontrast", "gadovist", "dotarem", "gadavist"),
    )
)
"""Words that turn a T1 into a T1CE when they follow it anywhere."""
_LEADING_CONTRAST = _CONTRAST - {"km", "mdc"}
"""Those that do so directly before it; shorter ones there are rather a part of an id."""
_NATIVE = frozenset({"pre", "precontrast", "native", "nativ", "non", "no", "noncontrast", "without"})
_EVENTS = frozenset({"op", "operative", "surgery", "surgical", "resection", "rt", "radiotherapy", "treatment", "chemo"})
"""After these, ``pre`` and ``post`` speak of a treatment and not of contrast."""
_T1 = frozenset({"t1", "t1w", "t1n", "t1native", "t1pre", "t1mprage", "t1mpr", "t1tse", "t1se", "t1fse"})
_T1CE = frozenset(
    {f"{base}{word}" for base in ("t1", "t1w") for word in (*_CONTRAST, "c")}
    | {f"{word}{base}" for base in ("t1", "t1w") for word in ("ce", "c", "gd", "gad", "post", "contrast")}
    | {"t1cew", "t1cw", "t1gdw", "t1cegd", "t1wcegd", "t1mpragegd", "t1mpragepost", "t1mpragece", "t1mpragekm"}
)
_T2 = frozenset({"t2", "t2w", "t2tse", "t2fse", "t2se"})
_FLAIR = frozenset(
    {"flair", "fla", "t2flair", "flairt2", "t2f", "t2wflair", "t2fla", "flairw", "darkfluid", "tirm", "t2tirm"}
)
_WORDS: dict[str, MRSequence] = {
    **dict.fromkeys(_T1, MRSequence.T1),
    **dict.fromkeys(_T2, MRSequence.T2),
    **dict.fromkeys(_T1CE, MRSequence.T1CE),
    **dict.fromkeys(_FLAIR, MRSequence.FLAIR),
}

_LABEL_WORDS = frozenset(
    ("seg", "dseg", "segmentation", "label", "labels", "gt", "groundtruth", "truth", "annotation", "annotations")
)
_MODEL_WORDS = frozenset(
    (
        *("probseg", "pred", "preds", "prediction", "predicted", "prob", "probs", "probability", "probabilities"),
        *("softmax", "logits", "uncertainty", "roi", "aseg", "aparc", "parcellation", "tissue"),
    )
)
_OTHER_IMAGES = frozenset(
    (
        *("adc", "dwi", "swi", "asl", "dti", "bold", "hardi", "rcbv", "cbv", "cbf", "mtt", "ktrans", "dsc", "dce"),
        *("map", "ratio", "subtraction", "subtracted", "difference", "diff", "minus", "t1map", "t2map", "t2star"),
        *("t2starw", "star", "localizer", "localiser", "scout", "warp", "field", "jacobian", "std"),
    )
)
_TARGET_WORDS = frozenset({"to", "onto", "into", "reg2", "in", "2"})
"""A sequence behind these is the target of a registration: ``flair_to_t1`` is a FLAIR."""
_DESCRIPTIVE = frozenset(
    (
        *("ax", "axial", "tra", "sag", "sagittal", "cor", "coronal", "3d", "2d", "mr", "mri", "brain", "head", "dark"),
        *("fluid", "se", "tse", "fse", "spin", "echo", "mprage", "mpr", "space", "cube", "vista", "fs", "iso"),
    )
)
"""Words before the sequence that describe the scan and are no part of an id."""
_BIDS_CONTRAST_KEYS = ("ce", "acq", "rec", "desc")
_SEPARATORS = re.compile(r"[_\-. ]+")


def is_nifti(name: str) -> bool:
    """Whether a file name ends as NIfTI files do."""
    return name.lower().endswith(NIFTI_ENDINGS)


def stem(name: str) -> str:
    """A file name without ``.nii`` or ``.nii.gz``."""
    for ending in NIFTI_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def tokens(text: str) -> list[str]:
    """Lower-case words of a name, split at ``_``, ``-``, ``.`` and spaces."""
    return [word for word in _SEPARATORS.split(text.lower()) if word]


def read_names(names: Sequence[str]) -> dict[str, NameReading]:
    """What each NIfTI name of one folder says.

    Leading words that all names share (a patient's id) are left out where that does not lose a sequence, so that an
    id such as ``fla-0012`` is not taken for a FLAIR.
    """
    shared = _shared_words(names)
    return {name: read_name(name, skip=shared) for name in names}


def read_name(name: str, *, skip: int = 0) -> NameReading:
    """What one NIfTI name says.

    Args:
        name: file name without folders.
        skip: leading words that belong to the id.
    """
    text = stem(name)
    if text.lower().startswith("sub-") and "_" in text:
        return _read_bids(text)
    words = tokens(text)
    kept = words[skip:]
    role = _role_of_other(kept)
    found = _sequence(kept)
    prefix = _prefix(text, skip + found.start if found else len(words))
    if role is not None:
        return NameReading(role, prefix=prefix)
    if found is None or found.sequence is None:
        return NameReading(Role.UNCLEAR)
    return NameReading(Role.IMAGE, found.sequence, prefix)


@dataclass(frozen=True)
class _Match:
    """Position of the first word of a sequence, and the sequence, or None if two are named."""

    start: int
    sequence: MRSequence | None


def _role_of_other(words: Sequence[str]) -> Role | None:
    """The role of a file that is no scan of the four, or None."""
    if any(word in _MODEL_WORDS or "mask" in word or word.endswith("lesions") for word in words):
        return Role.NOT_INPUT
    if any(word in _LABEL_WORDS or word.endswith("segmentation") for word in words):
        return Role.NOT_INPUT if "brain" in words else Role.LABELS
    if any(word in _OTHER_IMAGES for word in words):
        return Role.NOT_INPUT
    return None


def _sequence(words: Sequence[str]) -> _Match | None:
    """The sequence a list of words names."""
    hits = [(i, _WORDS[word]) for i, word in enumerate(words) if word in _WORDS]
    if not hits:
        return None
    first = hits[0][0]
    for i in range(first + 1, len(words) - 1):
        if words[i] in _TARGET_WORDS and words[i + 1] in _WORDS:
            hits = [hit for hit in hits if hit[0] < i]
            words = words[:i]
            break
    named = {sequence for _, sequence in hits}
    if named == {MRSequence.T2, MRSequence.FLAIR}:
        order = [sequence for _, sequence in hits]
        adjacent = hits[1][0] - hits[0][0] == 1
        return _Match(first, MRSequence.FLAIR if order[0] is MRSequence.T2 or adjacent else None)
    if len(named) > 1:
        return _Match(first, None)
    sequence = named.pop()
    if sequence is MRSequence.T2 and ("dark" in words and "fluid" in words):
        return _Match(first, MRSequence.FLAIR)
    if sequence is MRSequence.T1:
        return _with_contrast(words, first)
    return _Match(first, sequence)


def _with_contrast(words: Sequence[str], first: int) -> _Match:
    """T1, or T1CE where a word says contrast; a word such as ``pre`` says the opposite."""
    after = _without_events(words[first + 1 :])
    if any(word in _NATIVE for word in after):
        return _Match(first, MRSequence.T1)
    # A lone "c" counts only beside the sequence; elsewhere it is rather a part of an id.
    if any(word in _CONTRAST for word in after) or after[:1] == ["c"]:
        return _Match(first, MRSequence.T1CE)
    start = first
    while start and words[start - 1] in _LEADING_CONTRAST | _NATIVE:
        start -= 1
    lead = words[start:first]
    if not lead or any(word in _NATIVE for word in lead):
        return _Match(start, MRSequence.T1)
    # "post_t1" may be after contrast or after surgery.
    return _Match(start, None if list(lead) == ["post"] else MRSequence.T1CE)


def _without_events(words: Sequence[str]) -> list[str]:
    """Words without those that place a scan before or after a treatment (``post op``)."""
    return [
        word
        for word, following in itertools.zip_longest(words, words[1:], fillvalue="")
        if not (word in ("pre", "post") and following in _EVENTS)
    ]


def _read_bids(text: str) -> NameReading:
    """A BIDS name: entities ``key-value``, then the suffix."""
    plain_words: list[str] = []
    entities: dict[str, str] = {}
    for part in text.split("_"):
        key, dash, value = part.partition("-")
        if dash and key.lower() not in _WORDS:
            entities[key.lower()] = value
        else:
            plain_words += tokens(part)
    session = f"_ses-{entities['ses']}" if "ses" in entities else ""
    prefix = f"sub-{entities.get('sub', '')}{session}"
    for key in _BIDS_CONTRAST_KEYS:
        for word in tokens(entities.get(key, "")):
            if word in _CONTRAST | _NATIVE | _FLAIR | _T1CE or word in ("dark", "fluid"):
                plain_words.append("ce" if word in _T1CE else word)
        if key == "ce" and entities.get("ce", "").lower() not in ("", "none", "no", "pre"):
            plain_words.append("ce")
    role = _role_of_other(plain_words)
    found = _sequence(plain_words)
    if role is not None:
        return NameReading(role, prefix=prefix)
    if found is None or found.sequence is None:
        return NameReading(Role.UNCLEAR, prefix=prefix)
    return NameReading(Role.IMAGE, found.sequence, prefix)


def _shared_words(names: Sequence[str]) -> int:
    """Number of leading words all names share and that can be left out without losing a sequence."""
    lists = [tokens(stem(name)) for name in names if not stem(name).lower().startswith("sub-")]
    if len(lists) < 2:
        return 0
    length = 0
    while all(len(words) > length for words in lists) and len({words[length] for words in lists}) == 1:
        length += 1
    for count in range(length, 0, -1):
        last = lists[0][count - 1]
        if last in _WORDS or (last in _CONTRAST and last != "post"):
            continue
        if all(_sequence(words) is None or _sequence(words[count:]) is not None for words in lists):
            return count
    return 0


def _prefix(text: str, count: int) -> str:
    """The first ``count`` words of a name as written, without the descriptive ones at their end."""
    pieces = list(re.finditer(r"[^_\-. ]+", text))[:count]
    while pieces and pieces[-1].group().lower() in _DESCRIPTIVE:
        pieces.pop()
    return text[pieces[0].start() : pieces[-1].end()] if pieces else ""
