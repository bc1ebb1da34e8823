"""What was found about a patient, as the values that tables, pages and ``course.json`` hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from brats_seg.core.course import (
    Answer,
    Course,
    CourseChange,
    CourseEpisode,
    CourseEvent,
    CourseLesion,
    CourseResponse,
    CourseVisit,
    CourseVolume,
)
from brats_seg.core.plain import from_plain
from brats_seg.core.study import Patient
from brats_seg.core.tables import dated, say
from brats_seg.core.visit import Visit
from brats_seg.response.history import ClinicalEvent
from brats_seg.response.responses import Measure, Response
from brats_seg.track.course import ML_DECIMALS, MM_DECIMALS, ChangeRow, measured, rounded
from brats_seg.track.follow import CourseOptions, Followed, follow
from brats_seg.track.repeatability import GIVEN, error_words


def course_of(found: Followed) -> Course:
    """What was found about a patient as values, rounded as in the tables."""
    assessment, dating = found.assessment, found.patient.dating
    return Course(
        patient=found.patient.id,
        regions=found.visits[0].segmentation.regions,
        dating=dating,
        criteria=assessment.criteria.label,
        partial_volume_percent=assessment.criteria.partial_volume_percent.value,
        disease=assessment.disease.value,
        disease_reason=assessment.disease_reason,
        baselines=tuple(episode.why for episode in assessment.episodes),
        warnings=(*found.warnings, *found.patient.warnings),
        measuring_plane=found.plane,
        episodes=tuple(
            from_plain(CourseEpisode, assessment.episode_to_dict(n)) for n in range(len(assessment.episodes))
        ),
        response_notes=assessment.notes,
        visits=tuple(_visit(found, index) for index in range(len(found.visits))),
        stopped=found.excluded,
        volumes=tuple(_volumes(found)),
        lesions=tuple(_lesions(found)),
        changes=tuple(_change(found, entry) for entry in found.changes),
        responses=tuple(CourseResponse(**row.to_row(), decided_by=row.decided_by) for row in assessment.rows),
        best={measure.value: _answer(found, assessment.best(measure)) for measure in Measure},
        progression={measure.value: _answer(found, assessment.progression(measure)) for measure in Measure},
        events=tuple(
            CourseEvent(say(event.day, dating), event.kind.value, _since(found, event.day)) for event in found.events
        ),
        resections=found.resections,
        notes=found.patient.notes,
    )


def _visit(found: Followed, index: int) -> CourseVisit:
    visit = found.visits[index]
    return CourseVisit(
        visit=visit.label,
        when=say(visit.timepoint.day, found.patient.dating) or None,
        days_since_first=_since(found, visit.timepoint.day),
        label_map=visit.how,
        alignment_to_first=found.motions[index] if index else None,
        spacing_mm=visit.measurements.spacing_mm,
        notes=visit.measurements.notes,
        warnings=tuple(dict.fromkeys((*visit.record.warnings, *visit.measurements.warnings))),
        fits=visit.record.fits,
    )


def _volumes(found: Followed) -> Iterator[CourseVolume]:
    for index, visit in enumerate(found.visits):
        for row in visit.measurements.volumes:
            low, high = measured(visit, row.volume_ml).interval
            yield CourseVolume(
                **_head(found, index),
                region=row.region,
                volume_ml=rounded(row.volume_ml),
                low_ml=_ml(row.low_ml),
                high_ml=_ml(row.high_ml),
                level=row.level,
                error_low_ml=_ml(low),
                error_high_ml=_ml(high),
                touches_border=row.touches_border,
                note=row.note,
            )


def _change(found: Followed, entry: ChangeRow) -> CourseChange:
    """A change with its interval and the verdict."""
    change = entry.change
    return CourseChange(
        **_head(found, entry.visit),
        region=entry.region,
        lesion=entry.lesion,
        against=entry.against,
        reference=found.visits[entry.reference].label,
        reference_ml=rounded(change.before_ml),
        volume_ml=rounded(change.now_ml),
        change_ml=rounded(change.change_ml),
        low_ml=_ml(change.low_ml),
        high_ml=_ml(change.high_ml),
        percent=_ml(change.of_before(change.change_ml), 2),
        low_percent=_ml(change.of_before(change.low_ml), 2),
        high_percent=_ml(change.of_before(change.high_ml), 2),
        larger_than_error={None: "not known", True: "yes", False: "no"}[change.larger_than_error],
        error_from=error_words(found.visits[entry.visit].model or GIVEN),
        **_paired(found, entry),
    )


def _paired(found: Followed, entry: ChangeRow) -> dict[str, Any]:
    """The change from both images at once, where it was measured; why it is not to be trusted, where it is not."""
    pair = found.paired.get((entry.lesion, entry.reference, entry.visit))
    if pair is None:
        return {"leading": "volumes"}
    shift = pair.change
    # Phantoms prove the paired measurement the more exact (``experiments.volumetry``) where it can be trusted.
    leading = "images" if shift.trusted and shift.change_ml is not None else "volumes"
    row: dict[str, Any] = {"paired_note": "; ".join(shift.reasons), "leading": leading}
    if shift.change_ml is not None:
        value, low, high = shift.change_ml
        row |= {"paired_ml": _ml(value), "paired_low_ml": _ml(low), "paired_high_ml": _ml(high)}
        if shift.trusted:
            row["paired_larger_than_error"] = "no" if low <= 0 <= high else "yes"
    return row


def _lesions(found: Followed) -> Iterator[CourseLesion]:
    """Every lesion known by a visit, by visit and region."""
    rows = [row for course in found.lesions.values() for row in course.rows]
    for row in sorted(rows, key=lambda row: row.visit):
        low, high = measured(found.visits[row.visit], row.volume_ml).interval
        x, y, z = row.centroid_mm or (None, None, None)
        yield CourseLesion(
            **_head(found, row.visit),
            region=row.region,
            lesion=row.lesion,
            relation=row.relation.value,
            partner=row.partner,
            part_of=row.part_of,
            volume_ml=rounded(row.volume_ml),
            error_low_ml=_ml(low) if row.pieces else None,
            error_high_ml=_ml(high) if row.pieces else None,
            long_mm=rounded(row.long_mm, MM_DECIMALS),
            short_mm=rounded(row.short_mm, MM_DECIMALS),
            measurable=row.measurable,
            pieces=row.pieces,
            x_mm=_ml(x, MM_DECIMALS),
            y_mm=_ml(y, MM_DECIMALS),
            z_mm=_ml(z, MM_DECIMALS),
            side=row.side,
            touches_border=row.touches_border,
        )


def _head(found: Followed, index: int) -> dict[str, Any]:
    history = found.history
    row = {"patient": found.patient.id, "visit": found.visits[index].label}
    return {**row, **dated(history.visits[index].day, history.calendar)}


def _since(found: Followed, day: date | None) -> int | None:
    first = found.visits[0].timepoint.day
    return None if first is None or day is None else (day - first).days


def _answer(found: Followed, row: Response | None) -> Answer | None:
    if row is None:
        return None
    day = next(visit.timepoint.day for visit in found.visits if visit.label == row.visit)
    return Answer(row.visit, row.category.value, row.status.value, days_since_first=_since(found, day))


def _ml(value: float | None, decimals: int = ML_DECIMALS) -> float | None:
    return None if value is None else rounded(value, decimals)


def follow_visits(
    visits: Sequence[Visit],
    patient: Patient | str = "patient",
    *,
    options: CourseOptions | None = None,
    events: Sequence[ClinicalEvent] = (),
) -> Course:
    """The course of one patient, from visits in memory; nothing is written.

    Args:
        visits: at least one, in order of time where they have no dates; those that cannot be aligned to the first are
            left out.
        patient: whose they are; a name takes the dates of the time points.

    Raises:
        InputError: if there is no visit, or no region of the model is followed.

    Example:
        Two visits::

            from brats_seg import follow_visits, segment_study

            course = follow_visits([segment_study("P07/2024-01-10"), segment_study("P07/2024-03-10")], "P07")
            print([row.category for row in course.responses])
    """
    return course_of(follow(visits, patient, options=options, events=events))
