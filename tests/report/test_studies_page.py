"""The page of several studies: each once, with its volumes, and a link where it has a report."""

from __future__ import annotations

from brats_seg.report.studies import render_studies


def rows(study: str, day: str = "2024-01-31") -> list[dict[str, str]]:
    volumes = {"WT": "56.497", "TC": "0.254"}
    return [{"study": study, "scan_date": day, "region": r, "volume_ml": ml, "note": ""} for r, ml in volumes.items()]


def test_every_study_has_a_row_and_those_with_a_report_a_link() -> None:
    page = render_studies([*rows("one"), *rows("two", "")], {"one": "one/one_report.html"}, {})
    assert page.count('<a href="one/one_report.html">one</a>') == 1 and page.count("<a ") == 1
    assert page.count("56.5<") == page.count("0.25<") == 2 and "2024-01-31" in page
    assert "<h1>2 studies</h1>" in page and "WT, ml" in page


def test_the_gravest_warning_of_a_study_is_beside_its_volumes() -> None:
    page = render_studies([*rows("one"), *rows("two")], {}, {"one": ("T1 and T1CE look exchanged", "y", "z")})
    assert page.count("look exchanged (and 2 more)") == 1


def test_an_estimate_is_called_one() -> None:
    whole, core = rows("one")
    untold = {**core, "region": "RC", "volume_ml": ""}
    page = render_studies([whole, {**core, "note": "estimate: not assessable without T1CE"}, untold], {}, {})
    assert "0.25 estimate<" in page and "56.5<" in page and "RC, ml" in page


def test_names_are_escaped() -> None:
    page = render_studies(rows('<b>"x"'), {'<b>"x"': 'a"b'}, {'<b>"x"': ("<b>",)})
    assert "<b>" not in page and 'href="a"b"' not in page
