"""The border both masks agree on, the shift that registration left, and the noise of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from brats_seg.core.grid import Floats, Mask
from brats_seg.track.boundary_shift.frame import REACH_MM, Frame, signed_depth

CLOSE_MM = 2.0
"""Dents and holes of a mask narrower than twice this are filled: dark spots of the lesion, not its border."""
DEPTH_SIGMA_MM = 0.7
"""Smoothing of the mean signed distance, against the stairs of the masks."""
AWAY_MM = 3.0
"""Tissue farther out than this from the border tells the shift."""
SMOOTH_MM = 0.7
"""The fit of the shift sees both images smoothed so much (sigma): noise in a gradient would weaken the shift found."""
HUBER = 1.5
"""Residuals beyond this many standard deviations count less (P. J. Huber, Ann Math Statist 1964;35:73,
doi:10.1214/aoms/1177703732)."""
ROUNDS = 5
OUTLIER = 4.0
"""Residuals are cut at this many standard deviations before their correlation is taken."""
LAGS = 3
"""Voxels over which noise is correlated by interpolation."""
LEAST_CORE_MM3 = 50.0
"""Smaller cores, on the mean of both visits, are dark spots of a solid lesion."""
MIN_INSIDE = 50
"""Voxels of lesion from which its own noise can be told; in smaller ones it is that of the surround."""


@dataclass(frozen=True, eq=False)
class Rim:
    """The two surfaces of a lesion that encloses or adjoins a core; it lies where both distances are positive.

    Attributes:
        outer: mean signed distance to the tissue around, smoothed, mm; positive in lesion and core.
        inner: mean signed distance to the core, smoothed, mm; positive in the lesion and around it.
        half_moved_mm: half the displacement of each surface from the first mask to the second, on average.
    """

    outer: Floats
    inner: Floats
    half_moved_mm: tuple[float, float]
    core_dice: float


@dataclass(frozen=True, eq=False)
class Match:
    """The two images laid on each other for good.

    Attributes:
        depth: mean signed distance to both masks' borders, smoothed, mm, positive inside.
        rim: its surfaces, if the lesion has a core; None if it is solid.
        difference: second minus first, without the shift.
        usable: voxels of brain that are lesion or healthy.
        slopes: ``(3, X, Y, Z)`` gradient of the mean image, 1/mm.
        shift_mm: shift of the second image against the first that was removed.
        shift_covariance: its uncertainty, ``(3, 3)`` mm^2.
        correlation: ``(7, 7, 7)`` covariance of the difference between voxels at lags of -3 to 3.
    """

    depth: Floats
    rim: Rim | None
    mean: Floats
    difference: Floats
    usable: Mask
    slopes: Floats
    shift_mm: Floats
    shift_covariance: Floats
    correlation: Floats

    @property
    def noise(self) -> float:
        """Standard deviation of one voxel of one image."""
        return float(np.sqrt(max(self.correlation[LAGS, LAGS, LAGS], 0.0) / 2))

    @property
    def shift_length_mm(self) -> float:
        """Length of the shift."""
        return float(np.linalg.norm(self.shift_mm))

    @property
    def shift_deviation_mm(self) -> float:
        """Standard deviation of the shift along the axis in which it is known worst."""
        return float(np.sqrt(max(float(np.linalg.eigvalsh(self.shift_covariance).max()), 0.0)))

    def contrast_to_noise(self, contrast: float) -> float:
        """A contrast over the noise of one voxel of one image."""
        return abs(contrast) / self.noise if self.noise > 0 else float("inf")

    def deviation(self, weights: Floats) -> float:
        """Standard deviation of ``sum(weights * difference)``: correlated noise, and the uncertainty of the shift."""
        noise = float((self.correlation * autocorrelation(weights)).sum())
        leverage = np.tensordot(self.slopes, weights, axes=3)
        shift = float(leverage @ self.shift_covariance @ leverage)
        return float(np.sqrt(max(noise, 0.0) + max(shift, 0.0)))


def match(frame: Frame) -> Match:
    """Find and remove the shift that is left, to first order, in the tissue around the lesion.

    There the difference of the images is fitted by an offset, a gain that is linear in place, and a shift (the
    mean image's gradient). Every term is even in the two visits, so exchanging them changes the sign of the
    difference and nothing else. In the lesion's own neighbourhood :mod:`.border` takes its own baseline.
    """
    sigma = SMOOTH_MM / frame.spacing_mm
    mean, difference = (frame.first + frame.second) / 2, frame.second - frame.first
    rim = _rim(frame)
    depth = _common_depth(frame) if rim is None else np.minimum(rim.outer, rim.inner)
    usable = frame.brain & (frame.healthy | (depth > 0))
    if rim is not None:
        usable |= frame.brain & (frame.cores[0] | frame.cores[1])
    smooth = ndimage.gaussian_filter(mean, sigma)
    slopes = np.stack(np.gradient(smooth, frame.spacing_mm))
    away = frame.healthy & (depth < -AWAY_MM) & (depth > -REACH_MM)
    design = _design(smooth, slopes, depth, frame.spacing_mm)[away]
    target = ndimage.gaussian_filter(difference, sigma)
    values, covariance = _huber(design, target[away])
    residual = np.zeros_like(target)
    residual[away] = target[away] - design @ values
    # neighbours are not independent: the fit knows less than the number of its residuals says
    related = _correlation(residual, away)
    covariance *= max(float(related.sum() / max(related[LAGS, LAGS, LAGS], 1e-30)), 1.0)
    cleaned = difference + np.tensordot(values[-3:], slopes, axes=1)
    return Match(
        depth=depth,
        rim=rim,
        mean=mean,
        difference=cleaned,
        usable=usable,
        slopes=slopes,
        shift_mm=values[-3:],
        shift_covariance=covariance[-3:, -3:],
        correlation=_noise(cleaned, depth, usable),
    )


def smooth_depth(depth: Floats, sigma_voxels: float) -> Floats:
    """A signed distance, cut at 8 mm and smoothed; beyond the image lies outside."""
    result: Floats = ndimage.gaussian_filter(np.clip(depth, -8, 8) + 8, sigma_voxels, mode="constant") - 8
    return result


def autocorrelation(values: Floats) -> Floats:
    """``(7, 7, 7)``: ``sum(values(x) * values(x + lag))`` for lags of -3 to 3 voxels."""
    shape = [fft.next_fast_len(n + LAGS, real=True) for n in values.shape]
    spectrum = fft.rfftn(values, shape)
    full = fft.irfftn(np.abs(spectrum) ** 2, shape)
    lags = np.arange(-LAGS, LAGS + 1)
    result: Floats = full[np.ix_(lags, lags, lags)]
    return result


def _common_depth(frame: Frame) -> Floats:
    """The surface half-way between both masks' surfaces."""
    radius = max(round(CLOSE_MM / frame.spacing_mm), 1)
    depths = [
        signed_depth(ndimage.binary_fill_holes(_closed(depth > 0, radius)), frame.spacing_mm)
        for depth in (frame.depth_first, frame.depth_second)
    ]
    return _half_way(depths[0], depths[1], frame.spacing_mm)


def _half_way(first: Floats, second: Floats, spacing_mm: float) -> Floats:
    return smooth_depth((first.clip(-8, 8) + second.clip(-8, 8)) / 2, DEPTH_SIGMA_MM / spacing_mm)


def _rim(frame: Frame) -> Rim | None:
    """The surfaces half-way between both masks' surfaces, outer and inner; None if there is no core to speak of."""
    spacing = frame.spacing_mm
    radius = max(round(CLOSE_MM / spacing), 1)
    cores, outers = [], []
    for depth, dark in zip((frame.depth_first, frame.depth_second), frame.cores, strict=True):
        lesion = _closed(depth > 0, radius)
        core = _touching(dark & ~lesion, lesion)
        cores.append(core)
        outers.append(signed_depth(ndimage.binary_fill_holes(lesion | core), spacing))
    both = float(cores[0].sum() + cores[1].sum())
    if both / 2 * spacing**3 < LEAST_CORE_MM3:
        return None
    inners = [signed_depth(~core, spacing) if core.any() else np.full(core.shape, 8.0) for core in cores]
    outer, inner = _half_way(outers[0], outers[1], spacing), _half_way(inners[0], inners[1], spacing)
    moved = (
        half_moved_mm(outers, (np.abs(outer) < 1.0) & (inner > 0)),
        half_moved_mm(inners, (np.abs(inner) < 1.0) & (outer > 0)),
    )
    return Rim(outer, inner, moved, 2 * float((cores[0] & cores[1]).sum()) / both)


def half_moved_mm(ends: Sequence[Floats], near: Mask) -> float:
    """Half the mean displacement of a border, from its signed distances at both visits near to it, mm."""
    return abs(float((ends[1] - ends[0])[near].mean())) / 2 if near.any() else 0.0


def _touching(core: Mask, lesion: Mask) -> Mask:
    """The parts of a core that touch a lesion."""
    names, _ = ndimage.label(core)
    near = np.unique(names[ndimage.binary_dilation(lesion)])
    result: Mask = np.isin(names, near[near > 0])
    return result


def _closed(mask: Mask, radius: int) -> Mask:
    """The mask closed with a ball."""
    axis = np.arange(-radius, radius + 1)
    ball = np.add.outer(np.add.outer(axis**2, axis**2), axis**2) <= radius**2 + 0.1
    padded = ndimage.binary_closing(np.pad(mask, radius), ball)
    inner = slice(radius, -radius)
    closed: Mask = padded[inner, inner, inner]
    return closed


def _design(mean: Floats, slopes: Floats, depth: Floats, spacing_mm: float) -> Floats:
    """``(X, Y, Z, 8)`` columns; the last three are the shift."""
    inside = np.argwhere(depth > 0)
    middle = inside.mean(0) if len(inside) else (np.array(depth.shape) - 1) / 2
    axes = [(np.arange(n) - centre) * (spacing_mm / REACH_MM) for n, centre in zip(depth.shape, middle, strict=True)]
    columns = [np.ones_like(mean), mean]
    columns += [mean * axis for axis in np.meshgrid(*axes, indexing="ij")]
    columns += [-slope for slope in slopes]
    return np.stack(columns, -1)


def _huber(design: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Robust least squares by reweighting; parameters and their covariance for independent residuals."""
    weight: NDArray[Any] = np.ones(len(values))
    ridge = 1e-9 * np.eye(design.shape[1])
    for _ in range(ROUNDS):
        weighted = design * weight[:, None]
        normal = weighted.T @ design + ridge
        found = np.linalg.solve(normal, weighted.T @ values)
        residual = values - design @ found
        scale = _scale(residual)
        weight = 1 / np.maximum(1, np.abs(residual) / max(HUBER * scale, 1e-12))
    covariance: Floats = np.linalg.inv(normal) * scale**2
    return found, covariance


def _scale(values: Floats) -> float:
    """Standard deviation of a normal distribution with the same median of absolute values."""
    return 1.4826 * float(np.median(np.abs(values))) if values.size else 0.0


def _noise(difference: Floats, depth: Floats, usable: Mask) -> Floats:
    """Correlation of the difference near the border: mean of both sides, where the lesion is large enough."""
    sides = [usable & (depth < -2) & (depth > -6), usable & (depth > 2) & (depth < 6)]
    found = [
        _correlation(np.where(side, difference - np.median(difference[side]), 0.0), side)
        for side in sides
        if side.sum() >= MIN_INSIDE
    ]
    if not found:
        return _correlation(np.where(usable, difference - np.median(difference[usable]), 0.0), usable)
    result: Floats = np.mean(found, axis=0)
    return result


def _correlation(values: Floats, where: Mask) -> Floats:
    """Covariance between voxels by lag, of values cut at :data:`OUTLIER` deviations."""
    limit = OUTLIER * _scale(values[where])
    pairs = autocorrelation(where.astype(np.float64))
    result: Floats = autocorrelation(np.where(where, np.clip(values, -limit, limit), 0.0)) / np.maximum(pairs, 1.0)
    return result
