"""The state machine beyond categories: tables that decide, reasons, missing facts, stability when visits are added."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from courses import history, on, with_value
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import UsageError
from brats_seg.response.assess import assess, combine
from brats_seg.response.criteria import (
    CRITERIA,
    MRANO,
    RANO2,
    RANO_HGG,
    RANO_LGG,
    Compartment,
    ConfirmationReference,
    ConfirmationRule,
    DiseaseRule,
    EnhancementRule,
    Mark,
    NewLesionRule,
    criteria_named,
)
from brats_seg.response.history import LesionMeasurement, PatientHistory, VisitMeasurements
from brats_seg.response.lesion_sums import size_of
from brats_seg.response.responses import Category, Disease, Measure, Response, Status

V20 = {"E1": (20, 20)}
N20 = {"N1": (20, 20)}
RT = [(0, "radiotherapy_end")]


def answers(case: PatientHistory, criteria: Any = RANO2, measure: str = "2d", **options: Any) -> list[str]:
    rows = assess(case, criteria, **options).overall(Measure(measure))
    return [f"{row.category} {row.status}".strip() for row in rows]


def pick(rows: tuple[Response, ...], visit: str, compartment: str, measure: str = "2d") -> Response:
    (row,) = [r for r in rows if (r.visit, r.compartment, r.measure.value) == (visit, compartment, measure)]
    return row


ROW_CASES = [
    # row, other value, course, events, measure, expected with the published value, expected with the other
    ("measurable_diameter_mm", 15.0, [(0, V20), (60, {**V20, "E2": (12, 12)})], [], "2d", "PD", "SD"),
    ("measurable_volume_ml", 1.0, [(0, {"E1": 4.0}), (60, {"E1": 4.0, "E2": 0.6})], [], "volume", "PD", "SD"),
    ("disease", DiseaseRule.NON_ENHANCING, [(0, {**V20, **N20}), (60, {**V20, "N1": (30, 20)})], [], "2d", "SD", "PD"),
    ("targets", 1, [(0, {**V20, "E2": (10, 10)}), (60, {**V20, "E2": (20, 12)})], [], "2d", "PD", "SD"),
    ("targets_multifocal", 4, [(0, {**V20, "E2": (18, 18), "E3": (10, 10)}),
                               (60, {**V20, "E2": (18, 18), "E3": (20, 20)})], [], "2d", "PD", "SD"),
    ("enhancement_increase", EnhancementRule.PROGRESSION, [(0, {"E1": (12, 12), **N20}), (60, {"E1": (20, 20), **N20})],
     [], "2d", "SD", "PD", Disease.NON_ENHANCING),
    ("confirm_progression_against", ConfirmationReference.PRELIMINARY,
     [(28, V20), (56, {"E1": (30, 20)}), (90, {"E1": (25, 20)})], RT, "2d", "PD confirmed", "PD refuted"),
    ("growth_needs_steady_steroids", True, [(0, V20), (60, {"E1": (25, 20)})],
     [(0, "steroid_mg", 8), (50, "steroid_mg", 4)], "2d", "PD", "NE"),
    ("partial_2d_percent", -60.0, [(0, V20), (60, {"E1": (20, 10)})], [], "2d", "PR preliminary", "SD"),
    ("partial_volume_percent", -70.0, [(0, {"E1": 10.0}), (60, {"E1": 3.5})], [], "volume", "PR preliminary", "SD"),
    ("minor_2d_percent", -30.0, [(0, N20), (60, {"N1": (20, 15)})], [], "2d", "MR", "SD"),
    ("minor_volume_percent", None, [(0, {"N1": 10.0}), (60, {"N1": 6.0})], [], "volume", "MR", "SD"),
    ("minor_compartments", frozenset(), [(0, N20), (60, {"N1": (20, 15)})], [], "2d", "MR", "SD"),
    ("progression_2d_percent", 40.0, [(0, V20), (60, {"E1": (25, 20)})], [], "2d", "PD", "SD"),
    ("progression_volume_percent", 73.0, [(0, {"E1": 10.0}), (60, {"E1": 14.0})], [], "volume", "PD", "SD"),
    ("new_lesion", NewLesionRule.ANY_SIZE, [(0, V20), (60, {**V20, "E2": (3, 3)})], [], "2d", "SD", "PD"),
    ("confirm_progression", ConfirmationRule.NEVER, [(28, V20), (60, {"E1": (25, 20)})], RT, "2d",
     "PD preliminary", "PD"),
    ("early_days", 50, [(28, V20), (60, {"E1": (25, 20)})], RT, "2d", "PD preliminary", "PD"),
    ("confirm_progression_days", 56, [(28, V20), (56, {"E1": (25, 20)}), (84, {"E1": (25, 20)})], RT, "2d",
     "PD confirmed", "PD preliminary"),
    ("confirm_response_days", 56, [(0, V20), (60, {}), (90, {})], [], "2d", "CR confirmed", "CR preliminary"),
    ("physiologic_steroid_mg", 0.5, [(0, V20), (60, {})], [(0, "steroid_mg", 0.75)], "2d",
     "CR preliminary", "PR preliminary"),
    ("clinical_decline_is_progression", False, [(0, V20), (60, V20)], [(50, "clinical_status", "worse")], "2d",
     "PD", "SD"),
]  # fmt: skip


@pytest.mark.parametrize("case", ROW_CASES, ids=[case[0] for case in ROW_CASES])
def test_changing_one_row_changes_the_answer(case: tuple[Any, ...]) -> None:
    row, other, visits, events, measure, published, changed, *disease = case
    course = history(visits, events)
    options = {"disease": disease[0]} if disease else {}
    assert answers(course, RANO2, measure, **options)[1] == published
    assert answers(course, with_value(RANO2, row, other), measure, **options)[1] == changed
    assert answers(course, RANO2, measure, **options)[1] == published, "the published table is left as it was"


def test_every_row_that_decides_is_tried_above() -> None:
    words_only = {"volume_published", "baseline_from_days", "baseline_to_days", "reader_facts"}
    words_only |= {"unconfirmed_response_is_stable"}  # decides the best response, not a visit
    assert set(RANO2.rows()) == {case[0] for case in ROW_CASES} | words_only


def test_rows_that_only_speak_change_only_words() -> None:
    case = history([(10, V20), (70, {"E1": (20, 19)})], RT)
    plain = assess(case, RANO2)
    assert "outside the usual 21 to 35 days" in plain.episodes[0].why
    for row, value in (("baseline_from_days", 7), ("volume_published", False), ("reader_facts", ("reading",))):
        other = assess(case, with_value(RANO2, row, value))
        assert [r.category for r in other.rows] == [r.category for r in plain.rows]
        assert other != plain


def test_of_two_radiotherapies_before_the_baseline_the_later_is_named() -> None:
    twice = history([(210, V20), (270, {"E1": (20, 19)})], [(0, "radiotherapy_end"), (185, "radiotherapy_end")])
    (episode,) = assess(twice, RANO2).episodes
    assert "25 days after its end" in episode.why and "outside" not in episode.why


def test_a_changed_row_is_said_in_the_answer() -> None:
    changed = with_value(RANO2, "targets", 3)
    assert "was 2" in changed.targets.source
    reasons = assess(history([(0, V20)]), changed).rows[0].reasons
    assert any("changed row targets: 3" in reason for reason in reasons)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="rano2, rano-hgg, rano-lgg, mrano"):
        criteria_named("recist")


@pytest.mark.parametrize("criteria", CRITERIA.values(), ids=CRITERIA)
def test_every_row_has_a_source_and_a_mark(criteria: Any) -> None:
    for name, row in criteria.rows().items():
        assert row.source, name
        assert row.mark in Mark
    assert {entry["row"] for entry in criteria.table()} == set(criteria.rows())
    assert criteria_named(criteria.name) is criteria


def test_sphere_equivalents_agree_with_geometry() -> None:
    """A sphere's volume goes with the product to the power 3/2."""

    def volume_percent(product_percent: float) -> float:
        return ((1 + product_percent / 100) ** 1.5 - 1) * 100

    assert volume_percent(RANO_HGG.partial_2d_percent.value) == pytest.approx(-65, abs=0.5)
    assert volume_percent(RANO_HGG.progression_2d_percent.value) == pytest.approx(40, abs=0.5)
    assert volume_percent(RANO_LGG.minor_2d_percent.value) == pytest.approx(-35, abs=0.5)


