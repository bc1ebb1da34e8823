"""Following one patient: every visit segmented or read, aligned, its lesions matched, measured and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brats_seg.core.errors import BratsSegError, DeviceError, InputError, UsageError
from brats_seg.core.grid import Grid
from brats_seg.core.regions import REGIONS, Region
from brats_seg.core.study import MRSequence
from brats_seg.core.tables import DAY_ZERO
from brats_seg.files.visits import Dating, Patient
from brats_seg.imaging.register import resample
from brats_seg.response.assessment import Disease, ResponseAssessment
from brats_seg.response.criteria import Compartment, criteria_named
from brats_seg.response.history import Calendar, ClinicalEvent, PatientHistory
from brats_seg.run.masks import schema_of_visits
from brats_seg.run.options import SegmentOptions
from brats_seg.run.paired import PAIRED_REGION, PairedChange, paired_changes
from brats_seg.run.person import on_identity, one_person, strangers_among
from brats_seg.run.resume import alignment_key, known_alignments, known_changes
from brats_seg.run.visits import Model, VisitData, load_visit, refuse_repeats
from brats_seg.track.align import PREFERRED, Alignment, VisitScan, align_visits, common_grid
from brats_seg.track.course import (
    FOLLOWED,
    ChangeRow,
    Resection,
    VisitVolumes,
    baseline_index,
    baselines_of,
    changes_of,
    history_of,
    judge,
    resections_of,
    untrained_for,
)
from brats_seg.track.course_growth import PhaseGrowth, growth_of
from brats_seg.track.lesions import JOIN_MM, LesionRow, RegionCourse, RegionVisit, follow_region
from brats_seg.volumetrics.diameters import AXIAL, measuring_plane
from brats_seg.volumetrics.measure import joined_measure

Tick = Callable[[str], None]


@dataclass(frozen=True)
class FollowOptions:
    """How to follow a patient.

    Attributes:
        segment: how visits without a label map are segmented.
        schema: label schema of existing label maps, or ``auto``.
        criteria: name of the response criteria.
        disease: which compartments are judged; None lets the criteria choose for each episode.
        report: write the timeline page.

    Raises:
        UsageError: if the criteria or the disease are not known.
    """

    segment: SegmentOptions = field(default_factory=lambda: SegmentOptions(report=False))
    schema: str = "auto"
    criteria: str = "rano2"
    disease: str | None = None
    report: bool = True

    def __post_init__(self) -> None:
        criteria_named(self.criteria)
        if self.disease is not None and self.disease not in list(Disease):
            raise UsageError(f"there is no disease {self.disease!r}; choose one of: {', '.join(Disease)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``run.json``."""
        return {
            **self.segment.to_dict(),
            "schema": self.schema,
            "criteria": self.criteria,
            "disease": self.disease or "auto",
            "timeline": self.report,
        }


@dataclass(frozen=True)
class Stopped:
    """A visit that could not be used.

    Attributes:
        visit: its name.
        reason: why, in words.
        error: what was raised.
    """

    visit: str
    reason: str
    error: BratsSegError


