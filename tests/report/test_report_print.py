"""The report on paper: a table that fits on a page is not broken, and no heading stands alone at the end of one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from markupsafe import Markup
from report_studies import CARD, make_result, plain_record
from test_dicom_pdf import needed_module, pages_of

from brats_seg.report.html import render_report
from brats_seg.report.pages import section, sections_page, soft, table
from brats_seg.report.pdf import pdf_of

SMALL = [((x, y, z), (6.0, 6.0, 6.0)) for x, y, z in ((-30, -20, 10), (-30, 20, 10), (-20, 40, -14), (-15, -40, 20))]


@pytest.mark.slow
def test_lesions_stay_together_and_details_follow_their_heading() -> None:
    needed_module("weasyprint")
    result = make_result(lesions=[((22.0, 10.0, 6.0), (18.0, 15.0, 12.0)), *SMALL])
    decisions = tuple(f"decision {number} of many, with its reasons in some words" for number in range(40))
    page = render_report(replace(result, record=replace(plain_record(), decisions=decisions)), model_card=CARD)
    pages = pages_of(pdf_of(page))
    assert len(pages) == 3
    (lesions,) = (text for text in pages if "Measurable by RANO" in text)
    rows = sum(text.count("axial slice") for text in pages if text is not pages[0])
    assert lesions.count("axial slice") == rows == 10
    (made,) = (text for text in pages if "How this was made" in text)
    assert "unit-test net" in made and "Decision 0 of many" in made
    assert all(f"Decision {number} of" in "".join(pages) for number in range(40))


def test_a_wide_table_is_printed_across_below_its_heading() -> None:
    needed_module("weasyprint")
    from weasyprint import HTML

    narrow = section("Scores", table(["a"], [["1"]]))
    wide = section("Every case", table([f"column{n}" for n in range(15)], [["0.123"] * 15]), wide=True)
    shown = HTML(string=sections_page("Title", "Lead", [narrow, wide])).render().pages
    assert [page.width > page.height for page in shown] == [False, True]


def test_a_heading_and_its_note_stand_above_their_picture() -> None:
    needed_module("weasyprint")
    above = Markup('<div style="height: 200mm"></div>')
    tall = Markup('<figure style="height: 80mm"><figcaption>case01</figcaption></figure>')
    pages = pages_of(pdf_of(sections_page("Title", "Lead", [above, section("Worst cases", soft("A note."), tall)])))
    assert "Worst cases" not in pages[0] and "Worst cases" in pages[1] and "case01" in pages[1]
