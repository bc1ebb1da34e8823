"""The timeline page of a patient: what it shows, cut from the visits in the common space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.course import Course
from brats_seg.core.grid import Grid, Volume, apply_affine, box_corners
from brats_seg.core.study import MRSequence
from brats_seg.files.output import write_text
from brats_seg.imaging.register import resample
from brats_seg.report.figures import Picture, slice_picture
from brats_seg.report.scene import Scene
from brats_seg.report.slices import View, head_box, spread, window_of
from brats_seg.report.timeline import TimelinePictures, render_timeline
from brats_seg.track.follow import Followed
from brats_seg.track.lesions import LesionRow
from brats_seg.track.match import Relation

MOST_VISITS = 6
"""Columns of the aligned views; of more visits, these are spread evenly, first and last included."""
MOST_PLACES = 3
"""Slices that are shown."""
APART_VOXELS = 6
"""Slices nearer to each other than this show the same."""
VIEW_PX_PER_MM = 1.7
SLIDER_PX_PER_MM = 3.2
MARGIN_MM = 6.0
SHOWN = (MRSequence.T1CE, MRSequence.FLAIR)
"""Rows of the aligned views, where any visit has the sequence; else the first there is."""


def write_timeline(found: Followed, course: Course, path: Path, *, cohort: str = "") -> None:
    """Draw and write the page.

    Args:
        found: the visits as they were followed, for the pictures.
        cohort: where the page of all patients lies from it; empty without one.

    Raises:
        OutputError: if it cannot be written.
    """
    labels = [visit.label for visit in found.visits]
    growth = [{**entry.to_dict(labels), "curve": [list(point) for point in entry.curve]} for entry in found.growth]
    write_text(path, render_timeline(course, growth, pictures_of(found), cohort=cohort))


def pictures_of(course: Followed) -> TimelinePictures:
    """The same axial slices through every visit, that of what decided first, and the first and the last one large."""
    chosen = spread(0, len(course.visits) - 1, MOST_VISITS)
    there = {sequence for visit in course.visits for sequence in visit.sequences}
    shown = [sequence for sequence in SHOWN if sequence in there] or sorted(there, key=lambda s: s.value)[:1]
    sequences: tuple[MRSequence | None, ...] = tuple(shown) or (None,)
    places = _places(course)
    rows = []
    for number, (height, words) in enumerate(places):
        grid, view = _frame(course, height, sequences)
        for sequence in sequences if number == 0 else sequences[:1]:
            name = sequence.title if sequence else "label map"
            rows.append((f"{name}, {words}", tuple(_picture(course, index, sequence, grid, view) for index in chosen)))
    slider: tuple[Picture, ...] = ()
    if len(course.visits) > 1:
        ends = (course.baseline if course.baseline < len(course.visits) - 1 else 0, len(course.visits) - 1)
        grid, view = _frame(course, places[0][0], sequences)
        large = replace(view, px_per_mm=SLIDER_PX_PER_MM)
        slider = tuple(_picture(course, index, sequences[0], grid, large) for index in ends)
    return TimelinePictures(tuple(rows), slider, f"axial, heights z in the space of {course.visits[0].label}")


def _places(course: Followed) -> list[tuple[int, str]]:
    """Slices to show and why: new lesions since the baseline, the most of the judged region, of the whole at last."""
    regions = course.visits[0].segmentation.regions
    region, whole = regions.leading(course.assessment.disease).name, regions.outermost[0].name
    last = len(course.visits) - 1
    new = [
        (row.volume_ml, _middle(course, row), f"new {row.lesion} at {course.visits[row.visit].label}")
        for name in dict.fromkeys((region, *course.lesions))
        for row in course.lesions[name].rows
        if row.relation is Relation.NEW and row.measurable and row.visit > course.baseline and row.centroid_mm
    ]
    wanted = [(height, words) for _, height, words in sorted(new, key=lambda entry: -entry[0])[: MOST_PLACES - 1]]
    wanted.append((_slice_index(course, region, range(last + 1)), f"most of {region}"))
    wanted.append((_slice_index(course, whole, (last,)), f"most of {whole} at {course.visits[last].label}"))
    places: list[tuple[int, str]] = []
    for height, words in wanted:
        if all(abs(height - other) >= APART_VOXELS for other, _ in places):
            z = float(course.common.to_world((0, 0, height))[2])
            places.append((height, f"z {z:.0f} mm: {words}"))
    return places[:MOST_PLACES]


def _middle(course: Followed, row: LesionRow) -> int:
    """Height of a lesion in the common space."""
    world = apply_affine(np.linalg.inv(course.motions[row.visit].matrix), np.array([row.centroid_mm]))
    return int(np.clip(np.rint(course.common.to_voxel(world)[0, 2]), 0, course.common.shape[2] - 1))


def _slice_index(course: Followed, region: str, visits: Iterable[int]) -> int:
    """The slice with the most of a region over some visits; of the whole tumour, or the middle, where there is none."""
    chosen = list(visits)
    for name in (region, course.visits[0].segmentation.regions.outermost[0].name):
        areas = np.zeros(course.common.shape[2])
        for index in chosen:
            for lesion in course.visits[index].measurements.lesions_of(name):
                areas += _heights(course, index, lesion.box, lesion.volume_ml)
        if areas.any():
            return int(np.argmax(areas))
    return course.common.shape[2] // 2


def _heights(
    course: Followed, index: int, box: tuple[tuple[int, int, int], tuple[int, int, int]], volume_ml: float
) -> NDArray[np.float64]:
    """A lesion's extent along the common z axis, weighted by its mean area."""
    grid = course.visits[index].segmentation.labels.grid
    corners = box_corners(*box)
    world = apply_affine(np.linalg.inv(course.motions[index].matrix), grid.to_world(corners))
    heights = course.common.to_voxel(world)[:, 2]
    low, high = (float(np.clip(value, 0, course.common.shape[2] - 1)) for value in (heights.min(), heights.max()))
    places = np.arange(course.common.shape[2])
    middle, half = (low + high) / 2, max((high - low) / 2, 0.5)
    # Widest in the middle, as lesions mostly are.
    return np.asarray(volume_ml / half * np.maximum(1 - ((places - middle) / half) ** 2, 0), dtype=np.float64)


