"""What was found about a patient, as rows of tables and plain values."""

from __future__ import annotations

from typing import Any

from brats_seg.core.plain import plain
from brats_seg.core.tables import dated, say
from brats_seg.response.history import ClinicalEvent
from brats_seg.response.responses import Measure, Response
from brats_seg.response.tables import episode_record, response_record
from brats_seg.track.course import ML_DECIMALS, MM_DECIMALS, ChangeRow, measured
from brats_seg.track.follow import Course
from brats_seg.track.lesions import LesionRow
from brats_seg.track.repeatability import GIVEN, error_words

COURSE_SCHEMA_VERSION = 1
"""Of ``course.json``; raised whenever a key is renamed, goes, or means something else."""
VOLUME_COLUMNS = (
    *("patient", "visit", "date", "days", "region", "volume_ml", "low_ml", "high_ml", "level"),
    *("error_low_ml", "error_high_ml", "touches_border", "note"),
)
LESION_COLUMNS = (
    *("patient", "visit", "date", "days", "region", "lesion", "relation", "partner", "part_of", "volume_ml"),
    *("error_low_ml", "error_high_ml", "long_mm", "short_mm", "measurable", "pieces", "x_mm", "y_mm", "z_mm"),
    *("side", "touches_border"),
)
CHANGE_COLUMNS = (
    *("patient", "visit", "date", "days", "region", "lesion", "against", "reference", "reference_ml", "volume_ml"),
    *("change_ml", "low_ml", "high_ml", "percent", "low_percent", "high_percent", "larger_than_error", "error_from"),
    *("paired_ml", "paired_low_ml", "paired_high_ml", "paired_larger_than_error", "paired_note", "leading"),
)


_DOUBTS = ("not used", "check the dates")
"""Words of the notes on finding a patient that its reader has to know."""


def response_rows(course: Course) -> list[dict[str, str]]:
    """Rows of the responses table, and what decided each; date and days are left out where only the order is known."""
    return [{**response_record(row), "decided_by": row.decided_by} for row in course.assessment.rows]


def volume_rows(course: Course) -> list[dict[str, Any]]:
    """Every region of every visit."""
    rows = []
    for index, visit in enumerate(course.visits):
        for row in visit.measurements.volumes:
            low, high = measured(visit, row.volume_ml).interval
            rows.append(
                {
                    **_head(course, index),
                    "region": row.region,
                    "volume_ml": _ml(row.volume_ml),
                    "low_ml": _ml(row.low_ml),
                    "high_ml": _ml(row.high_ml),
                    "level": row.level,
                    "error_low_ml": _ml(low),
                    "error_high_ml": _ml(high),
                    "touches_border": row.touches_border,
                    "note": row.note,
                }
            )
    return rows


def change_rows(course: Course) -> list[dict[str, Any]]:
    """Every change, with its interval and the verdict."""
    rows = []
    for entry in course.changes:
        change = entry.change
        percents = {"percent": change.change_ml, "low_percent": change.low_ml, "high_percent": change.high_ml}
        rows.append(
            {
                **_head(course, entry.visit),
                "region": entry.region,
                "lesion": entry.lesion,
                "against": entry.against,
                "reference": course.visits[entry.reference].label,
                "reference_ml": _ml(change.before_ml),
                "volume_ml": _ml(change.now_ml),
                "change_ml": _ml(change.change_ml),
                "low_ml": _ml(change.low_ml),
                "high_ml": _ml(change.high_ml),
                **{name: _rounded(change.of_before(value), 2) for name, value in percents.items()},
                "larger_than_error": _verdict(change.larger_than_error),
                "error_from": error_words(course.visits[entry.visit].model or GIVEN),
                **_paired(course, entry),
            }
        )
    return rows


def _verdict(larger_than_error: bool | None) -> str:
    return "not known" if larger_than_error is None else "yes" if larger_than_error else "no"


def _paired(course: Course, entry: ChangeRow) -> dict[str, Any]:
    """The change from both images at once, where it was measured; why it is not to be trusted, where it is not."""
    paired = course.paired.get((entry.lesion, entry.reference, entry.visit))
    if paired is None:
        return {"leading": "volumes"}
    found = paired.change
    # Phantoms prove the paired measurement the more exact (``experiments.volumetry``) where it can be trusted.
    leading = "images" if found.trusted and found.change_ml is not None else "volumes"
    row: dict[str, Any] = {"paired_note": "; ".join(found.reasons), "leading": leading}
    if found.change_ml is not None:
        value, low, high = found.change_ml
        row |= {"paired_ml": _ml(value), "paired_low_ml": _ml(low), "paired_high_ml": _ml(high)}
        if found.trusted:
            row["paired_larger_than_error"] = "no" if low <= 0 <= high else "yes"
    return row


