"""Judging the studies of a data set together: what stands out, lacks, is there twice, and which heads are alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.core.words import counted
from brats_seg.explore.facts import DATA_SET, Finding, Likeness, ScanFacts, StudyFacts
from brats_seg.imaging.likeness import LIKE_FROM

FAR_OUT = 5.0
"""Robust z-score (distance from the median in units of 1.4826 times the median absolute deviation) from which a scan
is named. In a normal distribution one value in two million lies farther out."""
LEAST_FOR_OUTLIERS = 8
"""Scans of one sequence that are needed before one can stand out."""
LEAST_SPREAD = 0.05
"""Smallest deviation that counts, in the logarithm: differences below 5 % never stand out."""
FEW_LEVELS = 64
MANY_SATURATED = 0.02
OUTSIDE_SHARE = 0.05
LARGEST_TUMOUR_ML = 400.0
COMMON_SHARE = 0.6
"""A grid that so many studies share is the data set's grid, and others are named."""
_CHUNK = 256
_LISTED = 10

_FEATURES: Mapping[str, tuple[str, Callable[[ScanFacts], float]]] = {
    "contrast": ("the 99th percentile divided by the median", lambda s: s.p99 / s.median if s.median else math.nan),
    "variation": ("the deviation divided by the mean inside the head", lambda s: s.variation),
    "scale": ("the largest value", lambda s: s.maximum - s.background),
    "head": ("the head's volume in ml", lambda s: s.head_ml),
}
"""Features in which scans of one sequence are compared, all positive; judged by their logarithm."""


def judge(studies: Sequence[StudyFacts], leaks: Sequence[Likeness]) -> list[Finding]:
    """Every finding that needs more than one file."""
    result = _mixed_schemas(studies)
    result += [finding for study in studies for finding in _inventory(study, studies)]
    result += _twice(studies)
    result += [_leak(pair) for pair in leaks]
    result += _geometry(studies)
    for sequence in SEQUENCES:
        result += _intensities([(s.id, s.scans[sequence]) for s in studies if sequence in s.scans], sequence)
    result += [finding for study in studies for finding in _labels(study)]
    return result


def robust_z(values: Sequence[float]) -> np.ndarray:
    """Distance of each value from the median, in robust deviations; NaN stays NaN."""
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).any():
        return np.full(array.shape, np.nan)
    middle = np.nanmedian(array)
    spread = 1.4826 * np.nanmedian(np.abs(array - middle))
    return np.asarray((array - middle) / max(spread, LEAST_SPREAD))


def _inventory(study: StudyFacts, studies: Iterable[StudyFacts]) -> list[Finding]:
    result = []
    if study.missing:
        names = ", ".join(sequence.title for sequence in study.missing)
        result.append(Finding(study.id, "look", "missing", f"no file for {names}"))
    if study.labels is None and any(other.labels is not None for other in studies):
        result.append(
            Finding(study.id, "look", "missing", "no label map that can be read, though other studies have one")
        )
    if study.skull_stripped is False:
        text = f"does not look skull-stripped ({study.skull_evidence}). Strip it before training."
        result.append(Finding(study.id, "look", "skull", text))
    return result


def _twice(studies: Iterable[StudyFacts]) -> list[Finding]:
    """The same file in two places, within a study or between studies."""
    places: dict[str, list[tuple[str, MRSequence]]] = {}
    for study in studies:
        for sequence, scan in study.scans.items():
            places.setdefault(scan.sha256, []).append((study.id, sequence))
    result = []
    for same in places.values():
        for study_id, sequence in same[1:]:
            first_id, first_sequence = same[0]
            text = f"{sequence.title} is the very file of {first_sequence.title} in {first_id}. Remove one of the two."
            result.append(Finding(study_id, "broken", "twice", text))
    return result


def _leak(pair: Likeness) -> Finding:
    text = (
        f"looks like the same head as {pair.second} (correlation {pair.correlation:.2f}), under another patient's id. "
        "Keep both in the same fold, or remove one."
    )
    return Finding(pair.first, "broken", "leak", text)


def _geometry(studies: Sequence[StudyFacts]) -> list[Finding]:
    result = []
    described = {study.id: study.first_scan.grid.describe() for study in studies if study.first_scan is not None}
    common, count = Counter(described.values()).most_common(1)[0] if described else ("", 0)
    for study in studies:
        if not study.is_aligned:
            grids = "; ".join(f"{s.title} {study.scans[s].grid.describe()}" for s in SEQUENCES if s in study.scans)
            result.append(Finding(study.id, "look", "geometry", f"its scans lie on different grids: {grids}"))
        grid = described.get(study.id)
        if grid is not None and grid != common and count >= COMMON_SHARE * len(described) and len(described) > 2:
            text = f"its grid is {grid}; {count} of {counted(len(described), 'study', 'studies')} have {common}"
            result.append(Finding(study.id, "look", "geometry", text))
    return result