@dataclass(frozen=True, eq=False)
class Course:
    """Everything found about one patient.

    Attributes:
        patient: where it came from.
        visits: those that could be used, in order of time.
        stopped: those that could not, with the reason.
        alignments: of each visit to the first.
        warnings: what to know about the whole course before any of its numbers is used.
        plane: diameters are measured on, at every visit.
        common: the space lesions are matched in.
        measured: volumes by visit.
        lesions: by followed region.
        history: what was judged.
        events: clinical events.
        assessment: the response of every visit.
        changes: against baseline, nadir and the visit before.
        paired: the same from both images at once, by lesion, reference and visit, where that was possible.
        growth: by region and phase.
        resections: of every surgery.
        timings_s: seconds by step.
    """

    patient: Patient
    visits: tuple[VisitData, ...]
    stopped: tuple[Stopped, ...]
    alignments: tuple[Alignment, ...]
    warnings: tuple[str, ...]
    plane: str
    common: Grid
    measured: tuple[VisitVolumes, ...]
    lesions: Mapping[str, RegionCourse]
    history: PatientHistory
    events: tuple[ClinicalEvent, ...]
    assessment: ResponseAssessment
    changes: tuple[ChangeRow, ...]
    paired: Mapping[tuple[str, int, int], PairedChange]
    growth: tuple[PhaseGrowth, ...]
    resections: tuple[Resection, ...]
    timings_s: dict[str, float]

    @property
    def baseline(self) -> int:
        """Index of the visit that counts as baseline."""
        return baseline_index(self.assessment, self.history)

    def rows(self, region: str) -> tuple[LesionRow, ...]:
        """Lesions of a region, by visit."""
        return self.lesions[region].rows


def follow(
    patient: Patient,
    output: Path,
    *,
    options: FollowOptions,
    model: Model,
    events: Sequence[ClinicalEvent] = (),
    tick: Tick | None = None,
) -> Course:
    """Follow one patient; nothing but segmentations is written.

    Args:
        patient: visits and their files.
        output: folder of the run; holds segmentations, and alignments of an earlier run.
        options: how.
        model: what segments.
        events: of the clinical table.
        tick: called with the name of each step before it runs.

    Raises:
        InputError: if no visit can be used, or clinical events are given without dates of the visits.
        DeviceError: if the machine cannot run the model.
    """
    if events and patient.dating is Dating.NONE:
        raise InputError(
            f"patient {patient.id}: the clinical table has dates, and the visits have {patient.dating}. Give the "
            "visits their dates (visits.csv or sessions.tsv), or leave the clinical table out."
        )
    timings: dict[str, float] = {}
    stopped: list[Stopped] = []
    began = time.perf_counter()
    loaded = _load(patient, output, options, model=model, stopped=stopped, tick=tick)
    timings["visits"] = time.perf_counter() - began
    began = time.perf_counter()
    align = partial(_align, folder=output / patient.id, stopped=stopped, tick=tick)
    visits, alignments = align(loaded)
    strangers = strangers_among(visits, alignments)
    if strangers and not options.segment.force:
        visits, alignments, left_out = one_person(visits, alignments, strangers, align=align)
        stopped += [Stopped(visit, reason, InputError(reason)) for visit, reason in left_out.items()]
        strangers = {}
    timings["align"] = time.perf_counter() - began
    began = time.perf_counter()
    if tick is not None:
        tick("matching lesions")
    common = _common(visits[0])
    plane, plane_note = _measuring_plane(visits)
    measured = tuple(_volumes(visit, model) for visit in visits)
    with ThreadPoolExecutor() as pool:  # what takes long leaves the interpreter to others
        follow_one = partial(_follow_region, visits=visits, alignments=alignments, common=common, plane=plane)
        courses = dict(zip(FOLLOWED, pool.map(follow_one, FOLLOWED), strict=True))
    calendar = Calendar.DAYS if patient.dating is Dating.DAYS else Calendar.DATES
    history = history_of(patient.id, measured, courses, events, calendar=calendar)
    disease = Disease(options.disease) if options.disease else None
    assessment = judge(history, measured, courses, criteria_named(options.criteria), disease=disease)
    timings["match and judge"] = time.perf_counter() - began
    changes = tuple(changes_of(measured, courses, baselines_of(assessment, history)))
    began = time.perf_counter()
    if tick is not None:
        tick("comparing images")
    before = known_changes(output / patient.id)
    paired = paired_changes(visits, alignments, courses[PAIRED_REGION], changes, known=before)
    timings["paired change"] = time.perf_counter() - began
    return Course(
        patient=patient,
        visits=tuple(visits),
        stopped=tuple(stopped),
        alignments=tuple(alignments),
        warnings=tuple(
            filter(None, (*on_identity(visits, alignments, strangers), plane_note, untrained_for(measured, history)))
        ),
        plane=plane,
        common=common,
        measured=measured,
        lesions=courses,
        history=history,
        events=tuple(events),
        assessment=assessment,
        changes=changes,
        paired=paired,
        growth=tuple(_growth(measured, history)),
        resections=tuple(resections_of(measured, events)),
        timings_s=timings,
    )


