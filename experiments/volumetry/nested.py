"""Phantoms whose tumour cores have a formula for their volume, to hold a whole pipeline against.

Core and necrosis are nested wavy ellipsoids (:class:`~brats_seg.phantom.objects.Blob`); edema keeps to white matter,
and its volume is summed from exact shares of voxels. Lesions of ``brats-seg phantom`` grow in tissue instead, and all
their volumes are sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Floats, Grid, box_corners, grid_between
from brats_seg.phantom.acquire import Body, TumourFractions, draw_texture
from brats_seg.phantom.anatomy import Anatomy, draw_person, make_anatomy
from brats_seg.phantom.contrast import Tissue
from brats_seg.phantom.course import Patient, Phantom, PhantomConfig, body_grid, scan_patient
from brats_seg.phantom.fields import Field, smooth_noise
from brats_seg.phantom.objects import Blob, Ellipsoid, Waves, draw_waves, inside_shares, points_of

SPARE_MM = 3.0
"""Cores keep this distance from the surface of the brain: more than half the diagonal of the 2 mm voxels on which
their place is looked for, and of the 1 mm voxels they are drawn on, together."""
PLACING_MM = 2.0
"""Voxels of the grid on which a place for the tumour is looked for."""
IRREGULARITY = 0.4
"""Of surfaces; bumps of about a fifth of the radius."""
MASS_EFFECT = 0.4
"""Share of the core's volume that pushed tissue aside; the rest replaced it."""
_ORIGIN = (0.0, 0.0, 0.0)
NECROTIC_SHARE = (0.2, 0.55)
"""Range of the necrotic part of a core that enhances."""


@dataclass(frozen=True)
class NestedConfig:
    """Size and look of the tumour.

    Attributes:
        enhances: whether the core is necrosis in an enhancing rim, or does not enhance at all.
        core_volume_ml: range of the core's volume (log-uniform). The default holds half of the 38 public BraTS cases
            looked at.
        edema_mm: range of the width of the edema around the core.
    """

    enhances: bool = True
    core_volume_ml: tuple[float, float] = (10.0, 40.0)
    edema_mm: tuple[float, float] = (7.0, 16.0)

    @property
    def kind(self) -> str:
        """In the words of ``brats-seg phantom``."""
        return "high_grade" if self.enhances else "low_grade"


