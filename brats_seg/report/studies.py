"""The page of several studies: each with its volumes, and a link to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from brats_seg.core.words import counted
from brats_seg.report.pages import DISCLAIMER, section, sections_page, table
from brats_seg.report.tables import ml

STUDIES_PAGE = "studies.html"


def render_studies(
    rows: Sequence[Mapping[str, str]], reports: Mapping[str, str], warnings: Mapping[str, Sequence[str]]
) -> str:
    """The whole page.

    Args:
        rows: of ``volumes.csv`` of all studies.
        reports: by study, where its report lies from the page; a study without one has no link.
        warnings: by study, what to know before its numbers are used, the gravest first.
    """
    volumes = {(row["study"], row["region"]): _volume(row) for row in rows}
    dates = {row["study"]: row["scan_date"] for row in rows}
    regions = list(dict.fromkeys(row["region"] for row in rows))
    listed = [
        [
            _link(study, reports.get(study, "")),
            day,
            *(volumes.get((study, region), "") for region in regions),
            _first(warnings.get(study, ())),
        ]
        for study, day in dates.items()
    ]
    head = ["Study", "Date of the scan", *(f"{region}, ml" for region in regions), "Before the numbers are used"]
    lead = f"Volumes with intervals and lesions are in volumes.csv and lesions.csv. {DISCLAIMER}"
    return sections_page(counted(len(listed), "study", "studies"), lead, [section("Volumes", table(head, listed))])


def _volume(row: Mapping[str, str]) -> str:
    """A volume in ml, and whether it is an estimate alone; empty where the labels do not tell it."""
    if not row["volume_ml"]:
        return ""
    return ml(float(row["volume_ml"])) + (" estimate" if row["note"].startswith("estimate") else "")


def _first(warnings: Sequence[str]) -> str:
    """The gravest warning, and how many more the report has."""
    if not warnings:
        return ""
    return warnings[0] + (f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else "")


def _link(study: str, report: str) -> str | Markup:
    return Markup('<a href="{}">{}</a>').format(report, study) if report else study
