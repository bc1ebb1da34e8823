"""Widths and limits of the paired measurement of change."""

from __future__ import annotations

from dataclasses import dataclass

from brats_seg.core.errors import InputError


@dataclass(frozen=True)
class ChangeConfig:
    """Settings of :func:`brats_seg.track.boundary_shift.change.measure_change`.

    Widths were chosen on phantom lesions of 10 to 30 mm, where the error hardly depends on them.

    Attributes:
        band_mm: half width of the border band in which the change is measured, for 1 mm voxels; thicker slices and
            larger changes widen it.
        search_mm: half width of the band in which the border is looked for, for 1 mm voxels; masks may err so far.
        reach_mm: half width of the tissue the edge is fitted to, for 1 mm voxels.
        level_mm: width (sigma) of the kernel in which the local contrast is found.
        patch_mm: width (sigma) of the patches of border that share one displacement.
        z_score: interval half width in standard deviations; 1.96 for 95 %.
        contrast_error: standard deviation of the contrast as a share of it, over one patch of 4 pi level_mm^2 of
            border; chosen so that intervals of phantom lesions hold the truth as often as they should.
        min_surround_voxels: brain around the lesion needed to match the two images.
        max_shift_mm: largest shift that may remain after registration; the fit is linear in it.
        min_contrast: least contrast across the border over the noise of one voxel.
        max_level: largest change of the lesion's brightness, as a share of the contrast.
        min_seen: least share of the border inside brain.
        min_dice: least overlap of the two masks after registration, and of the two cores of a rim.
        min_rim_mm: least mean thickness of a rim, for 1 mm voxels; in thinner ones the borders are not told apart.
        max_move_mm: largest mean displacement of the border that the band takes in.
        max_disagreement_mm: between masks and images, of the change of diameter.
    """

    band_mm: float = 1.25
    search_mm: float = 2.0
    reach_mm: float = 3.0
    level_mm: float = 2.0
    patch_mm: float = 3.0
    z_score: float = 1.96
    contrast_error: float = 0.25
    min_surround_voxels: int = 500
    max_shift_mm: float = 1.0
    min_contrast: float = 1.5
    max_level: float = 0.5
    min_seen: float = 0.7
    min_dice: float = 0.5
    min_rim_mm: float = 2.5
    max_move_mm: float = 2.0
    max_disagreement_mm: float = 2.5

    def __post_init__(self) -> None:
        widths = (self.band_mm, self.search_mm, self.reach_mm, self.level_mm, self.patch_mm, self.z_score)
        if min(widths) <= 0:
            raise InputError(f"widths of the border and the z-score must be positive, not {widths}")
        if self.reach_mm < max(self.band_mm, self.search_mm):
            raise InputError(
                f"reach_mm {self.reach_mm:g} must not be smaller than band_mm {self.band_mm:g} or search_mm "
                f"{self.search_mm:g}"
            )


DEFAULT = ChangeConfig()
