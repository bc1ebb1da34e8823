"""Two scans of one phantom patient whose lesions changed by a known amount, as a scanner and a reader would give them.

Everything here knows the truth; what :mod:`brats_seg.track.boundary_shift.change`
gets of it is images and imperfect masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Floats, Grid, Volume, grid_between
from brats_seg.core.study import MRSequence
from brats_seg.imaging.brain import largest
from brats_seg.phantom.acquire import AcquisitionConfig, Body, Texture, TumourFractions, acquire, draw_texture
from brats_seg.phantom.anatomy import Anatomy, AnatomyConfig, draw_person, make_anatomy
from brats_seg.phantom.contrast import SIGNAL, ZERO_LEVEL, Tissue
from brats_seg.phantom.fields import smooth_noise
from brats_seg.phantom.objects import Blob, Ellipsoid, Shell, Waves, draw_waves
from experiments.change.rims import MOVES, Course, hollowed, label_like, outer, shares

Mask = NDArray[np.bool_]
MaskKind = Literal["threshold", "network"]

SEQUENCE = MRSequence.T1CE
"""Lesions enhance, as metastases do as a whole and glioblastomas in a rim; edema or brain lies around them."""

BETWEEN_MM = 10.0
"""Lesions of one patient keep this distance."""

SPARE_MM = 2.0
"""And this one from the surface of the brain."""


@dataclass(frozen=True)
class PairConfig:
    """What a pair of scans is like.

    Attributes:
        diameters_mm: equivalent diameters of the lesions, one each, halfway between the two visits.
        change_mm: size of the change of each equivalent diameter; its sign is drawn.
        irregularity: of the lesions' surfaces; 0 for ellipsoids, 0.35 for bumps of a sixth of the radius.
        uneven: share of the bumps that is redrawn between the visits, so that growth differs from place to place.
        snr: signal of white matter over standard deviation of the noise.
        slice_mm: slice thickness; voxels are 1 mm within a slice.
        contrast_jitter: change of every tissue's brightness from visit to visit, in standard deviations of the brain.
        bias: standard deviation of the logarithm of each visit's coil sensitivity.
        edema_mm: width of the edema around each lesion; 0 puts lesions straight into the brain's tissue.
        lesion_texture: multiplies the texture inside lesions. With 0.5 and edema the phantoms' lesions look as real
            enhancing rims do: their standard deviation is 0.3 of the contrast (real: 0.3 to 0.5 in 5 of 7 studies),
            that of the surround 0.15 to 0.2 of it (0.10 to 0.19), the contrast 0.4 to 0.5 of the surround
            (0.2 to 1.2, median 0.5).
        new_texture: 0..1, share of the variance of the lesions' texture that is redrawn between the visits.
        shift_mm: standard deviation, per axis, of the head's place at each visit.
        turn_deg: standard deviation, per axis, of its rotation.
        mask_kind: ``threshold`` for masks made at half height in the image, ``network`` for the truth with a smooth
            random error of its border, new at each visit.
        rim_mm: range of the mean thickness of rims around a necrotic core; None for solid lesions. The diameters are
            then those of rim and core together, and ``change_mm`` that of the outer border, of the core's, or of both
            with independent signs, one of the three drawn for each lesion.
        rim_gaps: whether the core may break through the rim; without, the rim is closed.
    """

    diameters_mm: tuple[float, ...] = (10.0, 20.0, 30.0)
    change_mm: float = 1.0
    irregularity: float = 0.2
    uneven: float = 0.15
    snr: float = 25.0
    slice_mm: float = 1.0
    contrast_jitter: float = 0.05
    bias: float = 0.07
    edema_mm: float = 12.0
    lesion_texture: float = 0.5
    new_texture: float = 0.0
    shift_mm: float = 2.0
    turn_deg: float = 1.5
    mask_kind: MaskKind = "network"
    rim_mm: tuple[float, float] | None = None
    rim_gaps: bool = False

    def __post_init__(self) -> None:
        if not self.diameters_mm or min(self.diameters_mm) <= self.change_mm:
            raise InputError(f"diameters {self.diameters_mm} mm must be larger than the change {self.change_mm:g} mm")
        if min(self.snr, self.slice_mm) <= 0 or min(self.lesion_texture, self.edema_mm) < 0:
            raise InputError("snr and slice_mm must be positive, lesion_texture and edema_mm not negative")
        if not 0 <= self.new_texture <= 1 or not 0 <= self.uneven <= 1:
            raise InputError("new_texture and uneven are shares and lie in 0..1")
        if self.rim_mm is not None and not 0 < self.rim_mm[0] <= self.rim_mm[1] < min(self.diameters_mm) / 3:
            raise InputError(f"rim_mm {self.rim_mm} must be a positive range below a third of the diameters")


@dataclass(frozen=True, eq=False)
class Scan:
    """What one visit gives.

    Attributes:
        image: one sequence, skull-stripped, on a grid of its own.
        brain: ``(X, Y, Z)`` bool.
        masks: imperfect mask of each lesion, the rim where it has a core.
        cores: imperfect mask of each lesion's core; empty in solid lesions.
        volumes_ml: true volume of what enhances of each lesion.
        matrix: RAS+ mm of the scan to RAS+ mm of the patient; truth.
    """

    image: Volume
    brain: Mask
    masks: tuple[Mask, ...]
    cores: tuple[Mask, ...]
    volumes_ml: tuple[float, ...]
    matrix: Affine


@dataclass(frozen=True, eq=False)
class Head:
    """A brain without lesions; making one takes longer than scanning it.

    Attributes:
        anatomy: its tissue.
        texture: the patterns in it.
        depth_mm: distance of each voxel to the surface of the brain.
    """

    anatomy: Anatomy
    texture: Texture
    depth_mm: NDArray[np.float32]


@lru_cache(maxsize=1)
def make_head(seed: int) -> Head:
    """Draw a brain and its texture."""
    person_rng, texture_rng = np.random.default_rng(seed).spawn(2)
    person = draw_person(AnatomyConfig(), np.zeros(3), person_rng)
    anatomy = make_anatomy(person, grid_between(*person.box_mm, 1.0))
    depth = ndimage.distance_transform_edt(np.pad(anatomy.brain, 1))[1:-1, 1:-1, 1:-1]
    return Head(anatomy, draw_texture(anatomy, texture_rng), depth.astype(np.float32))


def make_visits(head: Head, config: PairConfig, rng: np.random.Generator, *, visits: int = 2) -> tuple[Scan, ...]:
    """Scans of a patient whose lesions grow or shrink by the same step from visit to visit.

    Args:
        head: where the lesions are put.
        config: lesions and scanner.
        rng: places, shapes, noise, positions.
        visits: at least 2; the lesion's diameter is ``diameters_mm`` in the middle of them.

    Raises:
        InputError: if the lesions do not fit into the brain.
    """
    courses: dict[int, Course] = {}
    for index in np.argsort(config.diameters_mm, kind="stable")[::-1]:  # the largest is the hardest to place
        others = list(courses.values())
        diameter_mm = config.diameters_mm[index]
        courses[int(index)] = _draw_course(head, others, diameter_mm, config=config, rng=rng, visits=visits)
    texture = head.texture
    scans = []
    for visit in range(visits):
        if visit > 0 and config.new_texture > 0:
            texture = _redraw(texture, config.new_texture, head.anatomy.grid, rng)
        scans.append(
            _scan([courses[index][visit] for index in sorted(courses)], head.anatomy, texture, config=config, rng=rng)
        )
    return tuple(scans)


def _redraw(texture: Texture, share: float, grid: Grid, rng: np.random.Generator) -> Texture:
    """Texture of which a share of the variance in lesions is new."""
    new = smooth_noise(grid.shape, 1.6 / min(grid.spacing_mm), rng)
    lesion = (np.sqrt(1 - share) * texture.lesion + np.sqrt(share) * new).astype(np.float32)
    return replace(texture, lesion=lesion)


def _draw_course(
    head: Head,
    others: Sequence[Course],
    diameter_mm: float,
    *,
    config: PairConfig,
    rng: np.random.Generator,
    visits: int,
) -> Course:
    """One lesion at every visit: an ellipsoid with bumps whose equivalent diameter goes up or down in equal steps."""
    stretch = np.exp(rng.uniform(-0.18, 0.18, 3))
    stretch /= np.cbrt(stretch.prod())
    rotation = Rotation.random(random_state=rng).as_matrix()
    waves, other = (draw_waves(config.irregularity, rng) for _ in range(2))
    step_mm = (np.arange(visits) - (visits - 1) / 2) * config.change_mm
    steps = step_mm * rng.choice((-1.0, 1.0))
    moves = "outer" if config.rim_mm is None else rng.choice(MOVES)
    if moves == "inner":
        steps = np.zeros_like(steps)
    reach = (diameter_mm / 2 + abs(steps[0])) * float(stretch.max()) * waves.high
    centre = _draw_centre(head, reach, others, rng)
    course = []
    for visit, step in enumerate(steps):
        share = config.uneven * visit / (visits - 1)
        mixed = Waves(
            np.concatenate([waves.vectors, other.vectors]),
            np.concatenate([waves.amplitudes * (1 - share), other.amplitudes * share]),
            np.concatenate([waves.phases, other.phases]),
        )
        course.append(Blob(Ellipsoid(centre, stretch * (diameter_mm + step) / 2, rotation), mixed))
    if config.rim_mm is None:
        return tuple(course)
    return hollowed(
        course,
        step_mm * (0.0 if moves == "outer" else rng.choice((-1.0, 1.0))),
        thickness_mm=float(rng.uniform(*config.rim_mm)),
        off_centre=1.2 if config.rim_gaps else float(rng.uniform(0, 0.4)),
        irregularity=config.irregularity,
        gaps=config.rim_gaps,
        rng=rng,
    )


def _draw_centre(head: Head, reach_mm: float, others: Sequence[Course], rng: np.random.Generator) -> Floats:
    """A place at which a ball of this radius lies in the brain, away from the other lesions."""
    points = head.anatomy.grid.to_world(np.argwhere(head.depth_mm > reach_mm + SPARE_MM))
    for other in others:
        whole = outer(other[0])
        away = np.linalg.norm(points - np.array(whole.ellipsoid.centre_mm), axis=1)
        points = points[away > reach_mm + max(whole.ellipsoid.radii_mm) * whole.waves.high + BETWEEN_MM]
    if len(points) == 0:
        raise InputError(
            f"no place in this brain holds a lesion of {2 * reach_mm:.0f} mm beside {len(others)} others; "
            "take smaller or fewer lesions"
        )
    result: Floats = points[rng.integers(len(points))] + rng.uniform(-0.5, 0.5, 3)
    return result


def _scan(
    lesions: Sequence[Blob | Shell],
    anatomy: Anatomy,
    texture: Texture,
    *,
    config: PairConfig,
    rng: np.random.Generator,
) -> Scan:
    grid = anatomy.grid
    parts = [shares(lesion, grid) for lesion in lesions]
    empty, (enhancing, necrosis) = np.zeros(grid.shape, np.float32), np.sum(parts, axis=0)
    filled = np.minimum(enhancing + necrosis, 1)
    calmed = _calm(texture, filled, config.lesion_texture)
    wholes = [outer(lesion) for lesion in lesions]
    edema, depth = _edema(wholes, filled, anatomy, config.edema_mm) if config.edema_mm > 0 else (empty, empty)
    tissues = {Tissue.NECROSIS: necrosis, Tissue.EDEMA: edema, Tissue.ENHANCING: enhancing}
    body = Body(anatomy, TumourFractions(grid, necrosis, edema, enhancing, depth), calmed, tissues)
    matrix = _draw_place(config, rng)
    scanner = _scanner_grid(grid, config.slice_mm)
    white = ZERO_LEVEL[SEQUENCE] + SIGNAL[SEQUENCE][Tissue.WHITE]
    acquisition = AcquisitionConfig(
        noise=white / config.snr,
        bias=config.bias,
        contrast_jitter=config.contrast_jitter,
        slice_mm={SEQUENCE: (config.slice_mm, config.slice_mm)},
        sequences=(SEQUENCE,),
    )
    moved = Grid(scanner.shape, matrix @ scanner.affine)  # where the scanner's voxels lie in the patient
    image = acquire(body, {SEQUENCE: moved}, rng, config=acquisition).images[SEQUENCE]
    seen = Volume(image.data, scanner)
    found = [shares(lesion, moved, supersampling=2) for lesion in lesions]  # masks need no more
    masks = [_read(seen, share, config.mask_kind, rng) for share, _ in found]
    cores = [label_like(mask, *pair) for mask, pair in zip(masks, found, strict=True)]
    volumes = [
        lesion.volume_ml if isinstance(lesion, Blob) else float(share.sum(dtype=np.float64)) * grid.voxel_ml
        for lesion, (share, _) in zip(lesions, parts, strict=True)  # the formula does not hold for a rim with gaps
    ]
    return Scan(seen, seen.data > 0, tuple(masks), tuple(cores), tuple(volumes), matrix)


def _edema(
    lesions: Sequence[Blob], filled: NDArray[np.float32], anatomy: Anatomy, width_mm: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Share of each voxel that is edema, and its depth below the edema's rim; it spares fluid and ends at the brain."""
    edema, depth = np.zeros_like(filled), np.zeros_like(filled)
    for lesion in lesions:
        radii_mm = np.array(lesion.ellipsoid.radii_mm) + width_mm
        outer = Blob(Ellipsoid(lesion.ellipsoid.centre_mm, radii_mm, lesion.ellipsoid.rotation), lesion.waves)
        part = outer.sample_fractions(anatomy.grid, supersampling=3)
        voxels = np.argwhere(part > 0)
        below = 1 - outer.relative_radius(anatomy.grid.to_world(voxels))
        place = tuple(voxels.T)
        depth[place] = np.maximum(depth[place], below)
        edema = np.maximum(edema, part)
    edema = np.clip(edema * (1 - anatomy.csf) * anatomy.brain - filled, 0, 1)
    return edema, depth


