"""What a reader has to look at, because no threshold of the criteria decides it: growth beside what is judged."""

from __future__ import annotations

from dataclasses import dataclass

from brats_seg.response.criteria import Compartment, NewLesionRule
from brats_seg.response.history import LesionMeasurement
from brats_seg.response.reading import Course, Look, describe, is_measurable, percent_of, root_of, size_of


@dataclass(frozen=True)
class GrownLesion:
    """A lesion of the baseline outside the sum that is larger now, or was not measured before.

    Attributes:
        lesion: as it is now.
        words: name and sizes.
        listed: whether the baseline lists it.
    """

    lesion: LesionMeasurement
    words: str
    listed: bool = True


def looks_at(course: Course, index: int) -> tuple[Look, ...]:
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
        for entry in (*grown, *unmeasured_before(course, index, compartment)):
            found.append(Look(f"{name} {entry.lesion.lesion}", entry.words.replace("lesion", name, 1)))
        for lesion in course.new_lesions(index, compartment):
            if _is_large(course, lesion) and not is_measurable(lesion, course.criteria):
                words = f"new {name} {describe(lesion)} is not measurable by both diameters"
                found.append(Look(f"{name} {lesion.lesion}", words))
        found += _specks(course, index, compartment)
    if course.watch_flair:
        found += _flair(course, index)
    return tuple(found)


def grown_lesions(course: Course, index: int, compartment: Compartment, *, any_size: bool = False) -> list[GrownLesion]:
    """Lesions of the baseline outside the sum that are measurable now and have grown by the PD percentage.

    Growth is asked too, so that 9.9 mm read as 10.0 is not progression.

    Args:
        course: the episode.
        index: of the visit.
        compartment: whose lesions.
        any_size: also those that are not measurable.
    """
    found = []
    for lesion in _beside_the_sum(course, index, compartment):
        grown = course.own_growth(index, lesion)
        if grown is None or not course.is_growth(grown[1]):
            continue
        if any_size or is_measurable(lesion, course.criteria):
            words = f"lesion {lesion.lesion} grew from {size_of(grown[0])} to {size_of(lesion)}"
            found.append(GrownLesion(lesion, words))
    return found


def unmeasured_before(course: Course, index: int, compartment: Compartment) -> list[GrownLesion]:
    """Lesions that were there at baseline without any number, or without a row, and are measurable now."""
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
        listed = any(other.lesion == lesion.lesion for other in course.visits[0].of(compartment))
        words = f"lesion {lesion.lesion} is {size_of(lesion)} now, not measured at the baseline"
        found.append(GrownLesion(lesion, words, listed))
    return found


def _beside_the_sum(course: Course, index: int, compartment: Compartment) -> list[LesionMeasurement]:
    """Lesions seen at a visit that are not in the sum, not new, and measured."""
    names = course.summed(index) if compartment is course.compartment else frozenset()
    new = {lesion.lesion for lesion in course.new_lesions(index, compartment)}
    return [
        lesion
        for lesion in course.visits[index].of(compartment)
        if lesion.lesion not in new and root_of(lesion) not in names and course.measure.size(lesion) is not None
    ]


def _is_large(course: Course, lesion: LesionMeasurement) -> bool:
    criteria = course.criteria
    long_enough = (lesion.long_mm or 0.0) >= criteria.measurable_diameter_mm.value
    return long_enough or (lesion.volume_ml or 0.0) >= criteria.measurable_volume_ml.value


def _specks(course: Course, index: int, compartment: Compartment) -> list[Look]:
    """Specks that together are as large as a measurable lesion, or all that is left."""
    visit = course.visits[index]
    now, before = (seen.specks_in(compartment) for seen in (visit, course.visits[0]))
    many = now - before >= course.criteria.measurable_volume_ml.value
    if not now or not (many or (course.visits[0].of(compartment) and not visit.of(compartment))):
        return []
    return [Look(f"specks {compartment}", f"{now:.3g} ml of {compartment} disease in specks too small to be lesions")]


def _flair(course: Course, index: int) -> list[Look]:
    """T2/FLAIR disease that grew by the PD percentage while enhancing disease is judged."""
    totals = {earlier: total for earlier in range(index) if (total := _flair_total(course, earlier))}
    now = _flair_total(course, index)
    if not totals or now is None:
        return []
    smallest = min(totals, key=lambda earlier: (totals[earlier], earlier))
    if not course.is_growth(percent_of(now, totals[smallest])):
        return []
    unit = course.measure.unit
    words = f"T2/FLAIR disease grew from {totals[smallest]:g} to {now:g} {unit} since {course.visits[smallest].visit}"
    return [Look("T2/FLAIR", words)]


def _flair_total(course: Course, index: int) -> float | None:
    visit, compartment = course.visits[index], Compartment.NON_ENHANCING
    sizes = [course.measure.size(lesion) for lesion in visit.of(compartment)]
    unknown = compartment in visit.not_assessable or course.is_unread(index, compartment)
    if unknown or course.unlisted(index, compartment) or None in sizes:
        return None
    return sum(size for size in sizes if size is not None)