def course_summary(course: Course) -> dict[str, Any]:
    """The whole course as plain values: the content of ``course.json``, of which the pages are made."""
    assessment = course.assessment
    dating = course.patient.dating
    visits = []
    for index, visit in enumerate(course.visits):
        visits.append(
            {
                "visit": visit.label,
                "when": say(visit.timepoint.day, dating) or None,
                "days_since_first": _days(course, index),
                "label_map": visit.how,
                "alignment_to_first": plain(course.motions[index]) if index else None,
                "spacing_mm": list(visit.measurements.spacing_mm),
                "notes": list(visit.measurements.notes),
                "warnings": list(visit.record.warnings),
            }
        )
    return {
        "schema_version": COURSE_SCHEMA_VERSION,
        "patient": course.patient.id,
        "regions": course.visits[0].segmentation.regions.to_dict(),
        "dating": dating.value,
        "criteria": assessment.criteria.label,
        "partial_volume_percent": assessment.criteria.partial_volume_percent.value,
        "disease": assessment.disease.value,
        "disease_reason": assessment.disease_reason,
        "baselines": [why for _, why in assessment.baselines],
        "warnings": [*course.warnings, *(n for n in course.patient.notes if any(words in n for words in _DOUBTS))],
        "measuring_plane": course.plane,
        "episodes": [episode_record(assessment, number) for number in range(len(assessment.episodes))],
        "response_notes": list(assessment.notes),
        "visits": visits,
        "stopped": [{"visit": entry.visit, "reason": entry.reason} for entry in course.excluded],
        "volumes": volume_rows(course),
        "lesions": lesion_rows(course),
        "changes": change_rows(course),
        "responses": response_rows(course),
        "best": {measure.value: _answer(course, assessment.best(measure)) for measure in Measure},
        "progression": {measure.value: _answer(course, assessment.progression(measure)) for measure in Measure},
        "events": [
            {
                "date": say(event.day, dating),
                "event": event.kind.value,
                "days_since_first": _since(course, event),
            }
            for event in course.events
        ],
        "resections": [
            {
                "date": say(found.day, dating),
                "region": found.region,
                "before": course.visits[found.before].label,
                "after": course.visits[found.after].label,
                "before_ml": _ml(found.before_ml),
                "residual_ml": _ml(found.residual_ml),
                "extent_percent": _rounded(found.extent_percent, 2),
                "note": found.note,
            }
            for found in course.resections
        ],
        "notes": list(course.patient.notes),
    }  # fmt: skip


def lesion_rows(course: Course) -> list[dict[str, Any]]:
    """Every lesion known by a visit, by visit and region."""
    rows = [row for region in course.lesions for row in course.rows(region)]
    rows.sort(key=lambda row: row.visit)
    return [_lesion(course, row) for row in rows]


def _lesion(course: Course, row: LesionRow) -> dict[str, Any]:
    low, high = measured(course.visits[row.visit], row.volume_ml).interval
    place = row.centroid_mm or (None, None, None)
    return {
        **_head(course, row.visit),
        "region": row.region,
        "lesion": row.lesion,
        "relation": row.relation.value,
        "partner": row.partner,
        "part_of": row.part_of,
        "volume_ml": _ml(row.volume_ml),
        "error_low_ml": _ml(low) if row.pieces else None,
        "error_high_ml": _ml(high) if row.pieces else None,
        "long_mm": _rounded(row.long_mm, MM_DECIMALS),
        "short_mm": _rounded(row.short_mm, MM_DECIMALS),
        "measurable": row.measurable,
        "pieces": row.pieces,
        **{f"{axis}_mm": _rounded(value, MM_DECIMALS) for axis, value in zip("xyz", place, strict=True)},
        "side": row.side,
        "touches_border": row.touches_border,
    }


def _head(course: Course, index: int) -> dict[str, str]:
    history = course.history
    row = {"patient": course.patient.id, "visit": course.visits[index].label}
    return {**row, **dated(history.visits[index].day, history.calendar)}


def _days(course: Course, index: int) -> int | None:
    first, day = course.visits[0].timepoint.day, course.visits[index].timepoint.day
    return None if first is None or day is None else (day - first).days


def _since(course: Course, event: ClinicalEvent) -> int | None:
    first = course.visits[0].timepoint.day
    return None if first is None else (event.day - first).days


def _answer(course: Course, row: Response | None) -> dict[str, Any] | None:
    if row is None:
        return None
    index = next(index for index, visit in enumerate(course.visits) if visit.label == row.visit)
    return {
        "visit": row.visit,
        "category": row.category.value,
        "status": row.status.value,
        "days_since_first": _days(course, index),
    }


def _ml(value: float | None) -> float | None:
    return _rounded(value, ML_DECIMALS)


def _rounded(value: float | None, decimals: int) -> float | None:
    return None if value is None else round(float(value), decimals) + 0.0
