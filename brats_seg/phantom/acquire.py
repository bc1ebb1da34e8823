"""From tissue fractions to four MRI sequences: contrast, texture, coil, slice profile, movement and noise.

Noise is Rician, the magnitude of a complex signal with Gaussian noise in both channels (Gudbjartsson and Patz,
Magn Reson Med 1995;34:910, doi:10.1002/mrm.1910340618). The coil's sensitivity is the exponential of a smooth
field. A slice is the mean over its thickness, so partial volume comes about as in the scanner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Grid, Volume
from brats_seg.core.labels import Structure
from brats_seg.core.scans import Study
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.boxes import Box, bounding_box
from brats_seg.phantom.anatomy import Anatomy
from brats_seg.phantom.contrast import SIGNAL, VARIATION, WIDE, ZERO_LEVEL, Tissue
from brats_seg.phantom.fields import Field, cropped, expand, lattice_shape, reached_box, resample_box, smooth_noise

THREADS = 2
"""Sequences scanned at the same time: each needs some hundred MB while it is made."""

_SLICES: Mapping[MRSequence, tuple[float, float]] = {
    MRSequence.T1: (1.0, 2.5),
    MRSequence.T1CE: (1.0, 1.5),
    MRSequence.T2: (1.0, 3.0),
    MRSequence.FLAIR: (1.0, 3.0),
}


@dataclass(frozen=True)
class AcquisitionConfig:
    """The scanner.

    Attributes:
        noise: standard deviation of the noise in each channel, in standard deviations of the brain's signal.
        bias: standard deviation of the logarithm of the coil's sensitivity across the brain.
        contrast_jitter: standard deviation of the change of a tissue's brightness between patients, z-score.
        texture: multiplies the variation inside tissues.
        slice_mm: range of slice thickness by sequence, for grids with thinner slices than that, as when thick
            slices were resampled to an atlas. Thicker voxels are always integrated over their own size.
        blur_mm: full width at half maximum of the in-plane point-spread function.
        movement_mm: standard deviation, per axis, of the shift between sequences; T1CE stays.
        movement_deg: standard deviation, per axis, of the rotation between sequences; T1CE stays.
    """

    noise: float = 0.08
    bias: float = 0.07
    contrast_jitter: float = 0.10
    texture: float = 1.0
    slice_mm: Mapping[MRSequence, tuple[float, float]] = field(default_factory=lambda: _SLICES)
    blur_mm: float = 1.2
    movement_mm: float = 0.0
    movement_deg: float = 0.0
    sequences: tuple[MRSequence, ...] = SEQUENCES

    def __post_init__(self) -> None:
        values = (self.noise, self.bias, self.contrast_jitter, self.texture, self.blur_mm, self.movement_mm)
        if min(*values, self.movement_deg) < 0:
            raise InputError("noise, bias, contrast_jitter, texture, blur_mm and movement must not be negative")
        if not self.sequences:
            raise InputError("a phantom needs at least one sequence")


@dataclass(frozen=True, eq=False)
class Texture:
    """Unit-variance patterns that belong to the patient, so that they are the same on every scan of him.

    Attributes:
        fine, middle, wide: smooth noise of about 1, 2.5 and 10 mm.
        lesion: smooth noise of about 2 mm, for tumour tissue.
        vessel: 0..1, a net of thin tubes.
    """

    fine: Field
    middle: Field
    wide: Field
    lesion: Field
    vessel: Field


@dataclass(frozen=True, eq=False)
class TumourFractions:
    """Share of each voxel that is tumour; the three sum to at most 1.

    Attributes:
        necrosis: necrotic or non-enhancing core.
        depth: 1 at the centre of the edema to 0 at its rim; only for the look of it.
    """

    grid: Grid
    necrosis: Field
    edema: Field
    enhancing: Field
    depth: Field

    @property
    def whole(self) -> Field:
        """Share that is tumour of any kind."""
        return self.necrosis + self.edema + self.enhancing

    def on(self, grid: Grid, *, matrix: Affine | None = None) -> dict[Structure, Field]:
        """Shares of the voxels of another grid, from which ``matrix`` leads here; see :func:`.resample_box`."""
        parts = {Structure.NCR: self.necrosis, Structure.ED: self.edema, Structure.ET: self.enhancing}
        return {name: resample_box(values, self.grid, grid, matrix=matrix) for name, values in parts.items()}


@dataclass(frozen=True, eq=False)
class Body:
    """All that can be scanned: tissue, tumour and texture on one grid.

    Attributes:
        anatomy: healthy tissue, after the tumour's push; cavities are part of its fluid.
        tumour_tissues: the tumour by what it looks like.
        cavity: share that is a resection cavity; None if there is none.
    """

    anatomy: Anatomy
    tumour: TumourFractions
    texture: Texture
    tumour_tissues: Mapping[Tissue, Field]
    cavity: Field | None = None

    @property
    def grid(self) -> Grid:
        """Of all arrays."""
        return self.anatomy.grid

    def tissues(self) -> dict[Tissue, Field]:
        """Fraction of each tissue; they sum to 1 inside the brain and to 0 outside."""
        healthy = np.clip(self.anatomy.brain - self.tumour.whole, 0, 1).astype(np.float32)
        vessel = self.texture.vessel
        normal = healthy * (1 - vessel)
        result = {
            Tissue.CSF: self.anatomy.csf * normal,
            Tissue.GREY: self.anatomy.grey * normal,
            Tissue.WHITE: self.anatomy.white * normal,
            Tissue.VESSEL: healthy * vessel,
        }
        for tissue, values in self.tumour_tissues.items():
            result[tissue] = result[tissue] + values if tissue in result else values
        return result


def draw_texture(anatomy: Anatomy, rng: np.random.Generator) -> Texture:
    """Draw the patterns for one patient."""
    shape = anatomy.grid.shape
    unit = 1 / min(anatomy.grid.spacing_mm)
    fine, middle, wide, lesion = (smooth_noise(shape, width * unit, rng) for width in (0.7, 2.5, 10.0, 1.6))
    first, second = (smooth_noise(shape, 3.0 * unit, rng) for _ in range(2))
    # where two smooth fields are both 0 there are thin curved lines, and a narrow Gaussian makes tubes of them
    tubes = np.exp(-(first**2 + second**2) / (2 * 0.16**2))
    near_csf = np.clip(2.5 * ndimage.uniform_filter(anatomy.csf - anatomy.ventricle, 3), 0, 1)
    rim = anatomy.brain & ~ndimage.binary_erosion(anatomy.brain)
    dura = 0.5 * rim * np.clip(wide + 0.5 * first, 0, 1)  # patches of dura and surface veins left by skull stripping
    vessel = np.clip(tubes * near_csf + dura, 0, 1).astype(np.float32)
    return Texture(fine, middle, wide, lesion, vessel)


def acquire(
    body: Body,
    grids: Mapping[MRSequence, Grid],
    rng: np.random.Generator,
    *,
    config: AcquisitionConfig,
    study_id: str = "phantom",
    noise_rng: np.random.Generator | None = None,
) -> Study:
    """Scan a body.

    Args:
        grids: on which grid each sequence is stored.
        rng: chance of this scan: contrast, coil, movement, noise.
        noise_rng: chance of the noise alone, where ``rng`` is that of another scan on the same scanner.

    Returns:
        Float32 images with zero background, as after skull stripping.
    """
    texture = body.texture
    scanner = _Scanner(
        body,
        config,
        [(tissue, bounding_box(values), values) for tissue, values in body.tissues().items()],
        0.25 * texture.fine + 0.35 * texture.middle,
        0.5 * texture.middle + 0.85 * texture.lesion,
    )

    # each sequence has its own chance, so the order in which threads finish changes nothing
    children = rng.spawn(len(config.sequences))
    noises = children if noise_rng is None else noise_rng.spawn(len(config.sequences))
    with ThreadPoolExecutor(THREADS) as pool:
        volumes = pool.map(scanner.scan, config.sequences, map(grids.__getitem__, config.sequences), children, noises)
        return Study(study_id, dict(zip(config.sequences, volumes, strict=True)))


@dataclass(frozen=True, eq=False)
class _Scanner:
    """What all sequences of a scan share.

    Attributes:
        tissues: each with the box outside which there is none of it (None: there is none), and its fraction.
        brain_pattern: texture of healthy tissue without its wide part, which differs between sequences.
        lesion_pattern: texture of tumour tissue.
    """

    body: Body
    config: AcquisitionConfig
    tissues: Sequence[tuple[Tissue, Box | None, Field]]
    brain_pattern: Field
    lesion_pattern: Field

    def scan(
        self, sequence: MRSequence, grid: Grid, rng: np.random.Generator, noise_rng: np.random.Generator
    ) -> Volume:
        """One sequence on its grid."""
        body, config = self.body, self.config
        signal = self._signal(sequence, rng)
        signal *= _sensitivity(body.grid, config.bias, rng)
        thickness = float(rng.uniform(*config.slice_mm[sequence]))
        signal = _point_spread(signal, body.grid, grid, thickness, config.blur_mm)
        matrix = self._movement(sequence, rng)
        result = np.zeros(grid.shape, np.float32)
        box = reached_box(body.grid, grid, matrix=matrix)
        if box is None:
            return Volume(result, grid)
        near = cropped(grid, box)
        brain = resample_box(body.anatomy.brain.astype(np.float32), body.grid, near, matrix=matrix) >= 0.5
        values = resample_box(signal, body.grid, near, matrix=matrix)[brain]
        real = values + config.noise * noise_rng.standard_normal(values.shape, dtype=np.float32)
        imaginary = config.noise * noise_rng.standard_normal(values.shape, dtype=np.float32)
        gain = float(np.exp(rng.uniform(np.log(60), np.log(300))))  # units of an MRI file are arbitrary
        result[box][brain] = np.maximum(np.hypot(real, imaginary) * gain, 1e-3)
        return Volume(result, grid)

    def _signal(self, sequence: MRSequence, rng: np.random.Generator) -> Field:
        """Noise-free signal above the level of no signal, on the body's grid, in standard deviations of the brain."""
        body = self.body
        brain_pattern = self.brain_pattern + WIDE[sequence] * body.texture.wide
        healthy = (Tissue.CSF, Tissue.GREY, Tissue.WHITE, Tissue.VESSEL)
        signal = np.zeros(body.grid.shape, np.float32)
        depth, grey = body.tumour.depth, body.anatomy.grey
        for tissue, box, whole_fraction in self.tissues:
            jitter = float(self.config.contrast_jitter * rng.standard_normal())
            if box is None:
                continue
            fraction = whole_fraction[box]
            level = ZERO_LEVEL[sequence] + SIGNAL[sequence][tissue] + jitter
            variation = VARIATION[sequence][tissue] * self.config.texture
            pattern = brain_pattern if tissue in healthy else self.lesion_pattern
            value = level + variation * pattern[box]
            if tissue is Tissue.EDEMA:
                # infiltrated white matter fades outwards and keeps some of the tissue below it
                swing = SIGNAL[sequence][Tissue.EDEMA] - SIGNAL[sequence][Tissue.WHITE]
                value += swing * np.clip(1.2 * depth[box] - 0.3, -0.3, 0.3)
                value += 0.3 * grey[box] * (SIGNAL[sequence][Tissue.GREY] - SIGNAL[sequence][Tissue.WHITE])
            signal[box] += fraction * np.maximum(value, 0)
        return signal

    def _movement(self, sequence: MRSequence, rng: np.random.Generator) -> Affine:
        """4x4: where the tissue seen at a place of the scanner lies in the unmoved body, RAS+ mm."""
        shift = self.config.movement_mm * rng.standard_normal(3)
        turn = Rotation.from_rotvec(np.deg2rad(self.config.movement_deg) * rng.standard_normal(3)).as_matrix()
        matrix = np.eye(4)
        if sequence is MRSequence.T1CE:
            return matrix
        centre = self.body.grid.to_world((np.array(self.body.grid.shape) - 1) / 2)
        matrix[:3, :3] = turn
        matrix[:3, 3] = centre - turn @ centre + shift
        return matrix


