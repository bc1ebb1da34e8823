"""What lies around a brain: scalp, fat, skull with marrow, fluid below it, eyes; to test brain extraction with.

The layers are synthetic: surfaces at drawn distances from the smoothed outline of the brain. That skulls differ much
and by how much: Lynnerup, Forensic Sci Int 2001;117:45 (doi:10.1016/s0379-0738(00)00447-3); that marrow makes most of
the difference: Lynnerup et al., Head Face Med 2005;1:13 (doi:10.1186/1746-160X-1-13). Scalp, eyes and all signals were
chosen to look right: fat is bright, compact bone gives no signal, the vitreous body looks like fluid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Floats, Grid, Volume
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.boxes import bounding_box
from brats_seg.phantom.fields import Field, expand, lattice_points, resample_box
from brats_seg.phantom.objects import Waves, draw_waves

Point = tuple[float, float, float]


class Layer(Enum):
    """What lies outside the brain."""

    FLUID = "fluid below the skull"
    BONE = "compact bone"
    MARROW = "marrow of the skull"
    FAT = "fat below the skin"
    SKIN = "skin and muscle"
    EYE = "vitreous body"


_ROWS: Mapping[Layer, tuple[float, float, float, float]] = {
    #              T1    T1CE  T2    FLAIR    share of the brain's median
    Layer.FLUID: (0.35, 0.40, 2.20, 0.30),
    Layer.BONE: (0.08, 0.08, 0.08, 0.08),
    Layer.MARROW: (1.30, 1.30, 0.90, 0.80),
    Layer.FAT: (1.90, 1.80, 1.30, 1.20),
    Layer.SKIN: (0.80, 1.00, 0.75, 0.80),
    Layer.EYE: (0.35, 0.40, 2.40, 0.35),
}
SIGNAL: Mapping[MRSequence, Mapping[Layer, float]] = {
    sequence: {layer: row[column] for layer, row in _ROWS.items()} for column, sequence in enumerate(SEQUENCES)
}
"""Mean signal of each layer as a share of the brain's median; drawn around it for each patient and sequence."""

CLOSED_MM = 12.0
"""Furrows narrower than twice this do not show in the skull."""
TOUCHING_MM = 3.0
"""Tumour so near the surface of the brain touches the dura, and"""
NO_ROOM_MM = (6.0, 18.0)
"""leaves no fluid within the first of these distances; at the second there is as much as elsewhere."""
_STRIDE_MM = 2.0
_LATTICE = 4


