"""Category of one visit by its numbers, in one compartment and one measure, before any clinical fact.

What no threshold of the criteria decides, growth beside what is judged, is left to a reader (:func:`looks_at`).
"""

from __future__ import annotations

from brats_seg.response.criteria import Compartment, EnhancementRule, NewLesionRule
from brats_seg.response.history import LesionMeasurement
from brats_seg.response.lesion_sums import (
    TOLERANCE_PERCENT,
    CompartmentHistory,
    describe,
    is_measurable,
    no_row,
    percent_of,
    root_of,
    size_of,
)
from brats_seg.response.responses import Category, Look, Measure, Response


def read_visit(course: CompartmentHistory, index: int) -> Response:
    """Category of one visit after baseline by numbers alone.

    Order: progression (new lesion, growth against nadir), complete, partial and minor response against baseline,
    stable. Against a nadir of zero only a new measurable lesion is progression (any size where the criteria allow it).
    """
    for seen in (index, 0):
        if why := course.visits[seen].not_assessable.get(course.compartment):
            elsewhere = (
                "" if seen else ", at the baseline; a later visit can be marked as baseline in the clinical table"
            )
            return Response(Category.NE, reasons=(f"{why}{elsewhere}",))
    if course.is_unread(0, course.compartment):
        return Response(Category.NE, reasons=(f"no baseline: {course.gaps(0)[0]}",))
    if not course.is_measured(index):
        return Response(Category.NE, reasons=(f"not measured by {course.measure.words}",))
    value, base, nadir = course.sum_at(index), course.sum_at(0), course.nadir_before(index)
    grown, follow = _growth(course, index)
    new, also = _new_disease(course, index)
    follow += also
    if course.measure is Measure.VOLUME and not course.criteria.volume_published.value:
        follow.append("volume thresholds: not in the published criteria")
    gaps = (*course.gaps(index), *(() if base is not None else course.gaps(0)))
    if new or grown:
        category, reasons = Category.PD, (*new, *grown)
    elif gaps or value is None or base is None:
        category, reasons = Category.NE, gaps
    else:
        category, rule = _without_percentage(course, index, nadir) or _by_decrease(course, value, base)
        reasons = (rule,)
    return Response(
        category,
        percent_from_baseline=percent_of(value, base),
        percent_from_nadir=percent_of(value, nadir[0] if nadir else None),
        reasons=(*reasons, *follow),
        looks=tuple(look for look in looks_at(course, index) if not any(look.words in item for item in new)),
        size=value,
        nadir=nadir[1] if nadir else None,
        grown=bool(grown) and not new,
        growth_percent=course.growth_percent,
        absent=_is_absent(course, index),
    )


def _is_absent(course: CompartmentHistory, index: int) -> bool:
    """Whether nothing of the compartment was seen since baseline, though it was looked at."""
    visits = course.visits[: index + 1]
    seen = any(visit.of(course.compartment) or visit.specks_in(course.compartment) for visit in visits)
    return not (seen or course.is_unread(index, course.compartment) or course.unlisted(index, course.compartment))


def _without_percentage(
    course: CompartmentHistory, index: int, nadir: tuple[float, int] | None
) -> tuple[Category, str] | None:
    """The categories that need no percentage; None where the change against baseline decides."""
    visit = course.visits[index]
    if not course.targets:
        return Category.SD, f"no measurable {course.compartment} disease at baseline: the best category is SD"
    if not visit.of(course.compartment):
        left = _what_is_left(course, index)
        if left:
            return Category.PR, f"PR: no {course.compartment} lesion is listed any more, but no CR: {left}"
        return Category.CR, f"CR: no {course.compartment} lesion is seen any more"
    if nadir is not None and nadir[0] == 0:
        then = {root_of(lesion) for lesion in course.visits[nadir[1]].of(course.compartment)}
        if any(root_of(lesion) not in then for lesion in visit.of(course.compartment)):
            return Category.SD, "a lesion is seen after no target was left: not measurable, follow"
    return None


