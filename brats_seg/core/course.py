"""The course of one patient as values: what ``course.json`` holds and the pages show. No voxel, no path.

Rows are those of the tables beside it, field by field; visits go by their labels, days as they were given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from brats_seg.core.plain import LEFT_OUT, from_plain, plain
from brats_seg.core.regions import RegionSet
from brats_seg.core.scans import RigidMotion
from brats_seg.core.tables import Calendar

COURSE_FILE = "course.json"
COURSE_SCHEMA_VERSION = 1
"""Of :data:`COURSE_FILE`; raised whenever a key is renamed, goes, or means something else."""


def _if_known() -> Any:
    """A field that is left out where it is None."""
    return field(default=None, metadata={LEFT_OUT: True})


@dataclass(frozen=True)
class CourseVisit:
    """One visit of a course: when it was, how its label map came about and how it was aligned, and what to know."""

    visit: str
    when: str | None
    days_since_first: int | None
    label_map: str
    alignment_to_first: RigidMotion | None
    spacing_mm: tuple[float, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    fits: bool = True


@dataclass(frozen=True)
class CourseRow:
    """What every row about a region at a visit begins with."""

    patient: str
    visit: str
    date: str
    days: str
    region: str


@dataclass(frozen=True)
class CourseVolume(CourseRow):
    """One region or tissue at one visit: a row of ``volumes.csv``. NaN where the label map does not tell it."""

    volume_ml: float
    low_ml: float | None
    high_ml: float | None
    level: float | None
    error_low_ml: float | None
    error_high_ml: float | None
    touches_border: bool
    note: str


@dataclass(frozen=True)
class CourseLesion(CourseRow):
    """One lesion at one visit: a row of ``lesions.csv``."""

    lesion: str
    relation: str
    partner: str
    part_of: str
    volume_ml: float
    error_low_ml: float | None
    error_high_ml: float | None
    long_mm: float
    short_mm: float
    measurable: bool
    pieces: int
    x_mm: float | None
    y_mm: float | None
    z_mm: float | None
    side: str
    touches_border: bool


@dataclass(frozen=True)
class CourseChange(CourseRow):
    """One change of a region, or of a lesion, against one visit: a row of ``change.csv``.

    What begins with ``paired`` was measured in both images at once, and is left out where it was not.
    """

    lesion: str
    against: str
    reference: str
    reference_ml: float
    volume_ml: float
    change_ml: float
    low_ml: float | None
    high_ml: float | None
    percent: float | None
    low_percent: float | None
    high_percent: float | None
    larger_than_error: str
    error_from: str
    paired_ml: float | None = _if_known()
    paired_low_ml: float | None = _if_known()
    paired_high_ml: float | None = _if_known()
    paired_larger_than_error: str | None = _if_known()
    paired_note: str | None = _if_known()
    leading: str = "volumes"


@dataclass(frozen=True)
class CourseResponse:
    """The answer for one visit, compartment and measure: a row of ``responses.csv``, and what decided it."""

    patient: str
    visit: str
    date: str
    days: str
    criteria: str
    compartment: str
    measure: str
    category: str
    status: str
    percent_from_baseline: str
    percent_from_nadir: str
    reasons: str
    missing: str
    reader: str
    decided_by: str


@dataclass(frozen=True)
class Answer:
    """A category that counts for an episode or for the whole course, and the visit that got it."""

    visit: str
    category: str
    status: str
    days_since_first: int | None = _if_known()
    when: str | None = _if_known()
    decided_by: str | None = _if_known()


@dataclass(frozen=True)
class ReaderNeed:
    """What a person has to look at, and at which visit."""

    visit: str
    words: str
    when: str = ""


@dataclass(frozen=True)
class CourseEpisode:
    """What was found in one episode of treatment; answers by measure, None where there is none."""

    best: Mapping[str, Answer | None]
    progression: Mapping[str, Answer | None]
    reader_needed: tuple[ReaderNeed, ...] = ()
    unjudged: Mapping[str, str] = field(default_factory=dict)
    baseline: str = ""
    visit: str = ""
    why: str = ""
    disease: str = ""
    disease_reason: str = ""


@dataclass(frozen=True)
class CourseEvent:
    """One clinical event."""

    date: str
    event: str
    days_since_first: int | None


@dataclass(frozen=True)
class CourseResection:
    """What a surgery removed of a region: volumes before and after, and the share; NaN or None where not known."""

    date: str
    region: str
    before: str
    after: str
    before_ml: float
    residual_ml: float
    extent_percent: float | None
    note: str


@dataclass(frozen=True)
class Excluded:
    """A visit that could not be used, and why, in words."""

    visit: str
    reason: str


@dataclass(frozen=True)
class Course:
    """Everything that was found about one patient, as ``course.json`` holds it.

    Attributes:
        patient: its id.
        regions: that were followed.
        dating: what is known of when the visits were.
        criteria: label of the response criteria.
        partial_volume_percent: change of volume from which they speak of a partial response.
        disease: ``enhancing``, ``non_enhancing`` or ``mixed``: what is judged in the latest episode.
        disease_reason: why, in words.
        episodes: of treatment, in order of time.
        visits: that could be used, in order of time; at least one.
        volumes: of every region and tissue at every visit.
        responses: by visit, measure and compartment.
        best: of the latest judged episode, by measure.
        progression: the same.
        baselines: how each was chosen, in words.
        warnings: what to know before any number is used.
        measuring_plane: of all diameters.
        response_notes: what was noticed while judging.
        stopped: visits that were left out.
        lesions: known by each visit.
        changes: against baseline, nadir and the visit before.
        events: clinical ones.
        resections: of every surgery.
        notes: how visits and dates were understood.
    """

    patient: str
    regions: RegionSet
    dating: Calendar
    criteria: str
    partial_volume_percent: float
    disease: str
    disease_reason: str
    episodes: tuple[CourseEpisode, ...]
    visits: tuple[CourseVisit, ...]
    volumes: tuple[CourseVolume, ...]
    responses: tuple[CourseResponse, ...]
    best: Mapping[str, Answer | None]
    progression: Mapping[str, Answer | None]
    baselines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    measuring_plane: str = ""
    response_notes: tuple[str, ...] = ()
    stopped: tuple[Excluded, ...] = ()
    lesions: tuple[CourseLesion, ...] = ()
    changes: tuple[CourseChange, ...] = ()
    events: tuple[CourseEvent, ...] = ()
    resections: tuple[CourseResection, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def leading(self) -> str:
        """The region whose growth and pictures lead."""
        return self.regions.leading(self.disease).name

    @property
    def bright(self) -> str:
        """The region that enhances; empty where none does."""
        found = self.regions.of_compartment("enhancing")
        return found.name if found else ""

    @property
    def visit_warnings(self) -> tuple[str, ...]:
        """What was noticed at single visits, the same words of several visits once: ``v1, v2: T1CE missing``."""
        by_words: dict[str, list[str]] = {}
        for visit in self.visits:
            for words in visit.warnings:
                by_words.setdefault(words, []).append(visit.visit)
        return tuple(f"{', '.join(visits)}: {words}" for words, visits in by_words.items())

    @property
    def is_free(self) -> bool:
        """Whether no visit shows any tumour."""
        outer = {region.name for region in self.regions.outermost}
        return all(row.volume_ml == 0 for row in self.volumes if row.region in outer)

    def overall(self, measure: str = "") -> list[CourseResponse]:
        """Answers of all compartments together, by one measure or by both, in order of time."""
        return [row for row in self.responses if row.compartment == "overall" and measure in ("", row.measure)]

    def change(self, visit: str, region: str, against: str, lesion: str = "") -> CourseChange | None:
        """The change of a lesion, or of a whole region, against a visit; None where there is none."""
        wanted = (visit, region, lesion, against)
        found = (row for row in self.changes if (row.visit, row.region, row.lesion, row.against) == wanted)
        return next(found, None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; inverse of :meth:`from_dict`."""
        held = {entry.name: plain(getattr(self, entry.name)) for entry in fields(self) if entry.name != "regions"}
        return {"schema_version": COURSE_SCHEMA_VERSION, "regions": self.regions.to_dict(), **held}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Course:
        """From plain values.

        Raises:
            ValueError: if they are of another version, or no course.
        """
        if values.get("schema_version") != COURSE_SCHEMA_VERSION:
            raise ValueError(f"its version is {values.get('schema_version')}, not {COURSE_SCHEMA_VERSION}")
        return from_plain(cls, {**values, "regions": RegionSet.from_dict(values.get("regions"))})

    @classmethod
    def load(cls, folder: Path | str) -> Course:
        """The course in a patient's folder, as ``track`` wrote it.

        Raises:
            InputError: if there is none of this version.
        """
        # Core reads no file: the module that does is looked up when it is asked for.
        found: Course = import_module("brats_seg.files.visit_folder").read_course(Path(folder))
        return found
