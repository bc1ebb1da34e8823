"""The page: what it says, that it is whole, and that nothing in it comes from elsewhere."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from report_studies import CARD, ellipsoid, make_result, plain_measurements, plain_record

from brats_seg.core.grid import Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.study import MRSequence
from brats_seg.report.html import DISCLAIMER, model_rows, render_report, verdict_of, warnings_of
from brats_seg.report.tables import ml

VOID = {"meta", "img", "br", "rect", "link", "input", "hr"}


class Page(HTMLParser):
    """A strict reading: every element closed in order; text, tags and attributes kept."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.words, self.by_tag = [], [], [], {}
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"attribute twice in <{tag}>"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and (not self.open or self.open[-1] != "style"):
            self.words.append(data.strip())
            self.by_tag.setdefault(self.open[-1] if self.open else "", []).append(data.strip())

    @property
    def text(self):
        return " ".join(self.words)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def result():
    return make_result()


@pytest.fixture(scope="module")
def source(result):
    return render_report(result, model_card=CARD)


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_the_verdict_stands_first(page, result):
    whole = result.measurements.volume("WT")
    expected = (
        f"Tumour found, middle third of the brain, upper half: whole tumour {whole.volume_ml:.1f} ml "
        f"(90 % interval {whole.low_ml:.1f} to {whole.high_ml:.1f} ml)."
    )
    assert page.by_tag["p"][1] == expected
    assert page.text.index(expected) < page.text.index("Volumes")
    assert "1 lesion." in page.text
    assert "nothing earlier was compared" in page.text
    assert re.search(r"Largest enhancing lesion 2\d × 2\d mm, measurable by RANO", page.text)


def test_tables_hold_every_region_with_its_numbers(page, result):
    for name, title in (("WT", "Whole tumour"), ("NCR", "Necrotic tumour core"), ("ED", "Peritumoral edema")):
        assert name in page.by_tag["span"]
        assert any(title in words for words in page.by_tag["th"])
    for row in result.measurements.volumes:
        assert ml(row.volume_ml) in page.by_tag["td"]
    assert "not known" in page.by_tag["td"]


def test_pictures_are_inside_the_page_and_decode(page):
    images = page.all("img")
    assert len(images) >= 4 + 4 + 1
    for attrs in images:
        head, data = attrs["src"].split(",", 1)
        assert head == "data:image/jpeg;base64"
        assert attrs["alt"].strip()
        picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        assert picture.size == (int(attrs["width"]), int(attrs["height"]))
        picture.load()