def _what_is_left(course: CompartmentHistory, index: int) -> str:
    """What forbids a complete response although no lesion of the compartment is listed; empty if nothing does."""
    visit = course.visits[index]
    found = []
    for compartment in (course.compartment, *([Compartment.ENHANCING] if course.watch_enhancing else [])):
        found += [visit.not_assessable.get(compartment, "")]
        found += [f"lesion {describe(lesion)} enhances" for lesion in visit.of(compartment)]
        if specks_ml := visit.specks_in(compartment):
            found.append(f"{specks_ml:.3g} ml of {compartment} disease in specks too small to be lesions")
        found += [no_row(lesion, visit) for lesion in course.unlisted(index, compartment)]
    return next(filter(None, found), "")


def _by_decrease(course: CompartmentHistory, value: float, base: float) -> tuple[Category, str]:
    """Partial, minor or stable by the change against baseline; progression was asked before."""
    criteria = course.criteria
    planar = course.measure is Measure.PLANAR
    partial = criteria.partial_2d_percent if planar else criteria.partial_volume_percent
    minor = criteria.minor_2d_percent if planar else criteria.minor_volume_percent
    has_minor = minor.value is not None and course.compartment in criteria.minor_compartments.value
    percent = percent_of(value, base)
    first = minor.value if has_minor and minor.value is not None else partial.value
    rule = f"SD between {first:+g} % against baseline and {course.growth_percent:+g} % against nadir"
    category = Category.SD
    if percent is not None and percent <= partial.value + TOLERANCE_PERCENT:
        category, rule = Category.PR, f"PR from {partial.value:+g} % against baseline"
    elif percent is not None and has_minor and percent <= first + TOLERANCE_PERCENT:
        category, rule = Category.MR, f"MR from {first:+g} %, PR from {partial.value:+g} % against baseline"
    return category, f"{category}: {_numbers(course, value, base, at=0, name='baseline')}; {criteria.title}: {rule}"


def _growth(course: CompartmentHistory, index: int) -> tuple[list[str], list[str]]:
    """Reasons for progression by growth of the sum against nadir, and what is only to be followed.

    Where a lesion of the sum was not measured, the others decide if they alone have grown enough.
    """
    nadir, value = course.nadir_before(index), course.sum_at(index)
    if nadir is None:
        return [], []
    known = course.least_sum_at(index) if value is None else value
    if nadir[0] == 0:
        return (_back_from_zero(course, index) if known else []), []
    if not course.is_growth(percent_of(known, nadir[0])):
        return [], []
    numbers = _numbers(course, known, nadir[0], at=nadir[1], name="nadir")
    if value is None:
        numbers = f"without what was not measured ({'; '.join(course.gaps(index))}), {numbers}"
    if _is_worth_measuring(course, index):
        rule = f"{course.criteria.title}: PD from {course.growth_percent:+g} % against nadir"
        return [f"PD: {numbers}{_most_grown(course, index)}; {rule}"], []
    return [], [f"{numbers}, but no lesion of it is measurable: not measurable, follow"]


def _most_grown(course: CompartmentHistory, index: int) -> str:
    """The lesion of a sum of several that added most to it, in words."""
    gains = []
    for lesion in course.counted(index):
        size, grown = course.measure.size(lesion), course.own_growth(index, lesion)
        before = course.measure.size(grown[0]) if grown is not None else 0.0
        if size is not None and before is not None and size > before:
            since = f"grew from {size_of(grown[0])} to {size_of(lesion)}" if grown else f"is new, {size_of(lesion)}"
            gains.append((size - before, f", most by lesion {lesion.lesion}, which {since}"))
    return max(gains)[1] if gains and len(course.summed(index)) > 1 else ""


def _is_worth_measuring(course: CompartmentHistory, index: int) -> bool:
    """Whether growth of the sum can be progression: a lesion of it is measurable, or any size is where it is new."""
    if course.criteria.new_lesion.value is NewLesionRule.ANY_SIZE:
        return True
    least_ml = course.criteria.measurable_volume_ml.value
    by_volume = course.measure is Measure.VOLUME
    return any(
        is_measurable(lesion, course.criteria) or (by_volume and (lesion.volume_ml or 0.0) >= least_ml)
        for lesion in course.counted(index)
    )


