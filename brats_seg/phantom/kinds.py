"""What sets the kinds of tumour apart: how they spread, push, enhance and where they arise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Floats
from brats_seg.phantom.anatomy import Anatomy
from brats_seg.phantom.growth import Rates


class TumourKind(Enum):
    """What a single lesion can be."""

    HIGH_GRADE = "high_grade"
    LOW_GRADE = "low_grade"
    METASTASES = "metastases"
    MENINGIOMA = "meningioma"


@dataclass(frozen=True)
class LesionState:
    """One lesion at one visit, as the script wants it.

    Attributes:
        core_ml: volume of the tumour core (TC); 0 where the lesion is absent.
        enhancing_share: part of the core that enhances, 0 to 1.
        cavity_ml: volume of a resection cavity in the lesion's place; not part of the tumour.
        event: what happened since the visit before, in one word.
    """

    core_ml: float
    enhancing_share: float = 0.0
    edema_ml: float = 0.0
    cavity_ml: float = 0.0
    event: str = "growth"

    def __post_init__(self) -> None:
        if min(self.core_ml, self.edema_ml, self.cavity_ml) < 0:
            raise InputError(f"volumes of a lesion must not be negative: {self}")
        if not 0 <= self.enhancing_share <= 1:
            raise InputError(f"enhancing_share {self.enhancing_share:g} lies outside 0..1")


@dataclass(frozen=True)
class LesionScript:
    """One lesion at every visit.

    Attributes:
        states: one per visit.
        near: id of an earlier lesion it lies beside, so that the two merge when they grow; empty for none.
        at_dura: whether its core reaches the surface of the brain. A meningioma's always does.
    """

    id: str
    kind: TumourKind
    states: tuple[LesionState, ...]
    near: str = ""
    at_dura: bool = False

    @property
    def core_ml(self) -> float:
        """Largest core of all visits; a cavity counts as what was there."""
        return max(max(state.core_ml, state.cavity_ml) for state in self.states)

    @property
    def whole_ml(self) -> float:
        """Largest extent of core, cavity and edema of all visits."""
        return max(state.core_ml + state.edema_ml + state.cavity_ml for state in self.states)

    @property
    def radius_mm(self) -> float:
        """Of a ball as large as the largest core."""
        return ball_radius_mm(self.core_ml)


def ball_radius_mm(volume_ml: float) -> float:
    """Radius of a ball of this volume."""
    return float(np.cbrt(volume_ml * 1000 * 3 / (4 * np.pi)))


@dataclass(frozen=True)
class Profile:
    """How one kind of tumour grows and looks.

    Rates follow Harpold, Alvord and Swanson (J Neuropathol Exp Neurol 2007;66:1, doi:10.1097/nen.0b013e31802d9000):
    the front's width goes with ``sqrt(D/rho)``, wide in low grade, narrow where a border is sharp. Only shapes come
    from them; volumes come from the script.

    Attributes:
        rates: of the core's growth; None for a body that pushes and does not invade.
        edema: how vasogenic edema spreads; None where its border is the low density of the tumour's own front.
        patchiness: standard deviation of the logarithm of diffusion from place to place; makes lobes.
        pushed: share of the core's volume that displaced tissue; the rest replaced it.
        soft: share of the core without enhancement that is solid tumour and not necrosis.
        vascular: share of the enhancing part that looks like vessels and dura (bright, dark on T2 and FLAIR).
        ragged: how unevenly necrosis fills the core.
        lobes: how far the border of the core strays, as a share of its radius; what tissue and patches leave too round.
    """

    rates: Rates | None
    edema: Rates | None
    patchiness: float
    pushed: float
    soft: float
    vascular: float = 0.0
    ragged: float = 0.25
    lobes: float = 0.0


_EDEMA = Rates(0.6, 0.03, 0.03)
PROFILES: Mapping[TumourKind, Profile] = {
    TumourKind.HIGH_GRADE: Profile(Rates(0.25, 0.05, 0.05), None, 1.2, 0.5, 0.2, ragged=0.2, lobes=0.16),
    TumourKind.LOW_GRADE: Profile(Rates(0.25, 0.05, 0.012), None, 1.2, 0.35, 1.0, lobes=0.18),
    TumourKind.METASTASES: Profile(Rates(0.03, 0.03, 0.05), _EDEMA, 0.7, 0.6, 0.0, ragged=0.15, lobes=0.08),
    TumourKind.MENINGIOMA: Profile(None, _EDEMA, 0.6, 0.9, 1.0, vascular=0.3),
}

SEPARATION_MM = 6.0
"""Least distance between lesions that are not meant to meet."""


def draw_place(
    script: LesionScript,
    others: Mapping[str, Floats],
    radii_mm: Mapping[str, float],
    anatomy: Anatomy,
    rng: np.random.Generator,
) -> Floats:
    """A place for a lesion in a brain that nothing has pushed yet.

    Args:
        others: centres of those that have a place, by id.
        anatomy: on voxels of about 2 mm.

    Returns:
        RAS+ mm; for a meningioma the middle of its attachment.

    Raises:
        InputError: if there is none.
    """
    brain = anatomy.brain
    spacing = np.array(anatomy.grid.spacing_mm)
    depth = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=spacing)[1:-1, 1:-1, 1:-1][brain]
    points = anatomy.grid.to_world(np.argwhere(brain))
    weight = _preference(script, anatomy, points, depth)
    for name, centre in others.items():
        away = np.linalg.norm(points - centre, axis=1)
        touching = script.radius_mm + radii_mm[name]
        if name == script.near:
            weight = weight * ((away > 0.75 * touching) & (away < 0.9 * touching))
        else:
            weight = weight * (away > touching + SEPARATION_MM)
    if weight.sum() <= 0:
        beside = f" beside {script.near}" if script.near else " apart from the others" if others else ""
        raise InputError(
            f"no place in this brain holds a {script.kind.value} lesion of {script.core_ml:.1f} ml{beside}. "
            "Ask for smaller or fewer lesions."
        )
    chosen = points[rng.choice(len(points), p=weight / weight.sum())]
    result: Floats = chosen + rng.uniform(-0.5, 0.5, 3) * spacing
    return result


def _preference(script: LesionScript, anatomy: Anatomy, points: Floats, depth: Floats) -> Floats:
    """How likely each brain voxel is to be the centre, not normalised."""
    brain, radius = anatomy.brain, script.radius_mm
    spacing = np.array(anatomy.grid.spacing_mm)
    middle = points.mean(0)
    above, side = points[:, 2] - middle[2], np.abs(points[:, 0] - middle[0])
    white = ndimage.gaussian_filter(anatomy.white, 4.0 / spacing)[brain]
    csf = ndimage.gaussian_filter(anatomy.csf, 3.0 / spacing)[brain]
    if script.kind is TumourKind.MENINGIOMA:
        # on the convexity and beside the falx, rarely below: the upper half of the surface
        usable = (depth < 3.5) & (above > 5) & (side > 8)
        weight: Floats = usable * (0.3 + np.clip(above, 0, 40) / 40)
        return weight
    if script.at_dura:
        usable = (depth > min(0.3 * radius, 4)) & (depth < max(0.6 * radius, 4)) & (above > -12) & (side > 8)
        weight = usable * (csf < 0.6)
        return weight
    if script.kind is TumourKind.METASTASES:
        # emboli stop where arteries narrow, at the border of grey and white matter, mostly in arterial watersheds:
        # Delattre et al., Arch Neurol 1988;45:741, doi:10.1001/archneur.1988.00520310047016
        fine_white, fine_grey = (
            ndimage.gaussian_filter(values, 1.5 / spacing)[brain] for values in (anatomy.white, anatomy.grey)
        )
        border = (fine_white * fine_grey) ** 2 * (csf < 0.25)
        usable = (depth > min(0.8 * radius + 2, 14)) & (depth < 26) & (side > 6)
        weight = usable * border * np.where(above > -30, 1.0, 0.25)
        return weight
    usable = (depth > 0.8 * radius + 2) & (above > -12) & (side > min(0.8 * radius, 18.0)) & (csf < 0.35)
    weight = usable * np.maximum(white, 1e-3) ** 3
    return weight


def edema_ml(core_ml: float, width_mm: float) -> float:
    """Volume of edema that reaches ``width_mm`` from a core into white matter, which is about half of what is there."""
    radius = ball_radius_mm(core_ml)
    return 0.5 * 4 / 3 * np.pi * ((radius + width_mm) ** 3 - radius**3) / 1000
