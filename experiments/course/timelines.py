"""Phantom timelines: true outlines on each visit's own grid, followed and judged, held against exact numbers.

Courses are drawn by the phantom's script until every category has occurred often enough. No scan is made: at each visit
the head lies elsewhere, the outline falls on a new tilted grid of 1 to 5 mm slices, and visits are laid on each
other with the error that alignment has (:mod:`.align_study`). What is tested is therefore digitisation, measuring,
matching and judging; segmentation is tested by :func:`.course_verify.score_tracks` on scans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Grid, Volume, apply_affine, grid_between
from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.core.study import Timepoint
from brats_seg.core.visit import RunRecord, Segmentation, Visit
from brats_seg.models.card import regions_of
from brats_seg.phantom.course import GrownCourse, PhantomConfig, grow_course, label_map
from brats_seg.phantom.grids import grid_around, rotation_of, small_turn
from brats_seg.phantom.grown import GrownScene
from brats_seg.phantom.kinds import TumourKind, ball_radius_mm
from brats_seg.phantom.script import Course, PatientKind, Story, draw_course
from brats_seg.phantom.truth import VisitTruth, visit_truth
from brats_seg.response.assess import assess
from brats_seg.response.criteria import RANO2, Compartment
from brats_seg.response.history import ClinicalEvent, LesionMeasurement, PatientHistory, VisitMeasurements
from brats_seg.response.responses import Category, Measure
from brats_seg.track.course import history_of, judge
from brats_seg.track.lesions import follow_region
from brats_seg.volumetrics.measure import measure_segmentation
from experiments.course.truth import Compared, answers_of, compare, events_of, true_history

JUDGED = (Category.CR, Category.PR, Category.MR, Category.SD, Category.PD)
STORIES = (
    (PatientKind.HIGH_GRADE, Story.GROWTH),
    (PatientKind.LOW_GRADE, Story.RESPONSE),
    (PatientKind.METASTASES, Story.RESPONSE),
    (PatientKind.HIGH_GRADE, Story.RECURRENCE),
    (PatientKind.HIGH_GRADE, Story.RESECTION),
    (PatientKind.METASTASES, Story.PSEUDOPROGRESSION),
    (PatientKind.HIGH_GRADE, Story.NEW_LESION),
    (PatientKind.LOW_GRADE, Story.GROWTH),
    (PatientKind.HIGH_GRADE, Story.RESPONSE),
    (PatientKind.METASTASES, Story.RECURRENCE),
    (PatientKind.HIGH_GRADE, Story.STABLE),
)
"""Kinds and stories, in turn."""
MOST_LESIONS = 3
"""Courses with more are passed over; each lesion takes a second to grow."""
MOST_DRAWS = 10_000
MARGIN_MM = 22.0
"""Around lesions, so that neither edema nor a turned grid leaves the box."""


@dataclass(frozen=True)
class TimelineConfig:
    """What is drawn.

    Attributes:
        visits: judged visits, at least.
        least: times each category occurs, at least.
        per_patient: visits of each patient.
        slices_mm: thickness of the slices of a visit, one of these.
        turn_deg: standard deviation of the head's turn about each axis.
        shift_mm: largest shift of the head along each axis.
        alignment_mm: mean displacement error of the alignment of each visit to the first.
    """

    visits: int = 200
    least: int = 20
    per_patient: int = 5
    slices_mm: tuple[float, ...] = (1.0, 1.0, 3.0, 5.0)
    turn_deg: float = 4.0
    shift_mm: float = 8.0
    alignment_mm: float = 0.3


@dataclass(frozen=True)
class VolumeRow:
    """Volumes of one visit; one row of the table.

    Attributes:
        patient: name.
        visit: name.
        story: what happens to the patient.
        days: since the first visit.
        slice_mm: thickness of the slices.
        region: ``WT``, ``TC`` or ``ET``.
        true_ml: exactly.
        found_ml: from the outline on the visit's grid.
    """

    patient: str
    visit: str
    story: str
    days: int
    slice_mm: float
    region: str
    true_ml: float
    found_ml: float


def draw_timelines(rng: np.random.Generator, config: TimelineConfig) -> list[Course]:
    """Courses in which every category occurs often enough; cheap, for nothing is grown yet.

    Courses are drawn in turn from :data:`STORIES`. While a category is too rare, only courses that hold such a one
    are taken.

    Raises:
        InputError: if no number of draws is enough.
    """
    counts: Counter[Category] = Counter()
    courses: list[Course] = []
    for number in range(MOST_DRAWS):
        kind, story = STORIES[number % len(STORIES)]
        course = _drawn(rng, kind, story, config, f"timeline-{len(courses) + 1:03d}")
        if course is None:
            continue
        found = _scripted_categories(course)
        rare = {category for category in JUDGED if counts[category] < config.least}
        if rare and not rare & set(found):
            continue
        if not rare and counts.total() >= config.visits:
            return courses
        counts.update(found)
        courses.append(course)
    raise InputError(f"{MOST_DRAWS} courses do not hold every category {config.least} times; ask for fewer")


def _drawn(
    rng: np.random.Generator, kind: PatientKind, story: Story, config: TimelineConfig, name: str
) -> Course | None:
    course = draw_course(rng, kind, visits=config.per_patient, patient_id=name, story=story)
    return course if len(course.lesions) <= MOST_LESIONS else None


def _scripted_categories(course: Course) -> list[Category]:
    """Categories by volume that the script alone leads to."""
    visits = []
    for index, visit in enumerate(course.visits):
        lesions = []
        for script in course.lesions:
            state = script.states[index]
            volumes = {
                Compartment.ENHANCING: state.core_ml * state.enhancing_share,
                Compartment.NON_ENHANCING: state.core_ml + state.edema_ml,
            }
            lesions += [
                LesionMeasurement(script.id, compartment, volume_ml=volume)
                for compartment, volume in volumes.items()
                if volume > 0
            ]
        visits.append(VisitMeasurements(visit.label, visit.day, tuple(lesions)))
    history = PatientHistory(course.patient_id, tuple(visits), clinical_events(course))
    rows = assess(history, RANO2).overall(Measure.VOLUME)
    return [row.category for row in rows if row.category in JUDGED]


def clinical_events(course: Course) -> tuple[ClinicalEvent, ...]:
    """Events that a course's treatments stand for."""
    return events_of([visit.day for visit in course.visits], [visit.treatment for visit in course.visits])