def _calm(texture: Texture, filled: NDArray[np.float32], factor: float) -> Texture:
    """Texture of lesions times a factor; that of the brain around them stays."""
    inside = np.where(filled > 0, np.float32(factor), np.float32(1))
    return replace(texture, middle=texture.middle * inside, lesion=texture.lesion * inside)


def _draw_place(config: PairConfig, rng: np.random.Generator) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(config.turn_deg) * rng.standard_normal(3)).as_matrix()
    matrix[:3, 3] = config.shift_mm * rng.standard_normal(3)
    return matrix


def _scanner_grid(grid: Grid, slice_mm: float) -> Grid:
    """Axial slices around the head, with 8 mm of room for movement."""
    spacing = np.array([1.0, 1.0, slice_mm])
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = grid.to_world((0, 0, 0)) - 8.0
    x, y, z = (int(n) for n in np.ceil((np.array(grid.extent_mm) + 16.0) / spacing))
    return Grid((x, y, z), affine)


def _read(seen: Volume, fraction: NDArray[np.float32], kind: MaskKind, rng: np.random.Generator) -> Mask:
    """An imperfect mask of the lesion that fills these shares of the voxels."""
    voxels = np.argwhere(fraction > 0)
    margin = np.ceil(6.0 / np.array(seen.grid.spacing_mm)).astype(int)
    low = np.maximum(voxels.min(0) - margin, 0)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, voxels.max(0) + 1 + margin, strict=True))
    part, spacing = fraction[x, y, z], np.array(seen.grid.spacing_mm)
    mask = np.zeros(fraction.shape, np.bool_)
    if kind == "network":
        mask[x, y, z] = _network_mask(part, spacing, rng)
    else:
        mask[x, y, z] = _threshold_mask(seen.data[x, y, z].astype(np.float32), part, spacing)
    return mask


