"""The pictures of one study: three planes by four sequences, a strip of slices, and the measured diameters; and one
slice alone, as the pages of a course show it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.study import MRSequence
from brats_seg.core.visit import Lesion, Visit
from brats_seg.report.canvas import Canvas, jpeg_bytes, outlines, png_bytes
from brats_seg.report.scene import Scene, measured_lesion, scene_of
from brats_seg.report.slices import AXIAL, PLANES, SAGITTAL, Plane, View, cut, nearest_voxel, spread

OUTLINE_SCALE = 0.6
"""Size of the pictures of the brain's outline, as a share of the panels'."""
OUTLINE_COLOUR = "#F0E442"

STRIP_SLICES = 14
"""Pictures in the strip at most: two rows of seven on a wide page."""
STRIP_SCALE = 0.66
"""Scale of the strip against that of the panels."""
SCALE_BARS_MM = (5, 10, 20, 50, 100)
_LETTER_PX = 25
_NOTE_PX = 22
_GAP_PX = 8
_HEADER_PX = 48
_FOOTER_PX = 92
_DIAMETER_MARGIN_MM = 22.0
_DIAMETER_SIDE_PX = 640
_EMPTY_GREY = 26
_SMALL_LETTER_PX = 19
_SMALL_LINE_SHARE = 0.6
"""Lines of a slice alone are thinner than in the report of one study, whose panels are larger."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture for the page.

    Attributes:
        data: JPEG bytes.
        title: a word or two to stand over it.
        alt: what it shows, for those who cannot see it.
    """

    data: bytes
    width: int
    height: int
    title: str
    alt: str

    @property
    def source(self) -> str:
        """As it stands in a page, which loads nothing."""
        return "data:image/jpeg;base64," + base64.b64encode(self.data).decode("ascii")


@dataclass(frozen=True)
class ReportPictures:
    """All pictures of the page.

    Attributes:
        planes: one for each sequence, three planes below each other.
        strip: axial slices from the lowest to the highest.
        strip_sequence: the sequence the strip shows; empty without images.
        diameters: the slice the leading lesion was measured on, or None where there is none.
        overlay: PNG of the planes of every sequence beside each other, with legend and scale.
        outlines: one for each sequence with the outline of the brain that was extracted; none where it was not.
    """

    planes: tuple[Picture, ...]
    strip: tuple[Picture, ...]
    strip_sequence: str
    diameters: Picture | None
    overlay: bytes
    outlines: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class _Shot:
    """What one picture shows: a slice of a sequence (None: no image, lines only) in a view."""

    view: View
    plane: Plane
    index: int
    sequence: MRSequence | None


def report_pictures(result: Visit) -> ReportPictures:
    """The pictures of the page, each cut from a sheet that is drawn once.

    Raises:
        ValueError: if an image lies on another grid than the label map.
    """
    scene = scene_of(result)
    sequence = scene.best()
    lesion = measured_lesion(result)
    overlay = _overlay(scene, result.segmentation.study_id)
    return ReportPictures(
        planes=_plane_pictures(scene, overlay),
        strip=_strip_pictures(scene, sequence),
        strip_sequence=sequence.title if sequence else "",
        diameters=_diameter_picture(result, scene, lesion) if lesion else None,
        overlay=png_bytes(overlay),
        outlines=_outline_pictures(scene, result.brain.to_ras()) if result.brain is not None else (),
    )


def _panel_sizes(scene: Scene) -> tuple[int, list[int]]:
    sizes = [scene.view.size_px(plane) for plane in PLANES]
    return max(width for width, _ in sizes), [height for _, height in sizes]


def _draw_column(canvas: Canvas, scene: Scene, sequence: MRSequence | None, left: int, top: int) -> None:
    """The three planes of one sequence below each other."""
    column_px, rows_px = _panel_sizes(scene)
    for plane, height in zip(PLANES, rows_px, strict=True):
        if sequence is None or sequence in scene.images:
            inset = left + (column_px - scene.view.size_px(plane)[0]) // 2
            _draw_slice(canvas, scene, _Shot(scene.view, plane, scene.focus[plane.normal], sequence), (inset, top))
            note = f"{plane.name} {_position_text(scene.grid, plane, scene.focus[plane.normal])}"
            canvas.text(note, left + 8, top + 8, size_px=_NOTE_PX, outlined=True)
            _draw_marks(canvas, plane, (inset, top, scene.view.size_px(plane)[0], height), scene.view.px_per_mm)
        else:
            canvas.box(left, top, column_px, height, f"#{_EMPTY_GREY:02x}{_EMPTY_GREY:02x}{_EMPTY_GREY:02x}")
            canvas.text("not available", left + column_px / 2, top + height / 2, size_px=28, align="cc")
        top += height + _GAP_PX


def slice_picture(scene: Scene, sequence: MRSequence | None, title: str) -> Picture:
    """The first axial slice of a scene, with the outlines of what was found.

    Args:
        sequence: that is shown; None draws outlines alone.
        title: of the visit it is from.
    """
    width, height = scene.view.size_px(AXIAL)
    canvas = Canvas(width, height)
    _draw_slice(canvas, scene, _Shot(scene.view, AXIAL, 0, sequence), (0, 0), line_share=_SMALL_LINE_SHARE)
    _draw_sides(canvas, width, _SMALL_LETTER_PX)
    shown = sequence.title if sequence else "label map"
    alt = f"Visit {title}, {shown}: axial slice with the outlines of the regions found."
    return _cut_picture(canvas.render(), (0, 0, width, height), title, alt)


def _draw_sides(canvas: Canvas, width: int, size_px: float) -> None:
    """R and L at the edges of an axial picture of that width."""
    canvas.text("R", 5, canvas.height / 2, size_px=size_px, align="lc", outlined=True)
    canvas.text("L", width - 5, canvas.height / 2, size_px=size_px, align="rc", outlined=True)


def _draw_slice(canvas: Canvas, scene: Scene, shot: _Shot, corner: tuple[int, int], *, line_share: float = 1.0) -> None:
    """One picture with the lines of its regions, upper left corner at ``corner``."""
    view, plane = shot.view, shot.plane
    if shot.sequence is not None:
        picture = view.crop(cut(scene.images[shot.sequence].data, plane, shot.index), plane)
        canvas.image(scene.windows[shot.sequence].grey(view.stretch(picture, plane)), *corner)
    labels = view.crop(cut(scene.labels.data, plane, shot.index), plane)
    if not labels.any():
        return
    for name in scene.drawn:
        lines = [view.pixels_of(line, plane) + corner for line in outlines(scene.mask(name, labels))]
        width = scene.line_px(name) * line_share * min(1.0, 0.35 + 0.65 * view.px_per_mm / scene.view.px_per_mm)
        canvas.lines(lines, scene.regions.colours[name], width_px=width, dashed=name in scene.doubtful)


def _draw_marks(canvas: Canvas, plane: Plane, box: tuple[int, int, int, int], px_per_mm: float) -> None:
    """Letters at the four edges and a scale bar at the lower left."""
    left, top, width, height = box
    west, east, north, south = plane.marks
    for words, x, y, align in (
        (west, left + 6, top + height / 2, "lc"),
        (east, left + width - 6, top + height / 2, "rc"),
        (north, left + width / 2, top + 3, "ct"),
        (south, left + width / 2, top + height - 3, "cb"),
    ):
        canvas.text(words, x, y, size_px=_LETTER_PX, align=align, outlined=True)
    _draw_scale(canvas, left + 12, top + height - 12, width, px_per_mm)


def _draw_scale(canvas: Canvas, x: float, y: float, width: float, px_per_mm: float) -> None:
    """A bar of a round number of millimetres, at most 40 % of a picture's width, with its length above it."""
    length_mm = max((mm for mm in SCALE_BARS_MM if mm * px_per_mm <= 0.4 * width), default=SCALE_BARS_MM[0])
    length = length_mm * px_per_mm
    canvas.lines([np.array([(x, y), (x + length, y)])], "black", width_px=7)
    canvas.lines([np.array([(x, y), (x + length, y)])], "white", width_px=3)
    canvas.text(f"{length_mm} mm", x, y - 7, size_px=_NOTE_PX, align="lb", outlined=True)