def test_nothing_comes_from_elsewhere(source, page):
    without_data = re.sub(r"base64,[A-Za-z0-9+/=]+", "", source)
    for pattern in (r"https?:", r"//\w", r"url\(", r"@import", r"<script", r"<link", r"<iframe", r"javascript:"):
        assert not re.search(pattern, without_data, re.I), pattern
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert not page.all("a")
    (policy,) = [attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv")]
    assert policy.startswith("default-src 'none'")


def test_an_interval_wider_than_its_volume_is_called_very_uncertain(result):
    rows = tuple(replace(row, low_ml=0.0, high_ml=3 * row.volume_ml) if row.region == "TC" else row
                 for row in result.measurements.volumes)  # fmt: skip
    wide = replace(result, measurements=replace(result.measurements, volumes=rows))
    assert any("very uncertain" in line and line.startswith("Tumour core") for line in verdict_of(wide).details)
    assert not any("very uncertain" in line for line in verdict_of(result).details)


@pytest.mark.parametrize(
    ("fits", "is_usual_size", "word"), [(False, True, "do not fit together"), (True, False, "size of the brain")]
)
def test_scans_in_doubt_come_before_what_was_found(result, fits, is_usual_size, word):
    found = verdict_of(result)
    consistency = {"fits": fits, "is_usual_size": is_usual_size}
    record = replace(result.record, preparation={"consistency": consistency})
    doubted = verdict_of(replace(result, record=record))
    assert word in doubted.headline
    assert doubted.details == (found.headline, *found.details)


def test_how_it_was_made_is_one_line_that_opens(page):
    assert len(page.all("details")) == 1
    assert page.by_tag["summary"][0].startswith("How this was made: brats_seg 0.1.0 with model unit-test net")


def test_it_is_one_whole_document(source, page):
    assert source.startswith("<!DOCTYPE html>")
    assert source.rstrip().endswith("</html>")
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == 1
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all(attrs["aria-labelledby"] in ids for _, attrs in page.tags if "aria-labelledby" in attrs)
    assert all(attrs.get("scope") for attrs in page.all("th"))


def test_it_stays_small(full_panels, result):
    rng = np.random.default_rng(3)  # noise is what compresses worst
    images = {
        s: image.with_data(rng.normal(300, 60, image.grid.shape).astype(np.float32))
        for s, image in result.images.items()
    }
    source = render_report(replace(result, images=images), model_card=CARD)
    assert len(source) < 3e6
    assert max(int(attrs["width"]) for attrs in Page(source).all("img")) >= 560


def test_the_reservation_is_said_once(page):
    assert page.text.count(DISCLAIMER) == 1
    assert page.text.lower().count("medical device") == 1


def test_the_model_its_accuracy_and_the_inputs_are_named(page):
    for words in ("unit-test net", "0.3.1", "abcdef012345", "30 BraTS studies", "WT 0.83, TC 0.64, ET 0.52"):
        assert words in page.by_tag["dd"]
    assert "SHA-256 0123456789ab" in page.text
    assert {"class": "legend"} in page.all("ul")
    assert "brats_seg 0.1.0, python 3.11" in page.by_tag["dd"]
    assert "abcdef0123456789" not in page.text
    assert "read 0.5 s, network 1.2 s" in page.text
    assert "Results are written on the grid of T1CE." in page.by_tag["li"]


def test_the_outline_of_a_brain_that_was_extracted_is_shown_on_every_sequence(result):
    grid = result.segmentation.labels.grid
    brain = Volume(ellipsoid(grid, (0, 0, 0), (45, 60, 40)).astype(np.uint8), grid)
    extraction = {"source": "T1CE by some network", "brain_ml": 452.4, "turned_deg": 21.6}
    record = replace(result.record, preparation={**result.record.preparation, "extraction": extraction})
    page = render_report(replace(result, brain=brain, record=record), model_card=CARD)
    assert "452 ml, was taken from T1CE by some network" in page
    assert "turned by 22°" in page
    assert page.count("outline of the brain that was extracted") == len(result.images)
    assert "outline of the brain" not in render_report(result, model_card=CARD)


def test_no_tumour_is_said_plainly():
    page = Page(render_report(make_result(lesions=()), model_card=CARD))
    assert page.by_tag["p"][1] == "No tumour found."
    assert "Tumour found" not in page.text
    assert "Three planes" in page.by_tag["h2"]
    assert "Lesions" not in page.by_tag["h2"]
    assert "tumour core (TC)" not in page.text


def test_missing_t1ce_stands_above_the_numbers():
    page = Page(render_report(make_result(missing=(MRSequence.T1CE, MRSequence.T2)), model_card=CARD))
    warning = "T1CE is missing: enhancing tumour and tumour core are estimates, not assessable without T1CE."
    assert page.by_tag["li"].count(warning) == 1
    assert page.text.index(warning) < page.text.index("Volumes")
    assert "T2 is missing: the result rests on the other sequences." in page.by_tag["li"]
    assert "estimate: not assessable without T1CE" in page.by_tag["span"]
    assert "enhancing tumour (ET), estimate" in page.text
    assert any(attrs["alt"] == "T1CE: not available." for attrs in page.all("img"))
    assert re.search(r"Enhancing tumour [\d.]+ ml \(.*\), an estimate without T1CE", page.text)


def test_the_warnings_of_all_steps_are_said_once(result):
    record = replace(
        plain_record(),
        warnings=("T1CE, T2 missing: it costs accuracy", "FLAIR was moved 9 mm", "flair was moved 9 mm"),
    )
    measurements = replace(result.measurements, notes=("FLAIR was moved 9 mm.", "WT reaches the edge of the image"))
    noted = replace(result, record=record, measurements=measurements)
    missing = replace(noted, segmentation=replace(result.segmentation, missing=(MRSequence.T1CE, MRSequence.T2)))
    assert warnings_of(noted)[0] == "T1CE, T2 missing: it costs accuracy."
    lines = warnings_of(missing)
    assert [line.split(" is missing")[0] for line in lines[:2]] == ["T1CE", "T2"]
    assert lines[2:] == ("FLAIR was moved 9 mm.", "Flair was moved 9 mm.", "WT reaches the edge of the image.")
    assert warnings_of(result) == ()


def test_a_page_without_warnings_has_no_empty_box(page):
    assert "Before you use these numbers" not in page.text


def test_markup_in_names_is_shown_and_not_run(result):
    evil = "<script>alert('x')</script>&\"'><img src=x onerror=y>"
    hostile = make_result(
        study_id=evil,
        record=replace(
            plain_record(),
            warnings=(f"odd name {evil}",),
            decisions=(evil,),
            versions={evil: evil},
            inputs={evil: {"sha256": evil, "grid": evil}},
            preparation={
                "registrations": {
                    evil: {"translation_mm": 1.0, "rotation_deg": 2.0, "overlap": 0.9, "mutual_information": 0.5}
                }
            },
        ),
    )
    source = render_report(hostile, model_card={"name": evil, "accuracy": {evil: 1}})
    page = Page(source)
    assert "<script" not in source
    assert len(page.all("img")) == sum("data:" in attrs["src"] for attrs in page.all("img"))
    assert evil in page.by_tag["h1"]
    assert evil in page.by_tag["dd"]
    assert f"Odd name {evil}." in page.by_tag["li"]


def test_hundreds_of_lesions_do_not_make_the_page_longer(result):
    lesion = result.measurements.lesions_of("WT")[0]
    many = tuple(replace(lesion, number=n + 1, volume_ml=1.0 if n < 40 else 0.01) for n in range(400))
    rows = tuple(replace(row, lesions=400) if row.region == "WT" else row for row in result.measurements.volumes)
    crowded = replace(result, measurements=replace(result.measurements, lesions=many, volumes=rows))
    page = Page(render_report(crowded, model_card=CARD))
    assert "40 lesions, and 360 specks of at most 0.05 ml." in page.text
    assert "and 390 smaller" in page.text
    assert len(page.all("tr")) < 25


def test_without_intervals_none_is_invented(result):
    bare = tuple(
        replace(row, low_ml=None, high_ml=None, level=None, volume_pv_ml=None) for row in result.measurements.volumes
    )
    page = Page(
        render_report(replace(result, measurements=replace(result.measurements, volumes=bare)), model_card=CARD)
    )
    assert "%" not in page.text.replace("100%", "")
    place = "middle third of the brain, upper half"
    assert page.by_tag["p"][1] == f"Tumour found, {place}: whole tumour {bare[0].volume_ml:.1f} ml."


def test_only_a_cavity_is_no_tumour_but_is_named(result):
    schema = SCHEMAS["brats2024"]
    labels = np.where(result.segmentation.labels.data > 0, 4, 0).astype(np.uint8)
    segmentation = replace(result.segmentation, labels=result.segmentation.labels.with_data(labels), schema=schema)
    after = replace(result, segmentation=segmentation, measurements=plain_measurements(segmentation))
    verdict = verdict_of(after)
    assert verdict.headline == "No tumour found."
    assert verdict.details[0].startswith("Resection cavity 13")
    assert "resection cavity (RC)" in Page(render_report(after, model_card=CARD)).text


def test_a_region_the_labels_cannot_hold_is_not_called_absent(result):
    rows = tuple(
        replace(row, volume_ml=0.0, low_ml=None, high_ml=None, level=None, note="not in these labels")
        if row.region == "ET"
        else row
        for row in result.measurements.volumes
    )
    unknown = replace(result, measurements=replace(result.measurements, volumes=rows))
    assert "Enhancing tumour: not in these labels." in verdict_of(unknown).details


def test_alignment_is_reported(result):
    facts = {"translation_mm": 3.21, "rotation_deg": 1.5, "overlap": 0.957, "mutual_information": 0.8}
    record = replace(plain_record(), preparation={"registrations": {"flair": facts}})
    page = Page(render_report(replace(result, record=record), model_card=CARD))
    assert "moved 3.2 mm, turned 1.5°, head overlap 0.96, mutual information 0.80" in page.by_tag["dd"]


def test_inputs_say_their_grids(result):
    grid = "240x240x155, 1 x 1 x 0.938 mm, LPS"
    record = replace(plain_record(), inputs={"t1ce": {"sha256": "f" * 64, "grid": grid}})
    page = Page(render_report(replace(result, record=record), model_card=CARD))
    assert grid in page.by_tag["dd"]


def test_model_rows_take_the_card_first_and_say_what_is_not_known():
    record = plain_record()
    rows = dict(model_rows(record, {"version": "9", "licence": "MIT"}))
    assert rows["Model"] == "unit-test net"
    assert rows["Version"] == "9"
    assert rows["Licence"] == "MIT"
    assert rows["Trained on"] == "not known"