@dataclass(frozen=True, eq=False)
class Skull:
    """The head of one patient, drawn.

    Attributes:
        fluid_mm: mean gap between brain and bone.
        inner_mm, marrow_mm, outer_mm: mean thickness of the skull's three layers.
        fat_mm, skin_mm: mean thickness of the fat below the skin, and of the skin.
        waves: how thickness varies with direction: of the fluid, of the skull (``BONE``) and of the scalp (``SKIN``).
        eyes_mm: centres of both eyes from the centre of the brain, RAS+.
        brightness: factor of each layer by sequence.
        air_noise: standard deviation of the noise around the head, as a share of the brain's median; 0 for air that
            was set to 0.
    """

    fluid_mm: float
    inner_mm: float
    marrow_mm: float
    outer_mm: float
    fat_mm: float
    skin_mm: float
    waves: Mapping[Layer, Waves]
    eye_mm: float
    eyes_mm: tuple[Point, Point]
    brightness: Mapping[MRSequence, Mapping[Layer, float]]
    air_noise: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a truth file."""
        names = ("fluid_mm", "inner_mm", "marrow_mm", "outer_mm", "fat_mm", "skin_mm", "eye_mm", "air_noise")
        return {
            **{name: round(float(getattr(self, name)), 4) for name in names},
            "eyes_mm": [list(eye) for eye in self.eyes_mm],
        }


def draw_skull(rng: np.random.Generator) -> Skull:
    """Draw the head of one patient."""
    side = float(rng.uniform(29, 35))
    front, below = float(rng.uniform(62, 70)), float(rng.uniform(-52, -44))
    return Skull(
        fluid_mm=float(rng.uniform(1.0, 4.0)),
        inner_mm=float(rng.uniform(1.2, 2.0)),
        marrow_mm=float(rng.uniform(1.5, 4.5)),
        outer_mm=float(rng.uniform(1.5, 2.5)),
        fat_mm=float(rng.uniform(2.0, 6.0)),
        skin_mm=float(rng.uniform(2.0, 4.0)),
        waves={layer: draw_waves(0.35, rng) for layer in (Layer.FLUID, Layer.BONE, Layer.SKIN)},
        eye_mm=float(rng.uniform(23, 25)),
        eyes_mm=((side, front, below), (-side, front, below)),
        brightness={s: {layer: float(np.exp(0.12 * rng.standard_normal())) for layer in Layer} for s in SEQUENCES},
        air_noise=float(rng.choice((0.0, 1.0)) * rng.uniform(0.01, 0.03)),
    )


def add_skull(study: Study, skull: Skull, rng: np.random.Generator, *, tumour: Volume | None = None) -> Study:
    """The study with a head around its brain, on the same grids. Brain voxels keep their values.

    Every sequence gets the head from its own brain, so it moves with it.

    Args:
        study: skull-stripped, 0 outside the brain.
        rng: chance of this scan: noise.
        tumour: where it is not 0 there is tumour, on any grid; no fluid lies between bone and what of it reaches the
            surface of the brain.

    Raises:
        InputError: if an image has no brain.
    """
    images: dict[MRSequence, Volume] = {}
    known: tuple[Volume, dict[Layer, Field]] | None = None
    for sequence, child in zip(study.present, rng.spawn(len(study.present)), strict=True):
        volume = study.images[sequence]
        if not (volume.data != 0).any():
            raise InputError(f"{sequence.title} holds no brain to put a skull around")
        if known is None or not _same_brain(known[0], volume):  # sequences on one grid share their layers
            brain = volume.data != 0
            known = (volume, head_layers(brain, volume.grid, skull, tumour=_on(volume.grid, tumour, brain)))
        images[sequence] = _with_head(volume, known[1], sequence, skull, child)
    return replace(study, images=images)


def _same_brain(one: Volume, other: Volume) -> bool:
    return one.grid.same_as(other.grid) and np.array_equal(one.data != 0, other.data != 0)


def _with_head(
    volume: Volume, shares: Mapping[Layer, Field], sequence: MRSequence, skull: Skull, rng: np.random.Generator
) -> Volume:
    data = volume.data.astype(np.float32)
    brain = data != 0
    median = float(np.median(data[brain]))
    signal = np.zeros(volume.grid.shape, np.float32)
    for layer, share in shares.items():
        box = bounding_box(share)
        if box is not None:
            signal[box] += share[box] * np.float32(SIGNAL[sequence][layer] * skull.brightness[sequence][layer])
    texture = ndimage.gaussian_filter(rng.standard_normal(signal.shape, dtype=np.float32), 1.0, truncate=2.5)
    signal *= 1 + 0.10 * texture / max(float(texture.std()), 1e-6)
    noise = max(skull.air_noise, 0.01)
    real = signal + noise * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = noise * rng.standard_normal(signal.shape, dtype=np.float32)
    outside = (np.hypot(real, imaginary) * median).astype(np.float32)
    if skull.air_noise == 0:
        outside[sum(shares.values()) < 0.05] = 0
    return volume.with_data(np.where(brain, data, outside))


def _on(grid: Grid, tumour: Volume | None, brain: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The tumour within a brain; None where there is none."""
    if tumour is None or not tumour.data.any():
        return None
    mask = np.ascontiguousarray(tumour.data != 0, np.float32)
    return (resample_box(mask, tumour.grid, grid) >= 0.5) & brain


def head_layers(
    brain: NDArray[np.bool_], grid: Grid, skull: Skull, *, tumour: NDArray[np.bool_] | None = None
) -> dict[Layer, Field]:
    """Share of each voxel in each layer; 0 in the brain.

    A surface at distance ``d`` from the brain's smoothed outline, in voxels of size ``s``, fills a voxel at distance
    ``x`` by ``clip((d - x) / s + 1/2, 0, 1)``.

    Args:
        brain: ``(X, Y, Z)``.
        tumour: ``(X, Y, Z)``; where it reaches the surface of the brain it touches the bone.
    """
    distance, centre_mm = _distance_mm(brain, grid)
    local = _from(centre_mm, grid)
    below, skull_waves, scalp = (
        _waves(skull, layer, grid, centre_mm) for layer in (Layer.FLUID, Layer.BONE, Layer.SKIN)
    )
    if tumour is not None:
        below = below * _room(brain, tumour, grid)
    step = float(np.mean(grid.spacing_mm))
    shares: dict[Layer, Field] = {layer: np.zeros(grid.shape, np.float32) for layer in Layer}
    before = np.zeros(grid.shape, np.float32)
    depth = np.zeros(grid.shape, np.float32)
    for layer, thickness_mm, waves in (
        (Layer.FLUID, skull.fluid_mm, below),
        (Layer.BONE, skull.inner_mm, skull_waves),
        (Layer.MARROW, skull.marrow_mm, skull_waves),
        (Layer.BONE, skull.outer_mm, skull_waves),
        (Layer.FAT, skull.fat_mm, scalp),
        (Layer.SKIN, skull.skin_mm, scalp),
    ):
        depth += np.float32(thickness_mm) * waves
        filled = _filled(depth - distance, step)
        shares[layer] += filled - before
        before = filled
    _add_face(shares, local, before, step)
    _add_eyes(shares, local, skull, step)
    for share in shares.values():
        np.clip(share, 0, 1, out=share)
        share[brain] = 0
    return shares


def _from(centre_mm: Floats, grid: Grid) -> tuple[Field, Field, Field]:
    """How far each voxel lies to the right of, before and above a place, mm."""
    parts = []
    for world in range(3):
        total = np.full((1, 1, 1), grid.affine[world, 3] - centre_mm[world], np.float32)
        for axis, size in enumerate(grid.shape):
            along = np.arange(size, dtype=np.float32) * np.float32(grid.affine[world, axis])
            total = total + along.reshape([-1 if a == axis else 1 for a in range(3)])
        parts.append(total)
    return parts[0], parts[1], parts[2]