def _draw_footer(canvas: Canvas, scene: Scene, study_id: str) -> None:
    """Legend, convention and the study's name."""
    x, y = 16.0, canvas.height - _FOOTER_PX + 30.0
    for name in scene.drawn:
        words = scene.regions.title(name) + (" (estimate)" if name in scene.doubtful else "")
        canvas.lines(
            [np.array([(x, y), (x + 44, y)])], scene.regions.colours[name], width_px=6, dashed=name in scene.doubtful
        )
        canvas.text(f"{name}  {words}", x + 56, y, size_px=26, align="lc")
        x += 56 + 14.5 * (len(words) + 5) + 24
    note = f"{study_id}   ·   patient's left on the right of axial and coronal pictures   ·   research use"
    canvas.text(note, 16, canvas.height - 24, size_px=_NOTE_PX, align="lc", colour="#B0B0B0")


def _position_text(grid: Grid, plane: Plane, index: int) -> str:
    """Where a slice lies, in scanner millimetres along its normal: ``z 23 mm``."""
    voxel = [(n - 1) / 2 for n in grid.shape]
    voxel[plane.normal] = index
    position = round(float(grid.to_world(voxel)[plane.normal]) + 1e-6)
    return f"{'xyz'[plane.normal]} {position} mm"


def _overlay(scene: Scene, study_id: str) -> NDArray[np.uint8]:
    column_px, rows_px = _panel_sizes(scene)
    count = max(1, len(scene.columns))
    width = max(count * (column_px + _GAP_PX) - _GAP_PX, 1100)
    height = _HEADER_PX + sum(rows_px) + 2 * _GAP_PX + _FOOTER_PX
    canvas = Canvas(width, height)
    for number, sequence in enumerate(scene.columns or (None,)):
        left = number * (column_px + _GAP_PX)
        title = sequence.title if sequence else "label map"
        canvas.text(title, left + column_px / 2, _HEADER_PX / 2, size_px=30, align="cc")
        _draw_column(canvas, scene, sequence, left, _HEADER_PX)
    _draw_footer(canvas, scene, study_id)
    return canvas.render()