def _intensities(scans: Sequence[tuple[str, ScanFacts]], sequence: MRSequence) -> list[Finding]:
    result = []
    for study_id, scan in scans:
        if scan.levels < FEW_LEVELS:
            text = f"{sequence.title} has only {scan.levels} different values in the head"
            result.append(Finding(study_id, "look", "intensity", text))
        if scan.saturated_share > MANY_SATURATED:
            text = (
                f"{scan.saturated_share:.1%} of the head in {sequence.title} has the largest value: it is cut off there"
            )
            result.append(Finding(study_id, "look", "intensity", text))
    if len(scans) < LEAST_FOR_OUTLIERS:
        return result
    for words, feature in _FEATURES.values():
        values = [feature(scan) for _, scan in scans]
        logs = [math.log(value) if value > 0 and math.isfinite(value) else math.nan for value in values]
        middle = math.exp(float(np.nanmedian(logs))) if np.isfinite(logs).any() else math.nan
        for (study_id, _), value, z in zip(scans, values, robust_z(logs), strict=True):
            if abs(z) >= FAR_OUT:
                text = f"{words} in {sequence.title} is {value:.3g}, in the middle of all studies {middle:.3g}"
                result.append(Finding(study_id, "look", "intensity", text))
    return result


def _labels(study: StudyFacts) -> list[Finding]:
    if study.labels is None:
        return []
    result = []
    if not study.labels.counts:
        result.append(
            Finding(study.id, "look", "labels", "its label map is empty: is this study meant to be without tumour?")
        )
    elif study.labels.outside_share > OUTSIDE_SHARE:
        share = study.labels.outside_share
        text = f"{share:.0%} of its label map lies outside the head. Is it of this scan, and not flipped?"
        result.append(Finding(study.id, "look", "labels", text))
    whole = sum(ml for region, ml in study.volumes_ml().items() if not region.inside)
    if whole > LARGEST_TUMOUR_ML:
        text = f"the whole tumour measures {whole:.0f} ml, more than {LARGEST_TUMOUR_ML:.0f}. Is background labelled?"
        result.append(Finding(study.id, "look", "labels", text))
    return result


def _mixed_schemas(studies: Iterable[StudyFacts]) -> list[Finding]:
    """Numbers that mean different things in different studies; 2023 is a part of 2024 and no contradiction."""
    schemas = [study.schema for study in studies if study.schema is not None]
    counts, used = Counter(schema.name for schema in schemas), list({s.name: s for s in schemas}.values())
    clash = any(a.values.items() - b.values.items() and b.values.items() - a.values.items() for a in used for b in used)
    if not clash:
        return []
    shown = ", ".join(f"{name} in {count}" for name, count in counts.most_common())
    text = f"label numbers do not mean the same in all studies ({shown}). Each was read by its own; so must training."
    return [Finding(DATA_SET, "look", "labels", text)]


def likenesses(studies: Sequence[StudyFacts]) -> tuple[tuple[Likeness, ...], tuple[Likeness, ...]]:
    """Pairs of studies by how alike they are.

    Returns:
        Pairs of different patients from :data:`LIKE_FROM` on, and the ten most alike pairs of all; most alike first.
    """
    if len(studies) < 2:
        return (), ()
    correlation = correlations(studies)
    i, j = np.triu_indices(len(studies), 1)
    values = correlation[i, j]
    order = [int(k) for k in np.argsort(-values, kind="stable") if np.isfinite(values[k])]
    pairs = (_likeness(studies[i[k]], studies[j[k]], float(values[k])) for k in order if values[k] >= LIKE_FROM)
    leaks = tuple(pair for pair in pairs if not pair.same_patient)
    top = tuple(_likeness(studies[i[k]], studies[j[k]], float(values[k])) for k in order[:_LISTED])
    return leaks, top


def correlations(studies: Sequence[StudyFacts]) -> NDArray[np.float32]:
    """``(N, N)`` mean correlation over the sequences that both studies have; NaN where they share none."""
    total = np.zeros((len(studies), len(studies)), np.float32)
    count = np.zeros_like(total)
    for sequence in SEQUENCES:
        rows = [k for k, study in enumerate(studies) if sequence in study.scans]
        if len(rows) < 2:
            continue
        vectors = np.stack([studies[k].scans[sequence].signature for k in rows])
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            total[np.ix_(part, rows)] += vectors[start : start + _CHUNK] @ vectors.T
        count[np.ix_(rows, rows)] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: NDArray[np.float32] = np.divide(total, count, dtype=np.float32)
    return mean


def _likeness(first: StudyFacts, second: StudyFacts, correlation: float) -> Likeness:
    return Likeness(first.id, second.id, correlation, first.patient == second.patient)
