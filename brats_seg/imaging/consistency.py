"""Whether the sequences of a study belong together and show a whole brain.

One function, :func:`check_consistency`, for every command that looks at a study. It works on means over cells of
about 4 mm and measures

* agreement: whether all show one head in one place (:mod:`brats_seg.imaging.joining`);
* outline and coverage: which part of the brain each sequence shows, and what it shows beyond the others;
* likeness: whether one image is a copy of another;
* the brain: its volume, plane faces, and how it lies along its axes (:mod:`brats_seg.imaging.shape`);
* names: whether the images show what they are called (:mod:`brats_seg.imaging.identify`).

Limits were set on 30 BraTS studies and the mixed-up ones made of them, as ``tests/imaging/mixed_scans.py`` makes
them. On 10 others 90 of 90 mixed-up studies were named; of 49 studies as they are, one: its FLAIR covers two thirds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import Any, Literal

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Mask, Volume
from brats_seg.core.study import MRSequence
from brats_seg.core.words import listed
from brats_seg.imaging.brain import foregrounds
from brats_seg.imaging.identify import check_identity
from brats_seg.imaging.joining import FINE_CELL_MM, SURE_AGREEMENT, Fault, Joined, Pair, Pictures, join
from brats_seg.imaging.shape import BRAIN_ML, Cells, plane_faces, wrong_axes
from brats_seg.imaging.similarity import ranks
from brats_seg.imaging.structure import compare

Kind = Literal["other", "mirrored", "shifted", "outline", "coverage", "copy", "volume", "cut", "axes", "names"]

MISFITS: frozenset[Kind] = frozenset({"other", "mirrored", "shifted", "outline", "copy", "axes", "names"})
"""Findings that contradict one another or the header: a mistake was made with these scans."""

MAX_OUTLINE_SHARE = 0.05
"""Share of the brain by which two outlines may differ both ways. Of one head it is 0.00 to 0.02, turned by 10 degrees
0.05, moved by 5 mm 0.06."""

DOUBTFUL_OUTLINE_SHARE = 0.03
"""And so much where agreement is below :data:`SURE_AGREEMENT` too."""

WARN_COVERAGE = 0.95
MIN_COVERAGE = 0.60
"""A sequence that covers less of the brain counts as missing."""

SAME_IMAGE = 0.999
ALMOST_SAME_IMAGE = 0.98
"""Correlation, of values or ranks, between two sequences inside the brain. Measured: at most 0.87."""


@dataclass(frozen=True)
class Inconsistency:
    """Something about a study that does not fit.

    Attributes:
        sequences: which are concerned; empty for the brain as a whole.
        text: what was measured, and what to do.
        is_fatal: whether an answer would be worthless.
    """

    kind: Kind
    sequences: tuple[MRSequence, ...]
    text: str
    is_fatal: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Consistency:
    """What was measured on a study.

    Attributes:
        brain_ml: volume of the brain that the sequences show together.
        coverage: share of it that each sequence shows.
        agreement: excess of agreement by pair of sequences, for pairs with enough brain in common.
        likeness: correlation by pair of sequences, the larger of values and ranks.
        found: what does not fit.
    """

    brain_ml: float
    coverage: Mapping[MRSequence, float] = field(default_factory=dict)
    agreement: Mapping[Pair, float] = field(default_factory=dict)
    likeness: Mapping[Pair, float] = field(default_factory=dict)
    found: tuple[Inconsistency, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the sequences belong together and lie as the header says."""
        return not any(entry.kind in MISFITS for entry in self.found)

    @property
    def is_usual_size(self) -> bool:
        """Whether the brain is as large as whole brains of those above two years: an infant's scans still fit."""
        return not any(entry.kind == "volume" for entry in self.found)

    @property
    def left_out(self) -> tuple[MRSequence, ...]:
        """Sequences that cover too little of the brain to be used."""
        low = tuple(s for s, share in self.coverage.items() if share < MIN_COVERAGE)
        return low if len(low) < len(self.coverage) else ()

    def refuse(self) -> None:
        """Stop where an answer would be worthless.

        Raises:
            InputError: naming what does not fit.
        """
        for entry in self.found:
            if entry.is_fatal:
                raise InputError(entry.text)

    def summary(self) -> str:
        """In one line, for the record."""
        words = f"the brain measures {self.brain_ml:.0f} ml"
        if self.coverage:
            shares = ", ".join(f"{s.title} {share:.0%}" for s, share in self.coverage.items())
            words += f"; of it is covered by {shares}"
        if self.agreement:
            low, high = min(self.agreement.values()), max(self.agreement.values())
            words += f"; borders inside it agree between sequences by {low:.2f} to {high:.2f}"
        return words

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``run.json``."""

        def named(values: Mapping[Pair, float]) -> dict[str, float]:
            return {f"{a.value}-{b.value}": round(value, 3) for (a, b), value in values.items()}

        return {
            "brain_ml": round(self.brain_ml, 1),
            "coverage": {s.value: round(share, 3) for s, share in self.coverage.items()},
            "agreement": named(self.agreement),
            "likeness": named(self.likeness),
            "fits": self.fits,
            "is_usual_size": self.is_usual_size,
            "found": [{"kind": entry.kind, "text": entry.text} for entry in self.found],
        }


def check_consistency(
    images: Mapping[MRSequence, Volume], brain: Mask, shown: Mapping[MRSequence, Mask] | None = None
) -> Consistency:
    """Measure whether sequences on one grid belong together and show a whole brain.

    Args:
        images: sequences on one grid, at least one.
        brain: ``(X, Y, Z)`` of that grid, as :func:`brats_seg.imaging.brain.brain_mask` finds it.
        shown: their :func:`~brats_seg.imaging.brain.foregrounds`, where these were asked before.

    Returns:
        What was measured and what does not fit. Nothing is raised for it: see :meth:`Consistency.refuse`.
    """
    shown = foregrounds(images) if shown is None else shown
    small = Pictures(images, brain, shown)

    @cache
    def prominence(pair: Pair) -> float:
        fine = Pictures({s: images[s] for s in pair}, brain, shown, FINE_CELL_MM).borders()
        found = compare(fine[pair[0]], fine[pair[1]])
        return found.prominence if found is not None else 0.0

    joined = join(small, prominence)
    found = [_described(other, joined.main, fault) for other, fault in joined.faults.items()]
    whole = small.union(joined.main)
    covered = {s: float((small.outline[s] & whole).sum() / max(whole.sum(), 1)) for s in small.present}
    if len(small.present) > 1:
        found += _coverage(covered, joined.main)
        found += _outlines(small, joined)
    likeness = _likeness(small)
    found += _copies(likeness)
    brain_ml = float(whole.sum()) * small.cell_ml
    found += _whole_brain(whole, brain_ml, small.cell_mm)
    if not any(entry.kind in {"other", "copy"} for entry in found):
        found += [Inconsistency("names", tuple(w.looks_like), str(w)) for w in check_identity(images, brain, shown)]
    return Consistency(
        brain_ml=brain_ml,
        coverage=covered,
        agreement={pair: agreement.excess for pair, agreement in joined.edges.items()},
        likeness=likeness,
        found=tuple(found),
    )


def _described(other: tuple[MRSequence, ...], main: tuple[MRSequence, ...], fault: Fault) -> Inconsistency:
    """What is wrong with sequences that do not belong to the others."""
    names, others = (listed([sequence.title for sequence in group]) for group in (other, main))
    do, lie = ("do", "lie") if len(other) > 1 else ("does", "lies")
    if fault.kind == "other":
        text = f"{names} {do} not show the same anatomy as {others} ({fault.words})."
        text += " Another patient's, turned, or no scan?"
    else:
        text = f"{names} {lie} against {others} {fault.words}."
    return Inconsistency(
        fault.kind, other, f"{text} Look at the images, and take the right files, before using the result."
    )


def _coverage(covered: Mapping[MRSequence, float], main: Sequence[MRSequence]) -> list[Inconsistency]:
    found = []
    for sequence, share in covered.items():
        # Of a scan that lies elsewhere it is no news that it covers less of the brain.
        if share >= (WARN_COVERAGE if sequence in main else MIN_COVERAGE):
            continue
        text = f"{sequence.title} covers {share:.0%} of the brain that the sequences show together"
        enough = any(other >= MIN_COVERAGE for other in covered.values())
        if share < MIN_COVERAGE and enough:
            text += f", less than {MIN_COVERAGE:.0%}: it is left out, as if it were missing."
        else:
            text += ": what it would show in the rest is missing from the result."
        found.append(Inconsistency("coverage", (sequence,), text))
    return found


def _outlines(small: Pictures, joined: Joined) -> list[Inconsistency]:
    """Sequences whose outline differs from that of the others both ways, as coverage alone does not make it."""
    worst: list[tuple[float, MRSequence]] = []
    for sequence in joined.main:
        rest = small.union(s for s in joined.main if s is not sequence) if len(joined.main) > 1 else None
        if rest is None or not rest.any():
            continue
        mine = small.outline[sequence]
        both_ways = min(float((mine & ~rest).sum()), float((rest & ~mine).sum())) / float(rest.sum())
        best = max((e.excess for pair, e in joined.edges.items() if sequence in pair), default=SURE_AGREEMENT)
        if both_ways >= (MAX_OUTLINE_SHARE if best >= SURE_AGREEMENT else DOUBTFUL_OUTLINE_SHARE):
            worst.append((both_ways, sequence))
    if not worst:
        return []
    share, sequence = max(worst, key=lambda entry: entry[0])
    text = (
        f"{sequence.title} and the other sequences outline different brains: each shows {share:.0%} or more that the "
        "other does not. Is one of them moved, turned or of somebody else? Look at the images before using the result."
    )
    return [Inconsistency("outline", (sequence,), text)]


def _likeness(small: Pictures) -> dict[Pair, float]:
    """The larger of the correlations of values and of ranks, for every pair with enough cells in common."""
    result = {}
    for a, b in combinations(small.present, 2):
        common = small.outline[a] & small.outline[b]
        if int(common.sum()) < 1000:
            continue
        x, y = (small.values[s][common].astype(np.float64) for s in (a, b))
        if min(x.std(), y.std()) > 0:
            straight = np.corrcoef(x, y)[0, 1]
            ranked = np.corrcoef(ranks(x), ranks(y))[0, 1]
            result[a, b] = float(max(abs(straight), abs(ranked)))
    return result


def _copies(likeness: Mapping[Pair, float]) -> list[Inconsistency]:
    found = []
    for pair, value in likeness.items():
        if value < ALMOST_SAME_IMAGE:
            continue
        is_same = value >= SAME_IMAGE
        names = listed([sequence.title for sequence in pair])
        text = (
            f"{names} {'are' if is_same else 'look like'} one image (correlation {value:.4f} inside the brain; "
            "real pairs reach 0.9). Give each sequence its own file, or leave one out."
        )
        found.append(Inconsistency("copy", pair, text, is_fatal=is_same))
    return found


def _whole_brain(whole: Mask, brain_ml: float, cell_mm: Cells) -> list[Inconsistency]:
    found: list[Inconsistency] = []
    low, high = BRAIN_ML
    if not low <= brain_ml <= high:
        text = (
            f"the brain measures {brain_ml:.0f} ml; whole brains have {low:.0f} to {high:.0f} ml. Is it whole, are the "
            "voxel sizes right, and do the sequences lie on one another?"
        )
        found.append(Inconsistency("volume", (), text))
    for face in plane_faces(whole, cell_mm):
        text = (
            f"the brain ends at its {face.side} in a plane of {face.area_cm2:.0f} cm² ({face.share:.0%} of its largest "
            "cross-section): it is not whole, and tumour beyond is not seen. The cut itself can be taken for tumour."
        )
        found.append(Inconsistency("cut", (), text))
    if not found:
        words = wrong_axes(whole, cell_mm)
        if words:
            text = (
                f"the brain does not lie along its axes as heads do: {words}. Does the file's header name left, front "
                "and top rightly?"
            )
            found.append(Inconsistency("axes", (), text))
    return found
