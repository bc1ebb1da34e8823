"""A brain of one's own: tissue fractions made from the MNI152 template that the nilearn package carries.

The template is an average of 152 people, so its sulci are blurred. Each patient gets (1) tissue maps made
crisper and locally perturbed, which gives the brain folds nobody else has, and (2) a shape of its own: a
random affine, a smooth deformation that differs between left and right, and any push of a tumour.

Template: Fonov et al., NeuroImage 2011;54:313 (doi:10.1016/j.neuroimage.2010.07.033), ICBM 2009a symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats_seg.core.grid import Floats, Grid, Volume
from brats_seg.imaging.boxes import bounding_box
from brats_seg.phantom.fields import Field, expand, lattice_points, smooth_noise

_Kind = TypeVar("_Kind", np.float32, np.bool_)

LATTICE_MM = 6.0
"""Spacing of the lattice that holds the random deformation."""
LATTICE_REACH_MM = 132.0
"""The deformation lattice covers this far to each side of the brain's centre."""
MAP_STEP = 4
"""The way from patient to template is computed every so many voxels and interpolated between."""
VENTRICLE_DEPTH_MM = 14.0
"""CSF deeper than this below the surface of the brain counts as ventricle."""


@dataclass(frozen=True)
class AnatomyConfig:
    """How much patients differ.

    Attributes:
        scale: mean size against MNI152; 0.93 gives the 1450 ml that is the median brain mask of 14 public
            BraTS studies (MNI152 brains are larger than life).
        scale_sd: relative standard deviation of the size along each axis.
        tilt_sd_deg: standard deviation of the head's rotation about each axis.
        deform_mm: standard deviation of the smooth deformation (about 30 mm from bump to bump).
        fold_mm: standard deviation of the finer deformation (about 12 mm) that moves single folds.
        fold_noise: strength of the perturbation of tissue borders, in units of log odds.
        atrophy: range from which the widening of CSF spaces is drawn, in units of log odds.
    """

    scale: float = 0.93
    scale_sd: float = 0.025
    tilt_sd_deg: float = 2.5
    deform_mm: float = 2.5
    fold_mm: float = 1.2
    fold_noise: float = 1.0
    atrophy: tuple[float, float] = (-0.2, 0.9)

    def __post_init__(self) -> None:
        if not 0.5 <= self.scale <= 1.5:
            raise ValueError(f"scale {self.scale:g} is not a brain's; it lies in 0.5 to 1.5")
        if self.deform_mm > 5 or self.fold_mm > 2:
            raise ValueError("deform_mm above 5 or fold_mm above 2 would fold space onto itself")
        if self.atrophy[0] > self.atrophy[1]:
            raise ValueError(f"atrophy {self.atrophy} must rise")


@dataclass(frozen=True, eq=False)
class Template:
    """MNI152 cut to the brain, on a 1 mm RAS grid.

    Attributes:
        csf, grey, white: tissue fractions float32 that sum to 1 inside the brain.
        depth_mm: distance to the surface of the brain, 0 outside.
        mixed: 0..1, where grey and white mix over a wide area (deep grey matter, brain stem).
        centre_mm: the point brains are scaled and turned about.
    """

    grid: Grid
    csf: Field
    grey: Field
    white: Field
    depth_mm: Field
    mixed: Field
    centre_mm: Floats


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The template from nilearn's own files; nothing is downloaded."""
    head, *maps = (_read_map(kind) for kind in ("t1", "gm", "wm"))
    brain = head.data > 0
    filled = bounding_box(brain)
    assert filled is not None  # it is nilearn's own file
    low = np.array([max(span.start - 2, 0) for span in filled])
    box = tuple(slice(int(start), span.stop + 2) for start, span in zip(low, filled, strict=True))
    brain = brain[box]
    grey, white = (np.where(brain, picture.data[box] / picture.data.max(), 0) for picture in maps)
    affine = np.array(head.affine)
    affine[:3, 3] += affine[:3, :3] @ low
    csf = np.where(brain, np.clip(1 - grey - white, 0, 1), 0)
    total = np.maximum(csf + grey + white, 1e-6)
    both = np.where(brain, np.minimum(grey, white), 0)
    x, y, z = brain.shape
    return Template(
        Grid((x, y, z), affine),
        (csf / total).astype(np.float32),
        (grey / total).astype(np.float32),
        (white / total).astype(np.float32),
        depth_mm(brain),
        np.clip((ndimage.gaussian_filter(both, 5) - 0.16) / 0.14, 0, 1),
        np.array([0.0, -22.0, 9.5]),
    )