@dataclass(frozen=True, eq=False)
class Lesion:
    """One focus; as a push it shoves tissue outwards.

    Attributes:
        core: the whole tumour core (TC).
        necrosis: its non-enhancing inner part; the core itself if it does not enhance at all.
        edema: what the edema fills where nothing stops it, core included.
    """

    core: Blob
    necrosis: Blob
    edema: Blob

    @property
    def centre_mm(self) -> Floats:
        """RAS+ centre of the core."""
        return np.array(self.core.ellipsoid.centre_mm)

    def moved_to(self, centre_mm: Floats) -> Lesion:
        """The same lesion elsewhere."""

        def move(blob: Blob) -> Blob:
            return Blob(Ellipsoid(centre_mm, blob.ellipsoid.radii_mm, blob.ellipsoid.rotation), blob.waves)

        return Lesion(move(self.core), move(self.necrosis), move(self.edema))

    def origin_mm(self, points_mm: Floats) -> Floats:
        """Where the tissue now at ``points_mm`` ``(..., 3)`` came from.

        Outside the mass volume is conserved, ``r0^3 = r^3 - share R^3``, and the push fades over 60 mm, as if the skull
        took the rest.
        """
        radius = float(np.cbrt(np.prod(self.core.ellipsoid.radii_mm)))
        away = points_mm - self.centre_mm
        r = np.linalg.norm(away, axis=-1)
        inside = np.cbrt(1 - MASS_EFFECT) * r
        outside = np.cbrt(np.maximum(r**3 - MASS_EFFECT * radius**3, 0))
        origin = np.where(r <= radius, inside, outside)
        origin = r + (origin - r) * np.exp(-((r / 60.0) ** 2))
        result: Floats = self.centre_mm + away * (origin / np.maximum(r, 1e-9))[..., None]
        return result

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a truth file."""
        return {
            "centre_mm": self.centre_mm.round(3).tolist(),
            "radii_mm": [round(r, 4) for r in self.core.ellipsoid.radii_mm],
            "axes": self.core.ellipsoid.rotation.round(6).tolist(),
            "core_ml": self.core.volume_ml,
            "necrotic_or_non_enhancing_ml": self.necrosis.volume_ml,
            "enhancing_ml": self.core.volume_ml - self.necrosis.volume_ml,
        }


def make_phantom(config: PhantomConfig, rng: np.random.Generator, *, tumour: NestedConfig | None = None) -> Phantom:
    """Make one phantom; the same configuration and generator state give the same phantom.

    Raises:
        InputError: if the tumour asked for fits nowhere.
    """
    patient_rng, scan_rng = rng.spawn(2)
    return scan_patient(make_patient(config, patient_rng, tumour=tumour), config, scan_rng)


def make_patient(config: PhantomConfig, rng: np.random.Generator, *, tumour: NestedConfig | None = None) -> Patient:
    """A brain, its tumour and the truth about it."""
    tumour = tumour or NestedConfig()
    person_rng, tumour_rng, edema_rng, texture_rng = rng.spawn(4)
    person = draw_person(config.anatomy, config.centre_mm(), person_rng)
    lesion = draw_lesion(tumour, make_anatomy(person, grid_between(*person.box_mm, PLACING_MM)), tumour_rng)
    grid = body_grid(config, person)
    anatomy = make_anatomy(person, grid, origin_mm=lesion.origin_mm)
    shares = tumour_fractions(lesion, anatomy, draw_edema_field(lesion, anatomy, edema_rng))
    dark = Tissue.NECROSIS if tumour.enhances else Tissue.CORE
    tissues = {dark: shares.necrosis, Tissue.EDEMA: shares.edema, Tissue.ENHANCING: shares.enhancing}
    truth = _truth(lesion, shares)
    description = {
        "generator": "nested bodies in MNI152 anatomy",
        "kind": tumour.kind,
        "brain_ml": float(anatomy.brain.sum()) * grid.voxel_ml,
        "volume_ml": dict(truth),
        "volume_known_by": {name: "fractions" if name in ("WT", "ED") else "formula" for name in truth},
        "lesions": [lesion.to_dict()],
    }
    return Patient(Body(anatomy, shares, draw_texture(anatomy, texture_rng), tissues), truth, description)


def _truth(lesion: Lesion, shares: TumourFractions) -> dict[str, float]:
    """Volumes by region and structure: the core's from its formula, since its place lies in the brain as a whole."""
    core_ml, necrosis_ml = lesion.core.volume_ml, lesion.necrosis.volume_ml
    whole_ml = float(shares.whole.sum(dtype=np.float64)) * shares.grid.voxel_ml
    return {
        "WT": whole_ml,
        "TC": core_ml,
        "ET": core_ml - necrosis_ml,
        "NCR": necrosis_ml,
        "ED": whole_ml - core_ml,
    }


def draw_lesion(config: NestedConfig, anatomy: Anatomy, rng: np.random.Generator) -> Lesion:
    """Draw a lesion and find a place in the brain for it.

    Raises:
        InputError: if it does not fit into the brain.
    """
    low, high = np.log(config.core_volume_ml)
    volume_ml = np.exp(rng.uniform(low, high)) * rng.dirichlet([3.0])[0]  # of one lesion: 1, and a number of chance
    stretch = np.exp(rng.uniform(-0.18, 0.18, 3))
    stretch /= np.cbrt(stretch.prod())
    radii = stretch * np.cbrt(float(volume_ml) * 1000 * 3 / (4 * np.pi))
    rotation = Rotation.random(random_state=rng).as_matrix()
    core = necrosis = Blob(Ellipsoid(_ORIGIN, radii, rotation), draw_waves(IRREGULARITY, rng))
    if config.enhances:
        share = np.cbrt(rng.uniform(*NECROTIC_SHARE))
        necrosis = Blob(Ellipsoid(_ORIGIN, radii * share, rotation), _nested_waves(core.waves, float(share), rng))
    width = float(rng.uniform(*config.edema_mm))
    edema = Blob(Ellipsoid(_ORIGIN, radii + width, rotation), _outer_waves(core, width, rng))
    lesion = Lesion(core, necrosis, edema)
    return lesion.moved_to(_draw_place(lesion, anatomy, rng))


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


