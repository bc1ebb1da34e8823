"""What differs between two images although no border moved: found by one linear fit, and removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from brats_seg.longitudinal.change_config import ChangeConfig
from brats_seg.longitudinal.change_frame import Frame

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

CORE_MM = 1.5
"""Lesion deeper than this below both masks' borders takes part in the fit."""
MIN_CORE_VOXELS = 20
SMOOTH_MM = 0.7
"""The fit sees both images smoothed so much (sigma): noise in a gradient would weaken the shift found."""
LENGTH_MM = 15.0
"""Unit of the coordinates of the gain field; only numerics."""
HUBER = 1.5
"""Residuals beyond this many standard deviations count less (P. J. Huber, Ann Math Statist 1964;35:73,
doi:10.1214/aoms/1177703732)."""
ROUNDS = 6
OUTLIER = 4.0
"""Residuals are cut at this many standard deviations before their correlation is taken."""
LAGS = 3
"""Voxels over which noise is correlated by interpolation."""
MASK_EDGE_MM = 0.9
"""Half width of the smooth step from surround to lesion in the fit."""


@dataclass(frozen=True, eq=False)
class Match:
    """The two images, made alike but for the lesion's border.

    Attributes:
        depth: mean signed distance to both masks' borders, smoothed, mm, positive inside.
        mean: mean of both images.
        difference: second minus first, without what the fit explains.
        noise: standard deviation of one voxel of one image.
        level: change of the lesion's brightness that was removed.
        shift_mm: shift of the second image against the first that was removed, RAS+.
        shift_covariance: its uncertainty, mm^2.
        correlation: ``(7, 7, 7)`` covariance of the difference between voxels at lags of -3 to 3.
        design: ``(X, Y, Z, P)`` what the fit removes per unit of each parameter.
        covariance: ``(P, P)`` of the parameters.
    """

    depth: Floats
    mean: Floats
    difference: Floats
    noise: float
    level: float
    shift_mm: Floats
    shift_covariance: Floats
    correlation: Floats
    design: Floats
    covariance: Floats

    @property
    def shift_length_mm(self) -> float:
        """Length of the shift."""
        return float(np.linalg.norm(self.shift_mm))

    def contrast_to_noise(self, contrast: float) -> float:
        """A contrast over the noise of one voxel of one image."""
        return abs(contrast) / self.noise if self.noise > 0 else float("inf")

    def deviation(self, weights: Floats) -> float:
        """Standard deviation of ``sum(weights * difference)``: correlated noise, and the fit's own uncertainty."""
        noise = float((self.correlation * autocorrelation(weights)).sum())
        leverage = np.tensordot(weights, self.design, axes=3)
        fit = float(leverage @ self.covariance @ leverage)
        return float(np.sqrt(max(noise, 0.0) + max(fit, 0.0)))


def match(frame: Frame, config: ChangeConfig) -> Match:
    """Fit the difference of the images where no border is, and subtract the fit everywhere.

    The difference is taken as linear in: an offset and a curve of brightness (its first and second power), a gain
    that is quadratic in place, a change of the lesion's own brightness, and a shift (the mean image's gradient).
    Every term is even in the two visits, so exchanging them changes the sign of the difference and nothing else.
    """
    sigma = SMOOTH_MM / frame.spacing_mm
    mean, difference = (frame.first + frame.second) / 2, frame.second - frame.first
    depth = smooth_depth((frame.depth_first + frame.depth_second) / 2, 1.0 / frame.spacing_mm)
    design = _design(ndimage.gaussian_filter(mean, sigma), depth, frame.spacing_mm)
    clear = frame.surround | _core(frame, depth)
    smooth = ndimage.gaussian_filter(difference, sigma)
    values, plain = _huber(design[clear], smooth[clear])
    residual = _correlation(smooth - design @ values, clear)
    # neighbours are not independent: the fit knows less than its residuals' number says
    covariance = plain * max(float(residual.sum() / max(residual[LAGS, LAGS, LAGS], 1e-30)), 1.0)
    cleaned = difference - design @ values
    correlation = _correlation(cleaned, clear)
    return Match(
        depth=depth,
        mean=mean,
        difference=cleaned,
        noise=float(np.sqrt(correlation[LAGS, LAGS, LAGS] / 2)),
        level=float(values[-4]),
        shift_mm=values[-3:],
        shift_covariance=covariance[-3:, -3:],
        correlation=correlation,
        design=design,
        covariance=covariance,
    )