def _plane_pictures(scene: Scene, overlay: NDArray[np.uint8]) -> tuple[Picture, ...]:
    """One picture for each sequence, cut from the overlay."""
    column_px, rows_px = _panel_sizes(scene)
    height = sum(rows_px) + 2 * _GAP_PX
    pictures = []
    for number, sequence in enumerate(scene.columns or (None,)):
        title = sequence.title if sequence else "Label map"
        if sequence is None or sequence in scene.images:
            alt = f"{title}: axial, coronal and sagittal slice with the outlines of the regions found."
        else:
            alt = f"{title}: not available."
        box = (number * (column_px + _GAP_PX), _HEADER_PX, column_px, height)
        pictures.append(_cut_picture(overlay, box, title, alt))
    return tuple(pictures)


def _strip_pictures(scene: Scene, sequence: MRSequence | None) -> tuple[Picture, ...]:
    """Axial slices across what was found, one slice further at both ends; across the head where nothing was."""
    filled = np.flatnonzero(scene.labels.data.any(axis=(0, 1)))
    if filled.size:
        last_slice = scene.grid.shape[2] - 1
        indices = spread(max(0, int(filled[0]) - 1), min(last_slice, int(filled[-1]) + 1), STRIP_SLICES)
    else:
        tenth = (scene.view.stop[2] - scene.view.start[2]) // 10
        indices = spread(scene.view.start[2] + tenth, scene.view.stop[2] - 1 - tenth, STRIP_SLICES)
    view = replace(scene.view, px_per_mm=scene.view.px_per_mm * STRIP_SCALE)
    width, height = view.size_px(AXIAL)
    canvas = Canvas(width * len(indices), height)
    for number, index in enumerate(indices):
        _draw_slice(canvas, scene, _Shot(view, AXIAL, index, sequence), (number * width, 0))
        position = _position_text(scene.grid, AXIAL, index)
        canvas.text(position, number * width + 6, 5, size_px=_NOTE_PX, outlined=True)
    _draw_sides(canvas, width, _NOTE_PX)
    _draw_scale(canvas, 10, height - 10, width, view.px_per_mm)
    sheet = canvas.render()
    title = sequence.title if sequence else "Label map"
    return tuple(
        _cut_picture(
            sheet,
            (number * width, 0, width, height),
            title,
            f"{title}, axial slice at {_position_text(scene.grid, AXIAL, index)} with outlines.",
        )
        for number, index in enumerate(indices)
    )


