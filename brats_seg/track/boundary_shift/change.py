"""The change of one lesion between two visits, measured in both images at once.

The difference of two volumes carries the errors of two borders. Here only the difference of the two images counts:
where nothing changed it is noise, so that the errors of the masks, the lesion's texture and the anatomy around it
drop out. The method, symmetric in the two visits throughout:

1. Both images are resampled once into the space half-way between them (:mod:`.frame`).
2. The shift that registration left is found in the tissue around the lesion, and removed (:mod:`.match`).
3. The border, taken from both masks, is moved to half height of the mean image. The difference of the images,
   integrated across the border above its own level on either side, and divided by the contrast between lesion and
   surround, is the displacement of the border; displacement times area is the change of volume
   (:mod:`.border`). Brightness of lesion and surround may differ between visits.

A lesion that enhances in a rim around a core has two borders, and both are measured (:mod:`.rim`): its change is
that of the volume that enhances, what the outer border gained and what the inner one gained.

Step 3 is a boundary shift integral (Freeborough and Fox, IEEE Trans Med Imaging 1997;16:623,
doi:10.1109/42.640753) with a local contrast instead of one intensity window; the half-way space follows Leung et al.,
NeuroImage 2012;59:3995 (doi:10.1016/j.neuroimage.2011.10.068).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine
from brats_seg.track.boundary_shift.border import Border, find_border
from brats_seg.track.boundary_shift.frame import Frame, LesionScan, make_frame
from brats_seg.track.boundary_shift.match import Match, match
from brats_seg.track.boundary_shift.rim import find_rim
from brats_seg.track.growth import sphere_diameter_mm

Z_SCORE = 1.96
"""Half width of an interval in standard deviations."""
LEAST_SURROUND = 500
"""Voxels of brain around the lesion that are needed to match the two images."""
MAX_SHIFT_MM = 1.0
"""The largest shift that may remain after registration; the fit is linear in it."""
MIN_CONTRAST = 1.5
"""Of the border, over the noise of one voxel."""
MAX_LEVEL = 0.5
"""Change of the lesion's brightness, as a share of the contrast."""
MIN_SEEN = 0.7
"""Share of the border inside brain."""
MIN_DICE = 0.5
"""Overlap of the two masks after registration, and of the two cores of a rim."""
MIN_RIM_MM = 2.5
"""Mean thickness of a rim, for voxels of 1 mm; in thinner ones the borders are not told apart."""
MAX_MOVE_MM = 2.0
"""Mean displacement of the border that the band takes in."""
MAX_DISAGREEMENT_MM = 2.5
"""Between masks and images, of the change of diameter."""


class Interval(NamedTuple):
    """A number and the range it lies in with 95 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LesionChange:
    """How much a lesion changed from the first to the second visit; growth is positive.

    Attributes:
        change_ml: change of volume, of a rim without its core; None where it could not be measured at all.
        diameter_change_mm: change of the diameter of a ball of the same volume; None with ``change_ml``.
        first_ml: volume at the first visit, such that both together are the mean volume by partial-volume edges.
        second_ml: the same at the second visit.
        masks_ml: difference of the two masks' volumes, each on its own grid, for comparison.
        masks_mm: the same as a change of diameter.
        contrast_to_noise: mean contrast across the border over the noise of one voxel of one image.
        shift_mm: length of the shift that remained after registration, and was removed.
        reasons: why the result cannot be trusted, in words; empty if it can.
        rim_mm: mean thickness of a lesion that enhances in a rim around a core; None for a solid one.
    """

    change_ml: Interval | None
    diameter_change_mm: Interval | None
    first_ml: float | None
    second_ml: float | None
    masks_ml: float
    masks_mm: float
    area_mm2: float = 0.0
    contrast_to_noise: float = 0.0
    shift_mm: float = 0.0
    reasons: tuple[str, ...] = ()
    rim_mm: float | None = None

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the result."""
        return not self.reasons


def measure_change(first: LesionScan, second: LesionScan, *, matrix: Affine) -> LesionChange:
    """Measure the change of one lesion between two visits.

    Args:
        first: image of the sequence on which the lesion stands out, and the lesion's mask.
        second: the same sequence at the other visit, on any grid.
        matrix: 4x4, RAS+ mm of the first scan to RAS+ mm of the second, as ``register_rigid(second, first).matrix``
            of :mod:`brats_seg.imaging.register`.

    Returns:
        The change with its interval. With the visits exchanged (and ``matrix`` inverted) the same with the other sign.

    Raises:
        InputError: if the matrix is not a rigid motion.
    """
    before, after = (float(scan.mask.sum()) * scan.image.grid.voxel_ml for scan in (first, second))
    masks_ml, masks_mm = after - before, sphere_diameter_mm(after) - sphere_diameter_mm(before)
    refused = partial(LesionChange, None, None, None, None, masks_ml, masks_mm)
    if reason := _unmatched(first, second):
        return refused(reasons=(reason,))
    _check_rigid(matrix)
    frame = make_frame(first, second, matrix)
    if frame.surround.sum() < LEAST_SURROUND:
        reason = (
            f"only {int(frame.surround.sum())} voxels of brain around the lesion are seen at both visits; "
            f"{LEAST_SURROUND} are needed to match the images"
        )
        return refused(reasons=(reason,))
    matched = match(frame)
    border = border_of(frame, matched)
    return _result(frame, matched, border, (masks_ml, masks_mm))