def _read_map(kind: str) -> Volume:
    """One of its maps, without loading nilearn itself: scikit-learn comes with it, which takes 2.5 CPU s."""
    from brats_seg.files.nifti import read_volume  # noqa: PLC0415  (training on packs needs no nibabel)

    spec = find_spec("nilearn")
    (folder,) = spec.submodule_search_locations if spec and spec.submodule_search_locations else ("",)
    return read_volume(Path(folder, "datasets", "data", f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"))


def depth_mm(brain: NDArray[np.bool_]) -> Field:
    """Distance to the outside of the brain on 1 mm voxels, 0 there; half the work where left mirrors right."""
    if not np.array_equal(brain, brain[::-1]):
        whole: Field = ndimage.distance_transform_edt(brain).astype(np.float32)
        return whole
    # what lies nearest across the middle has its mirror image on the same side, at most as far away
    half = (len(brain) + 1) // 2
    depth: Field = ndimage.distance_transform_edt(brain[:half]).astype(np.float32)
    return np.concatenate([depth, depth[: len(brain) - half][::-1]])


@dataclass(frozen=True, eq=False)
class Person:
    """What chance decided about one brain; :func:`make_anatomy` does the rest without chance.

    Attributes:
        centre_mm: where the brain lies, RAS+.
        matrix: 3x3, patient directions to template directions.
        deformation: ``(3, n, n, n)`` mm, on the lattice around the centre.
        csf, grey: individual tissue fractions on the template's grid (white is the rest).
        atrophy: widening of CSF spaces that was drawn.
    """

    centre_mm: Floats
    matrix: Floats
    deformation: Field
    csf: Field
    grey: Field
    atrophy: float

    def to_template(self, points_mm: Floats) -> Floats:
        """Patient RAS+ mm ``(..., 3)`` to template RAS+ mm ``(..., 3)``."""
        local = points_mm - self.centre_mm
        lattice = np.moveaxis((local + LATTICE_REACH_MM) / LATTICE_MM, -1, 0)
        moved = local + np.stack(
            [ndimage.map_coordinates(part, lattice, order=1, mode="nearest") for part in self.deformation], -1
        )
        result: Floats = moved @ self.matrix.T + load_template().centre_mm
        return result

    @cached_property
    def box_mm(self) -> tuple[Floats, Floats]:
        """Lower and upper corner, RAS+ mm, of a box around the brain."""
        axis = np.arange(-LATTICE_REACH_MM, LATTICE_REACH_MM + 1, 3.0)
        template = load_template()
        # nothing deformed lies farther from where the template's corners go than the largest deformation
        corners = (template.grid.to_world(template.grid.corners()) - template.centre_mm) @ np.linalg.inv(self.matrix.T)
        reach = np.abs(self.deformation).max((1, 2, 3))
        bounds = zip(corners.min(0) - reach, corners.max(0) + reach, strict=True)
        axes = [axis[(axis >= low) & (axis <= high)] for low, high in bounds]
        points = self.centre_mm + np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        voxels = np.moveaxis(template.grid.to_voxel(self.to_template(points)), -1, 0)
        inside = points[ndimage.map_coordinates(template.depth_mm, voxels, order=1, mode="constant") > 0]
        return inside.min(0) - 4, inside.max(0) + 4


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Tissue fractions of one brain; they sum to 1 inside ``brain`` and are 0 outside.

    Attributes:
        csf: sulci and ventricles.
        ventricle: the part of ``csf`` that lies deep.
    """

    grid: Grid
    csf: Field
    ventricle: Field
    grey: Field
    white: Field
    brain: NDArray[np.bool_]


def draw_person(config: AnatomyConfig, centre_mm: Floats, rng: np.random.Generator) -> Person:
    """Draw a brain that will lie around ``centre_mm``."""
    scale = config.scale * (1 + config.scale_sd * rng.standard_normal(3))
    tilt = Rotation.from_rotvec(np.deg2rad(config.tilt_sd_deg) * rng.standard_normal(3)).as_matrix()
    count = int(2 * LATTICE_REACH_MM / LATTICE_MM) + 1
    shape = (count, count, count)
    deformation = np.stack(
        [
            config.deform_mm * smooth_noise(shape, 28 / LATTICE_MM / 1.5, rng)
            + config.fold_mm * smooth_noise(shape, 1.0, rng)
            for _ in range(3)
        ]
    )
    atrophy = float(rng.uniform(*config.atrophy))
    csf, grey = _individual_tissue(config, atrophy, rng)
    return Person(np.asarray(centre_mm, np.float64), np.diag(1 / scale) @ tilt, deformation, csf, grey, atrophy)


def _individual_tissue(config: AnatomyConfig, atrophy: float, rng: np.random.Generator) -> tuple[Field, Field]:
    """CSF and grey fractions with crisp borders that wander, on the template's grid.

    Log odds of the average are perturbed by smooth noise and multiplied, as if 152 brains were undone; where
    grey and white mix over a wide area the mixture is real, and stays.
    """
    template = load_template()
    shape = template.grid.shape
    inside = template.depth_mm > 0
    mixed = template.mixed[inside]
    noise = config.fold_noise * (1 - 0.75 * mixed)
    gain = 1 + 1.6 * (1 - mixed)
    floor = 0.01
    deep = 0.6 * (template.depth_mm[inside] > VENTRICLE_DEPTH_MM)  # the template's ventricles are those of young people
    log_csf = np.log(template.csf[inside] + floor) + atrophy + deep + noise * smooth_noise(shape, 1.6, rng)[inside]
    log_grey = np.log(template.grey[inside] + floor)
    log_white = np.log(template.white[inside] + floor) + 0.5 + 0.6 * noise * smooth_noise(shape, 1.6, rng)[inside]
    highest = np.maximum(np.maximum(log_csf, log_grey), log_white)
    odds = [np.exp(gain * (value - highest)) for value in (log_csf, log_grey, log_white)]
    total = odds[0] + odds[1] + odds[2]
    csf, grey = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    csf[inside], grey[inside] = odds[0] / total, odds[1] / total
    return csf, grey


def make_anatomy(person: Person, grid: Grid, *, origin_mm: Callable[[Floats], Floats] | None = None) -> Anatomy:
    """Tissue fractions of a person on a grid of about 1 mm.

    Args:
        grid: where to compute; should contain the brain.
        origin_mm: where tissue now at ``(..., 3)`` RAS+ mm came from, if something pushes; the skull, and so the brain
            mask, does not give way.
    """
    template = load_template()
    points = lattice_points(grid, MAP_STEP)
    still = _template_lattice(person, points)
    near = _near_brain(template, still, grid)
    places = _places(still, near, grid)
    depth = _sample(template.depth_mm, places)
    brain = _spread(depth > 1.0, near)
    if origin_mm is not None:
        places = _places(_template_lattice(person, origin_mm(points)), brain, grid)
        depth = _sample(template.depth_mm, places)
    else:
        kept = depth > 1.0
        places, depth = places[:, kept], depth[kept]
    csf = np.clip(_sample(person.csf, places), 0, 1)
    grey = np.clip(_sample(person.grey, places), 0, 1 - csf)
    deep = 1 / (1 + np.exp((VENTRICLE_DEPTH_MM - depth) / 1.5))
    csf, ventricle, grey, white = (_spread(part, brain) for part in (csf, csf * deep, grey, 1 - csf - grey))
    return Anatomy(grid, csf, ventricle, grey, white, brain)


def _template_lattice(person: Person, points_mm: Floats) -> Field:
    """``(3, ...)`` template voxel coordinates of lattice points ``(..., 3)`` in the patient."""
    voxels = load_template().grid.to_voxel(person.to_template(points_mm))
    return np.moveaxis(voxels, -1, 0).astype(np.float32)


def _near_brain(template: Template, lattice: Field, grid: Grid) -> NDArray[np.bool_]:
    """Voxels that may lie in the brain: some lattice point around them does."""
    depth = ndimage.map_coordinates(template.depth_mm, lattice, order=1, mode="constant")
    return expand(ndimage.maximum_filter(depth > 0, 3).astype(np.float32), grid.shape, MAP_STEP) > 0


def _places(lattice: Field, where: NDArray[np.bool_], grid: Grid) -> Field:
    """``(3, N)`` template voxel coordinates of the N voxels of ``where``."""
    return np.stack([expand(axis, grid.shape, MAP_STEP)[where] for axis in lattice])


def _sample(values: Field, places: Field) -> Field:
    """A template map at ``(3, N)`` places."""
    result: Field = ndimage.map_coordinates(values, places, output=np.float32, order=1, mode="nearest")
    return result


def _spread(values: NDArray[_Kind], where: NDArray[np.bool_]) -> NDArray[_Kind]:
    """Values of the voxels of ``where`` on the whole grid, 0 elsewhere."""
    result = np.zeros(where.shape, values.dtype)
    result[where] = values
    return result
