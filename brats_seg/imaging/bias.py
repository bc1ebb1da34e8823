"""N4 bias field correction: the slow change of brightness that a receive coil leaves in a scan.

N4 (Tustison et al., IEEE Trans Med Imaging 2010;29(6):1310-20, doi:10.1109/TMI.2010.2046908), as SimpleITK has it.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from brats_seg.core.errors import InputError
from brats_seg.imaging.pooling import block_means, spread

STEP_MM = 8.0
"""The field is estimated on voxels of about this size: it bends over centimetres, and time goes with their number."""
CONTROL_POINTS = 5
"""Of its cubic B-spline along each axis, two spans over the head; more would follow an edema."""
ITERATIONS = 20
"""At most. More of them go on towards edema."""
LIFT = 4.0
"""Added to z-scores, for N4 works on logarithms: about what a brain's mean is in its own standard deviations."""
FLOOR = 0.1
"""Smallest lifted value: what is darker is taken as this dark."""


def without_bias(scores: NDArray[np.float32], inside: NDArray[np.bool_], *, spacing_mm: float) -> NDArray[np.float32]:
    """A scan without its bias field.

    Args:
        scores: ``(X, Y, Z)`` z-scores within the brain.
        inside: ``(X, Y, Z)`` where they are valid; everything else is left alone.
        spacing_mm: voxel size along every axis.

    Returns:
        ``(X, Y, Z)``, not standardised anew: mean and deviation have moved a little.

    Raises:
        InputError: if there is too little to estimate a field from, or none is found.
    """
    factor = max(round(STEP_MM / spacing_mm), 1)
    factors = (factor, factor, factor)
    lifted = scores + np.float32(LIFT)
    np.maximum(lifted, np.float32(FLOOR), out=lifted)
    lifted *= inside
    share = block_means(inside.astype(np.float32), factors)
    mask = share >= 0.5
    sides = [int(mask.any(axis=tuple(a for a in range(3) if a != axis)).sum()) for axis in range(3)]
    if min(sides) < CONTROL_POINTS:
        raise InputError("it shows too little of the brain to estimate it")
    small = np.where(mask, block_means(lifted, factors) / np.maximum(share, 1e-6), FLOOR)
    image, region = (sitk.GetImageFromArray(array) for array in (small.astype(np.float32), mask.astype(np.uint8)))
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfControlPoints([CONTROL_POINTS] * 3)
    n4.SetMaximumNumberOfIterations([ITERATIONS])
    n4.Execute(image, region)
    logarithm = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).astype(np.float32)
    if not np.isfinite(logarithm).all():
        raise InputError("no field was found; has it hardly any grey levels?")
    x, y, z = scores.shape
    flat = spread(logarithm, factors)[:x, :y, :z]
    np.exp(flat, out=flat)
    np.divide(lifted, flat, out=flat)
    flat -= np.float32(LIFT)
    np.copyto(flat, scores, where=~inside)
    return flat
