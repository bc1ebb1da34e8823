"""What happens to a patient: visits with dates, treatment, and the volumes of every lesion at each.

A script is written by hand (:class:`Course`) or drawn (:func:`draw_course`). How fast tumours grow: glioblastoma
before treatment 1.4 % a day in volume (median; Stensjoen et al., Neuro-Oncology 2015;17:1402,
doi:10.1093/neuonc/nov029), low-grade glioma 4.1 mm a year in mean diameter (Mandonnet et al., Ann Neurol 2003;53:524,
doi:10.1002/ana.10528), incidental meningioma 0.8 ml a year (Nakamura et al., Neurosurgery 2003;53:62,
doi:10.1227/01.neu.0000068730.76856.58). All other ranges here were chosen so that every category occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import Enum
from typing import Any

import numpy as np

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.plain import plain
from brats_seg.phantom.kinds import LesionScript, LesionState, TumourKind, ball_radius_mm, edema_ml


class PatientKind(Enum):
    """What to draw, by the names of the command line."""

    GLIOMA = "glioma"
    HIGH_GRADE = "high_grade"
    LOW_GRADE = "low_grade"
    METASTASES = "metastases"
    MENINGIOMA = "meningioma"
    RESECTED = "resected"
    NONE = "none"
    MIXED = "mixed"


class Story(Enum):
    """What happens to the patient between the first visit and the last."""

    GROWTH = "growth"
    STABLE = "stable"
    RESPONSE = "response"
    RECURRENCE = "recurrence"
    PSEUDOPROGRESSION = "pseudoprogression"
    NEW_LESION = "new_lesion"
    MERGING = "merging"
    RESECTION = "resection"


@dataclass(frozen=True)
class VisitScript:
    """When a visit is, and what was done before it."""

    label: str
    day: date
    treatment: str = ""


@dataclass(frozen=True)
class Course:
    """All that happens to a patient; what chance is left (anatomy, places, texture, scans) hangs on ``seed`` alone.

    Attributes:
        seed: of the patient's brain and scans.
        kind: never ``GLIOMA`` or ``MIXED``, which have been decided.
        visits: in order of time, at least one.
        lesions: may be empty; each with one state per visit.
    """

    patient_id: str
    seed: int
    kind: PatientKind
    story: Story
    visits: tuple[VisitScript, ...]
    lesions: tuple[LesionScript, ...]

    def __post_init__(self) -> None:
        if not self.visits:
            raise InputError(f"the course of {self.patient_id} has no visit; give at least one")
        days = [visit.day for visit in self.visits]
        if days != sorted(set(days)):
            raise InputError(f"the visits of {self.patient_id} are not in order of time, or two share a day")
        for lesion in self.lesions:
            if len(lesion.states) != len(self.visits):
                raise InputError(
                    f"lesion {lesion.id} has {len(lesion.states)} states for {len(self.visits)} visits; give one each"
                )
        names = [lesion.id for lesion in self.lesions]
        if len(names) != len(set(names)):
            raise InputError(f"lesions of {self.patient_id} share a name: {names}")
        for lesion in self.lesions:
            if lesion.near and (lesion.near not in names or lesion.near == lesion.id):
                raise InputError(f"lesion {lesion.id} lies beside {lesion.near!r}, which is no other lesion: {names}")

    def states(self, index: int) -> tuple[LesionState, ...]:
        """Of all lesions at one visit."""
        return tuple(lesion.states[index] for lesion in self.lesions)

    def days(self, first: int, second: int) -> int:
        """Between two visits."""
        return (self.visits[second].day - self.visits[first].day).days

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a truth file."""
        visits = [{"label": v.label, "date": v.day.isoformat(), "treatment": v.treatment} for v in self.visits]
        return {**plain(self), "visits": visits}


FIRST_DAY = date(2024, 1, 15)
"""Of every course that is drawn."""

_S, _P = Story, PatientKind
STORIES: Mapping[PatientKind, Mapping[Story, float]] = {
    _P.HIGH_GRADE: {
        _S.GROWTH: 2, _S.STABLE: 1, _S.RESPONSE: 1, _S.RECURRENCE: 2, _S.PSEUDOPROGRESSION: 1, _S.NEW_LESION: 1,
        _S.MERGING: 1, _S.RESECTION: 3,
    },
    _P.LOW_GRADE: {_S.GROWTH: 3, _S.STABLE: 1, _S.RESPONSE: 1, _S.RESECTION: 1},
    _P.METASTASES: {
        _S.GROWTH: 2, _S.STABLE: 1, _S.RESPONSE: 2, _S.RECURRENCE: 2, _S.PSEUDOPROGRESSION: 1, _S.NEW_LESION: 2,
    },
    _P.MENINGIOMA: {_S.GROWTH: 2, _S.STABLE: 2, _S.RESPONSE: 1},
    _P.RESECTED: {_S.STABLE: 1, _S.GROWTH: 2, _S.RESPONSE: 1, _S.NEW_LESION: 1},
    _P.NONE: {_S.STABLE: 1},
}  # fmt: skip
"""Stories of each kind, and how often each is drawn."""

