"""The timeline page of a patient: what it shows, cut from the visits in the common space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.study import MRSequence
from brats_seg.core.volume import Affine, Grid, Volume, apply_affine, box_corners
from brats_seg.io.output import write_text
from brats_seg.longitudinal.course import judged_region
from brats_seg.pipeline.follow import Course
from brats_seg.pipeline.follow_visits import VisitData
from brats_seg.preprocessing.register import resample
from brats_seg.report.figures import Picture
from brats_seg.report.slices import head_box, spread, window_of
from brats_seg.report.timeline import TimelinePictures, render_timeline
from brats_seg.report.timeline_pictures import Slice, picture_of

MOST_VISITS = 6
"""Columns of the aligned views; of more visits, these are spread evenly, first and last included."""
VIEW_PX_PER_MM = 1.7
SLIDER_PX_PER_MM = 3.2
MARGIN_MM = 6.0
SHOWN = (MRSequence.T1CE, MRSequence.FLAIR)
"""Rows of the aligned views, where any visit has the sequence; else the first there is."""


def write_timeline(course: Course, summary: Mapping[str, Any], path: Path) -> None:
    """Draw and write the page.

    Args:
        course: what was found.
        summary: of the course, as :data:`~brats_seg.pipeline.follow_files.COURSE_FILE` holds it.
        path: of the page.

    Raises:
        OutputError: if it cannot be written.
    """
    labels = [visit.label for visit in course.visits]
    growth = [{**entry.to_dict(labels), "curve": [list(point) for point in entry.curve]} for entry in course.growth]
    write_text(path, render_timeline(summary, growth, pictures_of(course)))


def pictures_of(course: Course) -> TimelinePictures:
    """The same axial slice through every visit, and the first and the last one large."""
    region = judged_region(course.assessment.disease)
    height = _slice_index(course, region)
    chosen = spread(0, len(course.visits) - 1, MOST_VISITS)
    sequences = _sequences(course)
    frame = _frame(course, height, sequences)
    rows = []
    for sequence in sequences:
        rows.append(
            (
                sequence.title if sequence else "label map",
                tuple(_picture(course, index, sequence, frame, VIEW_PX_PER_MM) for index in chosen),
            )
        )
    slider: tuple[Picture, ...] = ()
    if len(course.visits) > 1:
        ends = (course.baseline if course.baseline < len(course.visits) - 1 else 0, len(course.visits) - 1)
        slider = tuple(_picture(course, index, sequences[0], frame, SLIDER_PX_PER_MM) for index in ends)
    z = float(course.common.to_world((0, 0, height))[2])
    for visit in course.visits:
        visit.forget_images()
    return TimelinePictures(tuple(rows), slider, f"axial, z {z:.0f} mm in the space of {course.visits[0].label}")


@dataclass(frozen=True, eq=False)
class _Frame:
    """The slice that is shown, and the part of it."""

    grid: Grid
    start: tuple[int, int]
    stop: tuple[int, int]


def _slice_index(course: Course, region: str) -> int:
    """The slice with the most of a region over all visits; of the whole tumour, or the middle, where there is none."""
    for name in (region, "WT"):
        areas = np.zeros(course.common.shape[2])
        for index, visit in enumerate(course.visits):
            for lesion in visit.measurements.lesions_of(name):
                areas += _heights(course, index, lesion.box, lesion.volume_ml)
        if areas.any():
            return int(np.argmax(areas))
    return course.common.shape[2] // 2


def _heights(
    course: Course, index: int, box: tuple[tuple[int, int, int], tuple[int, int, int]], volume_ml: float
) -> NDArray[np.float64]:
    """A lesion's extent along the common z axis, weighted by its mean area."""
    grid = course.visits[index].segmentation.labels.grid
    corners = box_corners(*box)
    world = apply_affine(np.linalg.inv(course.alignments[index].matrix), grid.to_world(corners))
    heights = course.common.to_voxel(world)[:, 2]
    low, high = (float(np.clip(value, 0, course.common.shape[2] - 1)) for value in (heights.min(), heights.max()))
    places = np.arange(course.common.shape[2])
    middle, half = (low + high) / 2, max((high - low) / 2, 0.5)
    # Widest in the middle, as lesions mostly are.
    return np.asarray(volume_ml / half * np.maximum(1 - ((places - middle) / half) ** 2, 0), dtype=np.float64)


def _sequences(course: Course) -> tuple[MRSequence | None, ...]:
    there = {sequence for visit in course.visits for sequence in visit.sequences}
    shown = [sequence for sequence in SHOWN if sequence in there] or sorted(there, key=lambda s: s.value)[:1]
    return tuple(shown) or (None,)


def _frame(course: Course, height: int, sequences: tuple[MRSequence | None, ...]) -> _Frame:
    affine = np.array(course.common.affine)
    affine[:3, 3] = course.common.to_world((0, 0, height))
    x, y, _ = course.common.shape
    grid = Grid((x, y, 1), affine)
    first = course.visits[0]
    own = next((sequence for sequence in sequences if sequence in first.sequences), None)
    if own is None:
        filled = _labels(course, 0, grid).data
        for index in range(1, len(course.visits)):
            filled = filled + _labels(course, index, grid).data
        start, stop = head_box(filled, 0, margin_mm=30.0, spacing_mm=grid.spacing_mm)
    else:
        image = _image(course, 0, own, grid)
        above = window_of(first.image(own).data).head_above
        start, stop = head_box(image.data, above, margin_mm=MARGIN_MM, spacing_mm=grid.spacing_mm)
    return _Frame(grid, start[:2], stop[:2])


def _picture(course: Course, index: int, sequence: MRSequence | None, frame: _Frame, px_per_mm: float) -> Picture:
    visit = course.visits[index]
    there = sequence is not None and sequence in visit.sequences
    shown = Slice(
        visit=visit.label,
        sequence=sequence.title if there and sequence is not None else "",
        image=_image(course, index, sequence, frame.grid) if there and sequence is not None else None,
        window=window_of(visit.image(sequence).data) if there and sequence is not None else None,
        labels=_labels(course, index, frame.grid),
        schema=visit.segmentation.schema,
    )
    return picture_of(shown, start=frame.start, stop=frame.stop, px_per_mm=px_per_mm)


def _labels(course: Course, index: int, grid: Grid) -> Volume:
    labels = course.visits[index].segmentation.labels
    return resample(labels, grid, matrix=course.alignments[index].matrix, order="nearest")


def _image(course: Course, index: int, sequence: MRSequence, grid: Grid) -> Volume:
    visit = course.visits[index]
    return resample(visit.image(sequence), grid, matrix=_to_scan(visit, sequence) @ course.alignments[index].matrix)


def _to_scan(visit: VisitData, sequence: MRSequence) -> Affine:
    """RAS+ mm of the label map to RAS+ mm of a scan, which a registration within the visit may have moved."""
    return np.asarray(visit.registrations.get(sequence, np.eye(4)), dtype=np.float64)
