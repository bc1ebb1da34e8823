"""Which series of a DICOM exam are used, of all that could be a sequence; what stays open is asked about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from brats_seg.core.errors import InputError
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.core.words import counted, some
from brats_seg.files.dicom import DicomSeries, stack_of
from brats_seg.files.dicom_identify import SILENT, Confidence, SeriesReading, read_exam

MIN_UID_END = 8
"""Fewer digits could be the number of another series."""
_SHOWN = 12


@dataclass(frozen=True)
class Choice:
    """Which series of an exam are used.

    Attributes:
        chosen: by sequence; the best where several could be it.
        readings: of every series.
        left: series that could be a sequence which no other series is.
        question: what stays open and has to be asked, in words; empty where nothing does.
        decisions: what was chosen and why, in words.
        warnings: what the user should know, in words.
    """

    chosen: Mapping[MRSequence, SeriesReading]
    readings: tuple[SeriesReading, ...]
    left: tuple[SeriesReading, ...] = ()
    question: str = ""
    decisions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def choose(
    series: Sequence[DicomSeries],
    asked: Mapping[MRSequence, str],
    *,
    seen: Mapping[DicomSeries, tuple[MRSequence, str]] | None = None,
) -> Choice:
    """The series to be used for each sequence.

    Of several that could be it, those that make no volume come last, originals go before derived images, 3D before
    2D, finer before coarser, later before earlier.

    Args:
        series: of one exam.
        asked: by sequence, the series number (with the part, as in ``5-echo2``), the end of its UID from a dot on or
            of :data:`MIN_UID_END` letters, or ``none``.
        seen: of series that stayed open, what their images show, and that in words.

    Raises:
        InputError: if a series that was asked for is not there or is named twice, if all that could be a sequence
            make no volume, or if none is any of the four.
    """
    given = {sequence: _asked(series, sequence, text) for sequence, text in asked.items() if text != "none"}
    if len({id(one) for one in given.values()}) < len(given):
        raise InputError("--sequence names one series for two sequences. Name another for one of them.")
    read = read_exam(series)
    if not any(reading.sequence or reading.could_be for reading in read):
        read = tuple(map(_unknown, read))
    readings = tuple(_as_asked(_as_seen(reading, seen or {}), given) for reading in read)
    if not any(reading.sequence or reading.could_be for reading in readings):
        seen_as = some((f"{r.series.title} {r.words.rstrip('.')}" for r in readings), _SHOWN)
        raise InputError(f"no series is a T1, T1CE, T2 or FLAIR: {seen_as}. Choose with --sequence t1ce=SERIES.")
    chosen: dict[MRSequence, SeriesReading] = {}
    decisions: list[str] = []
    warnings = [f"{r.series.title} {r.words}" for r in readings if not r.series.planes]
    for sequence in (s for s in SEQUENCES if asked.get(s) != "none"):
        candidates = sorted((r for r in readings if r.sequence is sequence), key=_rank)
        if sequence in given:
            candidates = [r for r in candidates if r.confidence is Confidence.GIVEN]
        faults = [fault for fault in map(fault_of, (r.series for r in candidates)) if fault]
        if candidates and len(faults) == len(candidates):
            raise InputError(f"{sequence.title}: {faults[0]}")
        warnings += [f"{sequence.title}: not used: {fault}" for fault in faults]
        if candidates:
            chosen[sequence] = candidates[0]
            decisions.append(_decision(sequence, candidates, readings))
    left = tuple(reading for reading in readings if set(reading.could_be) - {*chosen, *asked})
    return Choice(chosen, readings, left, _question(left), tuple(decisions), tuple(warnings))


def _unknown(reading: SeriesReading) -> SeriesReading:
    """A series of which nothing is known, in an exam of which nothing is known: it could be any."""
    if reading.confidence is not Confidence.NONE or reading.evidence != (SILENT,) or fault_of(reading.series):
        return reading
    return replace(reading, confidence=Confidence.OPEN, could_be=SEQUENCES)


def _as_seen(reading: SeriesReading, seen: Mapping[DicomSeries, tuple[MRSequence, str]]) -> SeriesReading:
    """A series as what its images show, where its header left that open."""
    if reading.series not in seen or reading.sequence is not None:
        return reading
    sequence, words = seen[reading.series]
    evidence = (words, *reading.evidence)
    return replace(reading, sequence=sequence, confidence=Confidence.LIKELY, could_be=(), evidence=evidence)


def _as_asked(reading: SeriesReading, given: Mapping[MRSequence, DicomSeries]) -> SeriesReading:
    """A series as the sequence it was asked for as, if it was."""
    sequence = next((s for s, one in given.items() if one is reading.series), None)
    if sequence is None:
        return reading
    return replace(reading, sequence=sequence, confidence=Confidence.GIVEN, could_be=())


def _decision(sequence: MRSequence, candidates: Sequence[SeriesReading], readings: Sequence[SeriesReading]) -> str:
    """Why the first candidate is used, in words."""
    best = candidates[0]
    words = f"{sequence.title} is {best.series.title}: {best.confidence}" + f" ({best.words})" * bool(best.words)
    if len(candidates) > 1:
        words += f"; chosen of {len(candidates)} (original, 3D, finer and later ones first)"
    left_open = [r.series.title for r in readings if sequence in r.could_be]
    return words + f"; left open and not used: {', '.join(left_open)}" * bool(left_open)


def _asked(series: Sequence[DicomSeries], sequence: MRSequence, text: str) -> DicomSeries:
    fitting = [one for one in series if one.key == text]
    if not fitting and (text.startswith(".") or len(text) >= MIN_UID_END):
        fitting = [one for one in series if one.uid.endswith(text)]
    if len(fitting) != 1:
        listed = ", ".join(one.key for one in series)
        uids = ", ".join(f"{one.uid[-MIN_UID_END:]} ({counted(len(one.planes), 'image')})" for one in fitting)
        what = f"names {len(fitting)} series; name one by the end of its UID: {uids}"
        what = what if fitting else f"names no series; there are {listed}. Name one of them"
        raise InputError(f"--sequence {sequence.value}={text} {what}.")
    return fitting[0]


def _rank(reading: SeriesReading) -> tuple[bool, bool, bool, float, float]:
    fault = fault_of(reading.series)
    volume_ml = 0.0 if fault else stack_of(reading.series)[0].voxel_ml
    return bool(fault), reading.is_derived, not reading.how.is_3d, round(volume_ml, 4), -_seconds(reading.how.acquired)


def _seconds(acquired: str) -> float:
    """Date and time as a number that grows."""
    return float(re.sub(r"[^\d.]", "", acquired)[:18] or 0)


def _question(left: Sequence[SeriesReading]) -> str:
    """What has to be asked of series that stay open."""
    if not left:
        return ""
    said = "; ".join(f"{r.series.title} could be {' or '.join(s.title for s in r.could_be)}: {r.words}" for r in left)
    first = left[0]
    return (
        f"{said}. Say which with --sequence, as in --sequence {first.could_be[-1].value}={first.series.key}, or "
        f"--sequence {first.could_be[-1].value}=none to do without."
    )


def fault_of(series: DicomSeries) -> str:
    """Why a series makes no volume; empty where it does."""
    try:
        stack_of(series)
    except InputError as error:
        return str(error)
    return ""