def run_timeline(
    course: Course, rng: np.random.Generator, config: TimelineConfig
) -> tuple[list[Compared], list[VolumeRow]]:
    """Follow one patient by true outlines.

    Args:
        course: what happens.
        rng: of positions, slices and alignment errors.
        config: see :class:`TimelineConfig`.

    Returns:
        Answers held against the truth, and volumes of every visit.

    Raises:
        InputError: if the lesions fit nowhere in the brain.
    """
    grown = grow_course(course, PhantomConfig(brain_centre_mm=(0.0, 0.0, 0.0)))
    common = _box(grown)
    truths: list[VisitTruth] = []
    visits: list[Visit] = []
    matrices: list[Affine] = []
    rows: list[VolumeRow] = []
    first = np.eye(4)
    for index, visit in enumerate(course.visits):
        scene = grown.tumour.scene(course.states(index), common)
        truths.append(visit_truth(course, index, scene))
        head = _motion(rng, config)
        first = head if index == 0 else first
        slice_mm = float(rng.choice(config.slices_mm))
        labels = _outline(scene, _grid(common, head, slice_mm, rng), np.linalg.inv(head))
        label = f"ses-{visit.label}"
        place = Timepoint(f"{course.patient_id}_{label}", {}, label=label, day=visit.day)
        segmentation = Segmentation(place.id, labels, DEFAULT_SCHEMA, regions_of())
        found = measure_segmentation(segmentation)
        volumes = {row.region: row.volume_ml for row in found.volumes}
        visits.append(Visit(place, segmentation, found, RunRecord(place.id, {})))
        matrices.append(head @ _error(rng, config.alignment_mm, common) @ np.linalg.inv(first))
        days = (visit.day - course.visits[0].day).days
        rows += [
            VolumeRow(course.patient_id, label, course.story.value, days, slice_mm, region, true_ml, volumes[region])
            for region, true_ml in truths[-1].volume_ml.items()
            if region in volumes and region in ("WT", "TC", "ET")
        ]
    seen = _seen_from(common, first)
    followed = {region.name: follow_region(region, visits, matrices, seen) for region in regions_of().followed}
    events = clinical_events(course)
    history = history_of(course.patient_id, visits, followed, events)
    assessment = judge(history, visits, followed, RANO2)
    truth = true_history(course.patient_id, [truth.to_dict() for truth in truths], kinds_of(course), events)
    return compare(truth, answers_of(assessment)), rows


