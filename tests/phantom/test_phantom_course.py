"""Patients over time: the script comes true, lesions keep their names, categories follow from volumes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from glioma import TC
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.grid import grid_between
from brats_seg.core.labels import DEFAULT_SCHEMA, Structure
from brats_seg.core.study import MRSequence
from brats_seg.phantom.course import grow_course, make_visit
from brats_seg.phantom.kinds import LesionScript, LesionState, TumourKind
from brats_seg.phantom.script import STORIES, Course, PatientKind, Story, VisitScript, draw_course
from brats_seg.phantom.truth import categorise
from tests.phantom.small_phantoms import T1CE_ALONE as SMALL

pytestmark = pytest.mark.usefixtures("coarse_brains")

START = date(2024, 3, 1)


def course_of(
    *lesions: tuple[TumourKind, list[LesionState]], days: list[int], near: bool = False, treatment: str = ""
) -> Course:
    """A course written by hand."""
    visits = tuple(
        VisitScript(f"{number + 1:02d}", START + timedelta(days=day), treatment if number else "")
        for number, day in enumerate(days)
    )
    scripts = tuple(
        LesionScript(f"L{number + 1}", kind, tuple(states), near="L1" if near and number else "")
        for number, (kind, states) in enumerate(lesions)
    )
    return Course("p", 5, PatientKind.HIGH_GRADE, Story.GROWTH, visits, scripts)


def enhancing(*volumes_ml: float, events: tuple[str, ...] = ()) -> tuple[TumourKind, list[LesionState]]:
    """A lesion that enhances altogether."""
    names = events or ("growth",) * len(volumes_ml)
    return TumourKind.HIGH_GRADE, [
        LesionState(volume, 1.0, 0.0, event=event) for volume, event in zip(volumes_ml, names, strict=True)
    ]


# --- scripts, which need no brain


@pytest.mark.parametrize(("kind", "story"), [(kind, story) for kind, stories in STORIES.items() for story in stories])
@pytest.mark.parametrize("visits", [1, 2, 5])
def test_every_story_of_every_kind_can_be_drawn(kind: PatientKind, story: Story, visits: int) -> None:
    for seed in range(5):
        course = draw_course(seed, kind, visits=visits, story=story)
        assert (course.kind, course.story, len(course.visits)) == (kind, story, visits)
        assert bool(course.lesions) == (kind is not PatientKind.NONE)
        largest = 45 if kind is PatientKind.MENINGIOMA else 70
        for lesion in course.lesions:
            assert 0 < lesion.core_ml <= largest
        assert json.loads(json.dumps(course.to_dict()))["seed"] == course.seed


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(PatientKind)), st.integers(1, 8))
def test_the_same_seed_gives_the_same_course(seed: int, kind: PatientKind, visits: int) -> None:
    one, same = (draw_course(seed, kind, visits=visits) for _ in range(2))
    assert one == same
    assert one.kind not in (PatientKind.GLIOMA, PatientKind.MIXED)
    assert one != draw_course(seed + 1, kind, visits=visits)
    assert [visit.label for visit in one.visits] == [f"{i + 1:02d}" for i in range(visits)]


def test_stories_do_what_their_names_say() -> None:
    def cores(kind: PatientKind, story: Story, seed: int = 4) -> list[list[float]]:
        course = draw_course(seed, kind, visits=5, story=story)
        return [[state.core_ml for state in lesion.states] for lesion in course.lesions]

    (growth,) = cores(PatientKind.HIGH_GRADE, Story.GROWTH)
    assert growth == sorted(growth) and growth[-1] > 1.4 * growth[0]
    (stable,) = cores(PatientKind.LOW_GRADE, Story.STABLE)
    assert max(stable) < 1.35 * min(stable)
    (response,) = cores(PatientKind.HIGH_GRADE, Story.RESPONSE)
    assert response == sorted(response, reverse=True) and response[-1] < 0.35 * response[0]
    (recurrence,) = cores(PatientKind.HIGH_GRADE, Story.RECURRENCE)
    lowest = int(np.argmin(recurrence))
    assert 0 < lowest < 4 and recurrence[-1] > 1.4 * recurrence[lowest]
    (flare,) = cores(PatientKind.HIGH_GRADE, Story.PSEUDOPROGRESSION)
    assert flare[1] > 1.4 * flare[0] and flare[-1] < flare[0]
    old, new = cores(PatientKind.HIGH_GRADE, Story.NEW_LESION)
    assert old[0] > 0 and new[0] == 0 and new[-1] > 0
    course = draw_course(4, PatientKind.HIGH_GRADE, visits=3, story=Story.RESECTION)
    first, second, _ = course.lesions[0].states
    assert first.cavity_ml == 0 and second.cavity_ml > 5 and second.core_ml < 0.2 * first.core_ml
    assert course.visits[1].treatment == "resection"


def test_glioblastoma_grows_as_fast_as_it_says() -> None:
    course = draw_course(1, PatientKind.HIGH_GRADE, visits=2, story=Story.GROWTH)
    before, after = (state.core_ml for state in course.lesions[0].states)
    assert 56 <= course.days(0, 1) <= 98
    assert after / before == pytest.approx(math.exp(0.6 * 0.014 * course.days(0, 1)))


@pytest.mark.parametrize(
    ("volumes", "categories"),
    [
        ((10, 13.9), ["baseline", "SD"]),
        ((10, 14.0), ["baseline", "PD"]),
        ((10, 3.6), ["baseline", "SD"]),
        ((10, 3.5), ["baseline", "PR"]),
        ((10, 0, 0), ["baseline", "CR", "CR"]),
        ((10, 3, 4.1, 4.3), ["baseline", "PR", "SD", "PD"]),
        ((10, 3, 2, 2.7, 2.8), ["baseline", "PR", "PR", "PR", "PD"]),
        ((10, 0, 1), ["baseline", "CR", "PD"]),
    ],
)
def test_categories_follow_from_volumes(volumes: tuple[float, ...], categories: list[str]) -> None:
    course = course_of(enhancing(*volumes), days=[60 * i for i in range(len(volumes))])
    assert [categorise(course, i, set())[0] for i in range(len(volumes))] == categories


def test_a_new_lesion_is_progression_only_if_measurable() -> None:
    course = course_of(enhancing(20, 20), enhancing(0, 0.5), days=[0, 60])
    assert categorise(course, 1, {"L1"})[0] == "SD"
    category, reason = categorise(course, 1, {"L1", "L2"})
    assert category == "PD" and "L2" in reason


def test_surgery_sets_a_new_baseline() -> None:
    states = [
        LesionState(20, 1.0, event="baseline"),
        LesionState(1.0, 1.0, 0.0, 18, "resection"),
        LesionState(2.0, 1.0, 0.0, 17, "growth"),
    ]
    course = course_of((TumourKind.HIGH_GRADE, states), days=[0, 60, 120])
    assert [categorise(course, i, {"L1"})[0] for i in range(3)] == ["baseline", "baseline", "PD"]


def test_low_grade_is_judged_by_what_flair_shows() -> None:
    states = [LesionState(20, 0.0, 5.0), LesionState(20, 0.0, 16.0)]
    course = course_of((TumourKind.LOW_GRADE, states), days=[0, 200])
    assert categorise(course, 1, set())[0] == "PD"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: draw_course(1, visits=0), UsageError, "0 visits"),
        (lambda: draw_course(1, PatientKind.NONE, story=Story.MERGING), UsageError, "no story 'merging'"),
        (lambda: course_of(enhancing(1, 2), days=[0]), InputError, "2 states for 1 visits"),
        (lambda: course_of(enhancing(1, 2), days=[7, 7]), InputError, "order of time"),
        (lambda: course_of(days=[]), InputError, "no visit"),
        (lambda: LesionState(-1.0), InputError, "negative"),
        (lambda: LesionState(1.0, 1.5), InputError, "0..1"),
    ],
)
def test_nonsense_is_refused(make, error, words) -> None:
    with pytest.raises(error, match=words):
        make()


# --- one grown patient: two lesions that merge


@pytest.fixture(scope="module")
def course() -> Course:
    def states(*cores: float) -> list[LesionState]:
        return [LesionState(core, 0.6 if core else 0.0, 0.8 * core) for core in cores]

    return course_of(
        (TumourKind.HIGH_GRADE, states(0.6, 1.2, 4.0)),
        (TumourKind.HIGH_GRADE, states(0.0, 0.3, 3.0)),
        days=[0, 50, 110],
        near=True,
    )


@pytest.fixture(scope="module")
def grown(course):
    return grow_course(course, SMALL)


@pytest.fixture(scope="module")
def visits(course, grown):
    return [make_visit(course, index, SMALL, grown=grown) for index in range(3)]


@pytest.mark.slow
def test_the_script_comes_true(course, visits) -> None:
    for index, visit in enumerate(visits):
        for script, truth in zip(course.lesions, visit.truth.lesions, strict=True):
            state = script.states[index]
            assert truth.lesion == script.id
            assert truth.volume_ml["TC"] == pytest.approx(state.core_ml, abs=2e-4)
            assert truth.volume_ml["ET"] == pytest.approx(state.core_ml * state.enhancing_share, abs=2e-4)
            assert truth.volume_ml["ED"] == pytest.approx(state.edema_ml, abs=2e-4)
        for name, structure in (("NCR", Structure.NCR), ("ED", Structure.ED), ("ET", Structure.ET)):
            fractions = visit.phantom.fractions[structure]
            assert fractions.data.sum(dtype=np.float64) * fractions.grid.voxel_ml == pytest.approx(
                visit.truth.volume_ml[name], rel=0.002, abs=0.002
            )
        DEFAULT_SCHEMA.check(visit.phantom.labels.data)
        core = DEFAULT_SCHEMA.region_mask(visit.phantom.labels.data, TC).sum() / 1000
        assert core == pytest.approx(visit.truth.volume_ml["TC"], rel=0.06)
        assert visit.phantom.truth == visit.truth.volume_ml


@pytest.mark.slow
def test_lesions_keep_their_place_and_merge(visits) -> None:
    first = [visit.truth.lesions[0] for visit in visits]
    for truth in first[1:]:
        assert np.linalg.norm(np.subtract(truth.centre_mm, first[0].centre_mm)) < 5
    absent = visits[0].truth.lesions[1]
    assert (absent.component, absent.centre_mm, absent.long_mm) == (0, None, 0.0)
    last = visits[2].truth.lesions
    assert last[0].component == last[1].component == 1
    assert len({lesion.component for lesion in visits[1].truth.lesions}) == 2


@pytest.mark.slow
def test_rates_are_those_of_the_script(visits) -> None:
    truth = visits[2].truth.lesions[0]
    assert truth.growth_per_day == pytest.approx(math.log(4.0 / 1.2) / 60)
    assert truth.doubling_days == pytest.approx(math.log(2) / truth.growth_per_day)
    assert visits[0].truth.lesions[0].growth_per_day is None
    assert visits[1].truth.lesions[1].growth_per_day is None  # it was not there before


@pytest.mark.slow
def test_diameters_lie_between_those_of_a_ball_and_what_the_mask_shows(visits) -> None:
    truth = visits[1].truth.lesions[0]
    ball = 2 * np.cbrt(3 * 1200 / (4 * np.pi))
    assert 0.9 * ball < truth.long_mm < 2 * ball
    assert 0.4 * ball < truth.short_mm <= truth.long_mm + 0.2


@pytest.mark.slow
def test_the_brain_is_the_same_at_every_visit(grown, course) -> None:
    grid = grid_between(*grown.tumour.person.box_mm, 2.0)
    scenes = [grown.tumour.scene(course.states(index), grid) for index in (0, 2)]
    np.testing.assert_array_equal(scenes[0].anatomy.brain, scenes[1].anatomy.brain)
    brain = scenes[0].anatomy.brain
    difference = np.abs(scenes[0].anatomy.csf - scenes[1].anatomy.csf)[brain]
    assert 0 < difference.mean() < 0.05  # the lesions take 7 of 225 ml
    assert scenes[1].flow.least_determinant > 0


@pytest.mark.slow
def test_a_visit_is_the_same_whenever_it_is_made(course, visits) -> None:
    again = make_visit(course, 1, SMALL)
    assert again.truth == visits[1].truth
    np.testing.assert_array_equal(again.phantom.labels.data, visits[1].phantom.labels.data)
    np.testing.assert_array_equal(
        again.phantom.study.images[MRSequence.T1CE].data, visits[1].phantom.study.images[MRSequence.T1CE].data
    )


@pytest.mark.slow
def test_scanners_differ_between_visits(visits) -> None:
    noises = {visit.phantom.description["acquisition"]["noise"] for visit in visits}
    assert len(noises) == 3
    once = make_visit(course_of(days=[0, 60]), 1, SMALL)
    assert set(once.truth.volume_ml.values()) == {0.0} and not once.phantom.labels.data.any()
    assert once.phantom.description["lesions"] == [] and once.phantom.study.images[MRSequence.T1CE].data.any()
    assert (once.truth.category, once.truth.lesions) == ("SD", ())


@pytest.mark.slow
def test_tables_are_flat_and_whole(visits) -> None:
    rows = [row for visit in visits for row in visit.truth.rows()]
    assert len(rows) == 9
    assert all(list(row) == list(rows[0]) for row in rows)
    assert [row["category"] for row in rows if row["lesion"] == "all"] == ["baseline", "PD", "PD"]
    for visit in visits:
        json.dumps(visit.truth.to_dict())
        json.dumps(visit.phantom.description)


@pytest.mark.slow
def test_a_visit_that_is_not_there_and_a_brain_that_is_elsewhere(course, grown) -> None:
    with pytest.raises(UsageError, match="visits 0 to 2, not 3"):
        make_visit(course, 3, SMALL, grown=grown)
    with pytest.raises(InputError, match="brain_centre_mm"):
        make_visit(course, 0, replace(SMALL, brain_centre_mm=(0.0, 0.0, 0.0)), grown=grown)
    with pytest.raises(InputError, match="another course"):
        make_visit(replace(course, seed=6), 0, SMALL, grown=grown)