def _outline_pictures(scene: Scene, brain: Volume) -> tuple[Picture, ...]:
    """For each sequence the brain's outline, on the axial slice that shows most of it and the middle sagittal one."""
    view = replace(scene.view, px_per_mm=scene.view.px_per_mm * OUTLINE_SCALE)
    widest = int(np.argmax(brain.data.sum(axis=(0, 1), dtype=np.int64)))
    middle = int(np.median(np.flatnonzero(brain.data.any(axis=(1, 2)))))
    shown = ((AXIAL, widest), (SAGITTAL, middle))
    width = max(view.size_px(plane)[0] for plane, _ in shown)
    pictures = []
    for sequence, image in scene.images.items():
        canvas = Canvas(width, sum(view.size_px(plane)[1] for plane, _ in shown))
        top = 0
        for plane, index in shown:
            columns, rows = view.size_px(plane)
            corner = ((width - columns) // 2, top)
            grey = scene.windows[sequence].grey(view.stretch(view.crop(cut(image.data, plane, index), plane), plane))
            canvas.image(grey, *corner)
            lines = outlines(view.crop(cut(brain.data > 0, plane, index), plane))
            canvas.lines([view.pixels_of(line, plane) + corner for line in lines], OUTLINE_COLOUR, width_px=2.0)
            canvas.text(
                f"{plane.name} {_position_text(scene.grid, plane, index)}", 6, top + 5, size_px=_NOTE_PX, outlined=True
            )
            top += rows
        alt = f"{sequence.title}: axial and sagittal slice with the outline of the brain that was extracted."
        pictures.append(_cut_picture(canvas.render(), (0, 0, canvas.width, canvas.height), sequence.title, alt))
    return tuple(pictures)


def _diameter_picture(result: Visit, scene: Scene, lesion: Lesion) -> Picture:
    """The slice a lesion was measured on, enlarged, with both diameters."""
    measured = lesion.diameters
    normal = result.segmentation.labels.grid.axis_order[measured.axis][0]
    plane = next(plane for plane in PLANES if plane.normal == normal)
    ends = scene.grid.to_voxel([*measured.long_ends_mm, *measured.short_ends_mm])
    index = nearest_voxel(ends[0], scene.grid.shape)[normal]
    view = _close_up(scene, plane, ends)
    sequence = scene.best(*scene.regions[lesion.region].shown_by)
    width, height = view.size_px(plane)
    canvas = Canvas(width, height)
    _draw_slice(canvas, scene, _Shot(view, plane, index, sequence), (0, 0))
    points = view.to_px(ends, plane)
    for first, length in ((0, measured.long_mm), (2, measured.short_mm)):
        if length > 0:
            canvas.lines([points[first : first + 2]], "black", width_px=5)
            canvas.lines([points[first : first + 2]], "white", width_px=2.4)
    _draw_marks(canvas, plane, (0, 0, width, height), view.px_per_mm)
    title = sequence.title if sequence else "Label map"
    canvas.text(f"{plane.name} {_position_text(scene.grid, plane, index)}", 8, 8, size_px=_NOTE_PX, outlined=True)
    alt = (
        f"{title}, {plane.name} slice: diameters of {lesion.region} lesion {lesion.number}, "
        f"{measured.long_mm:.0f} by {measured.short_mm:.0f} mm."
    )
    return _cut_picture(canvas.render(), (0, 0, width, height), title, alt)


def _close_up(scene: Scene, plane: Plane, ends: NDArray[np.float64]) -> View:
    """A square around both diameters, as far as the volume reaches."""
    spacing = scene.grid.spacing_mm
    axes = (plane.across, plane.up)
    extent = max(float(np.ptp(ends[:, axis])) * spacing[axis] for axis in axes) / 2 + _DIAMETER_MARGIN_MM
    start, stop = list(scene.view.start), list(scene.view.stop)
    for axis in axes:
        middle = float(ends[:, axis].min() + ends[:, axis].max()) / 2
        start[axis] = int(np.clip(np.floor(round(middle - extent / spacing[axis], 4)), 0, scene.grid.shape[axis] - 1))
        stop[axis] = int(
            np.clip(np.ceil(round(middle + extent / spacing[axis], 4)), start[axis] + 1, scene.grid.shape[axis])
        )
    side_mm = max((stop[axis] - start[axis]) * spacing[axis] for axis in axes)
    return View(
        (start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), spacing, round(_DIAMETER_SIDE_PX / side_mm, 3)
    )


def _cut_picture(sheet: NDArray[np.uint8], box: tuple[int, int, int, int], title: str, alt: str) -> Picture:
    left, top, width, height = box
    part = sheet[top : top + height, left : left + width]
    return Picture(jpeg_bytes(part), width, height, title, alt)
