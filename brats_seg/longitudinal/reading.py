"""What the numbers of one visit say, in one compartment and one measure, before any clinical fact.

Pure arithmetic on a criteria table: targets, sums, nadir, percentages and the category they give. Every threshold
comes from :class:`~brats_seg.longitudinal.criteria.Criteria`, and comparisons include the threshold itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from brats_seg.longitudinal.criteria import Compartment, Criteria, NewLesionRule
from brats_seg.longitudinal.history import LesionMeasurement, VisitMeasurements

TOLERANCE_PERCENT = 1e-6
"""Percentage points by which rounding of floating numbers may miss a threshold that was met exactly."""


class Category(StrEnum):
    """Response category of one visit."""

    BASELINE = "baseline"
    CR = "CR"
    PR = "PR"
    MR = "MR"
    SD = "SD"
    PD = "PD"
    NE = "NE"


class Measure(StrEnum):
    """How size is measured."""

    PLANAR = "2d"
    VOLUME = "volume"

    @property
    def words(self) -> str:
        """What is summed, for reasons in words."""
        return "sum of products" if self is Measure.PLANAR else "volume"

    @property
    def unit(self) -> str:
        """Unit of the sum."""
        return "mm2" if self is Measure.PLANAR else "ml"

    def size(self, lesion: LesionMeasurement) -> float | None:
        """Size of a lesion in this measure; None where it was not measured this way."""
        return lesion.product_mm2 if self is Measure.PLANAR else lesion.volume_ml


@dataclass(frozen=True)
class Reading:
    """What the numbers say.

    Attributes:
        category: by size and new lesions alone.
        percent_from_baseline: signed change of the sum; None where undefined.
        percent_from_nadir: signed change against the smallest sum of earlier visits since baseline.
        reasons: rule and numbers, in words.
        missing: what only a reader can say.
    """

    category: Category
    percent_from_baseline: float | None = None
    percent_from_nadir: float | None = None
    reasons: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def is_measurable(lesion: LesionMeasurement, criteria: Criteria) -> bool:
    """Whether a lesion is measurable: both diameters at least the threshold; by volume where it has no diameters.

    The number of slices a lesion is seen on is not in a table of measurements; where the image is at hand,
    :attr:`LesionMeasurement.measurable` says what was found there and decides.
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
        sizes[_root(lesion)] = sizes.get(_root(lesion), 0.0) + _rank_mm2(lesion)
    measurable = {_root(lesion) for lesion in lesions if is_measurable(lesion, criteria)}
    ranked = sorted(measurable, key=lambda name: (-sizes[name], name))
    return tuple(ranked[: criteria.targets.value])


def _rank_mm2(lesion: LesionMeasurement) -> float:
    if lesion.product_mm2 is not None:
        return lesion.product_mm2
    return math.pow(6000.0 * (lesion.volume_ml or 0.0) / math.pi, 2.0 / 3.0)