def _waves(skull: Skull, layer: Layer, grid: Grid, centre_mm: Floats) -> Field:
    """A layer's waves by the direction of each voxel from the centre."""
    points = lattice_points(grid, _LATTICE) - centre_mm
    directions = points / np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-6)
    return expand(skull.waves[layer](directions).astype(np.float32), grid.shape, _LATTICE)


def _distance_mm(brain: NDArray[np.bool_], grid: Grid) -> tuple[Field, Floats]:
    """Distance from the brain's outline with its furrows closed, 0 inside; and the centre of that outline, RAS+ mm.

    Computed on voxels about 2 mm apart and interpolated.
    """
    steps, spacing = _coarse(grid)
    coarse = brain[tuple(slice(None, None, step) for step in steps)]
    pad = [int(np.ceil(2 * CLOSED_MM / side)) for side in spacing]
    padded = np.pad(coarse, [(n, n) for n in pad])
    grown = ndimage.distance_transform_edt(~padded, sampling=spacing) <= CLOSED_MM
    hull = padded | (ndimage.distance_transform_edt(grown, sampling=spacing) > CLOSED_MM)
    distance = ndimage.distance_transform_edt(~hull, sampling=spacing).astype(np.float32)
    inner = tuple(slice(n, n + size) for n, size in zip(pad, coarse.shape, strict=True))
    whole = expand(np.pad(distance[inner], (0, 1), mode="edge"), grid.shape, steps)
    centre: Floats = grid.to_world((np.argwhere(hull) - pad) * steps).mean(0)
    return whole, centre


def _room(brain: NDArray[np.bool_], tumour: NDArray[np.bool_], grid: Grid) -> Field:
    """How much of the fluid's thickness is left: 0 over tumour that reaches the surface, 1 farther off."""
    steps, spacing = _coarse(grid)
    every = tuple(slice(None, None, step) for step in steps)
    depth = ndimage.distance_transform_edt(np.pad(brain[every], 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    touching = tumour[every] & (depth <= TOUCHING_MM)
    if not touching.any():
        return np.ones((1, 1, 1), np.float32)
    away = ndimage.distance_transform_edt(~touching, sampling=spacing)
    low, high = NO_ROOM_MM
    room = np.clip((away - low) / (high - low), 0, 1).astype(np.float32)
    return expand(np.pad(room, (0, 1), mode="edge"), grid.shape, steps)


def _coarse(grid: Grid) -> tuple[list[int], list[float]]:
    """Strides to voxels about 2 mm apart, and their sides, mm."""
    steps = [max(round(_STRIDE_MM / side), 1) for side in grid.spacing_mm]
    return steps, [side * step for side, step in zip(grid.spacing_mm, steps, strict=True)]


def _add_face(shares: dict[Layer, Field], local: tuple[Field, Field, Field], filled: Field, step: float) -> None:
    """Face and neck: a block of muscle below and in front of the brain, with fat below its skin."""
    x, y, z = local
    face = np.sqrt((x / 62) ** 2 + ((y - 28) / 62) ** 2 + ((z + 62) / 60) ** 2)
    neck = np.maximum(np.sqrt((x / 56) ** 2 + ((y + 22) / 58) ** 2), np.where(z > -30, np.float32(9), np.float32(0)))
    level = (1 - np.minimum(face, neck)) * 56  # about the distance to the surface, mm
    share = _filled(level, step) * (1 - filled)
    fat = _filled(9 - level, step) * _filled(level - 3, step)
    shares[Layer.FAT] += share * fat
    shares[Layer.SKIN] += share * (1 - fat)


def _filled(level_mm: Floats | Field, step: float) -> Field:
    """Share of voxels of size ``step`` within a surface, by the depth of their centres below it."""
    filled: Field = np.asarray(level_mm / step, np.float32)
    filled += np.float32(0.5)
    return np.clip(filled, 0, 1, out=filled)


def _add_eyes(shares: dict[Layer, Field], local: tuple[Field, Field, Field], skull: Skull, step: float) -> None:
    """Both eyes in orbits of fat; they replace what lies there."""
    radius = skull.eye_mm / 2
    for eye in skull.eyes_mm:
        reach = radius + 5 + step
        box = bounding_box(
            np.all([np.abs(part - np.float32(c)) <= reach for part, c in zip(local, eye, strict=True)], axis=0)
        )
        if box is None:  # outside the field of view
            continue
        distance = np.sqrt(sum((part[box] - np.float32(c)) ** 2 for part, c in zip(local, eye, strict=True)))
        orbit = _filled(radius + 5 - distance, step)
        inside = _filled(radius - distance, step)
        for share in shares.values():
            share[box] *= 1 - orbit
        shares[Layer.FAT][box] += orbit - inside
        shares[Layer.EYE][box] += inside
