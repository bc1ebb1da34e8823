"""What the pictures of a study show: its volumes in RAS order, grey levels, the planes and the lesions to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.grid import Array, Grid, Volume
from brats_seg.core.labels import CAVITY, LabelSchema
from brats_seg.core.regions import RegionSet
from brats_seg.core.study import REFERENCE_PREFERENCE, SEQUENCES, MRSequence
from brats_seg.core.visit import Lesion, Visit
from brats_seg.core.words import side_words
from brats_seg.report.slices import View, Window, head_box, nearest_voxel, window_of

PANEL_PX = 580
"""Longest side of a panel, twice what it has on a wide page, so that it stays crisp on dense screens."""
_MAX_PX_PER_MM = 12.0
"""Scale of very small volumes, which are not blown up to full panels."""
_MARGIN_MM = 9.0
"""Black rim around the head, which the letters stand on."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A study in RAS order, ready to be cut.

    Attributes:
        labels: label map.
        schema: the meaning of its numbers.
        images: those there are, on the grid of the label map.
        windows: grey levels of each.
        view: the part that is drawn, at the scale of the panels.
        columns: sequences in the order shown; empty where there is no image at all.
        focus: voxel the three planes meet in.
        doubtful: regions drawn dashed, because a sequence they need was missing.
    """

    labels: Volume
    schema: LabelSchema
    regions: RegionSet
    images: dict[MRSequence, Volume]
    windows: dict[MRSequence, Window]
    view: View
    columns: tuple[MRSequence, ...] = ()
    focus: tuple[int, int, int] = (0, 0, 0)
    doubtful: frozenset[str] = frozenset()

    @property
    def grid(self) -> Grid:
        """Grid in RAS order."""
        return self.labels.grid

    @property
    def drawn(self) -> tuple[str, ...]:
        """Regions that have lines, outermost first."""
        return drawn_names(self.regions, self.schema)

    def mask(self, name: str, labels: Array) -> NDArray[np.bool_]:
        """Mask of a drawn region in a cut of the label map."""
        if name in self.regions.names:
            return self.schema.region_mask(labels, self.regions[name])
        return self.schema.structure_mask(labels, CAVITY)

    def line_px(self, name: str) -> float:
        """Width of the line of a drawn region; one between two others shows on both sides of the inner one's where they
        share a border."""
        region = self.regions[name] if name in self.regions.names else None
        if region is None or not region.inside:
            return 2.4
        return 4.6 if self.regions.within(region) else 2.2

    def best(self, *preferred: MRSequence) -> MRSequence | None:
        """The first of these that there is an image of, then of the usual order; None without images."""
        return next((s for s in (*preferred, *REFERENCE_PREFERENCE) if s in self.images), None)


def drawn_names(regions: RegionSet, schema: LabelSchema) -> tuple[str, ...]:
    """Regions and cavities that pictures have lines for, outermost first."""
    return regions.names + ((CAVITY.name,) if CAVITY in schema.structures else ())


def scene_of(result: Visit) -> Scene:
    """Turn a result to RAS order and decide what its pictures show.

    Raises:
        ValueError: if an image does not lie on the grid of the label map.
    """
    native = result.segmentation.labels
    for sequence, image in result.images.items():
        if not image.grid.same_as(native.grid):
            raise ValueError(
                f"{sequence.title} lies on {image.grid.describe()}, the label map on {native.grid.describe()}"
            )
    labels = native.to_ras()
    images = {sequence: result.images[sequence].to_ras() for sequence in SEQUENCES if sequence in result.images}
    windows = {sequence: window_of(image.data) for sequence, image in images.items()}
    spacing = labels.grid.spacing_mm
    reference = next((s for s in REFERENCE_PREFERENCE if s in images), None)
    if reference is None:
        start, stop = head_box(labels.data, 0, margin_mm=4 * _MARGIN_MM, spacing_mm=spacing)
    else:
        above = windows[reference].head_above
        start, stop = head_box(images[reference].data, above, margin_mm=_MARGIN_MM, spacing_mm=spacing)
    lesion = main_lesion(result)
    if lesion is None:
        focus = nearest_voxel([(a + b - 1) / 2 for a, b in zip(start, stop, strict=True)], labels.grid.shape)
    else:
        focus = nearest_voxel(labels.grid.to_voxel(lesion.centroid_mm), labels.grid.shape)
        start, stop = _include(start, stop, focus)
    longest_mm = max((b - a) * size for a, b, size in zip(start, stop, spacing, strict=True))
    return Scene(
        labels=labels,
        schema=result.segmentation.schema,
        regions=result.segmentation.regions,
        images=images,
        windows=windows,
        columns=tuple(s for s in SEQUENCES if s in images or s in result.segmentation.missing) if images else (),
        view=View(start, stop, spacing, min(PANEL_PX / longest_mm, _MAX_PX_PER_MM)),
        focus=focus,
        doubtful=doubtful_regions(result),
    )


def _include(
    start: tuple[int, int, int], stop: tuple[int, int, int], voxel: tuple[int, int, int]
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """The box, made larger where a voxel lies outside it."""
    low = np.minimum(start, voxel).tolist()
    high = np.maximum(stop, np.asarray(voxel) + 1).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def doubtful_regions(result: Visit) -> frozenset[str]:
    """Regions that cannot be seen without the sequences that are missing."""
    found = result.segmentation
    return frozenset(region.name for region in found.regions if region.lacks(found.missing))


def main_lesion(result: Visit) -> Lesion | None:
    """The largest lesion of an outermost region, else the largest cavity; None where nothing was found."""
    outer = (result.measurements.lesions_of(region)[:1] for region in result.segmentation.regions.outermost)
    largest = max((lesion for found in outer for lesion in found), key=lambda lesion: lesion.volume_ml, default=None)
    return largest or next(iter(result.measurements.lesions_of(CAVITY.name)), None)


def measured_lesion(result: Visit) -> Lesion | None:
    """The lesion whose diameters are drawn: the largest enhancing one, else the largest of an outermost region."""
    regions, doubtful = result.segmentation.regions, doubtful_regions(result)
    bright = [region for region in regions.followed[:1] if region.name not in doubtful]
    lesions = (
        lesion for region in (*bright, *regions.outermost) for lesion in result.measurements.lesions_of(region)[:1]
    )
    return next((lesion for lesion in lesions if lesion.diameters.long_mm > 0), None)


def place_words(result: Visit) -> str:
    """Where the largest lesion lies: ``left, front third of the brain, upper half``; the side alone without images.

    Thirds and halves are of the brain's extent in the scanner's axes, not anatomy.
    """
    lesion = main_lesion(result)
    if lesion is None:
        return ""
    words = [side_words(lesion.side)] if lesion.side else []
    reference = next((s for s in REFERENCE_PREFERENCE if s in result.images), None)
    if reference is not None:
        image = result.images[reference].to_ras()
        window = window_of(image.data)
        start, stop = head_box(image.data, window.head_above, margin_mm=0.0, spacing_mm=image.grid.spacing_mm)
        voxel = image.grid.to_voxel(lesion.centroid_mm)
        share = [(x - a) / max(b - 1 - a, 1) for x, a, b in zip(voxel, start, stop, strict=True)]
        words.append(f"{('back', 'middle', 'front')[min(max(int(3 * share[1]), 0), 2)]} third of the brain")
        words.append("upper half" if share[2] >= 0.5 else "lower half")
    return ", ".join(words)