def test_reasons_name_rule_and_numbers() -> None:
    assessment = assess(history([(0, V20), (60, {"E1": (10, 10)}), (120, {"E1": (20, 10)})]), RANO2)
    row = pick(assessment.rows, "v2", "enhancing")
    assert row.percent_from_baseline == pytest.approx(-50)
    assert row.percent_from_nadir == pytest.approx(100)
    text = "; ".join(row.reasons)
    assert "sum of products 200 mm2 is +100.00 % against nadir 100 mm2 of 2024-03-01" in text
    assert "PD from +25 %" in text
    overall = pick(assessment.rows, "v2", "overall")
    assert overall.percent_from_baseline is None
    assert overall.percent_from_nadir is None
    assert overall.category is Category.PD


def test_percentages_are_empty_where_undefined() -> None:
    rows = assess(history([(0, V20), (60, {}), (120, {"E1": (5, 5)})]), RANO2).rows
    gone, back = pick(rows, "v1", "enhancing"), pick(rows, "v2", "enhancing")
    assert (gone.percent_from_baseline, gone.percent_from_nadir) == (-100.0, -100.0)
    assert back.percent_from_baseline == pytest.approx(-93.75)
    assert back.percent_from_nadir is None
    assert "not measurable, follow" in "; ".join(back.reasons)