def _sensitivity(grid: Grid, strength: float, rng: np.random.Generator) -> Field:
    """Coil sensitivity around 1: the exponential of noise of about 45 mm."""
    step = 12
    coarse = ndimage.gaussian_filter(rng.standard_normal(lattice_shape(grid.shape, step)), 3.5, mode="reflect")
    coarse -= coarse.mean()
    return expand(np.exp(strength * coarse / coarse.std()).astype(np.float32), grid.shape, step)


def _point_spread(signal: Field, source: Grid, target: Grid, thickness_mm: float, blur_mm: float) -> Field:
    """Gaussian blur in the plane of the slices, box profile across them.

    Directions in which the target's voxels are larger than the profile are left to the integration there.
    """
    across = int(np.argmax(target.spacing_mm))
    if max(target.spacing_mm) < 1.05 * min(target.spacing_mm):
        across = next(axis for axis, (world, _) in enumerate(target.axis_order) if world == 2)  # axial slices
    direction = target.affine[:3, across] / target.spacing_mm[across]
    alignment = np.abs(direction @ (source.affine[:3, :3] / np.array(source.spacing_mm)))
    slice_axis = int(np.argmax(alignment))
    spacing = source.spacing_mm
    sigmas = [
        0.0 if axis == slice_axis or max(target.spacing_mm) > 3 * blur_mm else blur_mm / 2.355 / spacing[axis]
        for axis in range(3)
    ]
    blurred: Field = ndimage.gaussian_filter(signal, sigmas, truncate=2.5)
    wide = thickness_mm / spacing[slice_axis]
    if target.spacing_mm[across] < thickness_mm and wide > 1.05:
        # a box of fractional width: three weights of a symmetric kernel
        side = min((wide - 1) / 2, 1.0)
        kernel = np.array([side, 1.0, side]) / (1 + 2 * side)
        blurred = ndimage.correlate1d(blurred, kernel, axis=slice_axis)
    return blurred