def _nested_waves(outer: Waves, share: float, rng: np.random.Generator) -> Waves:
    """Waves for the necrosis that leave a rim everywhere: like the outer ones, with as much of its own as fits."""
    own = draw_waves(min(1.5 * IRREGULARITY, 0.55), rng, finest=10.0)
    directions = _sphere_directions()
    for part in (0.9, 0.7, 0.5, 0.3, 0.15, 0.05):
        waves = _mixed_waves(outer, own, part)
        if (share * waves(directions) < 0.96 * outer(directions)).all():
            return waves
    return outer


def _outer_waves(core: Blob, width_mm: float, rng: np.random.Generator) -> Waves:
    """Waves for the edema that keep it outside the core."""
    own = draw_waves(IRREGULARITY, rng)
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


def _draw_place(lesion: Lesion, anatomy: Anatomy, rng: np.random.Generator) -> Floats:
    """A centre in the cerebrum from which the core stays inside the brain, rather in white matter."""
    brain = anatomy.brain
    spacing = np.array(anatomy.grid.spacing_mm)
    depth = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    reach = float(np.cbrt(np.prod(lesion.core.ellipsoid.radii_mm)))
    white = ndimage.gaussian_filter(anatomy.white, 0.4 * reach / spacing)
    points = anatomy.grid.to_world(np.argwhere(brain))
    middle = points.mean(0)
    side = np.abs(points[:, 0] - middle[0])
    usable = (depth[brain] > 0.8 * reach) & (points[:, 2] > middle[2] - 12) & (side > min(0.7 * reach, 20.0))
    weight = np.where(usable, np.maximum(white[brain], 1e-3) ** 3, 0)
    for _ in range(300):
        if weight.sum() == 0:
            break
        chosen = int(rng.choice(len(points), p=weight / weight.sum()))
        place: Floats = points[chosen] + rng.uniform(-0.5, 0.5, 3) * spacing
        if _fits(lesion.moved_to(place), anatomy):
            return place
        weight[np.linalg.norm(points - points[chosen], axis=1) < 2.5] = 0
    raise InputError(
        f"no place in this brain holds a tumour core of {lesion.core.volume_ml:.1f} ml. Lower core_volume_ml."
    )


def _fits(lesion: Lesion, anatomy: Anatomy) -> bool:
    """Whether the surface of the core lies in the brain, with :data:`SPARE_MM` to spare."""
    body = lesion.core
    directions = _sphere_directions(600)
    local = directions * (body.waves(directions)[:, None] * np.array(body.ellipsoid.radii_mm))
    surface = local @ body.ellipsoid.rotation.T
    outwards = surface * (1 + SPARE_MM / np.linalg.norm(surface, axis=1, keepdims=True))
    voxels = np.round(anatomy.grid.to_voxel(lesion.centre_mm + outwards)).astype(int)
    if (voxels < 0).any() or (voxels >= anatomy.grid.shape).any():
        return False
    return bool(anatomy.brain[tuple(voxels.T)].all())


