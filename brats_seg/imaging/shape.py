"""Whether an outline is that of a whole brain, the right way round: its size, its faces, its lopsidedness.

All of it works on cells of about 4 mm along right, anterior and superior axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brats_seg.core.grid import Mask

Cells = tuple[float, float, float]

BRAIN_ML = (900.0, 2000.0)
"""Volumes of whole brains lie within. Of 49 patients: 1167 to 1744 ml; a child of two years has 900."""

FACE_SHARE = 0.33
"""A plane face holds at least this share of the largest cross-section. Measured at the ends of 49 whole brains: at
most 0.15, and 0.27 below, where the brain stem is cut."""

FACE_RATIO = 0.75
"""And this share of the section 8 mm further in: there a rounded end is three times as wide. Measured: at most 0.73."""

MIN_LEAD = 0.03
"""By how much another axis must be more symmetric than left to right before axes count as exchanged. Measured on 49
brains: left to right leads by 0.06 to 0.25."""

MIN_MOMENT = 0.05
"""Lopsidedness, in thirds and squares of the brain's deviation, from which its sign counts. Measured on 49 brains:
0.19 to 0.42 along the front, 0.15 to 0.32 between front and top."""

_SIDES = (("left", "right"), ("back", "front"), ("bottom", "top"))


@dataclass(frozen=True)
class Face:
    """A plane at which a brain ends.

    Attributes:
        side: ``left``, ``right``, ``back``, ``front``, ``bottom`` or ``top``.
        share: of the largest cross-section along that axis.
    """

    side: str
    area_cm2: float
    share: float


def plane_faces(brain: Mask, cell_mm: Cells) -> tuple[Face, ...]:
    """Sides at which a brain is cut by a plane across an axis; the edge of the field of view is one too.

    Args:
        brain: ``(X, Y, Z)`` along right, anterior, superior.
    """
    found = []
    for axis, names in enumerate(_SIDES):
        areas = brain.sum(axis=tuple(a for a in range(3) if a != axis)).astype(float)
        inward = max(round(8.0 / cell_mm[axis]), 1)
        filled = np.flatnonzero(areas)
        if filled.size <= 2 * inward:
            continue
        for name, order in zip(names, (filled, filled[::-1]), strict=True):
            # The outermost layer may be half a cell: the next one is the face then.
            ends = [(areas[order[k]], areas[order[k + inward]]) for k in (0, 1)]
            face, further = max(ends, key=lambda pair: pair[0] / pair[1]) if ends[0][0] < ends[1][0] / 2 else ends[0]
            if face >= FACE_SHARE * areas.max() and face >= FACE_RATIO * further:
                across = float(np.prod([size for a, size in enumerate(cell_mm) if a != axis]))
                found.append(Face(name, float(face) * across / 100, float(face / areas.max())))
    return tuple(found)


def wrong_axes(brain: Mask, cell_mm: Cells) -> str:
    """What is unlike a brain in how an outline lies along its axes, with numbers; empty for one that lies as it should.

    A brain is longest from back to front, most symmetric from left to right, and lopsided along the two other axes.

    Args:
        brain: ``(X, Y, Z)`` of a whole brain along right, anterior, superior.
    """
    cells = np.argwhere(brain)
    low, high = cells.min(axis=0), cells.max(axis=0) + 1
    box = brain[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))]
    wide, long, tall = ((high - low) * np.array(cell_mm)).tolist()
    if max(wide, tall) > long:
        return f"it measures {wide:.0f} mm from left to right, {long:.0f} from back to front, {tall:.0f} in height"
    mirrored = [float((box & np.flip(box, axis)).sum() / box.sum()) for axis in range(3)]
    if max(mirrored[1:]) > mirrored[0] + MIN_LEAD:
        return (
            f"its halves match by {mirrored[0]:.0%} from left to right, by {mirrored[1]:.0%} from back to front and "
            f"by {mirrored[2]:.0%} from bottom to top"
        )
    points = (cells - cells.mean(axis=0)) * np.array(cell_mm)
    _, front, top = (points / np.cbrt(points.std(axis=0).prod())).T
    if float((front**3).mean()) < -MIN_MOMENT:
        return "it is broader in front than at the back"
    if float((front * top).mean()) < -MIN_MOMENT:
        return "its front lies lower than its back"
    return ""
