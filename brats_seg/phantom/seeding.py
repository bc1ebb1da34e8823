"""Where lesions begin, and the fields along which they grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Floats, grid_between
from brats_seg.phantom.anatomy import Anatomy, Person, make_anatomy
from brats_seg.phantom.fields import Field, smooth_noise
from brats_seg.phantom.flow import BrainSpace
from brats_seg.phantom.grown import MOST_LESIONS, Fields, GrownLesion, GrownTumour
from brats_seg.phantom.growth import CORE_DENSITY, EDGE_DENSITY, Rates, Reactor, arrival_days
from brats_seg.phantom.kinds import PROFILES, LesionScript, Profile, ball_radius_mm, draw_place
from brats_seg.phantom.objects import Blob, Ellipsoid, draw_waves, points_of

COARSE_MM = 2.0
"""Voxels on which places are looked for and large tumours grow."""


def grow(person: Person, scripts: Sequence[LesionScript], rng: np.random.Generator) -> GrownTumour:
    """Find a place for each lesion and let it grow to its largest.

    Raises:
        InputError: if a lesion fits nowhere.
    """
    if len(scripts) > MOST_LESIONS:
        raise InputError(f"{len(scripts)} lesions are too many; {MOST_LESIONS} is the most")
    coarse = make_anatomy(person, grid_between(*person.box_mm, COARSE_MM))
    centres: dict[str, Floats] = {}
    radii: dict[str, float] = {}
    lesions: dict[str, GrownLesion] = {}
    place_rng, growth_rng = rng.spawn(2)
    # large ones first, for they fit in few places; those beside another after it
    for script in sorted(scripts, key=lambda s: (bool(s.near), -s.core_ml)):
        centre = draw_place(script, centres, radii, coarse, place_rng)
        centres[script.id], radii[script.id] = centre, script.radius_mm
    for script, child in zip(scripts, growth_rng.spawn(len(scripts)), strict=True):
        lesions[script.id] = _grow_lesion(person, script, centres[script.id], child)
    return GrownTumour(person, BrainSpace(coarse), tuple(lesions[script.id] for script in scripts))


def _grow_lesion(person: Person, script: LesionScript, centre: Floats, rng: np.random.Generator) -> GrownLesion:
    profile = PROFILES[script.kind]
    radius, reach = script.radius_mm, ball_radius_mm(script.whole_ml)
    noise_rng, wave_rng = rng.spawn(2)
    fine = float(np.clip(radius / 8, 0.8, COARSE_MM))
    wide = _around(person, centre, 2.0 * reach + 10, fine if profile.edema is None else COARSE_MM)
    near = wide if profile.edema is None else _around(person, centre, 2.2 * radius + 6, fine)
    inwards = _inwards(wide, centre)
    start, body = centre, None
    if profile.rates is None:
        body, core = _dome(centre, inwards, radius, wave_rng), _tail(near)
        start = centre + 0.5 * radius * inwards
    elif profile.edema is None:
        thresholds = {CORE_DENSITY: script.core_ml, EDGE_DENSITY: script.whole_ml}
        core, edema = _front(profile.rates, wide, centre, thresholds, _patches(profile, radius, wide, noise_rng))
    else:
        patches = _patches(profile, radius, near, noise_rng)
        (core,) = _front(profile.rates, near, centre, {CORE_DENSITY: script.core_ml}, patches)
    if profile.edema is not None:
        patches = _patches(profile, reach, wide, noise_rng)
        (edema,) = _front(profile.edema, wide, start, {EDGE_DENSITY: script.whole_ml}, patches)
    spacing = near.grid.spacing_mm[0]
    lumps = smooth_noise(near.grid.shape, max(0.22 * radius, 1.5) / spacing, noise_rng)
    soft = smooth_noise(near.grid.shape, 5.0 / spacing, noise_rng)
    core = core + np.float32(profile.lobes) * smooth_noise(near.grid.shape, 0.35 * radius / spacing, noise_rng)
    residual = _residual(script, centre, wave_rng) if any(state.cavity_ml > 0 for state in script.states) else None
    fields = Fields(near.grid, core, np.float32(profile.ragged) * lumps, soft, wide.grid, edema)
    return GrownLesion(script, centre, inwards, fields, residual, body)


def _around(person: Person, centre: Floats, half_mm: float, spacing_mm: float) -> Anatomy:
    low, high = person.box_mm
    return make_anatomy(
        person, grid_between(np.maximum(centre - half_mm, low), np.minimum(centre + half_mm, high), spacing_mm)
    )


def _patches(profile: Profile, radius_mm: float, anatomy: Anatomy, rng: np.random.Generator) -> Field:
    """What diffusion is multiplied by: places as large as a third of the lesion where cells move faster or slower."""
    width = max(0.3 * radius_mm, 1.5) / anatomy.grid.spacing_mm[0]
    patches: Field = np.exp(
        np.float32(profile.patchiness) * np.clip(smooth_noise(anatomy.grid.shape, width, rng), -2, 2)
    )
    return patches


def _front(
    rates: Rates, anatomy: Anatomy, centre: Floats, thresholds: Mapping[float, float], patches: Field
) -> list[Field]:
    """Relative arrival times by density: 1 where the front encloses the volume in ml that goes with that density."""
    spacing = anatomy.grid.spacing_mm
    counts = [volume_ml / anatomy.grid.voxel_ml for volume_ml in thresholds.values()]
    diffusion = (rates.diffusion(anatomy.white, anatomy.grey) * patches).astype(np.float32)
    tissue = diffusion > 0
    away = np.linalg.norm(points_of(anatomy.grid) - centre, axis=-1)
    nearest = float(away[tissue].min()) if tissue.any() else np.inf
    if nearest > 8:
        raise InputError(f"a lesion at {np.round(centre, 1).tolist()} mm has no tissue around it to grow in")
    seed = np.where(tissue, 0.95 * np.exp(-((away / (1.2 * max(spacing) + nearest)) ** 2) / 2), 0)
    seed = np.where(seed > 0.05, seed, 0).astype(np.float32)
    until = [round(min(1.1 * count, 0.8 * float(tissue.sum()))) for count in counts]
    reactor = Reactor(diffusion, spacing, rates.per_day)
    result = []
    arrivals = arrival_days(reactor, seed, spacing, thresholds=tuple(thresholds), until=until)
    for days, count in zip(arrivals, counts, strict=True):
        smooth = ndimage.gaussian_filter(days, 0.6)
        rank = min(max(round(count), 1), smooth.size) - 1
        border, start = float(np.partition(smooth.ravel(), rank)[rank]), float(smooth.min())
        result.append(((smooth - start) / max(border - start, 1e-6)).astype(np.float32))
    return result


def _inwards(anatomy: Anatomy, centre: Floats) -> Floats:
    """Direction in which the brain gets deeper."""
    sigma = 5.0 / np.array(anatomy.grid.spacing_mm)
    smooth = ndimage.gaussian_filter(anatomy.brain.astype(np.float32), sigma, mode="nearest")
    voxel = np.clip(np.round(anatomy.grid.to_voxel(centre)).astype(int), 1, np.array(smooth.shape) - 2)
    slope = np.array([smooth[tuple(voxel + step)] - smooth[tuple(voxel - step)] for step in np.eye(3, dtype=int)])
    world = slope @ np.linalg.inv(anatomy.grid.affine[:3, :3])
    length = float(np.linalg.norm(world))
    return world / length if length > 1e-6 else np.array([0.0, 0.0, 1.0])


def _dome(centre: Floats, inwards: Floats, radius_mm: float, rng: np.random.Generator) -> Blob:
    """An ellipsoid about the attachment; what lies outside the brain is cut off."""
    helper = np.eye(3)[int(np.argmin(np.abs(inwards)))]
    first = np.cross(inwards, helper)
    first /= np.linalg.norm(first)
    rotation = np.stack([inwards, first, np.cross(inwards, first)], 1)
    size = 1.26 * radius_mm  # a half ball of the volume
    stretch = np.exp(rng.uniform(-0.12, 0.12, 2))
    radii = (1.05 * size, size * stretch[0], size * stretch[1])
    return Blob(Ellipsoid(centre, radii, rotation), draw_waves(0.25, rng, finest=4.0))


def _tail(anatomy: Anatomy) -> Field:
    """Lower along the surface of the brain, so that a body spreads a little farther there."""
    depth = ndimage.distance_transform_edt(np.pad(anatomy.brain, 1), sampling=anatomy.grid.spacing_mm)[1:-1, 1:-1, 1:-1]
    factor: Field = (1 - 0.25 * np.exp(-((depth / 2.0) ** 2))).astype(np.float32)
    return factor


def _residual(script: LesionScript, centre: Floats, rng: np.random.Generator) -> Blob:
    """A nodule at the wall of the cavity, in a random direction."""
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    cavity_mm = ball_radius_mm(max(state.cavity_ml for state in script.states))
    core_mm = ball_radius_mm(max(0.1, *(s.core_ml for s in script.states if s.cavity_ml > 0)))
    stretch = np.exp(rng.uniform(-0.15, 0.15, 3))
    radii = core_mm * (stretch / np.cbrt(stretch.prod()))
    return Blob(Ellipsoid(centre + 0.95 * cavity_mm * direction, radii), draw_waves(0.35, rng))
