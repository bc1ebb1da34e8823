"""Following one patient, in memory: visits aligned, lesions matched, changes measured, responses judged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial

import numpy as np

from brats_seg.core.course import CourseResection, Excluded
from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.grid import Grid
from brats_seg.core.scans import RigidMotion
from brats_seg.core.study import MRSequence, Patient
from brats_seg.core.tables import Calendar
from brats_seg.core.visit import Visit
from brats_seg.core.words import Tick
from brats_seg.imaging.register import resample
from brats_seg.response.criteria import DEFAULT_CRITERIA, criteria_named
from brats_seg.response.history import ClinicalEvent, PatientHistory
from brats_seg.response.responses import Disease, Responses
from brats_seg.track.align import NO_MOTION, PREFERRED, HeadScan, align_visits, common_grid
from brats_seg.track.boundary_shift.change import LesionChange
from brats_seg.track.course import (
    ChangeRow,
    baselines_of,
    changes_of,
    history_of,
    judge,
    resections_of,
    untrained_for,
)
from brats_seg.track.course_growth import PhaseGrowth, growth_of
from brats_seg.track.lesions import RegionCourse, follow_region
from brats_seg.track.map_on_scan import mirrored_among
from brats_seg.track.paired import PairedChange, paired_changes
from brats_seg.track.person import Aligned, on_identity, one_person, strangers_among
from brats_seg.volumetrics.diameters import AXIAL, measuring_plane


@dataclass(frozen=True)
class CourseOptions:
    """How visits are compared and judged.

    Attributes:
        criteria: name of the response criteria; None takes the first of the model's card where there is one, else
            :data:`DEFAULT_CRITERIA`.
        disease: which compartments are judged; None lets the criteria choose for each episode.
        force: compare visits that do not look like one person's.

    Raises:
        UsageError: if the criteria or the disease are not known.
    """

    criteria: str | None = None
    disease: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        criteria_named(self.criteria or DEFAULT_CRITERIA)
        if self.disease is not None and self.disease not in list(Disease):
            raise UsageError(f"there is no disease {self.disease!r}; choose one of: {', '.join(Disease)}")


@dataclass(frozen=True)
class Known:
    """What was found before and is not computed again.

    Attributes:
        motions: by :func:`motion_key`.
        changes: measured in both images, by :func:`~brats_seg.track.paired.change_key`.
    """

    motions: Mapping[str, RigidMotion] = field(default_factory=dict)
    changes: Mapping[str, LesionChange] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Followed:
    """The visits of one patient as they were followed, voxels and all; :func:`course_of` has what they come to.

    Attributes:
        visits: those that could be used, in order of time.
        excluded: those that could not, with the reason.
        motions: of each visit, from the first to it.
        warnings: what to know about the whole course before any of its numbers is used.
        plane: diameters are measured on, at every visit.
        common: the space lesions are matched in.
        assessment: the response of every visit.
        changes: against baseline, nadir and the visit before.
        paired: the same from both images at once, by lesion, reference and visit, where that was possible.
    """

    patient: Patient
    visits: tuple[Visit, ...]
    excluded: tuple[Excluded, ...]
    motions: tuple[RigidMotion, ...]
    warnings: tuple[str, ...]
    plane: str
    common: Grid
    lesions: Mapping[str, RegionCourse]
    history: PatientHistory
    events: tuple[ClinicalEvent, ...]
    assessment: Responses
    changes: tuple[ChangeRow, ...]
    paired: Mapping[tuple[str, int, int], PairedChange]
    growth: tuple[PhaseGrowth, ...]
    resections: tuple[CourseResection, ...]
    timings_s: dict[str, float]

    @property
    def baseline(self) -> int:
        """Index of the visit that counts as baseline."""
        return self.assessment.episodes[-1].baseline


def follow(
    visits: Sequence[Visit],
    patient: Patient | str = "patient",
    *,
    options: CourseOptions | None = None,
    events: Sequence[ClinicalEvent] = (),
    known: Known | None = None,
    tick: Tick | None = None,
) -> Followed:
    """Follow one patient; nothing is read but scans of the visits, and nothing is measured that a visit holds.

    Args:
        visits: at least one, in order of time where they have no dates; those that cannot be aligned to the first are
            left out.
        patient: whose they are; a name takes the dates of the time points.
        tick: called with the name of each step before it runs.

    Raises:
        InputError: if there is no visit, or no region of the model is followed.
    """
    if not visits:
        raise InputError("there is no visit to follow. Pass at least one.")
    options, known = options or CourseOptions(), known or Known()
    if all(visit.timepoint.day is not None for visit in visits):
        visits = sorted(visits, key=lambda visit: visit.timepoint.day or date.min)
    if isinstance(patient, str):
        patient = _patient_of(visits, patient)
    timings: dict[str, float] = {}
    told = tick or (lambda _: None)
    with _timed(timings, "align"):
        (visits, motions), excluded, strangers = _of_one_person(visits, known.motions, told, force=options.force)
    with _timed(timings, "match and judge"):
        told("matching lesions")
        common = _common(visits[0])
        plane, plane_note = _measuring_plane(visits)
        lesions = _lesions(visits, motions, common, plane)
        calendar = Calendar.DAYS if patient.dating is Calendar.DAYS else Calendar.DATES
        history = history_of(patient.id, visits, lesions, events, calendar=calendar)
        disease = Disease(options.disease) if options.disease else None
        assessment = judge(
            history, visits, lesions, criteria_named(options.criteria or DEFAULT_CRITERIA), disease=disease
        )
    with _timed(timings, "paired change"):
        told("comparing images")
        changes = tuple(changes_of(visits, lesions, baselines_of(assessment)))
        paired = paired_changes(visits, motions, lesions, changes, known=known.changes)
    alone = {v.label: v.segmentation.labels.with_data(v.tumour) for v in visits if not v.images}
    warnings = (
        *on_identity(visits, motions, strangers),
        *mirrored_among(alone),
        plane_note,
        untrained_for(visits, history),
    )
    return Followed(
        patient=patient,
        visits=tuple(visits),
        excluded=tuple(excluded),
        motions=tuple(motions),
        warnings=tuple(filter(None, warnings)),
        plane=plane,
        common=common,
        lesions=lesions,
        history=history,
        events=tuple(events),
        assessment=assessment,
        changes=changes,
        paired=paired,
        growth=tuple(_growth(visits, history)),
        resections=tuple(resections_of(visits, events, patient.dating)),
        timings_s=timings,
    )


def _patient_of(visits: Sequence[Visit], name: str) -> Patient:
    timepoints = tuple(visit.timepoint for visit in visits)
    is_dated = all(timepoint.day is not None for timepoint in timepoints)
    return Patient(name, timepoints, Calendar.DATES if is_dated else Calendar.ORDER)


def _of_one_person(
    given: Sequence[Visit], known: Mapping[str, RigidMotion], told: Tick, *, force: bool
) -> tuple[Aligned, list[Excluded], dict[int, str]]:
    """Visits aligned to the first, those that are left out, and those of another person that are kept all the same."""
    excluded: list[Excluded] = []
    align = partial(_align, known=known, excluded=excluded, told=told)
    visits, motions = align(given)
    strangers = strangers_among(visits, motions)
    if strangers and not force:
        visits, motions, left_out = one_person(visits, motions, strangers, align=align)
        excluded += [Excluded(visit, reason) for visit, reason in left_out.items()]
        strangers = {}
    return (visits, motions), excluded, strangers


def _lesions(
    visits: Sequence[Visit], motions: Sequence[RigidMotion], common: Grid, plane: str
) -> dict[str, RegionCourse]:
    """Lesions of every region that is followed, by its name."""
    followed = visits[0].segmentation.regions.followed
    if not followed:
        raise InputError("no region of the model has a compartment in its card, so that there is nothing to follow")
    matrices = [motion.matrix for motion in motions]
    with ThreadPoolExecutor() as pool:  # what takes long leaves the interpreter to others
        follow_one = partial(follow_region, given=visits, matrices=matrices, common=common, plane=plane)
        return dict(zip([region.name for region in followed], pool.map(follow_one, followed), strict=True))


@contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings[step] = time.perf_counter() - began


def motion_key(fixed: Visit, moving: Visit) -> str:
    """Name of the motion between two visits: checksums of what it comes from."""
    return f"{fixed.key} {moving.key}"


def _align(given: Sequence[Visit], known: Mapping[str, RigidMotion], excluded: list[Excluded], told: Tick) -> Aligned:
    """Every visit to the first; one that cannot be aligned is left out, and the others go on."""
    first = given[0]
    visits, motions = [first], [NO_MOTION]
    for visit in given[1:]:
        told(f"aligning {visit.label}")
        key = motion_key(first, visit)
        try:
            motion = known[key] if key in known else _align_one(visit, first)
        except InputError as error:
            excluded.append(Excluded(visit.label, str(error)))
            continue
        visits.append(visit)
        motions.append(motion)
    return visits, motions


def _align_one(visit: Visit, first: Visit) -> RigidMotion:
    if not visit.sequences:
        one, other = (side.segmentation.labels.to_ras().grid for side in (visit, first))
        if not one.same_as(other):
            grids = (side.segmentation.labels.grid.describe() for side in (visit, first))
            apart = f"; up to {one.offset_mm(other):.2g} mm apart" if one.shape == other.shape else ""
            raise InputError(
                f"it lies on another grid than {first.label} ({'; '.join(grids)}{apart}), and there are no scans to "
                "align them by. Add the scans, or label maps in one space."
            )
        return NO_MOTION
    moving, fixed = _scans(visit, first)
    return align_visits(moving, fixed)


def _scans(visit: Visit, first: Visit) -> tuple[HeadScan, HeadScan]:
    """The scans to align by: the same sequence at both visits, on the grid of its label map."""
    for sequence in PREFERRED:
        if all(sequence in side.sequences and side.on_grid(sequence) for side in (visit, first)):
            return _scan(visit, sequence), _scan(first, sequence)
    return _scan(visit, _own_sequence(visit)), _scan(first, _own_sequence(first))


def _own_sequence(visit: Visit) -> MRSequence:
    on_grid = [sequence for sequence in PREFERRED if sequence in visit.sequences and visit.on_grid(sequence)]
    return on_grid[0] if on_grid else next(sequence for sequence in PREFERRED if sequence in visit.sequences)


def _scan(visit: Visit, sequence: MRSequence) -> HeadScan:
    image, labels = visit.images[sequence], visit.segmentation.labels
    if image.grid.same_as(labels.grid):
        tumour = visit.tumour
    else:
        moved = resample(labels.with_data(visit.tumour.astype(np.uint8)), image.grid, order="nearest")
        tumour = moved.data > 0
    return HeadScan(visit.label, sequence, image, tumour)


def _common(first: Visit) -> Grid:
    if not first.sequences:
        return first.segmentation.labels.to_ras().grid
    return common_grid(first.images[_own_sequence(first)])


def _measuring_plane(visits: Sequence[Visit]) -> tuple[str, str]:
    """The one plane for a course, and what to say where the visits' slices do not all lie in it."""
    planes = [measuring_plane(visit.segmentation.labels.grid) for visit in visits]
    if len(set(planes)) == 1:
        return planes[0], "" if planes[0] == AXIAL else f"diameters are {planes[0]}, as all visits were acquired"
    other = [f"{visit.label} {plane}" for visit, plane in zip(visits, planes, strict=True) if plane != AXIAL]
    return AXIAL, (
        f"the visits' slices lie in different planes ({', '.join(other)}; else axial): diameters are axial throughout, "
        "and less exact where the slices are not"
    )


def _growth(visits: Sequence[Visit], history: PatientHistory) -> Iterator[PhaseGrowth]:
    """Growth of every region, in the words the visits were dated in."""
    for region in visits[0].segmentation.regions:
        for entry in growth_of(visits, history.events, region):
            yield replace(entry, phase=replace(entry.phase, why=history.spoken(entry.phase.why)))
