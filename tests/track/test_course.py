"""From measurements to history, changes, growth and surgery."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from followed import measured_visit
from glioma import ET, REGIONS, TC, WT

from brats_seg.core.labels import Region
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.core.visit import Visit
from brats_seg.response.criteria import RANO2, Compartment
from brats_seg.response.history import ClinicalEvent, EventKind
from brats_seg.response.responses import UNDATED, Category, Disease, Measure
from brats_seg.track.course import (
    NOT_VALIDATED,
    baselines_of,
    changes_of,
    history_of,
    judge,
    resections_of,
    untrained_for,
)
from brats_seg.track.course_growth import growth_of
from brats_seg.track.growth import Estimate, Refusal
from brats_seg.track.lesions import LesionRow, RegionCourse
from brats_seg.track.match import Relation

START = date(2024, 1, 1)
SIZES = (20.0, 12.0, 16.0)


def visits(
    *volumes_ml: float, dated: bool = True, without_t1ce: tuple[int, ...] = (), step_days: int = 60, **how: Any
) -> list[Visit]:
    return [
        measured_visit(
            f"v{n}",
            START + timedelta(days=step_days * n) if dated else None,
            {"ET": volume, "TC": volume + 1, "WT": 10 * volume},
            sequences=[s for s in SEQUENCES if s is not MRSequence.T1CE or n not in without_t1ce],
            **how,
        )
        for n, volume in enumerate(volumes_ml)
    ]


def course(*sizes_mm: float, region: str = "ET", specks_ml: float = 0.0) -> RegionCourse:
    rows = [
        LesionRow(n, region, "E1", Relation.SAME if n else Relation.FIRST, "", "", size**3 / 2000, size, size,
                  size >= 10, int(size > 0), None, False)
        for n, size in enumerate(sizes_mm)
    ]  # fmt: skip
    return RegionCourse(tuple(rows), (specks_ml,) * len(sizes_mm))


COURSES = {"ET": course(*SIZES), "WT": RegionCourse((), (0.0,) * 3)}
SURGERY = ClinicalEvent(START + timedelta(days=30), EventKind.SURGERY)


def test_the_engine_gets_every_lesion_and_answers() -> None:
    measured = visits(4.0, 0.9, 2.0)
    history = history_of("P", measured, COURSES, ())
    assert [lesion.long_mm for visit in history.visits for lesion in visit.lesions] == list(SIZES)
    assessment = judge(history, measured, COURSES, RANO2)
    found = [row.category for row in assessment.overall(Measure.PLANAR)]
    assert found == [Category.BASELINE, Category.PR, Category.PD]
    assert baselines_of(assessment) == [None, 0, 0]
    assert [REGIONS.leading(d).name for d in (assessment.disease, Disease.NON_ENHANCING)] == ["ET", "WT"]


def test_what_the_images_leave_open_is_said() -> None:
    measured = visits(4.0, 0.9, 2.0)
    courses = {**COURSES, "ET": course(*SIZES, specks_ml=0.04)}
    history = history_of("P", measured, courses, (SURGERY,))
    rows = judge(history, measured, courses, RANO2).rows
    after = {row.visit: any(NOT_VALIDATED in item for item in row.missing) for row in rows}
    assert after == {"v0": False, "v1": True, "v2": True}
    assert all(any("0.04 ml of ET in specks" in item for item in row.missing) for row in rows)
    given = visits(4.0, 0.9, 2.0, model="")
    rows = judge(history_of("P", given, courses, (SURGERY,)), given, courses, RANO2).rows
    assert not any(NOT_VALIDATED in item for row in rows for item in row.missing)


def test_what_the_scans_do_not_show_is_not_judged() -> None:
    measured = visits(4.0, 0.9, 2.0, 4.0, without_t1ce=(1,))
    courses = {"ET": course(20.0, 12.0, 0.0, 20.0, specks_ml=0.04), "WT": RegionCourse((), (0.0,) * 4)}
    history = history_of("P", measured, courses, ())
    assert history.visits[0].specks_ml == {Compartment.ENHANCING: 0.04}
    rows = judge(history, measured, courses, RANO2).overall(Measure.PLANAR)
    assert rows[1].category is Category.NE and "without T1CE" in " ".join(rows[1].reasons)
    assert rows[3].category is Category.PD or rows[3].category is Category.SD
    assert "v1" not in " ".join(rows[3].reasons)  # neither a nadir nor a lesion of that visit counts
    measured = visits(4.0, 0.9, 2.0, 4.0, without_t1ce=(0, 1))
    history = history_of("P", measured, courses, ())
    found = judge(history, measured, courses, RANO2, disease=Disease.ENHANCING).overall(Measure.PLANAR)
    assert {row.category for row in found[1:]} <= {Category.NE}


def test_a_model_that_does_not_know_treatment_is_a_warning_about_the_course() -> None:
    chemo = ClinicalEvent(START + timedelta(days=30), EventKind.TREATMENT_START)
    measured = visits(4.0, 0.9, 2.0)
    history = history_of("P", measured, COURSES, (chemo,))
    words = untrained_for(measured, history)
    assert "v1, v2 came after it (treatment_start" in words and "v0" not in words
    assert untrained_for(measured, history_of("P", measured, COURSES, ())) == ""
    assert untrained_for(visits(4.0, 0.9, 2.0, knows_treatment=True), history) == ""


def test_a_visit_on_the_day_of_surgery_comes_before_it() -> None:
    measured = visits(4.0, 0.9, 2.0)
    event = ClinicalEvent(measured[1].timepoint.day or START, EventKind.SURGERY)
    history = history_of("P", measured, COURSES, (event,))
    rows = judge(history, measured, COURSES, RANO2).rows
    after = {row.visit: any(NOT_VALIDATED in item for item in row.missing) for row in rows}
    assert after == {"v0": False, "v1": False, "v2": True}
    assert {(found.before, found.after) for found in resections_of(measured, [event])} == {("v1", "v2")}


def test_without_dates_the_answer_shows_none() -> None:
    measured = visits(4.0, 0.9, 2.0, dated=False)
    history = history_of("P", measured, COURSES, ())
    assessment = judge(history, measured, COURSES, RANO2)
    text = " ".join(" ".join((*row.reasons, *row.missing)) for row in assessment.rows)
    assert "1900" not in text and "of v0" in text and UNDATED in text


def test_changes_against_baseline_nadir_and_the_visit_before() -> None:
    rows = changes_of(visits(4.0, 1.0, 2.0), COURSES, [None, 0, 0])
    region = {(row.visit, row.against): row for row in rows if (row.region, row.lesion) == ("ET", "")}
    assert {key: (row.reference, row.change.of_before(row.change.change_ml)) for key, row in region.items()} == {
        (1, "baseline"): (0, -75.0), (1, "nadir"): (0, -75.0), (1, "last"): (0, -75.0),
        (2, "baseline"): (0, -50.0), (2, "nadir"): (1, 100.0), (2, "last"): (1, 100.0),
    }  # fmt: skip
    assert any(row.lesion == "E1" for row in rows)


def test_before_a_later_baseline_only_the_last_visit_is_compared() -> None:
    rows = changes_of(visits(4.0, 1.0, 2.0), COURSES, [None, None, 1])
    assert {row.against for row in rows if row.visit == 1} == {"last"}
    assert {row.reference for row in rows if row.visit == 2} == {1}


def test_each_visit_is_compared_with_the_baseline_of_its_own_episode() -> None:
    measured = visits(4.0, 6.0, 8.0, 1.0, 2.0)
    courses = {"ET": course(20.0, 23.0, 25.0, 12.0, 16.0), "WT": RegionCourse((), (0.0,) * 5)}
    surgery = ClinicalEvent(START + timedelta(days=130), EventKind.SURGERY)
    history = history_of("P", measured, courses, (surgery,))
    baselines = baselines_of(judge(history, measured, courses, RANO2))
    assert baselines == [None, 0, 0, None, 3]
    found = {(row.visit, row.against): row.reference for row in changes_of(measured, courses, baselines)
             if (row.region, row.lesion) == ("ET", "")}  # fmt: skip
    assert found == {(1, "baseline"): 0, (1, "nadir"): 0, (1, "last"): 0, (2, "baseline"): 0, (2, "nadir"): 0,
                     (2, "last"): 1, (3, "last"): 2, (4, "baseline"): 3, (4, "nadir"): 3, (4, "last"): 3}  # fmt: skip


def test_what_a_visit_does_not_show_has_no_change_no_growth_and_no_extent() -> None:
    measured = visits(4.0, 1.0, 2.0, without_t1ce=(1,))
    changes = changes_of(measured, COURSES, [None, 0, 0])
    assert {row.region for row in changes if 1 in (row.visit, row.reference)} == {"WT"}
    assert growth_of(measured, (), TC)[0].used == (0, 2) and growth_of(measured, (), WT)[0].used == (0, 1, 2)
    assert {(found.region, found.extent_percent is None) for found in resections_of(measured, [SURGERY])} == {
        ("WT", False), ("TC", True), ("ET", True),
    }  # fmt: skip


def test_the_class_of_velocity_is_for_an_untreated_whole_tumour() -> None:
    measured = visits(2.0, 2.02, 2.04, step_days=400)
    before = ClinicalEvent(START - timedelta(days=9), EventKind.RADIOTHERAPY_END)

    def classes(region: Region, *events: ClinicalEvent) -> list[object]:
        entries = growth_of(measured, events, region)
        found = [entry.to_dict(["a", "b", "c"])["velocity_of_diametric_expansion"] for entry in entries]
        return [entry.get("class_mm_per_year", "no class") for entry in found]

    assert classes(WT) == ["<4"] and classes(ET) == ["no class"] and classes(WT, before) == ["no class"]


def test_extent_of_resection_needs_scans_near_the_surgery() -> None:
    far = resections_of(visits(4.0, 0.5, step_days=1200), [SURGERY])
    assert {entry.extent_percent for entry in far} == {None} and "1170 days after" in far[0].note
    two = [SURGERY, ClinicalEvent(START + timedelta(days=40), EventKind.SURGERY)]
    found = resections_of(visits(4.0, 0.5), two)
    assert {entry.extent_percent for entry in found} == {None} and "another surgery" in found[0].note


def test_extent_of_resection() -> None:
    found = resections_of(visits(4.0, 0.5, 2.0), [SURGERY])
    whole = next(entry for entry in found if entry.region == "ET")
    assert (whole.before, whole.after, whole.residual_ml) == ("v0", "v1", 0.5)
    assert whole.extent_percent == pytest.approx(87.5)
    late = ClinicalEvent(START + timedelta(days=500), EventKind.SURGERY)
    assert resections_of(visits(4.0, 0.5), [late]) == []
    assert resections_of(visits(4.0, 0.5, dated=False), [SURGERY]) == []


def test_treatment_breaks_growth_into_phases() -> None:
    growing = [2.0, 2.6, 3.4, 1.0, 1.4]
    event = ClinicalEvent(START + timedelta(days=130), EventKind.TREATMENT_START)
    phases = growth_of(visits(*growing), [event], ET)
    assert [(entry.phase.first, entry.phase.last) for entry in phases] == [(0, 2), (3, 4)]
    rate = phases[0].rate
    assert isinstance(rate, Estimate) and rate.value == pytest.approx(0.00442, rel=0.02)
    assert isinstance(phases[1].fit, Refusal) and "2 visits, needs 3" in phases[1].fit.reason
    assert phases[0].to_dict(["a", "b", "c", "d", "e"])["visits"] == ["a", "b", "c"]
    assert phases[0].curve[-1][2] is not None  # ends in a prediction with its interval
    given = growth_of(visits(*growing[:2], model=""), (), ET)[0]
    assert isinstance(given.rate, Estimate) and given.rate.low is None and "error is not known" in given.rate.note


def test_without_dates_growth_is_refused() -> None:
    (only,) = growth_of(visits(2.0, 3.0, 4.0, dated=False), (), ET)
    assert isinstance(only.rate, Refusal) and "dates" in only.rate.reason and only.curve == ()
