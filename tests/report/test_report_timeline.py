"""The timeline and cohort pages: what they say, that they load nothing, that they survive hard cases."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from glioma import REGIONS

from brats_seg.core.course import Course
from brats_seg.core.grid import Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.study import MRSequence
from brats_seg.report.charts import (
    Mark,
    Point,
    Series,
    apart,
    breadth,
    nice_step,
    spaced,
    volume_chart,
)
from brats_seg.report.cohort import render_cohort, spider, swimmer, waterfall
from brats_seg.report.figures import Picture, slice_picture
from brats_seg.report.pages import LINE, WIDTH
from brats_seg.report.scene import Scene
from brats_seg.report.slices import View, window_of
from brats_seg.report.timeline import SLIDER_SCRIPT, TimelinePictures, render_timeline
from brats_seg.report.timeline_words import details, growth_refusal, growth_rows, headline, warnings

VISITS = (("v1", 0), ("v2", 60), ("v3", 120))
VOLUMES = {"ET": (4.0, 1.0, 3.0), "TC": (5.0, 1.5, 4.0), "WT": (40.0, 20.0, 30.0)}
CATEGORIES = ("baseline", "PR", "PD")


def head(visit: str) -> dict[str, str]:
    return {"patient": "P1", "visit": visit, "date": "", "days": ""}


def response(visit: str, measure: str, compartment: str, category: str) -> dict[str, str]:
    return {
        **head(visit), "reader": "", "criteria": "rano2", "compartment": compartment,
        "measure": measure, "category": category, "status": "confirmed" if category == "PR" else "",
        "percent_from_baseline": {"PR": "-75.00", "PD": "-25.00"}.get(category, ""),
        "percent_from_nadir": "", "reasons": f"{category} because <of the numbers>", "missing": "steroid_mg",
        "decided_by": f"{category} because <of the numbers>",
    }  # fmt: skip


def change(visit: str, reference: str, against: str, before: float, now: float) -> dict[str, Any]:
    return {
        **head(visit), "region": "ET", "lesion": "", "against": against, "reference": reference,
        "volume_ml": now, "reference_ml": before, "change_ml": now - before, "low_ml": 0, "high_ml": 0,
        "percent": 100 * (now / before - 1), "low_percent": None, "high_percent": None, "larger_than_error": "yes",
        "error_from": "repeatability, phantom-based",
    }  # fmt: skip


def course(patient: str = "P1", *, dated: bool = True, **changed: Any) -> Course:
    return Course.from_dict({**course_file(patient, dated=dated), **changed})


def course_file(patient: str = "P1", *, dated: bool = True) -> dict[str, Any]:
    alignment = {"matrix": np.eye(4).tolist(),
                 "by": "brain", "translation_mm": 3.0, "rotation_deg": 2.0, "uncertainty_mm": 0.03, "overlap": 0.98,
                 "mutual_information": 0.5}  # fmt: skip
    lesion = {
        "region": "ET",
        "partner": "",
        "part_of": "",
        "long_mm": 20.0,
        "short_mm": 18.0,
        "pieces": 1,
        "side": "left",
        "error_low_ml": None,
        "error_high_ml": None,
        "measurable": True,
        "x_mm": None,
        "y_mm": None,
        "z_mm": None,
        "touches_border": False,
    }
    answer = {"visit": "v2", "category": "PR", "status": "confirmed", "days_since_first": 60}
    progressed = {**answer, "visit": "v3", "category": "PD", "status": ""}
    return {
        "schema_version": 1,
        "patient": patient,
        "regions": REGIONS.to_dict(),
        "dating": "dates" if dated else "no dates",
        "criteria": "rano2",
        "partial_volume_percent": -65.0,
        "disease": "enhancing",
        "disease_reason": "chosen",
        "baselines": ["first"],
        "visits": [
            {"visit": v, "when": f"2024-0{n + 1}-01" if dated else None, "days_since_first": day if dated else None,
             "label_map": "segmented", "alignment_to_first": alignment if n else None, "spacing_mm": [1, 1, 1],
             "notes": [], "warnings": ["T1CE <is> missing"] if n < 2 else []}
            for n, (v, day) in enumerate(VISITS)
        ],
        "stopped": [],
        "warnings": [],
        "volumes": [
            {**head(v), "touches_border": False, "note": "", "region": region,
             "volume_ml": VOLUMES[region][n], "low_ml": None if n else 3.0,
             "high_ml": None if n else 50.0, "level": 0.9, "error_low_ml": VOLUMES[region][n] * 0.9,
             "error_high_ml": VOLUMES[region][n] * 1.1}
            for n, (v, _) in enumerate(VISITS) for region in ("WT", "TC", "ET")
        ],
        "lesions": [
            {**lesion, **head(v), "lesion": "E1", "relation": "first" if n == 0 else "same",
             "volume_ml": VOLUMES["ET"][n]} for n, (v, _) in enumerate(VISITS)
        ] + [{**lesion, **head("v3"), "lesion": "E2", "relation": "new", "volume_ml": 0.5}],
        "changes": [change("v2", "v1", a, 4.0, 1.0) for a in ("baseline", "nadir", "last")]
        + [change("v3", ref, a, b, 3.0) for a, ref, b in (("baseline", "v1", 4.0), ("nadir", "v2", 1.0),
                                                          ("last", "v2", 1.0))],
        "responses": [
            response(v, measure, compartment, CATEGORIES[n] if compartment != "non_enhancing" else "NE")
            for n, (v, _) in enumerate(VISITS) for measure in ("2d", "volume")
            for compartment in ("enhancing", "non_enhancing", "overall")
        ],
        "best": {"2d": answer, "volume": answer},
        "progression": {"2d": None, "volume": progressed},
        "episodes": [
            {"best": {"2d": answer, "volume": answer}, "progression": {"2d": None, "volume": progressed},
             "reader_needed": []},
            {"reader_needed": [{"visit": "v3", "words": "lesion E9 grew"}, {"visit": "v2", "words": "gone"}],
             "best": {"2d": None, "volume": {**answer, "visit": "v4", "category": "SD"}},
             "progression": {"2d": None, "volume": None}},
        ],
        "events": [{"date": "2024-01-20", "event": "radiotherapy_end", "days_since_first": 19}] if dated else [],
        "resections": [],
        "notes": [],
    }  # fmt: skip


def growth() -> list[dict[str, Any]]:
    refused = {"value": None, "refused": "2 visits, needs 3"}
    rate = {"value": 0.01, "unit": "1/day", "low": -0.002, "high": 0.022, "level": 0.95, "note": ""}
    return [
        {"region": region, "visits": ["v1", "v2", "v3"], "begins_after": None, "specific_growth_rate": rate,
         "doubling_time": refused, "velocity_of_diametric_expansion": refused,
         "fit": {"model": None, "refused": "2 visits, needs 3"},
         "prediction": {**refused, "day_since_first_visit": None},
         "curve": [(0, 4.0, None, None), (120, 3.0, None, None), (180, 3.2, 2.0, 5.0)] if region == "ET" else []}
        for region in ("WT", "TC", "ET")
    ]  # fmt: skip


def picture_of(visit: str, start: tuple[int, int] = (0, 0), *, image: bool = True) -> Picture:
    shown = np.zeros((40, 50, 1), np.float32)
    shown[8:32, 8:42, 0] = np.linspace(50, 150, 34)
    labels = np.zeros((40, 50, 1), np.uint8)
    labels[15:22, 20:30] = 3
    images = {MRSequence.T1CE: Volume.from_affine(shown, np.eye(4))} if image else {}
    windows = {sequence: window_of(shown) for sequence in images}
    view = View((*start, 0), (40, 50, 1), (1.0, 1.0, 1.0), 2.0)
    labelled = Volume.from_affine(labels, np.eye(4))
    scene = Scene(labelled, SCHEMAS["brats2024"], REGIONS, images, windows, view)
    return slice_picture(scene, next(iter(images), None), visit)


@pytest.fixture(scope="module")
def pictures() -> TimelinePictures:
    drawn = tuple(picture_of(v) for v, _ in VISITS)
    return TimelinePictures((("T1CE", drawn), ("FLAIR", drawn)), (drawn[0], drawn[2]), "axial, z 3 mm")


class Checker(HTMLParser):
    """Open tags must be closed in order, and nothing may come from elsewhere."""

    VOID = frozenset({"meta", "img", "input", "br", "line", "rect", "circle", "path", "polyline", "polygon"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset") and not (value or "").startswith("data:"):
                self.outside.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def check(page: str) -> None:
    parser = Checker()
    parser.feed(page)
    assert parser.open == [] and parser.outside == []
    assert "http" not in re.sub(r"http-equiv", "", page)


def test_the_page_says_what_the_tables_say(pictures: TimelinePictures) -> None:
    page = render_timeline(course(), growth(), pictures)
    check(page)
    assert headline(course(), "ET") == "v3: progression (PD): PD because <of the numbers>"
    for words in ("v3: progression (PD)", "steroid dose", "E2", "new", "end of radiotherapy", "not given: 2 visits",
                  "larger than measurement error", "&lt;of the numbers&gt;", "uncertain by 0.03 mm",
                  "v1, v2: T1CE &lt;is&gt; missing"):  # fmt: skip
        assert words in page, words
    assert "<of the numbers>" not in page


def test_only_the_sliders_script_may_run(pictures: TimelinePictures) -> None:
    page = render_timeline(course(), growth(), pictures)
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script == [SLIDER_SCRIPT]
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and "default-src 'none'" in page


def test_hard_cases_have_a_page(pictures: TimelinePictures) -> None:
    unjudged = [{**row, "category": "NE"} for row in course_file()["responses"]]
    stopped = [{"visit": "v9", "reason": "it <was> damaged"}]
    undated = course(dated=False, stopped=stopped, responses=unjudged)
    page = render_timeline(undated, growth(), TimelinePictures(pictures.rows, (), "axial"))
    check(page)
    assert "No dates are known" in page and "it &lt;was&gt; damaged" in page and "cannot be judged" in page
    nothing = [{**row, "volume_ml": 0.0, "low_ml": None, "error_high_ml": 0.0} for row in course_file()["volumes"]]
    check(render_timeline(course(volumes=nothing, lesions=[]), growth(), pictures))


def test_names_are_escaped(pictures: TimelinePictures) -> None:
    assert "<b>x" not in render_timeline(course("<b>x"), growth(), pictures)


def test_a_slice_without_image_shows_outlines() -> None:
    with_image, without = (picture_of("v1", (5, 5), image=image) for image in (True, False))
    assert (with_image.width, with_image.height) == (70, 90) == (without.width, without.height)
    assert with_image.data != without.data and "label map" in without.alt


def test_the_chart_marks_everything() -> None:
    series = Series("ET", "#D55E00", (Point(0, 1.0, 0.5, 1.5), Point(30, 2.0)), (Point(30, 2.0, 1.0, 3.0),))
    drawing = volume_chart([series], ticks=[(0, "a"), (30, "b & c")], marks=[Mark(30, "PD", "preliminary", "why")],
                           events=[(10, "surgery")])  # fmt: skip
    for words in ("PD", "surgery", "b &amp; c", "stroke-dasharray", "<polygon", "PD preliminary: why"):
        assert words in drawing
    assert "nan" not in drawing


def test_charts_below_one_another_line_up(pictures: TimelinePictures) -> None:
    page = render_timeline(course(events=[]), growth(), pictures)
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    places = [re.findall(r'<circle cx="([\d.]+)"', drawing)[:3] for drawing in drawings]
    assert len(places) == 2 and places[0] == places[1]
    assert "resection cavity" not in page


def test_an_interval_that_goes_on_above_the_chart_ends_in_an_arrow() -> None:
    def ends(high: float) -> tuple[int, int]:
        point = Point(0, 1.0, 0.5, high)
        drawing = volume_chart([Series("ET", "#D55E00", (point, Point(30, 1.2)))], ticks=[(0, "a"), (30, "b")])
        assert f"(0.50 to {high:.2f})" in drawing  # the number is there in any case
        return drawing.count("h10"), drawing.count("l5 7")

    assert ends(1.5) == (2, 0)  # a bar above and one below
    assert ends(17.0) == (1, 1)


def test_a_single_empty_visit_can_be_drawn() -> None:
    assert "nan" not in volume_chart([Series("ET", "#000", (Point(0, 0.0),))], ticks=[(0, "a")])


@pytest.mark.parametrize(("top", "step"), [(1.0, 0.25), (10.0, 2.5), (7.0, 2.0), (0.1, 0.025), (400.0, 100.0)])
def test_steps_are_round(top: float, step: float) -> None:
    assert nice_step(top) == pytest.approx(step)


def test_crowded_ticks_are_thinned_and_the_last_stays() -> None:
    kept = spaced([(float(x), "2024-01-01") for x in range(0, 100, 10)], lambda x: x * 4)
    assert kept[-1][0] == 90 and 1 < len(kept) < 10


def words_of(drawing: str) -> list[tuple[float, float, str]]:
    """Where each words of a drawing begin and end in the widest font, and what they are."""
    found = re.findall(r'<text x="([-\d.]+)" y="[\d.]+" text-anchor="(\w+)" font-size="(\d+)"[^>]*>([^<]*)<', drawing)
    share = {"start": 0.0, "middle": 0.5, "end": 1.0}
    return [
        (float(x) - share[anchor] * (wide := breadth(words, int(size))), float(x) + (1 - share[anchor]) * wide, words)
        for x, anchor, size, words in found
    ]


def test_words_of_a_chart_lie_inside_it_and_apart() -> None:
    days = (0, 6, 60, 300)
    series = Series("ET", "#D55E00", tuple(Point(day, 1.0 + day) for day in days))
    dates = [f"ses-{n} · 2024-0{n}-01" for n in range(1, 5)]
    drawing = volume_chart(
        [series], ticks=list(zip(days, dates, strict=True)), marks=[Mark(day, "SD", "", "") for day in days],
        events=[(2, "surgery"), (297, "end of radiotherapy")],
    )  # fmt: skip
    spans = words_of(drawing)
    assert {"end of radiotherapy", dates[-1]} < {words for _, _, words in spans}
    assert all(left >= 0 and right <= WIDTH for left, right, _ in spans)
    shown = [(left, right) for left, right, words in spans if words in dates]
    assert len(shown) > 1 and all(one[1] < other[0] for one, other in pairwise(shown))
    chips = [(float(x), float(wide)) for x, wide in re.findall(r'<rect x="([\d.]+)" y="7" width="([\d.]+)"', drawing)]
    assert len(chips) == 4 and all(x + wide <= other for (x, wide), (other, _) in pairwise(chips))
    assert drawing.index(">surgery<") > drawing.rindex(f'stroke="{LINE}"')  # no line of the grid crosses words


@pytest.mark.parametrize("count", [1, 3, 40, 90])
def test_chips_stay_apart_and_in_the_drawing(count: int) -> None:
    places = apart([1000.0 + n for n in range(count)], 40.0)
    assert places[0] > 0 and places[-1] < WIDTH
    assert all(other - one >= min(40.0, 1060 / count) - 1e-6 for one, other in pairwise(places))
    assert apart([100.0, 200.0], 40.0) == [100.0, 200.0]


def test_a_visit_called_by_its_date_is_named_once(pictures: TimelinePictures) -> None:
    page = render_timeline(course(), growth(), pictures)
    named = render_timeline(
        course(visits=[{**visit, "when": visit["visit"]} for visit in course_file()["visits"]]), growth(), pictures
    )
    assert ">v3 · " in page and ">v3 · " not in named and ">v3</text>" in named


def test_many_visits_do_not_run_off_the_paper(pictures: TimelinePictures) -> None:
    first = course_file()["visits"][0]
    visits = [{**first, "visit": f"v{n}", "days_since_first": 10 * n} for n in range(1, 21)]
    changed = {
        name: [
            {**row, "visit": visit["visit"]} for visit in visits for row in course_file()[name] if row["visit"] == "v1"
        ]
        for name in ("volumes", "responses")
    }
    page = render_timeline(course(visits=visits, changes=[], **changed), growth(), pictures)
    check(page)
    heads = [head.count("<th") - 1 for head in re.findall(r'<tr><th scope="col">Lesion</th>.*?</tr>', page)]
    assert sum(heads) == 20 and max(heads) <= 9


def test_the_cohort_page() -> None:
    courses = [course("A", stopped=[{"visit": "v9", "reason": "damaged"}]), course("B", dated=False)]
    page = render_cohort(courses, [("C", "its scans <are> gone")])
    check(page)
    for words in ("2 patients followed, 2 with progression", ">PR</span>", "v4, confirmed", "1 failed",
                  "<li>C: its scans &lt;are&gt; gone</li>", "<li>A, visit v9: damaged</li>", "Waterfall",
                  "A/A_timeline.html", "\u221275 %"):  # fmt: skip
        assert words in page, words


def test_plots_of_a_cohort_without_dates_or_numbers_are_left_out() -> None:
    undated = course(dated=False)
    bare = course(responses=[{**row, "percent_from_baseline": ""} for row in course_file()["responses"]])
    assert swimmer([undated]) == "" and spider([undated]) == "" and waterfall([bare]) == ""
    assert "Waterfall" in waterfall([undated])


def test_references_that_are_one_visit_are_named_once() -> None:
    lines = details(course(), "ET")
    assert lines[2] == "New lesion E2 (ET, left, 20 × 18 mm, 0.50 ml)."
    assert lines[3:] == ["A reader is needed: lesion E9 grew."]
    assert lines[0].endswith("against baseline (v1).")
    assert lines[1].endswith("against the smallest so far and the visit before (v2).")


def test_an_answer_within_measurement_error_is_doubted() -> None:
    assert not any("not larger than measurement error" in line for line in warnings(course(), "ET"))
    doubtful = course(changes=[{**row, "larger_than_error": "no"} for row in course_file()["changes"]])
    assert any("v3 is called PD for a change of ET that is not larger" in line for line in warnings(doubtful, "ET"))


def test_the_first_sentence_names_the_new_lesion_that_decided() -> None:
    told = course_file()["responses"]
    for row in told:
        if row["visit"] == "v3":
            row["decided_by"] = "new lesion E2 (20 x 18 mm, 0.5 ml); RANO 2.0: a measurable one"
    new = course(responses=told)
    assert headline(new, "ET").startswith("v3: progression (PD): new lesion E2 (left, 20 x 18 mm, 0.5 ml); RANO")
    assert not any("E2" in line for line in details(new, "ET"))  # said once


def test_a_course_without_any_tumour_says_so_first() -> None:
    nothing = [{**row, "volume_ml": 0.0} for row in course_file()["volumes"]]
    words = headline(course(volumes=nothing), "ET")
    assert words.startswith("No tumour found at any visit; v3: ")
    assert "No tumour" not in headline(course(), "ET")


def test_only_the_models_interval_is_shown_beside_a_volume(pictures: TimelinePictures) -> None:
    doubted = [{**row, "note": "estimate: not assessable without T1CE"} for row in course_file()["volumes"]]
    page = render_timeline(course(volumes=doubted), growth(), pictures)
    assert "3.0 to 50.0" in page  # of v1; v2 and v3 have the error of measuring alone
    assert not re.search(r"[\d.]+ to (1\.1|3\.3)\b", page)
    assert page.count('<span class="small">estimate</span>') == 6


def test_a_baseline_alone_is_called_so() -> None:
    whole = course_file()
    alone = {name: [entry for entry in whole[name] if entry["visit"] == "v1"] for name in ("visits", "responses")}
    assert headline(course(**alone), "ET") == "v1: baseline, and no other visit to compare with it"


def test_a_response_beside_growth_is_said_in_the_first_sentence_and_doubted() -> None:
    held = course_file()
    for row in held["responses"]:
        if row["visit"] == "v3" and row["compartment"] == "overall":
            row |= {"category": "CR", "status": "preliminary", "decided_by": "no enhancing lesion is seen any more"}
    held["changes"] += [
        {**change("v3", "v1", "nadir", 48.0, 193.0), "region": "WT"},
        {**change("v3", "v1", "nadir", 5.0, 5.5), "region": "TC"},
    ]
    false = Course.from_dict(held)
    words = headline(false, "ET")
    assert words.startswith("v3: complete response (CR, preliminary): no enhancing lesion is seen any more; but ")
    assert "the whole tumour grew (+302 %, 48.0 to 193 ml since v1)" in words and "core" not in words
    assert any("pseudoresponse" in line for line in warnings(false, "ET"))
    false = course(**{**held, "changes": [{**row, "larger_than_error": "no"} for row in held["changes"]]})
    assert "but" not in headline(false, "ET")
    assert not any("pseudoresponse" in line for line in warnings(false, "ET"))


def test_measures_that_disagree_are_both_said() -> None:
    told = course_file()["responses"]
    for row in told:
        if (row["visit"], row["measure"]) == ("v3", "volume"):
            row["category"] = "SD"
    assert details(course(responses=told), "ET")[0] == "By volume: stable disease (SD)."


def test_enhancement_that_grows_in_non_enhancing_disease_is_said() -> None:
    assert any(line.startswith("ET ") and "smallest so far (v2)" in line for line in details(course(), "WT"))


def test_one_reason_for_no_growth_is_said_once(pictures: TimelinePictures) -> None:
    nothing = {"value": None, "refused": "no dates"}
    refused = [
        {**entry, "specific_growth_rate": nothing, "doubling_time": nothing, "velocity_of_diametric_expansion": nothing,
         "fit": {"model": None, "refused": "no dates"}, "prediction": {**nothing, "day_since_first_visit": None}}
        for entry in growth()
    ]  # fmt: skip
    assert growth_refusal(refused) == "no dates" and growth_refusal(growth()) == ""
    assert render_timeline(course(), refused, pictures).count("no dates") == 1


def test_phases_of_one_visit_have_no_row(pictures: TimelinePictures) -> None:
    alone = [{**entry, "visits": ["v1"], "begins_after": "radiotherapy_end 2024-01-20"} for entry in growth()]
    several = [{**entry, "begins_after": "radiotherapy_end 2024-01-20"} for entry in growth()]
    rows = growth_rows([*alone, *several], REGIONS.names)
    assert [row["visits"] for row in rows] == ["v1 to v3, after end of radiotherapy 2024-01-20"] * 3
    assert "two visits" in growth_refusal(alone) and growth_refusal([*alone, *several]) == ""


def test_large_numbers_have_no_exponent() -> None:
    entry = growth()[0]
    entry["doubling_time"] = {"value": 139.2, "low": 72.7, "high": 1630.4}
    assert growth_rows([entry], REGIONS.names)[0]["doubling"] == "139 days (72.7 to 1630)"


@pytest.mark.parametrize(("leading", "expected"), [("images", "both images"), ("volumes", "volumes")])
def test_the_paired_change_stands_beside_the_difference(
    pictures: TimelinePictures, leading: str, expected: str
) -> None:
    both = (
        {**change("v3", "v2", "last", 1.0, 3.0), "lesion": "E1", "paired_ml": 1.8, "paired_low_ml": 1.6,
         "paired_high_ml": 2.0, "paired_larger_than_error": "yes", "paired_note": "too little border",
         "leading": leading}
    )  # fmt: skip
    paired = course(changes=[*course_file()["changes"], both])
    page = render_timeline(paired, growth(), pictures)
    check(page)
    assert "+1.8 ml (+1.6 to +2.0)" in page and f"<td>{expected}</td>" in page
    assert ("not used: too little border" in page) == (leading == "volumes")
    assert "both images at once" not in render_timeline(course(), growth(), pictures)


def test_plots_of_a_cohort_name_their_patients() -> None:
    few = [course(f"patient-{n}") for n in range(3)]
    assert ">patient-1</text>" in waterfall(few) and ">patient-1</text>" in spider(few)
    assert "\u221275 %</text>" in waterfall(few)
    many = [course(f"patient-{n}") for n in range(60)]
    assert ">patient-1</text>" not in waterfall(many) + spider(many)  # they would run into each other
    assert "not shown: 1." in render_cohort([*few, course("D", dated=False)], [])