def test_missing_facts_are_named() -> None:
    row = pick(assess(history([(0, V20), (60, V20)]), RANO2).rows, "v1", "overall")
    assert row.missing == ("radiotherapy_end", "steroid_mg", "clinical_status", "treatment_start")
    assert "radiographic category" in row.reasons


def test_nothing_is_missing_where_all_is_known() -> None:
    events = [
        (-30, "radiotherapy_end"),
        (-5, "treatment_start"),
        (-40, "steroid_mg", 2.0),
        (50, "clinical_status", "stable"),
    ]
    row = pick(assess(history([(0, V20), (60, V20)], events), RANO2).rows, "v1", "overall")
    assert row.missing == ()
    assert "radiographic category" not in row.reasons


def test_hgg_asks_for_a_reader_of_t2_flair_and_never_progresses_by_it() -> None:
    case = history([(0, {**V20, "N1": (20, 20)}), (60, {**V20, "N1": (60, 60)})])
    row = pick(assess(case, RANO_HGG).rows, "v1", "overall")
    assert row.category is Category.SD
    assert any("T2/FLAIR" in item for item in row.missing)


def test_volume_rows_of_criteria_without_volume_thresholds_say_so() -> None:
    case = history([(0, {"E1": (20, 20, 4.0)}), (60, {"E1": (20, 20, 4.0)})])
    rows = assess(case, RANO_HGG).rows
    assert any("not in the published criteria" in reason for reason in pick(rows, "v1", "overall", "volume").reasons)
    assert not any("not in the published" in reason for reason in pick(rows, "v1", "overall", "2d").reasons)


def test_growing_non_target_lesion_is_left_to_a_reader() -> None:
    large = {"E1": (30, 30), "E2": (20, 20), "E3": (15, 15)}
    case = history([(0, {**large, "E4": (12, 10)}), (60, {**large, "E4": (20, 20)})])
    row = pick(assess(case, RANO2).rows, "v1", "overall")
    assert row.category is Category.SD
    assert [look.words for look in row.looks] == ["lesion E4 grew from 12 x 10 mm to 20 x 20 mm"]