_MIXTURE: Mapping[PatientKind, float] = {
    _P.HIGH_GRADE: 0.3, _P.LOW_GRADE: 0.15, _P.METASTASES: 0.2, _P.MENINGIOMA: 0.15, _P.RESECTED: 0.1, _P.NONE: 0.1,
}  # fmt: skip
_INTERVALS: Mapping[PatientKind, tuple[int, int]] = {
    _P.HIGH_GRADE: (56, 98), _P.LOW_GRADE: (120, 240), _P.METASTASES: (56, 98), _P.MENINGIOMA: (180, 400),
    _P.RESECTED: (56, 98), _P.NONE: (180, 400),
}  # fmt: skip
_CORE_ML: Mapping[TumourKind, tuple[float, float]] = {
    TumourKind.HIGH_GRADE: (5.0, 25.0),
    TumourKind.LOW_GRADE: (10.0, 45.0),
    TumourKind.METASTASES: (0.15, 5.0),
    TumourKind.MENINGIOMA: (3.0, 30.0),
}
"""Core at the first visit, log-uniform."""
_LARGEST_ML: Mapping[TumourKind, float] = {
    TumourKind.HIGH_GRADE: 55.0,
    TumourKind.LOW_GRADE: 70.0,
    TumourKind.METASTASES: 14.0,
    TumourKind.MENINGIOMA: 45.0,
}
"""No core grows larger: brains have to hold it."""


def draw_course(
    rng: np.random.Generator | int,
    kind: PatientKind = PatientKind.GLIOMA,
    *,
    visits: int = 4,
    patient_id: str = "phantom",
    story: Story | None = None,
    at_dura: bool = False,
) -> Course:
    """Draw a patient's course; cheap. The same seed and arguments give the same course.

    Args:
        story: None draws one that fits the kind.
        at_dura: whether the cores of all lesions reach the surface of the brain.

    Raises:
        UsageError: for a story or a number of visits that does not exist.
    """
    generator = np.random.default_rng(rng) if isinstance(rng, int) else rng
    if not 1 <= visits <= 99:
        raise UsageError(f"{visits} visits are no course; 1 to 99 are")
    decided = _decided(kind, generator)
    told = _story(decided, story, generator)
    low, high = _INTERVALS[decided]
    gaps = [0, *generator.integers(low, high + 1, visits - 1).tolist()]
    elapsed = [int(day) for day in np.cumsum(gaps)]
    plan = _Plan(decided, told, elapsed, generator)
    lesions = () if decided is PatientKind.NONE else plan.lesions()
    if at_dura:
        lesions = tuple(replace(lesion, at_dura=True) for lesion in lesions)
    timetable = tuple(
        VisitScript(f"{number + 1:02d}", FIRST_DAY + timedelta(days=days), treatment)
        for number, (days, treatment) in enumerate(zip(elapsed, plan.treatments(), strict=True))
    )
    seed = int(generator.integers(2**62))
    return Course(patient_id, seed, decided, told, timetable, lesions)


def _decided(kind: PatientKind, rng: np.random.Generator) -> PatientKind:
    if kind is PatientKind.GLIOMA:
        return PatientKind.HIGH_GRADE if rng.random() < 0.75 else PatientKind.LOW_GRADE
    if kind is PatientKind.MIXED:
        kinds = list(_MIXTURE)
        return kinds[int(rng.choice(len(kinds), p=list(_MIXTURE.values())))]
    return kind


def _story(kind: PatientKind, wanted: Story | None, rng: np.random.Generator) -> Story:
    weights = STORIES[kind]
    if wanted is not None:
        if wanted not in weights:
            known = ", ".join(story.value for story in weights)
            raise UsageError(f"a patient of kind {kind.value} has no story {wanted.value!r}; choose one of: {known}")
        return wanted
    stories = list(weights)
    total = sum(weights.values())
    return stories[int(rng.choice(len(stories), p=[weights[story] / total for story in stories]))]