def _new_disease(course: CompartmentHistory, index: int) -> tuple[list[str], list[str]]:
    """Progression by lesions that were not there at baseline; the second list is what is too small for it."""
    criteria, rule = course.criteria, course.criteria.new_lesion.value
    reasons: list[str] = []
    follow: list[str] = []
    for lesion in course.new_lesions(index, course.compartment):
        measurable = is_measurable(lesion, criteria)
        if rule is NewLesionRule.ANY_SIZE or (measurable and rule is NewLesionRule.MEASURABLE):
            reasons.append(f"PD: new lesion {describe(lesion)}; {criteria.title}: {rule.value}")
        elif not measurable:
            follow.append(f"new lesion {describe(lesion)}: not measurable, follow")
        else:
            follow.append(f"new lesion {describe(lesion)} added to the sum")
    if course.watch_enhancing:
        for lesion in course.new_lesions(index, Compartment.ENHANCING):
            if rule is NewLesionRule.ANY_SIZE or is_measurable(lesion, criteria):
                reasons.append(f"PD: new enhancing lesion {describe(lesion)} in non-enhancing disease")
            else:
                follow.append(f"new enhancing lesion {describe(lesion)}: not measurable, follow")
        if criteria.enhancement_increase.value is EnhancementRule.PROGRESSION:
            reasons += [f"PD: enhancing {words}; {criteria.title}: all but PD ask for no more enhancement"
                        for _, words in grown_lesions(course, index, Compartment.ENHANCING)]  # fmt: skip
    if not course.targets:
        became = grown_lesions(course, index, course.compartment)
        reasons += [f"PD: {words}, and was not measurable at baseline" for _, words in became]
        listed = {lesion.lesion for lesion in course.visits[0].of(course.compartment)}
        unmeasured = unmeasured_before(course, index, course.compartment)
        reasons += [f"PD: {words}, where no lesion was measurable" for name, words in unmeasured if name in listed]
    return reasons, follow


def _back_from_zero(course: CompartmentHistory, index: int) -> list[str]:
    """Progression by a lesion of the sum that is seen again after all were gone (a percentage is undefined)."""
    any_size = course.criteria.new_lesion.value is NewLesionRule.ANY_SIZE
    return [
        f"PD: lesion {describe(lesion)} after a nadir of zero (new disease; a percentage is undefined)"
        for lesion in course.counted(index)
        if any_size or is_measurable(lesion, course.criteria)
    ]


def _numbers(course: CompartmentHistory, value: float, reference: float, *, at: int, name: str) -> str:
    percent = percent_of(value, reference)
    change = f"{percent:+.2f} %" if percent is not None else "no percentage"
    unit, day = course.measure.unit, course.visits[at].day
    return f"{course.measure.words} {value:g} {unit} is {change} against {name} {reference:g} {unit} of {day}"


def looks_at(course: CompartmentHistory, index: int) -> tuple[Look, ...]:
    """What the reader of a visit has to look at, in the order of its weight.

    Lesions of the baseline outside the sum that grew by the PD percentage, lesions that were not measured at baseline,
    large new lesions that do not count as measurable, specks, and T2/FLAIR disease that grew beside enhancing disease.
    """
    compartments = [course.compartment]
    if course.watch_enhancing:
        compartments.append(Compartment.ENHANCING)
    found: list[Look] = []
    for compartment in compartments:
        name = "lesion" if compartment is course.compartment else "enhancing lesion"
        any_size = course.criteria.new_lesion.value is NewLesionRule.ANY_SIZE
        grown = grown_lesions(course, index, compartment, any_size=any_size)
        for lesion_name, words in (*grown, *unmeasured_before(course, index, compartment)):
            found.append(Look(f"{name} {lesion_name}", words.replace("lesion", name, 1)))
        for lesion in course.new_lesions(index, compartment):
            if _is_large(course, lesion) and not is_measurable(lesion, course.criteria):
                words = f"new {name} {describe(lesion)} is not measurable by both diameters"
                found.append(Look(f"{name} {lesion.lesion}", words))
        found += _specks(course, index, compartment)
    if course.watch_flair:
        found += _flair(course, index)
    return tuple(found)