def _network_mask(fraction: NDArray[np.float32], spacing_mm: Floats, rng: np.random.Generator) -> Mask:
    """The true border, moved by 0.3 mm (1 sd) as a whole and by 0.6 mm (1 sd) in patches of about 3 mm."""
    inside = fraction >= 0.5
    depth = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    depth -= ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
    x, y, z = fraction.shape
    error = 0.6 * smooth_noise((x, y, z), 1.5, rng) + 0.3 * float(rng.standard_normal())
    return largest((depth + error > 0) & (depth > -4), connectivity=6)


def _threshold_mask(image: NDArray[np.float32], fraction: NDArray[np.float32], spacing_mm: Floats) -> Mask:
    """Half height between lesion and surround in the smoothed image, within 3 mm of the lesion."""
    near = ndimage.distance_transform_edt(fraction < 0.5, sampling=spacing_mm) < 3
    ring = near & (fraction == 0)
    smooth = ndimage.gaussian_filter(image, 0.7 / spacing_mm)
    level = (np.median(smooth[fraction >= 0.5]) + np.median(smooth[ring])) / 2
    mask = largest(near & (smooth > level), connectivity=6)
    hollow = ndimage.binary_fill_holes(fraction >= 0.5) & (fraction < 0.5)  # a core, no dark speck
    filled: Mask = ndimage.binary_fill_holes(mask) & (mask | ~hollow)
    return filled