def test_sizes_are_told_in_whole_millimetres_but_below_what_is_measurable() -> None:
    assert size_of(LesionMeasurement("E1", Compartment.ENHANCING, 21.63, 14.42)) == "22 x 14 mm"
    assert size_of(LesionMeasurement("E1", Compartment.ENHANCING, 30.0, 9.98)) == "30 x 9.9 mm"


def test_a_lesion_that_becomes_measurable_needs_to_have_grown() -> None:
    grown = history([(0, {"E1": (8, 8)}), (60, {"E1": (12, 12)})])
    reread = history([(0, {"E1": (9.9, 9.9)}), (60, {"E1": (10, 10)})])
    assert answers(grown, disease=Disease.ENHANCING) == ["baseline", "PD"]
    assert answers(reread, disease=Disease.ENHANCING) == ["baseline", "SD"]


def test_rows_of_a_visit() -> None:
    rows = assess(history([(0, {**V20, "N1": (30, 30)}), (60, V20)]), RANO2).rows
    keys = [(row.visit, row.measure.value, row.compartment) for row in rows]
    each = [(m, c) for m in ("2d", "volume") for c in ("enhancing", "non_enhancing", "overall")]
    assert keys == [(visit, *rest) for visit in ("v0", "v1") for rest in each]
    unjudged = pick(rows, "v1", "non_enhancing")
    assert unjudged.category is Category.NE
    assert unjudged.reasons == ("not judged in enhancing disease",)
    assert pick(rows, "v1", "overall", "volume").category is Category.NE


def test_disease_is_chosen_by_the_criteria_or_the_course_and_recorded() -> None:
    enhancing = assess(history([(0, {"N1": (30, 30)}), (60, {"E1": (6, 6), "N1": (30, 30)})]), RANO2)
    assert (enhancing.disease, enhancing.disease_reason) == (Disease.ENHANCING, "chosen: lesion E1 enhances at v1")
    guess = assess(history([(0, {"N1": (30, 30)})]), RANO2)
    assert guess.disease is Disease.NON_ENHANCING
    assert guess.disease_reason.startswith("a guess: nothing enhances up to v0")
    resected = history([(-20, V20), (28, {"E1": (0, 0), "N1": (30, 30)})], RT)
    assert assess(resected, RANO2).disease is Disease.ENHANCING
    assert assess(history([(0, V20)]), RANO_LGG).disease is Disease.NON_ENHANCING
    for criteria in (RANO_HGG, MRANO):
        assert assess(history([(0, N20)]), criteria).disease is Disease.ENHANCING
        other = assess(history([(0, N20)]), criteria, disease=Disease.MIXED)
        assert any("percentages of mixed disease are not part of it" in note for note in other.notes)
    given = assess(history([(0, V20)]), RANO2, disease=Disease.MIXED)
    assert (given.disease_reason, given.notes) == ("given", ())


def test_radiotherapy_after_the_last_scan_sets_no_baseline() -> None:
    case = history([(-50, V20), (-20, {"E1": (25, 20)})], RT)
    assert answers(case) == ["baseline", "PD"]
    assert "radiotherapy_end of 2024-01-01 comes after the last scan" in assess(case, RANO2).episodes[0].why


def test_parts_of_a_split_target_are_summed_and_not_new() -> None:
    def visit(name: str, day: int, *parts: tuple[str, float, str]) -> VisitMeasurements:
        lesions = tuple(
            LesionMeasurement(lesion, Compartment.ENHANCING, size, size, part_of=root) for lesion, size, root in parts
        )
        return VisitMeasurements(name, on(day), lesions)

    case = PatientHistory("P", (visit("a", 0, ("L1", 20, "")), visit("b", 60, ("L1", 14, ""), ("L1.2", 14, "L1"))))
    row = pick(assess(case, RANO2).rows, "b", "enhancing")
    assert row.category is Category.SD
    assert row.percent_from_baseline == pytest.approx((2 * 14 * 14 - 400) / 4)