def _frame(course: Followed, height: int, sequences: tuple[MRSequence | None, ...]) -> tuple[Grid, View]:
    """The slice that is shown, and the part of it."""
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
        above = window_of(first.images[own].data).head_above
        start, stop = head_box(image.data, above, margin_mm=MARGIN_MM, spacing_mm=grid.spacing_mm)
    return grid, View(start, stop, grid.spacing_mm, VIEW_PX_PER_MM)


def _picture(course: Followed, index: int, sequence: MRSequence | None, grid: Grid, view: View) -> Picture:
    visit = course.visits[index]
    shown = [] if sequence is None or sequence not in visit.sequences else [sequence]
    scene = Scene(
        labels=_labels(course, index, grid),
        schema=visit.segmentation.schema,
        regions=visit.segmentation.regions,
        images={sequence: _image(course, index, sequence, grid) for sequence in shown},
        windows={sequence: window_of(visit.images[sequence].data) for sequence in shown},
        view=view,
    )
    return slice_picture(scene, shown[0] if shown else None, visit.label)


def _labels(course: Followed, index: int, grid: Grid) -> Volume:
    labels = course.visits[index].segmentation.labels
    return resample(labels, grid, matrix=course.motions[index].matrix, order="nearest")


def _image(course: Followed, index: int, sequence: MRSequence, grid: Grid) -> Volume:
    visit, matrix = course.visits[index], course.motions[index].matrix
    if sequence in visit.motions:  # a registration within the visit moved it
        matrix = visit.motions[sequence].matrix @ matrix
    return resample(visit.images[sequence], grid, matrix=matrix)