def _load(
    patient: Patient,
    output: Path,
    options: FollowOptions,
    *,
    model: Model,
    stopped: list[Stopped],
    tick: Tick | None,
) -> list[VisitData]:
    loaded = []
    refuse_repeats(patient.id, patient.visits)
    schema = schema_of_visits({v.label: v.mask for v in patient.visits if v.mask is not None}, options.schema)
    for files in patient.visits:
        if tick is not None:
            tick(f"visit {files.label}")
        try:
            loaded.append(load_visit(files, output, options=options.segment, schema=schema, model=model))
        except InputError as error:
            stopped.append(Stopped(files.label, str(error), error))
        except DeviceError as error:
            raise DeviceError(f"visit {files.label}: {error}") from error
    if not loaded:
        first = stopped[0]
        raise InputError(f"no visit of {patient.id} can be used; the first, {first.visit}: {first.reason}")
    return loaded


def _align(
    loaded: Sequence[VisitData], folder: Path, stopped: list[Stopped], tick: Tick | None
) -> tuple[list[VisitData], list[Alignment]]:
    """Every visit to the first; one that cannot be aligned is stopped, and the others go on."""
    first = loaded[0]
    known = known_alignments(folder)
    visits, alignments = [first], [Alignment.identity()]
    for visit in loaded[1:]:
        if tick is not None:
            tick(f"aligning {visit.label}")
        key = alignment_key(first.key, visit.key)
        try:
            alignment = known[key] if key in known else _align_one(visit, first)
        except InputError as error:
            stopped.append(Stopped(visit.label, str(error), error))
            continue
        visits.append(visit)
        alignments.append(alignment)
    return visits, alignments


def alignment_table(course: Course) -> dict[str, Any]:
    """What :data:`~brats_seg.run.resume.ALIGNMENTS` holds."""
    first = course.visits[0]
    return {
        alignment_key(first.key, visit.key): {"visit": visit.label, "to": first.label, **alignment.to_dict()}
        for visit, alignment in zip(course.visits[1:], course.alignments[1:], strict=True)
        if visit.sequences
    }


def _align_one(visit: VisitData, first: VisitData) -> Alignment:
    if not visit.sequences:
        one, other = visit.segmentation.labels.grid, first.segmentation.labels.grid
        if not visit.segmentation.labels.to_ras().grid.same_as(first.segmentation.labels.to_ras().grid):
            raise InputError(
                f"visit {visit.label} lies on another grid than {first.label} ({one.describe()}; {other.describe()}), "
                "and there are no scans to align them by. Add the scans, or label maps in one space."
            )
        return Alignment.identity()
    moving, fixed = _scans(visit, first)
    return align_visits(moving, fixed)


def _scans(visit: VisitData, first: VisitData) -> tuple[VisitScan, VisitScan]:
    """The scans to align by: the same sequence at both visits, on the grid of its label map."""
    for sequence in PREFERRED:
        if all(sequence in side.sequences and side.on_grid(sequence) for side in (visit, first)):
            return _scan(visit, sequence), _scan(first, sequence)
    return _scan(visit, _own_sequence(visit)), _scan(first, _own_sequence(first))


def _own_sequence(visit: VisitData) -> MRSequence:
    on_grid = [sequence for sequence in PREFERRED if sequence in visit.sequences and visit.on_grid(sequence)]
    return on_grid[0] if on_grid else next(sequence for sequence in PREFERRED if sequence in visit.sequences)


