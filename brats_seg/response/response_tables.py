"""Responses as tables: CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from brats_seg.response.assessment import ResponseAssessment, ResponseRow
from brats_seg.response.reading import Measure
from brats_seg.response.tables import dated

RESPONSE_COLUMNS = (
    "patient",
    "visit",
    "date",
    "days",
    "criteria",
    "compartment",
    "measure",
    "category",
    "status",
    "percent_from_baseline",
    "percent_from_nadir",
    "reasons",
    "missing",
    "reader",
)
SEPARATOR = "; "
"""Between several reasons or missing facts in one cell."""


def response_record(row: ResponseRow) -> dict[str, str]:
    """One row of the responses table as text, columns as :data:`RESPONSE_COLUMNS`."""
    return {
        "patient": row.patient,
        "visit": row.visit,
        **dated(row.day, row.calendar),
        "criteria": row.criteria,
        "compartment": row.compartment,
        "measure": row.measure.value,
        "category": row.category.value,
        "status": row.status.value,
        "percent_from_baseline": signed_percent(row.percent_from_baseline),
        "percent_from_nadir": signed_percent(row.percent_from_nadir),
        "reasons": SEPARATOR.join(row.reasons),
        "missing": SEPARATOR.join(row.missing),
        "reader": SEPARATOR.join(look.words for look in row.looks),
    }


def signed_percent(value: float | None) -> str:
    """``+25.00``, ``-50.00``, ``+0.00``, or empty where undefined."""
    return "" if value is None else f"{round(value, 2) + 0.0:+.2f}"


def responses_csv(assessments: Iterable[ResponseAssessment]) -> str:
    """The responses table as comma-separated text."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, RESPONSE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for assessment in assessments:
        writer.writerows(response_record(row) for row in assessment.rows)
    return stream.getvalue()


def responses_json(assessments: Sequence[ResponseAssessment], *, warnings: Sequence[str] = ()) -> str:
    """The same as JSON, with the criteria tables in force, each episode, and warnings about the tables."""
    tables = {assessment.criteria.label: assessment.criteria.table() for assessment in assessments}
    patients = [
        {
            "patient": assessment.patient,
            "criteria": assessment.criteria.label,
            "notes": list(assessment.notes),
            "episodes": [episode_record(assessment, number) for number in range(len(assessment.episodes))],
            "responses": [_json_row(row) for row in assessment.rows],
        }
        for assessment in assessments
    ]
    whole = {"warnings": list(warnings), "criteria": tables, "patients": patients}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def episode_record(assessment: ResponseAssessment, number: int) -> dict[str, Any]:
    """One episode with its best response, its progression and what a reader has to look at, as plain values."""
    episode = assessment.episodes[number]
    looks = assessment.reader_needed(number)
    return {
        "baseline": episode.when,
        "visit": episode.visit,
        "why": episode.why,
        "disease": episode.disease.value,
        "disease_reason": episode.disease_reason,
        "best": {measure.value: _answer(assessment.best(measure, number)) for measure in Measure},
        "progression": {measure.value: _answer(assessment.progression(measure, number)) for measure in Measure},
        "unjudged": {measure.value: assessment.why_unjudged(measure, number) for measure in Measure},
        "reader_needed": [{"visit": row.visit, "when": row.when, "words": look.words} for row, look in looks],
    }


def _answer(row: ResponseRow | None) -> dict[str, str] | None:
    if row is None:
        return None
    known = {"category": row.category.value, "status": row.status.value}
    return {"visit": row.visit, "when": row.when, **known, "decided_by": row.decided_by}


def _json_row(row: ResponseRow) -> dict[str, Any]:
    record: dict[str, Any] = dict(response_record(row))
    record["percent_from_baseline"] = row.percent_from_baseline
    record["percent_from_nadir"] = row.percent_from_nadir
    record["reasons"], record["missing"] = list(row.reasons), list(row.missing)
    record["reader"] = [look.words for look in row.looks]
    return record