@dataclass(frozen=True)
class Course:
    """One compartment in one measure through one episode; visits[0] is the baseline.

    Attributes:
        criteria: the table in force.
        compartment: what is judged.
        measure: how.
        visits: of the episode, in order.
        watch_enhancing: whether new enhancing lesions count although enhancement is not judged (non-enhancing
            disease: new enhancement is progression by the rule for new lesions).
    """

    criteria: Criteria
    compartment: Compartment
    measure: Measure
    visits: tuple[VisitMeasurements, ...]
    watch_enhancing: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """Target lesions, chosen at baseline."""
        return choose_targets(self.visits[0].of(self.compartment), self.criteria)

    def is_measured(self, index: int) -> bool:
        """Whether any lesion up to a visit was measured this way; True where none was seen."""
        lesions = [lesion for visit in self.visits[: index + 1] for lesion in visit.of(self.compartment)]
        return not lesions or any(self.measure.size(lesion) is not None for lesion in lesions)

    def summed(self, index: int) -> frozenset[str]:
        """Names of the lesions whose sum is judged at a visit: targets, and new ones where the criteria add them."""
        names = set(self.targets)
        if self.criteria.new_lesion.value is NewLesionRule.ADD_TO_SUM:
            for earlier in range(1, index + 1):
                new = self.new_lesions(earlier, self.compartment)
                names |= {_root(lesion) for lesion in new if is_measurable(lesion, self.criteria)}
        return frozenset(names)

    def sum_at(self, index: int) -> float | None:
        """Sum at a visit, 0 where the lesions are gone; None if one that is seen was not measured this way."""
        if self.compartment in self.visits[index].not_assessable:
            return None
        names = self.summed(index)
        counted = [lesion for lesion in self.visits[index].of(self.compartment) if _root(lesion) in names]
        sizes = [self.measure.size(lesion) for lesion in counted]
        return None if None in sizes else math.fsum(size for size in sizes if size is not None)

    def nadir_before(self, index: int) -> tuple[float, int] | None:
        """Smallest sum of the visits from baseline to the one before, and its visit; None if none was measured."""
        sums = [(value, earlier) for earlier in range(index) if (value := self.sum_at(earlier)) is not None]
        return min(sums) if sums else None

    def new_lesions(self, index: int, compartment: Compartment) -> tuple[LesionMeasurement, ...]:
        """Lesions that are seen now and were not seen at baseline."""
        old = {_root(lesion) for lesion in self.visits[0].of(compartment)}
        return tuple(lesion for lesion in self.visits[index].of(compartment) if _root(lesion) not in old)


def _root(lesion: LesionMeasurement) -> str:
    return lesion.part_of or lesion.lesion


def read_visit(course: Course, index: int) -> Reading:
    """Category of one visit after baseline by numbers alone.

    Order: progression (new lesion, growth against nadir), complete, partial and minor response against baseline,
    stable. Against a nadir of zero only a new measurable lesion is progression (any size where the criteria say so).
    """
    for seen in (index, 0):
        if why := course.visits[seen].not_assessable.get(course.compartment):
            return Reading(Category.NE, reasons=(why if seen else f"{why}, as at the baseline",))
    if not course.is_measured(index):
        return Reading(Category.NE, reasons=(f"not measured by {course.measure.words}",))
    value, base, nadir = course.sum_at(index), course.sum_at(0), course.nadir_before(index)
    from_baseline = _percent(value, base)
    from_nadir = _percent(value, nadir[0] if nadir else None)
    progression, follow = _progression(course, index, from_nadir)
    missing = _growing_beside_targets(course, index)
    of_volume = course.measure is Measure.VOLUME and not course.criteria.volume_published.value
    unpublished = ("volume thresholds: not in the published criteria",) if of_volume else ()

    def reading(category: Category, *reasons: str) -> Reading:
        return Reading(category, from_baseline, from_nadir, (*reasons, *follow, *unpublished), missing)

    if progression:
        return reading(Category.PD, *progression)
    if value is None or base is None:
        when = "this visit" if value is None else "baseline"
        return reading(Category.NE, f"a target lesion was not measured by {course.measure.words} at {when}")
    if special := _without_percentage(course, index, value, nadir):
        return reading(*special)
    category, rule = _by_decrease(course, from_baseline)
    return reading(
        category, f"{category}: {_numbers(course, value, base, at=0, percent=from_baseline, name='baseline')}; {rule}"
    )


def _without_percentage(
    course: Course, index: int, value: float, nadir: tuple[float, int] | None
) -> tuple[Category, str] | None:
    """The categories that need no percentage; None where the change against baseline decides."""
    if not course.targets:
        return Category.SD, "no measurable disease at baseline: the best category is SD"
    if not course.visits[index].of(course.compartment):
        return Category.CR, f"CR: no {course.compartment} lesion is seen any more"
    if nadir is not None and nadir[0] == 0 and value > 0:
        return Category.SD, "a lesion is seen again after none was left: not measurable, follow"
    return None