def kinds_of(course: Course) -> dict[str, TumourKind]:
    """Kind of every lesion by its id."""
    return {lesion.id: lesion.kind for lesion in course.lesions}


def run_timelines(
    courses: Sequence[Course],
    seed: int,
    config: TimelineConfig,
    *,
    on_patient: Callable[[str, list[Compared], list[VolumeRow]], None],
    skip: Container[str] = (),
) -> None:
    """Follow every course; each has its own chance, so that a part of them gives the same answers.

    Args:
        courses: of :func:`draw_timelines`.
        seed: of positions, slices and alignment errors.
        config: see :class:`TimelineConfig`.
        on_patient: called with name, answers and volumes of each patient. Courses whose lesions fit nowhere in a
            brain are passed over.
        skip: names of patients that were followed before.
    """
    for number, course in enumerate(courses):
        if course.patient_id in skip:
            continue
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        try:
            answers, volumes = run_timeline(course, rng, config)
        except InputError:  # two lesions drawn for one small place
            continue
        on_patient(course.patient_id, answers, volumes)


def _box(grown: GrownCourse) -> Grid:
    """The part of the brain that holds every lesion at every visit."""
    brain = grid_between(*grown.tumour.person.box_mm, 1.0)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for lesion in grown.tumour.lesions:
        reach = ball_radius_mm(lesion.script.whole_ml) + MARGIN_MM
        place = brain.to_voxel(lesion.centre_mm)
        low, high = np.minimum(low, place - reach), np.maximum(high, place + reach)
    start = np.maximum(np.floor(low), 0).astype(int)
    stop = np.minimum(np.ceil(high).astype(int) + 1, brain.shape)
    affine = np.array(brain.affine)
    affine[:3, 3] = brain.to_world(start)
    x, y, z = (int(n) for n in stop - start)
    return Grid((x, y, z), affine)


def _motion(rng: np.random.Generator, config: TimelineConfig) -> Affine:
    """RAS+ mm of the body to RAS+ mm of the scanner."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_of(small_turn(rng, config.turn_deg))
    matrix[:3, 3] = rng.uniform(-1, 1, 3) * config.shift_mm
    return matrix


def _error(rng: np.random.Generator, mean_mm: float, common: Grid) -> Affine:
    """A small motion about the middle of the lesions, of about ``mean_mm`` there: half shift, half turn."""
    centre = common.to_world((np.array(common.shape) - 1) / 2)
    shift, axis = rng.normal(size=3), rng.normal(size=3)
    matrix = np.eye(4)
    turn = 0.5 * mean_mm / 30.0 * axis / np.linalg.norm(axis)
    matrix[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + 0.87 * mean_mm * shift / np.linalg.norm(shift)
    return matrix


def _grid(common: Grid, head: Affine, slice_mm: float, rng: np.random.Generator) -> Grid:
    """Slices around the lesions, where the head lies at this visit."""
    world = apply_affine(head, common.to_world(common.corners()))
    centre = (world.min(axis=0) + world.max(axis=0)) / 2
    reach = (world.max(axis=0) - world.min(axis=0)) / 2 + 2 * slice_mm
    return grid_around(centre + rng.uniform(-0.5, 0.5, 3) * slice_mm, reach, spacing_mm=(1.0, 1.0, slice_mm))


def _outline(scene: GrownScene, grid: Grid, to_body: NDArray[Any]) -> Volume:
    """The true label map on a visit's grid."""
    return Volume(label_map(scene.tumour.on(grid, matrix=np.asarray(to_body, np.float64))), grid)


def _seen_from(common: Grid, first: Affine) -> Grid:
    """A grid around the lesions in the space of the first visit."""
    world = apply_affine(first, common.to_world(common.corners()))
    low, high = world.min(axis=0), world.max(axis=0)
    affine = np.eye(4)
    affine[:3, 3] = np.floor(low)
    x, y, z = (int(n) for n in np.ceil(high - np.floor(low)) + 1)
    return Grid((x, y, z), affine)
