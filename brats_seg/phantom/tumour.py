"""Tumours with known volumes: what they are and where they lie; :mod:`rasterise` makes voxels of them.

Core, necrosis and unhindered edema are nested wavy ellipsoids (:class:`~brats_seg.phantom.objects.Blob`), whose
volume is a formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Floats
from brats_seg.phantom.anatomy import Anatomy, Push
from brats_seg.phantom.objects import Blob, Ellipsoid, Waves

SPARE_MM = 3.0
"""Bodies keep this distance from the surface of the brain: more than half the diagonal of the 2 mm voxels on which
their place is looked for, and of the 1 mm voxels they are drawn on, together."""


class TumourKind(Enum):
    """What grows in the phantom."""

    HIGH_GRADE = "high_grade"
    LOW_GRADE = "low_grade"
    MULTIFOCAL = "multifocal"
    METASTASES = "metastases"
    MENINGIOMA = "meningioma"
    RESECTED = "resected"
    NONE = "none"

    @property
    def is_grown(self) -> bool:
        """Whether it is grown in the tissue (:mod:`grown`); the others are nested bodies with formulas."""
        return self in (TumourKind.METASTASES, TumourKind.MENINGIOMA, TumourKind.RESECTED)


@dataclass(frozen=True)
class TumourConfig:
    """Size and look of the tumour.

    Attributes:
        kind: high grade has a necrotic core in an enhancing rim, low grade a core without enhancement,
            multifocal two to four high-grade lesions, metastases two to six at the border of grey and white matter,
            meningioma one on the dura, resected a cavity with a residual at its wall, none no tumour at all.
            For the three that are grown, ``irregularity``, ``follow_white_matter`` and ``mass_effect`` play no part.
        core_volume_ml: range of the whole tumour core's volume (log-uniform). The default holds half of the
            38 public BraTS cases looked at.
        necrotic_share: range of the necrotic part of the core's volume; ignored for low grade.
        edema_mm: range of the width of the edema around the core.
        irregularity: 0 gives plain ellipsoids; 0.4 bumps of about a fifth of the radius.
        follow_white_matter: whether edema spares cortex and CSF, as it does in patients. If not, it is a
            nested body too and every volume is a formula.
        mass_effect: share of the core's volume that pushed tissue aside; the rest replaced it.
    """

    kind: TumourKind = TumourKind.HIGH_GRADE
    core_volume_ml: tuple[float, float] = (10.0, 40.0)
    necrotic_share: tuple[float, float] = (0.2, 0.55)
    edema_mm: tuple[float, float] = (7.0, 16.0)
    irregularity: float = 0.4
    follow_white_matter: bool = True
    mass_effect: float = 0.4

    def __post_init__(self) -> None:
        for name in ("core_volume_ml", "necrotic_share", "edema_mm"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} {(low, high)} must be a positive range that does not fall")
        if self.necrotic_share[1] > 0.8:
            raise InputError(f"necrotic_share up to {self.necrotic_share[1]:g} leaves no rim; 0.8 is the most")
        if not 0 <= self.irregularity <= 0.5:
            raise InputError(f"irregularity {self.irregularity:g} lies outside 0..0.5")
        if not 0 <= self.mass_effect <= 0.8:
            raise InputError(f"mass_effect {self.mass_effect:g} lies outside 0..0.8")


@dataclass(frozen=True, eq=False)
class Lesion:
    """One focus.

    Attributes:
        core: the whole tumour core (TC).
        necrosis: its non-enhancing inner part; None if the core does not enhance at all.
        edema: what the edema fills where nothing stops it, core included.
    """

    core: Blob
    necrosis: Blob | None
    edema: Blob

    @property
    def centre_mm(self) -> Floats:
        """RAS+ centre of the core."""
        return np.array(self.core.ellipsoid.centre_mm)

    @property
    def reach_mm(self) -> float:
        """No point of the core is farther from the centre."""
        return max(self.core.ellipsoid.radii_mm) * self.core.waves.high

    def push(self, share: float) -> Push:
        """The core as a mass that displaces tissue."""
        return Push(self.centre_mm, float(np.cbrt(np.prod(self.core.ellipsoid.radii_mm))), share)

    def moved_to(self, centre_mm: Floats) -> Lesion:
        """The same lesion elsewhere."""
        x, y, z = (float(value) for value in centre_mm)

        def move(blob: Blob) -> Blob:
            return Blob(Ellipsoid((x, y, z), blob.ellipsoid.radii_mm, blob.ellipsoid.rotation), blob.waves)

        return Lesion(move(self.core), None if self.necrosis is None else move(self.necrosis), move(self.edema))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a truth file."""
        necrosis_ml = self.core.volume_ml if self.necrosis is None else self.necrosis.volume_ml
        return {
            "centre_mm": self.centre_mm.round(3).tolist(),
            "radii_mm": [round(r, 4) for r in self.core.ellipsoid.radii_mm],
            "axes": self.core.ellipsoid.rotation.round(6).tolist(),
            "core_ml": self.core.volume_ml,
            "necrotic_or_non_enhancing_ml": necrosis_ml,
            "enhancing_ml": self.core.volume_ml - necrosis_ml,
        }