def test_a_part_that_outlives_its_lesion_is_a_target_of_the_next_baseline() -> None:
    part = LesionMeasurement("L1.1", Compartment.ENHANCING, 20, 20, part_of="L1")
    grown = LesionMeasurement("L1.1", Compartment.ENHANCING, 25, 20, part_of="L1")
    gone = LesionMeasurement("L1", Compartment.ENHANCING, 0, 0)
    case = PatientHistory(
        "P", (VisitMeasurements("a", on(0), (part, gone)), VisitMeasurements("b", on(60), (grown, gone)))
    )
    assert answers(case) == ["baseline", "PD"]


def test_what_the_image_says_about_measurability_decides() -> None:
    def visit(name: str, day: int, measurable: bool | None) -> VisitMeasurements:
        new = LesionMeasurement("L2", Compartment.ENHANCING, 12, 12, measurable=measurable)
        old = LesionMeasurement("L1", Compartment.ENHANCING, 20, 20)
        return VisitMeasurements(name, on(day), (old, new) if day else (old,))

    for measurable, expected in ((None, "PD"), (False, "SD")):
        case = PatientHistory("P", (visit("a", 0, None), visit("b", 60, measurable)))
        assert answers(case)[1] == expected


def test_best_response_and_date_of_progression() -> None:
    case = history(
        [(28, V20), (56, {"E1": (25, 20)}), (112, {"E1": (10, 10)}), (150, {"E1": (10, 10)}), (200, {"E1": (20, 10)})],
        RT,
    )
    assessment = assess(case, RANO2)
    best, progression = assessment.best(Measure.PLANAR), assessment.progression(Measure.PLANAR)
    assert best is not None
    assert progression is not None
    assert (best.category, best.status, best.visit) == (Category.PR, Status.CONFIRMED, "v2")
    assert progression.visit == "v4", "the refuted progression of v1 is none"
    confirmed = assess(history([(28, V20), (56, {"E1": (25, 20)}), (90, {"E1": (30, 20)})], RT), RANO2)
    first = confirmed.progression(Measure.PLANAR)
    assert first is not None
    assert first.visit == "v1", "a confirmed progression is dated by the first scan that met it"


def test_radiotherapy_after_a_second_surgery_sets_the_baseline_again() -> None:
    case = history(
        [(28, V20), (120, {"E1": (30, 20)}), (150, {"E1": (10, 10)}), (240, {"E1": (15, 12)}), (300, {"E1": (15, 12)})],
        [*RT, (130, "surgery"), (210, "radiotherapy_end")],
    )
    assert answers(case) == ["baseline", "PD", "baseline", "baseline", "SD"]


COMBINED = [
    ("PD", "CR", "PD"), ("PD", "NE", "PD"), ("NE", "PR", "NE"), ("PR", "SD", "PR"), ("MR", "SD", "MR"),
    ("CR", "SD", "SD"), ("CR", "MR", "MR"), ("CR", "PR", "PR"), ("CR", "CR", "CR"), ("SD", "SD", "SD"),
    ("PR", "MR", "PR"), ("baseline", "baseline", "baseline"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "expected"), COMBINED)
def test_mixed_table(one: str, other: str, expected: str) -> None:
    """Wen 2023, mixed tumours; PR with MR is open there and PR here."""
    for first, second in ((one, other), (other, one)):
        both = {Compartment.ENHANCING: Response(Category(first)), Compartment.NON_ENHANCING: Response(Category(second))}
        assert combine(both).category is Category(expected)