def smooth_depth(depth: Floats, sigma_voxels: float) -> Floats:
    """A signed distance, cut at 8 mm and smoothed; beyond the image lies outside."""
    smooth: Floats = ndimage.gaussian_filter(np.clip(depth, -8, 8) + 8, sigma_voxels, mode="constant") - 8
    return smooth


def autocorrelation(values: Floats) -> Floats:
    """``(7, 7, 7)``: ``sum(values(x) * values(x + lag))`` for lags of -3 to 3 voxels."""
    shape = [fft.next_fast_len(n + LAGS, real=True) for n in values.shape]
    spectrum = fft.rfftn(values, shape)
    full = fft.irfftn(np.abs(spectrum) ** 2, shape)
    lags = np.arange(-LAGS, LAGS + 1)
    result: Floats = full[np.ix_(lags, lags, lags)]
    return result


def _core(frame: Frame, depth: Floats) -> Mask:
    """Lesion clear of both borders; in a small lesion its inmost third."""
    core: Mask = frame.brain & (np.minimum(frame.depth_first, frame.depth_second) > CORE_MM)
    if core.sum() < MIN_CORE_VOXELS and (depth > 0).any():
        core = frame.brain & (depth > np.percentile(depth[depth > 0], 67))
    return core


def _design(mean: Floats, depth: Floats, spacing_mm: float) -> Floats:
    """``(X, Y, Z, P)`` columns; the last four are the lesion's brightness and the shift."""
    inside = np.argwhere(depth > 0)
    middle = inside.mean(0) if len(inside) else (np.array(depth.shape) - 1) / 2
    axes = [(np.arange(n) - centre) * (spacing_mm / LENGTH_MM) for n, centre in zip(depth.shape, middle, strict=True)]
    place = np.meshgrid(*axes, indexing="ij")
    columns: list[Floats] = [np.ones_like(mean), mean - 1, (mean - 1) ** 2]
    columns += [mean * axis for axis in place]
    columns += [mean * place[i] * place[j] for i in range(3) for j in range(i, 3)]
    columns.append(1 / (1 + np.exp(-depth / (MASK_EDGE_MM / 1.7))))
    columns += [np.asarray(-part, np.float64) for part in np.gradient(mean, spacing_mm)]
    return np.stack(columns, -1)


def _huber(design: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Robust least squares by reweighting; parameters and their covariance for independent residuals."""
    weight = np.ones(len(values))
    ridge = 1e-9 * np.eye(design.shape[1])
    for _ in range(ROUNDS):
        weighted = design * weight[:, None]
        normal = weighted.T @ design + ridge
        found = np.asarray(np.linalg.solve(normal, weighted.T @ values), np.float64)
        residual = values - design @ found
        scale = 1.4826 * float(np.median(np.abs(residual)))
        weight = 1 / np.maximum(1, np.abs(residual) / max(HUBER * scale, 1e-12))
    covariance = np.asarray(np.linalg.inv(normal), np.float64) * scale**2
    return found, covariance


def _correlation(values: Floats, where: Mask) -> Floats:
    """Covariance between voxels by lag, of values cut at :data:`OUTLIER` deviations."""
    scale = 1.4826 * float(np.median(np.abs(values[where])))
    cut = np.where(where, np.clip(values, -OUTLIER * scale, OUTLIER * scale), 0.0)
    pairs = autocorrelation(where.astype(np.float64))
    result: Floats = autocorrelation(cut) / np.maximum(pairs, 1.0)
    return result