def grown_lesions(
    course: CompartmentHistory, index: int, compartment: Compartment, *, any_size: bool = False
) -> list[tuple[str, str]]:
    """Lesions of the baseline outside the sum that are measurable now and have grown by the PD percentage: name, words.

    Growth is asked too, so that 9.9 mm read as 10.0 is not progression.

    Args:
        any_size: also those that are not measurable.
    """
    found = []
    for lesion in _beside_the_sum(course, index, compartment):
        grown = course.own_growth(index, lesion)
        if grown is None or not course.is_growth(grown[1]):
            continue
        if any_size or is_measurable(lesion, course.criteria):
            words = f"lesion {lesion.lesion} grew from {size_of(grown[0])} to {size_of(lesion)}"
            found.append((lesion.lesion, words))
    return found


def unmeasured_before(course: CompartmentHistory, index: int, compartment: Compartment) -> list[tuple[str, str]]:
    """Lesions that were there at baseline without any number, or without a row, and are measurable now; the same."""
    found = []
    for lesion in _beside_the_sum(course, index, compartment):
        before = [
            other
            for visit in course.visits[:index]
            for other in visit.of(compartment)
            if other.lesion == lesion.lesion and (other.long_mm is not None or other.volume_ml is not None)
        ]
        if before or lesion.part_of or not is_measurable(lesion, course.criteria):
            continue
        found.append((lesion.lesion, f"lesion {lesion.lesion} is {size_of(lesion)} now, not measured at the baseline"))
    return found


def _beside_the_sum(course: CompartmentHistory, index: int, compartment: Compartment) -> list[LesionMeasurement]:
    """Lesions seen at a visit that are not in the sum, not new, and measured."""
    names = course.summed(index) if compartment is course.compartment else frozenset()
    new = {lesion.lesion for lesion in course.new_lesions(index, compartment)}
    return [
        lesion
        for lesion in course.visits[index].of(compartment)
        if lesion.lesion not in new and root_of(lesion) not in names and course.measure.size(lesion) is not None
    ]


def _is_large(course: CompartmentHistory, lesion: LesionMeasurement) -> bool:
    criteria = course.criteria
    long_enough = (lesion.long_mm or 0.0) >= criteria.measurable_diameter_mm.value
    return long_enough or (lesion.volume_ml or 0.0) >= criteria.measurable_volume_ml.value


def _specks(course: CompartmentHistory, index: int, compartment: Compartment) -> list[Look]:
    """Specks that together are as large as a measurable lesion, or all that is left."""
    visit = course.visits[index]
    now, before = (seen.specks_in(compartment) for seen in (visit, course.visits[0]))
    many = now - before >= course.criteria.measurable_volume_ml.value
    if not now or not (many or (course.visits[0].of(compartment) and not visit.of(compartment))):
        return []
    return [Look(f"specks {compartment}", f"{now:.3g} ml of {compartment} disease in specks too small to be lesions")]


def _flair(course: CompartmentHistory, index: int) -> list[Look]:
    """T2/FLAIR disease that grew by the PD percentage while enhancing disease is judged."""
    totals = {earlier: total for earlier in range(index) if (total := _flair_total(course, earlier))}
    now = _flair_total(course, index)
    if not totals or now is None:
        return []
    smallest = min(totals, key=lambda earlier: (totals[earlier], earlier))
    if not course.is_growth(percent_of(now, totals[smallest])):
        return []
    unit = course.measure.unit
    before, after = (f"{total:.0f}" if total >= 100 else f"{total:.3g}" for total in (totals[smallest], now))
    words = f"T2/FLAIR disease grew from {before} to {after} {unit} since {course.visits[smallest].visit}"
    return [Look("T2/FLAIR", words)]


def _flair_total(course: CompartmentHistory, index: int) -> float | None:
    visit, compartment = course.visits[index], Compartment.NON_ENHANCING
    sizes = [course.measure.size(lesion) for lesion in visit.of(compartment)]
    unknown = compartment in visit.not_assessable or course.is_unread(index, compartment)
    if unknown or course.unlisted(index, compartment) or None in sizes:
        return None
    return sum(size for size in sizes if size is not None)