def border_of(frame: Frame, matched: Match) -> Border:
    """The border of a solid lesion, or both borders of a rim."""
    if matched.rim is None:
        return find_border(frame, matched)
    return find_rim(frame, matched, matched.rim)


def _unmatched(first: LesionScan, second: LesionScan) -> str:
    """Why there is no border to compare; empty where there is one."""
    there = bool(first.mask.any()), bool(second.mask.any())
    if not any(there):
        return "no lesion at either visit: both masks are empty"
    if not there[0]:
        return "the lesion is new: the first mask is empty, so there is no border to compare"
    return "" if there[1] else "the lesion vanished: the second mask is empty, so there is no border to compare"


def _check_rigid(matrix: Affine) -> None:
    turn = np.asarray(matrix, dtype=np.float64)
    if turn.shape != (4, 4) or not np.isfinite(turn).all():
        raise InputError(f"the motion between the visits is not a finite 4x4 matrix: {turn.tolist()}")
    off = float(np.abs(turn[:3, :3].T @ turn[:3, :3] - np.eye(3)).max())
    if off > 1e-3 or np.linalg.det(turn[:3, :3]) < 0:
        raise InputError(
            f"the motion between the visits is not rigid (off by {off:.2g}); pass the matrix of register_rigid, from "
            "RAS+ millimetres of the first scan to those of the second"
        )


def _result(frame: Frame, matched: Match, border: Border, masks: tuple[float, float]) -> LesionChange:
    change, volume = border.change_mm3, border.volume_mm3
    half = Z_SCORE * border.deviation_mm3
    found = LesionChange(
        *(None, None, None, None),
        *masks,
        border.area_mm2,
        matched.contrast_to_noise(border.contrast),
        matched.shift_length_mm,
        _doubts(frame, matched, border, masks),
        border.rim_mm,
    )
    if volume <= abs(change) / 2 + half:
        words = f"the change ({change / 1000:.2f} ml) is as large as the lesion ({volume / 1000:.2f} ml)"
        return replace(found, reasons=(*found.reasons, words))

    def diameter(value: float) -> float:
        ends = (volume + value / 2) / 1000, (volume - value / 2) / 1000
        return sphere_diameter_mm(ends[0]) - sphere_diameter_mm(ends[1])

    ends = change, change - half, change + half
    return replace(
        found,
        change_ml=Interval(*(value / 1000 for value in ends)),
        diameter_change_mm=Interval(*(diameter(value) for value in ends)),
        first_ml=(volume - change / 2) / 1000,
        second_ml=(volume + change / 2) / 1000,
    )


def _doubts(frame: Frame, matched: Match, border: Border, masks: tuple[float, float]) -> tuple[str, ...]:
    """Everything that speaks against the result, in words."""
    ratio = matched.contrast_to_noise(border.contrast)
    uncertain = matched.shift_deviation_mm
    level = abs(border.level / border.contrast) if border.contrast else np.inf
    found_mm = 2 * border.change_mm3 / max(border.area_mm2, 1.0)
    # a rim's volume says nothing about its diameter: what the masks gained is spread over both borders, too
    masks_mm = masks[1] if matched.rim is None else 2000 * masks[0] / max(border.area_mm2, 1.0)
    rim_mm = np.inf if border.rim_mm is None else border.rim_mm
    core_dice = 1.0 if matched.rim is None else matched.rim.core_dice
    shift_mm = matched.shift_length_mm
    doubts = {
        f"the registration is poor: {shift_mm:.1f} mm of shift remain, {MAX_SHIFT_MM:g} at most": (
            shift_mm > MAX_SHIFT_MM
        ),
        f"the registration cannot be checked: the tissue around fixes it to {uncertain:.2f} mm only": (
            uncertain > MAX_SHIFT_MM / 2
        ),
        f"the contrast between lesion and surround is {ratio:.1f} times the noise, {MIN_CONTRAST:g} at least": (
            ratio < MIN_CONTRAST
        ),
        f"the lesion's brightness changed by {level:.0%} of its contrast, {MAX_LEVEL:.0%} at most": (level > MAX_LEVEL),
        f"only {border.seen:.0%} of the border lies in brain seen at both visits, {MIN_SEEN:.0%} at least": (
            border.seen < MIN_SEEN
        ),
        f"the lesion changed beyond recognition: the masks overlap {frame.dice:.0%}, {MIN_DICE:.0%} at least": (
            frame.dice < MIN_DICE
        ),
        f"the core changed beyond recognition: its masks overlap {core_dice:.0%}, {MIN_DICE:.0%} at least": (
            core_dice < MIN_DICE
        ),
        f"the rim is {rim_mm:.1f} mm thick, {MIN_RIM_MM:g} mm at least": rim_mm < MIN_RIM_MM,
        f"the border moved {abs(border.moved_mm):.1f} mm on average; beyond {MAX_MOVE_MM:g} mm this method "
        "misses a part": abs(border.moved_mm) > MAX_MOVE_MM,
        f"the masks say {masks_mm:+.1f} mm of diameter, the images {found_mm:+.1f} mm; more than "
        f"{MAX_DISAGREEMENT_MM:g} mm apart": abs(masks_mm - found_mm) > MAX_DISAGREEMENT_MM,
    }
    return tuple(reason for reason, holds in doubts.items() if holds)