def draw_edema_field(lesion: Lesion, anatomy: Anatomy, rng: np.random.Generator) -> Field:
    """A field that is below 1 in the edema: relative radius, raised by CSF and cortex, with fingers.

    Returns:
        float32 on the anatomy's grid; at least 2 far away and in islands that do not touch the core.
    """
    noise = smooth_noise(anatomy.grid.shape, 4.0 / min(anatomy.grid.spacing_mm), rng)
    field = np.full(anatomy.grid.shape, 2.0, np.float32)
    box, points = _surroundings(lesion.edema, anatomy.grid, factor=1.25)
    radius = lesion.edema.relative_radius(points).astype(np.float32)
    barrier = 1.3 * ndimage.gaussian_filter(anatomy.csf[box], 0.8)
    barrier += 0.35 * ndimage.gaussian_filter(anatomy.grey[box], 0.8)
    barrier += 2.0 * (~anatomy.brain[box])
    value = radius + barrier + 0.4 * IRREGULARITY * noise[box]
    value = np.where(radius < 0.35, np.minimum(value, 0.9), value)
    names, _ = ndimage.label(value < 1)
    core = lesion.core.level_mm(points) < 2.0
    kept = np.unique(names[core & (names > 0)])
    value = np.where((value < 1) & ~np.isin(names, kept), 2.0, value)
    field[box] = np.minimum(field[box], value)
    return field


def _surroundings(body: Blob, grid: Grid, *, factor: float) -> tuple[tuple[slice, slice, slice], Floats]:
    low, high = body.bounds_mm()
    centre = np.array(body.ellipsoid.centre_mm)
    low, high = centre + (low - centre) * factor, centre + (high - centre) * factor
    corners = grid.to_voxel(box_corners(low, high))
    first = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    stop = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, grid.shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
    return (x, y, z), points_of(grid, (x, y, z))


def tumour_fractions(lesion: Lesion, anatomy: Anatomy, field: Field, *, supersampling: int = 5) -> TumourFractions:
    """Exact shares per voxel of necrosis, edema and enhancement, cut to the brain.

    Args:
        lesion: what lies there.
        anatomy: its grid and brain.
        field: from :func:`draw_edema_field`.
        supersampling: sub-points per voxel side where a border may pass.
    """
    grid = anatomy.grid
    core, necrosis = (
        blob.sample_fractions(grid, supersampling=supersampling) for blob in (lesion.core, lesion.necrosis)
    )
    whole = _field_fractions(field, core, lesion.core, grid, supersampling)
    whole = np.maximum(whole, core) * anatomy.brain
    core = core * anatomy.brain
    necrosis = np.minimum(necrosis * anatomy.brain, core)
    return TumourFractions(grid, necrosis, whole - core, core - necrosis, np.clip(1 - field, 0, 1))


def _field_fractions(field: Field, core: Field, body: Blob, grid: Grid, supersampling: int) -> Field:
    """Share of each voxel where the interpolated field is below 1, or the core is.

    Linear interpolation never leaves the range of the 27 neighbours, so only voxels whose neighbours lie on
    both sides of 1 need a closer look; ``core`` tells which of them the core reaches.
    """
    below = ndimage.minimum_filter(field, 3) < 1
    above = ndimage.maximum_filter(field, 3) >= 1
    whole: Field = below.astype(np.float32)
    doubtful = np.argwhere(below & above)

    def in_field(points_mm: Floats) -> NDArray[np.bool_]:
        voxels = np.moveaxis(grid.to_voxel(points_mm), -1, 0)
        result: NDArray[np.bool_] = ndimage.map_coordinates(field, voxels, order=1, mode="nearest") < 1
        return result

    def in_either(points_mm: Floats) -> NDArray[np.bool_]:
        return in_field(points_mm) | (body.level_mm(points_mm) <= 0)

    reached = core[tuple(doubtful.T)] > 0
    ways: tuple[tuple[NDArray[np.intp], Callable[[Floats], NDArray[np.bool_]]], ...] = (
        (doubtful[~reached], in_field),
        (doubtful[reached], in_either),
    )
    for voxels, inside in ways:
        whole[tuple(voxels.T)] = inside_shares(inside, grid, voxels, supersampling=supersampling)
    return whole