def test_overall_status_takes_the_surest_progression_and_the_least_sure_response() -> None:
    def status(category: str, *statuses: Status) -> Status:
        pairs = zip(Compartment, statuses, strict=True)
        return combine({name: Response(Category(category), status) for name, status in pairs}).status

    assert status("PD", Status.PRELIMINARY, Status.CONFIRMED) is Status.CONFIRMED
    assert status("PD", Status.PRELIMINARY, Status.REFUTED) is Status.PRELIMINARY
    assert status("PR", Status.PRELIMINARY, Status.CONFIRMED) is Status.PRELIMINARY


SIZES = st.sampled_from([0.0, 5.0, 9.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0])


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.tuples(SIZES, SIZES), min_size=3, max_size=7),
    gap=st.sampled_from([14, 27, 28, 60]),
    name=st.sampled_from(sorted(CRITERIA)),
)
def test_a_further_visit_settles_but_never_changes_earlier_categories(
    sizes: list[tuple[float, float]], gap: int, name: str
) -> None:
    visits = [(28 + gap * i, {k: (s, s) for k, s in (("E1", a), ("E2", b)) if s > 0}) for i, (a, b) in enumerate(sizes)]
    whole = assess(history(visits, RT), CRITERIA[name], disease=Disease.ENHANCING).overall(Measure.PLANAR)
    part = assess(history(visits[:-1], RT), CRITERIA[name], disease=Disease.ENHANCING).overall(Measure.PLANAR)
    for before, after in zip(part, whole, strict=False):
        assert before.category is after.category
        if before.status is not Status.PRELIMINARY:
            assert before.status is after.status


@settings(max_examples=25, deadline=None)
@given(first=SIZES, second=SIZES, scale=st.sampled_from([0.1, 2.0, 7.0]))
def test_percentages_do_not_depend_on_scale_or_on_the_order_of_rows(first: float, second: float, scale: float) -> None:
    def rows(factor: float) -> list[float | None]:
        visits = [(0, {"E1": 10.0 * factor, "E2": 20.0 * factor}), (60, {"E1": first * factor, "E2": second * factor})]
        assessment = assess(history(visits), RANO2, disease=Disease.ENHANCING)
        return [pick(assessment.rows, "v1", "enhancing", "volume").percent_from_baseline]

    assert rows(1.0)[0] == pytest.approx(rows(scale)[0])
    forward = [(0, {"E1": (20, 20), "E2": (10, 10)}), (60, {"E1": (25, 20), "E2": (12, 10)})]
    backward = [(day, dict(reversed(list(lesions.items())))) for day, lesions in forward]
    assert answers(history(forward)) == answers(history(backward))


def test_visits_may_come_in_any_order() -> None:
    case = history([(0, V20), (60, {"E1": (10, 10)}), (120, {"E1": (20, 10)})])
    for order in itertools.permutations(case.visits):
        assert answers(PatientHistory("P1", order)) == answers(case)


def test_in_non_enhancing_disease_enhancement_that_grows_is_for_a_reader() -> None:
    visits = [
        (0, {"N1": (40, 30, 12.0), "E1": (14, 9.5, 0.8)}),
        (60, {"N1": (40, 30, 12.0), "E1": (14.2, 10.1, 0.9)}),
        (120, {"N1": (40, 30, 12.0), "E1": (30, 22, 9.6)}),
    ]
    for first in ((14, 9.5, 0.8), (14, 11, 0.8)):
        visits[0][1]["E1"] = first
        judged = assess(history(visits), RANO2, disease=Disease.NON_ENHANCING)
        for measure in Measure:
            rows = judged.overall(measure)
            assert [row.category for row in rows] == [Category.BASELINE, Category.SD, Category.SD]
            assert [bool(row.looks) for row in rows] == [False, False, True]
        ((row, look),) = judged.reader_needed(0)
        assert (row.visit, look.about) == ("v2", "enhancing lesion E1")
        assert look.words.endswith("to 30 x 22 mm")