def _scan(visit: VisitData, sequence: MRSequence) -> VisitScan:
    image, labels = visit.image(sequence), visit.segmentation.labels
    if image.grid.same_as(labels.grid):
        tumour = visit.tumour
    else:
        moved = resample(labels.with_data(visit.tumour.astype(np.uint8)), image.grid, order="nearest")
        tumour = moved.data > 0
    return VisitScan(visit.label, sequence, image, tumour)


def _common(first: VisitData) -> Grid:
    if not first.sequences:
        return first.segmentation.labels.to_ras().grid
    return common_grid(first.image(_own_sequence(first)))


def _volumes(visit: VisitData, model: Model) -> VisitVolumes:
    card = model.bundle.card
    return VisitVolumes(
        label=visit.label,
        day=visit.files.day,
        volumes_ml={row.region: row.volume_ml for row in visit.measurements.volumes},
        slice_mm=max(visit.measurements.spacing_mm),
        model=f"{card.name} {card.version}" if visit.by_model else "",
        knows_treatment=card.knows_treated_brains,
        not_assessable=_not_assessable(visit),
    )


def _measuring_plane(visits: Sequence[VisitData]) -> tuple[str, str]:
    """The one plane for a course, and what to say where the visits' slices do not all lie in it."""
    planes = [measuring_plane(visit.segmentation.labels.grid) for visit in visits]
    if len(set(planes)) == 1:
        return planes[0], "" if planes[0] == AXIAL else f"diameters are {planes[0]}, as all visits were acquired"
    other = [f"{visit.label} {plane}" for visit, plane in zip(visits, planes, strict=True) if plane != AXIAL]
    return AXIAL, (
        f"the visits' slices lie in different planes ({', '.join(other)}; else axial): diameters are axial throughout, "
        "and less exact where the slices are not"
    )


def _not_assessable(visit: VisitData) -> dict[Compartment, str]:
    """What a visit does not show: its scans, or its label map where that was given, which is taken at its word."""
    found = {}
    if not visit.by_model:
        schema = visit.segmentation.schema
        if Region.ET not in schema.regions:
            found[Compartment.ENHANCING] = f"label maps in schema {schema.name} do not tell what enhances"
        return found
    if MRSequence.T1CE not in visit.sequences:
        found[Compartment.ENHANCING] = "enhancement is not assessable without T1CE"
    if not {MRSequence.T2, MRSequence.FLAIR} & set(visit.sequences):
        found[Compartment.NON_ENHANCING] = "T2/FLAIR disease is not assessable without T2 and FLAIR"
    return found


def _follow_region(
    region: str, visits: Sequence[VisitData], alignments: Sequence[Alignment], common: Grid, plane: str
) -> RegionCourse:
    which = next(known for known in REGIONS if known.abbreviation == region)
    return follow_region(
        region,
        [
            RegionVisit(
                mask=visit.segmentation.region_mask(which),
                grid=visit.segmentation.labels.grid,
                lesions=visit.measurements.lesions_of(region),
                matrix=alignment.matrix,
                measure=joined_measure(visit.segmentation, which, gap_mm=JOIN_MM, plane=plane),
            )
            for visit, alignment in zip(visits, alignments, strict=True)
        ],
        common,
    )


def _growth(measured: Sequence[VisitVolumes], history: PatientHistory) -> Iterator[PhaseGrowth]:
    """Growth of every region, in the words the visits were dated in."""
    for region in Region:
        for entry in growth_of(measured, history.events, region.abbreviation):
            yield replace(entry, phase=replace(entry.phase, why=history.spoken(entry.phase.why)))


def when_words(dating: Dating, day: date | None) -> str:
    """A day in the words the visits were dated in: a date, ``day 35``, or nothing."""
    if day is None or dating is Dating.NONE:
        return ""
    return day.isoformat() if dating is Dating.DATES else f"day {(day - DAY_ZERO).days}"
