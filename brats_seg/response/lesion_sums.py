"""The numbers of one compartment and one measure through one episode: targets, sums, nadir, new lesions.

Every threshold comes from :class:`~brats_seg.response.criteria.Criteria`, and comparisons include the threshold
itself. A known lesion without a row at a visit was not measured there, and counts neither as gone nor as small.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from brats_seg.response.criteria import Compartment, Criteria, NewLesionRule
from brats_seg.response.history import LesionMeasurement, VisitMeasurements
from brats_seg.response.responses import Measure

TOLERANCE_PERCENT = 1e-6
"""Percentage points by which rounding of floating numbers may miss a threshold that was met exactly."""


def is_measurable(lesion: LesionMeasurement, criteria: Criteria) -> bool:
    """Whether a lesion is measurable: both diameters at least the threshold; by volume where it has no diameters.

    The number of slices a lesion is seen on is not in a table of measurements; where the image is at hand,
    :attr:`LesionMeasurement.measurable` holds what was found there and decides.
    """
    if lesion.measurable is not None:
        return lesion.measurable
    if lesion.short_mm is not None:
        return lesion.short_mm >= criteria.measurable_diameter_mm.value
    return lesion.volume_ml is not None and lesion.volume_ml >= criteria.measurable_volume_ml.value


def choose_targets(lesions: Sequence[LesionMeasurement], criteria: Criteria) -> tuple[str, ...]:
    """Names of the largest measurable lesions at baseline, by product, or volume where there are no diameters.

    Where some lesions have diameters and others only a volume, the product of a sphere of that volume is compared.
    Parts that a lesion split into count together, under the name of that lesion.
    """
    sizes: dict[str, float] = {}
    for lesion in lesions:
        sizes[root_of(lesion)] = sizes.get(root_of(lesion), 0.0) + _rank_mm2(lesion)
    measurable = {root_of(lesion) for lesion in lesions if is_measurable(lesion, criteria)}
    ranked = sorted(measurable, key=lambda name: (-sizes[name], name))
    few, many = criteria.targets.value, criteria.targets_multifocal.value
    return tuple(ranked[: many if len(ranked) >= many else few])


def _rank_mm2(lesion: LesionMeasurement) -> float:
    if lesion.product_mm2 is not None:
        return lesion.product_mm2
    return math.pow(6000.0 * (lesion.volume_ml or 0.0) / math.pi, 2.0 / 3.0)


@dataclass(frozen=True)
class CompartmentHistory:
    """One compartment in one measure through one episode; ``visits[0]`` is the baseline.

    Attributes:
        earlier: visits before the episode, whose lesions are known too.
        set_aside: indices of visits that give no nadir, because they cannot be evaluated.
        watch_enhancing: whether enhancing lesions count although enhancement is not measured (non-enhancing disease:
            new enhancement is progression by the rule for new lesions).
        watch_flair: whether growth of T2/FLAIR disease is for a reader, because only enhancement is measured.
    """

    criteria: Criteria
    compartment: Compartment
    measure: Measure
    visits: tuple[VisitMeasurements, ...]
    earlier: tuple[VisitMeasurements, ...] = ()
    set_aside: frozenset[int] = frozenset()
    watch_enhancing: bool = False
    watch_flair: bool = False

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Target lesions, chosen at baseline."""
        return choose_targets(self.visits[0].of(self.compartment), self.criteria)

    @property
    def growth_percent(self) -> float:
        """Growth from which it is progression."""
        planar = self.measure is Measure.PLANAR
        row = self.criteria.progression_2d_percent if planar else self.criteria.progression_volume_percent
        return row.value

    def is_growth(self, percent: float | None) -> bool:
        """Whether a change reaches it."""
        return percent is not None and percent >= self.growth_percent - TOLERANCE_PERCENT

    def is_measured(self, index: int) -> bool:
        """Whether any lesion up to a visit was measured this way; True where none was seen."""
        lesions = [lesion for visit in self.visits[: index + 1] for lesion in visit.of(self.compartment)]
        return not lesions or any(self.measure.size(lesion) is not None for lesion in lesions)

    def unlisted(self, index: int, compartment: Compartment) -> tuple[LesionMeasurement, ...]:
        """Lesions that were there when last listed and have no row at a visit, nor a part that has."""
        visit = self.visits[index]
        if compartment in visit.not_assessable or visit.is_empty(compartment):
            return ()
        known = _known((*self.earlier, *self.visits[:index]), compartment)
        listed = {lesion.lesion for lesion in visit.listed(compartment)}
        return tuple(known[name] for name in sorted(set(known) - listed - _replaced(visit, compartment, known)))

    def is_unread(self, index: int, compartment: Compartment) -> bool:
        """Whether a visit has no row of a compartment that held lesions before."""
        visit = self.visits[index]
        before = (*self.earlier, *self.visits[:index])
        silent = not (visit.is_empty(compartment) or visit.listed(compartment))
        return silent and any(other.of(compartment) for other in before)

    def summed(self, index: int) -> frozenset[str]:
        """Names of the lesions whose sum is judged at a visit: targets, and new ones where the criteria add them."""
        names = set(self.targets)
        if self.criteria.new_lesion.value is NewLesionRule.ADD_TO_SUM:
            for earlier in range(1, index + 1):
                new = self.new_lesions(earlier, self.compartment)
                names |= {root_of(lesion) for lesion in new if is_measurable(lesion, self.criteria)}
        return frozenset(names)

    def counted(self, index: int) -> tuple[LesionMeasurement, ...]:
        """Lesions of the sum that are seen at a visit."""
        names = self.summed(index)
        return tuple(lesion for lesion in self.visits[index].of(self.compartment) if root_of(lesion) in names)

    def gaps(self, index: int) -> tuple[str, ...]:
        """Why the sum of a visit is not known, naming the lesion; empty where it is."""
        visit, names = self.visits[index], self.summed(index)
        if why := visit.not_assessable.get(self.compartment):
            return (why,)
        if self.is_unread(index, self.compartment):
            return (f"no row of {self.compartment} disease at {visit.visit}; if nothing is seen, give it a row with an "
                    f"empty lesion and {self.compartment}",)  # fmt: skip
        found = [no_row(lesion, visit) for lesion in self.unlisted(index, self.compartment) if root_of(lesion) in names]
        for lesion in self.counted(index):
            if self.measure.size(lesion) is None:
                found.append(f"target lesion {lesion.lesion} was not measured by {self.measure.words} at {visit.visit}")
        return tuple(found)

    def least_sum_at(self, index: int) -> float:
        """Sum of what was measured of the lesions of the sum."""
        return math.fsum(self.measure.size(lesion) or 0.0 for lesion in self.counted(index))

    def sum_at(self, index: int) -> float | None:
        """Sum at a visit, 0 where the lesions are gone; None if one of them was not measured this way."""
        return None if self.gaps(index) else self.least_sum_at(index)

    def nadir_before(self, index: int) -> tuple[float, int] | None:
        """Smallest sum of the visits from baseline to the one before, and its visit; None if none was measured."""
        usable = [earlier for earlier in range(index) if earlier not in self.set_aside]
        sums = [(value, earlier) for earlier in usable if (value := self.sum_at(earlier)) is not None]
        return min(sums) if sums else None

    def new_lesions(self, index: int, compartment: Compartment) -> tuple[LesionMeasurement, ...]:
        """Lesions that are seen now and were not there at baseline; none where the baseline could not show any."""
        base = self.visits[0]
        if compartment in base.not_assessable or self.is_unread(0, compartment):
            return ()
        old = {root_of(lesion) for lesion in (*base.of(compartment), *self.unlisted(0, compartment))}
        return tuple(lesion for lesion in self.visits[index].of(compartment) if root_of(lesion) not in old)

    def own_growth(self, index: int, lesion: LesionMeasurement) -> tuple[LesionMeasurement, float] | None:
        """Smallest earlier state of one lesion in the episode, and the change since; None without one."""
        now = self.measure.size(lesion)
        earlier = [
            (size, number, other)
            for number, visit in enumerate(self.visits[:index])
            for other in visit.of(lesion.compartment)
            if other.lesion == lesion.lesion and (size := self.measure.size(other)) is not None
        ]
        if not earlier:
            return None
        size, _, smallest = min(earlier, key=lambda entry: entry[:2])
        percent = percent_of(now, size)
        return None if percent is None else (smallest, percent)