class _Plan:
    """Draws the lesions of one patient."""

    def __init__(self, kind: PatientKind, story: Story, elapsed: Sequence[int], rng: np.random.Generator) -> None:
        self.kind, self.story, self.elapsed, self.rng = kind, story, elapsed, rng
        self.count = len(elapsed)
        self.turn = int(rng.integers(1, max(self.count - 1, 1) + 1))
        """The visit from which the second half of a story is told."""

    def treatments(self) -> list[str]:
        """What was done before each visit, in words."""
        words = [""] * self.count
        if self.count > 1 and self.story in (Story.RESPONSE, Story.RECURRENCE, Story.PSEUDOPROGRESSION):
            words[1] = "radiotherapy" if self.kind is not PatientKind.METASTASES else "radiosurgery"
        if self.count > 1 and self.story is Story.RESECTION:
            words[1] = "resection"
        if self.kind is PatientKind.RESECTED:
            words[0] = "resection"
        return words

    def lesions(self) -> tuple[LesionScript, ...]:
        """All lesions; the first is the largest."""
        kind = TumourKind.HIGH_GRADE if self.kind is PatientKind.RESECTED else TumourKind(self.kind.value)
        number = 1
        if kind is TumourKind.METASTASES:
            number = int(self.rng.integers(2, 7))
        scripts = [self._main(f"L{i + 1}", kind) for i in range(number)]
        if self.story is Story.NEW_LESION and self.count > 1:
            scripts.append(self._new(f"L{number + 1}", kind))
        if self.story is Story.MERGING:
            # its partner lies so near that the two touch at the size both have at the end
            scripts.append(replace(self._main(f"L{number + 1}", kind), near="L1"))
        return tuple(scripts)

    def _main(self, name: str, kind: TumourKind) -> LesionScript:
        low, high = _CORE_ML[kind]
        start = float(np.exp(self.rng.uniform(np.log(low), np.log(high))))
        if self.story is Story.MERGING:
            start = float(self.rng.uniform(4.0, 9.0))
        if self.kind is PatientKind.RESECTED:
            return self._after_surgery(name, kind, start * float(self.rng.uniform(1.2, 1.8)), first=0)
        if self.story is Story.RESECTION and self.count > 1:
            return self._after_surgery(name, kind, start * 1.4, first=1)
        sizes, events = self._sizes(kind, start)
        return self._script(name, kind, sizes, events)

    def _script(self, name: str, kind: TumourKind, sizes: Sequence[float], events: Sequence[str]) -> LesionScript:
        share, width = self._look(kind, max(sizes))
        flare = Story.PSEUDOPROGRESSION.value
        states = [
            LesionState(
                core_ml=size,
                enhancing_share=0.0 if size == 0 else share * (0.9 if event == flare else 1.0),
                edema_ml=edema_ml(size, width * (1.3 if event == flare else 1.0)) if size > 0 else 0.0,
                event=event,
            )
            for size, event in zip(sizes, events, strict=True)
        ]
        return LesionScript(name, kind, tuple(states))

    def _look(self, kind: TumourKind, largest_ml: float) -> tuple[float, float]:
        """Enhancing share of the core, and width of the edema in mm."""
        if kind is TumourKind.LOW_GRADE:
            return 0.0, float(self.rng.uniform(2, 6))
        if kind is TumourKind.MENINGIOMA:
            return 1.0, float(self.rng.uniform(3, 10)) if self.rng.random() < 0.5 else 0.0
        if kind is TumourKind.METASTASES:
            solid = largest_ml < 1.0
            return 1.0 if solid else float(self.rng.uniform(0.5, 0.85)), float(
                self.rng.uniform(1, 4) if solid else self.rng.uniform(4, 12)
            )
        return float(self.rng.uniform(0.4, 0.7)), float(self.rng.uniform(6, 13))

    def _sizes(self, kind: TumourKind, start: float) -> tuple[list[float], list[str]]:
        """Core volume at each visit, and what happened before each."""
        tell: Mapping[Story, Callable[[TumourKind, float], tuple[list[float], list[str]]]] = {
            Story.STABLE: self._stable,
            Story.NEW_LESION: self._stable,
            Story.RESPONSE: self._response,
            Story.RECURRENCE: self._recurrence,
            Story.PSEUDOPROGRESSION: self._flare,
        }
        return tell.get(self.story, self._growth)(kind, start)

    def _growth(self, kind: TumourKind, start: float) -> tuple[list[float], list[str]]:
        sizes = [self._grown(kind, start, days) for days in self.elapsed]
        if self.story is Story.MERGING:  # ends three times as large, whenever that is
            last = max(self.elapsed[-1], 1)
            sizes = [start * 3.0 ** (days / last) for days in self.elapsed]
        return self._capped(kind, sizes), ["growth"] * self.count

    def _grown(self, kind: TumourKind, start: float, days: float) -> float:
        if kind is TumourKind.LOW_GRADE:
            return float(4 / 3 * np.pi * (ball_radius_mm(start) + 4.1 / 2 * days / 365.25) ** 3 / 1000)
        if kind is TumourKind.MENINGIOMA:
            return start + 0.8 * days / 365.25
        rate = 0.014 if kind is TumourKind.HIGH_GRADE else 0.010
        # treated tumours that still grow do so more slowly; it also keeps a year's course within a brain
        return float(start * np.exp(0.6 * rate * days))

    def _capped(self, kind: TumourKind, sizes: Sequence[float]) -> list[float]:
        """Bent so that the largest is what a brain holds, the order kept."""
        largest, first = _LARGEST_ML[kind], sizes[0]
        if max(sizes) <= largest:
            return list(sizes)
        power = np.log(largest / first) / np.log(max(sizes) / first)
        return [float(first * (size / first) ** power) for size in sizes]

    def _stable(self, kind: TumourKind, start: float) -> tuple[list[float], list[str]]:
        wander = np.exp(np.clip(0.04 * self.rng.standard_normal(self.count), -0.1, 0.1))
        wander[0] = 1.0
        return [float(start * factor) for factor in wander], ["stable"] * self.count

    def _response(self, kind: TumourKind, start: float) -> tuple[list[float], list[str]]:
        end = float(self.rng.uniform(0.1, 0.3))
        gone = self.count > 2 and self.rng.random() < (0.4 if kind is TumourKind.METASTASES else 0.15)
        sizes = [start * end ** (days / max(self.elapsed[-1], 1)) for days in self.elapsed]
        if gone:
            sizes[-1] = 0.0
        return sizes, ["baseline"] + ["shrinkage"] * (self.count - 1)

    def _recurrence(self, kind: TumourKind, start: float) -> tuple[list[float], list[str]]:
        """Down to the turn, then up again."""
        low = start * float(self.rng.uniform(0.15, 0.35))
        turn = max(min(self.turn, self.count - 2), 1) if self.count > 2 else self.count
        sizes, events = [], []
        for index, days in enumerate(self.elapsed):
            if index <= turn:
                sizes.append(start * (low / start) ** (index / turn) if index else start)
                events.append("shrinkage" if index else "baseline")
            else:
                factor = self._grown(TumourKind.HIGH_GRADE, 1.0, days - self.elapsed[turn])
                sizes.append(low * max(factor**1.5, 1.5))
                events.append("recurrence")
        return self._capped(kind, sizes), events

    def _flare(self, kind: TumourKind, start: float) -> tuple[list[float], list[str]]:
        """Up after treatment, then down without any other."""
        peak = float(self.rng.uniform(1.5, 2.0))
        after = float(self.rng.uniform(0.55, 0.8))
        sizes = [start if i == 0 else start * peak * after ** (2 * (i - 1)) for i in range(self.count)]
        events = ["baseline", "pseudoprogression"] + ["shrinkage"] * self.count
        return sizes, events[: self.count]

    def _new(self, name: str, kind: TumourKind) -> LesionScript:
        """Appears at the turn, at least as large as is measurable, and grows."""
        first = float(self.rng.uniform(1.0, 2.5))
        begun = self.elapsed[self.turn]
        sizes = [0.0 if i < self.turn else self._grown(kind, first, d - begun) for i, d in enumerate(self.elapsed)]
        events = ["absent" if i < self.turn else "new" if i == self.turn else "growth" for i in range(self.count)]
        return self._script(name, kind, [min(size, _LARGEST_ML[kind] / 3) for size in sizes], events)

    def _after_surgery(self, name: str, kind: TumourKind, before_ml: float, *, first: int) -> LesionScript:
        """A core, taken out before visit ``first``; then a cavity that shrinks, and a residual at its wall."""
        before_ml = min(before_ml, 30.0)
        share, width = self._look(kind, before_ml)
        residual = before_ml * float(self.rng.uniform(0.03, 0.12))
        after = share if kind is TumourKind.LOW_GRADE else 0.95
        states = []
        for index, days in enumerate(self.elapsed):
            if index < first:
                states.append(LesionState(before_ml, share, edema_ml(before_ml, width), event="baseline"))
                continue
            since = days - self.elapsed[first]
            size = self._residual(kind, residual, since)
            cavity = before_ml * 0.95 * float(np.exp(-0.001 * since))
            edema = 0.6 * edema_ml(before_ml, 0.6 * width)
            states.append(LesionState(size, after if size else 0.0, edema, cavity, self._word(index, first)))
        return LesionScript(name, kind, tuple(states))

    def _word(self, index: int, first: int) -> str:
        if index == first:
            return "resection"
        if self.story in (Story.STABLE, Story.NEW_LESION):
            return "stable"
        return "shrinkage" if self.story is Story.RESPONSE else "growth"

    def _residual(self, kind: TumourKind, residual: float, days: int) -> float:
        if self.story in (Story.STABLE, Story.NEW_LESION):
            return residual
        if self.story is Story.RESPONSE:
            return float(residual * np.exp(-0.012 * days))
        return min(self._grown(kind, residual, days), 12.0)
