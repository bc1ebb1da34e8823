"""Which of T1, T1CE, T2 and FLAIR a DICOM series is, by its attributes: times, contrast agent, description.

Two kinds of evidence count: what was typed (series description, protocol name; read like a file name) and how the
scanner measured (echo, repetition and inversion times, kind of echo). Where they agree the answer is sure, where one is
silent it is likely, where they contradict each other it stays open and is asked about. Limits of the times are those
common at 1.5 and 3 T: Bernstein, King, Zhou, Handbook of MRI Pulse Sequences (2004), chapters 12, 14 and 16.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from brats_seg.core.study import MRSequence
from brats_seg.core.words import counted
from brats_seg.files.dicom import DicomSeries
from brats_seg.files.dicom_header import Acquisition
from brats_seg.files.name_words import (
    AFTER,
    BEFORE,
    CONTRAST,
    CUT,
    DENYING,
    NATIVE,
    PLUS,
    WITHOUT,
    known_words,
    words_of,
)
from brats_seg.files.names import Role, read_name

MIN_SLICES = 8
MIN_EXTENT_MM = 50.0
"""A series with fewer slices, or that covers less along the stack, is a localiser or a part of a head."""

_IMAGE_TYPES = {
    "LOCALIZER": "a localiser",
    **dict.fromkeys(("PROJECTION IMAGE", "MIP", "MINIP", "MNIP"), "a projection"),
    **dict.fromkeys(("ADC", "FA", "TRACEW", "TRACE", "TENSOR", "DIFFUSION", "ISODWI", "EADC"), "diffusion"),
    **dict.fromkeys(
        ("P", "PHASE", "PHASE MAP", "PHASE_MAP", "VELOCITY", "R", "REAL", "I", "IMAGINARY"), "no magnitude"
    ),
    **dict.fromkeys(("SUB", "SUBTRACTION", "SUBTRACT"), "a subtraction"),
    **dict.fromkeys(("SWI", "QSM"), "susceptibility"),
    **dict.fromkeys(("CBF", "CBV", "RCBV", "MTT", "TTP", "TMAX", "PERFUSION", "RCBF", "ASL"), "perfusion"),
    **dict.fromkeys(("T1 MAP", "T1_MAP", "T2 MAP", "T2_MAP", "T2_STAR MAP", "FIELD_MAP", "B0", "B1"), "a map"),
    **dict.fromkeys(("FAT", "F", "FAT_FRACTION", "FF"), "an image of fat"),
    **dict.fromkeys(("FMRI", "MOCO", "T_MAP", "ZMAP"), "functional"),
}
"""Values of Image Type that say that a series is none of the four."""
_ELSEWHERE = re.compile(
    r"SPINE|CHEST|THORAX|ABDOMEN|PELVIS|BREAST|HEART|LIVER|PROSTATE|KNEE|SHOULDER|HIP|ANKLE|WRIST|\b[CTL]SP|^NECK"
)
_NO_AGENT = re.compile(r"\s*(?:no|none|non|without|ohne|kein.*|sans|sin|senza|n/?a|n|0|null|-+)?\s*", re.IGNORECASE)
_SPELLINGS = (
    (r"\bw\s*/\s*o\b", " without "),
    (r"\bs\s*/\s*(?=k?c\b|gad)", " without "),
    (r"\bw\s*/", " with "),
    (r"\b[es](?=t[12]w)", ""),  # eT1W, sT2W of Philips
    (r"^\s*\+\s*(c|km|gd\w*|gad\w*)\b(.*)", r"\2 +\1"),  # "+C Ax T1" of GE
)
_OTHER_WORDS = (
    ("angiography", r"tof|mra|mrv|angio\w*|veno\w*|venc"),
    ("a localiser", r"survey|scout|loc|3 ?plane|aahead\w*|calib\w*|ref\w* scan"),
    ("another part of the body", r"[ctl]?spine|[bhl]ws|orbit\w*|iac|sella|pituitary|hypophys\w*|neck|hals"),
    ("none of the four", r"ciss|fiesta|psir|dir|dynami\w*|dce|fmri|bold|spectro\w*|m?dixon .*\b(?:fat|opp|in|out)"),
)
"""Words of a description that say what a series is where its times could be those of a T1."""

SILENT = "neither its description nor its times say what"
"""Evidence of a series whose header is silent."""

_T1, _T1CE, _T2, _FLAIR = MRSequence.T1, MRSequence.T1CE, MRSequence.T2, MRSequence.FLAIR


class Confidence(StrEnum):
    """How much the evidence says."""

    GIVEN = "as asked"
    SURE = "sure"
    LIKELY = "likely"
    OPEN = "open"
    NONE = "none of the four"


@dataclass(frozen=True)
class SeriesReading:
    """What a series is taken for.

    Attributes:
        series: the series, or part of one.
        sequence: what it is; None where it is open, or none of the four.
        could_be: the possibilities where it is open.
        confidence: how much the evidence says.
        evidence: what speaks for it, or what else it is, in words; no free text of the header, which may name a person.
    """

    series: DicomSeries
    sequence: MRSequence | None
    confidence: Confidence
    evidence: tuple[str, ...]
    could_be: tuple[MRSequence, ...] = ()

    @property
    def how(self) -> Acquisition:
        """How it was acquired."""
        return self.series.planes[0].how

    @property
    def is_derived(self) -> bool:
        """Whether it was computed from another series, as a reformatted plane is."""
        return "DERIVED" in self.how.image_type[:1]

    @property
    def words(self) -> str:
        """The evidence in one line."""
        return "; ".join(self.evidence)


def read_exam(series: Sequence[DicomSeries]) -> tuple[SeriesReading, ...]:
    """What each series of an exam is, seen together: contrast shows in how series differ, and in their order."""
    readings = [read_attributes(one) for one in series]
    return tuple(_with_contrast(readings))


def read_attributes(series: DicomSeries) -> SeriesReading:
    """What a series is by its own attributes; T1 and T1CE are not told apart yet (:func:`read_exam`)."""
    if not series.planes:
        return SeriesReading(series, None, Confidence.NONE, (f"cannot be used: {series.fault}",))
    how = series.planes[0].how
    role, said, typed = _description(how)
    measured, times = weighting(how)
    family = _T1 if said is _T1CE else said
    reason = _excluded(series, how)
    if not reason and role is Role.NOT_INPUT:
        reason = f"its description says so ({typed})"
    if not reason and family is None and not isinstance(measured, MRSequence):
        reason = f"{measured} by its times ({times})" if measured else SILENT
    if reason:
        return SeriesReading(series, None, Confidence.NONE, (reason,))
    evidence = (*((f"description: {typed}",) if said else ()), *((times,) if times else ()))
    if family is None or measured is None or family is measured:
        known = family or measured
        assert isinstance(known, MRSequence)  # the other cases were above
        return SeriesReading(series, known, Confidence.SURE if family is measured else Confidence.LIKELY, evidence)
    other = measured if isinstance(measured, str) else measured.title
    doubt = f"the description says {family.title}, the times {other}"
    could_be = (family, measured) if isinstance(measured, MRSequence) else (family,)
    return SeriesReading(series, None, Confidence.OPEN, (doubt, *evidence), could_be)


def weighting(how: Acquisition) -> tuple[MRSequence | str | None, str]:
    """What the times make of an image: T1 (with or without contrast), T2, FLAIR, the name of another kind, or None.

    Returns:
        The weighting, and the times it rests on in words.
    """
    echo, repetition, inversion = how.echo_time, how.repetition_time, how.inversion_time
    if echo is None or repetition is None:
        return None, ""
    times = f"TR {repetition:.4g}, TE {echo:.3g}" + (f", TI {inversion:.4g}" if inversion else "") + " ms"
    if "EP" in how.scanning:
        return "echo-planar", times
    if "GR" in how.scanning and "SE" not in how.scanning:
        return _gradient_echo(how, echo, repetition), times
    return (_inversion_recovery(echo, inversion) if inversion else _spin_echo(how, echo, repetition)), times


def _inversion_recovery(echo: float, inversion: float) -> MRSequence | str | None:
    if inversion >= 1400:
        return _FLAIR if echo >= 60 else None
    return "STIR" if inversion <= 300 else _T1 if echo <= 40 else None


def _spin_echo(how: Acquisition, echo: float, repetition: float) -> MRSequence | str | None:
    if "IR" in how.scanning and echo >= 60 and repetition >= 4500:
        return _FLAIR
    if echo <= 40:
        return _T1 if repetition <= 1200 else "proton density" if repetition >= 1800 else None
    # Without its inversion time, a FLAIR has the times of a slow T2.
    return _T2 if echo >= 60 and 1500 <= repetition <= 7000 else None


def _gradient_echo(how: Acquisition, echo: float, repetition: float) -> MRSequence | str | None:
    inversion, flip = how.inversion_time, how.flip_angle
    balanced = "SS" in how.variant and not how.variant & {"SP", "MP"}
    if echo >= 12:
        return "T2*"
    if balanced and (flip or 0) >= 30 and repetition < 20:
        return "steady state"
    if inversion:
        return _T1 if 300 <= inversion <= 1400 else None
    spoiled = repetition <= 60 or (repetition <= 800 and (flip or 90) >= 40)
    return _T1 if spoiled or "MP" in how.variant or repetition >= 1200 else None


def _excluded(series: DicomSeries, how: Acquisition) -> str:
    """What a series is that is none of the four, whatever its times are; empty where nothing is known."""
    named = next((_IMAGE_TYPES[value] for value in how.image_type if value in _IMAGE_TYPES), "")
    elsewhere = _ELSEWHERE.search(how.body_part) and not re.search("HEAD|BRAIN", how.body_part)
    if how.b_value is not None and how.b_value > 0:
        named = f"diffusion (b {how.b_value:g})"
    elif how.is_angiography or "tof" in how.sequence_name.lower():
        named = "angiography"
    elif elsewhere:
        named = "another part of the body"
    named = named or _other_words(how)
    if not named and len(series.planes) < MIN_SLICES:
        named = f"a localiser or part of a head ({counted(len(series.planes), 'slice')})"
    extent_mm = _extent_mm(series)
    if not named and extent_mm < MIN_EXTENT_MM:
        named = f"a localiser or part of a head (it covers {extent_mm:.0f} mm)"
    return named


def _other_words(how: Acquisition) -> str:
    """What the first description says that a series is, of the words that rule the four out."""
    text = re.sub(r"[\W_]+", " ", " ".join(how.description[:1])).lower()
    return next(
        (f"{what}, by its description" for what, words in _OTHER_WORDS if re.search(rf"\b(?:{words})\b", text)), ""
    )


def _extent_mm(series: DicomSeries) -> float:
    """The least extent of what the images cover; of images all at one place, that within them."""
    first = series.planes[0]
    positions = np.array([plane.position for plane in series.planes])
    depth = positions @ np.cross(first.orientation[:3], first.orientation[3:])
    within = min(n * step for n, step in zip(first.shape, first.spacing, strict=True))
    return min(within, float(np.ptp(depth)) or within)


def _description(how: Acquisition) -> tuple[Role, MRSequence | None, str]:
    """What the first telling description says, and the words of it that are known."""
    answer: tuple[Role, MRSequence | None, str] = (Role.UNCLEAR, None, "")
    for text in how.description:
        plain = _plain(text)
        reading = read_name(plain)
        role = Role.NOT_INPUT if reading.role is Role.LABELS else reading.role
        if role is not Role.UNCLEAR:
            return role, reading.sequence, known_words(plain)
    return answer


def _plain(text: str) -> str:
    """A description as names are spelt: ``w/o`` in full, other slashes as spaces."""
    for pattern, word in _SPELLINGS:
        text = re.sub(pattern, word, text, flags=re.IGNORECASE)
    return re.sub(r"[/\\*:;|<>#^~]+", " ", text)


def _typed_contrast(how: Acquisition) -> tuple[bool | None, bool]:
    """Whether the description says that contrast was given (True) or was not (False), and whether it is understood.

    ``T1 POST STEALTH`` speaks of contrast or of surgery; it says nothing, and is not understood.
    """
    _, said, _ = _description(how)
    if said is _T1CE:
        return True, True
    words = {word.text for text in how.description[:1] for word in words_of(_plain(text))}
    if said is _T1:
        return (False if words & (NATIVE | WITHOUT | BEFORE | DENYING | {CUT}) else None), True
    return None, not words & (CONTRAST | NATIVE | WITHOUT | BEFORE | AFTER | {CUT, PLUS, "c"})


def _agent(how: Acquisition) -> bool | None:
    """Whether the header names a contrast agent (True) or denies one (False)."""
    if how.agent_ml:
        return True
    if not how.agent:
        return None
    return not _NO_AGENT.fullmatch(how.agent)


def _with_contrast(readings: Sequence[SeriesReading]) -> list[SeriesReading]:
    """T1 and T1CE told apart."""
    t1 = [reading for reading in readings if reading.sequence is _T1]
    typed = {id(r): _typed_contrast(r.how)[0] for r in t1}
    # An agent that was entered for the whole exam, native series included, tells nothing.
    telling = not any(_agent(r.how) and typed[id(r)] is False for r in t1 if any(typed.values()))
    neutral = [r for r in t1 if typed[id(r)] is None and (not telling or _agent(r.how) is None)]
    first = min((r.how.acquired for r in t1 if r not in neutral and _is_enhanced(r) and r.how.acquired), default="")
    result = []
    for reading in readings:
        if id(reading) not in typed:
            result.append(reading)
        elif not _typed_contrast(reading.how)[1]:
            result.append(
                _open(reading, "its description speaks of contrast or surgery in words that are not understood")
            )
        elif reading in neutral:
            result.append(_by_order(reading, neutral, first))
        else:
            result.append(_settled(reading, typed[id(reading)], _agent(reading.how) if telling else None))
    return result


def _is_enhanced(reading: SeriesReading) -> bool:
    typed = _typed_contrast(reading.how)[0]
    return bool(_agent(reading.how)) if typed is None else typed


def _by_order(reading: SeriesReading, neutral: Sequence[SeriesReading], first: str) -> SeriesReading:
    """A T1 that neither description nor agent tells: by when it was acquired.

    Args:
        neutral: all such series of the exam.
        first: when the first series with contrast was acquired; empty where none is known.
    """
    twins = sum(_twins(reading, other) for other in neutral if other is not reading)
    if not first and twins:
        return _open(
            reading, f"{counted(twins + 1, 'series', 'series')} measured alike, and nothing says which is which"
        )
    if first and reading.how.acquired > first:
        return _open(reading, "nothing speaks of contrast, and it was acquired after a series with contrast")
    before = "acquired before the series with contrast" if first and reading.how.acquired else ""
    evidence = (*reading.evidence, before or "nothing speaks of contrast")
    return replace(reading, evidence=evidence, confidence=reading.confidence if before else Confidence.LIKELY)


def _settled(reading: SeriesReading, typed: bool | None, agent: bool | None) -> SeriesReading:
    if typed is not None and agent is not None and typed is not agent:
        said, named = ("with", "denies one") if typed else ("without", "names one")
        return _open(reading, f"the description says {said} contrast, and the header {named} (Contrast/Bolus Agent)")
    if agent:
        reading = replace(reading, evidence=(*reading.evidence, "contrast agent given"))
    if typed or agent:
        return replace(reading, sequence=_T1CE, confidence=reading.confidence if typed else Confidence.LIKELY)
    return replace(reading, evidence=(*reading.evidence, "without contrast, as its header says"))


def _open(reading: SeriesReading, words: str) -> SeriesReading:
    return replace(
        reading, sequence=None, confidence=Confidence.OPEN, could_be=(_T1, _T1CE), evidence=(words, *reading.evidence)
    )


def _twins(one: SeriesReading, other: SeriesReading) -> bool:
    """Whether two series were measured alike at different times, as before and after contrast."""
    if one.is_derived or other.is_derived or (one.how.acquired == other.how.acquired != ""):
        return False
    a, b = ((r.how.repetition_time, r.how.echo_time, r.how.is_3d) for r in (one, other))
    spacings = zip(one.series.planes[0].spacing, other.series.planes[0].spacing, strict=True)
    return a == b and all(abs(x - y) < 0.05 for x, y in spacings)