def _known(visits: Iterable[VisitMeasurements], compartment: Compartment) -> dict[str, LesionMeasurement]:
    """Lesions that were there when last listed."""
    known: dict[str, LesionMeasurement] = {}
    for visit in visits:
        if visit.is_empty(compartment):
            known.clear()
        for name in _replaced(visit, compartment, known):
            known.pop(name, None)
        for lesion in visit.listed(compartment):
            if lesion.present:
                known[lesion.lesion] = lesion
            else:
                known.pop(lesion.lesion, None)
    return known


def _replaced(
    visit: VisitMeasurements, compartment: Compartment, known: Mapping[str, LesionMeasurement]
) -> frozenset[str]:
    """Lesions that a visit lists only by parts that are new."""
    listed = {lesion.lesion for lesion in visit.listed(compartment)}
    new = (lesion for lesion in visit.listed(compartment) if lesion.lesion not in known)
    return frozenset(name for lesion in new for name in lesion.ancestors) - listed


def root_of(lesion: LesionMeasurement) -> str:
    """The lesion that it split from first, or itself."""
    return lesion.ancestors[-1] if lesion.ancestors else lesion.lesion


def no_row(lesion: LesionMeasurement, visit: VisitMeasurements) -> str:
    """What to do about a lesion that a visit does not list."""
    return f"lesion {lesion.lesion} has no row at {visit.visit}; write 0 and 0 if it is gone"


def percent_of(value: float | None, reference: float | None) -> float | None:
    """Signed change in percent; None where either is unknown or the reference is zero."""
    if value is None or reference is None or reference <= 0:
        return None
    return (value - reference) / reference * 100.0


def size_of(lesion: LesionMeasurement) -> str:
    """``20 x 15 mm``, or a volume where there are no diameters."""
    if lesion.long_mm is not None and lesion.short_mm is not None:
        return f"{_whole(lesion.long_mm)} x {_whole(lesion.short_mm)} mm"
    return f"{lesion.volume_ml:.4g} ml" if lesion.volume_ml is not None else "of unknown size"


def _whole(length_mm: float) -> str:
    """Whole millimetres; tenths, rounded down, below the 10 mm that a measurable lesion needs."""
    return f"{length_mm:.0f}" if length_mm >= 10 else f"{math.floor(length_mm * 10) / 10:g}"


def describe(lesion: LesionMeasurement) -> str:
    """Its name, with its size where known."""
    return (
        lesion.lesion if lesion.long_mm is None and lesion.volume_ml is None else f"{lesion.lesion} ({size_of(lesion)})"
    )