def _by_decrease(course: Course, percent: float | None) -> tuple[Category, str]:
    """Partial, minor or stable by the change against baseline; progression was asked before."""
    criteria = course.criteria
    planar = course.measure is Measure.PLANAR
    partial = criteria.partial_2d_percent if planar else criteria.partial_volume_percent
    minor = criteria.minor_2d_percent if planar else criteria.minor_volume_percent
    growth = criteria.progression_2d_percent if planar else criteria.progression_volume_percent
    has_minor = minor.value is not None and course.compartment in criteria.minor_compartments.value
    if percent is not None and percent <= partial.value + TOLERANCE_PERCENT:
        return Category.PR, f"{criteria.title}: PR from {partial.value:+g} %"
    if has_minor and minor.value is not None and percent is not None and percent <= minor.value + TOLERANCE_PERCENT:
        return Category.MR, f"{criteria.title}: MR from {minor.value:+g} %, PR from {partial.value:+g} %"
    first = minor.value if has_minor else partial.value
    return Category.SD, f"{criteria.title}: SD between {first:+g} % and {growth.value:+g} % against nadir"


def _progression(course: Course, index: int, from_nadir: float | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Reasons for progression (empty if there is none), and what is to be followed."""
    reasons, follow = _new_disease(course, index)
    criteria = course.criteria
    growth = (
        criteria.progression_2d_percent if course.measure is Measure.PLANAR else criteria.progression_volume_percent
    )
    nadir, value = course.nadir_before(index), course.sum_at(index)
    if nadir is not None and value is not None and from_nadir is not None:
        if from_nadir >= growth.value - TOLERANCE_PERCENT:
            numbers = _numbers(course, value, nadir[0], at=nadir[1], percent=from_nadir, name="nadir")
            reasons.append(f"PD: {numbers}; {criteria.title}: PD from {growth.value:+g} % against nadir")
    elif nadir is not None and nadir[0] == 0 and value:
        reasons.extend(_back_from_zero(course, index))
    return tuple(reasons), tuple(follow)


def _new_disease(course: Course, index: int) -> tuple[list[str], list[str]]:
    """Progression by lesions that were not there at baseline; the second list is what is too small for it."""
    criteria, rule = course.criteria, course.criteria.new_lesion.value
    reasons: list[str] = []
    follow: list[str] = []
    for lesion in course.new_lesions(index, course.compartment):
        measurable = is_measurable(lesion, criteria)
        if rule is NewLesionRule.ANY_SIZE or (measurable and rule is NewLesionRule.MEASURABLE):
            reasons.append(f"PD: new lesion {_describe(lesion)}; {criteria.title}: {rule.value}")
        elif not measurable:
            follow.append(f"new lesion {_describe(lesion)}: not measurable, follow")
        else:
            follow.append(f"new lesion {_describe(lesion)} added to the sum")
    if course.watch_enhancing:
        for lesion in course.new_lesions(index, Compartment.ENHANCING):
            if rule is NewLesionRule.ANY_SIZE or is_measurable(lesion, criteria):
                reasons.append(f"PD: new enhancing lesion {_describe(lesion)} in non-enhancing disease")
            else:
                follow.append(f"new enhancing lesion {_describe(lesion)}: not measurable, follow")
    if not course.targets:
        for lesion, percent in _become_measurable(course, index, course.compartment):
            reasons.append(
                f"PD: lesion {_describe(lesion)} has become measurable ({percent:+.1f} % since its smallest)"
            )
    return reasons, follow


def _back_from_zero(course: Course, index: int) -> list[str]:
    """Progression by a lesion of the sum that is seen again after all were gone (a percentage is undefined)."""
    criteria = course.criteria
    names = course.summed(index)
    back = [lesion for lesion in course.visits[index].of(course.compartment) if _root(lesion) in names]
    any_size = criteria.new_lesion.value is NewLesionRule.ANY_SIZE
    return [
        f"PD: lesion {_describe(lesion)} after a nadir of zero (new disease; a percentage is undefined)"
        for lesion in back
        if any_size or is_measurable(lesion, criteria)
    ]


def _become_measurable(course: Course, index: int, compartment: Compartment) -> list[tuple[LesionMeasurement, float]]:
    """Lesions too small at baseline that are measurable now and have grown by the PD percentage, and by how much.

    The criteria ask for a new measurable lesion; growth is asked too, so that 9.9 mm read as 10.0 is not progression.
    """
    criteria = course.criteria
    planar = course.measure is Measure.PLANAR
    threshold = (criteria.progression_2d_percent if planar else criteria.progression_volume_percent).value
    large = {lesion.lesion for lesion in course.visits[0].of(compartment) if is_measurable(lesion, criteria)}
    found = []
    for lesion in course.visits[index].of(compartment):
        percent = _own_growth(course, index, lesion)
        if percent is None or percent < threshold - TOLERANCE_PERCENT or lesion.lesion in large:
            continue
        if is_measurable(lesion, criteria):
            found.append((lesion, percent))
    return found


def _own_growth(course: Course, index: int, lesion: LesionMeasurement) -> float | None:
    """Change of one lesion against its smallest earlier size in the episode; None if it was not seen at baseline."""
    now = course.measure.size(lesion)
    sizes = [
        size
        for visit in course.visits[:index]
        for other in visit.of(lesion.compartment)
        if other.lesion == lesion.lesion and (size := course.measure.size(other)) is not None
    ]
    seen = lesion.lesion in {other.lesion for other in course.visits[0].of(lesion.compartment)}
    return _percent(now, min(sizes)) if sizes and seen else None


def _growing_beside_targets(course: Course, index: int) -> tuple[str, ...]:
    """Lesions outside the sum that grew by the PD percentage: a reader has to judge them."""
    criteria = course.criteria
    planar = course.measure is Measure.PLANAR
    threshold = (criteria.progression_2d_percent if planar else criteria.progression_volume_percent).value
    notes = []
    names = course.summed(index)
    for lesion in course.visits[index].of(course.compartment):
        if not names or _root(lesion) in names:
            continue
        percent = _own_growth(course, index, lesion)
        if percent is not None and percent >= threshold - TOLERANCE_PERCENT:
            notes.append(f"reading of non-target lesion {lesion.lesion} ({percent:+.1f} %)")
    if course.watch_enhancing:
        # Enhancement is not judged here, and one that grew from next to nothing is often a matter of a millimetre.
        notes += [
            f"reading of enhancing lesion {_describe(lesion)}, which has become measurable ({percent:+.1f} %)"
            for lesion, percent in _become_measurable(course, index, Compartment.ENHANCING)
        ]
    return tuple(notes)


def _percent(value: float | None, reference: float | None) -> float | None:
    """Signed change in percent; None where either is unknown or the reference is zero."""
    if value is None or reference is None or reference <= 0:
        return None
    return (value - reference) / reference * 100.0


def _numbers(course: Course, value: float, reference: float, *, at: int, percent: float | None, name: str) -> str:
    change = f"{percent:+.2f} %" if percent is not None else "no percentage"
    unit, day = course.measure.unit, course.visits[at].day
    return f"{course.measure.words} {value:g} {unit} is {change} against {name} {reference:g} {unit} of {day}"


def _describe(lesion: LesionMeasurement) -> str:
    if lesion.long_mm is not None and lesion.short_mm is not None:
        return f"{lesion.lesion} ({lesion.long_mm:g} x {lesion.short_mm:g} mm)"
    return f"{lesion.lesion} ({lesion.volume_ml:g} ml)" if lesion.volume_ml is not None else f"{lesion.lesion}"