def draw_waves(irregularity: float, rng: np.random.Generator, *, finest: float = 6.0) -> Waves:
    """Bumps of several sizes; their sum of amplitudes is ``irregularity``; ``finest`` radians of phase per radius."""
    count = 6
    directions = rng.standard_normal((count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    frequency = rng.uniform(2.0, finest, count)
    amplitudes = rng.uniform(0.5, 1.0, count) / frequency
    return Waves(
        directions * frequency[:, None],
        amplitudes * (irregularity / amplitudes.sum()),
        rng.uniform(0, 2 * np.pi, count),
    )


def draw_lesions(config: TumourConfig, anatomy: Anatomy, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Draw the lesions and find a place in the brain for each.

    Raises:
        InputError: if they do not fit into the brain, or are of a kind that is grown.
    """
    if config.kind.is_grown:
        raise InputError(f"a tumour of kind {config.kind.value} is grown in tissue; make_patient does that")
    if config.kind is TumourKind.NONE:
        return ()
    count = int(rng.integers(2, 5)) if config.kind is TumourKind.MULTIFOCAL else 1
    low, high = np.log(config.core_volume_ml)
    volumes = np.exp(rng.uniform(low, high)) * rng.dirichlet(np.full(count, 3.0))
    lesions: list[Lesion] = []
    for volume_ml in sorted(volumes, reverse=True):
        lesion = _draw_lesion(config, float(volume_ml), rng)
        lesions.append(lesion.moved_to(_draw_place(config, lesion, lesions, anatomy, rng)))
    return tuple(lesions)


def _draw_lesion(config: TumourConfig, volume_ml: float, rng: np.random.Generator) -> Lesion:
    stretch = np.exp(rng.uniform(-0.18, 0.18, 3))
    stretch /= np.cbrt(stretch.prod())
    radii = stretch * np.cbrt(volume_ml * 1000 * 3 / (4 * np.pi))
    rotation = Rotation.random(random_state=rng).as_matrix()
    waves = draw_waves(config.irregularity, rng)
    core = Blob(_ellipsoid(radii, rotation), waves)
    necrosis = None
    if config.kind is not TumourKind.LOW_GRADE:
        share = np.cbrt(rng.uniform(*config.necrotic_share))
        necrosis = Blob(_ellipsoid(radii * share, rotation), _nested_waves(config, waves, float(share), rng))
    width = float(rng.uniform(*config.edema_mm))
    edema = Blob(_ellipsoid(radii + width, rotation), _outer_waves(config, core, width, rng))
    return Lesion(core, necrosis, edema)


def _ellipsoid(radii: Floats, rotation: Floats) -> Ellipsoid:
    a, b, c = (float(r) for r in radii)
    return Ellipsoid((0.0, 0.0, 0.0), (a, b, c), rotation)


def _mixed_waves(first: Waves, second: Waves, share: float) -> Waves:
    """Part of one surface and part of another."""
    return Waves(
        np.concatenate([first.vectors, second.vectors]),
        np.concatenate([first.amplitudes * (1 - share), second.amplitudes * share]),
        np.concatenate([first.phases, second.phases]),
    )


def _sphere_directions(count: int = 2000) -> Floats:
    """Nearly even directions (a Fibonacci lattice)."""
    height = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (1 + 5**0.5) * np.arange(count)
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), height], -1)


def _nested_waves(config: TumourConfig, outer: Waves, share: float, rng: np.random.Generator) -> Waves:
    """Waves for the necrosis that leave a rim everywhere: like the outer ones, with as much of its own as fits."""
    own = draw_waves(min(1.5 * config.irregularity, 0.55), rng, finest=10.0)
    directions = _sphere_directions()
    for part in (0.9, 0.7, 0.5, 0.3, 0.15, 0.05):
        waves = _mixed_waves(outer, own, part)
        if (share * waves(directions) < 0.96 * outer(directions)).all():
            return waves
    return outer


def _outer_waves(config: TumourConfig, core: Blob, width_mm: float, rng: np.random.Generator) -> Waves:
    """Waves for the edema that keep it outside the core."""
    own = draw_waves(config.irregularity, rng)
    directions = _sphere_directions()
    radii = np.array(core.ellipsoid.radii_mm)
    surface = directions * core.waves(directions)[:, None] * radii / (radii + width_mm)
    distance = np.linalg.norm(surface, axis=1)
    unit = surface / distance[:, None]
    for part in (0.7, 0.5, 0.3, 0.15):
        waves = _mixed_waves(core.waves, own, part)
        if (distance < 0.97 * waves(unit)).all():
            return waves
    return core.waves


def _draw_place(
    config: TumourConfig, lesion: Lesion, others: Sequence[Lesion], anatomy: Anatomy, rng: np.random.Generator
) -> Floats:
    """A centre in the cerebrum from which the body stays inside the brain, rather in white matter."""
    body = lesion.core if config.follow_white_matter else lesion.edema
    brain = anatomy.brain
    spacing = np.array(anatomy.grid.spacing_mm)
    depth = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    reach = float(np.cbrt(np.prod(body.ellipsoid.radii_mm)))
    white = ndimage.gaussian_filter(anatomy.white, 0.4 * reach / spacing)
    points = anatomy.grid.to_world(np.argwhere(brain))
    middle = points.mean(0)
    side = np.abs(points[:, 0] - middle[0])
    usable = (depth[brain] > 0.8 * reach) & (points[:, 2] > middle[2] - 12) & (side > min(0.7 * reach, 20.0))
    for other in others:
        usable &= np.linalg.norm(points - other.centre_mm, axis=1) > lesion.reach_mm + other.reach_mm + 4
    weight = np.where(usable, np.maximum(white[brain], 1e-3) ** 3, 0)
    for _ in range(300):
        if weight.sum() == 0:
            break
        chosen = int(rng.choice(len(points), p=weight / weight.sum()))
        place = points[chosen] + rng.uniform(-0.5, 0.5, 3) * spacing
        if _fits(lesion.moved_to(place), config, anatomy):
            result: Floats = place
            return result
        weight[np.linalg.norm(points - points[chosen], axis=1) < 2.5] = 0
    raise InputError(
        f"no place in this brain holds a tumour core of {lesion.core.volume_ml:.1f} ml"
        + (" beside the others" if others else "")
        + ("" if config.follow_white_matter else " with its edema")
        + ". Lower core_volume_ml, edema_mm or irregularity."
    )


def _fits(lesion: Lesion, config: TumourConfig, anatomy: Anatomy) -> bool:
    """Whether the surface of the body lies in the brain, with :data:`SPARE_MM` to spare."""
    body = lesion.core if config.follow_white_matter else lesion.edema
    directions = _sphere_directions(600)
    local = directions * (body.waves(directions)[:, None] * np.array(body.ellipsoid.radii_mm))
    surface = local @ body.ellipsoid.rotation.T
    outwards = surface * (1 + SPARE_MM / np.linalg.norm(surface, axis=1, keepdims=True))
    voxels = np.round(anatomy.grid.to_voxel(lesion.centre_mm + outwards)).astype(int)
    if (voxels < 0).any() or (voxels >= anatomy.grid.shape).any():
        return False
    return bool(anatomy.brain[tuple(voxels.T)].all())
